//! Files that a service is told by, or that have secrets in them: opened first and looked at then, so that what was looked at is
//! what is read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::writers::check_writers;

/// The longest key, bytes: one of 32 octets has some hundred in any writing, and a private key of a client some hundreds.
pub(crate) const MAX_KEY_BYTES: usize = 4_096;

/// What the name of a file begins with that is not whole yet, here and where a [key-encryption key](countersign_issuer::Kek::create_file) is made.
const UNFINISHED: &str = ".new-";

/// Who else may have to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// Nobody may read it: 0600.
    Nothing,
    /// Its group may read it: 0640.
    GroupReads,
    /// All may read it, and nobody may write it or put another in its place ([`check_writers`]).
    AllRead,
    /// All may do with it as they like: what it says can be checked.
    Anything,
}

/// All of a file, in memory that is overwritten afterwards and does not grow.
///
/// # Errors
/// What is no regular file, is of another user than this process's and root, has more than `most` bytes, or with which others
/// may do more than `others`; and as the operating system says. Never waits for somebody to write to a FIFO.
pub(crate) fn read(path: &Path, most: usize, others: Others) -> io::Result<Zeroizing<Vec<u8>>> {
    // There may be a FIFO, to which nobody writes, or a terminal, which is not to become this process's own.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    match others {
        Others::Nothing => check_readers(&metadata, 0o077, "go=")?,
        Others::GroupReads => check_readers(&metadata, 0o037, "o=,g-wx")?,
        Others::AllRead => check_writers(&file, path).map_err(io::Error::other)?,
        Others::Anything => {}
    }
    let too_long = || io::Error::other(format!("it has more than {most} bytes"));
    let length = usize::try_from(metadata.len()).ok().filter(|length| *length <= most).ok_or_else(too_long)?;
    // It may grow while it is read; one byte more than it had shows that.
    let mut octets = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(length as u64 + 1).read_to_end(&mut octets)?;
    match octets.len() > length {
        true if length == most => Err(too_long()),
        true => Err(io::Error::other("it grows while it is read")),
        false => Ok(octets),
    }
}

/// Makes a file that only this process's user may read (0600), whole or not at all, and over nothing that is there: whoever is cut off
/// leaves nothing that the next one stops at. Blocks.
///
/// # Errors
/// As the operating system says; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is such a file.
pub fn write_new(path: &Path, octets: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    beside.write_all(octets)?;
    beside.as_file().sync_all()?;
    beside.persist_noclobber(path)?;
    File::open(directory)?.sync_all()
}

/// Removes what was being written when a process before this one was killed, as far as that goes: it is in nobody's way.
pub(crate) fn remove_unfinished(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_unfinished(entry.file_name().as_encoded_bytes()) {
            let removed = fs::remove_file(entry.path());
            tracing::warn!(target: "countersign::service", file = %entry.path().display(), is_removed = removed.is_ok(), "a file that was left half written");
        }
    }
}

/// Names as `tempfile` makes them, and nobody else's that begin in the same way.
fn is_unfinished(name: &[u8]) -> bool {
    name.strip_prefix(UNFINISHED.as_bytes())
        .is_some_and(|rest| rest.len() == 6 && rest.iter().all(u8::is_ascii_alphanumeric))
}

fn check_readers(metadata: &Metadata, mask: u32, mend: &str) -> io::Result<()> {
    let (owner, mode, user) = (metadata.uid(), metadata.mode() & 0o7777, geteuid().as_raw());
    if owner != 0 && owner != user {
        let text = format!("it belongs to the user {owner}, and this process runs as {user}: chown it");
        return Err(io::Error::other(text));
    }
    if mode & mask != 0 {
        return Err(io::Error::other(format!("it has mode {mode:04o}, by which others may use it: chmod {mend} it")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, Mode, mkfifoat};

    const ALL: [Others; 4] = [Others::Nothing, Others::GroupReads, Others::AllRead, Others::Anything];

    /// Gone with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("countersign-files-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
            Self(path)
        }

        fn file(&self, octets: &[u8], mode: u32) -> PathBuf {
            let file = self.0.join("file");
            fs::write(&file, octets).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            file
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn said(path: &Path, others: Others) -> Result<usize, String> {
        read(path, 8, others).map(|octets| octets.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let place = Place::new("kinds");
        let fifo = place.0.join("fifo");
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        for path in [fifo, place.0.clone(), "/dev/zero".into()] {
            for others in ALL {
                let (done, ended) = mpsc::channel();
                let name = path.clone();
                std::thread::spawn(move || done.send(said(&name, others)));
                let error = ended.recv_timeout(Duration::from_secs(10)).unwrap().unwrap_err();
                assert!(error.contains("no regular file"), "{} {others:?}: {error}", path.display());
            }
        }
    }

    #[test]
    fn so_much_of_a_file_is_read_and_no_more() {
        let place = Place::new("length");
        for (length, expected) in [(0, Some(0)), (8, Some(8)), (9, None), (100_000, None)] {
            let file = place.file(&vec![b'a'; length], 0o600);
            for others in ALL {
                let read = said(&file, others);
                assert_eq!(read.as_ref().ok().copied(), expected, "{others:?}");
                assert!(read.is_ok() || read.unwrap_err().contains("more than 8 bytes"));
            }
        }
    }

    #[test]
    fn others_have_to_do_with_a_file_as_much_as_is_said_and_no_more() {
        let place = Place::new("mode");
        for (mode, fit) in [
            (0o400, [true, true, true, true]),
            (0o640, [false, true, true, true]),
            (0o644, [false, false, true, true]),
            (0o660, [false, false, false, true]),
            (0o602, [false, false, false, true]),
            (0o666, [false, false, false, true]),
        ] {
            let file = place.file(b"secret", mode);
            for (others, is_fit) in ALL.into_iter().zip(fit) {
                let read = said(&file, others);
                assert_eq!(read.is_ok(), is_fit, "{mode:o} {others:?}");
                assert!(is_fit || read.unwrap_err().contains("chmod"), "{mode:o} {others:?}");
            }
        }
        // Only root can give it away.
        if geteuid().is_root() {
            let file = place.file(b"secret", 0o600);
            chown(&file, Some(12_345), None).unwrap();
            for others in [Others::Nothing, Others::GroupReads, Others::AllRead] {
                assert!(said(&file, others).unwrap_err().contains("chown"), "{others:?}");
            }
        }
    }
}
