use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{MAX_LEEWAY, MAX_REQUIRED_CLAIMS};
use crate::time::UnixTime;

/// Why a signed payload is not accepted. Always the token's fault: 401 `invalid_token`.
///
/// Meant for the operator, not for the client: it says what was found and what was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// The payload is not one JSON object in UTF-8, or is nested too deeply.
    NotAnObject,
    /// The payload has a member name twice.
    DuplicateMember,
    /// A required claim is not there.
    Missing(Cow<'static, str>),
    /// A claim is there with the wrong type or an absurd value.
    Malformed(&'static str),
    /// The claim that the policy takes scopes from is there, or what should have it inside, with the wrong type.
    MalformedScopes {
        /// The configuration's name of it.
        claim: Box<str>,
    },
    /// `now >= exp + leeway`.
    Expired {
        /// `exp`.
        expired_at: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// `now < nbf - leeway`.
    NotYetValid {
        /// `nbf`.
        not_before: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// `iat` lies in the future by more than the leeway.
    IssuedInTheFuture {
        /// `iat`.
        issued_at: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// Issued longer ago than the policy's maximum age.
    TooOld {
        /// `iat`.
        issued_at: UnixTime,
        /// The time of the check.
        now: UnixTime,
        /// The limit.
        max_age: Duration,
    },
    /// `exp - iat` is more than the policy's maximum lifetime.
    LivesTooLong {
        /// `iat`.
        issued_at: UnixTime,
        /// `exp`.
        expires_at: UnixTime,
        /// The limit.
        max_lifetime: Duration,
    },
    /// `iss` is none of the configured issuers.
    WrongIssuer {
        /// What the token says.
        found: Found,
        /// What the policy says.
        wanted: Arc<[Box<str>]>,
    },
    /// The key that verified the token is bound to no issuer, and the policy demands that it is.
    KeyOfNoIssuer,
    /// No member of `aud` is a configured audience.
    WrongAudience {
        /// The first of what the token says.
        found: Found,
        /// What the policy says.
        wanted: Arc<[Box<str>]>,
    },
    /// `sub` does not satisfy the policy's rule.
    WrongSubject,
    /// `typ` is that of another kind of token.
    WrongType(Found),
    /// An ID token: it tells a client who has logged in, and is no credential for an API (RFC 8725 §3.12).
    IdToken,
    /// A security event or logout token (RFC 8417).
    SecurityEvent,
    /// The token is bound to a key (`cnf`), and proof of possession is not checked here.
    BoundToKey,
}

impl ClaimError {
    /// A short stable name for metrics and logs; it contains nothing of the token.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject => "payload_not_an_object",
            Self::DuplicateMember => "payload_duplicate_member",
            Self::Missing(_) => "claim_missing",
            Self::Malformed(_) | Self::MalformedScopes { .. } => "claim_malformed",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::IssuedInTheFuture { .. } => "issued_in_the_future",
            Self::TooOld { .. } => "too_old",
            Self::LivesTooLong { .. } => "lives_too_long",
            Self::WrongIssuer { .. } => "wrong_issuer",
            Self::KeyOfNoIssuer => "key_of_no_issuer",
            Self::WrongAudience { .. } => "wrong_audience",
            Self::WrongSubject => "wrong_subject",
            Self::WrongType(_) => "wrong_type",
            Self::IdToken => "id_token",
            Self::SecurityEvent => "security_event",
            Self::BoundToKey => "bound_to_key",
        }
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("the payload is not one JSON object"),
            Self::DuplicateMember => f.write_str("the payload has a member name twice"),
            Self::Missing(claim) => write!(f, "`{claim}` is missing"),
            Self::MalformedScopes { claim } => {
                write!(f, "`{claim}` has no scopes: neither a string nor an array of names")
            }
            Self::Malformed(claim) => write!(f, "`{claim}` has the wrong type or an absurd value"),
            Self::Expired { expired_at, now } => write!(f, "`exp` is {expired_at}, the time is {now}"),
            Self::NotYetValid { not_before, now } => write!(f, "`nbf` is {not_before}, the time is {now}"),
            Self::IssuedInTheFuture { issued_at, now } => write!(f, "`iat` is {issued_at}, the time is {now}"),
            Self::TooOld { issued_at, now, max_age } => {
                write!(f, "`iat` is {issued_at}, the time is {now}: older than {max_age:?}")
            }
            Self::LivesTooLong { issued_at, expires_at, max_lifetime } => {
                write!(f, "from `iat` {issued_at} to `exp` {expires_at}: longer than {max_lifetime:?}")
            }
            Self::WrongIssuer { found, wanted } => write!(f, "`iss` is {found}, wanted is one of {wanted:?}"),
            Self::KeyOfNoIssuer => {
                f.write_str("the key is bound to no issuer, and only keys that are may verify tokens here")
            }
            Self::WrongAudience { found, wanted } => write!(f, "`aud` is {found}, wanted is one of {wanted:?}"),
            Self::WrongSubject => f.write_str("`sub` does not satisfy the configured rule"),
            Self::WrongType(found) => write!(f, "`typ` is {found}, which is not that of an access token"),
            Self::IdToken => f.write_str("an ID token is not an access token"),
            Self::SecurityEvent => f.write_str("a security event is not an access token"),
            Self::BoundToKey => f.write_str("`cnf` binds the token to a key, and no proof of possession was checked"),
        }
    }
}

impl std::error::Error for ClaimError {}

/// What stood in a claim, for the operator: at most 64 characters, and shown with everything escaped that could disturb
/// a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Found(Box<str>);

impl Found {
    /// The first 64 characters of `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        const LONGEST: usize = 64;
        let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(end, _)| end);
        Self(text[..end].into())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a configuration cannot be used. The owner's fault: found when it is put together, never at a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A leeway above [`MAX_LEEWAY`].
    LeewayTooLong(Duration),
    /// An empty issuer, audience, claim name or type.
    Empty(&'static str),
    /// Neither the name of a claim nor a JSON Pointer (RFC 6901) into one.
    NotAPointer(Box<str>),
    /// Not a scope token (RFC 6749 §3.3).
    NotAScope(Box<str>),
    /// More than 64 required claims.
    TooManyRequiredClaims,
    /// A type that belongs to another kind of token: never an access token.
    ForeignType(Box<str>),
    /// Unbound tokens are denied, but this is not set: tokens meant for others would pass.
    Unbound(&'static str),
    /// The RFC 9068 profile needs this to be set.
    ProfileNeeds(&'static str),
    /// A maximum lifetime is set together with a leave to omit `exp`.
    LifetimeWithoutExpiry,
    /// No algorithm is allowed.
    NoAlgorithm,
    /// HMAC algorithms are allowed together with keys from elsewhere: only secrets configured here can be used for them.
    HmacWithFetchedKeys,
    /// Of the keys configured here, none can do an allowed algorithm.
    NoUsableKey,
    /// Something else is wrong, in the words of the crate that found it.
    Other(Cow<'static, str>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeewayTooLong(leeway) => write!(f, "a leeway of {leeway:?} is more than {MAX_LEEWAY:?}"),
            Self::Empty(what) => write!(f, "an empty {what}"),
            Self::NotAPointer(text) => write!(f, "{text:?} is neither the name of a claim nor a JSON Pointer (RFC 6901)"),
            Self::NotAScope(text) => write!(f, "{text:?} is not a scope (RFC 6749 §3.3)"),
            Self::TooManyRequiredClaims => write!(f, "more than {MAX_REQUIRED_CLAIMS} required claims"),
            Self::ForeignType(typ) => write!(f, "`{typ}` is the type of another kind of token, never of an access token"),
            Self::Unbound(what) => {
                write!(f, "no {what} is set, but deny_unbound() was asked for: call .{what}(…)")
            }
            Self::ProfileNeeds(what) => write!(f, "the RFC 9068 access-token profile needs an {what}: call .{what}(…)"),
            Self::LifetimeWithoutExpiry => {
                f.write_str("a maximum lifetime cannot be checked on tokens that may lack `exp`")
            }
            Self::NoAlgorithm => f.write_str("no algorithm is allowed"),
            Self::HmacWithFetchedKeys => {
                f.write_str("HMAC algorithms need a secret configured here; fetched keys are never used for them")
            }
            Self::NoUsableKey => f.write_str(
                "none of the configured keys can do an allowed algorithm; HMAC secrets need .algorithms(…), because only \
                 asymmetric algorithms are allowed by default",
            ),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}
