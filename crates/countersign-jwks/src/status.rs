use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{SkippedKey, Unready};

use crate::counters::KeyCounters;
use crate::plan::FETCH_TIMEOUT;
use crate::shared::Shared;

/// The most skipped keys that [`KeyStatus`] names; the rest is only counted.
pub const MAX_SKIPPED_SHOWN: usize = 32;

/// The state of a source, for people and dashboards. `Display` is a line of it, for logs.
///
/// Of several sources it is the best of their states, the sums of their numbers, and of times the worse.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStatus {
    /// In one word.
    pub state: KeyState,
    /// The number of the set in force: it grows with every set that is not the same as the one before; 0 for static
    /// keys. `None` while no set is in force.
    pub generation: Option<u64>,
    /// How many keys are in force.
    pub keys: usize,
    /// The keys of the last believed set that cannot be used, and why; the first [`MAX_SKIPPED_SHOWN`] of them. Their
    /// names are the provider's text: escape them.
    pub skipped: Vec<SkippedKey>,
    /// How many there are.
    pub skipped_total: usize,
    /// How long ago the provider last confirmed or replaced the set.
    pub last_success: Option<Duration>,
    /// For how long the set is good after that: what the provider's caching headers say, within bounds, or else the default.
    pub lifetime: Option<Duration>,
    /// How far the provider's clock was ahead of ours when it last said (`Date`), whole seconds; negative if it was behind. When
    /// tokens are refused as expired or not yet valid, look here first.
    pub clock_offset: Option<i64>,
    /// Why the last fetch failed; `None` if it did not. Control characters are escaped.
    pub last_error: Option<String>,
    /// How many fetches were started. Of many issuers, this and the next two are those of the issuers that run; [`counters`](Self::counters) has those
    /// of all that ever did, and tells them apart.
    pub fetches_started: u64,
    /// How many of them failed, or brought what was not believed.
    pub fetches_failed: u64,
    /// How many brought keys that were not believed: see [`KeyEvent::Refused`](crate::KeyEvent::Refused).
    pub answers_refused: u64,
    /// How long a key that the provider has withdrawn can still be accepted, while the provider answers: the lifetime and one fetch.
    /// `None` for keys that do not change, and while there are none.
    pub withdrawn_after: Option<Duration>,
    /// How long it can while the provider does not answer; then no token is accepted ([`max_stale`](crate::Remote::max_stale)).
    pub max_stale: Option<Duration>,
    /// How many requests wait for a key at this moment.
    pub waiting: usize,
    /// Of how many sources this is the state: 1 of a single one; those that run of a union and of many issuers.
    pub sources: usize,
    /// How many of them have keys that are stale ([`KeyState::Stale`]). The state of several is the best of theirs, which hides that one is.
    pub stale_sources: usize,
    /// What has happened so far.
    pub counters: KeyCounters,
}

/// The state of a source, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// Keys that do not change.
    Static,
    /// The first fetch has not ended yet, or not begun: issuers that begin with their first token.
    Starting,
    /// There are keys, looked at within their lifetime.
    Ready,
    /// There are keys, but the last success is longer ago than their lifetime; they are used until `max_stale`.
    Stale,
    /// The provider has withdrawn all its keys, and confirmed it.
    Empty,
    /// There are no keys.
    Unusable(Unready),
}

pub(crate) fn status_of(shared: &Arc<Shared>) -> KeyStatus {
    let running = shared.ensure_running();
    let progress = shared.progress().borrow().clone();
    let set = shared.snapshot();
    let state = match &set {
        Some(set) if set.is_empty() => KeyState::Empty,
        Some(_) if progress.stale => KeyState::Stale,
        Some(_) => KeyState::Ready,
        None if running.is_err() => KeyState::Unusable(Unready::NoRuntime),
        None => match progress.unready {
            Some(Unready::Starting) => KeyState::Starting,
            Some(reason) => KeyState::Unusable(reason),
            // The task hangs, or it would have said so.
            None => KeyState::Unusable(Unready::TooOld),
        },
    };
    KeyStatus {
        state,
        generation: set.as_ref().map(|set| set.generation()),
        keys: set.as_ref().map_or(0, |set| set.len()),
        skipped: progress.skipped.to_vec(),
        skipped_total: progress.skipped_total,
        last_success: progress.confirmed.map(|then| shared.now().age(then)),
        lifetime: set.is_some().then_some(progress.lifetime),
        clock_offset: progress.clock_offset,
        last_error: progress.last_error.map(|error| error.as_ref().into()),
        fetches_started: progress.started,
        fetches_failed: progress.failed,
        answers_refused: progress.refused,
        withdrawn_after: set
            .is_some()
            .then(|| progress.lifetime.saturating_add(FETCH_TIMEOUT + shared.settings().patience())),
        max_stale: Some(shared.settings().lifetimes.max_stale()),
        waiting: shared.waiting(),
        sources: 1,
        stale_sources: usize::from(state == KeyState::Stale),
        counters: shared.counters().read(),
    }
}

impl KeyStatus {
    pub(crate) fn new(state: KeyState) -> Self {
        Self {
            state,
            generation: None,
            keys: 0,
            skipped: Vec::new(),
            skipped_total: 0,
            last_success: None,
            lifetime: None,
            clock_offset: None,
            last_error: None,
            fetches_started: 0,
            fetches_failed: 0,
            answers_refused: 0,
            withdrawn_after: None,
            max_stale: None,
            waiting: 0,
            sources: 0,
            stale_sources: 0,
            counters: KeyCounters::default(),
        }
    }

    /// Of two sources together: the better state, the sums, and of times the worse.
    pub(crate) fn beside(mut self, other: Self) -> Self {
        if other.state.rank() < self.state.rank() {
            self.state = other.state;
        }
        self.generation = None;
        self.keys += other.keys;
        self.skipped.extend(other.skipped);
        self.skipped.truncate(MAX_SKIPPED_SHOWN);
        self.skipped_total += other.skipped_total;
        self.last_success = self.last_success.max(other.last_success);
        self.lifetime = self.lifetime.max(other.lifetime);
        self.clock_offset =
            [self.clock_offset, other.clock_offset].into_iter().flatten().max_by_key(|offset| offset.unsigned_abs());
        self.last_error = self.last_error.or(other.last_error);
        self.fetches_started += other.fetches_started;
        self.fetches_failed += other.fetches_failed;
        self.answers_refused += other.answers_refused;
        self.withdrawn_after = self.withdrawn_after.max(other.withdrawn_after);
        self.max_stale = self.max_stale.max(other.max_stale);
        self.waiting += other.waiting;
        self.sources += other.sources;
        self.stale_sources += other.stale_sources;
        self.counters = self.counters.plus(&other.counters);
        self
    }
}

/// In one line, for logs.
impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, keys, counters, .. } = self;
        write!(f, "{state}: {keys} keys")?;
        if self.sources != 1 {
            write!(f, " of {} sources", self.sources)?;
        }
        if let Some(generation) = self.generation {
            write!(f, ", generation {generation}")?;
        }
        if let Some(age) = self.last_success {
            write!(f, ", confirmed {} s ago", age.as_secs())?;
        }
        if self.skipped_total > 0 {
            write!(f, ", {} skipped", self.skipped_total)?;
        }
        write!(
            f,
            "; {} fetches, {} failed, {} refused",
            counters.fetches(),
            counters.fetches_failed,
            counters.fetches_refused
        )?;
        let suppressed = counters.looks_suppressed();
        write!(
            f,
            "; {} unknown keys asked for, {suppressed} without another fetch, {} waiting",
            counters.unknown_keys, self.waiting
        )?;
        match &self.last_error {
            Some(error) => write!(f, "; the last fetch failed: {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.write_str("static"),
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::Stale => f.write_str("stale"),
            Self::Empty => f.write_str("empty"),
            Self::Unusable(reason) => write!(f, "unusable ({reason})"),
        }
    }
}

impl KeyState {
    /// The better, the less.
    fn rank(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Static => 1,
            Self::Stale => 2,
            Self::Empty => 3,
            Self::Starting => 4,
            Self::Unusable(_) => 5,
        }
    }
}
