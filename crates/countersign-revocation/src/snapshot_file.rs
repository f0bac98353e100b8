#![doc = include_str!("../SNAPSHOT.md")]

mod feed;
mod file;
mod line;
mod read;
mod sink;

use std::fmt;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::revocation::SinkError;

pub use crate::fits::MAX_NAME_BYTES;
pub use feed::{DEFAULT_INTERVAL, MIN_INTERVAL, SnapshotFile};
pub use read::MAX_LINE_BYTES;
pub use sink::{DEFAULT_CAPACITY, DEFAULT_HEARTBEAT, FileSink, FileSinkOptions, READ_ALLOWANCE};

/// How soon a thread notices that its list or its sink is gone, however long it has to wait for something else.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// Why a snapshot file is not taken. It says where, and nothing of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is no file.
    Missing,
    /// It cannot be read or written, or must not be: not a regular file, or others may write to it.
    Io(Box<str>),
    /// It breaks a rule of the format.
    Malformed {
        /// In this line, from 1.
        line: u64,
        /// This one.
        what: &'static str,
    },
    /// It is from a time before the one in force.
    Older {
        /// Its `as_of`.
        as_of: UnixTime,
        /// That of the one in force.
        in_force: UnixTime,
    },
    /// What is in it is refused.
    Refused {
        /// From this line on, from 1.
        line: u64,
        /// For this reason.
        why: SinkError,
    },
}

impl SnapshotError {
    fn io(why: impl fmt::Display) -> Self {
        Self::Io(why.to_string().into())
    }

    fn changed() -> Self {
        Self::Io("changed while it was read".into())
    }

    /// Whether the same file may be good the next time it is read.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Missing | Self::Io(_))
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no file"),
            Self::Io(why) => f.write_str(why),
            Self::Malformed { line, what } => write!(f, "line {line}: {what}"),
            Self::Older { as_of, in_force } => {
                write!(f, "its `as_of` is {as_of}, before {in_force}, which is in force")
            }
            Self::Refused { line, why } => write!(f, "line {line}: {why}"),
        }
    }
}

impl std::error::Error for SnapshotError {}

#[cfg(test)]
mod tests;
