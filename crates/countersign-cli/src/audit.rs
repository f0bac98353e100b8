//! `countersign audit`: whether an audit log is whole.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_service::audit::{AuditHead, AuditReport, check};
use serde::Serialize;

use crate::exit::{self, Answer, Exit, Failure};
use crate::output::{Screen, shown};

#[derive(Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whether each line follows from the one before. Lines that are missing at the end it cannot see: keep the hash of the last one elsewhere,
    /// and have it looked for (`--known`).
    #[command(after_help = exit::HELP)]
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// The log; of one that was rotated, all parts, the oldest first.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// A line of this hash (SHA-256, in hexadecimal) has to be there.
    #[arg(long, value_name = "HASH", value_parser = hash)]
    known: Option<[u8; 32]>,
}

#[derive(Serialize)]
struct Checked {
    good: bool,
    lines: u64,
    first: Option<u64>,
    last: Option<u64>,
    hash: Option<String>,
    torn: u64,
    dropped: u64,
    known: Option<bool>,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    file: String,
    line: u64,
    what: &'static str,
}

impl Audit {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        match self.command {
            Command::Check(check) => check.run(screen),
        }
    }
}

impl Check {
    fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let mut checked = Checked {
            good: true,
            lines: 0,
            first: None,
            last: None,
            hash: None,
            torn: 0,
            dropped: 0,
            known: self.known.map(|_| false),
            faults: Vec::new(),
        };
        let mut head: Option<AuditHead> = None;
        for file in &self.files {
            let failed = |error: std::io::Error| {
                Failure::unavailable("unreadable", format!("cannot read {}: {}", file.display(), error.kind()))
            };
            let log = BufReader::new(File::open(file).map_err(failed)?);
            let report = check(log, head, self.known).map_err(failed)?;
            head = report.head.or(head);
            checked.add(&file.display().to_string(), report);
        }
        checked.last = head.map(|head| head.seq);
        checked.hash = head.map(|head| head.hash_text());
        checked.good = checked.faults.is_empty() && checked.known != Some(false);
        let exit = if checked.good { Exit::Good } else { Exit::Refused };
        Ok(Answer::new(exit, checked.text(screen), &checked))
    }
}

impl Checked {
    fn add(&mut self, file: &str, report: AuditReport) {
        self.lines += report.lines;
        self.first = self.first.or(report.first);
        self.torn += report.torn;
        self.dropped = self.dropped.saturating_add(report.dropped);
        self.known = self.known.map(|known| known || report.has_known);
        let faults = report.faults.into_iter();
        self.faults.extend(faults.map(|fault| Fault { file: file.to_owned(), line: fault.line, what: fault.what }));
    }

    fn text(&self, screen: &Screen) -> String {
        let mut text = String::new();
        for Fault { file, line, what } in &self.faults {
            text += &format!("{}: {}, line {line}: {what}\n", screen.paint().bad("broken"), shown(file));
        }
        if self.known == Some(false) {
            text += &format!("{}: the line that is known is not there\n", screen.paint().bad("broken"));
        }
        if self.good {
            text += "good: ";
        }
        text += &format!("{} lines", self.lines);
        if let (Some(first), Some(last), Some(hash)) = (self.first, self.last, &self.hash) {
            text += &format!(", {first} to {last}, the last is {hash}");
        }
        if self.torn > 0 {
            text += &format!("; {} were cut short when they were written", self.torn);
        }
        if self.dropped > 0 {
            text += &format!("; {} more could not be written", self.dropped);
        }
        text + "\n"
    }
}

fn hash(text: &str) -> Result<[u8; 32], &'static str> {
    const FORM: &str = "a hash is 64 hexadecimal digits";
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(FORM);
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| FORM)?;
    }
    Ok(hash)
}
