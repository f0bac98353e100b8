//! A machine that has slept through a rotation, behind caches.

use super::*;

/// `Date` and `Age`, seconds after the epoch of the wall clock; handed on by the cache as the origin sent it.
fn handed_on(keys: Box<KeySet>, date: u64, age: u64) -> Event<u32> {
    let date = Some(EPOCH + Duration::from_secs(date));
    let hints = Hints { date, age: Duration::from_secs(age), lifetime: Some(300 * SEC), ..Hints::default() };
    Event::Fetched { set: keys, hints: Box::new(hints) }
}

/// A plan that has read keys 0 at 0 s, generated then, and was frozen at 10 s for half an hour with its monotonic clock standing. At `thawed`
/// a cache has had the rotated keys 0 and 1, made at 300 s, since then.
fn frozen() -> Plan<u32> {
    let mut plan = new_plan();
    step(&mut plan, Duration::ZERO, Event::Tick);
    let mut hints = Hints { date: Some(EPOCH), clock_offset: Some(0), ..Hints::default() };
    hints.lifetime = Some(3_600 * SEC);
    let event = Event::Fetched { set: set([0]), hints: Box::new(hints) };
    assert!(step(&mut plan, Duration::ZERO, event).published.is_some());
    step(&mut plan, 10 * SEC, Event::Tick);
    plan
}

fn thawed(after: Duration) -> Now {
    Now { monotonic: 10 * SEC + after, wall: EPOCH + 1_810 * SEC + after }
}

/// "A process frozen for half an hour and thawed refuses no valid token."
#[test]
fn a_rotation_while_it_was_frozen_is_believed_at_once_from_a_cache_on_the_way() {
    let mut plan = frozen();
    let generation = plan.set.as_ref().map(|set| set.generation());
    let did = step_by(&mut plan, thawed(Duration::ZERO), Event::Asked { wanted: wanted("k1"), generation, waiter: 1 });
    assert!(did.start.is_some());
    let did = step_by(&mut plan, thawed(50 * MS), handed_on(set([0, 1]), 300, 1_510));
    assert!(did.disbelieved.is_none() && did.answers == [(1, Answer::Changed)], "{did:?}");
}

/// A content network of eight servers, each with its own copy: server 0 has had its since 300 s, server 1 since 301 s, and so on; they are good
/// for an hour. How long a good rotation stays hidden, and how many good answers are refused, if our clocks show `now` a while after the thaw.
fn taking_turns(plan: &mut Plan<u32>, now: impl Fn(Duration) -> Now) -> (Duration, u64) {
    let generation = plan.set.as_ref().map(|set| set.generation());
    let (mut at, mut refused) = (Duration::ZERO, 0_u64);
    for turn in 0..10_000_u32 {
        step_by(plan, now(at), Event::Asked { wanted: wanted("k1"), generation, waiter: turn });
        at += 250 * MS;
        if plan.is_looking() {
            let date = 300 + refused % 8;
            let age = (now(at).wall - EPOCH).as_secs() - date;
            if step_by(plan, now(at), handed_on(set([0, 1]), date, age)).published.is_some() {
                break;
            }
            refused += 1;
        }
    }
    (at, refused)
}

#[test]
fn servers_of_a_content_network_that_take_turns_do_not_hide_a_rotation_after_a_thaw() {
    let (hidden, refused) = taking_turns(&mut frozen(), thawed);
    assert!(hidden <= 10 * SEC, "hidden for {hidden:?}, {refused} good answers refused");
}

/// Twice frozen, it is not known what time it is there. Then each copy has to come again, older by the time between.
#[test]
fn nor_do_they_when_it_has_slept_twice_once_each_has_come_again() {
    let mut plan = frozen();
    step_by(&mut plan, thawed(Duration::ZERO), Event::Tick);
    let twice = |after| {
        let once = thawed(after);
        Now { wall: once.wall + 600 * SEC, ..once }
    };
    let (hidden, refused) = taking_turns(&mut plan, twice);
    assert!(refused >= 8 && hidden <= 60 * SEC, "hidden for {hidden:?}, {refused} good answers refused");
}
