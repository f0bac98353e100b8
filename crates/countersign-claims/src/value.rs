//! One claim of a payload, found and compared where it stands: nothing is built, and nothing is allocated unless somebody
//! wants a string without its escapes.
//!
//! What is read here has been read once before, when the token was judged: it is well-formed JSON in which no name stands
//! twice. So nothing here says what is wrong with a text; what cannot be made sense of is `None`.

use std::borrow::Cow;
use std::str::Chars;

use crate::pointer::{ClaimPointer, Step};
use crate::time::UnixTime;

/// The value of one claim, as it was signed. Made by [`Verified::claim`](crate::Verified::claim).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClaimValue<'a>(&'a str);

impl<'a> ClaimValue<'a> {
    /// The text of the value, as JSON and as the issuer wrote it.
    #[must_use]
    pub fn json(self) -> &'a str {
        self.0
    }

    /// The value, if it is a string; borrowed unless it has escapes.
    #[must_use]
    pub fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.quoted()?;
        if inner.contains('\\') { Unescaped(inner.chars()).collect() } else { Some(Cow::Borrowed(inner)) }
    }

    /// The value, if it is a number written as an integer: `1`, not `1.0` and not `1e0`.
    #[must_use]
    pub fn integer(self) -> Option<i128> {
        self.0.parse().ok()
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

    /// A string without its quotes and escapes, a number or a boolean as it is written; `None` for everything else.
    #[must_use]
    pub fn plain_text(self) -> Option<Cow<'a, str>> {
        match self.0.as_bytes().first()? {
            b'"' => self.string(),
            b'{' | b'[' | b'n' => None,
            _ => Some(Cow::Borrowed(self.0)),
        }
    }

    /// Whether it is the string `wanted`; `None` if it is no string.
    pub(crate) fn is_string(self, wanted: &str) -> Option<bool> {
        let inner = self.quoted()?;
        if !inner.contains('\\') {
            return Some(inner == wanted);
        }
        let mut wanted = wanted.chars();
        let mut same = true;
        // To the end, because a string that is broken further on is no string.
        for character in Unescaped(inner.chars()) {
            let character = character?;
            same = same && wanted.next() == Some(character);
        }
        Some(same && wanted.next().is_none())
    }

    /// Whether it is the string `wanted`, or an array with it; `None` if it is neither a string nor an array of nothing but
    /// strings.
    pub(crate) fn has_string(self, wanted: &str) -> Option<bool> {
        match self.elements() {
            None => self.is_string(wanted),
            Some(mut elements) => elements.try_fold(false, |found, element| Some(element.is_string(wanted)? || found)),
        }
    }

    /// The same of any of these, in one pass.
    pub(crate) fn has_string_of(self, wanted: &[Box<str>]) -> Option<bool> {
        let is_any = |value: Self| {
            // Of the type, whatever is wanted.
            value.is_string("")?;
            Some(wanted.iter().any(|wanted| value.is_string(wanted) == Some(true)))
        };
        match self.elements() {
            None => is_any(self),
            Some(mut elements) => elements.try_fold(false, |found, element| Some(is_any(element)? || found)),
        }
    }

    /// The elements, if it is an array.
    pub(crate) fn elements(self) -> Option<impl Iterator<Item = ClaimValue<'a>>> {
        let mut scanner = Scanner::inside(self.0, b'[')?;
        Some(std::iter::from_fn(move || scanner.value()))
    }

    /// The instant, if it is a NumericDate.
    pub(crate) fn date(self) -> Option<UnixTime> {
        UnixTime::from_json(self.0)
    }

    fn quoted(self) -> Option<&'a str> {
        self.0.strip_prefix('"')?.strip_suffix('"')
    }

    fn step(self, step: &Step) -> Place<'a> {
        if let Some(mut scanner) = Scanner::inside(self.0, b'{') {
            while let Some(name) = scanner.value() {
                let Some(value) = scanner.value() else { return Place::Unreachable };
                if name.is_string(&step.name) == Some(true) {
                    return Place::Value(value);
                }
            }
            return Place::Absent;
        }
        match (self.elements(), step.index) {
            (Some(mut elements), Some(index)) => elements.nth(index).map_or(Place::Absent, Place::Value),
            _ => Place::Unreachable,
        }
    }
}

/// Shows its kind and not its text, which may be anybody's business.
impl std::fmt::Debug for ClaimValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.0.as_bytes().first() {
            Some(b'"') => "string",
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b't' | b'f') => "boolean",
            Some(b'n') => "null",
            _ => "number",
        };
        f.debug_tuple("ClaimValue").field(&format_args!("{kind}")).finish()
    }
}

/// Where a pointer leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Value(ClaimValue<'a>),
    /// To a member or an element that is not there.
    Absent,
    /// Through something that has no members or no such elements.
    Unreachable,
}

/// Follows `pointer` into `payload`.
pub(crate) fn find<'a>(payload: &'a str, pointer: &ClaimPointer) -> Place<'a> {
    pointer.steps().iter().fold(Place::Value(ClaimValue(payload.trim())), |place, step| match place {
        Place::Value(value) => value.step(step),
        _ => place,
    })
}

/// The member `name` of the payload itself.
pub(crate) fn member<'a>(payload: &'a str, name: &str) -> Place<'a> {
    let Some(mut scanner) = Scanner::inside(payload.trim(), b'{') else { return Place::Unreachable };
    while let (Some(found), Some(value)) = (scanner.value(), scanner.value()) {
        if found.is_string(name) == Some(true) {
            return Place::Value(value);
        }
    }
    Place::Absent
}

/// Reads one value after the other inside an array or an object; in an object, names are values.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Behind the bracket that `text` begins with, if it is `open`.
    fn inside(text: &'a str, open: u8) -> Option<Self> {
        (text.as_bytes().first() == Some(&open)).then_some(Self { text, at: 1 })
    }

    /// The next value; `None` at the closing bracket.
    fn value(&mut self) -> Option<ClaimValue<'a>> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at)?, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':') {
            self.at += 1;
        }
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match bytes.get(self.at)? {
                b'"' => self.skip_string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    // The bracket that closes what is being read.
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                _ if depth > 0 => self.at += 1,
                // A number or a word: up to what cannot be in one.
                _ => {
                    while !matches!(
                        bytes.get(self.at)?,
                        b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"' | b' ' | b'\t' | b'\r' | b'\n'
                    ) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return self.text.get(start..self.at).map(ClaimValue);
            }
        }
    }

    /// To behind the closing quote of the string that starts here.
    fn skip_string(&mut self) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => return,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }
}

/// The characters of a string between its quotes, escapes resolved; `None` for an escape that is no character (half of a
/// surrogate pair), which parsers read in different ways.
struct Unescaped<'a>(Chars<'a>);

impl Iterator for Unescaped<'_> {
    type Item = Option<char>;

    fn next(&mut self) -> Option<Option<char>> {
        match self.0.next()? {
            '\\' => Some(self.escape()),
            plain => Some(Some(plain)),
        }
    }
}

impl Unescaped<'_> {
    fn escape(&mut self) -> Option<char> {
        match self.0.next()? {
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => {
                let unit = self.unit()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return char::from_u32(unit);
                }
                let low = (self.0.next() == Some('\\') && self.0.next() == Some('u')).then(|| self.unit()).flatten()?;
                let low = (0xdc00..0xe000).contains(&low).then(|| low - 0xdc00)?;
                char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)
            }
            itself @ ('"' | '\\' | '/') => Some(itself),
            _ => None,
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit << 4 | self.0.next()?.to_digit(16)?))
    }
}
