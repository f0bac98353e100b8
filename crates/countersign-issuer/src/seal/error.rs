use std::fmt;

use super::{KekId, MAX_PRIVATE_DER_BYTES};

/// Why something that was sealed does not open, or was not sealed. Carries nothing of it.
///
/// None of these says that a key is missing, so none of them is a reason to make another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// It was sealed under a key-encryption key that is not in the ring.
    UnknownKek(KekId),
    /// It was changed, or sealed for another issuer, key, algorithm, purpose or time.
    Undecryptable,
    /// It is nothing that was sealed here.
    Malformed,
    /// It was sealed by a later version of this crate.
    UnknownVersion(u8),
    /// The state document was not written by anybody who has the key-encryption key, or for another issuer.
    Forged,
    /// There is more of it than is ever sealed.
    TooLarge,
    /// The crypto library or its source of randomness failed.
    Crypto,
}

impl SealError {
    /// As it stands in metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownKek(_) => "unknown_kek",
            Self::Undecryptable => "undecryptable",
            Self::Malformed => "malformed",
            Self::UnknownVersion(_) => "unknown_version",
            Self::Forged => "forged",
            Self::TooLarge => "too_large",
            Self::Crypto => "crypto",
        }
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKek(id) => {
                write!(f, "it is sealed under the key-encryption key {id}, which is not in the ring")
            }
            Self::Undecryptable => f.write_str("it does not open: it was changed, or is another key's"),
            Self::Malformed => f.write_str("it is nothing that was sealed here"),
            Self::UnknownVersion(version) => write!(f, "it is sealed in the format {version}, and this is format 1"),
            Self::Forged => f.write_str("the state document was changed by somebody, or is another issuer's"),
            Self::TooLarge => write!(f, "a private key has at most {MAX_PRIVATE_DER_BYTES} bytes"),
            Self::Crypto => f.write_str("the crypto library failed"),
        }
    }
}

impl std::error::Error for SealError {}

/// Why there is no key-encryption key. Carries nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KekError {
    /// It is none: the reason.
    Malformed(&'static str),
    /// It must not be used as it is kept: which file, and what to do.
    Unfit(Box<str>),
    /// It could not be had: from where, and why.
    Unavailable(Box<str>),
    /// Such a ring cannot be: the reason.
    Ring(&'static str),
    /// The crypto library or its source of randomness failed.
    Crypto,
}

impl fmt::Display for KekError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) | Self::Ring(text) => f.write_str(text),
            Self::Unfit(text) | Self::Unavailable(text) => f.write_str(text),
            Self::Crypto => f.write_str("the crypto library failed"),
        }
    }
}

impl std::error::Error for KekError {}
