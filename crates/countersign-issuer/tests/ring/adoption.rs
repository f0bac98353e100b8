//! A service that signed with keys of OpenSSL yesterday moves in.

use std::time::Duration;

use countersign_issuer::state::KeyState;
use countersign_issuer::step::{Alarm, Refusal};
use countersign_issuer::{AdoptError, AdoptKey, Fault, Operation, OrderError, RingConfig, Slot};
use countersign_token::{Algorithm, RsaBits, SigningKey};
use tokio::time::{Instant, sleep};

use crate::support::{Caches, Token, World, config, fetched, token, until, verifies};

const OLD: &str = include_str!("../keys/rsa.pkcs1.pem");
const OLDER: &str = include_str!("../keys/rsa.pkcs8.pem");

fn rsa() -> RingConfig {
    let mut adopting = config();
    adopting.slots = vec![Slot::rsa("rs256", Algorithm::Rs256, RsaBits::B2048)];
    adopting
}

/// What the old service signs with and publishes.
fn old_service() -> (SigningKey, SigningKey, Vec<u8>) {
    let read = |pem: &str, kid: &str| SigningKey::from_pem(pem, Algorithm::Rs256).unwrap().with_kid(kid);
    let (current, previous) = (read(OLD, "2026-11"), read(OLDER, "2026-10"));
    let keys = [current.public_jwk().unwrap(), previous.public_jwk().unwrap()];
    let jwks = serde_json::json!({ "keys": keys }).to_string().into_bytes();
    (current, previous, jwks)
}

fn signed(key: &SigningKey, world: &World, lifetime: Duration) -> Token {
    let exp = world.clock.wall().saturating_add(lifetime);
    let text = key.sign(&serde_json::json!({ "exp": exp.as_secs() })).unwrap();
    Token { text, kid: key.kid().unwrap().to_owned(), exp }
}

#[tokio::test(start_paused = true)]
async fn a_service_with_keys_of_openssl_moves_in_without_refusing_anybody() {
    let world = World::new();
    let (current, previous, jwks) = old_service();
    world.store.tamper_with_jwks(Some(jwks));
    let lifetime = Duration::from_secs(3_600);
    let mut tokens = vec![signed(&current, &world, lifetime), signed(&previous, &world, lifetime)];
    let mut caches = Caches::new(config().timing.cache_bound());
    caches.see(world.jwks(), world.clock.wall());

    let ring = world.start(rsa()).await;
    sleep(Duration::from_secs(60)).await;
    assert!(world.store.state().is_none(), "nobody overwrites what another has published");
    assert!(world.alarms().contains(&Alarm::StateLost));

    let ends = world.clock.wall().saturating_add(lifetime);
    let (signing, retiring) =
        (AdoptKey::signing("rs256", OLD, ends).kid("2026-11"), AdoptKey::retiring("rs256", OLDER, ends).kid("2026-10"));
    ring.adopt([signing, retiring]).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(token(&ring, "rs256").kid, "2026-11", "it goes on with the old key");
    assert_eq!(ring.status().keys["2026-10"].state, KeyState::Retiring);

    let begun = Instant::now();
    let mut kids = Vec::new();
    while begun.elapsed() < Duration::from_secs(5 * 3_600) {
        let now = world.clock.wall();
        caches.see(world.jwks(), now);
        let token = token(&ring, "rs256");
        if !kids.contains(&token.kid) {
            kids.push(token.kid.clone());
        }
        tokens.push(token);
        caches.assert_accept(&mut tokens, now);
        sleep(Duration::from_secs(300)).await;
    }
    assert!(kids.len() >= 3 && kids[0] == "2026-11", "{kids:?}");
    assert_eq!(ring.status().alarms, []);
    until(&ring, |status| !status.keys.contains_key("2026-11") && !status.keys.contains_key("2026-10")).await;
    assert!(world.store.private("2026-11").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_adopted_key_is_sealed_and_other_nodes_sign_with_it() {
    let world = World::new();
    let ring = world.start(rsa()).await;
    let ends = world.clock.wall().saturating_add(Duration::from_secs(3_600));
    ring.adopt([AdoptKey::signing("rs256", OLD, ends).kid("k")]).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    let sealed = world.store.private("k").unwrap();
    assert!(sealed.starts_with(b"CSKEY"));
    drop(ring);
    let other = world.start(rsa()).await;
    other.ready_within(Duration::from_secs(60)).await.unwrap();
    let token = token(&other, "rs256");
    assert!(token.kid == "k" && verifies(&token, &fetched(&world.jwks())));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_adopted_changes_nothing() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let before = world.state();
    let ends = world.clock.wall();
    let none = ring.adopt([AdoptKey::signing("rs256", OLD, ends)]).await.unwrap_err();
    assert_eq!(none, OrderError::Key { index: 0, error: AdoptError::NoSuchSlot("rs256".into()) });
    let key = include_str!("../keys/p256.sec1.pem");
    let taken = ring.adopt([AdoptKey::signing("es256", key, ends)]).await.unwrap_err();
    assert_eq!(taken, OrderError::Refused(Refusal::SlotTaken("es256".into())));
    let after = world.state();
    assert_eq!(before.keys, after.keys);
}

#[tokio::test(start_paused = true)]
async fn whoever_adopts_the_same_keys_at_every_start_goes_on_signing() {
    let world = World::new();
    let ends = world.clock.wall().saturating_add(Duration::from_secs(3_600));
    let key = || AdoptKey::signing("rs256", OLD, ends).kid("k");
    let ring = world.start(rsa()).await;
    ring.adopt([key()]).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    drop(ring);
    // The state is slow to come: once when the order is there already, and once more when the key has been opened.
    let mut loads = 0;
    world.store.choose(move |operation, _| {
        loads += u32::from(operation == Operation::LoadState);
        let is_slow = operation == Operation::LoadState && loads > 1;
        is_slow.then_some(Fault::Delay { before: Duration::from_secs(2), after: Duration::ZERO })
    });
    let ring = world.start(rsa()).await;
    sleep(Duration::from_secs(1)).await;
    let refused = ring.adopt([key()]).await.unwrap_err();
    assert_eq!(refused, OrderError::Refused(Refusal::KidUsed("k".into())));
    world.store.behave();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(token(&ring, "rs256").kid, "k");
}
