//! Many callers, a connection each, at a steady rate whatever the answers are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_testkit::{IdentityProvider, TestKey};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Result;
use crate::service::{Answer, Connection};

/// A token to be shown, under the name that it is counted by.
pub type Shown = (&'static str, Arc<str>);

/// What somebody got for a token.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The number of the request.
    pub number: u32,
    /// The name of the token.
    pub name: &'static str,
    /// When it was sent.
    pub sent: Instant,
    /// From then to the last octet of the answer.
    pub took: Duration,
    /// The answer.
    pub answer: Answer,
}

impl Seen {
    /// When the answer was there.
    #[must_use]
    pub fn done(&self) -> Instant {
        self.sent + self.took
    }
}

/// Callers that show tokens until there are no more or they are told to stop.
#[derive(Debug)]
pub struct Crowd {
    callers: JoinSet<Result<Vec<Seen>>>,
    stop: watch::Sender<bool>,
}

impl Crowd {
    /// `size` callers, each of whom sends a request every `period`, evenly spread. Whoever had to wait for an answer makes up for what
    /// it has missed. `tokens` is asked for the token of each request, numbered from 0; when it has none, that caller goes.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn gather<F>(address: SocketAddr, size: u32, period: Duration, tokens: F) -> Result<Self>
    where
        F: Fn(u32) -> Option<Shown> + Clone + Send + Sync + 'static,
    {
        let mut connections = Vec::new();
        for _ in 0..size {
            connections.push(Connection::open(address).await?);
        }
        let (stop, stopped) = watch::channel(false);
        let mut callers = JoinSet::new();
        let start = Instant::now();
        for (mut connection, number) in connections.into_iter().zip(0..) {
            let (mut stopped, tokens) = (stopped.clone(), tokens.clone());
            callers.spawn(async move {
                let mut seen = Vec::new();
                let mut due = start + period * number / size;
                for request in (number..).step_by(size as usize) {
                    tokio::select! {
                        biased;
                        _ = stopped.wait_for(|stopped| *stopped) => break,
                        () = tokio::time::sleep_until(due.into()) => {}
                    }
                    due += period;
                    let Some((name, token)) = tokens(request) else { break };
                    let sent = Instant::now();
                    let answer = connection.get(&token).await?;
                    seen.push(Seen { number: request, name, sent, took: sent.elapsed(), answer });
                }
                Ok(seen)
            });
        }
        Ok(Self { callers, stop })
    }

    /// Stops them, and says what each has seen, in its order.
    ///
    /// # Errors
    /// If one of them got no answer.
    pub async fn disperse(self) -> Result<Vec<Vec<Seen>>> {
        self.stop.send_replace(true);
        self.finish().await
    }

    /// Waits until they have no more tokens, and says what each has seen, in its order.
    ///
    /// # Errors
    /// If one of them got no answer.
    pub async fn finish(mut self) -> Result<Vec<Vec<Seen>>> {
        let mut all = Vec::new();
        while let Some(seen) = self.callers.join_next().await {
            all.push(seen??);
        }
        Ok(all)
    }
}

/// Tokens that a crowd shows in turn, and which can be changed meanwhile. Clones are the same tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Mutex<Vec<Shown>>>);

impl Tokens {
    /// Shows these from now on.
    pub fn set(&self, tokens: impl IntoIterator<Item = Shown>) {
        *self.lock() = tokens.into_iter().collect();
    }

    /// The token for a crowd's request of that number: each caller of `size` shows each of them.
    #[must_use]
    pub fn nth(&self, number: u32, size: u32) -> Option<Shown> {
        let tokens = self.lock();
        let turn = (number / size + number % size) as usize;
        tokens.get(turn.checked_rem(tokens.len())?).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When somebody first knew that tokens of that name are accepted, if anybody did.
#[must_use]
pub fn first_accepted(seen: &[Vec<Seen>], name: &str) -> Option<Instant> {
    accepted(seen, name).map(Seen::done).min()
}

/// A token of that name that was shown after that and was let in, if there is one.
#[must_use]
pub fn accepted_after<'a>(seen: &'a [Vec<Seen>], name: &str, at: Instant) -> Option<&'a Seen> {
    accepted(seen, name).filter(|seen| seen.sent > at).max_by_key(|seen| seen.sent)
}

fn accepted<'a>(seen: &'a [Vec<Seen>], name: &str) -> impl Iterator<Item = &'a Seen> {
    seen.iter().flatten().filter(move |seen| seen.name == name && seen.answer.status == 200)
}

/// How long after a flood of made-up names began its look number `n` may reach the provider, the first being 0, while they
/// bring nothing new: the distances are 1 s, 2 s, 4 s and then 5 s.
#[must_use]
pub fn earliest_look(n: usize) -> Duration {
    const DISTANCES: [u64; 4] = [1, 2, 4, 5];
    (0..n).map(|n| Duration::from_secs(DISTANCES[n.min(DISTANCES.len() - 1)])).sum()
}

/// A good token of the provider's, but for a key that nobody has.
pub fn made_up(provider: &IdentityProvider, number: u32) -> Arc<str> {
    let key = TestKey::nth(provider.key().algorithm(), 0).with_kid(format!("made-up-{number}"));
    provider.token(AUDIENCE).signed_by(&key).sign().into()
}

/// The audience of all tokens here.
pub const AUDIENCE: &str = "api";
