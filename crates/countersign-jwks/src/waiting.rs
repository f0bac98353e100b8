use std::fmt;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use countersign_token::Answer;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::plan::MAX_WAIT;
use crate::shared::Shared;

pin_project! {
    /// A request's wait for a key: at most 2 s.
    #[must_use = "futures do nothing unless polled"]
    pub struct Waiting {
        #[pin]
        answer: oneshot::Receiver<Answer>,
        // The task answers in time by itself; this is for a task that hangs. None where there is no tokio to ask.
        #[pin]
        timer: Option<Sleep>,
        shared: Arc<Shared>,
        generation: Option<u64>,
    }
}

impl Waiting {
    /// `generation` is that of the snapshot that lacked the key.
    pub(crate) fn new(shared: Arc<Shared>, answer: oneshot::Receiver<Answer>, generation: Option<u64>) -> Self {
        Self { answer, timer: timer(MAX_WAIT), shared, generation }
    }
}

/// `None` outside tokio, and within a runtime that was built without timers: tokio has no way to ask for them but to panic.
pub(crate) fn timer(after: Duration) -> Option<Sleep> {
    Handle::try_current().ok().and_then(|_| catch_unwind(|| sleep(after)).ok())
}

impl Future for Waiting {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let this = self.project();
        if let Poll::Ready(answer) = this.answer.poll(context) {
            // An error means that the task died, and its runtime with it.
            return Poll::Ready(answer.unwrap_or_else(|_| this.shared.not_now(*this.generation)));
        }
        match this.timer.as_pin_mut().map(|timer| timer.poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(this.shared.not_now(*this.generation)),
            _ => Poll::Pending,
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("generation", &self.generation).finish_non_exhaustive()
    }
}
