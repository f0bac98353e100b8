//! A whole world: a provider that rotates and fails, requests for its keys and for keys nobody has.

use super::*;

#[derive(Clone, Debug)]
enum Happening {
    /// The provider adds its next key and keeps at most two.
    Rotate,
    /// The provider answers this from now on.
    Mode(Mode),
    /// That many requests, each for another kid that nobody has.
    Flood(u16),
    /// A request for the provider's newest key.
    Genuine,
    Mismatch,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    Down,
    Empty,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => Just(Happening::Rotate),
        3 => Just(Happening::Mode(Mode::Up)),
        1 => Just(Happening::Mode(Mode::Down)),
        1 => Just(Happening::Mode(Mode::Empty)),
        4 => (1u16..60).prop_map(Happening::Flood),
        8 => Just(Happening::Genuine),
        1 => Just(Happening::Mismatch),
        1 => Just(Happening::Refresh),
    ]
}

/// Milliseconds until the next happening; mostly less than the times that matter, sometimes hours.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![5 => 0u64..300, 4 => 300u64..6_000, 1 => 6_000u64..400_000]
}

struct World {
    plan: Plan<u32>,
    now: Duration,
    timer: Duration,
    latency: Duration,
    mode: Mode,
    keys: Vec<usize>,
    newest: usize,
    /// In flight: when it ends, and what it brings, decided when it begins.
    flight: Option<(Duration, Option<Vec<usize>>, Start)>,
    last_forced: Option<Duration>,
    waiting: HashMap<u32, Duration>,
    next_waiter: u32,
    made_up: u32,
    in_force: Option<Arc<KeySet>>,
    /// When the first fetch of the current row of empty answers began, by the world's own count.
    empty_since: Option<Duration>,
}

impl World {
    fn new(latency: Duration, seed: u64) -> Self {
        let plan = Plan::new(Config { interval: INTERVAL, max_stale: MAX_STALE, seed });
        let mut world = Self {
            plan,
            now: Duration::ZERO,
            timer: Duration::ZERO,
            latency,
            mode: Mode::Up,
            keys: vec![0],
            newest: 0,
            flight: None,
            last_forced: None,
            waiting: HashMap::new(),
            next_waiter: 0,
            made_up: 0,
            in_force: None,
            empty_since: None,
        };
        world.step(Event::Tick);
        world
    }

    fn step(&mut self, event: Event<u32>) {
        let landed = match &event {
            Event::Fetched(set) => Some(set.len()),
            _ => None,
        };
        for action in self.plan.step(Now { monotonic: self.now }, event) {
            match action {
                Action::Fetch(start) => {
                    assert!(self.flight.is_none(), "two fetches in flight");
                    if start.kind == Kind::Forced {
                        assert!(self.last_forced.is_none_or(|last| self.now >= last + MIN_SPACING), "too close");
                        self.last_forced = Some(self.now);
                    }
                    let (brings, takes) = match self.mode {
                        Mode::Up => (Some(self.keys.clone()), self.latency),
                        Mode::Empty => (Some(Vec::new()), self.latency),
                        Mode::Down => (None, start.timeout),
                    };
                    self.flight = Some((self.now + takes.min(start.timeout), brings, start));
                }
                Action::Publish(set) => {
                    if let Some(old) = &self.in_force {
                        assert!(set.generation() >= old.generation());
                        if set.is_empty() && !old.is_empty() {
                            let first = self.empty_since.expect("a good set was replaced by an unconfirmed empty one");
                            assert!(self.now >= first + CONFIRM_AFTER);
                        }
                    }
                    self.in_force = Some(set);
                }
                Action::Withdraw => self.in_force = None,
                Action::Disbelieve => assert_eq!(landed, Some(0)),
                Action::Deny(absent) => assert!(absent.0.len() <= MAX_ABSENT),
                Action::Answer(waiter, answer) => {
                    let since = self.waiting.remove(&waiter).expect("answered twice");
                    assert!(self.now <= since + MAX_WAIT, "answered late");
                    if answer == Answer::Changed {
                        assert!(self.in_force.is_some());
                    }
                }
                Action::Arm(at) => self.timer = at,
            }
        }
        assert!(self.waiting.len() <= MAX_WAITERS);
    }

    /// Lets time pass, with all that falls due on the way.
    fn pass(&mut self, until: Duration) {
        loop {
            let landing = self.flight.as_ref().map_or(Duration::MAX, |(at, ..)| *at);
            let next = landing.min(self.timer.max(self.now));
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if landing <= self.timer {
                self.land();
            } else {
                self.step(Event::Tick);
                assert!(self.timer > self.now, "the timer spins");
            }
        }
        self.now = until;
    }

    fn land(&mut self) {
        let Some((_, brings, start)) = self.flight.take() else { return };
        let begun = self.now - self.latency.min(start.timeout);
        match brings {
            Some(keys) => {
                match keys[..] {
                    [] => _ = self.empty_since.get_or_insert(begun),
                    _ => self.empty_since = None,
                }
                self.step(Event::Fetched(set(keys)));
            }
            None => self.step(Event::Failed),
        }
    }

    fn request(&mut self, kid: &str) {
        let wanted = wanted(kid);
        if self.in_force.as_ref().is_some_and(|set| wanted.is_in(set)) {
            return;
        }
        let generation = self.in_force.as_ref().map(|set| set.generation());
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        self.waiting.insert(waiter, self.now);
        self.step(Event::Asked { wanted, generation, waiter });
    }

    fn made_up(&mut self) {
        self.made_up += 1;
        self.request(&format!("made up {}", self.made_up));
    }

    fn knows(&self, index: usize) -> bool {
        self.in_force.as_ref().is_some_and(|set| wanted(&format!("k{index}")).is_in(set))
    }

    fn rotate(&mut self) {
        self.newest = (self.newest + 1) % KEYS.len();
        self.keys.push(self.newest);
        if self.keys.len() > 2 {
            self.keys.remove(0);
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Rotate => self.rotate(),
            Happening::Mode(mode) => self.mode = *mode,
            Happening::Flood(requests) => (0..*requests).for_each(|_| self.made_up()),
            Happening::Genuine => self.request(&format!("k{}", self.newest)),
            Happening::Mismatch => {
                let generation = self.in_force.as_ref().map(|set| set.generation());
                self.step(Event::Mismatched { wanted: wanted(&format!("k{}", self.keys[0])), generation });
            }
            Happening::Refresh => self.step(Event::RefreshAsked),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        seed: u64,
        latency in 0u64..3_000,
        happenings in prop::collection::vec((pause(), happening()), 1..150),
    ) {
        let mut world = World::new(Duration::from_millis(latency), seed);
        for (pause, happening) in &happenings {
            let until = world.now + Duration::from_millis(*pause);
            world.pass(until);
            world.happen(happening);
        }
        // Everybody is answered, whatever became of the provider.
        let until = world.now + MAX_WAIT;
        world.pass(until);
        prop_assert!(world.waiting.is_empty());
        // And from a provider that answers again, keys come back.
        world.mode = Mode::Up;
        let until = world.now + MAX_BACKOFF + FETCH_TIMEOUT + 2 * world.latency + SEC;
        let asked = world.newest;
        while world.now < until {
            world.request(&format!("k{asked}"));
            let next = world.now + SEC;
            world.pass(next);
        }
        prop_assert!(world.knows(asked));
    }

    /// Bounded blindness: a key published at t is known by t + max(spacing cap, fetch time-out) + one fetch, if anybody
    /// needs it, however many made-up kids arrive all the time.
    #[test]
    fn a_flood_cannot_hide_a_new_key(
        seed: u64,
        latency in 0u64..2_000,
        outage in prop::option::of(0u64..20_000),
        warm_up in 3_000u64..30_000,
        rate in 1u64..200,
    ) {
        let mut world = World::new(Duration::from_millis(latency), seed);
        let flood = |world: &mut World, time: u64, genuine: Option<usize>| {
            let end = world.now + Duration::from_millis(time);
            while world.now < end && genuine.is_none_or(|index| !world.knows(index)) {
                world.made_up();
                // The next key's own name is among the guesses.
                if genuine.is_none() {
                    let next = (world.newest + 1) % KEYS.len();
                    world.request(&format!("k{next}"));
                }
                if let Some(index) = genuine {
                    world.request(&format!("k{index}"));
                }
                let next = (world.now + Duration::from_millis(rate)).min(end);
                world.pass(next);
            }
        };
        flood(&mut world, warm_up, None);
        if let Some(outage) = outage {
            world.mode = Mode::Down;
            flood(&mut world, outage, None);
            world.mode = Mode::Up;
        }
        world.rotate();
        let published = world.now;
        let index = world.newest;
        flood(&mut world, 60_000, Some(index));
        prop_assert!(world.knows(index));
        let took = world.now - published;
        // One step of the simulation on top.
        let bound = MAX_SPACING.max(FETCH_TIMEOUT) + world.latency + 2 * Duration::from_millis(rate);
        prop_assert!(took <= bound, "{took:?} > {bound:?}");
    }

    /// Without a flood nobody is refused: a rotation nobody announced is found within the wait.
    #[test]
    fn a_quiet_rotation_refuses_nobody(seed: u64, latency in 0u64..1_900, quiet in 0u64..200_000) {
        let mut world = World::new(Duration::from_millis(latency), seed);
        let until = world.latency + Duration::from_millis(quiet);
        world.pass(until);
        // Not while a scheduled fetch is in flight: the sum of two fetches may be longer than a wait.
        prop_assume!(world.flight.is_none());
        world.rotate();
        let index = world.newest;
        world.request(&format!("k{index}"));
        let until = world.now + MAX_WAIT;
        world.pass(until);
        prop_assert!(world.knows(index));
    }
}
