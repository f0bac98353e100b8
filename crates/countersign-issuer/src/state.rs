//! The one document that says what there is: every slot, every key, and where each of them is in its life. To rotate is
//! to write it; everything else, the JWKS included, follows from it.

mod codec;
mod join;
mod jwk;
mod key;
mod rules;
mod terms;

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_claims::UnixTime;
use serde::{Deserialize, Serialize};

pub use codec::{SCHEMA, StateError};
pub use jwk::{JwkError, PublicJwk};
pub use key::{Key, KeyState};
pub use rules::Violation;
pub use terms::Terms;

use crate::time::{millis, unix_millis};

/// Tombstones of keys that were retired or abandoned; of more, the oldest go. A `kid` is the thumbprint of a key that
/// nobody has any more, so the only way back is that an operator adopts the same key again, which has to be recent
/// enough to be tempting. Two years and more of one slot that rotates daily.
pub const MAX_TOMBSTONES: usize = 1_024;

/// Tombstones of keys that were revoked. They are kept for ever, up to a number that no incident comes near: a hundred
/// a year for forty years. What is dropped then is the oldest whose tokens have expired.
pub const MAX_REVOKED: usize = 4_096;

/// How many commands are remembered as done, so that one whose answer was lost is not done twice.
pub(crate) const MAX_DONE: usize = 32;

/// The state of a ring, in one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingState {
    /// Which members there are and what they mean.
    pub schema: u32,
    /// Grows by one with each version.
    pub seq: u64,
    /// The version in which the published set was last another; the `seq` of the JWKS.
    pub set_seq: u64,
    /// Whose write this was, and which of his: unlike that of any other version.
    pub nonce: String,
    /// When it was prepared, by its writer's clock; never less than in the version before.
    #[serde(with = "unix_millis")]
    pub written_at: UnixTime,
    /// What all nodes of the ring hold to.
    pub terms: Terms,
    /// By name.
    pub slots: BTreeMap<String, SlotState>,
    /// By `kid`: every key that is not buried yet: it lives, or has ended and its private part may still be stored.
    pub keys: BTreeMap<String, Key>,
    /// By `kid`: every key that is buried: it has ended, its private part is destroyed, and only its name is kept.
    pub tombstones: BTreeMap<String, Tombstone>,
    /// Who is at work. It saves work; nothing relies on it. It has nothing to do with `G`.
    pub lease: Option<Lease>,
    /// The names of the last commands that were done, oldest first.
    pub done: Vec<String>,
}

/// A slot, in one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotState {
    /// Whether it has an active key.
    pub mode: SlotMode,
    /// It is to be rotated as soon as there is a standby, whatever its age.
    pub rotate_requested: bool,
    /// `L`: no token of this slot may live longer, on any node.
    #[serde(with = "millis")]
    pub max_lifetime: Duration,
}

/// Whether a slot signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SlotMode {
    /// Exactly one key is active.
    Running,
    /// No key is.
    Halted {
        /// Why.
        reason: Halt,
        /// Its next key signs as soon as it was read back, before all caches can have it.
        sign_at_once: bool,
    },
}

/// Why a slot does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// It has never had a key.
    Starting,
    /// Its key was revoked, and there was no other.
    Compromised,
}

/// What is left of a key that has ended: its name is not used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Its slot.
    pub slot: String,
    /// How it ended: retired, abandoned or revoked.
    pub state: KeyState,
    /// When it ended.
    #[serde(with = "unix_millis")]
    pub ended_at: UnixTime,
    /// Until when tokens of it may be offered.
    #[serde(with = "unix_millis")]
    pub tokens_until: UnixTime,
}

/// Who is at work, and until when others need not be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The node.
    pub holder: String,
    /// By its clock.
    #[serde(with = "unix_millis")]
    pub until: UnixTime,
}

impl RingState {
    /// The ring before its first version.
    #[must_use]
    pub fn empty(terms: Terms) -> Self {
        Self {
            schema: SCHEMA,
            seq: 0,
            set_seq: 0,
            nonce: String::new(),
            written_at: UnixTime::from_secs(0),
            terms,
            slots: BTreeMap::new(),
            keys: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            lease: None,
            done: Vec::new(),
        }
    }

    /// The keys of a slot in a state, by `kid`.
    pub fn keys_in<'a>(&'a self, slot: &'a str, state: KeyState) -> impl Iterator<Item = (&'a String, &'a Key)> {
        self.keys.iter().filter(move |(_, key)| key.slot == slot && key.state == state)
    }

    /// The key that signs in that slot.
    #[must_use]
    pub fn active(&self, slot: &str) -> Option<(&String, &Key)> {
        self.keys.iter().find(|(_, key)| key.slot == slot && key.state == KeyState::Active)
    }

    /// The keys that belong into the JWKS, by `kid`.
    pub fn published(&self) -> impl Iterator<Item = (&String, &Key)> {
        self.keys.iter().filter(|(_, key)| key.state.is_published())
    }

    /// How far a key has come, buried or not; `None` of one that never was, or that is forgotten.
    #[must_use]
    pub fn fate(&self, kid: &str) -> Option<KeyState> {
        let buried = || self.tombstones.get(kid).map(|tombstone| tombstone.state);
        self.keys.get(kid).map(|key| key.state).or_else(buried)
    }

    /// The longest lifetime of a token of that key's slot.
    pub(crate) fn lifetime(&self, key: &Key) -> Duration {
        self.slots.get(&key.slot).map_or(Duration::ZERO, |slot| slot.max_lifetime)
    }

    /// Puts what has ended and has no private part any more where only its name is kept.
    pub(crate) fn bury(&mut self, now: UnixTime) {
        let dead =
            self.keys.iter().filter(|(_, key)| key.state.is_terminal() && key.destroyed && key.ended_at.is_some());
        let dead: Vec<_> = dead.map(|(kid, key)| (kid.clone(), self.tombstone(key, now))).collect();
        for (kid, tombstone) in dead {
            self.keys.remove(&kid);
            self.tombstones.insert(kid, tombstone);
        }
        self.forget_oldest(MAX_TOMBSTONES, now, |state| state != KeyState::Revoked);
        self.forget_oldest(MAX_REVOKED, now, |state| state == KeyState::Revoked);
    }

    fn tombstone(&self, key: &Key, now: UnixTime) -> Tombstone {
        let ended_at = key.ended_at.unwrap_or(now);
        // Whoever has signed with it did so no later than a lease after it had ended.
        let tokens_until = key.tokens_until(ended_at, &self.terms, self.lifetime(key));
        Tombstone { slot: key.slot.clone(), state: key.state, ended_at, tokens_until }
    }

    fn forget_oldest(&mut self, most: usize, now: UnixTime, which: impl Fn(KeyState) -> bool) {
        let of_kind = |(_, tombstone): &(&String, &Tombstone)| which(tombstone.state);
        let excess = self.tombstones.iter().filter(of_kind).count().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let harmless = self.tombstones.iter().filter(of_kind).filter(|(_, tombstone)| tombstone.tokens_until < now);
        let mut oldest: Vec<_> = harmless.map(|(kid, tombstone)| (tombstone.ended_at, kid.clone())).collect();
        oldest.sort_unstable();
        for (_, kid) in oldest.into_iter().take(excess) {
            self.tombstones.remove(&kid);
        }
    }
}

#[cfg(test)]
mod tests;
