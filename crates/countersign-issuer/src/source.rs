//! The ring's public keys for a verifier in the same process: what is published, without a fetch.

use std::fmt;
use std::future::Ready;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use countersign_token::{Answer, Ask, KeySet, KeySource, Miss, Unready};

use crate::desk::{Desk, Shared};

/// For how long keys are trusted after the state of the ring was read for the last time: as long as verifiers trust
/// what they fetch.
pub const MAX_STALE: Duration = Duration::from_secs(24 * 3_600);

/// The public keys of a ring, for verifiers in the process that has it: an issuer and an API that it protects in one
/// binary.
///
/// Each request reads a snapshot, which is replaced when the state of the ring is; nobody waits. A key that was revoked
/// goes with the state that says so. As long as the state cannot be read the last one counts, for [`MAX_STALE`] at
/// most.
///
/// A token with a `kid` that is not there has nobody look at the store. The node looks every `K` (10 s) anyway, and a
/// key is in the state for `C + P + ε` (640 s) before it signs, so a look out of turn finds nothing but what a stranger
/// has made up; and whoever may cause reads of the store causes them for all nodes. What it would shorten is one
/// case: on another node than the one that got the order, a key that signs at once after a
/// [compromise](crate::Ring::compromise) is unknown for up to `K`, which is part of the price that is said there.
#[derive(Clone)]
pub struct RingKeys {
    shared: Arc<Shared>,
}

impl RingKeys {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How long ago the state was read, at most; `None` if it never was.
    fn age(&self, desk: &Desk) -> Option<Duration> {
        desk.view.read_at().map(|read_at| self.shared.clock.now().since(&read_at))
    }

    /// To who has looked at the keys of that generation in vain.
    fn answer(&self, generation: Option<u64>) -> Answer {
        let desk = self.shared.desk.load();
        let retry_after = self.shared.config.timing.tick;
        match self.unready(&desk) {
            Some(reason) => Answer::Unavailable { reason, retry_after },
            None if generation != Some(desk.keys.generation()) => Answer::Changed,
            // A key is in the state long before it signs, so a state that is good enough to sign by has every key that
            // does.
            None if self.age(&desk).is_some_and(|age| age <= desk.view.lease()) => Answer::Absent,
            None => Answer::NotYet { retry_after },
        }
    }

    fn unready(&self, desk: &Desk) -> Option<Unready> {
        match self.age(desk) {
            None => Some(Unready::Starting),
            Some(_) if desk.keys.is_empty() => Some(Unready::NoKeys),
            Some(age) if age > MAX_STALE => Some(Unready::TooOld),
            Some(_) => None,
        }
    }
}

impl fmt::Debug for RingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingKeys").field("issuer", &self.shared.issuer).finish_non_exhaustive()
    }
}

/// The keys at one moment.
pub struct RingSnapshot<'a> {
    desk: Guard<Arc<Desk>>,
    source: PhantomData<&'a RingKeys>,
}

impl Deref for RingSnapshot<'_> {
    type Target = KeySet;

    fn deref(&self) -> &KeySet {
        &self.desk.keys
    }
}

impl KeySource for RingKeys {
    type Snapshot<'a> = RingSnapshot<'a>;
    type Waiting = Ready<Answer>;

    fn snapshot(&self) -> Option<RingSnapshot<'_>> {
        let desk = self.shared.desk.load();
        self.unready(&desk).is_none().then_some(RingSnapshot { desk, source: PhantomData })
    }

    fn snapshot_for_issuer<'i>(&self, _: impl FnOnce() -> Option<&'i str>) -> Option<RingSnapshot<'_>> {
        self.snapshot()
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting> {
        Ask::Answered(self.answer(miss.generation))
    }

    /// What no young state has nobody has, so a flood of made-up names is refused by a look at two clocks.
    fn is_known_absent(&self, miss: Miss<'_>) -> bool {
        self.answer(miss.generation) == Answer::Absent
    }
}

#[cfg(test)]
mod tests;
