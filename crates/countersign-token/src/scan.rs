//! JSON (RFC 8259) read in one pass: where its values are, that all of it is well formed, and that no name stands twice.
//!
//! A token's claims are small, are read once, and come with each request: that they are looked at by nobody's general parser is worth
//! more than half of what reading them costs (`DESIGN.md`). Nothing here knows what a value means.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::json::{MAX_DEPTH, Member, Name, ObjectError, Raw};

/// The text is not JSON.
#[derive(Debug)]
pub(crate) struct NotJson;

/// Where the reading of a text has come to. A [`str`], so what is cut out of it between two ASCII characters is one too.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// What is asked of the objects inside of a member.
pub(crate) struct Nested<'a> {
    /// Of all objects that are open, one behind the other.
    names: SmallVec<[Name<'a>; 16]>,
    /// Where those of each begin.
    starts: SmallVec<[usize; 16]>,
    /// The first that was found.
    fault: Option<ObjectError>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Hands over the members of the one object that the text is, the last of them before it is known whether that is all of it.
    /// Without `nested`, only the names of this object itself have to differ.
    pub(crate) fn object(
        mut self,
        mut nested: Option<&mut Nested<'a>>,
        mut member: impl FnMut(Member<'a>) -> Result<(), ObjectError>,
    ) -> Result<Self, ObjectError> {
        self.space();
        self.expect(b'{')?;
        self.space();
        if self.skip(b'}') {
            return Ok(self);
        }
        loop {
            let name = self.name()?.ok_or(ObjectError::NotAnObject)?;
            let value = self.value(nested.as_deref_mut())?;
            // Only now: whatever is not even JSON is that, and nothing else.
            if let Some(fault) = nested.as_deref_mut().and_then(|nested| nested.fault) {
                return Err(fault);
            }
            member(Member { name, value })?;
            self.space();
            if self.skip(b'}') {
                return Ok(self);
            }
            self.expect(b',')?;
            self.space();
        }
    }

    /// Whether nothing but space follows.
    pub(crate) fn is_at_end(mut self) -> bool {
        self.space();
        self.at == self.text.len()
    }

    /// Into the array that begins here, if it is one.
    pub(crate) fn enter_array(&mut self) -> bool {
        self.skip(b'[')
    }

    /// The next element of the array that was entered; `None` at its end. The array is known to be well formed.
    pub(crate) fn element(&mut self) -> Option<Raw<'a>> {
        self.space();
        if self.skip(b',') {
            self.space();
        } else if self.skip(b']') {
            return None;
        }
        self.value(None).ok()
    }

    /// A name and the colon behind it. `Ok(None)` for a name that is no text: half of a surrogate pair.
    fn name(&mut self) -> Result<Option<Name<'a>>, NotJson> {
        let start = self.at;
        let escaped = self.string()?;
        let inner = self.text.get(start + 1..self.at - 1).ok_or(NotJson)?;
        let name = if escaped {
            self.text.get(start..self.at).and_then(|quoted| Raw::new(quoted).string())
        } else {
            Some(Cow::Borrowed(inner))
        };
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(name.map(Name::new))
    }

    fn value(&mut self, nested: Option<&mut Nested<'a>>) -> Result<Raw<'a>, NotJson> {
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') => match nested {
                Some(nested) => self.container(nested)?,
                None => self.container(&mut Anything)?,
            },
            _ => self.scalar()?,
        }
        self.text.get(start..self.at).map(Raw::new).ok_or(NotJson)
    }

    fn scalar(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(NotJson),
        }
    }

    /// An array or an object with all that is in it: a loop, because a stack would end where hostile input wants it to.
    fn container(&mut self, watcher: &mut impl Watcher<'a>) -> Result<(), NotJson> {
        let mut open = Brackets::default();
        loop {
            // Here begins a value.
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    open.push(true);
                    watcher.open(open.depth, true);
                    self.space();
                    if self.peek() != Some(b'}') {
                        watcher.name(self.name()?);
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push(false);
                    watcher.open(open.depth, false);
                    self.space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // Here one has ended, or an empty bracket closes.
            loop {
                self.space();
                let in_object = open.is_object();
                match (self.peek(), in_object) {
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        watcher.close(in_object);
                        open.pop();
                        if open.depth == 0 {
                            return Ok(());
                        }
                    }
                    (Some(b','), _) => {
                        self.at += 1;
                        self.space();
                        if in_object {
                            watcher.name(self.name()?);
                        }
                        break;
                    }
                    _ => return Err(NotJson),
                }
            }
        }
    }

    /// To behind the string that begins here; whether it has escapes.
    fn string(&mut self) -> Result<bool, NotJson> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            while let Some(eight) = bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
                let marks = ends_of_plain_text(u64::from_le_bytes(*eight));
                if marks != 0 {
                    self.at += marks.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += match bytes.get(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') => {
                            let digits = bytes.get(self.at + 2..self.at + 6).ok_or(NotJson)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(NotJson);
                            }
                            6
                        }
                        _ => return Err(NotJson),
                    };
                }
                Some(b' '..) => self.at += 1,
                _ => return Err(NotJson),
            }
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        self.skip(b'-');
        if !self.skip(b'0') {
            self.digits()?;
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One or more.
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(NotJson) } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), NotJson> {
        let follows = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        self.at += word.len();
        if follows { Ok(()) } else { Err(NotJson) }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Whether this octet was next.
    fn skip(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, octet: u8) -> Result<(), NotJson> {
        if self.skip(octet) { Ok(()) } else { Err(NotJson) }
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
    (below(eight, b' ') | below(eight ^ (ONES * b'"' as u64), 1) | below(eight ^ (ONES * b'\\' as u64), 1)) & HIGH
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
        if self.depth > 0 && self.depth % 64 == 0 {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.inner >>= 1;
        if self.depth % 64 == 0
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
    fn open(&mut self, depth: usize, is_object: bool);
    fn name(&mut self, name: Option<Name<'a>>);
    fn close(&mut self, is_object: bool);
}

/// Who does not care.
struct Anything;

impl<'a> Watcher<'a> for Anything {
    fn open(&mut self, _: usize, _: bool) {}
    fn name(&mut self, _: Option<Name<'a>>) {}
    fn close(&mut self, _: bool) {}
}

impl Nested<'_> {
    pub(crate) fn new() -> Self {
        Self { names: SmallVec::new(), starts: SmallVec::new(), fault: None }
    }

    fn note(&mut self, fault: ObjectError) {
        self.fault.get_or_insert(fault);
    }
}

impl<'a> Watcher<'a> for Nested<'a> {
    fn open(&mut self, depth: usize, is_object: bool) {
        // One level is the object that all this is a member of.
        if depth >= MAX_DEPTH {
            self.note(ObjectError::NotAnObject);
        }
        // Nobody asks for a second fault.
        if is_object && self.fault.is_none() {
            self.starts.push(self.names.len());
        }
    }

    fn name(&mut self, name: Option<Name<'a>>) {
        match name {
            Some(name) if self.fault.is_none() => self.names.push(name),
            Some(_) => {}
            None => self.note(ObjectError::NotAnObject),
        }
    }

    fn close(&mut self, is_object: bool) {
        if !is_object || self.fault.is_some() {
            return;
        }
        let start = self.starts.pop().unwrap_or_default();
        if Name::have_duplicates(self.names[start..].iter()) {
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
