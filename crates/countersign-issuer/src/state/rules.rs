use std::fmt;

use super::{KeyState, RingState, SlotMode};

/// What a state, or the step from one version to the next, must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A running slot with no active key or several, or a halted one with any (I2).
    Actives {
        /// Which.
        slot: String,
        /// How many.
        count: usize,
    },
    /// A key of a slot that is not there.
    NoSlot(String),
    /// A key under a name that its JWK does not have.
    Misnamed(String),
    /// A key that is buried and lives.
    Undead(String),
    /// A buried key in a state in which none is.
    BuriedAlive(String),
    /// `seq` did not grow by one, or `set_seq` does not fit (I8).
    Sequence,
    /// A key that went from one state to another that cannot follow.
    Backwards {
        /// Which.
        kid: String,
        /// From where.
        from: KeyState,
        /// To where.
        to: KeyState,
    },
    /// A key that has vanished, or a name that was used before.
    Vanished(String),
    /// A quantity that all nodes hold to has become less.
    Lowered,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Actives { slot, count } => write!(f, "slot `{slot}` has {count} active keys"),
            Self::NoSlot(kid) => write!(f, "key {kid} belongs to no slot"),
            Self::Misnamed(kid) => write!(f, "key {kid} has another name in its JWK"),
            Self::Undead(kid) => write!(f, "key {kid} is buried and in use"),
            Self::BuriedAlive(kid) => write!(f, "key {kid} is buried before it has ended"),
            Self::Sequence => f.write_str("the numbers of versions do not follow"),
            Self::Backwards { kid, from, to } => write!(f, "key {kid} went from {from:?} to {to:?}"),
            Self::Vanished(kid) => write!(f, "key {kid} is gone"),
            Self::Lowered => f.write_str("a quantity that others rely on was lowered"),
        }
    }
}

impl std::error::Error for Violation {}

impl RingState {
    /// Whether the state contradicts itself.
    ///
    /// # Errors
    /// How.
    pub fn check(&self) -> Result<(), Violation> {
        for (name, slot) in &self.slots {
            let count = self.keys_in(name, KeyState::Active).count();
            if count != usize::from(slot.mode == SlotMode::Running) {
                return Err(Violation::Actives { slot: name.clone(), count });
            }
        }
        for (kid, key) in &self.keys {
            if !self.slots.contains_key(&key.slot) {
                return Err(Violation::NoSlot(kid.clone()));
            }
            if key.jwk.kid() != kid {
                return Err(Violation::Misnamed(kid.clone()));
            }
            if self.tombstones.contains_key(kid) {
                return Err(Violation::Undead(kid.clone()));
            }
        }
        match self.tombstones.iter().find(|(_, tombstone)| !tombstone.state.is_terminal()) {
            Some((kid, _)) => Err(Violation::BuriedAlive(kid.clone())),
            None if self.set_seq > self.seq => Err(Violation::Sequence),
            None => Ok(()),
        }
    }

    /// Whether this version may come after that one.
    ///
    /// # Errors
    /// Why not.
    pub fn check_after(&self, before: &Self) -> Result<(), Violation> {
        self.check()?;
        let same_set =
            self.published().map(|(kid, key)| (kid, &key.jwk)).eq(before.published().map(|(kid, key)| (kid, &key.jwk)));
        let set_seq = if same_set { before.set_seq } else { self.seq };
        if before.seq.checked_add(1) != Some(self.seq) || self.set_seq != set_seq {
            return Err(Violation::Sequence);
        }
        for (kid, key) in &before.keys {
            let to = self.fate(kid).ok_or_else(|| Violation::Vanished(kid.clone()))?;
            if !key.state.may_become(to) {
                return Err(Violation::Backwards { kid: kid.clone(), from: key.state, to });
            }
        }
        if let Some(kid) = before.tombstones.keys().find(|kid| self.keys.contains_key(*kid)) {
            return Err(Violation::Vanished(kid.clone()));
        }
        if self.terms.join(before.terms) != self.terms {
            return Err(Violation::Lowered);
        }
        for (name, slot) in &before.slots {
            if self.slots.get(name).is_none_or(|now| now.max_lifetime < slot.max_lifetime) {
                return Err(Violation::Lowered);
            }
        }
        Ok(())
    }
}
