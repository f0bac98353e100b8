//! An issuer and an API that it protects in one process.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use countersign_claims::{Policy, UnixTime};
use countersign_issuer::by_hand::{ClockByHand, RingByHand};
use countersign_issuer::state::KeyState;
use countersign_issuer::{Clock as _, Mint, RingConfig, RingKeys, Slot};
use countersign_token::{Algorithm, SigningKey};
use countersign_tower::RequireJwtLayer;
use countersign_verifier::Verifier;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

const ISSUER: &str = "https://issuer.example";
const SLOT: &str = "es256";

fn key(kid: &str) -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid))
}

fn ring() -> (RingByHand, ClockByHand) {
    let clock = ClockByHand::new(UnixTime::from_secs(1_800_000_000));
    let config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    (RingByHand::new(ISSUER, config, clock.clone()), clock)
}

fn layer(ring: &RingByHand, clock: &ClockByHand) -> RequireJwtLayer<RingKeys> {
    let policy = Policy::new().issuer(ISSUER).audience("orders").access_token_profile();
    let clock = clock.clone();
    RequireJwtLayer::new(Verifier::new(ring.keys(), policy)).clock(move || clock.now().wall)
}

fn token(ring: &RingByHand) -> String {
    let mint = Mint::new(Duration::from_secs(600)).subject("ada").client_id("web").audience("orders");
    ring.minter().mint(SLOT, &mint).unwrap().token
}

fn request(token: &str) -> Request<()> {
    Request::builder().header(AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap()
}

#[tokio::test]
async fn what_is_minted_is_let_in_and_stays_so_across_a_rotation() {
    let (ring, clock) = ring();
    let api = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let mut api = layer(&ring, &clock).layer(api);
    let (first, second, third) = (key("first"), key("second"), key("third"));

    ring.show_keys([(SLOT, KeyState::Active, &first), (SLOT, KeyState::Standby, &second)]).unwrap();
    let old = token(&ring);
    assert_eq!(api.ready().await.unwrap().call(request(&old)).await.unwrap().status(), 200);

    ring.show_keys([
        (SLOT, KeyState::Retiring, &first),
        (SLOT, KeyState::Active, &second),
        (SLOT, KeyState::Announced, &third),
    ])
    .unwrap();
    let new = token(&ring);
    for token in [&old, &new, &old] {
        assert_eq!(api.ready().await.unwrap().call(request(token)).await.unwrap().status(), 200);
    }

    // Revoked at once: nothing that the old key has signed is let in, whether it was before or not.
    ring.show_keys([(SLOT, KeyState::Revoked, &first), (SLOT, KeyState::Active, &second)]).unwrap();
    assert_eq!(api.ready().await.unwrap().call(request(&old)).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.ready().await.unwrap().call(request(&new)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_key_of_somebody_else_is_the_tokens_fault_and_no_state_is_ours() {
    let (ring, clock) = ring();
    let api = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let mut api = layer(&ring, &clock).layer(api);
    let (elsewhere, _) = self::ring();
    elsewhere.show_keys([(SLOT, KeyState::Active, &key("foreign"))]).unwrap();
    let foreign = token(&elsewhere);
    assert_eq!(api.ready().await.unwrap().call(request(&foreign)).await.unwrap().status(), 503);
    ring.show_keys([(SLOT, KeyState::Active, &key("ours"))]).unwrap();
    assert_eq!(api.ready().await.unwrap().call(request(&foreign)).await.unwrap().status(), 401);
    // This state is too old to say that there is no such key.
    clock.advance(Duration::from_secs(31));
    assert_eq!(api.ready().await.unwrap().call(request(&foreign)).await.unwrap().status(), 429);
}

#[tokio::test]
async fn the_set_is_served_by_a_router_beside_what_it_protects() {
    let (ring, clock) = ring();
    ring.show_keys([(SLOT, KeyState::Active, &key("k1"))]).unwrap();
    let app = Router::new()
        .route("/orders", axum::routing::get(async || "orders"))
        .layer(layer(&ring, &clock))
        .route_service("/.well-known/jwks.json", ring.jwks());
    let send = async |request: http::request::Builder, path: &str| {
        app.clone().oneshot(request.uri(path).body(axum::body::Body::empty()).unwrap()).await.unwrap()
    };
    let jwks = "/.well-known/jwks.json";
    assert_eq!(send(Request::builder(), "/orders").await.status(), 401);
    let with_token = Request::builder().header(AUTHORIZATION, format!("Bearer {}", token(&ring)));
    assert_eq!(send(with_token, "/orders").await.status(), 200);

    let response = send(Request::builder(), jwks).await;
    let headers = response.headers().clone();
    assert_eq!(response.status(), 200);
    assert_eq!(headers[CONTENT_TYPE], "application/jwk-set+json");
    assert_eq!(headers[CACHE_CONTROL], "public, max-age=300");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(headers[CONTENT_LENGTH], body.len().to_string());

    let head = send(Request::builder().method("HEAD"), jwks).await;
    assert_eq!(head.headers()[CONTENT_LENGTH], body.len().to_string());
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    let again = send(Request::builder().header(IF_NONE_MATCH, &headers[ETAG]), jwks).await;
    assert_eq!(again.status(), 304);
    assert_eq!(send(Request::builder().method("POST"), jwks).await.status(), 405);
}
