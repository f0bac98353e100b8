//! Which assertions were used already.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use countersign::UnixTime;

/// Assertions that are remembered at once: of each some 100 bytes, so 26 MiB.
pub(crate) const MAX_REMEMBERED: usize = 1 << 18;

/// Of one client: so that none takes the others' room. 200 requests per second for as long as assertions live.
pub(crate) const MAX_REMEMBERED_OF_ONE: usize = 1 << 16;

/// Remembers each assertion until nobody could use it any more. What is remembered never goes to make room: a cache that
/// is full admits nothing.
pub(crate) struct ReplayCache {
    inner: Mutex<Inner>,
    most: usize,
    most_of_one: usize,
}

#[derive(Default)]
struct Inner {
    seen: HashMap<Name, Box<str>>,
    by_end: BTreeMap<UnixTime, Vec<Name>>,
    of_client: HashMap<Box<str>, usize>,
    /// What ended before was forgotten: whatever the clock says later, it ends no later.
    swept: Option<UnixTime>,
}

type Name = [u8; 16];

/// Why an assertion is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It was used, or it cannot be told any more.
    Used,
    /// There is no room to remember it.
    Full,
}

impl ReplayCache {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self { inner: Mutex::default(), most, most_of_one }
    }

    /// Whether it was used, without using it.
    pub(crate) fn is_used(&self, client: &str, jti: &str) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).seen.contains_key(&name(client, jti))
    }

    /// Uses it: from now on, until `until`, it is known.
    pub(crate) fn admit(&self, client: &str, jti: &str, until: UnixTime, now: UnixTime) -> Result<(), Replay> {
        let name = name(client, jti);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sweep(now);
        if inner.seen.contains_key(&name) || inner.swept.is_some_and(|swept| until <= swept) {
            return Err(Replay::Used);
        }
        let of_client = inner.of_client.get(client).copied().unwrap_or_default();
        if inner.seen.len() >= self.most || of_client >= self.most_of_one {
            return Err(Replay::Full);
        }
        inner.seen.insert(name, client.into());
        inner.by_end.entry(until).or_default().push(name);
        inner.of_client.insert(client.into(), of_client + 1);
        Ok(())
    }
}

impl Inner {
    fn sweep(&mut self, now: UnixTime) {
        self.swept = self.swept.max(Some(now));
        while let Some(end) = self.by_end.first_entry().filter(|end| *end.key() <= now) {
            for name in end.remove() {
                let Some(client) = self.seen.remove(&name) else { continue };
                if let Some(count) = self.of_client.get_mut(&client) {
                    *count -= 1;
                    if *count == 0 {
                        self.of_client.remove(&client);
                    }
                }
            }
        }
    }
}

/// Client names have no NUL.
fn name(client: &str, jti: &str) -> Name {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [client.as_bytes(), b"\0", jti.as_bytes()] {
        context.update(part);
    }
    let mut name = Name::default();
    for (to, from) in name.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    #[test]
    fn an_assertion_is_admitted_once_and_forgotten_when_nobody_can_use_it() {
        let cache = ReplayCache::new(10, 10);
        assert_eq!(cache.admit("a", "1", at(100), at(0)), Ok(()));
        assert_eq!(cache.admit("a", "1", at(100), at(99)), Err(Replay::Used));
        assert_eq!(cache.admit("b", "1", at(100), at(99)), Ok(()), "a `jti` is its client's own");
        assert!(cache.is_used("a", "1") && !cache.is_used("a", "2"));
        assert_eq!(cache.admit("a", "2", at(200), at(100)), Ok(()));
        assert_eq!(cache.inner.lock().unwrap().seen.len(), 1);
        assert_eq!(cache.inner.lock().unwrap().of_client.len(), 1);
    }

    #[test]
    fn a_full_cache_admits_nothing_and_forgets_nothing() {
        let cache = ReplayCache::new(3, 2);
        assert_eq!(cache.admit("a", "1", at(100), at(0)), Ok(()));
        assert_eq!(cache.admit("a", "2", at(100), at(0)), Ok(()));
        assert_eq!(cache.admit("a", "3", at(100), at(0)), Err(Replay::Full));
        assert_eq!(cache.admit("b", "1", at(100), at(0)), Ok(()), "one client does not take the others' room");
        assert_eq!(cache.admit("c", "1", at(100), at(0)), Err(Replay::Full));
        assert_eq!(cache.admit("a", "1", at(100), at(0)), Err(Replay::Used));
        assert_eq!(cache.admit("c", "1", at(200), at(100)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_brings_no_assertion_back() {
        let cache = ReplayCache::new(10, 10);
        assert_eq!(cache.admit("a", "1", at(100), at(0)), Ok(()));
        assert_eq!(cache.admit("a", "2", at(900), at(600)), Ok(()));
        assert_eq!(cache.admit("a", "1", at(100), at(50)), Err(Replay::Used));
    }
}
