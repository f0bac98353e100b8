//! Every course of a small world: two rotators, a signer, a verifier, two rotations. Time is in whole seconds; whatever
//! is not compare-and-swap of the state happens at
//! once. A write may land now or later, be lost, or land and be answered with a conflict or not at all; a node may
//! sleep or die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_issuer::Version;
use countersign_issuer::publication::Found;
use countersign_issuer::state::{KeyState, PublicJwk, RingState};
use countersign_issuer::step::{Command, Effect, Event, Failure, Loaded, Node, OpenFailure, Role, Rule, step};
use countersign_issuer::{Now, RingConfig, Slot};
use countersign_token::Algorithm;
use stateright::{Checker, Model, Property};

/// How much goes wrong in one course. More would be more courses than can be looked at in a test.
const FAULTS: u8 = 1;

/// How long a course is: two rotations, and the removal of the key that was first.
const SECONDS: u64 = 10;

const ROTATORS: usize = 2;
const SIGNER: usize = 2;

const SLOT: &str = "es256";

struct Small {
    config: RingConfig,
    rule: Option<Rule>,
    faults: u8,
    seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: u64,
    end: u64,
    /// By how many seconds each node's clock is ahead.
    offsets: [u64; 3],
    nodes: Vec<Option<Node>>,
    /// Whether it has looked at the clock in this second.
    has_ticked: [bool; 3],
    /// Writes under way.
    writes: Vec<(usize, Arc<RingState>, Option<Version>)>,
    state: Option<(Arc<RingState>, u64)>,
    set: Option<(Arc<[u8]>, u64)>,
    /// What somebody may verify by, and from when on nobody.
    sets: Vec<(BTreeSet<String>, Option<u64>)>,
    privates: BTreeSet<String>,
    tokens: BTreeMap<String, u64>,
    versions: u64,
    keys: u64,
    faults: u8,
    rotations: u8,
    broken: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// Another second; who has not looked at the clock has slept.
    Second,
    Tick(usize),
    Lands(usize, Answer),
    Dies(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    True,
    Conflict,
    None,
    /// Nothing has landed, and nobody says so.
    Dropped,
}

fn config() -> RingConfig {
    let mut config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    let second = Duration::from_secs(1);
    let timing = &mut config.timing;
    (timing.max_age, timing.intermediary, timing.publish_lag) = (second * 3, Duration::ZERO, Duration::ZERO);
    (timing.clock_error, timing.leeway, timing.max_lifetime) = (second, Duration::ZERO, second * 3);
    (timing.lease, timing.tick) = (second, second);
    (timing.publish, timing.keygen) = (Duration::ZERO, Duration::ZERO);
    timing.rotation = second * 5;
    timing.overlap = second * 6;
    timing.heartbeat = second * 1_000;
    config
}

impl World {
    fn clock(&self, node: usize) -> Now {
        let seconds = self.now + self.offsets[node];
        Now { wall: UnixTime::from_secs(1_000 + seconds as i64), monotonic: Duration::from_secs(self.now) }
    }

    fn feed(&mut self, small: &Small, index: usize, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let Some(node) = self.nodes[index].take() else { return };
            let (node, effects) = step(&small.config, node, self.clock(index), event);
            self.nodes[index] = Some(node);
            for effect in effects {
                events.extend(self.execute(index, effect));
            }
        }
        self.sign(small, index);
    }

    /// What is not a write of the state is done and answered at once.
    fn execute(&mut self, index: usize, effect: Effect) -> Option<Event> {
        let version = |number: u64| Version::new(number.to_string());
        Some(match effect {
            Effect::Save { state, expected } => {
                self.writes.push((index, state, expected));
                return None;
            }
            Effect::Load => {
                let state = self.state.as_ref().map(|(state, number)| (state.clone(), version(*number)));
                Event::Loaded(Ok(Loaded { state, store_time: None }))
            }
            Effect::Generate { slot } => {
                self.keys += 1;
                let kid = format!("k{}", self.keys);
                Event::Generated { slot, key: PublicJwk::new(&serde_json::json!({ "kid": kid, "kty": "OKP" })).ok() }
            }
            Effect::ReadPublished => {
                Event::PublishedRead(Ok(self.set.as_ref().map(|(bytes, number)| (bytes.clone(), version(*number)))))
            }
            Effect::Publish { publication, expected } => {
                if self.set.as_ref().map(|(_, number)| version(*number)) != expected {
                    return Some(Event::Published(Err(Failure::Conflict)));
                }
                self.versions += 1;
                let (kids, now) = (Found::read(&publication.bytes).unwrap().kids, self.now);
                let cached = publication.max_age.as_secs();
                for (_, until) in &mut self.sets {
                    until.get_or_insert(now + cached);
                }
                self.sets.retain(|(_, until)| until.is_none_or(|until| until > now));
                self.sets.push((kids.into_iter().collect(), None));
                self.set = Some((publication.bytes, self.versions));
                Event::Published(Ok(version(self.versions)))
            }
            Effect::ReadBack => {
                Event::ReadBack(self.set.as_ref().map(|(bytes, _)| bytes.clone()).ok_or(Failure::NotFound))
            }
            Effect::Seal { kid } => {
                let is_new = self.privates.insert(kid.clone());
                Event::Sealed { kid, result: if is_new { Ok(()) } else { Err(Failure::Conflict) } }
            }
            Effect::Open { kid, .. } => {
                let is_there = self.privates.contains(&kid);
                Event::Opened { kid, result: if is_there { Ok(()) } else { Err(OpenFailure::NotFound) } }
            }
            Effect::Destroy { kid } => {
                self.privates.remove(&kid);
                Event::Destroyed { kid, result: Ok(()) }
            }
            Effect::ListSealed => Event::SealedListed(Ok(Vec::new())),
            Effect::PushRevocation { kid, .. } => Event::RevocationPushed { kid, is_done: true },
            Effect::Alarm(countersign_issuer::step::Alarm::Defect(what)) => {
                self.broken = Some(what);
                return None;
            }
            _ => return None,
        })
    }

    fn sign(&mut self, small: &Small, index: usize) {
        let Some(node) = &self.nodes[index] else { return };
        let view = node.signing_view(&small.config);
        let Ok(leave) = view.leave(SLOT, self.clock(index)) else { return };
        // Accepted until then by a verifier whose clock is right.
        let until = (leave.latest_exp.as_secs() - 1_000) as u64;
        let latest = self.tokens.entry(leave.kid.to_owned()).or_default();
        *latest = until.max(*latest);
    }

    fn land(&mut self, small: &Small, index: usize, answer: Answer) {
        let Some(at) = self.writes.iter().position(|(node, ..)| *node == index) else { return };
        let (_, state, expected) = self.writes.remove(at);
        let number = self.state.as_ref().map(|(_, number)| Version::new(number.to_string()));
        let mut result = Err(Failure::Conflict);
        if answer != Answer::Dropped && number == expected {
            let before = self.state.take().map(|(before, _)| before);
            self.judge(before.as_deref(), &state);
            self.versions += 1;
            self.state = Some((state, self.versions));
            result = Ok(Version::new(self.versions.to_string()));
        }
        let result = match answer {
            Answer::True => result,
            Answer::Conflict => Err(Failure::Conflict),
            Answer::None | Answer::Dropped => Err(Failure::Unknown),
        };
        self.feed(small, index, Event::Saved(result));
    }

    fn judge(&mut self, before: Option<&RingState>, after: &RingState) {
        let Some(before) = before else { return };
        if let Err(violation) = after.check_after(before) {
            self.broken = Some(violation.to_string());
        }
        let ended =
            |kid: &String| before.fate(kid) == Some(KeyState::Active) && after.fate(kid) == Some(KeyState::Retiring);
        self.rotations += before.keys.keys().filter(|kid| ended(kid)).count() as u8;
    }

    /// A key that has live tokens and is not in every set that somebody may verify by.
    fn refused(&self) -> Option<&String> {
        let possible = |until: &Option<u64>| until.is_none_or(|until| self.now < until);
        let live = self.tokens.iter().filter(|(_, until)| self.now < **until).map(|(kid, _)| kid);
        let mut live = live.filter(|kid| self.sets.iter().any(|(kids, until)| possible(until) && !kids.contains(*kid)));
        live.next()
    }

    fn pass(&mut self) {
        self.now += 1;
        self.has_ticked = [false; 3];
        let now = self.now;
        self.tokens.retain(|_, until| now < *until);
    }
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        // Which clock is ahead makes a difference.
        [[0, 1, 0], [1, 0, 1]].into_iter().map(|offsets| self.begun(offsets)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let may_fail = world.faults < self.faults;
        for index in 0..ROTATORS {
            if world.writes.iter().any(|(node, ..)| *node == index) {
                actions.push(Action::Lands(index, Answer::True));
                if may_fail {
                    actions.extend(
                        [Answer::Conflict, Answer::None, Answer::Dropped].map(|answer| Action::Lands(index, answer)),
                    );
                }
            }
            if may_fail && world.nodes[index].is_some() {
                actions.push(Action::Dies(index));
            }
        }
        let rested = (0..=SIGNER).filter(|index| !world.has_ticked[*index] && world.nodes[*index].is_some());
        let rested: Vec<_> = rested.collect();
        actions.extend(rested.iter().map(|index| Action::Tick(*index)));
        // A second in which something is left undone is one in which somebody has slept, or a write was slow.
        let is_idle = rested.is_empty() && world.writes.is_empty();
        if is_idle || may_fail {
            actions.push(Action::Second);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Second => {
                let is_idle = world.writes.is_empty()
                    && (0..=SIGNER).all(|index| world.has_ticked[index] || world.nodes[index].is_none());
                world.faults += u8::from(!is_idle);
                world.pass();
            }
            Action::Tick(index) => {
                world.has_ticked[index] = true;
                self.wake(&mut world, index);
            }
            Action::Lands(index, answer) => {
                world.faults += u8::from(answer != Answer::True);
                world.land(self, index, answer);
            }
            Action::Dies(index) => {
                world.faults += 1;
                world.nodes[index] = None;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("every live token is accepted", |_, world| world.refused().is_none()),
            Property::<Self>::always("each version follows from the one before", |_, world| world.broken.is_none()),
            Property::<Self>::sometimes("two rotations", |_, world| world.rotations >= 2),
        ]
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.now <= world.end && world.rotations <= 2
    }
}

impl Small {
    fn wake(&self, world: &mut World, index: usize) {
        world.feed(self, index, Event::Tick);
    }

    /// A ring that one node has begun: a key signs.
    fn begun(&self, offsets: [u64; 3]) -> World {
        let node = |seed, role| Some(Node::new(seed, role).breaking(self.rule));
        let mut world = World {
            now: 0,
            end: 0,
            offsets,
            nodes: vec![node(1, Role::Rotator), None, None],
            has_ticked: [false; 3],
            writes: Vec::new(),
            state: None,
            set: None,
            sets: Vec::new(),
            privates: BTreeSet::new(),
            tokens: BTreeMap::new(),
            versions: 0,
            keys: 0,
            faults: 0,
            rotations: 0,
            broken: None,
        };
        let is_running = |world: &World| world.state.as_ref().is_some_and(|(ring, _)| ring.active(SLOT).is_some());
        while !is_running(&world) {
            assert!(world.now < 10, "no ring begins");
            world.pass();
            self.wake(&mut world, 0);
            while !world.writes.is_empty() && !is_running(&world) {
                world.land(self, 0, Answer::True);
            }
        }
        // The first rotation is as early as it may be: what it waits for is I1 and nothing else.
        world.feed(self, 0, Event::Command { id: 1, command: Command::Rotate { slots: Vec::new() } });
        world.end = world.now + self.seconds;
        (world.nodes[1], world.nodes[2]) = (node(2, Role::Rotator), node(3, Role::Signer));
        world
    }
}

fn check(rule: Option<Rule>, faults: u8, seconds: u64) -> impl Checker<Small> {
    let config = config();
    config.check().unwrap();
    let small = Small { config, rule, faults, seconds };
    small.checker().threads(2).spawn_dfs().join()
}

#[test]
fn every_course_of_a_small_ring_keeps_every_token_good() {
    let checker = check(None, FAULTS, SECONDS);
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn a_small_ring_that_leaves_out_the_difference_of_clocks_is_found_out() {
    check(Some(Rule::ClockError), FAULTS, SECONDS).assert_any_discovery("every live token is accepted");
}

#[test]
fn a_small_ring_that_does_not_wait_for_caches_is_found_out() {
    check(Some(Rule::Announcement), FAULTS, SECONDS).assert_any_discovery("every live token is accepted");
}

#[test]
fn a_small_ring_that_removes_keys_early_is_found_out() {
    check(Some(Rule::Retention), FAULTS, SECONDS).assert_any_discovery("every live token is accepted");
}

#[test]
fn a_small_ring_that_goes_by_numbers_instead_of_nonces_is_found_out() {
    check(Some(Rule::NonceIsCompared), FAULTS, SECONDS)
        .assert_any_discovery("each version follows from the one before");
}
