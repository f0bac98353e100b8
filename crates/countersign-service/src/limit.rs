//! How often each client may ask, and each grant may be used.

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

/// A counter for each client of a policy, and for each grant that has a rate.
pub(crate) struct Limits {
    clients: Counters,
    /// By their clients.
    grants: HashMap<Box<str>, Counters>,
}

type Counters = HashMap<Box<str>, (Rate, Arc<Counter>)>;

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
        let clients = policy.credentials().map(|(client, credentials)| {
            let rate = credentials.rate;
            (client.into(), (rate, counter(before.map(|before| &before.clients), client, rate)))
        });
        let mut grants: HashMap<Box<str>, Counters> = HashMap::new();
        for (client, grant, rate) in policy.grant_rates() {
            let before = before.and_then(|before| before.grants.get(client));
            let counters = grants.entry(client.into()).or_default();
            counters.insert(grant.into(), (rate, counter(before, grant, rate)));
        }
        Self { clients: clients.collect(), grants }
    }

    /// Counts a request of a client's, which is for one token at least.
    pub(crate) fn count(&self, client: &str) -> Result<(), Limited> {
        count(self.clients.get(client), 1, 1)
    }

    /// Counts the others of so many tokens, the first of which was counted.
    pub(crate) fn count_others(&self, client: &str, tokens: usize) -> Result<(), Limited> {
        count(self.clients.get(client), tokens.saturating_sub(1), tokens)
    }

    /// Counts a token of a grant.
    pub(crate) fn count_grant(&self, client: &str, grant: &str) -> Result<(), Limited> {
        count(self.grants.get(client).and_then(|grants| grants.get(grant)), 1, 1)
    }
}

fn count(counter: Option<&(Rate, Arc<Counter>)>, tokens: usize, of: usize) -> Result<(), Limited> {
    let Some((rate, counter)) = counter else { return Ok(()) };
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

/// The one that there was, which goes on counting, or another.
fn counter(before: Option<&Counters>, name: &str, rate: Rate) -> Arc<Counter> {
    let known = before.and_then(|before| before.get(name)).filter(|(known, _)| *known == rate);
    let quota = || Quota::per_second(rate.per_second).allow_burst(rate.burst);
    let new = || Arc::new(RateLimiter::direct_with_clock(quota(), MonotonicClock));
    known.map_or_else(new, |(_, counter)| Arc::clone(counter))
}
