//! What must be true, whatever happens: the books that nobody in the world sees.

use std::collections::{BTreeMap, BTreeSet};

use countersign_claims::UnixTime;
use countersign_issuer::RingConfig;
use countersign_issuer::state::{KeyState, RingState, SlotMode};

use crate::scene::{millis, settling};
use crate::store::{Public, Store};
use crate::world::EPOCH;

#[derive(Default)]
pub(crate) struct Oracle {
    /// By `kid`: the latest `exp` of a token of it, by the true time, with what verifiers may add.
    tokens: BTreeMap<String, u64>,
    /// Keys that may be refused: revoked, or told to sign before everybody can have them.
    exempt: BTreeSet<String>,
    /// Keys whose private part was destroyed.
    destroyed: BTreeSet<String>,
    /// When a key became active, by the true time.
    active_since: BTreeMap<String, u64>,
    /// When a key became revoked, or was deactivated.
    ended: BTreeMap<String, u64>,
    /// Slots that may be rotated before time: somebody asked, or a private part was lost.
    pub(crate) may_rotate: Vec<String>,
    /// Somebody has chosen refusals over a halt.
    pub(crate) may_sign_at_once: bool,
    /// What feeds have heard of.
    pub(crate) pushed: BTreeSet<String>,
    pub(crate) may_abandon: BTreeSet<String>,
    /// When something last went wrong: answers that say otherwise than what is do not count.
    pub(crate) last_trouble: u64,
    highest_set: u64,
    pub(crate) broken: Option<String>,
    pub(crate) rotations: u64,
    pub(crate) signatures: u64,
}

impl Oracle {
    pub(crate) fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// A version has landed.
    pub(crate) fn landed(&mut self, before: Option<&RingState>, after: &RingState, configs: &[RingConfig], now: u64) {
        let empty = RingState::empty(after.terms);
        let empty = RingState { terms: before.map_or(after.terms, |before| before.terms), ..empty };
        let before = before.unwrap_or(&empty);
        if let Err(violation) = after.check_after(before) {
            self.fail(format!("version {}: {violation}", after.seq));
        }
        let rotation = configs.iter().map(|config| millis(config.timing.rotation)).min().unwrap_or(0);
        let error = millis(after.terms.clock_error);
        let fates = after.keys.iter().map(|(kid, key)| (kid, key.state, &key.slot));
        let fates = fates.chain(after.tombstones.iter().map(|(kid, tomb)| (kid, tomb.state, &tomb.slot)));
        for (kid, state, slot) in fates {
            if before.fate(kid) == Some(state) {
                continue;
            }
            match state {
                KeyState::Active => {
                    // From announced to active in one step is what was ordered then.
                    if self.may_sign_at_once && before.fate(kid) == Some(KeyState::Announced) {
                        self.exempt.insert(kid.clone());
                    }
                    // By the clock of whoever has prepared the write; it may have been long under way.
                    let at = after.keys.get(kid).and_then(|key| key.activated_at);
                    let at =
                        at.map_or(now, |at| millis(at.saturating_since(UnixTime::from_secs(0))).saturating_sub(EPOCH));
                    self.active_since.insert(kid.clone(), at);
                    self.rotations += 1;
                }
                KeyState::Retiring => {
                    let age = now.saturating_sub(self.active_since.get(kid).copied().unwrap_or(0));
                    let is_early = age + error < rotation;
                    let excuse = self.may_rotate.iter().position(|it| it == slot);
                    match excuse.filter(|_| is_early) {
                        Some(excuse) => drop(self.may_rotate.remove(excuse)),
                        None if is_early => self.fail(format!("{kid} was rotated after {age} ms for no reason")),
                        None => {}
                    }
                    self.ended.insert(kid.clone(), now);
                }
                KeyState::Revoked => {
                    // Nothing of it is good any more, so there is nothing to tell.
                    if before.fate(kid).is_some_and(KeyState::is_terminal) {
                        self.pushed.insert(kid.clone());
                    }
                    self.exempt.insert(kid.clone());
                    self.ended.insert(kid.clone(), now);
                }
                KeyState::Abandoned if !self.may_abandon.contains(kid) && self.last_trouble == 0 => {
                    self.fail(format!("{kid} was abandoned although nothing was wrong with it"));
                }
                _ => {}
            }
        }
    }

    /// A token of that key, good until `until` at the slowest verifier.
    pub(crate) fn signed(&mut self, kid: &str, until: u64, public: &Public, now: u64) {
        self.signatures += 1;
        // What is revoked is destroyed at once, and who does not know it yet signs what nobody accepts.
        if self.destroyed.contains(kid) && !self.exempt.contains(kid) {
            self.fail(format!("{kid} has signed after its private part was destroyed"));
        }
        let latest = self.tokens.entry(kid.to_owned()).or_default();
        *latest = until.max(*latest);
        self.check_key(kid, public, now);
    }

    /// A set has become readable.
    pub(crate) fn appeared(&mut self, public: &Public, now: u64) {
        let Some(set) = public.newest() else { return };
        if set.seq < self.highest_set {
            self.fail(format!("the set went back from {} to {}", self.highest_set, set.seq));
        }
        self.highest_set = self.highest_set.max(set.seq);
        if set.kids.is_empty() {
            self.fail("an empty set was published".to_owned());
        }
        for kid in self.tokens.keys().cloned().collect::<Vec<_>>() {
            self.check_key(&kid, public, now);
        }
        self.tokens.retain(|_, until| *until >= now);
    }

    fn check_key(&mut self, kid: &str, public: &Public, now: u64) {
        let is_live = self.tokens.get(kid).is_some_and(|until| now < *until);
        if !is_live || self.exempt.contains(kid) {
            return;
        }
        if let Some(set) = public.possible(now).find(|set| !set.kids.contains(kid)) {
            let seq = set.seq;
            self.fail(format!("a token of {kid} is refused by a verifier that has set {seq}"));
        }
    }

    /// Whether a verifier must accept tokens of that key at this moment.
    pub(crate) fn live(&self, now: u64) -> impl Iterator<Item = (&String, &u64)> {
        self.tokens.iter().filter(move |(kid, until)| now < **until && !self.exempt.contains(*kid))
    }

    pub(crate) fn destroyed(&mut self, kid: &str, store: &Store) {
        let state = store.state.as_ref().and_then(|(state, _)| state.fate(kid));
        if state.is_some_and(KeyState::needs_private) {
            self.fail(format!("the private part of {kid} was destroyed, which is {state:?}"));
        }
        self.destroyed.insert(kid.to_owned());
    }

    /// What has to be so once nothing has gone wrong for long enough.
    pub(crate) fn look(&mut self, store: &Store, public: &Public, configs: &[RingConfig], now: u64) {
        let calm = now.saturating_sub(self.last_trouble);
        let longest = |of: fn(&RingConfig) -> std::time::Duration| {
            configs.iter().map(|config| millis(of(config))).max().unwrap_or(0)
        };
        let tick = longest(|config| config.timing.tick);
        let publish = longest(|config| config.timing.publish);
        // A node that has written last may be gone, others wait for its lease and half a tick; what has conflicted is
        // tried again.
        let soon = 12 * (tick + publish);
        let Some((state, _)) = &store.state else {
            if calm > soon {
                self.fail("there is no ring".to_owned());
            }
            return;
        };
        let since = |kid: &String| self.ended.get(kid).map_or(u64::MAX, |at| now.saturating_sub(*at));
        let revoked = public.newest().and_then(|set| {
            set.kids.iter().find(|kid| state.fate(kid) == Some(KeyState::Revoked) && since(kid) > soon && calm > soon)
        });
        // Where all was revoked, the set stays until there is another.
        if let Some(kid) = revoked.filter(|_| state.published().next().is_some()) {
            let what = format!("{kid} was revoked {} ms ago and is still published", since(kid));
            return self.fail(what);
        }
        // What was stored after its key was given up is only found when the store is listed.
        // I9: with a live feed, and without one.
        let bound = soon + longest(|config| config.timing.publish_lag + config.timing.cache_bound());
        for (kid, tomb) in &state.tombstones {
            if tomb.state != KeyState::Revoked || calm <= bound || since(kid) == u64::MAX || since(kid) <= bound {
                continue;
            }
            if public.possible(now).any(|set| set.kids.contains(kid)) && state.published().next().is_some() {
                return self.fail(format!("{kid} was revoked and is accepted after its bound"));
            }
            if !self.pushed.contains(kid) {
                return self.fail(format!("{kid} was revoked and no feed has heard of it"));
            }
        }
        let lease = longest(|config| config.timing.lease) + longest(|config| config.timing.clock_error) * 2;
        let lease = lease + longest(|config| config.timing.heartbeat);
        let readable = store.privates.iter().find(|kid| {
            let is_over = state.fate(kid).is_some_and(|state| !state.needs_private());
            is_over && since(kid) != u64::MAX && since(kid) > lease + soon && calm > lease + soon
        });
        if let Some(kid) = readable {
            let what = format!("the private part of {kid} is there {} ms after its end", since(kid));
            return self.fail(what);
        }
        let settling = settling(configs);
        if calm <= settling {
            return;
        }
        let rotation = longest(|config| config.timing.rotation);
        for (name, slot) in &state.slots {
            if slot.mode != SlotMode::Running {
                return self.fail(format!("slot {name} does not sign after {calm} ms of calm"));
            }
            let Some((kid, _)) = state.active(name) else { continue };
            let age = now.saturating_sub(self.active_since.get(kid).copied().unwrap_or(0));
            if age > rotation + longest(|config| config.timing.clock_error) + soon {
                return self.fail(format!("{kid} is active since {age} ms, R is {rotation}"));
            }
        }
    }
}
