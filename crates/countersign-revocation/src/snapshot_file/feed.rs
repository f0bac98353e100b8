use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use countersign_claims::revocation::{Entry, SinkError};
use countersign_claims::{Clock, UnixTime};

use super::file::{self, Stat};
use super::{SnapshotError, read};
use crate::feed::Feed;
use crate::intake::Intake;

/// How often a file is looked at unless set.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval. It is the length of a look that counts, and more often would be a loop.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// How soon it is noticed that the list is gone, however long the interval is.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// Follows a [snapshot file](super): reads it whenever it has changed, and puts all of it in place of what it said before, or nothing.
///
/// How old that knowledge is counts from the file's `as_of`, by the publisher's clock, so it also gets older when the publisher has stopped. A file
/// that is missing or bad is reported in the list's [status](crate::RevocationList::status) and changes nothing.
///
/// A list that follows it has a thread for it, with or without a runtime, which ends within a second of the list: a file system that hangs
/// keeps that thread and nothing else.
///
/// ```
/// use countersign_revocation::{RevocationList, SnapshotFile};
///
/// let revocations = RevocationList::new().follow(SnapshotFile::new("/var/lib/issuer/revocations"));
/// ```
#[derive(Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    interval: Duration,
    clock: Arc<dyn Clock>,
}

impl SnapshotFile {
    /// The file at `path`; it need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), interval: DEFAULT_INTERVAL, clock: Arc::new(|| UnixTime::from(SystemTime::now())) }
    }

    /// How often it is looked at: [`DEFAULT_INTERVAL`] unless set, [`MIN_INTERVAL`] at least. A file that has not changed costs one call of the
    /// operating system.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(MIN_INTERVAL);
        self
    }

    /// Where the time comes from, for files from the future; the system's clock unless set. It should be the list's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl Feed for SnapshotFile {
    fn name(&self) -> Cow<'static, str> {
        format!("file {}", self.path.display()).into()
    }

    fn start(self, intake: Intake) {
        let errors = intake.clone();
        // A thread, because reading blocks, and because a list needs no runtime.
        let thread = thread::Builder::new().name("countersign-revocations".into());
        if let Err(error) = thread.spawn(move || self.run(&intake)) {
            errors.failed(format!("there is no thread to follow it: {error}"));
        }
    }
}

impl SnapshotFile {
    fn run(self, intake: &Intake) {
        let mut follower = Follower::new(&self.path);
        while intake.is_wanted() {
            follower.step(self.clock.now(), intake);
            let looked = Instant::now();
            let left = || self.interval.saturating_sub(looked.elapsed());
            while intake.is_wanted() && !left().is_zero() {
                thread::sleep(left().min(NOTICED_WITHIN));
            }
        }
    }
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFile")
            .field("path", &self.path)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
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
    /// What was wrong with the last file, and has been reported.
    reported: Option<String>,
}

impl Follower {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None, in_force: None, reported: None }
    }

    /// Looks once, and hands on what there is.
    pub(super) fn step(&mut self, now: UnixTime, intake: &Intake) {
        let mut snapshot = intake.snapshot();
        let replaced = match self.look(now, |entry| snapshot.push(entry)) {
            Ok(None) => return,
            Ok(Some(as_of)) => {
                intake.replace(snapshot, as_of).map(|()| self.put_in_force(as_of)).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        // The same again is no news.
        let error = replaced.err();
        if error != self.reported
            && let Some(error) = &error
        {
            intake.failed(error.clone());
        }
        self.reported = error;
    }

    /// Reads the file if it has changed: each entry goes to `take`, and the time as of which they are all of them is the answer, to be put in force
    /// and then [told](Self::put_in_force). `None`: there is nothing new.
    pub(super) fn look(
        &mut self,
        now: UnixTime,
        take: impl FnMut(&Entry) -> Result<(), SinkError>,
    ) -> Result<Option<UnixTime>, SnapshotError> {
        let seen = self.seen.take();
        let stat = file::stat(&self.path)?;
        if seen.as_ref() == Some(&stat) {
            self.seen = seen;
            return Ok(None);
        }
        let (mut file, stat) = file::open(&self.path)?;
        let outcome = read::read(&mut file, self.in_force, take);
        if !stat.is_still(&file) {
            return Err(SnapshotError::changed());
        }
        if !outcome.as_ref().is_err_and(SnapshotError::may_pass) {
            // A bad file stays bad, and is not read again with every look.
            self.seen = Some(stat);
        }
        // From the future it would look fresh for a long time, and keep everything out that comes from the present.
        outcome.map(|header| Some(header.as_of.min(now).max(self.in_force.unwrap_or(UnixTime::from_secs(0)))))
    }

    /// What the last look has found is in force.
    pub(super) fn put_in_force(&mut self, as_of: UnixTime) {
        self.in_force = Some(as_of);
    }
}
