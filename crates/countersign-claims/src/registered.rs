//! The registered claims of a payload, read in one pass. Strings stay in the payload: a claim is a place in it.

use std::borrow::Cow;
use std::num::NonZeroU32;

use countersign_token::json::{Members, Raw};
use smallvec::SmallVec;

use crate::error::ClaimError;
use crate::pointer::ClaimPointer;
use crate::time::UnixTime;
use crate::value::{self, ClaimValue, Place};

/// What the payload says under the names that RFC 7519, RFC 9068 and RFC 8693 registered.
///
/// In this order in memory: who it is about is what is asked most.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Registered {
    pub(crate) sub: Option<Text>,
    pub(crate) iss: Option<Text>,
    pub(crate) jti: Option<Text>,
    pub(crate) client_id: Option<Text>,
    /// `azp` (OpenID Connect Core §2): the client, where there is no `client_id`.
    pub(crate) azp: Option<Text>,
    /// What a claim of the user's choice says of the client, in place of both.
    pub(crate) client: Option<Option<Text>>,
    /// What many tokens are revoked by at once.
    pub(crate) session: Option<Text>,
    pub(crate) family: Option<Text>,
    pub(crate) tenant: Option<Text>,
    /// Empty if and only if the claim is absent.
    pub(crate) aud: SmallVec<[Text; FEW_TEXTS]>,
    /// `scope` and `scp`: strings of space-separated names, or names.
    pub(crate) scopes: SmallVec<[Text; FEW_TEXTS]>,
    /// The texts that were written with escapes, one behind the other.
    unescaped: String,
    /// Whether only what needs none of the heap's memory is read.
    pub(crate) in_place: bool,
    pub(crate) exp: Option<UnixTime>,
    pub(crate) nbf: Option<UnixTime>,
    pub(crate) iat: Option<UnixTime>,
    /// `cnf` is there.
    pub(crate) bound_to_key: bool,
    /// `at_hash` or `c_hash` is there, which only ID tokens have (OpenID Connect Core §3.1.3.6, §3.3.2.11), or a claim says so.
    pub(crate) id_token: bool,
    /// `events` is there (RFC 8417 §2.2).
    pub(crate) security_event: bool,
}

/// A string claim: a place in the payload, or, if it was written with escapes, behind it, in the text that is kept for these.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    /// The payload begins with a bracket, and no text does.
    start: NonZeroU32,
    len: u32,
}

/// The longest payload that is read, bytes: a place in it, and in as much again of text without escapes, is a `u32`.
const MAX_PAYLOAD_BYTES: usize = u32::MAX as usize / 2;

impl Registered {
    /// For text that nobody has vouched for: what it reads takes none of the heap's memory.
    pub(crate) fn in_place() -> Self {
        Self { in_place: true, ..Self::default() }
    }

    /// Reads the `members` of `payload`, of which nothing was read before. Says which of the claims named in `required` are there, a bit for each.
    pub(crate) fn read(&mut self, payload: &str, members: &Members<'_>, required: &[Box<str>]) -> Result<u64, Unread> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Unread::Claim(ClaimError::NotAnObject));
        }
        let mut present = 0;
        for (name, value) in members.iter() {
            let unescaped;
            let name = match name.plain() {
                Some(name) => name,
                None => {
                    unescaped = name.text();
                    &*unescaped
                }
            };
            if let Some(bit) = required.iter().position(|required| **required == *name) {
                present |= 1 << bit;
            }
            self.take(payload, name, value).map_err(|odd| match odd {
                Odd::Malformed(claim) => Unread::Claim(ClaimError::Malformed(claim)),
                Odd::NotInPlace => Unread::NotInPlace,
            })?;
        }
        Ok(present)
    }

    /// The text of a claim; `payload` is the one that was read.
    pub(crate) fn get<'p>(&'p self, text: Text, payload: &'p str) -> &'p str {
        let (start, len) = (text.start.get() as usize, text.len as usize);
        let found = match start.checked_sub(payload.len()) {
            None => payload.get(start..start + len),
            Some(start) => self.unescaped.get(start..start + len),
        };
        // Cut out of a `str` once already, so neither look-up can fail.
        found.unwrap_or_default()
    }

    /// What a claim of the user's choice says, in place of the one that is read by default.
    pub(crate) fn text_at(&mut self, payload: &str, pointer: &ClaimPointer) -> Option<Text> {
        match value::find(payload, pointer) {
            Place::Value(value) => value.plain_text().and_then(|text| self.text(payload, text)),
            _ => None,
        }
    }

    /// How many bytes it keeps outside itself, about.
    pub(crate) fn heap(&self) -> usize {
        let many = [&self.aud, &self.scopes].into_iter().filter(|texts| texts.spilled());
        self.unescaped.capacity() + many.map(|texts| texts.capacity() * size_of::<Text>()).sum::<usize>()
    }

    /// Scopes that stand in a claim of the user's choice, written as in `scope` or `scp`; `None` if they are not.
    pub(crate) fn add_scopes(&mut self, payload: &str, value: ClaimValue<'_>) -> Option<()> {
        match value.elements() {
            None => {
                let text = self.text(payload, value.string()?)?;
                self.scopes.push(text);
            }
            Some(elements) => {
                for element in elements {
                    let scope = element.string()?;
                    if scope.contains(' ') {
                        return None;
                    }
                    let scope = self.text(payload, scope)?;
                    self.scopes.push(scope);
                }
            }
        }
        Some(())
    }

    /// Where `text` is found again. `None` if that would have to be in memory of the heap's, and must not be.
    fn text(&mut self, payload: &str, text: Cow<'_, str>) -> Option<Text> {
        let len = u32::try_from(text.len()).ok()?;
        let start = match text {
            // It was borrowed from `payload`, so the difference of their addresses is its place.
            Cow::Borrowed(text) => text.as_ptr() as usize - payload.as_ptr() as usize,
            Cow::Owned(_) if self.in_place => return None,
            Cow::Owned(text) => {
                let start = payload.len() + self.unescaped.len();
                self.unescaped.push_str(&text);
                start
            }
        };
        Some(Text { start: u32::try_from(start).ok().and_then(NonZeroU32::new)?, len })
    }

    fn take(&mut self, payload: &str, name: &str, value: Raw<'_>) -> Result<(), Odd> {
        match name.as_bytes() {
            b"iss" => self.iss = Some(self.string(payload, value, "iss")?),
            b"sub" => self.sub = Some(self.string(payload, value, "sub")?),
            b"jti" => self.jti = Some(self.string(payload, value, "jti")?),
            b"client_id" => self.client_id = Some(self.string(payload, value, "client_id")?),
            // No claims of ours, so that what is neither string nor number there is nobody's fault.
            b"azp" => self.azp = self.name_of(payload, value)?,
            b"sid" => self.session = self.name_of(payload, value)?,
            b"family" => self.family = self.name_of(payload, value)?,
            b"tid" => self.tenant = self.name_of(payload, value)?,
            b"exp" => self.exp = Some(date(value, "exp")?),
            b"nbf" => self.nbf = Some(date(value, "nbf")?),
            b"iat" => self.iat = Some(date(value, "iat")?),
            b"aud" => {
                self.one_or_many(payload, value, "aud", |claims| &mut claims.aud)?;
                // An audience of nobody: neither absent nor anybody's.
                if self.aud.is_empty() {
                    return Err(Odd::Malformed("aud"));
                }
            }
            b"scope" => self.scopes_of(payload, value, "scope")?,
            b"scp" => self.scopes_of(payload, value, "scp")?,
            b"cnf" => self.bound_to_key = true,
            b"at_hash" | b"c_hash" => self.id_token = true,
            // What two widely used issuers write into the payload.
            b"token_use" => self.id_token |= self.is(value, "id")?,
            b"typ" => self.id_token |= self.is(value, "ID")?,
            b"events" => self.security_event = true,
            _ => {}
        }
        Ok(())
    }

    fn is(&self, value: Raw<'_>, text: &str) -> Result<bool, Odd> {
        Ok(self.unescaped_string(value)?.is_some_and(|value| value == text))
    }

    fn string(&mut self, payload: &str, value: Raw<'_>, claim: &'static str) -> Result<Text, Odd> {
        let text = self.unescaped_string(value)?.ok_or(Odd::Malformed(claim))?;
        self.text(payload, text).ok_or(Odd::NotInPlace)
    }

    /// `None` if it is no string.
    fn unescaped_string<'v>(&self, value: Raw<'v>) -> Result<Option<Cow<'v, str>>, Odd> {
        match value.plain_string() {
            Some(text) => Ok(Some(Cow::Borrowed(text))),
            None if self.in_place && value.is_escaped_string() => Err(Odd::NotInPlace),
            None => Ok(value.string()),
        }
    }

    /// A string, or a number or boolean as it is written.
    fn name_of(&mut self, payload: &str, value: Raw<'_>) -> Result<Option<Text>, Odd> {
        if value.is_number() || value.boolean().is_some() {
            return Ok(value.plain_text().and_then(|text| self.text(payload, Cow::Borrowed(text))));
        }
        match self.string(payload, value, "") {
            Ok(text) => Ok(Some(text)),
            Err(Odd::Malformed(_)) => Ok(None),
            Err(Odd::NotInPlace) => Err(Odd::NotInPlace),
        }
    }

    /// A string of space-separated names, or an array of names: one with a space in it would be two. Nothing else separates names, so a
    /// line break or a tab, which is part of none (RFC 6749 §3.3), would make one of two. Adds them to `scopes`.
    fn scopes_of(&mut self, payload: &str, value: Raw<'_>, claim: &'static str) -> Result<(), Odd> {
        let first = self.scopes.len();
        let is_array = self.one_or_many(payload, value, claim, |claims| &mut claims.scopes)?;
        let separates = |byte: u8| byte.is_ascii_control() || is_array && byte == b' ';
        let separate = |scope: &Text| self.get(*scope, payload).bytes().fold(false, |any, byte| any | separates(byte));
        if self.scopes[first..].iter().any(separate) { Err(Odd::Malformed(claim)) } else { Ok(()) }
    }

    /// A string, or an array of strings. Adds them to `texts`; whether it was an array.
    fn one_or_many(
        &mut self,
        payload: &str,
        value: Raw<'_>,
        claim: &'static str,
        texts: fn(&mut Self) -> &mut SmallVec<[Text; FEW_TEXTS]>,
    ) -> Result<bool, Odd> {
        let mut add = |value| {
            let text = self.string(payload, value, claim)?;
            if self.in_place && texts(self).len() == FEW_TEXTS {
                return Err(Odd::NotInPlace);
            }
            texts(self).push(text);
            Ok(())
        };
        match value.elements() {
            None => add(value).map(|()| false),
            Some(mut elements) => elements.try_for_each(add).map(|()| true),
        }
    }
}

/// What an ordinary token has of audiences, and of arrays of scopes, at most.
const FEW_TEXTS: usize = 4;

/// Why claims were not read.
pub(crate) enum Unread {
    Claim(ClaimError),
    /// There is more of it than is read without memory of the heap's.
    NotInPlace,
}

/// Why one was not.
enum Odd {
    /// The claim of this name is of another type than its own.
    Malformed(&'static str),
    NotInPlace,
}

fn date(value: Raw<'_>, claim: &'static str) -> Result<UnixTime, Odd> {
    value.plain_text().and_then(UnixTime::from_json).ok_or(Odd::Malformed(claim))
}
