use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{
    Changed, Entry, Holdings, Judged, Published, Publishing, RevocationSink, Revocations, Verdict,
};

use crate::feed::Feed;
use crate::intake::Intake;
use crate::options::ListOptions;
use crate::shared::{OWN, Shared};
use crate::status::ListStatus;

/// What is revoked, in memory. Clones are the same list.
#[derive(Clone)]
pub struct RevocationList(Arc<Shared>);

impl RevocationList {
    /// An empty list with the default options. It is its own in-process feed: what is published to it is in force at once, and it is never stale.
    #[must_use]
    pub fn new() -> Self {
        Self::with(ListOptions::new())
    }

    /// An empty list.
    #[must_use]
    pub fn with(options: ListOptions) -> Self {
        Self(Arc::new(Shared::new(options)))
    }

    /// Starts `feed`, and knows from then on what that brings.
    #[must_use]
    pub fn follow(self, feed: impl Feed) -> Self {
        let part = self.0.follow(feed.name());
        feed.start(Intake::new(&self.0, part));
        self
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> ListStatus {
        self.0.status()
    }

    /// Ends when every feed has delivered once, and not before: where there is no file yet, or no publisher, it waits for it. A start that must
    /// come to an end gives it a time, such as by `tokio::time::timeout`; what has not come by then is in the [status](Self::status).
    pub async fn ready(&self) {
        let mut deliveries = self.0.deliveries();
        while !self.0.has_delivered() {
            // This list is still there, so there is one that sends.
            let _ = deliveries.changed().await;
        }
    }
}

impl Default for RevocationList {
    fn default() -> Self {
        Self::new()
    }
}

impl Revocations for RevocationList {
    fn check(&self, token: &Judged<'_>) -> Verdict {
        self.0.check(token)
    }

    fn age(&self, now: UnixTime) -> Option<Duration> {
        self.0.age(now)
    }

    fn changed(&self) -> Changed {
        let mut changes = self.0.changes();
        Box::pin(async move {
            // An error says that the list is gone, which is an end as well.
            let _ = changes.changed().await;
        })
    }

    fn holdings(&self) -> Option<Holdings> {
        let status = self.status();
        let mut holdings = Holdings::default();
        holdings.tokens = status.entries;
        holdings.cut_offs = status.cut_offs;
        holdings.keys = status.keys;
        holdings.bytes = status.bytes;
        holdings.is_full = status.full;
        Some(holdings)
    }
}

impl RevocationSink for RevocationList {
    /// Done when this returns, before what it returns has been waited for.
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing {
        let done = Intake::new(&self.0, OWN).add(&entries, None);
        Box::pin(std::future::ready(done.map(|()| Published::within(Duration::ZERO))))
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList").field("options", &self.0.options).finish_non_exhaustive()
    }
}
