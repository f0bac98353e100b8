//! Only so many looks at once, whoever they are for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{Fetch, FetchError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::load::{Landing, Load, Loading, Look};
use crate::plan::LATE;
use crate::remote::default_fetch;

/// How many looks are under way at once, for all issuers of a source: as many sockets. Those of issuers without keys, and those of issuers whose
/// last look failed, have permits of their own, so that no number of either keeps the others from being refreshed.
pub const MAX_FETCHES: usize = MAX_HEALTHY + MAX_FIRST + MAX_AILING;

/// Issuers that have keys, and whose last look succeeded.
const MAX_HEALTHY: usize = 48;

/// Issuers that have no keys yet.
const MAX_FIRST: usize = 32;

/// Issuers that have keys, and whose last look failed: each may take as long as a look takes at most.
const MAX_AILING: usize = 16;

/// Who may look.
pub(crate) struct Permits {
    healthy: Semaphore,
    first: Semaphore,
    ailing: Semaphore,
}

impl Default for Permits {
    fn default() -> Self {
        let [healthy, first, ailing] = [MAX_HEALTHY, MAX_FIRST, MAX_AILING].map(Semaphore::new);
        Self { healthy, first, ailing }
    }
}

/// One fetcher for several sources, and a bound on their fetches: no more than [`MAX_FETCHES`] are under way at once in all, of which those of
/// sources without keys have a third. For as many sources as somebody else decides; [`Keys::issuers`](crate::Keys::issuers) has a pool of its own.
///
/// Clones are the same pool. A fetch that is not its turn waits up to 4 s, and is put off then. A source that has no keys and cannot be reached is asked
/// ever more seldom, up to once a minute.
///
/// ```
/// use countersign_jwks::{FetchPool, Keys, Remote};
///
/// let pool = FetchPool::new();
/// let [a, b] = ["https://a.example/jwks.json", "https://b.example/jwks.json"]
///     .map(|url| Remote::new(url).map(|remote| Keys::remote(remote.pooled(&pool))));
/// # let (_, _) = (a?, b?);
/// # Ok::<(), countersign_jwks::SourceError>(())
/// ```
#[derive(Clone)]
pub struct FetchPool {
    /// For sources that have none of their own.
    pub(crate) fetch: Option<Arc<dyn Fetch>>,
    pub(crate) permits: Arc<Permits>,
}

impl FetchPool {
    /// A pool with an `HttpFetch` for sources that have no [fetcher of their own](crate::Remote::fetch).
    #[must_use]
    pub fn new() -> Self {
        Self { fetch: default_fetch(), permits: Arc::default() }
    }
}

impl Default for FetchPool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FetchPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchPool").finish_non_exhaustive()
    }
}

/// How long a look waits for its permit, on top of the time that it has itself: a look that got its permit at the last moment must not fail
/// for that.
const PATIENCE: Duration = Duration::from_secs(4);

// Or its answer would be taken for one that comes out of a freeze.
const _: () = assert!(PATIENCE.as_secs() < LATE.as_secs());

/// Looks when there is a permit: first come, first served.
pub(crate) struct Limited {
    pub(crate) load: Arc<dyn Load>,
    pub(crate) permits: Arc<Permits>,
}

impl Limited {
    async fn look(&self, look: Look) -> Landing {
        let permits = match (look.has_keys, look.has_failed) {
            (true, false) => &self.permits.healthy,
            (true, true) => &self.permits.ailing,
            (false, _) => &self.permits.first,
        };
        let Ok(_permit) = timeout(PATIENCE, permits.acquire()).await else {
            return Landing::Postponed;
        };
        let looking = timeout(look.timeout, self.load.load(look));
        looking.await.unwrap_or_else(|_| Landing::failed(FetchError::TimedOut.to_string()))
    }
}

impl Load for Limited {
    fn load(&self, look: Look) -> Loading<'_> {
        Box::pin(self.look(look))
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.load.changed()
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
