//! What there is to do, as it looks now.

use std::time::Duration;

use super::draft::{Draft, Knowledge};
use super::{Alarm, Effect, Hand, Node, PublishedSet, Refusal, Reply, Role, Rule, Task, Traffic, Turn, View, Write};
use crate::config::Slot;
use crate::publication::Publication;
use crate::state::{Key, KeyState, RingState, SlotMode};
use std::sync::Arc;

/// A node that has written goes on with what comes next; others need not, for so many ticks.
pub(super) const LEASE_TICKS: u32 = 2;

/// How often in a row a private part must be certainly not there until that is believed.
const TIMES_MISSING: u32 = 2;

/// How long a command is kept if the store does not take it, in leases `G`.
const PATIENCE_LEASES: u32 = 4;

/// A rotation that is late by so many ticks is an alarm (I11).
const OVERDUE_TICKS: u32 = 3;

/// The shell is not woken more often.
const LEAST_WAKE: Duration = Duration::from_millis(1);

impl Turn<'_> {
    /// Looks at everything and asks for what is missing.
    pub(super) fn work(&mut self) {
        self.load();
        self.give_up_orders();
        if let Some(view) = self.node.view.clone() {
            self.hold(&view.ring);
            self.revoke(&view.ring);
            if self.node.role == Role::Rotator {
                self.rotate(&view);
                self.destroy(&view.ring);
                self.watch(&view.ring);
            }
        }
        let wake = self.next_wake();
        self.effects.push(Effect::Wake(wake));
    }

    fn load(&mut self) {
        if self.node.traffic == Traffic::Idle && self.node.load_due <= self.now.monotonic {
            self.node.traffic = Traffic::Loading { sent: self.now };
            self.effects.push(Effect::Load);
        }
    }

    fn give_up_orders(&mut self) {
        let is_saving = matches!(self.node.traffic, Traffic::Saving { .. }) || self.node.doubt.is_some();
        let patience = self.config.timing.lease * PATIENCE_LEASES;
        let late = |order: &&super::Order| self.now.monotonic.saturating_sub(order.since.monotonic) > patience;
        if is_saving {
            return;
        }
        let late: Vec<_> = self.node.orders.iter().filter(late).map(|order| (order.id, order.was_doubtful)).collect();
        for (id, is_doubtful) in late {
            let refusal = if !self.node.is_clock_sound() && !is_doubtful {
                Refusal::ClockUnsound
            } else {
                Refusal::StoreFailed { is_doubtful }
            };
            self.reply(id, Reply::Refused(refusal));
        }
    }

    /// Steps 5 and 6: has the private parts that may be needed, and no others.
    fn hold(&mut self, ring: &Arc<RingState>) {
        for (kid, key) in ring.keys.iter().filter(|(_, key)| key.state.needs_private()) {
            if is_unconfirmed(key) {
                continue;
            }
            match self.node.hands.get(kid) {
                Some(Hand::Ready) => {}
                Some(Hand::Fresh) => drop(self.ask(Task::Seal(kid.clone()), Effect::Seal { kid: kid.clone() })),
                Some(Hand::Stored) | None => {
                    let jwk = key.jwk.clone();
                    self.ask(Task::Open(kid.clone()), Effect::Open { kid: kid.clone(), jwk });
                }
            }
        }
        let is_over = |kid: &String| ring.fate(kid).is_some_and(|state| !state.needs_private());
        let over: Vec<_> = self.node.hands.keys().filter(|kid| is_over(kid)).cloned().collect();
        for kid in over {
            // What is being sealed is forgotten when that is over, so that the shell has something to seal.
            if !self.node.tasks.get(&Task::Seal(kid.clone())).is_some_and(|progress| progress.is_under_way) {
                self.node.hands.remove(&kid);
                self.effects.push(Effect::Forget { kid });
            }
        }
    }

    /// As long as there may be tokens of it; each node does, because the sink may forget.
    fn revoke(&mut self, ring: &Arc<RingState>) {
        if self.node.role == Role::Signer {
            return;
        }
        let buried = ring.tombstones.iter().filter(|(_, tombstone)| tombstone.state == KeyState::Revoked);
        let buried = buried.map(|(kid, tombstone)| (kid, tombstone.tokens_until));
        let buried = buried.filter(|(_, until)| *until > self.now.wall);
        // Before somebody whose clock is right has written down when it was revoked: for the first time, and for as
        // long as can be needed.
        let latest = self.now.wall.max(ring.written_at);
        let until = |kid: &String, key: &Key| match (key.ended_at, self.node.pushed.get(kid)) {
            (None, Some(until)) => *until,
            (ended_at, _) => key.tokens_until(ended_at.unwrap_or(latest), &ring.terms, ring.lifetime(key)),
        };
        let fresh = ring.keys.iter().filter(|(_, key)| key.state == KeyState::Revoked);
        let fresh = fresh.map(|(kid, key)| (kid, until(kid, key)));
        let due = fresh.chain(buried).filter(|(kid, until)| self.node.pushed.get(*kid).is_none_or(|it| it < until));
        let due: Vec<_> = due.map(|(kid, until)| (kid.clone(), until)).collect();
        for (kid, until) in due {
            if self.ask(Task::Push(kid.clone()), Effect::PushRevocation { kid: kid.clone(), until }) {
                self.node.pushed.insert(kid, until);
            }
        }
    }

    /// Steps 1 to 4, 7, 8 and 10.
    fn rotate(&mut self, view: &View) {
        let is_busy = self.node.traffic != Traffic::Idle || self.node.doubt.is_some() || self.node.is_regress_suspected;
        if is_busy || self.node.save_due > self.now.monotonic {
            return;
        }
        let is_first = view.version.is_none() && self.node.memory.is_none();
        let needs_look = is_first && self.node.published.is_none();
        if needs_look {
            self.ask(Task::ReadPublished, Effect::ReadPublished);
            return;
        }
        let is_sound = self.node.is_clock_sound();
        let draft = self.draft(view, is_sound);
        let lacking = if is_sound && !self.node.is_ending { self.lacking(&view.ring) } else { Vec::new() };
        let mut unconfirmed = view.ring.keys.iter().filter(|(_, key)| is_unconfirmed(key)).peekable();
        let is_unconfirmed = unconfirmed.peek().is_some();
        let is_unseen = unconfirmed.any(|(kid, _)| !self.node.seen.contains_key(kid));
        let must_publish = self.must_publish(&view.ring);
        let has_work = draft.is_some() || !lacking.is_empty() || is_unconfirmed || must_publish;
        let is_ordered = draft.as_ref().is_some_and(|draft| !draft.replies.is_empty());
        let my_turn = self.is_my_turn(&view.ring, has_work);
        if let Some(draft) = draft.filter(|_| my_turn || is_ordered) {
            self.save(view, draft, is_first);
        }
        if !my_turn {
            return;
        }
        for slot in lacking {
            if !self.node.pool.contains_key(&slot.name) {
                self.ask(Task::Generate(slot.name.clone()), Effect::Generate { slot: slot.name.clone() });
            }
        }
        // Not what follows from an older state that was put back: it may have keys that were revoked since.
        if self.node.memory.is_none() {
            self.publish(&view.ring);
        }
        let is_published = self.node.published.as_ref().is_some_and(|set| set.seq == Some(view.ring.set_seq));
        if is_unseen && is_published && is_sound && !self.node.breaks(Rule::ReadBack) {
            self.ask(Task::ReadBack, Effect::ReadBack);
        }
    }

    /// The next version, if it would be another; commands that change nothing are answered.
    fn draft(&mut self, view: &View, is_sound: bool) -> Option<Draft> {
        let base = match &self.node.memory {
            Some(memory) => Arc::new(memory.join(&view.ring)),
            None => view.ring.clone(),
        };
        let orders = self.node.orders.iter().filter(|order| order.since.monotonic <= view.read_at.monotonic);
        let knowledge = Knowledge {
            config: self.config,
            node: &self.node,
            now: self.now.wall,
            is_sound,
            lost: self.lost(),
            orders: orders.cloned().collect(),
        };
        let draft = Draft::new(base, &knowledge);
        for (id, reply) in &draft.answers {
            self.reply(*id, reply.clone());
        }
        (draft.is_changed() || self.node.memory.is_some()).then_some(draft)
    }

    /// The keys whose private part is certainly gone, everywhere but in the memory of others.
    fn lost(&self) -> Vec<String> {
        let missing = self.node.missing.iter().filter(|(kid, (_, times))| {
            *times >= TIMES_MISSING && !matches!(self.node.hands.get(*kid), Some(Hand::Fresh | Hand::Ready))
        });
        missing.map(|(kid, _)| kid.clone()).collect()
    }

    /// Step 2, 4, 7, 8 or 10: all of them at once.
    fn save(&mut self, view: &View, draft: Draft, is_first: bool) {
        if is_first && !self.covers_published(&draft.state) {
            self.raise(Alarm::StateLost);
            // Perhaps somebody takes it away.
            if self.node.published.as_ref().is_none_or(|set| self.is_old(set)) {
                self.ask(Task::ReadPublished, Effect::ReadPublished);
            }
            return;
        }
        self.clear(|alarm| *alarm == Alarm::StateLost);
        self.node.writes += 1;
        let nonce = format!("{}-{}", self.node.name, self.node.writes);
        let lease = self.now.wall.saturating_add(self.config.timing.tick * LEASE_TICKS);
        let is_repair = self.node.memory.is_some();
        let (state, replies) = draft.finish(nonce, &self.node.name, lease, is_repair);
        let violation = if is_repair { state.check() } else { state.check_after(&view.ring) };
        if let Err(violation) = violation {
            self.raise(Alarm::Defect(violation.to_string()));
            return;
        }
        let state = Arc::new(state);
        let write = Write { state: state.clone(), replies };
        self.node.traffic = Traffic::Saving { sent: self.now, write };
        self.effects.push(Effect::Save { state, expected: view.version.clone() });
    }

    /// Whether a ring that begins takes over all of what is published already.
    fn covers_published(&self, state: &RingState) -> bool {
        let published = self.node.published.as_ref();
        published.is_some_and(|set| set.kids.iter().all(|kid| state.keys.contains_key(kid)))
    }

    /// The slots in need of a key that is announced or on standby.
    fn lacking(&self, ring: &RingState) -> Vec<Slot> {
        let is_lacking = |slot: &&Slot| lacks_next(ring, &slot.name);
        self.config.slots.iter().filter(is_lacking).cloned().collect()
    }

    fn must_publish(&self, ring: &RingState) -> bool {
        let Some(set) = &self.node.published else { return true };
        let is_behind = set.seq.is_none_or(|seq| seq < ring.set_seq) || set.is_edited;
        let is_old = self.is_old(set);
        ring.published().next().is_some() && (is_behind || is_old)
    }

    /// Step 3. The set is always looked at first, because it must not be replaced by an older one.
    fn publish(&mut self, ring: &Arc<RingState>) {
        if !self.must_publish(ring) || self.is_busy(&Task::Publish) || self.is_busy(&Task::ReadPublished) {
            return;
        }
        let publication = Publication::of(ring, self.config, self.now.wall);
        let Ok(publication) = publication else {
            self.raise(Alarm::Unpublishable);
            return;
        };
        self.clear(|alarm| *alarm == Alarm::Unpublishable);
        let age = |set: &PublishedSet| self.now.monotonic.saturating_sub(set.checked_at);
        let seen = self.node.published.clone().filter(|set| set.is_fresh && age(set) < self.config.timing.tick);
        let Some(set) = seen else {
            self.ask(Task::ReadPublished, Effect::ReadPublished);
            return;
        };
        let is_foreign = set.seq.is_none();
        let unknown = set.kids.iter().find(|kid| is_foreign && ring.fate(kid).is_none()).cloned();
        if let Some(kid) = unknown {
            self.raise(Alarm::WouldShrink(kid));
            return;
        }
        self.clear(|alarm| matches!(alarm, Alarm::WouldShrink(_)));
        let is_behind = set.seq.is_none_or(|seq| seq < ring.set_seq) || set.is_edited;
        if is_behind {
            let expected = set.version.clone();
            let seq = publication.seq;
            if self.ask(Task::Publish, Effect::Publish { publication, expected }) {
                self.node.publishing = seq;
                self.node.published = Some(PublishedSet { is_fresh: false, ..set });
            }
        }
    }

    /// `H`.
    fn is_old(&self, set: &PublishedSet) -> bool {
        self.now.monotonic.saturating_sub(set.checked_at) >= self.config.timing.heartbeat
    }

    fn is_busy(&self, task: &Task) -> bool {
        self.node.tasks.get(task).is_some_and(|progress| progress.is_under_way)
    }

    /// Whoever has written last goes on; others wait until it seems to be gone, each for another while. It saves work
    /// and nothing else.
    fn is_my_turn(&mut self, ring: &RingState, has_work: bool) -> bool {
        if !has_work {
            self.node.idle_until = None;
            return true;
        }
        let tick = self.config.timing.tick;
        let others = ring.lease.as_ref().filter(|lease| lease.until > self.now.wall);
        if others.is_some_and(|lease| lease.holder == self.node.name) {
            return true;
        }
        let left =
            others.map_or(Duration::ZERO, |lease| lease.until.saturating_since(self.now.wall).min(tick * LEASE_TICKS));
        let until = match self.node.idle_until {
            Some((seq, until)) if seq == ring.seq => until,
            _ => self.now.monotonic.saturating_add(left).saturating_add(self.spread(ring.seq, tick / 2)),
        };
        self.node.idle_until = Some((ring.seq, until));
        until <= self.now.monotonic
    }

    /// Step 9.
    fn destroy(&mut self, ring: &Arc<RingState>) {
        // What is revoked or was never used goes whatever time it is.
        let is_sound = self.node.is_clock_sound();
        let at = |key: &Key| {
            if self.node.breaks(Rule::LeaseBeforeDestruction) {
                return (!key.state.needs_private()).then_some(self.now.wall);
            }
            key.destroyable_at(&ring.terms)
        };
        let is_due = |key: &Key| {
            !key.destroyed && (is_sound || key.state.is_terminal()) && at(key).is_some_and(|at| at <= self.now.wall)
        };
        let due = ring.keys.iter().filter(|(kid, key)| is_due(key) && !self.node.destroyed.contains(*kid));
        let mut due: Vec<_> = due.map(|(kid, _)| kid.clone()).collect();
        // What was stored after it had been destroyed: by a node that had stood still, by a write that had been under
        // way for long.
        let is_dead =
            |kid: &String| ring.tombstones.contains_key(kid) || ring.keys.get(kid).is_some_and(|key| key.destroyed);
        due.extend(self.node.listed.take().into_iter().flatten().filter(is_dead));
        for kid in due {
            self.ask(Task::Destroy(kid.clone()), Effect::Destroy { kid });
        }
        self.ask(Task::List, Effect::ListSealed);
    }

    /// I11.
    fn watch(&mut self, ring: &Arc<RingState>) {
        if !self.node.is_clock_sound() {
            return;
        }
        let late = self.config.timing.rotation.saturating_add(self.config.timing.tick * OVERDUE_TICKS);
        for slot in ring.slots.keys() {
            let age =
                ring.active(slot).and_then(|(_, key)| key.activated_at).map(|at| self.now.wall.saturating_since(at));
            self.set(Alarm::RotationOverdue(slot.clone()), age.is_some_and(|age| age > late));
        }
    }

    fn next_wake(&self) -> Duration {
        let tick = self.config.timing.tick;
        let now = self.now.monotonic;
        let load = if self.node.traffic == Traffic::Idle { self.node.load_due } else { now.saturating_add(tick) };
        let turn = self.node.idle_until.map(|(_, until)| until).filter(|until| *until > now);
        let tasks =
            self.node.tasks.values().filter(|progress| !progress.is_under_way).map(|progress| progress.not_before);
        let save = Some(self.node.save_due).filter(|at| *at > now);
        let next = tasks.filter(|at| *at > now).chain(turn).chain(save).fold(load, Duration::min);
        next.saturating_sub(now).clamp(LEAST_WAKE, tick.max(LEAST_WAKE))
    }
}

/// Whether a key was announced, and is not known to be where verifiers look.
pub(super) fn is_unconfirmed(key: &Key) -> bool {
    key.state == KeyState::Announced && key.confirmed_at.is_none()
}

/// Whether a slot has no key that could be the next.
pub(super) fn lacks_next(ring: &RingState, slot: &str) -> bool {
    let is_next = |key: &Key| matches!(key.state, KeyState::Announced | KeyState::Standby);
    !ring.keys.values().any(|key| key.slot == slot && is_next(key))
}

/// Whether a slot does not sign for want of a key.
pub(super) fn is_halted(ring: &RingState, slot: &str) -> bool {
    ring.slots.get(slot).is_none_or(|slot| slot.mode != SlotMode::Running)
}

impl Node {
    pub(super) fn is_ready(&self, kid: &str) -> bool {
        self.hands.get(kid) == Some(&Hand::Ready)
    }
}
