//! A node that is told to end: whenever that is, nothing is lost, and what is not begun is not waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_issuer::state::KeyState;
use countersign_issuer::step::{Alarm, Compromised, Effect};
use countersign_issuer::{Fault, Moment, Operation, OrderError, RingConfig, Slot, StoreErrorKind};
use countersign_token::{Algorithm, RsaBits};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::support::{World, config, settle, two_slots, until};

const MINUTE: Duration = Duration::from_secs(60);

/// Much less than a node waits between two looks, and no time at all for a store in memory.
const AT_ONCE: Duration = Duration::from_millis(500);

/// As many pieces of work as two slots take to have a key and a standby each, and some more.
const PIECES: usize = 24;

#[tokio::test(start_paused = true)]
async fn whenever_a_node_is_told_to_end_it_does_at_once_and_each_of_its_keys_is_stored() {
    let mut keys_by_then = Vec::new();
    for piece in 0..PIECES {
        let world = World::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let counting = world.builder(two_slots()).at_each_effect(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let ring = counting.start().await.unwrap();
        // Each has a beginning and an end, and it may be told at either.
        while begun.load(Ordering::SeqCst) < 2 * piece
            && ring.status().slots.values().any(|slot| slot.standby.is_none())
        {
            sleep(Duration::from_millis(1)).await;
        }
        let told = Instant::now();
        assert!(ring.end_within(MINUTE).await, "{piece}: {:#?}", ring.status());
        assert!(told.elapsed() < AT_ONCE, "{piece}: {:?}", told.elapsed());
        assert!(matches!(ring.rotate_all().await, Err(OrderError::Stopped)));
        drop(ring);
        let keys: Vec<_> = world.store.state().map(|_| world.state().keys.into_keys().collect()).unwrap_or_default();
        assert!(keys.iter().all(|kid| world.store.private(kid).is_some()), "{piece}");
        keys_by_then.push(keys.len());
        // The next one goes on from there, and gives none of them up.
        let next = world.start(two_slots()).await;
        settle(&next).await;
        assert!(keys.iter().all(|kid| next.status().keys.contains_key(kid)), "{piece}");
        assert_eq!(next.status().alarms, []);
    }
    assert!(keys_by_then[0] == 0 && keys_by_then.contains(&4), "{keys_by_then:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_knows_of_yet_is_not_waited_for() {
    let world = World::new();
    let config = RingConfig::new([Slot::rsa("rs256", Algorithm::Rs256, RsaBits::B4096)]);
    let making = Arc::new(Notify::new());
    let told = Arc::clone(&making);
    let hooked = world.builder(config).at_each_effect(move |effect, moment| {
        if matches!((effect, moment), (Effect::Generate { .. }, Moment::Before)) {
            told.notify_one();
        }
    });
    let ring = hooked.start().await.unwrap();
    making.notified().await;
    assert!(ring.end_within(MINUTE).await);
    assert!(
        world.store.state().is_none_or(|_| world.state().keys.is_empty()),
        "it takes a second, and would be announced"
    );
}

#[tokio::test(start_paused = true)]
async fn an_order_that_has_come_is_carried_out_published_and_answered_before_the_end() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let (before, second) = (world.active("es256"), Duration::from_secs(1));
    world.store.choose(move |operation, _| {
        let is_write = matches!(operation, Operation::SwapState | Operation::PublishJwks);
        is_write.then_some(Fault::Delay { before: second, after: second })
    });
    let order = ring.compromise(Compromised::Key(before.clone()), false);
    // Both at once; the order is there first.
    let (revoked, has_ended) = tokio::join!(order, ring.end_within(MINUTE));
    assert_eq!((revoked.unwrap().kids, has_ended), (vec![before.clone()], true));
    assert!(!String::from_utf8(world.jwks()).unwrap().contains(&before), "the set does not have it any more");
}

#[tokio::test(start_paused = true)]
async fn an_older_state_that_was_put_back_is_put_right_before_the_end() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let stolen = world.active("es256");
    let (old, old_jwks) = (world.store.state().unwrap(), world.jwks());
    ring.compromise(Compromised::Key(stolen.clone()), false).await.unwrap();
    settle(&ring).await;
    world.store.tamper_with_state(Some(old));
    world.store.tamper_with_jwks(Some(old_jwks));
    // Seen, and not put right while the store takes nothing.
    world.store.choose(|operation, _| {
        (operation == Operation::SwapState).then_some(Fault::Refuse(StoreErrorKind::Unavailable))
    });
    until(&ring, |status| status.alarms.contains(&Alarm::StateRolledBack)).await;
    let ending = ring.end_within(MINUTE);
    let opening = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.active("es256"), stolen);
        world.store.choose(|_, _| None);
    };
    assert!(tokio::join!(ending, opening).0);
    drop(ring);
    assert_eq!(world.state().fate(&stolen), Some(KeyState::Revoked), "the next node has no memory of it");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_does_not_take_is_waited_for_no_longer_than_is_said() {
    let world = World::new();
    let ring = world.settled(config()).await;
    world.store.choose(|_, _| Some(Fault::Refuse(StoreErrorKind::Unavailable)));
    let (order, ending) = (ring.rotate_all(), ring.end_within(Duration::from_secs(10)));
    tokio::select! {
        biased;
        answer = order => panic!("{answer:?}"),
        has_ended = ending => assert!(!has_ended),
    }
    // Nothing is owed where nothing was ordered, whatever is due.
    let world = World::new();
    let ring = world.settled(config()).await;
    world.store.choose(|_, _| Some(Fault::Refuse(StoreErrorKind::Unavailable)));
    sleep(Duration::from_secs(3 * 3_600)).await;
    let told = Instant::now();
    assert!(ring.end_within(MINUTE).await && told.elapsed() < AT_ONCE);
}
