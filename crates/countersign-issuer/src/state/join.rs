use countersign_claims::UnixTime;

use super::{Halt, Key, KeyState, RingState, SlotMode};

impl RingState {
    /// What follows from both: no key goes back, none is forgotten, and what is promised stays promised. For the case
    /// that an older document was put in the place
    /// of one that somebody remembers. It has the `seq` of the later one; whoever writes it counts on from there.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let (mut joined, earlier) = if self.seq >= other.seq { (self.clone(), other) } else { (other.clone(), self) };
        joined.terms = joined.terms.join(earlier.terms);
        joined.written_at = joined.written_at.max(earlier.written_at);
        for (name, slot) in &earlier.slots {
            let entry = joined.slots.entry(name.clone()).or_insert_with(|| slot.clone());
            entry.max_lifetime = entry.max_lifetime.max(slot.max_lifetime);
        }
        for (kid, tombstone) in &earlier.tombstones {
            let entry = joined.tombstones.entry(kid.clone()).or_insert_with(|| tombstone.clone());
            entry.state = entry.state.join(tombstone.state);
            entry.tokens_until = entry.tokens_until.max(tombstone.tokens_until);
        }
        for (kid, key) in &earlier.keys {
            match joined.keys.get_mut(kid) {
                Some(known) => *known = known.join(key),
                None => drop(joined.keys.insert(kid.clone(), key.clone())),
            }
        }
        for (kid, tombstone) in &joined.tombstones {
            joined.keys.remove(kid);
            debug_assert!(tombstone.state.is_terminal());
        }
        joined.settle_slots();
        joined
    }

    /// One active key for each slot at most: of several, the one that was activated last.
    fn settle_slots(&mut self) {
        for (name, slot) in &mut self.slots {
            let actives = self.keys.iter().filter(|(_, key)| key.slot == *name && key.state == KeyState::Active);
            let newest =
                actives.max_by_key(|(kid, key)| (key.activated_at, (*kid).clone())).map(|(kid, _)| kid.clone());
            for (kid, key) in &mut self.keys {
                if key.slot == *name && key.state == KeyState::Active && Some(kid) != newest.as_ref() {
                    key.state = KeyState::Retiring;
                    key.deactivated_at = None;
                }
            }
            slot.mode = match (newest, slot.mode) {
                (Some(_), _) => SlotMode::Running,
                (None, SlotMode::Running) => SlotMode::Halted { reason: Halt::Compromised, sign_at_once: false },
                (None, halted) => halted,
            };
        }
    }
}

impl Key {
    /// The later state, and of each time the one that makes everybody wait longer.
    fn join(&self, other: &Self) -> Self {
        let later = |a: Option<UnixTime>, b: Option<UnixTime>| a.max(b);
        Self {
            slot: self.slot.clone(),
            jwk: self.jwk.clone(),
            state: self.state.join(other.state),
            maker: self.maker.clone(),
            is_known: self.is_known && other.is_known,
            announced_at: self.announced_at.max(other.announced_at),
            confirmed_at: later(self.confirmed_at, other.confirmed_at),
            activated_at: later(self.activated_at, other.activated_at),
            deactivated_at: later(self.deactivated_at, other.deactivated_at),
            ended_at: later(self.ended_at, other.ended_at),
            promised_until: later(self.promised_until, other.promised_until),
            remove_at: match (self.remove_at, other.remove_at) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            },
            destroyed: self.destroyed || other.destroyed,
        }
    }
}
