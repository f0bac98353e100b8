//! What it costs to ask whether a token is revoked, how much memory what is known takes, and whether anybody waits while it changes.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use countersign::revocation::{
    Entry, Feed, Filter, Intake, Judged, Level, ListOptions, Revocations, Revoked, Revokes, Verdict,
};
use countersign::{Algorithm, RevocationList, SigningKey, UnixTime};

use crate::memory::growth;
use crate::request::{ISSUER, claims};
use crate::timing::{Effort, median};
use crate::verification::raw;
use crate::{Failure, unix_seconds};

const FULL: [usize; 4] = [0, 1_000, 1_000_000, 10_000_000];

/// To see that it runs.
const QUICK: [usize; 3] = [0, 1_000, 300_000];

/// How many names are looked for in turn where these are the tokens that are in use just now, as most that are shown have been shown before.
const IN_USE: usize = 64;

/// How many where no token comes twice: with what they lead to, more than the nearest caches hold.
const NAMES: usize = 1 << 16;

/// Cut-offs of each level, where there are any.
const CUT_OFFS: usize = 10_000;

/// In how many the slowest is looked at: p99.
const TAIL: usize = 100;

/// Bytes of a name; a UUID has as many.
const NAME_BYTES: usize = 36;

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let quick = effort.tail_rounds < Effort::FULL.tail_rounds;
    let sizes: &[usize] = if quick { &QUICK } else { &FULL };
    let mut lists = Vec::new();
    for size in sizes {
        for (kind, filter) in
            [("exact", Filter::Off), ("filter in front", Filter::Front), ("filter only", Filter::Only)]
        {
            // A set without entries has nothing to be filtered.
            if *size > 0 || kind == "exact" {
                lists.push(Measured::new(*size, kind, filter, With::Nothing)?);
            }
        }
    }
    let largest_but_one = sizes[sizes.len() - 2];
    for (kind, with) in
        [("exact, of a feed that has an age", With::Age), ("exact, and 10,000 cut-offs of each level", With::CutOffs)]
    {
        lists.push(Measured::new(largest_but_one, kind, Filter::Off, with)?);
    }
    let mut report = checks(&lists, effort)?;
    report.push_str(&memory(&lists));
    let rebuilt = lists.iter().position(|list| list.size == largest_but_one).ok_or("there is one")?;
    report.push_str(&readers(&lists[rebuilt], effort)?);
    Ok(report)
}

/// What a list has besides tokens.
#[derive(Clone, Copy)]
enum With {
    Nothing,
    /// A feed whose news gets old, so that each check reads a clock.
    Age,
    CutOffs,
}

/// A list, and what it took to make it.
struct Measured {
    size: usize,
    kind: &'static str,
    list: RevocationList,
    intake: Intake,
    now: UnixTime,
    hits: Names,
    misses: Names,
    bytes: i64,
    build: Duration,
}

impl Measured {
    fn new(size: usize, kind: &'static str, filter: Filter, with: With) -> Result<Self, Failure> {
        let now = UnixTime::from_secs(i64::try_from(unix_seconds()?)?);
        let (growth, (list, intake, build)) = growth(|| {
            let hand = Hand::default();
            // Nobody brings more, for as long as it takes to measure.
            let options = ListOptions::new().filter(filter).stale_after(Duration::from_secs(24 * 3600));
            let list = RevocationList::with(options).follow(hand.clone());
            let intake = hand.0.get().expect("it was started").clone();
            let build = fill(&intake, size, now);
            match with {
                // As in the process that revokes: a feed that is never behind.
                With::Nothing => intake.confirm_always(),
                With::Age => {}
                With::CutOffs => {
                    intake.confirm_always();
                    intake.add(&cut_offs_of_each_level(now), None).expect("there is room");
                }
            }
            (list, intake, build)
        });
        // Spread over all of them.
        let stride = (size / NAMES).max(1);
        let hits = Names::new((0..size).step_by(stride).take(NAMES), 'r');
        let misses = Names::new(0..NAMES, 'f');
        Ok(Self { size, kind, list, intake, now, hits, misses, bytes: growth.counted, build })
    }

    fn check(&self, jwt_id: &str) -> Verdict {
        let mut token = Judged::at(self.now);
        token.issuer = Some(ISSUER);
        token.kid = Some("3f0c6a52-2026-11");
        token.jwt_id = Some(black_box(jwt_id));
        token.subject = Some("5f2c8f0e-7f4e-4c53-9d3a-0d6f1b7b8a11");
        token.client = Some("web-frontend");
        token.session = Some("b0f1a2c4-7f4e-4c53-9d3a-0d6f1b7b8a11");
        token.tenant = Some("t-4711");
        token.family = Some("91d2b7e4-7f4e-4c53-9d3a-0d6f1b7b8a11");
        token.issued_at = Some(self.now);
        token.expires_at = Some(self.now.saturating_add(Duration::from_secs(3600)));
        self.list.check(&token)
    }
}

/// Replaces all that is in it by so many tokens; how long that took.
fn fill(intake: &Intake, size: usize, now: UnixTime) -> Duration {
    let until = now.saturating_add(Duration::from_secs(3600));
    let mut took = Duration::ZERO;
    let mut snapshot = intake.snapshot();
    // In portions, so that what is measured is not the making of the entries.
    for first in (0..size).step_by(10_000) {
        let entries: Vec<_> = (first..size.min(first + 10_000))
            .map(|number| Entry {
                issuer: ISSUER.into(),
                revokes: Revokes::Token { jwt_id: name(number, 'r').into() },
                until: Some(until),
            })
            .collect();
        let start = Instant::now();
        for entry in &entries {
            snapshot.push(entry).expect("there is room");
        }
        took += start.elapsed();
    }
    let start = Instant::now();
    intake.replace(snapshot, now).expect("younger than nothing");
    took + start.elapsed()
}

/// Of others than those that are asked about.
fn cut_offs_of_each_level(now: UnixTime) -> Vec<Entry> {
    let of = |level| {
        (0..CUT_OFFS).map(move |number| Entry {
            issuer: if level == Level::Issuer { format!("https://{number}.example").into() } else { ISSUER.into() },
            revokes: Revokes::CutOff {
                level,
                name: if level == Level::Issuer { "".into() } else { name(number, 'c').into() },
                issued_until: now,
            },
            until: Some(now.saturating_add(Duration::from_secs(3600))),
        })
    };
    Level::ALL.into_iter().flat_map(of).collect()
}

/// A feed whose intake is in our hand.
#[derive(Clone, Default)]
struct Hand(Arc<OnceLock<Intake>>);

impl Feed for Hand {
    fn name(&self) -> Cow<'static, str> {
        "bench".into()
    }

    fn start(self, intake: Intake) {
        let _ = self.0.set(intake);
    }
}

/// Medians and slowest hundredths of single checks, beside a signature check.
fn checks(lists: &[Measured], effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(Algorithm::Rs256)?;
    let token = signer.sign(&claims(unix_seconds()?))?;
    let mut signature = raw(Algorithm::Rs256, &signer, std::slice::from_ref(&token))?;
    let mut rows = vec![Row::new(String::new(), move || nanoseconds(&mut signature))];
    for measured in lists {
        for (what, names, expected) in
            [("hit", &measured.hits, Verdict::Revoked(Revoked::Token)), ("miss", &measured.misses, Verdict::Fresh)]
        {
            if names.is_empty() {
                continue;
            }
            // A filter alone is wrong about one in 65,536 of those that it does not have.
            let may_err = measured.kind == "filter only" && what == "miss";
            for in_turn in [IN_USE, NAMES] {
                let mut names = names.forever(in_turn);
                rows.push(Row::new(format!("| {} | {} | {what} |", measured.size, measured.kind), move || {
                    let name = names.next().expect("for ever");
                    // A token has just been read when it is asked about.
                    black_box(name.bytes().fold(0, |all, byte| all ^ byte));
                    let mut verdict = Verdict::Fresh;
                    let took = nanoseconds(|| verdict = measured.check(name));
                    assert!(verdict == expected || may_err, "wrong about {name}");
                    took
                }));
            }
        }
    }
    for round in 0..effort.tail_rounds {
        for turn in 0..rows.len() {
            let at = (round + turn) % rows.len();
            rows[at].round(effort.tail_calls);
        }
    }
    let (signature, rows) = rows.split_first_mut().ok_or("the signature check is there")?;
    let base = signature.median();
    let mut table = format!(
        "### One check, beside a signature check\n\n\
         | revoked tokens | kept | | {IN_USE} in turn: median, ns | p99, ns | × signature | {NAMES} in turn: median, ns | p99, ns | × signature |\n\
         |---:|---|---|---:|---:|---:|---:|---:|---:|\n\
         | – | signature check, RS256 | | {base:.0} | {:.0} | 1 | | | |\n",
        signature.tail()
    );
    for both in rows.chunks_exact_mut(2) {
        table.push_str(&both[0].name);
        for row in both {
            let (median, tail) = (row.median(), row.tail());
            table.push_str(&format!(" {median:.0} | {tail:.0} | {:.4} |", median / base));
        }
        table.push('\n');
    }
    let (calls, count) = (effort.tail_calls, effort.tail_rounds);
    Ok(format!(
        "{table}\n{calls} single calls in each of {count} rounds, in which rows take turns; of median and p99 of the rounds \
         the median, less what an empty measurement takes.\n\n"
    ))
}

/// Single calls, which time themselves, in nanoseconds.
struct Row<'a> {
    name: String,
    once: Box<dyn FnMut() -> f64 + 'a>,
    medians: Vec<f64>,
    tails: Vec<f64>,
}

impl<'a> Row<'a> {
    fn new(name: String, once: impl FnMut() -> f64 + 'a) -> Self {
        Self { name, once: Box::new(once), medians: Vec::new(), tails: Vec::new() }
    }

    fn round(&mut self, calls: usize) {
        let mut empty: Vec<f64> = (0..calls).map(|_| nanoseconds(|| ())).collect();
        let empty = median(&mut empty);
        // What other rows have pushed out of the caches is not this row's affair.
        for _ in 0..calls / 4 {
            (self.once)();
        }
        let mut times: Vec<f64> = (0..calls).map(|_| (self.once)() - empty).collect();
        times.sort_by(f64::total_cmp);
        self.medians.push(times[times.len() / 2]);
        self.tails.push(times[times.len() - 1 - times.len() / TAIL]);
    }

    fn median(&mut self) -> f64 {
        median(&mut self.medians)
    }

    fn tail(&mut self) -> f64 {
        median(&mut self.tails)
    }
}

fn nanoseconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9
}

fn memory(lists: &[Measured]) -> String {
    let mut table = String::from(
        "### Memory, and the time to build\n\n\
         | revoked tokens | kept | MB for a million | build, ms for a million |\n|---:|---|---:|---:|\n",
    );
    for list in lists.iter().filter(|list| list.size > 1_000) {
        let millions = list.size as f64 / 1e6;
        table.push_str(&format!(
            "| {} | {} | {:.1} | {:.0} |\n",
            list.size,
            list.kind,
            list.bytes as f64 / 1e6 / millions,
            list.build.as_secs_f64() * 1e3 / millions,
        ));
    }
    table
        + "\nMemory is what Rust's allocator has given and not got back. Building is from entries with their texts to the swap.\n\n"
}

/// Checks while nothing happens, while single tokens are revoked, and while all is replaced again and again.
fn readers(list: &Measured, effort: &Effort) -> Result<String, Failure> {
    let mut table = format!(
        "### Checks while revocations come, among {}\n\n\
         | meanwhile, on another thread | times | p50, ns | p99, ns | p99.9, ns |\n|---|---:|---:|---:|---:|\n",
        list.size
    );
    let calls = effort.tail_calls * effort.tail_rounds / 2;
    for (name, work) in [
        ("nothing", None),
        ("one token is revoked, 1,000 times a second", Some(Meanwhile::Revoke)),
        ("all is built anew and replaced, without a pause", Some(Meanwhile::Replace)),
    ] {
        let over = &AtomicBool::new(false);
        let mut times = Vec::with_capacity(calls);
        let done = thread::scope(|scope| -> Result<u64, Failure> {
            let worker = work.map(|work| scope.spawn(move || work.until(over, list)));
            let (mut names, start) = (list.misses.forever(NAMES), Instant::now());
            // Long enough for a few replacements; all rows alike, or the first would be the one with cold caches.
            while times.len() < calls || start.elapsed() < MEANWHILE {
                let name = names.next().expect("for ever");
                times.push(nanoseconds(|| assert_eq!(list.check(name), Verdict::Fresh)));
            }
            over.store(true, Ordering::Relaxed);
            worker.map_or(Ok(0), |worker| worker.join().map_err(|_| "the other thread panicked".into()))
        })?;
        times.sort_by(f64::total_cmp);
        let slowest = |one_in: usize| times[times.len() - 1 - times.len() / one_in];
        table.push_str(&format!(
            "| {name} | {done} | {:.0} | {:.0} | {:.0} |\n",
            slowest(2),
            slowest(100),
            slowest(1_000)
        ));
    }
    Ok(table + "\nWith what a measurement takes.\n")
}

/// How long checks are timed, and revocations come.
const MEANWHILE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
enum Meanwhile {
    Revoke,
    Replace,
}

impl Meanwhile {
    /// How often it was done.
    fn until(self, over: &AtomicBool, list: &Measured) -> u64 {
        let mut times = 0;
        while !over.load(Ordering::Relaxed) {
            match self {
                Self::Replace => drop(fill(&list.intake, list.size, list.now)),
                Self::Revoke => {
                    let entry = Entry {
                        issuer: ISSUER.into(),
                        revokes: Revokes::Token { jwt_id: name(usize::try_from(times).unwrap_or(0), 'm').into() },
                        until: Some(list.now.saturating_add(Duration::from_secs(3600))),
                    };
                    list.intake.add(&[entry], None).expect("there is room");
                    thread::sleep(Duration::from_millis(1));
                }
            }
            times += 1;
        }
        times
    }
}

/// Names one after the other in memory, so that reading them costs the same however many there are.
struct Names(String);

impl Names {
    fn new(numbers: impl Iterator<Item = usize>, kind: char) -> Self {
        Self(numbers.map(|number| name(number, kind)).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn forever(&self, in_turn: usize) -> impl Iterator<Item = &str> {
        (0..in_turn.min(self.0.len() / NAME_BYTES)).cycle().map(|at| &self.0[at * NAME_BYTES..][..NAME_BYTES])
    }
}

fn name(number: usize, kind: char) -> String {
    let name = format!("{number:08x}-52c7-4f7e-8f27-6a1f8a1c9{kind}55");
    debug_assert_eq!(name.len(), NAME_BYTES);
    name
}
