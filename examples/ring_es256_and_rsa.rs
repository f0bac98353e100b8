//! Keys of three kinds in one ring, for verifiers that do not all understand the same: `cargo run --example ring_es256_and_rsa`.
//!
//! ```text
//! ES256=…                                                                              # the first token that it prints
//! RSA2048=…                                                                            # the second
//! RSA4096=…                                                                            # the third
//! curl -i http://127.0.0.1:3000/.well-known/jwks.json                                  # 200, the keys of all three
//! curl -i http://127.0.0.1:3000/orders                                                 # 401
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $ES256"               # 200
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $RSA2048"             # 200
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $RSA4096"             # 200
//! ```
//!
//! Each kind is a slot with a life of its own: rotated once a day (`--rotation`), with a standby of its own, and all that are due change
//! in one write. An RSA key takes a second to make: the ring makes it on a thread for blocking work, and what the reactor was held
//! up for meanwhile is printed. So does the example with signatures of 4096 bits, which take a millisecond and more each.
//!
//! `--rotation 900` is refused: a day of these three kinds in quarters of an hour would be 294 keys, more than verifiers take.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use clap::Parser;
use countersign::token::RsaBits;
use countersign::{Algorithm, Authenticated, Policy, RequireJwtLayer, Verifier};
use countersign_examples::RingOptions;
use countersign_issuer::{Mint, MintError, Minted, Minter, Ring, RingConfig, Slot};
use tokio::net::TcpListener;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, interval};

#[derive(Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    ring: RingOptions,
    /// For how many seconds a key signs.
    #[arg(long, default_value_t = 24 * 3600)]
    rotation: u64,
}

const SLOTS: [&str; 3] = ["es256", "rs256-2048", "rs256-4096"];

pub(crate) fn config(options: &Options) -> RingConfig {
    let [es256, rsa_2048, rsa_4096] = SLOTS;
    let mut config = RingConfig::new([
        Slot::new(es256, Algorithm::Es256),
        Slot::rsa(rsa_2048, Algorithm::Rs256, RsaBits::B2048),
        Slot::rsa(rsa_4096, Algorithm::Rs256, RsaBits::B4096),
    ]);
    config.timing = options.ring.node.timing();
    config.timing.rotation = Duration::from_secs(options.rotation);
    // A busy machine takes longer than two seconds for 4096 bits.
    config.timing.keygen = Duration::from_secs(10);
    config
}

async fn orders(caller: Authenticated) -> String {
    format!("the orders of {}", caller.subject().unwrap_or("nobody"))
}

/// On a thread for blocking work, as is right for RSA wherever tokens are minted by the hundred.
async fn mint(minter: Minter, slot: &'static str) -> Result<Result<Minted, MintError>, JoinError> {
    let mint = Mint::new(Duration::from_secs(3600)).subject("ada").client_id("web").audience("orders");
    spawn_blocking(move || minter.mint(slot, &mint)).await
}

// One thread for everything: whatever blocks it, blocks all.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();

    let config = config(&options);
    config.check()?;
    let (store, keks) = options.ring.store()?;
    let begun = Instant::now();
    let ring = Ring::builder(&*options.ring.node.issuer, config, store, keks).start().await?;
    let (ready, held_up) = held_up_while(ring.ready_within(Duration::from_secs(120))).await;
    ready?;
    println!("keys of three kinds within {} ms", begun.elapsed().as_millis());
    println!("the reactor was held up for {} ms at the longest", held_up.as_millis());

    let policy = Policy::new().issuer(&*options.ring.node.issuer).audience("orders").access_token_profile();
    let app = Router::new()
        .route("/orders", get(orders))
        .layer(RequireJwtLayer::new(Verifier::new(ring.keys(), policy)))
        .route_service("/.well-known/jwks.json", ring.jwks());

    for slot in SLOTS {
        let minted = mint(ring.minter(), slot).await??;
        println!("\n{slot}, signed by {}:\n\n{}", minted.kid, minted.token);
    }
    let listener = TcpListener::bind(options.ring.node.address()).await?;
    println!("\nlistening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// How late what should happen every five milliseconds has happened at most, meanwhile.
async fn held_up_while<T>(work: impl Future<Output = T>) -> (T, Duration) {
    const EVERY: Duration = Duration::from_millis(5);
    let mut beat = interval(EVERY);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, longest),
            _ = beat.tick() => {
                longest = longest.max(last.elapsed().saturating_sub(EVERY));
                last = Instant::now();
            }
        }
    }
}
