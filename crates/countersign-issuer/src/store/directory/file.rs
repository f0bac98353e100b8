//! One file: read, replaced, removed. Whoever changes something holds the lock.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fd::BorrowedFd;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::super::{StoreError, StoreErrorKind, Version};

/// How much is written at a time: a page, so that crashes between two of them are among those that are tested.
const CHUNK_BYTES: usize = 4096;

/// The beginning of the name of a file that is being written. The rest is 16 hexadecimal digits.
const TEMPORARY: &str = ".tmp-";

/// A file, and what is expected of it.
pub(super) struct Entry {
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) in_keys: bool,
    pub(super) readers: Readers,
    pub(super) limit: usize,
}

/// Who may read a file. Nobody but its owner may write it.
#[derive(Clone, Copy)]
pub(super) enum Readers {
    Owner,
    All,
}

impl Readers {
    pub(super) fn mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Owner => 0o600,
            Self::All => 0o644,
        })
    }

    pub(super) fn forbidden(self) -> Mode {
        match self {
            Self::Owner => Mode::RWXG | Mode::RWXO,
            Self::All => Mode::WGRP | Mode::WOTH,
        }
    }
}

/// What a change goes through, and after each of which it may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Locked,
    Created,
    Written,
    Synced,
    Renamed,
    Removed,
    DirectorySynced,
}

#[cfg(not(test))]
pub(super) fn reached(_: Step) {}

#[cfg(test)]
pub(super) use super::crash::reached;

/// Of these contents.
pub(super) fn version(bytes: &[u8]) -> Version {
    Version::new(digest(&SHA256, bytes).as_ref().iter().map(|octet| format!("{octet:02x}")).collect::<String>())
}

/// All of it; `None` if that is more than the limit.
pub(super) fn read_bounded(file: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// Puts a file of these contents in the place of whatever has the name, on the disk.
pub(super) fn replace(
    directory: BorrowedFd<'_>,
    name: &str,
    path: &Path,
    bytes: &[u8],
    mode: Mode,
) -> Result<(), StoreError> {
    let temporary = temporary_name()?;
    let written =
        write_new(directory, &temporary, bytes, mode).map_err(|errno| fault("write", path, errno)).and_then(|()| {
            fs::renameat(directory, &temporary, directory, name).map_err(|errno| after("rename", path, errno))
        });
    if let Err(error) = written {
        // It may not even be there.
        let _ = fs::unlinkat(directory, &temporary, AtFlags::empty());
        return Err(error);
    }
    reached(Step::Renamed);
    fs::fsync(directory).map_err(|errno| after("bring to the disk", path, errno))?;
    reached(Step::DirectorySynced);
    Ok(())
}

/// Removes the file, on the disk. That there is none is a success.
pub(super) fn remove(directory: BorrowedFd<'_>, name: &str, path: &Path) -> Result<(), StoreError> {
    match fs::unlinkat(directory, name, AtFlags::empty()) {
        // It may have been removed by somebody who died before that was on the disk.
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(after("remove", path, errno)),
    }
    reached(Step::Removed);
    fs::fsync(directory).map_err(|errno| after("bring to the disk", path, errno))?;
    reached(Step::DirectorySynced);
    Ok(())
}

fn write_new(directory: BorrowedFd<'_>, name: &str, bytes: &[u8], mode: Mode) -> Result<(), Errno> {
    // It must not be there, so nobody's link is followed.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(directory, name, flags, mode)?);
    reached(Step::Created);
    // The process's umask may have taken something away.
    fs::fchmod(&file, mode)?;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        file.write_all(chunk).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        reached(Step::Written);
    }
    fs::fsync(&file)?;
    reached(Step::Synced);
    Ok(())
}

pub(super) fn temporary_name() -> Result<String, StoreError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "the crypto library has no randomness"))?;
    Ok(format!("{TEMPORARY}{:016x}", u64::from_ne_bytes(random)))
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_prefix(TEMPORARY)
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|octet| octet.is_ascii_hexdigit()))
}

/// What the operating system says where nothing has changed yet.
pub(super) fn fault(doing: &str, path: &Path, errno: Errno) -> StoreError {
    let kind = match errno {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => StoreErrorKind::Denied,
        Errno::LOOP => {
            let text = format!("{} is a symbolic link; put what it leads to in its place", path.display());
            return StoreError::new(StoreErrorKind::Unfit, text);
        }
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, format!("cannot {doing} {}: {}", path.display(), io::Error::from(errno).kind()))
}

/// The same where something may have.
fn after(doing: &str, path: &Path, errno: Errno) -> StoreError {
    let error = fault(doing, path, errno);
    match error.kind() {
        StoreErrorKind::Unavailable => StoreError::new(StoreErrorKind::Unknown, error.to_string()),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_says_is_told_apart() {
        let path = Path::new("/ring/state.json");
        for (errno, before, later) in [
            (Errno::ACCESS, StoreErrorKind::Denied, StoreErrorKind::Denied),
            (Errno::PERM, StoreErrorKind::Denied, StoreErrorKind::Denied),
            (Errno::ROFS, StoreErrorKind::Denied, StoreErrorKind::Denied),
            (Errno::LOOP, StoreErrorKind::Unfit, StoreErrorKind::Unfit),
            (Errno::NOSPC, StoreErrorKind::Unavailable, StoreErrorKind::Unknown),
            (Errno::IO, StoreErrorKind::Unavailable, StoreErrorKind::Unknown),
            (Errno::STALE, StoreErrorKind::Unavailable, StoreErrorKind::Unknown),
            // Whether a file is missing is asked elsewhere, where it means something.
            (Errno::NOENT, StoreErrorKind::Unavailable, StoreErrorKind::Unknown),
        ] {
            assert_eq!(fault("write", path, errno).kind(), before, "{errno}");
            assert_eq!(after("rename", path, errno).kind(), later, "{errno}");
            assert!(fault("write", path, errno).to_string().contains("/ring/state.json"));
        }
    }

    #[test]
    fn temporary_names_are_never_twice_the_same_and_are_known_again() {
        let (a, b) = (temporary_name().unwrap(), temporary_name().unwrap());
        assert!(is_temporary(&a) && is_temporary(&b) && a != b);
        for name in ["state.json", ".tmp-", ".tmp-0123", ".tmp-0123456789abcdeg", "x.tmp-0123456789abcdef"] {
            assert!(!is_temporary(name), "{name}");
        }
    }

    #[test]
    fn no_more_is_read_than_is_allowed() {
        assert_eq!(read_bounded(b"abc".as_slice(), 3).unwrap().unwrap(), b"abc");
        assert_eq!(read_bounded(b"abcd".as_slice(), 3).unwrap(), None);
        assert_eq!(read_bounded(io::repeat(0), 1000).unwrap(), None);
    }
}
