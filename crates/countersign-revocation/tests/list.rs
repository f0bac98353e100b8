//! What a list promises beside its verdicts: room, age, and whom it tells.

mod common;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use common::{START, at, cut_off, entry, is_revoked, judged, key, list, replace, token};
use countersign_claims::revocation::{
    Entry, Level, RevocationSink as _, Revocations as _, Revokes, SinkError, Verdict,
};
use countersign_claims::{Clock as _, UnixTime};
use countersign_revocation::{Feed, Filter, InProcess, Intake, ListOptions, ReplaceError, RevocationList};
use countersign_testkit::ManualClock;

fn secs(secs: u64) -> Option<Duration> {
    Some(Duration::from_secs(secs))
}

fn stopped() -> (ManualClock, ListOptions) {
    let clock = ManualClock::new(START);
    (clock.clone(), ListOptions::new().clock(clock))
}

/// A token whose last one is over at that time.
fn until(jwt_id: i32, until: UnixTime) -> Entry {
    entry(Revokes::Token { jwt_id: jwt_id.to_string().into() }, Some(until))
}

// Room.

#[test]
fn a_full_list_refuses_an_addition_whole_and_forgets_nothing() {
    let (_, options) = stopped();
    let (list, [one, other]) = list(options.capacity(10), ["one", "other"]);
    one.add(&Vec::from_iter((0..6).map(token)), None).unwrap();
    other.add(&[cut_off(Level::Subject, "ada", at(0)), token(6), token(7)], None).unwrap();
    assert!(!list.status().full);

    let refused = one.add(&[token("a"), token("b")], None);
    assert_eq!(refused, Err(SinkError::Full { capacity: 10 }));
    assert!(list.status().full);
    assert!(!is_revoked(&list, "a") && !is_revoked(&list, "b"));
    assert!((0..8).all(|jwt_id| is_revoked(&list, jwt_id)));

    // What is there already needs no room, and neither does what replaces it; one more still fits.
    one.add(&[token(0), token(1)], None).unwrap();
    one.add(&[token("a")], None).unwrap();
    assert!(!list.status().full);
    assert_eq!(other.add(&[token("b")], None), Err(SinkError::Full { capacity: 10 }));
    // Keys have room of their own.
    other.add(&[key("k")], None).unwrap();
    replace(&one, (0..7).map(|i| token(format!("new {i}"))), at(0));
    assert!(is_revoked(&list, "new 6") && !is_revoked(&list, 0));
}

#[test]
fn a_snapshot_that_has_no_room_leaves_everything_as_it_was() {
    let (_, options) = stopped();
    let (list, [one, other]) = list(options.capacity(10), ["one", "other"]);
    one.add(&[token("kept")], None).unwrap();
    other.add(&Vec::from_iter((0..5).map(token)), None).unwrap();
    let mut snapshot = one.snapshot();
    (0..6).for_each(|i| snapshot.push(&token(format!("new {i}"))).unwrap());
    assert_eq!(one.replace(snapshot, at(0)), Err(ReplaceError::Full { capacity: 10 }));
    assert!(is_revoked(&list, "kept") && !is_revoked(&list, "new 0"));
    assert!(list.status().full);
}

#[test]
fn that_there_was_no_room_is_an_alarm_until_the_feed_that_had_none_has_some() {
    let (_, options) = stopped();
    let (list, [feed, other]) = list(options.capacity(2), ["feed", "other"]);
    let mut snapshot = feed.snapshot();
    (0..3).for_each(|i| snapshot.push(&token(i)).unwrap());
    assert!(feed.replace(snapshot, at(0)).is_err());
    other.add(&[token("t"), key("k")], None).unwrap();
    assert!(list.status().full, "what it had is still not here");
    replace(&feed, [token("u")], at(0));
    assert!(!list.status().full);
}

#[test]
fn a_snapshot_that_is_endless_is_refused_while_it_is_read_unless_it_says_the_same_again_and_again() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options.capacity(100), ["feed"]);
    let mut snapshot = feed.snapshot();
    (0..100_000).for_each(|i| snapshot.push(&token(i % 50)).unwrap());
    feed.replace(snapshot, at(0)).unwrap();
    assert_eq!(list.status().tokens, 50);

    // Nor do keys take room from tokens there.
    let mut snapshot = feed.snapshot();
    (0..1000).for_each(|i| snapshot.push(&key(i)).unwrap());
    (0..100_000).for_each(|i| snapshot.push(&token(i % 50)).unwrap());
    feed.replace(snapshot, at(0)).unwrap();
    assert_eq!((list.status().tokens, list.status().keys), (50, 1000));
    let mut snapshot = feed.snapshot();
    let refused = (0..100_000).position(|i| snapshot.push(&key(i)).is_err());
    assert!(refused.is_some_and(|taken| taken < 10_000), "{refused:?}");

    let mut snapshot = feed.snapshot();
    let refused = (0..100_000).position(|i| snapshot.push(&token(i)).is_err());
    assert!(refused.is_some_and(|taken| taken < 10_000), "{refused:?}");
    assert!(list.status().full);
}

#[test]
fn what_is_over_makes_room_and_is_cleared_away() {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
        let (clock, options) = stopped();
        let (list, [feed]) = list(options.capacity(5_000), ["feed"]);
        feed.add(&Vec::from_iter((0..5_000).map(|i| until(i, at(1)))), None).unwrap();
        assert!(feed.add(&[token("late")], None).is_err());
        for _ in 0..11 {
            clock.advance(Duration::from_secs(64));
            tokio::time::advance(Duration::from_secs(64)).await;
        }
        feed.add(&[token("late")], None).unwrap();
        assert_eq!(list.status().tokens, 1);
        // A thread does it, and takes the time that it takes.
        let begun = std::time::Instant::now();
        while list.status().bytes > 2_000 {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is not cleared away");
            std::thread::yield_now();
        }
        assert!(is_revoked(&list, "late"));
    });
}

#[test]
fn a_thousand_keys_are_taken_and_no_more() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options.capacity(0), ["feed"]);
    feed.add(&Vec::from_iter((0..1024).map(key)), None).unwrap();
    assert_eq!(feed.add(&[key("one more")], None), Err(SinkError::Full { capacity: 1024 }));
    assert_eq!((list.status().keys, list.status().full), (1024, true));
}

#[test]
fn names_that_no_token_could_have_are_not_taken() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    let long = "x".repeat(8 * 1024 + 1);
    let unfit = [
        token(""),
        token(&long),
        key(""),
        key(&long),
        cut_off(Level::Subject, "", at(0)),
        cut_off(Level::Family, &long, at(0)),
        // It would cut off everybody.
        cut_off(Level::Issuer, "ada", at(0)),
        Entry { issuer: long.clone().into(), ..token("t") },
    ];
    for unfit in unfit {
        let added = feed.add(&[token("beside"), unfit.clone()], None);
        assert!(matches!(added, Err(SinkError::Unfit(_))), "{:?}", unfit.revokes);
        assert!(matches!(feed.snapshot().push(&unfit), Err(SinkError::Unfit(_))));
    }
    assert!(!is_revoked(&list, "beside"), "all or none");
    let fit = [token(&long[1..]), cut_off(Level::Issuer, "", at(0)), Entry { issuer: "".into(), ..token("t") }];
    feed.add(&fit, None).unwrap();
}

#[test]
fn with_nothing_but_a_filter_a_snapshot_takes_a_ninth_of_the_memory_and_what_comes_between_is_exact() {
    const TOKENS: usize = 100_000;
    let (_, options) = stopped();
    let options = options.filter_from(1_000);
    let [exact, filtered] = [Filter::Off, Filter::Only].map(|filter| list(options.clone().filter(filter), ["feed"]));
    for (list, [feed]) in [&exact, &filtered] {
        replace(feed, (0..TOKENS).map(token), at(0));
        assert_eq!(list.status().tokens, TOKENS);
        assert!((0..TOKENS).all(|jwt_id| is_revoked(list, jwt_id)));
    }
    let [exact, (filtered, [feed])] = [exact, filtered];
    assert!(filtered.status().bytes * 8 < exact.0.status().bytes);
    // Three of 200,000 are expected; thirty happen to nobody.
    let mistaken = (TOKENS..3 * TOKENS).filter(|jwt_id| is_revoked(&filtered, jwt_id)).count();
    assert!(mistaken < 30, "{mistaken}");

    feed.add(&[until(-1, at(0))], None).unwrap();
    let mut judged = judged("-1");
    assert!(matches!(filtered.check(&judged), Verdict::Revoked(_)));
    judged.now = at(664);
    // Once in 65,536 runs the filter has it.
    assert!(!matches!(filtered.check(&judged), Verdict::Revoked(_)), "it has ended");
    replace(&feed, [], at(0));
    assert!(!is_revoked(&filtered, 0));
}

// Age.

#[tokio::test(start_paused = true)]
async fn a_list_is_as_old_as_the_oldest_of_its_feeds() {
    let (clock, options) = stopped();
    let (list, [one, other]) = list(options, ["one", "other"]);
    assert_eq!(list.age(START), None, "nothing has come yet");
    assert_eq!(list.check(&judged("t")), Verdict::Stale { age: None });
    one.confirm(at(-5));
    assert_eq!(list.age(START), None);
    replace(&other, [token("t")], at(-10));
    assert_eq!(list.age(START), secs(10));
    assert_eq!(list.check(&judged("u")), Verdict::Fresh);
    assert_eq!(list.age(at(21)), secs(31));
    other.add(&[], Some(at(-2))).unwrap();
    assert_eq!(list.age(START), secs(5));

    tokio::time::advance(Duration::from_secs(40)).await;
    clock.advance(Duration::from_secs(40));
    let mut late = judged("u");
    late.now = at(40);
    assert_eq!(list.check(&late), Verdict::Stale { age: secs(45) });
    late.jwt_id = Some("t");
    assert!(matches!(list.check(&late), Verdict::Revoked(_)), "that outweighs it");
    assert_eq!(list.status().feeds[0].age, secs(45));
    assert_eq!(list.status().feeds[1].age, secs(42));
    one.confirm_always();
    assert_eq!(list.age(at(40)), secs(42));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_back_makes_nothing_younger() {
    let (clock, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    feed.confirm(at(-10));
    tokio::time::advance(Duration::from_secs(100)).await;
    clock.turn_back(Duration::from_secs(3600));
    assert_eq!(list.age(at(-3600)), secs(110));
}

#[tokio::test(start_paused = true)]
async fn what_is_from_the_future_is_not_believed() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    let refused = feed.replace(feed.snapshot(), at(301));
    assert_eq!(refused, Err(ReplaceError::Ahead { as_of: at(301), now: START }));
    feed.confirm(at(301));
    feed.add(&[token("t")], Some(at(301))).unwrap();
    assert_eq!(list.age(START), None);
    assert!(is_revoked(&list, "t"), "all the same");
    assert!(list.status().feeds[0].last_error.as_ref().is_some_and(|error| error.contains("clocks")));
    feed.confirm(at(300));
    assert_eq!((list.age(START), list.status().feeds[0].last_error.clone()), (secs(0), None));
}

#[test]
fn an_older_snapshot_never_replaces_a_newer_one() {
    let (_, options) = stopped();
    let (list, [feed, other]) = list(options, ["feed", "other"]);
    replace(&feed, [token("t")], at(-10));
    let refused = feed.replace(feed.snapshot(), at(-11));
    assert_eq!(refused, Err(ReplaceError::Older { as_of: at(-11), in_force: at(-10) }));
    assert!(is_revoked(&list, "t"));
    // What another feed has is no matter; and the same again is fine.
    replace(&other, [token("u")], at(-100));
    replace(&feed, [token("v")], at(-10));
    assert!(is_revoked(&list, "v") && !is_revoked(&list, "t") && is_revoked(&list, "u"));
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_while_the_clock_was_a_year_ahead_keeps_nothing_out_when_it_is_right_again() {
    let (clock, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    let year = Duration::from_secs(365 * 86_400);
    clock.advance(year);
    replace(&feed, [token("t")], clock.now());
    clock.turn_back(year);
    replace(&feed, [token("u")], at(-1));
    assert!(is_revoked(&list, "u") && !is_revoked(&list, "t"));
    assert_eq!(list.age(START), secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_could_not_take_everything_has_no_age_until_the_next_whole_snapshot() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    replace(&feed, [token("t")], at(-1));
    feed.overflowed();
    assert_eq!((list.age(START), list.status().incomplete), (None, true));
    feed.confirm(at(0));
    feed.add(&[token("u")], Some(at(0))).unwrap();
    feed.confirm_always();
    assert_eq!(list.age(START), None);
    assert_eq!(list.check(&judged("x")), Verdict::Stale { age: None });
    assert!(is_revoked(&list, "t") && is_revoked(&list, "u"));
    replace(&feed, [], at(0));
    assert_eq!((list.age(START), list.status().incomplete), (secs(0), false));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_and_changes_nothing() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    replace(&feed, [token("t")], at(-1));
    feed.failed("no answer");
    assert_eq!(list.status().feeds[0].last_error.as_deref(), Some("no answer"));
    assert!(is_revoked(&list, "t"));
    assert_eq!(list.age(START), secs(1));
    feed.confirm(at(-1));
    assert_eq!(list.status().feeds[0].last_error, None);
}

// Whom it tells.

#[tokio::test(start_paused = true)]
async fn a_change_ends_the_wait_for_one_and_nothing_else_does() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    feed.add(&[token("t")], None).unwrap();
    let mut changed = list.changed();
    let soon = Duration::from_secs(1);
    feed.confirm(at(0));
    feed.add(&[token("t")], None).unwrap();
    assert!(tokio::time::timeout(soon, &mut changed).await.is_err(), "nothing is new");
    feed.add(&[token("u")], None).unwrap();
    tokio::time::timeout(soon, changed).await.unwrap();
    // Between the call and the wait, too.
    let changed = list.changed();
    replace(&feed, [], at(0));
    tokio::time::timeout(soon, changed).await.unwrap();
    // And when there is nobody left to tell of one.
    let changed = list.changed();
    drop(list);
    tokio::time::timeout(soon, changed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_is_ready_when_every_feed_has_delivered() {
    let (_, options) = stopped();
    let (list, [one, other]) = list(options, ["one", "other"]);
    let soon = Duration::from_secs(1);
    let mut ready = Box::pin(list.ready());
    assert!(tokio::time::timeout(soon, &mut ready).await.is_err());
    one.confirm_always();
    other.failed("no answer");
    other.add(&[token("t")], None).unwrap();
    assert!(tokio::time::timeout(soon, &mut ready).await.is_err());
    replace(&other, [], at(0));
    tokio::time::timeout(soon, ready).await.unwrap();
    assert!(RevocationList::new().ready_within(Duration::ZERO).await);
    let unready = RevocationList::new().follow(Silent);
    assert!(!unready.ready_within(soon).await);
}

#[test]
fn an_intake_outlives_its_list_and_knows_it() {
    let (_, options) = stopped();
    let (first, [feed]) = list(options.clone(), ["feed"]);
    let (second, [foreign]) = list(options, ["feed"]);
    let snapshot = feed.snapshot();
    assert_eq!(foreign.replace(snapshot, at(0)), Err(ReplaceError::Foreign));
    let clone = first.clone();
    drop(first);
    assert!(feed.is_wanted());
    drop(clone);
    assert!(!feed.is_wanted());
    assert!(matches!(feed.add(&[token("t")], None), Err(SinkError::Unavailable(_))));
    let mut snapshot = feed.snapshot();
    assert!(matches!(snapshot.push(&token("t")), Err(SinkError::Unavailable(_))));
    assert_eq!(feed.replace(snapshot, at(0)), Err(ReplaceError::Gone));
    feed.confirm(at(0));
    feed.overflowed();
    drop(second);
}

// In the same process.

#[test]
fn what_is_published_to_a_list_is_in_force_before_anything_is_waited_for() {
    let list = RevocationList::new();
    assert_eq!(list.check(&judged("t")), Verdict::Fresh);
    drop(list.publish(Arc::new([token("t")])));
    assert!(is_revoked(&list, "t"));
    assert_eq!(list.age(at(1_000_000)), secs(0), "and that is never stale");
}

#[tokio::test]
async fn one_feed_in_the_process_tells_every_list_that_follows_it() {
    let feed = InProcess::new();
    assert!(matches!(feed.publish(Arc::new([token("t")])).await, Err(SinkError::Unavailable(_))), "there is none");
    let [one, other] = [(); 2].map(|()| RevocationList::new().follow(feed.clone()));
    let published = feed.publish(Arc::new([token("t")])).await.unwrap();
    assert_eq!(published.within, Duration::ZERO);
    assert!(is_revoked(&one, "t") && is_revoked(&other, "t"));
    assert_eq!(one.age(at(1_000_000)), secs(0));

    // One has gone, and another comes too late.
    drop(one);
    let late = RevocationList::new().follow(feed.clone());
    feed.publish(Arc::new([token("u")])).await.unwrap();
    assert!(is_revoked(&late, "u") && !is_revoked(&late, "t"));
    assert_eq!((late.age(START), late.status().incomplete), (None, true));
    assert_eq!((other.age(START), other.status().incomplete), (secs(0), false));
}

#[tokio::test]
async fn lists_that_have_room_take_what_another_has_none_for() {
    let feed = InProcess::new();
    let small = RevocationList::with(ListOptions::new().capacity(1)).follow(feed.clone());
    let large = RevocationList::new().follow(feed.clone());
    let published = feed.publish(Arc::new([token("t"), token("u")])).await;
    assert_eq!(published, Err(SinkError::Full { capacity: 1 }));
    assert!(is_revoked(&large, "u") && !is_revoked(&small, "u"));
}

// What it clears away.

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_and_back_loses_nothing_that_is_still_needed() {
    const ENTRIES: i32 = 10_000;
    let (clock, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    feed.add(&Vec::from_iter((0..ENTRIES).map(|i| until(i, at(600)))), None).unwrap();
    let year = Duration::from_secs(365 * 86_400);
    // For a minute, in which enough comes and is confirmed that whatever may be swept is.
    clock.advance(year);
    for second in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        feed.add(&Vec::from_iter((0..500).map(|i| token(format!("{second} {i}")))), Some(clock.now())).unwrap();
    }
    clock.turn_back(year);
    feed.confirm(clock.now());
    assert!((0..ENTRIES).all(|jwt_id| is_revoked(&list, jwt_id)));
    feed.add(&[until(1, at(601))], None).unwrap();
    assert!(list.status().tokens >= ENTRIES as usize);
}

#[test]
fn what_has_ended_is_no_longer_revoked_whether_it_is_still_there_or_not() {
    let (_, options) = stopped();
    let (list, [feed]) = list(options, ["feed"]);
    feed.add(&[until(1, at(0))], None).unwrap();
    let mut judged = judged("1");
    for (secs, is_revoked) in [(-100_000, true), (0, true), (600, true), (664, false), (100_000, false), (0, true)] {
        judged.now = at(secs);
        assert_eq!(matches!(list.check(&judged), Verdict::Revoked(_)), is_revoked, "{secs}");
    }
}

/// A feed that never says anything.
struct Silent;

impl Feed for Silent {
    fn name(&self) -> Cow<'static, str> {
        "silent".into()
    }

    fn start(self, _: Intake) {}
}
