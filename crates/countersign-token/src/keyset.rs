use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use crate::algorithm::Algorithm;
use crate::key::VerifyingKey;

/// The most keys that one token is tried against, where its `kid` does not single one out: each costs a signature check
/// that anybody can make us do. Issuers that leave `kid` out have one key, or two while they rotate.
pub const MAX_CANDIDATES: usize = 4;

/// An immutable set of prepared keys. A verifier sees all of one set, or all of the next, and never a mixture.
///
/// Looking a key up costs the same whatever the size of the set.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Arc<VerifyingKey>>,
    /// Positions in `keys`. The standard library's keyed hash, because names come from strangers.
    by_kid: HashMap<Box<str>, SmallVec<[u32; 1]>>,
    /// For each algorithm, in the order of the enum: the first few keys that can do it.
    by_algorithm: [SmallVec<[u32; MAX_CANDIDATES]>; Algorithm::ALL.len()],
    /// The same for keys without a name; empty unless they match any `kid`.
    unnamed: [SmallVec<[u32; MAX_CANDIDATES]>; Algorithm::ALL.len()],
    unnamed_match_any_kid: bool,
    generation: u64,
    stamp: Stamp,
}

/// What tells a set of keys from every other one in this process: a number that no two have. Only sets that are one and the same, whatever source
/// they come from, have equal stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    /// As a number; never 0.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl Default for Stamp {
    /// The next. At one for each nanosecond they last for five hundred years.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl KeySet {
    /// A set of `keys`, in that order.
    pub fn new<K: Into<Arc<VerifyingKey>>>(keys: impl IntoIterator<Item = K>) -> Self {
        let mut set = Self::default();
        for key in keys {
            set.push(key.into());
        }
        set
    }

    /// The keys of all these sets, in that order. Those that match any `kid` in their set do so in this one.
    #[must_use]
    pub fn merged<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut merged = Self::default();
        for set in sets {
            merged.unnamed_match_any_kid = set.unnamed_match_any_kid;
            for key in &set.keys {
                merged.push(Arc::clone(key));
            }
        }
        merged
    }

    /// Lets keys *without* a name also answer for tokens whose `kid` no key has. Off by default: a token that names a
    /// key we do not have should not be tried against others. Meant for static keys from PEM files, which have no name.
    #[must_use]
    pub fn unnamed_keys_match_any_kid(mut self) -> Self {
        self.unnamed_match_any_kid = true;
        let keys = std::mem::take(&mut self.keys);
        let mut set = Self { unnamed_match_any_kid: true, generation: self.generation, ..Self::default() };
        for key in keys {
            set.push(key);
        }
        set
    }

    /// The same keys, each [bound to this issuer](VerifyingKey::bound_to_issuer).
    #[must_use]
    pub fn bound_to_issuer(self, issuer: impl Into<Arc<str>>) -> Self {
        let issuer = issuer.into();
        let mut set =
            Self { unnamed_match_any_kid: self.unnamed_match_any_kid, generation: self.generation, ..Self::default() };
        for key in self.keys {
            let key = Arc::unwrap_or_clone(key);
            set.push(Arc::new(key.bound_to_issuer(Arc::clone(&issuer))));
        }
        set
    }

    /// The same set with a number that tells it from earlier ones of its source; 0 for a static set.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// What tells this set from all others: whoever remembers that something was so by a set need not look again while the set in force has the
    /// same stamp.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The number of this set within its source; it only grows.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The keys that a token with this `kid` and algorithm may have been signed with, at most [`MAX_CANDIDATES`].
    ///
    /// With a `kid`: the keys of exactly that name (several only where an issuer uses one name for several types).
    /// Without: the first few keys, in the order of the set, that can do the algorithm.
    pub fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Arc<VerifyingKey>> {
        let positions: &[u32] = match kid {
            Some(kid) => match self.by_kid.get(kid) {
                Some(positions) => positions,
                None => &self.unnamed[algorithm as usize],
            },
            None => &self.by_algorithm[algorithm as usize],
        };
        positions
            .iter()
            .filter_map(|position| self.keys.get(*position as usize))
            .filter(move |key| key.algorithms().contains(algorithm))
            .take(MAX_CANDIDATES)
    }

    /// All keys, in the order of the set.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<VerifyingKey>> {
        self.keys.iter()
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether both sets have the same keys under the same names, in whatever order: some issuers write them in another one
    /// each time, which is no news.
    #[must_use]
    pub fn has_same_keys_as(&self, other: &Self) -> bool {
        self.len() == other.len() && self.identities() == other.identities()
    }

    /// The same set, in which every key that `predecessor` has too *is* the predecessor's: whoever remembers the `Arc`
    /// of a key can tell by its address whether the key is still in force.
    #[must_use]
    pub fn succeeding(mut self, predecessor: &Self) -> Self {
        for key in &mut self.keys {
            let same =
                match key.kid() {
                    Some(kid) => predecessor.by_kid.get(kid).into_iter().flatten().find_map(|position| {
                        predecessor.keys.get(*position as usize).filter(|old| old.is_same_as(key))
                    }),
                    None => predecessor.keys.iter().find(|old| old.is_same_as(key)),
                };
            if let Some(same) = same {
                *key = Arc::clone(same);
            }
        }
        self.stamp = Stamp::default();
        self
    }

    /// What the keys are, sorted.
    fn identities(&self) -> Vec<impl Ord + '_> {
        let mut identities: Vec<_> = self.keys.iter().map(|key| key.identity()).collect();
        identities.sort_unstable();
        identities
    }

    fn push(&mut self, key: Arc<VerifyingKey>) {
        // A set of four thousand million keys does not fit into memory.
        let position = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        match key.kid() {
            Some(kid) => self.by_kid.entry(kid.into()).or_default().push(position),
            None if self.unnamed_match_any_kid => push_capped(&mut self.unnamed, &key, position),
            None => {}
        }
        push_capped(&mut self.by_algorithm, &key, position);
        self.keys.push(key);
    }
}

fn push_capped(index: &mut [SmallVec<[u32; MAX_CANDIDATES]>], key: &VerifyingKey, position: u32) {
    for algorithm in key.algorithms().iter() {
        let positions = &mut index[algorithm as usize];
        if positions.len() < MAX_CANDIDATES {
            positions.push(position);
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("generation", &self.generation).field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    fn key(algorithm: Algorithm, kid: Option<&str>) -> VerifyingKey {
        let key = SigningKey::generate(algorithm).unwrap().verifying_key().unwrap();
        match kid {
            Some(kid) => key.with_kid(kid).unwrap(),
            None => key,
        }
    }

    fn found(set: &KeySet, kid: Option<&str>, algorithm: Algorithm) -> Vec<Option<String>> {
        set.candidates(kid, algorithm).map(|key| key.kid().map(str::to_owned)).collect()
    }

    #[test]
    fn a_name_finds_its_keys_by_type_and_nothing_else() {
        let set = KeySet::new([
            key(Algorithm::Es256, Some("a")),
            key(Algorithm::Ed25519, Some("a")),
            key(Algorithm::Es256, Some("A")),
            key(Algorithm::Es256, None),
        ]);
        assert_eq!(found(&set, Some("a"), Algorithm::Es256), [Some("a".into())]);
        assert_eq!(found(&set, Some("a"), Algorithm::Ed25519), [Some("a".into())]);
        assert_eq!(found(&set, Some("a"), Algorithm::Rs256), []);
        assert_eq!(found(&set, Some("b"), Algorithm::Es256), []);
        assert_eq!(found(&set, Some(""), Algorithm::Es256), []);
    }

    #[test]
    fn a_token_without_kid_is_tried_against_few_compatible_keys() {
        let mut keys: Vec<_> = (0..9).map(|_| key(Algorithm::Es256, None)).collect();
        keys.insert(0, key(Algorithm::Ed25519, Some("e")));
        let set = KeySet::new(keys);
        assert_eq!(set.candidates(None, Algorithm::Es256).count(), MAX_CANDIDATES);
        assert_eq!(found(&set, None, Algorithm::Ed25519), [Some("e".into())]);
        let same_name = KeySet::new((0..9).map(|_| key(Algorithm::Es256, Some("a"))));
        assert_eq!(same_name.candidates(Some("a"), Algorithm::Es256).count(), MAX_CANDIDATES);
    }

    #[test]
    fn unnamed_keys_answer_for_other_names_only_on_demand() {
        let set =
            KeySet::new([key(Algorithm::Es256, None), key(Algorithm::Es256, Some("a"))]).unnamed_keys_match_any_kid();
        assert_eq!(found(&set, Some("b"), Algorithm::Es256), [None]);
        assert_eq!(found(&set, Some("a"), Algorithm::Es256), [Some("a".into())]);
    }

    #[test]
    fn another_order_is_no_other_set() {
        let signer = SigningKey::generate(Algorithm::Rs256).unwrap();
        let admitted = |algorithm: Algorithm| {
            let mut jwk = signer.public_jwk().unwrap();
            jwk["alg"] = algorithm.name().into();
            jwk["kid"] = "a".into();
            let document = format!(r#"{{"keys":[{jwk}]}}"#);
            Arc::clone(&crate::JwkSet::parse(document.as_bytes(), crate::Origin::Remote).unwrap().keys()[0])
        };
        // One key twice under one name, for different uses; one name twice, for different keys; one without a name.
        let keys = [
            admitted(Algorithm::Rs256),
            admitted(Algorithm::Ps256),
            key(Algorithm::Es256, Some("a")).into(),
            key(Algorithm::Es256, None).into(),
        ];
        let set = KeySet::new(keys.clone());
        for turned in 0..keys.len() {
            let mut other = keys.clone();
            other.rotate_left(turned);
            assert!(set.has_same_keys_as(&KeySet::new(other.clone())));
            other.reverse();
            assert!(set.has_same_keys_as(&KeySet::new(other.clone())));
            other[0] = key(Algorithm::Es256, None).into();
            assert!(!set.has_same_keys_as(&KeySet::new(other.clone())));
            other[0] = Arc::clone(&other[1]);
            assert!(!set.has_same_keys_as(&KeySet::new(other)), "one is there twice, another is not");
            assert!(!set.has_same_keys_as(&KeySet::new(keys[1..].iter().cloned())));
        }
    }

    #[test]
    fn a_successor_keeps_the_keys_that_did_not_change() {
        let (kept, withdrawn) =
            (SigningKey::generate(Algorithm::Es256).unwrap().with_kid("kept"), key(Algorithm::Es256, Some("gone")));
        let old = KeySet::new([kept.verifying_key().unwrap(), withdrawn]);
        let new = KeySet::new([
            key(Algorithm::Es256, Some("new")),
            kept.verifying_key().unwrap(),
            key(Algorithm::Es256, Some("gone")),
        ]);
        let new = new.succeeding(&old);
        let (old, new): (Vec<_>, Vec<_>) = (old.iter().collect(), new.iter().collect());
        assert!(Arc::ptr_eq(new[1], old[0]));
        assert!(!Arc::ptr_eq(new[2], old[1]), "same name, other key");
    }
}
