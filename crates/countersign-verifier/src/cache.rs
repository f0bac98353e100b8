//! The tokens that have been verified: a token that comes again is compared, not verified again.
//!
//! It holds what was accepted and never decides: whoever finds a token here asks again whatever may have changed since, its key first. So nothing has to
//! be purged, and it does not matter in which order tokens are remembered and keys, or revocations, change.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_claims::{Remembered, Verified};
use countersign_token::Stamp;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, Weighter};

use crate::threads::number_of_thread;

/// How many tokens are remembered unless said otherwise. A service that ten thousand callers use within the lifetime of their tokens finds room for all.
pub const DEFAULT_CACHED_TOKENS: usize = 16 * 1024;

/// How many bytes these tokens may take together, their claims included, unless said otherwise: 4 KiB for each, which an ordinary token of 900 bytes is
/// counted as less than.
pub const DEFAULT_CACHED_BYTES: usize = 64 * 1024 * 1024;

/// Each has a lock of its own, which is held for one look-up or one insertion and never waited for. As many as there are cores on the largest common machines,
/// so that two requests rarely want the same one at the same moment, and few enough to hold 128 tokens each.
const SHARDS: usize = 128;

/// What a shard holds at least, bytes, where there is so much: thirty tokens of the longest that are accepted by default, so that a small cache is of few
/// shards and not of many that no token fits into.
const SHARD_BYTES: usize = 512 * 1024;

/// How much of the end of a token is hashed, bytes: 18 octets of its signature, which nobody but the issuer can choose. Only verified tokens are kept here,
/// so that strangers cannot fill one place with many; and what is found is compared whole.
const HASHED_BYTES: usize = 24;

/// What a verifier remembers, or not.
pub(crate) struct TokenCache {
    limits: Limits,
    /// Made when the first token has been verified.
    tokens: OnceLock<Tokens>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Limits {
    tokens: usize,
    bytes: usize,
}

struct Tokens {
    known: Cache<Token, Known, ByWeight, DefaultHashBuilder, Outside>,
    seen: Seen,
    counts: Counts,
}

/// How a verifier's [cache of tokens](crate::Verifier::token_cache) does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCacheStatus {
    /// How many tokens it holds.
    pub tokens: usize,
    /// How many bytes these take, about, claims included; at least the share of each in all that is allowed.
    pub bytes: u64,
    /// How often a token was known and still good by its key: its signature was not checked again.
    pub hits: u64,
    /// How often a token was verified that was not known, and found good.
    pub misses: u64,
}

impl TokenCache {
    pub(crate) fn new(tokens: usize, bytes: usize) -> Self {
        Self { limits: Limits { tokens, bytes }, tokens: OnceLock::new() }
    }

    /// The same with nothing in it: for a verifier that judges otherwise than before.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.limits.tokens, self.limits.bytes)
    }

    pub(crate) fn is_impossible(&self) -> bool {
        self.limits.tokens == 0 || self.limits.bytes == 0
    }

    /// This very token, as it was accepted before. Without waiting: somebody who changes the same shard at this moment makes it a miss.
    pub(crate) fn find(&self, token: &[u8]) -> Option<Remembered> {
        let known = &self.tokens.get()?.known;
        known.try_get(&Octets(token)).ok().flatten().map(|known| known.token)
    }

    /// That a token which was found needs no verification.
    pub(crate) fn count_hit(&self) {
        if let Some(tokens) = self.tokens.get() {
            tokens.counts.of_thread().hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Remembers a token that was just accepted, if it was accepted before: one that comes once only must not take the place of one that comes again.
    /// It was verified with the keys of this stamp.
    pub(crate) fn remember(&self, token: &str, verified: &Verified, keys: Stamp) {
        let tokens = self.tokens.get_or_init(|| Tokens::new(self.limits));
        let mark = Mark::of(token.as_bytes());
        let misses = tokens.counts.of_thread().misses.fetch_add(1, Ordering::Relaxed);
        if tokens.seen.is_again(mark, misses) {
            let accepted = verified.remember();
            accepted.note_key_found_in(keys);
            let weight = (ENTRY_BYTES + token.len() + accepted.memory()).max(self.limits.share()) as u64;
            // Whoever is in the way now is not next time.
            let _ = tokens.known.try_insert(Token(token.into()), Known { token: accepted, weight });
        }
    }

    pub(crate) fn status(&self) -> TokenCacheStatus {
        let Some(tokens) = self.tokens.get() else { return TokenCacheStatus::default() };
        let total = |count: fn(&Counted) -> &AtomicU64| {
            tokens.counts.0.iter().map(|counted| count(counted).load(Ordering::Relaxed)).sum()
        };
        TokenCacheStatus {
            tokens: tokens.known.len(),
            bytes: tokens.known.weight(),
            hits: total(|counted| &counted.hits),
            misses: total(|counted| &counted.misses),
        }
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        Self::new(DEFAULT_CACHED_TOKENS, DEFAULT_CACHED_BYTES)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("max_tokens", &self.limits.tokens)
            .field("max_bytes", &self.limits.bytes)
            .finish()
    }
}

impl Limits {
    /// What each token counts for at least, so that a bound on bytes is one on tokens as well.
    fn share(self) -> usize {
        // A single one that takes all there is would not be let in: the last hundredths are for newcomers.
        self.bytes.div_ceil(self.tokens.max(1)).min(self.bytes - self.bytes / 32)
    }
}

impl Tokens {
    fn new(limits: Limits) -> Self {
        let options = OptionsBuilder::new()
            .shards((limits.bytes / SHARD_BYTES).clamp(1, SHARDS))
            .estimated_items_capacity(limits.tokens)
            .weight_capacity(limits.bytes as u64)
            .build()
            .expect("both capacities are set");
        let known = Cache::with_options(options, ByWeight, DefaultHashBuilder::default(), Outside);
        Self { known, seen: Seen::of(limits.tokens), counts: Counts::default() }
    }
}

/// A token, whole.
struct Token(Box<str>);

/// What may be one, borrowed.
struct Octets<'t>(&'t [u8]);

/// What is known of a token. The weight is kept, because claims that somebody reads later must not change it.
#[derive(Clone)]
struct Known {
    token: Remembered,
    weight: u64,
}

/// What the cache itself keeps for each token, bytes: its place in table and list, and the heads of three allocations.
const ENTRY_BYTES: usize = 160;

#[derive(Clone)]
struct ByWeight;

impl Weighter<Token, Known> for ByWeight {
    fn weight(&self, _: &Token, known: &Known) -> u64 {
        known.weight
    }
}

/// Has whatever leaves dropped behind the lock of its shard: claims are of a type of the user's, which may take its time for it, or panic.
#[derive(Clone)]
struct Outside;

impl Lifecycle<Token, Known> for Outside {
    /// What leaves with one insertion, dropped when that is over: nothing, most often, which takes no memory.
    type RequestState = Vec<(Token, Known)>;

    fn on_evict(&self, leaving: &mut Self::RequestState, token: Token, known: Known) {
        leaving.push((token, known));
    }
}

impl Hash for Octets<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.last_chunk::<HASHED_BYTES>().map_or(self.0, |tail| tail));
    }
}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Octets(self.0.as_bytes()).hash(state);
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Token {}

impl Equivalent<Token> for Octets<'_> {
    fn equivalent(&self, token: &Token) -> bool {
        self.0 == token.0.as_bytes()
    }
}

/// 2^64 by the golden ratio: a product with it spreads what differs over the upper bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A few octets of a token's signature: enough to tell tokens apart where it does no harm to mistake one for another.
#[derive(Clone, Copy)]
struct Mark(u64);

impl Mark {
    fn of(token: &[u8]) -> Self {
        let tail = token.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail));
        // The last character has few values, and all have some bits in common.
        Self(tail.wrapping_mul(GOLDEN))
    }
}

/// The tokens that were verified lately, about: a table of words, each with the marks of four tokens that fell to it lately. Words are read and written
/// whole, and what two threads write at once may be lost: a token is then remembered at its third sight.
struct Seen(Box<[AtomicU64]>);

impl Seen {
    /// The most words, whatever the limits: 8 MiB.
    const MAX_WORDS: usize = 1 << 20;
    const MIN_WORDS: usize = 64;
    const MARK_BITS: u32 = u16::BITS;

    /// Room for four times as many as are remembered, so that all of these find themselves again when they come in turn.
    fn of(tokens: usize) -> Self {
        let words = tokens.clamp(Self::MIN_WORDS, Self::MAX_WORDS).next_power_of_two();
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether it was seen before; from now on it was. `turn` is another number each time.
    fn is_again(&self, Mark(mark): Mark, turn: u64) -> bool {
        // The upper bits of a product are the mixed ones: the first of them say where, the next 16 what.
        let bits_of_place = self.0.len().ilog2();
        let word = &self.0[(mark >> (u64::BITS - bits_of_place)) as usize];
        let lane = (1 << Self::MARK_BITS) - 1;
        // 0 stands for nothing yet.
        let mark = (mark >> (u64::BITS - bits_of_place - Self::MARK_BITS) & lane).max(1);
        let marks = word.load(Ordering::Relaxed);
        let places = || (0..4).map(|at| at * Self::MARK_BITS);
        if places().any(|at| marks >> at & lane == mark) {
            return true;
        }
        // The place of any, as good as at random: were it that of the oldest, five that come in turn would drive each other out for ever.
        let any = (mark ^ turn).wrapping_mul(GOLDEN) >> (u64::BITS - 2);
        let at = places().find(|at| marks >> at & lane == 0).unwrap_or(any as u32 * Self::MARK_BITS);
        word.store(marks & !(lane << at) | mark << at, Ordering::Relaxed);
        false
    }
}

/// By each thread in a place of its own, as long as there are no more threads than on most machines.
#[derive(Default)]
struct Counts([Counted; 16]);

/// Two lines of memory are fetched together by some processors.
#[derive(Default)]
#[repr(align(128))]
struct Counted {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Counts {
    fn of_thread(&self) -> &Counted {
        &self.0[number_of_thread() % self.0.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_marks_than_a_word_holds_are_all_seen_again_sooner_or_later() {
        let seen = Seen::of(1);
        // All in the first word: their upper bits are none.
        let marks: Vec<_> = (1..=6).map(|n| Mark(n << (u64::BITS - 6 - Seen::MARK_BITS))).collect();
        let mut again = [false; 6];
        for turn in 0..600 {
            let at = turn % marks.len();
            again[at] |= seen.is_again(marks[at], turn as u64);
        }
        assert_eq!(again, [true; 6]);
        assert!(seen.0[1..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn what_was_not_seen_is_not_seen_again() {
        let seen = Seen::of(1_000);
        let mark = |n: u32| Mark::of(format!("{n:08}").as_bytes());
        assert!((0..1_000).filter(|n| seen.is_again(mark(*n), 0)).count() < 5);
        assert!((0..1_000).filter(|n| seen.is_again(mark(*n), 1)).count() > 950);
    }
}
