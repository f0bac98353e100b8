//! What was decided, written down: one JSON line for each token that was signed or denied, for each order to the
//! ring, and for each answer that is given again. Each line carries the hash of the one before, so that none can be
//! taken out or changed unseen.
//!
//! - `audit/record.rs`: what a line says. `audit/file.rs`: the file, its chain and its rotation. `audit/writer.rs`: the one
//!   thread that writes. `audit/check.rs`: whether a chain holds.

mod check;
mod file;
mod record;
mod writer;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use check::{AuditFault, AuditHead, AuditReport, MAX_FAULTS, check};
use file::ChainFile;
pub(crate) use record::{Decision, OrderRecord, Record, RepeatRecord, Time, TokenRecord, audiences, cut};
use writer::Message;

use crate::problem::Problem;

/// The longest line, bytes: texts of requests are cut so that none comes near.
pub const MAX_AUDIT_LINE_BYTES: usize = 256 * 1024;

/// Decisions, or batches of them, that wait to be written, at most.
const MAX_QUEUED: usize = 1_024;

/// How long a decision waits to be written. A disk that takes longer is as good as none.
const WRITING_TIME: Duration = Duration::from_secs(5);

/// What becomes of a token whose line cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is not handed out: 503.
    #[default]
    Block,
    /// It is handed out all the same, and the next line says how many lines are missing.
    Drop,
}

/// How it is written.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    when_full: WhenFull,
    subjects: Option<hmac::Key>,
}

impl AuditOptions {
    /// Blocks when full, with subjects as they are.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// [`WhenFull::Block`] unless it is said. It is about tokens; an order that cannot be written down is never carried
    /// out.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// In place of each `sub`, what HMAC-SHA-256 makes of it under this key: whoever has the key can look for a subject, and
    /// nobody can read one.
    #[must_use]
    pub fn hash_subjects(mut self, key: &[u8; 32]) -> Self {
        self.subjects = Some(hmac::Key::new(hmac::HMAC_SHA256, key));
        self
    }
}

/// Where decisions are written down. Clones are the same file; it is closed with the last of them.
#[derive(Clone)]
pub struct Audit {
    sender: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
    options: AuditOptions,
}

impl Audit {
    /// Goes on with the file at `path`, or makes one (0600), and starts the thread that writes it. It is the only one that
    /// does: the file is locked (`flock`).
    ///
    /// When the file is renamed, as log rotation does, the next line goes to a new one at `path`, and the chain goes on
    /// there.
    ///
    /// # Errors
    /// As the operating system says; that it is no regular file, that others may read or write it, that another process
    /// writes it, that its end is no line of such a file; elsewhere than on Unix, always.
    pub fn open(path: impl AsRef<Path>, options: AuditOptions) -> io::Result<Self> {
        Self::of(ChainFile::open(path.as_ref())?, options)
    }

    fn of(file: ChainFile, options: AuditOptions) -> io::Result<Self> {
        let (audit, receiver) = Self::queued(options);
        writer::start(file, receiver, Arc::clone(&audit.dropped))?;
        Ok(audit)
    }

    /// And what is to be written by whoever has the other end.
    fn queued(options: AuditOptions) -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        (Self { sender, dropped: Arc::new(AtomicU64::new(0)), options }, receiver)
    }

    /// Waits until everything is on the disk that was decided by now, and says whether it is.
    pub async fn flush(&self) -> bool {
        self.write(Vec::new(), true).await
    }

    /// Has these written down before anything comes of them, or not: as the options say.
    pub(crate) async fn record(&self, records: Vec<Record>) -> Result<(), Problem> {
        match self.options.when_full {
            WhenFull::Block => self.write(records, false).await.then_some(()).ok_or_else(unwritten),
            WhenFull::Drop => {
                let count = records.len() as u64;
                let message = Message { records, is_synced: false, written: None };
                if self.sender.try_send(message).is_err() {
                    self.dropped.fetch_add(count, Ordering::Relaxed);
                    crate::numbers::audit_dropped(count);
                }
                Ok(())
            }
        }
    }

    /// Has it on the disk before anything comes of it, whatever the options say.
    pub(crate) async fn insist(&self, record: Record) -> Result<(), Problem> {
        self.write(vec![record], true).await.then_some(()).ok_or_else(unwritten)
    }

    /// Has it written down if that is possible; nothing hangs on it.
    pub(crate) fn note(&self, record: Record) {
        if self.sender.try_send(Message { records: vec![record], is_synced: false, written: None }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            crate::numbers::audit_dropped(1);
        }
    }

    /// As `sub` stands in a line.
    pub(crate) fn subject(&self, subject: &str) -> Box<str> {
        match &self.options.subjects {
            None => cut(subject),
            Some(key) => {
                let tag = hmac::sign(key, subject.as_bytes());
                format!("hmac:{}", BASE64_URL_SAFE_NO_PAD.encode(tag)).into()
            }
        }
    }

    async fn write(&self, records: Vec<Record>, is_synced: bool) -> bool {
        let (written, answer) = oneshot::channel();
        let message = Message { records, is_synced, written: Some(written) };
        let writing = async { self.sender.send(message).await.is_ok() && answer.await.unwrap_or(false) };
        timeout(WRITING_TIME, writing).await.unwrap_or(false)
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("when_full", &self.options.when_full).finish_non_exhaustive()
    }
}

fn unwritten() -> Problem {
    Problem::unavailable("audit_unavailable", "what is decided cannot be written down, so nothing is done")
}

#[cfg(all(test, unix))]
mod tests;
