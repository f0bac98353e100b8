//! A node of a key ring at work: the shell around [`step`](crate::step::step), which decides everything.
//!
//! - `ring/builder.rs`: what a node is to be, and its start. `ring/task.rs`: the task. `ring/jobs.rs`: what it does for
//!   the core, each piece within a time; `ring/work.rs`: the kinds of that, and how it fails. `ring/material.rs`:
//!   private keys in memory. `ring/read_back.rs`: where the set is read as verifiers read it.
//! - `ring/order.rs`: what operators order. `ring/status.rs`: how the ring is. `ring/event.rs`, `ring/report.rs`,
//!   `ring/log.rs`, `ring/numbers.rs`: what is told of what happens.

mod builder;
mod event;
mod jobs;
#[cfg(feature = "tracing")]
mod log;
mod material;
#[cfg(feature = "metrics")]
mod numbers;
mod order;
mod read_back;
mod report;
mod status;
mod task;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_token::PrivateDer;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

pub use builder::{RingBuilder, StartError};
pub use event::RingEvent;
pub(crate) use material::{algorithm_of, verifying};
use order::Order;
pub use order::{OrderError, Revoked, Rotated};
pub use read_back::ReadBack;
use report::Report;
pub use status::{KeyStatus, RingStatus, SlotStatus};
pub use work::{Moment, Work};

use crate::adopt::AdoptKey;
use crate::config::RingConfig;
use crate::desk::Shared;
use crate::mint::Minter;
use crate::seal::KekRing;
use crate::serve::JwksService;
use crate::signer::Signer;
use crate::source::RingKeys;
use crate::state::{KeyState, SlotMode, Terms};
use crate::step::{Command, Compromised, Exposure, NotSigning, Reply, Role};
use crate::store::KeyStore;

/// A node of a key ring: its keys are made, published, used, retired and destroyed while it exists, here or by other
/// nodes on the same store. Clones are the same node. Its task ends with the last of them and of what was made from
/// them.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use countersign_issuer::{Kek, KekRing, MemoryStore, Ring, RingConfig, Slot};
/// use countersign_token::Algorithm;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
/// # // So that nobody waits for it.
/// # let mut config = config;
/// # config.timing.tick = Duration::from_millis(100);
/// let keks = KekRing::new([Kek::random()?])?;
/// let ring = Ring::builder("https://issuer.example", config, Arc::new(MemoryStore::new()), keks).start().await?;
/// ring.ready_within(Duration::from_secs(30)).await?;
///
/// let signing = ring.signer("es256")?;
/// assert_eq!(signing.signer.algorithm(), Algorithm::Es256);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

/// From the handles to the task, and back.
pub(crate) struct Door {
    orders: mpsc::Sender<Order>,
    /// Whether the task is to end as soon as it may.
    ending: watch::Sender<bool>,
    report: watch::Receiver<Arc<Report>>,
    role: Role,
}

impl Door {
    /// To no task.
    pub(crate) fn closed() -> Self {
        let report = watch::channel(Arc::new(Report::new())).1;
        Self { orders: mpsc::channel(1).0, ending: watch::channel(false).0, report, role: Role::Signer }
    }
}

/// Who signs in a slot at this moment. To be asked for again with each token: it is only good now.
#[derive(Clone)]
pub struct SlotSigner {
    /// What the header of the token says.
    pub kid: String,
    /// The latest that its `exp` may be (I5).
    pub latest_exp: UnixTime,
    /// Who signs it.
    pub signer: Arc<dyn Signer>,
}

/// The slots that do not sign, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady(pub Vec<(String, NotSigning)>);

impl Ring {
    /// A node of the ring of that issuer (its `iss`), which is kept in `store`, its private keys sealed under `keks`. If
    /// there is no ring in that store, one begins. It opens for this issuer only, so the name is for good.
    #[must_use]
    pub fn builder(
        issuer: impl Into<Arc<str>>,
        config: RingConfig,
        store: Arc<dyn KeyStore>,
        keks: KekRing,
    ) -> RingBuilder {
        RingBuilder::new(issuer.into(), config, store, keks)
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// What it was told to be.
    #[must_use]
    pub fn config(&self) -> &RingConfig {
        &self.shared.config
    }

    /// Waits until every slot of the configuration signs on this node.
    ///
    /// # Errors
    /// [`NotReady`] after that time, with the slots that do not, or at once if the task has ended.
    pub async fn ready_within(&self, time: Duration) -> Result<(), NotReady> {
        let mut report = self.shared.door.report.clone();
        let waiting = async {
            while self.not_signing().is_some() {
                if report.changed().await.is_err() {
                    break;
                }
            }
        };
        // Whether in time or not: what counts is how it is now.
        let _ = timeout(time, waiting).await;
        self.not_signing().map_or(Ok(()), Err)
    }

    /// Waits until this node has done all that is due by now, and says whether it has in that time: for a process that
    /// takes one step and ends, on a schedule. What only time brings, such as the end of an announcement, is due later.
    /// If it has not, the [status](Self::status) says what is failing or alarming.
    pub async fn settled_within(&self, time: Duration) -> bool {
        let mut report = self.shared.door.report.clone();
        matches!(timeout(time, report.wait_for(|report| report.is_at_rest)).await, Ok(Ok(_)))
    }

    /// Ends this node as soon as nothing is left half done that it has begun, and says whether it has ended in that time:
    /// what it writes is written, a key that it has announced has its private part in the store, orders are answered and
    /// revocations told. What is merely due is left to other nodes, or to this one's next start, and a key that is being
    /// made and that nobody knows of yet is not waited for.
    ///
    /// There are no orders after that ([`OrderError::Stopped`]), and its [minter](Self::minter) signs as long as its view is
    /// young enough.
    pub async fn end_within(&self, time: Duration) -> bool {
        self.shared.door.ending.send_replace(true);
        let mut report = self.shared.door.report.clone();
        // The task has the other end.
        timeout(time, report.wait_for(|_| false)).await.is_ok_and(|ended| ended.is_err())
    }

    /// Who signs in that slot at this moment.
    ///
    /// # Errors
    /// [`NotSigning`] if this node may not, or cannot.
    pub fn signer(&self, slot: &str) -> Result<SlotSigner, NotSigning> {
        let desk = self.shared.desk.load();
        let leave = desk.view.leave(slot, self.shared.clock.now())?;
        let signer = desk.signers.get(leave.kid).ok_or(NotSigning::KeyUnavailable)?;
        Ok(SlotSigner { kid: leave.kid.to_owned(), latest_exp: leave.latest_exp, signer: Arc::clone(signer) })
    }

    /// How the ring is, as this node sees it.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        let report = Arc::clone(&self.shared.door.report.borrow());
        RingStatus::of(&self.shared.desk.load(), &report, &self.shared.config, self.shared.clock.now())
    }

    /// How far that key has come, also if there is no more than its [tombstone](crate::state::Tombstone); `None` if there
    /// is none, or nothing was read yet.
    #[must_use]
    pub fn fate(&self, kid: &str) -> Option<KeyState> {
        self.shared.desk.load().ring.as_ref()?.fate(kid)
    }

    /// Makes the standbys of all slots sign, in one write. A slot without a standby follows as soon as it has one: that
    /// is written down, and whichever node is there then sees to it.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn rotate_all(&self) -> Result<Rotated, OrderError> {
        self.rotate::<String>([]).await
    }

    /// The same for these slots only; for all of them if none is named.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn rotate<S: Into<String>>(&self, slots: impl IntoIterator<Item = S>) -> Result<Rotated, OrderError> {
        let slots = slots.into_iter().map(Into::into).collect();
        match self.order(Command::Rotate { slots }, Vec::new()).await? {
            Reply::Rotated { now, later } => Ok(Rotated { now, later }),
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => Ok(Rotated::default()),
        }
    }

    /// Revokes keys, so that nothing they have signed counts any more, and lets the standbys sign in their place. The
    /// answer comes when that is written; the set follows at once, and so does [the sink](RingBuilder::revocations), if
    /// there is one. It needs no sound clock.
    ///
    /// `sign_at_once` is for slots that have no key left: with `true` the next one signs as soon as it was read back,
    /// which is refused by verifiers that do not look for a key they lack; with `false` it waits until none can lack
    /// it. An empty set is never published: if no key is left at all, the last one stays until the next key is made, and
    /// [`jwks`](Self::jwks) answers 503.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn compromise(&self, which: Compromised, sign_at_once: bool) -> Result<Revoked, OrderError> {
        let named = if let Compromised::Key(kid) = &which { vec![kid.clone()] } else { Vec::new() };
        match self.order(Command::Compromise { which, sign_at_once }, Vec::new()).await? {
            Reply::Revoked { kids, exposure, halted } => Ok(Revoked { kids, exposure, halted }),
            Reply::Refused(refusal) => Err(refusal.into()),
            // It was done in a write that came late.
            _ => Ok(Revoked { kids: named, exposure: self.exposure(), halted: self.halted() }),
        }
    }

    /// Gives up a key that has not signed yet.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn abandon(&self, kid: impl Into<String>) -> Result<(), OrderError> {
        self.done(Command::Abandon { kid: kid.into() }, Vec::new()).await
    }

    /// Takes over the keys of a service that has signed with them, all of them or none. What is published in the same
    /// place, if it is another's, has to be among them: a set is never shrunk.
    ///
    /// A key that is to go on signing needs a slot without a key. A new ring makes its own within seconds, so adopt
    /// right after the start; where the set of the other service is in the store as the published one, the ring does
    /// not begin before its keys were adopted (alarm `state_lost`). What was adopted before is refused
    /// ([`Refusal::KidUsed`](crate::step::Refusal::KidUsed)) and stays as it is.
    ///
    /// # Errors
    /// [`OrderError::Key`] if one of them is no such key, without anything having been asked of the ring.
    pub async fn adopt(&self, keys: impl IntoIterator<Item = AdoptKey>) -> Result<(), OrderError> {
        let (mut adopted, mut private) = (Vec::new(), Vec::new());
        for (index, key) in keys.into_iter().enumerate() {
            let (key, der) = key.read(&self.shared.config).map_err(|error| OrderError::Key { index, error })?;
            private.extend(der.map(|der| (key.jwk.kid().to_owned(), der)));
            adopted.push(key);
        }
        self.done(Command::Adopt { keys: adopted }, private).await
    }

    /// What signs tokens with its keys.
    #[must_use]
    pub fn minter(&self) -> Minter {
        Minter::new(Arc::clone(&self.shared))
    }

    /// Its public keys, for a verifier in the same process.
    #[must_use]
    pub fn keys(&self) -> RingKeys {
        RingKeys::new(Arc::clone(&self.shared))
    }

    /// What serves its public keys over HTTP.
    #[must_use]
    pub fn jwks(&self) -> JwksService {
        JwksService::new(Arc::clone(&self.shared))
    }

    async fn done(&self, command: Command, private: Vec<(String, PrivateDer)>) -> Result<(), OrderError> {
        match self.order(command, private).await? {
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// The answer waits for the store as long as it is in doubt what that has done. Whoever drops it stops waiting; the
    /// order stays.
    async fn order(&self, command: Command, private: Vec<(String, PrivateDer)>) -> Result<Reply, OrderError> {
        if self.shared.door.role == Role::Signer {
            return Err(OrderError::NotRotator);
        }
        let (reply, replied) = oneshot::channel();
        let order = Order { command, private, reply };
        self.shared.door.orders.send(order).await.map_err(|_| OrderError::Stopped)?;
        replied.await.map_err(|_| OrderError::Stopped)
    }

    fn not_signing(&self) -> Option<NotReady> {
        let (desk, now) = (self.shared.desk.load(), self.shared.clock.now());
        let slots = self.shared.config.slots.iter();
        let missing = slots.filter_map(|slot| Some((slot.name.clone(), desk.view.leave(&slot.name, now).err()?)));
        let missing: Vec<_> = missing.collect();
        (!missing.is_empty()).then_some(NotReady(missing))
    }

    /// For how long tokens of a key that is revoked now may still be accepted somewhere (I9).
    #[must_use]
    pub fn exposure(&self) -> Exposure {
        let timing = &self.shared.config.timing;
        let desk = self.shared.desk.load();
        desk.ring.as_ref().map_or_else(|| Terms::from(timing), |ring| ring.terms).exposure(timing.fan_out)
    }

    fn halted(&self) -> Vec<String> {
        let desk = self.shared.desk.load();
        let slots = desk.ring.iter().flat_map(|ring| &ring.slots);
        slots.filter(|(_, slot)| slot.mode != SlotMode::Running).map(|(name, _)| name.clone()).collect()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("issuer", &self.shared.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for SlotSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotSigner").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not ready:")?;
        self.0.iter().try_for_each(|(slot, reason)| write!(f, " slot `{slot}`: {reason};"))
    }
}

impl std::error::Error for NotReady {}
