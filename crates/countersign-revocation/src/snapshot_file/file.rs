//! The file as the file system has it: looked at, opened and replaced.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Take};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::SnapshotError;
use crate::hash::secret;

/// What tells a file from the one that was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    length: u64,
    modified: Option<SystemTime>,
    /// Device and inode, and when that was touched, which nobody can set: seconds and nanoseconds.
    #[cfg(unix)]
    unix: (u64, u64, i64, i64),
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            unix: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How the file is now.
pub(super) fn stat(path: &Path) -> Result<Stat, SnapshotError> {
    check(&fs::metadata(path).map_err(fault)?)
}

impl Stat {
    /// Whether nobody has written to what is open since then. That it has lost its name, which changes other things, is no matter.
    pub(super) fn is_still(&self, file: &BufReader<Take<File>>) -> bool {
        let now = file.get_ref().get_ref().metadata().map(|metadata| Self::of(&metadata));
        now.is_ok_and(|now| now.length == self.length && now.modified == self.modified)
    }
}

/// Opens it and says how it was then. No more is read of it than there was then, or whoever appends to it without an end would keep us reading.
pub(super) fn open(path: &Path) -> Result<(BufReader<Take<File>>, Stat), SnapshotError> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Whatever is expected, a FIFO may be there, and nobody who writes to it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(fault)?;
    // Of the file that was opened: another may have its name by now.
    let stat = check(&file.metadata().map_err(fault)?)?;
    Ok((BufReader::new(file.take(stat.length)), stat))
}

fn check(metadata: &Metadata) -> Result<Stat, SnapshotError> {
    if !metadata.is_file() {
        return Err(SnapshotError::Io("not a regular file".into()));
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(metadata) & 0o002 != 0 {
        return Err(SnapshotError::Io("others than its owner and group may write to it".into()));
    }
    Ok(Stat::of(metadata))
}

fn fault(error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::NotFound => SnapshotError::Missing,
        _ => SnapshotError::io(error),
    }
}

/// Puts what `write` writes in the place of the file, as a whole: whoever opens it finds the old one or the new one.
///
/// # Errors
/// [`ReplaceFault`].
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<Stat, ReplaceFault> {
    let beside = beside(path).map_err(ReplaceFault::Before)?;
    let written = write_new(&beside, write).and_then(|file| fs::rename(&beside, path).map(|()| file));
    let file = written.map_err(|error| {
        // It may not even be there.
        let _ = fs::remove_file(&beside);
        ReplaceFault::Before(error)
    })?;
    // Of the file that was written: another may have its name by now.
    sync_directory(path).and_then(|()| Ok(Stat::of(&file.metadata()?))).map_err(ReplaceFault::Behind)
}

/// Why a file was not replaced for sure.
#[derive(Debug)]
pub(super) enum ReplaceFault {
    /// The old one is there.
    Before(io::Error),
    /// The new one is there, but may be gone after a crash of the machine.
    Behind(io::Error),
}

impl ReplaceFault {
    pub(super) fn error(&self) -> &io::Error {
        match self {
            Self::Before(error) | Self::Behind(error) => error,
        }
    }
}

/// A name in the same directory, which nobody can guess.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("a path without a file's name"))?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{:016x}.tmp", secret()));
    Ok(path.with_file_name(beside))
}

fn write_new(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Nobody's link is followed: it must not be there.
    options.write(true).create_new(true);
    // Verifiers run as other users; the process's umask takes away what they are not to have.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    let mut file = BufWriter::new(options.open(path)?);
    write(&mut file)?;
    let file = file.into_inner()?;
    file.sync_all()?;
    Ok(file)
}

/// Or a crash of the machine may bring the old file back.
fn sync_directory(path: &Path) -> io::Result<()> {
    // Elsewhere, a directory cannot be opened as a file.
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
