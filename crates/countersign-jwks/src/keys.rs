use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::Guard;
use countersign_token::{Answer, Ask, KeySet, KeySource, Miss};

use crate::handle::KeysHandle;
use crate::local::Local;
use crate::remote::Remote;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::waiting::Waiting;

/// The keys of one issuer: static, or read from a URL or files again and again by a task.
///
/// Clones are the same source; its task ends with the last of them (and of its handles).
#[derive(Clone)]
pub struct Keys(pub(crate) Source);

#[derive(Clone)]
pub(crate) enum Source {
    Fixed(Arc<KeySet>),
    Remote(Arc<Shared>),
}

impl Keys {
    /// Keys that never change. What is not among them is absent.
    #[must_use]
    pub fn fixed(keys: KeySet) -> Self {
        Self(Source::Fixed(Arc::new(keys)))
    }

    /// Keys from a URL. Within a tokio runtime the first fetch starts at once, otherwise with the first use.
    ///
    /// [`Remote::check`] the settings first: a source that does not pass fetches nothing and never becomes ready.
    #[must_use]
    pub fn remote(remote: Remote) -> Self {
        Self::kept_fresh(remote.settings())
    }

    /// Keys from files, which are read again when they change. Within a tokio runtime the first look starts at once, otherwise with the first use.
    ///
    /// [`Local::check`] the settings first: a source that does not pass reads nothing and never becomes ready.
    #[must_use]
    pub fn local(local: Local) -> Self {
        Self::kept_fresh(local.settings())
    }

    fn kept_fresh(settings: Settings) -> Self {
        let shared = Arc::new(Shared::new(settings));
        // No runtime yet is what "otherwise with the first use" is about.
        let _ = shared.ensure_running();
        Self(Source::Remote(shared))
    }

    /// Readiness, state, and refresh on demand.
    #[must_use]
    pub fn handle(&self) -> KeysHandle {
        KeysHandle(self.0.clone())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(set) => f.debug_tuple("Fixed").field(set).finish(),
            Self::Remote(shared) => {
                f.debug_struct("Remote").field("source", &shared.label()).field("keys", &shared.snapshot()).finish()
            }
        }
    }
}

impl KeySource for Keys {
    type Snapshot<'a> = Snapshot<'a>;
    type Waiting = Waiting;

    fn snapshot(&self) -> Option<Snapshot<'_>> {
        match &self.0 {
            Source::Fixed(set) => Some(Snapshot(Held::Fixed(set))),
            Source::Remote(shared) => shared.snapshot().map(|guard| Snapshot(Held::Remote(guard))),
        }
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Waiting> {
        match &self.0 {
            Source::Fixed(_) => Ask::Answered(Answer::Absent),
            Source::Remote(shared) => shared.ask(miss),
        }
    }

    fn signature_mismatch(&self, miss: Miss<'_>) {
        if let Source::Remote(shared) = &self.0 {
            shared.signature_mismatch(miss);
        }
    }
}

/// The keys in force, whole for as long as this is held. Hold it briefly, and not across an `.await`.
pub struct Snapshot<'a>(Held<'a>);

enum Held<'a> {
    Fixed(&'a KeySet),
    Remote(Guard<Arc<KeySet>>),
}

impl Deref for Snapshot<'_> {
    type Target = KeySet;

    fn deref(&self) -> &KeySet {
        match &self.0 {
            Held::Fixed(set) => set,
            Held::Remote(guard) => guard,
        }
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeySet::fmt(self, f)
    }
}
