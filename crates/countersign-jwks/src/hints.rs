//! What an answer says about itself: how long it is good for, when it was generated, how to ask for it again. RFC 9111,
//! as far as it concerns a private cache that asks for one document.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_token::Fetched;

/// The longest `ETag` or `Last-Modified` that is sent back: longer ones serve nobody.
const MAX_VALIDATOR_BYTES: usize = 1024;

/// `Date` and `Age` count whole seconds, each rounded in its own way.
pub(crate) const DATE_RESOLUTION: Duration = Duration::from_secs(2);

/// What the headers of an answer say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// How much longer it is fresh, if it says so: zero where it says that it may not be stored.
    pub(crate) lifetime: Option<Duration>,
    /// `Date`, since the Unix epoch.
    pub(crate) date: Option<Duration>,
    /// `Age`: for how long caches on the way have had it.
    pub(crate) age: Duration,
    /// How far the peer's clock is ahead of ours, seconds.
    pub(crate) clock_offset: Option<i64>,
    pub(crate) validators: Validators,
    /// `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

/// What makes the next request for the same document a conditional one (RFC 9110 §13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<Arc<str>>,
    pub(crate) last_modified: Option<Arc<str>>,
    /// Which of a source's places said so.
    pub(crate) place: u64,
}

impl Validators {
    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

impl Hints {
    /// When it was generated, by the clock of the provider, which shows one of `nows`: not before the first time and not after the second.
    ///
    /// Caches hand on the origin's `Date` (RFC 9110 §6.6.1), and then that is the time. But some replace it by their own time, and
    /// then the time is `Date` less `Age`. Which it is shows in what `now` is: `Date` and `Age` together, or `Date`.
    pub(crate) fn generated(&self, nows: &[Duration]) -> Option<(Duration, Duration)> {
        let date = self.date?;
        let before = date.saturating_sub(self.age);
        let is_now = |time: Duration| nows.iter().any(|now| time.abs_diff(*now) <= DATE_RESOLUTION);
        Some(match (is_now(date.saturating_add(self.age)), is_now(date)) {
            (true, false) => (date, date),
            (false, true) => (before, before),
            _ => (before, date),
        })
    }

    /// The hints of an answer that came in at `now`, since the Unix epoch.
    pub(crate) fn of(fetched: &Fetched, now: Duration) -> Self {
        let age = fetched.age.unwrap_or_default();
        let date = fetched.date.and_then(since_epoch);
        let validator = |value: &Option<String>| {
            value.as_deref().filter(|value| value.len() <= MAX_VALIDATOR_BYTES).map(Into::into)
        };
        Self {
            lifetime: lifetime(fetched).map(|lifetime| lifetime.saturating_sub(age)),
            date,
            age,
            // The `Date` of what a cache has kept tells nothing of anybody's clock.
            clock_offset: date.filter(|_| age.is_zero()).map(|date| seconds_between(now, date)),
            validators: Validators {
                etag: validator(&fetched.etag),
                last_modified: validator(&fetched.last_modified),
                place: 0,
            },
            retry_after: fetched.retry_after,
        }
    }
}

/// How long the answer was to be fresh when it was generated (RFC 9111 §4.2.1).
pub(crate) fn lifetime(fetched: &Fetched) -> Option<Duration> {
    let directives = fetched.cache_control.as_deref().unwrap_or_default().split(',').map(str::trim);
    let mut max_age = None;
    for directive in directives {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if name.eq_ignore_ascii_case("max-age") {
            // Twice, or no number: as good as expired (RFC 9111 §4.2.1).
            let seconds = delta_seconds(value.trim_matches('"')).filter(|_| max_age.is_none());
            max_age = Some(seconds.unwrap_or_default());
        }
    }
    if let Some(seconds) = max_age {
        return Some(Duration::from_secs(seconds));
    }
    // Against the answer's own clock: ours may be wrong. What lies before 1970 is past in any case.
    let expires = since_epoch(fetched.expires?).unwrap_or_default();
    Some(expires.saturating_sub(fetched.date.and_then(since_epoch).unwrap_or(expires)))
}

/// RFC 9111 §1.2.2: digits, as many as one likes.
pub(crate) fn delta_seconds(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn since_epoch(time: SystemTime) -> Option<Duration> {
    time.duration_since(UNIX_EPOCH).ok()
}

/// From `ours` to `theirs`, rounded toward zero: `Date` counts whole seconds, so the last one means nothing.
fn seconds_between(ours: Duration, theirs: Duration) -> i64 {
    let ahead = i64::try_from(theirs.saturating_sub(ours).as_secs()).unwrap_or(i64::MAX);
    let behind = i64::try_from(ours.saturating_sub(theirs).as_secs()).unwrap_or(i64::MAX);
    if ahead > 0 { ahead } else { -behind }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn at(offset: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.as_secs().saturating_add_signed(offset))
    }

    fn lifetime_of(cache_control: Option<&str>, age: Option<u64>) -> Option<u64> {
        let mut fetched = Fetched::default();
        fetched.cache_control = cache_control.map(Into::into);
        fetched.age = age.map(Duration::from_secs);
        Hints::of(&fetched, NOW).lifetime.map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn cache_control_less_age() {
        for (cache_control, age, lifetime) in [
            (None, None, None),
            (Some("public"), None, None),
            (Some("max-age=600"), None, Some(600)),
            (Some("public, MAX-AGE=600, must-revalidate"), Some(60), Some(540)),
            (Some("max-age=\"600\""), None, Some(600)),
            (Some("max-age=600"), Some(700), Some(0)),
            (Some("s-maxage=600"), None, None),
            (Some("max-age=99999999999999999999999"), None, Some(u64::MAX)),
            (Some("max-age=-1"), None, Some(0)),
            (Some("max-age"), None, Some(0)),
            (Some("max-age=1.5"), None, Some(0)),
            (Some("max-age=600, max-age=60"), None, Some(0)),
            (Some("max-age=600, no-store"), None, Some(0)),
            (Some("No-Cache"), None, Some(0)),
            (Some("no-cache=\"set-cookie\""), None, Some(0)),
        ] {
            assert_eq!(lifetime_of(cache_control, age), lifetime, "{cache_control:?} {age:?}");
        }
    }

    #[test]
    fn expires_counts_against_the_answers_own_date() {
        let mut fetched = Fetched::default();
        fetched.expires = Some(at(1000));
        assert_eq!(Hints::of(&fetched, NOW).lifetime, Some(Duration::ZERO), "without a date nobody knows for how long");
        fetched.date = Some(at(400));
        assert_eq!(Hints::of(&fetched, NOW).lifetime, Some(Duration::from_secs(600)));
        fetched.expires = Some(at(100));
        assert_eq!(Hints::of(&fetched, NOW).lifetime, Some(Duration::ZERO));
        fetched.cache_control = Some("max-age=5".into());
        assert_eq!(Hints::of(&fetched, NOW).lifetime, Some(Duration::from_secs(5)), "it comes first");
    }

    #[test]
    fn date_or_date_less_age_is_when_it_was_generated() {
        let mut fetched = Fetched::default();
        assert_eq!(Hints::of(&fetched, NOW), Hints::default());
        assert_eq!(Hints::default().generated(&[NOW]), None);
        for (date, age, generated) in [
            (-60, 60, (-60, -60)), // handed on
            (-58, 60, (-58, -58)), // handed on by a clock that is a little ahead
            (0, 60, (-60, -60)),   // replaced
            (-30, 60, (-90, -30)), // replaced on the way to another cache
            (-600, 60, (-660, -600)),
            (-1, 1, (-2, -1)),
            (20, 0, (20, 20)),
            (-600, 0, (-600, -600)),
        ] {
            fetched.date = Some(at(date));
            fetched.age = Some(Duration::from_secs(age));
            let since_epoch = |time: i64| Duration::from_secs(NOW.as_secs().saturating_add_signed(time));
            let (earliest, latest) = generated;
            let expected = Some((since_epoch(earliest), since_epoch(latest)));
            assert_eq!(Hints::of(&fetched, NOW).generated(&[NOW]), expected, "{date} {age}");
        }
        fetched.age = None;
        fetched.date = Some(at(-5));
        assert_eq!(Hints::of(&fetched, NOW).clock_offset, Some(-5));
        fetched.date = Some(at(20));
        assert_eq!(Hints::of(&fetched, NOW).clock_offset, Some(20));
        fetched.age = Some(Duration::from_secs(60));
        assert_eq!(Hints::of(&fetched, NOW).clock_offset, None, "a cache's time");
        fetched.age = Some(Duration::MAX);
        assert_eq!(Hints::of(&fetched, NOW).generated(&[NOW]).unwrap().0, Duration::ZERO);
        fetched.date = Some(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(Hints::of(&fetched, NOW).date, None);
    }

    #[test]
    fn endless_validators_are_not_sent_back() {
        let mut fetched = Fetched::default();
        fetched.etag = Some("\"1\"".into());
        fetched.last_modified = Some("x".repeat(MAX_VALIDATOR_BYTES + 1));
        let validators = Hints::of(&fetched, NOW).validators;
        assert_eq!((validators.etag.as_deref(), validators.last_modified), (Some("\"1\""), None));
    }
}
