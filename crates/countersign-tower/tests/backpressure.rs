//! Who is called, when, and what a waiting request holds: at poll level, with a mock as the inner service.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use common::{AUDIENCE, Issuer, NOW, ScriptedKeys, layer, request};
use countersign_claims::{UnixTime, Verified, scope};
use countersign_token::{Answer, KeySet};
use countersign_tower::{Refusal, RequireJwt, ResponseFuture};
use http::{Request, Response};
use serde_json::json;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock::{self, Mock};

type Inner = Mock<Request<()>, Response<String>>;
type Handle = mock::Handle<Request<()>, Response<String>>;
type Gated<K> = mock::Spawn<RequireJwt<Inner, K>>;

/// A gate with all keys at hand before a mock that lets `allowed` requests in.
fn gated(issuer: &Issuer, allowed: u64) -> (Gated<KeySet>, Handle) {
    let (service, mut handle) = mock::spawn_layer(issuer.layer());
    handle.allow(allowed);
    (service, handle)
}

/// The same with keys that are not there yet.
fn gated_without_keys(allowed: u64) -> (Gated<ScriptedKeys>, Handle, ScriptedKeys) {
    let keys = ScriptedKeys::default();
    let (service, mut handle) = mock::spawn_layer(layer(keys.clone()));
    handle.allow(allowed);
    (service, handle, keys)
}

fn answer_inside(handle: &mut Handle) {
    let (request, send) = assert_ready!(handle.poll_request(), "the inner service was not called").unwrap();
    assert_eq!(request.extensions().get::<Verified>().unwrap().subject(), Some("ada"));
    send.send_response(Response::new(String::from("inside")));
}

#[test]
fn readiness_is_the_inner_services() {
    let issuer = Issuer::new();
    let (mut service, mut handle) = gated(&issuer, 0);
    assert_pending!(service.poll_ready());
    assert!(!service.is_woken());
    handle.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    handle.send_error("broken");
    assert_eq!(assert_ready_err!(service.poll_ready()).to_string(), "broken");
}

#[test]
fn the_service_that_was_polled_ready_is_called_exactly_once() {
    let issuer = Issuer::new();
    let (mut service, mut handle) = gated(&issuer, 1);
    assert_ready_ok!(service.poll_ready());
    // The mock panics if an instance is called that was not polled ready.
    let mut response = task::spawn(service.call(request(&issuer.token(""))));
    assert_pending!(response.poll());
    answer_inside(&mut handle);
    assert!(response.is_woken());
    assert_eq!(assert_ready_ok!(response.poll()).body(), "inside");
    assert_pending!(handle.poll_request());
}

#[test]
fn the_inner_error_is_untouched() {
    let issuer = Issuer::new();
    let (mut service, mut handle) = gated(&issuer, 1);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(request(&issuer.token(""))));
    let (_, send) = assert_ready!(handle.poll_request()).unwrap();
    send.send_error("broken inside");
    assert_eq!(assert_ready_err!(response.poll()).to_string(), "broken inside");
}

#[test]
fn a_refusal_is_there_at_once_and_the_inner_service_is_not_called() {
    let issuer = Issuer::new();
    let (mut service, mut handle) = gated(&issuer, 1);
    assert_ready_ok!(service.poll_ready());
    let mut refused = task::spawn(service.call(Request::new(())));
    assert_eq!(assert_ready_ok!(refused.poll()).status(), 401);
    assert_pending!(handle.poll_request());

    // The mock's one permit is still there for the next.
    assert_ready_ok!(service.poll_ready());
    let _response = service.call(request(&issuer.token("")));
    assert!(handle.poll_request().is_ready());
}

#[test]
fn a_waiting_request_queues_for_the_inner_service_once_it_is_admitted() {
    let issuer = Issuer::new();
    let (mut service, mut handle, keys) = gated_without_keys(1);
    assert_ready_ok!(service.poll_ready());
    let mut waiting = task::spawn(service.call(request(&issuer.token(""))));
    assert_pending!(waiting.poll());
    assert_eq!(keys.asked(), 1);

    // Meanwhile the key comes, and the next request takes the one permit.
    keys.publish(issuer.keys());
    assert_ready_ok!(service.poll_ready());
    let mut next = task::spawn(service.call(request(&issuer.token(""))));
    assert_pending!(next.poll());
    answer_inside(&mut handle);
    assert_ready_ok!(next.poll());

    // The one that waited is admitted, and queues for the inner service like everybody else.
    assert!(!waiting.is_woken());
    keys.answer(Answer::Changed);
    assert!(waiting.is_woken());
    assert_pending!(waiting.poll());
    assert_pending!(handle.poll_request());
    assert!(!waiting.is_woken());
    handle.allow(1);
    assert!(waiting.is_woken());
    assert_pending!(waiting.poll());
    answer_inside(&mut handle);
    assert!(waiting.is_woken());
    assert_eq!(assert_ready_ok!(waiting.poll()).body(), "inside");
    assert_pending!(handle.poll_request());
}

#[test]
fn a_request_refused_after_its_wait_never_touches_the_inner_service() {
    let issuer = Issuer::new();
    for (answer, code) in [
        (Answer::Absent, "unknown_key"),
        (Answer::NotYet { retry_after: Duration::from_secs(1) }, "key_not_checked_yet"),
        // It says that there are new keys, and there are none: not an acceptance.
        (Answer::Changed, "keys_starting"),
    ] {
        let (mut service, mut handle, keys) = gated_without_keys(1);
        assert_ready_ok!(service.poll_ready());
        let mut waiting = task::spawn(service.call(request(&issuer.token(""))));
        assert_pending!(waiting.poll());
        // Were the clone polled, it would get this.
        handle.send_error("polled");
        keys.answer(answer);
        let response = assert_ready_ok!(waiting.poll());
        assert_eq!(response.extensions().get::<Refusal>().unwrap().code(), code);
        assert_pending!(handle.poll_request());
        assert_eq!(assert_ready_err!(service.poll_ready()).to_string(), "polled");
    }
}

#[test]
fn what_is_checked_without_a_wait_is_checked_after_one() {
    let issuer = Issuer::new();
    let time = Arc::new(std::sync::atomic::AtomicI64::new(NOW));
    let clock = Arc::clone(&time);
    let keys = ScriptedKeys::default();
    let layer = layer(keys.clone())
        .require(scope("orders:read"))
        .clock(move || UnixTime::from_secs(clock.load(Ordering::Relaxed)));
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<String>, _>(layer);
    handle.allow(1);
    let mut wait = |token: &str| {
        assert_ready_ok!(service.poll_ready());
        let mut waiting = task::spawn(service.call(request(token)));
        assert_pending!(waiting.poll());
        waiting
    };
    let mut lacking = wait(&issuer.token("orders:write"));
    // What it says itself would not even be worth a look for its key; this nobody knows before the signature is checked.
    let mut bound = wait(&issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "cnf": { "jkt": "x" } })));
    let mut forged = wait(&Issuer::new().token("orders:read"));
    let mut late = wait(&issuer.token("orders:read"));
    keys.publish(issuer.keys());
    keys.answer(Answer::Changed);
    let code = |waiting: &mut task::Spawn<ResponseFuture<_, _, _>>| {
        let response: Response<String> = assert_ready_ok!(waiting.poll());
        response.extensions().get::<Refusal>().unwrap().code()
    };
    assert_eq!(code(&mut lacking), "insufficient_scope");
    assert_eq!(code(&mut bound), "bound_to_key");
    assert_eq!(code(&mut forged), "bad_signature");
    time.store(NOW + 3600, Ordering::Relaxed);
    assert_eq!(code(&mut late), "expired", "the time is that after the wait");
    assert_pending!(handle.poll_request());
}

#[test]
fn an_error_of_readiness_after_the_wait_is_the_services_error() {
    let issuer = Issuer::new();
    let (mut service, mut handle, keys) = gated_without_keys(1);
    assert_ready_ok!(service.poll_ready());
    let mut waiting = task::spawn(service.call(request(&issuer.token(""))));
    assert_pending!(waiting.poll());
    keys.publish(issuer.keys());
    keys.answer(Answer::Changed);
    handle.send_error("closed");
    assert_eq!(assert_ready_err!(waiting.poll()).to_string(), "closed");
}

#[test]
fn a_request_may_be_dropped_at_every_stage() {
    let issuer = Issuer::new();
    let (mut service, mut handle, keys) = gated_without_keys(1);
    let mut call = || {
        assert_ready_ok!(service.poll_ready());
        service.call(request(&issuer.token("")))
    };
    // Before it was polled, while it waits, and while it queues.
    drop(call());
    assert_eq!(keys.waiting(), 0);
    let mut waiting = task::spawn(call());
    assert_pending!(waiting.poll());
    assert_eq!(keys.waiting(), 1);
    drop(waiting);
    assert_eq!(keys.waiting(), 0, "it gives up its place among those who wait");

    let mut queued = task::spawn(call());
    assert_pending!(queued.poll());
    handle.allow(0);
    keys.publish(issuer.keys());
    keys.answer(Answer::Changed);
    assert_pending!(queued.poll());
    drop(queued);
    assert_pending!(handle.poll_request());

    handle.allow(1);
    let _response = call();
    answer_inside(&mut handle);
}

#[test]
fn nobody_is_woken_for_nothing() {
    let issuer = Issuer::new();
    let (mut service, mut handle, keys) = gated_without_keys(1);
    assert_ready_ok!(service.poll_ready());
    let mut waiting = task::spawn(service.call(request(&issuer.token(""))));
    for _ in 0..3 {
        // Polled for no reason, as `select!` does it: nothing new is asked for, and nothing is called.
        assert_pending!(waiting.poll());
        assert!(!waiting.is_woken(), "it wakes itself");
    }
    assert_eq!((keys.asked(), keys.waiting()), (1, 1));

    // Capacity is none of its business before it is admitted, and neither are keys that nobody has told it of.
    handle.allow(2);
    keys.publish(issuer.keys());
    assert!(!waiting.is_woken());
    assert_pending!(handle.poll_request());

    // One that is in the inner service's hands is woken by that service only.
    assert_ready_ok!(service.poll_ready());
    let mut called = task::spawn(service.call(request(&issuer.token(""))));
    assert_pending!(called.poll());
    let (_, send) = assert_ready!(handle.poll_request()).unwrap();
    keys.answer(Answer::Changed);
    handle.allow(2);
    assert!(waiting.is_woken() && !called.is_woken());
    assert_pending!(called.poll());
    assert!(!called.is_woken(), "it wakes itself");
    send.send_response(Response::default());
    assert!(called.is_woken());
    assert_ready_ok!(called.poll());

    // A refusal is there at once, and wakes nobody.
    assert_ready_ok!(service.poll_ready());
    let mut refused = task::spawn(service.call(Request::new(())));
    assert_ready_ok!(refused.poll());
    assert!(!refused.is_woken());
}

/// What is kept of a request, and for how long, over a service that answers when it is told to.
#[test]
fn what_is_not_needed_is_dropped_at_once() {
    type Answers = Arc<std::sync::Mutex<Vec<tokio::sync::oneshot::Receiver<Response<()>>>>>;

    let issuer = Issuer::new();
    let keys = ScriptedKeys::default();
    let answers = Answers::default();
    let taken = Arc::clone(&answers);
    let inner = service_fn(move |_: Request<Arc<()>>| {
        let answer = taken.lock().unwrap().pop().expect("called once for each answer");
        async { Ok::<_, Infallible>(answer.await.unwrap_or_default()) }
    });
    let mut service = layer(keys.clone()).layer(inner);
    let body = Arc::new(());
    let upload = |token: &str| request(token).map(|()| Arc::clone(&body));

    // Refused: the body goes before the answer is fetched, so nobody reads what nobody wants.
    let refused = service.call(upload("nonsense"));
    assert_eq!(Arc::strong_count(&body), 1);
    drop(refused);

    // Waiting: it is kept, and goes with the future.
    let mut waiting = task::spawn(service.call(upload(&issuer.token(""))));
    assert_pending!(waiting.poll());
    assert_eq!((Arc::strong_count(&body), keys.waiting()), (2, 1));
    drop(waiting);
    assert_eq!((Arc::strong_count(&body), keys.waiting()), (1, 0));

    // Refused after the wait: it goes with the wait.
    let mut waiting = task::spawn(service.call(upload(&issuer.token(""))));
    assert_pending!(waiting.poll());
    keys.answer(Answer::Absent);
    assert_eq!(assert_ready_ok!(waiting.poll()).status(), 401);
    assert_eq!(Arc::strong_count(&body), 1, "though the future is still there");

    // Called, at once or after a wait: the inner future goes with ours.
    for wait in [true, false] {
        let (mut answer, receiver) = tokio::sync::oneshot::channel();
        answers.lock().unwrap().push(receiver);
        let mut called = task::spawn(service.call(upload(&issuer.token(""))));
        if wait {
            assert_pending!(called.poll());
            keys.publish(issuer.keys());
            keys.answer(Answer::Changed);
        }
        assert_pending!(called.poll());
        assert_pending!(task::spawn(answer.closed()).poll());
        drop(called);
        assert_ready!(task::spawn(answer.closed()).poll());
        assert!(answers.lock().unwrap().is_empty(), "called once");
        assert_eq!(Arc::strong_count(&body), 1);
    }
}

#[tokio::test]
async fn a_request_dropped_in_the_queue_leaves_its_place_to_the_next() {
    let issuer = Issuer::new();
    let keys = ScriptedKeys::default();
    let service = ServiceBuilder::new()
        .layer(layer(keys.clone()))
        .concurrency_limit(1)
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))));
    let mut waiters: Vec<_> =
        (0..2).map(|_| task::spawn(service.clone().oneshot(request(&issuer.token(""))))).collect();
    for waiter in &mut waiters {
        assert_pending!(waiter.poll());
    }
    let mut holder = service.clone();
    holder.ready().await.unwrap();

    keys.publish(issuer.keys());
    keys.answer(Answer::Changed);
    for waiter in &mut waiters {
        assert!(waiter.is_woken());
        assert_pending!(waiter.poll());
        assert!(!waiter.is_woken(), "it queues behind the holder of the one permit");
    }
    drop(waiters.remove(0));
    drop(holder);
    let mut last = waiters.remove(0);
    assert!(last.is_woken(), "the permit went to nobody");
    assert_eq!(assert_ready_ok!(last.poll()).status(), 200);
}

#[test]
#[should_panic(expected = "polled after it has ended")]
fn a_future_that_has_ended_says_so_when_it_is_polled() {
    let (mut service, _handle) = gated(&Issuer::new(), 1);
    assert_ready_ok!(service.poll_ready());
    let mut refused = task::spawn(service.call(Request::new(())));
    assert_ready_ok!(refused.poll());
    let _ = refused.poll();
}

#[tokio::test(start_paused = true)]
async fn n_waiters_over_a_concurrency_limit_of_n_delay_nobody() {
    const LIMIT: usize = 8;
    let (known, unknown) = (Issuer::new(), Issuer(Issuer::new().0.with_kid("k2")));
    let keys = ScriptedKeys::default();
    keys.publish(known.keys());
    let service = ServiceBuilder::new()
        .layer(layer(keys.clone()))
        .layer(ConcurrencyLimitLayer::new(LIMIT))
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))));

    // Each through an instance of its own that is kept, as some servers keep one for each connection.
    let mut connections = Vec::new();
    for _ in 0..LIMIT {
        let mut connection = service.clone();
        let mut waiting = task::spawn(connection.ready().await.unwrap().call(request(&unknown.token(""))));
        assert_pending!(waiting.poll());
        connections.push((connection, waiting));
    }
    assert_eq!(keys.waiting(), LIMIT);

    for _ in 0..LIMIT {
        let mut good = task::spawn(service.clone().oneshot(request(&known.token(""))));
        assert_eq!(assert_ready_ok!(good.poll()).status(), 200, "a good token must not wait for anybody's key");
    }
    keys.publish(KeySet::new([known.0.verifying_key().unwrap(), unknown.0.verifying_key().unwrap()]));
    keys.answer(Answer::Changed);
    for (_connection, mut waiting) in connections {
        assert_eq!(assert_ready_ok!(waiting.poll()).status(), 200);
    }
}

#[tokio::test]
async fn refused_requests_hold_no_capacity() {
    let issuer = Issuer::new();
    let service = ServiceBuilder::new()
        .layer(issuer.layer())
        .concurrency_limit(1)
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))));
    let mut connection = service.clone();
    let refused = connection.ready().await.unwrap().call(Request::new(()));
    assert_eq!(refused.await.unwrap().status(), 401);
    let mut good = task::spawn(service.oneshot(request(&issuer.token(""))));
    assert_eq!(assert_ready_ok!(good.poll()).status(), 200);
    drop(connection);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_behind_a_buffer_over_a_limit_of_one_is_not_forgotten() {
    let issuer = Issuer::new();
    let keys = ScriptedKeys::default();
    // The buffer keeps the one instance of the service for good.
    let service = ServiceBuilder::new()
        .buffer(8)
        .layer(layer(keys.clone()))
        .concurrency_limit(1)
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))));
    let waiting = tokio::spawn(service.clone().oneshot(request(&issuer.token(""))));
    let also = tokio::spawn(service.clone().oneshot(request(&issuer.token(""))));
    while keys.asked() < 2 {
        tokio::task::yield_now().await;
    }
    keys.publish(issuer.keys());
    assert_eq!(service.clone().oneshot(request(&issuer.token(""))).await.unwrap().status(), 200);
    assert_eq!(service.clone().oneshot(Request::new(())).await.unwrap().status(), 401);
    keys.answer(Answer::Changed);
    for waiting in [waiting, also] {
        // The clock is paused: this ends at once, in an answer or in a standstill.
        let response = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("forgotten");
        assert_eq!(response.unwrap().unwrap().status(), 200);
    }
}

#[test]
fn an_admitted_request_clones_nothing_and_calls_once() {
    /// Counts its clones and its calls.
    #[derive(Default)]
    struct Counting {
        clones: Arc<AtomicUsize>,
        calls: Arc<AtomicUsize>,
    }

    impl Clone for Counting {
        fn clone(&self) -> Self {
            self.clones.fetch_add(1, Ordering::Relaxed);
            Self { clones: Arc::clone(&self.clones), calls: Arc::clone(&self.calls) }
        }
    }

    impl Service<Request<()>> for Counting {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<()>, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            self.calls.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(Response::new(())))
        }
    }

    let issuer = Issuer::new();
    let counting = Counting::default();
    let (clones, calls) = (Arc::clone(&counting.clones), Arc::clone(&counting.calls));
    let counts = || (clones.load(Ordering::Relaxed), calls.load(Ordering::Relaxed));
    let keys = ScriptedKeys::default();
    let mut service = mock::Spawn::new(layer(keys.clone()).layer(counting));
    assert_ready_ok!(service.poll_ready());
    assert_ready_ok!(task::spawn(service.call(request("nonsense"))).poll());
    assert_eq!(counts(), (1, 0), "refused");
    let mut waiting = task::spawn(service.call(request(&issuer.token(""))));
    assert_pending!(waiting.poll());
    assert_eq!(counts(), (3, 0), "waiting");
    keys.publish(issuer.keys());
    assert_ready_ok!(task::spawn(service.call(request(&issuer.token("")))).poll());
    assert_eq!(counts(), (3, 1), "admitted");
    keys.answer(Answer::Changed);
    assert_ready_ok!(waiting.poll());
    assert_eq!(counts(), (3, 2), "admitted after its wait");
}

#[test]
fn the_future_is_send_and_bodies_need_only_default() {
    /// Neither `Send` nor anything else.
    #[derive(Debug, Default)]
    struct Body(std::marker::PhantomData<*const ()>);

    fn send<T: Send>(value: T) -> T {
        value
    }

    fn shareable<T: Clone + Send + Sync + 'static>(value: T) -> T {
        value
    }

    let issuer = Issuer::new();
    let inner = service_fn(|_: Request<()>| {
        std::future::ready(Ok::<Response<Body>, std::fmt::Error>(Response::new(Body::default())))
    });
    let mut service = issuer.layer().layer(inner);
    let mut refused = task::spawn(service.call(Request::new(())));
    assert_eq!(assert_ready_ok!(refused.poll()).status(), 401);

    let inner =
        service_fn(|_: Request<Vec<u8>>| async { Ok::<Response<String>, std::fmt::Error>(Response::default()) });
    let mut service = shareable(layer(ScriptedKeys::default()).layer(inner));
    let mut future = task::spawn(send(service.call(request(&issuer.token("")).map(|()| Vec::new()))));
    assert_pending!(future.poll());
}

#[test]
fn a_token_is_judged_by_the_policy_of_its_layer() {
    let issuer = Issuer::new();
    let (mut service, mut handle) = gated(&issuer, 1);
    assert_ready_ok!(service.poll_ready());
    let token = issuer.sign(&json!({ "aud": [AUDIENCE, "x"], "exp": NOW + 60, "sub": "ada", "scp": ["a", "b"] }));
    let _response = service.call(request(&token));
    let (request, _) = assert_ready!(handle.poll_request()).unwrap();
    let verified = request.extensions().get::<Verified>().unwrap();
    assert!(verified.has_scope("a") && verified.has_scope("b"));
    assert_eq!(verified.audiences().collect::<Vec<_>>(), [AUDIENCE, "x"]);
}
