use std::collections::BTreeMap;

use crate::until::Until;

/// How many keys there are at least, on average, for each place in the index: 4 bytes of it weigh little beside 160 of them, and to look through them is two or three
/// lines of cache, one after the other.
const KEYS_PER_PLACE: usize = 8;

/// So many tails are compared at once: a line of cache. Places have 8 to 16 keys on average, so hardly any has more than that.
const WINDOW: usize = 32;

/// More bits the index is never looked into with; 2^28 places are right for what a list takes at most.
const MAX_INDEX_BITS: u32 = 28;

/// All of a key but its last 16 bits.
type Head = [u8; 14];

/// A key's last 16 bits.
type Tail = u16;

/// What is known of a key.
pub(crate) trait Value: Copy + PartialEq {
    /// When that ends.
    fn until(self) -> Until;

    /// What two that say something of the same key say together: whatever either says.
    fn and(self, other: Self) -> Self;
}

impl Value for Until {
    fn until(self) -> Until {
        self
    }

    fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

/// An immutable set of keys that are evenly spread, as hashes are, each with a value.
///
/// The keys are in order, and an index has for their first bits where they begin: a look-up is one load there, and a short look through
/// neighbours. That costs half a byte for each key more than the keys and their values.
///
/// Keys are split, and what is looked through is their last 16 bits, of which a million take 2 MB, so that they may be in a processor's cache where all
/// keys would not be. Only if these are the same, which for a key that is not there happens once in 8,192 look-ups, is the rest compared.
pub(crate) struct Set<V> {
    heads: Box<[Head]>,
    /// With a window at the end that is of no key.
    tails: Box<[Tail]>,
    values: Box<[V]>,
    /// Where the keys that begin with these bits are; one more, which is the end.
    index: Box<[u32]>,
    index_bits: u32,
    /// How many end when, in order, so that how many have ended is known without looking at them.
    ends: Box<[(Until, u32)]>,
}

impl<V: Value> Set<V> {
    pub(crate) fn empty() -> Self {
        Self::from_sorted(Sorted::with_capacity(0))
    }

    /// Of entries in any order. What has ended is left out, and what there is of the same key is put together.
    pub(crate) fn new(entries: Vec<Pending<V>>, over: Until) -> Self {
        let entries = unique(entries, over);
        let mut sorted = Sorted::with_capacity(entries.len());
        entries.iter().for_each(|entry| sorted.push(entry.key(), entry.value));
        Self::from_sorted(sorted)
    }

    /// What either has, but for what has ended. Of a key that is in both, the newer one's value is the one.
    pub(crate) fn merged(older: &Self, newer: &Self, over: Until) -> Self {
        let mut sorted = Sorted::with_capacity(older.len() + newer.len());
        let mut push = |(key, value): (u128, V)| {
            if !value.until().has_ended(over) {
                sorted.push(key, value);
            }
        };
        let (mut older, mut newer) = (older.iter().peekable(), newer.iter().peekable());
        while let Some(&(key, value)) = newer.peek() {
            match older.next_if(|(earlier, _)| *earlier <= key) {
                Some((earlier, _)) if earlier == key => {}
                Some(earlier) => {
                    push(earlier);
                    continue;
                }
                None => {}
            }
            push((key, value));
            newer.next();
        }
        older.for_each(push);
        Self::from_sorted(sorted)
    }

    fn from_sorted(sorted: Sorted<V>) -> Self {
        let Sorted { heads, mut tails, values, ends } = sorted;
        let index_bits = (heads.len() / KEYS_PER_PLACE).checked_ilog2().unwrap_or(0).clamp(1, MAX_INDEX_BITS);
        let mut index = Vec::with_capacity((1 << index_bits) + 1);
        for (at, (head, tail)) in heads.iter().zip(&tails).enumerate() {
            let place = place(joined(head, *tail), index_bits);
            while index.len() <= place {
                index.push(offset(at));
            }
        }
        index.resize((1 << index_bits) + 1, offset(heads.len()));
        // There is a window behind each key.
        tails.resize(tails.len() + WINDOW, 0);
        Self {
            heads: heads.into_boxed_slice(),
            tails: tails.into_boxed_slice(),
            values: values.into_boxed_slice(),
            index: index.into_boxed_slice(),
            index_bits,
            ends: ends.into_iter().collect(),
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: u128) -> Option<V> {
        let place = place(key, self.index_bits);
        let &[from, to] = self.index.get(place..place + 2)? else { return None };
        let (head, tail) = split(key);
        let (from, to) = (from as usize, to as usize);
        let window: &[Tail; WINDOW] = self.tails.get(from..)?.first_chunk()?;
        // All of them at once, without a branch for each. What it finds beyond the place's own is sorted out below.
        if !window.iter().fold(false, |found, one| found | (*one == tail)) && to - from <= WINDOW {
            return None;
        }
        let tails = self.tails.get(from..to)?.iter().enumerate();
        // There may be two with the same tail.
        let mut same = tails.filter(|(_, found)| **found == tail).map(|(at, _)| from + at);
        let at = same.find(|at| self.heads.get(*at) == Some(&head))?;
        self.values.get(at).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = u128> {
        self.heads.iter().zip(&self.tails).map(|(head, tail)| joined(head, *tail))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, V)> {
        self.keys().zip(self.values.iter().copied())
    }

    /// How many have ended, when so much is over.
    pub(crate) fn ended(&self, over: Until) -> usize {
        self.ends.iter().take_while(|(end, _)| end.has_ended(over)).map(|(_, count)| *count as usize).sum()
    }

    /// Of memory.
    pub(crate) fn bytes(&self) -> usize {
        let keys = size_of_val(&*self.heads) + size_of_val(&*self.tails);
        keys + size_of_val(&*self.values) + size_of_val(&*self.index) + size_of_val(&*self.ends)
    }
}

/// By its first bits.
#[inline]
fn place(key: u128, bits: u32) -> usize {
    (key >> (u128::BITS - bits)) as usize
}

#[inline]
fn split(key: u128) -> (Head, Tail) {
    let [head @ .., high, low] = key.to_be_bytes();
    (head, Tail::from_be_bytes([high, low]))
}

#[inline]
fn joined(head: &Head, tail: Tail) -> u128 {
    let mut key = [0; 16];
    let (front, back) = key.split_at_mut(size_of::<Head>());
    front.copy_from_slice(head);
    back.copy_from_slice(&tail.to_be_bytes());
    u128::from_be_bytes(key)
}

/// A list takes [`MAX_CAPACITY`](crate::MAX_CAPACITY) entries, which 32 bits count.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// What a set is made of.
struct Sorted<V> {
    heads: Vec<Head>,
    tails: Vec<Tail>,
    values: Vec<V>,
    ends: BTreeMap<Until, u32>,
}

impl<V: Value> Sorted<V> {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            heads: Vec::with_capacity(capacity),
            tails: Vec::with_capacity(capacity + WINDOW),
            values: Vec::with_capacity(capacity),
            ends: BTreeMap::new(),
        }
    }

    fn push(&mut self, key: u128, value: V) {
        let (head, tail) = split(key);
        self.heads.push(head);
        self.tails.push(tail);
        self.values.push(value);
        *self.ends.entry(value.until()).or_default() += 1;
    }
}

/// An entry on its way into a set. The key is in halves, which need no more than 8 bytes' alignment: with a value of 4 bytes it is 24 instead of
/// 32.
#[derive(Clone, Copy)]
pub(crate) struct Pending<V> {
    halves: [u64; 2],
    value: V,
}

impl<V> Pending<V> {
    pub(crate) fn new(key: u128, value: V) -> Self {
        Self { halves: [(key >> 64) as u64, key as u64], value }
    }
}

impl<V: Copy> Pending<V> {
    pub(crate) fn key(&self) -> u128 {
        u128::from(self.halves[0]) << 64 | u128::from(self.halves[1])
    }

    pub(crate) fn value(&self) -> V {
        self.value
    }
}

/// In order, and each key once. What has ended is left out first, so that it makes nothing last longer.
pub(crate) fn unique<V: Value>(mut entries: Vec<Pending<V>>, over: Until) -> Vec<Pending<V>> {
    entries.retain(|entry| !entry.value.until().has_ended(over));
    entries.sort_unstable_by_key(|entry| entry.halves);
    entries.dedup_by(|later, kept| {
        let same = later.halves == kept.halves;
        if same {
            kept.value = kept.value.and(later.value);
        }
        same
    });
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(steps: u32) -> Until {
        Until::over(countersign_claims::UnixTime::from_secs(i64::from(steps) * 64))
    }

    /// Few keys, all over the range and beside each other.
    fn entries() -> impl Strategy<Value = Vec<(u128, u32)>> {
        let key = (0..64_u128, 0..4_u128).prop_map(|(high, low)| high << 122 | low);
        prop::collection::vec((key, 1..20_u32), 0..300)
    }

    fn pending(entries: &[(u128, u32)]) -> Vec<Pending<Until>> {
        entries.iter().map(|(key, until)| Pending::new(*key, step(*until))).collect()
    }

    fn model(entries: &[(u128, u32)], over: u32) -> BTreeMap<u128, Until> {
        let mut model: BTreeMap<u128, u32> = BTreeMap::new();
        for (key, until) in entries {
            let latest = model.entry(*key).or_default();
            *latest = (*latest).max(*until);
        }
        model.into_iter().filter(|(_, until)| *until > over).map(|(key, until)| (key, step(until))).collect()
    }

    fn assert_is(set: &Set<Until>, model: &BTreeMap<u128, Until>) {
        assert_eq!(set.iter().collect::<BTreeMap<_, _>>(), *model);
        assert_eq!(set.len(), model.len());
        for key in (0..64_u128).flat_map(|high| (0..5_u128).map(move |low| high << 122 | low)) {
            assert_eq!(set.get(key), model.get(&key).copied(), "{key:x}");
        }
        for over in 0..21 {
            assert_eq!(set.ended(step(over)), model.values().filter(|end| end.has_ended(step(over))).count());
        }
    }

    proptest! {
        #[test]
        fn a_set_has_what_was_put_into_it_and_has_not_ended(entries in entries(), over in 0..20_u32) {
            assert_is(&Set::new(pending(&entries), step(over)), &model(&entries, over));
        }

        #[test]
        fn of_two_sets_the_newer_outweighs_the_older(older in entries(), newer in entries(), over in 0..20_u32) {
            let [one, other] = [&older, &newer].map(|entries| Set::new(pending(entries), Until::NOTHING));
            let mut both = model(&older, 0);
            both.extend(model(&newer, 0));
            both.retain(|_, until| !until.has_ended(step(over)));
            assert_is(&Set::merged(&one, &other, step(over)), &both);
        }
    }

    #[test]
    fn a_million_entries_take_twenty_bytes_and_a_half_each() {
        let spread = |i: u128| i.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let set = Set::new((0..1 << 20).map(|i| Pending::new(spread(i), step(9))).collect(), Until::NOTHING);
        // And the end of the index, what ends when, and the last window.
        assert!(set.bytes() <= (41 << 19) + 16 + 2 * WINDOW, "{}", set.bytes() >> 20);
        assert_eq!(size_of::<Pending<Until>>(), 24);
    }
}
