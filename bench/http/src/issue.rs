//! The token service as it is embedded, with its ring in memory, and what it signs with by itself.

use std::fs;
use std::future::pending;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use clap::Args;
use countersign::token::RsaBits;
use countersign::{Algorithm, UnixTime};
use countersign_issuer::{Kek, KekRing, MemoryStore, Ring, RingConfig, Slot};
use countersign_service::policy::{Policy, Request, decide};
use countersign_service::{ConnectionLimits, SecretKey, TokenService, serve};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;

use crate::Failure;
use crate::app::block_on;

pub const ISSUER: &str = "https://issuer.example";

/// The slots of the ring, each with the only profile that uses it, which has its name.
pub const SLOTS: [(&str, Algorithm); 3] =
    [("ES256", Algorithm::Es256), ("Ed25519", Algorithm::Ed25519), ("RS256", Algorithm::Rs256)];

/// Keys of all slots are there after so long.
const TO_START: Duration = Duration::from_secs(60);

/// When the service believes that it has begun: of its first half minute it takes no signed request.
const BEGUN_AGO: Duration = Duration::from_secs(60);

/// Between two looks at the clock: a millisecond with the fastest algorithm.
const MINTED_AT_ONCE: u32 = 64;

#[derive(Args)]
pub struct Issued {
    /// The file with the policy.
    #[arg(long)]
    pub policy: String,
}

#[derive(Args)]
pub struct Minted {
    #[command(flatten)]
    pub issued: Issued,
    /// Whose tokens.
    #[arg(long)]
    pub client: String,
    #[arg(long)]
    pub slot: String,
    #[arg(long)]
    pub milliseconds: u64,
}

/// What client secrets are hashed under.
pub fn secret_key() -> Result<SecretKey, Failure> {
    Ok(SecretKey::new(&[7; 32]).ok_or("a key that is too short")?)
}

/// What is asked for: a token with two claims beside the registered ones.
pub fn body(slot: &str) -> String {
    format!(
        r#"{{"profile":"{slot}","sub":"user:7f9c2ba4-e88f-4a7b-9a3e-3b5b6f0d2c11","aud":["https://orders.example"],"scope":"orders:read orders:write","claims":{{"tenant":"acme","sid":"5f6f2b1e-8a7d-4b7e-9a8e-1c1f9f6f1d55"}}}}"#
    )
}

/// Says where on standard output, and serves.
pub fn serve_tokens(issued: &Issued) -> Result<(), Failure> {
    block_on(async {
        let (ring, policy) = start(issued).await?;
        let has_begun = Arc::new(AtomicBool::new(false));
        let clock = {
            let has_begun = Arc::clone(&has_begun);
            move || {
                let ago = if has_begun.load(Ordering::Relaxed) { Duration::ZERO } else { BEGUN_AGO };
                UnixTime::from(SystemTime::now() - ago)
            }
        };
        let service = TokenService::builder(ring, policy).clock(clock).secret_key(secret_key()?).build()?;
        has_begun.store(true, Ordering::Relaxed);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        serve(listener, service.router(), ConnectionLimits::default(), pending()).await;
        Ok(())
    })
}

/// Mints as the service does once it has decided, in one thread, and says how many tokens and in how many nanoseconds of
/// that thread.
pub fn mint(minted: &Minted) -> Result<(), Failure> {
    block_on(async {
        let (ring, policy) = start(&minted.issued).await?;
        let minter = ring.minter();
        let request = Request::from_json(body(&minted.slot).as_bytes())?;
        let granted = decide(&policy, &minted.client, &request, UnixTime::from(SystemTime::now()))
            .map_err(|denied| format!("denied: {}", denied.code()))?;
        let time = Duration::from_millis(minted.milliseconds);
        let mint_for = |time: Duration| {
            let (began, mut count, mut took) = (on_processor(), 0_u64, Duration::ZERO);
            while took < time {
                for _ in 0..MINTED_AT_ONCE {
                    black_box(minter.mint(granted.slot(), &granted.mint(&minted.client, &request))?);
                }
                count += u64::from(MINTED_AT_ONCE);
                took = on_processor() - began;
            }
            Ok::<_, Failure>((count, took))
        };
        mint_for(time / 10)?;
        let (count, took) = mint_for(time)?;
        println!("{count} {}", took.as_nanos());
        Ok(())
    })
}

async fn start(issued: &Issued) -> Result<(Ring, Policy), Failure> {
    let slots = SLOTS.map(|(name, algorithm)| match algorithm {
        Algorithm::Rs256 => Slot::rsa(name, algorithm, RsaBits::B2048),
        _ => Slot::new(name, algorithm),
    });
    let keks = KekRing::new([Kek::random()?])?;
    let ring = Ring::builder(ISSUER, RingConfig::new(slots), Arc::new(MemoryStore::new()), keks).start().await?;
    ring.ready_within(TO_START).await?;
    let policy = Policy::parse(&fs::read_to_string(&issued.policy)?, ring.config())?;
    Ok((ring, policy))
}

/// What this thread has had.
fn on_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
