use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use countersign_token::Unready;

use crate::cache::ImportError;
use crate::error::SourceError;
use crate::events::KeyEvents;
use crate::keys::Source;
use crate::refreshing::{Outcome, RefreshError, Refreshing};
use crate::remote::Remote;
use crate::shared::Shared;
use crate::status::{KeyState, KeyStatus, status_of};
use crate::waiting::timer;

/// What operators want of [`Keys`](crate::Keys): readiness, state, a look now. Cheap to clone; keeps the source alive like `Keys`.
///
/// Every look through a handle starts the source's task if it does not run and there is a tokio runtime to run it on.
#[derive(Clone)]
pub struct KeysHandle(pub(crate) Source);

impl KeysHandle {
    /// The state of the keys. Of several sources together it is the best of theirs, and the sums; [`parts`](Self::parts) has each.
    #[must_use]
    pub fn status(&self) -> KeyStatus {
        match &self.0 {
            Source::Fixed(set) => {
                let generation = Some(set.generation());
                KeyStatus { generation, keys: set.len(), sources: 1, ..KeyStatus::new(KeyState::Static) }
            }
            Source::LookedAfter(shared) => status_of(shared),
            Source::Union(_) => together(self.parts().iter().map(Self::status)),
            Source::Issuers(router) => {
                // Those that have been let go of have counted too.
                KeyStatus { counters: router.counters(), ..together(self.parts().iter().map(Self::status)) }
            }
        }
    }

    /// Each source by name, with its state: what the labels of metrics may be made of, because nobody who sends tokens can add a name.
    ///
    /// A name is somebody's configuration: a URL without its query, an issuer, a file, or `static` for keys that never change. Of
    /// [many issuers](crate::Keys::issuers) those that are listed have one each, whether they have begun or not, and all tenants of a template are
    /// one, by the name of the template, with the best of their states and the sums of their numbers: a tenant's own name comes out of a token. Sources of
    /// the same name are one. In the order of the names.
    ///
    /// The names of [`parts`](Self::parts), and of events, are not bounded like that.
    #[must_use]
    pub fn sources(&self) -> Vec<(Arc<str>, KeyStatus)> {
        let mut sources: BTreeMap<Arc<str>, KeyStatus> = BTreeMap::new();
        let mut add = |name: Arc<str>, status: KeyStatus| {
            let status = match sources.remove(&name) {
                Some(other) => other.beside(status),
                None => status,
            };
            sources.insert(name, status);
        };
        match &self.0 {
            Source::Fixed(_) => add("static".into(), self.status()),
            Source::LookedAfter(shared) => add(Arc::clone(shared.settings().counted_as()), self.status()),
            Source::Union(_) => {
                for (name, status) in self.parts().iter().flat_map(Self::sources) {
                    add(name, status);
                }
            }
            Source::Issuers(router) => {
                router.start();
                for (group, members) in router.groups() {
                    let status = together(members.iter().map(status_of));
                    add(Arc::clone(&group.name), KeyStatus { counters: group.counters.read(), ..status });
                }
            }
        }
        sources.into_iter().collect()
    }

    /// The sources of which this one is made: the members of a union, the issuers that have begun. None for a single one.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        match &self.0 {
            Source::Fixed(_) | Source::LookedAfter(_) => Vec::new(),
            Source::Union(union) => union.members().iter().map(|member| Self(member.0.clone())).collect(),
            Source::Issuers(router) => {
                router.start();
                router.running().into_iter().map(|shared| Self(Source::LookedAfter(shared))).collect()
            }
        }
    }

    /// What the source is called in logs, if it has a name: its URL without the query, or its issuer.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Source::LookedAfter(shared) => Some(shared.label()),
            Source::Fixed(_) | Source::Union(_) | Source::Issuers(_) => None,
        }
    }

    /// Whether there are usable keys. Static keys are ready, even if there are none. Of several sources one is enough; issuers that
    /// begin with their first token are ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.0 {
            Source::Fixed(_) => true,
            Source::LookedAfter(shared) => {
                // Without a runtime there is no task, and without a task there are no keys.
                let _ = shared.ensure_running();
                shared.has_usable_keys()
            }
            Source::Union(_) => self.parts().iter().any(|part| match &part.0 {
                Source::Fixed(set) => !set.is_empty(),
                _ => part.is_ready(),
            }),
            Source::Issuers(router) => router.is_ready(),
        }
    }

    /// Waits until there are usable keys, for as long as that takes.
    ///
    /// # Errors
    /// [`Unready::NoRuntime`] if there is no tokio runtime to fetch them on.
    pub async fn ready(&self) -> Result<(), Unready> {
        if self.is_ready() {
            return Ok(());
        }
        if let Source::LookedAfter(shared) = &self.0 {
            return ready(shared).await;
        }
        let parts = self.parts();
        let mut waiting: Vec<_> =
            parts.iter().filter(|part| !part.is_fixed()).map(|part| Box::pin(part.ready())).collect();
        let mut failure = Unready::NoKeys;
        poll_fn(|context| {
            let mut at = 0;
            while let Some(one) = waiting.get_mut(at) {
                match one.as_mut().poll(context) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(reason)) => {
                        failure = reason;
                        drop(waiting.swap_remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            if waiting.is_empty() { Poll::Ready(Err(failure)) } else { Poll::Pending }
        })
        .await
    }

    /// Adds an issuer to those of [`Keys::issuers`](crate::Keys::issuers), or gives one another source. Its keys are bound to it.
    ///
    /// # Errors
    /// [`SourceError`], of the settings; [`SourceError::OneIssuer`] if this is not a source with many; [`SourceError::TooManyIssuers`].
    pub fn add_issuer(&self, issuer: impl AsRef<str>, remote: Remote) -> Result<(), SourceError> {
        match &self.0 {
            Source::Issuers(router) => router.add(issuer.as_ref(), remote),
            _ => Err(SourceError::OneIssuer),
        }
    }

    /// Removes an issuer from those of [`Keys::issuers`](crate::Keys::issuers), and says whether it was there: no token of it is
    /// accepted any more. A tenant that is still admitted begins anew with its next token.
    pub fn remove_issuer(&self, issuer: impl AsRef<str>) -> bool {
        match &self.0 {
            Source::Issuers(router) => router.remove(issuer.as_ref()),
            _ => false,
        }
    }

    /// Waits until there are usable keys, but not longer than `deadline`.
    ///
    /// Sources start by themselves, with the first use at the latest; requests that come before the first keys wait for them, two seconds at
    /// most. Call this before serving to wait instead, or to fail.
    ///
    /// # Errors
    /// [`NotReady`], with the reason, once the deadline has passed or where there is no tokio runtime.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use countersign_jwks::Keys;
    /// # async fn start(keys: Keys) -> Result<(), Box<dyn std::error::Error>> {
    /// // Block with a deadline, and serve whatever comes of it: requests get 503 until the provider is back.
    /// if let Err(error) = keys.handle().ready_within(Duration::from_secs(5)).await {
    ///     eprintln!("starting without keys: {error}");
    /// }
    /// // Or fail: somebody will start the process again.
    /// keys.handle().ready_within(Duration::from_secs(30)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready_within(&self, deadline: Duration) -> Result<(), NotReady> {
        let Some(timer) = timer(deadline) else {
            return if self.is_ready() {
                Ok(())
            } else {
                Err(NotReady { reason: Unready::NoRuntime, last_error: None })
            };
        };
        tokio::select! {
            biased;
            ready = self.ready() => ready.map_err(|reason| self.not_ready(reason)),
            () = timer => Err(self.not_ready(Unready::Starting)),
        }
    }

    /// Waits until the keys have been looked at within their lifetime, but not longer than `deadline`: for a process that was
    /// frozen and does not run while it is (a function runtime), so that nothing was refreshed meanwhile. Ready at once if they have; otherwise it
    /// waits for the look that is under way, or asks for one.
    ///
    /// Keys that are not fresh are still good until [`max_stale`](crate::Remote::max_stale): after an error, go on.
    ///
    /// # Errors
    /// [`NotFresh`] once the deadline has passed, or where there is no tokio runtime.
    pub async fn fresh_within(&self, deadline: Duration) -> Result<(), NotFresh> {
        let parts = match &self.0 {
            Source::LookedAfter(shared) => {
                let fresh = fresh_within(shared, deadline).await;
                return fresh.map_err(|()| NotFresh { last_error: self.status().last_error });
            }
            _ => self.lasting_parts(),
        };
        let mut waiting: Vec<_> = parts.iter().map(|part| Box::pin(part.fresh_within(deadline))).collect();
        let mut failure = None;
        poll_fn(|context| {
            waiting.retain_mut(|one| match one.as_mut().poll(context) {
                Poll::Ready(outcome) => {
                    failure = failure.take().or(outcome.err());
                    false
                }
                Poll::Pending => true,
            });
            if waiting.is_empty() { Poll::Ready(failure.take().map_or(Ok(()), Err)) } else { Poll::Pending }
        })
        .await
    }

    /// The keys in force, as a document that [`import`](Self::import) reads: for a warm start without a [`KeyCache`](crate::KeyCache). `None`
    /// while there are none, or if they did not come from a provider.
    #[must_use]
    pub fn export(&self) -> Option<Vec<u8>> {
        match &self.0 {
            Source::LookedAfter(shared) => shared.export(),
            _ => None,
        }
    }

    /// Puts exported keys in force until the first fetch has ended, unless there are keys already: says whether it did. To do it twice is to
    /// do it once.
    ///
    /// # Errors
    /// [`ImportError`]: too old, not whole, or of another source; [`ImportError::NotRemote`] if these keys are static, in files, or those of several
    /// sources ([`parts`](Self::parts) has each).
    pub async fn import(&self, snapshot: &[u8]) -> Result<bool, ImportError> {
        match &self.0 {
            Source::LookedAfter(shared) => shared.import(snapshot).await,
            _ => Err(ImportError::NotRemote),
        }
    }

    /// How long ago the key of this name went, if it was in force once and its provider has withdrawn it since: for explaining a refusal. A key that came
    /// back is not withdrawn, nor is one whose name another key has now.
    ///
    /// Each source remembers the last [`MAX_WITHDRAWN`](crate::MAX_WITHDRAWN) names, for as long as it exists: a process that has just started, and a tenant
    /// that was idle, know of none. In a union a key is withdrawn only if no member has it any more; of many issuers it is one of any of them, and
    /// [`parts`](Self::parts) has each.
    #[must_use]
    pub fn withdrawn(&self, kid: &str) -> Option<Duration> {
        match &self.0 {
            Source::Fixed(_) => None,
            Source::LookedAfter(shared) => shared.withdrawn(kid),
            Source::Union(union) => {
                let is_in_force = union.current().is_some_and(|set| set.iter().any(|key| key.kid() == Some(kid)));
                if is_in_force {
                    None
                } else {
                    union.members().iter().filter_map(|member| member.handle().withdrawn(kid)).min()
                }
            }
            Source::Issuers(router) => router.running().iter().filter_map(|shared| shared.withdrawn(kid)).min(),
        }
    }

    /// What happens to the keys from now on: for logs and alerts.
    ///
    /// ```
    /// # use countersign_jwks::{KeyEvent, Keys};
    /// # async fn watch(keys: Keys) {
    /// let mut events = keys.handle().events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         KeyEvent::TooOld => eprintln!("page somebody: {event}"),
    ///         event => println!("{event}"),
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> KeyEvents {
        KeyEvents(match &self.0 {
            Source::Fixed(_) => Vec::new(),
            Source::LookedAfter(shared) => vec![shared.events()],
            Source::Union(_) => self.parts().into_iter().flat_map(|part| part.events().0).collect(),
            Source::Issuers(router) => vec![router.events()],
        })
    }

    /// Asks for a look at the source now, which is as soon as the distance to the last forced look allows: at most 5 s
    /// from now, after the end of a look that is under way. The look happens even if nobody waits for its end.
    ///
    /// Of several sources each is looked at, and the first failure is the outcome.
    ///
    /// # Errors
    /// Of the future: [`RefreshError`], if the look failed or what it brought was not believed, if there is no tokio runtime, or if 64 refreshes are
    /// awaited already. The keys in force stay as they are. Keys that never change are always fresh.
    pub fn refresh(&self) -> Refreshing {
        let Source::LookedAfter(shared) = &self.0 else {
            let parts = self.lasting_parts().into_iter().map(|part| part.refresh()).collect();
            return Refreshing(Outcome::Several { parts, failure: None });
        };
        let error = match shared.ensure_running() {
            Ok(()) => match shared.refresh() {
                Some(ended) => return Refreshing(Outcome::Awaited(ended)),
                None => "too many refreshes have been asked for already".into(),
            },
            Err(_) => Unready::NoRuntime.to_string(),
        };
        Refreshing(Outcome::Known(Some(Err(RefreshError(error)))))
    }

    /// Why, as far as the state says, or else because of `reason`.
    fn not_ready(&self, reason: Unready) -> NotReady {
        let status = self.status();
        let reason = match status.state {
            KeyState::Unusable(reason) => reason,
            KeyState::Empty => Unready::NoKeys,
            _ => reason,
        };
        NotReady { reason, last_error: status.last_error }
    }

    /// The parts without tenants that have never come to anything: whoever makes such up must not make others wait or fail.
    fn lasting_parts(&self) -> Vec<Self> {
        match &self.0 {
            Source::Issuers(router) => {
                router.start();
                router.lasting().into_iter().map(|shared| Self(Source::LookedAfter(shared))).collect()
            }
            _ => self.parts(),
        }
    }

    fn is_fixed(&self) -> bool {
        matches!(self.0, Source::Fixed(_))
    }
}

/// Of several; of none that they have not begun: issuers that begin with their first token.
fn together(parts: impl Iterator<Item = KeyStatus>) -> KeyStatus {
    parts.reduce(KeyStatus::beside).unwrap_or(KeyStatus::new(KeyState::Starting))
}

async fn ready(shared: &Arc<Shared>) -> Result<(), Unready> {
    let mut progress = shared.progress();
    loop {
        progress.mark_unchanged();
        shared.ensure_running().map_err(|_| Unready::NoRuntime)?;
        if shared.has_usable_keys() {
            return Ok(());
        }
        // It cannot close: `shared` has the sending end.
        let _ = progress.changed().await;
    }
}

async fn fresh_within(shared: &Arc<Shared>, deadline: Duration) -> Result<(), ()> {
    /// How long the task may take to begin the look that is due by itself: it has just been thawed too.
    const THAW: Duration = Duration::from_millis(10);
    let mut timer = pin!(timer(deadline).ok_or(())?);
    let mut thaw = pin!(self::timer(THAW).ok_or(())?);
    let mut progress = shared.progress();
    let (mut is_thawed, mut has_asked) = (false, false);
    loop {
        progress.mark_unchanged();
        shared.ensure_running().map_err(|_| ())?;
        if shared.has_fresh_keys() {
            return Ok(());
        }
        // The end of the look that is under way will do; another is asked for only once.
        if is_thawed && !has_asked && !progress.borrow().is_looking {
            has_asked = true;
            drop(shared.refresh());
        }
        tokio::select! {
            biased;
            changed = progress.changed() => drop(changed),
            () = &mut timer => return Err(()),
            () = &mut thaw, if !is_thawed => is_thawed = true,
        }
    }
}

impl fmt::Debug for KeysHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeysHandle").field(&self.0).finish()
    }
}

/// Why there were no usable keys in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotReady {
    /// Which of the few reasons it is.
    pub reason: Unready,
    /// Why the last fetch failed, if it did.
    pub last_error: Option<String>,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        match &self.last_error {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotReady {}

/// The keys could not be looked at in time. Those that there are, if there are any, are good until
/// [`max_stale`](crate::Remote::max_stale).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotFresh {
    /// Why the last fetch failed, if it did.
    pub last_error: Option<String>,
}

impl fmt::Display for NotFresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the keys could not be looked at in time")?;
        match &self.last_error {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotFresh {}
