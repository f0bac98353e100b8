//! Many callers, a connection each, at a steady rate whatever the answers are.

use std::net::SocketAddr;
use std::sync::Arc;
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
                    seen.push(Seen { name, sent, took: sent.elapsed(), answer });
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

/// A good token of the provider's, but for a key that nobody has.
pub fn made_up(provider: &IdentityProvider, number: u32) -> Arc<str> {
    let key = TestKey::nth(provider.key().algorithm(), 0).with_kid(format!("made-up-{number}"));
    provider.token(AUDIENCE).signed_by(&key).sign().into()
}

/// The audience of all tokens here.
pub const AUDIENCE: &str = "api";
