use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{KEPT_AT_LEAST, Timing};
use crate::step::Exposure;
use crate::time::millis;

/// The quantities that nodes must agree on, because one waits for what another does. A node whose own configuration has
/// a longer one raises it here before it makes use of it, and one whose own is shorter waits for as long as the others
/// need: so two fleets with different configurations can share a ring. None of them ever falls again.
///
/// What each is says the field of the same name in [`Timing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// `A`.
    #[serde(with = "millis")]
    pub max_age: Duration,
    /// `B`.
    #[serde(with = "millis")]
    pub intermediary: Duration,
    /// `P`.
    #[serde(with = "millis")]
    pub publish_lag: Duration,
    /// `ε`.
    #[serde(with = "millis")]
    pub clock_error: Duration,
    /// `W`.
    #[serde(with = "millis")]
    pub leeway: Duration,
    /// `G`.
    #[serde(with = "millis")]
    pub lease: Duration,
    /// `O`.
    #[serde(with = "millis")]
    pub overlap: Duration,
}

impl Terms {
    /// The longer of each.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            max_age: self.max_age.max(other.max_age),
            intermediary: self.intermediary.max(other.intermediary),
            publish_lag: self.publish_lag.max(other.publish_lag),
            clock_error: self.clock_error.max(other.clock_error),
            leeway: self.leeway.max(other.leeway),
            lease: self.lease.max(other.lease),
            overlap: self.overlap.max(other.overlap),
        }
    }

    /// `C + P + ε`: how long after it was read back a key may sign (I1).
    #[must_use]
    pub fn announcement(&self) -> Duration {
        sum([self.max_age, self.intermediary, self.publish_lag, self.clock_error])
    }

    /// For how long tokens of a key that is revoked now may still be accepted somewhere (I9), with a feed that takes `fan_out`.
    pub(crate) fn exposure(&self, fan_out: Duration) -> Exposure {
        let kept = self.max_age.max(KEPT_AT_LEAST);
        let without_feed = sum([kept, self.intermediary, self.publish_lag, self.clock_error]);
        Exposure { with_feed: fan_out.saturating_add(self.clock_error).min(without_feed), without_feed }
    }

    /// `G + L + W + 2ε`, or `O` if that is longer: how long after it was deactivated a key stays published (I4).
    #[must_use]
    pub fn retention(&self, lifetime: Duration) -> Duration {
        self.last_token(lifetime).max(self.overlap)
    }

    /// `G + L + W + 2ε`: how long after it was deactivated a token of it can be accepted somewhere.
    pub(crate) fn last_token(&self, lifetime: Duration) -> Duration {
        sum([self.lease, lifetime, self.leeway, self.clock_error, self.clock_error])
    }

    /// `G + ε`: how long after it was deactivated somebody may sign with it (I3).
    #[must_use]
    pub fn last_signature(&self) -> Duration {
        self.lease.saturating_add(self.clock_error)
    }
}

fn sum<const N: usize>(parts: [Duration; N]) -> Duration {
    parts.into_iter().fold(Duration::ZERO, Duration::saturating_add)
}

impl From<&Timing> for Terms {
    fn from(timing: &Timing) -> Self {
        Self {
            max_age: timing.max_age,
            intermediary: timing.intermediary,
            publish_lag: timing.publish_lag,
            clock_error: timing.clock_error,
            leeway: timing.leeway,
            lease: timing.lease,
            overlap: timing.overlap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_a_set_that_is_given_out_for_less_than_verifiers_keep_it_promises_no_shorter_exposure() {
        let exposure = |max_age| {
            let timing = Timing { max_age: Duration::from_secs(max_age), ..Timing::default() };
            let Exposure { with_feed, without_feed } = Terms::from(&timing).exposure(timing.fan_out);
            (with_feed.as_secs(), without_feed.as_secs())
        };
        for (max_age, without_feed) in [(300, 640), (61, 401), (60, 400), (59, 400), (1, 400)] {
            assert_eq!(exposure(max_age), (32, without_feed), "{max_age}");
        }
        let timing = Timing { fan_out: Duration::from_secs(900), max_age: Duration::from_secs(1), ..Timing::default() };
        let exposure = Terms::from(&timing).exposure(timing.fan_out);
        assert_eq!(exposure.with_feed, exposure.without_feed);
    }
}
