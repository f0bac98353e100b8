//! What is made of answers about the published set.

use super::answers::FAILURES_TO_ALARM;
use super::work::is_unconfirmed;
use super::{Alarm, Effect, Failure, Note, PublishedSet, ReadSet, Rule, Task, Turn, Version};
use crate::publication::{Found, Publication};
use crate::state::RingState;
use std::sync::Arc;

impl Turn<'_> {
    pub(super) fn published_read(&mut self, result: Result<ReadSet, Failure>) {
        let failures = self.finish(&Task::ReadPublished, result.is_ok());
        let read = match result {
            Ok(read) => read,
            Err(failure) => return self.publish_failed(failure, failures),
        };
        let checked_at = self.now.monotonic;
        let Some((bytes, version)) = read else {
            let none = PublishedSet {
                seq: None,
                kids: Vec::new(),
                version: None,
                checked_at,
                is_fresh: true,
                is_edited: false,
            };
            self.node.published = Some(none);
            return;
        };
        let found = Found::read(&bytes);
        let ring = self.node.view.as_ref().map(|view| view.ring.clone());
        let own = ring.as_ref().and_then(|ring| Publication::of(ring, self.config, self.now.wall).ok());
        // What is no set at all was not written by a ring, nor by any other issuer.
        let found = found.unwrap_or_else(Found::litter);
        let is_own = own.is_some_and(|own| found.seq == Some(own.seq) && *own.bytes != *bytes);
        let is_unknown = |ring: &Arc<RingState>| found.kids.iter().any(|kid| ring.fate(kid).is_none());
        let set_seq = ring.as_ref().map_or(0, |ring| ring.set_seq);
        if found.seq.is_some_and(|seq| seq > set_seq) {
            // Most often another node has written the state and the set while this one was not looking.
            self.node.ahead = found.seq;
            self.node.load_due = self.now.monotonic;
        }
        let is_edited =
            is_own || (found.seq.is_some_and(|seq| seq <= set_seq) && ring.as_ref().is_some_and(is_unknown));
        self.set(Alarm::SetEdited, is_edited);
        let Found { seq, kids, .. } = found;
        if self.node.breaks(Rule::ReadBack) && seq == Some(set_seq) {
            self.node.seen.extend(kids.iter().map(|kid| (kid.clone(), self.now.wall)));
        }
        self.node.published =
            Some(PublishedSet { seq, kids, version: Some(version), checked_at, is_fresh: true, is_edited });
    }

    fn publish_failed(&mut self, failure: Failure, failures: u32) {
        if failures >= FAILURES_TO_ALARM || matches!(failure, Failure::Denied) {
            self.raise(Alarm::PublishFailing(failure));
        }
    }

    pub(super) fn published(&mut self, result: &Result<Version, Failure>) {
        let is_done = result.is_ok();
        let failures =
            self.finish(&Task::Publish, is_done || matches!(result, Err(Failure::Conflict | Failure::Unknown)));
        let trusts = self.node.breaks(Rule::ConflictIsDoubted);
        if matches!(result, Err(Failure::Conflict | Failure::Unknown)) {
            self.pause(&Task::Publish, self.spread(self.node.publishing, self.config.timing.tick / 4));
        }
        match result {
            Err(Failure::Conflict) if !trusts => self.node.published = None,
            Err(Failure::Unknown) => self.node.published = None,
            Ok(_) | Err(Failure::Conflict) => {
                if let Some(sent) = self.node.published.as_mut() {
                    // The version is not remembered: before the next write the set is looked at anyway.
                    sent.checked_at = self.now.monotonic;
                    sent.seq = sent.seq.max(Some(self.node.publishing));
                    sent.is_edited = false;
                }
                self.clear(|alarm| matches!(alarm, Alarm::PublishFailing(_) | Alarm::SetEdited));
                if let (Some(view), true) = (&self.node.view, is_done) {
                    let (seq, wall) = (self.node.publishing, self.now.wall);
                    if self.node.breaks(Rule::ReadBack) {
                        let unconfirmed = view.ring.keys.iter().filter(|(_, key)| key.confirmed_at.is_none());
                        self.node.seen.extend(unconfirmed.map(|(kid, _)| (kid.clone(), wall)));
                    }
                    self.effects.push(Effect::Note(Note::Published { seq }));
                }
            }
            Err(failure) => {
                self.node.published = None;
                self.publish_failed(*failure, failures);
            }
        }
    }

    pub(super) fn read_back(&mut self, result: &Result<Arc<[u8]>, Failure>) {
        let failures = self.finish(&Task::ReadBack, result.is_ok());
        if !(self.find_new(result) && self.node.is_ending) {
            // Not yet is no failure, but no reason to hurry either; and where each key turns out to be of no use, the next one is
            // not made at once.
            self.pause(&Task::ReadBack, self.config.timing.tick / 2);
        }
        if let Err(failure) = result {
            if failures >= FAILURES_TO_ALARM {
                self.raise(Alarm::ReadBackFailing(*failure));
            }
        } else {
            self.clear(|alarm| matches!(alarm, Alarm::ReadBackFailing(_)));
        }
    }

    /// Whether every key that is looked for was found.
    fn find_new(&mut self, read: &Result<Arc<[u8]>, Failure>) -> bool {
        let found = read.as_ref().ok().and_then(|bytes| Found::read(bytes));
        let (Some(found), Some(view), true) = (found, &self.node.view, self.node.clock.is_sound()) else {
            return false;
        };
        let mut are_all_found = true;
        for (kid, key) in view.ring.keys.iter().filter(|(_, key)| is_unconfirmed(key)) {
            if found.shows(&key.jwk) {
                self.node.seen.entry(kid.clone()).or_insert(self.now.wall);
            }
            are_all_found &= self.node.seen.contains_key(kid);
        }
        are_all_found
    }
}
