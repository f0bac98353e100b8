//! The task that executes a [`Plan`]. It holds its source weakly, so that it ends with the last of those who use it.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use countersign_token::{Answer, FetchError, KeySet, MAX_KID_BYTES, SkippedKey};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cache::{Keeper, Kept};
use crate::events::KeyEvent;
use crate::handle::MAX_SKIPPED_SHOWN;
use crate::load::{Document, Landing, Load, Look};
use crate::plan::{Action, Disbelief, Event, Plan, Restored, Start, Wanted};
use crate::shared::{MAX_REFRESHES, Shared};
use crate::unwind;

/// The longest error text that is kept, characters: some come from the peer.
const MAX_ERROR_CHARS: usize = 512;

/// A request that lacks a key.
pub(crate) struct Asked {
    pub(crate) wanted: Wanted,
    pub(crate) generation: Option<u64>,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// A signature that did not match.
pub(crate) struct Mismatched {
    pub(crate) wanted: Wanted,
    pub(crate) generation: Option<u64>,
}

/// An operator who wants a look, and to hear how it ended.
pub(crate) type Refresh = oneshot::Sender<Result<(), Arc<str>>>;

/// A snapshot that somebody has kept, and who wants to hear whether it is in force now.
pub(crate) struct Import {
    pub(crate) restored: Restored,
    pub(crate) document: Document,
    pub(crate) reply: oneshot::Sender<bool>,
}

/// What outlives a task: it is handed from the one that died to the next.
pub(crate) struct Engine {
    pub(crate) plan: Plan<oneshot::Sender<Answer>>,
    pub(crate) asks: mpsc::Receiver<Asked>,
    pub(crate) mismatches: mpsc::Receiver<Mismatched>,
    pub(crate) refreshes: mpsc::Receiver<Refresh>,
    pub(crate) imports: mpsc::Receiver<Box<Import>>,
}

impl Engine {
    /// Lets go of everybody who waits. They notice, and answer for themselves.
    fn interrupt(&mut self) {
        self.plan.interrupt();
        while self.asks.try_recv().is_ok() {}
        while self.refreshes.try_recv().is_ok() {}
        while self.imports.try_recv().is_ok() {}
    }
}

/// Gives the engine back when it is dropped, by a runtime that shuts down or by a panic of a
/// [`Fetch`](countersign_token::Fetch).
pub(crate) struct Task {
    engine: Option<Box<Engine>>,
    shared: Weak<Shared>,
}

impl Task {
    pub(crate) fn new(engine: Box<Engine>, shared: Weak<Shared>) -> Self {
        Self { engine: Some(engine), shared }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let (Some(mut engine), Some(shared)) = (self.engine.take(), self.shared.upgrade()) {
            engine.interrupt();
            shared.park(engine);
        }
    }
}

type Flight = Pin<Box<dyn Future<Output = Landing> + Send>>;

/// What the task woke up for.
enum Input {
    Event(Event<oneshot::Sender<Answer>>),
    Refresh(Refresh),
    Landed(Landing),
    Import(Box<Import>),
    Kept(Kept),
}

pub(crate) async fn run(mut task: Task) {
    let Task { engine: Some(engine), shared } = &mut task else { return };
    let mut timer = pin!(sleep_until(Instant::now()));
    let Some(settings) = shared.upgrade().map(|shared| shared.settings().clone()) else { return };
    let mut driver = Driver {
        flight: None,
        refreshing: Vec::new(),
        clock_is_off: false,
        keeper: Keeper::new(settings.cache, settings.label),
    };
    let load = settings.load.ok();
    let mut changed = changes(load.as_deref());
    let mut input = Input::Event(Event::Tick);
    loop {
        match shared.upgrade() {
            Some(shared) => timer.as_mut().reset(driver.execute(engine, &shared, input)),
            None => return,
        }
        // The timer and the end of a fetch first: no flood of requests may put them off.
        let next = tokio::select! {
            biased;
            result = landing(&mut driver.flight) => Some(Input::Landed(result)),
            () = &mut timer => Some(Input::Event(Event::Tick)),
            refresh = engine.refreshes.recv(), if driver.refreshing.len() < MAX_REFRESHES => refresh.map(Input::Refresh),
            () = &mut changed => {
                changed = changes(load.as_deref());
                Some(Input::Event(Event::SourceChanged))
            }
            kept = driver.keeper.next() => Some(Input::Kept(kept)),
            import = engine.imports.recv() => import.map(Input::Import),
            asked = engine.asks.recv() => asked.map(|Asked { wanted, generation, reply }| {
                Input::Event(Event::Asked { wanted, generation, waiter: reply })
            }),
            mismatch = engine.mismatches.recv() => mismatch.map(|Mismatched { wanted, generation }| {
                Input::Event(Event::Mismatched { wanted, generation })
            }),
        };
        // The queues close with the source.
        let Some(next) = next else { return };
        input = next;
    }
}

/// Ends when the source has changed, if it can tell.
fn changes<'a>(load: Option<&'a dyn Load>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    match load {
        Some(load) => load.changed(),
        None => Box::pin(pending()),
    }
}

async fn landing(flight: &mut Option<Flight>) -> Landing {
    match flight {
        Some(flight) => flight.await,
        None => pending().await,
    }
}

struct Driver {
    flight: Option<Flight>,
    /// Each with the number of fetches that had begun when it was asked for.
    refreshing: Vec<(u64, Refresh)>,
    /// Whether somebody has been told that the provider's clock disagrees with ours.
    clock_is_off: bool,
    keeper: Keeper,
}

/// How a fetch ended.
#[derive(Default)]
struct End {
    error: Option<String>,
    /// Of a key set that it brought.
    skipped: Option<Vec<SkippedKey>>,
    clock_offset: Option<i64>,
    disbelief: Option<Disbelief>,
    /// What it was read from.
    body: Option<Arc<[u8]>>,
    /// When it was generated at the latest, by the provider's clock.
    generated: Option<Duration>,
    /// Whether another set is in force now than before.
    is_new: bool,
}

impl End {
    fn of(landing: Landing, issuer: Option<&Arc<str>>) -> (Event<oneshot::Sender<Answer>>, Self) {
        match landing {
            Landing::Fetched(document, hints) => {
                let Document { keys, skipped, body } = *document;
                let (skipped, clock_offset) = (Some(skipped), hints.clock_offset);
                let end = Self { skipped, clock_offset, body, generated: hints.date, ..Self::default() };
                (Event::Fetched { set: Box::new(bound(keys, issuer)), hints }, end)
            }
            Landing::NotModified(hints) => {
                let end = Self { clock_offset: hints.clock_offset, generated: hints.date, ..Self::default() };
                (Event::NotModified(hints), end)
            }
            Landing::Failed { error, retry_after } => {
                (Event::Failed { retry_after }, Self { error: Some(error), ..Self::default() })
            }
        }
    }

    fn disbelieved(&self, disbelief: Disbelief) -> String {
        match disbelief {
            Disbelief::Empty => {
                let skipped = self.skipped.as_ref().map_or(0, Vec::len);
                format!("the key set has no usable key ({skipped} skipped)")
            }
            Disbelief::Older => "the key set is older than the one in force: a cache on the way lags behind".into(),
            Disbelief::Unasked => "status 304 to a request that was not conditional".into(),
            Disbelief::Outlived => "the machine was suspended, or its clock was set, during the fetch".into(),
        }
    }
}

impl Driver {
    /// Tells the plan, does what it says, and returns when to wake up.
    fn execute(&mut self, engine: &mut Engine, shared: &Arc<Shared>, input: Input) -> Instant {
        let plan = &mut engine.plan;
        let before = plan.fetches();
        let mut memory: Option<Memory> = None;
        let (event, mut end) = match input {
            Input::Event(event) => (event, None),
            Input::Refresh(refresh) => {
                self.refreshing.push((before, refresh));
                (Event::RefreshAsked, None)
            }
            Input::Landed(landing) => {
                self.flight = None;
                let (event, end) = End::of(landing, shared.settings().issuer.as_ref());
                (event, Some(end))
            }
            Input::Import(import) => {
                let Import { restored, document, reply } = *import;
                memory = Some(Memory { age: restored.age, document, importer: Some(reply) });
                (Event::Restored(Box::new(restored)), None)
            }
            Input::Kept(kept) => match read_back(shared, kept) {
                Some((restored, document)) => {
                    memory = Some(Memory { age: restored.age, document, importer: None });
                    (Event::Restored(Box::new(restored)), None)
                }
                None => (Event::Tick, None),
            },
        };
        let mut wake_at = Duration::MAX;
        let old = plan.last_good().cloned();
        let actions = plan.step(shared.now(), event);
        shared.trust_until(plan.trusted_until());
        for action in actions {
            match action {
                Action::Fetch(start) => self.flight = Some(launch(shared, &start)),
                Action::Publish(keys) => {
                    shared.publish(Arc::clone(&keys));
                    if let Some(end) = &mut end {
                        end.is_new = true;
                        log_published(shared, &keys, end.skipped.as_deref().unwrap_or_default());
                    }
                    if let Some(memory) = memory.take() {
                        memory.takes_effect(shared, &keys);
                        continue;
                    }
                    // After keys that were too old, the same ones may come again.
                    if old.as_ref().is_none_or(|old| old.generation() != keys.generation()) {
                        shared.tell(KeyEvent::rotated(old.as_deref(), &keys));
                    }
                }
                Action::Disbelieve(disbelief) => {
                    if let Some(end) = &mut end {
                        log_skipped(shared, end.skipped.as_deref().unwrap_or_default());
                        end.error = Some(end.disbelieved(disbelief));
                        end.disbelief = Some(disbelief);
                    }
                }
                Action::Stale => {
                    tracing::warn!(source = %shared.label(), "the keys are stale");
                    shared.tell(KeyEvent::Stale);
                }
                Action::Recovered => {
                    tracing::info!(source = %shared.label(), "the keys are fresh again");
                    shared.tell(KeyEvent::Recovered);
                }
                Action::Withdraw => {
                    shared.withdraw();
                    tracing::warn!(source = %shared.label(), "the keys are too old to be trusted");
                    shared.tell(KeyEvent::TooOld);
                }
                Action::Deny(absent) => shared.deny(absent),
                Action::Answer(waiter, answer) => drop(waiter.send(answer)),
                Action::Arm(at) => wake_at = at,
            }
        }
        let is_kept = end.as_ref().is_some_and(|end| end.error.is_none() && self.keeper.is_due(end.is_new));
        if let Some(end) = end {
            self.end(before, shared, end);
        }
        report_plan(shared, plan);
        if is_kept && let Some(snapshot) = shared.export() {
            self.keeper.store(snapshot);
        }
        shared.instant(wake_at)
    }

    /// Tells everybody how fetch `number` ended.
    fn end(&mut self, number: u64, shared: &Shared, end: End) {
        let error: Option<Arc<str>> =
            end.error.map(|error| error.escape_debug().take(MAX_ERROR_CHARS).collect::<String>().into());
        if let Some(error) = &error {
            let (source, reason) = (shared.label(), Arc::clone(error));
            if end.disbelief.is_some() {
                tracing::warn!(%source, %reason, "did not believe the keys that were fetched");
                shared.tell(KeyEvent::Refused { reason });
            } else {
                tracing::warn!(%source, error = %reason, "could not fetch the keys");
                shared.tell(KeyEvent::Failed { error: reason });
            }
        }
        self.compare_clocks(shared, end.clock_offset);
        // A fetch that proves nothing is followed by another at once, and that one is what was asked for.
        let counts = end.disbelief != Some(Disbelief::Outlived);
        for (after, refresh) in std::mem::take(&mut self.refreshing) {
            if after < number && counts {
                let _ = refresh.send(error.clone().map_or(Ok(()), Err));
            } else {
                self.refreshing.push((after, refresh));
            }
        }
        shared.report(|progress| {
            if error.is_some() {
                progress.failed += 1;
                progress.refused += u64::from(end.disbelief.is_some());
            } else {
                progress.generated = end.generated.or(progress.generated);
                if let Some(skipped) = end.skipped {
                    progress.document = end.body;
                    progress.skip(skipped.into_iter().map(shortened));
                }
            }
            progress.clock_offset = end.clock_offset.or(progress.clock_offset);
            progress.last_error = error;
            true
        });
    }

    /// Says so once when the provider's clock is off, and again only after it was not.
    fn compare_clocks(&mut self, shared: &Shared, offset: Option<i64>) {
        let Some(seconds) = offset else { return };
        let is_off = Duration::from_secs(seconds.unsigned_abs()) > shared.settings().clock_tolerance;
        if is_off && !self.clock_is_off {
            tracing::warn!(source = %shared.label(), seconds, "the provider's clock is ahead of ours by that");
            shared.tell(KeyEvent::ClockOff { seconds });
        }
        self.clock_is_off = is_off;
    }
}

/// A set that somebody has kept, while the plan decides whether it counts.
struct Memory {
    age: Duration,
    document: Document,
    importer: Option<oneshot::Sender<bool>>,
}

impl Memory {
    fn takes_effect(self, shared: &Shared, keys: &KeySet) {
        let age = self.age;
        tracing::info!(source = %shared.label(), keys = keys.len(), age = age.as_secs(), "keys restored");
        shared.tell(KeyEvent::Restored { keys: keys.len(), age });
        shared.report(|progress| {
            progress.document = self.document.body;
            progress.skip(self.document.skipped.into_iter().map(shortened));
            true
        });
        if let Some(importer) = self.importer {
            let _ = importer.send(true);
        }
    }
}

/// What the cache has kept, if it is of use.
fn read_back(shared: &Shared, kept: Kept) -> Option<(Restored, Document)> {
    let source = shared.label();
    match kept {
        Kept::Loaded(Ok(Some(snapshot))) => match shared.read(&snapshot) {
            Ok(restored) => return Some(restored),
            Err(error) => tracing::warn!(%source, %error, "the cached keys are of no use"),
        },
        Kept::Loaded(Ok(None)) | Kept::Stored(Ok(())) => {}
        Kept::Loaded(Err(error)) => tracing::warn!(%source, %error, "the cached keys could not be read"),
        Kept::Stored(Err(error)) => tracing::warn!(%source, %error, "the keys could not be cached"),
    }
    None
}

pub(crate) fn bound(keys: KeySet, issuer: Option<&Arc<str>>) -> KeySet {
    match issuer {
        Some(issuer) => keys.bound_to_issuer(Arc::clone(issuer)),
        None => keys,
    }
}

fn report_plan<W>(shared: &Shared, plan: &Plan<W>) {
    let (unready, confirmed, started) = (plan.unready(), plan.confirmed(), plan.fetches());
    let (lifetime, stale) = plan.lifetime();
    shared.report(|progress| {
        let news = progress.unready != unready || progress.started != started || progress.stale != stale;
        progress.unready = unready;
        progress.confirmed = confirmed;
        (progress.lifetime, progress.stale) = (lifetime, stale);
        progress.started = started;
        progress.retry_at = plan.next_look();
        news
    });
}

fn launch(shared: &Shared, start: &Start) -> Flight {
    let load = shared.settings().load.clone();
    tracing::debug!(source = %shared.label(), number = start.number, kind = ?start.kind, "fetching the keys");
    let look = Look {
        timeout: start.timeout,
        revalidate: start.revalidate,
        validators: start.validators.clone(),
        has_fresh_keys: start.has_fresh_keys,
    };
    let timeout_after = start.timeout;
    Box::pin(async move {
        let load = match load {
            Ok(load) => load,
            Err(error) => return Landing::failed(error.to_string()),
        };
        let looking = timeout(
            timeout_after,
            unwind::caught(async { load.load(look).await }, || Landing::failed("the fetcher panicked")),
        );
        looking.await.unwrap_or_else(|_| Landing::failed(FetchError::TimedOut.to_string()))
    })
}

fn log_published(shared: &Shared, keys: &KeySet, skipped: &[SkippedKey]) {
    log_skipped(shared, skipped);
    let mut reasons: Vec<String> = skipped.iter().map(|key| key.reason.to_string()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    tracing::info!(
        source = %shared.label(),
        generation = keys.generation(),
        keys = keys.len(),
        skipped = skipped.len(),
        reasons = ?reasons,
        "keys published",
    );
}

fn log_skipped(shared: &Shared, skipped: &[SkippedKey]) {
    for key in skipped.iter().take(MAX_SKIPPED_SHOWN).cloned().map(shortened) {
        let source = shared.label();
        tracing::debug!(%source, index = key.index, kid = ?key.kid, reason = %key.reason, "key skipped");
    }
}

/// A name that is too long to be looked up is too long to be kept.
fn shortened(mut key: SkippedKey) -> SkippedKey {
    let fits = |(index, char): &(usize, char)| index + char.len_utf8() <= MAX_KID_BYTES;
    key.kid = key.kid.map(|kid| kid.char_indices().take_while(fits).map(|(_, char)| char).collect::<String>().into());
    key
}
