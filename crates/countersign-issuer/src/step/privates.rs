//! What is made of answers about private parts.

use super::answers::FAILURES_TO_ALARM;
use super::{Alarm, Effect, Failure, Hand, OpenFailure, Rule, Task, Turn};
use crate::state::{KeyState, PublicJwk};

impl Turn<'_> {
    pub(super) fn generated(&mut self, slot: String, key: Option<PublicJwk>) {
        let failures = self.finish(&Task::Generate(slot.clone()), key.is_some());
        self.set(Alarm::GenerationFailing(slot.clone()), failures > 0);
        if self.node.is_ending {
            // It is announced by nobody, so nobody misses it.
            return self.effects.extend(key.map(|jwk| Effect::Forget { kid: jwk.kid().to_owned() }));
        }
        if let Some(unused) = key.and_then(|jwk| self.node.pool.insert(slot, jwk)) {
            self.effects.push(Effect::Forget { kid: unused.kid().to_owned() });
        }
    }

    /// Step 5. What is in doubt is settled by reading the blob again, which is done in any case.
    pub(super) fn sealed(&mut self, kid: &str, result: Result<(), Failure>) {
        let is_answered = matches!(result, Ok(()) | Err(Failure::Conflict | Failure::Unknown));
        let failures = self.finish(&Task::Seal(kid.to_owned()), is_answered);
        if is_answered {
            if let Some(hand) = self.node.hands.get_mut(kid) {
                *hand = Hand::Stored;
            }
            self.clear(|alarm| *alarm == Alarm::PrivateStoreFailed(kid.to_owned()));
        } else if failures > 0 {
            self.raise(Alarm::PrivateStoreFailed(kid.to_owned()));
        }
        if result == Err(Failure::Conflict) && self.node.breaks(Rule::ConflictIsDoubted) {
            self.node.spoilt.insert(kid.to_owned(), OpenFailure::Mismatch);
        }
        // It came too late: the key was given up meanwhile, and its private part destroyed before it was there.
        let fate = self.node.view.as_ref().and_then(|view| view.ring.fate(kid));
        if fate.is_some_and(KeyState::is_terminal) {
            self.ask(Task::Destroy(kid.to_owned()), Effect::Destroy { kid: kid.to_owned() });
        }
    }

    /// Step 6.
    pub(super) fn opened(&mut self, kid: &str, result: Result<(), OpenFailure>) {
        self.finish(&Task::Open(kid.to_owned()), result.is_ok());
        let is_counted_as_missing = match result {
            Ok(()) => {
                self.node.hands.insert(kid.to_owned(), Hand::Ready);
                self.node.missing.remove(kid);
                self.node.spoilt.remove(kid);
                self.clear(
                    |alarm| matches!(alarm, Alarm::PrivateUnavailable(it, _) | Alarm::PrivateMissing(it) if it == kid),
                );
                return;
            }
            Err(OpenFailure::NotFound) => true,
            Err(_) => self.node.breaks(Rule::OnlyMissingRotates),
        };
        let state = self.node.view.as_ref().and_then(|view| view.ring.fate(kid));
        if is_counted_as_missing {
            let is_announced = state == Some(KeyState::Announced);
            self.node.missing.entry(kid.to_owned()).or_insert((is_announced, 0)).1 += 1;
            if self.node.hands.get(kid) == Some(&Hand::Stored) {
                // It was not stored after all; it is still in memory.
                self.node.hands.insert(kid.to_owned(), Hand::Fresh);
            } else if state.is_some_and(|state| state != KeyState::Announced && state.needs_private()) {
                self.raise(Alarm::PrivateMissing(kid.to_owned()));
            }
        } else if let Err(failure) = result {
            self.node.missing.remove(kid);
            if matches!(failure, OpenFailure::Mismatch | OpenFailure::Undecryptable) {
                self.node.spoilt.insert(kid.to_owned(), failure);
            }
            if state.is_some_and(KeyState::needs_private) {
                self.raise(Alarm::PrivateUnavailable(kid.to_owned(), failure));
            }
        }
    }

    /// Step 9.
    pub(super) fn destroyed(&mut self, kid: &str, result: Result<(), Failure>) {
        let is_gone = matches!(result, Ok(()) | Err(Failure::NotFound));
        let failures = self.finish(&Task::Destroy(kid.to_owned()), is_gone);
        if is_gone {
            self.node.destroyed.insert(kid.to_owned());
        }
        self.set(Alarm::DestroyFailing(kid.to_owned()), failures >= FAILURES_TO_ALARM);
    }

    pub(super) fn listed(&mut self, result: Result<Vec<String>, Failure>) {
        self.finish(&Task::List, result.is_ok());
        self.pause(&Task::List, self.config.timing.heartbeat);
        if let Ok(kids) = result {
            self.node.listed = Some(kids);
            self.node.load_due = self.now.monotonic;
        }
    }
}
