//! What is counted of requests: by each thread in a shard, so that cores do not all write the same line of memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_verifier::number_of_thread;

use crate::observe::{Judged, Outcome};
use crate::refusal::Refusal;

/// As many as there are threads on most machines; more threads share.
pub(crate) const SHARDS: usize = 16;

/// The most issuers that are told apart, in the order in which they come; all others are one. Each is a few hundred series at worst.
pub const MAX_ISSUER_LABELS: usize = 16;

/// The upper bounds of the buckets of verification times, seconds: from a refusal without cryptography, over one check of a signature, which is
/// tens to hundreds of microseconds, to what can only be a machine without time.
pub const VERIFICATION_BUCKETS: [f64; BOUNDS] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1];

/// The upper bounds of the buckets of waits for a key, seconds: from a provider in the same data centre to more than the two seconds that a
/// request waits at most.
pub const WAIT_BUCKETS: [f64; BOUNDS] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0];

const BOUNDS: usize = 12;

/// The label where there is none: no reason, or no issuer that is known.
pub(crate) const NONE: &str = "none";
/// The label of all that is not in a table.
pub(crate) const OTHER: &str = "other";

const OUTCOMES: usize = Judged::NAMES.len();
/// None, each code, and other.
const REASONS: usize = Refusal::CODES.len() + 2;
/// None, those told apart, and other.
const ISSUERS: usize = MAX_ISSUER_LABELS + 2;

/// Where a series of requests is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    issuer: usize,
    outcome: usize,
    reason: usize,
}

/// A histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// Of verifications that accepted a token.
    Accepted,
    /// Of those that refused one.
    Refused,
    /// Of waits for a key.
    Waits,
}

impl Times {
    pub(crate) const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Waits];

    pub(crate) fn bounds(self) -> &'static [f64; BOUNDS] {
        match self {
            Self::Accepted | Self::Refused => &VERIFICATION_BUCKETS,
            Self::Waits => &WAIT_BUCKETS,
        }
    }
}

/// How many, and how many nanoseconds together, in each bucket; the last is of what is longer than any bound.
pub(crate) type Buckets = [(u64, u64); BOUNDS + 1];

pub(crate) struct Counts {
    issuers: [OnceLock<Box<str>>; MAX_ISSUER_LABELS],
    shards: Box<[Shard]>,
}

/// Two lines of memory are fetched together by some processors.
#[repr(align(128))]
struct Shard {
    /// Made when the first request of that issuer comes to this shard.
    of_issuers: [OnceLock<Box<OfIssuer>>; ISSUERS],
    times: [[Bucket; BOUNDS + 1]; Times::ALL.len()],
}

#[repr(align(128))]
struct OfIssuer([[AtomicU64; REASONS]; OUTCOMES]);

struct Bucket {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            issuers: [const { OnceLock::new() }; MAX_ISSUER_LABELS],
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
        }
    }

    /// Without a lock, and without an allocation but at the first request of an issuer on each shard.
    pub(crate) fn add(&self, judged: &Judged<'_>) {
        let shard = &self.shards[number_of_thread() % SHARDS];
        let series = Series {
            issuer: self.issuer_at(judged.issuer()),
            outcome: Judged::NAMES.iter().position(|name| *name == judged.name()).unwrap_or_default(),
            reason: reason_at(judged.reason()),
        };
        let of_issuer = shard.of_issuers[series.issuer].get_or_init(|| Box::new(OfIssuer::new()));
        of_issuer.0[series.outcome][series.reason].fetch_add(1, Ordering::Relaxed);
        if let (Some(times), Some(took)) = (times_of(judged.outcome()), judged.took()) {
            shard.add_time(times, took);
        }
        if let Some(waited) = judged.waited() {
            shard.add_time(Times::Waits, waited);
        }
    }

    /// The totals of all series that have any.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (Series, u64)> {
        let all = (0..ISSUERS).flat_map(|issuer| (0..OUTCOMES).map(move |outcome| (issuer, outcome)));
        all.flat_map(|(issuer, outcome)| (0..REASONS).map(move |reason| Series { issuer, outcome, reason }))
            .map(|series| (series, self.total(series)))
            .filter(|(_, total)| *total > 0)
    }

    pub(crate) fn times(&self, times: Times) -> Buckets {
        let mut total = Buckets::default();
        for shard in &self.shards {
            for ((count, nanos), bucket) in total.iter_mut().zip(&shard.times[times as usize]) {
                *count += bucket.count.load(Ordering::Relaxed);
                *nanos = nanos.wrapping_add(bucket.nanos.load(Ordering::Relaxed));
            }
        }
        total
    }

    /// The labels of a series: outcome, reason, issuer.
    pub(crate) fn labels(&self, series: Series) -> (&'static str, &'static str, &str) {
        let reason = match series.reason {
            0 => NONE,
            at => Refusal::CODES.get(at - 1).copied().unwrap_or(OTHER),
        };
        let issuer = match series.issuer {
            0 => NONE,
            at => self.issuers.get(at - 1).and_then(OnceLock::get).map_or(OTHER, |issuer| &**issuer),
        };
        (Judged::NAMES[series.outcome], reason, issuer)
    }

    fn total(&self, series: Series) -> u64 {
        let of_issuer = self.shards.iter().filter_map(|shard| shard.of_issuers[series.issuer].get());
        of_issuer.map(|of_issuer| of_issuer.0[series.outcome][series.reason].load(Ordering::Relaxed)).sum()
    }

    fn issuer_at(&self, issuer: Option<&str>) -> usize {
        let Some(issuer) = issuer else { return 0 };
        let at = self.issuers.iter().position(|known| **known.get_or_init(|| issuer.into()) == *issuer);
        at.unwrap_or(MAX_ISSUER_LABELS) + 1
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            of_issuers: [const { OnceLock::new() }; ISSUERS],
            times: [const { [const { Bucket { count: AtomicU64::new(0), nanos: AtomicU64::new(0) } }; BOUNDS + 1] };
                Times::ALL.len()],
        }
    }

    fn add_time(&self, times: Times, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = times.bounds().iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS);
        let bucket = &self.times[times as usize][at];
        // A sum that is ahead of its count is made up for later; one that is behind would be of no time at all.
        bucket.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        bucket.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl OfIssuer {
    fn new() -> Self {
        Self([const { [const { AtomicU64::new(0) }; REASONS] }; OUTCOMES])
    }
}

/// Only where somebody has looked at a token, or for one.
fn times_of(outcome: Outcome<'_>) -> Option<Times> {
    if outcome.verified().is_some() { Some(Times::Accepted) } else { outcome.refusal().map(|_| Times::Refused) }
}

fn reason_at(reason: Option<&str>) -> usize {
    let Some(reason) = reason else { return 0 };
    Refusal::CODES.binary_search(&reason).unwrap_or(REASONS - 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed::RequestRefusal;

    fn refused<'r>(refusal: &'r Refusal, issuer: Option<&'r str>) -> Judged<'r> {
        let took = Some(Duration::from_micros(60));
        Judged { outcome: Outcome::Refused(refusal), issuer, took, waited: None, by_handler: false }
    }

    #[test]
    fn each_series_is_counted_by_itself_on_whichever_thread() {
        let counts = Counts::new();
        std::thread::scope(|scope| {
            for _ in 0..3 * SHARDS {
                scope.spawn(|| {
                    counts.add(&refused(&Refusal::NoCredentials, None));
                    counts.add(&refused(&Refusal::ManyCredentials, Some("https://a.example")));
                });
            }
        });
        let totals: Vec<_> = counts.totals().map(|(series, total)| (counts.labels(series), total)).collect();
        assert_eq!(
            totals,
            [
                (("refused", "no_credentials", NONE), 3 * SHARDS as u64),
                (("refused", "many_credentials", "https://a.example"), 3 * SHARDS as u64)
            ]
        );
        assert_eq!(counts.times(Times::Refused)[3], (6 * SHARDS as u64, 6 * SHARDS as u64 * 60_000));
        assert_eq!(counts.times(Times::Accepted), Buckets::default());
    }

    #[test]
    fn more_issuers_than_are_told_apart_are_one() {
        let counts = Counts::new();
        for issuer in 0..10 * MAX_ISSUER_LABELS {
            let issuer = format!("https://{issuer}.example");
            counts.add(&refused(&Refusal::NoCredentials, Some(&issuer)));
            counts.add(&refused(&Refusal::NoCredentials, Some(&issuer)));
        }
        let totals: Vec<_> = counts.totals().map(|(series, total)| (counts.labels(series).2, total)).collect();
        assert_eq!(totals.len(), MAX_ISSUER_LABELS + 1);
        assert_eq!(totals[0], ("https://0.example", 2));
        assert_eq!(totals[MAX_ISSUER_LABELS], (OTHER, 2 * 9 * MAX_ISSUER_LABELS as u64));
    }

    #[test]
    fn a_code_that_is_in_no_table_is_counted_as_other() {
        let counts = Counts::new();
        let labels = |reason| counts.labels(Series { issuer: 0, outcome: 0, reason: reason_at(reason) }).1;
        assert_eq!(labels(None), NONE);
        assert_eq!(labels(Some("of tomorrow")), OTHER);
        for code in Refusal::CODES {
            assert_eq!(labels(Some(code)), *code);
        }
    }

    #[test]
    fn refusals_of_signed_requests_are_counted_for_what_they_are() {
        let counts = Counts::new();
        for refusal in [RequestRefusal::Used, RequestRefusal::CannotRemember, RequestRefusal::BodyTooLarge { most: 1 }]
        {
            counts.add(&Judged { by_handler: true, ..refused(&Refusal::Request(refusal), None) });
        }
        let reasons: Vec<_> = counts.totals().map(|(series, total)| (counts.labels(series).1, total)).collect();
        assert_eq!(reasons, [("request_body_too_large", 1), ("request_memory_full", 1), ("request_used", 1)]);
    }

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_fits() {
        let counts = Counts::new();
        for (waited, at) in [(0, 0), (1_000, 0), (1_001, 1), (2_000_000, 10), (5_000_001, 12)] {
            let before = counts.times(Times::Waits)[at];
            let waited = Some(Duration::from_micros(waited));
            counts.add(&Judged { waited, ..refused(&Refusal::NoCredentials, None) });
            let after = counts.times(Times::Waits)[at];
            assert_eq!(after.0, before.0 + 1, "{waited:?}");
        }
    }
}
