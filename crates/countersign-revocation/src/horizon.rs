use countersign_claims::UnixTime;
use tokio::time::Instant;

/// The time up to which entries that have ended may be swept.
///
/// What is swept never comes back, so a clock that is wrong for a minute must not sweep: a horizon moves towards the clock at most twice as fast
/// as time passes, and falls back at once when the clock does. A clock that jumps ahead and is put right after a minute has moved it by
/// another minute; a clock that was behind and is put right is caught up with. What it starts with it has to believe.
///
/// It is told the time; it reads no clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Horizon {
    at: UnixTime,
    seen: Instant,
}

impl Horizon {
    pub(crate) fn new(wall: UnixTime, instant: Instant) -> Self {
        Self { at: wall, seen: instant }
    }

    /// The clock shows `wall` at `instant`.
    pub(crate) fn observe(&mut self, wall: UnixTime, instant: Instant) -> UnixTime {
        let passed = instant.saturating_duration_since(self.seen);
        self.at = wall.min(self.at.saturating_add(passed.saturating_mul(2)));
        self.seen = self.seen.max(instant);
        self.at
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const START: UnixTime = UnixTime::from_secs(1_800_000_000);

    proptest! {
        #[test]
        fn it_is_never_ahead_of_the_clock_nor_of_twice_the_time_that_has_passed(
            steps in prop::collection::vec((0..1000_u64, -5000..5000_i64), 1..30)
        ) {
            let begin = Instant::now();
            let mut horizon = Horizon::new(START, begin);
            let mut passed = 0;
            for (by, error) in steps {
                passed += by;
                let wall = UnixTime::from_secs(START.as_secs() + passed as i64 + error);
                let at = horizon.observe(wall, begin + Duration::from_secs(passed));
                prop_assert!(at <= wall);
                prop_assert!(at <= START.saturating_add(Duration::from_secs(2 * passed)));
            }
        }

        #[test]
        fn a_clock_that_is_right_again_for_as_long_as_it_was_wrong_is_followed_to_the_second(
            behind in 0..5000_u64, right in 5000..9000_u64
        ) {
            let begin = Instant::now();
            let mut horizon = Horizon::new(START, begin);
            horizon.observe(START.saturating_sub(Duration::from_secs(behind)), begin);
            let now = START.saturating_add(Duration::from_secs(right));
            prop_assert_eq!(horizon.observe(now, begin + Duration::from_secs(right)), now);
        }
    }

    #[test]
    fn a_clock_that_jumps_ahead_for_a_minute_moves_it_by_two() {
        let begin = Instant::now();
        let mut horizon = Horizon::new(START, begin);
        let year = Duration::from_secs(365 * 86_400);
        horizon.observe(START.saturating_add(year), begin);
        let minute = Duration::from_secs(60);
        assert_eq!(horizon.observe(START.saturating_add(year), begin + minute), START.saturating_add(2 * minute));
        assert_eq!(horizon.observe(START.saturating_add(minute), begin + minute), START.saturating_add(minute));
    }
}
