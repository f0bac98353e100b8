use std::borrow::Cow;
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_claims::UnixTime;
use countersign_claims::revocation::{Judged, SinkError, Verdict};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::compaction::{self, Done, Work};
use crate::filter::Fuse;
use crate::hash::Hashing;
use crate::horizon::Horizon;
use crate::intake::ReplaceError;
use crate::layered::{Base, Layered};
use crate::options::{Filter, ListOptions};
use crate::part::{Entries, Levels, Part, is_ahead};
use crate::set::{Pending, Set, Value, unique};
use crate::snapshot::Snapshot;
use crate::status::{FeedStatus, ListStatus};
use crate::until::Until;

/// How many keys a list takes, apart from its capacity: an issuer has a handful and has had some dozens, so more is a mistake; and it is so few
/// that they are copied with each that is added.
pub(crate) const MAX_KEYS: usize = 1024;

/// For how many turns a writer waits for checks that still hold the last snapshot, some microseconds; otherwise that stays in memory until the next
/// change.
const MAX_TURNS: u32 = 1000;

/// The part that is the list's own: what is published to it in the same process.
pub(crate) const OWN: usize = 0;

/// A list: the snapshot that checks read, and what those who change it share.
pub(crate) struct Shared {
    pub(crate) hashing: Hashing,
    pub(crate) options: ListOptions,
    snapshot: ArcSwap<Snapshot>,
    writer: Mutex<Writer>,
    /// There may be more revoked than before.
    changes: watch::Sender<()>,
    /// A feed has delivered for the first time.
    deliveries: watch::Sender<()>,
    /// Whether it has been said in the log that it is stale.
    is_stale: AtomicBool,
}

/// What only those who change a list need. There is one at a time, and no check waits for it.
struct Writer {
    horizon: Horizon,
    /// How often what may be swept has become less: a compaction that began before must not end, as what it leaves out may have been added again.
    fallen: u64,
    /// For each part but the list's own.
    feeds: Vec<FeedState>,
    /// The parts that something had no room in, until something has: that another has room is no end of it.
    full: Vec<usize>,
    is_compacting: bool,
    /// What there is to say in the log, once nobody is kept waiting.
    said: Vec<Said>,
    /// Snapshots that were replaced, until no check holds them any more: to free hundreds of megabytes is not a request's business.
    retired: Vec<Arc<Snapshot>>,
}

struct FeedState {
    name: Cow<'static, str>,
    last_error: Option<Cow<'static, str>>,
}

/// For the log.
enum Said {
    Failed { feed: Cow<'static, str>, why: Cow<'static, str>, again: bool },
    Full { capacity: usize },
    NotFull,
    Overflowed { feed: Option<Cow<'static, str>> },
}

impl Said {
    fn tell(self) {
        match self {
            // Said aloud once, until something goes well again.
            Self::Failed { feed, why, again: false } => {
                tracing::warn!(feed = &*feed, error = &*why, "a feed of revocations has failed");
            }
            Self::Failed { feed, why, again: true } => {
                tracing::debug!(feed = &*feed, error = &*why, "a feed of revocations has failed again");
            }
            Self::Full { capacity } => {
                tracing::error!(
                    capacity,
                    "no room for more revocations: tokens may be accepted that were to be revoked"
                );
            }
            Self::NotFull => tracing::info!("there is room for revocations again"),
            Self::Overflowed { feed } => {
                tracing::error!(
                    feed = feed.as_deref(),
                    "not everything that is revoked could be taken: tokens may be accepted that are revoked"
                );
            }
        }
    }
}

/// The time when something is changed.
#[derive(Clone, Copy)]
struct Moment {
    now: UnixTime,
    instant: Instant,
    /// What is over for good.
    over: Until,
}

impl Shared {
    pub(crate) fn new(options: ListOptions) -> Self {
        let mut own = Part::new();
        own.known.always();
        let writer = Writer {
            horizon: Horizon::new(options.clock.now(), Instant::now()),
            fallen: 0,
            feeds: Vec::new(),
            full: Vec::new(),
            is_compacting: false,
            said: Vec::new(),
            retired: Vec::new(),
        };
        Self {
            hashing: Hashing::random(),
            options,
            snapshot: ArcSwap::from_pointee(Snapshot::new(Box::new([Arc::new(own)]))),
            writer: Mutex::new(writer),
            changes: watch::Sender::new(()),
            deliveries: watch::Sender::new(()),
            is_stale: AtomicBool::new(false),
        }
    }

    // What is asked.

    pub(crate) fn check(&self, token: &Judged<'_>) -> Verdict {
        let snapshot = self.snapshot.load();
        if let Some(why) = snapshot.revokes(&self.hashing, token) {
            return Verdict::Revoked(why);
        }
        let age = snapshot.age(token.now);
        if self.is_stale(age) { Verdict::Stale { age } } else { Verdict::Fresh }
    }

    pub(crate) fn age(&self, now: UnixTime) -> Option<Duration> {
        self.snapshot.load().age(now)
    }

    /// Whether that age is too much. When it begins to be, that is said in the log, by whoever sees it first; when it ends, by
    /// [`look_at_age`](Self::look_at_age) alone, so that checks by clocks that differ do not say the one and the other in turn.
    fn is_stale(&self, age: Option<Duration>) -> bool {
        let is_stale = age.is_none_or(|age| age > self.options.stale_after);
        // It is read first, so that checks do not write.
        if is_stale && !self.is_stale.load(Ordering::Relaxed) && !self.is_stale.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                ?age,
                "what is known of revocations is out of date: tokens may be accepted that are revoked"
            );
        }
        is_stale
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn deliveries(&self) -> watch::Receiver<()> {
        self.deliveries.subscribe()
    }

    pub(crate) fn has_delivered(&self) -> bool {
        self.snapshot.load().parts().iter().all(|part| part.known.has_delivered())
    }

    pub(crate) fn status(&self) -> ListStatus {
        let (now, instant) = (self.options.clock.now(), Instant::now());
        self.look_at_age();
        let writer = self.lock();
        let snapshot = self.snapshot.load_full();
        let age = snapshot.age(now);
        let mut horizon = writer.horizon;
        let over = Until::over(horizon.observe(now, instant));
        let parts = snapshot.parts();
        let sum = |count: &dyn Fn(&Part) -> usize| parts.iter().map(|part| count(part)).sum();
        let feeds = parts.iter().skip(OWN + 1).zip(&writer.feeds).map(|(part, feed)| FeedStatus {
            name: feed.name.clone(),
            age: part.known.age(now, instant),
            entries: part.live_tokens(over) + part.cut_offs.live(over) + part.keys.live(over),
            last_error: feed.last_error.clone(),
        });
        ListStatus {
            tokens: sum(&|part| part.live_tokens(over)),
            keys: sum(&|part| part.keys.live(over)),
            cut_offs: sum(&|part| part.cut_offs.live(over)),
            bytes: sum(&Part::bytes),
            age,
            full: !writer.full.is_empty(),
            incomplete: parts.iter().any(|part| part.known.overflowed),
            feeds: feeds.collect(),
        }
    }

    // What is changed. What it returns has happened, and every check that begins from then on sees it.

    /// A part for another feed.
    pub(crate) fn follow(&self, name: Cow<'static, str>) -> usize {
        self.write(|writer, snapshot, _| {
            writer.feeds.push(FeedState { name, last_error: None });
            let at = snapshot.parts().len();
            (Some(snapshot.with(at, Part::new())), at)
        })
    }

    pub(crate) fn add(self: &Arc<Self>, at: usize, entries: Entries, as_of: Option<UnixTime>) -> Result<(), SinkError> {
        let taken = self.write(|writer, snapshot, moment| {
            let Some(old) = snapshot.part(at) else { return (None, Ok(false)) };
            let mut part = Part::clone(old);
            let is_more = part.take(entries, part.swept_until(moment.over));
            if is_more {
                let more = snapshot.with(at, part.clone());
                if let Err(capacity) = self.has_room(snapshot, &more, moment.over) {
                    writer.full(at, capacity);
                    return (None, Err(SinkError::Full { capacity }));
                }
                writer.not_full(at);
            }
            let is_promised = as_of.is_some_and(|as_of| writer.promise(at, &mut part, as_of, moment));
            ((is_more || is_promised).then(|| snapshot.with(at, part)), Ok(is_more))
        });
        compaction::begin(self);
        if as_of.is_some() {
            self.look_at_age();
        }
        if taken? {
            self.changes.send_replace(());
        }
        Ok(())
    }

    pub(crate) fn replace(self: &Arc<Self>, at: usize, entries: Entries, as_of: UnixTime) -> Result<(), ReplaceError> {
        // What takes long is done while nobody is kept waiting, unless it would be for nothing.
        let over = self.write(|_, snapshot, moment| (None, acceptable(snapshot, at, as_of, moment)))?;
        let mut part = self.part_of(entries, over);
        self.write(|writer, snapshot, moment| {
            if let Err(refused) = acceptable(snapshot, at, as_of, moment) {
                return (None, Err(refused));
            }
            part.known = snapshot.part(at).map_or(part.known, |old| old.known);
            part.known.overflowed = false;
            writer.promise(at, &mut part, as_of, moment);
            let next = snapshot.with(at, part);
            if let Err(capacity) = self.has_room(snapshot, &next, moment.over) {
                writer.full(at, capacity);
                return (None, Err(ReplaceError::Full { capacity }));
            }
            writer.not_full(at);
            (Some(next), Ok(()))
        })?;
        self.look_at_age();
        self.changes.send_replace(());
        Ok(())
    }

    pub(crate) fn confirm(self: &Arc<Self>, at: usize, as_of: UnixTime) {
        self.change(at, |writer, part, moment| writer.promise(at, part, as_of, moment));
        self.look_at_age();
        // Where nothing is ever added, this is when what has ended is cleared away.
        compaction::begin(self);
    }

    pub(crate) fn confirm_always(&self, at: usize) {
        self.change(at, |_, part, _| {
            part.known.always();
            true
        });
    }

    pub(crate) fn overflowed(&self, at: usize) {
        self.change(at, |writer, part, _| {
            let is_news = !part.known.overflowed;
            if is_news {
                part.known.overflowed = true;
                let feed = writer.feed(at).map(|feed| feed.name.clone());
                writer.said.push(Said::Overflowed { feed });
            }
            is_news
        });
    }

    pub(crate) fn failed(&self, at: usize, why: Cow<'static, str>) {
        self.change(at, |writer, _, _| {
            writer.failed(at, why);
            false
        });
        self.look_at_age();
    }

    /// There was no room for a snapshot that is being read.
    pub(crate) fn no_room(&self, at: usize) {
        let capacity = self.options.capacity;
        self.write(|writer, _, _| (None, writer.full(at, capacity)));
    }

    // Compaction; see there.

    /// What is due of the first part of which something is. Nothing ends this compaction; and to begin one there is nothing while one is under way.
    pub(crate) fn next_work(&self, is_beginning: bool) -> Option<Work> {
        self.write(|writer, snapshot, moment| {
            if is_beginning && writer.is_compacting {
                return (None, None);
            }
            let from = self.options.compact_from;
            let work = snapshot.parts().iter().enumerate().find_map(|(at, part)| {
                let over = part.swept_until(moment.over);
                let (tokens, cut_offs) = (part.tokens.if_due(over, from), part.cut_offs.if_due(over, from));
                let keys = part.keys.if_due(over, from);
                let is_due = tokens.is_some() || cut_offs.is_some() || keys.is_some();
                is_due.then_some(Work { at, tokens, cut_offs, keys, over, fallen: writer.fallen })
            });
            writer.is_compacting = work.is_some();
            (None, work)
        })
    }

    /// All of a part, due or not.
    #[cfg(test)]
    pub(crate) fn work_by_hand(&self, at: usize) -> Work {
        self.write(|writer, snapshot, moment| {
            let part = snapshot.part(at).unwrap();
            let (tokens, cut_offs) = (Some(part.tokens.clone()), Some(part.cut_offs.clone()));
            (
                None,
                Work {
                    at,
                    tokens,
                    cut_offs,
                    keys: Some(part.keys.clone()),
                    over: part.swept_until(moment.over),
                    fallen: writer.fallen,
                },
            )
        })
    }

    /// Puts what was two layers there as one; what has come since stays, and so does what has been replaced.
    pub(crate) fn settle(&self, done: Done) {
        let Done { work, tokens, cut_offs, keys } = done;
        self.change(work.at, |writer, part, _| {
            if writer.fallen != work.fallen {
                return false;
            }
            let mut is_changed = put(&mut part.tokens, work.tokens.as_ref(), tokens);
            is_changed |= put(&mut part.cut_offs, work.cut_offs.as_ref(), cut_offs);
            is_changed |= put(&mut part.keys, work.keys.as_ref(), keys);
            if part.cut_offs.is_empty() {
                part.levels = Levels::default();
            }
            is_changed
        });
    }

    /// Whether there is a filter in front of a base, and from which size on.
    pub(crate) fn front_from(&self) -> Option<usize> {
        matches!(self.options.filter, Filter::Front).then_some(self.options.filter_from)
    }

    // Helpers.

    /// By the list's own clock, also when nobody asks.
    fn look_at_age(&self) {
        let age = self.age(self.options.clock.now());
        if !self.is_stale(age) && self.is_stale.swap(false, Ordering::Relaxed) {
            tracing::info!(?age, "what is known of revocations is up to date again");
        }
    }

    /// A part that consists of these. It takes long.
    fn part_of(&self, mut entries: Entries, over: Until) -> Part {
        let mut part = Part::new();
        part.levels = entries.levels;
        part.cut_offs = Layered::new(Base::new(Set::new(entries.cut_offs, over), None));
        part.keys = Layered::new(Base::new(Set::new(entries.keys, over), None));
        part.kids = Layered::new(Base::new(Set::new(entries.kids, over), None));
        if matches!(self.options.filter, Filter::Only) {
            entries.tokens = unique(entries.tokens, over);
            let is_large = entries.tokens.len() >= self.options.filter_from;
            let keys = entries.tokens.iter().map(Pending::key);
            if let Some(fuse) = is_large.then(|| Fuse::new(keys)).flatten() {
                part.sealed = Some((Arc::new(fuse), entries.tokens.len()));
                return part;
            }
        }
        part.tokens = Layered::new(Base::new(Set::new(entries.tokens, over), self.front_from()));
        part
    }

    /// Whether there is room for what is more in `next`; if not, how much there is.
    fn has_room(&self, before: &Snapshot, next: &Snapshot, over: Until) -> Result<(), usize> {
        // What is not swept yet takes room, whatever its time.
        let entries = |snapshot: &Snapshot| -> usize {
            let of = |part: &Part, over| part.live_tokens(over) + part.cut_offs.live(over);
            snapshot.parts().iter().map(|part| of(part, part.swept_until(over))).sum()
        };
        let keys = |snapshot: &Snapshot| -> usize {
            snapshot.parts().iter().map(|part| part.keys.live(part.swept_until(over))).sum()
        };
        for (capacity, before, next) in
            [(self.options.capacity, entries(before), entries(next)), (MAX_KEYS, keys(before), keys(next))]
        {
            // If it is no more than before, such as a later end for what is there, it needs none.
            if next > capacity && next > before {
                return Err(capacity);
            }
        }
        Ok(())
    }

    /// Changes one part, if `change` says that it has.
    fn change(&self, at: usize, change: impl FnOnce(&mut Writer, &mut Part, Moment) -> bool) {
        self.write(|writer, snapshot, moment| {
            let Some(old) = snapshot.part(at) else { return (None, ()) };
            let mut part = Part::clone(old);
            let is_changed = change(writer, &mut part, moment);
            (is_changed.then(|| snapshot.with(at, part)), ())
        });
    }

    /// The only place where the snapshot is swapped: one writer at a time, who has seen the one before.
    fn write<T>(&self, write: impl FnOnce(&mut Writer, &Snapshot, Moment) -> (Option<Snapshot>, T)) -> T {
        let mut writer = self.lock();
        let (now, instant) = (self.options.clock.now(), Instant::now());
        let horizon = writer.horizon.at();
        let over = Until::over(writer.horizon.observe(now, instant));
        writer.fallen += u64::from(writer.horizon.at() < horizon);
        let before = self.snapshot.load_full();
        let (next, told) = write(&mut writer, &before, Moment { now, instant, over });
        let mut has_delivered = false;
        if let Some(next) = next {
            let delivered =
                |snapshot: &Snapshot| snapshot.parts().iter().filter(|part| part.known.has_delivered()).count();
            has_delivered = delivered(&before) != delivered(&next);
            self.snapshot.store(Arc::new(next));
            writer.retire(before);
        } else {
            drop(before);
        }
        let (unused, said) = (writer.unused(), std::mem::take(&mut writer.said));
        drop(writer);
        drop(unused);
        // Whoever hears of it may ask the list in turn.
        said.into_iter().for_each(Said::tell);
        if has_delivered {
            self.deliveries.send_replace(());
        }
        told
    }

    /// If somebody has panicked with it, what they were about to store they have not stored.
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Checks that hold it are over in a microsecond. One whose thread was interrupted may hold it for longer, and keeps nobody waiting.
    fn retire(&mut self, snapshot: Arc<Snapshot>) {
        for _ in 0..MAX_TURNS {
            if Arc::strong_count(&snapshot) == 1 {
                break;
            }
            hint::spin_loop();
        }
        self.retired.push(snapshot);
    }

    /// What no check holds any more: nobody can get hold of it again either.
    fn unused(&mut self) -> Vec<Arc<Snapshot>> {
        let (unused, used) = self.retired.drain(..).partition(|snapshot| Arc::strong_count(snapshot) == 1);
        self.retired = used;
        unused
    }

    fn feed(&mut self, at: usize) -> Option<&mut FeedState> {
        self.feeds.get_mut(at.checked_sub(OWN + 1)?)
    }

    /// What a feed promises, if it can be believed. Whether that is news.
    fn promise(&mut self, at: usize, part: &mut Part, as_of: UnixTime, moment: Moment) -> bool {
        if is_ahead(as_of, moment.now) {
            let (feed, clock) = (as_of, moment.now);
            self.failed(
                at,
                format!("what it says is of {feed}, and it is only {clock}: one of the clocks is wrong").into(),
            );
            return false;
        }
        if let Some(feed) = self.feed(at) {
            feed.last_error = None;
        }
        let before = part.swept_until(moment.over);
        let is_news = part.known.learn(as_of, moment.now, moment.instant);
        self.fallen += u64::from(part.swept_until(moment.over) < before);
        is_news
    }

    fn failed(&mut self, at: usize, why: Cow<'static, str>) {
        let Some(feed) = self.feed(at) else { return };
        let again = feed.last_error.replace(why.clone()).is_some();
        let feed = feed.name.clone();
        self.said.push(Said::Failed { feed, why, again });
    }

    fn full(&mut self, at: usize, capacity: usize) {
        if self.full.is_empty() {
            self.said.push(Said::Full { capacity });
        }
        if !self.full.contains(&at) {
            self.full.push(at);
        }
    }

    fn not_full(&mut self, at: usize) {
        let was_full = !self.full.is_empty();
        self.full.retain(|part| *part != at);
        if was_full && self.full.is_empty() {
            self.said.push(Said::NotFull);
        }
    }
}

/// Whether a part may be replaced by what is of that time; if so, what is over for good.
fn acceptable(snapshot: &Snapshot, at: usize, as_of: UnixTime, moment: Moment) -> Result<Until, ReplaceError> {
    if is_ahead(as_of, moment.now) {
        return Err(ReplaceError::Ahead { as_of, now: moment.now });
    }
    let Some(part) = snapshot.part(at) else { return Ok(moment.over) };
    match part.known.as_of(moment.now) {
        Some(in_force) if as_of < in_force => Err(ReplaceError::Older { as_of, in_force }),
        // In this process there is no other clock than ours.
        _ if part.known.is_always() => Ok(moment.over),
        _ => Ok(moment.over.min(Until::over(as_of))),
    }
}

/// Whether it has been put there.
fn put<V: Value>(layers: &mut Layered<V>, earlier: Option<&Layered<V>>, merged: Option<Base<V>>) -> bool {
    let settled = earlier.zip(merged).and_then(|(earlier, merged)| layers.settled(earlier, merged));
    let is_settled = settled.is_some();
    if let Some(settled) = settled {
        *layers = settled;
    }
    is_settled
}
