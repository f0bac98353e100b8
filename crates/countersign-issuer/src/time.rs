//! The time, as a ring counts it.

use std::time::{Duration, Instant, SystemTime};

use countersign_claims::UnixTime;

/// The time on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Now {
    /// What others can compare with, and somebody may set.
    pub wall: UnixTime,
    /// Since any moment of the past, and never set. It may stand still while the machine is suspended.
    pub monotonic: Duration,
}

impl Now {
    /// How long ago `earlier` was at most: the larger of what the two clocks say, because one may have been set and the
    /// other may have stood
    /// still.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Duration {
        self.wall.saturating_since(earlier.wall).max(self.monotonic.saturating_sub(earlier.monotonic))
    }

    /// By how much the two clocks disagree about the time since `earlier`.
    pub(crate) fn disagreement(&self, earlier: &Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        let forward = self.wall.saturating_since(earlier.wall);
        let backward = earlier.wall.saturating_since(self.wall);
        if backward.is_zero() { forward.abs_diff(monotonic) } else { backward.saturating_add(monotonic) }
    }

    /// The state has milliseconds; what is written and what is remembered must be the same.
    pub(crate) fn to_millis(self) -> Self {
        Self { wall: from_millis(to_millis(self.wall)), ..self }
    }
}

/// Where a node takes the time from.
pub trait Clock: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// Counts from now on.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { wall: SystemTime::now().into(), monotonic: self.0.elapsed() }
    }
}

fn to_millis(time: UnixTime) -> u64 {
    u64::try_from(time.saturating_since(UnixTime::from_secs(0)).as_millis()).unwrap_or(u64::MAX)
}

fn from_millis(millis: u64) -> UnixTime {
    UnixTime::from_secs(0).saturating_add(Duration::from_millis(millis))
}

/// Instants as milliseconds since the epoch.
pub(crate) mod unix_millis {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::UnixTime;

    pub(crate) fn serialize<S: Serializer>(time: &UnixTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(super::to_millis(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixTime, D::Error> {
        Ok(super::from_millis(u64::deserialize(deserializer)?))
    }
}

/// The same, if there is one.
pub(crate) mod optional_unix_millis {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::UnixTime;

    pub(crate) fn serialize<S: Serializer>(time: &Option<UnixTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_some(&super::to_millis(*time)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixTime>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(super::from_millis))
    }
}

/// Lengths of time as milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, monotonic: u64) -> Now {
        Now { wall: UnixTime::from_secs(wall), monotonic: Duration::from_secs(monotonic) }
    }

    #[test]
    fn an_age_is_the_larger_of_what_two_clocks_say() {
        assert_eq!(at(110, 3).since(&at(100, 0)), Duration::from_secs(10));
        assert_eq!(at(90, 3).since(&at(100, 0)), Duration::from_secs(3));
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_in_either_direction() {
        assert_eq!(at(110, 10).disagreement(&at(100, 0)), Duration::ZERO);
        assert_eq!(at(200, 10).disagreement(&at(100, 0)), Duration::from_secs(90));
        assert_eq!(at(50, 10).disagreement(&at(100, 0)), Duration::from_secs(60));
    }
}
