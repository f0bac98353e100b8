use std::error::Error;
use std::fmt;

/// One of the three parts of a compact JWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The JOSE header.
    Header,
    /// The claims.
    Payload,
    /// The signature.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a string is not a token that could be verified at all. Carries nothing of the token's own text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than the configured limit; nothing was decoded.
    TooLong {
        /// Length of the token, bytes.
        length: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// Not three parts separated by dots.
    NotThreeParts,
    /// Five parts: an encrypted token (JWE, RFC 7516), which is not supported.
    Encrypted,
    /// A part is not strict base64url.
    Base64(Part),
    /// The header is longer than [`MAX_HEADER_BYTES`](crate::MAX_HEADER_BYTES).
    HeaderTooLong,
    /// A part is not one JSON object in UTF-8, or is nested too deeply.
    NotAnObject(Part),
    /// A part has a member name twice (RFC 7515 §4, RFC 7519 §4).
    DuplicateMember(Part),
    /// The header has more than [`MAX_HEADER_MEMBERS`](crate::MAX_HEADER_MEMBERS).
    TooManyHeaderMembers,
    /// A header member has the wrong type, or is too long.
    MalformedHeaderMember(&'static str),
    /// `alg` is missing.
    MissingAlgorithm,
    /// `alg` is `none`, in any letter case (RFC 7518 §3.6).
    UnsignedAlgorithm,
    /// `alg` names no algorithm known here.
    UnknownAlgorithm,
    /// `crit` is present: no critical extension is implemented, and an empty list is illegal (RFC 7515 §4.1.11).
    CriticalHeader,
    /// `zip`, or `b64` other than `true`: a payload that is not the plain claims.
    TransformedPayload,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, limit } => write!(f, "token of {length} bytes, at most {limit} are allowed"),
            Self::NotThreeParts => f.write_str("not three parts separated by dots"),
            Self::Encrypted => f.write_str("five parts: an encrypted token (JWE) is not supported"),
            Self::Base64(part) => write!(f, "the {part} is not strict base64url"),
            Self::HeaderTooLong => write!(f, "the header is longer than {} bytes", crate::MAX_HEADER_BYTES),
            Self::NotAnObject(part) => write!(f, "the {part} is not one JSON object"),
            Self::DuplicateMember(part) => write!(f, "the {part} has a member name twice"),
            Self::TooManyHeaderMembers => {
                write!(f, "the header has more than {} members", crate::MAX_HEADER_MEMBERS)
            }
            Self::MalformedHeaderMember(name) => write!(f, "the header's `{name}` is malformed"),
            Self::MissingAlgorithm => f.write_str("the header has no `alg`"),
            Self::UnsignedAlgorithm => f.write_str("`alg` is `none`"),
            Self::UnknownAlgorithm => f.write_str("`alg` names no known algorithm"),
            Self::CriticalHeader => f.write_str("`crit` demands an extension that is not implemented"),
            Self::TransformedPayload => f.write_str("compressed or unencoded payloads are not supported"),
        }
    }
}

impl Error for TokenError {}

/// Why a token did not verify with the key it was tried against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// The key cannot do the token's algorithm.
    KeyNotEligible,
    /// The signature or the payload is not strict base64url.
    Base64(Part),
    /// The signature is shorter than every signature of this algorithm: most likely the token was cut off on its way.
    TooShort,
    /// The signature does not fit key and content.
    Mismatch,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyNotEligible => f.write_str("the key cannot do the token's algorithm"),
            Self::Base64(part) => write!(f, "the {part} is not strict base64url"),
            Self::TooShort => f.write_str("the signature is too short for its algorithm"),
            Self::Mismatch => f.write_str("the signature does not match"),
        }
    }
}

impl Error for SignatureError {}
