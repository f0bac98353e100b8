//! The task that executes a [`Plan`]. It holds its source weakly, so that it ends with the last of those who use it.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use countersign_token::Answer;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::Span;

use crate::cache::{Keeper, Kept, Remembered};
use crate::counters::Count;
use crate::events::{KeyEvent, Offset};
use crate::load::{Landing, Load};
use crate::plan::{Action, Disbelief, Event, Fate, Plan, Wanted};
use crate::shared::{MAX_REFRESHES, Shared};

mod flight;
mod report;

use flight::{Flight, Landed};
pub(crate) use report::shown;
use report::{End, Memory, log_published, log_skipped, read_back, report_end, report_plan, report_withdrawn};

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
    pub(crate) remembered: Remembered,
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

/// What the task woke up for.
enum Input {
    Event(Event<oneshot::Sender<Answer>>),
    Refresh(Refresh),
    Landed(Landed),
    Import(Box<Import>),
    Kept(Kept),
}

pub(crate) async fn run(mut task: Task) {
    let Task { engine: Some(engine), shared } = &mut task else { return };
    let mut timer = pin!(sleep_until(Instant::now()));
    let Some(settings) = shared.upgrade().map(|shared| shared.settings().clone()) else { return };
    let mut driver = Driver {
        flight: None,
        held: None,
        refreshing: Vec::new(),
        clock_is_off: false,
        keeper: Keeper::new(settings.cache.zip(settings.name)),
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
            result = landing(&mut driver.flight, &mut driver.held, driver.keeper.is_loading()) => Some(Input::Landed(result)),
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

/// How the look under way ends. A failure is held until the cache has said what it remembers: requests that wait for the first
/// keys are not to be sent away a moment before those come. It may be dropped and called again.
async fn landing(flight: &mut Option<Flight>, held: &mut Option<Landed>, is_loading: bool) -> Landed {
    if let Some(looking) = flight {
        let landed = looking.landed().await;
        *flight = None;
        if !is_loading || !matches!(landed.landing, Landing::Failed { .. }) {
            return landed;
        }
        *held = Some(landed);
    }
    match held.take_if(|_| !is_loading) {
        Some(landed) => landed,
        None => pending().await,
    }
}

struct Driver {
    flight: Option<Flight>,
    /// How it ended, while that is kept from the plan.
    held: Option<Landed>,
    /// Each with the number of fetches that had begun when it was asked for.
    refreshing: Vec<(u64, Refresh)>,
    /// Whether somebody has been told that the provider's clock disagrees with ours.
    clock_is_off: bool,
    keeper: Keeper,
}

impl Driver {
    /// Tells the plan, does what it says, and returns when to wake up.
    fn execute(&mut self, engine: &mut Engine, shared: &Arc<Shared>, input: Input) -> Instant {
        let plan = &mut engine.plan;
        let before = plan.fetches();
        let (mut memory, mut importer) = (None, None);
        let (mut span, mut took, mut is_restored) = (Span::none(), None, false);
        let is_read_back = matches!(input, Input::Kept(Kept::Loaded(_)));
        let mut remember = |remembered, importer| {
            let (restored, of_it) = Memory::of(remembered, importer, shared.settings().issuer.as_ref());
            memory = Some(of_it);
            (Event::Restored(Box::new(restored)), None)
        };
        let (event, mut end) = match input {
            Input::Event(event) => (event, None),
            Input::Refresh(refresh) => {
                self.refreshing.push((before, refresh));
                (Event::RefreshAsked, None)
            }
            Input::Landed(landed) => {
                (span, took) = (landed.span, Some(landed.took));
                End::of(landed.landing, shared.settings().issuer.as_ref())
            }
            Input::Import(import) => remember(import.remembered, Some(import.reply)),
            Input::Kept(kept) => match read_back(shared, kept) {
                Some(remembered) => remember(remembered, None),
                None => (Event::Tick, None),
            },
        };
        let _inside = span.enter();
        let mut wake_at = Duration::MAX;
        // Told when the status says the same: whoever hears of something looks there next.
        let mut events = Vec::new();
        let old = plan.last_good().cloned();
        let actions = plan.step(shared.now(), event);
        shared.trust_until(plan.trusted_until());
        for action in actions {
            match action {
                Action::Fetch(start) => self.flight = Some(Flight::launch(shared, &start)),
                Action::Publish(keys) => {
                    shared.publish(Arc::clone(&keys));
                    report_withdrawn(shared, old.as_deref(), &keys);
                    // After keys that were too old, the same ones may come again.
                    let is_another = old.as_ref().is_none_or(|old| old.generation() != keys.generation());
                    if let Some(end) = &mut end {
                        end.is_new = true;
                        end.is_changed = is_another;
                        log_published(shared, &keys, end.skipped.as_deref().unwrap_or_default());
                    }
                    if let Some(memory) = memory.take() {
                        is_restored = true;
                        importer = memory.takes_effect(shared, &keys, &mut events);
                        continue;
                    }
                    if is_another {
                        events.push(KeyEvent::rotated(old.as_deref(), &keys));
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
                    events.push(KeyEvent::Stale);
                }
                Action::Recovered => {
                    tracing::info!(source = %shared.label(), "the keys are fresh again");
                    events.push(KeyEvent::Recovered);
                }
                Action::Withdraw => {
                    shared.withdraw();
                    tracing::warn!(source = %shared.label(), "the keys are too old to be trusted");
                    events.push(KeyEvent::TooOld);
                }
                Action::Deny(absent) => shared.deny(absent),
                Action::Answer(waiter, answer) => drop(waiter.send(answer)),
                Action::Count(fate) => shared.counters().add(match fate {
                    Fate::Provoked => Count::Provoked,
                    Fate::Absent => Count::Absent,
                    Fate::InFlight => Count::InFlight,
                    Fate::Spaced => Count::Spaced,
                }),
                Action::Arm(at) => wake_at = at,
            }
        }
        if let Some(took) = took {
            flight::count(shared, &span, took, end.as_ref());
        }
        if is_read_back {
            shared.counters().add(if is_restored { Count::CacheHit } else { Count::CacheMiss });
        }
        let is_kept = end.as_ref().is_some_and(|end| end.error.is_none() && self.keeper.is_due(end.is_new));
        let ended = end.map(|end| {
            self.compare_clocks(shared, end.clock_offset, &mut events);
            // A fetch that proves nothing is followed by another at once, and that one is what was asked for.
            let counts = end.disbelief != Some(Disbelief::Outlived);
            (report_end(shared, end, &mut events), counts)
        });
        let has_news = report_plan(shared, plan) || ended.is_some();
        for event in events {
            shared.tell(event);
        }
        // Those who wait for keys come after the events, and so get to see none from before they had any.
        shared.report(|_| has_news);
        if let Some((error, true)) = ended {
            self.refreshed(before, error.as_ref());
        }
        if let Some(importer) = importer {
            let _ = importer.send(true);
        }
        if is_kept && let Some(snapshot) = shared.export() {
            self.keeper.store(snapshot);
        }
        shared.instant(wake_at)
    }

    /// Tells those who have asked for it that fetch `number` is over.
    fn refreshed(&mut self, number: u64, error: Option<&Arc<str>>) {
        for (after, refresh) in std::mem::take(&mut self.refreshing) {
            if after < number {
                let _ = refresh.send(error.map_or(Ok(()), |error| Err(Arc::clone(error))));
            } else {
                self.refreshing.push((after, refresh));
            }
        }
    }

    /// Says so once when the provider's clock is off, and again only after it was not.
    fn compare_clocks(&mut self, shared: &Shared, offset: Option<i64>, events: &mut Vec<KeyEvent>) {
        let Some(seconds) = offset else { return };
        let is_off = Duration::from_secs(seconds.unsigned_abs()) > shared.settings().clock_tolerance;
        if is_off && !self.clock_is_off {
            tracing::warn!(source = %shared.label(), "the provider's clock is {}", Offset(seconds));
            events.push(KeyEvent::ClockOff { seconds });
        }
        self.clock_is_off = is_off;
    }
}
