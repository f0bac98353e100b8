//! The plan with a clock that only moves when told to: single rules first, then a whole world at random.

use std::sync::LazyLock;

use countersign_token::{SigningKey, VerifyingKey};
use proptest::prelude::*;

use super::*;

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_secs(300);
const MAX_STALE: Duration = Duration::from_secs(86_400);

static KEYS: LazyLock<Vec<Arc<VerifyingKey>>> = LazyLock::new(|| {
    let key = |index| {
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid(format!("k{index}"));
        Arc::new(key.verifying_key().unwrap())
    };
    (0..64).map(key).collect()
});

fn set(indices: impl IntoIterator<Item = usize>) -> Box<KeySet> {
    Box::new(KeySet::new(indices.into_iter().map(|index| Arc::clone(&KEYS[index]))))
}

fn wanted(kid: &str) -> Wanted {
    Wanted { kid: Some(kid.into()), algorithm: Algorithm::Ed25519 }
}

fn new_plan() -> Plan<u32> {
    Plan::new(Config { interval: INTERVAL, max_stale: MAX_STALE, seed: 7 })
}

/// What one step did, sorted by kind.
#[derive(Debug, Default)]
struct Did {
    start: Option<Start>,
    published: Option<Arc<KeySet>>,
    withdrawn: bool,
    disbelieved: bool,
    answers: Vec<(u32, Answer)>,
    armed: Duration,
}

impl Did {
    fn forced(&self) -> bool {
        self.start.is_some_and(|start| start.kind == Kind::Forced)
    }

    fn idle(&self) -> bool {
        self.start.is_none() && self.published.is_none() && self.answers.is_empty()
    }
}

fn step(plan: &mut Plan<u32>, at: Duration, event: Event<u32>) -> Did {
    let mut did = Did::default();
    for action in plan.step(Now { monotonic: at }, event) {
        match action {
            Action::Fetch(start) => assert!(did.start.replace(start).is_none()),
            Action::Publish(set) => assert!(did.published.replace(set).is_none()),
            Action::Disbelieve => did.disbelieved = true,
            Action::Withdraw => did.withdrawn = true,
            Action::Deny(_) => {}
            Action::Answer(waiter, answer) => did.answers.push((waiter, answer)),
            Action::Arm(at) => did.armed = at,
        }
    }
    did
}

fn ask(plan: &mut Plan<u32>, at: Duration, waiter: u32, kid: &str) -> Did {
    let generation = plan.in_force(Now { monotonic: at }).map(|set| set.generation());
    step(plan, at, Event::Asked { wanted: wanted(kid), generation, waiter })
}

/// A plan that published `indices` at 0 s.
fn started(indices: impl IntoIterator<Item = usize>) -> Plan<u32> {
    let mut plan = new_plan();
    assert_eq!(step(&mut plan, Duration::ZERO, Event::Tick).start.unwrap().kind, Kind::Scheduled);
    assert!(step(&mut plan, Duration::ZERO, Event::Fetched(set(indices))).published.is_some());
    plan
}

#[test]
fn the_first_fetch_is_due_at_once_and_short_of_time() {
    let mut plan = new_plan();
    let did = step(&mut plan, Duration::ZERO, Event::Tick);
    assert_eq!(
        did.start,
        Some(Start { number: 1, kind: Kind::Scheduled, timeout: FETCH_TIMEOUT_WITHOUT_KEYS, revalidate: false })
    );
    let did = step(&mut plan, SEC, Event::Fetched(set([0])));
    assert_eq!(did.published.unwrap().generation(), 1);
    assert_eq!(plan.unready(), None);
}

#[test]
fn refreshes_ahead_of_expiry_with_jitter() {
    let mut moments = HashSet::new();
    for seed in 0..200 {
        let mut plan = Plan::<u32>::new(Config { interval: INTERVAL, max_stale: MAX_STALE, seed });
        step(&mut plan, Duration::ZERO, Event::Tick);
        let armed = step(&mut plan, Duration::ZERO, Event::Fetched(set([0]))).armed;
        assert!(armed >= INTERVAL.mul_f64(0.649) && armed <= INTERVAL.mul_f64(0.851), "{armed:?}");
        assert!(step(&mut plan, armed - MS, Event::Tick).start.is_none());
        let start = step(&mut plan, armed, Event::Tick).start.unwrap();
        assert_eq!((start.kind, start.timeout, start.revalidate), (Kind::Scheduled, FETCH_TIMEOUT, false));
        moments.insert(armed);
    }
    assert!(moments.len() > 190, "jitter does not spread");
}

#[test]
fn an_equal_set_keeps_the_old_one() {
    let mut plan = started([0, 1]);
    let due = plan.next_tick();
    step(&mut plan, due, Event::Tick);
    let did = step(&mut plan, due, Event::Fetched(set([0, 1])));
    assert!(did.published.is_none());
    let due = plan.next_tick();
    step(&mut plan, due, Event::Tick);
    let new = step(&mut plan, due, Event::Fetched(set([1, 2]))).published.unwrap();
    assert_eq!(new.generation(), 2);
    assert!(Arc::ptr_eq(new.iter().next().unwrap(), &KEYS[1]));
}

#[test]
fn a_new_key_is_looked_for_at_once_and_found() {
    let mut plan = started([0]);
    let did = ask(&mut plan, 10 * SEC, 1, "k1");
    assert!(did.forced() && did.start.unwrap().revalidate && did.answers.is_empty());
    assert!(ask(&mut plan, 10 * SEC, 2, "k1").idle(), "joins the fetch in flight");
    let did = step(&mut plan, 11 * SEC, Event::Fetched(set([0, 1])));
    assert_eq!(did.answers, [(1, Answer::Changed), (2, Answer::Changed)]);
    assert!(did.start.is_none());
}

#[test]
fn a_key_that_is_not_there_is_absent_for_as_long_as_the_spacing_cap() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "nope");
    let did = step(&mut plan, 11 * SEC, Event::Fetched(set([0])));
    assert_eq!(did.answers, [(1, Answer::Absent)]);
    let did = ask(&mut plan, 15 * SEC - MS, 2, "nope");
    assert_eq!((did.answers, did.start), (vec![(2, Answer::Absent)], None));
    // Counted from the beginning of the look, at 10 s.
    let did = ask(&mut plan, 15 * SEC, 3, "nope");
    assert!(did.forced() && did.answers.is_empty());
}

#[test]
fn a_fetch_that_began_before_the_kid_was_seen_proves_nothing_but_what_it_brings() {
    for brings in [true, false] {
        let mut plan = started([0]);
        let due = plan.next_tick();
        assert_eq!(step(&mut plan, due, Event::Tick).start.unwrap().kind, Kind::Scheduled);
        assert!(ask(&mut plan, due + 100 * MS, 1, "k1").idle());
        let did = step(&mut plan, due + 200 * MS, Event::Fetched(set(if brings { 0..2 } else { 0..1 })));
        if brings {
            assert_eq!((did.answers, did.start), (vec![(1, Answer::Changed)], None));
        } else {
            assert!(did.answers.is_empty() && did.forced());
            assert!(!plan.absent.contains(&wanted("k1"), Now { monotonic: due + 200 * MS }));
            let did = step(&mut plan, due + 300 * MS, Event::Fetched(set([0])));
            assert_eq!(did.answers, [(1, Answer::Absent)]);
        }
    }
}

#[test]
fn forced_fetches_keep_their_distance_and_failures_count() {
    let mut plan = started([0]);
    let mut at = 10 * SEC;
    assert!(ask(&mut plan, at, 0, "x0").forced());
    // 1 s doubles with every fetch that brings nothing new, failed or not, up to 5 s.
    for (round, spacing) in [2, 4, 5, 5].into_iter().enumerate() {
        let event = if round % 2 == 0 { Event::Failed } else { Event::Fetched(set([0])) };
        step(&mut plan, at + 10 * MS, event);
        let did = ask(&mut plan, at + 20 * MS, 1, &format!("x{}", round + 1));
        assert!(did.start.is_none());
        let next = at + spacing * SEC;
        if spacing > 2 {
            let retry_after = next - at - 20 * MS;
            assert_eq!(did.answers.last(), Some(&(1, Answer::NotYet { retry_after })), "not due within the wait");
        }
        assert!(step(&mut plan, next - MS, Event::Tick).start.is_none());
        assert!(step(&mut plan, next, Event::Tick).forced());
        at = next;
    }
    // Anything new makes it 1 s again.
    step(&mut plan, at, Event::Fetched(set([1])));
    assert!(ask(&mut plan, at + 10 * MS, 9, "y").idle());
    assert!(step(&mut plan, at + SEC, Event::Tick).forced());
}

#[test]
fn scheduled_fetches_do_not_use_the_spacing_up() {
    let mut plan = started([0]);
    let due = plan.next_tick();
    step(&mut plan, due, Event::Tick);
    step(&mut plan, due, Event::Fetched(set([0])));
    assert!(ask(&mut plan, due + MS, 1, "k1").forced());
}

#[test]
fn a_failed_fetch_is_no_verdict() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    // The next look is due at 12 s, when the wait is over.
    let did = step(&mut plan, 10 * SEC + 500 * MS, Event::Failed);
    assert_eq!(did.answers, [(1, Answer::NotYet { retry_after: 1500 * MS })]);
    assert!(plan.sought.is_empty(), "nobody waits, nobody looks");
    assert_eq!(step(&mut plan, 12 * SEC, Event::Tick).start, None);
    assert!(ask(&mut plan, 12 * SEC, 2, "k1").forced());
}

#[test]
fn retries_back_off_to_a_minute_while_there_are_keys() {
    let mut plan = started([0]);
    let mut at = plan.next_tick();
    for backoff in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(step(&mut plan, at, Event::Tick).start.is_some());
        assert_eq!(step(&mut plan, at, Event::Failed).armed, at + backoff * SEC);
        at += backoff * SEC;
    }
    step(&mut plan, at, Event::Tick);
    step(&mut plan, at, Event::Fetched(set([0])));
    at = plan.next_tick();
    step(&mut plan, at, Event::Tick);
    assert_eq!(step(&mut plan, at, Event::Failed).armed, at + SEC, "success forgets");
}

#[test]
fn without_keys_retries_come_every_second_and_only_early_requests_wait_for_them() {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    assert!(ask(&mut plan, 100 * MS, 1, "k0").idle());
    assert!(ask(&mut plan, 100 * MS, 2, "nope").idle());
    let did = step(&mut plan, 200 * MS, Event::Failed);
    assert!(did.idle(), "the retry comes within their wait: {did:?}");
    let did = ask(&mut plan, 300 * MS, 3, "k0");
    let unavailable = Answer::Unavailable { reason: Unready::NeverFetched, retry_after: SEC };
    assert_eq!(did.answers, [(3, unavailable)]);
    assert!(step(&mut plan, 1200 * MS, Event::Tick).start.is_some());
    let did = step(&mut plan, 1300 * MS, Event::Fetched(set([0])));
    // It began after both were seen, so it is a verdict on both.
    assert_eq!(did.answers, [(1, Answer::Changed), (2, Answer::Absent)]);

    let mut plan = new_plan();
    let mut at = Duration::ZERO;
    for _ in 0..20 {
        assert_eq!(step(&mut plan, at, Event::Tick).start.unwrap().timeout, FETCH_TIMEOUT_WITHOUT_KEYS);
        assert_eq!(step(&mut plan, at, Event::Failed).armed, at + SEC);
        at += SEC;
    }
}

#[test]
fn a_wait_ends_after_two_seconds() {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    ask(&mut plan, 500 * MS, 1, "k0");
    assert_eq!(plan.next_tick(), 2500 * MS);
    assert!(step(&mut plan, 2499 * MS, Event::Tick).idle());
    let did = step(&mut plan, 2500 * MS, Event::Tick);
    assert_eq!(did.answers, [(1, Answer::Unavailable { reason: Unready::Starting, retry_after: SEC })]);

    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    let did = step(&mut plan, 12 * SEC, Event::Tick);
    // The fetch in flight has three seconds left.
    assert_eq!(did.answers, [(1, Answer::NotYet { retry_after: 3 * SEC })]);
}

#[test]
fn whoever_missed_a_publication_is_told_at_once() {
    let mut plan = started([0]);
    for generation in [None, Some(0)] {
        let did = step(&mut plan, SEC, Event::Asked { wanted: wanted("x"), generation, waiter: 1 });
        assert_eq!((did.answers, did.start), (vec![(1, Answer::Changed)], None));
    }
}

#[test]
fn keys_expire_and_come_back_with_their_generation() {
    let mut plan = started([0]);
    let mut withdrawn_at = None;
    let mut at = Duration::ZERO;
    while withdrawn_at.is_none() {
        at = plan.next_tick();
        assert!(at <= MAX_STALE);
        let did = step(&mut plan, at, Event::Tick);
        assert!(plan.next_tick() > at || did.withdrawn, "the timer spins");
        if did.withdrawn {
            withdrawn_at = Some(at);
        }
        if did.start.is_some() {
            step(&mut plan, at, Event::Failed);
        }
    }
    assert_eq!(withdrawn_at, Some(MAX_STALE));
    assert_eq!(plan.unready(), Some(Unready::TooOld));
    let did = ask(&mut plan, at, 1, "k0");
    assert!(matches!(did.answers[..], [(1, Answer::Unavailable { reason: Unready::TooOld, .. })]));
    let retry = plan.next_tick();
    assert!(retry <= at + SEC, "one second flat again");
    assert_eq!(step(&mut plan, retry, Event::Tick).start.unwrap().timeout, FETCH_TIMEOUT_WITHOUT_KEYS);
    let did = step(&mut plan, retry, Event::Fetched(set([0])));
    assert_eq!(did.published.unwrap().generation(), 1);
    assert_eq!(plan.unready(), None);
}

#[test]
fn an_empty_set_needs_confirmation_a_second_later() {
    let mut plan = started([0]);
    let at = plan.next_tick();
    step(&mut plan, at, Event::Tick);
    let did = step(&mut plan, at, Event::Fetched(set([])));
    assert!(did.disbelieved && did.published.is_none());
    // A forced look in between is too early to confirm anything, and no verdict either.
    assert!(ask(&mut plan, at + 500 * MS, 1, "k1").forced());
    let did = step(&mut plan, at + 600 * MS, Event::Fetched(set([])));
    assert!(did.disbelieved && did.published.is_none() && did.answers.is_empty());
    let did = step(&mut plan, at + SEC, Event::Tick);
    assert_eq!(did.start.unwrap().kind, Kind::Scheduled);
    let did = step(&mut plan, at + SEC, Event::Fetched(set([])));
    let published = did.published.unwrap();
    assert!(published.is_empty() && published.generation() == 2 && !did.disbelieved);
    assert_eq!(did.answers, [(1, Answer::Absent)]);
    assert_eq!(did.armed, at + 2 * SEC, "looks for keys every second");
}

#[test]
fn a_good_set_in_between_starts_the_confirmation_anew() {
    let mut plan = started([0]);
    let mut at = plan.next_tick();
    for keys in [0..0, 0..1, 0..0] {
        step(&mut plan, at, Event::Tick);
        assert!(step(&mut plan, at, Event::Fetched(set(keys))).published.is_none());
        at = plan.next_tick();
    }
}

#[test]
fn a_source_that_never_had_keys_is_not_ready_however_often_it_says_so() {
    let mut plan = new_plan();
    let mut at = Duration::ZERO;
    for _ in 0..5 {
        assert!(step(&mut plan, at, Event::Tick).start.is_some());
        let did = step(&mut plan, at, Event::Fetched(set([])));
        assert!(did.disbelieved && did.published.is_none());
        assert_eq!(plan.unready(), Some(Unready::NeverFetched));
        at += SEC;
    }
    assert!(step(&mut plan, at, Event::Tick).start.is_some());
    assert!(step(&mut plan, at, Event::Fetched(set([0]))).published.is_some());
}

#[test]
fn a_mismatch_is_looked_into_once_per_kid_and_snapshot_for_a_while() {
    let mut plan = started([0, 1]);
    let mut at = 100 * SEC;
    let mismatch = |plan: &mut Plan<u32>, at, kid: &str, generation| {
        step(plan, at, Event::Mismatched { wanted: wanted(kid), generation: Some(generation) }).forced()
    };
    assert!(!mismatch(&mut plan, at, "unknown", 1), "not a key of ours");
    assert!(!mismatch(&mut plan, at, "k0", 0), "an old snapshot");
    assert!(mismatch(&mut plan, at, "k0", 1));
    step(&mut plan, at, Event::Fetched(set([0, 1])));
    at += 10 * SEC;
    assert!(!mismatch(&mut plan, at, "k0", 1));
    assert!(mismatch(&mut plan, at, "k1", 1));
    step(&mut plan, at, Event::Fetched(set([0, 2])));
    at += 10 * SEC;
    assert!(mismatch(&mut plan, at, "k0", 2));
    // And once more after a while: a stranger's bad signature must not hide for good that the key was replaced.
    step(&mut plan, at, Event::Fetched(set([0, 2])));
    assert!(!mismatch(&mut plan, at + MISMATCH_REMEMBERED - SEC, "k0", 2));
    assert!(mismatch(&mut plan, at + MISMATCH_REMEMBERED, "k0", 2));
}

#[test]
fn a_refresh_is_a_forced_fetch() {
    let mut plan = started([0]);
    assert!(step(&mut plan, 10 * SEC, Event::RefreshAsked).forced());
    assert!(step(&mut plan, 10 * SEC, Event::RefreshAsked).idle(), "in flight, and begun before it was asked for");
    assert!(step(&mut plan, 10 * SEC, Event::Failed).start.is_none());
    assert!(step(&mut plan, 12 * SEC, Event::Tick).forced(), "under the spacing");
}

#[test]
fn everything_that_strangers_fill_is_bounded() {
    let mut plan = started([0]);
    let mut answered = 0;
    for index in 0..5000 {
        let did = ask(&mut plan, 10 * SEC, index, &format!("x{index}"));
        answered += did.answers.len();
        assert!(did.answers.iter().all(|(_, answer)| matches!(answer, Answer::NotYet { .. })));
    }
    assert_eq!((plan.waiters.len(), plan.sought.len(), answered), (MAX_WAITERS, MAX_SOUGHT, 5000 - MAX_WAITERS));
    let did = step(&mut plan, 10 * SEC, Event::Fetched(set([0])));
    // Only the first was there when the fetch began.
    assert_eq!(did.answers[0], (0, Answer::Absent));
    assert_eq!(plan.waiters.len(), 0, "2 s spacing is too far for the others");
    assert!(step(&mut plan, 12 * SEC, Event::Tick).forced());
    for index in 0..5000 {
        ask(&mut plan, 12 * SEC, index, &format!("y{index}"));
    }
    step(&mut plan, 12 * SEC, Event::Fetched(set([0])));
    assert!(plan.absent.0.len() <= MAX_ABSENT);
}

#[test]
fn an_interrupted_plan_keeps_its_distance() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    plan.interrupt();
    assert!(plan.waiters.is_empty() && plan.flight.is_none());
    assert!(step(&mut plan, 11 * SEC - MS, Event::Tick).start.is_none());
    assert!(step(&mut plan, 11 * SEC, Event::Tick).start.is_some(), "what was in flight is made up for");
}

// A whole world: a provider that rotates and fails, requests for its keys and for keys nobody has.

#[derive(Clone, Debug)]
enum Happening {
    /// The provider adds its next key and keeps at most two.
    Rotate,
    /// The provider answers this from now on.
    Mode(Mode),
    /// That many requests, each for another kid that nobody has.
    Flood(u16),
    /// A request for the provider's newest key.
    Genuine,
    Mismatch,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    Down,
    Empty,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => Just(Happening::Rotate),
        3 => Just(Happening::Mode(Mode::Up)),
        1 => Just(Happening::Mode(Mode::Down)),
        1 => Just(Happening::Mode(Mode::Empty)),
        4 => (1u16..60).prop_map(Happening::Flood),
        8 => Just(Happening::Genuine),
        1 => Just(Happening::Mismatch),
        1 => Just(Happening::Refresh),
    ]
}

/// Milliseconds until the next happening; mostly less than the times that matter, sometimes hours.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![5 => 0u64..300, 4 => 300u64..6_000, 1 => 6_000u64..400_000]
}

struct World {
    plan: Plan<u32>,
    now: Duration,
    timer: Duration,
    latency: Duration,
    mode: Mode,
    keys: Vec<usize>,
    newest: usize,
    /// In flight: when it ends, and what it brings, decided when it begins.
    flight: Option<(Duration, Option<Vec<usize>>, Start)>,
    last_forced: Option<Duration>,
    waiting: HashMap<u32, Duration>,
    next_waiter: u32,
    made_up: u32,
    in_force: Option<Arc<KeySet>>,
    /// When the first fetch of the current row of empty answers began, by the world's own count.
    empty_since: Option<Duration>,
}

impl World {
    fn new(latency: Duration, seed: u64) -> Self {
        let plan = Plan::new(Config { interval: INTERVAL, max_stale: MAX_STALE, seed });
        let mut world = Self {
            plan,
            now: Duration::ZERO,
            timer: Duration::ZERO,
            latency,
            mode: Mode::Up,
            keys: vec![0],
            newest: 0,
            flight: None,
            last_forced: None,
            waiting: HashMap::new(),
            next_waiter: 0,
            made_up: 0,
            in_force: None,
            empty_since: None,
        };
        world.step(Event::Tick);
        world
    }

    fn step(&mut self, event: Event<u32>) {
        let landed = match &event {
            Event::Fetched(set) => Some(set.len()),
            _ => None,
        };
        for action in self.plan.step(Now { monotonic: self.now }, event) {
            match action {
                Action::Fetch(start) => {
                    assert!(self.flight.is_none(), "two fetches in flight");
                    if start.kind == Kind::Forced {
                        assert!(self.last_forced.is_none_or(|last| self.now >= last + MIN_SPACING), "too close");
                        self.last_forced = Some(self.now);
                    }
                    let (brings, takes) = match self.mode {
                        Mode::Up => (Some(self.keys.clone()), self.latency),
                        Mode::Empty => (Some(Vec::new()), self.latency),
                        Mode::Down => (None, start.timeout),
                    };
                    self.flight = Some((self.now + takes.min(start.timeout), brings, start));
                }
                Action::Publish(set) => {
                    if let Some(old) = &self.in_force {
                        assert!(set.generation() >= old.generation());
                        if set.is_empty() && !old.is_empty() {
                            let first = self.empty_since.expect("a good set was replaced by an unconfirmed empty one");
                            assert!(self.now >= first + CONFIRM_AFTER);
                        }
                    }
                    self.in_force = Some(set);
                }
                Action::Withdraw => self.in_force = None,
                Action::Disbelieve => assert_eq!(landed, Some(0)),
                Action::Deny(absent) => assert!(absent.0.len() <= MAX_ABSENT),
                Action::Answer(waiter, answer) => {
                    let since = self.waiting.remove(&waiter).expect("answered twice");
                    assert!(self.now <= since + MAX_WAIT, "answered late");
                    if answer == Answer::Changed {
                        assert!(self.in_force.is_some());
                    }
                }
                Action::Arm(at) => self.timer = at,
            }
        }
        assert!(self.waiting.len() <= MAX_WAITERS);
    }

    /// Lets time pass, with all that falls due on the way.
    fn pass(&mut self, until: Duration) {
        loop {
            let landing = self.flight.as_ref().map_or(Duration::MAX, |(at, ..)| *at);
            let next = landing.min(self.timer.max(self.now));
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if landing <= self.timer {
                self.land();
            } else {
                self.step(Event::Tick);
                assert!(self.timer > self.now, "the timer spins");
            }
        }
        self.now = until;
    }

    fn land(&mut self) {
        let Some((_, brings, start)) = self.flight.take() else { return };
        let begun = self.now - self.latency.min(start.timeout);
        match brings {
            Some(keys) => {
                match keys[..] {
                    [] => _ = self.empty_since.get_or_insert(begun),
                    _ => self.empty_since = None,
                }
                self.step(Event::Fetched(set(keys)));
            }
            None => self.step(Event::Failed),
        }
    }

    fn request(&mut self, kid: &str) {
        let wanted = wanted(kid);
        if self.in_force.as_ref().is_some_and(|set| wanted.is_in(set)) {
            return;
        }
        let generation = self.in_force.as_ref().map(|set| set.generation());
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        self.waiting.insert(waiter, self.now);
        self.step(Event::Asked { wanted, generation, waiter });
    }

    fn made_up(&mut self) {
        self.made_up += 1;
        self.request(&format!("made up {}", self.made_up));
    }

    fn knows(&self, index: usize) -> bool {
        self.in_force.as_ref().is_some_and(|set| wanted(&format!("k{index}")).is_in(set))
    }

    fn rotate(&mut self) {
        self.newest = (self.newest + 1) % KEYS.len();
        self.keys.push(self.newest);
        if self.keys.len() > 2 {
            self.keys.remove(0);
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Rotate => self.rotate(),
            Happening::Mode(mode) => self.mode = *mode,
            Happening::Flood(requests) => (0..*requests).for_each(|_| self.made_up()),
            Happening::Genuine => self.request(&format!("k{}", self.newest)),
            Happening::Mismatch => {
                let generation = self.in_force.as_ref().map(|set| set.generation());
                self.step(Event::Mismatched { wanted: wanted(&format!("k{}", self.keys[0])), generation });
            }
            Happening::Refresh => self.step(Event::RefreshAsked),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        seed: u64,
        latency in 0u64..3_000,
        happenings in prop::collection::vec((pause(), happening()), 1..150),
    ) {
        let mut world = World::new(Duration::from_millis(latency), seed);
        for (pause, happening) in &happenings {
            let until = world.now + Duration::from_millis(*pause);
            world.pass(until);
            world.happen(happening);
        }
        // Everybody is answered, whatever became of the provider.
        let until = world.now + MAX_WAIT;
        world.pass(until);
        prop_assert!(world.waiting.is_empty());
        // And from a provider that answers again, keys come back.
        world.mode = Mode::Up;
        let until = world.now + MAX_BACKOFF + FETCH_TIMEOUT + 2 * world.latency + SEC;
        let asked = world.newest;
        while world.now < until {
            world.request(&format!("k{asked}"));
            let next = world.now + SEC;
            world.pass(next);
        }
        prop_assert!(world.knows(asked));
    }

    /// Bounded blindness: a key published at t is known by t + max(spacing cap, fetch time-out) + one fetch, if anybody
    /// needs it, however many made-up kids arrive all the time.
    #[test]
    fn a_flood_cannot_hide_a_new_key(
        seed: u64,
        latency in 0u64..2_000,
        outage in prop::option::of(0u64..20_000),
        warm_up in 3_000u64..30_000,
        rate in 1u64..200,
    ) {
        let mut world = World::new(Duration::from_millis(latency), seed);
        let flood = |world: &mut World, time: u64, genuine: Option<usize>| {
            let end = world.now + Duration::from_millis(time);
            while world.now < end && genuine.is_none_or(|index| !world.knows(index)) {
                world.made_up();
                // The next key's own name is among the guesses.
                if genuine.is_none() {
                    let next = (world.newest + 1) % KEYS.len();
                    world.request(&format!("k{next}"));
                }
                if let Some(index) = genuine {
                    world.request(&format!("k{index}"));
                }
                let next = (world.now + Duration::from_millis(rate)).min(end);
                world.pass(next);
            }
        };
        flood(&mut world, warm_up, None);
        if let Some(outage) = outage {
            world.mode = Mode::Down;
            flood(&mut world, outage, None);
            world.mode = Mode::Up;
        }
        world.rotate();
        let published = world.now;
        let index = world.newest;
        flood(&mut world, 60_000, Some(index));
        prop_assert!(world.knows(index));
        let took = world.now - published;
        // One step of the simulation on top.
        let bound = MAX_SPACING.max(FETCH_TIMEOUT) + world.latency + 2 * Duration::from_millis(rate);
        prop_assert!(took <= bound, "{took:?} > {bound:?}");
    }

    /// Without a flood nobody is refused: a rotation nobody announced is found within the wait.
    #[test]
    fn a_quiet_rotation_refuses_nobody(seed: u64, latency in 0u64..1_900, quiet in 0u64..200_000) {
        let mut world = World::new(Duration::from_millis(latency), seed);
        let until = world.latency + Duration::from_millis(quiet);
        world.pass(until);
        // Not while a scheduled fetch is in flight: the sum of two fetches may be longer than a wait.
        prop_assume!(world.flight.is_none());
        world.rotate();
        let index = world.newest;
        world.request(&format!("k{index}"));
        let until = world.now + MAX_WAIT;
        world.pass(until);
        prop_assert!(world.knows(index));
    }
}
