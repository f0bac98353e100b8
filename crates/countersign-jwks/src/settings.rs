use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::cache::{KeyCache, Seal};
use crate::counters::Group;
use crate::error::SourceError;
use crate::events::Named;
use crate::lifetimes::Lifetimes;
use crate::load::Load;
use crate::router::Router;

/// What a source's task needs to know, whatever kind of source it is.
#[derive(Clone)]
pub(crate) struct Settings {
    /// What looks, if the settings pass; a source whose settings do not is never ready, and says why.
    pub(crate) load: Result<Arc<dyn Load>, SourceError>,
    /// What it is called in logs.
    pub(crate) label: Arc<str>,
    /// What it is called in caches: no other source has that name. `None` if its keys are not kept for the next process.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) lifetimes: Lifetimes,
    /// Whose keys they are, if that is known.
    pub(crate) issuer: Option<Arc<str>>,
    /// How far the provider's clock may be off before somebody is told.
    pub(crate) clock_tolerance: Duration,
    /// Where its keys are written down.
    pub(crate) cache: Option<Arc<dyn KeyCache>>,
    pub(crate) seal: Seal,
    /// Whether it is asked ever more seldom, as long as it has no keys: of a stranger's it need not be known at once when it has some.
    pub(crate) backs_off_without_keys: bool,
    /// Who else hears of its events.
    pub(crate) events: Option<broadcast::Sender<Named>>,
    /// The router, if it is the source of one of several issuers; otherwise nothing.
    pub(crate) router: Weak<Router>,
    /// What it is called in statistics, and who else counts what it counts, if that is not itself.
    pub(crate) group: Option<Arc<Group>>,
}

impl Settings {
    /// What it is called in statistics: never more than somebody has configured.
    pub(crate) fn counted_as(&self) -> &Arc<str> {
        self.group.as_ref().map_or(&self.label, |group| &group.name)
    }

    /// How long a look may wait for its turn.
    pub(crate) fn patience(&self) -> Duration {
        self.load.as_ref().map(|load| load.patience()).unwrap_or_default()
    }
}
