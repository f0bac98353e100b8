//! Only so many fetches at once, whoever they are for.

use std::pin::Pin;
use std::sync::Arc;

use countersign_token::{Fetch, FetchError, FetchRequest, Fetched};
use tokio::sync::Semaphore;

/// Fetches with `fetch` when there is a permit. Whoever has to wait for one waits within the time that his fetch has.
pub(crate) struct Limited {
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) permits: Arc<Semaphore>,
}

impl Fetch for Limited {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(async move {
            // Nobody closes it.
            let _permit = self.permits.acquire().await;
            self.fetch.fetch(request).await
        })
    }
}
