//! While something happens to the provider's keys.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use countersign::Algorithm;
use countersign_testkit::{IdentityProvider, TestKey};

use crate::contender::{Contender, Kind, Site};
use crate::load::{Answer, CONNECTIONS, Pace, Plan, Sample, Shown, request};
use crate::measured::{Clients, Took, answers, measure};
use crate::percentiles::{median, p99_by_window};
use crate::run::{Broken, Effort};
use crate::steady::{above_plain, below_central};
use crate::table::{self, Table, number, numbers};
use crate::{Failure, tokens};

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Another key is published, and half of the tokens are of it from that moment on.
    Rotation,
    /// Another key is published in the place of the one that there was.
    Emergency,
    /// Nobody answers at the provider's address.
    Outage,
}

const CHANGES: [Change; 3] = [Change::Rotation, Change::Emergency, Change::Outage];

const KINDS: [Kind; 4] = [Kind::Plain, Kind::Countersign, Kind::Central(0), Kind::Central(2)];

/// Groups of tokens.
const OLD: usize = 0;
const NEW: usize = 1;

/// Of which there is one p99 in the plot.
const WINDOW: Duration = Duration::from_millis(250);

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Rotation => "a key rotation",
            Self::Emergency => "an emergency rotation",
            Self::Outage => "a provider outage",
        }
    }

    fn explained(self) -> &'static str {
        match self {
            Self::Rotation => {
                "The provider publishes a second key, and from that moment on half of the requests show a token of it. All of \
                 them must pass."
            }
            Self::Emergency => {
                "The provider publishes another key in the place of the first, and half of the requests show a token of it \
                 from that moment on. Only these must pass and are in the times; what becomes of tokens of the withdrawn key \
                 is in the last column."
            }
            Self::Outage => "Nobody answers at the provider's address from that moment on. All tokens must pass.",
        }
    }

    /// Makes it happen, with keys that exist already: to make one takes the clients' processor a tenth of a second.
    fn happen(self, provider: &IdentityProvider, old: &TestKey, new: &TestKey) {
        match self {
            Self::Rotation => provider.publish([old.clone(), new.clone()]),
            Self::Emergency => provider.publish([new.clone()]),
            Self::Outage => provider.stop(),
        }
    }

    /// Whether this request had to be answered with 200.
    fn must_pass(self, sample: &Sample) -> bool {
        self != Self::Emergency || sample.group == NEW
    }
}

/// One contender in one change, in one round, from the change on.
struct Outcome {
    took: Took,
    cpu_per_request: f64,
    clients: Clients,
    keeps_up: bool,
    /// The highest p99 of a window.
    worst: f64,
    points: Vec<(f64, f64)>,
    answers: [BTreeMap<Answer, usize>; 2],
    /// p99 of the first key's tokens.
    old_p99: f64,
    fetches: usize,
    processes: Vec<(&'static str, f64, f64)>,
}

/// All of it.
pub struct Events(BTreeMap<(Change, usize), Vec<Outcome>>);

pub fn run(site: &Site<'_>, effort: &Effort, broken: &mut Broken) -> Result<Events, Failure> {
    let provider = site.provider;
    // Those below 1000 are not the provider's.
    let (old, new) = (provider.key(), TestKey::nth(Algorithm::Rs256, 1));
    let shown = [tokens::tokens(provider, &old, effort.tokens), tokens::tokens(provider, &new, effort.tokens)];
    let mut events = BTreeMap::<_, Vec<Outcome>>::new();
    for round in 0..effort.rounds {
        for change in CHANGES {
            for at in 0..KINDS.len() {
                let at = (at + round) % KINDS.len();
                provider.resume();
                provider.publish([old.clone()]);
                let outcome = one(change, KINDS[at], site, effort, &shown, (&old, &new), broken)?;
                eprintln!("round {round}, {}, {}: p99 {:.2} ms", change.name(), KINDS[at].name(), outcome.took.p99);
                events.entry((change, at)).or_default().push(outcome);
            }
        }
    }
    provider.resume();
    provider.publish([old]);
    Ok(Events(events))
}

fn one(
    change: Change,
    kind: Kind,
    site: &Site<'_>,
    effort: &Effort,
    tokens: &[Vec<String>; 2],
    (old, new): (&TestKey, &TestKey),
    broken: &mut Broken,
) -> Result<Outcome, Failure> {
    let contender = Contender::start(kind, site, &tokens[OLD][0])?;
    let shown = |group: usize, at: usize| Shown { group, octets: request(contender.address, &tokens[group][at]) };
    let all = 0..tokens[OLD].len();
    let before: Vec<_> = all.clone().map(|at| shown(OLD, at)).collect();
    let after: Vec<_> = match change {
        Change::Outage => Vec::new(),
        Change::Rotation | Change::Emergency => all.flat_map(|at| [shown(OLD, at), shown(NEW, at)]).collect(),
    };
    let plan = Plan {
        address: contender.address,
        connections: CONNECTIONS,
        pace: Pace::Constant(effort.event_rate),
        warm_up: effort.warm_up,
        length: effort.before + effort.after,
        before: &before,
        after: &after,
    };
    let fetches = site.provider.fetches();
    let (measured, seen) = measure(&contender.servers, &plan, |changed| {
        thread::sleep(effort.warm_up + effort.before);
        change.happen(site.provider, old, new);
        changed.store(true, Ordering::Release);
        Ok(())
    })?;
    let changed = seen.changed.ok_or("the load ended before the change")?;
    let counted = |sample: &&Sample| sample.due >= changed && change.must_pass(sample);
    let must: Vec<&Sample> = seen.samples.iter().filter(counted).collect();
    let points = |from: Duration| {
        let passing = seen.samples.iter().filter(|sample| sample.due >= from && change.must_pass(sample));
        p99_by_window(passing.map(|sample| (sample.due, sample.took)), WINDOW)
    };
    let of = |group| seen.samples.iter().filter(move |sample| sample.due >= changed && sample.group == group);
    let mut allowed_before = seen.samples.iter().filter(|sample| sample.due < changed);
    let is_good = |sample: &&Sample| matches!(sample.answer, Answer::Status(200) | Answer::Missing);
    let what = || format!("{} in {}", kind.name(), change.name());
    broken.expect(&format!("{}: all that must pass get 200", what()), must.iter().all(is_good), || {
        table::answers(&answers(must.iter().copied()))
    });
    broken.expect(
        &format!("{}: all get 200 before", what()),
        allowed_before.all(|sample| is_good(&sample)),
        String::new,
    );
    let refusals = seen.samples.iter().filter(|sample| !change.must_pass(sample));
    let refused = |sample: &Sample| matches!(sample.answer, Answer::Status(200 | 401 | 429) | Answer::Missing);
    broken.expect(
        &format!("{}: a withdrawn key's tokens get 200, 401 or 429", what()),
        refusals.clone().all(refused),
        || table::answers(&answers(refusals.clone())),
    );
    broken.expect_answers(kind, &seen.samples);
    let used = |server: &crate::children::Server| {
        Ok::<_, Failure>((server.role, server.cpu_time()?.as_secs_f64(), server.peak_kilobytes()? as f64 / 1024.0))
    };
    Ok(Outcome {
        took: Took::of(must),
        cpu_per_request: measured.cpu_per_request,
        keeps_up: measured.keeps_up(effort.event_rate),
        clients: measured.clients,
        worst: points(changed).iter().map(|(_, p99)| *p99).fold(0.0, f64::max),
        points: points(Duration::ZERO),
        answers: [answers(of(OLD)), answers(of(NEW))],
        old_p99: Took::of(of(OLD)).p99,
        fetches: site.provider.fetches() - fetches,
        processes: contender.servers.iter().map(used).collect::<Result<_, _>>()?,
    })
}

impl Events {
    pub fn tables(&self, effort: &Effort) -> String {
        CHANGES.map(|change| self.table(change, effort)).concat()
    }

    /// The p99 of each window in a rotation, the median of all rounds.
    pub fn rotation(&self) -> Vec<(Kind, Vec<(f64, f64)>)> {
        let line = |(at, kind): (usize, &Kind)| {
            let rounds = self.0.get(&(Change::Rotation, at))?;
            let windows = rounds.iter().map(|round| round.points.len()).min()?;
            let point =
                |window: usize| (rounds[0].points[window].0, median(rounds.iter().map(|round| round.points[window].1)));
            Some((*kind, (0..windows).map(point).collect()))
        };
        KINDS.iter().enumerate().filter_map(line).collect()
    }

    fn table(&self, change: Change, effort: &Effort) -> String {
        let columns = [
            "",
            "p50, ms",
            "p99, ms",
            "p99.9, ms",
            "p99 of each round",
            "p99 of the worst 250 ms",
            "× without",
            "server CPU, µs/request",
            "CPU-seconds",
            "peak resident, MB",
            "fetches",
            "answers",
        ];
        let mut table = Table::new(1, &columns);
        let mut ratios = String::new();
        let rounds = |at| self.0.get(&(change, at)).map_or(&[][..], Vec::as_slice);
        let p99_ratios = |ours: &[Outcome], theirs: &[Outcome]| -> Vec<f64> {
            ours.iter().zip(theirs).map(|(ours, theirs)| ours.took.p99 / theirs.took.p99).collect()
        };
        let of = |kind| KINDS.iter().position(|other| *other == kind).map_or(&[][..], rounds);
        let (plain, ours) = (of(Kind::Plain), of(Kind::Countersign));
        for (at, kind) in KINDS.iter().enumerate() {
            let rounds = rounds(at);
            let over = |value: fn(&Outcome) -> f64| number(median(rounds.iter().map(value)));
            let keeps_up = rounds.iter().all(|round| round.keeps_up);
            let by_process = |value: fn(&(&str, f64, f64)) -> f64| {
                let one =
                    |at: usize| number(median(rounds.iter().filter_map(|round| round.processes.get(at)).map(value)));
                let count = rounds.first().map_or(0, |round| round.processes.len());
                (0..count).map(one).collect::<Vec<_>>().join(" + ")
            };
            let against_plain = median(p99_ratios(rounds, plain));
            table.row(&[
                format!("{}{}", kind.name(), if keeps_up { "" } else { ", does not keep up" }),
                over(|round| round.took.p50),
                over(|round| round.took.p99),
                over(|round| round.took.p999),
                numbers(rounds.iter().map(|round| round.took.p99)),
                over(|round| round.worst),
                if kind.checks() { number(against_plain) } else { String::new() },
                over(|round| round.cpu_per_request),
                by_process(|process| process.1),
                by_process(|process| process.2),
                over(|round| round.fetches as f64),
                self.answers(change, at),
            ]);
            if let Kind::Central(_) = kind {
                let (ours, plain) = (median(p99_ratios(ours, rounds)), median(p99_ratios(plain, rounds)));
                ratios.push_str(&below_central(*kind, keeps_up, ours, plain));
            }
        }
        let above = p99_ratios(ours, plain);
        let clients = (0..KINDS.len()).flat_map(rounds).map(|round| &round.clients);
        format!(
            "### Through {}, at {} requests a second\n\n{} {} rounds of {} s after the change.\n\n{}\n{}{ratios}\n{}\n",
            change.name(),
            effort.event_rate,
            change.explained(),
            effort.rounds,
            effort.after.as_secs(),
            table.finish(),
            above_plain(median(above.iter().copied()), &above),
            Clients::sentence(clients),
        )
    }

    /// From the change on, in all rounds.
    fn answers(&self, change: Change, at: usize) -> String {
        let mut sums = [BTreeMap::new(), BTreeMap::new()];
        for outcome in self.0.get(&(change, at)).into_iter().flatten() {
            for (sum, answers) in sums.iter_mut().zip(&outcome.answers) {
                for (answer, count) in answers {
                    *sum.entry(*answer).or_default() += count;
                }
            }
        }
        let [old, new] = sums.map(|sum| table::answers(&sum));
        let old_p99 = number(median(self.0.get(&(change, at)).into_iter().flatten().map(|outcome| outcome.old_p99)));
        match change {
            Change::Outage => old,
            Change::Rotation => format!("old key: {old}; new key: {new}"),
            Change::Emergency => format!("old key: {old} (p99 {old_p99} ms); new key: {new}"),
        }
    }
}
