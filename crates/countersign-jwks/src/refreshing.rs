use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// The end of a look that was asked for.
#[derive(Debug)]
pub struct Refreshing(pub(crate) Outcome);

#[derive(Debug)]
pub(crate) enum Outcome {
    Known(Option<Result<(), RefreshError>>),
    Awaited(oneshot::Receiver<Result<(), Arc<str>>>),
    Several { parts: Vec<Refreshing>, failure: Option<RefreshError> },
}

impl Future for Refreshing {
    type Output = Result<(), RefreshError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Outcome::Known(result) => match result.take() {
                Some(result) => Poll::Ready(result),
                // Polled again after its end.
                None => Poll::Pending,
            },
            Outcome::Several { parts, failure } => {
                parts.retain_mut(|part| match Pin::new(part).poll(context) {
                    Poll::Ready(outcome) => {
                        *failure = failure.take().or(outcome.err());
                        false
                    }
                    Poll::Pending => true,
                });
                if parts.is_empty() { Poll::Ready(failure.take().map_or(Ok(()), Err)) } else { Poll::Pending }
            }
            Outcome::Awaited(ended) => Pin::new(ended).poll(context).map(|ended| match ended {
                Ok(result) => result.map_err(|error| RefreshError(error.as_ref().into())),
                Err(_) => Err(RefreshError("the task that fetches the keys has died".into())),
            }),
        }
    }
}

/// Why a look that was asked for brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshError(pub(crate) String);

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RefreshError {}
