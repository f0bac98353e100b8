//! What becomes of requests, as metrics: [`RequestMetrics`], and their names and buckets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, Unit};

use crate::counts::{Buckets, Counts, Series, Times};
use crate::observe::{Judged, Observer};

pub use crate::counts::{MAX_ISSUER_LABELS, VERIFICATION_BUCKETS, WAIT_BUCKETS};

/// Requests by outcome, reason and issuer. A handler's refusal is counted beside the admission by the layer, as `refused_by_handler`.
pub const REQUESTS: &str = "countersign_requests_total";
/// How long it took to judge a request, without waits, by what came of it (`accepted`, `refused`).
pub const VERIFICATION: &str = "countersign_verification_seconds";
/// How long requests waited whose key was being looked for.
pub const KEY_WAIT: &str = "countersign_key_wait_seconds";

/// The metrics of what becomes of requests, for the recorder of the `metrics` crate, 0.24: an [`Observer`].
///
/// Requests are counted in memory, by each thread in a place that few others write, without a lock and without an allocation in the long run;
/// [`flush`](Self::flush) tells the recorder. Clones count together.
///
/// Labels are out of fixed sets, or configured: the name of the layer, [`Judged::NAMES`], [`Refusal::CODES`](crate::Refusal::CODES), and the
/// first [`MAX_ISSUER_LABELS`] of [`Judged::issuer`]; `none` where there is none, and `other` for more issuers.
///
/// Of times, the count and the sum are exact. Each is told to the recorder as the mean of those in the same bucket, so a distribution is as exact as
/// [`VERIFICATION_BUCKETS`] and [`WAIT_BUCKETS`]: give these to the recorder as its own.
#[derive(Clone)]
pub struct RequestMetrics(Arc<Inner>);

struct Inner {
    layer: Arc<str>,
    counts: Counts,
    flushed: Mutex<Flushed>,
}

/// What the recorder has been told.
#[derive(Default)]
struct Flushed {
    series: BTreeMap<Series, u64>,
    times: [Buckets; Times::ALL.len()],
}

impl RequestMetrics {
    /// `layer` tells the layers of one process apart: a few, which do not change.
    #[must_use]
    pub fn new(layer: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner { layer: layer.into(), counts: Counts::new(), flushed: Mutex::default() }))
    }

    /// Tells the recorder, the global one or that of [`metrics::with_local_recorder`], what has been counted since it was last told. Without a recorder
    /// it is lost: install that first.
    ///
    /// Series are registered anew each time, so that a recorder may forget those that are idle.
    pub fn flush(&self) {
        let inner = &*self.0;
        // Nothing panics under it but a recorder, and then what that was told counts as told.
        let mut flushed = inner.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::with_recorder(|recorder| {
            describe(recorder);
            for (series, total) in inner.counts.totals() {
                let told = flushed.series.entry(series).or_default();
                let more = total - std::mem::replace(told, total);
                if more > 0 {
                    let (outcome, reason, issuer) = inner.counts.labels(series);
                    let issuer = Label::new("issuer", issuer.to_owned());
                    let labels = vec![
                        inner.layer(),
                        Label::from_static_parts("outcome", outcome),
                        Label::from_static_parts("reason", reason),
                        issuer,
                    ];
                    recorder.register_counter(&Key::from_parts(REQUESTS, labels), &METADATA).increment(more);
                }
            }
            for times in Times::ALL {
                let (name, labels) = match times {
                    Times::Accepted => {
                        (VERIFICATION, vec![inner.layer(), Label::from_static_parts("outcome", "accepted")])
                    }
                    Times::Refused => {
                        (VERIFICATION, vec![inner.layer(), Label::from_static_parts("outcome", "refused")])
                    }
                    Times::Waits => (KEY_WAIT, vec![inner.layer()]),
                };
                let histogram = recorder.register_histogram(&Key::from_parts(name, labels), &METADATA);
                let totals = inner.counts.times(times);
                for (told, total) in flushed.times[times as usize].iter_mut().zip(totals) {
                    let (count, nanos) = (total.0 - told.0, total.1.wrapping_sub(told.1));
                    if count > 0 {
                        *told = total;
                        #[expect(clippy::cast_precision_loss, reason = "seconds, of which nine digits will do")]
                        let mean = nanos as f64 / count as f64 / 1e9;
                        histogram.record_many(mean, usize::try_from(count).unwrap_or(usize::MAX));
                    }
                }
            }
        });
    }

    /// What [`new`](Self::new) was given.
    #[must_use]
    pub fn layer(&self) -> &Arc<str> {
        &self.0.layer
    }
}

impl Observer for RequestMetrics {
    fn judged(&self, judged: &Judged<'_>) {
        self.0.counts.add(judged);
    }
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestMetrics").field(&self.0.layer).finish()
    }
}

impl Inner {
    fn layer(&self) -> Label {
        Label::new("layer", Arc::clone(&self.layer))
    }
}

const METADATA: Metadata<'static> = Metadata::new("countersign", Level::INFO, None);

fn describe(recorder: &dyn Recorder) {
    let name = KeyName::from_const_str;
    let text = "Requests by what became of them, why, and the configured issuer";
    recorder.describe_counter(name(REQUESTS), Some(Unit::Count), text.into());
    let text = "How long it took to judge a request, without waits";
    recorder.describe_histogram(name(VERIFICATION), Some(Unit::Seconds), text.into());
    let text = "How long requests waited for a key that was being looked for";
    recorder.describe_histogram(name(KEY_WAIT), Some(Unit::Seconds), text.into());
}
