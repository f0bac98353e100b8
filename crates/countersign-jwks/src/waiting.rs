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

use crate::counters::Count;
use crate::plan::MAX_WAIT;
use crate::shared::Shared;
use crate::union::Answers;

pin_project! {
    /// A request's wait for a key: at most 2 s.
    #[must_use = "futures do nothing unless polled"]
    pub struct Waiting {
        #[pin]
        wait: Wait,
    }
}

pin_project! {
    #[project = WaitProjection]
    enum Wait {
        /// For one source.
        One {
            #[pin]
            answer: oneshot::Receiver<Answer>,
            // The task answers in time by itself; this is for a task that hangs. None where there is no tokio to ask.
            #[pin]
            timer: Option<Sleep>,
            asker: Asker,
            generation: Option<u64>,
        },
        /// For whichever of several has the key. Only unions have such, and the heap costs them nothing that they would notice.
        Several { waiting: Vec<Pin<Box<Waiting>>>, answers: Answers },
    }
}

impl Waiting {
    /// `generation` is that of the snapshot that lacked the key.
    pub(crate) fn new(shared: Arc<Shared>, answer: oneshot::Receiver<Answer>, generation: Option<u64>) -> Self {
        Self { wait: Wait::One { answer, timer: timer(MAX_WAIT), asker: Asker::new(shared), generation } }
    }

    /// `answers` are those of the sources that have answered already.
    pub(crate) fn several(waiting: Vec<Self>, answers: Answers) -> Self {
        Self { wait: Wait::Several { waiting: waiting.into_iter().map(Box::pin).collect(), answers } }
    }
}

/// Counts as one that waits, until it hears an answer or is dropped.
struct Asker(Option<Arc<Shared>>);

impl Asker {
    fn new(shared: Arc<Shared>) -> Self {
        shared.waits(true);
        Self(Some(shared))
    }

    fn hears(&mut self, answer: Answer) {
        let Some(shared) = self.0.take() else { return };
        shared.waits(false);
        if !matches!(answer, Answer::Changed | Answer::Absent) {
            shared.counters().add(Count::Unanswered);
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.waits(false);
            shared.counters().add(Count::Abandoned);
        }
    }
}

/// `None` outside tokio, and within a runtime that was built without timers: tokio has no way to ask for them but to panic.
pub(crate) fn timer(after: Duration) -> Option<Sleep> {
    Handle::try_current().ok().and_then(|_| catch_unwind(|| sleep(after)).ok())
}

impl Future for Waiting {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        match self.project().wait.project() {
            WaitProjection::One { answer, timer, asker, generation } => {
                // Polled again after its end.
                let Some(shared) = &asker.0 else { return Poll::Pending };
                let answer = match answer.poll(context) {
                    // An error means that the task died, and its runtime with it.
                    Poll::Ready(answer) => answer.unwrap_or_else(|_| shared.not_now(*generation)),
                    Poll::Pending => match timer.as_pin_mut().map(|timer| timer.poll(context)) {
                        Some(Poll::Ready(())) => shared.not_now(*generation),
                        _ => return Poll::Pending,
                    },
                };
                let answer = shared.among_others(answer);
                asker.hears(answer);
                Poll::Ready(answer)
            }
            WaitProjection::Several { waiting, answers } => {
                waiting.retain_mut(|one| match one.as_mut().poll(context) {
                    Poll::Ready(answer) => {
                        answers.add(answer);
                        false
                    }
                    Poll::Pending => true,
                });
                if answers.is_change() || waiting.is_empty() { Poll::Ready(answers.together()) } else { Poll::Pending }
            }
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}
