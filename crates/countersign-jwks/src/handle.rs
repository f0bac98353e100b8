use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use countersign_token::{SkippedKey, Unready};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::cache::ImportError;
use crate::error::SourceError;
use crate::events::KeyEvents;
use crate::keys::Source;
use crate::plan::FETCH_TIMEOUT;
use crate::remote::Remote;
use crate::shared::Shared;
use crate::waiting::timer;

/// The most skipped keys that [`KeyStatus`] names; the rest is only counted.
pub const MAX_SKIPPED_SHOWN: usize = 32;

/// What operators want of [`Keys`](crate::Keys): readiness, state, a look now. Cheap to clone; keeps the source alive like `Keys`.
///
/// Every look through a handle starts the source's task if it does not run and there is a tokio runtime to run it on.
#[derive(Clone)]
pub struct KeysHandle(pub(crate) Source);

/// The state of a source, for people and dashboards.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStatus {
    /// In one word.
    pub state: KeyState,
    /// The number of the set in force: it grows with every set that is not the same as the one before; 0 for static
    /// keys. `None` while no set is in force.
    pub generation: Option<u64>,
    /// How many keys are in force.
    pub keys: usize,
    /// The keys of the last believed set that cannot be used, and why; the first [`MAX_SKIPPED_SHOWN`] of them. Their
    /// names are the provider's text: escape them.
    pub skipped: Vec<SkippedKey>,
    /// How many there are.
    pub skipped_total: usize,
    /// How long ago the provider last confirmed or replaced the set.
    pub last_success: Option<Duration>,
    /// For how long the set is good after that: what the provider's caching headers say, within bounds, or else the default.
    pub lifetime: Option<Duration>,
    /// How far the provider's clock was ahead of ours when it last said (`Date`), whole seconds; negative if it was behind. When
    /// tokens are refused as expired or not yet valid, look here first.
    pub clock_offset: Option<i64>,
    /// Why the last fetch failed; `None` if it did not. Control characters are escaped.
    pub last_error: Option<String>,
    /// How many fetches were started.
    pub fetches_started: u64,
    /// How many of them failed, or brought what was not believed.
    pub fetches_failed: u64,
    /// How many brought keys that were not believed: see [`KeyEvent::Refused`](crate::KeyEvent::Refused).
    pub answers_refused: u64,
    /// How long a key that the provider has withdrawn can still be accepted, while the provider answers: the lifetime and one fetch.
    /// `None` for keys that do not change.
    pub withdrawn_after: Option<Duration>,
    /// How long it can while the provider does not answer; then no token is accepted ([`max_stale`](crate::Remote::max_stale)).
    pub max_stale: Option<Duration>,
}

/// The state of a source, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// Keys that do not change.
    Static,
    /// The first fetch has not ended yet, or not begun: issuers that begin with their first token.
    Starting,
    /// There are keys, looked at within their lifetime.
    Ready,
    /// There are keys, but the last success is longer ago than their lifetime; they are used until `max_stale`.
    Stale,
    /// The provider has withdrawn all its keys, and confirmed it.
    Empty,
    /// There are no keys.
    Unusable(Unready),
}

impl KeysHandle {
    /// The state of the keys. Of several sources together it is the best of theirs, and the sums; [`parts`](Self::parts) has each.
    #[must_use]
    pub fn status(&self) -> KeyStatus {
        match &self.0 {
            Source::Fixed(set) => {
                KeyStatus { generation: Some(set.generation()), keys: set.len(), ..KeyStatus::new(KeyState::Static) }
            }
            Source::Remote(shared) => status_of(shared),
            Source::Union(_) | Source::Issuers(_) => {
                let parts = self.parts().into_iter().map(|part| part.status()).reduce(KeyStatus::beside);
                // Issuers that begin with their first token.
                parts.unwrap_or(KeyStatus::new(KeyState::Starting))
            }
        }
    }

    /// The sources of which this one is made: the members of a union, the issuers that have begun. None for a single one.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        match &self.0 {
            Source::Fixed(_) | Source::Remote(_) => Vec::new(),
            Source::Union(union) => union.members().iter().map(|member| Self(member.0.clone())).collect(),
            Source::Issuers(router) => {
                router.start();
                router.running().into_iter().map(|shared| Self(Source::Remote(shared))).collect()
            }
        }
    }

    /// What the source is called in logs, if it has a name: its URL without the query, or its issuer.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Source::Remote(shared) => Some(shared.label()),
            Source::Fixed(_) | Source::Union(_) | Source::Issuers(_) => None,
        }
    }

    /// Whether there are usable keys. Static keys are ready, even if there are none. Of several sources one is enough; issuers that
    /// begin with their first token are ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.0 {
            Source::Fixed(_) => true,
            Source::Remote(shared) => {
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
        if let Source::Remote(shared) = &self.0 {
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
    pub fn dismiss_issuer(&self, issuer: impl AsRef<str>) -> bool {
        match &self.0 {
            Source::Issuers(router) => router.remove(issuer.as_ref()),
            _ => false,
        }
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

    fn is_fixed(&self) -> bool {
        matches!(self.0, Source::Fixed(_))
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
    /// [`NotReady`], with the reason, once the deadline has passed or where there is no tokio runtime.
    pub async fn fresh_within(&self, deadline: Duration) -> Result<(), NotReady> {
        let parts = match &self.0 {
            Source::Remote(shared) => {
                return fresh_within(shared, deadline).await.map_err(|reason| self.not_ready(reason));
            }
            _ => self.parts(),
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
            Source::Remote(shared) => shared.export(),
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
            Source::Remote(shared) => shared.import(snapshot).await,
            _ => Err(ImportError::NotRemote),
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
            Source::Remote(shared) => vec![shared.events()],
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
        let Source::Remote(shared) = &self.0 else {
            let parts = self.parts().into_iter().map(|part| part.refresh()).collect();
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
}

fn status_of(shared: &Arc<Shared>) -> KeyStatus {
    let running = shared.ensure_running();
    let progress = shared.progress().borrow().clone();
    let set = shared.snapshot();
    let state = match &set {
        Some(set) if set.is_empty() => KeyState::Empty,
        Some(_) if progress.stale => KeyState::Stale,
        Some(_) => KeyState::Ready,
        None if running.is_err() => KeyState::Unusable(Unready::NoRuntime),
        None => match progress.unready {
            Some(Unready::Starting) => KeyState::Starting,
            Some(reason) => KeyState::Unusable(reason),
            // The task hangs, or it would have said so.
            None => KeyState::Unusable(Unready::TooOld),
        },
    };
    KeyStatus {
        state,
        generation: set.as_ref().map(|set| set.generation()),
        keys: set.as_ref().map_or(0, |set| set.len()),
        skipped: progress.skipped.to_vec(),
        skipped_total: progress.skipped_total,
        last_success: progress.confirmed.map(|then| shared.now().age(then)),
        lifetime: set.is_some().then_some(progress.lifetime),
        clock_offset: progress.clock_offset,
        last_error: progress.last_error.map(|error| error.as_ref().into()),
        fetches_started: progress.started,
        fetches_failed: progress.failed,
        answers_refused: progress.refused,
        withdrawn_after: Some(progress.lifetime.saturating_add(FETCH_TIMEOUT)),
        max_stale: Some(shared.settings().lifetimes.max_stale()),
    }
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

async fn fresh_within(shared: &Arc<Shared>, deadline: Duration) -> Result<(), Unready> {
    /// How long the task may take to begin the look that is due by itself: it has just been thawed too.
    const THAW: Duration = Duration::from_millis(10);
    let mut timer = pin!(sleep_for(deadline)?);
    let mut thaw = pin!(sleep_for(THAW)?);
    let mut progress = shared.progress();
    let (mut is_thawed, mut has_asked) = (false, false);
    loop {
        progress.mark_unchanged();
        shared.ensure_running().map_err(|_| Unready::NoRuntime)?;
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
            () = &mut timer => return Err(Unready::TooOld),
            () = &mut thaw, if !is_thawed => is_thawed = true,
        }
    }
}

fn sleep_for(time: Duration) -> Result<Sleep, Unready> {
    timer(time).ok_or(Unready::NoRuntime)
}

impl KeyStatus {
    fn new(state: KeyState) -> Self {
        Self {
            state,
            generation: None,
            keys: 0,
            skipped: Vec::new(),
            skipped_total: 0,
            last_success: None,
            lifetime: None,
            clock_offset: None,
            last_error: None,
            fetches_started: 0,
            fetches_failed: 0,
            answers_refused: 0,
            withdrawn_after: None,
            max_stale: None,
        }
    }

    /// Of two sources together: the better state, the sums, and of times the worse.
    fn beside(mut self, other: Self) -> Self {
        if other.state.rank() < self.state.rank() {
            self.state = other.state;
        }
        self.generation = None;
        self.keys += other.keys;
        self.skipped.extend(other.skipped);
        self.skipped.truncate(MAX_SKIPPED_SHOWN);
        self.skipped_total += other.skipped_total;
        self.last_success = self.last_success.max(other.last_success);
        self.lifetime = self.lifetime.max(other.lifetime);
        self.clock_offset =
            [self.clock_offset, other.clock_offset].into_iter().flatten().max_by_key(|offset| offset.unsigned_abs());
        self.last_error = self.last_error.or(other.last_error);
        self.fetches_started += other.fetches_started;
        self.fetches_failed += other.fetches_failed;
        self.answers_refused += other.answers_refused;
        self.withdrawn_after = self.withdrawn_after.max(other.withdrawn_after);
        self.max_stale = self.max_stale.max(other.max_stale);
        self
    }
}

impl KeyState {
    /// The better, the less.
    fn rank(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Static => 1,
            Self::Stale => 2,
            Self::Empty => 3,
            Self::Starting => 4,
            Self::Unusable(_) => 5,
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

/// The end of a look that was asked for.
#[derive(Debug)]
pub struct Refreshing(Outcome);

#[derive(Debug)]
enum Outcome {
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
pub struct RefreshError(String);

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RefreshError {}
