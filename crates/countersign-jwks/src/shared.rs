//! What a source's requests, handles and task have in common: the snapshot, the ways to reach the task, and the task
//! itself while it does not run.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use countersign_token::{Answer, Ask, KeySet, MAX_KID_BYTES, Miss, SkippedKey, Unready};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::cache::{ImportError, Remembered, Snapshot};
use crate::counters::{Count, Counters};
use crate::driver::{self, Asked, Engine, Import, Mismatched, Refresh};
use crate::events::{KeyEvent, MAX_EVENTS, Named};
use crate::plan::{Absent, Config, MAX_SPACING, MAX_WAITERS, MIN_RETRY_AFTER, Now, PAST, Plan, Wanted};
use crate::settings::Settings;
use crate::status::MAX_SKIPPED_SHOWN;
use crate::waiting::{Waiting, timer};
use crate::withdrawn::Withdrawn;

/// How many signature mismatches await the task's attention. They cost requests nothing when they are lost, and have a
/// queue of their own so that bad signatures keep nobody from asking for keys.
const MAX_MISMATCHES: usize = 64;

/// How many refreshes operators may have asked for at once. A queue of their own, which no stranger can fill.
pub(crate) const MAX_REFRESHES: usize = 64;

/// How many snapshots await the task's attention: one would do.
const MAX_IMPORTS: usize = 4;

/// Stands for "no set", told by its address. One for all sources.
static NOTHING: LazyLock<Arc<KeySet>> = LazyLock::new(Arc::default);

pub(crate) struct Shared {
    settings: Settings,
    /// When [`PAST`] is over.
    epoch: Instant,

    /// The set in force, or [`NOTHING`] while there is none *or no task that looks after it*: so a request that finds
    /// keys need not ask whether the task runs.
    keys: ArcSwap<KeySet>,
    /// Until when the set in force may be trusted, milliseconds since the epoch. The task withdraws it then; this is for a
    /// task that hangs, or whose runtime nobody drives any more.
    trusted_until: AtomicU64,
    absent: ArcSwap<Absent>,
    progress: watch::Sender<Progress>,
    counters: Counters,
    /// How many requests wait for a key.
    waiting: AtomicUsize,
    /// Made for the first who watches: of many issuers' sources nobody watches one alone, and the room for events is kilobytes.
    events: OnceLock<broadcast::Sender<Named>>,

    asks: mpsc::Sender<Asked>,
    mismatches: mpsc::Sender<Mismatched>,
    refreshes: mpsc::Sender<Refresh>,
    /// Boxed, because the queue has room for 32 from the beginning, and each is kilobytes.
    imports: mpsc::Sender<Box<Import>>,

    /// Whether `parked` is empty; spares running sources the lock.
    running: AtomicBool,
    /// What the task executes, while there is no task.
    parked: Mutex<Option<Box<Engine>>>,
}

/// What the task has to tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Why no set is in force, if none is.
    pub(crate) unready: Option<Unready>,
    /// Whether a fetch is under way.
    pub(crate) is_looking: bool,
    /// When asking again may help, since the epoch.
    pub(crate) retry_at: Duration,
    /// When the last good set was confirmed or replaced last, how long it was to be good for, and whether it has outlived that.
    pub(crate) confirmed: Option<Now>,
    pub(crate) lifetime: Duration,
    pub(crate) stale: bool,
    /// How far the provider's clock was ahead of ours when it last said, seconds.
    pub(crate) clock_offset: Option<i64>,
    pub(crate) last_error: Option<Arc<str>>,
    /// Of the last set that was believed; no more than are shown.
    pub(crate) skipped: Arc<[SkippedKey]>,
    pub(crate) skipped_total: usize,
    pub(crate) started: u64,
    pub(crate) failed: u64,
    /// How many of those brought keys that were not believed.
    pub(crate) refused: u64,
    /// What the last set that was believed was read from, and when it was generated at the latest, by the provider's clock.
    pub(crate) document: Option<Arc<[u8]>>,
    pub(crate) generated: Option<Duration>,
    pub(crate) withdrawn: Arc<Withdrawn>,
}

impl Progress {
    pub(crate) fn skip(&mut self, skipped: impl ExactSizeIterator<Item = SkippedKey>) {
        self.skipped_total = skipped.len();
        self.skipped = skipped.take(MAX_SKIPPED_SHOWN).collect();
    }
}

/// There is no tokio runtime in this thread's context, or it has no timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRuntime;

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let (asks, asked) = mpsc::channel(MAX_WAITERS);
        let (mismatches, mismatched) = mpsc::channel(MAX_MISMATCHES);
        let (refreshes, refresh_asked) = mpsc::channel(MAX_REFRESHES);
        let (imports, imported) = mpsc::channel(MAX_IMPORTS);
        // A hash of nothing with random keys: the standard library's only source of randomness.
        let seed = RandomState::new().hash_one(());
        let engine = Engine {
            plan: Plan::new(Config {
                backs_off_without_keys: settings.backs_off_without_keys,
                ..settings.lifetimes.config(seed)
            }),
            asks: asked,
            mismatches: mismatched,
            refreshes: refresh_asked,
            imports: imported,
        };
        let of_all = settings.group.as_ref().map(|group| Arc::clone(&group.counters));
        Self {
            settings,
            epoch: Instant::now(),
            keys: ArcSwap::new(Arc::clone(&NOTHING)),
            trusted_until: AtomicU64::new(0),
            absent: ArcSwap::from_pointee(Absent::none()),
            progress: watch::Sender::new(Progress { unready: Some(Unready::Starting), ..Progress::default() }),
            counters: Counters::within(of_all),
            waiting: AtomicUsize::new(0),
            events: OnceLock::new(),
            asks,
            mismatches,
            refreshes,
            imports,
            running: AtomicBool::new(false),
            parked: Mutex::new(Some(Box::new(engine))),
        }
    }

    // For requests.

    pub(crate) fn snapshot(&self) -> Option<Guard<Arc<KeySet>>> {
        let guard = self.keys.load();
        (!Arc::ptr_eq(&guard, &NOTHING) && self.is_trusted()).then_some(guard)
    }

    pub(crate) fn ask(self: &Arc<Self>, miss: Miss<'_>) -> Ask<Waiting> {
        if self.ensure_running().is_err() {
            self.counters.add(Count::WithoutKeys);
            let (reason, retry_after) = (Unready::NoRuntime, MIN_RETRY_AFTER);
            return Ask::Answered(Answer::Unavailable { reason, retry_after });
        }
        let has_keys = match self.snapshot() {
            Some(set) if miss.generation.is_none_or(|seen| seen < set.generation()) => {
                return Ask::Answered(Answer::Changed);
            }
            Some(_) => true,
            None => {
                self.counters.add(Count::WithoutKeys);
                // Once the first fetch has failed, waiting for the next is the client's business.
                if self.progress.borrow().unready != Some(Unready::Starting) {
                    return Ask::Answered(self.not_now(miss.generation));
                }
                false
            }
        };
        // What gets as far as the plan is counted by what that makes of it.
        let unheard = |count, answer| {
            if has_keys {
                self.counters.add(count);
            }
            Ask::Answered(answer)
        };
        let Some(wanted) = self.wanted_if_it_may_be(miss) else {
            return unheard(Count::Absent, Answer::Absent);
        };
        let (reply, answer) = oneshot::channel();
        match self.asks.try_send(Asked { wanted, generation: miss.generation, reply }) {
            Ok(()) => Ask::Wait(Waiting::new(Arc::clone(self), answer, miss.generation)),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                unheard(Count::Crowded, self.not_now(miss.generation))
            }
        }
    }

    pub(crate) fn is_known_absent(&self, miss: Miss<'_>) -> bool {
        let is_latest = self.snapshot().is_some_and(|set| miss.generation.is_some_and(|seen| seen >= set.generation()));
        is_latest && self.wanted_if_it_may_be(miss).is_none()
    }

    /// `None` if it is known that there is no such key.
    fn wanted_if_it_may_be(&self, miss: Miss<'_>) -> Option<Wanted> {
        // No key can have a longer name.
        let wanted = miss.kid.is_none_or(|kid| kid.len() <= MAX_KID_BYTES).then(|| wanted(miss))?;
        (!self.absent.load().contains(&wanted, self.now())).then_some(wanted)
    }

    pub(crate) fn signature_mismatch(self: &Arc<Self>, miss: Miss<'_>) {
        if miss.kid.is_none_or(|kid| kid.len() <= MAX_KID_BYTES) {
            let _ = self.mismatches.try_send(Mismatched { wanted: wanted(miss), generation: miss.generation });
        }
    }

    /// The answer to a request that cannot wait (any longer).
    pub(crate) fn not_now(&self, generation: Option<u64>) -> Answer {
        let progress = self.progress.borrow();
        let retry_after = progress.retry_at.saturating_sub(self.monotonic()).max(MIN_RETRY_AFTER);
        match self.snapshot() {
            Some(set) if generation.is_none_or(|seen| seen < set.generation()) => Answer::Changed,
            Some(_) => Answer::NotYet { retry_after },
            // Where the task has nothing to say against the keys, they are what it should have withdrawn.
            None => {
                let reason = progress.unready.unwrap_or(Unready::TooOld);
                Answer::Unavailable { reason, retry_after: retry_after.min(MAX_SPACING) }
            }
        }
    }

    /// The same answer, if it is not one of several issuers' source: of those one that cannot be reached is no outage.
    pub(crate) fn among_others(&self, answer: Answer) -> Answer {
        self.settings.router.upgrade().map_or(answer, |router| router.softened(answer))
    }

    /// A request begins to wait for a key, or has ended it.
    pub(crate) fn waits(&self, begins: bool) {
        if begins {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn is_trusted(&self) -> bool {
        self.monotonic() < Duration::from_millis(self.trusted_until.load(Ordering::Acquire))
    }

    // For handles.

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the source is called in logs.
    pub(crate) fn label(&self) -> &str {
        &self.settings.label
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Named> {
        self.events.get_or_init(|| broadcast::Sender::new(MAX_EVENTS)).subscribe()
    }

    pub(crate) fn has_usable_keys(&self) -> bool {
        self.snapshot().is_some_and(|set| !set.is_empty())
    }

    /// Whether they have been looked at within their lifetime, by both clocks.
    pub(crate) fn has_fresh_keys(&self) -> bool {
        let (confirmed, lifetime) = {
            let progress = self.progress.borrow();
            (progress.confirmed, progress.lifetime)
        };
        self.has_usable_keys() && confirmed.is_some_and(|then| self.now().age(then) < lifetime)
    }

    /// How long ago the key of this name was withdrawn, if it was and is remembered.
    pub(crate) fn withdrawn(&self, kid: &str) -> Option<Duration> {
        let then = self.progress.borrow().withdrawn.when(kid);
        then.map(|then| self.now().age(then))
    }

    /// Asks for a look now; `None` if too many have asked already.
    pub(crate) fn refresh(&self) -> Option<oneshot::Receiver<Result<(), Arc<str>>>> {
        let (refresh, ended) = oneshot::channel();
        self.refreshes.try_send(refresh).ok().map(|()| ended)
    }

    /// The keys in force as a snapshot, if they came as a document.
    pub(crate) fn export(&self) -> Option<Vec<u8>> {
        self.snapshot()?;
        let progress = self.progress.borrow().clone();
        let age = self.now().age(progress.confirmed?);
        let snapshot = Snapshot {
            source: self.settings.name.as_deref()?.into(),
            confirmed: since_epoch().saturating_sub(age).as_secs(),
            generated: progress.generated.map(|generated| generated.as_secs()),
            // What could be read as a key set is UTF-8.
            jwks: String::from_utf8(progress.document?.to_vec()).ok()?,
        };
        Some(snapshot.write(&self.settings.seal))
    }

    /// What may be believed of a snapshot.
    pub(crate) fn read(&self, snapshot: &[u8]) -> Result<Remembered, ImportError> {
        let name = self.settings.name.as_ref().ok_or(ImportError::NotRemote)?;
        let snapshot = Snapshot::read(snapshot, &self.settings.seal)?;
        snapshot.remembered(name, self.settings.lifetimes.max_stale(), since_epoch())
    }

    /// Hands a snapshot to the task, and hears whether it is in force then.
    pub(crate) async fn import(self: &Arc<Self>, snapshot: &[u8]) -> Result<bool, ImportError> {
        let remembered = self.read(snapshot)?;
        self.ensure_running().map_err(|_| ImportError::NoRuntime)?;
        let (reply, imported) = oneshot::channel();
        let import = Box::new(Import { remembered, reply });
        self.imports.send(import).await.map_err(|_| ImportError::NoRuntime)?;
        // Dropped unless it was put in force.
        Ok(imported.await.unwrap_or(false))
    }

    // For the task.

    pub(crate) fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall: since_epoch() }
    }

    fn monotonic(&self) -> Duration {
        PAST + Instant::now().saturating_duration_since(self.epoch)
    }

    /// The point in time `at` after the epoch; never further away than timers reach.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        self.epoch.checked_add(at.saturating_sub(PAST)).unwrap_or_else(|| Instant::now() + FAR)
    }

    pub(crate) fn trust_until(&self, at: Duration) {
        self.trusted_until.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    pub(crate) fn publish(&self, keys: Arc<KeySet>) {
        self.keys.store(keys);
    }

    pub(crate) fn withdraw(&self) {
        self.keys.store(Arc::clone(&NOTHING));
    }

    pub(crate) fn deny(&self, absent: Arc<Absent>) {
        self.absent.store(absent);
    }

    /// Whoever waits for a change of the progress is woken if `change` says so.
    pub(crate) fn report(&self, change: impl FnOnce(&mut Progress) -> bool) {
        self.progress.send_if_modified(change);
    }

    /// Tells whoever watches.
    pub(crate) fn tell(&self, event: KeyEvent) {
        // Nobody need watch.
        let named = (Arc::clone(&self.settings.label), event);
        if let Some(others) = &self.settings.events {
            let _ = others.send(named.clone());
        }
        if let Some(watchers) = self.events.get() {
            let _ = watchers.send(named);
        }
    }

    /// Starts the task unless it runs. The keys that a task before it left behind are in force again at once, if they
    /// are young enough.
    pub(crate) fn ensure_running(self: &Arc<Self>) -> Result<(), NoRuntime> {
        if self.running.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut parked = self.parked();
        if parked.is_none() {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(|_| NoRuntime)?;
        // The task could not be without.
        drop(timer(Duration::ZERO).ok_or(NoRuntime)?);
        let Some(engine) = parked.take() else { return Ok(()) };
        self.running.store(true, Ordering::Release);
        let unready = match engine.plan.in_force(self.now()) {
            Some(set) => {
                self.trust_until(engine.plan.trusted_until());
                self.publish(Arc::clone(set));
                None
            }
            None => engine.plan.unready(),
        };
        self.report(|progress| {
            progress.unready = unready;
            true
        });
        drop(parked);
        // Not under the lock: a runtime that is shutting down drops the task here, and the task parks itself.
        drop(runtime.spawn(driver::run(driver::Task::new(engine, Arc::downgrade(self)))));
        Ok(())
    }

    /// Called by a task that will not run any more, although it should.
    pub(crate) fn park(&self, engine: Box<Engine>) {
        let mut parked = self.parked();
        self.withdraw();
        *parked = Some(engine);
        self.running.store(false, Ordering::Release);
        // Under the lock, so that it cannot overwrite what the next task says.
        self.report(|progress| {
            progress.unready = Some(Unready::NoRuntime);
            true
        });
        drop(parked);
    }

    fn parked(&self) -> MutexGuard<'_, Option<Box<Engine>>> {
        // Nothing in the critical sections can leave it half done.
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(miss: Miss<'_>) -> Wanted {
    Wanted { kid: miss.kid.map(Into::into), algorithm: miss.algorithm }
}

/// What the system's clock says, since the Unix epoch.
pub(crate) fn since_epoch() -> Duration {
    // Before 1970 it is as wrong as in 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
