//! Handlers behind [`DangerousFakeAuth`], beside the same behind `JwtAuth`.
#![allow(clippy::unwrap_used, reason = "a panic is the message")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{Request, Response, StatusCode};
use axum::{Router, routing::get};
use countersign::{Authenticated, Claims, Forbidden, JwtAuth, Policy, RevocationList, Verified, require_fresh, scope};
use countersign_testkit::{DangerousFakeAuth, IdentityProvider};
use serde_json::{Value, json};
use tower::{BoxError, Layer as _, Service as _, ServiceExt as _, service_fn};

const PATHS: [&str; 4] = ["/claims", "/caller", "/read", "/write"];

/// Of a type that not every caller's claims fit.
#[derive(serde::Deserialize)]
struct Tenant {
    tenant: String,
}

async fn caller(caller: Authenticated) -> String {
    let scopes: Vec<_> = caller.scopes().collect();
    format!("{:?} {:?} {:?} {scopes:?}", caller.issuer(), caller.subject(), caller.client_id())
}

async fn demand(caller: Authenticated, name: &str) -> Result<&'static str, Forbidden> {
    caller.require(&scope(name))?;
    Ok("done")
}

fn routes() -> Router {
    Router::new()
        .route("/claims", get(async |claims: Claims<Tenant>| claims.tenant.clone()))
        .route("/caller", get(caller))
        .route("/read", get(async |caller| demand(caller, "orders:read").await))
        .route("/write", get(async |caller| demand(caller, "orders:write").await))
}

/// These tests are run with `--release` too, at times.
fn subject(subject: &str) -> DangerousFakeAuth {
    DangerousFakeAuth::subject(subject).even_in_release_builds()
}

fn with_claims(claims: Value) -> DangerousFakeAuth {
    DangerousFakeAuth::with_claims(claims).even_in_release_builds()
}

/// Status, challenge and body.
type Answer = (StatusCode, Option<String>, String);

async fn ask(app: Router, path: &str, token: Option<&str>) -> Answer {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, challenge, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_handler_answers_as_behind_the_real_layer() {
    let idp = IdentityProvider::start();
    let real = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("orders");
    let token = idp.token("orders").subject("eve").scope("orders:read").claim("tenant", "t1");
    let fake = subject("eve").issuer(idp.issuer()).audience("orders");
    let fake = fake.scope("orders:read").claim("tenant", "t1");
    let mut statuses = Vec::new();
    for path in PATHS {
        let expected = ask(routes().layer(real.clone()), path, Some(&token.sign())).await;
        assert_eq!(ask(routes().layer(fake.clone()), path, None).await, expected, "{path}");
        statuses.push(expected.0.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 403]);
}

#[tokio::test]
async fn a_scope_that_the_caller_was_not_given_is_403() {
    let reader = subject("ada").scope("orders:read");
    assert_eq!(ask(routes().layer(reader.clone()), "/read", None).await.0, StatusCode::OK);
    let (status, challenge, _) = ask(routes().layer(reader), "/write", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let challenge = challenge.unwrap();
    assert!(
        challenge.starts_with("Bearer error=\"insufficient_scope\"") && challenge.contains("scope=\"orders:write\"")
    );

    let nobody = with_claims(json!({}));
    assert_eq!(ask(routes().layer(nobody), "/read", None).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn claims_that_do_not_fit_the_handlers_type_are_401() {
    for claims in [json!({ "sub": "ada" }), json!({ "sub": "ada", "tenant": 1 })] {
        let fake = with_claims(claims);
        assert_eq!(ask(routes().layer(fake), "/claims", None).await.0, StatusCode::UNAUTHORIZED);
    }
}

/// Nobody is asked who he is: that is what the name warns of.
#[tokio::test]
async fn whatever_token_a_request_has_it_is_of_the_made_up_caller() {
    let idp = IdentityProvider::start();
    let of_eve = idp.token("orders").subject("eve").sign();
    let app = routes().layer(subject("ada"));
    for token in [None, Some(&*of_eve), Some("nonsense")] {
        let (status, _, body) = ask(app.clone(), "/caller", token).await;
        assert_eq!((status, body.contains("ada")), (StatusCode::OK, true), "{token:?}");
    }
}

#[tokio::test]
async fn the_real_layer_around_it_still_refuses() {
    let idp = IdentityProvider::start();
    let real = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("orders");
    let app = routes().layer(subject("ada")).layer(real);
    assert_eq!(ask(app, "/caller", None).await.0, StatusCode::UNAUTHORIZED);
}

/// A service that notes what it finds in its requests, without a framework.
#[tokio::test]
async fn every_request_of_every_service_gets_the_one_token_that_was_verified() {
    let seen = Mutex::new(Vec::new());
    let note = service_fn(async |request: Request<&'static str>| {
        seen.lock().unwrap().push(request.extensions().get::<Verified>().cloned());
        if *request.body() == "fail" { Err(BoxError::from("the service's own")) } else { Ok(Response::new("done")) }
    });
    let fake = subject("ada");
    let (mut one, mut other) = (fake.layer(note), fake.clone().layer(note));
    assert_eq!(*one.ready().await.unwrap().call(Request::new("go")).await.unwrap().body(), "done");
    assert_eq!(*other.ready().await.unwrap().call(Request::new("go")).await.unwrap().body(), "done");
    let error = one.ready().await.unwrap().call(Request::new("fail")).await.unwrap_err();
    assert_eq!(error.to_string(), "the service's own");

    let seen: Vec<_> = seen.lock().unwrap().drain(..).map(Option::unwrap).collect();
    assert_eq!(seen.len(), 3);
    // The same memory, so nothing was signed, checked or copied for a request.
    assert!(seen.iter().all(|verified| verified.payload().as_ptr() == fake.verified().payload().as_ptr()));
    assert!(seen.iter().all(|verified| Arc::ptr_eq(verified.key(), fake.verified().key())));
}

#[test]
fn what_it_says_of_the_caller_is_plain_to_see_in_a_log() {
    let verified = subject("ada").verified();
    assert!(verified.issuer().unwrap().contains("dangerous-fake-auth"));
    assert_eq!(verified.key().kid(), Some("dangerous-fake-auth"));
    assert!(verified.expires_at() > verified.issued_at());
}

#[test]
fn these_claims_and_no_others_but_exp() {
    let verified = with_claims(json!({ "tenant": "t1" })).verified();
    let claims: Value = serde_json::from_slice(verified.payload()).unwrap();
    let names: Vec<_> = claims.as_object().unwrap().keys().collect();
    assert_eq!(names, ["exp", "tenant"]);
}

#[test]
fn a_policy_that_likes_the_claims_accepts_them() {
    let policy = Policy::new().issuer("https://issuer.example").audience("orders").access_token_profile();
    let fake = subject("ada").issuer("https://issuer.example").audience("orders").policy(policy);
    assert_eq!(fake.verified().audiences().collect::<Vec<_>>(), ["orders"]);
}

#[test]
fn a_release_build_ends_before_the_first_request_unless_it_is_asked_not_to() {
    let put_together = std::panic::catch_unwind(|| DangerousFakeAuth::subject("ada").layer(routes()));
    assert_eq!(put_together.is_ok(), cfg!(debug_assertions));
    let made = std::panic::catch_unwind(|| DangerousFakeAuth::with_claims(json!({})).verified());
    assert_eq!(made.is_ok(), cfg!(debug_assertions));
    let _ = subject("ada").layer(routes());
}

#[test]
#[should_panic(expected = "DangerousFakeAuth: `aud` is")]
fn a_policy_that_refuses_the_claims_ends_the_test() {
    let fake = subject("ada").audience("billing").policy(Policy::new().audience("orders"));
    let _ = fake.layer(routes());
}

#[test]
#[should_panic(expected = "DangerousFakeAuth: `exp` is 1,")]
fn an_expired_caller_ends_the_test() {
    let _ = with_claims(json!({ "sub": "ada", "exp": 1 })).layer(routes());
}

#[test]
#[should_panic(expected = "DangerousFakeAuth: `exp` has the wrong type")]
fn claims_that_no_token_may_have_end_the_test() {
    let _ = subject("ada").claim("exp", "tomorrow").layer(routes());
}

#[test]
#[should_panic(expected = "claims are a JSON object")]
fn claims_that_are_no_object_end_the_test() {
    let _ = with_claims(json!("ada"));
}

#[tokio::test]
async fn what_asks_once_more_whether_the_caller_is_revoked_asks_nobody_unless_it_is_told_whom() {
    let routes = || Router::new().route("/pay", get(async || "paid").layer(require_fresh(Duration::ZERO)));
    let answer = ask(routes().layer(subject("ada")), "/pay", None).await;
    assert_eq!((answer.0, answer.2.as_str()), (StatusCode::OK, "paid"));

    let list = RevocationList::new();
    let app = routes().layer(subject("ada").issuer("https://issuer.example").revocation(list.clone()));
    assert_eq!(ask(app.clone(), "/pay", None).await.0, StatusCode::OK);
    list.revoker("https://issuer.example").subject("ada").await.unwrap();
    assert_eq!(ask(app, "/pay", None).await.0, StatusCode::UNAUTHORIZED);
}
