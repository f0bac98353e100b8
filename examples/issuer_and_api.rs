//! An issuer and the API that its tokens are for, in one binary: `cargo run --example issuer_and_api`.
//!
//! ```text
//! TOKEN=…                                                                                     # the first token that it prints
//! ADMIN=…                                                                                     # the second
//! curl -i http://127.0.0.1:3000/.well-known/jwks.json                                         # 200, for everybody else's verifiers
//! curl -i http://127.0.0.1:3000/orders                                                        # 401
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                      # 200
//! curl -i -X POST http://127.0.0.1:3000/tokens/grace -H "Authorization: Bearer $ADMIN"        # 200, a token for grace
//! curl -i -X POST http://127.0.0.1:3000/tokens/grace -H "Authorization: Bearer $TOKEN"        # 403
//! curl -i -X POST http://127.0.0.1:3000/keys/rotate -H "Authorization: Bearer $TOKEN"         # 403
//! curl -i -X POST http://127.0.0.1:3000/keys/rotate -H "Authorization: Bearer $ADMIN"         # 202, see below
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                      # 200, whatever was rotated
//! ```
//!
//! The API verifies by what the ring has published, without a request to anybody (`Ring::keys`). Keys rotate once a day by
//! themselves, and whenever somebody asks for it: by the route, or by `kill -HUP`. A key signs eleven minutes after it was
//! announced at the earliest, when no verifier can lack it any more. Until then a rotation is accepted (202) and follows as soon as
//! it can; with `--hurry` that takes some seconds. With `--directory ring` the keys outlive the process, and several processes
//! share them.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser as _;
use countersign::{Algorithm, Authenticated, Permit, Policy, RequireJwtLayer, Verifier, permission, scope};
use countersign_examples::RingOptions;
use countersign_issuer::{Mint, MintError, OrderError, Ring, RingConfig, Slot};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const SLOT: &str = "es256";
const AUDIENCE: &str = "orders";

permission! {
    /// May have keys rotated.
    RotateKeys = scope("keys:rotate");
}

permission! {
    /// May have tokens for others: whoever logs them in.
    MintTokens = scope("tokens:mint");
}

async fn orders(caller: Authenticated) -> String {
    format!("the orders of {}", caller.subject().unwrap_or("nobody"))
}

async fn token(State(ring): State<Ring>, _: Permit<MintTokens>, Path(subject): Path<String>) -> Result<String, Failed> {
    Ok(mint(&ring, &subject, "orders:read")?)
}

async fn rotate(State(ring): State<Ring>, _: Permit<RotateKeys>) -> Result<(StatusCode, Json<Value>), Failed> {
    let rotated = ring.rotate_all().await?;
    let status = if rotated.later.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(json!({ "now": rotated.now, "later": rotated.later }))))
}

/// Which slots there are and what a token may say is the issuer's decision, and nobody's who asks for one.
fn mint(ring: &Ring, subject: &str, scopes: &str) -> Result<String, MintError> {
    let hour = Duration::from_secs(3600);
    let mint = Mint::new(hour).subject(subject).client_id("web").audience(AUDIENCE).scope(scopes);
    Ok(ring.minter().mint(SLOT, &mint)?.token)
}

/// It is the ring's fault, unless it is a name that no token can have.
struct Failed(StatusCode, String);

impl From<MintError> for Failed {
    fn from(error: MintError) -> Self {
        let status = if error.is_temporary() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
        Self(status, error.to_string())
    }
}

impl From<OrderError> for Failed {
    fn from(error: OrderError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
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

    let mut config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    config.timing = options.node.timing();
    let (store, keks) = options.store()?;
    let ring = Ring::builder(&*options.node.issuer, config, store, keks)
        .on_event(|event| println!("ring: {event}"))
        .start()
        .await?;
    ring.ready_within(Duration::from_secs(30)).await?;
    rotate_on_hangup(ring.clone())?;

    // No URL, no fetch, no time to wait: the verifier reads what the ring has published.
    let policy = Policy::new().issuer(&*options.node.issuer).audience(AUDIENCE).access_token_profile();
    let auth = RequireJwtLayer::new(Verifier::new(ring.keys(), policy));
    let app = Router::new()
        .route("/orders", get(orders))
        .route("/tokens/{subject}", post(token))
        .route("/keys/rotate", post(rotate))
        .layer(auth)
        // Added after the layer, so not covered by it.
        .route_service("/.well-known/jwks.json", ring.jwks())
        .with_state(ring.clone());

    println!("\n{}\n", mint(&ring, "ada", "orders:read")?);
    println!("{}\n", mint(&ring, "root", "keys:rotate tokens:mint")?);
    let listener = TcpListener::bind(options.node.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

#[cfg(unix)]
fn rotate_on_hangup(ring: Ring) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match ring.rotate_all().await {
                Ok(rotated) => println!("rotated: now {:?}, later {:?}", rotated.now, rotated.later),
                Err(error) => println!("not rotated: {error}"),
            }
        }
    });
    Ok(())
}

/// There are no signals.
#[cfg(not(unix))]
fn rotate_on_hangup(_: Ring) -> std::io::Result<()> {
    Ok(())
}
