use std::time::Duration;

use countersign_claims::UnixTime;
use tokio::time::Instant;

/// A clock that has been ahead for so long is right. A machine that begins in 1970 and then learns the time would otherwise not catch up with it for
/// decades, and nothing would be swept; and one that is wrong for a day has refused every token in the meantime.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The time up to which entries that have ended may be swept.
///
/// What is swept never comes back, so a clock that is wrong for a minute must not sweep: a horizon moves towards the clock at most twice as fast
/// as time passes, and falls back at once when the clock does. A clock that jumps ahead and is put right after a minute has moved it by
/// another minute; a clock that was behind and is put right is caught up with, and if it was behind by years it is believed
/// [after a day](BELIEVED_AFTER). What it starts with it has to believe.
///
/// It is told the time; it reads no clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Horizon {
    at: UnixTime,
    seen: Instant,
    /// Since when the clock has been ahead of this, without a break.
    behind_since: Option<Instant>,
}

impl Horizon {
    pub(crate) fn new(wall: UnixTime, instant: Instant) -> Self {
        Self { at: wall, seen: instant, behind_since: None }
    }

    pub(crate) fn at(&self) -> UnixTime {
        self.at
    }

    /// The clock shows `wall` at `instant`.
    pub(crate) fn observe(&mut self, wall: UnixTime, instant: Instant) -> UnixTime {
        let passed = instant.saturating_duration_since(self.seen);
        let reached = wall.min(self.at.saturating_add(passed.saturating_mul(2)));
        let behind_since = (reached < wall).then(|| self.behind_since.unwrap_or(instant));
        let is_believed = behind_since.is_some_and(|since| instant.saturating_duration_since(since) >= BELIEVED_AFTER);
        self.at = if is_believed { wall } else { reached };
        self.behind_since = behind_since.filter(|_| !is_believed);
        self.seen = self.seen.max(instant);
        self.at
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_clock_that_is_decades_ahead_is_believed_after_a_day_without_a_break() {
        let begin = Instant::now();
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        let boot = UnixTime::from_secs(0);
        let mut horizon = Horizon::new(boot, begin);
        for hour in 0..23 {
            assert!(horizon.observe(START, begin + hours(hour)) <= boot.saturating_add(hours(2 * hour)));
        }
        // A break: it begins anew.
        horizon.observe(boot, begin + hours(23));
        assert!(horizon.observe(START, begin + hours(24)) < START);
        assert!(horizon.observe(START, begin + hours(47)) < START);
        assert_eq!(horizon.observe(START, begin + hours(48)), START);
    }
}
