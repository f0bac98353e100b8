//! A ring that has no nodes but those that take one step and end, as a schedule starts them.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_issuer::{Fault, Operation, RingConfig, StoreErrorKind, Work};
use tokio::time::sleep;

use crate::support::{World, config, fetched, token, two_slots, verifies};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_ring_lives_by_nodes_that_take_one_step_and_end() {
    let world = World::new();
    let (mut kids, mut tokens) = (BTreeSet::new(), Vec::new());
    for _ in 0..60 {
        let ring = world.start(two_slots()).await;
        assert!(ring.settled_within(MINUTE).await, "{:#?}", ring.status());
        assert_eq!(ring.status().alarms, []);
        let token = token(&ring, "es256");
        kids.insert(token.kid.clone());
        tokens.push(token);
        drop(ring);
        // None of them is refused before its time is over, by whoever has just fetched the set.
        let keys = fetched(&world.jwks());
        tokens.retain(|token| token.exp > world.clock.wall());
        assert!(tokens.iter().all(|token| verifies(token, &keys)));
        sleep(10 * MINUTE).await;
    }
    assert!(kids.len() >= 4, "ten hours, and a rotation every two: {kids:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_settled_has_stored_what_it_made() {
    let world = World::new();
    let ring = world.start(config()).await;
    assert!(ring.status().making.is_empty());
    assert!(ring.settled_within(MINUTE).await);
    let state = world.state();
    // The first signs, and its successor is announced and stored.
    assert_eq!(state.keys.len(), 2);
    assert!(state.keys.values().all(|key| key.confirmed_at.is_some()));
    assert!(ring.status().keys.values().all(|key| key.is_held) && ring.status().making.is_empty());
    // Another node that comes at once waits for the lease of the first, and has nothing to do.
    drop(ring);
    let seq = world.state().seq;
    assert!(world.start(config()).await.settled_within(MINUTE).await);
    assert_eq!(world.state().seq, seq);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_store_fails_does_not_settle_and_says_what_fails() {
    let world = World::new();
    drop(world.settled(config()).await);
    sleep(3 * 60 * MINUTE).await;
    world.store.choose(|operation, _| {
        (operation == Operation::SwapState).then_some(Fault::Refuse(StoreErrorKind::Unavailable))
    });
    let ring = world.start(config()).await;
    assert!(!ring.settled_within(MINUTE).await);
    assert!(ring.status().failing.contains_key(&Work::SaveState), "{:?}", ring.status().failing);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_knows_only_the_ring_carries_orders_out_and_rotates_nothing_by_itself() {
    let world = World::new();
    drop(world.settled(two_slots()).await);
    let actives = || ["es256", "ed25519"].map(|slot| world.active(slot));
    let before = actives();
    // Later than any node would rotate.
    sleep(5 * 60 * MINUTE).await;
    let tool = world.start(RingConfig::of_ring(&world.state())).await;
    assert!(tool.settled_within(MINUTE).await);
    assert_eq!(actives(), before);
    assert_eq!(tool.rotate(["ed25519"]).await.unwrap().now, ["ed25519"]);
    assert!(tool.settled_within(MINUTE).await);
    let after = actives();
    assert!(after[0] == before[0] && after[1] != before[1]);
    // The key that follows is there by then, of the kind that the slot is for.
    assert_eq!(world.state().keys.len(), 5);
    assert_eq!(tool.status().alarms, []);
}
