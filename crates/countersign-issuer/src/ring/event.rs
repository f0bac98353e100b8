use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Work;
use crate::step::{Alarm, Note};

/// Something that an operator may want to know of a node. Nothing in it is secret; names of keys that were adopted are
/// somebody else's text: escape them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingEvent {
    /// Something is wrong. Said once, until it is [over](Self::Cleared).
    Alarm(Alarm),
    /// What was alarming is so no more.
    Cleared(Alarm),
    /// Something has happened, as it should.
    Note(Note),
    /// The sink has taken the revocation of a key.
    RevocationPushed {
        /// Of which.
        kid: String,
        /// Within that time every verifier that follows the feed refuses its tokens.
        within: Duration,
    },
    /// Something did not succeed; it is tried again. What follows from it is said by itself.
    Failed {
        /// What.
        work: Work,
        /// Why, in the words of whoever was asked.
        error: Arc<str>,
    },
}

/// For logs.
impl fmt::Display for RingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alarm(alarm) => write!(f, "alarm: {alarm:?}"),
            Self::Cleared(alarm) => write!(f, "over: {alarm:?}"),
            Self::Note(note) => write!(f, "{note:?}"),
            Self::RevocationPushed { kid, within } => {
                write!(f, "the revocation of key {kid:?} is in force within {within:?}")
            }
            Self::Failed { work, error } => write!(f, "{}: {error}", work.code()),
        }
    }
}
