//! The directory itself: that it is the right one, and nobody else's; the lock; what is in it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use countersign_claims::UnixTime;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Dir, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use rustix::process::{Uid, geteuid};

use super::super::{MAX_LISTED, StoreError, StoreErrorKind, StoreTime, Stored, Version};
use super::file::{self, Entry, Readers, Step, fault, reached};

const LOCK: &str = "state.lock";
const KEYS: &str = "keys";

/// How long a writer waits for others. Each holds the lock for a few writes to the disk; whoever holds it for longer
/// hangs or was stopped.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How long a writer sleeps before it asks for the lock again: `flock` can wait by itself, but not for so long and no
/// longer.
const LOCK_RETRY: Duration = Duration::from_millis(2);

/// The most names that are looked at in one directory: all keys there may be, and as much again of what dead processes
/// have left.
const MAX_NAMES: usize = 2 * MAX_LISTED;

/// How coarse the times of files may be.
const TIME_GRAIN: Duration = Duration::from_secs(1);

pub(super) struct Root {
    path: PathBuf,
    root: OwnedFd,
    keys: OwnedFd,
    owner: Uid,
    is_on_network: bool,
    lock_wait: Duration,
}

/// Held by whoever writes.
pub(super) struct Lock(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path, network_is_allowed: bool) -> Result<Self, StoreError> {
        Self::open_as(path, network_is_allowed, geteuid(), LOCK_WAIT)
    }

    /// All files must be this user's, and so long is waited for others who write.
    pub(super) fn open_as(
        path: &Path,
        network_is_allowed: bool,
        owner: Uid,
        lock_wait: Duration,
    ) -> Result<Self, StoreError> {
        // Or it would be another if the process changed its working directory.
        let path = std::path::absolute(path).map_err(|error| fault("find", path, errno(&error)))?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => sync_parent(&path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fault("make", &path, errno(&error))),
        }
        let root = open_directory(fs::CWD, &path, &path, owner)?;
        let is_on_network = match network(&root, &path)? {
            Some(name) if !network_is_allowed => {
                let text = format!(
                    "{} is on a network file system ({name}), whose locks cannot be relied upon; \
                     keep the ring on a local one, or in an object store",
                    path.display()
                );
                return Err(StoreError::new(StoreErrorKind::Unfit, text));
            }
            network => network.is_some(),
        };
        let below = path.join(KEYS);
        match fs::mkdirat(&root, KEYS, Mode::RWXU) {
            Ok(()) => fs::fsync(&root).map_err(|errno| fault("bring to the disk", &path, errno))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault("make", &below, errno)),
        }
        let keys = open_directory(root.as_fd(), KEYS, &below, owner)?;
        let root = Self { path, root, keys, owner, is_on_network, lock_wait };
        let lock = root.lock()?;
        root.clean(&lock)?;
        root.check_files()?;
        drop(lock);
        Ok(root)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directories that are open still have their names. If not, whatever is missing in them says nothing.
    pub(super) fn check_in_place(&self) -> Result<(), StoreError> {
        let (root, keys) = (fs::stat(&self.path), fs::statat(&self.root, KEYS, AtFlags::SYMLINK_NOFOLLOW));
        for (there, open, path) in [(root, &self.root, self.path.clone()), (keys, &self.keys, self.path.join(KEYS))] {
            let open = fs::fstat(open).map_err(|errno| fault("look at", &path, errno))?;
            if !there.is_ok_and(|there| is_same(&there, &open)) {
                let text = format!(
                    "{} is not there any more, or is another directory: start again if that is what you want",
                    path.display()
                );
                return Err(StoreError::new(StoreErrorKind::Unavailable, text));
            }
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let until = Instant::now() + self.lock_wait;
        loop {
            let lock = fs::openat(&self.root, LOCK, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|errno| fault("open", &path, errno))?;
            self.check_file(&lock, &path, Readers::Owner)?;
            if let Some(lock) = self.try_lock(lock, &path)? {
                reached(Step::Locked);
                return Ok(lock);
            }
            if Instant::now() >= until {
                let text = format!("another process has held {} for {:?}", path.display(), self.lock_wait);
                return Err(StoreError::new(StoreErrorKind::Unavailable, text));
            }
            sleep(LOCK_RETRY);
        }
    }

    /// `None` if somebody else holds it, or if it is not the lock any more.
    fn try_lock(&self, lock: OwnedFd, path: &Path) -> Result<Option<Lock>, StoreError> {
        match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            // If somebody has removed the file since it was opened, others ask for another.
            Ok(()) => Ok(self.is_at(&lock, LOCK).then_some(Lock(lock))),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS) => {
                let text = format!("{} cannot be locked: the file system has no locks", path.display());
                Err(StoreError::new(StoreErrorKind::Unfit, text))
            }
            Err(errno) => Err(fault("lock", path, errno)),
        }
    }

    fn is_at(&self, file: &OwnedFd, name: &str) -> bool {
        let (open, there) = (fs::fstat(file), fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW));
        matches!((open, there), (Ok(open), Ok(there)) if is_same(&open, &there))
    }

    pub(super) fn read(&self, entry: &Entry) -> Result<Option<Stored>, StoreError> {
        let path = self.path_of(entry);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(self.directory_of(entry), &entry.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(fault("open", &path, errno)),
        };
        self.check_file(&file, &path, entry.readers)?;
        let bytes =
            file::read_bounded(File::from(file), entry.limit).map_err(|error| fault("read", &path, errno(&error)))?;
        let bytes = bytes.ok_or_else(|| StoreError::too_large(&path.display().to_string(), entry.limit))?;
        let version = file::version(&bytes);
        Ok(Some(Stored { bytes, version }))
    }

    pub(super) fn replace(&self, _lock: &Lock, entry: &Entry, bytes: &[u8]) -> Result<Version, StoreError> {
        file::replace(self.directory_of(entry), &entry.name, &self.path_of(entry), bytes, entry.readers.mode())?;
        Ok(file::version(bytes))
    }

    pub(super) fn remove(&self, _lock: &Lock, entry: &Entry) -> Result<(), StoreError> {
        file::remove(self.directory_of(entry), &entry.name, &self.path_of(entry))
    }

    pub(super) fn names_of_keys(&self) -> Result<Vec<String>, StoreError> {
        names(&self.keys, &self.path.join(KEYS))
    }

    pub(super) fn probe(&self) -> Result<(), StoreError> {
        self.check_in_place()?;
        let lock = self.lock()?;
        self.check_files()?;
        // That a file can be made, filled, renamed and removed here at all; its name is one that is cleaned away.
        for (directory, path) in [(&self.root, self.path.clone()), (&self.keys, self.path.join(KEYS))] {
            let name = file::temporary_name()?;
            file::replace(directory.as_fd(), &name, &path.join(&name), &[0], Readers::Owner.mode())?;
            file::remove(directory.as_fd(), &name, &path.join(&name))?;
        }
        drop(lock);
        Ok(())
    }

    /// The time of the file server: it is what a file that was touched just now has. Of a local file system the clock
    /// is this machine's.
    pub(super) fn time(&self) -> Result<Option<StoreTime>, StoreError> {
        if !self.is_on_network {
            return Ok(None);
        }
        self.touched().map(Some)
    }

    pub(super) fn touched(&self) -> Result<StoreTime, StoreError> {
        let lock = self.lock()?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let path = self.path.join(LOCK);
        fs::futimens(&lock.0, &Timestamps { last_access: now, last_modification: now })
            .map_err(|errno| fault("touch", &path, errno))?;
        let stat = fs::fstat(&lock.0).map_err(|errno| fault("look at", &path, errno))?;
        Ok(StoreTime { at: UnixTime::from_secs(stat.st_mtime), grain: TIME_GRAIN })
    }

    /// Removes what processes left that died while they wrote. Whoever writes holds the lock, so nobody is writing.
    fn clean(&self, _lock: &Lock) -> Result<(), StoreError> {
        for (directory, path) in [(&self.root, self.path.clone()), (&self.keys, self.path.join(KEYS))] {
            for name in names(directory, &path)?.into_iter().filter(|name| file::is_temporary(name)) {
                file::remove(directory.as_fd(), &name, &path.join(&name))?;
            }
        }
        Ok(())
    }

    /// Whether all that is there may be read, rather than that one file may not be when it is wanted.
    fn check_files(&self) -> Result<(), StoreError> {
        let mut entries = vec![super::state(), super::jwks()];
        let keys = self.names_of_keys()?.into_iter().filter(|name| super::names::kid_of(name).is_some());
        entries.extend(keys.map(|name| Entry { what: "the sealed key", name, in_keys: true, ..super::state() }));
        for entry in entries {
            let path = self.path_of(&entry);
            match fs::statat(self.directory_of(&entry), &entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => check(&stat, &path, fs::FileType::RegularFile, entry.readers, self.owner)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(fault("look at", &path, errno)),
            }
        }
        Ok(())
    }

    fn check_file(&self, file: &OwnedFd, path: &Path, readers: Readers) -> Result<(), StoreError> {
        let stat = fs::fstat(file).map_err(|errno| fault("look at", path, errno))?;
        check(&stat, path, fs::FileType::RegularFile, readers, self.owner)
    }

    fn directory_of(&self, entry: &Entry) -> BorrowedFd<'_> {
        if entry.in_keys { self.keys.as_fd() } else { self.root.as_fd() }
    }

    fn path_of(&self, entry: &Entry) -> PathBuf {
        if entry.in_keys { self.path.join(KEYS).join(&entry.name) } else { self.path.join(&entry.name) }
    }
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn open_directory(
    at: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
    path: &Path,
    owner: Uid,
) -> Result<OwnedFd, StoreError> {
    // Of a link, `open` says only that it is no directory.
    let stat = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| fault("look at", path, errno))?;
    check(&stat, path, fs::FileType::Directory, Readers::Owner, owner)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = fs::openat(at, name, flags, Mode::empty()).map_err(|errno| fault("open", path, errno))?;
    let stat = fs::fstat(&directory).map_err(|errno| fault("look at", path, errno))?;
    check(&stat, path, fs::FileType::Directory, Readers::Owner, owner)?;
    Ok(directory)
}

/// Whether this is what may be there, and says what to do if not.
fn check(stat: &Stat, path: &Path, expected: fs::FileType, readers: Readers, owner: Uid) -> Result<(), StoreError> {
    let path = path.display();
    let (found, mode) = (fs::FileType::from_raw_mode(stat.st_mode), Mode::from_raw_mode(stat.st_mode));
    let text = if found == fs::FileType::Symlink {
        format!("{path} is a symbolic link; put what it leads to in its place")
    } else if found != expected {
        format!("{path} is not a {}", if expected == fs::FileType::Directory { "directory" } else { "regular file" })
    } else if stat.st_uid != owner.as_raw() {
        format!("{path} belongs to the user {}, and this process runs as {}: chown it", stat.st_uid, owner.as_raw())
    } else if mode.intersects(readers.forbidden()) {
        let wanted = if expected == fs::FileType::Directory { Mode::RWXU } else { readers.mode() };
        let (mode, wanted) = (mode.as_raw_mode(), wanted.as_raw_mode());
        format!(
            "{path} has mode {mode:04o}, by which others may use it: chmod {wanted:o} it, \
             and if it has keys, think of who may have read them"
        )
    } else {
        return Ok(());
    };
    Err(StoreError::new(StoreErrorKind::Unfit, text))
}

fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    let entries = Dir::read_from(directory).map_err(|errno| fault("list", path, errno))?;
    for entry in entries {
        let entry = entry.map_err(|errno| fault("list", path, errno))?;
        // What is not UTF-8 is none of ours.
        names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        if names.len() > MAX_NAMES {
            return Err(StoreError::new(
                StoreErrorKind::Unfit,
                format!("{} has more than {MAX_NAMES} files", path.display()),
            ));
        }
    }
    Ok(names)
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let synced = File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(|error| fault("bring to the disk", parent, errno(&error)))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The name of the network file system on which it is, if it is on one that is known as such.
#[cfg(target_os = "linux")]
fn network(directory: &OwnedFd, path: &Path) -> Result<Option<&'static str>, StoreError> {
    let found = fs::fstatfs(directory).map_err(|errno| fault("look at the file system of", path, errno))?;
    // The kernel's numbers have 32 bits, whatever the type of the field is.
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "it is a pattern of bits")]
    let magic = found.f_type as u32;
    Ok(network_named(magic))
}

#[cfg(target_os = "linux")]
pub(super) fn network_named(magic: u32) -> Option<&'static str> {
    // statfs(2), and the sources of those that are not in the kernel.
    const NETWORK: [(u32, &str); 11] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xfe53_4d42, "SMB2"),
        (0xff53_4d42, "CIFS"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9P"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x7375_7245, "Coda"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
    ];
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// Elsewhere, nothing says so in the same way everywhere.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn network(_: &OwnedFd, _: &Path) -> Result<Option<&'static str>, StoreError> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Place;
    use super::*;

    #[test]
    fn a_lock_file_that_was_removed_since_it_was_opened_is_no_lock() {
        let place = Place::new();
        let root = Root::open(place.path(), false).unwrap();
        let path = place.path().join(LOCK);
        let open = || OwnedFd::from(File::options().write(true).open(&path).unwrap());
        assert!(root.try_lock(open(), &path).unwrap().is_some());
        let removed = open();
        std::fs::remove_file(&path).unwrap();
        assert!(root.try_lock(removed, &path).unwrap().is_none());
        let removed = root.lock().map(|_| open()).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(root.lock().unwrap());
        assert!(root.try_lock(removed, &path).unwrap().is_none(), "nor if there is another by now");
    }
}
