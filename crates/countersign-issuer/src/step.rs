//! What a node does, when: a state machine without clock, randomness or I/O. [`step`] takes what has happened
//! ([`Event`]) and the time, and says what is to be done ([`Effect`]); a shell ([`Ring`](crate::Ring)) does it and
//! reports back.
//!
//! A node is driven by what it sees, not by what it remembers of its plans: after each event it looks at the state of
//! the ring, at the time and at its own hands (the private keys that it has in memory), and asks for what is missing. So
//! an answer that is lost, a process that dies and another node that was faster all end the same way: somebody looks
//! again.
//!
//! The steps 1 to 10 of a key's life are those of the last table of `INVARIANTS.md`; I1 to I11 are its invariants. The
//! *view* is the state as the node has last seen it; a *draft* is the next version, which is written over just that
//! view; a write whose answer left open whether it was made is *in doubt* until the state was read again.
//!
//! - `draft.rs` and below: the next version of the state that follows from the one in view, the time, and what this
//!   node knows (the numbered steps 2, 4, 7, 8 and 10).
//! - `work.rs`: everything else that has to be done (steps 1, 3, 5, 6 and 9).
//! - `answers.rs`: what is made of the store's answers, the doubtful ones in particular; `published.rs` and
//!   `privates.rs`: of those about the set, and about private parts.
//! - `orders.rs`: commands (orders, once the node has them). `signing.rs`: who may sign. `clock.rs`: whether the time is
//!   to be believed. `vocabulary.rs`: events, effects, commands, alarms.

mod answers;
mod clock;
mod draft;
mod orders;
mod privates;
mod published;
mod rule;
mod signing;
mod vocabulary;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;

use crate::config::RingConfig;
use crate::state::{KeyState, PublicJwk, RingState};
use crate::store::Version;
use crate::time::Now;
pub use rule::Rule;
pub use signing::{Leave, NotSigning, SigningView};
pub use vocabulary::{
    Adopted, Alarm, Command, Compromised, Effect, Event, Exposure, Failure, Loaded, Note, OpenFailure, ReadSet,
    Refusal, Reply,
};

/// What a node does in the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// All there is to do.
    #[default]
    Rotator,
    /// It signs and serves; it reads the state and the private keys, and writes neither, nor the set. It takes no
    /// orders.
    Signer,
}

/// One process that takes part in a ring: what it has seen, what it holds, what it is waiting for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    name: String,
    seed: u64,
    writes: u64,
    role: Role,
    broken: Option<Rule>,
    clock: clock::Soundness,
    view: Option<View>,
    traffic: Traffic,
    doubt: Option<Write>,
    load_due: Duration,
    load_failures: u32,
    /// Before when nothing is written, because of how the last writes went.
    save_due: Duration,
    save_failures: u32,
    /// An older state than one that was seen, and what is remembered of the later one.
    memory: Option<Arc<RingState>>,
    is_regress_suspected: bool,
    /// The private parts that the shell has in memory.
    hands: BTreeMap<String, Hand>,
    /// Keys that were made and are not in the state yet, by slot.
    pool: BTreeMap<String, PublicJwk>,
    /// What was asked for, or failed.
    tasks: BTreeMap<Task, Progress>,
    /// When a key was read back.
    seen: BTreeMap<String, UnixTime>,
    /// How often in a row a private part was certainly not there, and whether that was when the key was announced only,
    /// when it need not have been.
    missing: BTreeMap<String, (bool, u32)>,
    /// Private parts that cannot be what they should be.
    spoilt: BTreeMap<String, OpenFailure>,
    /// Private parts that are certainly gone.
    destroyed: BTreeSet<String>,
    /// Revocations that the sink has, or is being told, and until when.
    pushed: BTreeMap<String, UnixTime>,
    /// The names of stored private parts, to be compared with the next state that is read.
    listed: Option<Vec<String>>,
    published: Option<PublishedSet>,
    /// The number of the set that is being published; the state may go on meanwhile.
    publishing: u64,
    /// The published set has a later number than the state had.
    ahead: Option<u64>,
    orders: Vec<Order>,
    alarms: BTreeSet<Alarm>,
    /// Since when there is something to do, and in which version.
    idle_until: Option<(u64, Duration)>,
    /// It makes no keys any more.
    is_ending: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct View {
    ring: Arc<RingState>,
    version: Option<Version>,
    /// When the look began, or the write: it was so then, or later.
    read_at: Now,
}

/// Reading and writing the state, one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Traffic {
    Idle,
    Loading { sent: Now },
    Saving { sent: Now, write: Write },
}

/// A version of this node's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    state: Arc<RingState>,
    /// What is answered if it succeeds, with the name of the order.
    replies: Vec<(u64, String, Reply)>,
}

/// How well the shell has the private part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Hand {
    /// In memory and nowhere else, as far as is known.
    Fresh,
    /// It was stored, or may have been.
    Stored,
    /// It was read from the store, and signs what the published key verifies.
    Ready,
}

/// What is asked of the shell besides the state, one of each at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Task {
    Generate(String),
    ReadPublished,
    Publish,
    ReadBack,
    Seal(String),
    Open(String),
    Destroy(String),
    List,
    Push(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    is_under_way: bool,
    failures: u32,
    not_before: Duration,
}

/// The published set as this node has last seen or made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PublishedSet {
    seq: Option<u64>,
    kids: Vec<String>,
    version: Option<Version>,
    checked_at: Duration,
    /// It was read, and no write over it has been tried since.
    is_fresh: bool,
    /// The set is not the one that the state has under this number.
    is_edited: bool,
}

/// A command that is not done yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Order {
    id: u64,
    /// Unlike that of any other order of any node.
    name: String,
    command: Command,
    since: Now,
    was_doubtful: bool,
}

impl Node {
    /// A node that has seen nothing yet. `seed`: random, unlike that of any other process: it names the node's writes,
    /// and spreads what all nodes would otherwise do at the same moment.
    #[must_use]
    pub fn new(seed: u128, role: Role) -> Self {
        Self {
            name: format!("{seed:032x}"),
            // Both halves, whichever of them is random.
            seed: (seed >> 64) as u64 ^ seed as u64,
            writes: 0,
            role,
            broken: None,
            clock: clock::Soundness::default(),
            view: None,
            traffic: Traffic::Idle,
            doubt: None,
            load_due: Duration::ZERO,
            load_failures: 0,
            save_due: Duration::ZERO,
            save_failures: 0,
            memory: None,
            is_regress_suspected: false,
            hands: BTreeMap::new(),
            pool: BTreeMap::new(),
            tasks: BTreeMap::new(),
            seen: BTreeMap::new(),
            missing: BTreeMap::new(),
            spoilt: BTreeMap::new(),
            destroyed: BTreeSet::new(),
            pushed: BTreeMap::new(),
            listed: None,
            published: None,
            publishing: 0,
            ahead: None,
            orders: Vec::new(),
            alarms: BTreeSet::new(),
            idle_until: None,
            is_ending: false,
        }
    }

    /// For tests, to see that they notice.
    #[doc(hidden)]
    #[must_use]
    pub fn breaking(mut self, rule: Option<Rule>) -> Self {
        self.broken = rule;
        self
    }

    /// The state as this node has last seen it.
    #[must_use]
    pub fn ring(&self) -> Option<&Arc<RingState>> {
        self.view.as_ref().map(|view| &view.ring)
    }

    /// How long ago that was, at most.
    #[must_use]
    pub fn view_age(&self, now: Now) -> Option<Duration> {
        self.view.as_ref().map(|view| now.since(&view.read_at))
    }

    /// What is alarming at present.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter()
    }

    /// Whether the clock is believed (I10).
    #[must_use]
    pub fn is_clock_sound(&self) -> bool {
        self.clock.is_sound() || self.breaks(Rule::ClockIsSound)
    }

    /// Whether all that is due by `now`, the time of the last step, is done: this node has looked, nothing is under way
    /// or to be tried again, nobody's order is open, and it does not wait for another node. What only time brings may be
    /// outstanding.
    #[must_use]
    pub fn is_at_rest(&self, now: Now) -> bool {
        let now = now.to_millis().monotonic;
        // The list of what is stored is read again and again, whatever there is to do.
        let is_waiting = |(task, progress): (&Task, &Progress)| {
            progress.is_under_way || (*task != Task::List && progress.not_before > now)
        };
        self.view.is_some()
            && self.traffic == Traffic::Idle
            && self.doubt.is_none()
            && !self.is_regress_suspected
            && self.load_due > now
            && self.save_due <= now
            && self.orders.is_empty()
            && self.idle_until.is_none_or(|(_, until)| until <= now)
            && !self.tasks.iter().any(is_waiting)
    }

    /// Whether this node can go without leaving anything half done, or undone that only it can do: nothing of it is being
    /// written, none of its keys has its private part in this process only, nobody's order is open, and what it has
    /// written is published and told to the sink, and no older state was put back under it. What is merely due, others do,
    /// or this node when it comes again; so does whoever makes a key that nobody knows of yet.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        let is_write = |task: &Task| matches!(task, Task::Publish | Task::Seal(_) | Task::Destroy(_) | Task::Push(_));
        let is_writing = matches!(self.traffic, Traffic::Saving { .. })
            || self.tasks.iter().any(|(task, progress)| progress.is_under_way && is_write(task));
        let is_told = !self.tasks.keys().any(|task| matches!(task, Task::Push(_)));
        let owes_of = |view: &View| {
            let ring = &view.ring;
            let is_kept = |kid: &String| ring.fate(kid).is_some_and(KeyState::needs_private);
            let has_only_copy = self.hands.iter().any(|(kid, hand)| *hand != Hand::Ready && is_kept(kid));
            // Whoever has written last publishes.
            let is_mine = ring.lease.as_ref().is_some_and(|lease| lease.holder == self.name);
            let is_published = self.published.as_ref().is_some_and(|set| set.seq >= Some(ring.set_seq));
            has_only_copy || (is_mine && !is_published && ring.published().next().is_some())
        };
        // Whoever has seen that an older state was put back is the one who remembers what was revoked since.
        let is_in_order = self.memory.is_none() && !self.is_regress_suspected;
        !is_writing
            && is_told
            && is_in_order
            && self.doubt.is_none()
            && self.orders.is_empty()
            && !self.view.as_ref().is_some_and(owes_of)
    }

    /// The slots for which a key is being made.
    pub fn making(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().filter(|(_, progress)| progress.is_under_way).filter_map(|(task, _)| match task {
            Task::Generate(slot) => Some(slot.as_str()),
            _ => None,
        })
    }

    fn breaks(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }
}

/// Takes in what has happened, and says what is to be done.
///
/// `config` has passed its [`check`](RingConfig::check).
#[must_use]
pub fn step(config: &RingConfig, node: Node, now: Now, event: Event) -> (Node, Vec<Effect>) {
    let mut turn = Turn { config, node, now: now.to_millis(), effects: Vec::new() };
    if turn.node.clock.observe(turn.now, config.timing.clock_error) {
        // Only the store can say whether it was right to set it.
        turn.node.load_due = turn.now.monotonic;
    }
    turn.take_in(event);
    turn.work();
    (turn.node, turn.effects)
}

/// One step under way.
struct Turn<'a> {
    config: &'a RingConfig,
    node: Node,
    now: Now,
    effects: Vec<Effect>,
}

impl Turn<'_> {
    fn raise(&mut self, alarm: Alarm) {
        if self.node.alarms.insert(alarm.clone()) {
            self.effects.push(Effect::Alarm(alarm));
        }
    }

    fn clear(&mut self, is_over: impl Fn(&Alarm) -> bool) {
        let over: Vec<_> = self.node.alarms.iter().filter(|alarm| is_over(alarm)).cloned().collect();
        for alarm in over {
            self.node.alarms.remove(&alarm);
            self.effects.push(Effect::Clear(alarm));
        }
    }

    fn set(&mut self, alarm: Alarm, is_on: bool) {
        if is_on {
            self.raise(alarm);
        } else {
            self.clear(|known| *known == alarm);
        }
    }

    /// A number that is another for each node and each `salt`, less than `bound`.
    fn spread(&self, salt: u64, bound: Duration) -> Duration {
        let mut bits = self.node.seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        Duration::from_millis(bits % u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1))
    }
}

#[cfg(test)]
mod tests;
