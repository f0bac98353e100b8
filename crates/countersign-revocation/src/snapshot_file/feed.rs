use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use countersign_claims::revocation::{Entry, SinkError};
use countersign_claims::{Clock, UnixTime};
use siphasher::sip128::SipHasher13;

use super::file::{self, Stat};
use super::read::{self, Content};
use super::{NOTICED_WITHIN, SnapshotError};
use crate::feed::Feed;
use crate::intake::Intake;
use crate::part::is_ahead;

/// How often a file is looked at unless set.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval. It is the length of a look that counts, and more often would be a loop.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

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
pub(super) struct Follower {
    path: PathBuf,
    /// The file that need not be read again.
    seen: Option<Stat>,
    in_force: Option<Content>,
    /// With keys of its own, so that nobody can make a file that looks like another.
    digest: SipHasher13,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The file has been looked at before.
    Nothing,
    /// What is in force, and nothing else has been revoked until that later time.
    Same(Content),
    /// Something else.
    New(Content),
}

impl Follower {
    pub(super) fn new(path: &Path) -> Self {
        // All that the standard library has of randomness.
        let [key, other] = [0, 1].map(|_| RandomState::new().hash_one(0_u8));
        let digest = SipHasher13::new_with_keys(key, other);
        Self { path: path.to_owned(), seen: None, in_force: None, digest }
    }

    /// Looks once, and hands on what there is.
    pub(super) fn step(&mut self, now: UnixTime, intake: &Intake) {
        let mut snapshot = intake.snapshot();
        match self.look(now, |entry| snapshot.push(entry)) {
            Ok(Found::Nothing) => {}
            // It costs less than a whole snapshot, and wakes up nobody who waits for changes.
            Ok(Found::Same(content)) => {
                intake.confirm(content.as_of);
                self.put_in_force(content);
            }
            Ok(Found::New(content)) => match intake.replace(snapshot, content.as_of) {
                Ok(()) => self.put_in_force(content),
                Err(error) => intake.failed(error.to_string()),
            },
            Err(error) => intake.failed(error.to_string()),
        }
    }

    /// Reads the file if it has changed. If it says something new each entry goes to `take`, which counts if that is the answer. What it says is
    /// then to be put in force, and that is to be [told](Self::put_in_force).
    pub(super) fn look(
        &mut self,
        now: UnixTime,
        take: impl FnMut(&Entry) -> Result<(), SinkError>,
    ) -> Result<Found, SnapshotError> {
        let seen = self.seen.take();
        let stat = file::stat(&self.path)?;
        if seen.as_ref() == Some(&stat) {
            self.seen = seen;
            return Ok(Found::Nothing);
        }
        let as_of = self.believed(now);
        if let Some(in_force) = self.in_force {
            let (mut file, stat) = file::open(&self.path)?;
            // If anything is wrong with it, that is found again below.
            let skimmed = read::skim(&mut file, as_of, self.digest);
            if let Ok(content) = skimmed
                && content.body == in_force.body
                && stat.is_still(&file)
            {
                self.seen = Some(stat);
                return Ok(Found::Same(self.by_now(content, now)));
            }
        }
        let (mut file, stat) = file::open(&self.path)?;
        let outcome = read::read(&mut file, as_of, self.digest, take);
        if !stat.is_still(&file) {
            return Err(SnapshotError::changed());
        }
        if !outcome.as_ref().is_err_and(SnapshotError::may_pass) {
            // A bad file stays bad, and is not read again with every look.
            self.seen = Some(stat);
        }
        outcome.map(|content| Found::New(self.by_now(content, now)))
    }

    /// What has been found is in force.
    pub(super) fn put_in_force(&mut self, content: Content) {
        self.in_force = Some(content);
    }

    /// What is from the future is from now: it would look fresh for a long time, and keep everything out that comes from the present.
    fn by_now(&self, content: Content, now: UnixTime) -> Content {
        let as_of = content.as_of.min(now);
        Content { as_of: self.believed(now).map_or(as_of, |in_force| as_of.max(in_force)), ..content }
    }

    /// The time of what is in force, which nothing older takes the place of. One that has not come yet was read off a clock that was ahead, and would
    /// keep out for so long what is revoked now.
    fn believed(&self, now: UnixTime) -> Option<UnixTime> {
        self.in_force.map(|content| content.as_of).filter(|as_of| !is_ahead(*as_of, now))
    }
}
