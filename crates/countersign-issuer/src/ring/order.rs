//! What operators order, and what comes of it.

use std::fmt;

use countersign_token::PrivateDer;
use tokio::sync::oneshot;

use crate::adopt::AdoptError;
use crate::step::{Command, Exposure, Refusal, Reply};

/// An order on its way to the task.
pub(crate) struct Order {
    pub(super) command: Command,
    /// Private parts of keys that are to be adopted, by `kid`.
    pub(super) private: Vec<(String, PrivateDer)>,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What a rotation has come to. Both are empty if it had been done already, in a write that came late; the
/// [status](crate::Ring::status) says how things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotated {
    /// The slots in which another key signs now.
    pub now: Vec<String>,
    /// The slots in which another will as soon as there is a standby.
    pub later: Vec<String>,
}

/// What a revocation has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoked {
    /// The keys that are revoked.
    pub kids: Vec<String>,
    /// For how long their tokens may still be accepted somewhere.
    pub exposure: Exposure,
    /// The slots that do not sign for now.
    pub halted: Vec<String>,
}

/// For whoever has ordered it. Names of keys that were adopted are somebody else's text, so all are escaped.
impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revoked: {:?}; their tokens may still be accepted {}", self.kids, self.exposure)?;
        if !self.halted.is_empty() {
            write!(f, "; no key signs for now in: {:?}", self.halted)?;
        }
        Ok(())
    }
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderError {
    /// By the ring: the reason.
    Refused(Refusal),
    /// One of the keys cannot be adopted: which, from 0, and why.
    Key {
        /// Which, from 0.
        index: usize,
        /// Why.
        error: AdoptError,
    },
    /// This node only signs.
    NotRotator,
    /// The node's task has ended, with its runtime. It is not known what has become of the order.
    Stopped,
}

impl OrderError {
    /// Whether it may be carried out another time, or by another node: what was ordered is not at fault.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        let is_of_ring = |refusal: &Refusal| matches!(refusal, Refusal::StoreFailed { .. } | Refusal::ClockUnsound);
        matches!(self, Self::Stopped | Self::NotRotator)
            || matches!(self, Self::Refused(refusal) if is_of_ring(refusal))
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Key { index, error } => write!(f, "key {index} cannot be adopted: {error}"),
            Self::NotRotator => f.write_str("this node signs and does not rotate"),
            Self::Stopped => f.write_str("the task of the ring has ended"),
        }
    }
}

impl std::error::Error for OrderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Key { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<Refusal> for OrderError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
