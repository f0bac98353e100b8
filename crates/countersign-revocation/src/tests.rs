//! Histories of a list, beside a model that keeps everything in a row and looks through all of it, by rules that are written down here once more.

use std::borrow::Cow;
use std::sync::mpsc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, Judged, Level, Revocations as _, Revoked, Revokes, Verdict};
use countersign_testkit::ManualClock;
use countersign_token::Thumbprint;
use proptest::prelude::*;
use proptest::sample::select;

use crate::compaction::{Done, Work};
use crate::intake::Intake;
use crate::shared::OWN;
use crate::{Feed, Filter, ListOptions, RevocationList};

const START: i64 = 1_800_000_000;
const PARTS: usize = 3;

/// A time that is tried out: seconds from the start, and whether half a second more.
type Instance = (i64, bool);

fn at((secs, half): Instance) -> UnixTime {
    UnixTime::from_secs(START + secs).saturating_add(Duration::from_millis(if half { 500 } else { 0 }))
}

#[derive(Clone, Debug)]
enum Step {
    Add {
        part: usize,
        entries: Vec<Entry>,
        as_of: Option<i64>,
    },
    Replace {
        part: usize,
        entries: Vec<Entry>,
        as_of: i64,
    },
    Confirm {
        part: usize,
        as_of: i64,
    },
    Overflow {
        part: usize,
    },
    /// Time passes.
    Pass(u64),
    /// The clock is put to another time.
    Jump(i64),
    /// A compaction begins, and another one ends.
    Begin,
    End,
    Check(Token, i64),
}

#[derive(Clone, Debug)]
struct Token {
    issuer: Option<&'static str>,
    kid: Option<&'static str>,
    thumbprint: Option<Thumbprint>,
    jwt_id: Option<&'static str>,
    names: [Option<&'static str>; 5],
    issued_at: Option<Instance>,
}

impl Token {
    fn judged(&self, now: UnixTime) -> Judged<'_> {
        let mut judged = Judged::at(now);
        (judged.issuer, judged.kid, judged.thumbprint) = (self.issuer, self.kid, self.thumbprint.as_ref());
        judged.jwt_id = self.jwt_id;
        [judged.tenant, judged.client, judged.subject, judged.session, judged.family] = self.names;
        judged.issued_at = self.issued_at.map(at);
        judged
    }
}

const NAMES: [&str; 2] = ["x", "y"];

fn thumbprints() -> [Thumbprint; 2] {
    ["A", "B"].map(|first| Thumbprint::parse(&format!("{first}{}", "A".repeat(42))).unwrap())
}

fn issuer() -> impl Strategy<Value = &'static str> {
    select(vec!["i", "i", "j", ""])
}

fn instance(secs: std::ops::Range<i64>) -> impl Strategy<Value = Instance> {
    (secs, any::<bool>())
}

fn entry() -> impl Strategy<Value = Entry> {
    let revokes = prop_oneof![
        4 => select(&NAMES).prop_map(|name| Revokes::Token { jwt_id: name.into() }),
        1 => select(&NAMES).prop_map(|name| Revokes::Key { kid: name.into() }),
        1 => select(thumbprints().to_vec()).prop_map(|thumbprint| Revokes::KeyMaterial { thumbprint }),
        5 => (select(&Level::ALL), select(&NAMES), instance(0..4)).prop_map(|(level, name, until)| Revokes::CutOff {
            level,
            name: if level == Level::Issuer { "" } else { name }.into(),
            issued_until: at(until),
        }),
    ];
    // The last ends are in the middle of a history.
    let until = prop_oneof![1 => Just(None), 8 => instance(-700..700).prop_map(Some)];
    (issuer(), revokes, until).prop_map(|(issuer, revokes, until)| Entry {
        issuer: issuer.into(),
        revokes,
        until: until.map(at),
    })
}

fn token() -> impl Strategy<Value = Token> {
    let name = || prop::option::weighted(0.7, select(&NAMES));
    let issuer = prop_oneof![1 => Just(None), 6 => issuer().prop_map(Some)];
    let names = [name(), name(), name(), name(), name()];
    let kid = prop::option::weighted(0.5, select(vec!["x", "y", "z", "z", "z"]));
    let thumbprint = prop::option::weighted(0.2, select(thumbprints().to_vec()));
    let issued_at = prop::option::weighted(0.9, instance(0..6));
    (issuer, kid, thumbprint, name(), names, issued_at).prop_map(
        |(issuer, kid, thumbprint, jwt_id, names, issued_at)| Token {
            issuer,
            kid,
            thumbprint,
            jwt_id,
            names,
            issued_at,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let entries = || prop::collection::vec(entry(), 0..5);
    let as_of = || select(vec![0_i64, 0, 0, -5, -100, 10, 299, 301, 5000]);
    prop_oneof![
        6 => (0..PARTS, entries(), prop::option::of(as_of()))
            .prop_map(|(part, entries, as_of)| Step::Add { part, entries, as_of }),
        2 => (0..PARTS, prop::collection::vec(entry(), 0..12), as_of())
            .prop_map(|(part, entries, as_of)| Step::Replace { part, entries, as_of }),
        2 => (0..PARTS, as_of()).prop_map(|(part, as_of)| Step::Confirm { part, as_of }),
        1 => (0..PARTS).prop_map(|part| Step::Overflow { part }),
        4 => select(vec![0_u64, 1, 29, 31, 63, 64, 65, 200, 400]).prop_map(Step::Pass),
        1 => select(vec![-1000_i64, -64, -1, 1, 500, 100_000]).prop_map(Step::Jump),
        2 => Just(Step::Begin),
        2 => Just(Step::End),
        12 => (token(), select(vec![0_i64, 0, 0, 1, 30, 64, -1, -64])).prop_map(|(token, off)| Step::Check(token, off)),
    ]
}

// The model.

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    issuer: Box<str>,
    revokes: Revokes,
    /// The second in which it is over; `None`: never.
    end: Option<i64>,
}

impl Kept {
    fn of(entry: &Entry) -> Self {
        let end = entry.until.map(|until| {
            let whole = until.as_secs() + i64::from(until > UnixTime::from_secs(until.as_secs()));
            // Up to the next 64 after twice the leeway.
            let mut end = (whole + 600) / 64 * 64;
            if end < whole + 600 {
                end += 64;
            }
            end
        });
        Self { issuer: entry.issuer.clone(), revokes: entry.revokes.clone(), end }
    }

    fn is_over(&self, now: UnixTime) -> bool {
        self.end.is_some_and(|end| now >= UnixTime::from_secs(end))
    }

    /// Whether it is about the same; if so, both together.
    fn put_to(&mut self, other: &Self) -> bool {
        let is_same = match (&mut self.revokes, &other.revokes) {
            (Revokes::KeyMaterial { thumbprint: one }, Revokes::KeyMaterial { thumbprint: two }) => one == two,
            (
                Revokes::CutOff { level: one_level, name: one, issued_until },
                Revokes::CutOff { level, name, issued_until: later },
            ) if one_level == level && one == name && self.issuer == other.issuer => {
                *issued_until = (*issued_until).max(*later);
                true
            }
            (one, two) => one == two && self.issuer == other.issuer,
        };
        if is_same {
            self.end = match (self.end, other.end) {
                (Some(one), Some(two)) => Some(one.max(two)),
                _ => None,
            };
        }
        is_same
    }
}

fn put(kept: &mut Vec<Kept>, more: &Kept) {
    if !kept.iter_mut().any(|kept| kept.put_to(more)) {
        kept.push(more.clone());
    }
}

#[derive(Default)]
struct PartModel {
    /// Everything; and what is left of it if whatever is over is forgotten at once.
    everything: Vec<Kept>,
    swept: Vec<Kept>,
    is_always: bool,
    has_overflowed: bool,
    /// As of when, how old that was, and on the other clock when.
    promised: Option<(UnixTime, Duration, u64)>,
}

impl PartModel {
    /// Up to when what is over may be forgotten: by our clock and by the feed's.
    fn over(&self, horizon: UnixTime) -> UnixTime {
        match self.promised {
            _ if self.is_always => horizon,
            None => horizon,
            Some((as_of, ..)) => horizon.min(as_of),
        }
    }
}

struct Model {
    parts: [PartModel; PARTS],
    now: UnixTime,
    passed: u64,
    /// What is over for good, and since when.
    horizon: (UnixTime, u64),
    has_fallen_back: bool,
}

impl Model {
    fn new() -> Self {
        let mut parts: [PartModel; PARTS] = Default::default();
        parts[OWN].is_always = true;
        let now = UnixTime::from_secs(START);
        Self { parts, now, passed: 0, horizon: (now, 0), has_fallen_back: false }
    }

    /// With everything that changes the list.
    fn sweep(&mut self) {
        let before = self.horizon.0;
        let limit = before.saturating_add(Duration::from_secs(2 * (self.passed - self.horizon.1)));
        self.horizon = (if self.now < limit { self.now } else { limit }, self.passed);
        self.has_fallen_back |= self.horizon.0 < before;
        for part in &mut self.parts {
            let over = part.over(self.horizon.0);
            part.swept.retain(|kept| !kept.is_over(over));
        }
    }

    fn promise(&mut self, part: usize, as_of: UnixTime) {
        let age = self.now.saturating_since(as_of);
        let latest = self.now.saturating_add(Duration::from_secs(300));
        let part = &mut self.parts[part];
        let over = part.over(self.horizon.0);
        let is_later = part.promised.is_none_or(|(before, ..)| before < as_of || before > latest);
        if as_of <= latest && is_later && !part.is_always {
            part.promised = Some((as_of, age, self.passed));
        }
        // Something may have been forgotten by then that would not be any more.
        self.has_fallen_back |= part.over(self.horizon.0) < over;
    }

    fn add(&mut self, part: usize, entries: &[Entry]) {
        let part = &mut self.parts[part];
        let over = part.over(self.horizon.0);
        for kept in entries.iter().map(Kept::of) {
            put(&mut part.everything, &kept);
            if !kept.is_over(over) {
                put(&mut part.swept, &kept);
            }
        }
    }

    fn replace(&mut self, part: usize, entries: &[Entry], as_of: UnixTime) -> bool {
        let latest = self.now.saturating_add(Duration::from_secs(300));
        let in_force = self.parts[part].promised.filter(|(before, ..)| *before <= latest);
        if as_of > latest || in_force.is_some_and(|(before, ..)| as_of < before) {
            return false;
        }
        self.parts[part].everything.clear();
        self.parts[part].swept.clear();
        self.promise(part, as_of);
        self.add(part, entries);
        self.parts[part].has_overflowed = false;
        true
    }

    fn age(&self, now: UnixTime) -> Option<Duration> {
        let mut oldest = Duration::ZERO;
        for part in &self.parts {
            if part.has_overflowed {
                return None;
            }
            if !part.is_always {
                let (as_of, age, since) = part.promised?;
                oldest = oldest.max(now.saturating_since(as_of)).max(age + Duration::from_secs(self.passed - since));
            }
        }
        Some(oldest)
    }

    fn verdict(&self, token: &Token, now: UnixTime, kept: fn(&PartModel) -> &Vec<Kept>) -> Option<Revoked> {
        let kept: Vec<&Kept> = self.parts.iter().flat_map(kept).filter(|kept| !kept.is_over(now)).collect();
        let is_issuer = |kept: &&&Kept| *kept.issuer == *token.issuer.unwrap_or("");
        let by_key = kept.iter().any(|kept| match &kept.revokes {
            Revokes::Key { kid } => is_issuer(&kept) && token.kid == Some(kid),
            Revokes::KeyMaterial { thumbprint } => token.thumbprint.as_ref() == Some(thumbprint),
            _ => false,
        });
        if by_key {
            return Some(Revoked::Key);
        }
        let mut fitting: Vec<(Level, i64)> = Vec::new();
        for kept in kept.iter().filter(is_issuer) {
            if let Revokes::CutOff { level, name, issued_until } = &kept.revokes {
                let fits = match level {
                    Level::Issuer => true,
                    Level::Tenant => token.names[0] == Some(name),
                    Level::Client => token.names[1] == Some(name),
                    Level::Subject => token.names[2] == Some(name),
                    Level::Session => token.names[3] == Some(name),
                    Level::Family => token.names[4] == Some(name),
                };
                if fits {
                    fitting.push((*level, issued_until.as_secs()));
                }
            }
        }
        // The latest; of several the one that comes first among the levels.
        fitting.sort_by_key(|(level, last)| (-last, *level));
        if let Some((level, last)) = fitting.first().copied()
            && token.issued_at.is_none_or(|(secs, _)| START + secs <= last)
        {
            return Some(Revoked::CutOff { level, issued_until: UnixTime::from_secs(last) });
        }
        let is_token = |kept: &&Kept| match &kept.revokes {
            Revokes::Token { jwt_id } => token.jwt_id == Some(jwt_id),
            _ => false,
        };
        kept.iter().filter(is_issuer).any(is_token).then_some(Revoked::Token)
    }
}

/// How much it takes to be revoked in this way: with more entries it only becomes more.
fn strength(revoked: Option<Revoked>) -> (u8, Option<UnixTime>) {
    match revoked {
        None => (0, None),
        Some(Revoked::Token) => (1, None),
        Some(Revoked::CutOff { issued_until, .. }) => (2, Some(issued_until)),
        Some(_) => (3, None),
    }
}

// The list.

struct Told(mpsc::Sender<Intake>);

impl Feed for Told {
    fn name(&self) -> Cow<'static, str> {
        "told".into()
    }

    fn start(self, intake: Intake) {
        self.0.send(intake).unwrap();
    }
}

fn list(filter: Filter, clock: &ManualClock) -> (RevocationList, Vec<Intake>) {
    let options = ListOptions::new().clock(clock.clone()).filter(filter).filter_from(1);
    // It is compacted by hand, so no thread does it.
    let options = ListOptions { compact_from: usize::MAX, ..options };
    let (tell, told) = mpsc::channel();
    let list = RevocationList::with(options).follow(Told(tell.clone())).follow(Told(tell));
    let own = Intake::new(list.shared(), OWN);
    (list, std::iter::once(own).chain(told).collect())
}

/// What is under way: work that has begun and not ended.
type UnderWay = Option<Done>;

fn begin(list: &RevocationList, next: usize, under_way: &mut UnderWay) {
    let work: Work = list.shared().work_by_hand(next % PARTS);
    *under_way = Some(work.done(list.shared().front_from()));
}

async fn live(steps: &[Step], filter: Filter) -> Result<(), TestCaseError> {
    let clock = ManualClock::new(UnixTime::from_secs(START));
    let (list, intakes) = list(filter, &clock);
    let mut model = Model::new();
    let mut under_way = None;
    for (number, step) in steps.iter().enumerate() {
        let when = |by: i64| UnixTime::from_secs(model.now.as_secs() + by);
        match step {
            Step::Pass(secs) => {
                let passed = Duration::from_secs(*secs);
                tokio::time::advance(passed).await;
                clock.advance(passed);
                (model.now, model.passed) = (model.now.saturating_add(passed), model.passed + secs);
            }
            Step::Jump(by) => {
                model.now = when(*by);
                clock.set(model.now);
            }
            Step::Add { part, entries, as_of } => {
                let as_of = as_of.map(when);
                model.sweep();
                model.add(*part, entries);
                if let Some(as_of) = as_of {
                    model.promise(*part, as_of);
                }
                intakes[*part].add(entries, as_of).unwrap();
            }
            Step::Replace { part, entries, as_of } => {
                let as_of = when(*as_of);
                model.sweep();
                let is_taken = model.replace(*part, entries, as_of);
                let mut snapshot = intakes[*part].snapshot();
                entries.iter().for_each(|entry| snapshot.push(entry).unwrap());
                prop_assert_eq!(intakes[*part].replace(snapshot, as_of).is_ok(), is_taken);
            }
            Step::Confirm { part, as_of } => {
                let as_of = when(*as_of);
                model.sweep();
                model.promise(*part, as_of);
                intakes[*part].confirm(as_of);
            }
            Step::Overflow { part } => {
                model.sweep();
                model.parts[*part].has_overflowed = true;
                intakes[*part].overflowed();
            }
            Step::Begin => {
                model.sweep();
                begin(&list, number, &mut under_way);
            }
            Step::End => {
                if let Some(done) = under_way.take() {
                    model.sweep();
                    list.shared().settle(done);
                }
            }
            Step::Check(token, off) => {
                let now = when(*off);
                let verdict = list.check(&token.judged(now));
                let (swept, everything) =
                    (model.verdict(token, now, |part| &part.swept), model.verdict(token, now, |part| &part.everything));
                let is_exact = filter != Filter::Only && !model.has_fallen_back && now >= model.horizon.0;
                let revoked = match verdict {
                    Verdict::Revoked(why) => Some(why),
                    _ => None,
                };
                if is_exact {
                    prop_assert_eq!(revoked, swept);
                } else {
                    prop_assert!(strength(revoked) >= strength(swept), "{:?} {:?}", revoked, swept);
                    prop_assert!(
                        filter == Filter::Only || strength(revoked) <= strength(everything),
                        "{:?} {:?}",
                        revoked,
                        everything
                    );
                }
                let age = model.age(now);
                prop_assert_eq!(list.age(now), age);
                let is_stale = age.is_none_or(|age| age > Duration::from_secs(30));
                let expected = if is_stale { Verdict::Stale { age } } else { Verdict::Fresh };
                prop_assert_eq!(verdict, revoked.map_or(expected, Verdict::Revoked));
            }
        }
    }
    Ok(())
}

#[test]
fn a_clock_that_is_ahead_from_the_start_makes_nothing_forgotten_that_the_feed_still_knows() {
    let clock = ManualClock::new(UnixTime::from_secs(START + 86_400));
    let (list, intakes) = list(Filter::Off, &clock);
    let entry = Entry {
        issuer: "i".into(),
        revokes: Revokes::Token { jwt_id: "x".into() },
        until: Some(UnixTime::from_secs(START + 3600)),
    };
    let mut snapshot = intakes[1].snapshot();
    snapshot.push(&entry).unwrap();
    intakes[1].replace(snapshot, UnixTime::from_secs(START)).unwrap();
    list.shared().settle(list.shared().work_by_hand(1).done(None));
    // It is set right, and the feed says that nothing has changed.
    clock.set(UnixTime::from_secs(START + 10));
    intakes[1].confirm(UnixTime::from_secs(START + 10));
    let mut token = Judged::at(UnixTime::from_secs(START + 10));
    (token.issuer, token.jwt_id) = (Some("i"), Some("x"));
    assert_eq!(list.check(&token), Verdict::Revoked(Revoked::Token));
}

#[tokio::test(start_paused = true)]
async fn what_is_added_again_while_a_compaction_leaves_it_out_stays_when_the_clock_has_fallen_back() {
    let clock = ManualClock::new(UnixTime::from_secs(START));
    let (list, intakes) = list(Filter::Off, &clock);
    let entry = |until| Entry {
        issuer: "i".into(),
        revokes: Revokes::Token { jwt_id: "x".into() },
        until: Some(UnixTime::from_secs(START + until)),
    };
    intakes[OWN].add(&[entry(-160)], None).unwrap();
    let passed = Duration::from_secs(500);
    tokio::time::advance(passed).await;
    clock.advance(passed);
    let done = list.shared().work_by_hand(OWN).done(None);
    clock.set(UnixTime::from_secs(START));
    // It says nothing new, and is there still.
    intakes[OWN].add(&[entry(-160)], None).unwrap();
    list.shared().settle(done);
    let mut token = Judged::at(UnixTime::from_secs(START));
    (token.issuer, token.jwt_id) = (Some("i"), Some("x"));
    assert_eq!(list.check(&token), Verdict::Revoked(Revoked::Token));
}

fn run(steps: &[Step], filter: Filter) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live(steps, filter))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_list_says_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, Filter::Off)?;
    }

    #[test]
    fn a_list_with_a_filter_in_front_says_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, Filter::Front)?;
    }

    #[test]
    fn a_list_with_nothing_but_a_filter_errs_only_towards_refusing(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, Filter::Only)?;
    }
}
