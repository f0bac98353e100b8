//! The clients: requests at a constant rate, whatever becomes of those before, or as many as get answers.
//!
//! A program of our own, because none that is to be had does all of this: time counts from when a request was *due*, so that a
//! server that stalls is charged for every request that had to wait (*coordinated omission*); a thousand tokens take turns, and
//! others from the moment at which the issuer's keys change; and it says how late it was itself.

mod clients;
mod connection;
mod timer;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::Events;

use crate::Failure;
use clients::Clients;

/// How many connections each group of tokens usually has.
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
    /// How many each group of tokens has, all of them kept: who has tokens of one key does not wait for those who have others.
    pub connections: usize,
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
    /// The part of the time in which they waited: a bottleneck never does.
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
    clients.begin();
    loop {
        let now = clients.now();
        if changed.load(Ordering::Acquire) {
            clients.change(now);
        }
        clients.call(now, end);
        clients.send()?;
        if now >= end && (clients.are_done() || now >= end + PATIENCE) {
            break;
        }
        clients.receive(&mut events)?;
    }
    Ok(clients.seen())
}

#[cfg(test)]
mod tests;
