//! One contender under one load, in a few numbers.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::children::Server;
use crate::load::{self, Answer, Plan, Sample, Seen};
use crate::percentiles::{median, milliseconds, per_mille};
use crate::table::number;
use crate::{Failure, process};

/// Of one round. Times are in milliseconds unless their name says otherwise.
pub struct Measured {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// Answers a second.
    pub rate: f64,
    /// Of all of the contender's processes, in microseconds.
    pub cpu_per_request: f64,
    /// How much of the server's processor they had.
    pub busy: f64,
    pub answers: BTreeMap<Answer, usize>,
    pub clients: Clients,
}

/// What can be wrong with the clients themselves, and with the machine.
pub struct Clients {
    /// How late they were to see that a request was due.
    pub lag_p99: f64,
    pub lag_max: f64,
    /// The part of requests that found no free connection.
    pub queued: f64,
    /// The part of the time in which they waited.
    pub idle: f64,
    /// Processors that other programs have used.
    pub others: f64,
    /// Processors that the host has withheld.
    pub stolen: f64,
}

impl Clients {
    /// What a table needs by its side, of all rounds of all contenders.
    pub fn sentence<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> String {
        let most = |number: fn(&Self) -> f64| all.clone().map(number).fold(0.0, f64::max);
        format!(
            "The clients were late themselves: p99 {} µs in the median of all rounds, {} µs in the worst, {} µs at most. Up to \
             {:.0} % of the requests of a round found no free connection. Other programs had up to {:.2} processors meanwhile, \
             and the host withheld up to {:.2}.\n",
            number(median(all.clone().map(|clients| clients.lag_p99)) * 1e3),
            number(most(|clients| clients.lag_p99) * 1e3),
            number(most(|clients| clients.lag_max) * 1e3),
            most(|clients| clients.queued) * 100.0,
            most(|clients| clients.others),
            most(|clients| clients.stolen),
        )
    }
}

impl Measured {
    /// As good as asked for. A server that is overloaded answers less and less late, and its percentiles say how long it was.
    pub fn keeps_up(&self, rate: u32) -> bool {
        self.rate >= f64::from(rate) * KEEPS_UP
    }

    /// Answers that are no 200.
    pub fn failures(&self) -> usize {
        self.answers.iter().filter(|(answer, _)| **answer != Answer::Status(200)).map(|(_, count)| count).sum()
    }
}

/// The part of the requests that has to be answered within the time in which they are sent.
const KEEPS_UP: f64 = 0.99;

/// Puts one load on one contender, which these processes are. `meanwhile` goes on beside it, on this thread, and says when others tokens are to be shown.
pub fn measure(
    servers: &[Server],
    plan: &Plan<'_>,
    meanwhile: impl FnOnce(&AtomicBool) -> Result<(), Failure>,
) -> Result<(Measured, Seen), Failure> {
    let ourselves = std::process::id();
    let changed = AtomicBool::new(false);
    let (started, machine) = (Instant::now(), process::machine()?);
    let used_by_servers = || servers.iter().map(Server::cpu_time).sum::<Result<Duration, Failure>>();
    let (servers_before, clients) = (used_by_servers()?, process::cpu_time(ourselves)?);
    let seen = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(plan, &changed));
        let done = meanwhile(&changed);
        let seen = load.join().map_err(|_| "the clients panicked")??;
        done.map(|()| seen)
    })?;
    let (elapsed, machine_after) = (started.elapsed().as_secs_f64(), process::machine()?);
    let servers = (used_by_servers()? - servers_before).as_secs_f64();
    let clients = (process::cpu_time(ourselves)? - clients).as_secs_f64();
    let busy = (machine_after.busy.saturating_sub(machine.busy)).as_secs_f64();
    let lags = sorted(seen.lags.iter().copied());
    let clients = Clients {
        lag_p99: milliseconds(per_mille(&lags, 990)),
        lag_max: milliseconds(lags.last().copied().unwrap_or_default()),
        queued: seen.queued as f64 / seen.samples.len().max(1) as f64,
        idle: seen.idle,
        others: ((busy - servers - clients) / elapsed).max(0.0),
        stolen: machine_after.stolen.saturating_sub(machine.stolen).as_secs_f64() / elapsed,
    };
    let took = Took::of(&seen.samples);
    let within = |sample: &&Sample| {
        matches!(sample.answer, Answer::Status(_)) && sample.due + sample.took <= seen.length + GRACE
    };
    let measured = Measured {
        p50: took.p50,
        p99: took.p99,
        p999: took.p999,
        rate: seen.samples.iter().filter(within).count() as f64 / seen.length.as_secs_f64(),
        cpu_per_request: servers * 1e6 / seen.answered.max(1) as f64,
        busy: servers / elapsed,
        answers: answers(&seen.samples),
        clients,
    };
    Ok((measured, seen))
}

/// Answers to the last requests may come this much after the end, and still count as in time.
const GRACE: Duration = Duration::from_millis(20);

/// Percentiles in milliseconds.
pub struct Took {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Took {
    pub fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let took = sorted(samples.into_iter().map(|sample| sample.took));
        let [p50, p99, p999] = [500, 990, 999].map(|mille| milliseconds(per_mille(&took, mille)));
        Self { p50, p99, p999 }
    }
}

fn sorted(durations: impl IntoIterator<Item = Duration>) -> Vec<Duration> {
    let mut durations: Vec<_> = durations.into_iter().collect();
    durations.sort_unstable();
    durations
}

/// How many of each.
pub fn answers<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> BTreeMap<Answer, usize> {
    let mut answers = BTreeMap::new();
    for sample in samples {
        *answers.entry(sample.answer).or_default() += 1;
    }
    answers
}

/// The median of one number over all rounds.
pub fn over(rounds: &[Measured], number: impl Fn(&Measured) -> f64) -> f64 {
    median(rounds.iter().map(number))
}

/// The median of the ratios of one number, each of the same round, and all of them.
pub fn ratio(ours: &[Measured], theirs: &[Measured], number: impl Fn(&Measured) -> f64) -> (f64, Vec<f64>) {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| number(ours) / number(theirs)).collect();
    ratios.sort_by(f64::total_cmp);
    (median(ratios.iter().copied()), ratios)
}
