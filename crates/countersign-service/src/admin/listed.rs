use std::cmp::Reverse;
use std::collections::BTreeMap;

use countersign::UnixTime;
use countersign_issuer::state::KeyState;
use countersign_issuer::{KeyStatus, Ring, SlotStatus};
use serde::Serialize;

/// Every key and slot of a ring, as this node sees it. Nothing private is among it. Times are seconds since 1970.
#[derive(Serialize)]
pub(super) struct Listed {
    issuer: String,
    /// The number of the version of the state; `None` before the first.
    seq: Option<u64>,
    /// When something is due next, as far as that is known.
    next_transition: Option<i64>,
    slots: BTreeMap<String, ListedSlot>,
    /// By slot, the oldest first.
    keys: Vec<ListedKey>,
    alarms: Vec<&'static str>,
}

#[derive(Serialize)]
struct ListedSlot {
    /// The key that this node signs with.
    signs: Option<String>,
    /// If there is none.
    does_not_sign_because: Option<String>,
    standby: Option<String>,
    rotates_at: Option<i64>,
    /// As soon as there is a standby.
    rotation_wanted: bool,
}

#[derive(Serialize)]
struct ListedKey {
    kid: String,
    slot: String,
    state: KeyState,
    alg: Option<&'static str>,
    announced_at: i64,
    confirmed_at: Option<i64>,
    activated_at: Option<i64>,
    deactivated_at: Option<i64>,
    next: Option<Next>,
    /// Whether this node could sign with it.
    private_part_at_hand: bool,
}

#[derive(Serialize)]
struct Next {
    state: KeyState,
    /// At the earliest.
    at: i64,
}

impl Listed {
    pub(super) fn of(ring: &Ring) -> Self {
        let status = ring.status();
        let mut keys: Vec<_> = status.keys.iter().collect();
        keys.sort_by_key(|(kid, key)| (&key.slot, key.announced_at, Reverse(key.state), *kid));
        Self {
            issuer: ring.issuer().to_owned(),
            seq: status.seq,
            next_transition: status.next_transition().map(UnixTime::as_secs),
            slots: status.slots.iter().map(|(name, slot)| (name.clone(), ListedSlot::of(slot))).collect(),
            keys: keys.into_iter().map(|(kid, key)| ListedKey::of(kid, key)).collect(),
            alarms: status.alarms.iter().map(countersign_issuer::step::Alarm::code).collect(),
        }
    }
}

impl ListedSlot {
    fn of(slot: &SlotStatus) -> Self {
        Self {
            signs: slot.signs.as_ref().ok().cloned(),
            does_not_sign_because: slot.signs.as_ref().err().map(ToString::to_string),
            standby: slot.standby.clone(),
            rotates_at: slot.rotates_at.map(UnixTime::as_secs),
            rotation_wanted: slot.is_rotation_wanted,
        }
    }
}

impl ListedKey {
    fn of(kid: &str, key: &KeyStatus) -> Self {
        let seconds = |time: Option<UnixTime>| time.map(UnixTime::as_secs);
        Self {
            kid: kid.to_owned(),
            slot: key.slot.clone(),
            state: key.state,
            alg: key.algorithm.map(countersign::Algorithm::name),
            announced_at: key.announced_at.as_secs(),
            confirmed_at: seconds(key.confirmed_at),
            activated_at: seconds(key.activated_at),
            deactivated_at: seconds(key.deactivated_at),
            next: key.next.map(|(state, at)| Next { state, at: at.as_secs() }),
            private_part_at_hand: key.is_held,
        }
    }
}
