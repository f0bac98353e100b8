//! The plan with a clock that only moves when told to: single rules first, then a whole world at random.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use countersign_token::{SigningKey, VerifyingKey};

use super::*;

mod answers;
mod asleep;
mod simulation;
mod withdrawn;

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_secs(300);
const MIN_LIFETIME: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
const MAX_STALE: Duration = Duration::from_secs(86_400);
/// What the wall clock says when the plan begins.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

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

fn config(seed: u64) -> Config {
    let (min_lifetime, max_lifetime) = (MIN_LIFETIME, MAX_LIFETIME);
    Config { lifetime: INTERVAL, min_lifetime, max_lifetime, max_stale: MAX_STALE, backs_off_without_keys: false, seed }
}

fn new_plan() -> Plan<u32> {
    Plan::new(config(7))
}

/// Both clocks in step, as long as nobody disturbs one.
fn clocks(at: Duration) -> Now {
    Now { monotonic: at, wall: EPOCH + at }
}

fn fetched(set: Box<KeySet>) -> Event<u32> {
    Event::Fetched { set, hints: Box::default() }
}

fn failed() -> Event<u32> {
    Event::Failed { retry_after: None }
}

/// What one step did, sorted by kind.
#[derive(Debug, Default)]
struct Did {
    start: Option<Start>,
    published: Option<Arc<KeySet>>,
    withdrawn: bool,
    stale: bool,
    recovered: bool,
    disbelieved: Option<Disbelief>,
    answers: Vec<(u32, Answer)>,
    fate: Option<Fate>,
    armed: Duration,
}

impl Did {
    fn forced(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.kind == Kind::Forced)
    }

    fn idle(&self) -> bool {
        self.start.is_none() && self.published.is_none() && self.answers.is_empty()
    }
}

fn step(plan: &mut Plan<u32>, at: Duration, event: Event<u32>) -> Did {
    step_by(plan, clocks(at), event)
}

fn step_by(plan: &mut Plan<u32>, now: Now, event: Event<u32>) -> Did {
    let mut did = Did::default();
    for action in plan.step(now, event) {
        match action {
            Action::Fetch(start) => assert!(did.start.replace(start).is_none()),
            Action::Publish(set) => assert!(did.published.replace(set).is_none()),
            Action::Disbelieve(disbelief) => did.disbelieved = Some(disbelief),
            Action::Stale => did.stale = true,
            Action::Recovered => did.recovered = true,
            Action::Withdraw => did.withdrawn = true,
            Action::Deny(_) => {}
            Action::Answer(waiter, answer) => did.answers.push((waiter, answer)),
            Action::Count(fate) => assert!(did.fate.replace(fate).is_none()),
            Action::Arm(at) => assert!(at <= plan.next_tick(now)),
        }
    }
    did.armed = plan.next_tick(now);
    did
}

fn ask(plan: &mut Plan<u32>, at: Duration, waiter: u32, kid: &str) -> Did {
    let generation = plan.in_force(clocks(at)).map(|set| set.generation());
    step(plan, at, Event::Asked { wanted: wanted(kid), generation, waiter })
}

/// When the plan has something to do next, as of when it did something last.
fn due(plan: &Plan<u32>) -> Duration {
    plan.next_tick(plan.seen.unwrap_or(clocks(Duration::ZERO)))
}

/// A plan that published `indices` at 0 s.
fn started(indices: impl IntoIterator<Item = usize>) -> Plan<u32> {
    let mut plan = new_plan();
    assert_eq!(step(&mut plan, Duration::ZERO, Event::Tick).start.unwrap().kind, Kind::Scheduled);
    assert!(step(&mut plan, Duration::ZERO, fetched(set(indices))).published.is_some());
    plan
}

#[test]
fn the_first_fetch_is_due_at_once_and_short_of_time() {
    let mut plan = new_plan();
    let did = step(&mut plan, Duration::ZERO, Event::Tick);
    assert_eq!(
        did.start,
        Some(Start {
            number: 1,
            kind: Kind::Scheduled,
            is_manual: false,
            look: Look {
                timeout: FETCH_TIMEOUT_WITHOUT_KEYS,
                revalidate: false,
                validators: Validators::default(),
                has_keys: false,
                has_fresh_keys: false,
                has_failed: false,
            }
        })
    );
    let did = step(&mut plan, SEC, fetched(set([0])));
    assert_eq!(did.published.unwrap().generation(), 1);
    assert_eq!(plan.unready(), None);
}

#[test]
fn a_source_that_has_changed_is_looked_at_at_once_and_not_more_often_than_once_a_second() {
    let mut plan = started([0]);
    let did = step(&mut plan, 10 * SEC, Event::SourceChanged);
    assert_eq!(did.start.unwrap().kind, Kind::Scheduled);
    // It goes on changing while it is read, so it is read again.
    assert!(step(&mut plan, 10 * SEC + MS, Event::SourceChanged).start.is_none());
    let did = step(&mut plan, 10 * SEC + 2 * MS, fetched(set([0, 1])));
    assert!(did.published.is_some() && did.start.is_none());
    assert_eq!(did.armed, 11 * SEC);
    assert!(step(&mut plan, 11 * SEC, Event::Tick).start.is_some());
    let did = step(&mut plan, 11 * SEC, fetched(set([1])));
    assert!(did.published.is_some() && did.armed > 100 * SEC, "{did:?}");
}

fn restored(indices: impl IntoIterator<Item = usize>, age: Duration) -> Event<u32> {
    Event::Restored(Box::new(Restored { set: *set(indices), age, generated: None }))
}

#[test]
fn a_remembered_set_serves_until_the_first_fetch_and_never_after_it() {
    let mut plan = new_plan();
    assert!(step(&mut plan, PAST, Event::Tick).start.is_some());
    ask(&mut plan, PAST, 1, "k0");
    ask(&mut plan, PAST, 2, "k1");
    let did = step(&mut plan, PAST + MS, restored([0], 2 * INTERVAL));
    assert_eq!(did.published.unwrap().generation(), 1);
    assert_eq!(did.answers, [(1, Answer::Changed)], "the other one waits for the fetch");
    assert!(did.stale, "it has outlived what it is good for");
    assert!(step(&mut plan, PAST + 2 * MS, restored([2], Duration::ZERO)).idle(), "it is remembered once");
    let did = step(&mut plan, PAST + SEC, fetched(set([1])));
    assert_eq!((did.published.unwrap().generation(), did.answers), (2, vec![(2, Answer::Changed)]));
    assert!(did.recovered);
    assert!(step(&mut plan, PAST + SEC, restored([0], Duration::ZERO)).idle());
}

#[test]
fn a_remembered_set_is_refused_when_it_is_too_old_and_dropped_when_it_becomes_so() {
    let mut plan = new_plan();
    step(&mut plan, PAST, Event::Tick);
    assert!(step(&mut plan, PAST, restored([0], MAX_STALE)).published.is_none());
    assert!(step(&mut plan, PAST, restored([], SEC)).published.is_none(), "nothing is nothing to remember");
    assert!(step(&mut plan, PAST, restored([0], MAX_STALE - 10 * SEC)).published.is_some());
    // The look that is due at once has not ended; it and all that follow fail.
    step(&mut plan, PAST, failed());
    let withdrawn_at = loop {
        let at = due(&plan);
        let did = step(&mut plan, at, Event::Tick);
        if did.withdrawn {
            break at;
        }
        if did.start.is_some() {
            step(&mut plan, at, failed());
        }
    };
    assert_eq!(withdrawn_at, PAST + 10 * SEC);
    assert_eq!(plan.unready(), Some(Unready::TooOld));
}

#[test]
fn what_was_known_of_keys_too_old_is_not_said_of_those_that_are_remembered_in_their_place() {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    let validators = Validators { etag: Some("\"old\"".into()), last_modified: None, place: 0 };
    let hints = Box::new(Hints { validators, ..Hints::default() });
    step(&mut plan, Duration::ZERO, Event::Fetched { set: set([0]), hints });
    // Until they are too old, and a look that is conditional on them is under way.
    let at = loop {
        let at = due(&plan);
        match step(&mut plan, at, Event::Tick).start {
            Some(start) if plan.unready().is_some() => {
                assert!(!start.look.validators.is_empty());
                break at;
            }
            Some(_) => _ = step(&mut plan, at, failed()),
            None => {}
        }
    };
    let did = step(&mut plan, at, restored([1], SEC));
    assert_eq!((did.published.unwrap().generation(), did.stale), (2, false));
    let did = step(&mut plan, at + MS, Event::NotModified(Box::default()));
    assert_eq!(did.disbelieved, Some(Disbelief::Unasked), "that the old ones are still so confirms no others");
    let start = loop {
        let at = due(&plan);
        if let Some(start) = step(&mut plan, at, Event::Tick).start {
            break start;
        }
    };
    assert!(start.look.validators.is_empty());
}

#[test]
fn a_request_for_an_unknown_key_hears_what_it_brought_about_and_no_other_request_does() {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    assert_eq!(ask(&mut plan, MS, 1, "k0").fate, None, "there are no keys yet");
    assert!(step(&mut plan, SEC, fetched(set([0]))).fate.is_none());
    let asked = Event::Asked { wanted: wanted("k0"), generation: Some(0), waiter: 2 };
    assert_eq!(step(&mut plan, 10 * SEC, asked).fate, None, "it looked at another set");
    assert_eq!(ask(&mut plan, 10 * SEC, 3, "a").fate, Some(Fate::Provoked));
    assert_eq!(ask(&mut plan, 10 * SEC, 4, "a").fate, Some(Fate::InFlight));
    step(&mut plan, 10 * SEC + MS, fetched(set([0])));
    // The second one of `a` came after the look had begun, but that was for the same key.
    assert_eq!(ask(&mut plan, 10 * SEC + MS, 5, "a").fate, Some(Fate::Absent));
    assert_eq!(ask(&mut plan, 10 * SEC + MS, 6, "b").fate, Some(Fate::Spaced));
    assert_eq!(step(&mut plan, 10 * SEC + MS, Event::RefreshAsked).fate, None);
}

#[test]
fn a_forced_fetch_is_manual_if_an_operator_wants_it_and_only_that_one() {
    let mut plan = started([0]);
    let start = step(&mut plan, 10 * SEC, Event::RefreshAsked).start.unwrap();
    assert_eq!((start.kind, start.is_manual), (Kind::Forced, true));
    step(&mut plan, 10 * SEC, fetched(set([0])));
    let start = ask(&mut plan, 20 * SEC, 1, "a").start.unwrap();
    assert_eq!((start.kind, start.is_manual), (Kind::Forced, false));
}

#[test]
fn refreshes_ahead_of_expiry_with_jitter() {
    let mut moments = HashSet::new();
    for seed in 0..200 {
        let mut plan = Plan::<u32>::new(config(seed));
        step(&mut plan, Duration::ZERO, Event::Tick);
        let armed = step(&mut plan, Duration::ZERO, fetched(set([0]))).armed;
        assert!(armed >= INTERVAL.mul_f64(0.649) && armed <= INTERVAL.mul_f64(0.851), "{armed:?}");
        assert!(step(&mut plan, armed - MS, Event::Tick).start.is_none());
        let start = step(&mut plan, armed, Event::Tick).start.unwrap();
        assert_eq!((start.kind, start.look.timeout, start.look.revalidate), (Kind::Scheduled, FETCH_TIMEOUT, false));
        moments.insert(armed);
    }
    assert!(moments.len() > 190, "jitter does not spread");
}

#[test]
fn an_equal_set_keeps_the_old_one() {
    let mut plan = started([0, 1]);
    let at = due(&plan);
    step(&mut plan, at, Event::Tick);
    let did = step(&mut plan, at, fetched(set([0, 1])));
    assert!(did.published.is_none());
    let at = due(&plan);
    step(&mut plan, at, Event::Tick);
    let new = step(&mut plan, at, fetched(set([1, 2]))).published.unwrap();
    assert_eq!(new.generation(), 2);
    assert!(Arc::ptr_eq(new.iter().next().unwrap(), &KEYS[1]));
}

#[test]
fn a_new_key_is_looked_for_at_once_and_found() {
    let mut plan = started([0]);
    let did = ask(&mut plan, 10 * SEC, 1, "k1");
    assert!(did.forced() && did.start.unwrap().look.revalidate && did.answers.is_empty());
    assert!(ask(&mut plan, 10 * SEC, 2, "k1").idle(), "joins the fetch in flight");
    let did = step(&mut plan, 11 * SEC, fetched(set([0, 1])));
    assert_eq!(did.answers, [(1, Answer::Changed), (2, Answer::Changed)]);
    assert!(did.start.is_none());
}

#[test]
fn a_key_that_is_not_there_is_absent_for_as_long_as_the_spacing_cap() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "nope");
    let did = step(&mut plan, 11 * SEC, fetched(set([0])));
    assert_eq!(did.answers, [(1, Answer::Absent)]);
    let did = ask(&mut plan, 15 * SEC - MS, 2, "nope");
    assert_eq!((did.answers, did.start), (vec![(2, Answer::Absent)], None));
    // Counted from the beginning of the look, at 10 s.
    let did = ask(&mut plan, 15 * SEC, 3, "nope");
    assert!(did.forced() && did.answers.is_empty());
}

/// Tokens of several withdrawn keys, which their holders go on showing: whoever has been refused once is refused for good, and
/// not told every few seconds to ask again.
#[test]
fn what_was_absent_before_is_absent_again_after_each_look() {
    let mut plan = started([0]);
    for kid in ["a", "b", "c"] {
        ask(&mut plan, 10 * SEC, 1, kid);
    }
    // "a" began the look, "b" and "c" came too late for it.
    step(&mut plan, 10 * SEC + MS, fetched(set([0])));
    let mut at = due(&plan);
    for round in 0..20 {
        for waiter in 0..3 {
            let did = ask(&mut plan, at, waiter, ["a", "b", "c"][waiter as usize]);
            assert!(did.answers.iter().all(|(_, answer)| *answer == Answer::Absent || round == 0), "{round}: {did:?}");
        }
        if plan.flight.is_some() {
            let did = step(&mut plan, at + MS, fetched(set([0])));
            assert!(did.answers.iter().all(|(_, answer)| *answer == Answer::Absent || round == 0), "{round}: {did:?}");
            assert!(plan.waiters.is_empty() || round == 0);
        }
        at += 5 * SEC;
    }
}

#[test]
fn a_fetch_that_began_before_the_kid_was_seen_proves_nothing_but_what_it_brings() {
    for brings in [true, false] {
        let mut plan = started([0]);
        let due = due(&plan);
        assert_eq!(step(&mut plan, due, Event::Tick).start.unwrap().kind, Kind::Scheduled);
        assert!(ask(&mut plan, due + 100 * MS, 1, "k1").idle());
        let did = step(&mut plan, due + 200 * MS, fetched(set(if brings { 0..2 } else { 0..1 })));
        if brings {
            assert_eq!((did.answers, did.start), (vec![(1, Answer::Changed)], None));
        } else {
            assert!(did.answers.is_empty() && did.forced());
            assert!(!plan.absent.contains(&wanted("k1"), clocks(due + 200 * MS)));
            let did = step(&mut plan, due + 300 * MS, fetched(set([0])));
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
        let event = if round % 2 == 0 { failed() } else { fetched(set([0])) };
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
    step(&mut plan, at, fetched(set([1])));
    assert!(ask(&mut plan, at + 10 * MS, 9, "y").idle());
    assert!(step(&mut plan, at + SEC, Event::Tick).forced());
}

#[test]
fn scheduled_fetches_do_not_use_the_spacing_up() {
    let mut plan = started([0]);
    let due = due(&plan);
    step(&mut plan, due, Event::Tick);
    step(&mut plan, due, fetched(set([0])));
    assert!(ask(&mut plan, due + MS, 1, "k1").forced());
}

#[test]
fn a_failed_fetch_is_no_verdict() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    // The next look is due at 12 s, when the wait is over.
    let did = step(&mut plan, 10 * SEC + 500 * MS, failed());
    assert_eq!(did.answers, [(1, Answer::NotYet { retry_after: 1500 * MS })]);
    assert!(plan.sought.is_empty(), "nobody waits, nobody looks");
    assert_eq!(step(&mut plan, 12 * SEC, Event::Tick).start, None);
    assert!(ask(&mut plan, 12 * SEC, 2, "k1").forced());
}

#[test]
fn retries_back_off_to_a_minute_while_there_are_keys() {
    let mut plan = started([0]);
    let mut at = due(&plan);
    for backoff in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(step(&mut plan, at, Event::Tick).start.is_some());
        step(&mut plan, at, failed());
        let retry = plan.scheduled_at - at;
        assert!(retry <= backoff * SEC && retry >= (backoff * SEC).mul_f64(1.0 - BACKOFF_JITTER), "{retry:?}");
        assert!(backoff == 1 || retry != backoff * SEC, "chance has moved it");
        at += retry;
    }
    step(&mut plan, at, Event::Tick);
    step(&mut plan, at, fetched(set([0])));
    at = due(&plan);
    step(&mut plan, at, Event::Tick);
    assert!(step(&mut plan, at, failed()).armed <= at + SEC, "success forgets");
}

#[test]
fn without_keys_retries_come_every_second_and_only_early_requests_wait_for_them() {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    assert!(ask(&mut plan, 100 * MS, 1, "k0").idle());
    assert!(ask(&mut plan, 100 * MS, 2, "nope").idle());
    let did = step(&mut plan, 200 * MS, failed());
    assert!(did.idle(), "the retry comes within their wait: {did:?}");
    let did = ask(&mut plan, 300 * MS, 3, "k0");
    let unavailable = Answer::Unavailable { reason: Unready::NeverFetched, retry_after: SEC };
    assert_eq!(did.answers, [(3, unavailable)]);
    assert!(step(&mut plan, 1200 * MS, Event::Tick).start.is_some());
    let did = step(&mut plan, 1300 * MS, fetched(set([0])));
    // It began after both were seen, so it is a verdict on both.
    assert_eq!(did.answers, [(1, Answer::Changed), (2, Answer::Absent)]);

    let mut plan = new_plan();
    let mut at = Duration::ZERO;
    for _ in 0..20 {
        assert_eq!(step(&mut plan, at, Event::Tick).start.unwrap().look.timeout, FETCH_TIMEOUT_WITHOUT_KEYS);
        assert_eq!(step(&mut plan, at, failed()).armed, at + SEC);
        at += SEC;
    }
}

#[test]
fn a_strangers_source_is_asked_ever_more_seldom_while_it_has_no_keys() {
    let mut plan = Plan::<u32>::new(Config { backs_off_without_keys: true, ..config(7) });
    let mut at = Duration::ZERO;
    for backoff in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(step(&mut plan, at, Event::Tick).start.is_some());
        step(&mut plan, at, failed());
        let retry = due(&plan) - at;
        assert!(retry <= backoff * SEC && retry >= (backoff * SEC).mul_f64(1.0 - BACKOFF_JITTER), "{retry:?}");
        let did = ask(&mut plan, at, 1, "k0");
        let [(_, Answer::Unavailable { retry_after, .. })] = did.answers[..] else { panic!("{did:?}") };
        assert!(retry_after <= 5 * SEC, "callers are told to come within five seconds: {retry_after:?}");
        at += retry;
    }
    step(&mut plan, at, Event::Tick);
    assert!(step(&mut plan, at, fetched(set([0]))).published.is_some());
}

#[test]
fn a_wait_ends_after_two_seconds() {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    ask(&mut plan, 500 * MS, 1, "k0");
    assert_eq!(due(&plan), 2500 * MS);
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
        at = due(&plan);
        assert!(at <= MAX_STALE);
        let did = step(&mut plan, at, Event::Tick);
        assert!(due(&plan) > at || did.withdrawn, "the timer spins");
        if did.withdrawn {
            withdrawn_at = Some(at);
        }
        if did.start.is_some() {
            step(&mut plan, at, failed());
        }
    }
    assert_eq!(withdrawn_at, Some(MAX_STALE));
    assert_eq!(plan.unready(), Some(Unready::TooOld));
    let did = ask(&mut plan, at, 1, "k0");
    assert!(matches!(did.answers[..], [(1, Answer::Unavailable { reason: Unready::TooOld, .. })]));
    let retry = due(&plan);
    assert!(retry <= at + SEC, "one second flat again");
    assert_eq!(step(&mut plan, retry, Event::Tick).start.unwrap().look.timeout, FETCH_TIMEOUT_WITHOUT_KEYS);
    let did = step(&mut plan, retry, fetched(set([0])));
    assert_eq!(did.published.unwrap().generation(), 1);
    assert_eq!(plan.unready(), None);
}

#[test]
fn an_empty_set_needs_confirmation_a_second_later() {
    let mut plan = started([0]);
    let at = due(&plan);
    step(&mut plan, at, Event::Tick);
    let did = step(&mut plan, at, fetched(set([])));
    assert!(did.disbelieved == Some(Disbelief::Empty) && did.published.is_none());
    // A forced look in between is too early to confirm anything, and no verdict either.
    assert!(ask(&mut plan, at + 500 * MS, 1, "k1").forced());
    let did = step(&mut plan, at + 600 * MS, fetched(set([])));
    assert!(did.disbelieved == Some(Disbelief::Empty) && did.published.is_none() && did.answers.is_empty());
    let did = step(&mut plan, at + SEC, Event::Tick);
    assert_eq!(did.start.unwrap().kind, Kind::Scheduled);
    let did = step(&mut plan, at + SEC, fetched(set([])));
    let published = did.published.unwrap();
    assert!(published.is_empty() && published.generation() == 2 && did.disbelieved.is_none());
    assert_eq!(did.answers, [(1, Answer::Absent)]);
    assert_eq!(did.armed, at + 2 * SEC, "looks for keys every second");
}

#[test]
fn a_good_set_in_between_starts_the_confirmation_anew() {
    let mut plan = started([0]);
    let mut at = due(&plan);
    for keys in [0..0, 0..1, 0..0] {
        step(&mut plan, at, Event::Tick);
        assert!(step(&mut plan, at, fetched(set(keys))).published.is_none());
        at = due(&plan);
    }
}

#[test]
fn a_source_that_never_had_keys_is_not_ready_however_often_it_says_so() {
    let mut plan = new_plan();
    let mut at = Duration::ZERO;
    for _ in 0..5 {
        assert!(step(&mut plan, at, Event::Tick).start.is_some());
        let did = step(&mut plan, at, fetched(set([])));
        assert!(did.disbelieved == Some(Disbelief::Empty) && did.published.is_none());
        assert_eq!(plan.unready(), Some(Unready::NeverFetched));
        at += SEC;
    }
    assert!(step(&mut plan, at, Event::Tick).start.is_some());
    assert!(step(&mut plan, at, fetched(set([0]))).published.is_some());
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
    step(&mut plan, at, fetched(set([0, 1])));
    at += 10 * SEC;
    assert!(!mismatch(&mut plan, at, "k0", 1));
    assert!(mismatch(&mut plan, at, "k1", 1));
    step(&mut plan, at, fetched(set([0, 2])));
    at += 10 * SEC;
    assert!(mismatch(&mut plan, at, "k0", 2));
    // And once more after a while: a stranger's bad signature must not hide for good that the key was replaced.
    step(&mut plan, at, fetched(set([0, 2])));
    assert!(!mismatch(&mut plan, at + MISMATCH_REMEMBERED - SEC, "k0", 2));
    assert!(mismatch(&mut plan, at + MISMATCH_REMEMBERED, "k0", 2));
}

#[test]
fn a_refresh_is_a_forced_fetch() {
    let mut plan = started([0]);
    assert!(step(&mut plan, 10 * SEC, Event::RefreshAsked).forced());
    assert!(step(&mut plan, 10 * SEC, Event::RefreshAsked).idle(), "in flight, and begun before it was asked for");
    assert!(step(&mut plan, 10 * SEC, failed()).start.is_none());
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
    let did = step(&mut plan, 10 * SEC, fetched(set([0])));
    // Only the first was there when the fetch began.
    assert_eq!(did.answers[0], (0, Answer::Absent));
    assert_eq!(plan.waiters.len(), 0, "2 s spacing is too far for the others");
    assert!(step(&mut plan, 12 * SEC, Event::Tick).forced());
    for index in 0..5000 {
        ask(&mut plan, 12 * SEC, index, &format!("y{index}"));
    }
    step(&mut plan, 12 * SEC, fetched(set([0])));
    assert!(plan.absent.len() <= absent::MAX_ABSENT);
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
