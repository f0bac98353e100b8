//! A signing key was stolen: who still accepts what it signs, and for how long: `cargo run --example ring_emergency`.
//!
//! ```text
//! TOKEN=…                                                                                      # the first token that it prints
//! OPERATOR=…                                                                                   # the second
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                       # 200
//! curl -i http://127.0.0.1:3000/invoices -H "Authorization: Bearer $TOKEN"                     # 200
//! curl -i -X POST http://127.0.0.1:3000/keys/rotate -H "Authorization: Bearer $OPERATOR"       # 202, a key that is merely old
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                       # 200, its tokens stay good
//! curl -i -X POST http://127.0.0.1:3000/keys/compromised -H "Authorization: Bearer $TOKEN"     # 401, no token of the ring's will do
//! curl -i -X POST http://127.0.0.1:3000/keys/compromised -H "Authorization: Bearer $OPERATOR"  # 200, all keys; the answer is what remains
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                       # 401, it follows the list
//! curl -i http://127.0.0.1:3000/invoices -H "Authorization: Bearer $TOKEN"                     # 200, until it fetches the keys again
//! ```
//!
//! `/orders` and `/invoices` stand for two services elsewhere: both have the keys from the URL and hold them for five minutes,
//! and only the first asks a `RevocationList`, into which the ring pushes the names of keys that are revoked. What the second still
//! accepts is the exposure that the answer tells. `POST /keys/{kid}/compromised` revokes one key; the standby, if there is one, signs in
//! its place. `GET /keys` shows what there is, and `POST /tokens/{name}` mints.
//!
//! The operator's token is signed by a key that is no part of the ring: who revokes all keys must not be locked out by it.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser as _;
use countersign::{Algorithm, Authenticated, JwtAuth, KeySet, RevocationList, SigningKey, scope};
use countersign_examples::RingOptions;
use countersign_issuer::step::{Compromised, Refusal};
use countersign_issuer::{Mint, MintError, OrderError, Revoked, Ring, RingConfig, Slot};
use serde_json::json;
use tokio::net::TcpListener;

const SLOT: &str = "es256";
const JWKS_PATH: &str = "/.well-known/jwks.json";

async fn greet(caller: Authenticated) -> String {
    format!("here you are, {}", caller.subject().unwrap_or("nobody"))
}

async fn keys(State(ring): State<Ring>) -> String {
    ring.status().keys.iter().fold(String::new(), |mut text, (kid, key)| {
        let _ = writeln!(text, "{kid} {:?}", key.state);
        text
    })
}

async fn token(State(ring): State<Ring>, Path(subject): Path<String>) -> Result<String, Failed> {
    Ok(mint(&ring, &subject)?)
}

/// For a key that is old, or whose machine was replaced: another one signs, and nothing that it has signed is refused.
async fn rotate(State(ring): State<Ring>) -> Result<(StatusCode, String), Failed> {
    let rotated = ring.rotate_all().await?;
    let status = if rotated.later.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, format!("now: {:?}, as soon as there is a standby: {:?}\n", rotated.now, rotated.later)))
}

/// For a key that somebody else may have.
async fn compromised(State(ring): State<Ring>, Path(kid): Path<String>) -> Result<String, Failed> {
    revoke(&ring, Compromised::Key(kid)).await
}

/// For a machine, a backup or a key-encryption key that somebody else may have.
async fn all_compromised(State(ring): State<Ring>) -> Result<String, Failed> {
    revoke(&ring, Compromised::All).await
}

async fn revoke(ring: &Ring, which: Compromised) -> Result<String, Failed> {
    // Where no key is left, the next one signs before it can be in everybody's cache. These verifiers look for a key that they
    // lack; for those that do not, `false` waits for eleven minutes, in which nobody gets a token.
    let sign_at_once = true;
    let revoked: Revoked = ring.compromise(which, sign_at_once).await?;
    println!("{revoked}");
    Ok(format!("{revoked}\n"))
}

fn mint(ring: &Ring, subject: &str) -> Result<String, MintError> {
    let mint = Mint::new(Duration::from_secs(3600)).subject(subject).client_id("web").audience("orders");
    Ok(ring.minter().mint(SLOT, &mint)?.token)
}

struct Failed(StatusCode, String);

impl From<MintError> for Failed {
    fn from(error: MintError) -> Self {
        let status = if error.is_temporary() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
        Self(status, error.to_string())
    }
}

impl From<OrderError> for Failed {
    fn from(error: OrderError) -> Self {
        let status = match error {
            OrderError::Refused(Refusal::NoSuchKey(_)) => StatusCode::NOT_FOUND,
            OrderError::Refused(Refusal::WrongState(_)) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = RingOptions::parse();
    let listener = TcpListener::bind(options.node.address()).await?;
    let url = format!("http://{}", listener.local_addr()?);

    // The ring tells it of revoked keys, and tells it again after a restart, as long as their tokens may be offered. Here it is in
    // this process; REVOCATION.md has how many processes share one.
    let revocations = RevocationList::new();
    let mut config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    config.timing = options.node.timing();
    let (store, keks) = options.store()?;
    let ring = Ring::builder(&*options.node.issuer, config, store, keks)
        .revocations(Arc::new(revocations.clone()))
        .on_event(|event| println!("ring: {event}"))
        .start()
        .await?;
    ring.ready_within(Duration::from_secs(30)).await?;

    let follows_keys = JwtAuth::new(format!("{url}{JWKS_PATH}")).issuer(&*options.node.issuer).audience("orders");
    let follows_list = follows_keys.clone().revocation(revocations);
    let (operators, operator) = operators()?;
    let app = Router::new()
        .route("/keys", get(keys))
        .route("/keys/rotate", post(rotate))
        .route("/keys/compromised", post(all_compromised))
        .route("/keys/{kid}/compromised", post(compromised))
        .route("/tokens/{name}", post(token))
        .layer(operators)
        .merge(Router::new().route("/orders", get(greet)).layer(follows_list))
        .merge(Router::new().route("/invoices", get(greet)).layer(follows_keys))
        .route_service(JWKS_PATH, ring.jwks())
        .with_state(ring.clone());

    println!("\n{}\n\n{operator}\n", mint(&ring, "ada")?);
    println!("listening on {url}");
    axum::serve(listener, app).await?;
    Ok(())
}

/// Who may give orders, and a token for one of them, good for an hour.
fn operators() -> Result<(JwtAuth, String), Box<dyn Error>> {
    let key = SigningKey::generate(Algorithm::Ed25519)?.with_kid("operators");
    let keys = KeySet::new([key.verifying_key()?]);
    let in_an_hour = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() + 3600;
    let claims =
        json!({ "iss": "https://operators.example", "aud": "ring", "scope": "keys:revoke", "exp": in_an_hour });
    let auth = JwtAuth::with_keys(keys).issuer("https://operators.example").audience("ring");
    Ok((auth.require(scope("keys:revoke")), key.sign_as("at+jwt", &claims)?))
}
