//! What a line says. No token is in it, and no claim but those that say for whom and for how long it is.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::UnixTime;
use serde::Serialize;

/// The longest text of a request's, bytes: as long as one in a policy may be.
const MAX_TEXT_BYTES: usize = 1_024;

/// Audiences that are named, at most.
const MAX_AUDIENCES: usize = 16;

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Record {
    /// A process has begun to write.
    Begin { time: Time, version: &'static str, issuer: Box<str>, policy: Box<str> },
    /// Another edition of the policy is in force.
    Policy { time: Time, policy: Box<str> },
    /// A request for a token.
    Token(Box<TokenRecord>),
    /// An order to the ring, or the wish to see it if that was denied.
    Order(Box<OrderRecord>),
    /// An answer that was given before, under the same `Idempotency-Key`.
    Repeat(Box<RepeatRecord>),
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    Signed,
    Denied,
    /// It was allowed, and could not be done.
    Failed,
    /// It will be tried: what has come of it is the next line that says the same of it.
    Taken,
    Done,
}

#[derive(Debug, Serialize)]
pub(crate) struct TokenRecord {
    pub(crate) time: Time,
    pub(crate) client: Box<str>,
    /// How it has shown who it is.
    pub(crate) method: &'static str,
    /// The revision.
    pub(crate) policy: Box<str>,
    pub(crate) decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<Box<str>>,
    pub(crate) profile: Box<str>,
    pub(crate) sub: Box<str>,
    pub(crate) aud: Vec<Box<str>>,
    /// Those that are not named.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) aud_more: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_asked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<Box<str>>,
    /// From the head of the request to the decision.
    pub(crate) latency_us: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct OrderRecord {
    pub(crate) time: Time,
    pub(crate) client: Box<str>,
    pub(crate) method: &'static str,
    pub(crate) policy: Box<str>,
    pub(crate) decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// The right that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) right: Option<&'static str>,
    /// What was ordered, in the words of whoever did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) order: Option<serde_json::Value>,
    /// What has come of it, as it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<serde_json::Value>,
}

/// No decision: that has a line of its own, with the same `jti`.
#[derive(Debug, Serialize)]
pub(crate) struct RepeatRecord {
    pub(crate) time: Time,
    pub(crate) client: Box<str>,
    pub(crate) method: &'static str,
    pub(crate) policy: Box<str>,
    pub(crate) path: Box<str>,
    /// Of the keys that have signed the tokens in it. None, of an order.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) kid: BTreeSet<Box<str>>,
    /// Of all its tokens, as many as a batch has at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) jti: Vec<Box<str>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Names of audiences, as far as they are named, and how many are not.
pub(crate) fn audiences(all: &[Box<str>]) -> (Vec<Box<str>>, usize) {
    let named: Vec<_> = all.iter().take(MAX_AUDIENCES).map(|one| cut(one)).collect();
    let more = all.len() - named.len();
    (named, more)
}

/// As much of a text as goes into a line.
pub(crate) fn cut(text: &str) -> Box<str> {
    if text.len() <= MAX_TEXT_BYTES {
        return text.into();
    }
    let end = (0..=MAX_TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &text[..end]).into()
}

/// RFC 3339, in UTC, with milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) UnixTime);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DAY: i64 = 86_400;
        let secs = self.0.as_secs();
        let millis = self.0.saturating_since(UnixTime::from_secs(secs)).min(Duration::from_millis(999)).as_millis();
        let (days, second) = (secs.div_euclid(DAY), secs.rem_euclid(DAY));
        // Of a proleptic Gregorian calendar whose years begin in March, in eras of 400 of them.
        let shifted = days + 719_468;
        let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day_of_month = day - (153 * month + 2) / 5 + 1;
        let (year, month) = (year + era * 400 + i64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        serializer.collect_str(&format_args!(
            "{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (secs, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = Time(UnixTime::from_secs(secs));
            assert_eq!(serde_json::to_value(time).unwrap(), expected);
        }
        let time = Time(UnixTime::from_secs(7).saturating_add(Duration::from_micros(12_999)));
        assert_eq!(serde_json::to_value(time).unwrap(), "1970-01-01T00:00:07.012Z");
    }

    #[test]
    fn texts_of_strangers_are_cut_between_characters() {
        assert_eq!(&*cut("ä"), "ä");
        let long = format!("x{}", "ä".repeat(1_024));
        assert_eq!(&*cut(&long), format!("x{}…", "ä".repeat(511)));
        let many: Vec<Box<str>> = (0..20).map(|index| index.to_string().into()).collect();
        let (named, more) = audiences(&many);
        assert_eq!((named.len(), more), (16, 4));
    }
}
