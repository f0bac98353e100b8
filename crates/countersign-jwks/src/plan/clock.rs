use std::time::Duration;

/// How much further the wall clock may have moved than the monotonic one before that is called a jump. NTP slews by less, a
/// machine that was suspended by more.
const JUMP: Duration = Duration::from_secs(5);

/// What the monotonic clock of a source shows when it is made. So there is room before it for what is older than the source: keys that
/// somebody remembers.
pub(crate) const PAST: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// The time of an event, on both clocks.
///
/// Distances are kept on the monotonic clock, which nobody can set. But Linux stops that one while the machine is suspended, so
/// an *age*, which must not be forgotten over a freeze, is the larger of what the two clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// Since the source was made, and [`PAST`]; never goes back.
    pub(crate) monotonic: Duration,
    /// Since the Unix epoch, as the system believes.
    pub(crate) wall: Duration,
}

impl Now {
    pub(crate) const ZERO: Self = Self { monotonic: Duration::ZERO, wall: Duration::ZERO };

    /// How long ago `then` was, at least.
    pub(crate) fn age(self, then: Self) -> Duration {
        self.monotonic_age(then).max(self.wall.saturating_sub(then.wall))
    }

    /// The same by the monotonic clock alone.
    pub(crate) fn monotonic_age(self, then: Self) -> Duration {
        self.monotonic.saturating_sub(then.monotonic)
    }

    /// Whether somebody has set the wall clock since, in either direction, or the monotonic one stood.
    pub(crate) fn has_been_set_since(self, then: Self) -> bool {
        let is_forward = self.has_jumped_since(then);
        is_forward || self.wall + JUMP < then.wall + self.monotonic_age(then)
    }

    /// Whether the wall clock was set forward since, or the monotonic one stood.
    pub(crate) fn has_jumped_since(self, then: Self) -> bool {
        self.age(then) > self.monotonic_age(then) + JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic: u64, wall: u64) -> Now {
        Now { monotonic: Duration::from_secs(monotonic), wall: Duration::from_secs(wall) }
    }

    #[test]
    fn the_larger_age_counts_and_only_a_jump_forward_is_one() {
        for (now, age, jumped, set) in [
            (at(110, 1010), 10, false, false),
            (at(110, 1015), 15, false, false),
            (at(110, 1016), 16, true, true),
            (at(110, 2800), 1800, true, true),
            // Set back.
            (at(110, 1005), 10, false, false),
            (at(110, 1004), 10, false, true),
            (at(110, 500), 10, false, true),
            (at(4000, 1000), 3900, false, true),
        ] {
            let then = at(100, 1000);
            let seen = (now.age(then).as_secs(), now.has_jumped_since(then), now.has_been_set_since(then));
            assert_eq!(seen, (age, jumped, set), "{now:?}");
        }
    }
}
