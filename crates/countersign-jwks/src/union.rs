//! The keys of several sources together, as one set.

use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use countersign_token::{Answer, Ask, KeySet, KeySource, Miss, Unready};

use crate::keys::Keys;
use crate::plan::MIN_RETRY_AFTER;
use crate::waiting::Waiting;

/// Nobody merges until somebody looks: whoever finds that a member has another set than was merged merges anew. So what one source
/// withdraws, or must not be trusted with any more, is gone with the next look, and there is no task that could lag behind.
pub(crate) struct Union {
    members: Box<[Keys]>,
    merged: ArcSwap<Merged>,
    /// Held by whoever merges.
    merging: Mutex<()>,
}

/// A set, and what it was made from.
#[derive(Default)]
pub(crate) struct Merged {
    pub(crate) set: Arc<KeySet>,
    of: Box<[Option<Arc<KeySet>>]>,
}

impl Merged {
    fn has_keys(&self) -> bool {
        self.of.iter().any(Option::is_some)
    }
}

impl Union {
    pub(crate) fn new(members: Vec<Keys>) -> Self {
        let of = members.iter().map(|_| None).collect();
        let merged = ArcSwap::from_pointee(Merged { set: Arc::default(), of });
        Self { members: members.into(), merged, merging: Mutex::new(()) }
    }

    pub(crate) fn members(&self) -> &[Keys] {
        &self.members
    }

    pub(crate) fn snapshot(&self) -> Option<Guard<Arc<Merged>>> {
        let merged = self.merged.load();
        let merged = if self.is_current(&merged) { merged } else { self.merge(merged) };
        merged.has_keys().then_some(merged)
    }

    /// The merged set, to be kept.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        self.snapshot().map(|merged| Arc::clone(&merged.set))
    }

    pub(crate) fn ask(&self, miss: Miss<'_>) -> Ask<Waiting> {
        let merged = self.snapshot();
        if let Some(merged) = &merged
            && miss.generation.is_none_or(|seen| seen < merged.set.generation())
        {
            return Ask::Answered(Answer::Changed);
        }
        let has_keys = merged.as_ref().is_some_and(|merged| !merged.set.is_empty());
        let mut answers = Answers { has_keys, ..Answers::default() };
        let mut waiting = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let of = merged.as_ref().and_then(|merged| merged.of[index].as_ref());
            match member.ask(Miss { generation: of.map(|set| set.generation()), ..miss }) {
                Ask::Answered(answer) => answers.add(answer),
                Ask::Wait(wait) => waiting.push(wait),
            }
        }
        match answers.is_change() || waiting.is_empty() {
            true => Ask::Answered(answers.together()),
            false => Ask::Wait(Waiting::several(waiting, answers)),
        }
    }

    pub(crate) fn signature_mismatch(&self, miss: Miss<'_>) {
        let merged = self.merged.load();
        // Those that do not have the key take no notice.
        for (member, of) in self.members.iter().zip(&merged.of) {
            member.signature_mismatch(Miss { generation: of.as_ref().map(|set| set.generation()), ..miss });
        }
    }

    fn is_current(&self, merged: &Merged) -> bool {
        self.members.iter().zip(&merged.of).all(|(member, of)| member.is_at(of.as_ref()))
    }

    fn merge(&self, seen: Guard<Arc<Merged>>) -> Guard<Arc<Merged>> {
        let lock = match self.merging.try_lock() {
            Ok(lock) => lock,
            // Nothing in the critical section can leave it half done.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody merges at this moment; readers see the set before, unless there is none.
            Err(TryLockError::WouldBlock) if seen.has_keys() => return seen,
            Err(TryLockError::WouldBlock) => self.merging.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        };
        let old = self.merged.load();
        if !self.is_current(&old) {
            let of: Box<[_]> = self.members.iter().map(Keys::current).collect();
            let set = KeySet::merged(of.iter().flatten().map(|set| &**set)).with_generation(old.set.generation() + 1);
            self.merged.store(Arc::new(Merged { set: Arc::new(set), of }));
        }
        drop(lock);
        self.merged.load()
    }
}

/// What several sources say to the same miss.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Whether any of them has usable keys.
    has_keys: bool,
    changed: bool,
    absent: bool,
    not_yet: Option<Duration>,
    unavailable: Option<(Unready, Duration)>,
}

impl Answers {
    pub(crate) fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Changed => self.changed = true,
            Answer::Absent | Answer::UnknownIssuer => self.absent = true,
            Answer::Unavailable { reason, retry_after } => {
                self.unavailable = Some((reason, sooner(self.unavailable.map(|(_, after)| after), retry_after)));
            }
            Answer::NotYet { retry_after } => self.not_yet = Some(sooner(self.not_yet, retry_after)),
            // An answer that this version does not know.
            _ => self.not_yet = Some(sooner(self.not_yet, MIN_RETRY_AFTER)),
        }
    }

    pub(crate) fn is_change(&self) -> bool {
        self.changed
    }

    /// What that amounts to. It is the token's fault only if nobody has the key and everybody could look.
    pub(crate) fn together(&self) -> Answer {
        match (self.not_yet, self.unavailable) {
            _ if self.changed => Answer::Changed,
            // One that cannot be reached is no outage while others have keys.
            (not_yet, Some((_, retry_after))) if self.has_keys => {
                Answer::NotYet { retry_after: sooner(not_yet, retry_after) }
            }
            (_, Some((reason, retry_after))) => Answer::Unavailable { reason, retry_after },
            (Some(retry_after), None) => Answer::NotYet { retry_after },
            (None, None) => Answer::Absent,
        }
    }
}

fn sooner(known: Option<Duration>, other: Duration) -> Duration {
    known.map_or(other, |known| known.min(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_tokens_fault_only_if_everybody_has_looked() {
        let second = Duration::from_secs(1);
        let not_yet = |seconds| Answer::NotYet { retry_after: seconds * second };
        let unavailable = |seconds| Answer::Unavailable { reason: Unready::TooOld, retry_after: seconds * second };
        for (has_keys, answers, expected) in [
            (true, vec![], Answer::Absent),
            (true, vec![Answer::Absent, Answer::Absent], Answer::Absent),
            (true, vec![Answer::Absent, Answer::UnknownIssuer], Answer::Absent),
            (true, vec![not_yet(4), Answer::Changed, unavailable(1)], Answer::Changed),
            (true, vec![Answer::Absent, not_yet(4), not_yet(2)], not_yet(2)),
            (true, vec![Answer::Absent, unavailable(3)], not_yet(3)),
            (true, vec![unavailable(3), not_yet(5)], not_yet(3)),
            (false, vec![unavailable(3), unavailable(2)], unavailable(2)),
            // Static keys, and none.
            (false, vec![Answer::Absent, unavailable(3)], unavailable(3)),
        ] {
            let mut together = Answers { has_keys, ..Answers::default() };
            answers.iter().for_each(|answer| together.add(*answer));
            assert_eq!(together.together(), expected, "{has_keys} {answers:?}");
        }
    }
}
