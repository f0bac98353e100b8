//! Who hears of what: each request once, and once more what a handler refuses.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![cfg(feature = "axum")]

mod common;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use common::{AUDIENCE, Heard, Issuer, NOW, ScriptedKeys};
use countersign_claims::{Policy, Verified, permission, scope};
use countersign_token::Answer;
use countersign_tower::{
    Authenticated, Caller, Claims, Forbidden, Judged, Observer, Outcome, Permit, Refusal, RefusalLimit, Refused,
    RequireJwtLayer, require,
};
use countersign_verifier::Verifier;
use http::{Request, Response};
use serde_json::json;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

permission! {
    /// May change orders.
    pub Write = scope("orders:write");
}

struct Always;

impl RefusalLimit for Always {
    fn retry_after(&self, _: &Refused<'_>) -> Option<Duration> {
        Some(Duration::from_secs(7))
    }
}

fn preflight() -> Request<()> {
    let builder = Request::options("/").header("origin", "a").header("access-control-request-method", "GET");
    builder.body(()).unwrap()
}

#[tokio::test]
async fn each_outcome_is_heard_of_once() {
    let issuer = Issuer::new();
    let heard = Heard::default();
    let layer = || issuer.layer().observe(heard.clone());
    let good = || common::request(&issuer.token(""));
    let bad = || common::request("a.b.c");
    let none = || Request::new(());
    let mut names = std::collections::BTreeSet::new();
    for (layer, request, expected) in [
        (layer(), good(), "admitted -"),
        (layer(), none(), "refused no_credentials"),
        (layer().require(scope("x")), good(), "refused insufficient_scope"),
        (layer().limit_refusals(Always), none(), "refused limited"),
        (layer().limit_refusals(Always), good(), "admitted -"),
        (layer().optional(), none(), "anonymous -"),
        (layer().dangerous_treat_invalid_as_anonymous(), bad(), "anonymous not_three_parts"),
        (layer().exempt("/"), bad(), "exempt -"),
        (layer().allow_cors_preflight(), preflight(), "preflight -"),
        (layer().shadow(), good(), "shadow_admitted -"),
        (layer().shadow(), none(), "shadow_refused no_credentials"),
        (layer().shadow().limit_refusals(Always), none(), "shadow_refused no_credentials"),
        (layer().shadow().optional(), none(), "anonymous -"),
        (layer().shadow().exempt("/"), none(), "exempt -"),
        (layer().shadow().allow_cors_preflight(), preflight(), "preflight -"),
    ] {
        let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
        layer.layer(inner).oneshot(request).await.unwrap();
        let said = heard.take();
        let outcome = said[0].split(' ').next().unwrap().to_owned();
        assert!(Outcome::NAMES.contains(&outcome.as_str()));
        names.insert(outcome);
        if expected.ends_with("not_three_parts") {
            assert!(said.len() == 1 && said[0].starts_with("anonymous ") && said[0] != "anonymous -", "{said:?}");
        } else {
            assert_eq!(said, [expected]);
        }
    }
    let mut missing: Vec<_> = Outcome::NAMES.into_iter().filter(|name| !names.contains(*name)).collect();
    missing.retain(|name| *name != "shadow_undecided"); // in `shadow.rs`
    assert_eq!(missing, [""; 0]);
}

/// All that is said of one judgement.
#[derive(Default)]
struct Whole(Mutex<Vec<Said>>);

/// Outcome, issuer, what it took, what it waited, and whether a handler has said so.
type Said = (String, Option<String>, Option<Duration>, Option<Duration>, bool);

impl Observer for Whole {
    fn judged(&self, judged: &Judged<'_>) {
        let issuer = judged.issuer().map(str::to_owned);
        let entry =
            (judged.outcome().name().to_owned(), issuer, judged.took(), judged.waited(), judged.is_by_handler());
        self.0.lock().unwrap().push(entry);
    }
}

#[test]
fn who_has_waited_is_heard_of_once_and_with_the_time_it_took() {
    let issuer = Issuer::new();
    for (answer, outcome) in [
        (Answer::Changed, "admitted"),
        (Answer::Absent, "refused"),
        (Answer::NotYet { retry_after: Duration::from_secs(1) }, "refused"),
    ] {
        let (keys, whole) = (ScriptedKeys::default(), Arc::new(Whole::default()));
        let layer = common::layer(keys.clone()).observe(Arc::clone(&whole));
        let inner = service_fn(async |request: Request<()>| {
            let entries = format!("{:?}", request.extensions().len());
            Ok::<_, Infallible>(Response::new(entries))
        });
        let mut response = tokio_test::task::spawn(layer.layer(inner).oneshot(common::request(&issuer.token(""))));
        tokio_test::assert_pending!(response.poll());
        assert!(whole.0.lock().unwrap().is_empty(), "nothing has been judged");
        if answer == Answer::Changed {
            keys.publish(issuer.keys());
        }
        keys.answer(answer);
        let response = tokio_test::assert_ready_ok!(response.poll());
        assert!(outcome == "refused" || response.body() == "1", "nothing but the token is left in the extensions");
        let said = std::mem::take(&mut *whole.0.lock().unwrap());
        let [(name, None, Some(took), Some(waited), false)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(name, outcome);
        assert!(*took < Duration::from_secs(60) && *waited < Duration::from_secs(60));
    }
    // At once: it took its time, and has not waited.
    let whole = Arc::new(Whole::default());
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let layer = issuer.layer().observe(Arc::clone(&whole));
    tokio_test::block_on(layer.layer(inner).oneshot(common::request(&issuer.token("")))).unwrap();
    assert!(matches!(&whole.0.lock().unwrap()[..], [(_, None, Some(_), None, false)]));
}

#[tokio::test]
async fn the_issuer_is_one_that_is_configured_and_never_what_a_token_says() {
    let issuer = Issuer::new();
    let claims = |iss: &str| issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "iss": iss }));
    for (policy, iss, expected) in [
        (Policy::new(), "https://made-up.example", None),
        (Policy::new().issuer("https://a.example"), "https://a.example", Some("https://a.example")),
        (Policy::new().issuer("https://a.example"), "https://made-up.example", Some("https://a.example")),
        (
            Policy::new().issuer("https://a.example").issuer("https://b.example"),
            "https://b.example",
            Some("https://b.example"),
        ),
        (Policy::new().issuer("https://a.example").issuer("https://b.example"), "https://made-up.example", None),
    ] {
        let whole = Arc::new(Whole::default());
        let verifier = Verifier::new(issuer.keys(), policy.audience(AUDIENCE));
        let layer = RequireJwtLayer::new(verifier).clock(common::now).observe(Arc::clone(&whole));
        let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
        layer.layer(inner).oneshot(common::request(&claims(iss))).await.unwrap();
        assert_eq!(whole.0.lock().unwrap()[0].1.as_deref(), expected, "{iss}");
    }
}

#[tokio::test]
async fn what_handlers_and_routes_refuse_is_heard_of_as_theirs() {
    #[derive(serde::Deserialize)]
    struct Tenancy {
        #[expect(dead_code, reason = "it is not there")]
        tenant: String,
    }
    async fn by_hand(caller: Authenticated) -> Result<&'static str, Forbidden> {
        caller.require(&scope("orders:write"))?;
        Ok("in")
    }
    let issuer = Issuer::new();
    let heard = Heard::default();
    let app = Router::new()
        .route("/permit", get(async |_: Permit<Write>| "in"))
        .route("/route", get(async || "in").layer(require(scope("orders:write"))))
        .route("/hand", get(by_hand))
        .route("/claims", get(async |_: Claims<Tenancy>| "in"))
        .route("/must", get(async |_: Authenticated| "in"))
        .route("/caller", get(async |_: Caller| "in"))
        .route("/maybe", get(async |_: Option<Authenticated>| "in"))
        .layer(issuer.layer().optional().observe(heard.clone()));
    let send = async |path: &str, token: Option<&str>| {
        let mut builder = Request::get(path);
        if let Some(token) = token {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        app.clone().oneshot(builder.body(Body::empty()).unwrap()).await.unwrap()
    };
    let reader = issuer.token("orders:read");
    for (path, reason) in [
        ("/permit", "insufficient_scope"),
        ("/route", "insufficient_scope"),
        ("/hand", "insufficient_scope"),
        ("/claims", "claims_type"),
    ] {
        let response = send(path, Some(&reader)).await;
        assert_eq!(response.extensions().get::<Refusal>().unwrap().code(), reason, "{path}");
        assert_eq!(heard.take(), ["admitted -".to_owned(), format!("refused {reason} by handler")], "{path}");
    }
    for path in ["/permit", "/route", "/hand", "/claims", "/must"] {
        assert_eq!(send(path, None).await.status(), 401);
        assert_eq!(heard.take(), ["anonymous -", "refused no_credentials by handler"], "{path}");
    }
    for path in ["/caller", "/maybe"] {
        assert_eq!(send(path, None).await.status(), 200);
        assert_eq!(heard.take(), ["anonymous -"], "{path}");
    }
    let writer = issuer.token("orders:write");
    for path in ["/permit", "/route", "/hand", "/must", "/caller", "/maybe"] {
        assert_eq!(send(path, Some(&writer)).await.status(), 200);
        assert_eq!(heard.take(), ["admitted -"], "{path}");
    }
    assert!(app.oneshot(Request::get("/none").body(Body::empty()).unwrap()).await.is_ok());
    assert_eq!(heard.take(), ["anonymous -"]);
}

#[tokio::test]
async fn several_observers_all_hear_and_those_of_a_clone_do_not() {
    let issuer = Issuer::new();
    let (one, two, three) = (Heard::default(), Heard::default(), Heard::default());
    let base = issuer.layer().observe(one.clone());
    let further = base.clone().observe(two.clone()).observe(three.clone());
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    base.layer(inner).oneshot(Request::new(())).await.unwrap();
    assert_eq!((one.take().len(), two.take().len(), three.take().len()), (1, 0, 0));
    further.layer(inner).oneshot(Request::new(())).await.unwrap();
    assert_eq!((one.take().len(), two.take().len(), three.take().len()), (1, 1, 1));
}

/// Panics once.
#[derive(Default)]
struct Panics(AtomicUsize);

impl Observer for Panics {
    fn judged(&self, _: &Judged<'_>) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "an observer's own fault");
    }
}

#[test]
fn a_panic_of_an_observer_is_its_requests_and_no_other_ones() {
    let issuer = Issuer::new();
    let inner = service_fn(async |request: Request<()>| {
        assert!(request.extensions().get::<Verified>().is_some());
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let mut service = issuer.layer().observe(Panics::default()).layer(inner);
    let asked = || common::request(&issuer.token(""));
    let call = AssertUnwindSafe(|| drop(service.call(asked())));
    assert!(catch_unwind(call).is_err());
    let response = tokio_test::block_on(service.oneshot(asked())).unwrap();
    assert_eq!(response.status(), 200);
}
