//! A day and more with a key for every quarter of an hour, on a clock that tokio moves; and the program.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use countersign::{JwkSet, JwtAuth, Keys, Origin, UnixTime, Verifier};
use countersign_examples::{Client, Running, Scratch, documented_calls_to};
use countersign_issuer::{Clock, Kek, KekRing, MAX_KEYS, MemoryStore, Mint, Now, Ring, Timing};
use tokio::time::{Instant, sleep};

#[path = "../../ring_every_15_minutes.rs"]
#[allow(dead_code, reason = "of the example, its configuration is wanted here, and not its `main`")]
mod example;

const ISSUER: &str = "https://issuer.example";
const EPOCH: i64 = 1_800_000_000;
const MINUTE: Duration = Duration::from_secs(60);

/// The time of tokio, which the test stops: it passes when nobody has anything to do.
#[derive(Clone, Copy)]
struct TokioClock(Instant);

impl TokioClock {
    fn wall(&self) -> UnixTime {
        UnixTime::from_secs(EPOCH).saturating_add(self.0.elapsed())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Now {
        Now { wall: self.wall(), monotonic: self.0.elapsed() }
    }
}

/// What somebody accepts who has fetched that set.
fn verifier(set: &[u8]) -> Arc<Verifier<Keys>> {
    let keys = JwkSet::parse(set, Origin::Remote).unwrap().into_key_set();
    JwtAuth::with_keys(keys).issuer(ISSUER).audience("orders").without_token_cache().verifier()
}

#[tokio::test(start_paused = true)]
async fn in_a_day_and_more_nobody_is_refused_and_verifiers_can_take_as_many_keys_as_there_are() {
    let clock = TokioClock(Instant::now());
    let store = MemoryStore::new().with_clock(move || clock.wall());
    let config = example::config(Timing::default());
    let oldest_cache = config.timing.cache_bound();
    let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
    let ring = Ring::builder(ISSUER, config, Arc::new(store.clone()), keks).clock(clock).start().await.unwrap();
    ring.ready_within(MINUTE).await.unwrap();

    let mint = Mint::new(MINUTE * 60).subject("ada").client_id("web").audience("orders");
    // What verifiers can have: the set as it is, and as it was when the oldest cache was filled.
    let mut sets: VecDeque<Arc<Verifier<Keys>>> = VecDeque::new();
    let mut tokens = VecDeque::new();
    let mut kids = Vec::new();
    let (mut newest, mut most) = (Vec::new(), 0);
    for _ in 0..26 * 60 {
        let published = store.jwks().unwrap();
        if published == newest {
            sets.extend(sets.back().cloned());
        } else {
            most = most.max(JwkSet::parse(&published, Origin::Remote).unwrap().keys().len());
            sets.push_back(verifier(&published));
            newest = published;
        }
        if sets.len() > (oldest_cache.as_secs() / 60) as usize + 1 {
            sets.pop_front();
        }
        let minted = ring.minter().mint(example::SLOT, &mint).unwrap();
        if kids.last() != Some(&minted.kid) {
            kids.push(minted.kid);
        }
        tokens.push_back(minted.token);
        if tokens.len() > 60 {
            tokens.pop_front();
        }
        // At its first sight, around the next rotation, and in its last minute.
        for age in [0, 14, 15, 59] {
            let Some(at) = tokens.len().checked_sub(age + 1) else { continue };
            for verifier in [sets.front(), sets.back()].into_iter().flatten() {
                verifier.verify(&tokens[at], clock.wall()).unwrap();
            }
        }
        sleep(MINUTE).await;
    }
    // 26 hours of 15 minutes and a tick each; the standby, the one that signs, and a day of those that have.
    assert!((102..=104).contains(&kids.len()), "{}", kids.len());
    assert!((96..=98).contains(&most) && most <= MAX_KEYS, "{most}");
    assert_eq!(ring.status().alarms, []);
}

#[tokio::test]
async fn it_tells_the_arithmetic_and_the_life_of_its_keys() {
    let scratch = Scratch::new("every-15-minutes");
    let directory = scratch.path("ring");
    let example = Running::start("ring_every_15_minutes", &["--directory", &directory]);
    let said = example.said.join("\n");
    for expected in [
        "R = 900 s; that must be C + P + ε + K + t_keygen + t_publish = 657 s at least",
        "O = 86400 s after that; that must be G + L + W + 2ε = 3750 s at least",
        "there are 2 + ⌈O/R⌉ = 98 keys, of 100 at most",
        "warning: the JWKS will have 98 keys in about ",
    ] {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
    let client = Client::http1();
    let keys = client.get_bare(&example.url("/keys")).await;
    assert!(keys.status == 200 && keys.body.contains(" Active, announced "), "{keys:?}");
    client.check_that_forged_tokens_are_refused(&example.url("/orders"), example.token()).await;
    documented_calls_to(&example, include_str!("../../ring_every_15_minutes.rs")).await;
}
