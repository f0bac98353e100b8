use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;

use crate::time::UnixTime;

/// Which tokens for one use were used already.
///
/// Each is remembered until nobody could use it any more. What is remembered never goes to make room: a memory that is
/// full admits nothing.
pub struct ReplayMemory {
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

/// Why a token is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replay {
    /// It was used, or it cannot be told any more.
    Used,
    /// There is no room to remember it.
    Full,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Used => "it was used before, or it cannot be told any more whether it was",
            Self::Full => "there is no room to remember that it is used",
        })
    }
}

impl std::error::Error for Replay {}

impl ReplayMemory {
    /// Tokens that are remembered at once, if nobody says otherwise: of each some 100 bytes, so 26 MiB.
    pub const DEFAULT_MOST: usize = 1 << 18;

    /// Of one client, so that none takes the others' room: 1,000 in each second that a signed request lives for.
    pub const DEFAULT_MOST_OF_ONE: usize = 1 << 16;

    /// Room for so many tokens, and for so many of one client.
    #[must_use]
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { inner: Mutex::default(), most, most_of_one }
    }

    /// Whether it was used, without using it.
    #[must_use]
    pub fn is_used(&self, client: &str, jti: &str) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).seen.contains_key(&name(client, jti))
    }

    /// Uses it: from now on, until `until`, it is known. `until` is when nobody could use it any more, whatever else.
    ///
    /// # Errors
    /// [`Replay`].
    pub fn admit(&self, client: &str, jti: &str, until: UnixTime, now: UnixTime) -> Result<(), Replay> {
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

impl Default for ReplayMemory {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MOST, Self::DEFAULT_MOST_OF_ONE)
    }
}

impl fmt::Debug for ReplayMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayMemory")
            .field("most", &self.most)
            .field("most_of_one", &self.most_of_one)
            .finish_non_exhaustive()
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

/// The length goes first, so that no two pairs are written alike.
fn name(client: &str, jti: &str) -> Name {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [&(client.len() as u64).to_be_bytes(), client.as_bytes(), jti.as_bytes()] {
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
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use super::*;

    fn at(secs: i64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    #[test]
    fn a_token_is_admitted_once_and_forgotten_when_nobody_can_use_it() {
        let memory = ReplayMemory::new(10, 10);
        assert_eq!(memory.admit("a", "1", at(100), at(0)), Ok(()));
        assert_eq!(memory.admit("a", "1", at(100), at(99)), Err(Replay::Used));
        assert_eq!(memory.admit("b", "1", at(100), at(99)), Ok(()), "a `jti` is its client's own");
        assert!(memory.is_used("a", "1") && !memory.is_used("a", "2"));
        assert_eq!(memory.admit("a", "2", at(200), at(100)), Ok(()));
        assert_eq!(memory.inner.lock().unwrap().seen.len(), 1);
        assert_eq!(memory.inner.lock().unwrap().of_client.len(), 1);
    }

    #[test]
    fn a_full_memory_admits_nothing_and_forgets_nothing() {
        let memory = ReplayMemory::new(3, 2);
        assert_eq!(memory.admit("a", "1", at(100), at(0)), Ok(()));
        assert_eq!(memory.admit("a", "2", at(100), at(0)), Ok(()));
        assert_eq!(memory.admit("a", "3", at(100), at(0)), Err(Replay::Full));
        assert_eq!(memory.admit("b", "1", at(100), at(0)), Ok(()), "one client does not take the others' room");
        assert_eq!(memory.admit("c", "1", at(100), at(0)), Err(Replay::Full));
        assert_eq!(memory.admit("a", "1", at(100), at(0)), Err(Replay::Used));
        assert_eq!(memory.admit("c", "1", at(200), at(100)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_brings_no_token_back() {
        let memory = ReplayMemory::new(10, 10);
        assert_eq!(memory.admit("a", "1", at(100), at(0)), Ok(()));
        assert_eq!(memory.admit("a", "2", at(900), at(600)), Ok(()));
        assert_eq!(memory.admit("a", "1", at(100), at(50)), Err(Replay::Used));
    }

    #[test]
    fn no_two_pairs_of_client_and_jti_are_one() {
        for ((client, jti), (other, another)) in [(("a", "bc"), ("ab", "c")), (("a\0", "b"), ("a", "\0b"))] {
            assert_ne!(name(client, jti), name(other, another));
        }
    }
}
