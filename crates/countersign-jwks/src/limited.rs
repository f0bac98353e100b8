//! Only so many looks at once, whoever they are for.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::FetchError;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::load::{Landing, Load, Loading, Look};
use crate::plan::LATE;

/// How many looks are under way at once, for all issuers of a source: as many sockets. Those of issuers without keys have permits of their
/// own, so that no number of issuers that never answer keeps others from being refreshed.
pub const MAX_FETCHES: usize = 64;

/// Of those, how many are for issuers without keys.
const MAX_FIRST_FETCHES: usize = MAX_FETCHES / 2;

/// Who may look.
pub(crate) struct Permits {
    with_keys: Semaphore,
    without_keys: Semaphore,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            with_keys: Semaphore::new(MAX_FETCHES - MAX_FIRST_FETCHES),
            without_keys: Semaphore::new(MAX_FIRST_FETCHES),
        }
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
        let permits = if look.has_keys { &self.permits.with_keys } else { &self.permits.without_keys };
        let Ok(_permit) = timeout(PATIENCE, permits.acquire()).await else {
            return Landing::failed("too many looks for keys are under way");
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
