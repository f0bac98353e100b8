//! How often an accepted request allocates: to the number, so that whatever is added is seen to cost nothing while it is not
//! used. A program of its own, because it counts what goes through the global allocator (of the thread that measures).
//!
//! What aws-lc allocates by itself, in C, is not seen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use countersign::claims::UnixTime;
use countersign::claims::revocation::{Changed, Judged as OfToken, RevocationCheck, Revocations, Verdict};
use countersign::middleware::require_fresh;
use countersign::{
    Algorithm, Authenticated, Judged, JwtAuth, KeySet, Metrics, Observer, PeerLimit, Policy, Refusal, RefusalLimit,
    Refused, RequireJwtLayer, TokenPlace, Verified, Verifier, require, scope,
};
use countersign_testkit::{DangerousFakeAuth, TestKey, Token};
use http::header::{ACCEPT, AUTHORIZATION, COOKIE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tower::{Layer, Service};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "orders";

/// Of the request itself: a map of headers is two.
const OF_THE_REQUEST: u64 = 2;

/// Of the layer: what `http` takes to keep the token with the request, the map of extensions, its table, and a box for the value. For a token that
/// was seen before it is all.
const OF_THE_LAYER: u64 = 3;

/// Of a token that is new: the payload, and what is known of it (one `Arc`).
const OF_A_NEW_TOKEN: u64 = 2;

/// Requests that come before, by which whatever is made once is there, and the token is remembered, where tokens are; and those that are measured.
const BEFORE: usize = 2;
const REQUESTS: usize = 3;

/// The caller's token has been found, or has not been asked for: nothing that allocates.
#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        black_box(request.extensions().get::<Verified>().and_then(Verified::subject));
        ready(Ok(Response::new(())))
    }
}

fn key(algorithm: Algorithm) -> TestKey {
    TestKey::nth(algorithm, 0)
}

/// The least that a service sets.
fn plain(algorithm: Algorithm) -> JwtAuth {
    let keys = KeySet::new([key(algorithm).verifying_key(), TestKey::nth(algorithm, 1).verifying_key()]);
    JwtAuth::with_keys(keys).algorithms(algorithm).issuer(ISSUER).audience(AUDIENCE)
}

fn headers(algorithm: Algorithm) -> HeaderMap {
    let token = Token::new(&key(algorithm)).issuer(ISSUER).audience(AUDIENCE).scope("orders:read orders:write");
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("orders.example"));
    headers.insert(USER_AGENT, HeaderValue::from_static("test"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(AUTHORIZATION, format!("Bearer {}", token.sign()).parse().unwrap());
    headers
}

/// What making a request with these headers and having it served allocates, if it is accepted at once.
fn allocations<S>(service: &mut S, headers: &HeaderMap) -> u64
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    allocations_at(service, &Uri::from_static("/orders?a=b"), headers)
}

fn allocations_at<S>(service: &mut S, uri: &Uri, headers: &HeaderMap) -> u64
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let serve = |service: &mut S| {
        let mut request = Request::new(());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let served = pin!(service.call(request)).poll(&mut cx);
        assert!(matches!(served, Poll::Ready(Ok(response)) if response.status() == 200));
    };
    (0..BEFORE).for_each(|_| serve(service));
    let counted: Vec<_> = (0..REQUESTS).map(|_| allocation_counter::measure(|| serve(service)).count_total).collect();
    assert!(counted.iter().all(|count| *count == counted[0]), "it is not warm: {counted:?}");
    counted[0]
}

/// Demands that an accepted request makes so many allocations beside its own, whatever the algorithm of the key; and those of a new token, if it is.
fn check(name: &str, configure: impl Fn(JwtAuth) -> JwtAuth, of_the_layer: u64) {
    check_both(name, configure, of_the_layer, OF_A_NEW_TOKEN);
}

fn check_both(name: &str, configure: impl Fn(JwtAuth) -> JwtAuth, of_the_layer: u64, of_a_new_token: u64) {
    for algorithm in [Algorithm::Es256, Algorithm::Hs256, Algorithm::Rs256] {
        let auth = configure(plain(algorithm));
        let seen_before = allocations(&mut auth.clone().layer(Handler), &headers(algorithm));
        assert_eq!(seen_before, OF_THE_REQUEST + of_the_layer, "{name}, {algorithm}, seen before");
        let new = allocations(&mut auth.without_token_cache().layer(Handler), &headers(algorithm));
        assert_eq!(new, OF_THE_REQUEST + of_the_layer + of_a_new_token, "{name}, {algorithm}, new");
    }
}

#[test]
fn a_request_without_the_layer_makes_those_of_its_headers() {
    assert_eq!(allocations(&mut Handler, &headers(Algorithm::Es256)), OF_THE_REQUEST);
}

#[test]
fn an_accepted_request_makes_no_allocation_for_what_is_not_used() {
    check("plain", |auth| auth, OF_THE_LAYER);
    check("a scope", |auth| auth.require(scope("orders:read").and(scope("orders:write"))), OF_THE_LAYER);
    check("a profile", |auth| auth.access_token_profile().leeway(Duration::from_secs(1)), OF_THE_LAYER);
    check("a realm", |auth| auth.realm("orders"), OF_THE_LAYER);
    check("resource metadata", |auth| auth.resource_metadata("https://orders.example/m"), OF_THE_LAYER);
    check("plain HTTP", JwtAuth::plain_http_refusals, OF_THE_LAYER);
    check("optional", JwtAuth::optional, OF_THE_LAYER);
    check("invalid as anonymous", JwtAuth::dangerous_treat_invalid_as_anonymous, OF_THE_LAYER);
    check("exempt paths", |auth| auth.exempt("/healthz").exempt("/public/*"), OF_THE_LAYER);
    check("preflights", JwtAuth::allow_cors_preflight, OF_THE_LAYER);
    // Only who is refused is looked up.
    let limit = |auth: JwtAuth| auth.limit_refusals(PeerLimit::per_minute(NonZeroU32::MIN, |_, _| panic!("admitted")));
    check("a limit per peer", limit, OF_THE_LAYER);
    check("a limit on refusals", |auth| auth.limit_refusals(Never), OF_THE_LAYER);
    check("places that the token is not in", |auth| auth.token_from(places()), OF_THE_LAYER);
}

fn places() -> [TokenPlace; 5] {
    [
        TokenPlace::bearer(),
        TokenPlace::header("x-token"),
        TokenPlace::cookie("__Host-session"),
        TokenPlace::query("access_token"),
        TokenPlace::websocket_protocol("bearer."),
    ]
}

struct Never;

impl RefusalLimit for Never {
    fn retry_after(&self, _: &Refused<'_>) -> Option<Duration> {
        None
    }
}

impl Observer for Never {
    fn judged(&self, judged: &Judged<'_>) {
        black_box((judged.outcome().name(), judged.issuer(), judged.took()));
    }
}

#[test]
fn what_is_used_costs_what_it_writes() {
    check("an observer", |auth| auth.observe(Never), OF_THE_LAYER);
    check("without the token", JwtAuth::strip_token, OF_THE_LAYER);
    check("without the token in any place", |auth| auth.token_from(places()).strip_token(), OF_THE_LAYER);
    // The value, once as text and once as a header's.
    check("a claim in a header", |auth| auth.forward("sub", "x-user"), OF_THE_LAYER + 2);
    // Of the extensions no box, because nothing is in it.
    check("a shadow", JwtAuth::shadow, OF_THE_LAYER - 1);
}

/// The service that is built of `configure`, with answers to refusals and one more demand of its route.
#[test]
fn layers_around_and_within_cost_an_accepted_request_nothing() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let within = require(scope("orders:read")).layer(Handler);
        let mut service = plain(algorithm).realm("orders").on_refusal(|_: &Refusal, response| response).layer(within);
        assert_eq!(allocations(&mut service, &headers(algorithm)), OF_THE_REQUEST + OF_THE_LAYER);
    }
}

impl Revocations for Never {
    fn check(&self, token: &OfToken<'_>) -> Verdict {
        black_box((token.issuer, token.jwt_id, token.subject));
        Verdict::Fresh
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn changed(&self) -> Changed {
        Box::pin(pending())
    }
}

/// The verifier asks, and so do the layer and the route within.
#[test]
fn that_it_is_asked_what_is_revoked_costs_an_accepted_request_nothing() {
    let second = Duration::from_secs(1);
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let check = RevocationCheck::by(Never).require_jwt_id().max_age(second);
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        let verifier = Verifier::new(KeySet::new([key(algorithm).verifying_key()]), policy).revocation(Never);
        let layer = RequireJwtLayer::new(verifier).realm("orders").revocation(check).revocation(Never);
        let mut service = layer.layer(require_fresh(second).layer(Handler));
        assert_eq!(allocations(&mut service, &headers(algorithm)), OF_THE_REQUEST + OF_THE_LAYER, "{algorithm}");
    }
}

#[test]
fn a_token_is_found_anywhere_without_an_allocation() {
    let mut headers = headers(Algorithm::Es256);
    let bearer = headers.remove(AUTHORIZATION).unwrap();
    let token = bearer.to_str().unwrap()["Bearer ".len()..].to_owned();
    let auth = || plain(Algorithm::Es256).token_from(places());
    let mut cookies = headers.clone();
    cookies.insert(COOKIE, format!("a=b; __Host-session={token}; c=d").parse().unwrap());
    assert_eq!(allocations(&mut auth().layer(Handler), &cookies), OF_THE_REQUEST + OF_THE_LAYER);
    // What is left of the cookies: a list of them, their text, and the header's value; and a list of values.
    let stripped = allocations(&mut auth().strip_token().layer(Handler), &cookies);
    assert_eq!(stripped, OF_THE_REQUEST + OF_THE_LAYER + 4);
    // The answer says that it is private, in a map of headers that has had nothing to say.
    let uri: Uri = format!("/orders?a=b&access_token={token}").parse().unwrap();
    let in_query = allocations_at(&mut auth().layer(Handler), &uri, &headers);
    assert_eq!(in_query, OF_THE_REQUEST + OF_THE_LAYER + 2);
}

/// No claims, and no token: the extensions, and how the layer answers, for handlers that need a caller.
#[test]
fn nobody_costs_less_than_a_caller() {
    let mut headers = headers(Algorithm::Es256);
    headers.remove(AUTHORIZATION);
    let mut service = plain(Algorithm::Es256).optional().layer(Handler);
    assert_eq!(allocations(&mut service, &headers), OF_THE_REQUEST + 3);
}

/// That each request is counted, and its span told of, costs time but no memory, once the first of an issuer has been counted; without either, the
/// features alone cost nothing, as the tests above show: they are built with both.
#[test]
fn metrics_and_traces_make_no_allocation() {
    let metrics = Metrics::new("orders");
    check("metrics", |auth| auth.metrics(&metrics), OF_THE_LAYER);
    check("traces", JwtAuth::traced, OF_THE_LAYER);
    check("both", |auth| auth.metrics(&metrics).traced(), OF_THE_LAYER);
}

/// `sub` as a `String` and the `Arc` that is shared.
#[test]
fn claims_read_into_a_type_cost_what_the_type_does() {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "reading it is what is measured")]
    struct MyClaims {
        sub: String,
    }
    check_both("claims", JwtAuth::with_claims::<MyClaims>, OF_THE_LAYER, OF_A_NEW_TOKEN + 2);
}

/// Without cryptography and without JSON: nothing but the extensions.
#[test]
fn a_made_up_caller_costs_a_request_what_its_extensions_do() {
    let mut service = DangerousFakeAuth::subject("ada").even_in_release_builds().layer(Handler);
    assert_eq!(allocations(&mut service, &HeaderMap::new()), 3);
}

/// A handler that takes the token shares it, which costs nothing; one that puts it into a box is seen.
#[test]
fn one_allocation_more_is_noticed() {
    let handler = |boxes: bool| {
        tower::service_fn(move |request: Request<()>| {
            let caller = Authenticated::from_extensions(request.extensions()).unwrap();
            drop(black_box(boxes.then(|| Box::new(caller))));
            ready(Ok(Response::new(())))
        })
    };
    let headers = headers(Algorithm::Es256);
    for (boxes, more) in [(false, 0), (true, 1)] {
        let mut service = plain(Algorithm::Es256).layer(handler(boxes));
        assert_eq!(allocations(&mut service, &headers), OF_THE_REQUEST + OF_THE_LAYER + more);
    }
}
