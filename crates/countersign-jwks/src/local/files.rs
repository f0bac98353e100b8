//! What the file system says of files, and their octets: never more than is good for us, and never of anything but regular files.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::load::MAX_BODY_BYTES;

/// The most key files of a directory that are read: with a key in each, as many as a set may have keys.
pub const MAX_FILES: usize = countersign_token::MAX_KEYS;

/// The most names in a directory that are looked at, those that are ignored among them, so that a wrong directory costs no more than that.
pub const MAX_ENTRIES: usize = 4096;

/// The extensions of a directory's files that are read, in lower case.
const EXTENSIONS: [(&str, Kind); 5] =
    [("jwks", Kind::Jwks), ("json", Kind::Jwks), ("pem", Kind::Pem), ("crt", Kind::Pem), ("cer", Kind::Pem)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Jwks,
    Pem,
}

impl Kind {
    /// By the extension.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?;
        EXTENSIONS.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind)
    }
}

/// What is there, or why that cannot be said: what two looks are compared by.
pub(super) type Survey = Result<Vec<Found>, String>;

/// A regular file, and how it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    stat: Stat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    unix: Unix,
}

#[cfg(unix)]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unix {
    device: u64,
    inode: u64,
    /// Since the epoch, seconds and nanoseconds. Nobody can set it, as they can the other time.
    changed: (i64, i64),
    mode: u32,
}

/// The file at `path`.
pub(super) fn survey_file(path: &Path) -> Survey {
    found(path.to_owned()).map(|found| vec![found])
}

/// The key files in the directory at `path`, in the order of their names.
pub(super) fn survey_directory(path: &Path) -> Survey {
    let mut paths = Vec::new();
    for (number, entry) in fs::read_dir(path).map_err(|error| fault(path, error))?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(fault(path, format_args!("more than {MAX_ENTRIES} names in it")));
        }
        let name = entry.map_err(|error| fault(path, error))?.file_name();
        if !is_hidden(&name) && Kind::of(Path::new(&name)).is_some() {
            paths.push(path.join(name));
        }
    }
    // The order in which they come means nothing, and the same survey has to come out the same.
    paths.sort_unstable();
    let mut all = Vec::new();
    for path in paths {
        if !fs::metadata(&path).map_err(|error| fault(&path, error))?.is_dir() {
            all.push(found(path)?);
        }
    }
    if all.len() > MAX_FILES {
        return Err(fault(path, format_args!("more than {MAX_FILES} key files in it")));
    }
    Ok(all)
}

/// The octets of a file, if it still is as it was found.
pub(super) fn read(found: &Found) -> Result<Vec<u8>, String> {
    let fault = |reason: &dyn std::fmt::Display| fault(&found.path, reason);
    let file = open_without_waiting(&found.path).map_err(|error| fault(&error))?;
    let metadata = file.metadata().map_err(|error| fault(&error))?;
    if !metadata.is_file() || Stat::of(&metadata) != found.stat {
        return Err(fault(&CHANGED));
    }
    let mut octets = Vec::new();
    file.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut octets).map_err(|error| fault(&error))?;
    if octets.len() > MAX_BODY_BYTES {
        return Err(fault(&format_args!("longer than {MAX_BODY_BYTES} bytes")));
    }
    Ok(octets)
}

pub(super) const CHANGED: &str = "changed while it was read";

/// A text that names the file, and nothing of what is in it.
pub(super) fn fault(path: &Path, reason: impl std::fmt::Display) -> String {
    format!("{}: {reason}", path.display())
}

impl Found {
    /// When it was last touched, as far as that is known.
    fn touched(&self) -> Option<SystemTime> {
        #[cfg(unix)]
        let changed = {
            let (seconds, nanos) = self.stat.unix.changed;
            let since_epoch = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
            SystemTime::UNIX_EPOCH.checked_add(since_epoch)
        };
        #[cfg(not(unix))]
        let changed = None;
        self.stat.modified.max(changed)
    }

    /// Whether it was touched less than `age` ago, or is to be within that time: clocks differ.
    pub(super) fn is_fresh(&self, now: SystemTime, age: Duration) -> bool {
        let distance = |touched: SystemTime| {
            now.duration_since(touched).or_else(|_| touched.duration_since(now)).unwrap_or_default()
        };
        self.touched().is_some_and(|touched| distance(touched) < age)
    }

    /// What others than owner and group may do with it that they must not.
    pub(super) fn check_access(&self, is_secret: bool) -> Result<(), String> {
        #[cfg(unix)]
        {
            let mode = self.stat.unix.mode;
            let (forbidden, what) = if is_secret {
                (0o007, "has secrets, and others than its owner and group have access to it")
            } else {
                (0o002, "can be written to by others than its owner and group")
            };
            if mode & forbidden != 0 {
                let mode = mode & 0o7777;
                let hint = "dangerous_allow_access_by_others() accepts that";
                return Err(fault(&self.path, format_args!("{what} (mode {mode:04o}; {hint})")));
            }
        }
        #[cfg(not(unix))]
        let _ = is_secret;
        Ok(())
    }
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            unix: Unix {
                device: metadata.dev(),
                inode: metadata.ino(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
                mode: metadata.mode(),
            },
        }
    }
}

fn found(path: PathBuf) -> Result<Found, String> {
    let metadata = fs::metadata(&path).map_err(|error| fault(&path, error))?;
    if !metadata.is_file() {
        return Err(fault(&path, "not a regular file"));
    }
    Ok(Found { stat: Stat::of(&metadata), path })
}

/// Opens for reading without ever waiting: whatever is expected, a FIFO may be there.
pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("countersign-files-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_file_that_became_a_fifo_or_another_file_is_not_read_and_nobody_waits_for_it() {
        let directory = Directory::new("fifo");
        let path = directory.0.join("keys");
        fs::write(&path, "before").unwrap();
        let [found] = <[Found; 1]>::try_from(survey_file(&path).unwrap()).unwrap();
        assert_eq!(read(&found).unwrap(), b"before");
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(read(&found).unwrap_err(), fault(&path, CHANGED));
        assert_eq!(survey_file(&path).unwrap_err(), fault(&path, "not a regular file"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "behind").unwrap();
        assert_eq!(read(&found).unwrap_err(), fault(&path, CHANGED), "same name, same length");
    }

    #[test]
    fn what_a_look_costs_is_bounded() {
        let directory = Directory::new("many");
        let touch = |name: String| fs::write(directory.0.join(name), "").unwrap();
        let count = || survey_directory(&directory.0).map(|all| all.len());
        (0..MAX_FILES).for_each(|number| touch(format!("{number}.pem")));
        assert_eq!(count(), Ok(MAX_FILES));
        touch("one-more.PEM".into());
        assert!(count().unwrap_err().contains("more than 256 key files"));
        fs::remove_file(directory.0.join("one-more.PEM")).unwrap();
        (MAX_FILES..MAX_ENTRIES).for_each(|number| touch(format!("{number}.txt")));
        assert_eq!(count(), Ok(MAX_FILES));
        touch("one-more.txt".into());
        assert!(count().unwrap_err().contains("more than 4096 names"));
    }

    #[test]
    fn a_file_is_fresh_for_a_while_and_one_from_the_future_only_when_that_is_near() {
        let directory = Directory::new("fresh");
        let path = directory.0.join("keys");
        fs::write(&path, "").unwrap();
        let age = Duration::from_secs(2);
        let is_fresh = |now| survey_file(&path).unwrap()[0].is_fresh(now, age);
        let now = SystemTime::now();
        assert!(is_fresh(now) && is_fresh(now + age / 2));
        assert!(!is_fresh(now + 2 * age) && !is_fresh(now - 2 * age));
        // Whatever somebody says of the content, the inode has been touched.
        File::options().write(true).open(&path).unwrap().set_modified(now - 100 * age).unwrap();
        assert!(is_fresh(SystemTime::now()));
    }
}
