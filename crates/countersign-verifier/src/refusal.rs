use std::fmt;
use std::time::Duration;

use countersign_claims::revocation::{RevocationError, Revoked};
use countersign_claims::{ClaimError, ClaimsTypeError};
use countersign_token::{Algorithm, SignatureError, TokenError, Unready};

/// Why a token was not accepted, in full, for the operator: with up to 64 characters, escaped, of an `iss`, `aud` or `typ` that
/// was not wanted. What the client is told is decided elsewhere, and is less.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It could not be taken apart.
    Token(TokenError),
    /// Its algorithm is not one of those allowed.
    AlgorithmNotAllowed(Algorithm),
    /// It has no `kid`, and one is required.
    KidRequired,
    /// No key of its issuer fits, and we have looked.
    UnknownKey,
    /// It says that it is from an issuer that is none of those whose keys we have, or from none.
    UnknownIssuer,
    /// No key of its issuer fits, and we have not looked: its claims, which nobody has vouched for, would be refused too.
    ///
    /// It comes at once, where a token with good claims waits for its key: strangers can find out which `iss` and `aud` are
    /// wanted here. These are no secrets.
    KeyNotSought(Box<ClaimError>),
    /// Its signature is not that of the key it names.
    Signature(SignatureError),
    /// Its claims.
    Claim(ClaimError),
    /// Its claims do not fit the type that was asked for.
    ClaimsType(ClaimsTypeError),
    /// It is revoked.
    Revoked(Revoked),
    /// It lacks what it would be revoked by, and that is demanded: `jti`, `iat`, or a [`Level`](countersign_claims::revocation::Level)'s name.
    Irrevocable(&'static str),
    /// What is known of revocations is too old, and tokens are to be refused then.
    RevocationsStale {
        /// How old it is; `None`: nothing is known, or not all of it.
        age: Option<Duration>,
        /// When asking again may help.
        retry_after: Duration,
    },
    /// No key fits, there are others, and nobody could look in time whether this one is new.
    KeyNotCheckedYet {
        /// When asking again may help.
        retry_after: Duration,
    },
    /// There are no keys to check any token with.
    KeysUnavailable {
        /// Why.
        reason: Unready,
        /// When asking again may help.
        retry_after: Duration,
    },
}

/// Whose fault it is, and so what the answer is. One is never given for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The token's: HTTP 401, gRPC 16 `UNAUTHENTICATED`.
    Token,
    /// Nobody's yet: ask again, with the same token. HTTP 429 with `Retry-After`, gRPC 14 `UNAVAILABLE`.
    AskAgain,
    /// Ours: no token can be judged. HTTP 503 with `Retry-After`, gRPC 14 `UNAVAILABLE`.
    Unavailable,
}

impl Refusal {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::KeyNotCheckedYet { .. } => Fault::AskAgain,
            Self::KeysUnavailable { .. } | Self::RevocationsStale { .. } => Fault::Unavailable,
            _ => Fault::Token,
        }
    }

    /// When asking again may help; only where it may.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::KeyNotCheckedYet { retry_after }
            | Self::KeysUnavailable { retry_after, .. }
            | Self::RevocationsStale { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// A short stable name for metrics and logs, out of a fixed set; it contains nothing of the token.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => match error {
                TokenError::TooLong { .. } => "token_too_long",
                TokenError::NotThreeParts => "not_three_parts",
                TokenError::Encrypted => "encrypted",
                TokenError::Base64(_) => "not_base64url",
                TokenError::HeaderTooLong => "header_too_long",
                TokenError::NotAnObject(_) => "header_not_an_object",
                TokenError::DuplicateMember(_) => "header_duplicate_member",
                TokenError::TooManyHeaderMembers => "header_too_many_members",
                TokenError::MissingAlgorithm => "alg_missing",
                TokenError::UnsignedAlgorithm => "alg_none",
                TokenError::UnknownAlgorithm => "alg_unknown",
                TokenError::CriticalHeader => "crit",
                TokenError::TransformedPayload => "payload_transformed",
                _ => "header_malformed",
            },
            Self::AlgorithmNotAllowed(_) => "alg_not_allowed",
            Self::KidRequired => "kid_required",
            Self::UnknownKey => "unknown_key",
            Self::UnknownIssuer => "unknown_issuer",
            Self::KeyNotSought(_) => "key_not_sought",
            Self::Signature(error) => match error {
                SignatureError::Base64(_) => "not_base64url",
                SignatureError::TooShort => "signature_too_short",
                _ => "bad_signature",
            },
            Self::Claim(error) => error.code(),
            Self::ClaimsType(_) => "claims_type",
            Self::Revoked(why) => why.code(),
            Self::Irrevocable(_) => "irrevocable",
            Self::RevocationsStale { .. } => "revocations_stale",
            Self::KeyNotCheckedYet { .. } => "key_not_checked_yet",
            Self::KeysUnavailable { reason, .. } => match reason {
                Unready::Starting => "keys_starting",
                Unready::TooOld => "keys_too_old",
                Unready::NoRuntime => "keys_no_runtime",
                _ => "keys_never_fetched",
            },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => error.fmt(f),
            Self::AlgorithmNotAllowed(algorithm) => write!(f, "the algorithm {algorithm} is not allowed here"),
            Self::KidRequired => f.write_str("the token has no `kid`, and one is required here"),
            Self::UnknownKey => f.write_str("no key in force has the token's `kid` and can do its algorithm"),
            Self::UnknownIssuer => {
                f.write_str("the token's `iss` is none of the issuers whose tokens are accepted here")
            }
            Self::KeyNotSought(fault) => {
                write!(f, "no key fits, and none was looked for, because its claims would be refused: {fault}")
            }
            Self::Signature(error) => error.fmt(f),
            Self::Claim(error) => error.fmt(f),
            Self::ClaimsType(error) => error.fmt(f),
            Self::Revoked(why) => RevocationError::Revoked(*why).fmt(f),
            Self::Irrevocable(what) => RevocationError::Irrevocable(what).fmt(f),
            Self::RevocationsStale { age, retry_after } => {
                write!(f, "{}; try again in {retry_after:?}", RevocationError::Stale { age: *age })
            }
            Self::KeyNotCheckedYet { retry_after } => {
                write!(f, "the key is not known, and could not be looked for in time; try again in {retry_after:?}")
            }
            Self::KeysUnavailable { reason, retry_after } => write!(f, "{reason}; try again in {retry_after:?}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

impl From<ClaimError> for Refusal {
    fn from(error: ClaimError) -> Self {
        Self::Claim(error)
    }
}

impl From<ClaimsTypeError> for Refusal {
    fn from(error: ClaimsTypeError) -> Self {
        Self::ClaimsType(error)
    }
}

impl From<RevocationError> for Refusal {
    fn from(error: RevocationError) -> Self {
        match error {
            RevocationError::Revoked(why) => Self::Revoked(why),
            RevocationError::Irrevocable(what) => Self::Irrevocable(what),
            RevocationError::Stale { age } => Self::RevocationsStale { age, retry_after: RETRY_STALE_AFTER },
            // What this version does not know is not an acceptance.
            _ => Self::RevocationsStale { age: None, retry_after: RETRY_STALE_AFTER },
        }
    }
}

/// When to ask again of revocations that are out of date: feeds look every second, and hurrying clients help none of them.
const RETRY_STALE_AFTER: Duration = Duration::from_secs(5);
