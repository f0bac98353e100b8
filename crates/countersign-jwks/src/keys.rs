use std::fmt;
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;

use arc_swap::Guard;
use countersign_token::{Answer, Ask, KeySet, KeySource, Miss, UnverifiedToken};

use crate::error::SourceError;
use crate::handle::KeysHandle;
use crate::issuers::Issuers;
use crate::local::Local;
use crate::remote::Remote;
use crate::router::Router;
use crate::shared::Shared;
use crate::union::{Merged, Union};
use crate::waiting::Waiting;

/// Where a verifier's keys come from: static, refreshed by a task, several sources together, or those of many issuers.
///
/// Clones are the same source; its tasks end with the last of them (and of its handles).
#[derive(Clone)]
pub struct Keys(pub(crate) Source);

#[derive(Clone)]
pub(crate) enum Source {
    Fixed(Arc<KeySet>),
    LookedAfter(Arc<Shared>),
    Union(Arc<Union>),
    Issuers(Arc<Router>),
}

impl Keys {
    /// Keys that never change. What is not among them is absent.
    #[must_use]
    pub fn fixed(keys: KeySet) -> Self {
        Self(Source::Fixed(Arc::new(keys)))
    }

    /// Keys that somebody publishes. Within a tokio runtime the first fetch starts at once, otherwise with the first use.
    ///
    /// [`Remote::check`] the settings first: a source that does not pass fetches nothing and never becomes ready.
    #[must_use]
    pub fn remote(remote: Remote) -> Self {
        Self::looked_after(Shared::new(remote.settings()))
    }

    /// Keys from files, which are read again when they change. Within a tokio runtime the first look starts at once, otherwise with the first use.
    ///
    /// [`Local::check`] the settings first: a source that does not pass reads nothing and never becomes ready.
    #[must_use]
    pub fn local(local: Local) -> Self {
        Self::looked_after(Shared::new(local.settings()))
    }

    fn looked_after(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        // No runtime yet is what "otherwise with the first use" is about.
        let _ = shared.ensure_running();
        Self(Source::LookedAfter(shared))
    }

    /// The keys of all these sources: a token is tried with whatever any of them has for it, and a missing key is looked for in all
    /// of them at once. As long as one has keys, there are keys.
    ///
    /// A union does not say whose keys they are: bind those of different issuers to their issuers
    /// ([`Remote::bound_to_issuer`]), or use [`issuers`](Self::issuers). Of keys that share a name no more than
    /// [`MAX_CANDIDATES`](countersign_token::MAX_CANDIDATES) are tried, as in any set. For a mirror of the same keys there is [`Remote::or_else`].
    ///
    /// # Errors
    /// [`SourceError::IssuersInUnion`].
    ///
    /// ```
    /// use countersign_jwks::{Keys, Remote};
    /// use countersign_token::KeySet;
    ///
    /// let old = Keys::remote(Remote::new("https://old.example/jwks.json")?);
    /// let new = Keys::remote(Remote::new("https://new.example/jwks.json")?);
    /// let keys = Keys::union([old, new, Keys::fixed(KeySet::default())])?;
    /// # Ok::<(), countersign_jwks::SourceError>(())
    /// ```
    pub fn union(members: impl IntoIterator<Item = Self>) -> Result<Self, SourceError> {
        let members: Vec<_> = members.into_iter().collect();
        if members.iter().any(|member| matches!(member.0, Source::Issuers(_))) {
            return Err(SourceError::IssuersInUnion);
        }
        Ok(Self(Source::Union(Arc::new(Union::new(members)))))
    }

    /// The keys of many issuers, each for its own tokens. Within a tokio runtime those that are not lazy start at once,
    /// otherwise with the first use.
    ///
    /// [`Issuers::check`] the settings first: an issuer that does not pass is never ready.
    ///
    /// Give the verifier a policy with [`issuer_of_key`](https://docs.rs/countersign-claims) to have it demand what is so anyhow.
    #[must_use]
    pub fn issuers(issuers: Issuers) -> Self {
        let router = Router::new(issuers);
        router.start();
        Self(Source::Issuers(router))
    }

    /// Readiness, state, and refresh on demand.
    #[must_use]
    pub fn handle(&self) -> KeysHandle {
        KeysHandle(self.0.clone())
    }

    /// Whether the settings of the source, or of each of its parts, go together: one whose settings do not is never ready.
    ///
    /// # Errors
    /// [`SourceError`], the first that applies.
    pub fn check(&self) -> Result<(), SourceError> {
        match &self.0 {
            Source::Fixed(_) => Ok(()),
            Source::LookedAfter(shared) => shared.settings().load.as_ref().map(drop).map_err(Clone::clone),
            Source::Union(union) => union.members().iter().try_for_each(Self::check),
            Source::Issuers(router) => router.check(),
        }
    }

    /// Whether every key is, and will be, [bound to an issuer](countersign_token::VerifyingKey::bound_to_issuer).
    #[must_use]
    pub fn are_bound(&self) -> bool {
        match &self.0 {
            Source::Fixed(set) => set.iter().all(|key| key.issuer().is_some()),
            Source::LookedAfter(shared) => shared.settings().issuer.is_some(),
            Source::Union(union) => union.members().iter().all(Self::are_bound),
            Source::Issuers(_) => true,
        }
    }

    /// Whether they are keys that never change.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        matches!(self.0, Source::Fixed(_))
    }

    /// The set in force, to be kept for longer than a [`snapshot`](KeySource::snapshot): it costs a reference count, and what is exchanged meanwhile is
    /// not seen. `None` also for the keys of many issuers.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeySet>> {
        match &self.0 {
            Source::Fixed(set) => Some(Arc::clone(set)),
            Source::LookedAfter(shared) => shared.snapshot().map(|guard| Arc::clone(&guard)),
            Source::Union(union) => union.current(),
            Source::Issuers(_) => None,
        }
    }

    /// Whether this is the set in force.
    pub(crate) fn is_at(&self, set: Option<&Arc<KeySet>>) -> bool {
        match (self.snapshot(), set) {
            (Some(current), Some(set)) => ptr::eq(&*current, &**set),
            (None, None) => true,
            _ => false,
        }
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
            Self::LookedAfter(shared) => f
                .debug_struct("LookedAfter")
                .field("source", &shared.label())
                .field("keys", &shared.snapshot())
                .finish(),
            Self::Union(union) => f.debug_tuple("Union").field(&union.members()).finish(),
            Self::Issuers(router) => f.debug_struct("Issuers").field("running", &router.running().len()).finish(),
        }
    }
}

impl KeySource for Keys {
    type Snapshot<'a> = Snapshot<'a>;
    type Waiting = Waiting;

    /// `None` for the keys of many issuers: which there are depends on the token.
    fn snapshot(&self) -> Option<Snapshot<'_>> {
        match &self.0 {
            Source::Fixed(set) => Some(Snapshot(Held::Fixed(set))),
            Source::LookedAfter(shared) => shared.snapshot().map(|guard| Snapshot(Held::LookedAfter(guard))),
            Source::Union(union) => union.snapshot().map(|guard| Snapshot(Held::Merged(guard))),
            Source::Issuers(_) => None,
        }
    }

    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Snapshot<'_>> {
        match &self.0 {
            Source::Issuers(router) => router.snapshot_for(token).map(|guard| Snapshot(Held::LookedAfter(guard))),
            _ => self.snapshot(),
        }
    }

    fn snapshot_for_issuer<'i>(&self, issuer: impl FnOnce() -> Option<&'i str>) -> Option<Snapshot<'_>> {
        match &self.0 {
            Source::Issuers(router) => {
                router.snapshot_for_issuer(issuer()?).map(|guard| Snapshot(Held::LookedAfter(guard)))
            }
            _ => self.snapshot(),
        }
    }

    fn has_keys(&self) -> bool {
        match &self.0 {
            Source::Issuers(router) => router.is_any_usable(),
            _ => self.snapshot().is_some(),
        }
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Waiting> {
        match &self.0 {
            Source::Fixed(_) => Ask::Answered(Answer::Absent),
            Source::LookedAfter(shared) => shared.ask(miss),
            Source::Union(union) => union.ask(miss),
            Source::Issuers(router) => router.ask(miss),
        }
    }

    fn is_known_absent(&self, miss: Miss<'_>) -> bool {
        match &self.0 {
            Source::Fixed(_) => true,
            Source::LookedAfter(shared) => shared.is_known_absent(miss),
            // Of several sources each has to be asked.
            Source::Union(_) | Source::Issuers(_) => false,
        }
    }

    fn signature_mismatch(&self, miss: Miss<'_>) {
        match &self.0 {
            Source::Fixed(_) => {}
            Source::LookedAfter(shared) => shared.signature_mismatch(miss),
            Source::Union(union) => union.signature_mismatch(miss),
            Source::Issuers(router) => router.signature_mismatch(miss),
        }
    }
}

/// The keys in force, whole for as long as this is held. Hold it briefly, and not across an `.await`.
pub struct Snapshot<'a>(Held<'a>);

enum Held<'a> {
    Fixed(&'a KeySet),
    LookedAfter(Guard<Arc<KeySet>>),
    Merged(Guard<Arc<Merged>>),
}

impl Deref for Snapshot<'_> {
    type Target = KeySet;

    fn deref(&self) -> &KeySet {
        match &self.0 {
            Held::Fixed(set) => set,
            Held::LookedAfter(guard) => guard,
            Held::Merged(guard) => &guard.set,
        }
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeySet::fmt(self, f)
    }
}
