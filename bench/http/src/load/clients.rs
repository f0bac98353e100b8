//! What is due, on its way, and answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::connection::{Connection, Progress};
use super::timer::Timer;
use super::{Answer, Pace, Plan, Sample, Seen, Shown, due};
use crate::Failure;

/// A request that is due or on its way.
#[derive(Clone, Copy)]
struct Request<'a> {
    due: Duration,
    shown: &'a Shown,
}

/// Those who have tokens of one group.
#[derive(Default)]
struct Pool<'a> {
    /// Connections without a request, the longest so first.
    free: VecDeque<usize>,
    /// What is due and has not been sent.
    waiting: VecDeque<Request<'a>>,
}

/// No connection has this name.
const TIMER: Token = Token(usize::MAX);

/// The longest wait: the end has to be seen.
const WAIT: Duration = Duration::from_millis(20);

pub struct Clients<'a> {
    plan: &'a Plan<'a>,
    started: Instant,
    poll: Poll,
    timer: Timer,
    /// Those of the first group, then those of the second.
    connections: Vec<(Connection, Option<Request<'a>>)>,
    pools: Vec<Pool<'a>>,
    /// How many have been due.
    count: u64,
    /// How many of these since the tokens are those that they are.
    turn: usize,
    samples: Vec<Sample>,
    lags: Vec<Duration>,
    queued: usize,
    idle: Duration,
    changed: Option<Duration>,
}

impl<'a> Clients<'a> {
    pub fn new(plan: &'a Plan<'a>) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let timer = Timer::new(TIMER, poll.registry())?;
        let groups = plan.before.iter().chain(plan.after).map(|shown| shown.group + 1).max().unwrap_or(0);
        let connect = |n| Ok((Connection::new(plan.address, Token(n), poll.registry())?, None));
        let connections = (0..groups * plan.connections).map(connect).collect::<Result<_, Failure>>()?;
        let most = plan.connections;
        let pool = |group| Pool { free: (group * most..(group + 1) * most).collect(), ..Pool::default() };
        Ok(Self {
            plan,
            started: Instant::now(),
            poll,
            timer,
            connections,
            pools: (0..groups).map(pool).collect(),
            count: 0,
            turn: 0,
            samples: Vec::new(),
            lags: Vec::new(),
            queued: 0,
            idle: Duration::ZERO,
            changed: None,
        })
    }

    /// Time counts from here.
    pub fn begin(&mut self) {
        self.started = Instant::now();
    }

    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// From the first time on that it is called, the other tokens are shown.
    pub fn change(&mut self, now: Duration) {
        if self.changed.is_none() {
            self.changed = Some(now);
            self.turn = 0;
        }
    }

    /// Sees what is due.
    pub fn call(&mut self, now: Duration, end: Duration) {
        match self.plan.pace {
            Pace::Saturation if now < end => {
                let free: usize = self.pools.iter().map(|pool| pool.free.len()).sum();
                let waiting: usize = self.pools.iter().map(|pool| pool.waiting.len()).sum();
                for _ in waiting..free {
                    self.call_one(now);
                }
            }
            Pace::Saturation => self.pools.iter_mut().for_each(|pool| pool.waiting.clear()),
            Pace::Constant(rate) => loop {
                let due = due(self.count, rate);
                if due > now || due >= end {
                    break;
                }
                if due >= self.plan.warm_up {
                    self.lags.push(now - due);
                }
                self.call_one(due);
            },
        }
    }

    fn call_one(&mut self, due: Duration) {
        let has_changed = self.changed.is_some() && !self.plan.after.is_empty();
        let tokens = if has_changed { self.plan.after } else { self.plan.before };
        let shown = &tokens[self.turn % tokens.len()];
        self.turn += 1;
        self.count += 1;
        let pool = &mut self.pools[shown.group];
        self.queued += usize::from(due >= self.plan.warm_up && pool.waiting.len() >= pool.free.len());
        pool.waiting.push_back(Request { due, shown });
    }

    /// Sends what is due, as long as there are connections for it.
    pub fn send(&mut self) -> Result<(), Failure> {
        for group in 0..self.pools.len() {
            while let (Some(&request), Some(&at)) = (self.pools[group].waiting.front(), self.pools[group].free.front())
            {
                self.pools[group].waiting.pop_front();
                self.pools[group].free.pop_front();
                let (connection, busy) = &mut self.connections[at];
                *busy = Some(request);
                if connection.send(&request.shown.octets).is_err() {
                    self.end(at, request, Answer::Broken);
                    self.connect(at)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until something comes or is due, and takes it.
    pub fn receive(&mut self, events: &mut Events) -> Result<(), Failure> {
        let before = self.now();
        if let Pace::Constant(rate) = self.plan.pace {
            self.timer.set(due(self.count, rate).saturating_sub(before))?;
        }
        self.poll.poll(events, Some(WAIT))?;
        self.idle += self.now() - before;
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let at = event.token().0;
            let (connection, busy) = &mut self.connections[at];
            match (connection.receive(), *busy) {
                (Ok(Progress::Waiting), _) => {}
                (Ok(Progress::Answered(status)), Some(request)) => self.end(at, request, Answer::Status(status)),
                // An end while nothing is on its way is no failure: the server has had enough of an idle connection.
                (Ok(Progress::Answered(_)) | Err(_), None) => self.connect(at)?,
                (Err(_), Some(request)) => {
                    self.end(at, request, Answer::Broken);
                    self.connect(at)?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, at: usize, request: Request<'_>, answer: Answer) {
        self.connections[at].1 = None;
        self.pools[at / self.plan.connections].free.push_back(at);
        self.note(request, answer, self.now());
    }

    fn connect(&mut self, at: usize) -> Result<(), Failure> {
        self.connections[at].0 = Connection::new(self.plan.address, Token(at), self.poll.registry())?;
        Ok(())
    }

    fn note(&mut self, request: Request<'_>, answer: Answer, now: Duration) {
        let (due, group) = (request.due, request.shown.group);
        self.samples.push(Sample { due, took: now - due, answer, group });
    }

    pub fn are_done(&self) -> bool {
        self.pools.iter().all(|pool| pool.waiting.is_empty() && pool.free.len() == self.plan.connections)
    }

    /// What is still on its way, or was never sent, counts with the time that it has had.
    pub fn seen(mut self) -> Seen {
        let now = self.now();
        let answered = self.samples.iter().filter(|sample| matches!(sample.answer, Answer::Status(_))).count();
        let waiting = self.pools.iter().flat_map(|pool| pool.waiting.iter().copied());
        let missing: Vec<_> = self.connections.iter().filter_map(|(_, busy)| *busy).chain(waiting).collect();
        for request in missing {
            self.note(request, Answer::Missing, now);
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
