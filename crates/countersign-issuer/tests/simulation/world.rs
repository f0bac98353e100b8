//! Nodes and verifiers around one store, in virtual time. What a node's shell has to do is here, as simply as can be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_issuer::Now;
use countersign_issuer::Version;
use countersign_issuer::state::{KeyState, PublicJwk};
use countersign_issuer::step::{
    Command, Compromised, Effect, Event, Failure, Loaded, Node, OpenFailure, Role, Rule, SigningView, step,
};

use crate::oracle::Oracle;
use crate::random::Random;
use crate::scene::{Odds, Scene, millis};
use crate::store::{Public, Set, Store};

/// The epoch of the world, so that no clock is before 1970.
pub(crate) const EPOCH: u64 = 1_800_000_000_000;

/// After how long a shell gives up waiting for the store.
const TIMEOUT: u64 = 1_000;

pub(crate) struct World {
    pub(crate) scene: Scene,
    rule: Option<Rule>,
    random: Random,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    count: u64,
    store: Store,
    public: Public,
    processes: Vec<Process>,
    verifiers: Vec<Verifier>,
    edges: Vec<Option<EdgeCopy>>,
    keys: u64,
    stalled_until: u64,
    pub(crate) oracle: Oracle,
    pub(crate) log: Option<Vec<String>>,
}

struct Process {
    config: usize,
    role: Role,
    /// Which life of it: what was meant for an earlier one is lost.
    life: u64,
    /// The life that a request came from may be over, and another of the same name begun.
    node: Option<Node>,
    view: Option<SigningView>,
    /// The private parts in memory.
    memory: BTreeSet<String>,
    /// Milliseconds, of the wall clock.
    offset: i64,
    is_bad: bool,
    born: u64,
    /// The task that drives the node stands still until then; whoever signs may go on.
    hangs_until: u64,
    /// So does everything.
    sleeps_until: u64,
    wakes: u64,
}

/// What an edge has, for how long a verifier may keep it, and until when the edge does.
type EdgeCopy = (Arc<BTreeSet<String>>, u64, u64);

struct Verifier {
    offset: i64,
    cache: Option<(Arc<BTreeSet<String>>, u64)>,
}

#[derive(Debug)]
enum Happening {
    Wake {
        process: usize,
        life: u64,
        wake: u64,
    },
    Arrives {
        process: usize,
        life: u64,
        effect: Effect,
        reply_after: u64,
        misfortune: Option<Misfortune>,
        ends_at: u64,
    },
    Answered {
        process: usize,
        life: u64,
        event: Event,
    },
    Appears(u64),
    Signs {
        process: usize,
    },
    Restarts(usize),
    Ordered,
    ClockIsSet(usize),
    ClockIsRight(usize),
    PrivateIsLost,
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfortune {
    Refused,
    Lost,
    OwnConflict,
    Undecided,
}

impl World {
    pub(crate) fn new(seed: u64, rule: Option<Rule>) -> Self {
        let mut random = Random(seed);
        let mut scene = Scene::new(&mut random);
        scene.provoke(rule);
        let longest = |of: fn(&countersign_issuer::Timing) -> Duration| {
            scene.configs.iter().map(|config| millis(of(&config.timing))).max().unwrap_or(0)
        };
        let public = Public::new(longest(|timing| timing.publish_lag));
        let mut world = Self {
            rule,
            now: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            count: 0,
            store: Store::default(),
            public,
            processes: Vec::new(),
            verifiers: Vec::new(),
            edges: vec![None, None],
            keys: 0,
            stalled_until: 0,
            oracle: Oracle::default(),
            log: None,
            random,
            scene,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for index in 0..(self.scene.rotators + self.scene.signers) as usize {
            let role = if (index as u64) < self.scene.rotators { Role::Rotator } else { Role::Signer };
            let config = self.random.below(self.scene.configs.len() as u64) as usize;
            let offset = self.clock_error();
            self.processes.push(Process {
                config,
                role,
                life: 0,
                node: None,
                view: None,
                memory: BTreeSet::new(),
                offset,
                is_bad: false,
                born: 0,
                hangs_until: 0,
                sleeps_until: 0,
                wakes: 0,
            });
            let at = self.random.below(3_000);
            self.at(at, Happening::Restarts(index));
            self.at(at, Happening::Signs { process: index });
        }
        for _ in 0..self.scene.verifiers {
            let offset = self.clock_error();
            self.verifiers.push(Verifier { offset, cache: None });
        }
        if self.scene.has_commands {
            for _ in 0..self.random.between(1, 5) {
                let at = self.random.below(self.scene.end);
                self.at(at, Happening::Ordered);
            }
        }
        if self.scene.has_bad_clocks {
            let at = self.random.below(self.scene.trouble_until);
            let process = self.random.below(self.processes.len() as u64) as usize;
            self.at(at, Happening::ClockIsSet(process));
        }
        if self.scene.loses_privates {
            let at = self.random.below(self.scene.trouble_until);
            self.at(at, Happening::PrivateIsLost);
        }
        self.at(500, Happening::Look);
    }

    /// Any two clocks are `ε` apart at most; most often just that.
    fn clock_error(&mut self) -> i64 {
        let half = millis(self.scene.configs[0].timing.clock_error) as i64 / 2;
        match self.random.below(4) {
            0 => half,
            1 => -half,
            _ => self.random.below(2 * half as u64 + 1) as i64 - half,
        }
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.count += 1;
        self.queue.push(Reverse((time.max(self.now), self.count)));
        self.happenings.insert(self.count, happening);
    }

    /// The end of the world, or what was broken before.
    pub(crate) fn run(&mut self) -> Option<String> {
        while let Some(Reverse((time, number))) = self.queue.pop() {
            if time > self.scene.end || self.oracle.broken.is_some() {
                break;
            }
            self.now = time;
            if let Some(happening) = self.happenings.remove(&number) {
                self.happen(happening);
            }
        }
        self.oracle.broken.clone().map(|what| format!("at {} ms: {what}", self.now))
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>8} {}", self.now, text()));
        }
    }

    fn is_troubled(&self) -> bool {
        self.now < self.scene.trouble_until
    }

    fn odds(&self) -> Odds {
        let odds = self.scene.odds;
        // Lost answers that a client has repaired, and races, are everyday life.
        if self.is_troubled() { odds } else { Odds { own_conflict: odds.own_conflict, ..Odds::default() } }
    }

    fn trouble(&mut self) {
        self.trouble_until(self.now.max(1));
    }

    fn trouble_until(&mut self, time: u64) {
        self.oracle.last_trouble = self.oracle.last_trouble.max(time);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { process, life, wake } => {
                let it = &self.processes[process];
                if it.life == life && it.wakes == wake {
                    self.feed(process, Event::Tick);
                }
            }
            Happening::Answered { process, life, event } => {
                if self.processes[process].life != life {
                    return;
                }
                let idle_at = self.processes[process].hangs_until.max(self.processes[process].sleeps_until);
                if idle_at > self.now {
                    return self.at(idle_at, Happening::Answered { process, life, event });
                }
                self.feed(process, event);
            }
            Happening::Arrives { process, life, effect, reply_after, misfortune, ends_at } => {
                self.arrive(process, life, &effect, reply_after, misfortune, ends_at);
            }
            Happening::Appears(version) => {
                self.public.appear(version, self.now);
                self.oracle.appeared(&self.public, self.now);
                self.note(|| format!("set {version} appears"));
                self.verify();
            }
            Happening::Signs { process } => {
                self.sign(process);
                let after = self.random.between(100, 2_000);
                self.at(self.now + after, Happening::Signs { process });
            }
            Happening::Restarts(process) => self.restart(process),
            Happening::Ordered => self.order(),
            Happening::ClockIsSet(process) => self.set_clock(process),
            Happening::ClockIsRight(process) => {
                let offset = self.clock_error();
                (self.processes[process].offset, self.processes[process].is_bad) = (offset, false);
                self.trouble();
            }
            Happening::PrivateIsLost => self.lose_private(),
            Happening::Look => {
                self.verify();
                self.oracle.look(&self.store, &self.public, &self.scene.configs, self.now);
                self.at(self.now + 1_000, Happening::Look);
            }
        }
    }

    fn clock(&self, process: usize) -> Now {
        let it = &self.processes[process];
        let wall = (EPOCH + self.now).saturating_add_signed(it.offset);
        Now {
            wall: UnixTime::from_secs(0).saturating_add(Duration::from_millis(wall)),
            monotonic: Duration::from_millis(self.now - it.born),
        }
    }

    fn restart(&mut self, process: usize) {
        let seed = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let it = &mut self.processes[process];
        it.life += 1;
        it.born = self.now;
        it.memory.clear();
        it.view = None;
        it.hangs_until = 0;
        it.sleeps_until = 0;
        it.node = Some(Node::new(seed, it.role).breaking(self.rule));
        self.note(|| format!("{process} starts"));
        self.feed(process, Event::Tick);
    }

    fn crash(&mut self, process: usize) {
        self.note(|| format!("{process} dies"));
        let it = &mut self.processes[process];
        it.life += 1;
        it.node = None;
        it.view = None;
        it.memory.clear();
        self.trouble();
        let after = self.random.any_length(20_000);
        self.at(self.now + after, Happening::Restarts(process));
    }

    /// One step of a node, and what its shell makes of it.
    fn feed(&mut self, process: usize, event: Event) {
        let idle_at = self.processes[process].hangs_until.max(self.processes[process].sleeps_until);
        if idle_at > self.now {
            let life = self.processes[process].life;
            return self.at(idle_at, Happening::Answered { process, life, event });
        }
        let Some(node) = self.processes[process].node.take() else { return };
        let text = match &event {
            Event::Loaded(Ok(Loaded { state: Some((state, _)), .. })) => format!("Loaded {}", state.seq),
            Event::PublishedRead(Ok(Some((_, version)))) => format!("PublishedRead {}", version.as_str()),
            Event::ReadBack(Ok(bytes)) => format!("ReadBack {:?}", countersign_issuer::publication::Found::read(bytes)),
            other => format!("{other:?}"),
        };
        self.note(|| format!("{process} <- {text}"));
        let now = self.clock(process);
        let is_bad = self.processes[process].is_bad;
        let config = &self.scene.configs[self.processes[process].config];
        let (node, effects) = step(config, node, now, event);
        self.processes[process].view = Some(node.signing_view(config));
        self.processes[process].node = Some(node);
        let odds = self.odds();
        let mut delay = 0;
        if self.random.in_1000(odds.pause) {
            let until = (self.now + self.random.any_length(300_000)).min(self.scene.trouble_until);
            delay = until.saturating_sub(self.now);
            self.note(|| format!("{process} stands still until {until}"));
            if self.random.in_1000(500) {
                self.processes[process].hangs_until = until;
            } else {
                self.processes[process].sleeps_until = until;
            }
            self.trouble_until(until);
        }
        for effect in effects {
            let may_crash = !matches!(effect, Effect::Wake(_));
            if may_crash && self.random.in_1000(odds.crash / 2) {
                return self.crash(process);
            }
            let is_order = matches!(&effect, Effect::Save { .. }) && !is_bad;
            if matches!(&effect, Effect::Save { .. }) && !is_order && !self.scene.has_commands {
                self.oracle.fail(format!("{process} writes with a clock that is wrong"));
            }
            self.execute(process, effect, delay);
            if may_crash && self.random.in_1000(odds.crash / 2) {
                return self.crash(process);
            }
        }
    }

    fn execute(&mut self, process: usize, effect: Effect, delay: u64) {
        let life = self.processes[process].life;
        match effect {
            Effect::Wake(after) => {
                self.processes[process].wakes += 1;
                let wake = self.processes[process].wakes;
                let at = self.now + delay.max(after.as_millis() as u64).max(1);
                self.at(at, Happening::Wake { process, life, wake });
            }
            Effect::Generate { slot } => {
                self.keys += 1;
                let kid = format!("k{}", self.keys);
                let jwk = PublicJwk::new(&serde_json::json!({ "kid": kid, "kty": "OKP", "x": kid })).unwrap();
                self.processes[process].memory.insert(kid);
                let after = delay + self.random.any_length(1_000);
                let key = (!self.random.in_1000(self.odds().refused / 4)).then_some(jwk);
                if key.is_none() {
                    self.trouble();
                }
                self.at(self.now + after, Happening::Answered { process, life, event: Event::Generated { slot, key } });
            }
            Effect::Forget { kid } => {
                self.note(|| format!("{process} forgets {kid}"));
                self.processes[process].memory.remove(&kid);
            }
            Effect::Reply { id, reply } => self.note(|| format!("{process} answers {id}: {reply:?}")),
            Effect::Alarm(alarm) => {
                if let countersign_issuer::step::Alarm::Defect(what) = &alarm {
                    self.oracle.fail(format!("{process}: {what}"));
                }
                self.note(|| format!("{process} alarms {alarm:?}"));
            }
            Effect::Clear(alarm) => self.note(|| format!("{process} clears {alarm:?}")),
            Effect::Note(note) => self.note(|| format!("{process} notes {note:?}")),
            effect => self.send(process, &effect, delay),
        }
    }

    /// On its way to the store, or whatever else is outside.
    fn send(&mut self, process: usize, effect: &Effect, delay: u64) {
        let life = self.processes[process].life;
        if let Effect::Seal { kid } = effect
            && !self.processes[process].memory.contains(kid)
        {
            self.oracle.fail(format!("{process} was to seal {kid}, which it has forgotten"));
        }
        let odds = self.odds();
        let usual = |random: &mut Random| random.any_length(150);
        let (mut there, mut back) = (usual(&mut self.random), usual(&mut self.random));
        if self.random.in_1000(odds.slow) {
            there = self.random.any_length(120_000);
        }
        if self.random.in_1000(odds.slow) {
            back = self.random.any_length(20_000);
        }
        let misfortune = if self.random.in_1000(odds.refused) {
            Some(Misfortune::Refused)
        } else if self.random.in_1000(odds.lost) {
            Some(Misfortune::Lost)
        } else if self.random.in_1000(odds.own_conflict) {
            Some(Misfortune::OwnConflict)
        } else if self.random.in_1000(odds.undecided) {
            Some(Misfortune::Undecided)
        } else {
            None
        };
        let is_late = there + back > TIMEOUT;
        if is_late || matches!(misfortune, Some(Misfortune::Refused | Misfortune::Lost | Misfortune::Undecided)) {
            self.trouble_until(self.now + delay + there);
        }
        let ends_at = self.now + delay + TIMEOUT;
        let text = match effect {
            Effect::Save { state, .. } => format!("Save {}", state.seq),
            Effect::Publish { publication, .. } => format!("Publish {}", publication.seq),
            other => format!("{other:?}"),
        };
        self.note(|| format!("{process} -> {text}, arrives after {} {misfortune:?}", delay + there));
        let at = self.now + delay + there;
        self.at(
            at,
            Happening::Arrives { process, life, effect: effect.clone(), reply_after: back, misfortune, ends_at },
        );
        if at + back > ends_at || misfortune == Some(Misfortune::Lost) {
            let event = gave_up(effect);
            self.at(ends_at, Happening::Answered { process, life, event });
        }
    }

    /// At the store. The process that has sent it may be dead.
    fn arrive(
        &mut self,
        process: usize,
        life: u64,
        effect: &Effect,
        reply_after: u64,
        misfortune: Option<Misfortune>,
        ends_at: u64,
    ) {
        let is_conditional = matches!(effect, Effect::Save { .. } | Effect::Publish { .. } | Effect::Seal { .. });
        let event = match misfortune {
            Some(Misfortune::Refused) => failed(effect, Failure::Unavailable),
            Some(Misfortune::Undecided) if is_conditional => failed(effect, Failure::Conflict),
            _ => {
                let event = self.apply(process, life, effect);
                let was_applied = matches!(
                    event,
                    Event::Saved(Ok(_)) | Event::Published(Ok(_)) | Event::Sealed { result: Ok(()), .. }
                );
                if misfortune == Some(Misfortune::OwnConflict) && was_applied {
                    failed(effect, Failure::Conflict)
                } else {
                    event
                }
            }
        };
        let at = self.now + reply_after;
        if at <= ends_at && misfortune != Some(Misfortune::Lost) {
            self.at(at, Happening::Answered { process, life, event });
        }
    }

    fn apply(&mut self, process: usize, life: u64, effect: &Effect) -> Event {
        let number =
            |version: &Option<Version>| version.as_ref().map(|version| version.as_str().parse::<u64>().unwrap());
        let version = |number: u64| Version::new(number.to_string());
        let outcome = |saved: Option<u64>| saved.map(version).ok_or(Failure::Conflict);
        match effect {
            Effect::Load => {
                let state = self.store.state.as_ref().map(|(state, number)| (state.clone(), version(*number)));
                let store_time = Some(UnixTime::from_secs(((EPOCH + self.now) / 1_000) as i64));
                Event::Loaded(Ok(Loaded { state, store_time }))
            }
            Effect::Save { state, expected } => {
                let before = self.store.state.as_ref().map(|(state, _)| state.clone());
                let saved = self.store.save(state, number(expected));
                if saved.is_some() {
                    self.note(|| format!("version {} of {process} lands", state.seq));
                    self.oracle.landed(before.as_deref(), state, &self.scene.configs, self.now);
                }
                Event::Saved(outcome(saved))
            }
            Effect::ReadPublished => {
                let set = self.store.set.as_ref().map(|(bytes, number)| (bytes.clone(), version(*number)));
                Event::PublishedRead(Ok(set))
            }
            Effect::Publish { publication, expected } => {
                let is_conditional = self.rule != Some(Rule::PublishIsConditional);
                let saved = self.store.publish(publication, number(expected), is_conditional);
                if let Some(number) = saved {
                    self.note(|| format!("set {} of {process} is {number}", publication.seq));
                    self.public.sets.insert(number, Set::new(publication));
                    self.let_appear(number);
                }
                Event::Published(outcome(saved))
            }
            Effect::ReadBack => Event::ReadBack(self.read_back()),
            Effect::Seal { kid } => {
                let is_new = self.store.privates.insert(kid.clone());
                Event::Sealed { kid: kid.clone(), result: if is_new { Ok(()) } else { Err(Failure::Conflict) } }
            }
            Effect::Open { kid, .. } => {
                let is_there = self.store.privates.contains(kid);
                if is_there && self.processes[process].life == life {
                    self.processes[process].memory.insert(kid.clone());
                }
                Event::Opened { kid: kid.clone(), result: if is_there { Ok(()) } else { Err(OpenFailure::NotFound) } }
            }
            Effect::Destroy { kid } => {
                self.oracle.destroyed(kid, &self.store);
                self.store.privates.remove(kid);
                Event::Destroyed { kid: kid.clone(), result: Ok(()) }
            }
            Effect::ListSealed => Event::SealedListed(Ok(self.store.privates.iter().cloned().collect())),
            Effect::PushRevocation { kid, .. } => {
                self.oracle.pushed.insert(kid.clone());
                Event::RevocationPushed { kid: kid.clone(), is_done: true }
            }
            other => panic!("{other:?} goes nowhere"),
        }
    }

    fn let_appear(&mut self, version: u64) {
        // Most often at once; now and then whoever serves it hangs, and with it all that come after.
        let stall = if self.is_troubled() { self.scene.longest_stall } else { 200 };
        let at = (self.now + self.random.any_length(stall)).max(self.stalled_until);
        if at > self.now + TIMEOUT {
            self.trouble_until(at);
        }
        self.stalled_until = at;
        self.at(at, Happening::Appears(version));
    }

    /// Through the same caches as everybody; most often what is newest.
    fn read_back(&mut self) -> Result<Arc<[u8]>, Failure> {
        let newest = self.public.newest().map(|set| set.bytes.clone());
        let possible: Vec<_> = self.public.possible(self.now).map(|set| set.bytes.clone()).collect();
        if self.random.in_1000(700) || possible.is_empty() {
            return newest.ok_or(Failure::NotFound);
        }
        Ok(self.random.one_of(&possible).clone())
    }

    fn sign(&mut self, process: usize) {
        if self.processes[process].sleeps_until > self.now {
            return;
        }
        let now = self.clock(process);
        let Some(view) = self.processes[process].view.clone() else { return };
        for slot in view.slots() {
            let Ok(leave) = view.leave(slot, now) else { continue };
            if !self.processes[process].memory.contains(leave.kid) {
                self.oracle.fail(format!("{process} was to sign with {}, which it does not have", leave.kid));
            }
            if self.processes[process].is_bad {
                self.oracle.fail(format!("{process} signs with a clock that is wrong"));
            }
            let timing = &self.scene.configs[0].timing;
            let exp = millis(leave.latest_exp.saturating_since(UnixTime::from_secs(0))).saturating_sub(EPOCH);
            let slowest = millis(timing.clock_error) / 2;
            let until = exp + millis(timing.leeway) + slowest;
            self.oracle.signed(leave.kid, until, &self.public, self.now);
        }
        self.verify();
    }

    /// Verifiers that are real, as far as they can be here: each has a cache, and fetches again when it is old, never
    /// before.
    fn verify(&mut self) {
        let timing = self.scene.configs[0].timing;
        for index in 0..self.verifiers.len() {
            let is_old = self.verifiers[index].cache.as_ref().is_none_or(|(_, until)| *until <= self.now);
            // Now and then one starts anew.
            if is_old || self.random.in_1000(5) {
                self.verifiers[index].cache = self.fetch();
            }
            let Some((kids, _)) = self.verifiers[index].cache.clone() else { continue };
            let slowest = (millis(timing.clock_error) / 2) as i64;
            let offset = self.verifiers[index].offset;
            let by_its_clock =
                |until: u64| self.now.saturating_add_signed(offset) < until.saturating_add_signed(-slowest);
            let refused = self.oracle.live(self.now).find(|(kid, until)| by_its_clock(**until) && !kids.contains(*kid));
            if let Some((kid, _)) = refused {
                let what = format!("verifier {index} refuses a token of {kid}");
                self.oracle.fail(what);
            }
        }
    }

    /// Through an edge that keeps what it has for as long as a verifier would, and does not say how old it is.
    fn fetch(&mut self) -> Option<(Arc<BTreeSet<String>>, u64)> {
        let edge = self.random.below(self.edges.len() as u64) as usize;
        let is_old = self.edges[edge].as_ref().is_none_or(|(_, _, until)| *until <= self.now);
        if is_old {
            let origin = self.public.at_origin(self.now);
            if origin.is_empty() {
                return None;
            }
            let set = *self.random.one_of(&origin);
            self.edges[edge] = Some((Arc::new(set.kids.clone()), set.max_age, self.now + set.max_age));
        }
        self.edges[edge].as_ref().map(|(kids, max_age, _)| (kids.clone(), self.now + max_age))
    }

    fn order(&mut self) {
        let process = self.random.below(self.scene.rotators) as usize;
        let Some((state, _)) = self.store.state.clone() else { return };
        let live: Vec<_> =
            state.keys.iter().filter(|(_, key)| key.state.needs_private()).map(|(kid, _)| kid.clone()).collect();
        let slots: Vec<_> = state.slots.keys().cloned().collect();
        let sign_at_once = self.random.in_1000(300);
        let command = match self.random.below(6) {
            0 | 1 => Command::Rotate { slots: Vec::new() },
            2 if !live.is_empty() => Command::Abandon { kid: self.random.one_of(&live).clone() },
            3 if !live.is_empty() => {
                let which = Compromised::Key(self.random.one_of(&live).clone());
                Command::Compromise { which, sign_at_once }
            }
            4 => Command::Compromise { which: Compromised::Signing(Vec::new()), sign_at_once },
            _ => Command::Compromise { which: Compromised::All, sign_at_once },
        };
        match &command {
            Command::Compromise { sign_at_once: true, .. } => self.oracle.may_sign_at_once = true,
            Command::Rotate { .. } => self.oracle.may_rotate.extend(slots),
            Command::Abandon { kid } => drop(self.oracle.may_abandon.insert(kid.clone())),
            _ => {}
        }
        // It may take until a whole new key has been announced.
        self.trouble();
        let id = self.random.next();
        self.feed(process, Event::Command { id, command });
    }

    fn set_clock(&mut self, process: usize) {
        let error = millis(self.scene.configs[0].timing.clock_error) as i64;
        let by = error * 2 + 5_000 + self.random.any_length(1_000_000) as i64;
        self.processes[process].offset = if self.random.in_1000(500) { by } else { -by };
        self.processes[process].is_bad = true;
        self.trouble();
        self.note(|| format!("{process}'s clock is wrong"));
        if self.random.in_1000(300) {
            self.crash(process);
        }
        let after = self.random.any_length(120_000);
        // Until then it may be the only one, and must not do anything.
        self.trouble_until(self.now + after);
        self.at(self.now + after, Happening::ClockIsRight(process));
    }

    fn lose_private(&mut self) {
        let Some((state, _)) = self.store.state.clone() else { return };
        let mut active = state.keys.iter().filter(|(_, key)| key.state == KeyState::Active);
        let Some((kid, key)) = active.next_back() else { return };
        self.note(|| format!("the private part of {kid} is lost"));
        self.trouble();
        self.store.privates.remove(kid);
        self.oracle.may_rotate.push(key.slot.clone());
    }
}

/// What a shell says when the store does not answer in time.
fn gave_up(effect: &Effect) -> Event {
    match effect {
        Effect::Save { .. } | Effect::Publish { .. } | Effect::Seal { .. } => failed(effect, Failure::Unknown),
        _ => failed(effect, Failure::Unavailable),
    }
}

fn failed(effect: &Effect, failure: Failure) -> Event {
    match effect {
        Effect::Load => Event::Loaded(Err(failure)),
        Effect::Save { .. } => Event::Saved(Err(failure)),
        Effect::ReadPublished => Event::PublishedRead(Err(failure)),
        Effect::Publish { .. } => Event::Published(Err(failure)),
        Effect::ReadBack => Event::ReadBack(Err(failure)),
        Effect::Seal { kid } => Event::Sealed { kid: kid.clone(), result: Err(failure) },
        Effect::Open { kid, .. } => Event::Opened { kid: kid.clone(), result: Err(OpenFailure::Unavailable) },
        Effect::Destroy { kid } => Event::Destroyed { kid: kid.clone(), result: Err(failure) },
        Effect::ListSealed => Event::SealedListed(Err(failure)),
        Effect::PushRevocation { kid, .. } => Event::RevocationPushed { kid: kid.clone(), is_done: false },
        other => panic!("{other:?} does not fail"),
    }
}
