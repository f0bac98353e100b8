//! The token service of one issuer, whatever it is served by.

mod admission;
mod builder;
mod routes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::claims::ReplayMemory;
use countersign::{Clock, PeerLimit, UnixTime};
use countersign_issuer::{Minter, Ring};
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::admin::MAX_ORDERS;
use crate::audit::{Audit, Record, Time};
use crate::authenticate::{Authenticator, ClientKeys, SecretKey};
use crate::idempotency::Idempotency;
use crate::limit::{Limited, Limits};
use crate::metadata::Metadata;
use crate::numbers::Numbers;
use crate::policy::{Policy, PolicyError};
use crate::problem::Problem;
use crate::room::Room;
use crate::signed::Signed;
use crate::tls::PinnedCertificates;

pub use self::builder::{BuildError, ServiceBuilder};

/// The token service of one issuer. Clones are the same service.
#[derive(Clone)]
pub struct TokenService(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) ring: Ring,
    pub(crate) minter: Minter,
    metadata: Metadata,
    pub(crate) clock: Arc<dyn Clock>,
    secrets: Option<SecretKey>,
    in_force: ArcSwap<InForce>,
    replays: ReplayMemory,
    pub(crate) signed: Signed,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) failures: Option<PeerLimit>,
    pub(crate) room: Room,
    /// For what takes long enough to be done elsewhere than where requests are taken in.
    pub(crate) signing: Arc<Semaphore>,
    /// For what operators order.
    pub(crate) orders: Arc<Semaphore>,
    pub(crate) audit: Option<Audit>,
    pub(crate) numbers: Numbers,
    /// Whatever says that it was made from then on, no process before this one can have taken: the second after that in which this
    /// one was made, and the leeway.
    born: UnixTime,
}

/// What follows from one edition of the policy; swapped whole.
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    authenticator: Authenticator,
    limits: Limits,
}

/// Why a new edition of the policy is not in force; the one before stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadError {
    /// The document.
    Policy(PolicyError),
    /// What the service would be under it.
    Service(BuildError),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(error) => error.fmt(f),
            Self::Service(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReloadError {}

impl InForce {
    fn new(
        policy: Policy,
        ring: &Ring,
        secrets: Option<&SecretKey>,
        before: Option<&Self>,
    ) -> Result<Self, BuildError> {
        let known = before.map(|before| &before.authenticator);
        let authenticator = Authenticator::build(&policy, ring.issuer(), secrets, known)?;
        let limits = Limits::new(&policy, before.map(|before| &before.limits));
        Ok(Self { policy, authenticator, limits })
    }
}

impl TokenService {
    /// A service that signs with the keys of `ring` what `policy` allows.
    #[must_use]
    pub fn builder(ring: Ring, policy: Policy) -> ServiceBuilder {
        ServiceBuilder::new(ring, policy)
    }

    /// Puts another edition of the policy in force, if all of it is good; requests that are under way end under the one
    /// that they have begun with.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub fn reload(&self, document: &str) -> Result<(), ReloadError> {
        let reloaded = self.replace(document);
        self.0.numbers.reloaded(reloaded.is_ok());
        reloaded
    }

    fn replace(&self, document: &str) -> Result<(), ReloadError> {
        let Inner { ring, secrets, in_force, .. } = &*self.0;
        let policy = Policy::parse(document, ring.config()).map_err(ReloadError::Policy)?;
        let before = in_force.load_full();
        let next = InForce::new(policy, ring, secrets.as_ref(), Some(&before)).map_err(ReloadError::Service)?;
        tracing::info!(target: "countersign::service", revision = next.policy.revision(), "policy in force");
        if let Some(audit) = &self.0.audit {
            let policy = next.policy.revision().into();
            audit.note(Record::Policy { time: Time(self.0.clock.now()), policy });
        }
        in_force.store(Arc::new(next));
        Ok(())
    }

    /// Ends its ring's node ([`Ring::end_within`]) when no more requests come, and has it written down what has come of orders
    /// that were on their way. The ring, and those who wait for it, have this time; the audit log has its own.
    pub async fn end_within(&self, time: Duration) {
        let Inner { ring, orders, .. } = &*self.0;
        let all = u32::try_from(MAX_ORDERS).unwrap_or(u32::MAX);
        let begun = Instant::now();
        let left = || time.saturating_sub(begun.elapsed());
        // First those that are taken but may not have reached the ring yet: it would end without them. Half of the time is the ring's.
        let turns = timeout(time / 2, orders.acquire_many(all)).await;
        let has_ended = ring.end_within(left()).await;
        // What has come of an order is in the log's queue when its turn is over.
        let are_told = turns.is_ok() || timeout(left(), orders.acquire_many(all)).await.is_ok();
        if !has_ended || !are_told {
            tracing::warn!(target: "countersign::service", "ended before all was brought to its end");
        }
        if let Some(audit) = &self.0.audit {
            audit.flush().await;
        }
    }

    /// The certificates that clients are known by under the policy in force, whoever has signed them.
    #[must_use]
    pub fn pinned_certificates(&self) -> impl PinnedCertificates + use<> {
        Pinned(Arc::clone(&self.0))
    }

    /// The [revision](Policy::revision) of the policy in force.
    #[must_use]
    pub fn policy_revision(&self) -> String {
        self.0.in_force.load().policy.revision().to_owned()
    }
}

impl fmt::Debug for TokenService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenService").field("ring", &self.0.ring).finish_non_exhaustive()
    }
}

struct Pinned(Arc<Inner>);

impl PinnedCertificates for Pinned {
    fn are_some(&self) -> bool {
        self.0.in_force.load().authenticator.certificates().have_pins()
    }

    fn contain(&self, thumbprint: &[u8; 32]) -> bool {
        self.0.in_force.load().authenticator.certificates().pin(thumbprint)
    }
}

impl Inner {
    pub(crate) fn issuer(&self) -> &str {
        self.ring.issuer()
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }
}

impl InForce {
    pub(crate) fn client_keys(&self) -> &ClientKeys {
        self.authenticator.client_keys()
    }

    pub(crate) fn count(&self, client: &str) -> Result<(), Problem> {
        self.limits.count(client).map_err(limited)
    }

    pub(crate) fn count_grant(&self, client: &str, grant: &str) -> Result<(), Problem> {
        self.limits.count_grant(client, grant).map_err(limited)
    }

    pub(crate) fn count_others(&self, client: &str, tokens: usize) -> Result<(), Problem> {
        self.limits.count_others(client, tokens).map_err(limited)
    }
}

fn limited(why: Limited) -> Problem {
    match why {
        Limited::For(after) => {
            let detail = "the client asks for more than its `rate`, or than that of the grant";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(after)
        }
        Limited::Never => Problem::invalid("more tokens at once than the client's `rate` ever allows"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use countersign::Algorithm;
    use countersign_issuer::{Kek, KekRing, MemoryStore, RingConfig, Slot};

    use super::*;

    #[tokio::test]
    async fn an_order_that_is_taken_and_has_not_reached_the_ring_yet_is_waited_for_at_the_end() {
        let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
        let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
        let ring =
            Ring::builder("https://a.example", config, Arc::new(MemoryStore::new()), keks).start().await.unwrap();
        ring.ready_within(Duration::from_secs(60)).await.unwrap();
        let policy = Policy::parse("version = 1", ring.config()).unwrap();
        let service = TokenService::builder(ring, policy).build().unwrap();
        let turn = Arc::clone(&service.0.orders).try_acquire_owned().unwrap();
        let ending = tokio::spawn({
            let service = service.clone();
            async move { service.end_within(Duration::from_secs(120)).await }
        });
        while service.0.orders.try_acquire().is_ok() {
            tokio::task::yield_now().await;
        }
        // The ring owes nothing, so it would have ended by now.
        service.0.ring.rotate_all().await.unwrap();
        drop(turn);
        ending.await.unwrap();
        assert!(service.0.ring.rotate_all().await.is_err());
    }
}
