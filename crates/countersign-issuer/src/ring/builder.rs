use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_claims::revocation::RevocationSink;
use countersign_token::KeySet;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::event::RingEvent;
use super::jobs::{Hook, Tools};
use super::read_back::ReadBack;
use super::report::{Listener, Report, Teller};
use super::task::{self, Task};
use super::work::{Moment, within};
use super::{Door, Ring};
use crate::config::{ConfigError, RingConfig};
use crate::desk::{Desk, Shared};
use crate::holder::KeyHolder;
use crate::seal::{KekRing, StateMac};
use crate::step::{Effect, Node, Role};
use crate::store::{KeyStore, StoreError, StoreErrorKind};
use crate::time::{Clock, SystemClock};

/// How many orders wait for the task; whoever comes then waits himself.
const MAX_ORDERS: usize = 16;

/// How long the probe of the store may take: it tries a dozen operations, one after the other.
const MAX_PROBE_TIME: Duration = Duration::from_secs(30);

/// What a node of a ring is to be. Made by [`Ring::builder`].
pub struct RingBuilder {
    issuer: Arc<str>,
    config: RingConfig,
    store: Arc<dyn KeyStore>,
    keks: KekRing,
    holder: Option<Arc<dyn KeyHolder>>,
    role: Role,
    clock: Arc<dyn Clock>,
    read_back: ReadBack,
    sink: Option<Arc<dyn RevocationSink>>,
    listener: Option<Listener>,
    hook: Option<Hook>,
}

impl RingBuilder {
    pub(super) fn new(issuer: Arc<str>, config: RingConfig, store: Arc<dyn KeyStore>, keks: KekRing) -> Self {
        Self {
            issuer,
            config,
            store,
            keks,
            holder: None,
            role: Role::default(),
            clock: Arc::new(SystemClock::new()),
            read_back: ReadBack::default(),
            sink: None,
            listener: None,
            hook: None,
        }
    }

    /// What the node does. [`Role::Rotator`] unless it is said; of those there may be any number. A [`Role::Signer`]
    /// takes no orders, and a ring of signers only stands still.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Where the node takes the time from. [`SystemClock`] unless it is said.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where a new key has to be found before the clock of its announcement starts (I1). [`ReadBack::from_store`]
    /// unless it is said.
    #[must_use]
    pub fn read_back(mut self, from: ReadBack) -> Self {
        self.read_back = from;
        self
    }

    /// Where private keys are made and stay. Unless it is said, the node makes them itself and has them in memory, and what is stored
    /// is the key.
    #[must_use]
    pub fn key_holder(mut self, holder: Arc<dyn KeyHolder>) -> Self {
        self.holder = Some(holder);
        self
    }

    /// Whom to tell of revoked keys: the sink, such as the `RevocationList` of `countersign-revocation`. Each rotator
    /// tells it, and tells it again after a restart, as long as tokens of the key may be offered. Nobody unless it is
    /// said: verifiers then learn of it from the set.
    #[must_use]
    pub fn revocations(mut self, sink: Arc<dyn RevocationSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Calls `listener` with what happens, from the task of the node: it must not block. The status says the same by
    /// then.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&RingEvent) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// For tests that die at a certain step.
    #[doc(hidden)]
    #[must_use]
    pub fn at_each_effect(mut self, hook: impl Fn(&Effect, Moment) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Checks the configuration and the store, reads the state, and starts the one task of the node on the runtime that
    /// this is called on. Nothing was written by then but what a [probe](KeyStore::probe) writes, and nothing at all where
    /// there is a ring that is another issuer's or is sealed under another key; nodes that only sign do not probe.
    ///
    /// It does not wait for keys: [`Ring::ready_within`] does.
    ///
    /// # Errors
    /// [`StartError`]. A store that is out of reach is one: whoever starts the process may try again.
    pub async fn start(self) -> Result<Ring, StartError> {
        self.config.check().map_err(StartError::Config)?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let mut seed = [0; 16];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| StartError::Crypto)?;
        let keks = Arc::new(self.keks);
        let tools = Tools {
            issuer: Arc::clone(&self.issuer),
            config: self.config.clone(),
            role: self.role,
            store: self.store,
            keks: Arc::clone(&keks),
            holder: self.holder,
            mac: StateMac::new(keks, &*self.issuer),
            read_back: self.read_back,
            sink: self.sink,
            hook: self.hook,
        };
        if self.role == Role::Rotator {
            // Before anything is written beside what may be somebody else's. A store that was never probed may not say
            // what is not there.
            tools.look().await.map_err(StartError::State)?;
            let probe = tools.store.probe();
            within(MAX_PROBE_TIME, StoreErrorKind::Unavailable, probe).await.map_err(StartError::Store)?;
        }
        // The node looks again; this is so that whoever starts it hears of what it cannot read.
        tools.load().await.map_err(|failed| StartError::State(failed.text))?;

        let node = Node::new(u128::from_be_bytes(seed), self.role);
        let view = node.signing_view(&self.config);
        let desk = Desk::new(&self.config, view, Default::default(), None, Arc::new(KeySet::default()));
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        let (report, reported) = watch::channel(Arc::new(Report::new()));
        let (ending, ends) = watch::channel(false);
        let shared = Arc::new(Shared {
            issuer: Arc::clone(&self.issuer),
            config: self.config,
            clock: self.clock,
            desk: ArcSwap::from_pointee(desk),
            door: Door { orders, ending, report: reported, role: self.role },
        });
        #[cfg(feature = "metrics")]
        super::numbers::begin(&self.issuer);
        let teller = Teller::new(self.issuer, self.listener);
        runtime.spawn(task::run(Task::new(&shared, (ordered, ends), tools, node, report, teller)));
        Ok(Ring { shared })
    }
}

/// Without the key-encryption keys.
impl fmt::Debug for RingBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBuilder").field("issuer", &self.issuer).field("role", &self.role).finish_non_exhaustive()
    }
}

/// Why a node did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot keep the invariants.
    Config(ConfigError),
    /// The store does not keep its promises, or cannot be reached.
    Store(StoreError),
    /// The state cannot be read: the store does not hand it out, it is forged, or it is another version's. The reason,
    /// in which nothing of it is.
    State(Arc<str>),
    /// The crypto library has no randomness.
    Crypto,
    /// There is no tokio runtime here.
    NoRuntime,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Store(error) => write!(f, "the store cannot be used: {error}"),
            Self::State(text) => write!(f, "the state of the ring cannot be read: {text}"),
            Self::Crypto => f.write_str("the crypto library failed"),
            Self::NoRuntime => f.write_str("there is no tokio runtime here"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
