//! The task that executes a [`Plan`]. It holds its source weakly, so that it ends with the last of those who use it.

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use countersign_token::{Answer, FetchError, FetchRequest, Fetched, JwkSet, KeySet, MAX_KID_BYTES, Origin, SkippedKey};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::events::KeyEvent;
use crate::handle::MAX_SKIPPED_SHOWN;
use crate::hints::Hints;
use crate::plan::{Action, Disbelief, Event, Plan, Start, Wanted};
use crate::shared::{MAX_REFRESHES, Shared, since_epoch};

/// The longest key set document, bytes, decompressed. 256 RSA keys with certificate chains fit.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

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

/// What outlives a task: it is handed from the one that died to the next.
pub(crate) struct Engine {
    pub(crate) plan: Plan<oneshot::Sender<Answer>>,
    pub(crate) asks: mpsc::Receiver<Asked>,
    pub(crate) mismatches: mpsc::Receiver<Mismatched>,
    pub(crate) refreshes: mpsc::Receiver<Refresh>,
}

impl Engine {
    /// Lets go of everybody who waits. They notice, and answer for themselves.
    fn interrupt(&mut self) {
        self.plan.interrupt();
        while self.asks.try_recv().is_ok() {}
        while self.refreshes.try_recv().is_ok() {}
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

/// What a fetch came to.
enum Landing {
    Fetched(JwkSet, Box<Hints>),
    NotModified(Box<Hints>),
    Failed { error: String, retry_after: Option<Duration> },
}

/// What the task woke up for.
enum Input {
    Event(Event<oneshot::Sender<Answer>>),
    Refresh(Refresh),
    Landed(Landing),
}

pub(crate) async fn run(mut task: Task) {
    let Task { engine: Some(engine), shared } = &mut task else { return };
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut driver = Driver { flight: None, refreshing: Vec::new() };
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
}

/// How a fetch ended.
#[derive(Default)]
struct End {
    error: Option<String>,
    /// Of a key set that it brought.
    skipped: Option<Vec<SkippedKey>>,
    clock_offset: Option<i64>,
    disbelief: Option<Disbelief>,
}

impl End {
    fn of(landing: Landing) -> (Event<oneshot::Sender<Answer>>, Self) {
        match landing {
            Landing::Fetched(set, hints) => {
                let (skipped, clock_offset) = (Some(set.skipped().to_vec()), hints.clock_offset);
                let end = Self { skipped, clock_offset, ..Self::default() };
                (Event::Fetched { set: Box::new(set.into_key_set()), hints }, end)
            }
            Landing::NotModified(hints) => {
                let end = Self { clock_offset: hints.clock_offset, ..Self::default() };
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
        let (event, mut end) = match input {
            Input::Event(event) => (event, None),
            Input::Refresh(refresh) => {
                self.refreshing.push((before, refresh));
                (Event::RefreshAsked, None)
            }
            Input::Landed(landing) => {
                self.flight = None;
                let (event, end) = End::of(landing);
                (event, Some(end))
            }
        };
        let mut wake_at = Duration::MAX;
        // Told when the status says the same: whoever hears of something looks there next.
        let mut events = Vec::new();
        let old = plan.last_good().cloned();
        let actions = plan.step(shared.now(), event);
        shared.trust_until(plan.trusted_until());
        for action in actions {
            match action {
                Action::Fetch(start) => self.flight = Some(launch(shared, &start)),
                Action::Publish(keys) => {
                    shared.publish(Arc::clone(&keys));
                    if let Some(end) = &end {
                        log_published(shared, &keys, end.skipped.as_deref().unwrap_or_default());
                    }
                    // After keys that were too old, the same ones may come again.
                    if old.as_ref().is_none_or(|old| old.generation() != keys.generation()) {
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
                    tracing::warn!(source = %shared.remote().label(), "the keys are stale");
                    events.push(KeyEvent::Stale);
                }
                Action::Recovered => {
                    tracing::info!(source = %shared.remote().label(), "the keys are fresh again");
                    events.push(KeyEvent::Recovered);
                }
                Action::Withdraw => {
                    shared.withdraw();
                    tracing::warn!(source = %shared.remote().label(), "the keys are too old to be trusted");
                    events.push(KeyEvent::TooOld);
                }
                Action::Deny(absent) => shared.deny(absent),
                Action::Answer(waiter, answer) => drop(waiter.send(answer)),
                Action::Arm(at) => wake_at = at,
            }
        }
        let ended = end.map(|end| {
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
}

/// Takes down how a fetch ended. Returns why it failed, if it did; of that there is an event too.
fn report_end(shared: &Shared, end: End, events: &mut Vec<KeyEvent>) -> Option<Arc<str>> {
    let error: Option<Arc<str>> =
        end.error.map(|error| error.escape_debug().take(MAX_ERROR_CHARS).collect::<String>().into());
    if let Some(error) = &error {
        let (source, reason) = (shared.remote().label(), Arc::clone(error));
        if end.disbelief.is_some() {
            tracing::warn!(%source, %reason, "did not believe the keys that were fetched");
            events.push(KeyEvent::Refused { reason });
        } else {
            tracing::warn!(%source, error = %reason, "could not fetch the keys");
            events.push(KeyEvent::Failed { error: reason });
        }
    }
    shared.report(|progress| {
        if error.is_some() {
            progress.failed += 1;
        } else if let Some(skipped) = end.skipped {
            progress.skipped_total = skipped.len();
            progress.skipped = skipped.into_iter().take(MAX_SKIPPED_SHOWN).map(shortened).collect();
        }
        progress.clock_offset = end.clock_offset.or(progress.clock_offset);
        progress.last_error.clone_from(&error);
        false
    });
    error
}

/// Takes down what the plan says, and returns whether somebody may wait for that.
fn report_plan<W>(shared: &Shared, plan: &Plan<W>) -> bool {
    let (unready, confirmed, started) = (plan.unready(), plan.confirmed(), plan.fetches());
    let (lifetime, stale) = plan.lifetime();
    let mut has_news = false;
    shared.report(|progress| {
        has_news = progress.unready != unready || progress.started != started || progress.stale != stale;
        progress.unready = unready;
        progress.confirmed = confirmed;
        (progress.lifetime, progress.stale) = (lifetime, stale);
        progress.started = started;
        progress.retry_at = plan.next_look();
        false
    });
    has_news
}

fn launch(shared: &Shared, start: &Start) -> Flight {
    let fetch = shared.fetch();
    let mut request = FetchRequest::new(shared.remote().url().as_str(), MAX_BODY_BYTES, start.timeout);
    request.revalidate = start.revalidate;
    request.etag = start.validators.etag.as_deref().map(Into::into);
    request.last_modified = start.validators.last_modified.as_deref().map(Into::into);
    tracing::debug!(source = %shared.remote().label(), number = start.number, kind = ?start.kind, "fetching the keys");
    let timeout_after = start.timeout;
    Box::pin(async move {
        let fetch = match fetch {
            Ok(fetch) => fetch,
            Err(error) => return Landing::failed(error.to_string()),
        };
        let exchange = timeout(timeout_after, unwinding_is_failure(async { fetch.fetch(request).await }));
        match exchange.await.unwrap_or(Err(FetchError::TimedOut)) {
            Ok(fetched) => Landing::of(&fetched),
            Err(error) => Landing::failed(error.to_string()),
        }
    })
}

/// A panic of somebody's [`Fetch`](countersign_token::Fetch) is a fetch that failed: it must not end the task, which would
/// cost everybody the keys in force until the next request starts it again.
async fn unwinding_is_failure(fetch: impl Future<Output = Result<Fetched, FetchError>>) -> Result<Fetched, FetchError> {
    let mut fetch = pin!(fetch);
    poll_fn(|context| {
        // What it leaves half done is its own, and it is not polled again.
        catch_unwind(AssertUnwindSafe(|| fetch.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(FetchError::Broken("the fetcher panicked".into()))))
    })
    .await
}

impl Landing {
    fn failed(error: String) -> Self {
        Self::Failed { error, retry_after: None }
    }

    /// What an answer is. Whatever [`Fetch`](countersign_token::Fetch) says, only status 200 brings a key set.
    fn of(fetched: &Fetched) -> Self {
        let hints = Box::new(Hints::of(fetched, since_epoch()));
        match fetched.status {
            200 if fetched.body.len() > MAX_BODY_BYTES => Self::failed(FetchError::TooLarge.to_string()),
            200 => match JwkSet::parse(&fetched.body, Origin::Remote) {
                Ok(set) => Self::Fetched(set, hints),
                Err(error) => Self::failed(error.to_string()),
            },
            304 => Self::NotModified(hints),
            300..=399 => Self::failed(FetchError::Redirected.to_string()),
            status => Self::Failed { error: format!("the answer has status {status}"), retry_after: hints.retry_after },
        }
    }
}

fn log_published(shared: &Shared, keys: &KeySet, skipped: &[SkippedKey]) {
    log_skipped(shared, skipped);
    let mut reasons: Vec<String> = skipped.iter().map(|key| key.reason.to_string()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    tracing::info!(
        source = %shared.remote().label(),
        generation = keys.generation(),
        keys = keys.len(),
        skipped = skipped.len(),
        reasons = ?reasons,
        "keys published",
    );
}

fn log_skipped(shared: &Shared, skipped: &[SkippedKey]) {
    for key in skipped.iter().take(MAX_SKIPPED_SHOWN).cloned().map(shortened) {
        let source = shared.remote().label();
        tracing::debug!(%source, index = key.index, kid = ?key.kid, reason = %key.reason, "key skipped");
    }
}

/// A name that is too long to be looked up is too long to be kept.
fn shortened(mut key: SkippedKey) -> SkippedKey {
    let fits = |(index, char): &(usize, char)| index + char.len_utf8() <= MAX_KID_BYTES;
    key.kid = key.kid.map(|kid| kid.char_indices().take_while(fits).map(|(_, char)| char).collect::<String>().into());
    key
}
