use std::time::Duration;

use super::*;
use crate::by_hand::{ClockByHand, RingByHand};
use crate::config::{RingConfig, Slot};
use crate::state::KeyState;
use countersign_claims::UnixTime;
use countersign_token::{Algorithm, SigningKey};

const SLOT: &str = "es256";

fn key(kid: &str) -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid))
}

fn ring() -> (RingByHand, ClockByHand) {
    let clock = ClockByHand::new(UnixTime::from_secs(1_800_000_000));
    let config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    (RingByHand::new("https://issuer.example", config, clock.clone()), clock)
}

fn names(keys: &RingKeys) -> Option<Vec<String>> {
    keys.snapshot().map(|keys| keys.iter().filter_map(|key| key.kid().map(str::to_owned)).collect())
}

fn ask(keys: &RingKeys, generation: Option<u64>) -> Answer {
    let miss = Miss { generation, kid: Some("x"), algorithm: Algorithm::Es256, token: None };
    match keys.ask(miss) {
        Ask::Answered(answer) => {
            assert_eq!(keys.is_known_absent(miss), answer == Answer::Absent);
            answer
        }
        Ask::Wait(_) => panic!("nobody waits for a ring"),
    }
}

#[test]
fn the_keys_are_those_that_are_published_and_bound_to_the_issuer() {
    let (ring, _) = ring();
    let keys = ring.keys();
    let all: Vec<_> = KeyState::ALL.into_iter().map(|state| (state, key(&format!("{state:?}")))).collect();
    ring.show_keys(all.iter().map(|(state, key)| (SLOT, *state, key))).unwrap();
    assert_eq!(names(&keys).unwrap(), ["Active", "Announced", "Retiring", "Standby"]);
    assert!(keys.snapshot().unwrap().iter().all(|key| key.issuer() == Some("https://issuer.example")));
    assert!(keys.snapshot_for_issuer(|| None).is_some() && keys.has_keys());
}

#[test]
fn a_snapshot_stays_whole_while_the_ring_goes_on_and_what_stays_is_the_same_key() {
    let (ring, _) = ring();
    let keys = ring.keys();
    let (first, second) = (key("first"), key("second"));
    ring.show_keys([(SLOT, KeyState::Active, &first), (SLOT, KeyState::Standby, &second)]).unwrap();
    let before = keys.snapshot().unwrap();
    ring.show_keys([(SLOT, KeyState::Active, &second)]).unwrap();
    assert_eq!(before.len(), 2);
    assert_eq!(names(&keys).unwrap(), ["second"]);
    let kept = before.iter().find(|key| key.kid() == Some("second")).unwrap();
    assert!(Arc::ptr_eq(kept, keys.snapshot().unwrap().iter().next().unwrap()));
}

#[test]
fn without_keys_it_is_nobodys_fault() {
    let (ring, _) = ring();
    let keys = ring.keys();
    let unavailable = |reason| Answer::Unavailable { reason, retry_after: Duration::from_secs(10) };
    assert_eq!((names(&keys), ask(&keys, None)), (None, unavailable(Unready::Starting)));
    ring.show_keys([(SLOT, KeyState::Revoked, &key("k1"))]).unwrap();
    assert_eq!((names(&keys), ask(&keys, None)), (None, unavailable(Unready::NoKeys)));
    assert!(!keys.has_keys());
}

#[test]
fn a_key_that_a_young_state_lacks_is_absent_and_one_that_an_old_state_lacks_is_not_yet_there() {
    let (ring, clock) = ring();
    let keys = ring.keys();
    ring.show_keys([(SLOT, KeyState::Active, &key("k1"))]).unwrap();
    let generation = keys.snapshot().map(|keys| keys.generation());
    assert_eq!(ask(&keys, generation), Answer::Absent);
    clock.advance(Duration::from_secs(30));
    assert_eq!(ask(&keys, generation), Answer::Absent);
    clock.advance(Duration::from_millis(1));
    assert_eq!(ask(&keys, generation), Answer::NotYet { retry_after: Duration::from_secs(10) });
    ring.show_keys([(SLOT, KeyState::Active, &key("k2"))]).unwrap();
    assert_eq!(ask(&keys, generation), Answer::Changed);
}

#[test]
fn keys_are_not_trusted_for_ever_when_the_state_cannot_be_read() {
    let (ring, clock) = ring();
    let keys = ring.keys();
    ring.show_keys([(SLOT, KeyState::Active, &key("k1"))]).unwrap();
    clock.advance(MAX_STALE);
    assert!(keys.has_keys());
    clock.advance(Duration::from_secs(1));
    assert!(!keys.has_keys());
    assert!(matches!(ask(&keys, None), Answer::Unavailable { reason: Unready::TooOld, .. }));
}
