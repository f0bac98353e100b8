//! Who looks: a subscriber and a recorder as a service in production has them, and what they have seen.

use std::convert::Infallible;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use countersign::Metrics;
use countersign::middleware::metrics::{KEY_WAIT, REQUESTS, VERIFICATION, VERIFICATION_BUCKETS, WAIT_BUCKETS};
use countersign::traces::{OUTCOME, request_span};
use countersign_bench::Failure;
use http::{Request, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tower_service::Service;
use tracing::field::{Field, Visit};
use tracing::instrument::{Instrument, Instrumented};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{self, SubscriberExt};

/// All that is seen in this process.
pub struct Seen {
    pub metrics: Metrics,
    recorder: PrometheusHandle,
    traces: Arc<Traces>,
}

/// How much of it, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Requests, by the recorder.
    pub requests: u64,
    /// Spans, by the subscriber.
    pub spans: u64,
    /// Spans of which it was told what became of the request.
    pub outcomes: u64,
}

#[derive(Default)]
struct Traces {
    spans: AtomicU64,
    outcomes: AtomicU64,
    events: AtomicU64,
    /// Of the values of fields, written out.
    bytes: AtomicU64,
}

impl Seen {
    /// Installs both for the process: once.
    pub fn begin() -> Result<Self, Failure> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(VERIFICATION.into()), &VERIFICATION_BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(KEY_WAIT.into()), &WAIT_BUCKETS)?
            .install_recorder()?;
        let traces = Arc::default();
        // As most services have it. Refusals are at debug level.
        let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(Counting(Arc::clone(&traces)));
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(Self { metrics: Metrics::new("bench"), recorder, traces })
    }

    /// What the handler of `/metrics` does.
    pub fn scrape(&self) -> String {
        self.metrics.flush();
        self.recorder.run_upkeep();
        self.recorder.render()
    }

    pub fn sum(&self) -> Result<Sum, Failure> {
        let mut requests = 0;
        for line in self.scrape().lines().filter(|line| line.starts_with(REQUESTS)) {
            requests += line.rsplit(' ').next().ok_or("a series has a value")?.parse::<u64>()?;
        }
        let [spans, outcomes] = [&self.traces.spans, &self.traces.outcomes].map(|count| count.load(Ordering::Relaxed));
        Ok(Sum { requests, spans, outcomes })
    }
}

/// Counts spans and events, and writes out their fields, to nowhere: of what other layers of a subscriber do, as much as none can do without.
struct Counting(Arc<Traces>);

impl<S: Subscriber> Layer<S> for Counting {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: layer::Context<'_, S>) {
        self.0.spans.fetch_add(1, Ordering::Relaxed);
        self.write(|fields| attributes.record(fields));
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: layer::Context<'_, S>) {
        self.write(|fields| values.record(fields));
    }

    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        self.0.events.fetch_add(1, Ordering::Relaxed);
        self.write(|fields| event.record(fields));
    }
}

impl Counting {
    fn write(&self, record: impl FnOnce(&mut Fields)) {
        let mut fields = Fields::default();
        record(&mut fields);
        self.0.outcomes.fetch_add(fields.outcomes, Ordering::Relaxed);
        self.0.bytes.fetch_add(fields.bytes, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Fields {
    outcomes: u64,
    bytes: u64,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.outcomes += u64::from(field.name() == OUTCOME);
        // Counting does not fail.
        let _ = write!(self, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.outcomes += u64::from(field.name() == OUTCOME);
        let _ = self.write_str(value);
    }
}

impl Write for Fields {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// Opens a span for each request around a service, as tower-http's `TraceLayer` does.
#[derive(Clone)]
pub struct InSpan<S>(pub S);

impl<S> Service<Request<()>> for InSpan<S>
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let span = request_span(&request);
        let called = span.in_scope(|| self.0.call(request));
        called.instrument(span)
    }
}
