//! JSON (RFC 8259) read in one pass: where its values are, that all of it is well formed, and that no name stands twice.
//!
//! A token's claims are small, are read once, and come with each request (`DESIGN.md` says why no general parser looks at them). Nothing here knows what a value means.

use smallvec::SmallVec;

use crate::json::{Bounds, MAX_DEPTH, NESTED_IN_PLACE, Name, ObjectError, Raw};

/// The text is not JSON.
#[derive(Debug)]
pub(crate) struct NotJson;

/// A text that is read. What is cut out of it between two ASCII characters is a `str` too. All places are passed on by value: a
/// counter in memory would be what the reading waits for.
#[derive(Clone, Copy)]
pub(crate) struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Hands over the members of the object that begins the text, the last of them before it is known whether the object ends well.
    /// Without `nested`, only the names of this object itself have to differ. Returns where it ends.
    pub(crate) fn object(
        self,
        mut nested: Option<&mut Nested<'a>>,
        mut member: impl FnMut(Name<'a>, Raw<'a>) -> Result<(), ObjectError>,
    ) -> Result<usize, ObjectError> {
        let mut at = self.expect(self.space(0), b'{')?;
        at = self.space(at);
        if self.peek(at) == Some(b'}') {
            return Ok(at + 1);
        }
        loop {
            let (end, escaped) = self.string(at)?;
            let name = self.name(at, end, escaped).ok_or(ObjectError::NotAnObject)?;
            let start = self.colon(end)?;
            let escaped;
            (at, escaped) = match (self.peek(start), nested.as_deref_mut()) {
                (Some(b'{' | b'['), Some(nested)) => {
                    let end = self.container(start, nested)?;
                    // Only now: whatever is not even JSON is that, and nothing else.
                    if let Some(fault) = nested.fault {
                        return Err(fault);
                    }
                    (end, false)
                }
                _ => self.value(start)?,
            };
            member(name, Raw::new(self.cut(start + usize::from(escaped), at)?))?;
            at = self.space(at);
            if self.peek(at) == Some(b'}') {
                return Ok(at + 1);
            }
            at = self.space(self.expect(at, b',')?);
        }
    }

    /// Whether there is nothing but space from here on.
    pub(crate) fn ends_at(self, at: usize) -> bool {
        self.space(at) == self.0.len()
    }

    /// The elements of the array that begins the text, if one does; it is known to be well formed.
    pub(crate) fn elements(self) -> Option<Elements<'a>> {
        (self.peek(0) == Some(b'[')).then_some(Elements { scanner: self, at: 1 })
    }

    /// The name between these places; none if it is no text: half of a surrogate pair.
    #[inline(always)]
    fn name(self, start: usize, end: usize, escaped: bool) -> Option<Name<'a>> {
        if escaped {
            return Name::with_escapes(self.cut(start, end).ok()?);
        }
        Some(Name::without_escapes(self.cut(start + 1, end - 1).ok()?))
    }

    /// From behind a name to where its value begins.
    #[inline]
    fn colon(self, at: usize) -> Result<usize, NotJson> {
        Ok(self.space(self.expect(self.space(at), b':')?))
    }

    /// To behind the value that begins here, and whether it is a string with escapes.
    #[inline(always)]
    fn value(self, at: usize) -> Result<(usize, bool), NotJson> {
        match self.peek(at) {
            Some(b'{' | b'[') => Ok((self.container(at, &mut Anything)?, false)),
            _ => self.scalar(at),
        }
    }

    #[inline(always)]
    fn scalar(self, at: usize) -> Result<(usize, bool), NotJson> {
        let end = match self.peek(at) {
            Some(b'"') => return self.string(at),
            Some(b'-' | b'0'..=b'9') => self.number(at)?,
            Some(b't') => self.word(at, "true")?,
            Some(b'f') => self.word(at, "false")?,
            Some(b'n') => self.word(at, "null")?,
            _ => return Err(NotJson),
        };
        Ok((end, false))
    }

    /// An array or an object with all that is in it: a loop, because a stack would end where hostile input wants it to.
    fn container(self, mut at: usize, watcher: &mut impl Watcher<'a>) -> Result<usize, NotJson> {
        let mut open = Brackets::default();
        let name = |watcher: &mut _, at| {
            let (end, escaped) = self.string(at)?;
            Watcher::name(watcher, self.name(at, end, escaped));
            self.colon(end)
        };
        loop {
            // Here begins a value.
            match self.peek(at) {
                Some(bracket @ (b'{' | b'[')) => {
                    let is_object = bracket == b'{';
                    open.push(is_object);
                    watcher.open(open.depth, is_object)?;
                    at = self.space(at + 1);
                    // In ASCII, brackets stand two from each other.
                    if self.peek(at) != Some(bracket + 2) {
                        if is_object {
                            at = name(watcher, at)?;
                        }
                        continue;
                    }
                }
                _ => (at, _) = self.scalar(at)?,
            }
            // Here one has ended, or an empty bracket closes.
            loop {
                at = self.space(at);
                let in_object = open.is_object();
                match (self.peek(at), in_object) {
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        at += 1;
                        watcher.close(in_object);
                        open.pop();
                        if open.depth == 0 {
                            return Ok(at);
                        }
                    }
                    (Some(b','), _) => {
                        at = self.space(at + 1);
                        if in_object {
                            at = name(watcher, at)?;
                        }
                        break;
                    }
                    _ => return Err(NotJson),
                }
            }
        }
    }

    /// To behind the string that begins here, and whether it has escapes.
    #[inline]
    fn string(self, at: usize) -> Result<(usize, bool), NotJson> {
        let mut at = self.expect(at, b'"')?;
        while let Some(eight) = self.0.as_bytes().get(at..).and_then(<[u8]>::first_chunk) {
            let marks = ends_of_plain_text(u64::from_le_bytes(*eight));
            if marks != 0 {
                at += marks.trailing_zeros() as usize / 8;
                if self.peek(at) == Some(b'"') {
                    return Ok((at + 1, false));
                }
                break;
            }
            at += 8;
        }
        self.rest_of_string(at)
    }

    /// The same from somewhere inside of it: where there is an escape, or little text left.
    #[inline(never)]
    fn rest_of_string(self, mut at: usize) -> Result<(usize, bool), NotJson> {
        let mut escaped = false;
        loop {
            match self.peek(at) {
                Some(b'"') => return Ok((at + 1, escaped)),
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at)?;
                }
                Some(b' '..) => at += 1,
                _ => return Err(NotJson),
            }
        }
    }

    fn escape(self, at: usize) -> Result<usize, NotJson> {
        let bytes = self.0.as_bytes();
        match bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => {
                let digits = bytes.get(at + 2..at + 6).ok_or(NotJson)?;
                if digits.iter().all(u8::is_ascii_hexdigit) { Ok(at + 6) } else { Err(NotJson) }
            }
            _ => Err(NotJson),
        }
    }

    fn number(self, mut at: usize) -> Result<usize, NotJson> {
        if self.peek(at) == Some(b'-') {
            at += 1;
        }
        at = if self.peek(at) == Some(b'0') { at + 1 } else { self.digits(at)? };
        if self.peek(at) == Some(b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.peek(at) {
            at += 1;
            if let Some(b'+' | b'-') = self.peek(at) {
                at += 1;
            }
            at = self.digits(at)?;
        }
        Ok(at)
    }

    /// One or more.
    #[inline]
    fn digits(self, start: usize) -> Result<usize, NotJson> {
        let mut at = start;
        while let Some(b'0'..=b'9') = self.peek(at) {
            at += 1;
        }
        if at == start { Err(NotJson) } else { Ok(at) }
    }

    fn word(self, at: usize, word: &str) -> Result<usize, NotJson> {
        let follows = self.0.as_bytes().get(at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if follows { Ok(at + word.len()) } else { Err(NotJson) }
    }

    #[inline]
    fn space(self, mut at: usize) -> usize {
        while let Some(octet @ 0..=b' ') = self.peek(at) {
            if !matches!(octet, b' ' | b'\t' | b'\n' | b'\r') {
                break;
            }
            at += 1;
        }
        at
    }

    #[inline]
    fn peek(self, at: usize) -> Option<u8> {
        self.0.as_bytes().get(at).copied()
    }

    #[inline]
    fn expect(self, at: usize, octet: u8) -> Result<usize, NotJson> {
        if self.peek(at) == Some(octet) { Ok(at + 1) } else { Err(NotJson) }
    }

    #[inline(always)]
    fn cut(self, start: usize, end: usize) -> Result<&'a str, NotJson> {
        self.0.get(start..end).ok_or(NotJson)
    }
}

/// The elements of an array, one after the other.
pub(crate) struct Elements<'a> {
    scanner: Scanner<'a>,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let scanner = self.scanner;
        let mut at = scanner.space(self.at);
        match scanner.peek(at)? {
            b']' => return None,
            b',' => at = scanner.space(at + 1),
            _ => {}
        }
        let (end, escaped) = scanner.value(at).ok()?;
        self.at = end;
        scanner.cut(at + usize::from(escaped), end).ok().map(Raw::new)
    }
}

/// Whether a string that is well formed is one of characters: no half of a surrogate pair stands in it alone (RFC 8259 §8.2), which parsers read in
/// different ways.
pub(crate) fn is_text(quoted: &str) -> bool {
    let unit = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let mut rest = quoted.as_bytes();
    let mut wants_low = false;
    loop {
        let (is_low, is_high);
        (is_low, is_high, rest) = match rest {
            [b'\\', b'u', a, b, c, d, rest @ ..] => match unit(&[*a, *b, *c, *d]) {
                Some(unit) => ((0xdc00..0xe000).contains(&unit), (0xd800..0xdc00).contains(&unit), rest),
                None => return false,
            },
            [b'\\', _, rest @ ..] | [_, rest @ ..] => (false, false, rest),
            [] => return !wants_low,
        };
        if is_low != wants_low {
            return false;
        }
        wants_low = is_high;
    }
}

/// The lowest bit set marks the first of eight octets, in the order of memory, that is a quote, a backslash or a control character:
/// what cannot stand for itself in a string. Bits above it mean nothing.
const fn ends_of_plain_text(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // An octet below `limit` borrows from its high bit, and only an octet that borrowed disturbs its neighbours above.
    const fn below(octets: u64, limit: u8) -> u64 {
        octets.wrapping_sub(ONES * limit as u64) & !octets
    }
    // With that bit turned, a quote comes right behind the control characters.
    const TURNED: u8 = b'"' ^ b' ';
    (below(eight ^ (ONES * TURNED as u64), b' ' + 1) | below(eight ^ (ONES * b'\\' as u64), 1)) & HIGH
}

/// Which of the brackets that are open are objects, a bit for each.
#[derive(Default)]
struct Brackets {
    /// Of each 64, the innermost lowest; one word is more than an honest token needs.
    outer: SmallVec<[u64; 1]>,
    inner: u64,
    depth: usize,
}

impl Brackets {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.inner >>= 1;
        if self.depth.is_multiple_of(64)
            && let Some(outer) = self.outer.pop()
        {
            self.inner = outer;
        }
    }

    fn is_object(&self) -> bool {
        self.inner & 1 == 1
    }
}

/// Who is told of what is inside a container.
trait Watcher<'a> {
    fn open(&mut self, depth: usize, is_object: bool) -> Result<(), NotJson>;
    fn name(&mut self, name: Option<Name<'a>>);
    fn close(&mut self, is_object: bool);
}

/// Who does not care.
struct Anything;

impl<'a> Watcher<'a> for Anything {
    fn open(&mut self, _: usize, _: bool) -> Result<(), NotJson> {
        Ok(())
    }
    fn name(&mut self, _: Option<Name<'a>>) {}
    fn close(&mut self, _: bool) {}
}

/// What is asked of the objects inside of a member.
pub(crate) struct Nested<'a> {
    /// Of all objects that are open, one behind the other.
    names: SmallVec<[Name<'a>; NESTED_IN_PLACE]>,
    /// Where those of each begin.
    starts: SmallVec<[usize; NESTED_IN_PLACE]>,
    /// The most of either, and the longest name with escapes.
    bounds: Bounds,
    /// The first that was found.
    fault: Option<ObjectError>,
}

impl Nested<'_> {
    pub(crate) fn within(bounds: Bounds) -> Self {
        Self { names: SmallVec::new(), starts: SmallVec::new(), bounds, fault: None }
    }

    fn note(&mut self, fault: ObjectError) {
        self.fault.get_or_insert(fault);
    }
}

impl<'a> Watcher<'a> for Nested<'a> {
    fn open(&mut self, depth: usize, is_object: bool) -> Result<(), NotJson> {
        // One level is the object that all this is a member of.
        if depth >= MAX_DEPTH {
            return Err(NotJson);
        }
        // Nobody asks for a second fault.
        if is_object && self.fault.is_none() {
            if self.starts.len() == self.bounds.nested {
                self.note(ObjectError::TooManyMembers);
                return Ok(());
            }
            self.starts.push(self.names.len());
        }
        Ok(())
    }

    fn name(&mut self, name: Option<Name<'a>>) {
        match name {
            _ if self.fault.is_some() => {}
            None => self.note(ObjectError::NotAnObject),
            Some(name) if self.names.len() < self.bounds.nested && self.bounds.have_room_for(name) => {
                self.names.push(name);
            }
            Some(_) => self.note(ObjectError::TooManyMembers),
        }
    }

    fn close(&mut self, is_object: bool) {
        if !is_object || self.fault.is_some() {
            return;
        }
        let start = self.starts.pop().unwrap_or_default();
        if Name::have_duplicates(self.names[start..].iter().copied()) {
            self.note(ObjectError::DuplicateMember);
        }
        self.names.truncate(start);
    }
}

impl From<NotJson> for ObjectError {
    fn from(_: NotJson) -> Self {
        Self::NotAnObject
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_octet_that_ends_plain_text_is_found(eight in any::<[u8; 8]>(), plain in 0_usize..9) {
            let mut eight = eight;
            for octet in &mut eight[..plain] {
                if matches!(octet, 0..b' ' | b'"' | b'\\') {
                    *octet = b'!';
                }
            }
            let first = eight.iter().position(|octet| matches!(octet, 0..b' ' | b'"' | b'\\'));
            let marks = ends_of_plain_text(u64::from_le_bytes(eight));
            prop_assert_eq!((marks != 0).then(|| marks.trailing_zeros() as usize / 8), first);
        }

        #[test]
        fn text_is_what_serde_json_reads_as_text(string in r#"(\\u(d8|dc|00)[0-9a-f]{2}|\\n|\\\\|a|é){0,6}"#) {
            let quoted = format!("\"{string}\"");
            prop_assert_eq!(is_text(&quoted), serde_json::from_str::<String>(&quoted).is_ok(), "{}", quoted);
        }

        #[test]
        fn brackets_are_remembered_at_any_depth(kinds in proptest::collection::vec(any::<bool>(), 1..300)) {
            let mut open = Brackets::default();
            for kind in &kinds {
                open.push(*kind);
            }
            for (at, kind) in kinds.iter().enumerate().rev() {
                prop_assert_eq!((open.depth, open.is_object()), (at + 1, *kind));
                open.pop();
            }
            prop_assert_eq!(open.depth, 0);
        }
    }
}
