//! The thread that writes: takes whatever has come since the last write, and writes it at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::file::ChainFile;
use super::record::Record;
use crate::numbers;

/// Messages of one write, at most: they are in memory once more as text.
pub(super) const MAX_TOGETHER: usize = 256;

pub(super) struct Message {
    pub(super) records: Vec<Record>,
    /// To be on the disk, not only in the operating system's memory.
    pub(super) is_synced: bool,
    /// Who waits to hear whether it is written; nobody, if that changes nothing.
    pub(super) written: Option<oneshot::Sender<bool>>,
}

/// It ends with the last sender, once everything is written.
pub(super) fn start(file: ChainFile, receiver: mpsc::Receiver<Message>, dropped: Arc<AtomicU64>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("countersign-audit".to_owned());
    thread.spawn(move || run(file, receiver, &dropped)).map(drop)
}

fn run(mut file: ChainFile, mut receiver: mpsc::Receiver<Message>, dropped: &AtomicU64) {
    let mut was_written = true;
    while let Some(first) = receiver.blocking_recv() {
        let mut messages = gathered(first, &mut receiver);
        // Whoever has given up waiting has been told that nothing was done.
        messages.retain(|message| message.written.as_ref().is_none_or(|waiting| !waiting.is_closed()));
        let missing = dropped.load(Ordering::Relaxed);
        let result = write(&mut file, &messages, missing);
        let is_written = result.is_ok();
        if let Err(error) = result {
            numbers::audit_failed();
            if was_written {
                tracing::error!(target: "countersign::service", %error, "the audit log cannot be written");
            }
            let lost = messages.iter().filter(|message| message.written.is_none());
            let lost = lost.map(|message| message.records.len() as u64).sum();
            dropped.fetch_add(lost, Ordering::Relaxed);
            numbers::audit_dropped(lost);
        } else {
            if messages.iter().any(|message| !message.records.is_empty()) {
                dropped.fetch_sub(missing, Ordering::Relaxed);
            }
            if !was_written {
                tracing::info!(target: "countersign::service", "the audit log is written again");
            }
        }
        was_written = is_written;
        for waiting in messages.into_iter().filter_map(|message| message.written) {
            // Who does not wait any more has its answer.
            let _ = waiting.send(is_written);
        }
    }
    let _ = file.sync();
}

/// Whatever is there already, as far as it goes into one write.
pub(super) fn gathered(first: Message, receiver: &mut mpsc::Receiver<Message>) -> Vec<Message> {
    let more = std::iter::from_fn(|| receiver.try_recv().ok()).take(MAX_TOGETHER - 1);
    std::iter::once(first).chain(more).collect()
}

fn write(file: &mut ChainFile, messages: &[Message], missing: u64) -> io::Result<()> {
    let mut records = messages.iter().flat_map(|message| &message.records).peekable();
    if records.peek().is_some() {
        file.follow()?;
        file.append(records, missing)?;
    }
    if messages.iter().any(|message| message.is_synced) {
        file.sync()?;
    }
    Ok(())
}
