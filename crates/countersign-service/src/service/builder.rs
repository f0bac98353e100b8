//! What a service is made of.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::claims::ReplayMemory;
use countersign::{Clock, PeerLimit, SystemClock, UnixTime};
use countersign_issuer::Ring;
use tokio::sync::Semaphore;

use super::routes::routes;
use super::{InForce, Inner, TokenService};
use crate::admin::{self, MAX_ORDERS};
use crate::audit::{Audit, Record, Time};
use crate::authenticate::{ASSERTION_LEEWAY, SecretKey};
use crate::idempotency::{BOUNDS, Idempotency};
use crate::metadata::Metadata;
use crate::numbers::Numbers;
use crate::policy::{MAX_TOKEN_BYTES, Policy};
use crate::room::{MAX_BODIES_BYTES, Room};
use crate::signed::{self, Signed};

/// What a service is to be. Made by [`TokenService::builder`].
pub struct ServiceBuilder {
    ring: Ring,
    policy: Policy,
    clock: Arc<dyn Clock>,
    secrets: Option<SecretKey>,
    base_url: Option<Box<str>>,
    failures: Option<NonZeroU32>,
    bodies: usize,
    audit: Option<Audit>,
}

/// Why there is no service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer is no `https` or `http` URL without query and fragment, so no metadata can be found for it (RFC 8414
    /// §2).
    NotAnIssuer,
    /// Client secrets are switched on, and there is no key to hash them under.
    NoSecretKey,
    /// What the policy says of workload issuers cannot be used.
    Workloads(Box<str>),
    /// Clients cannot sign requests for what they would know the service as.
    BaseUrl(Box<str>),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnIssuer => f.write_str("the issuer is no `https` URL without query and fragment"),
            Self::NoSecretKey => {
                f.write_str("`allow_client_secret_basic` needs a key to hash the secrets under (`secret_key_file`)")
            }
            Self::Workloads(text) => write!(f, "`workload_issuers`: {text}"),
            Self::BaseUrl(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for BuildError {}

impl ServiceBuilder {
    pub(super) fn new(ring: Ring, policy: Policy) -> Self {
        Self {
            ring,
            policy,
            clock: Arc::new(SystemClock),
            secrets: None,
            audit: None,
            base_url: None,
            failures: None,
            bodies: MAX_BODIES_BYTES,
        }
    }

    /// Where the time comes from that clients are recognised by. The ring has its own. [`SystemClock`] unless it is said.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What client secrets are hashed under; needed only by a policy that allows them.
    #[must_use]
    pub fn secret_key(mut self, key: SecretKey) -> Self {
        self.secrets = Some(key);
        self
    }

    /// Where decisions are written down: each token that is signed or denied, and each order to the ring before it is
    /// carried out. Nowhere unless it is said.
    #[must_use]
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }

    /// What the URLs of this service begin with, as its clients see them and [sign](countersign::claims::signed_request) them:
    /// such as `https://issuer.example`. Scheme, host and port of the issuer unless it is said.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<Box<str>>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// How many times a minute, and at once, a [`Peer`](crate::Peer) is told that its credentials are not good; after
    /// that it is told to wait, and no more (429). Good ones are taken from it all the same, and unlock nothing. As often as it
    /// likes unless it is said; whom no [`Peer`](crate::Peer) is known of are counted as one.
    #[must_use]
    pub fn failed_authentications(mut self, per_minute: NonZeroU32) -> Self {
        self.failures = Some(per_minute);
        self
    }

    /// How much room there is for the bodies of all requests together, bytes: one that finds none is refused (503), and may
    /// come again. [`MAX_BODIES_BYTES`] unless it is said, and never less than one body may have
    /// ([`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES)).
    #[must_use]
    pub fn bodies_at_once(mut self, bytes: usize) -> Self {
        self.bodies = bytes;
        self
    }

    /// Counts for the recorder of the `metrics` crate that is installed by then.
    ///
    /// Within a tokio runtime, which fetches the keys of workload issuers, and of clients that publish theirs.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<TokenService, BuildError> {
        let metadata = Metadata::new(self.ring.issuer(), self.ring.config()).ok_or(BuildError::NotAnIssuer)?;
        let in_force = InForce::new(self.policy, &self.ring, self.secrets.as_ref(), None)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let now = self.clock.now();
        let base_url = self.base_url.unwrap_or_else(|| signed::base_url_of(self.ring.issuer()));
        let signed = Signed::new(&base_url, now).map_err(BuildError::BaseUrl)?;
        if let Some(audit) = &self.audit {
            let (issuer, policy) = (self.ring.issuer().into(), in_force.policy.revision().into());
            audit.note(Record::Begin { time: Time(now), version: env!("CARGO_PKG_VERSION"), issuer, policy });
        }
        let paths = routes(&metadata, &self.ring).into_iter().map(|(_, path)| (admin::routed(&path), path));
        let paths = paths.collect::<Vec<_>>();
        let numbers = Numbers::new(self.ring.config(), paths.iter().map(|(path, route)| (&**path, &**route)));
        numbers.loaded();
        Ok(TokenService(Arc::new(Inner {
            // The length of a whole token is bounded by its profile.
            minter: self.ring.minter().max_payload_bytes(MAX_TOKEN_BYTES),
            ring: self.ring,
            metadata,
            born: UnixTime::from_secs(now.saturating_add(Duration::from_nanos(999_999_999)).as_secs())
                .saturating_add(ASSERTION_LEEWAY),
            clock: self.clock,
            secrets: self.secrets,
            in_force: ArcSwap::from_pointee(in_force),
            replays: ReplayMemory::default(),
            signed,
            idempotency: Arc::new(Idempotency::new(BOUNDS)),
            failures: self.failures.map(|per_minute| PeerLimit::per_minute(per_minute, |_, _| None)),
            room: Room::new(self.bodies),
            signing: Arc::new(Semaphore::new(cores)),
            orders: Arc::new(Semaphore::new(MAX_ORDERS)),
            audit: self.audit,
            numbers,
        })))
    }
}

impl fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder").field("ring", &self.ring).finish_non_exhaustive()
    }
}
