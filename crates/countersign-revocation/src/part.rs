use std::sync::Arc;
use std::time::Duration;

use countersign_claims::revocation::{Entry, Level, Revokes, SinkError};
use countersign_claims::{MAX_LEEWAY, UnixTime};
use tokio::time::Instant;

use crate::filter::Fuse;
use crate::fits::fits;
use crate::hash::Hashing;
use crate::layered::Layered;
use crate::set::{Pending, Value, unique};
use crate::until::Until;

/// What one feed has said.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) tokens: Layered<Until>,
    /// Tokens that are in a filter only ([`Filter::Only`](crate::Filter::Only)), and how many they were.
    pub(crate) sealed: Option<(Arc<Fuse>, usize)>,
    pub(crate) cut_offs: Layered<CutOff>,
    /// Names and thumbprints.
    pub(crate) keys: Layered<Until>,
    /// Names of keys alone, for tokens of which it is not certain whose key has verified them. They are swept whenever there are more.
    pub(crate) kids: Layered<Until>,
    /// Of which levels there are cut-offs, or have been.
    pub(crate) levels: Levels,
    pub(crate) known: Known,
}

impl Part {
    pub(crate) fn new() -> Self {
        Self {
            tokens: Layered::empty(),
            sealed: None,
            cut_offs: Layered::empty(),
            keys: Layered::empty(),
            kids: Layered::empty(),
            levels: Levels::default(),
            known: Known::default(),
        }
    }

    /// How many tokens have not ended.
    pub(crate) fn live_tokens(&self, over: Until) -> usize {
        self.tokens.live(over) + self.sealed.as_ref().map_or(0, |(_, count)| *count)
    }

    /// Puts these to what there is. Whether any of them is news.
    pub(crate) fn take(&mut self, entries: Entries, over: Until) -> bool {
        let (tokens, cut_offs) = (self.tokens.with(entries.tokens, over), self.cut_offs.with(entries.cut_offs, over));
        let keys = self.keys.with(entries.keys, over);
        let kids = self.kids.with(entries.kids, over);
        let is_news = tokens.is_some() || cut_offs.is_some() || keys.is_some();
        if cut_offs.is_some() {
            self.levels = self.levels.and(entries.levels);
        }
        self.tokens = tokens.unwrap_or_else(|| self.tokens.clone());
        self.cut_offs = cut_offs.unwrap_or_else(|| self.cut_offs.clone());
        self.keys = keys.unwrap_or_else(|| self.keys.clone());
        if let Some(kids) = kids {
            // They are few, so they are swept here, and no compaction need know of them.
            self.kids = Layered::new(kids.merged(over, None));
        }
        is_news
    }

    /// What may be swept of it, when so much is over by our clock. A clock that was ahead from the start on is not believed against the feed's, for what the feed
    /// has said once it does not say again.
    pub(crate) fn swept_until(&self, over: Until) -> Until {
        match self.known.as_of {
            AsOf::Always | AsOf::Never => over,
            AsOf::Time { as_of, .. } => over.min(Until::over(as_of)),
        }
    }

    /// Of memory.
    pub(crate) fn bytes(&self) -> usize {
        let sealed = self.sealed.as_ref().map_or(0, |(fuse, _)| fuse.bytes());
        self.tokens.bytes() + sealed + self.cut_offs.bytes() + self.keys.bytes() + self.kids.bytes()
    }
}

/// What is known of a cut-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutOff {
    /// The last second that is cut off.
    pub(crate) issued_until: i64,
    pub(crate) until: Until,
}

impl Value for CutOff {
    fn until(self) -> Until {
        self.until
    }

    fn and(self, other: Self) -> Self {
        Self { issued_until: self.issued_until.max(other.issued_until), until: self.until.max(other.until) }
    }
}

/// A set of levels: what there are no cut-offs of costs a check nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels([bool; Level::ALL.len()]);

impl Levels {
    #[inline]
    pub(crate) fn has(self, level: Level) -> bool {
        self.0.get(level as usize).copied().unwrap_or(true)
    }

    pub(crate) fn any(self) -> bool {
        self.0.contains(&true)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        let mut both = self;
        both.0.iter_mut().zip(other.0).for_each(|(one, other)| *one |= other);
        both
    }

    fn insert(&mut self, level: Level) {
        if let Some(has) = self.0.get_mut(level as usize) {
            *has = true;
        }
    }
}

/// How up to date a part is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    as_of: AsOf,
    /// Something could not be taken.
    pub(crate) overflowed: bool,
}

/// By more than clocks may differ. Whatever is from the future would keep out all that comes until then.
pub(crate) fn is_ahead(as_of: UnixTime, now: UnixTime) -> bool {
    as_of > now.saturating_add(MAX_LEEWAY)
}

#[derive(Clone, Copy, Debug, Default)]
enum AsOf {
    /// Nothing has been promised yet.
    #[default]
    Never,
    /// Everything that was revoked by then is known. It was so old when that was learnt.
    Time { as_of: UnixTime, age: Duration, learnt: Instant },
    /// Everything is known at any time.
    Always,
}

impl Known {
    pub(crate) fn always(&mut self) {
        self.as_of = AsOf::Always;
    }

    /// A promise; what has been promised before stays. Whether it promises more.
    pub(crate) fn learn(&mut self, as_of: UnixTime, now: UnixTime, instant: Instant) -> bool {
        let is_news = match self.as_of {
            AsOf::Never => true,
            AsOf::Time { as_of: before, .. } => as_of > before || is_ahead(before, now),
            AsOf::Always => false,
        };
        if is_news {
            self.as_of = AsOf::Time { as_of, age: now.saturating_since(as_of), learnt: instant };
        }
        is_news
    }

    /// As of when everything is known; `None` too if that is in the future by now, because a clock was wrong then: it must not keep out what is
    /// right.
    pub(crate) fn as_of(&self, now: UnixTime) -> Option<UnixTime> {
        match self.as_of {
            AsOf::Time { as_of, .. } => Some(as_of).filter(|as_of| !is_ahead(*as_of, now)),
            AsOf::Never | AsOf::Always => None,
        }
    }

    pub(crate) fn has_delivered(&self) -> bool {
        !matches!(self.as_of, AsOf::Never)
    }

    /// Whether everything is known at any time, but for what could not be taken.
    pub(crate) fn is_always(&self) -> bool {
        matches!(self.as_of, AsOf::Always)
    }

    /// Whether it is up to date whatever the time is.
    pub(crate) fn is_timeless(&self) -> bool {
        self.is_always() && !self.overflowed
    }

    /// A clock that is put back makes nothing younger: by another one, at least so much has passed.
    pub(crate) fn age(&self, now: UnixTime, instant: Instant) -> Option<Duration> {
        if self.overflowed {
            return None;
        }
        match self.as_of {
            AsOf::Never => None,
            AsOf::Always => Some(Duration::ZERO),
            AsOf::Time { as_of, age, learnt } => {
                let passed = instant.saturating_duration_since(learnt);
                Some(now.saturating_since(as_of).max(age.saturating_add(passed)))
            }
        }
    }
}

/// Entries on their way into a part.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) tokens: Vec<Pending<Until>>,
    pub(crate) cut_offs: Vec<Pending<CutOff>>,
    pub(crate) keys: Vec<Pending<Until>>,
    pub(crate) kids: Vec<Pending<Until>>,
    pub(crate) levels: Levels,
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.tokens.len() + self.cut_offs.len() + self.keys.len()
    }

    /// What has come twice is there once.
    pub(crate) fn put_together(&mut self) {
        self.tokens = unique(std::mem::take(&mut self.tokens), Until::NOTHING);
        self.cut_offs = unique(std::mem::take(&mut self.cut_offs), Until::NOTHING);
        self.keys = unique(std::mem::take(&mut self.keys), Until::NOTHING);
        self.kids = unique(std::mem::take(&mut self.kids), Until::NOTHING);
    }

    /// Hashes one.
    pub(crate) fn push(&mut self, hashing: &Hashing, entry: &Entry) -> Result<(), SinkError> {
        fits(entry)?;
        let until = Until::end(entry.until);
        let issuer = || {
            hashing.remember(&entry.issuer);
            hashing.issuer(&entry.issuer)
        };
        match &entry.revokes {
            Revokes::Token { jwt_id } => self.tokens.push(Pending::new(issuer().token(jwt_id), until)),
            Revokes::Key { kid } => {
                self.keys.push(Pending::new(issuer().key(kid), until));
                self.kids.push(Pending::new(hashing.kid(kid), until));
            }
            Revokes::KeyMaterial { thumbprint } => {
                self.keys.push(Pending::new(hashing.key_material(thumbprint), until));
            }
            Revokes::CutOff { level, name, issued_until } => {
                let cut_off = CutOff { issued_until: issued_until.as_secs(), until };
                self.cut_offs.push(Pending::new(issuer().level(*level, name), cut_off));
                self.levels.insert(*level);
            }
            // What it revokes cannot be known here, and must not be taken for done.
            _ => return Err(SinkError::Unfit("a revocation of a new kind")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_that_are_over_take_no_memory() {
        let hashing = Hashing::random();
        let mut part = Part::new();
        for number in 0..2_000_i64 {
            let until = UnixTime::from_secs(number * 1_000);
            let revokes = Revokes::Key { kid: format!("k{number}").into() };
            let mut entries = Entries::default();
            entries.push(&hashing, &Entry { issuer: "i".into(), revokes, until: Some(until) }).expect("it fits");
            assert!(part.take(entries, Until::over(until)));
        }
        // With what ends within the slack, of ten minutes and a step.
        assert_eq!(part.kids.live(Until::NOTHING), 1);
        assert!(part.kids.bytes() < 1_000, "{}", part.kids.bytes());
    }
}
