//! Who probes is slowed, and who shares an address with them is not.
#![cfg(feature = "governor")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::ConnectInfo;
use common::{Issuer, NOW, ScriptedKeys, layer, request};
use countersign_claims::{acr, claim, scope};
use countersign_token::{Algorithm, Answer, KeySource, SigningKey, Unready};
use countersign_tower::{Judged, Observer, Outcome, PeerLimit, Refusal, RequireJwtLayer};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use serde_json::json;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// So few a minute that no test lasts long enough for one more.
const A_MINUTE: NonZeroU32 = NonZeroU32::MIN;
const AT_ONCE: u32 = 5;

fn limit() -> PeerLimit {
    PeerLimit::per_minute(A_MINUTE, |_, extensions| {
        extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
    })
    .burst(NonZeroU32::new(AT_ONCE).unwrap())
}

fn from(address: &str, mut request: Request<()>) -> Request<()> {
    let address: IpAddr = address.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((address, 4711))));
    request
}

async fn send<K: KeySource>(layer: &RequireJwtLayer<K>, request: Request<()>) -> Response<String> {
    let inside = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("inside"))));
    layer.layer(inside).oneshot(request).await.unwrap()
}

fn forged() -> String {
    let forger = SigningKey::generate(Algorithm::Es256).unwrap().with_kid("k1");
    forger.sign(&json!({ "aud": common::AUDIENCE, "exp": NOW + 60, "sub": "eve" })).unwrap()
}

/// How often each outcome was heard.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<BTreeMap<String, usize>>>);

impl Observer for Heard {
    fn judged(&self, judged: &Judged<'_>) {
        let name = match judged.outcome() {
            Outcome::Refused(refusal) => refusal.code(),
            outcome => outcome.name(),
        };
        *self.0.lock().unwrap().entry(name.to_owned()).or_default() += 1;
    }
}

#[tokio::test]
async fn a_thousand_bad_tokens_get_429_and_a_valid_caller_of_the_same_address_never_notices() {
    let issuer = Issuer::new();
    let heard = Heard::default();
    let layer = issuer.layer().limit_refusals(limit()).observe(heard.clone());
    let (bad, good) = (forged(), issuer.token(""));
    for number in 0..1000 {
        let refused = send(&layer, from("192.0.2.1", request(&bad))).await;
        let expected = if number < AT_ONCE { 401 } else { 429 };
        assert_eq!(refused.status(), expected, "{number}");
        if expected == 429 {
            let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            assert!(!refused.headers().contains_key("www-authenticate"));
            assert_eq!(refused.extensions().get::<Refusal>().unwrap().code(), "limited");
        }
        assert_eq!(send(&layer, from("192.0.2.1", request(&good))).await.status(), 200);
    }
    // Neither does anybody with a bad token at other addresses, but where two have one counter.
    let mut others = Vec::new();
    for last in 2..5 {
        others.push(send(&layer, from(&format!("192.0.2.{last}"), request(&bad))).await.status().as_u16());
    }
    assert!(others.contains(&401), "{others:?}");
    let heard = heard.0.lock().unwrap();
    assert_eq!((heard["admitted"], heard["bad_signature"] + heard["limited"]), (1000, 1003));
    assert!(heard["limited"] >= 995, "{heard:?}");
}

/// Neither is the peer looked for, nor the counter touched: only who is refused goes that way.
#[tokio::test]
async fn the_limit_is_not_asked_about_requests_that_pass() {
    let issuer = Issuer::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let limit = {
        let asked = Arc::clone(&asked);
        PeerLimit::per_minute(A_MINUTE, move |_, _| {
            asked.fetch_add(1, Ordering::Relaxed);
            None
        })
    };
    let layer = issuer.layer().limit_refusals(limit).optional();
    assert_eq!(send(&layer, request(&issuer.token(""))).await.status(), 200);
    assert_eq!(send(&layer, Request::new(())).await.status(), 200);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(send(&layer, request("a.b.c")).await.status(), 401);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn only_malformed_and_invalid_tokens_count_and_only_they_are_limited() {
    let issuer = Issuer::new();
    let limit = Arc::new(limit());
    let layer = issuer.layer().limit_refusals(Arc::clone(&limit));
    let sender = |request| from("192.0.2.1", request);
    let expired = issuer.sign(&json!({ "aud": common::AUDIENCE, "exp": NOW - 3600 }));
    let scoped = layer.clone().require(scope("orders:write"));
    let step_up = layer.clone().require(acr(["gold"]));
    let told = layer.clone().require(claim("tenant").equals("t1"));
    let starting = common::layer(ScriptedKeys::answering(Answer::NotYet { retry_after: Duration::from_secs(1) }))
        .limit_refusals(Arc::clone(&limit));
    let unavailable = common::layer(ScriptedKeys::answering(Answer::Unavailable {
        reason: Unready::NeverFetched,
        retry_after: Duration::from_secs(1),
    }))
    .limit_refusals(Arc::clone(&limit));

    // Before and after the peer has used up what it has: the answers are the same.
    for round in 0..2 {
        for _ in 0..2 * AT_ONCE {
            assert_eq!(send(&layer, sender(Request::new(()))).await.status(), 401, "{round}");
            let late = send(&layer, sender(request(&expired))).await;
            assert!(late.headers()["www-authenticate"].to_str().unwrap().contains("expired"), "{round}");
            assert_eq!(send(&scoped, sender(request(&issuer.token("")))).await.status(), 403, "{round}");
            assert_eq!(send(&step_up, sender(request(&issuer.token("")))).await.status(), 401, "{round}");
            assert_eq!(send(&told, sender(request(&issuer.token("")))).await.status(), 403, "{round}");
            let not_yet = send(&starting, sender(request(&issuer.token("")))).await;
            assert_eq!(not_yet.extensions().get::<Refusal>().unwrap().code(), "key_not_checked_yet", "{round}");
            assert_eq!(send(&unavailable, sender(request(&issuer.token("")))).await.status(), 503, "{round}");
        }
        if round == 0 {
            // One of each kind that counts.
            let mut twice = request(&issuer.token(""));
            let again = twice.headers()["authorization"].clone();
            twice.headers_mut().append("authorization", again);
            assert_eq!(send(&layer, sender(twice)).await.status(), 400);
            assert_eq!(send(&layer, sender(request("a b"))).await.status(), 400);
            assert_eq!(send(&layer, sender(request("a.b.c"))).await.status(), 401);
            let foreign = issuer.sign(&json!({ "aud": "billing", "exp": NOW + 60 }));
            assert_eq!(send(&layer, sender(request(&foreign))).await.status(), 401);
            assert_eq!(send(&layer, sender(request(&forged()))).await.status(), 401);
            for bad in ["a b", "a.b.c", &foreign, &forged()] {
                assert_eq!(send(&layer, sender(request(bad))).await.status(), 429, "{bad}");
            }
        }
    }
}

#[tokio::test]
async fn what_counts_can_be_chosen() {
    let issuer = Issuer::new();
    let layer = issuer.layer().limit_refusals(limit().counting(|refusal| *refusal == Refusal::NoCredentials));
    for number in 0..2 * AT_ONCE {
        let expected = if number < AT_ONCE { 401 } else { 429 };
        assert_eq!(send(&layer, from("192.0.2.1", Request::new(()))).await.status(), expected);
        assert_eq!(send(&layer, from("192.0.2.1", request("a.b.c"))).await.status(), 401);
    }
}

#[tokio::test]
async fn a_limited_caller_is_told_so_over_grpc_and_in_problem_details() {
    let issuer = Issuer::new();
    let layer = issuer.layer().limit_refusals(limit());
    for _ in 0..AT_ONCE {
        send(&layer, from("192.0.2.1", request("a.b.c"))).await;
    }
    let mut grpc = from("192.0.2.1", request("a.b.c"));
    *grpc.method_mut() = Method::POST;
    grpc.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    let refused = send(&layer, grpc).await;
    let header = |name: &str| refused.headers()[name].to_str().unwrap();
    assert_eq!((refused.status().as_u16(), header("grpc-status")), (200, "14"));
    assert_eq!(header("grpc-message"), "too many refused requests");
    assert!(header("retry-after").parse::<u64>().unwrap() <= 60);

    let inside = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("inside"))));
    let service = ServiceBuilder::new().layer(layer.problem_details()).service(inside);
    let refused = service.oneshot(from("192.0.2.1", request("a.b.c"))).await.unwrap();
    assert_eq!(refused.status(), 429);
    let problem: serde_json::Value = serde_json::from_str(refused.body()).unwrap();
    assert_eq!(problem["detail"], "too many refused requests");
    assert_eq!(problem["status"], 429);
    assert!(problem.get("error").is_none(), "no error of RFC 6750 says this");
}

#[test]
fn a_request_that_is_refused_after_its_wait_counts_too() {
    let issuer = Issuer::new();
    let keys = ScriptedKeys::default();
    let inside = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("inside"))));
    let mut service = layer(keys.clone()).limit_refusals(limit()).layer(inside);
    for number in 0..2 * AT_ONCE {
        let mut waiting = task::spawn(service.call(from("192.0.2.1", request(&issuer.token("")))));
        assert_pending!(waiting.poll());
        keys.answer(Answer::Absent);
        let expected = if number < AT_ONCE { 401 } else { 429 };
        assert_eq!(assert_ready_ok!(waiting.poll()).status(), expected);
    }
}

/// A layer that forgives has refused nobody, and one that only watches neither.
#[tokio::test]
async fn whoever_is_let_through_is_neither_counted_nor_limited() {
    let issuer = Issuer::new();
    for layer in [issuer.layer().dangerous_treat_invalid_as_anonymous(), issuer.layer().shadow()] {
        let layer = layer.limit_refusals(limit());
        for _ in 0..3 * AT_ONCE {
            assert_eq!(send(&layer, from("192.0.2.1", request("a.b.c"))).await.status(), 200);
        }
    }
}
