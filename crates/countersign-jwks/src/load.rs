//! One look at a source, whatever it is: a URL, a file, an object in a store.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{JwkSet, KeySet, Origin, SkippedKey};

use crate::hints::Hints;
pub(crate) use crate::plan::Look;

/// The longest key set document, bytes, decompressed. 256 RSA keys with certificate chains fit.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// Where key sets are. The plan decides when to look; this looks, once, and says what it found.
///
/// A look is dropped when its time-out has run out, so it must not block its thread. It may panic, since some of it is users' code.
pub(crate) trait Load: Send + Sync + 'static {
    /// Looks once.
    fn load(&self, look: Look) -> Loading<'_>;

    /// How long a look may wait for its turn, on top of the time that it has.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// Ends when the source has changed since the last look, for those that can tell.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(pending())
    }
}

pub(crate) type Loading<'a> = Pin<Box<dyn Future<Output = Landing> + Send + 'a>>;

/// What a look came to.
pub(crate) enum Landing {
    Fetched(Box<Document>, Box<Hints>),
    NotModified(Box<Hints>),
    Failed {
        error: String,
        retry_after: Option<Duration>,
    },
    /// It has not begun, because too many others are under way.
    Postponed,
}

/// A key set, and what it was read from.
pub(crate) struct Document {
    pub(crate) keys: KeySet,
    pub(crate) skipped: Vec<SkippedKey>,
    /// The JWK Set itself, to be kept for a warm start; `None` where that is of no use.
    pub(crate) body: Option<Arc<[u8]>>,
}

impl Landing {
    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), retry_after: None }
    }
}

impl Document {
    /// Reads the JWK Set that somebody publishes.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub(crate) fn published(body: Vec<u8>) -> Result<Self, String> {
        if body.len() > MAX_BODY_BYTES {
            return Err(TOO_LARGE.into());
        }
        let set = JwkSet::parse(&body, Origin::Remote).map_err(|error| error.to_string())?;
        let skipped = set.skipped().to_vec();
        Ok(Self { keys: set.into_key_set(), skipped, body: Some(body.into()) })
    }
}

pub(crate) const TOO_LARGE: &str = "the answer is too large";
