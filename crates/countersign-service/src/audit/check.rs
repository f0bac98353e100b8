//! Whether a chain holds.

use std::io::{self, BufRead, Read as _};

use serde::Deserialize;

use super::MAX_AUDIT_LINE_BYTES;
use super::file::{NOTHING, torn};
use crate::sha256::sha256;

/// Faults that are told, at most.
pub const MAX_FAULTS: usize = 100;

/// The end of a chain: what the next line follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The number of its last line.
    pub seq: u64,
    /// The SHA-256 of that line.
    pub hash: [u8; 32],
}

/// What is wrong, and in which line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    /// Which.
    pub line: u64,
    /// What.
    pub what: &'static str,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditReport {
    /// Whole lines.
    pub lines: u64,
    /// The number of the first.
    pub first: Option<u64>,
    /// Where the chain ends. Written down elsewhere, it proves later that nothing was taken from the end.
    pub head: Option<AuditHead>,
    /// Whether the head that was asked for is in it.
    pub has_known: bool,
    /// Lines that were cut short when they were written. They are part of the chain.
    pub torn: u64,
    /// How many lines are said not to have been written.
    pub dropped: u64,
    /// What is wrong, as far as it is told.
    pub faults: Vec<AuditFault>,
}

/// Reads an audit log and says whether its chain holds: each line follows from the one before, and the first from `after`,
/// if that is known. `known` is the hash of a line that has to be there.
///
/// What it cannot see: lines that are missing at the end, or a log that was written anew as a whole. For that, keep a
/// [head](AuditReport::head) elsewhere.
///
/// # Errors
/// That it cannot be read.
///
/// ```
/// let report = countersign_service::audit::check(&b"{\"seq\":1}\n"[..], None, None)?;
/// assert_eq!(report.faults[0].what, "no line of an audit log");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn check(mut log: impl BufRead, after: Option<AuditHead>, known: Option<[u8; 32]>) -> io::Result<AuditReport> {
    let mut report = AuditReport { has_known: known.is_none(), ..AuditReport::default() };
    let mut head = after;
    let mut beginning = NOTHING;
    // Lines that are none: only whoever goes on behind them can vouch that they were torn.
    let mut torn_lines = 0;
    let mut number = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        let most = MAX_AUDIT_LINE_BYTES as u64 + 1;
        if (&mut log).take(most).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        number += 1;
        let is_whole = text.ends_with(b"\n");
        if !is_whole && text.len() as u64 == most {
            report.fault(number, "it is too long");
            return Ok(report);
        }
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        let Some(link) = Link::read(line) else {
            torn_lines += 1;
            match &mut head {
                Some(head) => head.hash = torn(&head.hash, line),
                None => beginning = torn(&beginning, line),
            }
            continue;
        };
        let hash = sha256(line);
        report.has_known |= known == Some(hash);
        report.lines += 1;
        report.dropped = report.dropped.saturating_add(link.dropped);
        report.first.get_or_insert(link.seq);
        if let Some(before) = head {
            if link.prev != hex(&before.hash) {
                report.fault(number, "it does not follow from the line before");
            } else if link.seq != before.seq.saturating_add(1) {
                report.fault(number, "its number does not follow");
            }
        } else if (link.seq == 1 || torn_lines > 0) && link.prev != hex(&beginning) {
            // In the middle of a log only the part before says what the first line follows from.
            report.fault(number, "it does not follow from the beginning");
        }
        report.torn += std::mem::take(&mut torn_lines);
        head = Some(AuditHead { seq: link.seq, hash });
    }
    // At the end, nobody vouches for them, and a process that died leaves such a line.
    report.torn += torn_lines;
    if report.torn > 0 && report.lines == 0 {
        report.fault(number, "no line of an audit log");
    }
    report.head = head;
    Ok(report)
}

impl AuditReport {
    fn fault(&mut self, line: u64, what: &'static str) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(AuditFault { line, what });
        }
    }
}

/// What every line has.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) seq: u64,
    prev: String,
    #[serde(default)]
    dropped: u64,
}

impl Link {
    /// Each of them once.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let link: Self = serde_json::from_slice(line).ok()?;
        (link.seq > 0 && link.prev.len() == 64).then_some(link)
    }
}

pub(super) fn hex(hash: &[u8; 32]) -> String {
    use std::fmt::Write as _;

    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl AuditHead {
    /// The hash as it stands in a line.
    #[must_use]
    pub fn hash_text(&self) -> String {
        hex(&self.hash)
    }
}
