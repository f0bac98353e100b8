//! The next version of the state: everything that is due by now, in one.

use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;

use super::work::{is_halted, lacks_next};
use super::{Node, OpenFailure, Order, Reply, Rule};
use crate::config::{MAX_KEYS, RingConfig};
use crate::publication::{Publication, Unpublishable};
use crate::state::{Halt, Key, KeyState, Lease, MAX_DONE, RingState, SlotMode, SlotState, Terms};

/// What the next version depends on besides the present one.
pub(super) struct Knowledge<'a> {
    pub(super) config: &'a RingConfig,
    pub(super) node: &'a Node,
    pub(super) now: UnixTime,
    /// Whether `now` is to be believed; otherwise nothing is done that depends on it (I10).
    pub(super) is_sound: bool,
    /// Keys whose private part is certainly gone.
    pub(super) lost: Vec<String>,
    /// The commands that may be carried out on this view.
    pub(super) orders: Vec<Order>,
}

/// A version that is being prepared.
pub(super) struct Draft {
    pub(super) base: Arc<RingState>,
    pub(super) state: RingState,
    pub(super) now: UnixTime,
    /// To be said when it was written, with the names of the orders.
    pub(super) replies: Vec<(u64, String, Reply)>,
    /// To be said at once.
    pub(super) answers: Vec<(u64, Reply)>,
    pub(super) has_adopted: bool,
}

impl Draft {
    pub(super) fn new(base: Arc<RingState>, know: &Knowledge<'_>) -> Self {
        let state = (*base).clone();
        let (replies, answers) = (Vec::new(), Vec::new());
        // A time that is not to be believed is not written down either.
        let now = if know.is_sound { know.now } else { base.written_at };
        let mut draft = Self { base, state, now, replies, answers, has_adopted: false };
        if know.is_sound {
            draft.agree(know);
            draft.stamp();
            draft.confirm(know);
        }
        draft.obey(know);
        if know.is_sound {
            draft.mark_destroyed(know);
            draft.abandon(know);
            draft.promote(know);
            draft.rotate_due(know);
            draft.retire(know);
            draft.announce(know);
            draft.state.bury(draft.now);
        }
        draft
    }

    pub(super) fn is_changed(&self) -> bool {
        self.state != *self.base || !self.replies.is_empty()
    }

    /// Numbers it, and says whose it is.
    pub(super) fn finish(
        mut self,
        nonce: String,
        holder: &str,
        until: UnixTime,
        is_repair: bool,
    ) -> (RingState, Vec<(u64, String, Reply)>) {
        let set = |state: &RingState| -> Vec<_> {
            state.published().map(|(kid, key)| (kid.clone(), key.jwk.clone())).collect()
        };
        let is_new_set = is_repair || set(&self.state) != set(&self.base);
        self.state.seq = self.base.seq.saturating_add(1);
        if is_new_set {
            self.state.set_seq = self.state.seq;
        }
        self.state.written_at = self.base.written_at.max(self.now);
        self.state.nonce = nonce;
        self.state.lease = Some(Lease { holder: holder.to_owned(), until });
        self.state.done.extend(self.replies.iter().map(|(_, name, _)| name.clone()));
        let excess = self.state.done.len().saturating_sub(MAX_DONE);
        self.state.done.drain(..excess);
        (self.state, self.replies)
    }

    /// What this node needs of the others is written down before it makes use of it.
    fn agree(&mut self, know: &Knowledge<'_>) {
        self.state.terms = self.state.terms.join((&know.config.timing).into());
        for slot in &know.config.slots {
            let own = know.config.max_lifetime(slot);
            let mode = SlotMode::Halted { reason: Halt::Starting, sign_at_once: false };
            let new = SlotState { mode, rotate_requested: false, max_lifetime: own };
            let entry = self.state.slots.entry(slot.name.clone()).or_insert(new);
            entry.max_lifetime = entry.max_lifetime.max(own);
        }
    }

    /// A write that deactivates or revokes a key may arrive at any time after it was prepared. Now it has.
    fn stamp(&mut self) {
        for (kid, key) in &mut self.state.keys {
            let was_retiring = self.base.keys.get(kid).is_some_and(|key| key.state == KeyState::Retiring);
            if was_retiring && key.state == KeyState::Retiring && key.deactivated_at.is_none() {
                key.deactivated_at = Some(self.now);
            }
            let was_over = self.base.keys.get(kid).is_some_and(|key| key.state.is_terminal());
            if was_over && key.ended_at.is_none() {
                key.ended_at = Some(self.now);
            }
        }
    }

    /// Step 4.
    fn confirm(&mut self, know: &Knowledge<'_>) {
        for (kid, key) in &mut self.state.keys {
            if key.state == KeyState::Announced && key.confirmed_at.is_none() {
                key.confirmed_at = know.node.seen.get(kid).copied();
            }
        }
    }

    fn mark_destroyed(&mut self, know: &Knowledge<'_>) {
        for (kid, key) in &mut self.state.keys {
            key.destroyed |= know.node.destroyed.contains(kid) && !key.state.needs_private();
        }
    }

    /// Whoever has made a key and is gone has taken its private part with it.
    fn abandon(&mut self, know: &Knowledge<'_>) {
        let is_old = |key: &Key| {
            let since = key.confirmed_at.unwrap_or(key.announced_at).max(key.announced_at);
            self.now.saturating_since(since) > know.config.timing.orphan
        };
        let is_hopeless = |kid: &String, key: &Key| {
            let is_lost = know.lost.contains(kid);
            let is_spoilt = know.node.spoilt.contains_key(kid);
            // What is stored is the private part of another key; no node can do anything with it.
            let is_swapped = know.node.spoilt.get(kid) == Some(&OpenFailure::Mismatch) && !know.node.is_ready(kid);
            let is_mine = key.maker == know.node.name;
            match key.state {
                KeyState::Announced if is_mine => is_spoilt || (is_old(key) && !know.node.is_ready(kid)),
                // Nobody looks for the private part before the key was read back.
                KeyState::Announced if key.confirmed_at.is_none() => is_old(key),
                KeyState::Announced => is_old(key) && (is_lost || is_spoilt),
                KeyState::Standby => is_lost || is_swapped,
                _ => false,
            }
        };
        let hopeless = self.state.keys.iter().filter(|(kid, key)| is_hopeless(kid, key));
        for kid in hopeless.map(|(kid, _)| kid.clone()).collect::<Vec<_>>() {
            self.end(&kid, KeyState::Abandoned);
        }
    }

    /// Step 7; and where no key signs, step 8 with it.
    fn promote(&mut self, know: &Knowledge<'_>) {
        for slot in self.state.slots.keys().cloned().collect::<Vec<_>>() {
            let Some(kid) = self.next_in(&slot) else { continue };
            let Some(key) = self.state.keys.get(&kid) else { continue };
            let signs_at_once = matches!(
                self.state.slots.get(&slot).map(|slot| slot.mode),
                Some(SlotMode::Halted { sign_at_once: true, .. })
            );
            let is_ready = self.is_announced(key, know);
            let is_excepted = signs_at_once && key.confirmed_at.is_some();
            if !know.node.is_ready(&kid) || !(is_ready || is_excepted) {
                continue;
            }
            if is_halted(&self.state, &slot) {
                self.activate(&slot, &kid, know);
            } else if is_ready {
                self.to(&kid, KeyState::Standby);
            }
        }
    }

    /// Step 8, for all slots in which it is due.
    fn rotate_due(&mut self, know: &Knowledge<'_>) {
        for slot in self.state.slots.keys().cloned().collect::<Vec<_>>() {
            let Some((kid, key)) = self.state.active(&slot) else { continue };
            let is_lost = know.lost.contains(kid);
            let is_due = is_lost || self.due_at(key, know.config).is_some_and(|at| at <= self.now);
            let is_wanted = self.state.slots.get(&slot).is_some_and(|slot| slot.rotate_requested);
            if is_due || is_wanted {
                let is_done = self.rotate(&slot, know);
                if let Some(entry) = self.state.slots.get_mut(&slot) {
                    entry.rotate_requested = !is_done && (is_wanted || is_lost);
                }
            }
        }
    }

    /// After `R`; in time before its hard end, if it has one.
    fn due_at(&self, key: &Key, config: &RingConfig) -> Option<UnixTime> {
        let regular = key.activated_at?.saturating_add(config.timing.rotation);
        let last_token = self.state.terms.last_token(self.state.lifetime(key));
        Some(key.remove_at.map_or(regular, |at| regular.min(at.saturating_sub(last_token))))
    }

    /// The standby becomes active, if there is one that this node can sign with. False if there is none.
    pub(super) fn rotate(&mut self, slot: &str, know: &Knowledge<'_>) -> bool {
        let standby = self.standby(slot, know).filter(|kid| know.node.is_ready(kid));
        let Some(kid) = standby else { return false };
        self.activate(slot, &kid, know);
        true
    }

    /// The standby that may sign. A raised quantity may make one wait again.
    pub(super) fn standby(&self, slot: &str, know: &Knowledge<'_>) -> Option<String> {
        let mut standbys = self.state.keys_in(slot, KeyState::Standby);
        standbys.find(|(_, key)| self.is_announced(key, know)).map(|(kid, _)| kid.clone())
    }

    /// One write, in which one key ceases to sign and another begins.
    pub(super) fn activate(&mut self, slot: &str, kid: &str, know: &Knowledge<'_>) {
        let previous = self.state.active(slot).map(|(kid, _)| kid.clone());
        if let Some(key) = previous.and_then(|kid| self.state.keys.get_mut(&kid)) {
            key.state = KeyState::Retiring;
            key.deactivated_at = know.node.breaks(Rule::DeactivationIsSeen).then_some(self.now);
        }
        if let Some(key) = self.state.keys.get_mut(kid) {
            key.state = KeyState::Active;
            key.activated_at = Some(self.now);
        }
        if let Some(slot) = self.state.slots.get_mut(slot) {
            slot.mode = SlotMode::Running;
            slot.rotate_requested = false;
        }
    }

    /// Step 10.
    fn retire(&mut self, know: &Knowledge<'_>) {
        let terms = self.terms(know);
        let is_due = |key: &Key| {
            let lifetime = if know.node.breaks(Rule::Retention) { Duration::ZERO } else { self.state.lifetime(key) };
            key.state == KeyState::Retiring
                && key.destroyed
                && key.removable_at(&terms, lifetime).is_some_and(|at| at <= self.now)
        };
        let due: Vec<_> = self.state.keys.iter().filter(|(_, key)| is_due(key)).map(|(kid, _)| kid.clone()).collect();
        for kid in due {
            self.end(&kid, KeyState::Retired);
        }
    }

    /// Step 2, for all slots that have no next key. Keys of one version are announced together, so that at the very
    /// first nobody can have a set with one of them only.
    fn announce(&mut self, know: &Knowledge<'_>) {
        let is_first = self.base.set_seq == 0 && !self.has_adopted;
        let lacking: Vec<_> = know
            .config
            .slots
            .iter()
            .filter(|slot| lacks_next(&self.state, &slot.name))
            .map(|slot| &slot.name)
            .collect();
        let is_hopeless = |slot: &&&String| {
            let generation = know.node.tasks.get(&super::Task::Generate((**slot).clone()));
            generation.is_some_and(|progress| progress.failures > 0)
        };
        if lacking.iter().any(|slot| !know.node.pool.contains_key(*slot) && !is_hopeless(&slot)) {
            return;
        }
        for slot in lacking {
            let Some(jwk) = know.node.pool.get(slot) else { continue };
            let kid = jwk.kid().to_owned();
            if self.state.fate(&kid).is_some() {
                continue;
            }
            let key = Key {
                slot: slot.clone(),
                jwk: jwk.clone(),
                state: KeyState::Announced,
                maker: know.node.name.clone(),
                is_known: is_first,
                announced_at: self.now,
                confirmed_at: None,
                activated_at: None,
                deactivated_at: None,
                ended_at: None,
                promised_until: None,
                remove_at: None,
                destroyed: false,
            };
            self.state.keys.insert(kid.clone(), key);
            if !self.fits(know) {
                self.state.keys.remove(&kid);
            }
        }
    }

    /// Whether the set is not too large to be published (I7).
    pub(super) fn fits(&self, know: &Knowledge<'_>) -> bool {
        let published = self.state.published().count();
        let is_long = Publication::of(&self.state, know.config, self.now);
        published <= MAX_KEYS && !matches!(is_long, Err(Unpublishable::TooLong(_) | Unpublishable::TooManyKeys(_)))
    }

    /// The key that is announced, and comes closest to signing.
    fn next_in(&self, slot: &str) -> Option<String> {
        let is_next = |key: &Key| key.slot == slot && matches!(key.state, KeyState::Announced | KeyState::Standby);
        let next = self.state.keys.iter().filter(|(_, key)| is_next(key));
        // A standby comes before what is only announced.
        next.min_by_key(|(_, key)| (key.state == KeyState::Announced, key.announced_at)).map(|(kid, _)| kid.clone())
    }

    /// I1.
    fn is_announced(&self, key: &Key, know: &Knowledge<'_>) -> bool {
        let mut terms = self.terms(know);
        if know.node.breaks(Rule::Announcement) {
            (terms.max_age, terms.intermediary) = (Duration::ZERO, Duration::ZERO);
        }
        key.ready_at(&terms).is_some_and(|at| at <= self.now)
    }

    fn terms(&self, know: &Knowledge<'_>) -> Terms {
        let mut terms = self.state.terms;
        if know.node.breaks(Rule::ClockError) {
            terms.clock_error = Duration::ZERO;
            terms.overlap = Duration::ZERO;
        }
        if know.node.breaks(Rule::Retention) {
            terms.overlap = Duration::ZERO;
        }
        terms
    }

    fn to(&mut self, kid: &str, state: KeyState) {
        if let Some(key) = self.state.keys.get_mut(kid) {
            key.state = state;
        }
    }

    /// It is over for this key.
    pub(super) fn end(&mut self, kid: &str, state: KeyState) {
        if let Some(key) = self.state.keys.get_mut(kid) {
            key.state = state;
            // Others sign with it until the write has landed, and nobody knows when that will be.
            key.ended_at = (state != KeyState::Revoked).then_some(self.now);
        }
    }
}
