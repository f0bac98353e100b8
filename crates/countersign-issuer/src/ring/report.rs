//! What the task tells: who asks for the status, who listens to events, the log, the recorder of metrics.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::event::RingEvent;
use super::work::Work;
use crate::step::Alarm;

/// Whoever listens.
pub(super) type Listener = Arc<dyn Fn(&RingEvent) + Send + Sync>;

/// What the handles see besides the desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(super) alarms: Vec<Alarm>,
    pub(super) is_clock_sound: bool,
    /// What did not succeed the last time, and why.
    pub(super) failing: BTreeMap<Work, Arc<str>>,
    /// The slots for which a key is being made.
    pub(super) making: Vec<String>,
    /// Whether all that is due is done.
    pub(super) is_at_rest: bool,
}

impl Report {
    /// Of a node that has not begun.
    pub(super) fn new() -> Self {
        Self {
            alarms: Vec::new(),
            is_clock_sound: true,
            failing: BTreeMap::new(),
            making: Vec::new(),
            is_at_rest: false,
        }
    }
}

pub(super) struct Teller {
    #[cfg_attr(not(any(feature = "tracing", feature = "metrics")), expect(dead_code, reason = "for logs and metrics"))]
    issuer: Arc<str>,
    listener: Option<Listener>,
    failing: BTreeMap<Work, Arc<str>>,
}

impl Teller {
    pub(super) fn new(issuer: Arc<str>, listener: Option<Listener>) -> Self {
        Self { issuer, listener, failing: BTreeMap::new() }
    }

    pub(super) fn failing(&self) -> BTreeMap<Work, Arc<str>> {
        self.failing.clone()
    }

    pub(super) fn succeeded(&mut self, work: Work) {
        self.failing.remove(&work);
    }

    pub(super) fn failed(&mut self, work: Work, error: Arc<str>, events: &mut Vec<RingEvent>) {
        self.failing.insert(work, Arc::clone(&error));
        events.push(RingEvent::Failed { work, error });
    }

    pub(super) fn tell(&self, event: &RingEvent) {
        #[cfg(feature = "tracing")]
        super::log::log(&self.issuer, event);
        #[cfg(feature = "metrics")]
        super::numbers::count(&self.issuer, event);
        if let Some(listener) = &self.listener {
            // Whoever listens must not end the task: that would end the ring of this node. What he leaves half done is
            // his.
            drop(catch_unwind(AssertUnwindSafe(|| listener(event))));
        }
    }
}
