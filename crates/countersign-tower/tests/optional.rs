//! Where no token is needed: who passes as nobody, what is refused all the same, and what handlers get to know.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![cfg(feature = "axum")]

mod common;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use common::{AUDIENCE, Issuer, NOW, ScriptedKeys};
use countersign_claims::{Policy, acr, permission, scope};
use countersign_token::{Answer, KeySource, Unready};
use countersign_tower::{
    Authenticated, Caller, Claims, ExtractError, ExtractRejection, Permit, Refusal, RefusalLimit, Refused,
    RequireJwtLayer, require,
};
use countersign_verifier::Verifier;
use http::{Extensions, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;

permission! {
    /// May change orders.
    pub Write = scope("orders:write");
}

#[derive(serde::Deserialize)]
struct Tenancy {
    tenant: String,
}

async fn caller(caller: Caller) -> String {
    match caller {
        Caller::Authenticated(verified) => verified.subject().unwrap_or("?").to_owned(),
        Caller::Anonymous => "anonymous".into(),
        Caller::Invalid(refusal) => format!("invalid: {}", refusal.code()),
    }
}

async fn maybe(caller: Option<Authenticated>) -> String {
    caller.map_or("none".into(), |caller| caller.subject().unwrap_or("?").to_owned())
}

async fn maybe_claims(claims: Option<Claims<Tenancy>>) -> String {
    claims.map_or("none".into(), |claims| claims.tenant.clone())
}

async fn must(caller: Authenticated) -> String {
    caller.subject().unwrap_or("?").to_owned()
}

async fn permitted(permit: Permit<Write>) -> String {
    permit.subject().unwrap_or("?").to_owned()
}

fn routes() -> Router {
    Router::new()
        .route("/caller", get(caller))
        .route("/maybe", get(maybe))
        .route("/claims", get(maybe_claims))
        .route("/must", get(must))
        .route("/permit", get(permitted))
        .route("/route", get(caller).layer(require(scope("orders:write"))))
}

fn asked(path: &str, credentials: &[&str]) -> Request<Body> {
    let mut builder = Request::get(path);
    for value in credentials {
        builder = builder.header("authorization", *value);
    }
    builder.body(Body::empty()).unwrap()
}

async fn get_from(app: &Router, path: &str, credentials: &[&str]) -> (u16, String) {
    let response = app.clone().oneshot(asked(path, credentials)).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

fn said(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

#[tokio::test]
async fn who_shows_no_token_is_nobody_to_whoever_can_do_with_that() {
    let issuer = Issuer::new();
    let app = routes().layer(issuer.layer().optional().resource_metadata("https://a.example/m"));
    for credentials in [&[][..], &["Basic YTpi"]] {
        assert_eq!(get_from(&app, "/caller", credentials).await, said("anonymous"));
        assert_eq!(get_from(&app, "/maybe", credentials).await, said("none"));
        assert_eq!(get_from(&app, "/claims", credentials).await, said("none"));
        for (path, scope) in
            [("/must", ""), ("/permit", r#" scope="orders:write","#), ("/route", r#" scope="orders:write","#)]
        {
            let response = app.clone().oneshot(asked(path, credentials)).await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
            assert_eq!(
                response.headers()["www-authenticate"],
                format!(r#"Bearer realm="orders",{scope} resource_metadata="https://a.example/m""#),
                "{path}"
            );
            assert_eq!(response.extensions().get::<Refusal>(), Some(&Refusal::NoCredentials));
        }
    }
    let good = format!("Bearer {}", issuer.token("orders:write"));
    for path in ["/caller", "/maybe", "/must", "/permit", "/route"] {
        assert_eq!(get_from(&app, path, &[&good]).await, said("ada"), "{path}");
    }
    // `Option` is for who is not there, not for claims that do not fit, nor for a right that is lacking.
    assert_eq!(get_from(&app, "/claims", &[&good]).await.0, 401);
    let reader = format!("Bearer {}", issuer.token("orders:read"));
    assert_eq!(get_from(&app, "/permit", &[&reader]).await.0, 403);
    assert_eq!(get_from(&app, "/route", &[&reader]).await.0, 403);
}

#[tokio::test]
async fn a_token_that_is_shown_must_be_good() {
    let issuer = Issuer::new();
    let expired = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW - 3600, "sub": "ada" }));
    let elsewhere = issuer.sign(&json!({ "aud": "billing", "exp": NOW + 60, "sub": "ada" }));
    let forged = Issuer::new().token("");
    let strict = routes().layer(issuer.layer().optional());
    let lax = routes().layer(issuer.layer().dangerous_treat_invalid_as_anonymous());
    for (token, status, code) in [
        (expired.as_str(), 401, "expired"),
        (&elsewhere, 401, "wrong_audience"),
        (&forged, 401, "bad_signature"),
        ("a.b.c", 401, "malformed"),
        ("", 400, "malformed_credentials"),
        ("a b", 400, "malformed_credentials"),
    ] {
        let credentials = format!("Bearer {token}");
        let response = strict.clone().oneshot(asked("/caller", &[&credentials])).await.unwrap();
        assert_eq!(response.status(), status, "{code}");
        let refusal = response.extensions().get::<Refusal>().unwrap().clone();
        let (told, text) = get_from(&lax, "/caller", &[&credentials]).await;
        assert_eq!((told, text), said(&format!("invalid: {}", refusal.code())));
        assert_eq!(get_from(&lax, "/maybe", &[&credentials]).await, said("none"));
        // Who must be known is told what is wrong with the token.
        let response = lax.clone().oneshot(asked("/must", &[&credentials])).await.unwrap();
        assert_eq!((response.status().as_u16(), response.extensions().get::<Refusal>()), (status, Some(&refusal)));
    }
    assert_eq!(get_from(&lax, "/caller", &[]).await, said("anonymous"));
}

struct Always;

impl RefusalLimit for Always {
    fn retry_after(&self, _: &Refused<'_>) -> Option<Duration> {
        Some(Duration::from_secs(7))
    }
}

#[tokio::test]
async fn two_tokens_a_lacking_right_and_what_could_not_be_checked_are_never_anonymous() {
    let issuer = Issuer::new();
    let good = format!("Bearer {}", issuer.token("orders:read"));
    let lax = || issuer.layer().dangerous_treat_invalid_as_anonymous();
    let app = routes().layer(lax());
    assert_eq!(get_from(&app, "/caller", &[&good, &good]).await.0, 400);
    assert_eq!(get_from(&app, "/caller", &[&good, "Basic YTpi"]).await.0, 400);
    let app = routes().layer(lax().require(scope("orders:write")));
    assert_eq!(get_from(&app, "/caller", &[&good]).await.0, 403);
    assert_eq!(get_from(&app, "/caller", &[]).await, said("anonymous"), "what is required is required of tokens");
    let app = routes().layer(lax().require(acr(["gold"])));
    assert_eq!(get_from(&app, "/caller", &[&good]).await.0, 401);
    let app = routes().layer(lax().require(scope("orders:write")).limit_refusals(Always));
    assert_eq!(get_from(&app, "/caller", &[&good]).await.0, 429);
    assert_eq!(get_from(&app, "/caller", &["Bearer a.b.c"]).await.0, 200, "who is not refused is not limited");
    let retry_after = Duration::from_secs(5);
    for (answer, status) in
        [(Answer::NotYet { retry_after }, 429), (Answer::Unavailable { reason: Unready::TooOld, retry_after }, 503)]
    {
        let keys = ScriptedKeys::answering(answer);
        if status == 429 {
            keys.publish(Issuer::new().keys());
        }
        let app = routes().layer(common::layer(keys).dangerous_treat_invalid_as_anonymous());
        let stranger = Issuer::new().0.with_kid("k2");
        let token = stranger.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60 })).unwrap();
        assert_eq!(get_from(&app, "/caller", &[&format!("Bearer {token}")]).await.0, status);
    }
}

#[tokio::test]
async fn a_token_whose_key_is_not_found_after_a_wait_is_invalid_too() {
    let issuer = Issuer::new();
    for (is_lax, expected) in [(false, 401), (true, 200)] {
        let keys = ScriptedKeys::default();
        let layer = common::layer(keys.clone()).optional();
        let app = routes().layer(if is_lax { layer.dangerous_treat_invalid_as_anonymous() } else { layer });
        let token = format!("Bearer {}", issuer.token(""));
        let mut answer = tokio_test::task::spawn(app.oneshot(asked("/caller", &[&token])));
        tokio_test::assert_pending!(answer.poll());
        keys.answer(Answer::Absent);
        assert_eq!(tokio_test::assert_ready_ok!(answer.poll()).status(), expected);
    }
}

/// A layer whose tokens are for `audience`.
fn of<K: KeySource>(keys: K, audience: &str) -> RequireJwtLayer<K> {
    RequireJwtLayer::new(Verifier::new(keys, Policy::new().audience(audience))).clock(common::now)
}

#[tokio::test]
async fn what_one_layer_has_found_is_nothing_to_the_layer_within() {
    let issuer = Issuer::new();
    let ours = format!("Bearer {}", issuer.token("orders:write"));
    let theirs = issuer.sign(&json!({ "aud": "billing", "exp": NOW + 60, "sub": "bob", "scope": "orders:write" }));
    let theirs = format!("Bearer {theirs}");
    let billing = || of(issuer.keys(), "billing");

    // Strict outside, optional within, of another policy.
    let app = routes().layer(billing().dangerous_treat_invalid_as_anonymous()).layer(issuer.layer());
    assert_eq!(get_from(&app, "/caller", &[&ours]).await, said("invalid: wrong_audience"));
    assert_eq!(get_from(&app, "/maybe", &[&ours]).await, said("none"));
    for path in ["/must", "/permit", "/route"] {
        assert_eq!(get_from(&app, path, &[&ours]).await.0, 401, "{path}");
    }
    // Another place within: the outer caller is not the inner one.
    let other_place = billing().optional().token_from([countersign_tower::TokenPlace::header("x-token")]);
    let app = routes().layer(other_place).layer(issuer.layer());
    assert_eq!(get_from(&app, "/caller", &[&ours]).await, said("anonymous"));
    // Exempt within.
    let app = routes().layer(billing().exempt("/caller")).layer(issuer.layer());
    assert_eq!(get_from(&app, "/caller", &[&ours]).await, said("anonymous"));

    // Optional outside, strict within.
    let app = routes().layer(billing()).layer(issuer.layer().dangerous_treat_invalid_as_anonymous());
    assert_eq!(get_from(&app, "/caller", &[&theirs]).await, said("bob"));
    assert_eq!(get_from(&app, "/caller", &[&ours]).await.0, 401);
    assert_eq!(get_from(&app, "/caller", &[]).await.0, 401);
    // Optional both: the inner one's word counts.
    let app = routes().layer(billing().dangerous_treat_invalid_as_anonymous()).layer(issuer.layer().optional());
    assert_eq!(get_from(&app, "/caller", &[&ours]).await, said("invalid: wrong_audience"));
    assert_eq!(get_from(&app, "/caller", &[]).await, said("anonymous"));
}

#[test]
fn without_a_layer_there_is_no_caller_and_nobody_is_anonymous() {
    assert!(matches!(Caller::from_extensions(&Extensions::new()), Err(ExtractError::NoLayer)));
}

#[tokio::test]
async fn a_handler_may_look_at_the_reason_itself() {
    async fn handler(caller: Result<Authenticated, ExtractRejection>) -> String {
        caller.map_or_else(|rejection| format!("{:?}", rejection.error()), |_| "in".into())
    }
    let app = Router::new().route("/", get(handler)).layer(Issuer::new().layer().optional());
    let (status, text) = get_from(&app, "/", &[]).await;
    assert_eq!((status, text.as_str()), (200, "Anonymous(NoCredentials)"));
    let response: Response<()> = ExtractError::Anonymous(Refusal::NoCredentials).into_response(
        &http::Method::GET,
        &http::HeaderMap::new(),
        &Extensions::new(),
    );
    assert_eq!(
        (response.status().as_u16(), &response.headers()["www-authenticate"]),
        (401, &"Bearer realm=\"api\"".parse().unwrap())
    );
}
