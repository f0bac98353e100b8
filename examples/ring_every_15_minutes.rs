//! A key for every quarter of an hour, each published for a day after it: `cargo run --example ring_every_15_minutes`.
//!
//! ```text
//! TOKEN=…                                                                            # the token that it prints
//! curl -i http://127.0.0.1:3000/.well-known/jwks.json                                # 200, up to 98 keys
//! curl -i http://127.0.0.1:3000/keys                                                 # 200, how far each of them has come
//! curl -i http://127.0.0.1:3000/orders                                               # 401
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"             # 200
//! ```
//!
//! Most who "publish every 15 minutes" mean that the published set is looked at so often. That is `H`, which is 15 minutes by
//! default, and has nothing to do with how often keys change. This is for those who want a new key as often: it is about as short as
//! a period can be, because a key has to be announced before it signs, and a day of such keys is about as many as verifiers take.
//! What it prints first is the arithmetic.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use clap::Parser as _;
use countersign::{Algorithm, Authenticated, Policy, RequireJwtLayer, UnixTime, Verifier};
use countersign_examples::RingOptions;
use countersign_issuer::{MAX_KEYS, Mint, Ring, RingConfig, Slot, Timing};
use tokio::net::TcpListener;

pub(crate) const SLOT: &str = "es256";

/// One slot: with two, there would be twice as many keys, and that is more than the ring allows.
pub(crate) fn config(timing: Timing) -> RingConfig {
    let mut config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    config.timing = timing;
    config.timing.rotation = Duration::from_secs(15 * 60);
    config.timing.overlap = Duration::from_secs(24 * 3600);
    config
}

/// The letters are those of the crate's `INVARIANTS.md`.
fn arithmetic(config: &RingConfig) -> String {
    let t = &config.timing;
    let announcement = t.announcement() + t.tick + t.keygen + t.publish;
    let last_token = t.lease + t.max_lifetime + t.leeway + t.clock_error * 2;
    let keys = t.overlap.as_secs().div_ceil(t.rotation.as_secs()) + 2;
    let mut text = format!(
        "a key signs for R = {} s; that must be C + P + ε + K + t_keygen + t_publish = {} s at least, so that nobody lacks the next\n\
         it is published for O = {} s after that; that must be G + L + W + 2ε = {} s at least, so that its last token is good to the end\n\
         there are 2 + ⌈O/R⌉ = {keys} keys, of {MAX_KEYS} at most\n",
        t.rotation.as_secs(),
        announcement.as_secs(),
        t.overlap.as_secs(),
        last_token.as_secs(),
    );
    for warning in config.warnings() {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// A line for each key: how far it has come, and what becomes of it next.
async fn keys(State(ring): State<Ring>) -> String {
    let now = UnixTime::from(SystemTime::now());
    ring.status().keys.iter().fold(String::new(), |mut text, (kid, key)| {
        let age = now.saturating_since(key.announced_at).as_secs();
        let _ = write!(text, "{kid} {:?}, announced {age} s ago", key.state);
        let _ = match key.next {
            Some((state, at)) => writeln!(text, "; {state:?} in {} s", at.saturating_since(now).as_secs()),
            None => writeln!(text),
        };
        text
    })
}

async fn orders(caller: Authenticated) -> String {
    format!("the orders of {}", caller.subject().unwrap_or("nobody"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = RingOptions::parse();

    let config = config(options.node.timing());
    print!("{}", arithmetic(&config));
    let (store, keks) = options.store()?;
    let ring = Ring::builder(&*options.node.issuer, config, store, keks)
        .on_event(|event| println!("ring: {event}"))
        .start()
        .await?;
    ring.ready_within(Duration::from_secs(30)).await?;

    let policy = Policy::new().issuer(&*options.node.issuer).audience("orders").access_token_profile();
    let app = Router::new()
        .route("/orders", get(orders))
        .layer(RequireJwtLayer::new(Verifier::new(ring.keys(), policy)))
        .route("/keys", get(keys))
        .route_service("/.well-known/jwks.json", ring.jwks())
        .with_state(ring.clone());

    let mint = Mint::new(Duration::from_secs(3600)).subject("ada").client_id("web").audience("orders");
    println!("\n{}\n", ring.minter().mint(SLOT, &mint)?.token);
    let listener = TcpListener::bind(options.node.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
