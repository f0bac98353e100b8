//! What answers say about themselves, what is believed of that, and what the clocks say about answers.

use super::*;

/// An answer with these hints to the fetch that is due next; what it did, and when.
fn answered(plan: &mut Plan<u32>, keys: Box<KeySet>, hints: Hints) -> (Did, Duration) {
    let at = due(plan);
    assert!(step(plan, at, Event::Tick).start.is_some());
    (step(plan, at, Event::Fetched { set: keys, hints: Box::new(hints) }), at)
}

#[test]
fn answers_say_how_long_they_are_good_for_within_bounds() {
    for (said, lifetime) in [(None, 300), (Some(0), 60), (Some(59), 60), (Some(700), 700), (Some(86_400), 3600)] {
        let mut plan = new_plan();
        let hints = Hints { lifetime: said.map(Duration::from_secs), ..Hints::default() };
        let (did, at) = answered(&mut plan, set([0]), hints);
        let lifetime = Duration::from_secs(lifetime);
        assert_eq!(plan.lifetime(), (lifetime, false));
        let early = did.armed - at;
        assert!(early >= lifetime.mul_f64(0.649) && early <= lifetime.mul_f64(0.851), "{said:?}: {early:?}");
    }
}

#[test]
fn stale_once_and_recovered_once() {
    let mut plan = started([0]);
    assert!(!step(&mut plan, INTERVAL - MS, Event::Tick).stale);
    assert!(step(&mut plan, INTERVAL, failed()).stale);
    assert!(!step(&mut plan, INTERVAL + SEC, Event::Tick).stale, "once");
    assert!(plan.in_force(clocks(INTERVAL + SEC)).is_some());
    let did = step(&mut plan, INTERVAL + SEC, fetched(set([0])));
    assert!(did.recovered && did.published.is_none());
}

#[test]
fn requests_are_conditional_on_the_set_in_force() {
    let hints = |etag: &str| {
        let validators = Validators { etag: Some(etag.into()), last_modified: Some("then".into()), place: 0 };
        Hints { validators, ..Hints::default() }
    };
    let mut plan = new_plan();
    answered(&mut plan, set([0]), hints("\"1\""));
    let sent = |plan: &mut Plan<u32>| {
        let at = due(plan);
        (step(plan, at, Event::Tick).start.unwrap().look.validators, at)
    };
    let (validators, at) = sent(&mut plan);
    assert_eq!(validators, hints("\"1\"").validators);
    // A refused body leaves nothing behind, and so does a failure.
    let empty = Event::Fetched { set: set([]), hints: Box::new(hints("\"empty\"")) };
    assert_eq!(step(&mut plan, at, empty).disbelieved, Some(Disbelief::Empty));
    let (validators, at) = sent(&mut plan);
    assert_eq!(validators, hints("\"1\"").validators);
    step(&mut plan, at, failed());
    // Not modified: the same set, good for as long as it says this time.
    let (validators, at) = sent(&mut plan);
    assert_eq!(validators, hints("\"1\"").validators);
    let hints = Hints { lifetime: Some(700 * SEC), ..Hints::default() };
    let did = step(&mut plan, at, Event::NotModified(Box::new(hints)));
    assert!(did.published.is_none() && did.disbelieved.is_none());
    assert_eq!((plan.lifetime().0, plan.confirmed()), (700 * SEC, Some(clocks(at))));
    assert_eq!(sent(&mut plan).0.etag.as_deref(), Some("\"1\""));
}

#[test]
fn not_modified_is_a_verdict_on_keys_that_are_sought() {
    let mut plan = new_plan();
    let validators = Validators { etag: Some("\"1\"".into()), last_modified: None, place: 0 };
    answered(&mut plan, set([0]), Hints { validators, ..Hints::default() });
    assert!(ask(&mut plan, 10 * SEC, 1, "k1").forced());
    let did = step(&mut plan, 10 * SEC, Event::NotModified(Box::default()));
    assert_eq!(did.answers, [(1, Answer::Absent)]);
}

#[test]
fn not_modified_without_a_set_is_a_failure() {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    let did = step(&mut plan, Duration::ZERO, Event::NotModified(Box::default()));
    assert!(did.published.is_none() && plan.unready() == Some(Unready::NeverFetched));
    // Nor may it answer a request that was not conditional.
    let mut plan = started([0]);
    let at = due(&plan);
    step(&mut plan, at, Event::Tick);
    step(&mut plan, at, Event::NotModified(Box::default()));
    assert_eq!(plan.confirmed(), Some(clocks(Duration::ZERO)));
}

#[test]
fn an_older_answer_replaces_nothing_and_makes_caches_look_again() {
    let hints = |seconds| Hints { date: Some(EPOCH + seconds * SEC), ..Hints::default() };
    let mut plan = new_plan();
    answered(&mut plan, set([1]), hints(100));
    let (did, _) = answered(&mut plan, set([0]), hints(94));
    assert_eq!((did.disbelieved, did.published.is_none()), (Some(Disbelief::Older), true));
    let at = due(&plan);
    let start = step(&mut plan, at, Event::Tick).start.unwrap();
    assert!(start.look.revalidate, "the cache has to look again");
    // The same keys are the same keys, and a little older may be another server's clock.
    assert!(step(&mut plan, at, Event::Fetched { set: set([1]), hints: Box::new(hints(0)) }).disbelieved.is_none());
    let (did, _) = answered(&mut plan, set([1, 2]), hints(95));
    assert!(did.published.is_some());
    // Once no set is in force, any is better.
    let at = MAX_STALE + due(&plan);
    assert!(step(&mut plan, at, Event::Tick).withdrawn);
    let did = step(&mut plan, at, Event::Fetched { set: set([0]), hints: Box::new(hints(0)) });
    assert!(did.published.is_some());
}

/// An answer with this `Date`, seconds after the plan began, and this `Age`.
fn dated(date: u64, age: u64) -> Hints {
    Hints { date: Some(EPOCH + Duration::from_secs(date)), age: Duration::from_secs(age), ..Hints::default() }
}

/// One server of the provider's has a clock that is far ahead. What it once said must not make all that comes look old.
#[test]
fn a_date_in_the_future_is_outdone_by_the_next_right_one() {
    let ahead = 40 * 86_400;
    for not_modified in [false, true] {
        let mut plan = new_plan();
        let validators = Validators { etag: Some("\"1\"".into()), last_modified: None, place: 0 };
        answered(&mut plan, set([0]), Hints { validators, ..dated(0, 0) });
        let at = due(&plan);
        step(&mut plan, at, Event::Tick);
        let hints = Box::new(dated(at.as_secs() + ahead, 0));
        let event = if not_modified { Event::NotModified(hints) } else { Event::Fetched { set: set([0]), hints } };
        assert!(step(&mut plan, at, event).disbelieved.is_none());
        let right = dated(due(&plan).as_secs(), 0);
        answered(&mut plan, set([0]), right);
        let rotated = dated(due(&plan).as_secs(), 0);
        let (did, _) = answered(&mut plan, set([1]), rotated);
        assert!(did.published.is_some(), "{not_modified}");
    }
}

/// A cache hands the origin's `Date` on, and our clock is ten seconds off, so that this cannot be told from one answer.
#[test]
fn an_answer_that_ages_as_its_age_says_was_handed_on() {
    for off in [10, 20, 30] {
        // The provider's clock shows so much more than ours, less twenty: the copy was made a second before.
        let theirs = |at: Duration| at.as_secs() + off + 1000 - 20;
        let mut plan = new_plan();
        answered(&mut plan, set([0]), dated(theirs(Duration::ZERO) - 1, 1));
        // Rotated, and the cache purged, at 60 s; it does not heed `no-cache`.
        let copied = theirs(60 * SEC);
        let mut at = 160 * SEC;
        while plan.set.as_ref().unwrap().generation() == 1 {
            ask(&mut plan, at, 1, "k1");
            if plan.flight.is_some() {
                let hints = Box::new(dated(copied, theirs(at) - copied));
                step(&mut plan, at, Event::Fetched { set: set([1]), hints });
            }
            at += SEC;
            assert!(at < 175 * SEC, "{off}");
        }
    }
}

/// What renews an absence, or makes one, must not come out of a cache.
#[test]
fn looks_that_speak_of_absent_keys_ask_caches_to_look_again() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    step(&mut plan, 10 * SEC, fetched(set([0])));
    let at = due(&plan);
    assert!(step(&mut plan, at, Event::Tick).start.unwrap().look.revalidate);
    // And the second look at a set without keys: the same answer twice confirms nothing.
    let mut plan = started([0]);
    let at = due(&plan);
    assert!(!step(&mut plan, at, Event::Tick).start.unwrap().look.revalidate);
    let retry = step(&mut plan, at, fetched(set([]))).armed;
    assert!(step(&mut plan, retry, Event::Tick).start.unwrap().look.revalidate);
}

/// A key is published while its name is remembered as absent, and a cache on the way has the old answer for an hour: short
/// lifetimes, or a set without keys that is looked at every second, must not renew the absence out of that cache.
#[test]
fn no_cache_keeps_a_published_key_absent() {
    let mut plan: Plan<u32> = Plan::new(Config { lifetime: SEC, min_lifetime: SEC, ..config(7) });
    step(&mut plan, Duration::ZERO, Event::Tick);
    step(&mut plan, Duration::ZERO, fetched(set([0])));
    ask(&mut plan, MS, 1, "k1");
    step(&mut plan, 2 * MS, fetched(set([0])));
    let mut at = 10 * MS;
    while plan.set.as_ref().unwrap().generation() == 1 {
        if let Some(start) = ask(&mut plan, at, 1, "k1").start {
            step(&mut plan, at + 5 * MS, fetched(set(if start.look.revalidate { 0..2 } else { 0..1 })));
        }
        at += 50 * MS;
        assert!(at < MAX_SPACING);
    }
}

/// Signal, cgroup freezer, a runtime that nobody drives: both clocks go on, and no time-out rings.
#[test]
fn what_lands_long_after_its_time_out_proves_nothing() {
    let mut plan = started([0]);
    let at = due(&plan);
    step(&mut plan, at, Event::Tick);
    let did = step(&mut plan, at + 7200 * SEC, fetched(set([1])));
    assert_eq!((did.disbelieved, did.start.is_some()), (Some(Disbelief::Outlived), true));
    assert_eq!(plan.confirmed(), Some(clocks(Duration::ZERO)));
}

/// A file that was written twice in a second has the `ETag` of its first version.
#[test]
fn validators_that_lie_hide_no_key() {
    let mut plan = new_plan();
    let validators = Validators { etag: Some("\"1\"".into()), last_modified: None, place: 0 };
    answered(&mut plan, set([0]), Hints { validators, ..Hints::default() });
    let first = ask(&mut plan, 10 * SEC, 1, "k1").start.unwrap();
    assert!(first.look.validators.etag.is_some());
    step(&mut plan, 10 * SEC, Event::NotModified(Box::default()));
    let second = ask(&mut plan, 15 * SEC, 2, "k1").start.unwrap();
    assert_eq!(second.look.validators, Validators::default());
    let did = step(&mut plan, 15 * SEC, fetched(set([0, 1])));
    assert_eq!(did.answers, [(2, Answer::Changed)]);
    // Who asked without a condition is not told "not modified".
    ask(&mut plan, 20 * SEC, 3, "k2");
    step(&mut plan, 20 * SEC, fetched(set([0, 1])));
    ask(&mut plan, 26 * SEC, 4, "k2");
    let did = step(&mut plan, 26 * SEC, Event::NotModified(Box::default()));
    assert_eq!(did.disbelieved, Some(Disbelief::Unasked));
}

#[test]
fn retry_after_is_honoured_within_bounds() {
    let failed = |seconds| Event::Failed { retry_after: Some(seconds * SEC) };
    for (asked, waits) in [(1, 1), (30, 30), (300, 300), (86_400, 300)] {
        let mut plan = started([0]);
        let at = due(&plan);
        step(&mut plan, at, Event::Tick);
        step(&mut plan, at, failed(asked));
        assert_eq!(plan.scheduled_at, at + waits * SEC, "{asked}");
        // A token with an unknown key is looked for all the same, a little later.
        let not_before = at + asked.min(5) * SEC;
        let did = ask(&mut plan, at + 10 * MS, 1, "k1");
        assert!(did.start.is_none(), "{asked}");
        let did = ask(&mut plan, not_before, 2, "k1");
        assert!(did.start.is_some() || plan.flight.is_some(), "{asked}");
    }
    // Without keys nobody waits for long.
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    assert_eq!(step(&mut plan, Duration::ZERO, failed(86_400)).armed, MAX_SPACING);
}

#[test]
fn a_jump_of_the_wall_clock_causes_one_look_and_ends_no_trust_before_it() {
    let jumped = |at: Duration| Now { monotonic: at, wall: EPOCH + at + 2 * MAX_STALE };
    let mut plan = started([0]);
    let did = step_by(&mut plan, jumped(10 * SEC), Event::Tick);
    assert_eq!(did.start.unwrap().kind, Kind::Scheduled);
    assert!(!did.withdrawn && !did.stale && plan.in_force(jumped(10 * SEC)).is_some());
    // Confirmed: all is well, and one look was enough.
    let did = step_by(&mut plan, jumped(11 * SEC), fetched(set([0])));
    assert!(!did.withdrawn && did.start.is_none());
    assert!(did.armed > 100 * SEC);

    // It fails: then the wall clock may be right.
    let mut plan = started([0]);
    step_by(&mut plan, jumped(10 * SEC), Event::Tick);
    assert!(step_by(&mut plan, jumped(11 * SEC), failed()).withdrawn);

    // Set back: nothing happens, and ages go on by the other clock.
    let set_back = |at: Duration| Now { monotonic: at, wall: EPOCH + at - 10 * MAX_STALE };
    let mut plan = started([0]);
    assert!(step_by(&mut plan, set_back(10 * SEC), Event::Tick).idle());
    step_by(&mut plan, set_back(MAX_STALE - SEC), Event::Tick);
    assert!(step_by(&mut plan, set_back(MAX_STALE - SEC), failed()).armed <= MAX_STALE);
    assert!(step_by(&mut plan, set_back(MAX_STALE), Event::Tick).withdrawn);
}

#[test]
fn clocks_that_never_agree_cause_no_more_than_a_look_a_second() {
    let mut plan = started([0]);
    let mut looks = 0;
    for n in 0..1_000_u32 {
        let at = 10 * SEC + n * 10 * MS;
        let now = Now { monotonic: at, wall: EPOCH + at + n * 10 * SEC };
        if step_by(&mut plan, now, Event::Tick).start.is_some() {
            looks += 1;
            step_by(&mut plan, now, fetched(set([0])));
        }
    }
    assert!((9..=11).contains(&looks), "{looks}");
}

#[test]
fn what_was_on_its_way_while_the_machine_stood_still_proves_nothing() {
    let mut plan = started([0]);
    assert!(ask(&mut plan, 10 * SEC, 1, "k1").forced());
    let thawed = |at: Duration| Now { monotonic: at, wall: EPOCH + at + 1800 * SEC };
    let did = step_by(&mut plan, thawed(10 * SEC + MS), fetched(set([0])));
    assert_eq!((did.disbelieved, did.answers), (Some(Disbelief::Outlived), vec![]));
    let at = due(&plan);
    assert!(at <= 11 * SEC);
    assert!(step_by(&mut plan, thawed(at), Event::Tick).start.is_some());
    let did = step_by(&mut plan, thawed(at), fetched(set([0, 1])));
    assert_eq!(did.answers, [(1, Answer::Changed)]);
}

#[test]
fn absence_is_forgotten_over_a_freeze() {
    let mut plan = started([0]);
    ask(&mut plan, 10 * SEC, 1, "k1");
    step(&mut plan, 10 * SEC, fetched(set([0])));
    let now = Now { monotonic: 11 * SEC, wall: EPOCH + 1811 * SEC };
    assert!(plan.absent.contains(&wanted("k1"), clocks(11 * SEC)));
    assert!(!plan.absent.contains(&wanted("k1"), now));
}

/// RFC 9111 §4.3.4: what "not modified" leaves out is as it was.
#[test]
fn not_modified_without_a_lifetime_keeps_that_of_the_set() {
    let mut plan = new_plan();
    let validators = Validators { etag: Some("\"1\"".into()), last_modified: None, place: 0 };
    let first = Hints { lifetime: Some(600 * SEC), validators, ..Hints::default() };
    step(&mut plan, Duration::ZERO, Event::Tick);
    step(&mut plan, Duration::ZERO, Event::Fetched { set: set([0]), hints: Box::new(first) });
    for (lifetime, expected) in [(None, 600), (Some(900 * SEC), 900), (None, 900)] {
        let at = due(&plan);
        step(&mut plan, at, Event::Tick);
        step(&mut plan, at, Event::NotModified(Box::new(Hints { lifetime, ..Hints::default() })));
        assert_eq!(plan.lifetime().0, expected * SEC);
    }
    let at = due(&plan);
    step(&mut plan, at, Event::Tick);
    step(&mut plan, at, fetched(set([0])));
    assert_eq!(plan.lifetime().0, INTERVAL, "a whole answer that says nothing has the default");
}
