use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, SinkError};

use super::file::{self, Stat};
use super::{SnapshotError, read};

/// How often a file is looked at unless set.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval. It is the length of a look that counts, and more often would be a loop.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Reads a snapshot file whenever it has changed.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    interval: Duration,
}

impl SnapshotFile {
    /// The file at `path`; it need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), interval: DEFAULT_INTERVAL }
    }

    /// How often it is looked at: [`DEFAULT_INTERVAL`] unless set, [`MIN_INTERVAL`] at least.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(MIN_INTERVAL);
        self
    }
}

/// What has been seen of the file so far.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    /// The file that need not be read again.
    seen: Option<Stat>,
    /// The `as_of` in force.
    in_force: Option<UnixTime>,
}

impl Follower {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None, in_force: None }
    }

    /// Reads the file if it has changed: each entry goes to `take`, and the time as of which they are all of them is the answer, to be put in force
    /// and then [told](Self::put_in_force). `None`: there is nothing new.
    pub(super) fn look(
        &mut self,
        now: UnixTime,
        take: impl FnMut(&Entry) -> Result<(), SinkError>,
    ) -> Result<Option<UnixTime>, SnapshotError> {
        if self.seen.as_ref() == Some(&file::stat(&self.path)?) {
            return Ok(None);
        }
        let (mut file, stat) = file::open(&self.path)?;
        let outcome = read::read(&mut file, self.in_force, take);
        if !stat.is_still(&file) {
            return Err(SnapshotError::changed());
        }
        // A bad file stays bad, and is not read again with every look.
        self.seen = match &outcome {
            Err(error) if error.may_pass() => None,
            _ => Some(stat),
        };
        // From the future it would look fresh for a long time, and keep everything out that comes from the present.
        outcome.map(|header| Some(header.as_of.min(now).max(self.in_force.unwrap_or(UnixTime::from_secs(0)))))
    }

    /// What the last look has found is in force.
    pub(super) fn put_in_force(&mut self, as_of: UnixTime) {
        self.in_force = Some(as_of);
    }
}
