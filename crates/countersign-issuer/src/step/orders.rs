//! What operators want, carried out on a draft.

use std::time::Duration;

use super::draft::{Draft, Knowledge};
use super::{Adopted, Command, Compromised, Order, Refusal, Reply};
use crate::state::{Halt, Key, KeyState, SlotMode, Tombstone};

impl Draft {
    pub(super) fn obey(&mut self, know: &Knowledge<'_>) {
        for order in &know.orders {
            if self.base.done.contains(&order.name) {
                self.answers.push((order.id, Reply::Done));
                continue;
            }
            let result = match &order.command {
                // It tells no time, and waits for none.
                Command::Compromise { which, sign_at_once } => self.compromise(which, *sign_at_once, know),
                _ if !know.is_sound => continue,
                Command::Rotate { slots } => self.rotate_now(slots, know),
                Command::Abandon { kid } => self.abandon_now(kid),
                Command::Adopt { keys } => self.adopt(keys, know),
            };
            self.conclude(order, result);
        }
    }

    fn conclude(&mut self, order: &Order, result: Result<Reply, Refusal>) {
        match result {
            Ok(reply) => self.replies.push((order.id, order.name.clone(), reply)),
            Err(refusal) => self.answers.push((order.id, Reply::Refused(refusal))),
        }
    }

    fn rotate_now(&mut self, slots: &[String], know: &Knowledge<'_>) -> Result<Reply, Refusal> {
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for slot in self.slots_of(slots)? {
            if self.rotate(&slot, know) {
                now.push(slot);
            } else {
                if let Some(entry) = self.state.slots.get_mut(&slot) {
                    entry.rotate_requested = true;
                }
                later.push(slot);
            }
        }
        Ok(Reply::Rotated { now, later })
    }

    /// These; all if there is none.
    fn slots_of(&self, slots: &[String]) -> Result<Vec<String>, Refusal> {
        match slots.iter().find(|slot| !self.state.slots.contains_key(*slot)) {
            Some(slot) => Err(Refusal::NoSuchSlot(slot.clone())),
            None if slots.is_empty() => Ok(self.state.slots.keys().cloned().collect()),
            None => Ok(slots.to_vec()),
        }
    }

    fn compromise(&mut self, which: &Compromised, sign_at_once: bool, know: &Knowledge<'_>) -> Result<Reply, Refusal> {
        let kids: Vec<String> = match which {
            Compromised::All => self.state.keys.keys().cloned().collect(),
            Compromised::Key(kid) if self.state.fate(kid).is_some() => vec![kid.clone()],
            Compromised::Key(kid) => return Err(Refusal::NoSuchKey(kid.clone())),
            Compromised::Signing(slots) => {
                let slots = self.slots_of(slots)?;
                slots.iter().filter_map(|slot| self.state.active(slot)).map(|(kid, _)| kid.to_owned()).collect()
            }
        };
        for kid in &kids {
            self.end(kid, KeyState::Revoked);
            if let Some(tombstone) = self.state.tombstones.get_mut(kid) {
                *tombstone = Tombstone { state: KeyState::Revoked, ..tombstone.clone() };
            }
        }
        let mut halted = Vec::new();
        for slot in self.state.slots.keys().cloned().collect::<Vec<_>>() {
            if self.state.active(&slot).is_some() {
                continue;
            }
            if let Some(standby) = self.standby(&slot, know) {
                self.activate(&slot, &standby, know);
            } else if let Some(entry) = self.state.slots.get_mut(&slot) {
                if entry.mode == SlotMode::Running || which == &Compromised::All {
                    entry.mode = SlotMode::Halted { reason: Halt::Compromised, sign_at_once };
                }
                halted.push(slot);
            }
        }
        Ok(Reply::Revoked { kids, exposure: self.state.terms.exposure(know.config.timing.fan_out), halted })
    }

    fn abandon_now(&mut self, kid: &str) -> Result<Reply, Refusal> {
        match self.state.fate(kid) {
            Some(KeyState::Announced | KeyState::Standby) => {
                self.end(kid, KeyState::Abandoned);
                Ok(Reply::Abandoned)
            }
            Some(_) => Err(Refusal::WrongState(kid.to_owned())),
            None => Err(Refusal::NoSuchKey(kid.to_owned())),
        }
    }

    fn adopt(&mut self, keys: &[Adopted], know: &Knowledge<'_>) -> Result<Reply, Refusal> {
        let before = self.state.clone();
        let result = keys.iter().try_for_each(|key| self.adopt_one(key, know));
        let result = result.and_then(|()| if self.fits(know) { Ok(()) } else { Err(Refusal::TooManyKeys) });
        match result {
            Ok(()) => {
                self.has_adopted = true;
                Ok(Reply::Adopted)
            }
            Err(refusal) => {
                self.state = before;
                Err(refusal)
            }
        }
    }

    fn adopt_one(&mut self, adopted: &Adopted, know: &Knowledge<'_>) -> Result<(), Refusal> {
        let Adopted { slot, jwk, signs, tokens_until, remove_at } = adopted;
        let Some(entry) = self.state.slots.get(slot) else { return Err(Refusal::NoSuchSlot(slot.clone())) };
        let kid = jwk.kid().to_owned();
        if self.state.fate(&kid).is_some() {
            return Err(Refusal::KidUsed(kid));
        }
        let is_next = |key: &Key| key.slot == *slot && key.state.needs_private();
        if *signs && (entry.mode == SlotMode::Running || self.state.keys.values().any(is_next)) {
            return Err(Refusal::SlotTaken(slot.clone()));
        }
        let key = Key {
            slot: slot.clone(),
            jwk: jwk.clone(),
            state: if *signs { KeyState::Announced } else { KeyState::Retiring },
            maker: know.node.name.clone(),
            is_known: *signs,
            announced_at: self.now,
            confirmed_at: None,
            activated_at: None,
            deactivated_at: None,
            ended_at: None,
            promised_until: Some(millis_up(*tokens_until)),
            remove_at: remove_at.map(|at| countersign_claims::UnixTime::from_secs(at.as_secs())),
            destroyed: !*signs,
        };
        self.state.keys.insert(kid, key);
        Ok(())
    }
}

/// The state has milliseconds; a promise is not cut short by them.
fn millis_up(time: countersign_claims::UnixTime) -> countersign_claims::UnixTime {
    let whole = countersign_claims::UnixTime::from_secs(time.as_secs());
    if time == whole { time } else { whole.saturating_add(Duration::from_secs(1)) }
}
