use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_issuer::state::KeyState;
use countersign_issuer::step::Exposure;
use countersign_issuer::{Revoked, Ring, RingStatus, Rotated};
use serde::Serialize;

use super::order::What;
use super::{unknown_key, unknown_slot};
use crate::problem::Problem;

/// What has come of an order, or would.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    dry_run: bool,
    /// The slots in which the standby signs now.
    rotated: Vec<String>,
    /// The slots in which another key will sign as soon as there is a standby.
    later: Vec<String>,
    /// The keys whose tokens do not count any more.
    revoked: Vec<String>,
    /// The slots in which no key signs for now.
    halted: Vec<String>,
    /// Of each slot the key that signs.
    signs: BTreeMap<String, Option<String>>,
    /// For how long tokens of what was revoked may still be accepted; none, if nothing was.
    exposure_seconds: Option<ExposureSeconds>,
}

/// Rounded up.
#[derive(Debug, Serialize)]
struct ExposureSeconds {
    /// By verifiers that follow a feed which the ring tells.
    with_feed: u64,
    /// By those that fetch the key set.
    without_feed: u64,
}

impl From<Exposure> for ExposureSeconds {
    fn from(exposure: Exposure) -> Self {
        let up = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        Self { with_feed: up(exposure.with_feed), without_feed: up(exposure.without_feed) }
    }
}

impl Outcome {
    pub(super) fn rotated(done: Rotated) -> Self {
        Self { rotated: done.now, later: done.later, ..Self::default() }
    }

    pub(super) fn revoked(done: Revoked) -> Self {
        let exposure_seconds = (!done.kids.is_empty()).then(|| done.exposure.into());
        Self { revoked: done.kids, halted: done.halted, exposure_seconds, ..Self::default() }
    }

    /// With the keys that sign now: where the next one may sign at once, it may by now.
    pub(super) fn told_of(mut self, status: &RingStatus) -> Self {
        self.signs = signing(status);
        self.halted.retain(|slot| self.signs.get(slot).is_none_or(Option::is_none));
        self
    }

    /// As this node sees the ring at this moment.
    pub(super) fn foreseen(what: &What, ring: &Ring) -> Result<Self, Problem> {
        let status = ring.status();
        let mut foreseen = Self { dry_run: true, signs: signing(&status), ..Self::default() };
        match what {
            What::Rotate { slots } => {
                for slot in named(slots, &status)? {
                    let standby = standby(&slot, &status, &BTreeSet::new());
                    match standby.filter(|_| status.is_clock_sound) {
                        Some(kid) => {
                            foreseen.signs.insert(slot.clone(), Some(kid));
                            foreseen.rotated.push(slot);
                        }
                        None => foreseen.later.push(slot),
                    }
                }
            }
            What::Emergency { slots, .. } => {
                let slots = named(slots, &status)?;
                let signs = slots.iter().filter_map(|slot| active(slot, &status)).collect();
                foreseen.revoke(signs, &status, ring);
            }
            What::Revoke { kid, .. } => {
                ring.fate(kid).ok_or_else(unknown_key)?;
                foreseen.revoke(BTreeSet::from([kid.clone()]), &status, ring);
            }
        }
        Ok(foreseen)
    }

    fn revoke(&mut self, kids: BTreeSet<String>, status: &RingStatus, ring: &Ring) {
        for slot in known(status) {
            let stays = active(&slot, status).filter(|kid| !kids.contains(kid));
            let signs = stays.or_else(|| standby(&slot, status, &kids));
            if signs.is_none() {
                self.halted.push(slot.clone());
            }
            self.signs.insert(slot, signs);
        }
        self.exposure_seconds = (!kids.is_empty()).then(|| ring.exposure().into());
        self.revoked = kids.into_iter().collect();
    }
}

fn signing(status: &RingStatus) -> BTreeMap<String, Option<String>> {
    known(status).map(|slot| (slot.clone(), active(&slot, status))).collect()
}

/// The slots that the ring has.
fn known(status: &RingStatus) -> impl Iterator<Item = String> {
    status.slots.iter().filter(|(_, slot)| slot.mode.is_some()).map(|(name, _)| name.clone())
}

fn named(slots: &[String], status: &RingStatus) -> Result<Vec<String>, Problem> {
    let known: Vec<_> = known(status).collect();
    if slots.is_empty() {
        return Ok(known);
    }
    if slots.iter().all(|slot| known.contains(slot)) { Ok(slots.to_vec()) } else { Err(unknown_slot()) }
}

fn active(slot: &str, status: &RingStatus) -> Option<String> {
    let mut keys = status.keys.iter().filter(|(_, key)| key.slot == slot && key.state == KeyState::Active);
    keys.next().map(|(kid, _)| kid.clone())
}

fn standby(slot: &str, status: &RingStatus, without: &BTreeSet<String>) -> Option<String> {
    let is_standby =
        |kid: &str| status.keys.get(kid).is_some_and(|key| key.slot == slot && key.state == KeyState::Standby);
    let mut kids = status.keys.keys().filter(|kid| is_standby(kid) && !without.contains(*kid));
    kids.next().cloned()
}
