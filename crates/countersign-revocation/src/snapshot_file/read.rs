//! A whole file, line by line, with one line in memory.

use std::io::{BufRead, Read};

use std::hash::Hasher as _;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, SinkError};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::SnapshotError;
use super::line::{self, Header, Line};

/// The longest line, with its line feed: two names of [`MAX_NAME_BYTES`](super::MAX_NAME_BYTES) with every octet written as an escape of six, and what
/// is around them. It is also what reading takes of memory, beside what is kept.
pub const MAX_LINE_BYTES: usize = 128 * 1024;

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) as_of: UnixTime,
    pub(super) body: Body,
}

/// All but the time, in short: two that are equal are the same, for whoever does not know what the digest is keyed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Body {
    entries: u64,
    digest: u128,
}

/// Hands each entry to `take`, and ends with what it was if all of it is good: what was taken counts only then.
///
/// A file from before `in_force` is refused at its first line.
pub(super) fn read(
    file: impl BufRead,
    in_force: Option<UnixTime>,
    mut digest: SipHasher13,
    mut take: impl FnMut(&Entry) -> Result<(), SinkError>,
) -> Result<Content, SnapshotError> {
    let mut lines = Lines::of(file);
    let header = lines.header(in_force)?;
    let mut entries = 0;
    loop {
        let line = lines.next()?.map(|line| {
            digest.write(line);
            digest.write(b"\n");
            line::parse(line)
        });
        match line.ok_or_else(|| lines.malformed("the file ends before its last line"))? {
            Ok(Line::Entry(_)) if entries == header.entries => return Err(lines.malformed(COUNT)),
            Ok(Line::Entry(entry)) => {
                take(&entry).map_err(|why| SnapshotError::Refused { line: lines.number, why })?;
                entries += 1;
            }
            Ok(Line::End(end)) if end != entries || end != header.entries => return Err(lines.malformed(COUNT)),
            Ok(Line::End(_)) => break,
            Err(what) => return Err(lines.malformed(what)),
        }
    }
    match lines.next()? {
        None => Ok(header.content(digest)),
        Some(_) => Err(lines.malformed("something behind the last line")),
    }
}

/// What [`read`] would end with, if the file is good: only its first line is looked at. It takes a tenth of the time.
pub(super) fn skim(
    file: impl BufRead,
    in_force: Option<UnixTime>,
    mut digest: SipHasher13,
) -> Result<Content, SnapshotError> {
    let mut lines = Lines::of(file);
    let header = lines.header(in_force)?;
    loop {
        let octets = lines.file.fill_buf().map_err(SnapshotError::io)?;
        if octets.is_empty() {
            return Ok(header.content(digest));
        }
        digest.write(octets);
        let count = octets.len();
        lines.file.consume(count);
    }
}

impl Header {
    fn content(self, digest: SipHasher13) -> Content {
        Content { as_of: self.as_of, body: Body { entries: self.entries, digest: digest.finish128().into() } }
    }
}

const COUNT: &str = "there are not as many entries as the header says";

struct Lines<R> {
    file: R,
    line: Vec<u8>,
    /// Of the line that was read last, from 1.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn of(file: R) -> Self {
        Self { file, line: Vec::new(), number: 0 }
    }

    fn header(&mut self, in_force: Option<UnixTime>) -> Result<Header, SnapshotError> {
        // An empty file has no header either.
        let header = line::parse_header(self.next()?.unwrap_or_default()).map_err(|what| self.malformed(what))?;
        match in_force {
            Some(in_force) if header.as_of < in_force => Err(SnapshotError::Older { as_of: header.as_of, in_force }),
            _ => Ok(header),
        }
    }

    /// The next line, without its line feed. `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>, SnapshotError> {
        self.line.clear();
        self.number += 1;
        let read = Read::by_ref(&mut self.file).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut self.line);
        read.map_err(SnapshotError::io)?;
        match self.line.split_last() {
            None => Ok(None),
            Some((b'\n', [])) => Err(self.malformed("the line is empty")),
            Some((b'\n', line)) => Ok(Some(line)),
            Some(_) if self.line.len() >= MAX_LINE_BYTES => Err(self.malformed("the line is too long")),
            Some(_) => Err(self.malformed("the file ends within the line")),
        }
    }

    fn malformed(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Malformed { line: self.number, what }
    }
}
