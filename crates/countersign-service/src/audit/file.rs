//! The file: lines are added to its end and nothing else ever changes.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::MAX_AUDIT_LINE_BYTES;
use super::check::{AuditHead, Link, hex};
use super::record::Record;
use crate::sha256::sha256;

/// Where the first line of a chain follows from.
pub(super) const NOTHING: [u8; 32] = [0; 32];

/// A line as it is written.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    /// The SHA-256 of the line before, without its line feed.
    prev: &'a str,
    /// How many lines there are not between that one and this.
    #[serde(skip_serializing_if = "is_zero")]
    dropped: u64,
    #[serde(flatten)]
    record: &'a Record,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// An open file and where its chain is.
pub(super) struct ChainFile<F = File> {
    path: PathBuf,
    file: F,
    head: AuditHead,
    /// The last line has no line feed: whoever wrote it died, or the disk was full.
    is_torn: bool,
}

impl ChainFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = open(path)?;
        let (head, is_torn) = end_of(&mut file)?;
        Ok(Self { path: path.to_owned(), file, head, is_torn })
    }

    /// If somebody has renamed the file, goes on in a new one.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        if is_there(&self.file, &self.path)? {
            return Ok(());
        }
        let file = open(&self.path)?;
        if file.metadata()?.len() != 0 {
            return Err(other("the file that has taken its place is not empty"));
        }
        let before = std::mem::replace(&mut self.file, file);
        self.is_torn = false;
        before.sync_data()
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl<F: Write> ChainFile<F> {
    /// All of them in one write, the first with how many are missing before it.
    ///
    /// # Errors
    /// Some of them may be there all the same; then the chain goes on behind those.
    pub(super) fn append<'a>(&mut self, records: impl Iterator<Item = &'a Record>, mut dropped: u64) -> io::Result<()> {
        let mut text = if self.is_torn { b"\n".to_vec() } else { Vec::new() };
        let mut heads = Vec::new();
        let mut head = self.head;
        for record in records {
            let line = Line { seq: head.seq + 1, prev: &hex(&head.hash), dropped, record };
            let begins = text.len();
            serde_json::to_writer(&mut text, &line).map_err(io::Error::other)?;
            dropped = 0;
            head = AuditHead { seq: head.seq + 1, hash: sha256(&text[begins..]) };
            heads.push((begins, text.len(), head));
            text.push(b'\n');
        }
        let (written, result) = write(&mut self.file, &text);
        if written == 0 {
            return result;
        }
        // Whatever was torn has its line feed now.
        self.is_torn = false;
        for (begins, ends, head) in heads {
            if ends <= written {
                // A line without its line feed is one all the same.
                (self.head, self.is_torn) = (head, ends == written);
            } else if begins < written {
                self.head.hash = torn(&self.head.hash, &text[begins..written]);
                self.is_torn = true;
            }
        }
        result
    }
}

/// How much of it, and why not all.
fn write(file: &mut impl Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < text.len() {
        match file.write(&text[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// From the last lines of the file: where the chain is, and whether the last one is torn.
fn end_of(file: &mut File) -> io::Result<(AuditHead, bool)> {
    let length = file.metadata()?.len();
    // Two whole lines, of which the last may be torn.
    let window = 2 * (MAX_AUDIT_LINE_BYTES as u64 + 1);
    file.seek(SeekFrom::Start(length.saturating_sub(window)))?;
    let mut text = Vec::new();
    (&mut *file).take(window).read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok((AuditHead { seq: 0, hash: NOTHING }, false));
    }
    let is_torn = !text.ends_with(b"\n");
    let whole = text.strip_suffix(b"\n").unwrap_or(&text);
    let mut fragments = Vec::new();
    let mut head = None;
    for line in whole.rsplit(|byte| *byte == b'\n') {
        if let Some(link) = Link::read(line) {
            head = Some(AuditHead { seq: link.seq, hash: sha256(line) });
            break;
        }
        fragments.push(line);
    }
    // Of a file that has nothing else, the first line was torn.
    let head = head.or((length <= window).then_some(AuditHead { seq: 0, hash: NOTHING }));
    let head = head.filter(|_| fragments.iter().all(|fragment| fragment.starts_with(BEGINNING)));
    let mut head = head.ok_or_else(|| other("its end is no line of an audit log"))?;
    for fragment in fragments.iter().rev() {
        head.hash = torn(&head.hash, fragment);
    }
    Ok((head, is_torn))
}

/// Of every line, and of one that is torn too unless there is next to nothing of it.
const BEGINNING: &[u8] = b"{\"seq\":";

/// A part of a line is in the chain together with what is before it, because it does not say what that is.
pub(super) fn torn(before: &[u8; 32], fragment: &[u8]) -> [u8; 32] {
    sha256(&[before, fragment].concat())
}

fn other(text: &'static str) -> io::Error {
    io::Error::other(text)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

    use rustix::fs::{FlockOperation, OFlags, flock};

    // Neither through a link, nor waiting for what may be a FIFO.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600);
    let file = options.custom_flags(i32::try_from(flags).map_err(io::Error::other)?).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(other("it is no regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(other("others may read it: chmod go= it"));
    }
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|_| other("another process writes it"))?;
    Ok(file)
}

#[cfg(unix)]
fn is_there(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;

    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn open(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn is_there(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
impl<F> ChainFile<F> {
    /// A chain that begins here.
    pub(super) fn with(file: F) -> Self {
        // Never renamed.
        Self { path: PathBuf::from("/dev/full"), file, head: AuditHead { seq: 0, hash: NOTHING }, is_torn: false }
    }

    pub(super) fn file_mut(&mut self) -> &mut F {
        &mut self.file
    }
}
