use std::time::Duration;

use countersign_claims::{MAX_LEEWAY, UnixTime};

/// How long the steps are in which entries end. Shorter ones would clear memory away a little earlier and have more of them to count.
const STEP: Duration = Duration::from_secs(64);

/// How much longer than its tokens an entry counts: the most leeway that a verifier grants them, and as much again for a verifier's clock that is
/// behind that of the list.
pub(crate) const SLACK: Duration = Duration::from_secs(2 * MAX_LEEWAY.as_secs());

/// When an entry ends, or where the time is, in steps since 1970. 32 bits of them last until the year 10680.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Until(u32);

impl Until {
    /// It never ends.
    pub(crate) const FOREVER: Self = Self(u32::MAX);

    /// So much is over when nothing shall count as ended, as no entry ends in the step 0.
    pub(crate) const NOTHING: Self = Self(0);

    /// The end of an entry whose last token has this `exp`: later than that, never earlier.
    pub(crate) fn end(until: Option<UnixTime>) -> Self {
        let Some(until) = until else { return Self::FOREVER };
        let until = until.saturating_add(SLACK);
        let whole = UnixTime::from_secs(until.as_secs());
        let secs = if whole < until { whole.as_secs().saturating_add(1) } else { whole.as_secs() };
        // A time before 1970 ends in the first step; one that cannot be counted never ends, which forgets nothing.
        let steps = u64::try_from(secs).unwrap_or(0).div_ceil(STEP.as_secs());
        u32::try_from(steps.max(1)).map_or(Self::FOREVER, Self)
    }

    /// The step that is over last at the time `now`: what ends there, or earlier, has ended.
    pub(crate) fn over(now: UnixTime) -> Self {
        let steps = u64::try_from(now.as_secs()).unwrap_or(0) / STEP.as_secs();
        // One less than for ever, which is never over.
        Self(u32::try_from(steps).unwrap_or(u32::MAX).min(u32::MAX - 1))
    }

    /// Whether an entry with this end has ended, when so much is over.
    pub(crate) fn has_ended(self, over: Self) -> bool {
        self <= over
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_end_never_ends() {
        assert!(!Until::end(None).has_ended(Until::over(UnixTime::from_secs(i64::MAX))));
        assert!(!Until::end(Some(UnixTime::from_secs(i64::MAX))).has_ended(Until::over(UnixTime::from_secs(i64::MAX))));
    }

    #[test]
    fn what_ended_before_all_time_ends_in_the_first_step() {
        assert!(Until::end(Some(UnixTime::from_secs(-10_000))).has_ended(Until::over(UnixTime::from_secs(64))));
    }

    proptest! {
        #[test]
        fn an_entry_outlives_its_last_token_and_not_by_much(
            secs in 0..=countersign_claims::MAX_NUMERIC_DATE, nanos in 0..1_000_000_000_u32
        ) {
            let exp = UnixTime::from_secs(secs).saturating_add(Duration::from_nanos(nanos.into()));
            let end = Until::end(Some(exp));
            prop_assert!(!end.has_ended(Until::over(exp.saturating_add(SLACK).saturating_sub(Duration::from_nanos(1)))));
            prop_assert!(end.has_ended(Until::over(exp.saturating_add(SLACK + STEP))));
        }
    }
}
