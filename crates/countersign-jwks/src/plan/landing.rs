//! The ends of fetches: what is believed of them, and what follows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{Answer, KeySet};

use super::{
    Action, BACKOFF_JITTER, CONFIRM_AFTER, Disbelief, Flight, GENERATED_TOLERANCE, Kind, MAX_BACKOFF, MAX_REFUSED,
    MAX_RETRY_AFTER, MAX_SPACING, MIN_BACKOFF, MIN_SPACING, Map, Now, Plan, REFRESH_AT, REFRESH_JITTER, Refused,
    Restored, Rule, Wanted, absent,
};
use crate::hints::{DATE_RESOLUTION, Hints, Validators};

/// What a fetch that is believed has brought.
enum Success {
    /// Other keys than before. With what is known to be gone with those.
    Changed(Map<Wanted, ()>),
    /// The keys that are known already.
    Same,
    NotModified,
}

impl<W> Plan<W> {
    pub(super) fn fetched(&mut self, now: Now, set: KeySet, hints: &Hints, actions: &mut Vec<Action<W>>) {
        let Some(flight) = self.land() else { return };
        if !set.is_empty() {
            self.emptied = None;
        }
        let (earliest, latest) = self.generated(now, hints).unzip();
        let earliest = if self.was_handed_on(now, hints) { hints.date } else { earliest };
        if let Some(disbelief) = self.disbelief(&flight, &set, earliest) {
            if !self.keeps(Rule::ValidatorsAreOfTheSetInForce) {
                self.validators = hints.validators.clone();
            }
            self.disbelieve(now, flight, disbelief, actions);
            if let Some(date) = hints.date.filter(|_| disbelief == Disbelief::Older) {
                self.remember_refused(Refused { date, age: hints.age, came: now.monotonic });
            }
            return;
        }
        let old = self.set.clone();
        let tells_what_is_gone = self.tells_what_is_gone(&flight, hints, earliest);
        let end = match (self.replace(set, hints, latest), old, &self.set) {
            (false, ..) => Success::Same,
            (true, Some(old), Some(new)) if tells_what_is_gone => Success::Changed(absent::gone(&old, new)),
            (true, ..) => Success::Changed(Map::default()),
        };
        self.succeeded(now, flight, end, hints, actions);
    }

    pub(super) fn not_modified(&mut self, now: Now, hints: &Hints, actions: &mut Vec<Action<W>>) {
        let Some(flight) = self.land() else { return };
        self.emptied = None;
        if flight.outlived && self.keeps(Rule::OutlivedIsDisbelieved) {
            self.disbelieve(now, flight, Disbelief::Outlived, actions);
        } else if self.set.is_none() || !flight.conditional {
            self.disbelieve(now, flight, Disbelief::Unasked, actions);
        } else {
            self.succeeded(now, flight, Success::NotModified, hints, actions);
        }
    }

    /// Somebody's memory of a set is better than none, and worse than anything that was fetched: it counts only where there is
    /// nothing, and only while it would still be trusted had it been ours. The look that is due stays due.
    pub(super) fn restored(&mut self, now: Now, restored: Restored, actions: &mut Vec<Action<W>>) {
        let Restored { set, age, generated } = restored;
        let is_young = age < self.config.max_stale || !self.keeps(Rule::RestoredIsYoung);
        // Or what there was is too old to be trusted, and this is younger.
        let is_first = self.set.is_none() || (!self.in_force && age < now.age(self.confirmed));
        let is_first = is_first || !self.keeps(Rule::FetchedOutweighsRestored);
        if !is_first || !is_young || set.is_empty() {
            return;
        }
        let generation = self.set.as_ref().map_or(1, |set| set.generation() + 1);
        let set = Arc::new(set.with_generation(generation));
        self.confirmed = Now { monotonic: now.monotonic.saturating_sub(age), wall: now.wall.saturating_sub(age) };
        // Not from the future, or nothing that is fetched would be newer.
        self.generated = generated.map(|generated| generated.min(now.wall));
        // What was known of a set before it is not true of this one.
        (self.validators, self.place, self.stale) = (Validators::default(), None, false);
        self.refused.clear();
        self.mismatched.clear();
        if let Some(flight) = &mut self.flight {
            flight.conditional = false;
        }
        self.in_force = true;
        self.set = Some(Arc::clone(&set));
        actions.push(Action::Publish(Arc::clone(&set)));
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.wanted.is_in(&set) {
                actions.push(Action::Answer(waiter.reply, Answer::Changed));
            } else {
                self.waiters.push_back(waiter);
            }
        }
        self.sought.retain(|wanted, _| !wanted.is_in(&set));
    }

    /// The set that is the last good one now has just been confirmed by its provider.
    fn succeeded(&mut self, now: Now, flight: Flight, end: Success, hints: &Hints, actions: &mut Vec<Action<W>>) {
        let Some(set) = self.set.clone() else { return };
        let is_unmodified = matches!(end, Success::NotModified);
        let (changed, gone) = match end {
            Success::Changed(gone) => (true, gone),
            Success::Same | Success::NotModified => (false, Map::default()),
        };
        self.attempted = true;
        self.failures = 0;
        self.has_failed = false;
        self.doubted = false;
        self.confirmed = now;
        self.generated = self.generated.max(self.generated(now, hints).map(|(_, latest)| latest));
        self.clock_offset = hints.clock_offset.or(self.clock_offset);
        self.doubt = self.doubt.filter(|_| hints.clock_offset.is_none());
        if let Some(date) = hints.date.filter(|_| hints.age.is_zero()) {
            // That is the present, by the provider's clock. What is in force was not generated later, whatever a server with a
            // wrong clock has said: it would be newer than all that comes.
            self.generated = self.generated.min(Some(date.saturating_add(GENERATED_TOLERANCE)));
        }
        self.lifetime = match hints.lifetime {
            Some(lifetime) => lifetime.clamp(self.config.min_lifetime, self.config.max_lifetime),
            // What "not modified" leaves out is as it was (RFC 9111 §4.3.4).
            None if is_unmodified => self.lifetime,
            None => self.config.lifetime,
        };
        // A forced fetch that succeeds is as good as a scheduled one, and puts the next of those off.
        let until_next = if set.is_empty() { MIN_BACKOFF } else { self.jittered_lifetime() };
        self.scheduled_at = now.monotonic + until_next;
        self.adapt_spacing(flight, changed);
        let answers = self.conclude(flight, &set, changed, gone, actions);
        if changed || !self.in_force {
            self.in_force = true;
            actions.push(Action::Publish(Arc::clone(&set)));
        }
        if std::mem::take(&mut self.stale) {
            actions.push(Action::Recovered);
        }
        actions.extend(answers);
    }

    /// Why the set must not replace the one that is there, if so.
    fn disbelief(&self, flight: &Flight, set: &KeySet, generated: Option<Duration>) -> Option<Disbelief> {
        let has_same_keys = self.set.as_ref().is_some_and(|old| old.has_same_keys_as(set));
        let is_older =
            |in_force: Duration, generated: Duration| generated.saturating_add(GENERATED_TOLERANCE) < in_force;
        let says_it_is_older = self.generated.zip(generated).is_some_and(|(ours, its)| is_older(ours, its));
        if flight.outlived && self.keeps(Rule::OutlivedIsDisbelieved) {
            Some(Disbelief::Outlived)
        } else if set.is_empty() && !self.confirms_emptiness(flight) && self.keeps(Rule::EmptinessIsConfirmed) {
            Some(Disbelief::Empty)
        } else if self.in_force && !has_same_keys && says_it_is_older && self.keeps(Rule::OlderIsDisbelieved) {
            Some(Disbelief::Older)
        } else {
            None
        }
    }

    fn disbelieve(&mut self, now: Now, flight: Flight, disbelief: Disbelief, actions: &mut Vec<Action<W>>) {
        actions.push(Action::Disbelieve(disbelief));
        if disbelief == Disbelief::Outlived {
            // Nobody's fault: the clocks' disagreement has made another fetch due already, and whoever waits goes on waiting.
            return;
        }
        self.failed(now, flight, None, actions);
        match disbelief {
            Disbelief::Empty => {
                self.emptied.get_or_insert(flight.begun.monotonic);
                // The same answer out of a cache confirms nothing.
                self.doubted = true;
                self.scheduled_at = self.scheduled_at.min(now.monotonic + CONFIRM_AFTER);
            }
            Disbelief::Older => self.doubted = true,
            Disbelief::Outlived | Disbelief::Unasked => {}
        }
    }

    /// One for each `Date`, the first that was seen of it.
    fn remember_refused(&mut self, refused: Refused) {
        if self.refused.iter().any(|known| known.date == refused.date) {
            return;
        }
        if self.refused.len() == MAX_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(refused);
    }

    /// Whether this is an answer that was refused a while ago, with the same `Date` and an `Age` that has grown by the time
    /// since: then it is out of a cache that hands the origin's `Date` on.
    fn was_handed_on(&self, now: Now, hints: &Hints) -> bool {
        self.refused.iter().filter(|refused| hints.date == Some(refused.date)).any(|refused| {
            let passed = now.monotonic.saturating_sub(refused.came);
            let grown = hints.age.saturating_sub(refused.age);
            passed >= GENERATED_TOLERANCE && grown.abs_diff(passed) <= DATE_RESOLUTION
        })
    }

    /// Whether a set without a usable key may be believed: an earlier one said the same, and a good one before it is
    /// what is being withdrawn. Without one there is nothing to withdraw; such a source has not begun to work.
    fn confirms_emptiness(&self, flight: &Flight) -> bool {
        self.set.is_some() && self.emptied.is_some_and(|first| flight.begun.monotonic >= first + CONFIRM_AFTER)
    }

    /// Between which times an answer that comes in now was generated, by the provider's clock.
    fn generated(&self, now: Now, hints: &Hints) -> Option<(Duration, Duration)> {
        let shown = self.shown_by_provider(now);
        match self.doubt {
            None => hints.generated(&[shown]),
            Some(doubt) if doubt.is_twofold => hints.generated(&[]),
            Some(doubt) => {
                hints.generated(&[shown, doubt.shown.saturating_add(now.monotonic.saturating_sub(doubt.since))])
            }
        }
    }

    /// What the provider's clock shows now, if ours is as it was when that was last read. As long as it has not been read, it is taken to show
    /// what ours does.
    pub(super) fn shown_by_provider(&self, now: Now) -> Duration {
        let offset = self.clock_offset.unwrap_or(0);
        let by = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 { now.wall.saturating_sub(by) } else { now.wall.saturating_add(by) }
    }

    /// Whether what the set in force has, and this answer has not, is known to be gone. All of that was seen before the fetch began, so it
    /// only has to be the newest word of the one who has said what is in force:
    /// - not of a cache that was free to answer, nor of another place, a mirror, which may lag behind;
    /// - nor of an answer that says that it is older, by however little: it is believed within a tolerance, and what it lacks may
    ///   be new;
    /// - nor if the set is a remembered one. It came while the fetch was under way, or from another process, which may have looked later.
    fn tells_what_is_gone(&self, flight: &Flight, hints: &Hints, generated: Option<Duration>) -> bool {
        let says_it_is_older = self.generated.zip(generated).is_some_and(|(ours, its)| its < ours);
        let is_its_place = self.place == Some(hints.validators.place);
        flight.revalidates && is_its_place && !says_it_is_older && self.keeps(Rule::WithdrawnIsAbsent)
    }

    /// Makes `set` the last good one unless it is the same; says whether it is another. What the answer says about itself is
    /// kept only now: it is not what a refused body says that the next request may be made conditional on.
    fn replace(&mut self, set: KeySet, hints: &Hints, generated: Option<Duration>) -> bool {
        self.validators = hints.validators.clone();
        self.place = Some(hints.validators.place);
        let set = match &self.set {
            Some(old) if old.has_same_keys_as(&set) => return false,
            Some(old) => set.succeeding(old).with_generation(old.generation() + 1),
            None => set.with_generation(1),
        };
        // Which may be up to the tolerance older than before: it belongs to this set.
        self.generated = generated;
        self.set = Some(Arc::new(set));
        self.mismatched.clear();
        self.refused.clear();
        true
    }

    /// What is known to be absent now; returns the answers to all whom the fetch answers. A key first seen after it began stays
    /// sought: the provider may have added it while the answer was on its way.
    fn conclude(
        &mut self,
        flight: Flight,
        set: &KeySet,
        changed: bool,
        gone: Map<Wanted, ()>,
        actions: &mut Vec<Action<W>>,
    ) -> Vec<Action<W>> {
        let mut answers = Vec::new();
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.wanted.is_in(set) {
                answers.push(Action::Answer(waiter.reply, Answer::Changed));
            } else if self.sought.get(&waiter.wanted).is_some_and(|seen| *seen < flight.number) {
                answers.push(Action::Answer(waiter.reply, Answer::Absent));
            } else {
                self.waiters.push_back(waiter);
            }
        }
        let (looked_for, unanswered): (Map<_, _>, Map<_, _>) = std::mem::take(&mut self.sought)
            .into_iter()
            .filter(|(wanted, _)| !wanted.is_in(set))
            .partition(|(_, seen)| *seen < flight.number);
        self.sought = unanswered;
        let is_nothing_absent = looked_for.is_empty() && gone.is_empty() && self.absent.is_empty();
        if !is_nothing_absent && self.keeps(Rule::AbsenceIsRemembered) {
            self.absent = Arc::new(self.absent.succeeded_by(gone, looked_for, flight.begun, set, changed));
            actions.push(Action::Deny(Arc::clone(&self.absent)));
        }
        answers
    }

    pub(super) fn failed(
        &mut self,
        now: Now,
        flight: Flight,
        retry_after: Option<Duration>,
        actions: &mut Vec<Action<W>>,
    ) {
        let now = now.monotonic;
        self.attempted = true;
        self.has_failed = true;
        if self.keeps(Rule::SpacingCountsFailures) {
            self.adapt_spacing(flight, false);
        } else {
            self.last_forced = None;
        }
        let retry_after = retry_after.unwrap_or_default();
        self.not_before = now + retry_after.min(MAX_SPACING);
        if flight.kind == Kind::Scheduled {
            let backoff = MIN_BACKOFF.saturating_mul(1 << self.failures.min(16)).min(MAX_BACKOFF);
            self.failures += 1;
            let jittered = backoff.mul_f64(1.0 - BACKOFF_JITTER * self.random.unit());
            let backs_off = self.has_usable_keys() || self.config.backs_off_without_keys;
            self.scheduled_at = now + if backs_off { jittered } else { MIN_BACKOFF };
        }
        let at_most = if self.has_usable_keys() { MAX_RETRY_AFTER } else { MAX_SPACING };
        self.scheduled_at = self.scheduled_at.max(now + retry_after.min(at_most));
        // Whoever still waits when the next fetch may begin keeps his key sought; for the others somebody may ask
        // again. So an outage is not met with more fetches than there are requests to make them.
        self.dismiss(now, actions);
        let waited_for: HashSet<_> = self.waiters.iter().map(|waiter| &waiter.wanted).collect();
        self.sought.retain(|wanted, seen| *seen >= flight.number || waited_for.contains(wanted));
    }

    /// Nobody's fault, and nothing was learnt: it is tried again soon, and whoever waits goes on waiting. Chance decides when, so that those who
    /// wait for a turn do not meet at it again.
    pub(super) fn postponed(&mut self, now: Duration) {
        if self.flight.take().is_some() {
            self.scheduled_at = now + MIN_BACKOFF.mul_f64(1.0 - 0.5 * self.random.unit());
        }
    }

    pub(super) fn land(&mut self) -> Option<Flight> {
        let flight = self.flight.take()?;
        self.recheck = self.recheck.filter(|begun| flight.number <= *begun);
        self.changed = self.changed.filter(|begun| flight.number <= *begun);
        Some(flight)
    }

    fn adapt_spacing(&mut self, flight: Flight, changed: bool) {
        if changed {
            self.spacing = MIN_SPACING;
        } else if flight.kind == Kind::Forced {
            self.spacing = (self.spacing * 2).min(MAX_SPACING);
        }
    }

    fn jittered_lifetime(&mut self) -> Duration {
        self.lifetime.mul_f64(REFRESH_AT + REFRESH_JITTER * (2.0 * self.random.unit() - 1.0))
    }
}
