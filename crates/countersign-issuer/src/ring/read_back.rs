//! Where the published set is read as verifiers read it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{Fetch, FetchError, FetchRequest};
use tokio::time::timeout;

use super::work::{Failed, within};
use crate::step::Failure;
use crate::store::MAX_STORED_JWKS_BYTES;
use crate::store::{KeyStore, StoreErrorKind};

/// Where a new key has to be found before the clock of its announcement starts (I1).
#[derive(Clone)]
pub struct ReadBack(Place);

#[derive(Clone)]
enum Place {
    Store,
    Url { fetch: Arc<dyn Fetch>, url: String },
}

impl ReadBack {
    /// In the store. Right where the store serves the set itself, and where the nodes do
    /// ([`JwksService`](crate::JwksService), which answers from the state and reckons with how old that is).
    #[must_use]
    pub fn from_store() -> Self {
        Self(Place::Store)
    }

    /// At the URL that verifiers have, past the caches on the way (`Cache-Control: no-cache`). Right wherever something
    /// stands between the store and the verifiers that may lag behind, or fail, by itself.
    #[must_use]
    pub fn from_url(fetch: Arc<dyn Fetch>, url: impl Into<String>) -> Self {
        Self(Place::Url { fetch, url: url.into() })
    }

    pub(super) async fn read(&self, store: &dyn KeyStore, limit: Duration) -> Result<Arc<[u8]>, Failed<Failure>> {
        let nothing = || Failed::new(Failure::NotFound, "no set is published");
        match &self.0 {
            Place::Store => {
                let stored = within(limit, StoreErrorKind::Unavailable, store.load_jwks()).await?;
                stored.map(|stored| stored.bytes.into()).ok_or_else(nothing)
            }
            Place::Url { fetch, url } => {
                let mut request = FetchRequest::new(url, MAX_STORED_JWKS_BYTES, limit);
                request.revalidate = true;
                let late = |_| Failed::new(Failure::Unavailable, format!("no answer within {limit:?}"));
                let fetched = timeout(limit, fetch.fetch(request)).await.map_err(late)?;
                let fetched = fetched.map_err(|error| {
                    let is_readable = !matches!(error, FetchError::TooLarge);
                    let failure = if is_readable { Failure::Unavailable } else { Failure::Unreadable };
                    Failed::new(failure, error.to_string())
                })?;
                match fetched.status {
                    200 if fetched.body.len() > MAX_STORED_JWKS_BYTES => {
                        Err(Failed::new(Failure::Unreadable, FetchError::TooLarge.to_string()))
                    }
                    200 => Ok(fetched.body.into()),
                    404 | 410 => Err(nothing()),
                    status @ (401 | 403) => Err(Failed::new(Failure::Denied, format!("status {status}"))),
                    status => Err(Failed::new(Failure::Unavailable, format!("status {status}"))),
                }
            }
        }
    }
}

impl Default for ReadBack {
    fn default() -> Self {
        Self::from_store()
    }
}

/// Without the URL, whose query may be a secret.
impl fmt::Debug for ReadBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Place::Store => "ReadBack::from_store",
            Place::Url { .. } => "ReadBack::from_url",
        })
    }
}
