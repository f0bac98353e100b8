use super::*;
use crate::config::Slot;
use crate::state::{Halt, Key, SlotMode, SlotState, Terms};
use countersign_token::{Algorithm, JwkSet, Origin, SigningKey};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn config() -> RingConfig {
    RingConfig::new([Slot::new("es256", Algorithm::Es256)])
}

fn key(kid: &str, state: KeyState) -> Key {
    let jwk = SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid).public_jwk().unwrap();
    Key {
        slot: "es256".to_owned(),
        jwk: PublicJwk::new(&jwk).unwrap(),
        state,
        maker: String::new(),
        is_known: false,
        announced_at: NOW,
        confirmed_at: Some(NOW),
        activated_at: None,
        deactivated_at: None,
        ended_at: None,
        promised_until: None,
        remove_at: None,
        destroyed: false,
    }
}

fn ring(keys: &[(&str, KeyState)]) -> RingState {
    let mut ring = RingState::empty(Terms::from(&config().timing));
    ring.set_seq = 5;
    ring.keys = keys.iter().map(|(kid, state)| ((*kid).to_owned(), key(kid, *state))).collect();
    let mode = SlotMode::Halted { reason: Halt::Starting, sign_at_once: false };
    let slot = SlotState { mode, rotate_requested: false, max_lifetime: Duration::from_secs(3_600) };
    ring.slots.insert("es256".to_owned(), slot);
    ring
}

#[test]
fn the_set_has_the_keys_that_verify_and_a_number_and_any_verifier_can_read_it() {
    let ring = ring(&[
        ("a", KeyState::Announced),
        ("b", KeyState::Standby),
        ("c", KeyState::Active),
        ("d", KeyState::Retiring),
        ("e", KeyState::Retired),
        ("f", KeyState::Abandoned),
        ("g", KeyState::Revoked),
    ]);
    let publication = Publication::of(&ring, &config(), NOW).unwrap();
    let found = Found::read(&publication.bytes).unwrap();
    assert_eq!(
        (found.seq, found.kids),
        (Some(5), vec!["a".to_owned(), "b".to_owned(), "c".to_owned(), "d".to_owned()])
    );
    let set = JwkSet::parse(&publication.bytes, Origin::Remote).unwrap();
    assert_eq!((set.keys().len(), set.skipped().len()), (4, 0));
}

#[test]
fn the_same_set_has_the_same_bytes_and_etag_whatever_states_its_keys_are_in() {
    let mut ring = ring(&[("a", KeyState::Standby), ("b", KeyState::Active)]);
    let first = Publication::of(&ring, &config(), NOW).unwrap();
    ring.keys.get_mut("a").unwrap().state = KeyState::Active;
    ring.keys.get_mut("b").unwrap().state = KeyState::Retiring;
    let second = Publication::of(&ring, &config(), NOW.saturating_add(Duration::from_secs(9))).unwrap();
    assert_eq!((first.bytes, &first.etag), (second.bytes, &second.etag));
    assert!(first.etag.len() == 66 && first.etag.starts_with('"') && first.etag.ends_with('"'), "{}", first.etag);
    ring.set_seq += 1;
    assert_ne!(Publication::of(&ring, &config(), NOW).unwrap().etag, first.etag);
}

#[test]
fn i8_an_empty_set_is_never_published() {
    for keys in [&[][..], &[("a", KeyState::Revoked), ("b", KeyState::Retired)][..]] {
        assert_eq!(Publication::of(&ring(keys), &config(), NOW), Err(Unpublishable::Empty));
    }
}

#[test]
fn i7_a_set_of_too_many_keys_is_not_published() {
    let mut ring = ring(&[]);
    let jwk = key("a", KeyState::Retiring);
    ring.keys = (0..=MAX_KEYS).map(|index| (format!("k{index:03}"), jwk.clone())).collect();
    assert_eq!(Publication::of(&ring, &config(), NOW), Err(Unpublishable::TooManyKeys(101)));
    ring.keys.pop_first();
    assert!(Publication::of(&ring, &config(), NOW).is_ok());
}

#[test]
fn i1_a_set_may_never_be_kept_longer_than_is_waited_for() {
    let ring_state = ring(&[("a", KeyState::Active)]);
    let mut config = config();
    assert_eq!(Publication::of(&ring_state, &config, NOW).unwrap().cache_control(), "public, max-age=300");
    // This node would like more, but the ring does not wait for so long yet.
    config.timing.max_age = Duration::from_secs(3_600);
    assert_eq!(Publication::of(&ring_state, &config, NOW).unwrap().max_age, Duration::from_secs(300));
    config.timing.max_age = Duration::from_secs(60);
    assert_eq!(Publication::of(&ring_state, &config, NOW).unwrap().max_age, Duration::from_secs(60));
}

#[test]
fn a_set_is_not_kept_far_beyond_the_removal_of_a_key_nor_fetched_by_all_at_once_before() {
    let mut ring = ring(&[("a", KeyState::Active), ("b", KeyState::Retiring)]);
    let max_age = |ring: &RingState, before: u64| {
        let removal = ring.keys["b"].removable_at(&ring.terms, Duration::from_secs(3_600)).unwrap();
        Publication::of(ring, &config(), removal.saturating_sub(Duration::from_secs(before))).unwrap().max_age.as_secs()
    };
    ring.keys.get_mut("b").unwrap().deactivated_at = Some(NOW);
    assert_eq!((max_age(&ring, 1_000), max_age(&ring, 100), max_age(&ring, 1), max_age(&ring, 0)), (300, 100, 30, 300));
    // An end that an operator has set is kept to the second.
    let end = NOW.saturating_add(Duration::from_secs(7));
    ring.keys.get_mut("a").unwrap().remove_at = Some(end);
    assert_eq!(Publication::of(&ring, &config(), NOW).unwrap().max_age, Duration::from_secs(7));
}

#[test]
fn what_is_found_is_read_whoever_has_written_it() {
    let foreign = br#"{"keys":[{"kty":"RSA","n":"AA","e":"AQAB"},{"kid":"x","kty":"EC"}]}"#;
    let found = Found::read(foreign).unwrap();
    assert_eq!((found.seq, found.kids), (None, vec![String::new(), "x".to_owned()]));
    assert_eq!(Found::read(b"<html>"), None);
    assert_eq!(Found::read(&vec![b' '; MAX_STORED_JWKS_BYTES + 1]), None);
}
