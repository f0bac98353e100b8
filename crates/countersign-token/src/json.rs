//! JSON objects as tokens need them: one object, valid UTF-8, nothing behind it, no name twice at any depth.
//!
//! A name that stands twice is refused (RFC 7515 §4 and RFC 7519 §4 let us refuse or take the last; two parsers that differ on it are an
//! attack), and nesting is bounded. Values are handed over as their exact text, so nothing here depends on how
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
/// json::members(br#"{"sub":"ada","exp":1.5e9}"#, usize::MAX, |name, value| seen.push((name.into_owned(), value.text().into_owned())))?;
/// assert_eq!(seen, [("sub", "\"ada\""), ("exp", "1.5e9")].map(|(name, value)| (name.to_owned(), value.to_owned())));
/// assert_eq!(json::members(br#"{"a":1,"\u0061":2}"#, usize::MAX, |_, _| ()), Err(json::ObjectError::DuplicateMember));
/// # Ok::<(), json::ObjectError>(())
/// ```
pub fn members<'a>(
    bytes: &'a [u8],
    limit: usize,
    member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    members_within(bytes, Bounds { members: limit, ..Bounds::NONE }, member)
}

/// The same of a header, which nobody has vouched for.
pub(crate) fn members_of_header<'a>(
    bytes: &'a [u8],
    limit: usize,
    member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    members_within(bytes, Bounds { members: limit, nested: NESTED_IN_PLACE, escaped_name: FEW_ESCAPES }, member)
}

fn members_within<'a>(
    bytes: &'a [u8],
    bounds: Bounds,
    mut member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    let mut members = Members::new();
    let read = text_of(bytes).and_then(|text| members.read_into(text, bounds, Some(&mut Nested::within(bounds))));
    members.iter().for_each(|(name, value)| member(name.text(), value));
    read
}

/// The same, but what is inside the values is left to whoever reads them: one odd key must not spoil a whole key set.
pub(crate) fn own_members<'a>(
    bytes: &'a [u8],
    mut member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), ObjectError> {
    let mut members = Members::new();
    let read = text_of(bytes).and_then(|text| members.read_into(text, Bounds::NONE, None));
    members.iter().for_each(|(name, value)| member(name.text(), value));
    read
}

/// The value of the first member of this name, whatever stands behind it, if `bytes` are one JSON object.
pub(crate) fn first<'a>(bytes: &'a [u8], wanted: &str) -> Option<Raw<'a>> {
    let scanner = Scanner::new(text_of(bytes).ok()?);
    let mut found = None;
    let end = scanner.object(None, |name, value| {
        if found.is_none() && name.is(wanted) {
            found = Some(value);
        }
        Ok(())
    });
    found.filter(|_| end.is_ok_and(|end| scanner.ends_at(end)))
}

fn text_of(bytes: &[u8]) -> Result<&str, ObjectError> {
    std::str::from_utf8(bytes).map_err(|_| ObjectError::NotAnObject)
}

/// The members of an object, in the order of its text: room for those of an ordinary token on the stack.
#[derive(Default)]
pub struct Members<'a>(SmallVec<[(Name<'a>, Raw<'a>); FEW_NAMES]>);

impl<'a> Members<'a> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the one JSON object that `text` is, in place of what was there.
    ///
    /// # Errors
    /// [`ObjectError`]; what is there by then counts for nothing.
    pub fn read(&mut self, text: &'a str) -> Result<(), ObjectError> {
        self.read_into(text, Bounds::NONE, Some(&mut Nested::within(Bounds::NONE)))
    }

    /// The same without any memory of the heap's, for text that nobody has vouched for.
    ///
    /// # Errors
    /// [`ObjectError::TooManyMembers`] if there are more than ordinary tokens have; then nothing is known of the text.
    pub fn read_in_place(&mut self, text: &'a str) -> Result<(), ObjectError> {
        let bounds = Bounds { members: FEW_NAMES, nested: NESTED_IN_PLACE, escaped_name: 0 };
        self.read_into(text, bounds, Some(&mut Nested::within(bounds)))
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (Name<'a>, Raw<'a>)> + use<'_, 'a> {
        self.0.iter().copied()
    }

    fn read_into(&mut self, text: &'a str, bounds: Bounds, nested: Option<&mut Nested<'a>>) -> Result<(), ObjectError> {
        let members = &mut self.0;
        members.clear();
        let scanner = Scanner::new(text);
        let mut prints = Prints::default();
        let end = scanner.object(nested, |name, value| {
            if members.len() == bounds.members || !bounds.have_room_for(name) {
                return Err(ObjectError::TooManyMembers);
            }
            prints.add(name);
            members.push((name, value));
            Ok(())
        })?;
        if prints.have_met && Name::have_duplicates(members.iter().map(|(name, _)| *name)) {
            return Err(ObjectError::DuplicateMember);
        }
        if scanner.ends_at(end) { Ok(()) } else { Err(ObjectError::NotAnObject) }
    }
}

/// Says how many there are: their text may be anybody's business.
impl fmt::Debug for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Members").field(&self.0.len()).finish()
    }
}

/// What is read at most, of text that nobody has vouched for: all of it may take memory.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Members of the object itself.
    members: usize,
    /// Names, and objects, of those inside of it that are open at once.
    pub(crate) nested: usize,
    /// The longest name with escapes, bytes as written.
    escaped_name: usize,
}

impl Bounds {
    const NONE: Self = Self { members: usize::MAX, nested: usize::MAX, escaped_name: usize::MAX };

    #[inline]
    pub(crate) fn have_room_for(self, name: Name<'_>) -> bool {
        name.plain().is_some() || name.0.len() <= self.escaped_name
    }
}

/// The longest name with escapes where the number of members is bounded, bytes as written. No registered name needs any.
const FEW_ESCAPES: usize = 64;

/// A member's name, as it is written: in its quotes if there are escapes, without them otherwise. A quote alone is no name.
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a str);

/// Below this many names, comparing each with each is faster than sorting; above, it would be quadratic in hostile input. No header that is read has more
/// (`MAX_HEADER_MEMBERS`).
const FEW_NAMES: usize = 32;

/// As many names of objects inside of others find room on the stack.
pub(crate) const NESTED_IN_PLACE: usize = 16;

impl<'a> Name<'a> {
    /// A name without escapes.
    pub(crate) fn without_escapes(text: &'a str) -> Self {
        Self(text)
    }

    /// A name with escapes, in its quotes. `None` if it is no text: half of a surrogate pair.
    pub(crate) fn with_escapes(quoted: &'a str) -> Option<Self> {
        scan::is_text(quoted).then_some(Self(quoted))
    }

    /// The name, if it is written without escapes.
    #[inline]
    #[must_use]
    pub fn plain(self) -> Option<&'a str> {
        if self.0.as_bytes().first() == Some(&b'"') { None } else { Some(self.0) }
    }

    /// The name, borrowed unless it has escapes.
    #[must_use]
    pub fn text(self) -> Cow<'a, str> {
        match self.plain() {
            Some(name) => Cow::Borrowed(name),
            // It was read once, so it can be read again.
            None => Cow::Owned(serde_json::from_str(self.0).unwrap_or_default()),
        }
    }

    fn is(self, wanted: &str) -> bool {
        self.plain().map_or_else(|| self.text() == wanted, |name| name == wanted)
    }

    /// The same for the same name, and seldom for another.
    #[inline]
    fn print(self) -> u64 {
        self.plain().map_or_else(|| print(self.text().as_bytes()), |name| print(name.as_bytes()))
    }

    /// Whether two of them are the same.
    pub(crate) fn have_duplicates(names: impl ExactSizeIterator<Item = Self> + Clone) -> bool {
        let mut prints = Prints::default();
        names.clone().for_each(|name| prints.add(name));
        if !prints.have_met {
            return false;
        }
        // A name with escapes is resolved once, not once for each other.
        if names.len() <= FEW_NAMES && names.clone().all(|name| name.plain().is_some()) {
            let is_same = |name: Self, other: Self| name.print() == other.print() && name.text() == other.text();
            return names
                .clone()
                .enumerate()
                .any(|(at, name)| names.clone().take(at).any(|other| is_same(name, other)));
        }
        let mut sorted: Vec<_> = names.map(Self::text).collect();
        sorted.sort_unstable();
        sorted.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// Whether two names may be the same: of a few, hardly two meet in one of so many places.
#[derive(Default)]
struct Prints {
    seen: [u64; 4],
    have_met: bool,
}

impl Prints {
    #[inline]
    fn add(&mut self, name: Name<'_>) {
        if name.plain().is_none() {
            // Whether it is another in a different spelling is not seen so easily.
            self.have_met = true;
            return;
        }
        // The top bits of a product are those that all others have a part in.
        let place = name.print().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let word = &mut self.seen[place as usize / 64];
        let bit = 1 << (place % 64);
        self.have_met |= *word & bit != 0;
        *word |= bit;
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

/// One JSON value as it is written, known to be well formed.
///
/// A string with escapes lacks its opening quote: that is how it is told from one without, which nobody has to look through again.
#[derive(Clone, Copy)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// `text` is one value, without space around it, and without the opening quote of a string with escapes.
    #[inline]
    pub(crate) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The exact text, without white space around it; borrowed unless it is a string with escapes.
    #[must_use]
    pub fn text(self) -> Cow<'a, str> {
        if self.is_escaped_string() { Cow::Owned(format!("\"{}", self.0)) } else { Cow::Borrowed(self.0) }
    }

    /// The value, if it is a string; borrowed unless it has escapes.
    #[must_use]
    pub fn string(self) -> Option<Cow<'a, str>> {
        match self.plain_string() {
            Some(text) => Some(Cow::Borrowed(text)),
            None if self.is_escaped_string() => serde_json::from_str(&self.text()).ok().map(Cow::Owned),
            None => None,
        }
    }

    /// The same, but one with escapes only if it is written in no more than so many bytes.
    pub(crate) fn string_of_at_most(self, limit: usize) -> Option<Cow<'a, str>> {
        if self.is_escaped_string() && self.0.len() > limit { None } else { self.string() }
    }

    /// The value, if it is a string without escapes.
    #[inline]
    #[must_use]
    pub fn plain_string(self) -> Option<&'a str> {
        self.0.strip_prefix('"')?.strip_suffix('"')
    }

    /// Whether it is a string with escapes.
    #[inline]
    #[must_use]
    pub fn is_escaped_string(self) -> bool {
        self.0.ends_with('"') && !self.0.starts_with('"')
    }

    /// The exact text of everything but a string with escapes.
    #[must_use]
    pub fn plain_text(self) -> Option<&'a str> {
        if self.is_escaped_string() { None } else { Some(self.0) }
    }

    /// The elements, if it is an array of strings.
    #[must_use]
    pub fn strings(self) -> Option<SmallVec<[Cow<'a, str>; 4]>> {
        self.elements()?.map(Raw::string).collect()
    }

    /// The elements, if it is an array.
    #[must_use]
    pub fn elements(self) -> Option<Elements<'a>> {
        Scanner::new(self.plain_text()?).elements().map(Elements)
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
        self.plain_text().is_some_and(|text| text.starts_with(|first: char| first == '-' || first.is_ascii_digit()))
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

/// Does not show it.
impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name")
    }
}

/// Does not show it.
impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raw")
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

    /// Its text begins like a number, an array or a word, because of how it is kept.
    #[test]
    fn a_string_with_escapes_is_nothing_else() {
        for string in ["1\\n", "[\\n", "-\\n", "true\\n", "\\n", "\\\"", "{\\\\"] {
            let json = format!("{{\"a\":\"{string}\"}}");
            let mut seen = 0;
            members(json.as_bytes(), 1, |_, value| {
                seen += 1;
                assert!(value.is_escaped_string() && value.plain_string().is_none() && value.plain_text().is_none());
                assert!(!value.is_number() && value.elements().is_none() && value.boolean().is_none(), "{json}");
                assert_eq!(value.text(), format!("\"{string}\""));
                assert_eq!(value.string(), serde_json::from_str(&value.text()).unwrap(), "{json}");
            })
            .unwrap();
            assert_eq!(seen, 1);
        }
        members(br#"{"a":"","b":"x"}"#, 2, |_, value| assert!(value.plain_string().is_some())).unwrap();
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
            b'{' | b'[' if depth == MAX_DEPTH => Some(ObjectError::NotAnObject),
            b'[' => {
                let elements: Vec<&serde_json::value::RawValue> = serde_json::from_str(value).unwrap();
                elements.into_iter().find_map(|element| fault_in(element.get(), depth + 1))
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
        let ours = members.read(json).map(|()| {
            members
                .iter()
                .map(|(name, value)| (name.text().into_owned(), value.text().into_owned()))
                .collect::<Vec<_>>()
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

    fn alike() -> impl Strategy<Value = String> {
        let middle = prop::sample::select(vec!["", "a", "\\u0061", "\\\"", "b", "\\u0062", "cdef", "\\u0063def"]);
        (
            prop::sample::select(vec!["", "a", "aaaaaaaa"]),
            prop::collection::vec(middle, 0..4),
            prop::sample::select(vec!["", "aaaaaaaa"]),
        )
            .prop_map(|(first, middle, last)| format!("{first}{}{last}", middle.concat()))
    }

    fn in_place_is_sound(json: &str) -> Result<(), TestCaseError> {
        let shown = |members: &Members<'_>| {
            members
                .iter()
                .map(|(name, value)| (name.text().into_owned(), value.text().into_owned()))
                .collect::<Vec<_>>()
        };
        let (mut all, mut few) = (Members::new(), Members::new());
        let (read, in_place) = (all.read(json), few.read_in_place(json));
        match in_place {
            Err(ObjectError::TooManyMembers) => {}
            Ok(()) => prop_assert_eq!((read, shown(&all)), (Ok(()), shown(&few)), "{}", json),
            // Which of two faults is found may differ, that there is one may not.
            Err(_) => prop_assert!(read.is_err(), "{}", json),
        }
        Ok(())
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

        /// Names that are alike in all that their print is made of, in both spellings, few and many, at the top and inside.
        #[test]
        fn agrees_with_serde_json_on_names_that_are_alike(
            names in prop::collection::vec(alike(), 0..80), take in 0_usize..80, inside in 0..3,
        ) {
            let object = |names: &[String]| {
                format!("{{{}}}", names.iter().map(|name| format!("\"{name}\":0")).collect::<Vec<_>>().join(","))
            };
            let few = object(&names[..take.min(names.len())]);
            let json = match inside {
                0 => few,
                1 => format!("{{\"x\":[{few},{{\"y\":{few}}}]}}"),
                _ => format!("{{\"x\":{{\"aa\":1,\"y\":{few},\"aaa\":{few}}},\"y\":0}}"),
            };
            agree(&json)?;
            in_place_is_sound(&json)?;
        }

        #[test]
        fn what_is_read_in_place_is_what_is_read(json in value()) {
            in_place_is_sound(&json)?;
            in_place_is_sound(&format!("{{\"x\":{json}}}"))?;
        }

        #[test]
        fn an_array_comes_apart_into_its_elements(json in value()) {
            let theirs = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(&json).ok();
            let ours = Raw::new(json.trim()).elements().map(Iterator::collect::<Vec<_>>);
            prop_assert_eq!(
                ours.map(|elements| elements.into_iter().map(|element| element.text().into_owned()).collect::<Vec<_>>()),
                theirs.map(|elements| elements.into_iter().map(|element| element.get().to_owned()).collect::<Vec<_>>())
            );
        }

        #[test]
        fn the_same_names_have_the_same_print_and_others_seldom(a in "[ab]{0,20}", b in "[ab]{0,20}") {
            prop_assert!(print(a.as_bytes()) == print(b.as_bytes()) || a != b);
            let names = [&a, &b].map(|name| Name::without_escapes(name));
            prop_assert_eq!(Name::have_duplicates(names.into_iter()), a == b);
        }
    }
}
