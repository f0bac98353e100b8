use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use countersign_claims::revocation::{Entry, Published, Publishing, RevocationSink, Revokes, SinkError};
use countersign_claims::{Clock, UnixTime};
use siphasher::sip128::SipHasher13;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::file::{self, ReplaceFault, Stat};
use super::line::{self, Header};
use super::{DEFAULT_INTERVAL, NOTICED_WITHIN, SnapshotError, read};
use crate::horizon::Horizon;
use crate::part::is_ahead;
use crate::shared::MAX_KEYS;
use crate::until::SLACK;

/// How many live entries a file may have unless set: some 100 MB, which are written anew for every revocation and every heartbeat.
pub const DEFAULT_CAPACITY: usize = 1_000_000;

/// How often the file is written when there is nothing new unless set: several times before anybody who reads it calls it stale by default.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);

/// The shortest heartbeat: readers look once a second, and every write is flushed to the disk.
const MIN_HEARTBEAT: Duration = Duration::from_secs(1);

/// How long reading is allowed for in what is promised, for every million entries that there may be: a reader that has just begun to read the
/// file before reads that to its end, waits for its interval, and reads the new one. A million take it about half a second.
pub const READ_ALLOWANCE: Duration = Duration::from_secs(2);

/// How a [`FileSink`] works.
#[derive(Clone)]
pub struct FileSinkOptions {
    heartbeat: Option<Duration>,
    reader_interval: Duration,
    capacity: usize,
    clock: Arc<dyn Clock>,
}

impl FileSinkOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            heartbeat: Some(DEFAULT_HEARTBEAT),
            reader_interval: DEFAULT_INTERVAL,
            capacity: DEFAULT_CAPACITY,
            clock: Arc::new(|| UnixTime::from(SystemTime::now())),
        }
    }

    /// How often the file is written when there is nothing new: [`DEFAULT_HEARTBEAT`] unless set, a second at least. It has to be well below
    /// the age at which readers call what they know stale.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat.max(MIN_HEARTBEAT));
        self
    }

    /// Starts no thread for the heartbeat: the owner calls [`FileSink::beat`].
    #[must_use]
    pub fn beat_by_hand(mut self) -> Self {
        self.heartbeat = None;
        self
    }

    /// How often the slowest reader looks at the file ([`SnapshotFile::interval`](super::SnapshotFile::interval)); [`DEFAULT_INTERVAL`] unless set. The
    /// time that is promised follows from it: this, and [`READ_ALLOWANCE`] for every million entries of the [capacity](Self::capacity).
    #[must_use]
    pub fn reader_interval(mut self, interval: Duration) -> Self {
        self.reader_interval = interval;
        self
    }

    /// How many live entries there may be, apart from keys, which are counted apart so that there is always room for them; [`DEFAULT_CAPACITY`] unless set. None is ever dropped to make room for another.
    #[must_use]
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }

    /// Where the time comes from; the system's clock unless set.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl FileSinkOptions {
    /// What is promised.
    fn within(&self) -> Duration {
        let millions = u32::try_from(self.capacity.div_ceil(1_000_000).max(1)).unwrap_or(u32::MAX);
        self.reader_interval.saturating_add(READ_ALLOWANCE.saturating_mul(millions))
    }
}

impl Default for FileSinkOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FileSinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSinkOptions")
            .field("heartbeat", &self.heartbeat)
            .field("reader_interval", &self.reader_interval)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Publishes revocations as a [snapshot file](super). Cheap to clone.
///
/// All that is revoked and still matters is in memory too, and the file is written anew, as a whole, with every [`publish`](RevocationSink::publish)
/// and every heartbeat. It is on disk when `publish` has returned, and is read again by [`open`](Self::open), so that a restart forgets nothing; a file
/// that is lost is lost. When `publish` fails before the file is replaced, nothing of it stays behind here, and nothing has changed.
///
/// Calls take turns, and each writes the file: who has many entries publishes them together.
///
/// **One process at a time** is what is promised. Before it writes, a sink looks whether the file is still the one that it has written, and takes in what
/// another has put there; so two publishers, as in a rolling deployment, lose nothing for longer than a heartbeat of both, but within that time one may
/// undo what the other has just published. A file that cannot be read is never written over.
///
/// **Its clock has to be right.** Readers refuse a file from before the one in force. So what is published while the clock is set back, by more than
/// [`MAX_LEEWAY`](countersign_claims::MAX_LEEWAY), reaches nobody whose own clock is right before this one has caught up, whatever has been
/// promised: that is an error in the log here, and makes readers stale.
///
/// The file's path should not be a symbolic link: the link would be replaced, and not what it points to. A process that dies while it writes may leave
/// a file `.NAME.….tmp` behind, which means nothing.
#[derive(Clone)]
pub struct FileSink {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    options: FileSinkOptions,
    state: Mutex<State>,
    /// A disk that hangs keeps the thread that waits for it: one, and not one for each call.
    turn: Arc<Semaphore>,
}

struct State {
    /// By the beginning of their lines.
    entries: BTreeMap<Box<str>, Kept>,
    /// Of the last file.
    as_of: UnixTime,
    /// Up to when what has ended may be left out. For readers too what is left out never comes back.
    horizon: Horizon,
    /// The last file that was read or written, if it is known.
    ours: Option<Stat>,
    /// When the file was written last.
    written: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Kept {
    is_key: bool,
    issued_until: Option<i64>,
    until: i64,
}

const FOR_GOOD: i64 = i64::MAX;

impl FileSink {
    /// As [`with`](Self::with), by default.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        Self::with(path, FileSinkOptions::new())
    }

    /// Reads the file at `path`, if there is one, and writes it at once, so that it is known now whether that can be done. It blocks as long as
    /// that takes.
    ///
    /// # Errors
    /// [`SnapshotError`], also for a file that is malformed: what was revoked by it must not be forgotten in silence.
    pub fn with(path: impl Into<PathBuf>, options: FileSinkOptions) -> Result<Self, SnapshotError> {
        let now = options.clock.now();
        let instant = Instant::now();
        let state = State {
            entries: BTreeMap::new(),
            as_of: UnixTime::from_secs(0),
            horizon: Horizon::new(now, instant),
            ours: None,
            written: instant,
        };
        let heartbeat = options.heartbeat;
        let shared = Arc::new(Shared {
            path: path.into(),
            options,
            state: Mutex::new(state),
            turn: Arc::new(Semaphore::new(1)),
        });
        {
            let mut state = shared.lock();
            shared.absorb(&mut state, i64::MIN)?;
            if state.ours.is_some() {
                // A clock that is wrong now, and was not when the file was written, must not make it forgotten.
                state.horizon = Horizon::new(now.min(state.as_of), instant);
            }
            shared.write(&mut state, now).map_err(|fault| SnapshotError::io(fault.error()))?;
        }
        if let Some(heartbeat) = heartbeat {
            let weak = Arc::downgrade(&shared);
            // A thread, because writing blocks, and because whoever revokes need not have a runtime.
            let thread = thread::Builder::new().name("countersign-revocations-file".into());
            thread.spawn(move || keep_beating(&weak, heartbeat)).map_err(SnapshotError::io)?;
        }
        Ok(Self { shared })
    }

    /// Writes the file again as of `now`, which says that nothing else has been revoked by then. It blocks.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`].
    pub fn beat(&self, now: UnixTime) -> Result<(), SinkError> {
        self.shared.publish(&[], now)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

impl RevocationSink for FileSink {
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let within = shared.options.within();
            let turn = Arc::clone(&shared.turn).acquire_owned().await.map_err(unavailable)?;
            let work = move || {
                // Not given back before the work has ended, whoever has stopped waiting for it.
                let _turn = turn;
                shared.publish(&entries, shared.options.clock.now())
            };
            let done = match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    let given_up = |_| Err(unavailable("the work was given up"));
                    runtime.spawn_blocking(work).await.unwrap_or_else(given_up)
                }
                // Nobody else's time is taken.
                Err(_) => work(),
            };
            done.map(|()| Published::within(within))
        })
    }
}

impl fmt::Debug for FileSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink")
            .field("path", &self.shared.path)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is in it is whole between any two steps: a panic loses an entry that nobody has been promised.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, entries: &[Entry], now: UnixTime) -> Result<(), SinkError> {
        let news = entries.iter().map(kept).collect::<Result<Vec<_>, _>>()?;
        let mut state = self.lock();
        let ended = state.horizon.observe(now, Instant::now()).saturating_sub(SLACK).as_secs();
        self.absorb(&mut state, ended).map_err(unavailable)?;
        state.entries.retain(|_, kept| kept.until >= ended);
        let mut before = Vec::new();
        for (head, kept) in news {
            if kept.until >= ended {
                before.push((head.clone(), merge(&mut state.entries, head, kept)));
            }
        }
        // What adds nothing is written in any case: without it the file would get stale.
        let room = if before.is_empty() { Ok(()) } else { self.has_room(&state.entries) };
        let outcome = match room {
            Err(full) => Err(full),
            Ok(()) => match self.write(&mut state, now) {
                Ok(()) => return Ok(()),
                // They are in the file, and the next one must not be without them.
                Err(fault @ ReplaceFault::Behind(_)) => return Err(unavailable(fault.error())),
                Err(fault @ ReplaceFault::Before(_)) => Err(unavailable(fault.error())),
            },
        };
        // From the last to the first: one may have been changed twice.
        for (head, earlier) in before.into_iter().rev() {
            match earlier {
                Some(kept) => state.entries.insert(head, kept),
                None => state.entries.remove(&head),
            };
        }
        outcome
    }

    /// As a list has it: keys have room of their own, and more of them no list would take.
    fn has_room(&self, entries: &BTreeMap<Box<str>, Kept>) -> Result<(), SinkError> {
        let keys = entries.values().filter(|kept| kept.is_key).count();
        let capacity = self.options.capacity;
        if keys > MAX_KEYS {
            return Err(SinkError::Full { capacity: MAX_KEYS });
        }
        if entries.len() - keys > capacity { Err(SinkError::Full { capacity }) } else { Ok(()) }
    }

    /// Takes in what is in the file and has not ended, unless it is what was last read or written here.
    fn absorb(&self, state: &mut State, ended: i64) -> Result<(), SnapshotError> {
        match file::stat(&self.path) {
            Ok(stat) if state.ours.as_ref() == Some(&stat) => return Ok(()),
            Ok(_) => {}
            Err(SnapshotError::Missing) => return Ok(()),
            Err(error) => return Err(error),
        }
        let (mut file, stat) = file::open(&self.path)?;
        let capacity = self.options.capacity;
        // Of a file that turns out to be bad, nothing stays.
        let mut found = BTreeMap::new();
        let content = read::read(&mut file, None, SipHasher13::new(), |entry| {
            let (head, kept) = kept(entry)?;
            if kept.until >= ended {
                merge(&mut found, head, kept);
            }
            if found.len() > capacity.saturating_add(MAX_KEYS) { Err(SinkError::Full { capacity }) } else { Ok(()) }
        })?;
        if !stat.is_still(&file) {
            return Err(SnapshotError::changed());
        }
        for (head, kept) in found {
            merge(&mut state.entries, head, kept);
        }
        state.as_of = state.as_of.max(content.as_of);
        state.ours = Some(stat);
        Ok(())
    }

    fn write(&self, state: &mut State, now: UnixTime) -> Result<(), ReplaceFault> {
        // Readers refuse a file from before the last one, so a clock that is set back a little must not show. If it was far ahead they did not
        // believe it, and what was wrong then is put right.
        let as_of = if is_ahead(state.as_of, now) {
            let before = state.as_of;
            tracing::error!(
                %before,
                %now,
                "the clock is behind the file of revocations: if it is wrong, readers refuse what is published until it is right"
            );
            now
        } else {
            now.max(state.as_of)
        };
        let count = state.entries.len() as u64;
        let replaced = file::replace(&self.path, |file| {
            file.write_all(line::header(Header { as_of, entries: count }).as_bytes())?;
            for (head, kept) in &state.entries {
                file.write_all(head.as_bytes())?;
                let until = (kept.until != FOR_GOOD).then_some(kept.until);
                file.write_all(line::tail(kept.issued_until, until).as_bytes())?;
            }
            file.write_all(line::trailer(count).as_bytes())
        });
        if !matches!(replaced, Err(ReplaceFault::Before(_))) {
            state.as_of = as_of;
            state.written = Instant::now();
        }
        state.ours = Some(replaced?);
        Ok(())
    }
}

/// The line's beginning, and the rest.
fn kept(entry: &Entry) -> Result<(Box<str>, Kept), SinkError> {
    let issued_until = match entry.revokes {
        Revokes::CutOff { issued_until, .. } => Some(line::whole(issued_until)),
        _ => None,
    };
    let until = entry.until.and_then(line::whole_until).unwrap_or(FOR_GOOD);
    let is_key = matches!(entry.revokes, Revokes::Key { .. } | Revokes::KeyMaterial { .. });
    Ok((line::head(entry)?, Kept { is_key, issued_until, until }))
}

/// Of two entries about the same, the later cut-off and the later end count. Answers with the one that was there.
fn merge(entries: &mut BTreeMap<Box<str>, Kept>, head: Box<str>, new: Kept) -> Option<Kept> {
    let earlier = entries.get(&head).copied();
    let merged = earlier.map_or(new, |earlier| Kept {
        is_key: new.is_key,
        issued_until: earlier.issued_until.max(new.issued_until),
        until: earlier.until.max(new.until),
    });
    entries.insert(head, merged);
    earlier
}

fn unavailable(why: impl fmt::Display) -> SinkError {
    SinkError::Unavailable(why.to_string().into())
}

fn keep_beating(sink: &Weak<Shared>, heartbeat: Duration) {
    let mut is_failing = false;
    loop {
        thread::sleep(heartbeat.min(NOTICED_WITHIN));
        let Some(sink) = sink.upgrade() else { return };
        if sink.lock().written.elapsed() < heartbeat {
            continue;
        }
        match sink.publish(&[], sink.options.clock.now()) {
            Ok(()) => is_failing = false,
            // Once, and not with every beat.
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(%error, "the file of revocations cannot be written, and gets stale");
            }
            Err(_) => {}
        }
    }
}
