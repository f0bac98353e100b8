//! Keys that outlive the process: written down when they change, read when the next process starts.

use std::fmt;
use std::pin::Pin;

mod file;
mod keeper;
#[cfg(feature = "redis")]
mod redis;
mod snapshot;

#[cfg(feature = "redis")]
pub use self::redis::{REDIS_PREFIX, RedisCache};
pub use file::FileCache;
pub(crate) use keeper::{Keeper, Kept};
pub use snapshot::{ImportError, MAX_SNAPSHOT_BYTES, MIN_CACHE_SECRET_BYTES};
pub(crate) use snapshot::{Remembered, Seal, Snapshot};

/// Where a source writes its keys down, so that a new process can begin with them before its first fetch has ended: a file
/// ([`FileCache`]), or something that a fleet shares (`RedisCache`, with the feature `redis`).
///
/// A failure costs nothing but the warm start; it is logged. Calls are given up after 2 s, and never made while another
/// one of the same source is under way.
///
/// # Security
/// Whoever can write to the cache can make verifiers trust keys of his own, unless the source has a
/// [secret](crate::Remote::cache_secret) with which it seals what it writes. What is read is checked like everything that comes from
/// outside: whole, of this very source, and no older than its keys may be.
pub trait KeyCache: Send + Sync + 'static {
    /// What was stored last under `name`, if anything was. A name is what the source is called in logs (its URL without the query, or its
    /// issuer), `#`, and a digest of all that tells it from other sources; it holds no secret.
    ///
    /// No more than [`MAX_SNAPSHOT_BYTES`] are of use.
    fn load<'a>(&'a self, name: &'a str) -> CacheFuture<'a, Option<Vec<u8>>>;

    /// Whether somebody on the way to it can replace what is read. Then a source must have a [secret](crate::Remote::cache_secret), or its
    /// settings do not pass. Not by default.
    fn is_exposed(&self) -> bool {
        false
    }

    /// Stores `snapshot` under `name`, in place of what was there. Whoever reads sees the old one or the new one.
    fn store<'a>(&'a self, name: &'a str, snapshot: Vec<u8>) -> CacheFuture<'a, ()>;
}

/// What the methods of [`KeyCache`] return.
pub type CacheFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CacheError>> + Send + 'a>>;

/// Why a cache could not be read or written, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheError(String);

impl CacheError {
    /// An error with this text. It is logged, so it should contain no secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CacheError {}

impl From<std::io::Error> for CacheError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}
