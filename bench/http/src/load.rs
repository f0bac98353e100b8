//! The clients: requests at a constant rate, whatever becomes of those before, or as many as get answers.
//!
//! A program of our own, because none that is to be had does all of this: time counts from when a request was *due*, so that a
//! server that stalls is charged for every request that had to wait (*coordinated omission*); a thousand tokens take turns, and
//! others from the moment at which the issuer's keys change; and it says how late it was itself. It looks for answers without
//! ever sleeping, which costs a core, because the system's timers would be later than most answers are.

mod connection;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Failure;
use connection::{Connection, Progress};

/// How many connections there are, all of them kept.
pub const CONNECTIONS: usize = 64;

/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many a second.
    Constant(u32),
    /// The next one on each connection when the last one has been answered.
    Saturation,
}

/// One request, as it goes over the wire.
#[derive(Clone)]
pub struct Shown {
    /// Whose token it has: groups are counted apart.
    pub group: usize,
    pub octets: Vec<u8>,
}

/// What is sent, to whom and for how long.
pub struct Plan<'a> {
    pub address: SocketAddr,
    pub pace: Pace,
    /// Whose answers are not counted.
    pub warm_up: Duration,
    pub length: Duration,
    /// They take turns.
    pub before: &'a [Shown],
    /// The same from the change on. Empty if there is none.
    pub after: &'a [Shown],
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Status(u16),
    /// The connection ended, or what came was no answer.
    Broken,
    /// Nothing, until patience ended.
    Missing,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was to be sent, from the end of the warm-up on.
    pub due: Duration,
    /// From then to the whole answer, or to the end of patience.
    pub took: Duration,
    pub answer: Answer,
    pub group: usize,
}

/// What the clients have seen.
pub struct Seen {
    pub samples: Vec<Sample>,
    /// How long it took, warm-up and patience not counted.
    pub length: Duration,
    /// All answers, those of the warm-up among them: what the server's work is divided by.
    pub answered: usize,
    /// How late the clients themselves were to see that a request is due, one by one.
    pub lags: Vec<Duration>,
    /// How many had to wait for a connection.
    pub queued: usize,
    /// The part of the time in which there was nothing to do: a bottleneck has none of it.
    pub idle: f64,
    /// When the change was heard of.
    pub changed: Option<Duration>,
}

/// The octets of a request with six header fields, one of them the token.
pub fn request(address: SocketAddr, token: &str) -> Vec<u8> {
    format!(
        "GET /hello HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench/1.0\r\naccept: application/json\r\n\
         accept-encoding: gzip\r\nx-request-id: 7f4e4c539d3a\r\nauthorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// When the nth request is due: all of them from one start, so that no rounding adds up.
fn due(n: u64, rate: u32) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(n) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX))
}

/// Sends it all. Takes the tokens of afterwards as soon as `changed` says so.
pub fn run(plan: &Plan<'_>, changed: &AtomicBool) -> Result<Seen, Failure> {
    let mut clients = Clients::new(plan)?;
    let mut events = Events::with_capacity(CONNECTIONS);
    let end = plan.warm_up + plan.length;
    let started = Instant::now();
    loop {
        let now = started.elapsed();
        if clients.changed.is_none() && changed.load(Ordering::Acquire) {
            clients.changed = Some(now);
        }
        clients.call(now, end);
        clients.send(started)?;
        if now >= end && (clients.is_done() || now >= end + PATIENCE) {
            break;
        }
        let before = started.elapsed();
        clients.poll.poll(&mut events, Some(Duration::ZERO))?;
        if events.is_empty() {
            clients.idle += started.elapsed() - before;
        }
        for event in &events {
            clients.receive(event.token().0, started)?;
        }
    }
    Ok(clients.seen(started.elapsed()))
}

/// A request on its way.
#[derive(Clone, Copy)]
struct Sent {
    due: Duration,
    group: usize,
}

struct Clients<'a> {
    plan: &'a Plan<'a>,
    poll: Poll,
    connections: Vec<(Connection, Option<Sent>)>,
    /// Those without a request, the longest so first.
    free: VecDeque<usize>,
    /// When those were due that have not been sent.
    waiting: VecDeque<Duration>,
    /// How many have been due.
    count: u64,
    /// How many have been sent.
    turn: usize,
    samples: Vec<Sample>,
    lags: Vec<Duration>,
    queued: usize,
    idle: Duration,
    changed: Option<Duration>,
}

impl<'a> Clients<'a> {
    fn new(plan: &'a Plan<'a>) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let connect = |n| Ok((Connection::new(plan.address, Token(n), poll.registry())?, None));
        let connections = (0..CONNECTIONS).map(connect).collect::<Result<_, Failure>>()?;
        Ok(Self {
            plan,
            poll,
            connections,
            free: (0..CONNECTIONS).collect(),
            waiting: VecDeque::new(),
            count: 0,
            turn: 0,
            samples: Vec::new(),
            lags: Vec::new(),
            queued: 0,
            idle: Duration::ZERO,
            changed: None,
        })
    }

    /// Sees what is due.
    fn call(&mut self, now: Duration, end: Duration) {
        match self.plan.pace {
            Pace::Saturation if now < end => {
                self.waiting.resize(self.free.len(), now);
            }
            Pace::Saturation => self.waiting.clear(),
            Pace::Constant(rate) => loop {
                let due = due(self.count, rate);
                if due > now || due >= end {
                    break;
                }
                self.count += 1;
                if due >= self.plan.warm_up {
                    self.lags.push(now - due);
                    self.queued += usize::from(self.waiting.len() >= self.free.len());
                }
                self.waiting.push_back(due);
            },
        }
    }

    /// Sends what is due, as long as there are connections for it.
    fn send(&mut self, started: Instant) -> Result<(), Failure> {
        while let (Some(&due), Some(&at)) = (self.waiting.front(), self.free.front()) {
            self.waiting.pop_front();
            self.free.pop_front();
            let tokens =
                if self.changed.is_some() && !self.plan.after.is_empty() { self.plan.after } else { self.plan.before };
            let shown = &tokens[self.turn % tokens.len()];
            self.turn += 1;
            let sent = Sent { due, group: shown.group };
            let (connection, busy) = &mut self.connections[at];
            *busy = Some(sent);
            if connection.send(&shown.octets).is_err() {
                self.broken(at, sent, started)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, at: usize, started: Instant) -> Result<(), Failure> {
        let (connection, busy) = &mut self.connections[at];
        let sent = *busy;
        match (connection.receive(), sent) {
            (Ok(Progress::Waiting), _) => {}
            (Ok(Progress::Answered(status)), Some(sent)) => {
                *busy = None;
                self.free.push_back(at);
                self.note(sent, Answer::Status(status), started.elapsed());
            }
            // An end while nothing is on its way is no failure: the server has had enough of an idle connection.
            (Ok(Progress::Answered(_)) | Err(_), None) => self.connect(at)?,
            (Err(_), Some(sent)) => self.broken(at, sent, started)?,
        }
        Ok(())
    }

    fn broken(&mut self, at: usize, sent: Sent, started: Instant) -> Result<(), Failure> {
        self.note(sent, Answer::Broken, started.elapsed());
        self.connections[at].1 = None;
        self.free.push_back(at);
        self.connect(at)
    }

    fn connect(&mut self, at: usize) -> Result<(), Failure> {
        self.connections[at].0 = Connection::new(self.plan.address, Token(at), self.poll.registry())?;
        Ok(())
    }

    fn note(&mut self, sent: Sent, answer: Answer, now: Duration) {
        self.samples.push(Sample { due: sent.due, took: now - sent.due, answer, group: sent.group });
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.free.len() == CONNECTIONS
    }

    /// What is still on its way, or was never sent, counts with the time that it has had.
    fn seen(mut self, now: Duration) -> Seen {
        let answered = self.samples.iter().filter(|sample| matches!(sample.answer, Answer::Status(_))).count();
        let unanswered: Vec<Sent> = self.connections.iter().filter_map(|(_, busy)| *busy).collect();
        let unsent: Vec<Sent> =
            self.waiting.iter().map(|&due| Sent { due, group: self.plan.before[0].group }).collect();
        for sent in unanswered.into_iter().chain(unsent) {
            self.note(sent, Answer::Missing, now);
        }
        let warm_up = self.plan.warm_up;
        self.samples.retain(|sample| sample.due >= warm_up);
        for sample in &mut self.samples {
            sample.due -= warm_up;
        }
        self.samples.sort_by_key(|sample| sample.due);
        Seen {
            samples: self.samples,
            length: self.plan.length,
            answered,
            lags: self.lags,
            queued: self.queued,
            idle: self.idle.as_secs_f64() / now.as_secs_f64(),
            changed: self.changed.map(|at| at.saturating_sub(warm_up)),
        }
    }
}

#[cfg(test)]
mod tests;
