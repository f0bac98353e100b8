//! How time is measured: contenders take turns, and the median of many rounds counts.
//!
//! It is the time that the thread has had a processor, not that on the wall: on a machine whose processors are shared, the
//! latter says how busy the others are.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::counts::{Counts, count, is_counting};

/// How much is measured.
#[derive(PartialEq, Eq)]
pub struct Effort {
    /// Rounds per contender, of which the median counts.
    pub rounds: usize,
    /// How long one contender runs in one round.
    pub round: Duration,
    /// The same where single calls are timed, for their slowest thousandth.
    pub tail_rounds: usize,
    /// How many calls of one contender are timed in one round.
    pub tail_calls: usize,
}

impl Effort {
    pub const FULL: Self = Self { rounds: 60, round: Duration::from_millis(4), tail_rounds: 40, tail_calls: 25_000 };

    /// The same where nothing is timed, and as much is made.
    pub(crate) fn counting(self) -> Self {
        Self { tail_rounds: 1, tail_calls: 2_000, ..self }
    }

    pub const QUICK: Self = Self { rounds: 3, round: Duration::from_millis(1), tail_rounds: 2, tail_calls: 2_000 };

    /// Whether it is only to be seen that all runs.
    pub fn is_quick(&self) -> bool {
        *self == Self::QUICK
    }
}

/// One thing that is measured: does its work once per call.
pub struct Contender<'a> {
    pub name: &'static str,
    pub once: Box<dyn FnMut() + 'a>,
    /// What is done before each [`BATCH`] of calls, and not measured.
    pub prepare: Option<Box<dyn FnMut() + 'a>>,
}

impl<'a> Contender<'a> {
    pub fn new(name: &'static str, once: impl FnMut() + 'a) -> Self {
        Self { name, once: Box::new(once), prepare: None }
    }

    pub fn prepared(name: &'static str, prepare: impl FnMut() + 'a, once: impl FnMut() + 'a) -> Self {
        Self { name, once: Box::new(once), prepare: Some(Box::new(prepare)) }
    }

    /// What one call allocates.
    pub fn allocations(&mut self) -> Counts {
        self.before_batch();
        count(|| (self.once)())
    }
}

/// What [`medians`] measures.
pub trait Timed {
    /// Before each round of its own, outside the time that is measured.
    fn before_round(&mut self) {}

    /// Before each [`BATCH`] of calls, likewise.
    fn before_batch(&mut self) {}

    /// Its work.
    fn once(&mut self);

    /// Whether it waits for somebody else, so that time on the wall is what counts.
    fn waits(&self) -> bool {
        false
    }
}

impl Timed for Contender<'_> {
    fn before_batch(&mut self) {
        if let Some(prepare) = &mut self.prepare {
            prepare();
        }
    }

    fn once(&mut self) {
        (self.once)();
    }
}

/// How many calls are timed together: enough that looking at the clock, a fifth of a microsecond, does not count, and few enough that what was
/// prepared for them is in the cache still.
pub const BATCH: usize = 64;

/// Microseconds per call of each contender: the median of interleaved rounds.
pub fn medians<T: Timed>(contenders: &mut [T], effort: &Effort) -> Vec<f64> {
    rounds(contenders, effort).iter_mut().map(|times| median(times)).collect()
}

/// Microseconds per call of each contender in each of these rounds: what is next to each other in time can be compared best.
pub fn rounds<T: Timed>(contenders: &mut [T], effort: &Effort) -> Vec<Vec<f64>> {
    if is_counting() {
        // Whatever is made once is made in this.
        contenders.iter_mut().for_each(|contender| _ = batch(contender));
        return vec![vec![1.0]; contenders.len()];
    }
    // How many batches of each are in one round.
    let batches: Vec<usize> = contenders
        .iter_mut()
        .map(|contender| {
            contender.before_round();
            let (mut count, mut took) = (0, Duration::ZERO);
            while took < effort.round {
                took += batch(contender);
                count += 1;
            }
            count
        })
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(effort.rounds); contenders.len()];
    for _ in 0..effort.rounds {
        for (at, contender) in contenders.iter_mut().enumerate() {
            contender.before_round();
            let took: Duration = (0..batches[at]).map(|_| batch(contender)).sum();
            times[at].push(took.as_secs_f64() * 1e6 / (batches[at] * calls(contender)) as f64);
        }
    }
    times
}

/// How many calls are timed together: of what waits, one is long enough.
fn calls(contender: &impl Timed) -> usize {
    if contender.waits() { 1 } else { BATCH }
}

/// How long so many calls take.
fn batch(contender: &mut impl Timed) -> Duration {
    contender.before_batch();
    let (on_wall, start) = (Instant::now(), on_processor());
    for _ in 0..calls(contender) {
        contender.once();
    }
    if contender.waits() { on_wall.elapsed() } else { on_processor() - start }
}

/// For how long this thread has been on a processor.
pub fn on_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The middle one; sorts them.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A table of the same few contenders at growing sizes of what they work on, each beside itself at the first size.
///
/// `at_size` has, for each size, the contenders in the same order.
pub fn table_by_size(heading: &str, size: &str, at_size: Vec<(usize, Vec<Contender<'_>>)>, effort: &Effort) -> String {
    let ways = at_size.first().map_or(1, |(_, contenders)| contenders.len());
    let mut sizes = Vec::new();
    let mut contenders = Vec::new();
    for (size, ways) in at_size {
        sizes.push(size);
        contenders.extend(ways);
    }
    let medians = medians(&mut contenders, effort);
    let mut table = format!("### {heading}\n\n| {size} | | × one | µs |\n|---:|---|---:|---:|\n");
    for (at, contender) in contenders.iter().enumerate() {
        let (size, name, median) = (sizes[at / ways], contender.name, medians[at]);
        table.push_str(&format!("| {size} | {name} | {:.2} | {median:.3} |\n", median / medians[at % ways]));
    }
    table
}
