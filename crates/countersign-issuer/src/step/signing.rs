use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use countersign_claims::UnixTime;

use super::clock::tolerance;
use super::{Hand, Node, Rule};
use crate::config::RingConfig;
use crate::state::{Key, RingState};
use crate::time::Now;

/// Which key signs in each slot, as of one look at the state: immutable, for whoever signs. It answers by itself
/// whether it is still good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningView {
    read_at: Option<Now>,
    lease: Duration,
    tolerance: Duration,
    is_clock_sound: bool,
    slots: BTreeMap<String, Result<SlotView, NotSigning>>,
    heeds_age: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SlotView {
    kid: String,
    max_lifetime: Duration,
    /// When the key has signed for as long as it may at the very most.
    hard_limit: Option<UnixTime>,
    /// The latest `exp` that the key's removal allows.
    latest_exp: Option<UnixTime>,
}

/// Leave to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave<'a> {
    /// With which key.
    pub kid: &'a str,
    /// The latest that `exp` may be (I5): later than now.
    pub latest_exp: UnixTime,
}

/// Why a slot does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSigning {
    /// There is no such slot.
    NoSuchSlot,
    /// The state was not read yet.
    NoView,
    /// The state was read too long ago (I3).
    ViewTooOld,
    /// The clock of this node is not to be trusted (I10).
    ClockUnsound,
    /// The slot has no active key.
    Halted,
    /// The private part of the active key cannot be had here.
    KeyUnavailable,
    /// The active key has signed for `R_hard`, and no other has taken its place (I11).
    HardLimit,
    /// The active key is going to be removed too soon for any token (I5).
    NoTimeLeft,
}

impl fmt::Display for NotSigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchSlot => "there is no such slot",
            Self::NoView => "the state of the ring was not read yet",
            Self::ViewTooOld => "the state of the ring was read too long ago",
            Self::ClockUnsound => "the clock of this node is not to be trusted",
            Self::Halted => "the slot has no active key",
            Self::KeyUnavailable => "the private part of the active key cannot be had",
            Self::HardLimit => "the active key has signed for as long as a key may at the very most",
            Self::NoTimeLeft => "the active key is going to be removed too soon",
        })
    }
}

impl std::error::Error for NotSigning {}

impl SigningView {
    /// The key that signs in that slot, and the latest `exp`.
    ///
    /// # Errors
    /// [`NotSigning`] if none may.
    pub fn leave(&self, slot: &str, now: Now) -> Result<Leave<'_>, NotSigning> {
        let now = now.to_millis();
        let read_at = self.read_at.ok_or(NotSigning::NoView)?;
        if self.heeds_age && now.since(&read_at) > self.lease {
            return Err(NotSigning::ViewTooOld);
        }
        if !self.is_clock_sound || (self.heeds_age && now.disagreement(&read_at) > self.tolerance) {
            return Err(NotSigning::ClockUnsound);
        }
        let slot = self.slots.get(slot).ok_or(NotSigning::NoSuchSlot)?.as_ref().map_err(|reason| *reason)?;
        if slot.hard_limit.is_some_and(|limit| now.wall >= limit) {
            return Err(NotSigning::HardLimit);
        }
        let latest_exp = now.wall.saturating_add(slot.max_lifetime);
        let latest_exp = slot.latest_exp.map_or(latest_exp, |latest| latest.min(latest_exp));
        if latest_exp <= now.wall { Err(NotSigning::NoTimeLeft) } else { Ok(Leave { kid: &slot.kid, latest_exp }) }
    }

    /// When the state was read, or rather when the look at it began.
    pub(crate) fn read_at(&self) -> Option<Now> {
        self.read_at
    }

    /// How old it may be.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// The slots there are.
    pub fn slots(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().map(String::as_str)
    }
}

impl Node {
    /// Who signs, as this node sees it. To be asked after each step, and handed to whoever signs.
    #[must_use]
    pub fn signing_view(&self, config: &RingConfig) -> SigningView {
        // An older state that was put back says when there was a look, and nothing of who signs: that a key has ceased to
        // sign, or was revoked, is remembered.
        let ring = self.memory.as_ref().or(self.view.as_ref().map(|view| &view.ring));
        let terms = ring.map(|ring| ring.terms);
        let slots = ring.map(|ring| ring.slots.keys().map(|name| (name.clone(), self.slot_view(config, ring, name))));
        SigningView {
            read_at: self.view.as_ref().map(|view| view.read_at),
            lease: terms.map_or(config.timing.lease, |terms| terms.lease.min(config.timing.lease)),
            tolerance: tolerance(config.timing.clock_error),
            is_clock_sound: self.clock.is_sound() || self.breaks(Rule::ClockIsSound),
            slots: slots.into_iter().flatten().collect(),
            heeds_age: !self.breaks(Rule::ViewIsYoung),
        }
    }

    fn slot_view(&self, config: &RingConfig, ring: &RingState, name: &str) -> Result<SlotView, NotSigning> {
        let (kid, key) = ring.active(name).ok_or(NotSigning::Halted)?;
        if self.hands.get(kid) != Some(&Hand::Ready) {
            return Err(NotSigning::KeyUnavailable);
        }
        // A node of another configuration may not know the slot; the ring's own bound is good enough to sign by.
        let own = config.slot(name).map(|slot| config.max_lifetime(slot));
        let shared = ring.lifetime(key);
        Ok(SlotView {
            kid: kid.clone(),
            max_lifetime: own.map_or(shared, |own| own.min(shared)),
            hard_limit: key.activated_at.map(|at| at.saturating_add(config.timing.hard_limit)),
            latest_exp: latest_exp(ring, key),
        })
    }
}

/// I5: what is accepted until `exp + W` by a clock that is `ε` behind has to be gone when the key is.
fn latest_exp(ring: &RingState, key: &Key) -> Option<UnixTime> {
    let at = key.remove_at?;
    Some(at.saturating_sub(ring.terms.leeway).saturating_sub(ring.terms.clock_error))
}
