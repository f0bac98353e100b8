use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Weak};

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, SinkError};

use crate::part::Entries;
use crate::shared::{MAX_KEYS, Shared};

/// A feed's own part of a list: what is handed on here replaces only what has been handed on here. Clones are the same part.
///
/// It does not keep the list alive.
#[derive(Clone)]
pub struct Intake {
    list: Weak<Shared>,
    part: usize,
}

impl Intake {
    pub(crate) fn new(list: &Arc<Shared>, part: usize) -> Self {
        Self { list: Arc::downgrade(list), part }
    }

    /// Takes entries, all or none. Checks that begin after this has returned see them. Doing it again does no harm.
    ///
    /// `as_of` promises that with them everything is here that was revoked by then; `None` promises nothing. One that is further ahead of the clock
    /// here than [`MAX_LEEWAY`](countersign_claims::MAX_LEEWAY) is not believed, and is a [failure](Self::failed); the entries are taken all the same.
    ///
    /// # Errors
    /// [`SinkError::Full`] if there is no room, [`SinkError::Unfit`] if there is a name that no token could have, [`SinkError::Unavailable`] if the
    /// list is gone.
    pub fn add(&self, entries: &[Entry], as_of: Option<UnixTime>) -> Result<(), SinkError> {
        let list = self.list.upgrade().ok_or_else(|| SinkError::Unavailable("the list is gone".into()))?;
        let mut hashed = Entries::default();
        for entry in entries {
            hashed.push(&list.hashing, entry)?;
        }
        list.add(self.part, hashed, as_of)
    }

    /// Begins a whole snapshot, to [replace](Self::replace) everything of this part.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotBuilder {
        SnapshotBuilder { list: self.list.clone(), part: self.part, entries: Entries::default(), is_full: false }
    }

    /// Puts a whole snapshot in place of everything that has been handed on here. Checks that begin after this has returned see it, and none sees
    /// half of it. For ten million entries it takes a second or two, so it is nothing for an asynchronous task.
    ///
    /// `as_of` promises that everything is in it that was revoked by then.
    ///
    /// # Errors
    /// [`ReplaceError`]; then everything is as it was.
    pub fn replace(&self, snapshot: SnapshotBuilder, as_of: UnixTime) -> Result<(), ReplaceError> {
        let list = self.list.upgrade().ok_or(ReplaceError::Gone)?;
        if !Weak::ptr_eq(&self.list, &snapshot.list) {
            return Err(ReplaceError::Foreign);
        }
        list.replace(self.part, snapshot.entries, as_of)
    }

    /// Nothing has changed: everything that was revoked by `as_of` is here. One that is too far ahead is not believed, as in [`add`](Self::add).
    pub fn confirm(&self, as_of: UnixTime) {
        self.tell(|list, part| list.confirm(part, as_of));
    }

    /// Whoever revokes hands it on here before they say that it is done, so this part is never stale.
    pub fn confirm_always(&self) {
        self.tell(|list, part| list.confirm_always(part));
    }

    /// Something has gone wrong, for status and log. What is known stays as it is, and gets older.
    pub fn failed(&self, why: impl Into<Cow<'static, str>>) {
        self.tell(|list, part| list.failed(part, why.into()));
    }

    /// Not everything could be taken: until the next whole snapshot the list is incomplete, and its age is not known.
    pub fn overflowed(&self) {
        self.tell(|list, part| list.overflowed(part));
    }

    /// Whether there is still a list that wants this; if not, a feed ends.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.list.strong_count() > 0
    }

    fn tell(&self, tell: impl FnOnce(&Arc<Shared>, usize)) {
        if let Some(list) = self.list.upgrade() {
            tell(&list, self.part);
        }
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("part", &self.part).field("is_wanted", &self.is_wanted()).finish()
    }
}

/// A whole snapshot that is being read; see [`Intake::snapshot`]. Entries are hashed at once, so that it takes 24 bytes for each.
pub struct SnapshotBuilder {
    list: Weak<Shared>,
    part: usize,
    entries: Entries,
    is_full: bool,
}

impl SnapshotBuilder {
    /// One entry more. What is over is left out when it is all there, since it is not known before of when it is.
    ///
    /// # Errors
    /// [`SinkError::Full`] if there is no room, [`SinkError::Unfit`] if it has a name that no token could have, [`SinkError::Unavailable`] if the list
    /// is gone. The entry is not in it then; the rest is.
    pub fn push(&mut self, entry: &Entry) -> Result<(), SinkError> {
        let list = self.list.upgrade().ok_or_else(|| SinkError::Unavailable("the list is gone".into()))?;
        let capacity = list.options.capacity;
        if !self.is_full && self.entries.len() >= capacity.saturating_add(MAX_KEYS) {
            // Before it is refused, what has come twice is put together; if that does not make much room it is not tried again.
            self.entries.put_together();
            // Keys have room of their own, and take none from the others.
            let keys = self.entries.keys.len();
            self.is_full = keys > MAX_KEYS || self.entries.len() - keys >= capacity - capacity / 8;
        }
        if self.is_full {
            list.no_room(self.part);
            return Err(SinkError::Full { capacity });
        }
        self.entries.push(&list.hashing, entry)
    }
}

impl fmt::Debug for SnapshotBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotBuilder").field("entries", &self.entries.len()).finish_non_exhaustive()
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
