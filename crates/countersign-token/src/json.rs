//! JSON objects as tokens need them: one object, valid UTF-8, nothing behind it, no name twice at any depth.
//!
//! `serde_json` does the parsing; what it leaves to its users, and what is done here, is the refusal of duplicate names
//! (RFC 7515 §4 and RFC 7519 §4 let us refuse or take the last; two parsers that differ on it are an attack, so we
//! refuse) and a bound on nesting. Values are handed over as their exact text, so nothing here depends on how
//! `serde_json` represents numbers, which another crate's `arbitrary_precision` feature changes for the whole program.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

/// The deepest nesting of arrays and objects that is read. Honest tokens stay below ten.
pub const MAX_DEPTH: usize = 64;

/// Why a text is not an object that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectError {
    /// Not UTF-8, not JSON, not an object, something behind it, or nested deeper than [`MAX_DEPTH`].
    NotAnObject,
    /// A member name stands twice in one object, at whatever depth; names are compared after their escapes are resolved.
    DuplicateMember,
    /// More members at the top than the caller allows.
    TooManyMembers,
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnObject => "not one JSON object",
            Self::DuplicateMember => "a member name stands twice",
            Self::TooManyMembers => "too many members",
        })
    }
}

impl std::error::Error for ObjectError {}

/// Hands each member of the one JSON object that `bytes` are to `member`, in the order of the text.
///
/// # Errors
/// [`ObjectError`]; `member` may by then have seen some of the members, so its results count only on success.
///
/// ```
/// use countersign_token::json;
///
/// let mut seen = Vec::new();
/// json::members(br#"{"sub":"ada","exp":1.5e9}"#, usize::MAX, |name, value| seen.push((name.into_owned(), value.text())))?;
/// assert_eq!(seen, [("sub".to_owned(), "\"ada\""), ("exp".to_owned(), "1.5e9")]);
/// assert_eq!(json::members(br#"{"a":1,"\u0061":2}"#, usize::MAX, |_, _| ()), Err(json::ObjectError::DuplicateMember));
/// # Ok::<(), json::ObjectError>(())
/// ```
pub fn members<'a>(
    bytes: &'a [u8],
    limit: usize,
    member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    read(bytes, limit, check_nested, member)
}

/// The same, but what is inside the values is left to whoever reads them: one odd key must not spoil a whole key set.
pub(crate) fn own_members<'a>(bytes: &'a [u8], member: impl FnMut(Cow<'a, str>, Raw<'a>)) -> Result<(), ObjectError> {
    read(bytes, usize::MAX, |_| Ok(()), member)
}

fn read<'a>(
    bytes: &'a [u8],
    limit: usize,
    check_value: fn(&str) -> Result<(), ObjectError>,
    mut member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ObjectError::NotAnObject)?;
    let mut outcome = Ok(());
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Members { limit, check_value, member: &mut member, outcome: &mut outcome })
        .and_then(|()| json.end())
        .map_err(|_| outcome.err().unwrap_or(ObjectError::NotAnObject))
}

/// The exact text of one JSON value, known to be well formed.
#[derive(Clone, Copy)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The text, without white space around it.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.0
    }

    /// The value, if it is a string; borrowed unless it has escapes.
    #[must_use]
    pub fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.as_bytes().contains(&b'\\') {
            serde_json::from_str(self.0).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    /// The elements, if it is an array of strings.
    #[must_use]
    pub fn strings(self) -> Option<SmallVec<[Cow<'a, str>; 4]>> {
        if !self.0.starts_with('[') {
            return None;
        }
        let elements: SmallVecOf<&'a RawValue> = serde_json::from_str(self.0).ok()?;
        elements.0.into_iter().map(|element| Raw(element.get()).string()).collect()
    }

    /// The value, if it is `true` or `false`.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Whether it is a number.
    #[must_use]
    pub fn is_number(self) -> bool {
        self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }
}

/// An array read element by element, without `serde_json`'s `Value`.
struct SmallVecOf<T>(SmallVec<[T; 4]>);

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for SmallVecOf<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(std::marker::PhantomData<T>);
        impl<'de, T: serde::Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = SmallVecOf<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = SmallVec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(SmallVecOf(elements))
            }
        }
        deserializer.deserialize_seq(Elements(std::marker::PhantomData))
    }
}

struct Members<'f, F> {
    limit: usize,
    check_value: fn(&str) -> Result<(), ObjectError>,
    member: &'f mut F,
    outcome: &'f mut Result<(), ObjectError>,
}

impl<'de, F: FnMut(Cow<'de, str>, Raw<'de>)> Visitor<'de> for Members<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            let raw = Raw(value.get());
            let checked =
                if names.len() == self.limit { Err(ObjectError::TooManyMembers) } else { (self.check_value)(raw.0) };
            if checked.is_err() {
                *self.outcome = checked;
                return Err(A::Error::custom("refused"));
            }
            names.push(name.clone());
            (self.member)(name, raw);
        }
        if has_duplicates(&mut names) {
            *self.outcome = Err(ObjectError::DuplicateMember);
            return Err(A::Error::custom("refused"));
        }
        Ok(())
    }
}

/// Room for the names of an ordinary token on the stack.
type Names<'a> = SmallVec<[Cow<'a, str>; 24]>;

/// A member name, borrowed when it has no escapes (serde's own `Cow` never borrows).
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Name)
    }
}

/// Below this many names, comparing each with each is faster than sorting; above, it would be quadratic in hostile input.
const FEW_NAMES: usize = 24;

fn has_duplicates(names: &mut [Cow<'_, str>]) -> bool {
    if names.len() <= FEW_NAMES {
        names.iter().enumerate().any(|(at, name)| names[..at].contains(name))
    } else {
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// Walks one well-formed JSON value once, whatever its nesting, and refuses duplicate names and too deep nesting.
fn check_nested(value: &str) -> Result<(), ObjectError> {
    let bytes = value.as_bytes();
    if !matches!(bytes.first(), Some(b'{' | b'[')) {
        return Ok(());
    }
    let mut names: Names<'_> = SmallVec::new();
    // For each open container: where its names start, and whether it is an object.
    let mut open: SmallVec<[(usize, bool); 16]> = SmallVec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                // One level is the object that this value is a member of.
                if open.len() + 1 >= MAX_DEPTH {
                    return Err(ObjectError::NotAnObject);
                }
                open.push((names.len(), byte == b'{'));
                at += 1;
            }
            b'}' | b']' => {
                if let Some((first_name, _)) = open.pop() {
                    if has_duplicates(&mut names[first_name..]) {
                        return Err(ObjectError::DuplicateMember);
                    }
                    names.truncate(first_name);
                }
                at += 1;
            }
            b'"' => {
                let end = string_end(bytes, at);
                let is_name = matches!(open.last(), Some((_, true))) && next_is_colon(bytes, end);
                if is_name {
                    let name = Raw(&value[at..end]).string().ok_or(ObjectError::NotAnObject)?;
                    names.push(name);
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// Where the string that starts at `start` ends: the index behind its closing quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn next_is_colon(bytes: &[u8], from: usize) -> bool {
    bytes[from..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(json: &str) -> Result<usize, ObjectError> {
        let mut count = 0;
        members(json.as_bytes(), usize::MAX, |_, _| count += 1).map(|()| count)
    }

    #[test]
    fn one_object_and_nothing_else() {
        assert_eq!(check("{}"), Ok(0));
        assert_eq!(check(" { \"a\" : [1, {\"b\": \"}\"}] } \n"), Ok(1));
        for json in ["", "[]", "null", "\"{}\"", "{} {}", "{}x", "{\"a\":}", "{'a':1}", "{\"a\":1,}", "\u{feff}{}"] {
            assert_eq!(check(json), Err(ObjectError::NotAnObject), "{json:?}");
        }
        assert_eq!(members(b"{\"a\":\"\xff\"}", 9, |_, _| ()), Err(ObjectError::NotAnObject));
    }

    #[test]
    fn a_name_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":3}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[0,[{"q":{}},{"a":[],"b":"\"","\u0061" : {}}]]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(check(json), Err(ObjectError::DuplicateMember), "{json}");
        }
        for json in [
            r#"{"a":1,"A":1}"#,
            r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#,
            r#"{"x":[{"a":1},{"a":1}]}"#,
            r#"{"x":["a","a"],"y":{"a":"a"}}"#,
        ] {
            assert!(check(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn many_names_are_compared_too() {
        let object = |names: &[String]| {
            format!("{{{}}}", names.iter().map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","))
        };
        let mut names: Vec<_> = (0..500).map(|n| format!("name{n}")).collect();
        assert_eq!(check(&object(&names)), Ok(500));
        names.push("name0".into());
        assert_eq!(check(&object(&names)), Err(ObjectError::DuplicateMember));
        assert_eq!(check(&format!("{{\"x\":{}}}", object(&names))), Err(ObjectError::DuplicateMember));
    }

    #[test]
    fn nesting_and_members_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(1));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(ObjectError::NotAnObject));
        assert_eq!(check(&nested(100_000)), Err(ObjectError::NotAnObject));
        assert_eq!(members(br#"{"a":1,"b":2}"#, 1, |_, _| ()), Err(ObjectError::TooManyMembers));
    }

    proptest! {
        /// Whatever `serde_json` reads as an object of unique names, so do we; the rest we refuse.
        #[test]
        fn agrees_with_serde_json(json in r#"[{}\[\]",:a-c0-1 \\u]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json);
            match check(&json) {
                Ok(count) => prop_assert_eq!(theirs.map(|map| map.len()).unwrap_or(usize::MAX), count),
                Err(ObjectError::DuplicateMember) => prop_assert!(theirs.is_ok()),
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }
    }
}
