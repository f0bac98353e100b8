//! A key ring of several nodes in S3, or in what speaks like it:
//! `cargo run -p countersign-examples-s3 -- --bucket rings`.
//!
//! What the nodes share is a bucket, and the key that private keys are sealed under before they come there:
//!
//! ```text
//! export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_REGION=us-east-1
//! export AWS_ENDPOINT=http://127.0.0.1:9000 AWS_ALLOW_HTTP=true    # MinIO and the like; leave it out for S3 itself
//! export RING_KEK=$(openssl rand -base64 32)
//! for port in 3000 3001 3002; do cargo run -p countersign-examples-s3 -- --bucket rings --port $port & done
//! ```
//!
//! Each of them answers alike, whichever of them has minted a token, made a key or rotated:
//!
//! ```text
//! TOKEN=…                                                                                     # the first token that one of them prints
//! ADMIN=…                                                                                     # the second
//! curl -i http://127.0.0.1:3000/.well-known/jwks.json                                         # 200
//! curl -i http://127.0.0.1:3000/orders                                                        # 401
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                      # 200
//! curl -i -X POST http://127.0.0.1:3000/tokens/grace -H "Authorization: Bearer $ADMIN"        # 200
//! curl -i -X POST http://127.0.0.1:3000/keys/rotate -H "Authorization: Bearer $TOKEN"         # 403
//! curl -i -X POST http://127.0.0.1:3000/keys/rotate -H "Authorization: Bearer $ADMIN"         # 202, with a standby 200
//! ```
//!
//! There is no leader: every node may make, publish and rotate, and conditional writes decide whose version counts. So a node can be
//! killed at any time, and a store that ignores the conditions is refused at the start. Verifiers elsewhere can take the keys from
//! the bucket itself (`ring/jwks/jwks.json`, written with its `Cache-Control`), which is there while no node is. A node that cannot
//! reach the store signs on for 30 s, and verifies for a day.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use clap::Parser;
use countersign::{Algorithm, Authenticated, Policy, RequireJwtLayer, Verifier, require, scope};
use countersign_examples::NodeOptions;
use countersign_issuer::{KekRing, KekSource, Mint, MintError, ObjectKeyStore, Ring, RingConfig, Slot};
use object_store::RetryConfig;
use object_store::aws::AmazonS3Builder;
use tokio::net::TcpListener;

const SLOT: &str = "es256";

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    node: NodeOptions,
    /// The bucket. It has to be there.
    #[arg(long)]
    bucket: String,
    /// Where in the bucket.
    #[arg(long, default_value = "ring")]
    path: String,
}

async fn orders(caller: Authenticated) -> String {
    format!("the orders of {}", caller.subject().unwrap_or("nobody"))
}

async fn token(State(ring): State<Ring>, Path(subject): Path<String>) -> Result<String, (StatusCode, String)> {
    mint(&ring, &subject, "orders:read").map_err(|error| {
        let status = if error.is_temporary() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
        (status, error.to_string())
    })
}

async fn rotate(State(ring): State<Ring>) -> Result<(StatusCode, String), (StatusCode, String)> {
    let rotated = ring.rotate_all().await.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let status = if rotated.later.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, format!("now: {:?}, as soon as there is a standby: {:?}\n", rotated.now, rotated.later)))
}

fn mint(ring: &Ring, subject: &str, scopes: &str) -> Result<String, MintError> {
    let hour = Duration::from_secs(3600);
    let mint = Mint::new(hour).subject(subject).client_id("web").audience("orders").scope(scopes);
    Ok(ring.minter().mint(SLOT, &mint)?.token)
}

/// Without retries of its own: the ring tries again by itself, and wants to know which answers were doubtful.
fn store(options: &Options) -> Result<ObjectKeyStore, Box<dyn Error>> {
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let s3 = AmazonS3Builder::from_env().with_bucket_name(&options.bucket).with_retry(retry).build()?;
    Ok(ObjectKeyStore::new(Arc::new(s3), options.path.as_str().into()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();

    let mut config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    config.timing = options.node.timing();
    // A secrets manager is better: `KekSource::command`.
    let keks = KekRing::new([KekSource::environment("RING_KEK").load()?])?;
    let ring = Ring::builder(&*options.node.issuer, config, Arc::new(store(&options)?), keks)
        .on_event(|event| println!("ring: {event}"))
        .start()
        .await?;
    ring.ready_within(Duration::from_secs(60)).await?;

    let policy = Policy::new().issuer(&*options.node.issuer).audience("orders").access_token_profile();
    let auth = RequireJwtLayer::new(Verifier::new(ring.keys(), policy));
    let app = Router::new()
        .route("/tokens/{subject}", post(token).layer(require(scope("tokens:mint"))))
        .route("/keys/rotate", post(rotate).layer(require(scope("keys:rotate"))))
        .route("/orders", get(orders))
        .layer(auth)
        .route_service("/.well-known/jwks.json", ring.jwks())
        .with_state(ring.clone());

    println!("\n{}\n", mint(&ring, "ada", "orders:read")?);
    println!("{}\n", mint(&ring, "root", "keys:rotate tokens:mint")?);
    let listener = TcpListener::bind(options.node.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
