use std::time::Duration;

use super::vocabulary::Loaded;
use crate::time::Now;

/// A clock may always be so much off: what is rounded to milliseconds must not look as if it had been set.
const LEAST_TOLERANCE: Duration = Duration::from_millis(100);

/// The store's clock shows whole seconds.
const STORE_GRAIN: Duration = Duration::from_secs(1);

/// What is known of this node's clock (I10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Soundness {
    /// When the clock was last found to be right, or was first seen.
    anchor: Option<Now>,
    is_unsound: bool,
}

/// Two clocks that each differ from the store's by half of `ε` at most differ by `ε` at most.
pub(super) fn tolerance(clock_error: Duration) -> Duration {
    (clock_error / 2).max(LEAST_TOLERANCE)
}

impl Soundness {
    pub(super) fn is_sound(&self) -> bool {
        !self.is_unsound
    }

    /// Notices that the clock was set. True if it has just become unsound.
    pub(super) fn observe(&mut self, now: Now, clock_error: Duration) -> bool {
        let anchor = *self.anchor.get_or_insert(now);
        let was_set = now.disagreement(&anchor) > tolerance(clock_error);
        was_set && !std::mem::replace(&mut self.is_unsound, true)
    }

    /// Compares with the store's clock, or, if it has none, with the time of the last transition.
    pub(super) fn compare(&mut self, sent: Now, now: Now, loaded: &Loaded, clock_error: Duration) {
        if now.disagreement(&sent) > tolerance(clock_error) {
            // It was set in between, so the two ends of the interval are not on one clock.
            self.is_unsound = true;
            return;
        }
        match loaded.store_time {
            Some(store) => {
                // What is beyond doubt, whenever in between the store looked at its clock.
                let behind = store.saturating_since(now.wall);
                let ahead = sent.wall.saturating_since(store.saturating_add(STORE_GRAIN));
                if behind.max(ahead) > tolerance(clock_error) {
                    self.is_unsound = true;
                } else {
                    *self = Self { anchor: Some(now), is_unsound: false };
                }
            }
            None => {
                let written_at = loaded.state.as_ref().map_or(now.wall, |(state, _)| state.written_at);
                let is_unsound = written_at.saturating_since(now.wall) > clock_error;
                // There is nothing to compare with, so a clock that was set is believed from then on, after one fresh
                // look at the state.
                *self = Self { anchor: Some(now), is_unsound };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_claims::UnixTime;

    const EPSILON: Duration = Duration::from_secs(30);

    fn at(wall: i64, monotonic: u64) -> Now {
        Now { wall: UnixTime::from_secs(wall), monotonic: Duration::from_secs(monotonic) }
    }

    fn loaded(store_time: Option<i64>) -> Loaded {
        Loaded { state: None, store_time: store_time.map(UnixTime::from_secs) }
    }

    #[test]
    fn i10_a_clock_beyond_half_the_bound_of_the_stores_is_unsound_and_recovers() {
        for (store, is_sound) in [(100, true), (115, true), (117, false), (84, true), (82, false)] {
            let mut clock = Soundness::default();
            clock.compare(at(100, 0), at(100, 0), &loaded(Some(store)), EPSILON);
            assert_eq!(clock.is_sound(), is_sound, "{store}");
            clock.compare(at(101, 1), at(101, 1), &loaded(Some(101)), EPSILON);
            assert!(clock.is_sound());
        }
    }

    #[test]
    fn i10_a_clock_that_is_set_while_the_store_is_asked_is_not_found_right() {
        let mut clock = Soundness::default();
        clock.compare(at(100, 0), at(1_000, 1), &loaded(Some(101)), EPSILON);
        assert!(!clock.is_sound());
        clock.compare(at(1_001, 2), at(1_001, 2), &loaded(Some(102)), EPSILON);
        assert!(!clock.is_sound());
    }

    #[test]
    fn i10_a_clock_that_is_set_is_noticed_before_the_store_is_asked() {
        for wall in [0, 80, 130, 1_000] {
            let mut clock = Soundness::default();
            assert!(!clock.observe(at(100, 0), EPSILON));
            assert!(!clock.observe(at(105, 5), EPSILON));
            assert!(clock.observe(at(wall, 6), EPSILON), "{wall}");
            assert!(!clock.is_sound());
        }
    }
}
