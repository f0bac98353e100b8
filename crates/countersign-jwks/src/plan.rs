//! When to look for keys, what to believe of what comes back, and who is told: a state machine without clock, I/O or
//! task. [`Plan::step`] takes an event and the time and returns what is to be done; the driver does it.
//!
//! There are two kinds of fetch. *Scheduled* ones happen whatever the traffic: the first, those ahead of expiry, the
//! retries after a failure, the confirmation of a set without usable keys, and a look when the two clocks disagree. *Forced* ones happen because somebody asked: a token names a key that is not there, a
//! signature did not match, an operator said so. Never two fetches of either kind at once; and forced ones, which
//! strangers can provoke, keep a distance in time that no amount of asking shortens and no failure resets.
//!
//! An answer that is not believed ([`Disbelief`]) leaves nothing behind: not its keys, and not what the next request would be
//! conditional on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{Algorithm, Answer, KeySet, Unready};

use crate::hints::{Hints, Validators};

mod absent;
mod asking;
mod clock;
mod landing;
mod random;
mod rule;

pub(crate) use absent::Absent;
pub(crate) use asking::Fate;
pub(crate) use clock::{Now, PAST};
use random::Random;
use rule::Rule;

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

/// A map whose keys strangers choose, so hashed with a secret; in tests without, so that a seed is one course of events.
#[cfg(not(test))]
type Map<K, V> = std::collections::HashMap<K, V>;
#[cfg(test)]
type Map<K, V> = std::collections::HashMap<K, V, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;

/// How many looked-for keys are remembered until a fetch has an answer. As many as requests wait.
const MAX_SOUGHT: usize = MAX_WAITERS;

/// A fetch while there are usable keys: from connecting to the last byte.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A fetch while there are none: no longer than requests wait for it.
const FETCH_TIMEOUT_WITHOUT_KEYS: Duration = Duration::from_secs(2);

/// The first retry of a scheduled fetch that failed, and every retry while there are no usable keys.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// What the wait before a retry doubles up to while there are usable keys.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How much shorter chance makes a back-off at most, as a share of it: an outage that ends is not met by a whole fleet at once.
const BACKOFF_JITTER: f64 = 0.25;

/// How long a provider's `Retry-After` keeps the next scheduled fetch off at most, while there are usable keys. It is a wish, and
/// the keys grow old meanwhile.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How much older than the set in force an answer may say it is and still be believed: the clocks of one provider's servers
/// differ by that much, and a second is the resolution of `Date`.
const GENERATED_TOLERANCE: Duration = Duration::from_secs(5);

/// How often the two clocks are compared while there is nothing else to do. After the machine was suspended, timers go on as if
/// nothing had been; this is how long withdrawn keys may then be trusted unnoticed.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// How long after its time-out an answer may still come in: by then a driver that runs has reported a failure.
pub(crate) const LATE: Duration = Duration::from_secs(5);

/// How many refused answers are remembered: the servers of a content network take turns, each with a copy of its own.
const MAX_REFUSED: usize = 16;

/// The least time between a set without a usable key and the one that confirms it.
const CONFIRM_AFTER: Duration = MIN_SPACING;

/// The share of a set's lifetime after which the next fetch is due: early, so that a failure leaves time for retries.
const REFRESH_AT: f64 = 0.75;

/// How far to either side of [`REFRESH_AT`] chance moves it, so that a fleet started together does not fetch together.
const REFRESH_JITTER: f64 = 0.10;

/// The least `retry_after`: seconds are the resolution of `Retry-After`.
pub(crate) const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// How long a set is good for, if its answer does not say, before it should have been looked at again.
    pub(crate) lifetime: Duration,
    /// No less than this, whatever an answer says.
    pub(crate) min_lifetime: Duration,
    /// No more than this, whatever an answer says: how long a withdrawn key is trusted while its provider answers.
    pub(crate) max_lifetime: Duration,
    /// How long after the last success a set is still believed.
    pub(crate) max_stale: Duration,
    /// Whether retries become rarer also while there are no usable keys.
    pub(crate) backs_off_without_keys: bool,
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
    Fetched { set: Box<KeySet>, hints: Box<Hints> },
    /// The fetch in flight found that what its [`Start`] has the validators of is still so.
    NotModified(Box<Hints>),
    /// The fetch in flight failed; perhaps with a wish when to be asked again.
    Failed { retry_after: Option<Duration> },
    /// The fetch in flight has not even begun, because too many others are under way.
    Postponed,
    /// A request lacks a key. `generation` is that of the snapshot it looked at.
    Asked { wanted: Wanted, generation: Option<u64>, waiter: W },
    /// A signature did not match the key it names.
    Mismatched { wanted: Wanted, generation: Option<u64> },
    /// An operator wants a look.
    RefreshAsked,
    /// The source has noticed by itself that it is not what it was: a file was written.
    SourceChanged,
    /// Somebody remembers a set from before this process, or from another one.
    Restored(Box<Restored>),
}

/// A set of keys that was good some time ago, whoever has kept it since.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) set: KeySet,
    /// How long ago its provider confirmed it.
    pub(crate) age: Duration,
    /// When it was generated at the latest, by the provider's clock.
    pub(crate) generated: Option<Duration>,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(crate) enum Action<W> {
    /// Start a fetch and report its end with [`Event::Fetched`], [`Event::NotModified`] or [`Event::Failed`].
    Fetch(Start),
    /// These keys are known to be absent now. Before the set without them is in force: whoever finds that it lacks one that the
    /// set before it had must find it here.
    Deny(Arc<Absent>),
    /// This set is in force now.
    Publish(Arc<KeySet>),
    /// The answer just fetched changes nothing, and is treated as a failure.
    Disbelieve(Disbelief),
    /// The set in force has outlived what it is good for, and stays in force.
    Stale,
    /// It has been confirmed, or replaced, since.
    Recovered,
    /// No set is in force any more.
    Withdraw,
    /// Tell a waiting request.
    Answer(W, Answer),
    /// For the statistics: this is what the request that has just asked for an unknown key has brought about.
    Count(Fate),
    /// Send [`Event::Tick`] then. Replaces the timer armed before.
    Arm(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The number of this fetch; the first is 1.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// Whether it is forced because an operator wants it, and not a request.
    pub(crate) is_manual: bool,
    pub(crate) look: Look,
}

/// How to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// How much time there is.
    pub(crate) timeout: Duration,
    /// Somebody misses something: a cache on the way must not answer with what we have already.
    pub(crate) revalidate: bool,
    /// Those of the set that is known already.
    pub(crate) validators: Validators,
    /// Whether there are usable keys, and whether those have not outlived what they are good for.
    pub(crate) has_keys: bool,
    pub(crate) has_fresh_keys: bool,
    /// Whether the last fetch failed.
    pub(crate) has_failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scheduled,
    Forced,
}

/// Why a good set was not replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disbelief {
    /// The new one has no usable key, and nobody has confirmed that.
    Empty,
    /// The new one says that it is older.
    Older,
    /// The machine stood still while it was on its way.
    Outlived,
    /// "Not modified", to a request that was not conditional.
    Unasked,
}

#[derive(Debug)]
pub(crate) struct Plan<W> {
    config: Config,
    #[cfg(test)]
    broken: Option<Rule>,
    random: Random,
    /// When the last step was.
    seen: Option<Now>,
    /// How many fetches had begun when the clocks were last seen to disagree, until one that began later has ended.
    recheck: Option<u64>,
    /// The same for when the source was last noticed to have changed.
    changed: Option<u64>,

    /// The last good set, and whether it is in force: it is not once it is too old. A confirmed empty set is in force: an
    /// unknown key is then the token's fault, although nobody calls the source ready.
    set: Option<Arc<KeySet>>,
    in_force: bool,
    /// When it was last confirmed or replaced, and for how long it was said to be good then.
    confirmed: Now,
    lifetime: Duration,
    stale: bool,
    /// When it was generated at the latest, by the provider's clock; and how far that was ahead of ours when it last said, seconds, unless ours
    /// has been set since.
    generated: Option<Duration>,
    clock_offset: Option<i64>,
    /// Since our clocks were last seen to disagree, unless the provider's has been read since.
    doubt: Option<Doubt>,
    validators: Validators,
    /// Which of the source's places has brought or confirmed the set last; `None` of a remembered one, whose place nobody knows.
    place: Option<u64>,
    /// Whether the first fetch has ended.
    attempted: bool,
    /// When the first of a row of sets without a usable key was asked for.
    emptied: Option<Duration>,
    /// Whether the last answer was older than the set in force: a cache on the way must be told to look again.
    doubted: bool,
    /// Answers that were refused because they seemed older, until it is known whether they only seemed so; the latest
    /// [`MAX_REFUSED`].
    refused: VecDeque<Refused>,

    flight: Option<Flight>,
    /// How many fetches were started, and when the last one was.
    fetches: u64,
    last_begun: Option<Duration>,
    scheduled_at: Duration,
    /// How many scheduled fetches failed in a row, and whether the last one of either kind did.
    failures: u32,
    has_failed: bool,
    last_forced: Option<Duration>,
    spacing: Duration,
    /// The provider wishes to be left alone until then.
    not_before: Duration,
    /// Whether somebody needs a fetch that has not begun yet, for another reason than a key in `sought`.
    needed: bool,
    /// Whether an operator does.
    is_manual: bool,

    /// The names whose signature mismatch has been looked into during this generation, and when.
    mismatched: Map<Option<Box<str>>, Duration>,
    /// Keys without an answer so far, each with the number of fetches that had begun when it was first seen.
    sought: Map<Wanted, u64>,
    /// In the order of their deadlines, since all wait equally long.
    waiters: VecDeque<Waiter<W>>,
    absent: Arc<Absent>,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    number: u64,
    kind: Kind,
    begun: Now,
    timeout: Duration,
    /// Whether the clocks have disagreed since: what it brings is older than it seems.
    outlived: bool,
    /// Whether it sent validators.
    conditional: bool,
    /// Whether caches on the way were told to look again.
    revalidates: bool,
}

/// Our clocks have disagreed. Either the machine stood still, and the wall clock is right, or somebody has set it, and the time that has passed
/// on the monotonic one is.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// What the provider's clock showed before, and when that was.
    since: Duration,
    shown: Duration,
    /// They have done it again since. Then nobody knows what the provider's clock shows.
    is_twofold: bool,
}

/// What a refused answer said of its age, and when it came.
#[derive(Clone, Copy, Debug)]
struct Refused {
    date: Duration,
    age: Duration,
    came: Duration,
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
            #[cfg(test)]
            broken: None,
            random: Random(config.seed),
            seen: None,
            recheck: None,
            changed: None,
            set: None,
            in_force: false,
            confirmed: Now::ZERO,
            lifetime: config.lifetime,
            stale: false,
            generated: None,
            clock_offset: None,
            doubt: None,
            validators: Validators::default(),
            place: None,
            attempted: false,
            emptied: None,
            doubted: false,
            refused: VecDeque::new(),
            flight: None,
            fetches: 0,
            last_begun: None,
            scheduled_at: Duration::ZERO,
            failures: 0,
            has_failed: false,
            last_forced: None,
            spacing: MIN_SPACING,
            not_before: Duration::ZERO,
            needed: false,
            is_manual: false,
            mismatched: Map::default(),
            sought: Map::default(),
            waiters: VecDeque::new(),
            absent: Arc::new(Absent::none()),
        }
    }

    pub(crate) fn step(&mut self, now: Now, event: Event<W>) -> Vec<Action<W>> {
        let mut actions = Vec::new();
        let (mut fate, begun) = (None, self.fetches);
        self.compare_clocks(now);
        match event {
            Event::Tick => {}
            Event::Fetched { set, hints } => self.fetched(now, *set, &hints, &mut actions),
            Event::NotModified(hints) => self.not_modified(now, &hints, &mut actions),
            Event::Failed { retry_after } => {
                if let Some(flight) = self.land() {
                    self.failed(now, flight, retry_after, &mut actions);
                }
            }
            Event::Postponed => self.postponed(now.monotonic),
            Event::Asked { wanted, generation, waiter } => {
                fate = self.asked(now, wanted, generation, waiter, &mut actions);
            }
            Event::Mismatched { wanted, generation } => self.mismatched(now.monotonic, wanted, generation),
            Event::RefreshAsked => (self.needed, self.is_manual) = (true, true),
            Event::SourceChanged => self.changed = Some(self.fetches),
            Event::Restored(restored) => self.restored(now, *restored, &mut actions),
        }
        self.grow_old(now, &mut actions);
        self.start_if_due(now, &mut actions);
        if let Some(fate) = fate {
            actions.push(Action::Count(if self.fetches > begun { Fate::Provoked } else { fate }));
        }
        self.dismiss(now.monotonic, &mut actions);
        let mut wake_at = self.next_tick(now);
        if self.set.is_some() {
            wake_at = wake_at.min(now.monotonic + CLOCK_CHECK);
        }
        actions.push(Action::Arm(wake_at));
        actions
    }

    /// The set in force, if it is still young enough.
    pub(crate) fn in_force(&self, now: Now) -> Option<&Arc<KeySet>> {
        self.set.as_ref().filter(|_| self.in_force && !self.is_too_old(now))
    }

    /// The last good set, in force or too old.
    pub(crate) fn last_good(&self) -> Option<&Arc<KeySet>> {
        self.set.as_ref()
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
            Some(flight) => flight.begun.monotonic + flight.timeout,
            // Whoever asks next makes a forced fetch needed, so this is when that one could begin.
            None if self.needs_look() || self.in_force => self.due_at().min(self.forced_at()),
            None => self.due_at(),
        }
    }

    /// When the last good set was confirmed or replaced last.
    pub(crate) fn confirmed(&self) -> Option<Now> {
        self.set.is_some().then_some(self.confirmed)
    }

    /// How long the last good set was to be good for, and whether it has outlived that.
    pub(crate) fn lifetime(&self) -> (Duration, bool) {
        (self.lifetime, self.stale)
    }

    /// From when the last good set is not believed any more, as far as the monotonic clock can say.
    pub(crate) fn trusted_until(&self) -> Duration {
        self.confirmed.monotonic.saturating_add(self.config.max_stale)
    }

    /// When the last good set was generated at the latest, by the provider's clock.
    pub(crate) fn generated_at(&self) -> Option<Duration> {
        self.generated
    }

    /// Whether a fetch is in flight.
    pub(crate) fn is_looking(&self) -> bool {
        self.flight.is_some()
    }

    /// How many fetches were started so far.
    pub(crate) fn fetches(&self) -> u64 {
        self.fetches
    }

    /// The task died, and the fetch in flight and the waiting requests with it. What was learnt stays, above all the
    /// distance to the last fetch: restarting must not be a way around it.
    pub(crate) fn interrupt(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.scheduled_at = flight.begun.monotonic + MIN_BACKOFF;
        }
        (self.needed, self.is_manual) = (false, false);
        self.sought.clear();
        self.waiters.clear();
    }

    // What every step ends with.

    /// Notices when the wall clock has moved further than the monotonic one. Either somebody has set it, or the machine stood
    /// still: it cannot be told which, so there is one look at the source before anything is called old on the wall clock's word.
    fn compare_clocks(&mut self, now: Now) {
        let then = self.seen.replace(now).unwrap_or(now);
        if now.has_been_set_since(then) && self.keeps(Rule::SetClocksAreDoubted) {
            let (since, shown) = (then.monotonic, self.shown_by_provider(then));
            self.doubt = Some(match self.doubt {
                None => Doubt { since, shown, is_twofold: false },
                Some(doubt) => Doubt { is_twofold: true, ..doubt },
            });
        }
        // Both clocks may have gone on while the process was frozen: then no time-out has held.
        let is_late = self.flight.is_some_and(|flight| now.age(flight.begun) > flight.timeout + LATE);
        if (now.has_jumped_since(then) || is_late) && self.keeps(Rule::ClocksAreCompared) {
            self.recheck = Some(self.fetches);
            if let Some(flight) = &mut self.flight {
                flight.outlived = true;
            }
        }
    }

    fn grow_old(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        if self.in_force && self.is_too_old(now) {
            (self.in_force, self.stale) = (false, true);
            self.scheduled_at = self.scheduled_at.min(now.monotonic + MIN_BACKOFF);
            actions.push(Action::Withdraw);
        } else if self.in_force && !self.stale && self.is_older_than(self.lifetime, now) {
            self.stale = true;
            actions.push(Action::Stale);
        }
    }

    fn start_if_due(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        if self.flight.is_some() {
            return;
        }
        let is_forced = self.needs_look() && now.monotonic >= self.forced_at();
        // A scheduled fetch first: it serves those who asked, and does not use the spacing up.
        let kind = if now.monotonic >= self.due_at() {
            Kind::Scheduled
        } else if is_forced {
            self.last_forced = Some(now.monotonic);
            Kind::Forced
        } else {
            return;
        };
        let timeout = if self.has_usable_keys() { FETCH_TIMEOUT } else { FETCH_TIMEOUT_WITHOUT_KEYS };
        // A look that renews what is remembered as absent must not be answered by a cache on the way; nor one at a source that has
        // just said that it has changed.
        let knows_better = self.doubted || self.changed.is_some();
        let revalidate = self.needed || knows_better || !self.sought.is_empty() || !self.absent.is_empty();
        self.fetches += 1;
        self.last_begun = Some(now.monotonic);
        // Validators may lie: a file that was written twice in a second, files that all have one time. Whoever still misses
        // something after a look gets the whole of it.
        let is_second_look = kind == Kind::Forced && self.spacing > MIN_SPACING;
        let validators = if is_second_look { Validators::default() } else { self.validators.clone() };
        self.needed = false;
        let is_manual = std::mem::take(&mut self.is_manual) && kind == Kind::Forced;
        let conditional = !validators.is_empty();
        let (number, revalidates, outlived) = (self.fetches, revalidate, false);
        self.flight = Some(Flight { number, kind, begun: now, timeout, outlived, conditional, revalidates });
        let (number, has_keys) = (self.fetches, self.has_usable_keys());
        let (has_fresh_keys, has_failed) = (has_keys && !self.stale, self.has_failed);
        let look = Look { timeout, revalidate, validators, has_keys, has_fresh_keys, has_failed };
        actions.push(Action::Fetch(Start { number, kind, is_manual, look }));
    }

    fn next_tick(&self, now: Now) -> Duration {
        let mut at = Duration::MAX;
        if self.flight.is_none() {
            at = at.min(self.due_at());
            if self.needs_look() {
                at = at.min(self.forced_at());
            }
        }
        if self.in_force {
            at = at.min(self.reaches(self.config.max_stale, now));
            if !self.stale {
                at = at.min(self.reaches(self.lifetime, now));
            }
        }
        self.waiters.front().map_or(at, |waiter| at.min(waiter.deadline))
    }

    // Helpers.

    fn has_usable_keys(&self) -> bool {
        self.in_force && self.set.as_ref().is_some_and(|set| !set.is_empty())
    }

    /// Whether a forced fetch should begin once none is in flight. Keys are sought from the schedule alone while there
    /// is no set: its retries come as fast as forced fetches would.
    fn needs_look(&self) -> bool {
        self.needed || (self.in_force && !self.sought.is_empty())
    }

    fn forced_at(&self) -> Duration {
        self.last_forced.map_or(Duration::ZERO, |last| last + self.spacing).max(self.not_before)
    }

    /// When the next look is due that nobody has to ask for. Because the clocks disagree, or the source has changed: at once, but not
    /// more often than that however often they do.
    fn due_at(&self) -> Duration {
        match self.recheck.or(self.changed) {
            Some(_) => self.scheduled_at.min(self.last_begun.map_or(Duration::ZERO, |begun| begun + MIN_SPACING)),
            None => self.scheduled_at,
        }
    }

    fn is_too_old(&self, now: Now) -> bool {
        self.is_older_than(self.config.max_stale, now)
    }

    /// Whether the last good set was confirmed longer ago than that; on the wall clock's word alone only if a look at the source
    /// after it was set has not helped.
    fn is_older_than(&self, age: Duration, now: Now) -> bool {
        now.monotonic_age(self.confirmed) >= age || (self.recheck.is_none() && now.age(self.confirmed) >= age)
    }

    /// When the last good set will be that old, on the monotonic clock, if nobody sets the other.
    fn reaches(&self, age: Duration, now: Now) -> Duration {
        let old = if self.recheck.is_none() { now.age(self.confirmed) } else { now.monotonic_age(self.confirmed) };
        now.monotonic.saturating_add(age.saturating_sub(old))
    }

    /// Always, but in tests.
    fn keeps(&self, rule: Rule) -> bool {
        #[cfg(test)]
        return self.broken != Some(rule);
        #[cfg(not(test))]
        {
            let _ = rule;
            true
        }
    }
}

#[cfg(test)]
mod tests;
