use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_claims::{Clock, UnixTime};

/// How many entries a list takes unless told otherwise: at 20-odd bytes each some 330 MB, more than any plausible number of revoked tokens that
/// live at the same time, and little enough that a publisher gone mad does not take the service with it.
pub const DEFAULT_CAPACITY: usize = 16_000_000;

/// More entries than this a list never takes: places in it are counted with 32 bits.
pub const MAX_CAPACITY: usize = 1 << 31;

/// How old a list may get, unless told otherwise, before it calls itself stale: feeds look every second or so, so this is several failures in a
/// row, and it is short beside the life of a token.
pub const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(30);

/// From how many tokens on a filter is worth while, unless told otherwise: fewer fit into a processor's cache, about 5 MB, and so does what is
/// looked up of them.
pub const FILTER_FROM: usize = 1 << 18;

/// To copy so many entries with each addition takes some 20 µs, and a compaction for fewer would not be worth its thread.
const COMPACT_FROM: usize = 4096;

/// How a [`RevocationList`](crate::RevocationList) is to be.
#[derive(Clone)]
#[must_use]
pub struct ListOptions {
    pub(crate) capacity: usize,
    pub(crate) stale_after: Duration,
    pub(crate) filter: Filter,
    pub(crate) filter_from: usize,
    pub(crate) clock: Arc<dyn Clock>,
    /// Of how many recent or ended entries on there is a compaction.
    pub(crate) compact_from: usize,
}

impl ListOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            capacity: DEFAULT_CAPACITY,
            stale_after: DEFAULT_STALE_AFTER,
            filter: Filter::Off,
            filter_from: FILTER_FROM,
            clock: Arc::new(|| UnixTime::from(SystemTime::now())),
            compact_from: COMPACT_FROM,
        }
    }

    /// How many entries (tokens and cut-offs, of all feeds together) it takes; by default [`DEFAULT_CAPACITY`], at most [`MAX_CAPACITY`].
    ///
    /// Beyond it nothing more is taken, and nothing is dropped: the list says that it is [full](crate::ListStatus::full), and so does its log.
    /// Keys are counted apart, so that there is always room for them.
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries.min(MAX_CAPACITY);
        self
    }

    /// From what age on the list calls itself stale; by default [`DEFAULT_STALE_AFTER`].
    pub fn stale_after(mut self, age: Duration) -> Self {
        self.stale_after = age;
        self
    }

    /// Whether there is a filter, and what for; by default none.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// From how many tokens on there is one; by default [`FILTER_FROM`].
    pub fn filter_from(mut self, tokens: usize) -> Self {
        self.filter_from = tokens;
        self
    }

    /// The clock by which entries are cleared away, and the time of what feeds say; by default the system's. A check brings its own time with it.
    ///
    /// It is to be the verifier's: one that is years ahead of it, as the system's is in many a test, takes for over what is not.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl Default for ListOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ListOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListOptions")
            .field("capacity", &self.capacity)
            .field("stale_after", &self.stale_after)
            .field("filter", &self.filter)
            .field("filter_from", &self.filter_from)
            .finish_non_exhaustive()
    }
}

/// Whether revoked tokens are looked for in an approximate filter (a binary fuse filter with 16 bits) too. Keys and cut-offs never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// No. Everything is exact.
    #[default]
    Off,
    /// In front of the exact set, which confirms what it finds: everything is exact, and tokens that are not revoked need not look into a set that
    /// is too large for the processor's cache. It takes 2.3 MB more per million tokens.
    Front,
    /// In place of the exact set, for what comes as a [whole snapshot](crate::Intake::replace): 2.3 MB per million tokens instead of 20.5.
    ///
    /// **One good token in 65,536 is refused** as if it was revoked, the same one every time, until the next snapshot; and what is over is
    /// forgotten only with the next snapshot. What comes between snapshots, and from the same process, is exact.
    Only,
}
