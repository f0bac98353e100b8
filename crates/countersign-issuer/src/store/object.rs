//! A store in an object store: S3, GCS, Azure, or whatever else [`object_store`] speaks to.

mod error;
mod place;
mod probe;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use object_store::ObjectStore;
use object_store::path::Path;

use self::place::{Condition, Headers, Place};
use super::{
    JwksHeaders, KeyStore, MAX_LISTED, MAX_SEALED_BYTES, MAX_STATE_BYTES, MAX_STORED_JWKS_BYTES, StoreError,
    StoreErrorKind, StoreFuture, StoreTime, Stored, Version, names,
};

const JWKS: &str = "jwks.json";
const STATE: &str = "state.json";

/// An object that is written to see when it was written.
const CLOCK: &str = "clock";

/// HTTP says in whole seconds when an object was written.
const TIME_GRAIN: Duration = Duration::from_secs(1);

/// How long one operation may take unless it [is said](ObjectKeyStore::time_limit) otherwise: longer than any store
/// that works, and shorter than what the defaults of `object_store` let it try again for (three minutes).
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(30);

/// A [`KeyStore`] of three places in object stores, which may be prefixes of one, or buckets of their own with
/// credentials of their own:
///
/// ```text
/// jwks/jwks.json         what verifiers read, with Content-Type and Cache-Control; only a rotator may write here
/// state/state.json       the state document
/// sealed/<kid>.sealed    the private keys
/// */marker               says, when something is missing, that the place itself is not
/// state/clock            written to ask for the time
/// */probe-<random>       of a probe under way
/// ```
///
/// Writes are conditional (`If-None-Match`, `If-Match`, or the store's generations). **A condition that does not hold
/// is [`Unknown`](StoreErrorKind::Unknown), never [`Conflict`](StoreErrorKind::Conflict)**: object_store, a proxy or a
/// gateway may have sent a request twice whose first answer got lost, and then the second one meets with the success of
/// the first. The caller reads again and compares.
///
/// Give the clients no retries of their own (`RetryConfig { max_retries: 0, .. }`): a ring tries again by itself, at
/// its next tick, and nothing is gained by what hides from it that the first answer was doubtful. With retries nothing
/// breaks: whatever was told after one is `Unknown`.
///
/// That a key is missing is believed only as long as the marker that [`probe`](KeyStore::probe) has left beside it is
/// there: of a bucket that was emptied, or is another one, nothing is [`NotFound`](StoreErrorKind::NotFound), but all
/// [`Unavailable`](StoreErrorKind::Unavailable). On S3 the credentials must allow to list, or what is missing is
/// "denied".
///
/// **A bucket that keeps versions keeps private keys that were destroyed**, sealed as they are: have it expire what is
/// not current below `sealed/`, or give that place a bucket without versions.
#[derive(Clone)]
pub struct ObjectKeyStore {
    jwks: Place,
    state: Place,
    sealed: Place,
}

impl ObjectKeyStore {
    /// In `jwks/`, `state/` and `sealed/` below that path.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self {
            jwks: Place::new(Arc::clone(&store), path.clone().join("jwks")),
            state: Place::new(Arc::clone(&store), path.clone().join("state")),
            sealed: Place::new(store, path.join("sealed")),
        }
    }

    /// Keeps the JWK Set directly below that path instead.
    #[must_use]
    pub fn jwks(mut self, store: Arc<dyn ObjectStore>, path: Path) -> Self {
        self.jwks = self.jwks.moved(store, path);
        self
    }

    /// Keeps the sealed private keys directly below that path instead.
    #[must_use]
    pub fn sealed(mut self, store: Arc<dyn ObjectStore>, path: Path) -> Self {
        self.sealed = self.sealed.moved(store, path);
        self
    }

    /// Does without conditions, in a store that does not know them: it looks and then writes. Two processes that write
    /// at a time, an old one that is not quite gone while the new one starts, for instance, lose each other's writes,
    /// and with them keys that verifiers need.
    #[must_use]
    pub fn dangerous_single_writer(mut self) -> Self {
        self.each(|place| place.is_single_writer = true);
        self
    }

    /// How long one operation may take, whatever the client still has in mind. A write that takes longer is
    /// [`Unknown`](StoreErrorKind::Unknown).
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.each(|place| place.time_limit = limit);
        self
    }

    fn each(&mut self, change: impl Fn(&mut Place)) {
        [&mut self.jwks, &mut self.state, &mut self.sealed].into_iter().for_each(change);
    }

    async fn swap_private(&self, kid: &str, condition: Condition<'_>, sealed: &[u8]) -> Result<Version, StoreError> {
        let name = names::of_private(kid)?;
        let headers = Headers { content_type: "application/octet-stream", cache_control: "no-store" };
        self.sealed.write(&name, "the sealed key", condition, sealed, MAX_SEALED_BYTES, headers).await
    }
}

impl fmt::Debug for ObjectKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jwks, state, sealed } = self;
        f.debug_struct("ObjectKeyStore")
            .field("jwks", &jwks.path)
            .field("state", &state.path)
            .field("sealed", &sealed.path)
            .finish()
    }
}

impl KeyStore for ObjectKeyStore {
    fn load_state(&self) -> StoreFuture<'_, Option<Stored>> {
        Box::pin(self.state.read(STATE, "the state document", MAX_STATE_BYTES))
    }

    fn swap_state<'a>(&'a self, expected: Option<&'a Version>, state: &'a [u8]) -> StoreFuture<'a, Version> {
        let headers = Headers { content_type: "application/json", cache_control: "no-store" };
        Box::pin(self.state.write(STATE, "the state document", expected.into(), state, MAX_STATE_BYTES, headers))
    }

    fn put_private<'a>(&'a self, kid: &'a str, sealed: &'a [u8]) -> StoreFuture<'a, Version> {
        Box::pin(self.swap_private(kid, Condition::Absent, sealed))
    }

    fn replace_private<'a>(
        &'a self,
        kid: &'a str,
        expected: &'a Version,
        sealed: &'a [u8],
    ) -> StoreFuture<'a, Version> {
        Box::pin(self.swap_private(kid, Condition::Is(expected), sealed))
    }

    fn get_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, Stored> {
        Box::pin(async move {
            let found = self.sealed.read(&names::of_private(kid)?, "the sealed key", MAX_SEALED_BYTES).await?;
            found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "there is no such private key"))
        })
    }

    fn destroy_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.sealed.remove(&names::of_private(kid)?).await })
    }

    fn list_private(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async {
            let names = self.sealed.names(MAX_LISTED).await?;
            Ok(names.iter().filter_map(|name| names::kid_of(name)).collect())
        })
    }

    fn load_jwks(&self) -> StoreFuture<'_, Option<Stored>> {
        Box::pin(self.jwks.read(JWKS, "the JWK Set", MAX_STORED_JWKS_BYTES))
    }

    fn publish_jwks<'a>(
        &'a self,
        expected: Option<&'a Version>,
        jwks: &'a [u8],
        headers: JwksHeaders<'a>,
    ) -> StoreFuture<'a, Version> {
        let headers = Headers { content_type: headers.content_type, cache_control: headers.cache_control };
        Box::pin(self.jwks.write(JWKS, "the JWK Set", expected.into(), jwks, MAX_STORED_JWKS_BYTES, headers))
    }

    fn probe(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            // One after the other, so that it is clear which one is told of.
            for place in [&self.state, &self.sealed, &self.jwks] {
                probe::probe(place).await?;
            }
            Ok(())
        })
    }

    fn time(&self) -> StoreFuture<'_, Option<StoreTime>> {
        Box::pin(async {
            let written = self.state.touch(CLOCK).await?;
            Ok(Some(StoreTime { at: UnixTime::from_secs(written), grain: TIME_GRAIN }))
        })
    }
}

#[cfg(test)]
mod tests;
