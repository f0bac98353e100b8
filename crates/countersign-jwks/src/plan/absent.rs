use countersign_token::KeySet;

use super::{MAX_SPACING, Map, Now, Wanted};

/// How many keys are remembered as absent. Some 300 kB if a stranger fills it with the longest names.
pub(crate) const MAX_ABSENT: usize = 1024;

/// The keys that a fetch did not bring although it began after they had been asked for, each with the time when it began.
/// Immutable: readers see one set of them or the next.
#[derive(Debug, Default)]
pub(crate) struct Absent(Map<Wanted, Now>);

impl Absent {
    /// Whether the key was looked for, and not found, so recently that another look may not be due.
    pub(crate) fn contains(&self, wanted: &Wanted, now: Now) -> bool {
        self.0.get(wanted).is_some_and(|begun| is_recent(*begun, now))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// These too, which a fetch begun then did not bring; and of the earlier ones those that are recent, that the set does not
    /// have, and that there is room for.
    pub(crate) fn succeeded_by(
        &self,
        looked_for: impl Iterator<Item = Wanted>,
        begun: Now,
        set: &KeySet,
        now: Now,
    ) -> Self {
        let mut absent: Map<_, _> = looked_for.take(MAX_ABSENT).map(|wanted| (wanted, begun)).collect();
        let room = MAX_ABSENT - absent.len();
        let is_news = |wanted: &Wanted| !wanted.is_in(set) && !absent.contains_key(wanted);
        let earlier = self.0.iter().filter(|(wanted, begun)| is_recent(**begun, now) && is_news(wanted));
        let earlier: Vec<_> = earlier.take(room).map(|(wanted, begun)| (wanted.clone(), *begun)).collect();
        absent.extend(earlier);
        Self(absent)
    }
}

/// Entries live as long as forced fetches may be apart: a key published after the look is then looked for as soon as if
/// there had been no entry. By both clocks: what was looked for before the machine was suspended is not recent.
fn is_recent(begun: Now, now: Now) -> bool {
    now.age(begun) < MAX_SPACING
}
