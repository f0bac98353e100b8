//! The plan with a clock that only moves when told to: single rules first, then a whole world at random.

use std::sync::LazyLock;

use countersign_token::{SigningKey, VerifyingKey};
use proptest::prelude::*;

use super::*;

mod simulation;

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
