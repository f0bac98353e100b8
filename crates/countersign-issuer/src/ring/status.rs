//! How a ring is, as one node sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_token::Algorithm;

use super::material::algorithm_of;
use super::report::Report;
use super::work::Work;
use crate::config::RingConfig;
use crate::desk::Desk;
use crate::state::{Key, KeyState, RingState, SlotMode};
use crate::step::{Alarm, NotSigning};
use crate::time::Now;

/// How a ring is, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStatus {
    /// The number of the version that the node has seen; `None` before the first.
    pub seq: Option<u64>,
    /// The number of the key set that follows from it: the `seq` of the JWKS.
    pub set_seq: Option<u64>,
    /// By name: every slot that the ring or the configuration has.
    pub slots: BTreeMap<String, SlotStatus>,
    /// By `kid`: every key of which there is more than a [tombstone](crate::state::Tombstone).
    pub keys: BTreeMap<String, KeyStatus>,
    /// What is alarming at present.
    pub alarms: Vec<Alarm>,
    /// Whether the node's clock is believed (I10).
    pub is_clock_sound: bool,
    /// What did not succeed the last time that it was tried, and why, in the words of whoever was asked.
    pub failing: BTreeMap<Work, Arc<str>>,
    /// The slots for which this node is making a key.
    pub making: Vec<String>,
}

/// How a slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotStatus {
    /// The `kid` that this node signs with, or why it does not.
    pub signs: Result<String, NotSigning>,
    /// The key that could take over at once.
    pub standby: Option<String>,
    /// When the slot is due to be rotated.
    pub rotates_at: Option<UnixTime>,
    /// Whether it is to be rotated as soon as there is a standby.
    pub is_rotation_wanted: bool,
    /// Whether a key of the slot signs anywhere, and if not, why; `None` before the state was read, or if the ring has
    /// no such slot yet.
    pub mode: Option<SlotMode>,
}

/// How a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStatus {
    /// Its slot.
    pub slot: String,
    /// What its tokens say in `alg`.
    pub algorithm: Option<Algorithm>,
    /// How far it has come.
    pub state: KeyState,
    /// When it was made, or adopted.
    pub announced_at: UnixTime,
    /// When it had been read back from where verifiers read.
    pub confirmed_at: Option<UnixTime>,
    /// When it began to sign.
    pub activated_at: Option<UnixTime>,
    /// When it was seen to sign no more.
    pub deactivated_at: Option<UnixTime>,
    /// What becomes of it next, if nobody orders anything, and when at the earliest; `None` where that hangs on
    /// something that has yet to happen.
    pub next: Option<(KeyState, UnixTime)>,
    /// Whether this node has its private part, tested.
    pub is_held: bool,
}

impl RingStatus {
    pub(super) fn of(desk: &Desk, report: &Report, config: &RingConfig, now: Now) -> Self {
        let ring = desk.ring.as_deref();
        let names = config.slots.iter().map(|slot| &slot.name);
        let names = names.chain(ring.into_iter().flat_map(|ring| ring.slots.keys()));
        let slots = names.map(|name| (name.clone(), SlotStatus::of(name, desk, config, now))).collect();
        let keys = ring.into_iter().flat_map(|ring| {
            ring.keys.iter().map(move |(kid, key)| (kid.clone(), KeyStatus::of(kid, key, ring, desk, config)))
        });
        Self {
            seq: ring.map(|ring| ring.seq),
            set_seq: ring.map(|ring| ring.set_seq),
            slots,
            keys: keys.collect(),
            alarms: report.alarms.clone(),
            is_clock_sound: report.is_clock_sound,
            failing: report.failing.clone(),
            making: report.making.clone(),
        }
    }

    /// When something is due next, as far as that is known.
    #[must_use]
    pub fn next_transition(&self) -> Option<UnixTime> {
        self.keys.values().filter_map(|key| key.next).map(|(_, at)| at).min()
    }
}

impl SlotStatus {
    fn of(name: &str, desk: &Desk, config: &RingConfig, now: Now) -> Self {
        let ring = desk.ring.as_deref();
        let slot = ring.and_then(|ring| ring.slots.get(name));
        let standby = ring.and_then(|ring| ring.keys_in(name, KeyState::Standby).next());
        Self {
            signs: desk.view.leave(name, now).map(|leave| leave.kid.to_owned()),
            standby: standby.map(|(kid, _)| kid.clone()),
            rotates_at: ring.and_then(|ring| rotates_at(ring, name, config.timing.rotation)),
            is_rotation_wanted: slot.is_some_and(|slot| slot.rotate_requested),
            mode: slot.map(|slot| slot.mode),
        }
    }
}

impl KeyStatus {
    fn of(kid: &str, key: &Key, ring: &RingState, desk: &Desk, config: &RingConfig) -> Self {
        let rotation = config.timing.rotation;
        let next = match key.state {
            KeyState::Announced => key.ready_at(&ring.terms).map(|at| {
                let signs = ring.active(&key.slot).is_some();
                (if signs { KeyState::Standby } else { KeyState::Active }, at)
            }),
            KeyState::Standby => rotates_at(ring, &key.slot, rotation).map(|at| (KeyState::Active, at)),
            KeyState::Active => rotates_at(ring, &key.slot, rotation).map(|at| (KeyState::Retiring, at)),
            KeyState::Retiring => key.removable_at(&ring.terms, ring.lifetime(key)).map(|at| (KeyState::Retired, at)),
            _ => None,
        };
        Self {
            slot: key.slot.clone(),
            algorithm: algorithm_of(&key.jwk),
            state: key.state,
            announced_at: key.announced_at,
            confirmed_at: key.confirmed_at,
            activated_at: key.activated_at,
            deactivated_at: key.deactivated_at,
            next,
            is_held: desk.signers.contains_key(kid),
        }
    }
}

/// `R` after its key began to sign; earlier if that key has to be gone.
pub(super) fn rotates_at(ring: &RingState, slot: &str, rotation: Duration) -> Option<UnixTime> {
    let (_, key) = ring.active(slot)?;
    let regular = key.activated_at?.saturating_add(rotation);
    let last_token = ring.terms.last_token(ring.lifetime(key));
    Some(key.remove_at.map_or(regular, |at| regular.min(at.saturating_sub(last_token))))
}
