//! Stores that fail, keys that are lost, documents that somebody has changed.

use std::time::Duration;

use countersign_issuer::state::KeyState;
use countersign_issuer::step::{Alarm, NotSigning, Refusal};
use countersign_issuer::{Fault, Operation, OrderError, RingEvent, StoreErrorKind, Work};
use tokio::time::sleep;

use crate::support::{World, config, fetched, in_state, token, until, verifies};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn if_a_private_part_cannot_be_stored_the_current_key_stays_and_somebody_is_told() {
    let world = World::new();
    let ring = world.start(config()).await;
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    let kid = token(&ring, "es256").kid;
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Denied, StoreErrorKind::Unfit] {
        world.store.choose(move |operation, _| (operation == Operation::PutPrivate).then_some(Fault::Refuse(kind)));
        sleep(4 * HOUR).await;
        assert_eq!(token(&ring, "es256").kid, kid, "{kind}");
        assert!(world.alarms().iter().any(|alarm| matches!(alarm, Alarm::PrivateStoreFailed(_))));
        assert!(ring.status().alarms.contains(&Alarm::RotationOverdue("es256".into())));
        assert!(in_state(&ring.status(), KeyState::Standby).is_empty());
        assert!(ring.status().failing.contains_key(&Work::StorePrivate));
        world.events.lock().unwrap().clear();
    }
    world.store.behave();
    until(&ring, |status| status.slots["es256"].signs.as_ref().is_ok_and(|now| *now != kid)).await;
    until(&ring, |status| status.slots["es256"].standby.is_some()).await;
    assert_eq!(ring.status().alarms, []);
}

#[tokio::test(start_paused = true)]
async fn an_active_key_whose_private_part_is_certainly_gone_is_rotated_once_and_by_one_node() {
    let world = World::new();
    drop(world.settled(config()).await);
    let lost = world.active("es256");
    world.store.tamper_with_private(&lost, None);
    let (one, other) = (world.start(config()).await, world.start(config()).await);
    one.ready_within(HOUR / 60).await.unwrap();
    other.ready_within(HOUR / 60).await.unwrap();
    let next = token(&one, "es256").kid;
    assert_ne!(next, lost);
    assert_eq!(token(&other, "es256").kid, next);
    sleep(HOUR).await;
    assert_eq!(token(&one, "es256").kid, next, "one rotation, and no more");
    assert_eq!(in_state(&one.status(), KeyState::Retiring), [&*lost]);
    assert!(world.alarms().contains(&Alarm::PrivateMissing(lost)));
}

#[tokio::test(start_paused = true)]
async fn a_private_part_that_cannot_be_read_is_no_reason_to_rotate() {
    for fault in [
        Fault::Refuse(StoreErrorKind::Unavailable),
        Fault::Refuse(StoreErrorKind::Denied),
        Fault::Refuse(StoreErrorKind::Unfit),
        Fault::Refuse(StoreErrorKind::Unknown),
        Fault::Garbage(b"garbage".to_vec()),
        Fault::Delay { before: HOUR, after: Duration::ZERO },
    ] {
        let world = World::new();
        drop(world.settled(config()).await);
        let kid = world.active("es256");
        let wrong = fault.clone();
        world.store.choose(move |operation, _| (operation == Operation::GetPrivate).then(|| wrong.clone()));
        let ring = world.start(config()).await;
        sleep(HOUR).await;
        assert_eq!(world.active("es256"), kid, "{fault:?}");
        assert_eq!(ring.signer("es256").map(|_| ()), Err(NotSigning::KeyUnavailable), "{fault:?}");
        assert!(world.alarms().iter().any(|alarm| matches!(alarm, Alarm::PrivateUnavailable(it, _) if *it == kid)));
        world.store.behave();
        ring.ready_within(2 * HOUR).await.unwrap();
        assert_eq!(token(&ring, "es256").kid, kid, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sealed_key_in_the_place_of_another_is_noticed_and_nobody_signs_with_it() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let (active, standby) = (world.active("es256"), ring.status().slots["es256"].standby.clone().unwrap());
    drop(ring);
    world.store.tamper_with_private(&active, world.store.private(&standby));
    let ring = world.start(config()).await;
    sleep(HOUR).await;
    assert_eq!(world.active("es256"), active);
    assert!(ring.signer("es256").is_err());
    assert!(world.alarms().iter().any(|alarm| matches!(alarm, Alarm::PrivateUnavailable(kid, _) if *kid == active)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_stops_nobody_and_is_an_alarm() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let kid = token(&ring, "es256").kid;
    let hangs = Fault::Delay { before: 1_000 * HOUR, after: Duration::ZERO };
    world.store.choose(move |_, _| Some(hangs.clone()));
    sleep(Duration::from_secs(120)).await;
    assert_eq!(ring.signer("es256").map(|_| ()), Err(NotSigning::ViewTooOld));
    assert!(world.alarms().iter().any(|alarm| matches!(alarm, Alarm::StoreFailing(_))));
    world.store.behave();
    ring.ready_within(HOUR).await.unwrap();
    assert_eq!(token(&ring, "es256").kid, kid);
    assert_eq!(ring.status().alarms, []);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_and_conflicts_with_ones_own_success_make_no_key_too_many() {
    let world = World::new();
    let mut turn = 0;
    world.store.choose(move |operation, _| {
        turn += 1;
        let is_write = matches!(operation, Operation::SwapState | Operation::PublishJwks | Operation::PutPrivate);
        match turn % 3 {
            0 if is_write => Some(Fault::Deny(StoreErrorKind::Conflict)),
            1 if is_write => Some(Fault::Deny(StoreErrorKind::Unknown)),
            _ => None,
        }
    });
    let ring = world.settled(config()).await;
    let keys = fetched(&world.jwks());
    assert!(verifies(&token(&ring, "es256"), &keys));
    let state = world.state();
    assert_eq!((state.keys.len(), state.tombstones.len()), (2, 0), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_was_edited_or_put_back_is_noticed() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let kid = token(&ring, "es256").kid;
    let (old, old_jwks) = (world.store.state().unwrap(), world.jwks());
    ring.rotate(["es256"]).await.unwrap();
    let rotated = token(&ring, "es256").kid;
    until(&ring, |status| status.slots["es256"].standby.is_some()).await;

    let edited = String::from_utf8(world.store.state().unwrap()).unwrap().replace("\"active\"", "\"standby\"");
    let good = world.store.state();
    world.store.tamper_with_state(Some(edited.into_bytes()));
    sleep(Duration::from_secs(60)).await;
    assert!(ring.status().alarms.contains(&Alarm::StoreFailing(countersign_issuer::step::Failure::Unreadable)));
    world.store.tamper_with_state(good);
    ring.ready_within(HOUR).await.unwrap();

    world.store.tamper_with_state(Some(old));
    world.store.tamper_with_jwks(Some(old_jwks));
    sleep(Duration::from_secs(120)).await;
    assert!(world.alarms().contains(&Alarm::StateRolledBack));
    assert_eq!(world.active("es256"), rotated, "{kid} does not come back");
    until(&ring, |status| status.alarms.is_empty()).await;
    let now = fetched(&world.jwks());
    assert!(verifies(&token(&ring, "es256"), &now));
}

#[tokio::test(start_paused = true)]
async fn a_key_set_that_was_edited_is_put_right() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let good = world.jwks();
    let edited = String::from_utf8(good.clone()).unwrap().replacen("\"x\":\"", "\"x\":\"A", 1);
    world.store.tamper_with_jwks(Some(edited.into_bytes()));
    sleep(HOUR / 2).await;
    assert_eq!(world.jwks(), good);
    assert!(world.alarms().contains(&Alarm::SetEdited));
    assert_eq!(ring.status().alarms, []);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_the_store_does_not_take_is_refused_and_not_done_later() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let kid = token(&ring, "es256").kid;
    world.store.choose(|operation, _| {
        (operation == Operation::SwapState).then_some(Fault::Refuse(StoreErrorKind::Unavailable))
    });
    let refused = ring.rotate(["es256"]).await;
    assert_eq!(refused, Err(OrderError::Refused(Refusal::StoreFailed { is_doubtful: false })));
    world.store.behave();
    sleep(HOUR / 2).await;
    assert_eq!(token(&ring, "es256").kid, kid);
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_may_panic() {
    let world = World::new();
    let ring = world.builder(config()).on_event(|event| assert!(matches!(event, RingEvent::Cleared(_))));
    let ring = ring.start().await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_one_that_does_not_answer() {
    let world = World::new();
    let ring = world.settled(config()).await;
    world.store.choose(|operation, _| {
        assert!(operation != Operation::LoadState, "a defect of the store");
        None
    });
    sleep(Duration::from_secs(120)).await;
    assert_eq!(ring.signer("es256").map(|_| ()), Err(NotSigning::ViewTooOld));
    world.store.behave();
    ring.ready_within(HOUR).await.unwrap();
}
