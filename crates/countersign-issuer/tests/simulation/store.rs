//! A store, the places from which its set is read, and what may be in somebody's cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_issuer::publication::{Found, Publication};
use countersign_issuer::state::RingState;

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) state: Option<(Arc<RingState>, u64)>,
    pub(crate) set: Option<(Arc<[u8]>, u64)>,
    pub(crate) privates: BTreeSet<String>,
    versions: u64,
}

impl Store {
    /// Compare and swap; the new version, or none.
    pub(crate) fn save(&mut self, state: &Arc<RingState>, expected: Option<u64>) -> Option<u64> {
        if self.state.as_ref().map(|(_, version)| *version) != expected {
            return None;
        }
        // What is written is what is read.
        let read = RingState::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!(read, **state);
        self.versions += 1;
        self.state = Some((state.clone(), self.versions));
        Some(self.versions)
    }

    pub(crate) fn publish(
        &mut self,
        publication: &Publication,
        expected: Option<u64>,
        is_conditional: bool,
    ) -> Option<u64> {
        if is_conditional && self.set.as_ref().map(|(_, version)| *version) != expected {
            return None;
        }
        self.versions += 1;
        self.set = Some((publication.bytes.clone(), self.versions));
        Some(self.versions)
    }
}

/// A published set, as verifiers may have it.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) seq: u64,
    pub(crate) kids: BTreeSet<String>,
    pub(crate) max_age: u64,
    /// From when it can be read somewhere; `None`: not yet.
    pub(crate) readable_at: Option<u64>,
    /// From when a later one can be.
    pub(crate) superseded_at: Option<u64>,
}

impl Set {
    pub(crate) fn new(publication: &Publication) -> Self {
        let found = Found::read(&publication.bytes).unwrap();
        Self {
            bytes: publication.bytes.clone(),
            seq: publication.seq,
            kids: found.kids.into_iter().collect(),
            max_age: publication.max_age.as_millis() as u64,
            readable_at: None,
            superseded_at: None,
        }
    }
}

/// Everything between the store and those who verify.
pub(crate) struct Public {
    pub(crate) sets: BTreeMap<u64, Set>,
    /// `P`.
    lag: u64,
}

impl Public {
    pub(crate) fn new(lag: u64) -> Self {
        Self { sets: BTreeMap::new(), lag }
    }

    /// From now on it can be read somewhere, and nothing that is older will be read for the first time.
    pub(crate) fn appear(&mut self, version: u64, now: u64) {
        if self.sets.range(version..).any(|(_, set)| set.readable_at.is_some()) {
            return;
        }
        for (_, set) in self.sets.range_mut(..version) {
            set.superseded_at.get_or_insert(now);
        }
        if let Some(set) = self.sets.get_mut(&version) {
            set.readable_at = Some(now);
        }
        let lag = self.lag;
        self.sets.retain(|it, set| *it >= version || dies_at(set, lag).is_none_or(|at| at > now));
    }

    pub(crate) fn newest(&self) -> Option<&Set> {
        self.sets.values().rev().find(|set| set.readable_at.is_some())
    }

    /// Every set that somebody may verify by.
    pub(crate) fn possible(&self, now: u64) -> impl Iterator<Item = &Set> {
        self.sets
            .values()
            .filter(move |set| set.readable_at.is_some() && dies_at(set, self.lag).is_none_or(|at| now < at))
    }

    /// Every set that an edge without a copy may get now.
    pub(crate) fn at_origin(&self, now: u64) -> Vec<&Set> {
        let is_there =
            |set: &&Set| set.readable_at.is_some() && set.superseded_at.is_none_or(|at| now <= at + self.lag);
        self.sets.values().filter(is_there).collect()
    }
}

/// The last that somebody can still verify by it: the slowest place gave it out, and two caches kept it after one
/// another (`B` is what a cache adds that does not know
/// how old its copy is).
fn dies_at(set: &Set, lag: u64) -> Option<u64> {
    if set.readable_at.is_none() {
        return set.superseded_at;
    }
    set.superseded_at.map(|at| at + lag + 2 * set.max_age)
}
