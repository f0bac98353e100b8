//! What is made of what comes back.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Alarm, Command, Effect, Event, Failure, Hand, Loaded, Note, OpenFailure, Order, Progress, PublishedSet, Reply,
    Rule, StoreVersion, Task, Traffic, Turn, View, Write,
};
use crate::publication::{Found, Publication};
use crate::state::{KeyState, PublicJwk, RingState};
use crate::time::Now;

/// So many failures in a row are more than a hiccup.
const FAILURES_TO_ALARM: u32 = 3;

/// What failed is tried again after a tick, two, four, and then eight each time.
const MAX_BACKOFF_DOUBLINGS: u32 = 3;

impl Turn<'_> {
    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Command { id, command } => self.take_order(id, command),
            Event::Loaded(result) => self.loaded(result),
            Event::Saved(result) => self.saved(result),
            Event::Generated { slot, key } => self.generated(slot, key),
            Event::PublishedRead(result) => self.published_read(result),
            Event::Published(result) => self.published(result),
            Event::ReadBack(result) => self.read_back(&result),
            Event::Sealed { kid, result } => self.sealed(&kid, result),
            Event::Opened { kid, result } => self.opened(&kid, result),
            Event::Destroyed { kid, result } => self.destroyed(&kid, result),
            Event::SealedListed(result) => self.listed(result),
            Event::RevocationPushed { kid, is_done } => {
                let failures = self.finish(&Task::Push(kid.clone()), is_done);
                if is_done {
                    self.node.pushed.insert(kid.clone());
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
                self.node.load_due = self.now.monotonic.saturating_add(self.config.timing.tick);
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

    /// What the state that was read says about a write whose answer was doubtful, and whether it is one that may be believed.
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

    fn saved(&mut self, result: Result<StoreVersion, Failure>) {
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
    fn succeed(&mut self, write: Write, version: Option<StoreVersion>, sent: Now) {
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
        for (kid, key) in &ring.keys {
            let is_in_memory = key.state == KeyState::Announced && key.maker == self.node.name;
            if is_in_memory && !self.node.hands.contains_key(kid) {
                self.node.hands.insert(kid.clone(), Hand::Fresh);
                self.node.pool.retain(|_, jwk| jwk.kid() != kid);
            }
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
        if let Some(ahead) = self.node.ahead.take() {
            self.set(Alarm::SetAhead, ring.set_seq < ahead);
        }
        self.node.seen.retain(|kid, _| ring.keys.get(kid).is_some_and(|key| key.confirmed_at.is_none()));
        self.node.missing.retain(|kid, (was_announced, _)| {
            let state = ring.keys.get(kid).map(|key| key.state);
            state.is_some_and(|state| state.needs_private() && (state == KeyState::Announced) == *was_announced)
        });
        self.node.spoilt.retain(|kid| ring.keys.get(kid).is_some_and(|key| key.state.needs_private()));
        self.node.destroyed.retain(|kid| ring.keys.get(kid).is_some_and(|key| !key.destroyed));
        self.node.pushed.retain(|kid| ring.fate(kid) == Some(KeyState::Revoked));
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

    fn generated(&mut self, slot: String, key: Option<PublicJwk>) {
        let failures = self.finish(&Task::Generate(slot.clone()), key.is_some());
        self.set(Alarm::GenerationFailing(slot.clone()), failures > 0);
        if let Some(jwk) = key {
            if let Some(unused) = self.node.pool.insert(slot, jwk) {
                self.effects.push(Effect::Forget { kid: unused.kid().to_owned() });
            }
        }
    }

    fn published_read(&mut self, result: Result<Option<(Arc<[u8]>, StoreVersion)>, Failure>) {
        let failures = self.finish(&Task::ReadPublished, result.is_ok());
        let read = match result {
            Ok(read) => read,
            Err(failure) => return self.publish_failed(failure, failures),
        };
        let checked_at = self.now.monotonic;
        let Some((bytes, version)) = read else {
            let none = PublishedSet {
                seq: None,
                kids: Vec::new(),
                version: None,
                checked_at,
                is_fresh: true,
                is_edited: false,
            };
            self.node.published = Some(none);
            return;
        };
        let found = Found::read(&bytes);
        let ring = self.node.view.as_ref().map(|view| view.ring.clone());
        let own = ring.as_ref().and_then(|ring| Publication::of(ring, self.config, self.now.wall).ok());
        // What is no set at all was not written by a ring, nor by any other issuer.
        let found = found.unwrap_or(Found { seq: Some(0), kids: Vec::new() });
        let is_own = own.is_some_and(|own| found.seq == Some(own.seq) && *own.bytes != *bytes);
        let is_unknown = |ring: &Arc<RingState>| found.kids.iter().any(|kid| ring.fate(kid).is_none());
        let set_seq = ring.as_ref().map_or(0, |ring| ring.set_seq);
        if found.seq.is_some_and(|seq| seq > set_seq) {
            // Most often another node has written the state and the set while this one was not looking.
            self.node.ahead = found.seq;
            self.node.load_due = self.now.monotonic;
        }
        let is_edited =
            is_own || (found.seq.is_some_and(|seq| seq <= set_seq) && ring.as_ref().is_some_and(is_unknown));
        self.set(Alarm::SetEdited, is_edited);
        let Found { seq, kids } = found;
        if self.node.breaks(Rule::ReadBack) && seq == Some(set_seq) {
            self.node.seen.extend(kids.iter().map(|kid| (kid.clone(), self.now.wall)));
        }
        self.node.published =
            Some(PublishedSet { seq, kids, version: Some(version), checked_at, is_fresh: true, is_edited });
    }

    fn publish_failed(&mut self, failure: Failure, failures: u32) {
        if failures >= FAILURES_TO_ALARM || matches!(failure, Failure::Denied) {
            self.raise(Alarm::PublishFailing(failure));
        }
    }

    fn published(&mut self, result: Result<StoreVersion, Failure>) {
        let is_done = result.is_ok();
        let failures =
            self.finish(&Task::Publish, is_done || matches!(result, Err(Failure::Conflict | Failure::Unknown)));
        let trusts = self.node.breaks(Rule::ConflictIsDoubted);
        if matches!(result, Err(Failure::Conflict | Failure::Unknown)) {
            self.pause(&Task::Publish, self.spread(self.node.publishing, self.config.timing.tick / 4));
        }
        match result {
            Err(Failure::Conflict) if !trusts => self.node.published = None,
            Err(Failure::Unknown) => self.node.published = None,
            Ok(_) | Err(Failure::Conflict) => {
                if let Some(sent) = self.node.published.as_mut() {
                    // The version is not remembered: before the next write the set is looked at anyway.
                    sent.checked_at = self.now.monotonic;
                    sent.seq = sent.seq.max(Some(self.node.publishing));
                    sent.is_edited = false;
                }
                self.clear(|alarm| matches!(alarm, Alarm::PublishFailing(_) | Alarm::SetEdited));
                if let (Some(view), true) = (&self.node.view, is_done) {
                    let (seq, wall) = (self.node.publishing, self.now.wall);
                    if self.node.breaks(Rule::ReadBack) {
                        let unconfirmed = view.ring.keys.iter().filter(|(_, key)| key.confirmed_at.is_none());
                        self.node.seen.extend(unconfirmed.map(|(kid, _)| (kid.clone(), wall)));
                    }
                    self.effects.push(Effect::Note(Note::Published { seq }));
                }
            }
            Err(failure) => {
                self.node.published = None;
                self.publish_failed(failure, failures);
            }
        }
    }

    fn read_back(&mut self, result: &Result<Arc<[u8]>, Failure>) {
        let found = result.as_ref().ok().and_then(|bytes| Found::read(bytes));
        let failures = self.finish(&Task::ReadBack, result.is_ok());
        // Not yet is no failure, but no reason to hurry either.
        self.pause(&Task::ReadBack, self.config.timing.tick / 2);
        if let Err(failure) = result {
            if failures >= FAILURES_TO_ALARM {
                self.raise(Alarm::ReadBackFailing(*failure));
            }
            return;
        }
        self.clear(|alarm| matches!(alarm, Alarm::ReadBackFailing(_)));
        let (Some(found), Some(view)) = (found, &self.node.view) else { return };
        if !self.node.clock.is_sound() {
            return;
        }
        for kid in found.kids {
            if view
                .ring
                .keys
                .get(&kid)
                .is_some_and(|key| key.state == KeyState::Announced && key.confirmed_at.is_none())
            {
                self.node.seen.entry(kid).or_insert(self.now.wall);
            }
        }
    }

    /// Step 5. What is in doubt is settled by reading the blob again, which is done in any case.
    fn sealed(&mut self, kid: &str, result: Result<(), Failure>) {
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
            self.node.spoilt.insert(kid.to_owned());
        }
        // It came too late: the key was given up meanwhile, and its private part destroyed before it was there.
        let fate = self.node.view.as_ref().and_then(|view| view.ring.fate(kid));
        if fate.is_some_and(KeyState::is_terminal) {
            self.ask(Task::Destroy(kid.to_owned()), Effect::Destroy { kid: kid.to_owned() });
        }
    }

    /// Step 6.
    fn opened(&mut self, kid: &str, result: Result<(), OpenFailure>) {
        self.finish(&Task::Open(kid.to_owned()), result.is_ok());
        let is_counted_as_missing = match result {
            Ok(()) => {
                self.node.hands.insert(kid.to_owned(), Hand::Ready);
                self.node.missing.remove(kid);
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
                self.node.spoilt.insert(kid.to_owned());
            }
            if state.is_some_and(KeyState::needs_private) {
                self.raise(Alarm::PrivateUnavailable(kid.to_owned(), failure));
            }
        }
    }

    /// Step 9.
    fn destroyed(&mut self, kid: &str, result: Result<(), Failure>) {
        let is_gone = matches!(result, Ok(()) | Err(Failure::NotFound));
        let failures = self.finish(&Task::Destroy(kid.to_owned()), is_gone);
        if is_gone {
            self.node.destroyed.insert(kid.to_owned());
        }
        self.set(Alarm::DestroyFailing(kid.to_owned()), failures >= FAILURES_TO_ALARM);
    }

    fn listed(&mut self, result: Result<Vec<String>, Failure>) {
        self.finish(&Task::List, result.is_ok());
        self.pause(&Task::List, self.config.timing.heartbeat);
        if let Ok(kids) = result {
            self.node.listed = Some(kids);
            self.node.load_due = self.now.monotonic;
        }
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
    fn finish(&mut self, task: &Task, is_done: bool) -> u32 {
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

    fn pause(&mut self, task: &Task, wait: Duration) {
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
