//! What an answer says about itself: how long it is good for, when it was generated, how to ask for it again. RFC 9111,
//! as far as it concerns a private cache that asks for one document.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_token::Fetched;

/// The longest `ETag` or `Last-Modified` that is sent back: longer ones serve nobody.
const MAX_VALIDATOR_BYTES: usize = 1024;

/// What the headers of an answer say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// How much longer it is fresh, if it says so: zero where it says that it may not be stored.
    pub(crate) lifetime: Option<Duration>,
    /// When it was generated, since the Unix epoch: `Date` less `Age`. Of two readings of these fields the older one: caches
    /// that keep the origin's `Date` say more than once how old they are, and nothing younger must be taken for new.
    pub(crate) generated: Option<Duration>,
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
}

impl Hints {
    /// The hints of an answer that came in at `now`, since the Unix epoch.
    pub(crate) fn of(fetched: &Fetched, now: Duration) -> Self {
        let age = fetched.age.unwrap_or_default();
        let date = fetched.date.and_then(since_epoch);
        let validator = |value: &Option<String>| {
            value.as_deref().filter(|value| value.len() <= MAX_VALIDATOR_BYTES).map(Into::into)
        };
        Self {
            lifetime: lifetime(fetched).map(|lifetime| lifetime.saturating_sub(age)),
            generated: date.map(|date| date.saturating_sub(age)),
            // The `Date` of what a cache has kept tells nothing of anybody's clock.
            clock_offset: date.filter(|_| age.is_zero()).map(|date| seconds_between(now, date)),
            validators: Validators { etag: validator(&fetched.etag), last_modified: validator(&fetched.last_modified) },
            retry_after: fetched.retry_after,
        }
    }
}

/// How long the answer was to be fresh when it was generated (RFC 9111 §4.2.1).
fn lifetime(fetched: &Fetched) -> Option<Duration> {
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
    // Against the answer's own clock: ours may be wrong.
    let expires = fetched.expires.and_then(since_epoch)?;
    Some(expires.saturating_sub(fetched.date.and_then(since_epoch)?))
}

/// RFC 9111 §1.2.2: digits, as many as one likes.
fn delta_seconds(text: &str) -> Option<u64> {
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
        assert_eq!(Hints::of(&fetched, NOW).lifetime, None, "without a date it says nothing");
        fetched.date = Some(at(400));
        assert_eq!(Hints::of(&fetched, NOW).lifetime, Some(Duration::from_secs(600)));
        fetched.expires = Some(at(100));
        assert_eq!(Hints::of(&fetched, NOW).lifetime, Some(Duration::ZERO));
        fetched.cache_control = Some("max-age=5".into());
        assert_eq!(Hints::of(&fetched, NOW).lifetime, Some(Duration::from_secs(5)), "it comes first");
    }

    #[test]
    fn date_less_age_is_when_it_was_generated() {
        let mut fetched = Fetched::default();
        assert_eq!(Hints::of(&fetched, NOW), Hints::default());
        fetched.date = Some(at(-5));
        let hints = Hints::of(&fetched, NOW);
        assert_eq!((hints.generated, hints.clock_offset), (Some(NOW - Duration::from_secs(5)), Some(-5)));
        fetched.date = Some(at(20));
        assert_eq!(Hints::of(&fetched, NOW).clock_offset, Some(20));
        fetched.age = Some(Duration::from_secs(60));
        let hints = Hints::of(&fetched, NOW);
        assert_eq!((hints.generated, hints.clock_offset), (Some(NOW - Duration::from_secs(40)), None));
        fetched.age = Some(Duration::MAX);
        assert_eq!(Hints::of(&fetched, NOW).generated, Some(Duration::ZERO));
        fetched.date = Some(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(Hints::of(&fetched, NOW).generated, None);
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
