//! Keys that a module holds and never hands out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_issuer::{
    AdoptKey, HeldKey, HolderError, KekRing, KeyHolder, KeyIdentity, Mint, Purpose, Ring, Signer, Slot,
};
use countersign_token::{Algorithm, SignError, SigningKey};
use tokio::time::sleep;

use crate::support::{ISSUER, World, config, fetched, keks, settle, token, verifies};

const ADOPTED: &str = include_str!("../keys/p256.sec1.pem");

/// What stands for a module: the only place where its keys are.
#[derive(Default)]
struct Module {
    keys: Mutex<Vec<Arc<SigningKey>>>,
    /// Of tokens.
    signatures: Arc<AtomicUsize>,
    is_out: AtomicBool,
    /// It finds another key than the one of the reference.
    mixes_up: AtomicBool,
}

struct Handle {
    key: Arc<SigningKey>,
    signatures: Arc<AtomicUsize>,
}

impl Signer for Handle {
    fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        // What a key is tested with has none, and when that happens is the threads' business.
        if message.contains(&b'.') {
            self.signatures.fetch_add(1, Ordering::Relaxed);
        }
        self.key.signature(message)
    }
}

impl KeyHolder for Module {
    fn make(&self, slot: &Slot) -> Result<HeldKey, HolderError> {
        if self.is_out.load(Ordering::Relaxed) {
            return Err(HolderError::new("the module does not answer"));
        }
        let key = SigningKey::generate(slot.algorithm).map_err(|error| HolderError::new(error.to_string()))?;
        let jwk = key.public_jwk().map_err(|error| HolderError::new(error.to_string()))?;
        let mut keys = self.keys.lock().unwrap();
        keys.push(Arc::new(key));
        Ok(HeldKey::from_jwk(jwk, format!("module:{}", keys.len() - 1).into_bytes()))
    }

    fn open(&self, reference: &[u8], _: Algorithm) -> Option<Result<Arc<dyn Signer>, HolderError>> {
        let number = std::str::from_utf8(reference).ok()?.strip_prefix("module:")?.parse::<usize>().ok()?;
        if self.is_out.load(Ordering::Relaxed) {
            return Some(Err(HolderError::new("the module does not answer")));
        }
        let keys = self.keys.lock().unwrap();
        let number = if self.mixes_up.load(Ordering::Relaxed) { 0 } else { number };
        let key = Arc::clone(keys.get(number)?);
        Some(Ok(Arc::new(Handle { key, signatures: Arc::clone(&self.signatures) })))
    }
}

async fn start(world: &World, module: &Arc<Module>) -> Ring {
    let module: Arc<dyn KeyHolder> = Arc::<Module>::clone(module);
    world.builder(config()).key_holder(module).start().await.unwrap()
}

/// What is stored of a key in place of a private one.
fn stored(world: &World, kid: &str) -> Vec<u8> {
    let created_at = world.state().keys[kid].announced_at;
    let identity =
        KeyIdentity { issuer: ISSUER, kid, algorithm: Algorithm::Es256, purpose: Purpose::Signing, created_at };
    let keks: KekRing = keks();
    keks.open(&identity, &world.store.private(kid).unwrap()).unwrap().as_bytes().to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_module_makes_the_keys_and_signs_through_rotations_and_the_store_has_references_only() {
    let world = World::new();
    let module = Arc::new(Module::default());
    let ring = start(&world, &module).await;
    settle(&ring).await;
    let first = token(&ring, "es256");
    assert_eq!(stored(&world, &first.kid), b"module:0");
    ring.rotate(["es256"]).await.unwrap();
    let before = module.signatures.load(Ordering::Relaxed);
    let minted = ring.minter().mint("es256", &Mint::new(Duration::from_secs(60)).subject("ada")).unwrap();
    assert_eq!(module.signatures.load(Ordering::Relaxed), before + 1, "nobody else has signed it");
    let second = token(&ring, "es256");
    assert_eq!((&*minted.kid, &*stored(&world, &second.kid)), (&*second.kid, &b"module:1"[..]));
    let keys = fetched(&world.jwks());
    assert!(verifies(&first, &keys) && verifies(&second, &keys));

    // Another node finds them by the same references.
    drop(ring);
    let ring = start(&world, &module).await;
    settle(&ring).await;
    assert_eq!(token(&ring, "es256").kid, second.kid);
    assert_eq!(world.alarms(), []);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_does_not_answer_is_no_reason_to_rotate() {
    let world = World::new();
    let module = Arc::new(Module::default());
    let ring = start(&world, &module).await;
    settle(&ring).await;
    let kid = token(&ring, "es256").kid;
    drop(ring);
    module.is_out.store(true, Ordering::Relaxed);
    let ring = start(&world, &module).await;
    sleep(Duration::from_secs(600)).await;
    assert!(ring.signer("es256").is_err());
    assert_eq!(world.active("es256"), kid);
    module.is_out.store(false, Ordering::Relaxed);
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(token(&ring, "es256").kid, kid);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_module_mixes_up_never_signs() {
    let world = World::new();
    let module = Arc::new(Module::default());
    let ring = start(&world, &module).await;
    settle(&ring).await;
    ring.rotate(["es256"]).await.unwrap();
    let kid = token(&ring, "es256").kid;
    drop(ring);
    module.mixes_up.store(true, Ordering::Relaxed);
    let ring = start(&world, &module).await;
    sleep(Duration::from_secs(600)).await;
    assert!(ring.signer("es256").is_err(), "its signature is not one of the published key");
    assert_eq!(world.active("es256"), kid);
}

#[tokio::test(start_paused = true)]
async fn an_adopted_key_goes_on_in_memory_until_one_of_the_module_takes_over() {
    let world = World::new();
    let module = Arc::new(Module::default());
    let ring = start(&world, &module).await;
    let ends = world.clock.wall().saturating_add(Duration::from_secs(3_600));
    ring.adopt([AdoptKey::signing("es256", ADOPTED, ends).kid("old")]).await.unwrap();
    settle(&ring).await;
    let before = module.signatures.load(Ordering::Relaxed);
    let adopted = token(&ring, "es256");
    assert_eq!((&*adopted.kid, module.signatures.load(Ordering::Relaxed)), ("old", before));
    ring.rotate(["es256"]).await.unwrap();
    let next = token(&ring, "es256");
    assert_eq!(module.signatures.load(Ordering::Relaxed), before + 1);
    let keys = fetched(&world.jwks());
    assert!(verifies(&adopted, &keys) && verifies(&next, &keys));
}
