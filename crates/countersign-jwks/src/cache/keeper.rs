use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{CacheError, KeyCache};
use crate::unwind;

/// How long the cache may take: as long as a request waits for a key.
const CACHE_TIMEOUT: Duration = Duration::from_secs(2);

/// The least time between two writes of the same keys: what a new process learns of their age is older by this at most.
const STORE_EVERY: Duration = Duration::from_secs(60);

/// The task's side of a cache: one read at the start, and at most one write at a time.
pub(crate) struct Keeper {
    /// With the name of the source in it.
    cache: Option<(Arc<dyn KeyCache>, Arc<str>)>,
    loading: Option<Call<Option<Vec<u8>>>>,
    storing: Option<Call<()>>,
    /// When the last write began.
    stored: Option<Instant>,
    /// What is to be written once the write under way has ended.
    next: Option<Vec<u8>>,
}

type Call<T> = Pin<Box<dyn Future<Output = Result<T, CacheError>> + Send>>;

/// What the cache has come back with.
pub(crate) enum Kept {
    Loaded(Result<Option<Vec<u8>>, CacheError>),
    Stored(Result<(), CacheError>),
}

impl Keeper {
    /// Begins to read.
    pub(crate) fn new(cache: Option<(Arc<dyn KeyCache>, Arc<str>)>) -> Self {
        let loading = cache.clone().map(|(cache, name)| call(async move { cache.load(&name).await }));
        Self { cache, loading, storing: None, stored: None, next: None }
    }

    /// Whether it is still not known what the cache remembers.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Whether a set that is `new`, or the same as before, is to be written now.
    pub(crate) fn is_due(&self, new: bool) -> bool {
        self.cache.is_some() && (new || self.stored.is_none_or(|stored| stored.elapsed() >= STORE_EVERY))
    }

    pub(crate) fn store(&mut self, snapshot: Vec<u8>) {
        let Some((cache, name)) = self.cache.clone() else { return };
        if self.storing.is_some() {
            self.next = Some(snapshot);
            return;
        }
        self.stored = Some(Instant::now());
        self.storing = Some(call(async move { cache.store(&name, snapshot).await }));
    }

    /// Waits for what the cache has to say; for ever, if that is nothing. It may be dropped and called again.
    pub(crate) async fn next(&mut self) -> Kept {
        tokio::select! {
            loaded = ended(&mut self.loading) => {
                self.loading = None;
                Kept::Loaded(loaded)
            }
            stored = ended(&mut self.storing) => {
                self.storing = None;
                if let Some(next) = self.next.take() {
                    self.store(next);
                }
                Kept::Stored(stored)
            }
        }
    }
}

async fn ended<T>(call: &mut Option<Call<T>>) -> Result<T, CacheError> {
    match call {
        Some(call) => call.await,
        None => pending().await,
    }
}

fn call<T: 'static>(exchange: impl Future<Output = Result<T, CacheError>> + Send + 'static) -> Call<T> {
    Box::pin(async move {
        let exchange = unwind::caught(exchange, || Err(CacheError::new("the cache panicked")));
        timeout(CACHE_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(CacheError::new("timed out")))
    })
}
