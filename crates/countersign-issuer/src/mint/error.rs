use std::fmt;
use std::time::Duration;

use countersign_token::SignError;

use crate::step::NotSigning;

/// Why there is no token. Has names of claims in it, never what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MintError {
    /// No key of that slot may sign, here and now.
    NotSigning(NotSigning),
    /// Longer than the slot's tokens, or the key, may live.
    LifetimeTooLong {
        /// What would do, now, in whole seconds.
        most: Duration,
    },
    /// Less than a second.
    LifetimeTooShort,
    /// It would expire before it became valid.
    NeverValid,
    /// A claim that the issuer owns, or that has a setter of its own.
    ClaimNotPermitted(&'static str),
    /// A claim that is there twice, at whatever depth; its name, if there is a setter for it.
    DuplicateClaim(Option<&'static str>),
    /// Not what this claim, or `typ`, can be.
    Malformed(&'static str),
    /// Further claims that are no JSON object, cannot be written as one, or are nested too deep.
    NotAnObject,
    /// The payload, JSON before it is encoded, has more than so many bytes.
    PayloadTooLarge {
        /// So many bytes.
        most: usize,
    },
    /// The token would be longer than its [`Mint`](crate::Mint) allows.
    TokenTooLarge {
        /// So many bytes.
        size: usize,
        /// How many bytes would do.
        most: usize,
    },
    /// The signer failed, or its signature has not the length that it must have.
    Sign(SignError),
}

impl MintError {
    /// A stable name, for answers, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotSigning(NotSigning::NoSuchSlot) => "unknown_slot",
            Self::NotSigning(_) => "key_unavailable",
            Self::LifetimeTooLong { .. } => "ttl_exceeds_policy",
            Self::ClaimNotPermitted(_) => "claim_not_permitted",
            Self::PayloadTooLarge { .. } | Self::TokenTooLarge { .. } => "payload_too_large",
            Self::Sign(_) => "signing_failed",
            Self::LifetimeTooShort
            | Self::NeverValid
            | Self::DuplicateClaim(_)
            | Self::Malformed(_)
            | Self::NotAnObject => "invalid_request",
        }
    }

    /// Whether the same may succeed later: it is not the caller's fault.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Sign(_) | Self::NotSigning(_)) && !matches!(self, Self::NotSigning(NotSigning::NoSuchSlot))
    }
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSigning(reason) => reason.fmt(f),
            Self::LifetimeTooLong { most } => write!(f, "a token may live for {} s at most", most.as_secs()),
            Self::LifetimeTooShort => f.write_str("a token lives for a second at least"),
            Self::NeverValid => f.write_str("the token would expire before it became valid"),
            Self::ClaimNotPermitted(name) => write!(f, "`{name}` is not among the claims that may be added"),
            Self::DuplicateClaim(Some(name)) => write!(f, "`{name}` was set twice"),
            Self::DuplicateClaim(None) => f.write_str("a claim is there twice"),
            Self::Malformed(name) => write!(f, "`{name}` is malformed"),
            Self::NotAnObject => f.write_str("the claims are not a JSON object"),
            Self::PayloadTooLarge { most } => write!(f, "the claims have more than {most} bytes"),
            Self::TokenTooLarge { size, most } => write!(f, "the token would have {size} bytes, and may have {most}"),
            Self::Sign(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MintError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotSigning(reason) => Some(reason),
            Self::Sign(error) => Some(error),
            _ => None,
        }
    }
}

impl From<NotSigning> for MintError {
    fn from(reason: NotSigning) -> Self {
        Self::NotSigning(reason)
    }
}

impl From<SignError> for MintError {
    fn from(error: SignError) -> Self {
        Self::Sign(error)
    }
}
