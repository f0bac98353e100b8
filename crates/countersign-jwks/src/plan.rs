//! When to look for keys, what to believe of what comes back, and who is told: a state machine without clock, I/O or
//! task. [`Plan::step`] takes an event and the time and returns what is to be done; the driver does it.
//!
//! There are two kinds of fetch. *Scheduled* ones happen whatever the traffic: the first, those ahead of expiry, the
//! retries after a failure. *Forced* ones happen because somebody asked: a token names a key that is not there, a
//! signature did not match, an operator said so. Never two fetches of either kind at once; and forced ones, which
//! strangers can provoke, keep a distance in time that no amount of asking shortens and no failure resets.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{Algorithm, Answer, KeySet, MAX_KEYS, Unready};

/// The least time between the starts of two forced fetches, while each brings something new: short enough for a request
/// to wait for (see [`MAX_WAIT`]).
pub(crate) const MIN_SPACING: Duration = Duration::from_secs(1);

/// What the spacing doubles up to while forced fetches bring nothing new: an issuer bears one request in five seconds
/// from each verifier, and no genuine token waits longer for its key to be looked for.
pub(crate) const MAX_SPACING: Duration = Duration::from_secs(5);

/// How long a request waits for a key at most.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(2);

/// How many requests wait for keys at once. Each costs some hundred bytes; more would be a queue, not a wait.
pub(crate) const MAX_WAITERS: usize = 1024;

/// How long a signature mismatch under a known name is no reason to look again. For good, a stranger's one bad signature
/// would hide that the provider has replaced the key under its name, until the next scheduled fetch; with a stranger who
/// goes on, the provider bears one more look in this time.
const MISMATCH_REMEMBERED: Duration = Duration::from_secs(30);

/// How many looked-for keys are remembered until a fetch has an answer. As many as requests wait.
const MAX_SOUGHT: usize = MAX_WAITERS;

/// How many keys are remembered as absent. Some 300 kB if a stranger fills it with the longest names.
const MAX_ABSENT: usize = 1024;

/// A fetch while there are usable keys: from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A fetch while there are none: no longer than requests wait for it.
const FETCH_TIMEOUT_WITHOUT_KEYS: Duration = Duration::from_secs(2);

/// The first retry of a scheduled fetch that failed, and every retry while there are no usable keys.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// What the wait before a retry doubles up to while there are usable keys.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The least time between a set without a usable key and the one that confirms it.
const CONFIRM_AFTER: Duration = MIN_SPACING;

/// The share of the interval after which the next fetch is due: early, so that a failure leaves time for retries.
const REFRESH_AT: f64 = 0.75;

/// How far to either side of [`REFRESH_AT`] chance moves it, so that a fleet started together does not fetch together.
/// Retries need none: an outage finds each member at another point of its interval.
const REFRESH_JITTER: f64 = 0.10;

/// The least `retry_after`: seconds are the resolution of `Retry-After`.
pub(crate) const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The time of an event. One clock so far; the age of a snapshot across a suspended machine will need a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Now {
    /// Since the source was made; never goes back.
    pub(crate) monotonic: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// How long a set is good for before it should have been looked at again.
    pub(crate) interval: Duration,
    /// How long after the last success a set is still believed.
    pub(crate) max_stale: Duration,
    /// Seed of the jitter.
    pub(crate) seed: u64,
}

/// What a token needs: the argument of [`KeySet::candidates`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) kid: Option<Box<str>>,
    pub(crate) algorithm: Algorithm,
}

impl Wanted {
    fn is_in(&self, set: &KeySet) -> bool {
        set.candidates(self.kid.as_deref(), self.algorithm).next().is_some()
    }
}

/// What happened. `W` is whatever an answer can be sent to.
#[derive(Debug)]
pub(crate) enum Event<W> {
    /// The timer rang, or the task has just begun.
    Tick,
    /// The fetch in flight brought a key set; it may be without a usable key.
    Fetched(Box<KeySet>),
    /// The fetch in flight failed.
    Failed,
    /// A request lacks a key. `generation` is that of the snapshot it looked at.
    Asked { wanted: Wanted, generation: Option<u64>, waiter: W },
    /// A signature did not match the key it names.
    Mismatched { wanted: Wanted, generation: Option<u64> },
    /// An operator wants a look.
    RefreshAsked,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(crate) enum Action<W> {
    /// Start a fetch and report its end with [`Event::Fetched`] or [`Event::Failed`].
    Fetch(Start),
    /// This set is in force now.
    Publish(Arc<KeySet>),
    /// The set just fetched has no usable key and changes nothing; as good as a failure.
    Disbelieve,
    /// No set is in force any more.
    Withdraw,
    /// These keys are known to be absent now.
    Deny(Arc<Absent>),
    /// Tell a waiting request.
    Answer(W, Answer),
    /// Send [`Event::Tick`] then. Replaces the timer armed before.
    Arm(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The how-manieth fetch this is, from 1.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) timeout: Duration,
    /// Somebody misses something: a cache on the way must not answer with what we have already.
    pub(crate) revalidate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scheduled,
    Forced,
}

/// The keys that a fetch did not bring although it began after they had been asked for. Immutable: readers see one set
/// of them or the next.
#[derive(Debug, Default)]
pub(crate) struct Absent(HashMap<Wanted, Duration>);

impl Absent {
    /// Whether the key was looked for, and not found, so recently that another look may not be due.
    pub(crate) fn contains(&self, wanted: &Wanted, now: Now) -> bool {
        self.0.get(wanted).is_some_and(|begun| is_recent(*begun, now.monotonic))
    }
}

/// Entries live as long as forced fetches may be apart: a key published after the look is then looked for as soon as if
/// there had been no entry.
fn is_recent(begun: Duration, now: Duration) -> bool {
    now.saturating_sub(begun) < MAX_SPACING
}

#[derive(Debug)]
pub(crate) struct Plan<W> {
    config: Config,
    random: u64,

    /// The last good set, and whether it is in force: it is not once it is too old. A confirmed empty set is in force: an
    /// unknown key is then the token's fault, although nobody calls the source ready.
    set: Option<Arc<KeySet>>,
    in_force: bool,
    last_success: Duration,
    /// Whether the first fetch has ended.
    attempted: bool,
    /// When the first of a row of sets without a usable key was asked for.
    emptied: Option<Duration>,

    flight: Option<Flight>,
    /// How many fetches were started.
    fetches: u64,
    scheduled_at: Duration,
    /// How many scheduled fetches failed in a row.
    failures: u32,
    last_forced: Option<Duration>,
    spacing: Duration,
    /// Whether somebody needs a fetch that has not begun yet, for another reason than a key in `sought`.
    needed: bool,

    /// The names whose signature mismatch has been looked into during this generation, and when.
    mismatched: HashMap<Option<Box<str>>, Duration>,
    /// Keys without an answer so far, each with the number of fetches that had begun when it was first seen.
    sought: HashMap<Wanted, u64>,
    /// In the order of their deadlines, since all wait equally long.
    waiters: VecDeque<Waiter<W>>,
    absent: Arc<Absent>,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    number: u64,
    kind: Kind,
    begun: Duration,
    timeout: Duration,
}

#[derive(Debug)]
struct Waiter<W> {
    reply: W,
    wanted: Wanted,
    deadline: Duration,
}

impl<W> Plan<W> {
    /// A plan whose first fetch is due at once.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            random: config.seed,
            set: None,
            in_force: false,
            last_success: Duration::ZERO,
            attempted: false,
            emptied: None,
            flight: None,
            fetches: 0,
            scheduled_at: Duration::ZERO,
            failures: 0,
            last_forced: None,
            spacing: MIN_SPACING,
            needed: false,
            mismatched: HashMap::new(),
            sought: HashMap::new(),
            waiters: VecDeque::new(),
            absent: Arc::default(),
        }
    }

    pub(crate) fn step(&mut self, now: Now, event: Event<W>) -> Vec<Action<W>> {
        let now = now.monotonic;
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Fetched(set) => self.fetched(now, *set, &mut actions),
            Event::Failed => {
                if let Some(flight) = self.land() {
                    self.failed(now, flight, &mut actions);
                }
            }
            Event::Asked { wanted, generation, waiter } => self.asked(now, wanted, generation, waiter, &mut actions),
            Event::Mismatched { wanted, generation } => self.mismatched(now, wanted, generation),
            Event::RefreshAsked => self.needed = true,
        }
        self.withdraw_if_too_old(now, &mut actions);
        self.start_if_due(now, &mut actions);
        self.dismiss(now, &mut actions);
        actions.push(Action::Arm(self.next_tick()));
        actions
    }

    /// The set in force, if it is still young enough.
    pub(crate) fn in_force(&self, now: Now) -> Option<&Arc<KeySet>> {
        self.set.as_ref().filter(|_| self.in_force && now.monotonic < self.too_old_at())
    }

    /// Why no set is in force, if none is.
    pub(crate) fn unready(&self) -> Option<Unready> {
        match (self.in_force, &self.set, self.attempted) {
            (true, _, _) => None,
            (false, Some(_), _) => Some(Unready::TooOld),
            (false, None, true) => Some(Unready::NeverFetched),
            (false, None, false) => Some(Unready::Starting),
        }
    }

    /// When the source will have been looked at again, as far as can be said: what `retry_after` is made of.
    pub(crate) fn next_look(&self) -> Duration {
        match self.flight {
            Some(flight) => flight.begun + flight.timeout,
            // Whoever asks next makes a forced fetch needed, so this is when that one could begin.
            None if self.needs_look() || self.in_force => self.scheduled_at.min(self.forced_at()),
            None => self.scheduled_at,
        }
    }

    /// When the last set was received that counts as a success.
    pub(crate) fn last_success(&self) -> Option<Duration> {
        self.set.is_some().then_some(self.last_success)
    }

    /// How many fetches were started so far.
    pub(crate) fn fetches(&self) -> u64 {
        self.fetches
    }

    /// The task died, and the fetch in flight and the waiting requests with it. What was learnt stays, above all the
    /// distance to the last fetch: restarting must not be a way around it.
    pub(crate) fn interrupt(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.scheduled_at = flight.begun + MIN_BACKOFF;
        }
        self.needed = false;
        self.sought.clear();
        self.waiters.clear();
    }

    // Ends of fetches.

    fn fetched(&mut self, now: Duration, set: KeySet, actions: &mut Vec<Action<W>>) {
        let Some(flight) = self.land() else { return };
        if set.is_empty() && !self.confirms_emptiness(flight) {
            self.emptied.get_or_insert(flight.begun);
            actions.push(Action::Disbelieve);
            self.failed(now, flight, actions);
            self.scheduled_at = self.scheduled_at.min(now + CONFIRM_AFTER);
            return;
        }
        if !set.is_empty() {
            self.emptied = None;
        }
        self.attempted = true;
        self.failures = 0;
        self.last_success = now;
        // A forced fetch that succeeds is as good as a scheduled one, and puts the next of those off.
        self.scheduled_at = now + if set.is_empty() { MIN_BACKOFF } else { self.jittered_interval() };
        let changed = self.replace(set);
        self.adapt_spacing(flight, changed);
        if let Some(set) = self.set.clone() {
            if changed || !self.in_force {
                self.in_force = true;
                actions.push(Action::Publish(Arc::clone(&set)));
            }
            self.conclude(now, flight, &set, actions);
        }
    }

    /// Whether a set without a usable key may be believed: an earlier one said the same, and a good one before it is
    /// what is being withdrawn. Without one there is nothing to withdraw; such a source has not begun to work.
    fn confirms_emptiness(&self, flight: Flight) -> bool {
        self.set.is_some() && self.emptied.is_some_and(|first| flight.begun >= first + CONFIRM_AFTER)
    }

    /// Makes `set` the last good one unless it is the same; says whether it is another.
    fn replace(&mut self, set: KeySet) -> bool {
        let set = match &self.set {
            Some(old) if old.has_same_keys_as(&set) => return false,
            Some(old) => set.succeeding(old).with_generation(old.generation() + 1),
            None => set.with_generation(1),
        };
        self.set = Some(Arc::new(set));
        self.mismatched.clear();
        true
    }

    /// Answers all that the fetch answers. A key first seen after it began stays sought: the provider may have added
    /// it while the answer was on its way.
    fn conclude(&mut self, now: Duration, flight: Flight, set: &KeySet, actions: &mut Vec<Action<W>>) {
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.wanted.is_in(set) {
                actions.push(Action::Answer(waiter.reply, Answer::Changed));
            } else if self.sought.get(&waiter.wanted).is_some_and(|seen| *seen < flight.number) {
                actions.push(Action::Answer(waiter.reply, Answer::Absent));
            } else {
                self.waiters.push_back(waiter);
            }
        }
        let (looked_for, unanswered): (HashMap<_, _>, HashMap<_, _>) = std::mem::take(&mut self.sought)
            .into_iter()
            .filter(|(wanted, _)| !wanted.is_in(set))
            .partition(|(_, seen)| *seen < flight.number);
        self.sought = unanswered;
        if looked_for.is_empty() && self.absent.0.is_empty() {
            return;
        }
        let mut absent: HashMap<_, _> = looked_for.into_keys().map(|wanted| (wanted, flight.begun)).collect();
        let room = MAX_ABSENT.saturating_sub(absent.len());
        let earlier =
            self.absent.0.iter().filter(|(wanted, begun)| {
                is_recent(**begun, now) && !wanted.is_in(set) && !absent.contains_key(*wanted)
            });
        let earlier: Vec<_> = earlier.take(room).map(|(wanted, begun)| (wanted.clone(), *begun)).collect();
        absent.extend(earlier);
        self.absent = Arc::new(Absent(absent));
        actions.push(Action::Deny(Arc::clone(&self.absent)));
    }

    fn failed(&mut self, now: Duration, flight: Flight, actions: &mut Vec<Action<W>>) {
        self.attempted = true;
        self.adapt_spacing(flight, false);
        if flight.kind == Kind::Scheduled {
            let backoff = MIN_BACKOFF.saturating_mul(1 << self.failures.min(16)).min(MAX_BACKOFF);
            self.failures += 1;
            self.scheduled_at = now + if self.has_usable_keys() { backoff } else { MIN_BACKOFF };
        }
        // Whoever still waits when the next fetch may begin keeps his key sought; for the others somebody may ask
        // again. So an outage is not met with more fetches than there are requests to make them.
        self.dismiss(now, actions);
        let waited_for: HashSet<_> = self.waiters.iter().map(|waiter| &waiter.wanted).collect();
        self.sought.retain(|wanted, seen| *seen >= flight.number || waited_for.contains(wanted));
    }

    fn land(&mut self) -> Option<Flight> {
        self.flight.take()
    }

    fn adapt_spacing(&mut self, flight: Flight, changed: bool) {
        if changed {
            self.spacing = MIN_SPACING;
        } else if flight.kind == Kind::Forced {
            self.spacing = (self.spacing * 2).min(MAX_SPACING);
        }
    }

    // What requests say.

    fn asked(
        &mut self,
        now: Duration,
        wanted: Wanted,
        generation: Option<u64>,
        waiter: W,
        actions: &mut Vec<Action<W>>,
    ) {
        if let Some(answer) = self.known_answer(now, &wanted, generation) {
            actions.push(Action::Answer(waiter, answer));
            return;
        }
        let fetches = self.fetches;
        let is_sought = self.sought.contains_key(&wanted) || self.sought.len() < MAX_SOUGHT;
        if is_sought {
            self.sought.entry(wanted.clone()).or_insert(fetches);
        } else {
            // No room to remember the key; somebody has to look all the same.
            self.needed |= self.in_force;
        }
        if is_sought && self.waiters.len() < MAX_WAITERS {
            self.waiters.push_back(Waiter { reply: waiter, wanted, deadline: now + MAX_WAIT });
        } else {
            actions.push(Action::Answer(waiter, self.not_now(now)));
        }
    }

    fn known_answer(&self, now: Duration, wanted: &Wanted, generation: Option<u64>) -> Option<Answer> {
        match &self.set {
            Some(set) if self.in_force => {
                if generation.is_none_or(|seen| seen < set.generation()) {
                    return Some(Answer::Changed);
                }
                self.absent.contains(wanted, Now { monotonic: now }).then_some(Answer::Absent)
            }
            _ if self.attempted => Some(self.not_now(now)),
            _ => None,
        }
    }

    fn mismatched(&mut self, now: Duration, wanted: Wanted, generation: Option<u64>) {
        let Some(set) = self.set.as_ref().filter(|_| self.in_force) else { return };
        // Names that are not in the set never get here, so the set's own limit bounds what is remembered.
        let is_recent = |at: &Duration| now.saturating_sub(*at) < MISMATCH_REMEMBERED;
        let news = generation == Some(set.generation())
            && wanted.is_in(set)
            && !self.mismatched.get(&wanted.kid).is_some_and(is_recent)
            && self.mismatched.len() <= MAX_KEYS;
        if news {
            self.mismatched.insert(wanted.kid, now);
        }
        self.needed |= news;
    }

    // What every step ends with.

    fn withdraw_if_too_old(&mut self, now: Duration, actions: &mut Vec<Action<W>>) {
        if self.in_force && now >= self.too_old_at() {
            self.in_force = false;
            self.scheduled_at = self.scheduled_at.min(now + MIN_BACKOFF);
            actions.push(Action::Withdraw);
        }
    }

    fn start_if_due(&mut self, now: Duration, actions: &mut Vec<Action<W>>) {
        if self.flight.is_some() {
            return;
        }
        // A scheduled fetch first: it serves those who asked, and does not use the spacing up.
        let kind = if now >= self.scheduled_at {
            Kind::Scheduled
        } else if self.needs_look() && now >= self.forced_at() {
            self.last_forced = Some(now);
            Kind::Forced
        } else {
            return;
        };
        let timeout = if self.has_usable_keys() { FETCH_TIMEOUT } else { FETCH_TIMEOUT_WITHOUT_KEYS };
        let revalidate = self.needed || !self.sought.is_empty();
        self.fetches += 1;
        self.needed = false;
        self.flight = Some(Flight { number: self.fetches, kind, begun: now, timeout });
        actions.push(Action::Fetch(Start { number: self.fetches, kind, timeout, revalidate }));
    }

    /// Answers those whose time is up, and those whose time will be up before the next fetch can begin.
    fn dismiss(&mut self, now: Duration, actions: &mut Vec<Action<W>>) {
        let until = if self.flight.is_some() { now } else { now.max(self.next_look()) };
        while self.waiters.front().is_some_and(|waiter| waiter.deadline <= until) {
            if let Some(waiter) = self.waiters.pop_front() {
                actions.push(Action::Answer(waiter.reply, self.not_now(now)));
            }
        }
    }

    fn next_tick(&self) -> Duration {
        let mut at = Duration::MAX;
        if self.flight.is_none() {
            at = at.min(self.scheduled_at);
            if self.needs_look() {
                at = at.min(self.forced_at());
            }
        }
        if self.in_force {
            at = at.min(self.too_old_at());
        }
        self.waiters.front().map_or(at, |waiter| at.min(waiter.deadline))
    }

    // Small print.

    fn not_now(&self, now: Duration) -> Answer {
        let retry_after = self.next_look().saturating_sub(now).max(MIN_RETRY_AFTER);
        match self.unready() {
            None => Answer::NotYet { retry_after },
            Some(reason) => Answer::Unavailable { reason, retry_after },
        }
    }

    fn has_usable_keys(&self) -> bool {
        self.in_force && self.set.as_ref().is_some_and(|set| !set.is_empty())
    }

    /// Whether a forced fetch should begin once none is in flight. Keys are sought from the schedule alone while there
    /// is no set: its retries come as fast as forced fetches would.
    fn needs_look(&self) -> bool {
        self.needed || (self.in_force && !self.sought.is_empty())
    }

    fn forced_at(&self) -> Duration {
        self.last_forced.map_or(Duration::ZERO, |last| last + self.spacing)
    }

    /// From when the last good set is not believed any more.
    pub(crate) fn too_old_at(&self) -> Duration {
        self.last_success.saturating_add(self.config.max_stale)
    }

    fn jittered_interval(&mut self) -> Duration {
        // SplitMix64: good enough to spread a fleet, and reproducible.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        let unit = f64::from((bits >> 32) as u32) / f64::from(u32::MAX);
        self.config.interval.mul_f64(REFRESH_AT + REFRESH_JITTER * (2.0 * unit - 1.0))
    }
}

#[cfg(test)]
mod tests;
