use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The latest instant that a claim may name: the end of the year 9999, as seconds since the epoch. A larger number is a
/// mistake (milliseconds, most often) or an attempt at an overflow.
pub const MAX_NUMERIC_DATE: i64 = 253_402_300_799;

/// An instant, as tokens count: seconds since 1970-01-01T00:00:00Z without leap seconds (RFC 7519 §2), to the nanosecond.
///
/// Arithmetic saturates, so no claim and no leeway can overflow it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime {
    secs: i64,
    nanos: u32,
}

impl UnixTime {
    /// That many seconds after the epoch.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.secs
    }

    /// This much later.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let nanos = self.nanos + duration.subsec_nanos();
        let carry = i64::from(nanos / NANOS_PER_SEC);
        let secs = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self { secs: self.secs.saturating_add(secs).saturating_add(carry), nanos: nanos % NANOS_PER_SEC }
    }

    /// This much earlier.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let (nanos, borrow) = match self.nanos.checked_sub(duration.subsec_nanos()) {
            Some(nanos) => (nanos, 0),
            None => (self.nanos + NANOS_PER_SEC - duration.subsec_nanos(), 1),
        };
        let secs = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self { secs: self.secs.saturating_sub(secs).saturating_sub(borrow), nanos }
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        if self <= earlier {
            return Duration::ZERO;
        }
        // Not even the distance between the ends of time overflows 64 bits without a sign.
        let (secs, nanos) = match self.nanos.checked_sub(earlier.nanos) {
            Some(nanos) => (self.secs.abs_diff(earlier.secs), nanos),
            None => (self.secs.abs_diff(earlier.secs) - 1, self.nanos + NANOS_PER_SEC - earlier.nanos),
        };
        Duration::new(secs, nanos)
    }

    /// A NumericDate: a JSON number, whole, fractional or with an exponent. Negative ones and ones beyond
    /// [`MAX_NUMERIC_DATE`] are `None`, as is everything that is not a number.
    pub(crate) fn from_json(text: &str) -> Option<Self> {
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        let time = match text.parse::<i64>() {
            Ok(secs) => Self::from_secs(secs),
            Err(_) => match Self::from_decimal(text) {
                Some(time) => time,
                None => Self::from_float(text.parse().ok()?)?,
            },
        };
        (0..=MAX_NUMERIC_DATE).contains(&time.secs).then_some(time)
    }

    /// `1700000000.123`, exactly: the nearest `f64` lies up to 120 ns off, on either side of the boundary that it marks.
    /// Digits beyond the nanosecond are cut off.
    fn from_decimal(text: &str) -> Option<Self> {
        let (secs, fraction) = text.split_once('.')?;
        if !secs.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
        let nanos = digits.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
        Some(Self { secs: secs.parse().ok()?, nanos })
    }

    /// What is written with an exponent or a sign.
    fn from_float(secs: f64) -> Option<Self> {
        if !(0.0..(MAX_NUMERIC_DATE + 1) as f64).contains(&secs) {
            return None;
        }
        // In range, so neither conversion can lose anything but the fraction.
        let nanos = (secs.fract() * f64::from(NANOS_PER_SEC)) as u32;
        Some(Self { secs: secs as i64, nanos: nanos.min(NANOS_PER_SEC - 1) })
    }
}

const NANOS_PER_SEC: u32 = 1_000_000_000;

impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self::from_secs(0).saturating_add(since),
            Err(before) => Self::from_secs(0).saturating_sub(before.duration()),
        }
    }
}

impl fmt::Debug for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Seconds since the epoch, with a fraction if there is one.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 { write!(f, "{}", self.secs) } else { write!(f, "{}.{:09}", self.secs, self.nanos) }
    }
}

/// Where the time comes from. The one place that reads a real clock is outside this crate.
///
/// ```
/// use countersign_claims::{Clock, UnixTime};
///
/// let stopped = || UnixTime::from_secs(1_800_000_000);
/// assert_eq!(stopped.now().as_secs(), 1_800_000_000);
/// ```
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> UnixTime;
}

impl<F: Fn() -> UnixTime + Send + Sync + 'static> Clock for F {
    fn now(&self) -> UnixTime {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_token::json;
    use proptest::prelude::*;

    fn numeric_date(text: &str) -> Option<UnixTime> {
        let document = format!("{{\"x\":{text}}}");
        let mut found = None;
        json::members(document.as_bytes(), 1, |_, value| found = UnixTime::from_json(&value.text())).unwrap();
        found
    }

    #[test]
    fn numeric_dates_come_whole_fractional_and_with_exponents() {
        for (text, expected) in [
            ("0", "0"),
            ("1700000000", "1700000000"),
            ("1.7e9", "1700000000"),
            ("17E8", "1700000000"),
            ("1700000000.5", "1700000000.500000000"),
            ("1700000000.123", "1700000000.123000000"),
            ("1700000000.9999999999", "1700000000.999999999"),
            ("1.7000000005e9", "1700000000.500000000"),
            ("253402300799", "253402300799"),
            ("-0", "0"),
            ("-0.0", "0"),
        ] {
            assert_eq!(numeric_date(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn absurd_values_and_other_types_are_none() {
        for text in [
            "-1",
            "-0.5",
            "253402300800",
            "1700000000000",
            "1e308",
            "1e999",
            "-1e999",
            "9223372036854775808",
            "99999999999999999999999999",
            "\"1700000000\"",
            "null",
            "true",
            "[1]",
            "{}",
        ] {
            assert_eq!(numeric_date(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arithmetic_saturates_and_undoes_itself(secs in any::<i64>(), by in any::<Duration>()) {
            let time = UnixTime::from_secs(secs);
            prop_assert!(time.saturating_add(by) >= time);
            prop_assert!(time.saturating_sub(by) <= time);
            let (secs, by) = (UnixTime::from_secs(secs / 4), Duration::new(by.as_secs() / 4, by.subsec_nanos()));
            prop_assert_eq!(secs.saturating_add(by).saturating_sub(by), secs);
        }

        #[test]
        fn a_distance_leads_from_the_one_to_the_other(a in any::<(i64, u32)>(), b in any::<(i64, u32)>()) {
            let [a, b] = [a, b].map(|(secs, nanos)| UnixTime { secs, nanos: nanos % NANOS_PER_SEC });
            let (earlier, later) = (a.min(b), a.max(b));
            prop_assert_eq!(earlier.saturating_since(later), Duration::ZERO);
            let between = later.saturating_since(earlier);
            // Up to half of all time: `saturating_add` goes no further.
            if between.as_secs() <= i64::MAX as u64 {
                prop_assert_eq!(earlier.saturating_add(between), later);
            }
        }
    }
}
