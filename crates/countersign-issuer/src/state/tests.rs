use super::*;
use crate::config::Timing;
use crate::store::MAX_STATE_BYTES;
use proptest::prelude::*;
use serde_json::json;

fn terms() -> Terms {
    (&Timing::default()).into()
}

fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn key(kid: &str, slot: &str, state: KeyState) -> Key {
    let needs_private = state.needs_private();
    Key {
        slot: slot.to_owned(),
        jwk: PublicJwk::new(&json!({ "kid": kid, "kty": "OKP", "crv": "Ed25519", "x": "AA" })).unwrap(),
        state,
        maker: "node".to_owned(),
        is_known: false,
        announced_at: at(1_000),
        confirmed_at: Some(at(1_010)),
        activated_at: (state >= KeyState::Active).then(|| at(2_000)),
        deactivated_at: (state >= KeyState::Retiring).then(|| at(3_000)),
        ended_at: state.is_terminal().then(|| at(4_000)),
        promised_until: None,
        remove_at: None,
        destroyed: !needs_private,
    }
}

fn ring(keys: &[(&str, KeyState)]) -> RingState {
    let mut ring = RingState::empty(terms());
    ring.seq = 7;
    ring.set_seq = 7;
    ring.nonce = "node-1".to_owned();
    for (kid, state) in keys {
        ring.keys.insert((*kid).to_owned(), key(kid, "es256", *state));
    }
    let is_running = keys.iter().any(|(_, state)| *state == KeyState::Active);
    let halted = SlotMode::Halted { reason: Halt::Starting, sign_at_once: false };
    let mode = if is_running { SlotMode::Running } else { halted };
    let slot = SlotState { mode, rotate_requested: false, max_lifetime: Duration::from_secs(3_600) };
    ring.slots.insert("es256".to_owned(), slot);
    ring
}

fn any_state() -> impl Strategy<Value = KeyState> {
    proptest::sample::select(KeyState::ALL.to_vec())
}

#[test]
fn a_document_is_read_as_it_was_written_and_always_has_the_same_bytes() {
    let mut ring = ring(&[("a", KeyState::Active), ("b", KeyState::Standby), ("c", KeyState::Retiring)]);
    ring.lease = Some(Lease { holder: "node".to_owned(), until: at(5).saturating_add(Duration::from_millis(250)) });
    ring.done.push("node-3".to_owned());
    let bytes = ring.to_bytes();
    assert_eq!(RingState::from_bytes(&bytes).unwrap(), ring);
    assert_eq!(RingState::from_bytes(&bytes).unwrap().to_bytes(), bytes);
}

#[test]
fn a_document_that_is_not_a_state_is_refused_and_says_why() {
    let good = ring(&[("a", KeyState::Active)]);
    let text = String::from_utf8(good.to_bytes()).unwrap();
    let refusal = |text: &str| RingState::from_bytes(text.as_bytes()).unwrap_err().to_string();
    assert!(refusal("").contains("cannot be read"));
    assert!(refusal("{}").contains("schema"));
    assert!(refusal(&text.replacen("\"schema\":1", "\"schema\":2", 1)).contains("schema 2"));
    assert!(refusal(&text.replacen("\"seq\":7", "\"seq\":7,\"more\":1", 1)).contains("more"));
    assert!(refusal(&text.replacen("\"kid\":\"a\"", "\"kid\":\"b\"", 1)).contains("another name"));
    assert!(refusal(&text.replacen("\"x\":\"AA\"", "\"x\":\"AA\",\"d\":\"secret\"", 1)).contains("`d` is not"));
    assert!(!refusal(&text.replacen("\"x\":\"AA\"", "\"d\":\"secret\"", 1)).contains("secret"));
    assert_eq!(RingState::from_bytes(&vec![b' '; MAX_STATE_BYTES + 1]), Err(StateError::TooLong(MAX_STATE_BYTES + 1)));
}

#[test]
fn i2_a_running_slot_has_exactly_one_active_key_and_a_halted_one_none() {
    assert_eq!(ring(&[("a", KeyState::Active), ("b", KeyState::Standby)]).check(), Ok(()));
    assert_eq!(ring(&[("b", KeyState::Standby)]).check(), Ok(()));
    let two = ring(&[("a", KeyState::Active), ("b", KeyState::Active)]);
    assert_eq!(two.check(), Err(Violation::Actives { slot: "es256".to_owned(), count: 2 }));
    let mut none = ring(&[("a", KeyState::Active)]);
    none.keys.clear();
    assert_eq!(none.check(), Err(Violation::Actives { slot: "es256".to_owned(), count: 0 }));
}

#[test]
fn a_key_only_goes_forward() {
    use KeyState::{Abandoned, Active, Announced, Retired, Retiring, Revoked, Standby};
    let legal = [
        (Announced, Standby),
        (Announced, Active),
        (Announced, Abandoned),
        (Standby, Active),
        (Standby, Abandoned),
        (Active, Retiring),
        (Retiring, Retired),
    ];
    for from in KeyState::ALL {
        for to in KeyState::ALL {
            let expected = from == to || to == Revoked || legal.contains(&(from, to));
            assert_eq!(from.may_become(to), expected, "{from:?} → {to:?}");
            assert!(!from.may_become(to) || from <= to, "{from:?} → {to:?} is not forward");
        }
    }
    assert!(!Revoked.may_become(Retired));
}

#[test]
fn a_version_in_which_a_key_went_back_or_vanished_does_not_follow() {
    let before = ring(&[("a", KeyState::Active), ("b", KeyState::Retiring)]);
    let next = |change: &dyn Fn(&mut RingState)| {
        let mut after = before.clone();
        after.seq += 1;
        change(&mut after);
        let same = after.keys.keys().eq(before.keys.keys());
        after.set_seq = if same { before.set_seq } else { after.seq };
        after.check_after(&before)
    };
    assert_eq!(next(&|_| {}), Ok(()));
    assert!(matches!(
        next(&|after| after.keys.get_mut("b").unwrap().state = KeyState::Standby),
        Err(Violation::Backwards { .. })
    ));
    assert_eq!(next(&|after| drop(after.keys.remove("b"))), Err(Violation::Vanished("b".to_owned())));
    assert_eq!(next(&|after| after.seq += 1), Err(Violation::Sequence));
    assert_eq!(next(&|after| after.terms.max_age = Duration::ZERO), Err(Violation::Lowered));
}

#[test]
fn a_kid_is_never_used_again() {
    let mut before = ring(&[("a", KeyState::Active), ("b", KeyState::Retired)]);
    before.bury(at(9_000));
    assert_eq!(before.fate("b"), Some(KeyState::Retired));
    let mut after = before.clone();
    after.seq += 1;
    after.set_seq = after.seq;
    after.tombstones.clear();
    after.keys.insert("b".to_owned(), key("b", "es256", KeyState::Announced));
    assert!(matches!(after.check_after(&before), Err(Violation::Vanished(_))));
}

#[test]
fn i4_a_key_is_not_removed_before_its_last_token_has_expired_everywhere() {
    let terms = Terms { overlap: Duration::ZERO, ..terms() };
    let lifetime = Duration::from_secs(3_600);
    let mut key = key("a", "es256", KeyState::Retiring);
    // G + L + W + 2ε
    assert_eq!(key.removable_at(&terms, lifetime), Some(at(3_000 + 30 + 3_600 + 60 + 60)));
    key.promised_until = Some(at(9_000));
    assert_eq!(key.removable_at(&terms, lifetime), Some(at(9_000 + 60 + 30)));
    key.deactivated_at = None;
    assert_eq!(key.removable_at(&terms, lifetime), None, "nobody has seen it deactivated");
}

#[test]
fn i1_a_key_is_ready_once_no_cache_can_lack_it() {
    let mut key = key("a", "es256", KeyState::Announced);
    assert_eq!(key.ready_at(&terms()), Some(at(1_010 + 600 + 10 + 30)));
    key.is_known = true;
    assert_eq!(key.ready_at(&terms()), Some(at(1_010)));
    key.confirmed_at = None;
    assert_eq!(key.ready_at(&terms()), None);
}

#[test]
fn tombstones_are_bounded_and_those_with_live_tokens_stay() {
    let mut ring = ring(&[("a", KeyState::Active)]);
    for index in 0..MAX_TOMBSTONES + 50 {
        let ended_at = at(index as i64);
        // The oldest ten are of keys that were promised to live for ever.
        let tokens_until = if index < 10 { at(i64::MAX / 2) } else { ended_at };
        let tombstone = Tombstone { slot: "es256".to_owned(), state: KeyState::Retired, ended_at, tokens_until };
        ring.tombstones.insert(format!("k{index}"), tombstone);
    }
    let revoked =
        Tombstone { slot: "es256".to_owned(), state: KeyState::Revoked, ended_at: at(0), tokens_until: at(0) };
    ring.tombstones.insert("revoked".to_owned(), revoked);
    ring.bury(at(1_000_000));
    assert_eq!(ring.tombstones.len(), MAX_TOMBSTONES + 1);
    assert!(ring.tombstones.contains_key("k0") && !ring.tombstones.contains_key("k10"));
    assert!(ring.tombstones.contains_key("revoked"));
}

#[test]
fn a_private_member_is_never_part_of_a_public_key() {
    for member in ["d", "p", "q", "dp", "dq", "qi", "k", "oth", "priv"] {
        let mut value = json!({ "kid": "a", "kty": "RSA", "n": "AA", "e": "AQAB" });
        value[member] = "secret".into();
        let error = PublicJwk::new(&value).unwrap_err();
        assert_eq!(error, JwkError::Member(member.to_owned()));
        assert!(!error.to_string().contains("secret"));
    }
    assert_eq!(PublicJwk::new(&json!({ "kty": "OKP" })), Err(JwkError::Lacks("kid")));
}

#[test]
fn an_older_document_joined_with_what_is_remembered_brings_nothing_back() {
    let older = ring(&[("a", KeyState::Active), ("b", KeyState::Standby), ("c", KeyState::Retiring)]);
    let mut later = older.clone();
    later.seq += 3;
    later.keys.get_mut("a").unwrap().state = KeyState::Revoked;
    later.keys.get_mut("b").unwrap().state = KeyState::Active;
    later.keys.get_mut("c").unwrap().state = KeyState::Retired;
    later.bury(at(9_000));
    for joined in [older.join(&later), later.join(&older)] {
        assert_eq!(joined.check(), Ok(()));
        assert_eq!(joined.fate("a"), Some(KeyState::Revoked));
        assert_eq!(joined.fate("b"), Some(KeyState::Active));
        assert_eq!(joined.fate("c"), Some(KeyState::Retired));
        assert_eq!(joined.seq, later.seq);
    }
}

proptest! {
    #[test]
    fn states_are_a_semilattice(a in any_state(), b in any_state(), c in any_state()) {
        prop_assert_eq!(a.join(a), a);
        prop_assert_eq!(a.join(b), b.join(a));
        prop_assert_eq!(a.join(b).join(c), a.join(b.join(c)));
        prop_assert!(a.join(b) >= a);
    }

    #[test]
    fn of_any_two_documents_the_join_is_one_that_may_be_and_in_which_no_key_went_back(
        first in proptest::collection::btree_map("[a-e]", any_state(), 0..5),
        second in proptest::collection::btree_map("[a-e]", any_state(), 0..5),
        seqs in any::<(u8, u8)>(),
    ) {
        let document = |keys: &BTreeMap<String, KeyState>, seq: u8| {
            let keys: Vec<_> = keys.iter().map(|(kid, state)| (kid.as_str(), *state)).collect();
            let mut ring = ring(&keys);
            ring.seq = u64::from(seq);
            ring.set_seq = 0;
            ring
        };
        let (first, second) = (document(&first, seqs.0), document(&second, seqs.1));
        let joined = first.join(&second);
        prop_assert_eq!(joined.check(), Ok(()));
        prop_assert_eq!(first.join(&first).keys.len(), first.keys.len());
        for (kid, key) in first.keys.iter().chain(&second.keys) {
            prop_assert!(joined.fate(kid).is_some_and(|state| state >= key.state));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = RingState::from_bytes(&bytes);
    }
}
