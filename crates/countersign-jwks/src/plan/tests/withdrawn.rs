//! Keys that went with their set: known to be absent at once, and only those.

use super::*;

/// An answer that says nothing of itself, from this place.
fn from_place(place: u64, keys: Box<KeySet>) -> Event<u32> {
    let validators = Validators { place, ..Validators::default() };
    Event::Fetched { set: keys, hints: Box::new(Hints { validators, ..Hints::default() }) }
}

fn dated(seconds: u32, keys: Box<KeySet>) -> Event<u32> {
    Event::Fetched { set: keys, hints: Box::new(Hints { date: Some(EPOCH + seconds * SEC), ..Hints::default() }) }
}

/// The next look that is due without being asked for; when it begins.
fn scheduled(plan: &mut Plan<u32>) -> Duration {
    let at = due(plan);
    assert_eq!(step(plan, at, Event::Tick).start.unwrap().kind, Kind::Scheduled);
    at
}

fn is_absent(plan: &Plan<u32>, at: Duration, kid: &str) -> bool {
    plan.absent.contains(&wanted(kid), clocks(at))
}

#[test]
fn nobody_waits_for_a_key_that_went_with_its_set() {
    let mut plan = started([0, 1]);
    assert!(ask(&mut plan, 10 * SEC, 1, "k2").forced());
    let did = step(&mut plan, 10 * SEC + 100 * MS, fetched(set([1, 2])));
    assert_eq!(did.answers, [(1, Answer::Changed)]);
    for at in [10 * SEC + 100 * MS, 11 * SEC, 15 * SEC - MS] {
        let did = ask(&mut plan, at, 2, "k0");
        assert_eq!((did.answers, did.start, did.fate), (vec![(2, Answer::Absent)], None, Some(Fate::Absent)));
    }
    // As long as any other absence: then somebody looks again, and the answer holds for another while.
    let did = ask(&mut plan, 15 * SEC, 3, "k0");
    assert!(did.forced() && did.answers.is_empty());
    assert_eq!(step(&mut plan, 15 * SEC + MS, fetched(set([1, 2]))).answers, [(3, Answer::Absent)]);
    assert_eq!(ask(&mut plan, 20 * SEC - MS, 4, "k0").answers, [(4, Answer::Absent)]);
}

#[test]
fn a_key_that_nobody_has_seen_is_looked_for_all_the_same() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    step(&mut plan, 10 * SEC + 100 * MS, fetched(set([1])));
    assert!(ask(&mut plan, 10 * SEC + 200 * MS, 2, "k2").idle(), "it waits");
    assert!(step(&mut plan, 11 * SEC, Event::Tick).forced());
    assert_eq!(step(&mut plan, 11 * SEC + MS, fetched(set([1, 2]))).answers, [(2, Answer::Changed)]);
}

/// Requests read the one and then the other.
#[test]
fn absences_come_before_the_set_that_they_are_of() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    let actions = plan.step(clocks(10 * SEC + MS), fetched(set([1])));
    let [Action::Deny(absent), Action::Publish(set), Action::Answer(1, Answer::Changed), ..] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(absent.contains(&wanted("k0"), clocks(10 * SEC + MS)) && !wanted("k0").is_in(set));
}

#[test]
fn a_key_that_comes_back_is_absent_no_more() {
    for by_request in [true, false] {
        let mut plan = started([0]);
        ask(&mut plan, 10 * SEC, 1, "k1");
        step(&mut plan, 10 * SEC + MS, fetched(set([1])));
        assert!(is_absent(&plan, 11 * SEC, "k0"));
        let at = if by_request { 11 * SEC } else { due(&plan) };
        let event = if by_request { Event::RefreshAsked } else { Event::Tick };
        assert!(step(&mut plan, at, event).start.is_some());
        let published = step(&mut plan, at + MS, fetched(set([0, 1]))).published.unwrap();
        assert!(wanted("k0").is_in(&published) && !plan.absent.remembers(&wanted("k0")));
    }
}

/// Somebody's memory is no look, and changes nothing about what looks have found. The set is asked first.
#[test]
fn what_is_remembered_in_place_of_keys_too_old_is_there_and_its_lack_proves_nothing() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    step(&mut plan, 10 * SEC + MS, fetched(set([1])));
    let at = loop {
        let at = due(&plan);
        let did = step(&mut plan, at, Event::Tick);
        if did.start.is_some() {
            step(&mut plan, at, failed());
        }
        if did.withdrawn {
            break at;
        }
    };
    let published = step(&mut plan, at, restored([0, 2], SEC)).published.unwrap();
    assert!(wanted("k0").is_in(&published));
    let did = ask(&mut plan, at, 2, "k1");
    assert!(did.forced() && did.start.unwrap().look.revalidate && did.answers.is_empty());
    let did = step(&mut plan, at + MS, fetched(set([1])));
    assert_eq!((did.answers, is_absent(&plan, at + MS, "k2")), (vec![(2, Answer::Changed)], false));
}

/// A cache on the way that may answer by itself may have kept a set from before the key was published.
#[test]
fn what_a_cache_may_have_said_makes_no_key_absent() {
    let mut plan = started([0, 1]);
    let at = scheduled(&mut plan);
    assert!(step(&mut plan, at, fetched(set([0]))).published.is_some());
    let did = ask(&mut plan, at, 1, "k1");
    assert!(did.forced() && did.start.unwrap().look.revalidate && did.answers.is_empty());
    assert_eq!(step(&mut plan, at + MS, fetched(set([0, 1]))).answers, [(1, Answer::Changed)]);
}

/// It is believed, since it is within the tolerance; it may be from before the key was published all the same.
#[test]
fn an_answer_that_is_a_little_older_makes_no_key_absent() {
    for (date, is_gone) in [(99, false), (100, true), (101, true)] {
        let mut plan = new_plan();
        step(&mut plan, 100 * SEC, Event::Tick);
        step(&mut plan, 100 * SEC, dated(100, set([0, 1])));
        assert!(step(&mut plan, 101 * SEC, Event::RefreshAsked).forced());
        assert!(step(&mut plan, 101 * SEC, dated(date, set([0]))).published.is_some());
        assert_eq!(is_absent(&plan, 101 * SEC, "k1"), is_gone, "{date}");
    }
}

#[test]
fn what_is_not_believed_makes_no_key_absent() {
    let mut plan = new_plan();
    step(&mut plan, 100 * SEC, Event::Tick);
    step(&mut plan, 100 * SEC, dated(100, set([0, 1])));
    for (at, event, disbelief) in [
        (110, dated(90, set([0])), Some(Disbelief::Older)),
        (120, dated(120, set([])), Some(Disbelief::Empty)),
        (130, failed(), None),
    ] {
        step(&mut plan, at * SEC, Event::RefreshAsked);
        assert_eq!(step(&mut plan, at * SEC, event).disbelieved, disbelief);
        assert!(plan.absent.is_empty());
    }
    // The machine stood still while it was on its way.
    step(&mut plan, 140 * SEC, Event::RefreshAsked);
    let thawed = Now { monotonic: 141 * SEC, wall: EPOCH + 1941 * SEC };
    let did = step_by(&mut plan, thawed, dated(140, set([0])));
    assert_eq!((did.disbelieved, plan.absent.is_empty()), (Some(Disbelief::Outlived), true));
}

#[test]
fn all_keys_are_absent_once_it_is_confirmed_that_there_are_none() {
    let mut plan = started([0, 1]);
    let at = scheduled(&mut plan);
    step(&mut plan, at, fetched(set([])));
    assert!(!is_absent(&plan, at, "k0"));
    assert!(step(&mut plan, at + SEC, Event::Tick).start.unwrap().look.revalidate);
    assert!(step(&mut plan, at + SEC, fetched(set([]))).published.unwrap().is_empty());
    for kid in ["k0", "k1"] {
        assert_eq!(ask(&mut plan, at + SEC, 1, kid).answers, [(1, Answer::Absent)]);
    }
}

/// It may lag behind the place that had the key. Nor is it known how far that place, once it answers again, is behind the mirror.
#[test]
fn what_a_mirror_lacks_is_not_gone() {
    for (before, after, is_gone) in [(1, 1, true), (1, 2, false), (2, 1, false), (2, 2, true)] {
        let mut plan = new_plan();
        step(&mut plan, Duration::ZERO, Event::Tick);
        step(&mut plan, Duration::ZERO, from_place(before, set([0, 1])));
        assert!(step(&mut plan, 10 * SEC, Event::RefreshAsked).forced());
        assert!(step(&mut plan, 10 * SEC, from_place(after, set([0]))).published.is_some());
        assert_eq!(is_absent(&plan, 10 * SEC, "k1"), is_gone, "{before} {after}");
    }
    // The other place has confirmed the set since.
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    step(&mut plan, Duration::ZERO, from_place(1, set([0, 1])));
    for (at, keys) in [(10, set([0, 1])), (20, set([0]))] {
        assert!(step(&mut plan, at * SEC, Event::RefreshAsked).forced());
        step(&mut plan, at * SEC, from_place(2, keys));
    }
    assert!(is_absent(&plan, 20 * SEC, "k1"));
}

/// It came while the first look was under way, perhaps from a process that has looked later.
#[test]
fn what_the_first_look_lacks_of_a_remembered_set_is_looked_for() {
    let mut plan = new_plan();
    step(&mut plan, PAST, Event::Tick);
    // So that caches are told to look again.
    ask(&mut plan, PAST, 1, "k0");
    step(&mut plan, PAST, failed());
    assert!(step(&mut plan, PAST + SEC, Event::Tick).start.unwrap().look.revalidate);
    step(&mut plan, PAST + SEC, restored([0, 1], Duration::ZERO));
    assert!(step(&mut plan, PAST + SEC + MS, fetched(set([0]))).published.is_some());
    let at = PAST + 2 * SEC;
    assert!(!is_absent(&plan, at, "k1"));
    assert!(ask(&mut plan, at, 2, "k1").forced());
    assert_eq!(step(&mut plan, at + MS, fetched(set([0, 1]))).answers, [(2, Answer::Changed)]);
}

#[test]
fn a_remembered_set_that_a_look_has_confirmed_is_one_like_any_other() {
    for is_confirmed in [false, true] {
        let mut plan = new_plan();
        step(&mut plan, PAST, Event::Tick);
        step(&mut plan, PAST, restored([0, 1], SEC));
        step(&mut plan, PAST, if is_confirmed { fetched(set([0, 1])) } else { failed() });
        let at = PAST + 100 * MS;
        assert!(step(&mut plan, at, Event::RefreshAsked).forced());
        assert!(step(&mut plan, at, fetched(set([0]))).published.is_some());
        assert_eq!(is_absent(&plan, at, "k1"), is_confirmed);
    }
}

/// Files: there is no cache on the way.
#[test]
fn what_a_source_lacks_that_has_said_that_it_changed_is_gone() {
    let mut plan = started([0, 1]);
    let start = step(&mut plan, 10 * SEC, Event::SourceChanged).start.unwrap();
    assert!(start.kind == Kind::Scheduled && start.look.revalidate);
    step(&mut plan, 10 * SEC + MS, fetched(set([0])));
    assert_eq!(ask(&mut plan, 10 * SEC + MS, 1, "k1").answers, [(1, Answer::Absent)]);
}

#[test]
fn a_key_is_gone_for_the_names_and_algorithms_that_no_other_has() {
    let key = |algorithm, kid: Option<&str>| {
        let key = SigningKey::generate(algorithm).unwrap().verifying_key().unwrap();
        kid.map_or(key.clone(), |kid| key.with_kid(kid).unwrap())
    };
    let old = KeySet::new([
        key(Algorithm::Es512, Some("another")),
        key(Algorithm::Es256, Some("gone")),
        key(Algorithm::Es256, Some("kept")),
        key(Algorithm::Es384, None),
    ]);
    let new = KeySet::new([key(Algorithm::Es256, Some("another")), key(Algorithm::Es256, Some("kept"))]);
    let gone: HashSet<_> = absent::gone(&old, &new).into_keys().collect();
    let expected = [
        (Some("another"), Algorithm::Es512),
        (None, Algorithm::Es512),
        (Some("gone"), Algorithm::Es256),
        (None, Algorithm::Es384),
    ];
    let expected = expected.map(|(kid, algorithm)| Wanted { kid: kid.map(Into::into), algorithm });
    assert_eq!(gone, expected.into());
    assert!(absent::gone(&old, &old).is_empty());
}

#[test]
fn ten_thousand_withdrawn_keys_take_half_the_room_and_those_asked_for_the_other_half() {
    let named = |index: usize| Arc::new((*KEYS[index % 64]).clone().with_kid(format!("w{index}")).unwrap());
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    step(&mut plan, Duration::ZERO, fetched(Box::new(KeySet::new((0..10_000).map(named)))));
    // A look fails while more are asked for than there is room to remember, and those still wait when the next one begins.
    step(&mut plan, 10 * SEC, Event::RefreshAsked);
    for index in 0..1_100 {
        ask(&mut plan, 11 * SEC, index, &format!("made up {index}"));
    }
    step(&mut plan, 11 * SEC, failed());
    assert!(step(&mut plan, 12 * SEC, Event::Tick).forced());
    let did = step(&mut plan, 12 * SEC + MS, fetched(set([0])));
    assert_eq!(did.answers.iter().filter(|(_, answer)| *answer == Answer::Absent).count(), MAX_WAITERS);
    let at = 12 * SEC + MS;
    let count = |of: u32, name: &str| (0..of).filter(|index| is_absent(&plan, at, &format!("{name}{index}"))).count();
    assert_eq!((plan.absent.len(), count(1_100, "made up ")), (absent::MAX_ABSENT, absent::MAX_ABSENT / 2));
    // Those that come first in the set, each for all that it can do.
    let algorithms = KEYS[0].algorithms().iter().count();
    let kept = u32::try_from(absent::MAX_GONE / algorithms).unwrap();
    assert_eq!((count(kept, "w"), count(10_000, "w")), (kept as usize, kept as usize));
}
