//! How often each client may ask.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::policy::{Policy, Rate};

type Counter = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// A counter for each client of a policy.
pub(crate) struct Limits(HashMap<Box<str>, (Rate, Arc<Counter>)>);

/// Why a client must not go on.
#[derive(Clone, Copy)]
pub(crate) enum Limited {
    /// So much later it may.
    For(Duration),
    /// More at once than it ever may.
    Never,
}

impl Limits {
    /// `before` are those in force, which go on counting where the rate is the same.
    pub(crate) fn new(policy: &Policy, before: Option<&Self>) -> Self {
        let counter = |client: &str, rate: Rate| {
            let known = before.and_then(|before| before.0.get(client)).filter(|(known, _)| *known == rate);
            known.map_or_else(|| Arc::new(counter(rate)), |(_, counter)| Arc::clone(counter))
        };
        let clients = policy.credentials().map(|(client, credentials)| {
            let rate = credentials.rate;
            (client.into(), (rate, counter(client, rate)))
        });
        Self(clients.collect())
    }

    /// Counts a request of a client's, which is for one token at least.
    pub(crate) fn count(&self, client: &str) -> Result<(), Limited> {
        self.count_tokens(client, 1, 1)
    }

    /// Counts the others of so many tokens, the first of which was counted.
    pub(crate) fn count_others(&self, client: &str, tokens: usize) -> Result<(), Limited> {
        self.count_tokens(client, tokens.saturating_sub(1), tokens)
    }

    fn count_tokens(&self, client: &str, tokens: usize, of: usize) -> Result<(), Limited> {
        let Some((rate, counter)) = self.0.get(client) else { return Ok(()) };
        if of > rate.burst.get() as usize {
            return Err(Limited::Never);
        }
        let Some(tokens) = u32::try_from(tokens).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        match counter.check_n(tokens) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Limited::For(until.wait_time_from(MonotonicClock.now()))),
            Err(_) => Err(Limited::Never),
        }
    }
}

fn counter(rate: Rate) -> Counter {
    RateLimiter::direct_with_clock(Quota::per_second(rate.per_second).allow_burst(rate.burst), MonotonicClock)
}
