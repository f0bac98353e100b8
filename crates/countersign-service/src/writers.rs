//! Who else may write what a service does as it is told by.

use std::fmt;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::geteuid;

/// A file that tells a service what to do, and that others than its user and root may write or replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableByOthers {
    path: PathBuf,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Owner(u32),
    Mode(u32),
    /// What has that name now is another file than was opened.
    Exchanged,
}

impl fmt::Display for WritableByOthers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.how {
            How::Owner(owner) => {
                let user = geteuid().as_raw();
                write!(f, "{path} belongs to the user {owner}, and this process runs as {user}: chown it")
            }
            How::Mode(mode) => write!(f, "{path} has mode {mode:04o}, by which others may write it: chmod go-w it"),
            How::Exchanged => write!(f, "{path} was exchanged while it was looked at: try again"),
        }
    }
}

impl std::error::Error for WritableByOthers {}

/// Whether nobody but the user of this process and root may write `file`, which was opened as `path`, or put another in its
/// place: who may, may have any token signed. It and the directory that it is in (where links lead to) must belong to either and be
/// writable by nobody else; of a directory, the sticky bit is enough, as `/tmp` has it, and so is a file system that is mounted
/// read-only, as a cluster mounts what it configures.
///
/// It is the open file that is asked, so read on from it: who may have exchanged it since changes nothing.
///
/// # Errors
/// [`WritableByOthers`]: what is, and what to do.
pub fn check_writers(file: &File, path: &Path) -> Result<(), WritableByOthers> {
    /// Of a directory: what is in it can be renamed and removed by its owner only.
    const STICKY: u32 = 0o1000;
    let exchanged = || WritableByOthers { path: path.to_owned(), how: How::Exchanged };
    let opened = file.metadata().map_err(|_| exchanged())?;
    // Devices are the system's.
    if opened.file_type().is_char_device() {
        return Ok(());
    }
    let is_it = |named: Metadata| (named.dev(), named.ino()) == (opened.dev(), opened.ino());
    // Only links are looked through: a name that leads into another mount namespace (`/proc/PID/root`) means something else here.
    let is_no_link = path.symlink_metadata().is_ok_and(is_it);
    let found = if is_no_link { Ok(path.to_owned()) } else { path.canonicalize() };
    let real = match found {
        Ok(real) => real,
        // A pipe that a shell has made is this user's, and nobody else finds it.
        Err(_) if opened.file_type().is_fifo() => return check(path, &opened),
        Err(_) => return Err(exchanged()),
    };
    check(&real, &opened)?;
    // The directory has to be the one that it is in.
    if !real.metadata().is_ok_and(is_it) {
        return Err(exchanged());
    }
    let directory = real.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let metadata = directory.metadata().map_err(|_| exchanged())?;
    let is_read_only = || statvfs(directory).is_ok_and(|of| of.f_flag.contains(StatVfsMountFlags::RDONLY));
    match check(directory, &metadata) {
        Err(WritableByOthers { how: How::Mode(mode), .. }) if mode & STICKY != 0 => Ok(()),
        Err(_) if is_read_only() => Ok(()),
        checked => checked,
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), WritableByOthers> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let how = if owner != 0 && owner != geteuid().as_raw() {
        How::Owner(owner)
    } else if mode & 0o022 != 0 {
        How::Mode(mode)
    } else {
        return Ok(());
    };
    Err(WritableByOthers { path: path.to_owned(), how })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn a_pipe_with_a_name_is_asked_as_a_file_is_and_what_a_shell_has_made_is_its_users() {
        let place = std::env::temp_dir().join(format!("countersign-writers-pipe-{}", std::process::id()));
        let fifo = place.join("settings");
        fs::create_dir_all(&place).unwrap();
        mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        // So that it need not be waited for.
        let opened = File::options().read(true).write(true).open(&fifo).unwrap();
        for (of_fifo, of_directory, is_good) in [(0o600, 0o700, true), (0o666, 0o700, false), (0o600, 0o777, false)] {
            set(&fifo, of_fifo);
            set(&place, of_directory);
            assert_eq!(check_writers(&opened, &fifo).is_ok(), is_good, "{of_fifo:o} in {of_directory:o}");
        }
        if geteuid().is_root() {
            set(&place, 0o700);
            chown(&fifo, Some(12_345), None).unwrap();
            assert!(check_writers(&opened, &fifo).is_err());
        }
        fs::remove_dir_all(&place).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let named = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(check_writers(&File::open(&named).unwrap(), Path::new(&named)), Ok(()));
        assert_eq!(check_writers(&File::open("/dev/null").unwrap(), Path::new("/dev/null")), Ok(()));
    }

    #[test]
    fn what_others_may_write_or_replace_is_refused_and_it_is_said_what_to_do() {
        let place = std::env::temp_dir().join(format!("countersign-writers-{}", std::process::id()));
        let (directory, file, link) = (place.join("in"), place.join("in/policy.toml"), place.join("link"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(&file, "version = 1").unwrap();
        symlink(&file, &link).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for (of_file, of_directory, is_good) in [
            (0o600, 0o700, true),
            (0o644, 0o755, true),
            (0o444, 0o1777, true),
            (0o620, 0o700, false),
            (0o602, 0o700, false),
            (0o666, 0o1777, false),
            (0o600, 0o770, false),
            (0o600, 0o707, false),
        ] {
            set(&file, of_file);
            set(&directory, of_directory);
            for path in [&file, &link] {
                let checked = check_writers(&File::open(path).unwrap(), path);
                assert_eq!(checked.is_ok(), is_good, "{of_file:o} in {of_directory:o}: {checked:?}");
                assert!(checked.is_ok() || checked.unwrap_err().to_string().contains("chmod go-w"));
            }
        }
        set(&file, 0o600);
        set(&directory, 0o700);
        // Only root can give it away.
        if geteuid().is_root() {
            chown(&file, Some(12_345), None).unwrap();
            assert!(check_writers(&File::open(&file).unwrap(), &file).unwrap_err().to_string().contains("chown"));
        }
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_file_that_is_exchanged_after_it_was_opened_is_not_the_one_that_is_asked() {
        let place = std::env::temp_dir().join(format!("countersign-exchanged-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
        let (file, other) = (place.join("policy.toml"), place.join("other"));
        for path in [&file, &other] {
            fs::write(path, "version = 1").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }
        // What was opened may be written by others, what has its name now may not; and the other way round.
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let opened = File::open(&file).unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(check_writers(&opened, &file).unwrap_err().to_string().contains("chmod"));
        opened.set_permissions(Permissions::from_mode(0o600)).unwrap();
        assert!(check_writers(&opened, &file).unwrap_err().to_string().contains("try again"));
        fs::remove_file(&file).unwrap();
        assert!(check_writers(&opened, &file).unwrap_err().to_string().contains("try again"));
        fs::remove_dir_all(&place).unwrap();
    }
}
