//! What the task tells of what happens: in the status, in events, in the log.

use std::sync::Arc;
use std::time::Duration;

use countersign_token::{Answer, KeySet, MAX_KID_BYTES, SkippedKey};
use tokio::sync::oneshot;

use crate::cache::{Kept, Remembered};
use crate::events::KeyEvent;
use crate::load::{Document, Landing};
use crate::plan::{Disbelief, Event, Plan, Restored};
use crate::shared::Shared;
use crate::status::MAX_SKIPPED_SHOWN;

/// The longest error text that is kept, characters: some come from the peer.
const MAX_ERROR_CHARS: usize = 512;

/// How a fetch ended.
#[derive(Default)]
pub(super) struct End {
    pub(super) error: Option<String>,
    /// Of a key set that it brought.
    pub(super) skipped: Option<Vec<SkippedKey>>,
    pub(super) clock_offset: Option<i64>,
    pub(super) disbelief: Option<Disbelief>,
    /// What it was read from.
    body: Option<Arc<[u8]>>,
    /// Whether another set is in force now than before.
    pub(super) is_new: bool,
    /// Whether it has other keys.
    pub(super) is_changed: bool,
}

impl End {
    /// `None` of a fetch that has not begun.
    pub(super) fn of(landing: Landing, issuer: Option<&Arc<str>>) -> (Event<oneshot::Sender<Answer>>, Option<Self>) {
        match landing {
            Landing::Postponed => (Event::Postponed, None),
            Landing::Fetched(document, hints) => {
                let Document { keys, skipped, body } = *document;
                let (skipped, clock_offset) = (Some(skipped), hints.clock_offset);
                let end = Self { skipped, clock_offset, body, ..Self::default() };
                (Event::Fetched { set: Box::new(bound(keys, issuer)), hints }, Some(end))
            }
            Landing::NotModified(hints) => {
                let end = Self { clock_offset: hints.clock_offset, ..Self::default() };
                (Event::NotModified(hints), Some(end))
            }
            Landing::Failed { error, retry_after } => {
                (Event::Failed { retry_after }, Some(Self { error: Some(error), ..Self::default() }))
            }
        }
    }

    pub(super) fn disbelieved(&self, disbelief: Disbelief) -> String {
        match disbelief {
            Disbelief::Empty => {
                let skipped = self.skipped.as_ref().map_or(0, Vec::len);
                format!("the key set has no usable key ({skipped} skipped)")
            }
            Disbelief::Older => "the key set is older than the one in force: a cache on the way lags behind".into(),
            Disbelief::Unasked => "status 304 to a request that was not conditional".into(),
            Disbelief::Outlived => "the machine was suspended, or its clock was set, during the fetch".into(),
        }
    }
}

/// Takes down how a fetch ended. Returns why it failed, if it did; of that there is an event too.
pub(super) fn report_end(shared: &Shared, end: End, events: &mut Vec<KeyEvent>) -> Option<Arc<str>> {
    let error: Option<Arc<str>> = end.error.map(|error| shown(&error).into());
    if let Some(error) = &error {
        let (source, reason) = (shared.label(), Arc::clone(error));
        if end.disbelief.is_some() {
            tracing::warn!(%source, %reason, "did not believe the keys that were fetched");
            events.push(KeyEvent::Refused { reason });
        } else {
            tracing::warn!(%source, error = %reason, "could not fetch the keys");
            events.push(KeyEvent::Failed { error: reason });
        }
    }
    shared.report(|progress| {
        if error.is_some() {
            progress.failed += 1;
            progress.refused += u64::from(end.disbelief.is_some());
        } else if let Some(skipped) = end.skipped {
            progress.document = end.body;
            progress.skip(skipped.into_iter().map(shortened));
        }
        progress.clock_offset = end.clock_offset.or(progress.clock_offset);
        progress.last_error.clone_from(&error);
        false
    });
    error
}

/// Takes down what the plan says, and returns whether somebody may wait for that.
pub(super) fn report_plan<W>(shared: &Shared, plan: &Plan<W>) -> bool {
    let (unready, confirmed, started) = (plan.unready(), plan.confirmed(), plan.fetches());
    let (lifetime, stale) = plan.lifetime();
    let mut has_news = false;
    shared.report(|progress| {
        has_news = progress.unready != unready || progress.started != started || progress.stale != stale;
        progress.unready = unready;
        progress.confirmed = confirmed;
        progress.generated = plan.generated_at();
        (progress.lifetime, progress.stale) = (lifetime, stale);
        progress.started = started;
        progress.retry_at = plan.next_look();
        has_news |= progress.is_looking != plan.is_looking();
        progress.is_looking = plan.is_looking();
        false
    });
    has_news
}

/// Remembers which keys went with the set before.
pub(super) fn report_withdrawn(shared: &Shared, old: Option<&KeySet>, new: &KeySet) {
    let Some(old) = old.filter(|old| old.generation() != new.generation()) else { return };
    let now = shared.now();
    shared.report(|progress| {
        Arc::make_mut(&mut progress.withdrawn).replaced(old, new, now);
        false
    });
}

/// A set that somebody has kept, while the plan decides whether it counts.
pub(super) struct Memory {
    age: Duration,
    skipped: Vec<SkippedKey>,
    body: Option<Arc<[u8]>>,
    importer: Option<oneshot::Sender<bool>>,
}

impl Memory {
    /// What the plan is told of it, and what is told of it if that counts.
    pub(super) fn of(
        remembered: Remembered,
        importer: Option<oneshot::Sender<bool>>,
        issuer: Option<&Arc<str>>,
    ) -> (Restored, Self) {
        let Remembered { document: Document { keys, skipped, body }, age, generated } = remembered;
        (Restored { set: bound(keys, issuer), age, generated }, Self { age, skipped, body, importer })
    }

    /// Returns who wants to hear of it.
    pub(super) fn takes_effect(
        self,
        shared: &Shared,
        keys: &KeySet,
        events: &mut Vec<KeyEvent>,
    ) -> Option<oneshot::Sender<bool>> {
        let age = self.age;
        tracing::info!(source = %shared.label(), keys = keys.len(), age = age.as_secs(), "keys restored");
        events.push(KeyEvent::Restored { keys: keys.len(), age });
        shared.report(|progress| {
            progress.document = self.body;
            progress.skip(self.skipped.into_iter().map(shortened));
            false
        });
        self.importer
    }
}

/// What the cache has kept, if it is of use.
pub(super) fn read_back(shared: &Shared, kept: Kept) -> Option<Remembered> {
    let source = shared.label();
    match kept {
        Kept::Loaded(Ok(Some(snapshot))) => match shared.read(&snapshot) {
            Ok(remembered) => return Some(remembered),
            Err(error) => tracing::warn!(%source, %error, "the cached keys are of no use"),
        },
        Kept::Loaded(Ok(None)) | Kept::Stored(Ok(())) => {}
        Kept::Loaded(Err(error)) => {
            tracing::warn!(%source, error = %shown(&error.to_string()), "the cached keys could not be read");
        }
        Kept::Stored(Err(error)) => {
            tracing::warn!(%source, error = %shown(&error.to_string()), "the keys could not be cached");
        }
    }
    None
}

fn bound(keys: KeySet, issuer: Option<&Arc<str>>) -> KeySet {
    match issuer {
        Some(issuer) => keys.bound_to_issuer(Arc::clone(issuer)),
        None => keys,
    }
}

/// An error text that may be somebody else's, as it can be shown.
pub(crate) fn shown(error: &str) -> String {
    let shown = |char: char| match char {
        // They disturb no log.
        '\'' | '"' => char.to_string(),
        char => char.escape_debug().to_string(),
    };
    error.chars().map(shown).flat_map(|shown| shown.chars().collect::<Vec<_>>()).take(MAX_ERROR_CHARS).collect()
}

pub(super) fn log_published(shared: &Shared, keys: &KeySet, skipped: &[SkippedKey]) {
    log_skipped(shared, skipped);
    let mut reasons: Vec<String> = skipped.iter().map(|key| key.reason.to_string()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    tracing::info!(
        source = %shared.label(),
        generation = keys.generation(),
        keys = keys.len(),
        skipped = skipped.len(),
        reasons = ?reasons,
        "keys published",
    );
}

pub(super) fn log_skipped(shared: &Shared, skipped: &[SkippedKey]) {
    for key in skipped.iter().take(MAX_SKIPPED_SHOWN).cloned().map(shortened) {
        let source = shared.label();
        tracing::debug!(%source, index = key.index, kid = ?key.kid, reason = %key.reason, "key skipped");
    }
}

/// A name that is too long to be looked up is too long to be kept.
fn shortened(mut key: SkippedKey) -> SkippedKey {
    let fits = |(index, char): &(usize, char)| index + char.len_utf8() <= MAX_KID_BYTES;
    key.kid = key.kid.map(|kid| kid.char_indices().take_while(fits).map(|(_, char)| char).collect::<String>().into());
    key
}
