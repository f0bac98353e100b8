//! Where a ring is kept. A store knows bytes, versions and names; what the bytes mean is the business of whoever puts
//! them there.

#[cfg(test)]
mod contract;
#[cfg(unix)]
mod directory;
mod error;
mod memory;
mod names;
#[cfg(feature = "object_store-0.14")]
mod object;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use countersign_claims::UnixTime;

#[cfg(unix)]
pub use directory::DirectoryStore;
pub use error::{StoreError, StoreErrorKind};
pub use memory::{Fault, MemoryStore, Operation};
pub use names::MAX_STORED_KID_BYTES;
#[cfg(feature = "object_store-0.14")]
pub use object::{DEFAULT_TIME_LIMIT, ObjectKeyStore};

/// The largest state document, bytes. A hundred keys with their public parts and some thousand tombstones stay below
/// half of it; whatever is larger was not written by a ring.
pub const MAX_STATE_BYTES: usize = 1024 * 1024;

/// The largest sealed private key, bytes. The largest there is, ML-DSA-87 in its expanded form, takes 5 KiB.
pub const MAX_SEALED_BYTES: usize = 16 * 1024;

/// The largest JWK Set that is written or read back, bytes: above what a ring publishes (48 KiB), so that what another
/// version of this crate has published can still be looked at.
pub const MAX_STORED_JWKS_BYTES: usize = 64 * 1024;

/// The most private keys that are listed. A ring keeps two for each slot; a store with so many belongs to something
/// else.
pub const MAX_LISTED: usize = 10_000;

/// What a [`KeyStore`] answers with.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Where the state document, the private keys (sealed before they come here) and the published JWK Set of one ring are
/// kept.
///
/// Many processes may use one store at a time. What they rely on:
///
/// - An `Ok` to a write means that it is durable, and that whoever reads from now on sees it or what came after it.
/// - Writes are compare-and-swap: two that expect the same version never both succeed.
/// - Readers see a document whole, or not at all.
/// - **Only [`StoreErrorKind::NotFound`] says that something is not there**, and only if the store is known to be the
///   one that should have it. A private key that is missing makes a ring rotate; one that cannot be read for any other
///   reason never does.
/// - **[`StoreErrorKind::Unknown`] to a write means that it may have been applied, or may yet be.** The caller reads
///   again and compares what it finds with what it wrote, so what it wrote must be unlike anything written before: the
///   state carries a nonce, sealed keys are random, a JWK Set has a `seq`.
/// - No text of an error has anything of the contents, nor credentials, nor URLs that may be signed.
///
/// A future that is dropped leaves its write undone, done, or still to be done, as a process that dies would. It is
/// never half done.
pub trait KeyStore: Send + Sync + 'static {
    /// The state document; `None` if there is none yet.
    fn load_state(&self) -> StoreFuture<'_, Option<Stored>>;

    /// Puts the state document in the place of the `expected` version; with `None`, only if there is none.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if another version is there, or [`Unknown`](StoreErrorKind::Unknown) where the
    /// store cannot be sure of that.
    fn swap_state<'a>(&'a self, expected: Option<&'a Version>, state: &'a [u8]) -> StoreFuture<'a, Version>;

    /// Keeps the sealed private key of that name, if there is none of that name.
    ///
    /// # Errors
    /// As [`swap_state`](Self::swap_state).
    fn put_private<'a>(&'a self, kid: &'a str, sealed: &'a [u8]) -> StoreFuture<'a, Version>;

    /// Puts a private key that was sealed anew in the place of the `expected` version of the same key.
    ///
    /// # Errors
    /// As [`swap_state`](Self::swap_state).
    fn replace_private<'a>(&'a self, kid: &'a str, expected: &'a Version, sealed: &'a [u8])
    -> StoreFuture<'a, Version>;

    /// The sealed private key of that name.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] if there is certainly none.
    fn get_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, Stored>;

    /// Destroys the sealed private key of that name. That there is none is a success.
    fn destroy_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, ()>;

    /// The names of all private keys, in no order that matters; at most [`MAX_LISTED`].
    fn list_private(&self) -> StoreFuture<'_, Vec<String>>;

    /// The JWK Set as it was published; `None` if none was.
    fn load_jwks(&self) -> StoreFuture<'_, Option<Stored>>;

    /// Publishes a JWK Set in the place of the `expected` version; with `None`, only if there is none.
    ///
    /// # Errors
    /// As [`swap_state`](Self::swap_state).
    fn publish_jwks<'a>(
        &'a self,
        expected: Option<&'a Version>,
        jwks: &'a [u8],
        headers: JwksHeaders<'a>,
    ) -> StoreFuture<'a, Version>;

    /// Finds out whether the store keeps the promises above, as far as that can be tried. A rotator asks once, before
    /// anything else, and waits for half a minute at most. It may write beside the documents, never over them.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unfit`] if it does not.
    fn probe(&self) -> StoreFuture<'_, ()>;

    /// What time it is by the store's own clock, which all nodes share; `None` if it has none but that of this machine.
    fn time(&self) -> StoreFuture<'_, Option<StoreTime>>;
}

/// Which version of a document is meant: an ETag, a generation, a hash. Two that are equal name the same contents;
/// contents that come back may come back with the version that they had.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Box<str>);

impl Version {
    /// For those who write a store of their own.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// As the store has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({:?})", self.0)
    }
}

/// A document as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// What a write expects that wants to replace just this.
    pub version: Version,
}

/// Shows the length and the version, never the contents.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("bytes", &self.bytes.len()).field("version", &self.version).finish()
    }
}

/// What a published JWK Set is served with, where it is the store that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwksHeaders<'a> {
    /// `Content-Type`; `application/jwk-set+json` (RFC 7517 §8.5.2).
    pub content_type: &'a str,
    /// `Cache-Control`.
    pub cache_control: &'a str,
}

/// A look at a store's clock: at some instant between the question and the answer it showed `at`, or up to `grain`
/// more. A ring allows for a second, whatever `grain` is: a clock that leaves out more makes nodes look as if theirs were
/// ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTime {
    /// What it showed.
    pub at: UnixTime,
    /// How much it leaves out; a second where it is read from HTTP.
    pub grain: Duration,
}

/// Refuses what is too large before it is written, as it would be when it is read.
fn check_size(what: &str, bytes: &[u8], limit: usize) -> Result<(), StoreError> {
    if bytes.len() > limit {
        return Err(StoreError::too_large(what, limit));
    }
    Ok(())
}
