//! What requests say, and what they are told.

use std::time::Duration;

use countersign_token::{Answer, MAX_KEYS};

use super::{
    Action, MAX_SOUGHT, MAX_SPACING, MAX_WAIT, MAX_WAITERS, MIN_RETRY_AFTER, MISMATCH_REMEMBERED, Now, Plan, Rule,
    Waiter, Wanted,
};

/// What a request for an unknown key has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A fetch, at once.
    Provoked,
    /// Nothing: it is known to be absent.
    Absent,
    /// Nothing: a fetch was under way.
    InFlight,
    /// A fetch later: none may begin yet.
    Spaced,
}

impl<W> Plan<W> {
    /// Says what has become of the request, if its key is unknown: there is a set in force, and it is the one in which the request has looked.
    pub(super) fn asked(
        &mut self,
        now: Now,
        wanted: Wanted,
        generation: Option<u64>,
        waiter: W,
        actions: &mut Vec<Action<W>>,
    ) -> Option<Fate> {
        if let Some(answer) = self.known_answer(now, &wanted, generation) {
            actions.push(Action::Answer(waiter, answer));
            return (answer == Answer::Absent).then_some(Fate::Absent);
        }
        // What has been looked for before was first seen before any fetch that may be in flight now.
        let fetches = if self.absent.remembers(&wanted) { 0 } else { self.fetches };
        let is_sought = self.sought.contains_key(&wanted) || self.sought.len() < MAX_SOUGHT;
        if is_sought {
            self.sought.entry(wanted.clone()).or_insert(fetches);
        } else {
            // No room to remember the key; somebody has to look all the same.
            self.needed |= self.in_force;
        }
        if is_sought && (self.waiters.len() < MAX_WAITERS || !self.keeps(Rule::WaitersAreBounded)) {
            self.waiters.push_back(Waiter { reply: waiter, wanted, deadline: now.monotonic + MAX_WAIT });
        } else {
            actions.push(Action::Answer(waiter, self.not_now(now.monotonic)));
        }
        let fate = if self.flight.is_some() { Fate::InFlight } else { Fate::Spaced };
        self.in_force.then_some(fate)
    }

    fn known_answer(&self, now: Now, wanted: &Wanted, generation: Option<u64>) -> Option<Answer> {
        match &self.set {
            Some(set) if self.in_force => {
                if generation.is_none_or(|seen| seen < set.generation()) {
                    return Some(Answer::Changed);
                }
                self.absent.contains(wanted, now).then_some(Answer::Absent)
            }
            _ if self.attempted => Some(self.not_now(now.monotonic)),
            _ => None,
        }
    }

    pub(super) fn mismatched(&mut self, now: Duration, wanted: Wanted, generation: Option<u64>) {
        let Some(set) = self.set.as_ref().filter(|_| self.in_force) else { return };
        // Names that are not in the set never get here, so the set's own limit bounds what is remembered.
        let is_recent = |at: &Duration| now.saturating_sub(*at) < MISMATCH_REMEMBERED;
        let news = generation == Some(set.generation())
            && wanted.is_in(set)
            && !self.mismatched.get(&wanted.kid).is_some_and(is_recent)
            && self.mismatched.len() <= MAX_KEYS;
        if news {
            self.mismatched.insert(wanted.kid, now);
        }
        self.needed |= news;
    }

    /// Answers those whose time is up, and those whose time will be up before the next fetch can begin.
    pub(super) fn dismiss(&mut self, now: Duration, actions: &mut Vec<Action<W>>) {
        let until = if self.flight.is_some() { now } else { now.max(self.next_look()) };
        while self.waiters.front().is_some_and(|waiter| waiter.deadline <= until) {
            if let Some(waiter) = self.waiters.pop_front() {
                actions.push(Action::Answer(waiter.reply, self.not_now(now)));
            }
        }
    }

    pub(super) fn not_now(&self, now: Duration) -> Answer {
        let retry_after = self.next_look().saturating_sub(now).max(MIN_RETRY_AFTER);
        match self.unready() {
            None => Answer::NotYet { retry_after },
            // Whoever comes earlier than necessary is told again.
            Some(reason) => Answer::Unavailable { reason, retry_after: retry_after.min(MAX_SPACING) },
        }
    }
}
