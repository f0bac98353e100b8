//! One fetch under way: how long it takes, and its span.

use std::pin::Pin;

use countersign_token::FetchError;
use tokio::time::{Duration, Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::report::End;
use crate::counters::Count;
use crate::load::Landing;
use crate::plan::{Kind, Start};
use crate::shared::Shared;
use crate::unwind;

pub(super) struct Flight {
    looking: Pin<Box<dyn Future<Output = Landing> + Send>>,
    begun: Instant,
    span: Span,
}

/// How it ended, and after how long.
pub(super) struct Landed {
    pub(super) landing: Landing,
    pub(super) took: Duration,
    pub(super) span: Span,
}

impl Flight {
    pub(super) fn launch(shared: &Shared, start: &Start) -> Self {
        let (count, trigger) = match start.kind {
            Kind::Scheduled if start.number == 1 => (Count::Scheduled, "start"),
            Kind::Scheduled => (Count::Scheduled, "scheduled"),
            Kind::Forced if start.is_manual => (Count::Manual, "manual"),
            Kind::Forced => (Count::Requested, "request"),
        };
        shared.counters().add(count);
        // Of its own: not of whatever the task does at the moment.
        let span = tracing::info_span!(
            target: "countersign",
            parent: None,
            "countersign.fetch",
            source = %shared.settings().counted_as(),
            trigger,
            outcome = Empty,
            duration_ms = Empty,
        );
        let load = shared.settings().load.clone();
        span.in_scope(|| {
            tracing::debug!(source = %shared.label(), number = start.number, kind = ?start.kind, "fetching the keys");
        });
        let look = start.look.clone();
        let looking = async move {
            let load = match load {
                Ok(load) => load,
                Err(error) => return Landing::failed(error.to_string()),
            };
            let looking = timeout(
                look.timeout + load.patience(),
                unwind::caught(async { load.load(look).await }, || Landing::failed("the fetcher panicked")),
            );
            looking.await.unwrap_or_else(|_| Landing::failed(FetchError::TimedOut.to_string()))
        };
        Self { looking: Box::pin(looking.instrument(span.clone())), begun: Instant::now(), span }
    }

    /// Waits for its end. May be dropped and called again.
    pub(super) async fn landed(&mut self) -> Landed {
        let landing = self.looking.as_mut().await;
        Landed { landing, took: self.begun.elapsed(), span: self.span.clone() }
    }
}

/// Counts how a fetch ended that took so long; `None` of one that has not begun.
pub(super) fn count(shared: &Shared, span: &Span, took: Duration, end: Option<&End>) {
    let (count, outcome) = match end {
        None => (Count::Postponed, "postponed"),
        Some(end) if end.disbelief.is_some() => (Count::Refused, "refused"),
        Some(end) if end.error.is_some() => (Count::Failed, "failed"),
        Some(end) if end.is_changed => (Count::Changed, "changed"),
        Some(_) => (Count::Unchanged, "unchanged"),
    };
    shared.counters().add(count);
    if end.is_some() {
        shared.counters().add_time(took);
    }
    span.record("outcome", outcome);
    span.record("duration_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
}
