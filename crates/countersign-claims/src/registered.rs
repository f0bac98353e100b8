//! The registered claims of a payload, read in one pass. Strings stay in the payload: a claim is a place in it.

use std::borrow::Cow;

use countersign_token::json::{Members, ObjectError, Raw};
use smallvec::SmallVec;

use crate::error::ClaimError;
use crate::pointer::ClaimPointer;
use crate::time::UnixTime;
use crate::value::{self, ClaimValue, Place};

/// What the payload says under the names that RFC 7519, RFC 9068 and RFC 8693 registered.
#[derive(Default)]
pub(crate) struct Registered {
    pub(crate) iss: Option<Text>,
    pub(crate) sub: Option<Text>,
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
    pub(crate) aud: SmallVec<[Text; 2]>,
    /// `scope` and `scp`: strings of space-separated names, or names.
    pub(crate) scopes: SmallVec<[Text; 2]>,
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

/// A string claim: a place in the payload, or, if it was written with escapes, its own text.
pub(crate) enum Text {
    At { start: u32, len: u32 },
    Unescaped(Box<str>),
}

impl Text {
    fn new(payload: &[u8], text: Cow<'_, str>) -> Self {
        match text {
            Cow::Owned(text) => Self::Unescaped(text.into()),
            Cow::Borrowed(text) => {
                // `text` was borrowed from `payload`, so the difference of their addresses is its place.
                let start = text.as_ptr() as usize - payload.as_ptr() as usize;
                match (u32::try_from(start), u32::try_from(text.len())) {
                    (Ok(start), Ok(len)) => Self::At { start, len },
                    _ => Self::Unescaped(text.into()),
                }
            }
        }
    }

    /// The text; `payload` is the one that it was read from.
    pub(crate) fn get<'p>(&'p self, payload: &'p [u8]) -> &'p str {
        match self {
            Self::Unescaped(text) => text,
            // Cut out of a `str` once already, so neither look-up can fail.
            Self::At { start, len } => payload
                .get(*start as usize..(*start as usize).saturating_add(*len as usize))
                .and_then(|bytes| std::str::from_utf8(bytes).ok())
                .unwrap_or_default(),
        }
    }
}

impl Registered {
    /// Reads `payload` and leaves its `members` there, and says which of the claims named in `required` are there, a bit for each.
    pub(crate) fn read<'p>(
        payload: &'p [u8],
        members: &mut Members<'p>,
        required: &[Box<str>],
    ) -> Result<(Self, u64), ClaimError> {
        // The whole object first: a name that stands twice outweighs whatever is wrong with a value.
        members.read(payload).map_err(|error| match error {
            ObjectError::DuplicateMember => ClaimError::DuplicateMember,
            _ => ClaimError::NotAnObject,
        })?;
        let mut registered = Self::default();
        let mut present = 0;
        for (name, value) in members.iter() {
            if let Some(bit) = required.iter().position(|required| **required == **name) {
                present |= 1 << bit;
            }
            registered.take(payload, name, value)?;
        }
        Ok((registered, present))
    }

    /// What a claim of the user's choice says, in place of the one that is read by default.
    pub(crate) fn text_at(payload: &[u8], pointer: &ClaimPointer) -> Option<Text> {
        match value::find(payload, pointer) {
            Place::Value(value) => value.plain_text().map(|text| Text::new(payload, text)),
            _ => None,
        }
    }

    /// How many bytes it keeps outside itself, about.
    pub(crate) fn heap(&self) -> usize {
        let unescaped = |text: &Text| if let Text::Unescaped(text) = text { text.len() } else { 0 };
        let one =
            [&self.iss, &self.sub, &self.jti, &self.client_id, &self.azp, &self.session, &self.family, &self.tenant];
        let one = one.into_iter().flatten().chain(self.client.iter().flatten());
        let many = [&self.aud, &self.scopes].into_iter().filter(|texts| texts.spilled());
        let spilled: usize = many.map(|texts| texts.capacity() * size_of::<Text>()).sum();
        spilled + one.chain(&self.aud).chain(&self.scopes).map(unescaped).sum::<usize>()
    }

    /// Scopes that stand in a claim of the user's choice, written as in `scope` or `scp`; `None` if they are not.
    pub(crate) fn add_scopes(&mut self, payload: &[u8], value: ClaimValue<'_>) -> Option<()> {
        let text = |value: ClaimValue<'_>| value.string().map(|text| Text::new(payload, text));
        match value.elements() {
            None => self.scopes.push(text(value)?),
            Some(elements) => {
                for element in elements {
                    let scope = text(element)?;
                    if scope.get(payload).contains(' ') {
                        return None;
                    }
                    self.scopes.push(scope);
                }
            }
        }
        Some(())
    }

    fn take<'p>(&mut self, payload: &'p [u8], name: &str, value: Raw<'p>) -> Result<(), ClaimError> {
        let text = |name| value.string().map(|text| Some(Text::new(payload, text))).ok_or(ClaimError::Malformed(name));
        let date = |name| UnixTime::from_json(value.text()).map(Some).ok_or(ClaimError::Malformed(name));
        match name {
            "iss" => self.iss = text("iss")?,
            "sub" => self.sub = text("sub")?,
            "jti" => self.jti = text("jti")?,
            "client_id" => self.client_id = text("client_id")?,
            // No claims of ours, so that what is neither string nor number there is nobody's fault.
            "azp" => self.azp = name_of(payload, value),
            "sid" => self.session = name_of(payload, value),
            "family" => self.family = name_of(payload, value),
            "tid" => self.tenant = name_of(payload, value),
            "exp" => self.exp = date("exp")?,
            "nbf" => self.nbf = date("nbf")?,
            "iat" => self.iat = date("iat")?,
            "aud" => {
                self.aud = one_or_many(payload, value).ok_or(ClaimError::Malformed("aud"))?;
                // An audience of nobody: neither absent nor anybody's.
                if self.aud.is_empty() {
                    return Err(ClaimError::Malformed("aud"));
                }
            }
            "scope" => self.scopes.extend(scopes(payload, value).ok_or(ClaimError::Malformed("scope"))?),
            "scp" => self.scopes.extend(scopes(payload, value).ok_or(ClaimError::Malformed("scp"))?),
            "cnf" => self.bound_to_key = true,
            "at_hash" | "c_hash" => self.id_token = true,
            // What two widely used issuers write into the payload.
            "token_use" => self.id_token |= value.string().is_some_and(|kind| kind == "id"),
            "typ" => self.id_token |= value.string().is_some_and(|kind| kind == "ID"),
            "events" => self.security_event = true,
            _ => {}
        }
        Ok(())
    }
}

/// A string, or a number or boolean as it is written.
fn name_of<'p>(payload: &'p [u8], value: Raw<'p>) -> Option<Text> {
    ClaimValue::new(value.text()).plain_text().map(|text| Text::new(payload, text))
}

/// A string of space-separated names, or an array of names: one with a space in it would be two. Nothing else separates names, so a
/// line break or a tab, which is part of none (RFC 6749 §3.3), would make one of two.
fn scopes(payload: &[u8], value: Raw<'_>) -> Option<SmallVec<[Text; 2]>> {
    let scopes = one_or_many(payload, value)?;
    let is_array = value.string().is_none();
    let separates = |byte: u8| byte.is_ascii_control() || is_array && byte == b' ';
    (!scopes.iter().any(|scope| scope.get(payload).bytes().any(separates))).then_some(scopes)
}

fn one_or_many(payload: &[u8], value: Raw<'_>) -> Option<SmallVec<[Text; 2]>> {
    match value.string() {
        Some(text) => Some(SmallVec::from_iter([Text::new(payload, text)])),
        None => Some(value.strings()?.into_iter().map(|text| Text::new(payload, text)).collect()),
    }
}
