//! When a connection ends that outlives its request, on a paused clock and a wall clock that the test sets.
#![cfg(feature = "tokio")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use common::{AUDIENCE, Issuer, NOW};
use countersign_claims::{Clock, Policy, UnixTime, Verified};
use countersign_tower::deadline::{Deadline, Ended, LOOK_AT_CLOCK, Passed, Until};
use countersign_tower::handler::Authenticated;
use countersign_verifier::Verifier;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_stream::{Stream, StreamExt as _};

/// A timer may be late by the granularity of tokio's, never early.
const TICK: Duration = Duration::from_millis(2);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Goes with the paused clock, until it is set, by so many seconds.
#[derive(Clone)]
struct Wall {
    start: Instant,
    set_by: Arc<AtomicI64>,
}

impl Wall {
    fn new() -> Self {
        Self { start: Instant::now(), set_by: Arc::default() }
    }

    fn set_by(&self, secs: i64) {
        self.set_by.fetch_add(secs, Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(NOW + self.set_by.load(Ordering::SeqCst)).saturating_add(self.start.elapsed())
    }
}

fn verified_by(policy: Policy, mut claims: Value, now: i64) -> Verified {
    claims["aud"] = json!(AUDIENCE);
    let issuer = Issuer::new();
    let verifier = Verifier::new(issuer.keys(), policy.audience(AUDIENCE));
    verifier.verify(&issuer.sign(&claims), UnixTime::from_secs(now)).unwrap()
}

/// Expires in a minute, and is accepted for half a minute more: for 90 s in all.
fn minute() -> Verified {
    verified_by(Policy::new(), json!({ "exp": NOW + 60 }), NOW)
}

fn endless() -> Verified {
    verified_by(Policy::new().dangerous_allow_missing_exp(), json!({}), NOW)
}

/// How long it takes.
async fn time_of<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    (future.await, start.elapsed())
}

#[track_caller]
fn assert_at(found: Duration, expected: Duration) {
    assert!(found >= expected && found <= expected + TICK, "{found:?}, and not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn it_passes_when_the_layer_would_refuse_the_token() {
    let deadline = Deadline::by(&minute(), Wall::new());
    assert_eq!(deadline.at(), Some(UnixTime::from_secs(NOW + 90)));
    let (ended, took) = time_of(deadline.passed()).await;
    assert_eq!((ended, ended.to_string().as_str()), (Ended::Expired, "the token has expired"));
    assert_at(took, secs(90));
    // And stays so.
    assert_at(time_of(deadline.passed()).await.1, secs(0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_begins_within_the_leeway_lasts_until_its_end() {
    let wall = Wall::new();
    wall.set_by(61);
    let deadline = Deadline::by(&verified_by(Policy::new(), json!({ "exp": NOW + 60 }), NOW + 61), wall);
    assert_at(time_of(deadline.passed()).await.1, secs(29));
}

#[tokio::test(start_paused = true)]
async fn the_greatest_age_ends_it_if_that_is_earlier() {
    let policy = || Policy::new().leeway(secs(0)).max_age(secs(40));
    for (claims, expected) in [
        (json!({ "exp": NOW + 60, "iat": NOW - 10 }), secs(30)),
        (json!({ "exp": NOW + 20, "iat": NOW - 10 }), secs(20)),
    ] {
        let deadline = Deadline::by(&verified_by(policy(), claims, NOW), Wall::new());
        assert_at(time_of(deadline.passed()).await.1, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_exp_it_never_passes() {
    let deadline = Deadline::by(&endless(), Wall::new());
    assert_eq!(deadline.at(), None);
    assert!(!deadline.has_passed(UnixTime::from_secs(i64::MAX)));
    assert!(timeout(secs(1 << 30), deadline.passed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn it_can_be_made_earlier_and_not_later() {
    let at = |secs| UnixTime::from_secs(NOW + secs);
    for (token, bound, expected) in
        [(minute(), at(60), secs(60)), (minute(), at(1000), secs(90)), (endless(), at(7), secs(7))]
    {
        let deadline = Deadline::by(&token, Wall::new()).no_later_than(bound);
        assert_at(time_of(deadline.passed()).await.1, expected);
    }
    // Not even if the clock was set back between the two.
    let wall = Wall::new();
    let deadline = Deadline::by(&minute(), wall.clone());
    wall.set_by(-3600);
    assert_at(time_of(deadline.no_later_than(at(80)).passed()).await.1, secs(90));
}

#[tokio::test(start_paused = true)]
async fn has_passed_goes_by_the_time_that_it_is_given() {
    let deadline = Deadline::by(&minute(), Wall::new());
    assert!(!deadline.has_passed(UnixTime::from_secs(NOW + 89)));
    assert!(deadline.has_passed(UnixTime::from_secs(NOW + 90)));
}

/// As after a suspend, during which the monotonic clock stood still.
#[tokio::test(start_paused = true)]
async fn a_step_forward_is_noticed_at_the_next_look() {
    let wall = Wall::new();
    let deadline = Deadline::by(&minute(), wall.clone());
    let mut passed = pin!(deadline.passed());
    assert!(timeout(secs(1), &mut passed).await.is_err());
    wall.set_by(3600);
    let took = time_of(passed).await.1;
    assert!(took <= LOOK_AT_CLOCK, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_polls_after_a_step_forward_is_told_at_once() {
    let wall = Wall::new();
    let mut passed = tokio_test::task::spawn(Deadline::by(&minute(), wall.clone()).passed());
    assert!(passed.poll().is_pending());
    wall.set_by(89);
    assert!(passed.poll().is_pending());
    wall.set_by(1);
    assert_eq!(passed.poll(), Poll::Ready(Ended::Expired));
    assert!(!passed.is_woken(), "no time has passed");
    assert_eq!(passed.poll(), Poll::Ready(Ended::Expired), "it stays ready");
}

#[tokio::test(start_paused = true)]
async fn a_step_back_and_a_clock_that_stands_still_prolong_nothing() {
    let wall = Wall::new();
    let deadline = Deadline::by(&minute(), wall.clone());
    let mut passed = pin!(deadline.passed());
    assert!(timeout(secs(10), &mut passed).await.is_err());
    wall.set_by(-86_400);
    assert_at(time_of(passed).await.1, secs(80));

    let deadline = Deadline::by(&minute(), common::now);
    assert_at(time_of(deadline.passed()).await.1, secs(90));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_and_begun_anew_ends_no_later() {
    let deadline = Deadline::by(&minute(), Wall::new());
    let start = Instant::now();
    let mut turns = 0;
    loop {
        tokio::select! {
            biased;
            ended = deadline.passed() => { assert_eq!(ended, Ended::Expired); break }
            () = sleep(secs(1)) => turns += 1,
        }
    }
    assert_at(start.elapsed(), secs(90));
    assert_eq!(turns, 89);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_though_nothing_comes() {
    let (sender, receiver) = mpsc::channel(1);
    let mut stream = pin!(Deadline::by(&minute(), Wall::new()).end(Items(receiver)));
    sender.send("first").await.unwrap();
    assert_eq!(stream.next().await, Some("first"));
    let (end, took) = time_of(stream.next()).await;
    assert_eq!(end, None);
    assert_at(took, secs(90));
    assert!(sender.is_closed(), "it is dropped with its end, and not with the wrapper");
    assert_eq!(stream.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_last_item_says_why() {
    let mut stream = pin!(Deadline::by(&minute(), Wall::new()).end_with(tokio_stream::pending(), Err::<(), _>));
    assert_eq!(stream.size_hint(), (0, None));
    assert_eq!(stream.next().await, Some(Err(Ended::Expired)));
    assert_eq!(stream.size_hint(), (0, Some(0)));
    assert_eq!(stream.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_by_itself_has_no_last_item() {
    let (sender, receiver) = mpsc::channel::<Option<Ended>>(1);
    let mut stream = pin!(Deadline::by(&minute(), Wall::new()).end_with(Items(receiver), Some));
    drop(sender);
    assert_eq!(stream.next().await, None);
    advance(secs(1000)).await;
    assert_eq!(stream.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn no_item_comes_after_the_deadline_however_many_are_ready() {
    let wall = Wall::new();
    let deadline = Deadline::by(&minute(), wall.clone());
    let mut stream = pin!(deadline.end_with(tokio_stream::iter(0..1_000_000), |_| -1));
    for expected in 0..1000 {
        assert_eq!(stream.next().await, Some(expected));
    }
    wall.set_by(90);
    assert_eq!(stream.next().await, Some(-1));
    assert_eq!(stream.next().await, None);
}

/// A handler that is dropped takes everything with it, before and after the first poll.
#[tokio::test(start_paused = true)]
async fn what_is_dropped_leaves_nothing_behind() {
    for polled in [false, true] {
        let (sender, receiver) = mpsc::channel::<()>(1);
        let mut stream = tokio_test::task::spawn(Deadline::by(&minute(), Wall::new()).end(Items(receiver)));
        if polled {
            assert!(stream.poll_next().is_pending());
        }
        drop(stream);
        assert!(sender.is_closed());
    }
}

#[test]
fn a_handler_has_the_deadline_of_its_token() {
    let token = minute();
    let deadline = Authenticated(token.clone()).deadline();
    assert_eq!(deadline.at(), token.accepted_until());
    assert_eq!(format!("{deadline:?}"), format!("Deadline {{ at: Some({}), .. }}", NOW + 90));
}

#[test]
fn it_can_be_sent_wherever_a_connection_is_served() {
    fn is_send<T: Send + Sync + 'static>() {}
    is_send::<Deadline>();
    is_send::<Passed>();
    is_send::<Until<Items<()>, fn(Ended) -> ()>>();
}

/// Each open connection carries one about. That its token can be revoked is two pointers more: the token, and what is
/// listened to, which is nothing but these where nobody can revoke it.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_wait_is_as_large_as_its_timer_two_times_and_two_pointers() {
    assert_eq!(size_of::<Deadline>(), 56 + 8);
    assert_eq!(size_of::<Passed>(), size_of::<Deadline>() + size_of::<Option<tokio::time::Sleep>>() + 8);
    assert!(size_of::<Passed>() <= 256, "{}", size_of::<Passed>());
    assert_eq!(size_of::<Until<Items<()>, fn(Ended) -> ()>>(), size_of::<Passed>() + 16, "the stream, and what to say");
}

#[cfg(feature = "tonic-0.14")]
#[test]
fn the_status_is_what_the_layer_would_answer() {
    use countersign_tower::Refusal;
    use tonic::Status;

    let status = Status::from(Ended::Expired);
    let issuer = Issuer::new();
    let verifier = Verifier::new(issuer.keys(), Policy::new().audience(AUDIENCE));
    let expired = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW - 60 }));
    let refused = Status::from(Refusal::from(verifier.verify(&expired, common::now()).unwrap_err()));
    assert_eq!((status.code(), status.message()), (refused.code(), refused.message()));
}

/// What is sent to it.
struct Items<T>(mpsc::Receiver<T>);

impl<T> Stream for Items<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}
