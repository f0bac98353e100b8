//! What becomes of requests, for `tracing` 0.1: fields of the span that a request is in, and an event for each refusal.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use tracing::Span;

use crate::observe::{Judged, Observer};
use crate::refusal::Refusal;

/// What became of the request: [`Judged::name`].
pub const OUTCOME: &str = "auth.outcome";
/// Why it was refused, or would have been: [`Refusal::code`].
pub const REASON: &str = "auth.reason";
/// The issuer, as it is configured: [`Judged::issuer`].
pub const ISSUER: &str = "auth.issuer";
/// The algorithm of an accepted token.
pub const ALGORITHM: &str = "auth.algorithm";
/// The key that has verified an accepted token, by its thumbprint (RFC 7638): unlike a `kid`, nobody can choose it.
pub const KEY: &str = "auth.key";
/// How long the request waited for its key, milliseconds; only if it did.
pub const WAITED_MS: &str = "auth.waited_ms";

/// The least time from one warning to the next: 503 is for every request while there are no keys, and once a second will do.
pub const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// An [`Observer`] that records what became of a request in the current span, in those of the fields above that the span declares
/// ([`request_span`] has them all), and says each refusal in an event.
///
/// Refusals are at debug level, because whoever wants to can cause any number of them: count them with metrics, and switch
/// `countersign=debug` on to look at some. Only 503, for want of keys, is at warn level, at most once in [`WARNING_INTERVAL`].
///
/// Nothing here is out of a token: neither its text nor its subject, nor what was found in place of what was wanted.
#[derive(Debug, Default)]
pub struct Traces {
    began: OnceLock<Instant>,
    /// When the last warning was, in milliseconds after `began`, and one more.
    warned: AtomicU64,
}

impl Traces {
    /// For one layer, or for several.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn may_warn(&self) -> bool {
        let now = u64::try_from(self.began.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last = self.warned.load(Ordering::Relaxed);
        let interval = u64::try_from(WARNING_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let is_due = last == 0 || now.saturating_sub(last) >= interval;
        is_due && self.warned.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Observer for Traces {
    fn judged(&self, judged: &Judged<'_>) {
        let span = Span::current();
        if !span.is_disabled() {
            record(&span, judged);
        }
        let Some(refusal) = judged.outcome().refusal() else { return };
        let (outcome, reason, status) = (judged.name(), refusal.code(), refusal.status().as_u16());
        let issuer = judged.issuer();
        if is_of_the_keys(refusal) && self.may_warn() {
            tracing::warn!(
                target: "countersign",
                { auth.outcome = outcome, auth.reason = reason, auth.issuer = issuer, status },
                "a request found no usable keys"
            );
        } else {
            tracing::debug!(
                target: "countersign",
                { auth.outcome = outcome, auth.reason = reason, auth.issuer = issuer, status },
                "a token was not accepted"
            );
        }
    }
}

/// A span for a request, at info level, with all fields of [`Traces`] to be filled in: for what opens spans around the layer, such as
/// tower-http's `TraceLayer::make_span_with`.
///
/// It has the method and the path besides, and not the query, where a token might be.
///
/// ```
/// use countersign_tower::traces::request_span;
/// use http::Request;
///
/// let request = Request::get("/orders?access_token=secret").body(())?;
/// let _entered = request_span(&request).entered();
/// # Ok::<(), http::Error>(())
/// ```
pub fn request_span<B>(request: &Request<B>) -> Span {
    use tracing::field::Empty;
    tracing::info_span!(
        target: "countersign",
        "request",
        method = request.method().as_str(),
        path = request.uri().path(),
        auth.outcome = Empty,
        auth.reason = Empty,
        auth.issuer = Empty,
        auth.algorithm = Empty,
        auth.key = Empty,
        auth.waited_ms = Empty,
    )
}

fn record(span: &Span, judged: &Judged<'_>) {
    span.record(OUTCOME, judged.name());
    if let Some(reason) = judged.reason() {
        span.record(REASON, reason);
    }
    if let Some(issuer) = judged.issuer() {
        span.record(ISSUER, issuer);
    }
    if let Some(verified) = judged.outcome().verified() {
        span.record(ALGORITHM, tracing::field::display(verified.algorithm()));
        span.record(KEY, tracing::field::display(verified.key().thumbprint()));
    }
    if let Some(waited) = judged.waited() {
        span.record(WAITED_MS, u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
    }
}

fn is_of_the_keys(refusal: &Refusal) -> bool {
    refusal.status() == StatusCode::SERVICE_UNAVAILABLE
}
