use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use countersign::token::json::{self, Raw};
use serde::Deserialize;

use super::Denial;

/// The most bytes of JSON that a claim may have by default: a name, an identifier, a few roles.
pub const DEFAULT_MAX_CLAIM_BYTES: usize = 256;

/// The most that a rule can say: with more in it no token is short enough for a header.
pub const MAX_CLAIM_BYTES: usize = 16 * 1024;

/// What a claim has to be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ClaimKind {
    /// A string.
    String,
    /// A number without fraction and exponent that every JSON parser reads exactly (RFC 7493 §2.2).
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An array of strings.
    Strings,
    /// An object.
    Object,
}

impl fmt::Display for ClaimKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Strings => "an array of strings",
            Self::Object => "an object",
        })
    }
}

#[derive(Debug)]
pub(super) struct ClaimRule {
    pub(super) kind: ClaimKind,
    /// Texts, or integers written without a plus and leading zeros; of an array, each of its elements.
    pub(super) values: Option<BTreeSet<Box<str>>>,
    pub(super) max_bytes: usize,
    pub(super) is_required: bool,
}

impl ClaimRule {
    pub(super) fn check_type(&self, name: &str, json: &str) -> Result<(), Denial> {
        let is_fit = with_value(json, |value| match self.kind {
            ClaimKind::String => value.string().is_some(),
            ClaimKind::Integer => integer(value).is_some(),
            ClaimKind::Number => value.is_number(),
            ClaimKind::Boolean => value.boolean().is_some(),
            ClaimKind::Strings => value.strings().is_some(),
            ClaimKind::Object => value.plain_text().is_some_and(|text| text.starts_with('{')),
        });
        if is_fit == Some(true) { Ok(()) } else { Err(Denial::ClaimType(name.into(), self.kind)) }
    }

    /// As it is written, with the space in it: that is how it goes into the token.
    pub(super) fn check_size(&self, name: &str, json: &str) -> Result<(), Denial> {
        if json.len() <= self.max_bytes { Ok(()) } else { Err(Denial::ClaimTooLarge(name.into(), self.max_bytes)) }
    }

    pub(super) fn check_value(&self, name: &str, json: &str) -> Result<(), Denial> {
        let Some(allowed) = &self.values else { return Ok(()) };
        let is_allowed = |text: Cow<'_, str>| allowed.contains(&*text);
        let is_fit = with_value(json, |value| match self.kind {
            ClaimKind::Strings => value.strings().is_some_and(|texts| texts.into_iter().all(is_allowed)),
            ClaimKind::Integer => integer(value).is_some_and(|number| is_allowed(number.to_string().into())),
            _ => value.string().is_some_and(is_allowed),
        });
        if is_fit == Some(true) { Ok(()) } else { Err(Denial::ClaimValue(name.into())) }
    }
}

/// The largest integer that all JSON parsers agree on.
pub(super) const MAX_INTEGER: i64 = (1 << 53) - 1;

fn integer(value: Raw<'_>) -> Option<i64> {
    let text = value.plain_text().filter(|text| !text.starts_with('"') && *text != "-0")?;
    text.parse().ok().filter(|number: &i64| (-MAX_INTEGER..=MAX_INTEGER).contains(number))
}

/// What `look` makes of a JSON value; `None` if it is none, or has a name twice.
fn with_value<T>(json: &str, look: impl FnOnce(Raw<'_>) -> T) -> Option<T> {
    let object = format!("{{\"\":{json}}}");
    let mut members = json::Members::new();
    members.read(&object).ok()?;
    let mut members = members.iter();
    let (_, value) = members.next()?;
    // `1,"x":2` is no value.
    members.next().is_none().then(|| look(value))
}
