//! Who else may write what a service does as it is told by.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
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
        }
    }
}

impl std::error::Error for WritableByOthers {}

/// Whether nobody but the user of this process and root may write `file`, or put another in its place: who may, may have any
/// token signed. It and the directory that it is in (where links lead to) must belong to either and be writable by nobody else; of a
/// directory, the sticky bit is enough, as `/tmp` has it, and so is a file system that is mounted read-only, as a cluster mounts
/// what it configures. Of what is not there, there is nothing to say.
///
/// # Errors
/// [`WritableByOthers`]: what is, and what to do.
pub fn check_writers(file: &Path) -> Result<(), WritableByOthers> {
    /// Of a directory: what is in it can be renamed and removed by its owner only.
    const STICKY: u32 = 0o1000;
    let Ok(file) = file.canonicalize() else { return Ok(()) };
    let Ok(metadata) = file.metadata() else { return Ok(()) };
    // What is no file, such as a pipe, nobody finds by its name later.
    if !metadata.is_file() {
        return Ok(());
    }
    check(&file, &metadata)?;
    let Some((directory, metadata)) = file.parent().and_then(|it| Some((it, it.metadata().ok()?))) else {
        return Ok(());
    };
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
                let checked = check_writers(path);
                assert_eq!(checked.is_ok(), is_good, "{of_file:o} in {of_directory:o}: {checked:?}");
                assert!(checked.is_ok() || checked.unwrap_err().to_string().contains("chmod go-w"));
            }
        }
        set(&file, 0o600);
        set(&directory, 0o700);
        // Only root can give it away.
        if geteuid().is_root() {
            chown(&file, Some(12_345), None).unwrap();
            assert!(check_writers(&file).unwrap_err().to_string().contains("chown"));
        }
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(check_writers(&file), Ok(()));
    }
}
