//! JSON objects as tokens need them: one object, valid UTF-8, nothing behind it, no name twice at any depth.
//!
//! `serde_json` does the parsing; what it leaves to its users, and what is done here, is the refusal of duplicate names
//! (RFC 7515 §4 and RFC 7519 §4 let us refuse or take the last; two parsers that differ on it are an attack, so we
//! refuse) and a bound on nesting. Values are handed over as their exact text, so nothing here depends on how
//! `serde_json` represents numbers, which another crate's `arbitrary_precision` feature changes for the whole program.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use crate::scan::{self, Nested, Scanner};

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
    mut member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    let mut members = Members::new();
    let read = members.read_into(bytes, limit, Some(&mut Nested::new()));
    members.0.into_iter().for_each(|Member { name, value }| member(name.text, value));
    read
}

/// The same, but what is inside the values is left to whoever reads them: one odd key must not spoil a whole key set.
pub(crate) fn own_members<'a>(
    bytes: &'a [u8],
    mut member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    let mut members = Members::new();
    let read = members.read_into(bytes, usize::MAX, None);
    members.0.into_iter().for_each(|Member { name, value }| member(name.text, value));
    read
}

/// The members of an object, in the order of its text: room for those of an ordinary token on the stack.
pub struct Members<'a>(SmallVec<[Member<'a>; FEW_NAMES]>);

/// One of them.
pub(crate) struct Member<'a> {
    pub(crate) name: Name<'a>,
    pub(crate) value: Raw<'a>,
}

impl<'a> Members<'a> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(SmallVec::new())
    }

    /// Reads the one JSON object that `bytes` are, in place of what was there.
    ///
    /// # Errors
    /// [`ObjectError`]; what is there by then counts for nothing.
    pub fn read(&mut self, bytes: &'a [u8]) -> Result<(), ObjectError> {
        self.0.clear();
        self.read_into(bytes, usize::MAX, Some(&mut Nested::new()))
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&Cow<'a, str>, Raw<'a>)> {
        self.0.iter().map(|member| (&member.name.text, member.value))
    }

    fn read_into(&mut self, bytes: &'a [u8], limit: usize, nested: Option<&mut Nested<'a>>) -> Result<(), ObjectError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ObjectError::NotAnObject)?;
        let members = &mut self.0;
        let scanner = Scanner::new(text);
        let end = scanner.object(nested, |member| {
            if members.len() == limit {
                return Err(ObjectError::TooManyMembers);
            }
            members.push(member);
            Ok(())
        })?;
        if Name::have_duplicates(members.iter().map(|member| &member.name)) {
            return Err(ObjectError::DuplicateMember);
        }
        if scanner.ends_at(end) { Ok(()) } else { Err(ObjectError::NotAnObject) }
    }
}

impl Default for Members<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Says how many there are: their text may be anybody's business.
impl fmt::Debug for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Members").field(&self.0.len()).finish()
    }
}

/// A member's name without its escapes.
pub(crate) struct Name<'a> {
    text: Cow<'a, str>,
    /// The same for the same name, and seldom for another.
    print: u64,
}

/// Below this many names, comparing each with each is faster than sorting; above, it would be quadratic in hostile input.
const FEW_NAMES: usize = 24;

impl<'a> Name<'a> {
    pub(crate) fn new(text: Cow<'a, str>) -> Self {
        let print = print(text.as_bytes());
        Self { text, print }
    }

    /// Whether two of them are the same.
    pub(crate) fn have_duplicates<'n>(names: impl ExactSizeIterator<Item = &'n Self> + Clone) -> bool
    where
        'a: 'n,
    {
        // Of a few names, hardly two meet in one of so many places.
        let mut seen = [0_u64; 4];
        let mut meet = 0;
        for name in names.clone() {
            // The top bits of a product are those that all others have a part in.
            let place = name.print.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
            let word = &mut seen[place as usize / 64];
            let bit = 1 << (place % 64);
            meet |= *word & bit;
            *word |= bit;
        }
        if meet == 0 {
            return false;
        }
        if names.len() <= FEW_NAMES {
            let is_same = |name: &Self, other: &Self| name.print == other.print && name.text == other.text;
            return names
                .clone()
                .enumerate()
                .any(|(at, name)| names.clone().take(at).any(|other| is_same(name, other)));
        }
        let mut sorted: Vec<_> = names.map(|name| &*name.text).collect();
        sorted.sort_unstable();
        sorted.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// A few octets of the name and its length: without a loop, because names are short.
fn print(name: &[u8]) -> u64 {
    let length = name.len() as u64;
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        return u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(28) ^ length;
    }
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    match name {
        [first, .., last] => {
            u64::from(*first) | u64::from(name[name.len() / 2]) << 8 | u64::from(*last) << 16 | length << 56
        }
        [one] => u64::from(*one) | length << 56,
        [] => 0,
    }
}

/// The exact text of one JSON value, known to be well formed.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    text: &'a str,
    /// Whether it has a backslash somewhere, if it is a string.
    escaped: bool,
}

impl<'a> Raw<'a> {
    /// `text` is one well-formed value, without space around it; a string with escapes or not.
    pub(crate) fn new(text: &'a str, escaped: bool) -> Self {
        Self { text, escaped }
    }

    /// The text, without white space around it.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.text
    }

    /// The value, if it is a string; borrowed unless it has escapes.
    #[must_use]
    pub fn string(self) -> Option<Cow<'a, str>> {
        if self.escaped {
            return serde_json::from_str(self.text).ok().map(Cow::Owned);
        }
        self.plain_string().map(Cow::Borrowed)
    }

    /// The value, if it is a string without escapes.
    #[must_use]
    pub fn plain_string(self) -> Option<&'a str> {
        if self.escaped { None } else { self.text.strip_prefix('"')?.strip_suffix('"') }
    }

    /// The elements, if it is an array of strings.
    #[must_use]
    pub fn strings(self) -> Option<SmallVec<[Cow<'a, str>; 4]>> {
        self.elements()?.map(Raw::string).collect()
    }

    /// The elements, if it is an array.
    #[must_use]
    pub fn elements(self) -> Option<Elements<'a>> {
        Scanner::new(self.text).elements().map(Elements)
    }

    /// The value, if it is `true` or `false`.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.text == "null"
    }

    /// Whether it is a number.
    #[must_use]
    pub fn is_number(self) -> bool {
        self.text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }
}

/// The elements of an array, one after the other. Made by [`Raw::elements`].
pub struct Elements<'a>(scan::Elements<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.0.next()
    }
}

/// Shows nothing of them.
impl fmt::Debug for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elements")
    }
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

    /// What `serde_json` makes of it, with the rules of this file: name and value of each member.
    fn by_serde_json(json: &str) -> Result<Vec<(String, String)>, ObjectError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let mut members = Vec::new();
        let mut fault = None;
        let read = serde::Deserializer::deserialize_map(
            &mut deserializer,
            Walk(&mut |name, value| {
                fault = fault_in(value, 1);
                members.push((name, value.to_owned()));
                fault.is_none()
            }),
        );
        if let Some(fault) = fault {
            return Err(fault);
        }
        read.map_err(|_| ObjectError::NotAnObject)?;
        if repeat(&members) {
            return Err(ObjectError::DuplicateMember);
        }
        deserializer.end().map_err(|_| ObjectError::NotAnObject)?;
        Ok(members)
    }

    /// The first in a value at this depth.
    fn fault_in(value: &str, depth: usize) -> Option<ObjectError> {
        let mut fault = None;
        let mut deserializer = serde_json::Deserializer::from_str(value);
        match value.as_bytes()[0] {
            b'{' | b'[' if depth == MAX_DEPTH => return Some(ObjectError::NotAnObject),
            b'[' => {
                let elements: Vec<&serde_json::value::RawValue> = serde_json::from_str(value).unwrap();
                return elements.into_iter().find_map(|element| fault_in(element.get(), depth + 1));
            }
            b'{' => {
                let mut names = Vec::new();
                let read = serde::Deserializer::deserialize_map(
                    &mut deserializer,
                    Walk(&mut |name, value| {
                        fault = fault_in(value, depth + 1);
                        names.push((name, String::new()));
                        fault.is_none()
                    }),
                );
                let broken_name = read.is_err().then_some(ObjectError::NotAnObject);
                fault.or(broken_name).or(repeat(&names).then_some(ObjectError::DuplicateMember))
            }
            _ => None,
        }
    }

    fn repeat(members: &[(String, String)]) -> bool {
        members.iter().map(|(name, _)| name).collect::<std::collections::HashSet<_>>().len() < members.len()
    }

    /// Goes on for as long as it is told to.
    struct Walk<'f>(&'f mut dyn FnMut(String, &str) -> bool);

    impl<'de> serde::de::Visitor<'de> for Walk<'_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some((name, value)) = map.next_entry::<String, &serde_json::value::RawValue>()? {
                if !(self.0)(name, value.get()) {
                    return Err(serde::de::Error::custom("told to stop"));
                }
            }
            Ok(())
        }
    }

    fn agree(json: &str) -> Result<(), TestCaseError> {
        let mut members = Members::new();
        let ours = members.read(json.as_bytes()).map(|()| {
            members.iter().map(|(name, value)| (name.to_string(), value.text().to_owned())).collect::<Vec<_>>()
        });
        prop_assert_eq!(ours, by_serde_json(json), "{}", json);
        Ok(())
    }

    /// Well-formed JSON, and names that meet often.
    fn value() -> impl Strategy<Value = String> {
        let space = prop::sample::select(vec!["", "", "", " ", "\n\t \r"]);
        let string = prop::collection::vec(
            prop::sample::select(vec![
                "a",
                "b",
                "exp",
                "\\u0061",
                "\\\"",
                "\\\\",
                "é",
                "long plain text",
                "\\ud834\\udd1e",
                "\\ud800",
            ]),
            0..3,
        )
        .prop_map(|parts| format!("\"{}\"", parts.concat()));
        let number = r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?";
        let word = prop::sample::select(vec!["true".to_owned(), "false".into(), "null".into()]);
        let leaf = prop_oneof![string.clone(), number, word];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            let element =
                (space.clone(), inner.clone(), space.clone()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
            let member = (space.clone(), string.clone(), space.clone(), element.clone())
                .prop_map(|(a, name, b, value)| format!("{a}{name}{b}:{value}"));
            prop_oneof![
                prop::collection::vec(element, 0..5).prop_map(|all| format!("[{}]", all.join(","))),
                prop::collection::vec(member, 0..5).prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn agrees_with_serde_json_on_what_looks_like_json(json in r#"[{}\[\]",:a-c0-1 \\u]{0,24}"#) {
            agree(&json)?;
            agree(&format!("{{\"x\":{json}}}"))?;
        }

        #[test]
        fn agrees_with_serde_json_on_json(json in value()) {
            agree(&json)?;
            agree(&format!("{{\"x\":{json}}}"))?;
        }

        #[test]
        fn agrees_with_serde_json_on_json_with_a_mistake(
            json in value(), at in any::<prop::sample::Index>(),
            odd in prop::sample::select(b"{}[]\",:\\u0.eE-+ tn\n\x00\x7f".to_vec()), how in 0..3,
        ) {
            let mut json = json.into_bytes();
            let at = at.index(json.len());
            match how {
                0 => json[at] = odd,
                1 => json.insert(at, odd),
                _ => drop(json.remove(at)),
            }
            if let Ok(json) = std::str::from_utf8(&json) {
                agree(json)?;
                agree(&format!("{{\"x\":{json}}}"))?;
            }
        }

        #[test]
        fn an_array_comes_apart_into_its_elements(json in value()) {
            let theirs = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(&json).ok();
            let ours = Raw::new(json.trim(), false).elements().map(Iterator::collect::<Vec<_>>);
            prop_assert_eq!(
                ours.map(|elements| elements.into_iter().map(Raw::text).collect::<Vec<_>>()),
                theirs.map(|elements| elements.into_iter().map(serde_json::value::RawValue::get).collect::<Vec<_>>())
            );
        }

        #[test]
        fn the_same_names_have_the_same_print_and_others_seldom(a in "[ab]{0,20}", b in "[ab]{0,20}") {
            prop_assert_eq!(print(a.as_bytes()) == print(b.as_bytes()) || a != b, true);
            let names = [&a, &b].map(|name| Name::new(Cow::Borrowed(name.as_str())));
            prop_assert_eq!(Name::have_duplicates(names.iter()), a == b);
        }
    }
}
