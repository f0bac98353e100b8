//! Key-encryption keys that are replaced.

use std::sync::Arc;
use std::time::Duration;

use countersign_issuer::{Kek, KekRing, Ring, StartError, StateMac};

use crate::support::{ISSUER, World, config, token, until};

fn kek(seed: u8) -> Kek {
    Kek::parse(&std::array::from_fn::<u8, 32, _>(|at| at as u8 ^ seed | 0x80)).unwrap()
}

async fn start(world: &World, keks: impl IntoIterator<Item = Kek>) -> Result<Ring, StartError> {
    let keks = KekRing::new(keks).unwrap();
    Ring::builder(ISSUER, config(), Arc::new(world.store.clone()), keks).clock(world.clock).start().await
}

#[tokio::test(start_paused = true)]
async fn private_keys_are_sealed_anew_when_they_are_opened_and_the_old_key_can_go() {
    let world = World::new();
    let ring = start(&world, [kek(1)]).await.unwrap();
    until(&ring, |status| status.slots["es256"].standby.is_some()).await;
    drop(ring);
    let ring = start(&world, [kek(2), kek(1)]).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    until(&ring, |status| status.keys.values().all(|key| key.is_held)).await;
    for kid in ring.status().keys.keys() {
        let sealed = world.store.private(kid).unwrap();
        assert_eq!(KekRing::sealed_under(&sealed), Ok(kek(2).id()));
    }
    // The state follows with the next version.
    ring.rotate(["es256"]).await.unwrap();
    assert_eq!(StateMac::protected_under(&world.store.state().unwrap()), Ok(kek(2).id()));
    let signs = token(&ring, "es256").kid;
    drop(ring);
    let ring = start(&world, [kek(2)]).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(token(&ring, "es256").kid, signs);
}

#[tokio::test(start_paused = true)]
async fn a_node_with_another_key_encryption_key_does_not_start_and_changes_nothing() {
    let world = World::new();
    drop(start(&world, [kek(1)]).await.unwrap());
    let ring = start(&world, [kek(1)]).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    drop(ring);
    let before = world.store.state();
    let refused = start(&world, [kek(2)]).await;
    assert!(matches!(&refused, Err(StartError::State(text)) if text.contains("not in the ring")), "{refused:?}");
    assert_eq!(world.store.state(), before);
}
