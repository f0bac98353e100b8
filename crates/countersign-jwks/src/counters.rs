//! What is counted of a source: how its looks went, and what became of requests that lacked a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets of [`FetchTimes`]: from a file, or a provider in the same data centre, to the longest time that a fetch has
/// (5 s). What takes longer has waited for its turn or for the machine.
pub const FETCH_TIME_BOUNDS: [Duration; 8] = {
    let ms = Duration::from_millis;
    [ms(10), ms(50), ms(100), ms(250), ms(500), ms(1_000), ms(2_000), ms(5_000)]
};

const BUCKETS: usize = FETCH_TIME_BOUNDS.len() + 1;

/// What has happened so far. Nothing here ever falls, as long as the source exists; of many issuers not even when one is let go of.
///
/// Requests are counted where they ask for a key that is not in force; those whose key is there are not counted, and pay nothing. Static
/// keys count nothing. A request that asks a union is counted by each of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyCounters {
    /// Fetches that were started by the schedule: the first, those ahead of expiry, retries, because a file has changed or the clocks disagree.
    pub fetches_scheduled: u64,
    /// Those that a request has provoked: its key was not there, or its signature did not match.
    pub fetches_requested: u64,
    /// Those that the application has asked for: [`refresh`](crate::KeysHandle::refresh), [`fresh_within`](crate::KeysHandle::fresh_within).
    pub fetches_manual: u64,
    /// Fetches that brought another set of keys than before.
    pub fetches_changed: u64,
    /// Those that brought the same keys again, or the word that nothing has changed (304).
    pub fetches_unchanged: u64,
    /// Those whose answer was not believed: see [`KeyEvent::Refused`](crate::KeyEvent::Refused).
    pub fetches_refused: u64,
    /// Those that brought no keys. Other than in [`KeyStatus::fetches_failed`](crate::KeyStatus::fetches_failed), those that were not believed
    /// are not among them.
    pub fetches_failed: u64,
    /// Those that were put off before they began, because too many of other issuers' were under way: no outcome and no time.
    pub fetches_postponed: u64,
    /// How long fetches took that have an outcome.
    pub fetch_times: FetchTimes,
    /// Requests that asked for a key that is not in the set in force: the sum of `looks_provoked` and all that is `suppressed`. A request that meanwhile
    /// finds another set in force than the one it has looked at asks that one first.
    pub unknown_keys: u64,
    /// Those that started a fetch in the same moment.
    pub looks_provoked: u64,
    /// Those that did not, because it was known that no key has that name: a look within the last 5 s had been without it, or it is too long.
    pub suppressed_absent: u64,
    /// Those that did not, because a fetch was under way already.
    pub suppressed_in_flight: u64,
    /// Those that did not, because the last fetch that was asked for was too short a time ago, or the provider wished to be left alone. The fetch that
    /// follows is for all of them.
    pub suppressed_spaced: u64,
    /// Those that were sent away because 1,024 others had asked and not been heard yet.
    pub suppressed_crowded: u64,
    /// Requests that found no keys in force at all: before the first fetch had ended, and when the keys were too old. Their keys are not called unknown.
    pub without_keys: u64,
    /// Waits that ended without a verdict: the key may be there later (429), or no keys were to be had (503).
    pub waits_unanswered: u64,
    /// Waits that somebody gave up: the client went away, or another member of a union had the key.
    pub waits_abandoned: u64,
    /// Reads of a [`KeyCache`](crate::KeyCache) that put its keys in force: one at most with each start of the task.
    pub cache_hits: u64,
    /// Those that did not: nothing was kept, it could not be read or believed, or it came too late.
    pub cache_misses: u64,
}

impl KeyCounters {
    /// Fetches that were started, for whatever reason. What has no outcome yet is under way, postponed, or went with its runtime.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.fetches_scheduled + self.fetches_requested + self.fetches_manual
    }

    /// Requests for unknown keys that did not start a fetch, for whatever reason.
    #[must_use]
    pub fn looks_suppressed(&self) -> u64 {
        self.suppressed_absent + self.suppressed_in_flight + self.suppressed_spaced + self.suppressed_crowded
    }

    /// The sums.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for (field, of_other) in self.fields().into_iter().zip({ *other }.fields()) {
            *field += *of_other;
        }
        self.fetch_times = self.fetch_times.plus(&other.fetch_times);
        self
    }

    /// All but the times, in the order of [`Count`].
    fn fields(&mut self) -> [&mut u64; COUNTS + 1] {
        [
            &mut self.fetches_scheduled,
            &mut self.fetches_requested,
            &mut self.fetches_manual,
            &mut self.fetches_changed,
            &mut self.fetches_unchanged,
            &mut self.fetches_refused,
            &mut self.fetches_failed,
            &mut self.fetches_postponed,
            &mut self.looks_provoked,
            &mut self.suppressed_absent,
            &mut self.suppressed_in_flight,
            &mut self.suppressed_spaced,
            &mut self.suppressed_crowded,
            &mut self.without_keys,
            &mut self.waits_unanswered,
            &mut self.waits_abandoned,
            &mut self.cache_hits,
            &mut self.cache_misses,
            &mut self.unknown_keys,
        ]
    }
}

/// How long fetches took: a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchTimes {
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
    /// How many took at most as long as the bound in [`FETCH_TIME_BOUNDS`] and longer than the one before it; the last is of those that took
    /// longer than any.
    pub buckets: [u64; BUCKETS],
}

impl FetchTimes {
    fn plus(mut self, other: &Self) -> Self {
        self.count += other.count;
        self.sum += other.sum;
        for (bucket, of_other) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += of_other;
        }
        self
    }
}

/// What can happen, in the order of [`KeyCounters::fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Scheduled,
    Requested,
    Manual,
    Changed,
    Unchanged,
    Refused,
    Failed,
    Postponed,
    Provoked,
    Absent,
    InFlight,
    Spaced,
    Crowded,
    WithoutKeys,
    Unanswered,
    Abandoned,
    CacheHit,
    CacheMiss,
}

const COUNTS: usize = Count::CacheMiss as usize + 1;

/// The counters of a source; each count is one of `of_all` too. So what issuers have counted stays when they are let go of.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    counts: [AtomicU64; COUNTS],
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    took: AtomicU64,
    of_all: Option<Arc<Counters>>,
}

impl Counters {
    pub(crate) fn within(of_all: Option<Arc<Self>>) -> Self {
        Self { of_all, ..Self::default() }
    }

    pub(crate) fn add(&self, count: Count) {
        for counters in self.chain() {
            counters.counts[count as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A fetch has ended after so long.
    pub(crate) fn add_time(&self, took: Duration) {
        let bucket = FETCH_TIME_BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BUCKETS - 1);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        for counters in self.chain() {
            counters.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            counters.took.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> KeyCounters {
        let mut read = KeyCounters::default();
        for (field, count) in read.fields().into_iter().zip(&self.counts) {
            *field = count.load(Ordering::Relaxed);
        }
        read.unknown_keys = read.looks_provoked + read.looks_suppressed();
        for (bucket, count) in read.fetch_times.buckets.iter_mut().zip(&self.buckets) {
            *bucket = count.load(Ordering::Relaxed);
        }
        read.fetch_times.count = read.fetch_times.buckets.iter().sum();
        read.fetch_times.sum = Duration::from_nanos(self.took.load(Ordering::Relaxed));
        read
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |counters| counters.of_all.as_deref())
    }
}

/// The sources that share a name in statistics: a listed issuer's, or those of all tenants of a template.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    pub(crate) counters: Arc<Counters>,
}

impl Group {
    pub(crate) fn new(name: impl Into<Arc<str>>, of_all: &Arc<Counters>) -> Arc<Self> {
        let counters = Arc::new(Counters::within(Some(Arc::clone(of_all))));
        Arc::new(Self { name: name.into(), counters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Count; COUNTS] = [
        Count::Scheduled,
        Count::Requested,
        Count::Manual,
        Count::Changed,
        Count::Unchanged,
        Count::Refused,
        Count::Failed,
        Count::Postponed,
        Count::Provoked,
        Count::Absent,
        Count::InFlight,
        Count::Spaced,
        Count::Crowded,
        Count::WithoutKeys,
        Count::Unanswered,
        Count::Abandoned,
        Count::CacheHit,
        Count::CacheMiss,
    ];

    #[test]
    fn each_count_has_its_field_and_is_one_of_all() {
        let all = Arc::new(Counters::default());
        let counters = Counters::within(Some(Arc::clone(&all)));
        for (index, count) in ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index);
            (0..=index).for_each(|_| counters.add(count));
        }
        let read = counters.read();
        assert_eq!((read.fetches_scheduled, read.fetches_requested, read.fetches_manual), (1, 2, 3));
        assert_eq!((read.fetches_changed, read.fetches_unchanged), (4, 5));
        assert_eq!((read.fetches_refused, read.fetches_failed, read.fetches_postponed), (6, 7, 8));
        assert_eq!((read.looks_provoked, read.suppressed_absent, read.suppressed_in_flight), (9, 10, 11));
        assert_eq!((read.suppressed_spaced, read.suppressed_crowded, read.without_keys), (12, 13, 14));
        assert_eq!((read.waits_unanswered, read.waits_abandoned), (15, 16));
        assert_eq!((read.cache_hits, read.cache_misses), (17, 18));
        assert_eq!((read.fetches(), read.looks_suppressed(), read.unknown_keys), (6, 46, 55));
        assert_eq!(all.read(), read);
        let twice = read.plus(&read);
        assert_eq!((twice.cache_misses, twice.unknown_keys, twice.fetches_scheduled), (36, 110, 2));
    }

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_fits() {
        let counters = Counters::default();
        for (ms, bucket) in [(0, 0), (10, 0), (11, 1), (5_000, 7), (5_001, 8), (1_000_000, 8)] {
            let before = counters.read().fetch_times;
            counters.add_time(Duration::from_millis(ms));
            let after = counters.read().fetch_times;
            assert_eq!((after.count, after.buckets[bucket]), (before.count + 1, before.buckets[bucket] + 1), "{ms}");
            assert_eq!(after.sum - before.sum, Duration::from_millis(ms));
        }
        let times = counters.read().fetch_times;
        assert_eq!(times.plus(&times).buckets, times.buckets.map(|bucket| 2 * bucket));
    }
}
