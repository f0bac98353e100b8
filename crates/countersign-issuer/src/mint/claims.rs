use std::fmt;
use std::io;
use std::time::Duration;

use countersign_token::json::{self, ObjectError};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{MintError, write_text};

/// The type of an access token (RFC 9068 §2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The longest `typ`, bytes: that of a media type is 127 (RFC 6838 §4.2), of which it has two parts.
pub const MAX_TYPE_BYTES: usize = 255;

/// The most that a [`Mint`] takes in, bytes, whatever a [`Minter`](crate::Minter) then allows: more than any header of
/// a request carries, and little enough to be held for each caller.
pub const MAX_CLAIMS_BYTES: usize = 64 * 1024;

/// The claims that a caller cannot set: the issuer does. `kid`, `alg` and `typ` stand in the header; in the payload
/// they would only confuse.
const OWNED: [&str; 8] = ["iss", "iat", "nbf", "exp", "jti", "kid", "alg", "typ"];

/// The claims that decide what a token is good for: each has one setter and no other way in, so that whoever limits
/// callers has one place to look at.
const WITH_SETTER: [&str; 5] = [AUD, CLIENT_ID, CNF, SCOPE, SUB];

const AUD: &str = "aud";
const CLIENT_ID: &str = "client_id";
const CNF: &str = "cnf";
const SCOPE: &str = "scope";
const SUB: &str = "sub";

/// What a token is to say. Can be minted from as often as is wanted: `jti` and the times are new each time.
///
/// A setter that is given something impossible keeps it to itself; [`Minter::mint`](crate::Minter::mint) returns the
/// first of these errors.
///
/// ```
/// use countersign_issuer::Mint;
/// use std::time::Duration;
///
/// let mint = Mint::new(Duration::from_secs(300))
///     .subject("ada")
///     .audience("orders")
///     .client_id("web")
///     .scope("orders:read")
///     .claim("tenant", &"acme");
/// # let _ = mint;
/// ```
#[derive(Clone)]
pub struct Mint {
    typ: Option<Box<str>>,
    lifetime: Duration,
    is_clamped: bool,
    delay: Option<Duration>,
    max_token_bytes: Option<usize>,
    /// `"…","…"`.
    audiences: Vec<u8>,
    audience_count: usize,
    /// `… …`.
    scopes: String,
    /// `,"…":…,"…":…`: everything else.
    members: Vec<u8>,
    /// The one-time setters that were called, a bit for each of `WITH_SETTER`.
    set: u8,
    has_claims: bool,
    fault: Option<MintError>,
}

impl Mint {
    /// An access token that lives for that long: whole seconds, the rest is cut off. What is longer than the ring
    /// allows is refused, unless [told otherwise](Self::or_shorter).
    #[must_use]
    pub fn new(lifetime: Duration) -> Self {
        Self {
            typ: None,
            lifetime,
            is_clamped: false,
            delay: None,
            max_token_bytes: None,
            audiences: Vec::new(),
            audience_count: 0,
            scopes: String::new(),
            members: Vec::new(),
            set: 0,
            has_claims: false,
            fault: (lifetime < Duration::from_secs(1)).then_some(MintError::LifetimeTooShort),
        }
    }

    /// Where the ring does not allow so long a life, the longest that it does.
    #[must_use]
    pub fn or_shorter(mut self) -> Self {
        self.is_clamped = true;
        self
    }

    /// `typ` of the header, in place of [`ACCESS_TOKEN_TYPE`]: letters and digits of ASCII and `!#$&-^_.+/`, at most
    /// [`MAX_TYPE_BYTES`].
    #[must_use]
    pub fn typ(mut self, typ: impl Into<Box<str>>) -> Self {
        let typ = typ.into();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte);
        if typ.is_empty() || typ.len() > MAX_TYPE_BYTES || !typ.bytes().all(fits) {
            return self.fail(MintError::Malformed("typ"));
        }
        self.typ = Some(typ);
        self
    }

    /// `nbf`: that long after `iat`, in whole seconds, the rest cut off. Without it there is none.
    #[must_use]
    pub fn not_before(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The longest that the token may be, signature and all, bytes; a longer one is not signed. Without it only its
    /// payload is [limited](crate::Minter::max_payload_bytes).
    #[must_use]
    pub fn max_token_bytes(mut self, bytes: usize) -> Self {
        self.max_token_bytes = Some(bytes);
        self
    }

    /// `sub`: whom the token is about.
    #[must_use]
    pub fn subject(self, subject: &str) -> Self {
        self.text(SUB, subject)
    }

    /// `client_id`: who asks for it (RFC 8693 §4.3).
    #[must_use]
    pub fn client_id(self, client: &str) -> Self {
        self.text(CLIENT_ID, client)
    }

    /// `aud`: whom the token is for. Called again, for them too.
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        self.with(|mint| {
            if audience.is_empty() {
                return Err(MintError::Malformed(AUD));
            }
            if mint.audience_count > 0 {
                mint.audiences.push(b',');
            }
            mint.audience_count += 1;
            write_text(&mut mint.audiences, audience);
            Ok(())
        })
    }

    /// One more of the scopes in `scope`, or several with spaces between them (RFC 6749 §3.3).
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        self.with(|mint| {
            for scope in scope.split(' ') {
                if scope.is_empty() || !scope.bytes().all(fits) {
                    return Err(MintError::Malformed(SCOPE));
                }
                if !mint.scopes.is_empty() {
                    mint.scopes.push(' ');
                }
                mint.scopes.push_str(scope);
            }
            Ok(())
        })
    }

    /// `cnf` (RFC 7800 §3.1): the key that whoever shows the token must prove to have, such as `{"jkt": …}` (RFC 9449
    /// §6.1) or `{"x5t#S256": …}` (RFC 8705 §3.1). An object; a verifier that cannot check it refuses the token.
    #[must_use]
    pub fn confirmation(self, confirmation: &impl Serialize) -> Self {
        self.with(|mint| {
            mint.set_once(CNF)?;
            mint.members.extend_from_slice(b",\"cnf\":");
            let start = mint.members.len();
            mint.write_json(confirmation)?;
            let mut is_empty = true;
            match json::members(&mint.members[start..], usize::MAX, |_, _| is_empty = false) {
                Ok(()) if !is_empty => Ok(()),
                _ => Err(MintError::Malformed(CNF)),
            }
        })
    }

    /// One more claim.
    #[must_use]
    pub fn claim(self, name: &str, value: &impl Serialize) -> Self {
        self.claims(&One(name, value))
    }

    /// Further claims, of whatever is written as a JSON object. None that the issuer owns (`iss`, `iat`, `nbf`, `exp`,
    /// `jti`, nor the names of the header's `kid`, `alg` and `typ`), none that has a setter here (`sub`, `aud`,
    /// `scope`, `client_id`, `cnf`), none twice, at whatever depth.
    ///
    /// Everything else goes in as it is. Some verifiers take scopes from `scp` as well, clients from `azp`, and some
    /// claims for the mark of an ID token (`at_hash`, `events`); whoever lets strangers choose names should list those
    /// that they may.
    #[must_use]
    pub fn claims(self, claims: &impl Serialize) -> Self {
        self.with(|mint| mint.add_claims(claims))
    }

    pub(super) fn fault(&self) -> Option<MintError> {
        self.fault
    }

    pub(super) fn typ_or_default(&self) -> &str {
        self.typ.as_deref().unwrap_or(ACCESS_TOKEN_TYPE)
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    pub(super) fn is_clamped(&self) -> bool {
        self.is_clamped
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        self.delay
    }

    pub(super) fn most_bytes(&self) -> Option<usize> {
        self.max_token_bytes
    }

    /// About how many bytes [`write`](Self::write) writes.
    pub(super) fn len(&self) -> usize {
        self.audiences.len() + self.scopes.len() + self.members.len() + 32
    }

    /// Behind other members of an object, each with a comma in front.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.audience_count > 0 {
            let (open, close): (&[u8], &[u8]) = if self.audience_count == 1 { (b"", b"") } else { (b"[", b"]") };
            for part in [b",\"aud\":", open, &self.audiences, close] {
                out.extend_from_slice(part);
            }
        }
        if !self.scopes.is_empty() {
            // Scopes have no characters that are written otherwise in JSON.
            for part in [b",\"scope\":\"", self.scopes.as_bytes(), b"\""] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&self.members);
    }

    fn text(self, name: &'static str, text: &str) -> Self {
        self.with(|mint| {
            mint.set_once(name)?;
            if text.is_empty() {
                return Err(MintError::Malformed(name));
            }
            mint.members.extend_from_slice(b",\"");
            mint.members.extend_from_slice(name.as_bytes());
            mint.members.extend_from_slice(b"\":");
            write_text(&mut mint.members, text);
            Ok(())
        })
    }

    fn add_claims(&mut self, claims: &impl Serialize) -> Result<(), MintError> {
        let start = self.members.len();
        self.members.push(b',');
        self.write_json(claims)?;
        let mut forbidden = None;
        let mut is_empty = true;
        let object = &self.members[start + 1..];
        json::members(object, usize::MAX, |name, _| {
            is_empty = false;
            forbidden = forbidden.or_else(|| OWNED.iter().chain(&WITH_SETTER).find(|owned| **owned == name).copied());
        })
        .map_err(object_error)?;
        if let Some(name) = forbidden {
            return Err(MintError::ClaimNotPermitted(name));
        }
        if object.first() != Some(&b'{') || object.last() != Some(&b'}') {
            return Err(MintError::NotAnObject);
        }
        if is_empty {
            self.members.truncate(start);
            return Ok(());
        }
        self.members.remove(start + 1);
        self.members.pop();
        // Names that two calls have in common; those with a setter are in neither.
        if std::mem::replace(&mut self.has_claims, true) {
            let mut all = self.members.clone();
            if let Some(comma) = all.first_mut() {
                *comma = b'{';
            }
            all.push(b'}');
            json::members(&all, usize::MAX, |_, _| ()).map_err(object_error)?;
        }
        Ok(())
    }

    fn write_json(&mut self, value: &impl Serialize) -> Result<(), MintError> {
        let room = MAX_CLAIMS_BYTES.saturating_sub(self.members.len());
        let bounded = Bounded { out: &mut self.members, room };
        serde_json::to_writer(bounded, value).map_err(|error| match error.is_io() {
            true => MintError::PayloadTooLarge { most: MAX_CLAIMS_BYTES },
            false => MintError::NotAnObject,
        })
    }

    fn set_once(&mut self, name: &'static str) -> Result<(), MintError> {
        let bit = WITH_SETTER.iter().position(|known| *known == name).map_or(0, |bit| 1 << bit);
        if self.set & bit != 0 {
            return Err(MintError::DuplicateClaim(Some(name)));
        }
        self.set |= bit;
        Ok(())
    }

    /// Nothing more is taken in once something was wrong.
    fn with(mut self, change: impl FnOnce(&mut Self) -> Result<(), MintError>) -> Self {
        if self.fault.is_some() {
            return self;
        }
        match change(&mut self) {
            Err(fault) => self.fail(fault),
            Ok(()) if self.len() > MAX_CLAIMS_BYTES => self.fail(MintError::PayloadTooLarge { most: MAX_CLAIMS_BYTES }),
            Ok(()) => self,
        }
    }

    fn fail(mut self, fault: MintError) -> Self {
        self.fault.get_or_insert(fault);
        self
    }
}

/// Shows no claim.
impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mint").field("typ", &self.typ).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

struct One<'a, T>(&'a str, &'a T);

impl<T: Serialize> Serialize for One<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

/// Takes so much and no more.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn object_error(error: ObjectError) -> MintError {
    match error {
        ObjectError::DuplicateMember => MintError::DuplicateClaim(None),
        _ => MintError::NotAnObject,
    }
}
