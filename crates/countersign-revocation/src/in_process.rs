use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_claims::revocation::{Entry, Published, Publishing, RevocationSink, SinkError};

use crate::feed::Feed;
use crate::intake::Intake;

/// A feed within a process: what is published to it is in force in every list that follows it when [`publish`](RevocationSink::publish) returns.
/// Clones are the same feed.
#[derive(Clone, Default)]
pub struct InProcess(Arc<Mutex<Vec<Intake>>>);

impl InProcess {
    /// One that no list follows yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Feed for InProcess {
    fn name(&self) -> Cow<'static, str> {
        "in process".into()
    }

    fn start(self, intake: Intake) {
        intake.confirm_always();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(intake);
    }
}

impl RevocationSink for InProcess {
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing {
        let intakes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let done: Result<(), SinkError> = intakes.iter().try_for_each(|intake| intake.add(&entries, None));
        Box::pin(std::future::ready(done.map(|()| Published::within(Duration::ZERO))))
    }
}
