//! The names of keys that were in force once and are not any more, so that a refusal can be explained.

use std::collections::{HashSet, VecDeque};

use countersign_token::{KeySet, MAX_KID_BYTES};

use crate::plan::Now;

/// How many names of withdrawn keys a source remembers, the latest: some 20 kB with the longest names, and for usual ones years of
/// rotations.
pub const MAX_WITHDRAWN: usize = 64;

/// In the order in which they went, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Withdrawn(VecDeque<(Box<str>, Now)>);

impl Withdrawn {
    /// At `now` the provider has put `new` in the place of `old`. A key that comes back is withdrawn no more.
    pub(crate) fn replaced(&mut self, old: &KeySet, new: &KeySet, now: Now) {
        let names = |set: &KeySet| -> HashSet<Box<str>> {
            // No token can have a longer one.
            set.iter().filter_map(|key| key.kid()).filter(|kid| kid.len() <= MAX_KID_BYTES).map(Into::into).collect()
        };
        let in_force = names(new);
        self.0.retain(|(kid, _)| !in_force.contains(kid));
        for kid in names(old).into_iter().filter(|kid| !in_force.contains(kid)) {
            self.0.push_back((kid, now));
        }
        self.0.drain(..self.0.len().saturating_sub(MAX_WITHDRAWN));
    }

    /// When the key of this name went.
    pub(crate) fn when(&self, kid: &str) -> Option<Now> {
        self.0.iter().find(|(name, _)| **name == *kid).map(|(_, then)| *then)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use countersign_token::{Algorithm, SigningKey};

    use super::*;

    fn set(kids: impl IntoIterator<Item = String>) -> KeySet {
        let key = |kid| SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid(kid).verifying_key().unwrap();
        KeySet::new(kids.into_iter().map(|kid| Arc::new(key(kid))))
    }

    #[test]
    fn the_latest_are_remembered_once_each_and_no_more_of_them_than_there_is_room_for() {
        let at = |second| Now { monotonic: Duration::from_secs(second), wall: Duration::from_secs(second) };
        let mut withdrawn = Withdrawn::default();
        let many = 3 * MAX_WITHDRAWN as u64;
        for second in 1..=many {
            withdrawn.replaced(&set([second.to_string()]), &set([(second + 1).to_string()]), at(second));
        }
        assert_eq!(withdrawn.0.len(), MAX_WITHDRAWN);
        let first = many - MAX_WITHDRAWN as u64;
        assert_eq!(withdrawn.when(&first.to_string()), None);
        assert_eq!(withdrawn.when(&(first + 1).to_string()), Some(at(first + 1)));
        // The last one comes and goes.
        for second in [many + 1, many + 2] {
            withdrawn.replaced(&set(["x".into()]), &set([many.to_string()]), at(second));
            assert_eq!(withdrawn.when(&many.to_string()), None);
            withdrawn.replaced(&set([many.to_string()]), &set(["x".into()]), at(second));
            assert_eq!(withdrawn.when(&many.to_string()), Some(at(second)));
        }
        assert_eq!(withdrawn.0.len(), MAX_WITHDRAWN);
        // All of a large set at once.
        withdrawn.replaced(&set((0..256).map(|index| format!("{index:0>256}"))), &KeySet::default(), at(2 * many));
        assert_eq!(withdrawn.0.len(), MAX_WITHDRAWN);
        assert!(withdrawn.0.iter().map(|(kid, _)| kid.len()).sum::<usize>() <= MAX_WITHDRAWN * MAX_KID_BYTES);
    }
}
