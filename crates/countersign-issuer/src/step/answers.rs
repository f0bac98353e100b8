//! What is made of what comes back; here of the state, and of what is left undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::work::lacks_next;
use super::{
    Alarm, Command, Effect, Event, Failure, Hand, Loaded, Note, Order, Progress, Reply, Rule, Task, Traffic, Turn,
    Version, View, Write,
};
use crate::state::{KeyState, PublicJwk, RingState};
use crate::time::Now;

/// So many failures in a row are more than a hiccup.
pub(super) const FAILURES_TO_ALARM: u32 = 3;

/// What failed is tried again after a tick, two, four, and then eight each time.
const MAX_BACKOFF_DOUBLINGS: u32 = 3;

impl Turn<'_> {
    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::End => {
                self.node.is_ending = true;
                // What was announced is waited for, and what was read back last was another key.
                if let Some(progress) = self.node.tasks.get_mut(&Task::ReadBack) {
                    progress.not_before = self.now.monotonic;
                }
            }
            Event::Command { id, command } => self.take_order(id, command),
            Event::Loaded(result) => self.loaded(result),
            Event::Saved(result) => self.saved(result),
            Event::Generated { slot, key } => self.generated(slot, key),
            Event::PublishedRead(result) => self.published_read(result),
            Event::Published(result) => self.published(&result),
            Event::ReadBack(result) => self.read_back(&result),
            Event::Sealed { kid, result } => self.sealed(&kid, result),
            Event::Opened { kid, result } => self.opened(&kid, result),
            Event::Destroyed { kid, result } => self.destroyed(&kid, result),
            Event::SealedListed(result) => self.listed(result),
            Event::RevocationPushed { kid, is_done } => {
                let failures = self.finish(&Task::Push(kid.clone()), is_done);
                if !is_done {
                    self.node.pushed.remove(&kid);
                }
                self.set(Alarm::RevocationFailing(kid), failures > 0);
            }
        }
    }

    fn take_order(&mut self, id: u64, command: Command) {
        self.node.writes += 1;
        let name = format!("{}-{}", self.node.name, self.node.writes);
        self.node.orders.push(Order { id, name, command, since: self.now, was_doubtful: false });
        // Orders are carried out on a state that was read after they came.
        self.node.load_due = self.now.monotonic;
    }

    fn loaded(&mut self, result: Result<Loaded, Failure>) {
        let Traffic::Loading { sent } = std::mem::replace(&mut self.node.traffic, Traffic::Idle) else { return };
        match result {
            Ok(loaded) => {
                self.node.load_failures = 0;
                // What was ordered meanwhile needs a look that begins now.
                let is_awaited = self.node.orders.iter().any(|order| order.since.monotonic > sent.monotonic);
                let wait = if is_awaited { Duration::ZERO } else { self.config.timing.tick };
                self.node.load_due = self.now.monotonic.saturating_add(wait);
                if self.node.save_failures == 0 {
                    self.clear(|alarm| matches!(alarm, Alarm::StoreFailing(_)));
                }
                self.node.clock.compare(sent, self.now, &loaded, self.config.timing.clock_error);
                let is_sound = self.node.is_clock_sound();
                self.set(Alarm::ClockUnsound, !is_sound);
                self.resolve(sent, loaded);
                self.after_view();
            }
            Err(failure) => {
                self.node.load_failures = self.node.load_failures.saturating_add(1);
                let wait = backoff(self.config.timing.tick, self.node.load_failures.saturating_sub(1));
                self.node.load_due = self.now.monotonic.saturating_add(wait);
                self.state_failed(failure, self.node.load_failures);
            }
        }
    }

    fn state_failed(&mut self, failure: Failure, failures: u32) {
        if failures >= FAILURES_TO_ALARM || matches!(failure, Failure::Denied | Failure::Unreadable) {
            self.raise(Alarm::StoreFailing(failure));
        }
    }

    /// What the state that was read says about a write whose answer was doubtful, and whether it is one that may be
    /// believed.
    fn resolve(&mut self, sent: Now, loaded: Loaded) {
        let doubt = self.node.doubt.take();
        let terms = (&self.config.timing).into();
        let (ring, version) = match loaded.state {
            Some((ring, version)) => (ring, Some(version)),
            None => (Arc::new(RingState::empty(terms)), None),
        };
        let is_mine = |write: &Write| {
            if self.node.breaks(Rule::NonceIsCompared) {
                write.state.seq == ring.seq
            } else {
                write.state.nonce == ring.nonce
            }
        };
        match doubt {
            Some(write) if is_mine(&write) => {
                self.effects.push(Effect::Note(Note::DoubtResolved));
                self.succeed(write, version, sent);
                return;
            }
            Some(write) => {
                // Another has written since; but mine may lie underneath, and then it has been done.
                for (id, name, reply) in write.replies {
                    if ring.done.contains(&name) {
                        self.reply(id, reply);
                    } else if let Some(order) = self.node.orders.iter_mut().find(|order| order.id == id) {
                        order.was_doubtful = true;
                    }
                }
                if ring.seq >= write.state.seq {
                    self.effects.push(Effect::Note(Note::LostRace));
                }
            }
            None => {}
        }
        let known = self.node.memory.clone().or_else(|| self.node.view.as_ref().map(|view| view.ring.clone()));
        let has_regressed = known.as_ref().is_some_and(|known| has_regressed(known, &ring));
        if has_regressed && !std::mem::replace(&mut self.node.is_regress_suspected, true) {
            // Once more, before anything is said of it.
            self.node.load_due = self.now.monotonic;
            return;
        }
        self.node.is_regress_suspected = false;
        self.node.memory = if has_regressed { known.clone() } else { None };
        self.set(Alarm::StateRolledBack, has_regressed);
        if known.is_none_or(|known| known.seq < ring.seq) {
            self.effects.push(Effect::Note(Note::Seen { seq: ring.seq }));
        }
        self.node.view = Some(View { ring, version, read_at: sent });
    }

    fn saved(&mut self, result: Result<Version, Failure>) {
        let Traffic::Saving { sent, write } = std::mem::replace(&mut self.node.traffic, Traffic::Idle) else { return };
        match result {
            Ok(version) => {
                self.succeed(write, Some(version), sent);
                self.after_view();
            }
            Err(Failure::Conflict) if self.node.breaks(Rule::ConflictIsDoubted) => {
                self.effects.push(Effect::Note(Note::LostRace));
                for (_, jwk) in std::mem::take(&mut self.node.pool) {
                    self.effects.push(Effect::Forget { kid: jwk.kid().to_owned() });
                }
                self.node.load_due = self.now.monotonic;
            }
            Err(Failure::Conflict | Failure::Unknown) => {
                // Who loses one race is in the next at once; who goes on losing makes room.
                let salt = write.state.seq.wrapping_add(u64::from(self.node.save_failures));
                let wait = self.spread(salt, self.config.timing.tick / 2) * self.node.save_failures.min(2);
                self.node.save_failures = self.node.save_failures.saturating_add(1);
                self.node.save_due = self.now.monotonic.saturating_add(wait);
                self.node.doubt = Some(write);
                self.node.load_due = self.now.monotonic;
            }
            Err(failure) => {
                let wait = backoff(self.config.timing.tick, self.node.save_failures);
                self.node.save_failures = self.node.save_failures.saturating_add(1);
                self.node.save_due = self.now.monotonic.saturating_add(wait);
                self.state_failed(failure, self.node.save_failures);
            }
        }
    }

    /// A write of this node's is the state, or was.
    fn succeed(&mut self, write: Write, version: Option<Version>, sent: Now) {
        (self.node.load_failures, self.node.save_failures, self.node.save_due) = (0, 0, Duration::ZERO);
        self.clear(|alarm| matches!(alarm, Alarm::StoreFailing(_)));
        if self.node.memory.take().is_some() {
            self.clear(|alarm| *alarm == Alarm::StateRolledBack);
        }
        self.node.is_regress_suspected = false;
        let before = self.node.view.as_ref().map(|view| view.ring.clone());
        let before = |kid: &str| before.as_ref().and_then(|ring| ring.fate(kid));
        let ring = write.state;
        let fates = ring.keys.iter().map(|(kid, key)| (kid, key.state));
        let fates = fates.chain(ring.tombstones.iter().map(|(kid, tombstone)| (kid, tombstone.state)));
        let moves = fates.filter(|(kid, state)| before(kid) != Some(*state));
        let moves = moves.map(|(kid, state)| (kid.clone(), state)).collect();
        self.effects.push(Effect::Note(Note::Saved { seq: ring.seq, moves }));
        for (id, _, reply) in write.replies {
            self.reply(id, reply);
        }
        self.node.view = Some(View { ring, version, read_at: sent });
    }

    pub(super) fn reply(&mut self, id: u64, reply: Reply) {
        let orders = self.node.orders.len();
        self.node.orders.retain(|order| order.id != id);
        if self.node.orders.len() < orders {
            self.effects.push(Effect::Reply { id, reply });
        }
    }

    /// What follows from a state that was just seen or written.
    fn after_view(&mut self) {
        let Some(view) = &self.node.view else { return };
        let ring = view.ring.clone();
        self.sort_pool(&ring);
        if let Some(ahead) = self.node.ahead.take() {
            self.set(Alarm::SetAhead, ring.set_seq < ahead);
        }
        self.node.seen.retain(|kid, _| ring.keys.get(kid).is_some_and(|key| key.confirmed_at.is_none()));
        self.node.missing.retain(|kid, (was_announced, _)| {
            let state = ring.keys.get(kid).map(|key| key.state);
            state.is_some_and(|state| state.needs_private() && (state == KeyState::Announced) == *was_announced)
        });
        self.node.spoilt.retain(|kid, _| ring.keys.get(kid).is_some_and(|key| key.state.needs_private()));
        self.node.destroyed.retain(|kid| ring.keys.get(kid).is_some_and(|key| !key.destroyed));
        self.node.pushed.retain(|kid, _| ring.fate(kid) == Some(KeyState::Revoked));
        self.node.tasks.retain(|task, progress| {
            progress.is_under_way
                || match task {
                    Task::Seal(kid) | Task::Open(kid) | Task::Destroy(kid) => ring.keys.contains_key(kid),
                    _ => true,
                }
        });
        let is_over = |kid: &String| !ring.keys.get(kid).is_some_and(|key| key.state.needs_private());
        self.clear(|alarm| match alarm {
            Alarm::PrivateStoreFailed(kid) | Alarm::PrivateUnavailable(kid, _) | Alarm::PrivateMissing(kid) => {
                is_over(kid)
            }
            Alarm::DestroyFailing(kid) => ring.keys.get(kid).is_none_or(|key| key.destroyed),
            _ => false,
        });
    }

    /// What was made and is in the state by now, by a write that one may not even know has landed, is held; what came
    /// too late is dropped. A write of it that is still under way cannot land
    /// any more, because the version has changed.
    fn sort_pool(&mut self, ring: &RingState) {
        for (kid, key) in &ring.keys {
            let is_in_memory = key.state == KeyState::Announced && key.maker == self.node.name;
            if is_in_memory && !self.node.hands.contains_key(kid) {
                self.node.hands.insert(kid.clone(), Hand::Fresh);
            }
        }
        let is_of_use = |slot: &String, jwk: &PublicJwk| ring.fate(jwk.kid()).is_none() && lacks_next(ring, slot);
        let (pool, late): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.node.pool).into_iter().partition(|(slot, jwk)| is_of_use(slot, jwk));
        self.node.pool = pool;
        let late = late.into_values().filter(|jwk| !self.node.hands.contains_key(jwk.kid()));
        self.effects.extend(late.map(|jwk| Effect::Forget { kid: jwk.kid().to_owned() }));
    }

    /// Asks the shell for something, unless it was asked already or has failed too recently.
    pub(super) fn ask(&mut self, task: Task, effect: Effect) -> bool {
        let progress = self.node.tasks.entry(task).or_default();
        if progress.is_under_way || progress.not_before > self.now.monotonic {
            return false;
        }
        progress.is_under_way = true;
        self.effects.push(effect);
        true
    }

    /// How often in a row it has failed by now.
    pub(super) fn finish(&mut self, task: &Task, is_done: bool) -> u32 {
        if is_done {
            self.node.tasks.remove(task);
            return 0;
        }
        let wait = self.node.tasks.get(task).map_or(0, |progress| progress.failures);
        let not_before = self.now.monotonic.saturating_add(backoff(self.config.timing.tick, wait));
        let failures = wait.saturating_add(1);
        self.node.tasks.insert(task.clone(), Progress { is_under_way: false, failures, not_before });
        failures
    }

    pub(super) fn pause(&mut self, task: &Task, wait: Duration) {
        let progress = self.node.tasks.entry(task.clone()).or_default();
        progress.not_before = progress.not_before.max(self.now.monotonic.saturating_add(wait));
    }
}

fn backoff(tick: Duration, failures: u32) -> Duration {
    tick * (1 << failures.min(MAX_BACKOFF_DOUBLINGS))
}

/// Whether `found` cannot have come after `known`.
fn has_regressed(known: &RingState, found: &RingState) -> bool {
    let is_older = found.seq < known.seq || (found.seq == known.seq && found.nonce != known.nonce);
    // A tombstone may have been dropped to make room; a key that was not buried is never dropped.
    is_older || known.keys.iter().any(|(kid, key)| found.fate(kid).is_none_or(|state| state < key.state))
}
