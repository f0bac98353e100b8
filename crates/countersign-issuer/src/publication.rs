//! What verifiers read: the JWKS that follows from a state, and how long they may keep it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::adopt::MATERIAL;
use crate::config::{MAX_JWKS_BYTES, MAX_KEYS, RingConfig};
use crate::state::{KeyState, PublicJwk, RingState};
use crate::store::MAX_STORED_JWKS_BYTES;

/// A set is good for at least this part of `A`, however close the next change is: otherwise everybody would come back
/// at the same moment.
const LEAST_PART_OF_MAX_AGE: u32 = 10;

/// A JWKS (RFC 7517 §5) with its `seq`, as it is served.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Publication {
    /// The document. The same published set has the same bytes, whoever makes them.
    pub bytes: Arc<[u8]>,
    /// The version in which the set became what it is.
    pub seq: u64,
    /// Strong (RFC 9110 §8.8.1), with its quotes: the SHA-256 of the bytes.
    pub etag: String,
    /// For how long it may be kept: never longer than `A`, which I1 assumes.
    pub max_age: Duration,
}

/// Without the document, which is public and long.
impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication").field("seq", &self.seq).field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Why there is nothing to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unpublishable {
    /// No key: an empty set is never published (I8).
    Empty,
    /// More than [`MAX_KEYS`] (I7).
    TooManyKeys(usize),
    /// More than [`MAX_JWKS_BYTES`] (I7).
    TooLong(usize),
}

impl fmt::Display for Unpublishable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no key to publish"),
            Self::TooManyKeys(keys) => write!(f, "{keys} keys are more than {MAX_KEYS}"),
            Self::TooLong(bytes) => write!(f, "{bytes} bytes are more than {MAX_JWKS_BYTES}"),
        }
    }
}

impl std::error::Error for Unpublishable {}

impl Publication {
    /// The set of that state; `now` is for its `max-age` only.
    ///
    /// # Errors
    /// [`Unpublishable`] if it would be empty or too large.
    pub fn of(state: &RingState, config: &RingConfig, now: UnixTime) -> Result<Self, Unpublishable> {
        let bytes = document(state)?;
        let etag = etag(&bytes);
        Ok(Self { bytes: bytes.into(), seq: state.set_seq, etag, max_age: max_age(state, config, now) })
    }

    /// The value of `Cache-Control`.
    #[must_use]
    pub fn cache_control(&self) -> String {
        format!("public, max-age={}", self.max_age.as_secs())
    }
}

/// A set as it was found, whoever has published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its `seq`; `None` if a ring did not write it.
    pub seq: Option<u64>,
    /// The names of its keys, in its order.
    pub kids: Vec<String>,
    /// The keys themselves.
    keys: Vec<Map<String, Value>>,
}

impl Found {
    /// Reads a published set, as far as is needed to compare it; `None` if it is no JWKS.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        // What stands beside, and inside the keys, is nobody's business: a set of somebody else that has a `seq` of
        // its own kind, or an odd key, is a set all the same, and must not be taken for litter.
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
            #[serde(borrow)]
            seq: Option<&'a RawValue>,
        }
        if bytes.len() > MAX_STORED_JWKS_BYTES {
            return None;
        }
        let set: Set<'_> = serde_json::from_slice(bytes).ok()?;
        let seq = set.seq.and_then(|seq| serde_json::from_str(seq.get()).ok());
        let keys = set.keys.into_iter().map(|key| serde_json::from_str(key.get()).unwrap_or_default());
        let keys: Vec<Map<String, Value>> = keys.collect();
        let kid = |key: &Map<String, Value>| key.get("kid").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self { seq, kids: keys.iter().map(kid).collect(), keys })
    }

    /// What is no set: older than any, and without a key that somebody could need.
    pub(crate) fn litter() -> Self {
        Self { seq: Some(0), kids: Vec::new(), keys: Vec::new() }
    }

    /// Whether it has that key, and no other of its name: that a name is there says nothing of what is behind it.
    pub(crate) fn shows(&self, jwk: &PublicJwk) -> bool {
        let mut named = self.kids.iter().zip(&self.keys).filter(|(kid, _)| *kid == jwk.kid()).peekable();
        let is_it = |key: &Map<String, Value>| {
            MATERIAL.into_iter().all(|name| key.get(name).map(Value::as_str) == jwk.get(name).map(Some))
        };
        named.peek().is_some() && named.all(|(_, key)| is_it(key))
    }
}

fn document(state: &RingState) -> Result<Vec<u8>, Unpublishable> {
    #[derive(Serialize)]
    struct Set<'a> {
        keys: Vec<&'a PublicJwk>,
        seq: u64,
    }
    let keys: Vec<_> = state.published().map(|(_, key)| &key.jwk).collect();
    match keys.len() {
        0 => return Err(Unpublishable::Empty),
        keys if keys > MAX_KEYS => return Err(Unpublishable::TooManyKeys(keys)),
        _ => {}
    }
    // Strings and a number: there is nothing that could not be written.
    let bytes = serde_json::to_vec(&Set { keys, seq: state.set_seq }).unwrap_or_default();
    if bytes.len() > MAX_JWKS_BYTES { Err(Unpublishable::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// `A`, of this node or of the ring, whichever is shorter; less if a key is going to be removed before, because nobody
/// should have it any longer than there are tokens
/// of it.
pub(crate) fn max_age(state: &RingState, config: &RingConfig, now: UnixTime) -> Duration {
    let most = config.timing.max_age.min(state.terms.max_age);
    let retiring = state.published().filter(|(_, key)| key.state == KeyState::Retiring);
    let removals = retiring.filter_map(|(_, key)| key.removable_at(&state.terms, state.lifetime(key)));
    let until = removals.filter(|at| *at > now).map(|at| at.saturating_since(now)).min();
    // An operator who has set the end of a key means it; otherwise the end is not worth a rush.
    let hard = state.published().filter_map(|(_, key)| key.remove_at).filter(|at| *at > now);
    let hard = hard.map(|at| at.saturating_since(now)).min().unwrap_or(most);
    until.map_or(most, |until| until.max(most / LEAST_PART_OF_MAX_AGE)).min(hard).min(most)
}

fn etag(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut etag = String::with_capacity(2 + 2 * digest.as_ref().len());
    etag.push('"');
    for byte in digest.as_ref() {
        // Writing to a string does not fail.
        let _ = write!(etag, "{byte:02x}");
    }
    etag.push('"');
    etag
}

#[cfg(test)]
mod tests;
