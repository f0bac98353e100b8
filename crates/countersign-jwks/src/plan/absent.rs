use std::sync::Arc;

use countersign_token::KeySet;

use super::{MAX_SPACING, Map, Now, Wanted};

/// How many keys are remembered as absent. Some 300 kB if a stranger fills it with the longest names.
pub(crate) const MAX_ABSENT: usize = 1024;

/// How many of them may have gone with one set: half, so that neither those crowd out what was asked for, nor strangers them.
/// It is room for all of [`MAX_KEYS`](countersign_token::MAX_KEYS) that say which algorithm they are for.
pub(crate) const MAX_GONE: usize = MAX_ABSENT / 2;

/// The keys that a fetch did not bring although it began after they had been seen, in a token or in the set before; and when the
/// last one began. Immutable: readers see one set of them or the next.
#[derive(Debug)]
pub(crate) struct Absent {
    wanted: Arc<Map<Wanted, ()>>,
    begun: Now,
}

impl Absent {
    pub(crate) fn none() -> Self {
        Self { wanted: Arc::default(), begun: Now::ZERO }
    }

    /// Whether the key was looked for, and not found, so recently that another look may not be due.
    ///
    /// That is for as long as forced fetches may be apart: a key published after the look is then looked for as soon as if it
    /// were not remembered. By both clocks: what was looked for before the machine was suspended is not recent.
    pub(crate) fn contains(&self, wanted: &Wanted, now: Now) -> bool {
        now.age(self.begun) < MAX_SPACING && self.remembers(wanted)
    }

    /// Whether a fetch has been without it, however long ago.
    pub(crate) fn remembers(&self, wanted: &Wanted) -> bool {
        self.wanted.contains_key(wanted)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// These too, which a fetch begun then did not bring; and with the same right all that it has not brought again, as far as
    /// there is room: first what is [gone] with the set before, which is little and nobody's invention, then what was looked for.
    /// Without the others what somebody goes on asking for would be unknown again every few seconds, for all such names at once.
    /// `changed`: whether `set` is another than before.
    pub(crate) fn succeeded_by(
        &self,
        gone: Map<Wanted, ()>,
        looked_for: Map<Wanted, u64>,
        begun: Now,
        set: &KeySet,
        changed: bool,
    ) -> Self {
        if looked_for.is_empty() && !changed {
            return Self { wanted: Arc::clone(&self.wanted), begun };
        }
        let mut absent = gone;
        let others = self.wanted.keys().filter(|wanted| !wanted.is_in(set)).cloned();
        for wanted in looked_for.into_keys().chain(others) {
            if absent.len() >= MAX_ABSENT {
                break;
            }
            absent.insert(wanted, ());
        }
        Self { wanted: Arc::new(absent), begun }
    }
}

/// What `old` had a key for and `new` has not: those that come first in `old`, no more than [`MAX_GONE`]. Nobody can know which of
/// them are shown; those that do not fit are looked for when they are, like any other.
pub(crate) fn gone(old: &KeySet, new: &KeySet) -> Map<Wanted, ()> {
    let mut gone = Map::default();
    for key in old.iter() {
        for algorithm in key.algorithms().iter() {
            for kid in [key.kid(), None] {
                if gone.len() >= MAX_GONE {
                    return gone;
                }
                if new.candidates(kid, algorithm).next().is_none() {
                    gone.insert(Wanted { kid: kid.map(Into::into), algorithm }, ());
                }
            }
        }
    }
    gone
}
