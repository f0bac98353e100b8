use xorf::{BinaryFuse16, Filter as _};

/// A binary fuse filter over the first 64 bits of keys: it finds all that are in it, and one in 65,536 of those that are not.
///
/// The keys are keyed hashes, so nobody can look for tokens that it finds by mistake.
pub(crate) struct Fuse(BinaryFuse16);

impl Fuse {
    /// Of keys in order. `None`: of none, or it cannot be built, which happens to nobody; one does without it.
    pub(crate) fn new(keys: impl ExactSizeIterator<Item = u128>) -> Option<Self> {
        if keys.len() == 0 {
            return None;
        }
        let mut halves: Vec<u64> = keys.map(half).collect();
        halves.dedup();
        BinaryFuse16::try_from(&halves).ok().map(Self)
    }

    #[inline]
    pub(crate) fn may_have(&self, key: u128) -> bool {
        self.0.contains(&half(key))
    }

    /// Of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0.fingerprints)
    }
}

#[inline]
fn half(key: u128) -> u64 {
    (key >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evenly spread, as hashes are.
    fn keys(from: u64, count: u64) -> Vec<u128> {
        use std::hash::{BuildHasher as _, RandomState};
        let random = RandomState::new();
        let mut keys: Vec<u128> = (from..from + count)
            .map(|i| u128::from(random.hash_one(i)) << 64 | u128::from(random.hash_one(!i)))
            .collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_is_in_it_is_found_at_any_size() {
        for count in (1..200).chain([1_000, 4_099, 65_536]) {
            let keys = keys(0, count);
            let fuse = Fuse::new(keys.iter().copied()).unwrap();
            assert!(keys.iter().all(|key| fuse.may_have(*key)), "{count}");
        }
    }

    #[test]
    fn of_what_is_not_in_it_hardly_anything_is_found() {
        let fuse = Fuse::new(keys(0, 10_000).into_iter()).unwrap();
        let found = keys(10_000, 200_000).into_iter().filter(|key| fuse.may_have(*key)).count();
        // Three are expected. Thirty happen to nobody.
        assert!(found < 30, "{found}");
    }

    #[test]
    fn keys_that_have_the_first_half_in_common_do_no_harm() {
        let mut keys = keys(0, 100);
        keys.extend(keys.clone().iter().map(|key| key ^ 1));
        keys.sort_unstable();
        let fuse = Fuse::new(keys.iter().copied()).unwrap();
        assert!(keys.iter().all(|key| fuse.may_have(*key)));
    }

    #[test]
    fn of_nothing_there_is_no_filter() {
        assert!(Fuse::new(std::iter::empty()).is_none());
    }
}
