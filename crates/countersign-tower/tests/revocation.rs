//! Tokens that are revoked: at the layer, at single routes and in handlers, and where a connection outlives its
//! request. On a paused clock where time passes.
#![cfg(all(feature = "axum", feature = "tokio"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use common::{AUDIENCE, Heard, Issuer, NOW, ScriptedKeys, headers, request};
use countersign_claims::revocation::{Changed, Judged, Level, RevocationCheck, Revocations, Revoked, Verdict};
use countersign_claims::{Clock, Policy, UnixTime, Verified, scope};
use countersign_token::{Answer, KeySet};
use countersign_tower::deadline::{Deadline, Ended, LOOK_AT_CLOCK, RECHECK_SPACING};
use countersign_tower::handler::{Authenticated, Caller, ExtractError, RevocationRefusal};
use countersign_tower::{Refusal, RequireJwtLayer, require_fresh};
use countersign_verifier::{Refusal as TokenRefusal, Verifier};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_stream::StreamExt as _;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

/// A timer may be late by the granularity of tokio's, never early.
const TICK: Duration = Duration::from_millis(2);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What is known of revocations: of every token the same.
#[derive(Clone)]
struct List(Arc<Known>);

struct Known {
    verdict: Mutex<Verdict>,
    /// When that was known; never, if it is negative.
    as_of: AtomicI64,
    changes: watch::Sender<()>,
    checks: AtomicUsize,
    /// With this check, as soon as it has looked, every token is revoked.
    revoked_behind: AtomicUsize,
}

impl List {
    fn new() -> Self {
        Self(Arc::new(Known {
            verdict: Mutex::new(Verdict::Fresh),
            as_of: AtomicI64::new(NOW),
            changes: watch::Sender::new(()),
            checks: AtomicUsize::new(0),
            revoked_behind: AtomicUsize::new(usize::MAX),
        }))
    }

    fn of(verdict: Verdict) -> Self {
        let list = Self::new();
        list.say(verdict);
        list
    }

    fn revoking() -> Self {
        Self::of(Verdict::Revoked(Revoked::Token))
    }

    fn say(&self, verdict: Verdict) {
        *self.0.verdict.lock().unwrap() = verdict;
        self.change();
    }

    fn revoke(&self) {
        self.say(Verdict::Revoked(Revoked::Token));
    }

    /// Something else is revoked.
    fn change(&self) {
        self.0.changes.send_replace(());
    }

    fn known_as_of(&self, time: i64) {
        self.0.as_of.store(time, Ordering::SeqCst);
    }

    fn checks(&self) -> usize {
        self.0.checks.load(Ordering::SeqCst)
    }

    fn listeners(&self) -> usize {
        self.0.changes.receiver_count()
    }
}

impl Revocations for List {
    fn check(&self, _: &Judged<'_>) -> Verdict {
        let nth = self.0.checks.fetch_add(1, Ordering::SeqCst);
        let verdict = *self.0.verdict.lock().unwrap();
        if nth == self.0.revoked_behind.load(Ordering::SeqCst) {
            self.revoke();
        }
        verdict
    }

    fn age(&self, now: UnixTime) -> Option<Duration> {
        let as_of = self.0.as_of.load(Ordering::SeqCst);
        (as_of >= 0).then(|| now.saturating_since(UnixTime::from_secs(as_of)))
    }

    fn changed(&self) -> Changed {
        let mut changes = self.0.changes.subscribe();
        Box::pin(async move { drop(changes.changed().await) })
    }
}

/// A clock that goes when the test says so.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn forward(&self, secs: i64) {
        self.0.fetch_add(secs, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(NOW + self.0.load(Ordering::SeqCst))
    }
}

/// Goes with the paused clock.
#[derive(Clone)]
struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(NOW).saturating_add(self.0.elapsed())
    }
}

fn verifier(issuer: &Issuer) -> Verifier<KeySet> {
    Verifier::new(issuer.keys(), Policy::new().audience(AUDIENCE))
}

fn over(verifier: impl Into<Arc<Verifier<KeySet>>>) -> RequireJwtLayer<KeySet> {
    RequireJwtLayer::new(verifier).realm("orders").clock(common::now)
}

fn grpc(mut request: Request<()>) -> Request<()> {
    *request.method_mut() = Method::POST;
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request
}

/// What this layer makes of the request: the status, the headers and the reason.
async fn answer(layer: &RequireJwtLayer<KeySet>, request: Request<()>) -> (u16, Vec<String>, Option<&'static str>) {
    let inner = service_fn(|_| ready(Ok::<_, Infallible>(Response::new(()))));
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let reason = response.extensions().get::<Refusal>().map(Refusal::code);
    (response.status().as_u16(), headers(&response), reason)
}

/// The token as handlers get it.
async fn let_in(layer: &RequireJwtLayer<KeySet>, token: &str) -> Verified {
    let inner = service_fn(|request: Request<()>| {
        let verified = request.extensions().get::<Verified>().cloned();
        ready(Ok::<_, Infallible>(Response::new(verified)))
    });
    layer.layer(inner).oneshot(request(token)).await.unwrap().into_body().unwrap()
}

#[tokio::test]
async fn a_revoked_token_is_answered_as_any_other_that_is_not_valid() {
    let issuer = Issuer::new();
    let (token, other) = (issuer.token(""), issuer.sign(&json!({ "aud": "billing", "exp": NOW + 60 })));
    let up_to = Revoked::CutOff { level: Level::Subject, issued_until: common::now() };
    let revoking = |why| RevocationCheck::by(List::of(Verdict::Revoked(why)));
    let irrevocable = || RevocationCheck::by(List::new()).require_jwt_id();
    for (check, code) in [
        (revoking(Revoked::Token), "revoked_token"),
        (revoking(Revoked::Key), "revoked_key"),
        (revoking(up_to), "revoked_subject"),
        (irrevocable(), "irrevocable"),
    ] {
        for layer in
            [over(verifier(&issuer).revocation(check.clone())), over(verifier(&issuer)).revocation(check.clone())]
        {
            for as_grpc in [|request| request, grpc] {
                let (status, headers, reason) = answer(&layer, as_grpc(request(&token))).await;
                assert_eq!(reason, Some(code));
                let bad = answer(&layer, as_grpc(request(&other))).await;
                assert_eq!(bad.2, Some("wrong_audience"));
                assert_eq!((status, headers), (bad.0, bad.1), "{code}: its sender is not told");
            }
        }
    }
}

#[tokio::test]
async fn what_is_out_of_date_is_503_only_where_that_is_refused() {
    let issuer = Issuer::new();
    let stale = List::of(Verdict::Stale { age: Some(secs(60)) });
    let (token, code) = (issuer.token(""), Some("revocations_stale"));
    let lenient = over(verifier(&issuer)).revocation(stale.clone());
    assert_eq!(answer(&lenient, request(&token)).await.0, 200);
    for check in [RevocationCheck::by(stale.clone()).refuse_stale(), RevocationCheck::by(unknown()).max_age(secs(5))] {
        let strict = over(verifier(&issuer)).revocation(check);
        let (status, headers, reason) = answer(&strict, request(&token)).await;
        assert_eq!((status, reason), (503, code));
        assert_eq!(headers, ["cache-control: no-store", "retry-after: 5"]);
        let (status, headers, reason) = answer(&strict, grpc(request(&token))).await;
        assert_eq!((status, reason), (200, code));
        assert!(
            headers.contains(&"grpc-status: 14".into()) && headers.contains(&"retry-after: 5".into()),
            "{headers:?}"
        );
    }
}

/// A list that has heard nothing yet.
fn unknown() -> List {
    let list = List::new();
    list.known_as_of(-1);
    list
}

#[tokio::test]
async fn layers_over_one_verifier_differ_in_what_they_ask() {
    let issuer = Issuer::new();
    let (of_verifier, one, other) = (List::new(), List::new(), List::new());
    let shared = Arc::new(verifier(&issuer).revocation(of_verifier.clone()));
    let (first, second) = (over(Arc::clone(&shared)).revocation(one.clone()), over(shared).revocation(other));
    let status = async |layer| answer(layer, request(&issuer.token(""))).await.0;
    assert_eq!((status(&first).await, status(&second).await), (200, 200));
    one.revoke();
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
    let asked = one.checks();
    of_verifier.revoke();
    assert_eq!((status(&first).await, status(&second).await), (401, 401));
    assert_eq!(one.checks(), asked, "what the verifier refuses, the layer is not asked of");
}

#[tokio::test]
async fn a_token_that_was_let_in_can_be_revoked_by_everybody_who_was_asked() {
    let issuer = Issuer::new();
    for who in 0..3 {
        let lists = [List::new(), List::new(), List::new()];
        let [of_verifier, first, second] = lists.clone();
        let layer = over(verifier(&issuer).revocation(of_verifier)).revocation(first).revocation(second);
        let verified = let_in(&layer, &issuer.token("")).await;
        assert_eq!(lists.each_ref().map(List::checks), [1, 1, 1], "each once");
        assert_eq!(verified.check_revocation(common::now()), Ok(()));
        let mut changed = tokio_test::task::spawn(verified.revocation().unwrap().changed());
        assert!(changed.poll().is_pending());
        lists[who].revoke();
        assert!(changed.is_woken() && changed.poll().is_ready(), "{who}");
        assert!(verified.check_revocation(common::now()).is_err(), "{who}");
    }
}

#[tokio::test]
async fn a_revoked_caller_who_may_not_is_not_told_what_is_lacking() {
    let issuer = Issuer::new();
    let layer = over(verifier(&issuer)).revocation(List::revoking()).require(scope("orders:write"));
    assert_eq!(answer(&layer, request(&issuer.token(""))).await.2, Some("revoked_token"));
}

#[tokio::test]
async fn a_layer_that_watches_lets_revoked_tokens_through_and_says_so() {
    let issuer = Issuer::new();
    let heard = Heard::default();
    let layer = over(verifier(&issuer)).revocation(List::revoking()).shadow().observe(heard.clone());
    assert_eq!(answer(&layer, request(&issuer.token(""))).await.0, 200);
    assert_eq!(heard.take(), ["shadow_refused revoked_token"]);
}

#[tokio::test]
async fn where_no_token_is_needed_a_revoked_one_is_a_bad_one() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let optional = over(verifier(&issuer)).revocation(List::revoking()).optional();
    assert_eq!(answer(&optional, request(&token)).await.2, Some("revoked_token"));
    assert_eq!(answer(&optional, Request::new(())).await.0, 200);

    let inner = service_fn(|request: Request<()>| {
        let caller = Caller::from_extensions(request.extensions()).unwrap();
        assert!(matches!(caller, Caller::Invalid(Refusal::Token(TokenRefusal::Revoked(Revoked::Token)))), "{caller:?}");
        ready(Ok::<_, Infallible>(Response::new(())))
    });
    let forgiving = optional.dangerous_treat_invalid_as_anonymous();
    assert_eq!(forgiving.layer(inner).oneshot(request(&token)).await.unwrap().status(), 200);
    // Nobody knows whether that one is.
    let stale = RevocationCheck::by(unknown()).max_age(secs(5));
    let forgiving = over(verifier(&issuer)).revocation(stale).dangerous_treat_invalid_as_anonymous();
    assert_eq!(answer(&forgiving, request(&token)).await.0, 503);
}

#[tokio::test]
async fn a_token_that_waits_for_its_key_is_asked_of_after_the_wait() {
    let issuer = Issuer::new();
    for revoked in [false, true] {
        let (keys, list) = (ScriptedKeys::default(), List::new());
        let layer = common::layer(keys.clone()).revocation(list.clone());
        let inner = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
        let mut waiting = tokio_test::task::spawn(layer.layer(inner).oneshot(request(&issuer.token(""))));
        assert!(waiting.poll().is_pending());
        if revoked {
            list.revoke();
        }
        assert_eq!(list.checks(), 0);
        keys.publish(issuer.keys());
        keys.answer(Answer::Changed);
        let response = waiting.await.unwrap();
        assert_eq!(response.status(), if revoked { 401 } else { 200 });
    }
}

/// A service with a route that needs fresh knowledge, and a handler that does.
fn app(layer: RequireJwtLayer<KeySet>) -> Router {
    Router::new()
        .route("/route", get(async || "in").post(async || "in").layer(require_fresh(secs(10))))
        .route("/handler", get(handler))
        .route("/by-hand", post(by_hand))
        .route("/other", get(async || "in"))
        .layer(layer)
}

async fn handler(caller: Authenticated) -> Result<&'static str, RevocationRefusal> {
    caller.require_fresh(secs(10))?;
    Ok("in")
}

async fn by_hand(request: Request<Body>) -> Response<Body> {
    let caller = Authenticated::from_extensions(request.extensions()).unwrap();
    match caller.require_fresh(secs(10)) {
        Ok(()) => Response::new("in".into()),
        Err(not_fresh) => not_fresh.into_response(request.method(), request.headers()),
    }
}

async fn ask(app: &Router, path: &str, token: &str) -> Response<Body> {
    let mut request = request(token);
    *request.uri_mut() = path.parse().unwrap();
    app.clone().oneshot(request.map(|()| Body::empty())).await.unwrap()
}

async fn ask_grpc(app: &Router, path: &str, token: &str) -> Response<Body> {
    let mut request = grpc(request(token));
    *request.uri_mut() = path.parse().unwrap();
    app.clone().oneshot(request.map(|()| Body::empty())).await.unwrap()
}

fn reason(response: &Response<Body>) -> Option<&'static str> {
    response.extensions().get::<Refusal>().map(Refusal::code)
}

#[tokio::test]
async fn a_route_that_needs_fresh_knowledge_refuses_by_its_age_now() {
    let issuer = Issuer::new();
    let (list, heard) = (List::new(), Heard::default());
    let app = app(over(verifier(&issuer)).revocation(list.clone()).observe(heard.clone()));
    let token = issuer.token("");
    for (known_as_of, status) in [(NOW, 200), (NOW - 10, 200), (NOW - 11, 503), (-1, 503)] {
        list.known_as_of(known_as_of);
        for path in ["/route", "/handler"] {
            let response = ask(&app, path, &token).await;
            assert_eq!(response.status(), status, "{path}, {known_as_of}");
            if status == 503 {
                assert_eq!(reason(&response), Some("revocations_stale"));
                assert_eq!(headers(&response), ["cache-control: no-store", "content-length: 0", "retry-after: 5"]);
                assert_eq!(heard.take(), ["admitted -", "refused revocations_stale by handler"]);
            } else {
                assert_eq!(heard.take(), ["admitted -"]);
            }
        }
        for path in ["/route", "/by-hand"] {
            let response = ask_grpc(&app, path, &token).await;
            let code = response.headers().get("grpc-status").map_or("-", |code| code.to_str().unwrap());
            assert_eq!(code, if status == 503 { "14" } else { "-" });
            let heard = heard.take();
            assert_eq!(heard.len(), if status == 503 { 2 } else { 1 }, "{heard:?}");
        }
        assert_eq!(ask(&app, "/other", &token).await.status(), 200);
        heard.take();
    }
}

#[tokio::test]
async fn all_who_are_asked_must_know_well_enough() {
    let issuer = Issuer::new();
    for (of_verifier, of_layer, status) in [(NOW, NOW, 200), (NOW - 60, NOW, 503), (NOW, NOW - 60, 503)] {
        let [one, other] = [of_verifier, of_layer].map(|as_of| {
            let list = List::new();
            list.known_as_of(as_of);
            list
        });
        let app = app(over(verifier(&issuer).revocation(one)).revocation(other));
        assert_eq!(ask(&app, "/route", &issuer.token("")).await.status(), status);
    }
}

/// What is new when a request arrives gets old while its handler works.
#[tokio::test]
async fn a_handler_goes_by_the_clock_of_the_layer_and_not_by_when_the_request_came() {
    let issuer = Issuer::new();
    let clock = Hand::default();
    let layer = over(verifier(&issuer)).revocation(List::new()).clock(clock.clone());
    let caller = Authenticated(let_in(&layer, &issuer.token("")).await);
    assert_eq!(caller.require_fresh(secs(10)), Ok(()));
    clock.forward(11);
    let not_fresh = caller.require_fresh(secs(10)).unwrap_err();
    let refusal = not_fresh.refusal();
    assert_eq!(refusal.and_then(|refusal| refusal.retry_after()), Some(secs(5)));
    assert_eq!(not_fresh.to_string(), "what is known of revocations is 11s old; try again in 5s");
}

#[tokio::test]
async fn a_token_that_is_revoked_behind_the_layer_is_refused_at_the_route() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    for path in ["/route", "/handler"] {
        let list = List::new();
        let app = app(over(verifier(&issuer)).revocation(list.clone()));
        list.0.revoked_behind.store(0, Ordering::SeqCst);
        let response = ask(&app, path, &token).await;
        assert_eq!((response.status().as_u16(), reason(&response)), (401, Some("revoked_token")), "{path}");
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        let expected = "Bearer realm=\"orders\", error=\"invalid_token\", error_description=\"the token is not valid\"";
        assert_eq!(challenge, expected, "{path}");
    }
}

#[tokio::test]
async fn who_asks_of_revocations_where_nobody_knows_any_is_misconfigured() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let unasked = app(over(verifier(&issuer)));
    let by_route = ask(&unasked, "/route", &token).await;
    assert_eq!((by_route.status().as_u16(), reason(&by_route)), (500, None));
    let error = by_route.extensions().get::<ExtractError>().unwrap();
    assert!(matches!(error, ExtractError::RevocationRefusal(not_fresh) if not_fresh.refusal().is_none()));
    let by_handler = ask(&unasked, "/handler", &token).await;
    assert_eq!(by_handler.status(), 500);
    let text = by_handler.into_body().collect().await.unwrap().to_bytes();
    assert!(text.starts_with(b"this route's countersign layer asks nobody what has been revoked"), "{text:?}");
    let by_grpc = ask_grpc(&unasked, "/by-hand", &token).await;
    assert_eq!(by_grpc.headers()["grpc-status"], "13");

    // No layer, and no caller.
    let bare = Router::new().route("/", get(async || "in").layer(require_fresh(secs(10))));
    assert_eq!(ask(&bare, "/", &token).await.status(), 500);
    let optional = app(over(verifier(&issuer)).revocation(List::new()).optional());
    let nobody = optional.oneshot(Request::get("/route").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((nobody.status().as_u16(), reason(&nobody)), (401, Some("no_credentials")));
    // The verifier's will do.
    let of_verifier = app(over(verifier(&issuer).revocation(List::new())));
    assert_eq!(ask(&of_verifier, "/route", &token).await.status(), 200);
}

#[cfg(feature = "tonic-0.14")]
#[tokio::test]
async fn in_a_service_method_a_question_mark_refuses_and_observers_hear_of_it() {
    use tonic::{Code, Status};

    fn pay(caller: &Authenticated) -> Result<(), Status> {
        Ok(caller.require_fresh(secs(10))?)
    }

    let issuer = Issuer::new();
    let (list, heard) = (List::new(), Heard::default());
    let layer = over(verifier(&issuer)).revocation(list.clone()).observe(heard.clone());
    let caller = Authenticated(let_in(&layer, &issuer.token("")).await);
    assert!(pay(&caller).is_ok());
    list.known_as_of(NOW - 60);
    heard.take();
    let status = pay(&caller).unwrap_err();
    assert_eq!(
        (status.code(), status.metadata().get("retry-after").unwrap().to_str().unwrap()),
        (Code::Unavailable, "5")
    );
    assert_eq!(heard.take(), ["refused revocations_stale by handler"]);
    list.revoke();
    assert_eq!(pay(&caller).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(heard.take(), ["refused revoked_token by handler"]);
    let unasked = Authenticated(let_in(&over(verifier(&issuer)), &issuer.token("")).await);
    assert_eq!(pay(&unasked).unwrap_err().code(), Code::Internal);

    let (revoked, stale) = (Status::from(Ended::Revoked), Status::from(Ended::RevocationsStale));
    let refused = |refusal: TokenRefusal| Status::from(Refusal::from(refusal));
    let (as_revoked, as_stale) = (
        refused(TokenRefusal::Revoked(Revoked::Token)),
        refused(TokenRefusal::RevocationsStale { age: None, retry_after: secs(5) }),
    );
    assert_eq!((revoked.code(), revoked.message()), (as_revoked.code(), as_revoked.message()));
    assert_eq!((stale.code(), stale.message()), (as_stale.code(), as_stale.message()));
}

/// Accepted for 90 s in all.
async fn connected(check: impl Into<RevocationCheck>) -> Deadline<Wall> {
    let issuer = Issuer::new();
    let layer = over(verifier(&issuer)).revocation(check);
    Deadline::by(&let_in(&layer, &issuer.token("")).await, Wall(Instant::now()))
}

#[track_caller]
fn assert_at(found: Duration, expected: Duration) {
    assert!(found >= expected && found <= expected + TICK, "{found:?}, and not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_as_soon_as_its_token_is_revoked() {
    let list = List::new();
    let deadline = connected(list.clone()).await;
    let waiting = tokio::spawn(deadline.passed());
    sleep(secs(7)).await;
    let start = Instant::now();
    list.revoke();
    assert_eq!(waiting.await.unwrap(), Ended::Revoked);
    assert_at(start.elapsed(), secs(0));
    assert!(deadline.has_passed(common::now()));
    assert_eq!(Ended::Revoked.to_string(), "the token is not valid", "it is not told why");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_as_soon_as_its_token_is_revoked() {
    let list = List::new();
    let deadline = connected(list.clone()).await;
    let mut endless = pin!(deadline.clone().end_with(tokio_stream::iter(0..1_000_000), |_| -1));
    let mut silent = tokio::spawn(deadline.end(tokio_stream::pending::<()>()).next_owned());
    for expected in 0..1000 {
        assert_eq!(endless.next().await, Some(expected));
    }
    tokio::task::yield_now().await;
    let checks = list.checks();
    assert!(checks <= 4, "{checks}: not with each item");
    assert!(timeout(secs(1), &mut silent).await.is_err());
    list.revoke();
    assert_eq!(endless.next().await, Some(-1));
    assert_eq!(endless.next().await, None);
    assert_eq!(silent.await.unwrap(), None);
}

/// The next item of a stream that is owned.
trait NextOwned: tokio_stream::Stream + Sized {
    fn next_owned(self) -> impl Future<Output = Option<Self::Item>> + Send
    where
        Self: Send,
    {
        async move { pin!(self).next().await }
    }
}

impl<S: tokio_stream::Stream> NextOwned for S {}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_revoked_on_its_way_opens_no_connection() {
    let list = List::new();
    let deadline = connected(list.clone()).await;
    list.revoke();
    assert_eq!(tokio_test::task::spawn(deadline.passed()).poll(), Poll::Ready(Ended::Revoked));
    let mut stream = pin!(deadline.end(tokio_stream::iter(0..3)));
    assert_eq!(stream.next().await, None);
}

/// Whoever listened only after looking would sleep until the clock is looked at.
#[tokio::test(start_paused = true)]
async fn a_change_right_behind_a_look_is_not_lost() {
    for looks in 0..4 {
        let list = List::new();
        let deadline = connected(list.clone()).await;
        // The layer has looked once.
        list.0.revoked_behind.store(1 + looks, Ordering::SeqCst);
        let start = Instant::now();
        let waiting = tokio::spawn(deadline.passed());
        for _ in 0..looks {
            sleep(secs(1)).await;
            list.change();
        }
        assert_eq!(waiting.await.unwrap(), Ended::Revoked);
        let at = secs(looks as u64) + if looks == 0 { Duration::ZERO } else { RECHECK_SPACING };
        assert!(start.elapsed() <= at + TICK, "{looks}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_feed_makes_nobody_look_more_often_than_so() {
    let list = List::new();
    let waiting = tokio::spawn(connected(list.clone()).await.passed());
    sleep(secs(1)).await;
    let (before, busy) = (list.checks(), Instant::now());
    for _ in 0..2000 {
        list.change();
        sleep(Duration::from_millis(1)).await;
    }
    let looks = list.checks() - before;
    // One at once, and one each spacing.
    let most = 1 + busy.elapsed().div_duration_f64(RECHECK_SPACING) as usize;
    assert!((most * 9 / 10..=most).contains(&looks), "{looks} of {most}");
    // And the last of them is not forgotten: it was within the spacing.
    list.revoke();
    let start = Instant::now();
    assert_eq!(waiting.await.unwrap(), Ended::Revoked);
    assert!(start.elapsed() <= RECHECK_SPACING + TICK, "{:?}", start.elapsed());
}

/// They may end for no reason, and these do it all the time.
#[tokio::test(start_paused = true)]
async fn whoever_cries_change_all_the_time_is_heard_as_often_as_others() {
    struct Crying(AtomicUsize);

    impl Revocations for Crying {
        fn check(&self, _: &Judged<'_>) -> Verdict {
            self.0.fetch_add(1, Ordering::SeqCst);
            Verdict::Fresh
        }

        fn age(&self, _: UnixTime) -> Option<Duration> {
            Some(Duration::ZERO)
        }

        fn changed(&self) -> Changed {
            Box::pin(ready(()))
        }
    }

    let crying = Arc::new(Crying(AtomicUsize::new(0)));
    let deadline = connected(Arc::clone(&crying)).await;
    assert!(timeout(secs(10), deadline.passed()).await.is_err());
    let looks = crying.0.load(Ordering::SeqCst);
    assert!((95..=103).contains(&looks), "{looks}");
}

#[tokio::test(start_paused = true)]
async fn what_gets_too_old_ends_it_where_that_is_refused() {
    for (check, ended, after) in [
        (RevocationCheck::by(List::new()), Ended::Expired, secs(90)),
        (RevocationCheck::by(List::new()).max_age(secs(10)), Ended::RevocationsStale, LOOK_AT_CLOCK),
        (RevocationCheck::by(List::new()).max_age(secs(40)), Ended::RevocationsStale, 2 * LOOK_AT_CLOCK),
    ] {
        let deadline = connected(check).await;
        let start = Instant::now();
        assert_eq!(deadline.passed().await, ended);
        assert_at(start.elapsed(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_without_an_end_is_ended_by_a_revocation() {
    let issuer = Issuer::new();
    let list = List::new();
    let policy = Policy::new().audience(AUDIENCE).dangerous_allow_missing_exp();
    let verifier = Verifier::new(issuer.keys(), policy).revocation(list.clone());
    let verified = verifier.verify(&issuer.sign(&json!({ "aud": AUDIENCE })), common::now()).unwrap();
    let deadline = Deadline::by(&verified, Wall(Instant::now()));
    let mut passed = tokio_test::task::spawn(deadline.passed());
    assert!(passed.poll().is_pending());
    advance(secs(1 << 20)).await;
    assert!(passed.poll().is_pending());
    list.revoke();
    assert!(passed.is_woken());
    assert_eq!(passed.poll(), Poll::Ready(Ended::Revoked));
    // It stays so, though somebody takes it back.
    list.say(Verdict::Fresh);
    assert_eq!(passed.poll(), Poll::Ready(Ended::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_bound_of_ones_own_does_not_shake_off_the_revocation() {
    let list = List::new();
    let deadline = connected(list.clone()).await.no_later_than(UnixTime::from_secs(NOW + 20));
    list.revoke();
    assert_eq!(deadline.passed().await, Ended::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_listens_no_longer() {
    let list = List::new();
    let deadline = connected(list.clone()).await;
    for _ in 0..3 {
        let mut passed = tokio_test::task::spawn(deadline.passed());
        assert!(passed.poll().is_pending());
        assert_eq!(list.listeners(), 1);
        drop(passed);
        assert_eq!(list.listeners(), 0);
    }
}

#[test]
fn who_is_refused_by_a_route_gives_back_what_was_reserved() {
    let issuer = Issuer::new();
    let (mut service, mut handle) =
        tower_test::mock::spawn_with(|inner: tower_test::mock::Mock<Request<()>, Response<()>>| {
            require_fresh(secs(10)).layer(inner)
        });
    handle.allow(1);
    let verified = verifier(&issuer).verify(&issuer.token(""), common::now()).unwrap();
    let mut request = Request::new(());
    request.extensions_mut().insert(verified);
    tokio_test::assert_ready_ok!(service.poll_ready());
    let mut refused = tokio_test::task::spawn(service.call(request));
    assert_eq!(tokio_test::assert_ready_ok!(refused.poll()).status(), 500);
    tokio_test::assert_pending!(handle.poll_request());
}

/// What they say can be sent to wherever a connection is served.
#[test]
fn a_service_with_a_fresh_route_is_a_service_like_any_other() {
    fn is_service<S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static>(_: &S) {}
    let inner = service_fn(|_: Request<Body>| ready(Ok::<_, Infallible>(Response::new(Body::empty()))));
    is_service(&require_fresh(secs(1)).layer(inner));
}
