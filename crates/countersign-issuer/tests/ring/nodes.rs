//! Many nodes on one store.

use std::time::Duration;

use countersign_issuer::state::KeyState;
use tokio::task::JoinSet;

use crate::support::{World, config, live, token, two_slots, until};

const NODES: usize = 16;

#[tokio::test(start_paused = true)]
async fn sixteen_nodes_on_an_empty_store_make_one_key_for_each_slot() {
    let world = World::new();
    let mut starting = JoinSet::new();
    for _ in 0..NODES {
        starting.spawn(world.builder(two_slots()).start());
    }
    let rings: Vec<_> = starting.join_all().await.into_iter().map(Result::unwrap).collect();
    for ring in &rings {
        ring.ready_within(Duration::from_secs(120)).await.unwrap();
    }
    for slot in ["es256", "ed25519"] {
        let kid = token(&rings[0], slot).kid;
        assert!(rings.iter().all(|ring| token(ring, slot).kid == kid), "{slot}");
    }
    until(&rings[0], |status| status.slots.values().all(|slot| slot.standby.is_some())).await;
    let state = world.state();
    assert_eq!((state.keys.len(), state.tombstones.len()), (4, 0), "one that signs and one that is next: {state:?}");
    assert_eq!(state.keys.values().filter(|key| key.state == KeyState::Active).count(), 2);
    assert_eq!(world.alarms(), []);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_rotate_together_refuse_nobody() {
    let world = World::new();
    let rings = [world.settled(config()).await, world.settled(config()).await, world.settled(config()).await];
    let signed = live(&world, &rings.each_ref(), &["es256"], Duration::from_secs(7 * 3_600)).await;
    assert_eq!(signed.len(), 4, "{signed:?}");
    assert_eq!(world.alarms(), []);
}

#[tokio::test(start_paused = true)]
async fn one_order_to_rotate_reaches_all_nodes() {
    let world = World::new();
    let rings = [world.settled(config()).await, world.settled(config()).await];
    let before = token(&rings[0], "es256").kid;
    assert_eq!(rings[1].rotate(["es256"]).await.unwrap().now, ["es256"]);
    let after = token(&rings[1], "es256").kid;
    assert_ne!(before, after);
    until(&rings[0], |status| status.slots["es256"].signs == Ok(after.clone())).await;
}
