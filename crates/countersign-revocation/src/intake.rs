use std::borrow::Cow;
use std::fmt;
use std::sync::Weak;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, SinkError};

use crate::list::Shared;

/// A feed's own part of a list: what is handed on here replaces only what has been handed on here. Clones are the same part.
///
/// It does not keep the list alive.
#[derive(Clone)]
pub struct Intake {
    shared: Weak<Shared>,
}

impl Intake {
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self { shared }
    }

    /// Takes entries, all or none. Checks that begin after this has returned see them. Doing it again does no harm.
    ///
    /// `as_of` promises that with them everything is here that was revoked by then; `None` promises nothing.
    ///
    /// # Errors
    /// [`SinkError::Full`] if there is no room, [`SinkError::Unfit`] if there is a name that no token could have, [`SinkError::Unavailable`] if the
    /// list is gone.
    pub fn add(&self, entries: &[Entry], as_of: Option<UnixTime>) -> Result<(), SinkError> {
        let _ = (entries, as_of);
        Ok(())
    }

    /// Begins a whole snapshot, to [replace](Self::replace) everything of this part.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotBuilder {
        SnapshotBuilder { entries: 0 }
    }

    /// Puts a whole snapshot in place of everything that has been handed on here. Checks that begin after this has returned see it, and none sees
    /// half of it.
    ///
    /// # Errors
    /// [`ReplaceError`]; then everything is as it was.
    pub fn replace(&self, snapshot: SnapshotBuilder, as_of: UnixTime) -> Result<(), ReplaceError> {
        let _ = (snapshot.entries, as_of);
        Ok(())
    }

    /// Nothing has changed: everything that was revoked by `as_of` is here.
    pub fn confirm(&self, as_of: UnixTime) {
        let _ = as_of;
    }

    /// Whoever revokes hands it on here before they say that it is done, so this part is never stale.
    pub fn confirm_always(&self) {}

    /// Something has gone wrong, for status and log. What is known stays as it is, and gets older.
    pub fn failed(&self, why: impl Into<Cow<'static, str>>) {
        let _ = why.into();
    }

    /// Not everything could be taken: until the next whole snapshot the list is incomplete, and its age is not known.
    pub fn overflowed(&self) {}

    /// Whether there is still a list that wants this; if not, a feed ends.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.shared.strong_count() > 0
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

/// A whole snapshot that is being read; see [`Intake::snapshot`]. Entries are hashed at once, so that it takes some 24 bytes for each.
pub struct SnapshotBuilder {
    entries: usize,
}

impl SnapshotBuilder {
    /// One entry more. What is over already is left out.
    ///
    /// # Errors
    /// [`SinkError::Full`] if there is no room, [`SinkError::Unfit`] if it has a name that no token could have. The entry is not in it then; the
    /// rest is.
    pub fn push(&mut self, entry: &Entry) -> Result<(), SinkError> {
        let _ = entry;
        self.entries += 1;
        Ok(())
    }
}

impl fmt::Debug for SnapshotBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotBuilder").finish_non_exhaustive()
    }
}

/// Why a whole snapshot was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplaceError {
    /// It is older than what is known already.
    Older {
        /// How old it is.
        as_of: UnixTime,
        /// And what is known.
        in_force: UnixTime,
    },
    /// It is from the future, so one of the clocks is wrong. It would keep out all that come until then.
    Ahead {
        /// When it says it is from.
        as_of: UnixTime,
        /// When that is by the clock here.
        now: UnixTime,
    },
    /// There is no room for it.
    Full {
        /// How many entries there may be.
        capacity: usize,
    },
    /// It was begun at another list.
    Foreign,
    /// The list is gone.
    Gone,
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { as_of, in_force } => {
                write!(f, "the snapshot is of {as_of}, and what is known already is of {in_force}")
            }
            Self::Ahead { as_of, now } => write!(f, "the snapshot is of {as_of}, and it is only {now}"),
            Self::Full { capacity } => write!(f, "there is no room for more revocations than {capacity}"),
            Self::Foreign => f.write_str("the snapshot was begun at another list"),
            Self::Gone => f.write_str("the list is gone"),
        }
    }
}

impl std::error::Error for ReplaceError {}
