//! A whole world at random: a provider that rotates, fails, lags and lies, requests for its keys and for keys nobody has,
//! clocks that are set, a machine that is suspended. The world keeps its own books, and says which rule was broken.

use super::*;

/// How many worlds, unless `COUNTERSIGN_SIMULATION_SEEDS` says more.
const SEEDS: u64 = 200;

/// How many worlds it may take at most until one of them notices that a rule is broken on purpose.
const SEEDS_TO_NOTICE: u64 = 20_000;

/// In what way the provider answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    /// No answer until the fetch gives up.
    Hanging,
    /// An error, with a wish when to be asked again, seconds.
    Failing(u64),
    /// A set without a usable key.
    Empty,
    /// What a cache on the way has had for that long, milliseconds.
    Lagging(u64, Cache),
}

/// What a cache says of what it has had for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    /// The origin's `Date`, and an `Age`.
    HandsDateOn,
    /// Its own `Date`, and an `Age`.
    ReplacesDate,
    /// The origin's `Date`, and no `Age`.
    HidesAge,
}

/// What the provider published, and when, in real time.
struct Version {
    keys: Vec<usize>,
    since: Duration,
}

/// What a fetch will bring when it ends; decided when it begins.
#[derive(Debug)]
enum Brings {
    Set { keys: Vec<usize>, etag: String, generated: Duration, date: Duration, age: Duration },
    NotModified { generated: Duration, date: Duration, age: Duration },
    Failure { retry_after: Option<Duration> },
}

struct Airborne {
    lands: Duration,
    begun: Duration,
    begun_real: Duration,
    begun_clocks: Now,
    brings: Brings,
    /// Whether what it brings is what the provider says at this moment, and no cache had a say in it.
    is_its_word: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    kid: String,
    since: Duration,
    since_real: Duration,
}

struct World {
    random: Random,
    plan: Plan<u32>,
    /// By the monotonic clock.
    now: Duration,
    /// For how long the machine has been suspended in all: real time is that much more.
    suspended: Duration,
    /// How far somebody has set the wall clock, milliseconds.
    set_by: i64,
    /// When the clocks were last disturbed, and how.
    disturbed: Duration,
    suspended_at: Option<Duration>,
    set_at: Option<Duration>,
    /// Whether both happened so close together that no two clocks can tell, and no fetch has succeeded since.
    is_deceived: bool,

    mode: Mode,
    /// Since when the provider has been up, without interruption, in real time.
    up_since: Duration,
    latency: Duration,
    /// What the provider says how long its answers are good for, seconds.
    max_age: Option<u64>,
    sends_dates: bool,
    sends_etags: bool,
    versions: Vec<Version>,
    newest: usize,

    timer: Duration,
    flight: Option<Airborne>,
    last_forced: Option<Duration>,
    waiting: HashMap<u32, Waiting>,
    next_waiter: u32,
    made_up: u32,
    in_force: Option<Arc<KeySet>>,
    /// When the answer was generated that the set in force is from, or was confirmed by.
    in_force_generated: Option<Duration>,
    last_success_real: Duration,
    /// Whether the set in force is a remembered one that no fetch has confirmed.
    is_remembered: bool,
    /// What requests find known to be absent.
    denied: Arc<Absent>,
    /// When the first fetch of the current row of empty answers began.
    empty_since: Option<Duration>,
    /// What was answered with "absent", or went with a set: when the fetch began, by both clocks.
    absent: HashMap<String, Now>,
    /// Reads the generation after the look-up instead of before.
    generation_after_look_up: bool,
    /// The age of the set that somebody remembers in this very step.
    remembered: Option<Duration>,

    broken: Option<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let latency = Duration::from_millis(random.below(3_000));
        let max_age = random.one_in(2).then(|| random.below(7_200));
        let mut world = Self {
            plan: Plan::new(config(seed)),
            now: PAST,
            suspended: Duration::ZERO,
            set_by: 0,
            disturbed: PAST,
            suspended_at: None,
            set_at: None,
            is_deceived: false,
            mode: Mode::Up,
            up_since: PAST,
            latency,
            max_age,
            sends_dates: !random.one_in(4),
            sends_etags: !random.one_in(3),
            versions: vec![Version { keys: vec![0], since: PAST }],
            newest: 0,
            timer: PAST,
            flight: None,
            last_forced: None,
            waiting: HashMap::new(),
            next_waiter: 0,
            made_up: 0,
            in_force: None,
            in_force_generated: None,
            last_success_real: PAST,
            is_remembered: false,
            denied: Arc::new(Absent::none()),
            empty_since: None,
            absent: HashMap::new(),
            generation_after_look_up: false,
            remembered: None,
            broken: None,
            random,
        };
        world.step(Event::Tick);
        if world.random.one_in(3) {
            world.remember();
        }
        world
    }

    /// Up, quick and plain: for what is not about failures.
    fn quiet(seed: u64, latency: Duration) -> Self {
        let mut world = Self::new(seed);
        world.latency = latency;
        world.flight = None;
        (world.in_force, world.is_remembered) = (None, false);
        world.plan = Plan::new(config(seed));
        world.step(Event::Tick);
        world
    }

    fn check(&mut self, holds: bool, rule: &str) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("{rule}, at {:?}", self.now));
        }
    }

    fn real(&self) -> Duration {
        self.now + self.suspended
    }

    fn clocks(&self) -> Now {
        let set_by = Duration::from_millis(self.set_by.unsigned_abs());
        let wall = EPOCH + self.real();
        Now { monotonic: self.now, wall: if self.set_by < 0 { wall - set_by } else { wall + set_by } }
    }

    // The provider.

    fn published(&self) -> &Version {
        self.versions.last().unwrap()
    }

    /// Since when the provider has published this key without interruption.
    fn published_since(&self, index: usize) -> Option<Duration> {
        let with = self.versions.iter().rev().take_while(|version| version.keys.contains(&index));
        with.last().map(|version| version.since)
    }

    fn publish(&mut self, keys: Vec<usize>) {
        let since = self.real();
        self.versions.push(Version { keys, since });
    }

    fn set_mode(&mut self, mode: Mode) {
        if mode == Mode::Up && self.mode != Mode::Up {
            self.up_since = self.real();
        }
        self.mode = mode;
    }

    fn next_key(&mut self) -> usize {
        self.newest = (self.newest + 1) % KEYS.len();
        self.newest
    }

    fn rotate(&mut self) {
        let key = self.next_key();
        let mut keys = self.published().keys.clone();
        keys.push(key);
        let drop = keys.len().saturating_sub(2);
        self.publish(keys.split_off(drop));
    }

    fn replace_keys(&mut self) {
        let key = self.next_key();
        self.publish(vec![key]);
    }

    /// When it answers, and what.
    fn answer(&self, start: &Start) -> (Duration, Brings) {
        let generated = EPOCH + self.real();
        let latency = self.latency.min(start.look.timeout);
        let (version, generated) = match self.mode {
            Mode::Hanging => return (start.look.timeout, Brings::Failure { retry_after: None }),
            Mode::Failing(seconds) => {
                let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds));
                return (latency, Brings::Failure { retry_after });
            }
            Mode::Empty => (None, generated),
            Mode::Up => (Some(self.versions.len() - 1), generated),
            Mode::Lagging(lag, _) => {
                let then = self.real().saturating_sub(Duration::from_millis(lag));
                let version = self.versions.iter().rposition(|version| version.since <= then).unwrap_or(0);
                (Some(version), EPOCH + then)
            }
        };
        let sent = EPOCH + self.real();
        let (date, age) = match self.mode {
            Mode::Lagging(_, Cache::HandsDateOn) => (generated, sent - generated),
            Mode::Lagging(_, Cache::ReplacesDate) => (sent, sent - generated),
            _ => (generated, Duration::ZERO),
        };
        // Both count whole seconds.
        let whole = |time: Duration| Duration::from_secs(time.as_secs());
        let (date, age) = (whole(date), whole(age));
        let etag = version.map_or("empty".to_owned(), |version| format!("v{version}"));
        let brings = if self.sends_etags && start.look.validators.etag.as_deref() == Some(&*etag) {
            Brings::NotModified { generated, date, age }
        } else {
            let keys = version.map_or_else(Vec::new, |version| self.versions[version].keys.clone());
            Brings::Set { keys, etag, generated, date, age }
        };
        (latency, brings)
    }

    // The plan.

    fn step(&mut self, event: Event<u32>) {
        let clocks = self.clocks();
        for action in self.plan.step(clocks, event) {
            self.act(action, None);
        }
    }

    fn act(&mut self, action: Action<u32>, landed: Option<&Airborne>) {
        match action {
            Action::Fetch(start) => self.take_off(&start),
            Action::Publish(set) => self.published_by(set, landed),
            Action::Withdraw => self.in_force = None,
            Action::Disbelieve(_) => self.check(landed.is_some(), "disbelief without an answer"),
            Action::Stale | Action::Recovered | Action::Count(_) => {}
            Action::Deny(absent) => {
                self.check(absent.len() <= absent::MAX_ABSENT, "too many are remembered as absent");
                self.denied = absent;
            }
            Action::Answer(waiter, answer) => self.answered(waiter, answer, landed),
            Action::Arm(at) => self.timer = at,
        }
    }

    fn take_off(&mut self, start: &Start) {
        self.check(self.flight.is_none(), "two fetches in flight");
        if start.kind == Kind::Forced {
            let is_apart = self.last_forced.is_none_or(|last| self.now >= last + MIN_SPACING);
            self.check(is_apart, "two forced fetches too close together");
            self.last_forced = Some(self.now);
        }
        let (takes, brings) = self.answer(start);
        let is_its_word = start.look.revalidate && matches!(self.mode, Mode::Up | Mode::Empty);
        let (begun, begun_real, begun_clocks) = (self.now, self.real(), self.clocks());
        self.flight = Some(Airborne { lands: begun + takes, begun, begun_real, begun_clocks, brings, is_its_word });
    }

    fn land(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        let wall = self.clocks().wall;
        let offset = |date: Duration| {
            let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap();
            seconds(date) - seconds(wall)
        };
        let hints = |etag: Option<&str>, date, age: Duration| Hints {
            lifetime: self.max_age.map(Duration::from_secs),
            date: self.sends_dates.then_some(date),
            age,
            clock_offset: (self.sends_dates && age.is_zero()).then(|| offset(date)),
            validators: Validators {
                etag: etag.filter(|_| self.sends_etags).map(Into::into),
                last_modified: None,
                place: 0,
            },
            retry_after: None,
        };
        let event = match &flight.brings {
            Brings::Set { keys, etag, date, age, .. } => {
                let hints = hints(Some(etag), *date, *age);
                match keys[..] {
                    [] => _ = self.empty_since.get_or_insert(flight.begun),
                    _ => self.empty_since = None,
                }
                Event::Fetched { set: set(keys.iter().copied()), hints: Box::new(hints) }
            }
            Brings::NotModified { date, age, .. } => {
                self.empty_since = None;
                Event::NotModified(Box::new(hints(None, *date, *age)))
            }
            Brings::Failure { retry_after } => Event::Failed { retry_after: *retry_after },
        };
        let before = self.plan.confirmed();
        let clocks = self.clocks();
        let actions = self.plan.step(clocks, event);
        let was_believed = self.plan.confirmed() != before || self.plan.confirmed() == Some(clocks);
        for action in actions {
            self.act(action, Some(&flight));
        }
        if was_believed {
            self.is_deceived &= flight.begun < self.disturbed;
            self.last_success_real = flight.begun_real;
            self.is_remembered = false;
            if let Brings::Set { generated, .. } | Brings::NotModified { generated, .. } = flight.brings {
                let generated = self.sends_dates.then_some(generated);
                self.in_force_generated = self.in_force_generated.max(generated);
            }
        }
    }

    fn published_by(&mut self, set: Arc<KeySet>, landed: Option<&Airborne>) {
        let Some(flight) = landed else {
            self.restored(set);
            return;
        };
        if let (Some(old), Brings::Set { generated, .. }) = (&self.in_force, &flight.brings) {
            let grows = set.generation() > old.generation();
            let is_emptied = set.is_empty() && !old.is_empty();
            let is_older = self.sends_dates
                // `Date` and `Age` are a second wide each, and the clocks' difference is.
                && self.in_force_generated.is_some_and(|in_force| *generated + GENERATED_TOLERANCE + 4 * SEC < in_force);
            let is_confirmed = self.empty_since.is_some_and(|first| self.now >= first + CONFIRM_AFTER);
            self.check(grows, "a new set with an old generation");
            self.check(!is_emptied || is_confirmed, "a good set was replaced by an unconfirmed empty one");
            self.check(!is_older || self.is_deceived, "a good set was replaced by an older one");
            self.in_force_generated = self.sends_dates.then_some(*generated);
        }
        self.absent.retain(|kid, _| !wanted(kid).is_in(&set));
        if let Some(old) = self.in_force.replace(Arc::clone(&set)) {
            self.withdrawn(&old, &set, flight);
        }
    }

    /// From this very moment on nobody waits for a key that the provider has taken back.
    fn withdrawn(&mut self, old: &KeySet, new: &KeySet, flight: &Airborne) {
        // The set before may be dated later than the provider has said it.
        let tells = GENERATED_TOLERANCE + 2 * SEC;
        let is_newer = !self.sends_dates || flight.begun_real >= self.last_success_real + tells;
        let is_recent = self.clocks().age(flight.begun_clocks) < MAX_SPACING;
        if !flight.is_its_word || !is_newer || !is_recent || self.is_remembered {
            return;
        }
        let kids = old.iter().filter_map(|key| key.kid()).filter(|kid| !wanted(kid).is_in(new));
        for kid in kids {
            let is_denied = self.denied.contains(&wanted(kid), self.clocks());
            self.check(is_denied, "a key went with its set, and somebody has to wait to hear of it");
            self.absent.insert(kid.to_owned(), flight.begun_clocks);
        }
    }

    /// Somebody remembers a set that was published some time ago.
    fn remember(&mut self) {
        let age = Duration::from_secs(self.random.below(2) * self.random.below(2 * MAX_STALE.as_secs()));
        let then = self.real().saturating_sub(age);
        let version = self.versions.iter().rposition(|version| version.since <= then).unwrap_or(0);
        let generated = self.sends_dates.then_some(EPOCH + then);
        self.remembered = Some(age);
        let set = *set(self.versions[version].keys.iter().copied());
        self.step(Event::Restored(Box::new(Restored { set, age, generated })));
        self.remembered = None;
    }

    fn restored(&mut self, set: Arc<KeySet>) {
        let Some(age) = self.remembered else {
            self.check(false, "a set was published out of nothing");
            return;
        };
        self.check(self.in_force.is_none(), "a set in force was replaced by a remembered one");
        self.check(age < MAX_STALE, "a remembered set is trusted although it is too old");
        self.last_success_real = self.real().saturating_sub(age);
        self.in_force_generated = self.sends_dates.then(|| (EPOCH + self.last_success_real).min(self.clocks().wall));
        // Until the look that is due has ended, nobody can know what was withdrawn meanwhile.
        self.up_since = self.real();
        self.is_remembered = true;
        self.in_force = Some(set);
    }

    fn answered(&mut self, waiter: u32, answer: Answer, landed: Option<&Airborne>) {
        let Some(waiting) = self.waiting.remove(&waiter) else {
            self.check(false, "an answer to nobody, or a second one");
            return;
        };
        self.check(self.now <= waiting.since + MAX_WAIT, "an answer too late");
        match answer {
            Answer::Changed => self.check(self.in_force.is_some(), "a change to nothing"),
            Answer::Absent => self.called_absent(&waiting, landed),
            Answer::NotYet { retry_after } | Answer::Unavailable { retry_after, .. } => {
                self.check(retry_after >= MIN_RETRY_AFTER, "asking again at once helps nobody");
            }
            _ => self.check(false, "an answer of a new kind"),
        }
    }

    /// A caller was told that it is his fault: it must be.
    fn called_absent(&mut self, waiting: &Waiting, landed: Option<&Airborne>) {
        if let Some(flight) = landed {
            self.absent.insert(waiting.kid.clone(), flight.begun_clocks);
        }
        let Some(index) = waiting.kid.strip_prefix('k').and_then(|index| index.parse().ok()) else { return };
        let Some(since) = self.published_since(index) else { return };
        // A cache that lies is believed, and so is a look that is not old.
        let looked_before = self.real().saturating_sub(since) < MAX_SPACING + self.latency;
        let is_honest = self.mode == Mode::Up && self.real() >= self.up_since + MAX_SPACING + self.latency;
        let is_calm = self.set_by == 0 || self.now >= self.disturbed + MAX_SPACING;
        let is_wrong = since <= waiting.since_real && !looked_before && is_honest && is_calm;
        self.check(!is_wrong, "a published key was called absent");
    }

    // Requests.

    fn request(&mut self, kid: &str) {
        let generation = self.in_force.as_ref().map(|set| set.generation());
        if self.in_force.as_ref().is_some_and(|set| wanted(kid).is_in(set)) {
            return;
        }
        // In a while something may be published.
        let soon = self.now + 50 * MS;
        if self.random.one_in(2) && self.flight.as_ref().is_some_and(|flight| flight.lands <= soon) {
            self.pass(soon);
        }
        let late = self.in_force.as_ref().map(|set| set.generation());
        let generation = if self.generation_after_look_up { late } else { generation };
        self.ask(kid, generation);
    }

    fn ask(&mut self, kid: &str, generation: Option<u64>) {
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        let waiting = Waiting { kid: kid.to_owned(), since: self.now, since_real: self.real() };
        self.waiting.insert(waiter, waiting);
        let is_there = self.in_force.as_ref().is_some_and(|set| wanted(kid).is_in(set));
        // A disturbance of the clocks may make it forget, and so may great numbers.
        let is_remembered =
            self.now >= self.disturbed + MAX_SPACING && (self.made_up as usize) < absent::MAX_ABSENT / 2;
        let was_absent = self.absent.get(kid).copied().filter(|_| is_remembered);
        self.step(Event::Asked { wanted: wanted(kid), generation, waiter });
        let is_answered = !self.waiting.contains_key(&waiter);
        self.check(!is_there || is_answered, "somebody has to wait for a key that is there");
        let is_known =
            was_absent.is_some_and(|begun| self.clocks().age(begun) < MAX_SPACING) && self.in_force.is_some();
        self.check(!is_known || is_answered, "somebody has to wait for a key that was just found to be absent");
        self.check(self.waiting.len() <= MAX_WAITERS, "too many wait");
    }

    fn made_up(&mut self) {
        self.made_up += 1;
        self.request(&format!("made up {}", self.made_up));
    }

    fn knows(&self, index: usize) -> bool {
        self.in_force.as_ref().is_some_and(|set| wanted(&format!("k{index}")).is_in(set))
    }

    // Time.

    fn suspend(&mut self, time: Duration) {
        self.suspended += time;
        self.disturbed = self.now;
        self.suspended_at = Some(self.now);
        self.is_deceived |= self.set_at.is_some_and(|at| self.now <= at + CLOCK_CHECK);
    }

    fn set_wall_clock(&mut self, by: i64) {
        self.set_at = Some(self.now);
        self.is_deceived |= self.suspended_at.is_some_and(|at| self.now <= at + CLOCK_CHECK);
        self.set_by = by;
        self.disturbed = self.now;
    }

    /// Lets time pass, with all that falls due on the way.
    fn pass(&mut self, until: Duration) {
        while self.broken.is_none() {
            let landing = self.flight.as_ref().map_or(Duration::MAX, |flight| flight.lands);
            let next = landing.min(self.timer.max(self.now));
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if landing <= self.timer {
                self.land();
            } else {
                self.step(Event::Tick);
                self.check(self.timer > self.now, "the timer spins");
            }
            self.check_trust();
        }
        self.now = until.max(self.now);
    }

    /// What is in force must not be older than it may be. Right after a disturbance the plan has not had the time to know.
    fn check_trust(&mut self) {
        let grace = CLOCK_CHECK + FETCH_TIMEOUT + self.latency + SEC;
        if self.now < self.disturbed + grace || self.is_deceived {
            return;
        }
        let Some(set) = self.in_force.clone() else { return };
        let real = self.real();
        self.check(real < self.last_success_real + MAX_STALE + grace, "keys of a provider long silent are trusted");
        let lifetime = self.max_age.map_or(INTERVAL, Duration::from_secs).clamp(MIN_LIFETIME, MAX_LIFETIME);
        let bound = lifetime.max(MAX_RETRY_AFTER) + grace;
        if self.mode != Mode::Up || real < self.up_since + bound {
            return;
        }
        for key in set.iter() {
            let index = key.kid().and_then(|kid| kid.strip_prefix('k')).and_then(|kid| kid.parse().ok()).unwrap();
            if !self.published().keys.contains(&index) {
                let withdrawn = self.versions.iter().rev().take_while(|version| !version.keys.contains(&index)).last();
                let withdrawn = withdrawn.map_or(Duration::ZERO, |version| version.since);
                self.check(real < withdrawn + bound, "a withdrawn key is trusted for too long");
            }
        }
    }

    fn happen(&mut self) {
        match self.random.below(32) {
            0..=2 => self.rotate(),
            3 => self.replace_keys(),
            4..=8 => self.set_mode(Mode::Up),
            9 => self.set_mode(Mode::Hanging),
            10 => {
                let seconds = self.random.below(4) * self.random.below(400);
                self.set_mode(Mode::Failing(seconds));
            }
            11 | 12 => self.set_mode(Mode::Empty),
            13 | 14 => {
                let lag = self.random.below(400_000);
                let cache = [Cache::HandsDateOn, Cache::ReplacesDate, Cache::HidesAge][self.random.below(3) as usize];
                self.set_mode(Mode::Lagging(lag, cache));
            }
            15..=17 => (0..self.random.below(60)).for_each(|_| self.made_up()),
            18 => (0..1_100).for_each(|_| self.made_up()),
            19 => {
                let kid = format!("made up {}", self.made_up);
                self.request(&kid);
            }
            20 => {
                let generation = self.in_force.as_ref().map(|set| set.generation());
                let kid = format!("k{}", self.published().keys[0]);
                self.step(Event::Mismatched { wanted: wanted(&kid), generation });
            }
            21 => self.step(Event::RefreshAsked),
            22 => {
                let time = Duration::from_secs(self.random.below(4_000));
                self.suspend(time);
            }
            23 => {
                let by = i64::try_from(self.random.below(8_000_000)).unwrap() - 4_000_000;
                self.set_wall_clock(by);
            }
            24 => {
                // Suspended while an answer is on its way, and everything is changed meanwhile.
                let key = format!("k{}", (self.newest + 1) % KEYS.len());
                self.request(&key);
                self.suspend(30 * SEC);
                self.rotate();
            }
            25 => self.remember(),
            26 => self.step(Event::SourceChanged),
            27 => {
                // Our clock is ahead by as much as a cache lags behind, so that its age looks like a date that was handed on.
                let lag = 1_000 * (10 + self.random.below(390));
                self.set_mode(Mode::Lagging(lag, Cache::ReplacesDate));
                self.set_wall_clock(i64::try_from(lag).unwrap());
                self.step(Event::RefreshAsked);
            }
            _ => {
                let kid = format!("k{}", self.newest);
                self.request(&kid);
            }
        }
    }

    /// Milliseconds until the next happening; mostly less than the times that matter, sometimes hours.
    fn pause(&mut self) -> Duration {
        let most = match self.random.below(20) {
            0..=9 => 300,
            10..=17 => 6_000,
            18 => 400_000,
            _ => 8_000_000,
        };
        Duration::from_millis(self.random.below(most))
    }

    /// A life of this world, and its last duties. Gives the rule that was broken, if one was.
    fn live(mut self) -> Option<String> {
        for _ in 0..self.random.below(150) {
            let until = self.now + self.pause();
            self.pass(until);
            self.happen();
            if self.broken.is_some() {
                return self.broken;
            }
        }
        // Everybody is answered, whatever became of the provider.
        let until = self.now + MAX_WAIT;
        self.pass(until);
        let nobody_waits = self.waiting.is_empty();
        self.check(nobody_waits, "somebody was forgotten");
        // And from a provider that answers again, keys come back.
        self.set_mode(Mode::Up);
        let until = self.now + MAX_RETRY_AFTER + MAX_BACKOFF + FETCH_TIMEOUT + 2 * self.latency + SEC;
        let asked = self.newest;
        if self.published_since(asked).is_none() {
            self.publish(vec![asked]);
        }
        while self.now < until && self.broken.is_none() {
            self.request(&format!("k{asked}"));
            let next = self.now + SEC;
            self.pass(next);
        }
        let is_back = self.knows(asked) || self.in_force_generated.is_some_and(|then| then > EPOCH + self.real());
        self.check(is_back, "a provider that answers again is not heard");
        self.broken
    }
}

fn seeds() -> u64 {
    std::env::var("COUNTERSIGN_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn whatever_happens_the_rules_hold() {
    for seed in 0..seeds() {
        if let Some(broken) = World::new(seed).live() {
            panic!("seed {seed}: {broken}");
        }
    }
}

/// A simulation that notices nothing proves nothing.
#[test]
fn every_broken_rule_is_noticed() {
    let noticed = |disturb: &dyn Fn(&mut World)| {
        (0..SEEDS_TO_NOTICE).find_map(|seed| {
            let mut world = World::new(seed);
            disturb(&mut world);
            world.live().map(|broken| (seed, broken))
        })
    };
    for rule in Rule::ALL {
        let found = noticed(&|world| world.plan.broken = Some(rule));
        println!("{rule:?}: {found:?}");
        assert!(found.is_some(), "{rule:?} was broken, and nothing happened");
    }
    let found = noticed(&|world| world.generation_after_look_up = true);
    println!("generation after look-up: {found:?}");
    assert!(found.is_some());
}

/// Bounded blindness: a key published at t is known by t + max(spacing cap, fetch time-out) + one fetch, if anybody needs it,
/// however many made-up kids arrive all the time.
#[test]
fn a_flood_cannot_hide_a_new_key() {
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut world = World::quiet(seed, Duration::from_millis(random.below(2_000)));
        let rate = Duration::from_millis(1 + random.below(200));
        let flood = |world: &mut World, time: u64, genuine: Option<usize>| {
            let end = world.now + Duration::from_millis(time);
            while world.now < end && genuine.is_none_or(|index| !world.knows(index)) {
                world.made_up();
                // The next key's own name is among the guesses.
                let index = genuine.unwrap_or((world.newest + 1) % KEYS.len());
                world.request(&format!("k{index}"));
                let next = (world.now + rate).min(end);
                world.pass(next);
            }
        };
        flood(&mut world, 3_000 + random.below(27_000), None);
        if random.one_in(2) {
            world.set_mode(Mode::Hanging);
            flood(&mut world, random.below(20_000), None);
            world.set_mode(Mode::Up);
        }
        world.rotate();
        let (published, index) = (world.now, world.newest);
        flood(&mut world, 60_000, Some(index));
        assert_eq!(world.broken, None, "seed {seed}");
        assert!(world.knows(index), "seed {seed}");
        let took = world.now - published;
        // Two steps of the simulation on top.
        let bound = MAX_SPACING.max(FETCH_TIMEOUT) + world.latency + 2 * rate + 100 * MS;
        assert!(took <= bound, "seed {seed}: {took:?} > {bound:?}");
    }
}

/// Without a flood nobody is refused: a rotation nobody announced is found within the wait.
#[test]
fn a_quiet_rotation_refuses_nobody() {
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut world = World::quiet(seed, Duration::from_millis(random.below(1_900)));
        let quiet = world.latency + Duration::from_millis(random.below(200_000));
        world.pass(quiet);
        // Not while a scheduled fetch is in flight: the sum of two fetches may be longer than a wait.
        if world.flight.is_some() {
            continue;
        }
        world.rotate();
        let index = world.newest;
        world.request(&format!("k{index}"));
        let until = world.now + MAX_WAIT;
        world.pass(until);
        assert_eq!(world.broken, None, "seed {seed}");
        assert!(world.knows(index), "seed {seed}");
    }
}

/// An emergency rotation: the first token of the new key waits for a look, and from that look's end on no token of the old one waits
/// for anything, for as long as its absence is remembered.
#[test]
fn no_token_of_a_withdrawn_key_waits_once_its_set_is_replaced() {
    let mut noticed = 0;
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut world = World::quiet(seed, Duration::from_millis(random.below(1_900)));
        let quiet = world.now + world.latency + Duration::from_millis(8_000 + random.below(200_000));
        world.pass(quiet);
        let old = format!("k{}", world.newest);
        world.replace_keys();
        let index = world.newest;
        world.request(&format!("k{index}"));
        let begun = world.flight.as_ref().map(|flight| (flight.begun, flight.is_its_word));
        // Or a scheduled one that caches may answer has come before it.
        let Some((begun, true)) = begun else { continue };
        while !world.knows(index) && world.broken.is_none() {
            let next = world.now + MS;
            world.pass(next);
        }
        noticed += 1;
        while world.now < begun + MAX_SPACING && world.broken.is_none() {
            world.request(&old);
            assert!(world.waiting.values().all(|waiting| waiting.kid != old), "seed {seed}, at {:?}", world.now);
            if random.one_in(2) {
                world.made_up();
            }
            let next = world.now + Duration::from_millis(1 + random.below(200));
            world.pass(next);
        }
        assert_eq!(world.broken, None, "seed {seed}");
    }
    assert!(noticed > seeds() / 2, "{noticed}");
}

/// A machine that was suspended while its issuer rotated, twice, refuses nobody once it runs again.
#[test]
fn a_thawed_machine_refuses_nobody() {
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut world = World::quiet(seed, Duration::from_millis(random.below(900)));
        let quiet = world.latency + Duration::from_millis(random.below(200_000));
        world.pass(quiet);
        // Somebody has just guessed the name of the key after next.
        let guess = format!("k{}", (world.newest + 2) % KEYS.len());
        world.request(&guess);
        let until = world.now + Duration::from_millis(random.below(3_000));
        world.pass(until);
        world.suspend(1_800 * SEC);
        world.rotate();
        world.rotate();
        let index = world.newest;
        let mut asked = 0;
        while !world.knows(index) && world.now < until + 10 * SEC {
            world.request(&format!("k{index}"));
            asked += 1;
            let next = world.now + 100 * MS;
            world.pass(next);
        }
        assert_eq!(world.broken, None, "seed {seed}");
        assert!(world.knows(index), "seed {seed}: {asked} requests");
        // What waited was answered with a change, not with a refusal: called_absent checks that; nor did it take long.
        assert!(world.now <= until + FETCH_TIMEOUT, "seed {seed}: {:?}", world.now - until);
    }
}
