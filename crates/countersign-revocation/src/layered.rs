use std::sync::Arc;

use crate::filter::Fuse;
use crate::set::{Pending, Set, Value, unique};
use crate::until::Until;

/// When what has come since is merged into the base.
///
/// Each addition copies what has come since the last merger, and each merger copies the base. For a base of ten million and additions one by one both
/// cost the same at `sqrt(2 * base)`, which is 4,472; so it is hardly ever less, and for larger bases a little more, because a merger needs the base's
/// memory twice for a moment. (A sixteenth of the base, as it was planned, would copy 12 MB with each addition to ten million.)
const MERGE_SHARE: usize = 256;

/// What share of it must have ended before a base is copied only to clear that away.
const SWEEP_SHARE: usize = 8;

/// An immutable set in two layers: a large base, and what has come since, which is small enough to be copied with each addition.
pub(crate) struct Layered<V> {
    base: Arc<Base<V>>,
    recent: Arc<Set<V>>,
    /// How many are in both.
    twice: usize,
    /// Most lists have something in one layer of one part, and a look at what is empty is one for nothing.
    has_base: bool,
    has_recent: bool,
}

pub(crate) struct Base<V> {
    set: Set<V>,
    front: Option<Fuse>,
}

/// No `V: Clone` is needed for it.
impl<V> Clone for Layered<V> {
    fn clone(&self) -> Self {
        Self { base: Arc::clone(&self.base), recent: Arc::clone(&self.recent), ..*self }
    }
}

impl<V: Value> Layered<V> {
    pub(crate) fn empty() -> Self {
        Self::new(Base::new(Set::empty(), None))
    }

    pub(crate) fn new(base: Base<V>) -> Self {
        Self::of(Arc::new(base), Set::empty(), 0)
    }

    fn of(base: Arc<Base<V>>, recent: Set<V>, twice: usize) -> Self {
        Self { has_base: base.set.len() > 0, has_recent: recent.len() > 0, base, recent: Arc::new(recent), twice }
    }

    /// What is known of a key, also when it has ended. What came later takes into account what was there, so it outweighs that.
    #[inline]
    pub(crate) fn get(&self, key: u128) -> Option<V> {
        let recent = if self.has_recent { self.recent.get(key) } else { None };
        match recent {
            None if self.has_base => self.base.get(key),
            found => found,
        }
    }

    /// With these as well. `None` if they say nothing that is new. What has ended when so much is `over` counts as if it was swept already, so that
    /// it makes no difference when that happens.
    pub(crate) fn with(&self, entries: Vec<Pending<V>>, over: Until) -> Option<Self> {
        let mut news = Vec::new();
        let mut twice = self.twice;
        for entry in unique(entries, over) {
            let recent = self.recent.get(entry.key());
            let known = recent.or_else(|| self.base.get(entry.key()));
            let value = match known.filter(|known| !known.until().has_ended(over)) {
                Some(known) => known.and(entry.value()),
                None => entry.value(),
            };
            if known != Some(value) {
                twice += usize::from(recent.is_none() && known.is_some());
                news.push(Pending::new(entry.key(), value));
            }
        }
        if news.is_empty() {
            return None;
        }
        // What hides a part of the base has to stay as long as that: it is not swept here, but with it.
        let recent = Set::merged(&self.recent, &Set::new(news, over), Until::NOTHING);
        Some(Self::of(Arc::clone(&self.base), recent, twice))
    }

    /// How many have not ended. Of those in both layers the base's is taken off, even if it has ended, so it may be a few too low until they are
    /// merged; never too high, which would refuse a revocation for which there is room.
    pub(crate) fn live(&self, over: Until) -> usize {
        (self.len() - self.ended(over)).saturating_sub(self.twice)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// This, if it is time to merge the layers or to sweep; not for less than `from` entries.
    pub(crate) fn if_due(&self, over: Until, from: usize) -> Option<Self> {
        let is_due = self.recent.len() >= from.max(self.base.set.len() / MERGE_SHARE)
            || self.ended(over) >= from.max(self.len() / SWEEP_SHARE);
        is_due.then(|| self.clone())
    }

    /// The layers in one, without what has ended; with a filter in front if there are at least so many.
    pub(crate) fn merged(&self, over: Until, front_from: Option<usize>) -> Base<V> {
        Base::new(Set::merged(&self.base.set, &self.recent, over), front_from)
    }

    /// With `merged`, which `earlier` has been merged into; what has come since stays. `None` if this has another base by now.
    pub(crate) fn settled(&self, earlier: &Self, merged: Base<V>) -> Option<Self> {
        if !Arc::ptr_eq(&self.base, &earlier.base) {
            return None;
        }
        let since = self.recent.iter().filter(|(key, value)| earlier.recent.get(*key) != Some(*value));
        let since: Vec<_> = since.map(|(key, value)| Pending::new(key, value)).collect();
        let twice = since.iter().filter(|entry| merged.set.get(entry.key()).is_some()).count();
        Some(Self::of(Arc::new(merged), Set::new(since, Until::NOTHING), twice))
    }

    /// Of memory.
    pub(crate) fn bytes(&self) -> usize {
        let front = self.base.front.as_ref().map_or(0, Fuse::bytes);
        self.base.set.bytes() + front + self.recent.bytes()
    }

    /// With what has ended, and what is in both layers twice.
    fn len(&self) -> usize {
        self.base.set.len() + self.recent.len()
    }

    fn ended(&self, over: Until) -> usize {
        self.base.set.ended(over) + self.recent.ended(over)
    }
}

impl<V: Value> Base<V> {
    pub(crate) fn new(set: Set<V>, front_from: Option<usize>) -> Self {
        let front = front_from.filter(|from| set.len() >= *from).and_then(|_| Fuse::new(set.keys()));
        Self { set, front }
    }

    #[inline]
    fn get(&self, key: u128) -> Option<V> {
        match &self.front {
            Some(front) if !front.may_have(key) => None,
            _ => self.set.get(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER: Until = Until::NOTHING;

    fn step(steps: i64) -> Until {
        Until::over(countersign_claims::UnixTime::from_secs(steps * 64))
    }

    fn entries(entries: &[(u128, i64)]) -> Vec<Pending<Until>> {
        // Keys are spread by their first bits.
        entries.iter().map(|(key, until)| Pending::new(key << 120, step(*until))).collect()
    }

    fn with(layers: &Layered<Until>, more: &[(u128, i64)], over: Until) -> Layered<Until> {
        layers.with(entries(more), over).expect("it is news")
    }

    #[test]
    fn what_is_known_already_is_no_news() {
        let layers = with(&Layered::empty(), &[(1, 10), (2, 20)], OVER);
        assert!(layers.with(entries(&[(1, 10), (2, 15)]), OVER).is_none());
        let layers = Layered::new(layers.merged(OVER, None));
        assert!(layers.with(entries(&[(1, 10), (2, 15)]), OVER).is_none());
        assert!(layers.with(entries(&[(2, 21)]), OVER).is_some());
    }

    #[test]
    fn what_has_ended_is_neither_taken_nor_put_together_with_what_comes() {
        let layers = with(&Layered::empty(), &[(1, 10)], OVER);
        assert!(layers.with(entries(&[(2, 9), (3, 10)]), step(10)).is_none());
        let later = with(&layers, &[(1, 11)], step(10));
        assert_eq!(later.get(1 << 120), Some(step(11)));
    }

    #[test]
    fn what_comes_during_a_merger_stays_and_what_was_merged_is_in_the_base_alone() {
        let earlier = with(&Layered::new(Base::new(Set::new(entries(&[(1, 10)]), OVER), None)), &[(2, 20)], OVER);
        let merged = earlier.merged(OVER, None);
        let now = with(&with(&earlier, &[(3, 30)], OVER), &[(2, 25)], OVER);
        let settled = now.settled(&earlier, merged).unwrap();
        let all = [1, 2, 3, 4].map(|key| settled.get(key << 120));
        assert_eq!(all, [Some(step(10)), Some(step(25)), Some(step(30)), None]);
        assert_eq!((settled.base.set.len(), settled.recent.len(), settled.twice), (2, 2, 1));
        assert_eq!(settled.live(OVER), 3);
    }

    #[test]
    fn a_base_that_was_replaced_during_a_merger_stays() {
        let earlier = with(&Layered::empty(), &[(1, 10)], OVER);
        let replaced = Layered::new(Base::new(Set::new(entries(&[(2, 20)]), OVER), None));
        assert!(replaced.settled(&earlier, earlier.merged(OVER, None)).is_none());
    }

    #[test]
    fn it_is_due_when_much_has_come_or_much_has_ended() {
        let layers = with(&Layered::empty(), &[(1, 10), (2, 20), (3, 30)], OVER);
        assert!(layers.if_due(OVER, 4).is_none());
        assert!(layers.if_due(OVER, 3).is_some());
        let layers = Layered::new(layers.merged(OVER, None));
        assert!(layers.if_due(step(19), 2).is_none());
        assert!(layers.if_due(step(20), 2).is_some());
        assert_eq!(Layered::new(layers.merged(step(20), None)).len(), 1);
    }

    #[test]
    fn a_filter_in_front_hides_nothing() {
        let many: Vec<(u128, i64)> = (0..=255).map(|key| (key, 10)).collect();
        let layers = Layered::new(Base::new(Set::new(entries(&many), OVER), Some(100)));
        assert!(layers.base.front.is_some());
        assert!((0..=255_u128).all(|key| layers.get(key << 120).is_some()));
        assert!(layers.get(1).is_none());
    }
}
