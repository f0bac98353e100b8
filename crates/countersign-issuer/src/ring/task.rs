//! The task of a node: tells the core what has happened, and has done what it asks for. It holds what it shares with
//! the handles weakly, so that it ends with the last of them; what it has begun ends with it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Weak};

use countersign_token::{JwkSet, KeySet, Origin};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::event::RingEvent;
use super::jobs::{Done, Outcome, Tools, begin};
use super::material::Hands;
use super::order::Order;
use super::report::{Report, Teller};
use super::work::Work;
use crate::desk::{Desk, Shared};
use crate::state::RingState;
use crate::step::{Effect, Event, Node, Refusal, Reply, step};
use crate::time::Clock;

pub(super) struct Task {
    shared: Weak<Shared>,
    orders: mpsc::Receiver<Order>,
    ending: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
    tools: Arc<Tools>,
    node: Option<Node>,
    hands: Hands,
    jobs: JoinSet<Done>,
    /// What each job is, and what is answered if it panics.
    begun: HashMap<Id, (Work, Event)>,
    waiting: HashMap<u64, Waiting>,
    order_count: u64,
    wake_at: Instant,
    /// Said once the desk says the same.
    replies: Vec<(oneshot::Sender<Reply>, Reply)>,
    /// As of the last step.
    is_at_rest: bool,
    events: Vec<RingEvent>,
    /// How often the keys that may sign had changed when they were last shown.
    shown_changes: u64,
    report: watch::Sender<Arc<Report>>,
    teller: Teller,
}

/// Who waits for an answer.
struct Waiting {
    reply: oneshot::Sender<Reply>,
    /// The private parts that came with the order.
    kept: Vec<String>,
}

impl Task {
    pub(super) fn new(
        shared: &Arc<Shared>,
        (orders, ending): (mpsc::Receiver<Order>, watch::Receiver<bool>),
        tools: Tools,
        node: Node,
        report: watch::Sender<Arc<Report>>,
        teller: Teller,
    ) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            orders,
            ending,
            clock: Arc::clone(&shared.clock),
            tools: Arc::new(tools),
            node: Some(node),
            hands: Hands::default(),
            jobs: JoinSet::new(),
            begun: HashMap::new(),
            waiting: HashMap::new(),
            order_count: 0,
            wake_at: Instant::now(),
            replies: Vec::new(),
            is_at_rest: false,
            events: Vec::new(),
            shown_changes: 0,
            report,
            teller,
        }
    }
}

pub(super) async fn run(mut task: Task) {
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut event = Event::Tick;
    loop {
        task.feed(event);
        match task.shared.upgrade() {
            Some(shared) => task.show(&shared),
            None => return,
        }
        // What has come by now is owed, too.
        if *task.ending.borrow() && task.orders.is_empty() && task.node.as_ref().is_none_or(Node::owes_nothing) {
            return;
        }
        timer.as_mut().reset(task.wake_at);
        // Answers and the timer first: no flood of orders may put them off.
        event = tokio::select! {
            biased;
            Some(done) = task.jobs.join_next_with_id() => task.land(done),
            () = &mut timer => Event::Tick,
            Ok(()) = task.ending.changed() => Event::End,
            order = task.orders.recv() => match order {
                Some(order) => task.accept(order),
                // The door closes with the last handle.
                None => return,
            },
        };
    }
}

impl Task {
    /// One step of the core.
    fn feed(&mut self, event: Event) {
        // It is there but for the time of the step; if that panics, so does the task.
        let Some(node) = self.node.take() else { return };
        let now = self.clock.now();
        let (node, effects) = step(&self.tools.config, node, now, event);
        self.is_at_rest = node.is_at_rest(now);
        let ring = node.ring().cloned();
        self.node = Some(node);
        for effect in effects {
            self.execute(effect, ring.as_deref());
        }
    }

    fn execute(&mut self, effect: Effect, ring: Option<&RingState>) {
        match effect {
            Effect::Forget { kid } => self.hands.forget(&kid),
            Effect::Reply { id, reply } => self.answer(id, reply),
            Effect::Alarm(alarm) => self.events.push(RingEvent::Alarm(alarm)),
            Effect::Clear(alarm) => self.events.push(RingEvent::Cleared(alarm)),
            Effect::Note(note) => self.events.push(RingEvent::Note(note)),
            Effect::Wake(after) => self.wake_at = Instant::now() + after,
            effect => {
                let begun = begin(&self.tools, &effect, &mut self.hands, ring);
                if let Some((work, job, given_up)) = begun {
                    let id = self.jobs.spawn(job).id();
                    self.begun.insert(id, (work, given_up));
                }
            }
        }
    }

    /// What the end of a job is to the core.
    fn land(&mut self, ended: Result<(Id, Done), JoinError>) -> Event {
        let (id, done) = match ended {
            Ok((id, done)) => (id, Ok(done)),
            Err(error) => (error.id(), Err(())),
        };
        // Each was taken down when it began; a look at the time does no harm.
        let Some((work, given_up)) = self.begun.remove(&id) else { return Event::Tick };
        let Ok(Done { outcome, errors }) = done else {
            self.teller.failed(work, "it panicked".into(), &mut self.events);
            return given_up;
        };
        if errors.is_empty() {
            self.teller.succeeded(work);
        }
        for (work, error) in errors {
            self.teller.failed(work, error, &mut self.events);
        }
        match outcome {
            Outcome::Answer(event) => event,
            Outcome::Made { slot, made } => {
                self.hands.keep(made.jwk.kid(), made.der);
                Event::Generated { slot, key: Some(made.jwk) }
            }
            Outcome::Opened { kid, signer } => {
                self.hands.open(&kid, signer);
                Event::Opened { kid, result: Ok(()) }
            }
            Outcome::Pushed { kid, within } => {
                self.events.push(RingEvent::RevocationPushed { kid: kid.clone(), within });
                Event::RevocationPushed { kid, is_done: true }
            }
        }
    }

    fn accept(&mut self, order: Order) -> Event {
        let Order { command, private, reply } = order;
        self.order_count += 1;
        // In the hands before the command, because the core asks for them once it is done. What is there already stays.
        let kept = private.into_iter().filter_map(|(kid, der)| self.hands.keep(&kid, der).then_some(kid)).collect();
        self.waiting.insert(self.order_count, Waiting { reply, kept });
        Event::Command { id: self.order_count, command }
    }

    fn answer(&mut self, id: u64, reply: Reply) {
        let Some(Waiting { reply: sender, kept }) = self.waiting.remove(&id) else { return };
        let is_doubtful = matches!(reply, Reply::Refused(Refusal::StoreFailed { is_doubtful: true }));
        if matches!(reply, Reply::Refused(_)) && !is_doubtful {
            for kid in kept {
                self.hands.withdraw(&kid);
            }
        }
        self.replies.push((sender, reply));
    }

    /// Swaps the desk if something on it has changed, and then says what has happened.
    fn show(&mut self, shared: &Shared) {
        let Some(node) = &self.node else { return };
        let old = shared.desk.load_full();
        let view = node.signing_view(&self.tools.config);
        let ring = later(old.ring.as_ref(), node.ring());
        let is_other_ring = !is_same(old.ring.as_ref(), ring.as_ref());
        let is_other = view != old.view || is_other_ring || self.hands.changes() != self.shown_changes;
        if is_other {
            let keys = match &ring {
                Some(ring) if is_other_ring && !has_same_set(old.ring.as_deref(), ring) => {
                    Arc::new(key_set(ring, &shared.issuer, &old.keys))
                }
                _ => Arc::clone(&old.keys),
            };
            self.shown_changes = self.hands.changes();
            let desk = Desk::new(&self.tools.config, view, self.hands.signers(), ring, keys);
            shared.desk.store(Arc::new(desk));
        }
        let alarms = node.alarms().cloned().collect();
        let report = Report {
            alarms,
            is_clock_sound: node.is_clock_sound(),
            failing: self.teller.failing(),
            making: node.making().map(str::to_owned).collect(),
            is_at_rest: self.is_at_rest,
        };
        if is_other || **self.report.borrow() != report {
            self.report.send_replace(Arc::new(report));
        }
        #[cfg(feature = "metrics")]
        super::numbers::show(&shared.issuer, &shared.desk.load(), node, &self.tools.config, self.clock.now());
        for event in self.events.drain(..) {
            self.teller.tell(&event);
        }
        for (sender, reply) in self.replies.drain(..) {
            // Who no longer waits has no use for it.
            let _ = sender.send(reply);
        }
    }
}

/// An older state than one that was seen is put back by the core; nobody verifies by it meanwhile.
fn later(old: Option<&Arc<RingState>>, new: Option<&Arc<RingState>>) -> Option<Arc<RingState>> {
    match (old, new) {
        (Some(old), Some(new)) if new.seq < old.seq => Some(Arc::clone(old)),
        (old, new) => new.or(old).cloned(),
    }
}

fn is_same(a: Option<&Arc<RingState>>, b: Option<&Arc<RingState>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn has_same_set(old: Option<&RingState>, new: &RingState) -> bool {
    fn set(ring: &RingState) -> impl Iterator<Item = (&String, &crate::state::PublicJwk)> {
        ring.published().map(|(kid, key)| (kid, &key.jwk))
    }
    old.is_some_and(|old| set(old).eq(set(new)))
}

/// What verifiers make of the set of that state.
fn key_set(ring: &RingState, issuer: &Arc<str>, predecessor: &KeySet) -> KeySet {
    let keys: Vec<_> = ring.published().map(|(_, key)| &key.jwk).collect();
    let document = serde_json::json!({ "keys": keys }).to_string();
    // It is a key set, of a hundred keys at most.
    let set = JwkSet::parse(document.as_bytes(), Origin::Remote).unwrap_or_default().into_key_set();
    set.bound_to_issuer(Arc::clone(issuer)).with_generation(ring.set_seq).succeeding(predecessor)
}
