//! How time is measured: contenders take turns, and the median of many rounds counts.
//!
//! It is the time that the thread has had a processor, not that on the wall: on a machine whose processors are shared, the
//! latter says how busy the others are.

use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

/// How much is measured.
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

    pub const QUICK: Self = Self { rounds: 3, round: Duration::from_millis(1), tail_rounds: 2, tail_calls: 2_000 };
}

/// One thing that is measured: does its work once per call.
pub struct Contender<'a> {
    pub name: &'static str,
    pub once: Box<dyn FnMut() + 'a>,
}

/// What [`medians`] measures.
pub trait Timed {
    /// Before each round of its own, outside the time that is measured.
    fn before_round(&mut self) {}

    /// Its work.
    fn once(&mut self);

    /// Whether it waits for somebody else, so that time on the wall is what counts.
    fn waits(&self) -> bool {
        false
    }
}

impl Timed for Contender<'_> {
    fn once(&mut self) {
        (self.once)();
    }
}

/// A clock that has begun to run.
enum Running {
    OnProcessor(ThreadTime),
    OnWall(Instant),
}

impl Running {
    fn start(waits: bool) -> Self {
        if waits { Self::OnWall(Instant::now()) } else { Self::OnProcessor(ThreadTime::now()) }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Self::OnProcessor(start) => start.elapsed(),
            Self::OnWall(start) => start.elapsed(),
        }
    }
}

/// Microseconds per call of each contender: the median of interleaved rounds.
pub fn medians<T: Timed>(contenders: &mut [T], effort: &Effort) -> Vec<f64> {
    // How often each runs in one round.
    let repeats: Vec<u32> = contenders
        .iter_mut()
        .map(|contender| {
            contender.before_round();
            let (mut count, start) = (0, Instant::now());
            while start.elapsed() < effort.round {
                contender.once();
                count += 1;
            }
            count.max(1)
        })
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(effort.rounds); contenders.len()];
    for _ in 0..effort.rounds {
        for (at, contender) in contenders.iter_mut().enumerate() {
            contender.before_round();
            let start = Running::start(contender.waits());
            for _ in 0..repeats[at] {
                contender.once();
            }
            times[at].push(start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats[at]));
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
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
