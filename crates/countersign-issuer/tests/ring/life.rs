//! What happens by itself, and on order.

use std::time::Duration;

use countersign_issuer::state::KeyState;
use countersign_issuer::step::{Note, Role};
use countersign_issuer::{Operation, OrderError, RingConfig, RingEvent, StartError};
use tokio::time::sleep;

use crate::support::{World, config, fetched, in_state, live, token, two_slots, until, verifies};

#[tokio::test(start_paused = true)]
async fn a_first_start_is_ready_soon_and_its_tokens_verify() {
    let world = World::new();
    let ring = world.start(two_slots()).await;
    assert!(ring.ready_within(Duration::ZERO).await.is_err());
    ring.ready_within(Duration::from_secs(30)).await.unwrap();
    let keys = fetched(&world.jwks());
    for slot in ["es256", "ed25519"] {
        assert!(verifies(&token(&ring, slot), &keys), "{slot}");
    }
    let (content_type, cache_control) = world.store.jwks_headers().unwrap();
    assert_eq!((&*content_type, &*cache_control), ("application/jwk-set+json", "public, max-age=300"));
    assert_eq!(world.alarms(), []);
}

#[tokio::test(start_paused = true)]
async fn scheduled_rotations_are_noticed_by_no_verifier() {
    let world = World::new();
    let ring = world.settled(two_slots()).await;
    let signed = live(&world, &[&ring], &["es256", "ed25519"], Duration::from_secs(11 * 3_600)).await;
    // Every two hours, in both slots.
    assert_eq!(signed.len(), 12, "{signed:?}");
    let state = world.state();
    assert!(state.tombstones.values().all(|tombstone| tombstone.state == KeyState::Retired));
    assert!(!state.tombstones.is_empty());
    for kid in state.tombstones.keys() {
        assert!(world.store.private(kid).is_none(), "its private part is gone");
    }
    assert_eq!(world.alarms(), []);
}

#[tokio::test(start_paused = true)]
async fn rotate_now_is_one_write_and_nobody_refuses() {
    let world = World::new();
    let ring = world.settled(two_slots()).await;
    // Caches that were filled before anybody thought of it.
    sleep(config().timing.cache_bound()).await;
    let keys = fetched(&world.jwks());
    let before = [token(&ring, "es256"), token(&ring, "ed25519")];
    let told = world.events.lock().unwrap().len();
    let rotated = ring.rotate_all().await.unwrap();
    assert_eq!((rotated.now.len(), rotated.later.len()), (2, 0));
    assert!(before.iter().all(|token| verifies(token, &keys) && verifies(token, &fetched(&world.jwks()))));
    for slot in ["es256", "ed25519"] {
        let after = token(&ring, slot);
        assert!(verifies(&after, &keys), "{slot}");
        assert_eq!(ring.status().keys[&after.kid].state, KeyState::Active);
    }
    let retiring = in_state(&ring.status(), KeyState::Retiring);
    assert_eq!(retiring.len(), 2);
    // Both slots changed hands in the first version that was written.
    let events = world.events.lock().unwrap();
    let first = events[told..].iter().find_map(|event| match event {
        RingEvent::Note(Note::Saved { moves, .. }) => Some(moves.clone()),
        _ => None,
    });
    let of = |state| first.iter().flatten().filter(|(_, it)| *it == state).count();
    assert_eq!((of(KeyState::Active), of(KeyState::Retiring)), (2, 2), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_has_no_standby_is_rotated_when_it_has_one() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let first = token(&ring, "es256").kid;
    assert_eq!(ring.rotate(["es256"]).await.unwrap().now, ["es256"]);
    let second = token(&ring, "es256").kid;
    assert_eq!(ring.rotate(["es256"]).await.unwrap().later, ["es256"]);
    assert!(ring.status().slots["es256"].is_rotation_wanted);
    until(&ring, |status| status.slots["es256"].signs.as_ref().is_ok_and(|kid| *kid != second)).await;
    assert_ne!(token(&ring, "es256").kid, first);
    assert!(!ring.status().slots["es256"].is_rotation_wanted);
    let none = ring.rotate(["none"]).await.unwrap_err();
    assert!(matches!(none, OrderError::Refused(_)), "{none}");
}

#[tokio::test(start_paused = true)]
async fn a_standby_is_given_up_on_order_and_an_active_key_is_not() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let standby = ring.status().slots["es256"].standby.clone().unwrap();
    ring.abandon(&*standby).await.unwrap();
    assert!(!ring.status().keys.get(&standby).is_some_and(|key| key.state.is_published()));
    let active = token(&ring, "es256").kid;
    assert!(matches!(ring.abandon(active).await, Err(OrderError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_again_goes_on_with_the_same_key() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let kid = token(&ring, "es256").kid;
    drop(ring);
    let ring = world.settled(config()).await;
    assert_eq!(token(&ring, "es256").kid, kid);
    assert_eq!(world.alarms(), []);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let other = ring.clone();
    drop(ring);
    sleep(Duration::from_secs(60)).await;
    let calls = world.store.calls(Operation::LoadState);
    sleep(Duration::from_secs(60)).await;
    assert!(world.store.calls(Operation::LoadState) > calls);
    drop(other);
    tokio::task::yield_now().await;
    let calls = world.store.calls(Operation::LoadState);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.store.calls(Operation::LoadState), calls);
    // What the task had of the store is gone, too.
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_signs_only_signs_what_others_have_made_and_writes_nothing() {
    let world = World::new();
    let signer = world.builder(config()).role(Role::Signer).start().await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(world.store.state().is_none());
    let ring = world.settled(config()).await;
    signer.ready_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(token(&signer, "es256").kid, token(&ring, "es256").kid);
    assert_eq!(signer.rotate_all().await, Err(OrderError::NotRotator));
    drop(ring);
    let writes = world.store.calls(Operation::SwapState);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.store.calls(Operation::SwapState), writes);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_at_the_start() {
    let world = World::new();
    let none = world.builder(RingConfig::new([])).start().await;
    assert!(matches!(none, Err(StartError::Config(_))));
    let mut short = config();
    short.timing.rotation = Duration::from_secs(60);
    let short = world.builder(short).start().await;
    assert!(matches!(&short, Err(StartError::Config(error)) if error.to_string().starts_with("I6")), "{short:?}");

    world.store.plan(Operation::Probe, countersign_issuer::Fault::Refuse(countersign_issuer::StoreErrorKind::Unfit));
    assert!(matches!(world.builder(config()).start().await, Err(StartError::Store(_))));

    world.store.tamper_with_state(Some(b"{}".to_vec()));
    assert!(matches!(world.builder(config()).start().await, Err(StartError::State(_))));
}
