use std::borrow::Cow;

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::error::{Part, TokenError};
use crate::json::{self, ObjectError, Raw};

/// The longest decoded header that is read, bytes. The largest honest headers carry an `x5c` chain of three or four
/// certificates; everything else is below 500 bytes.
pub const MAX_HEADER_BYTES: usize = 6 * 1024;

/// The most members a header may have. RFC 7515 registers eleven.
pub const MAX_HEADER_MEMBERS: usize = 32;

/// The longest `kid` that is looked up, bytes. A SHA-512 thumbprint in hexadecimal has 128.
pub const MAX_KID_BYTES: usize = 256;

/// The JOSE header of a token: hostile text until the signature has been checked, and only data after it.
///
/// Members that could name a key (`jku`, `x5u`, `jwk`, `x5c`, `x5t`) are not even kept (RFC 8725 §3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    algorithm: Algorithm,
    kid: Option<Cow<'a, str>>,
    typ: Option<Cow<'a, str>>,
    cty: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    /// `alg`.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`: an opaque, case-sensitive name, at most [`MAX_KID_BYTES`] long, good for a look-up and for nothing else.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// `typ`, as written. Media types compare without regard to case and to a leading `application/` (RFC 7515 §4.1.9).
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// `cty`.
    #[must_use]
    pub fn cty(&self) -> Option<&str> {
        self.cty.as_deref()
    }

    /// Decodes and reads the first part of a token.
    pub(crate) fn decode(encoded: &str, scratch: &'a mut HeaderScratch) -> Result<Self, TokenError> {
        let length = base64url::decoded_len(encoded.len());
        if length > MAX_HEADER_BYTES {
            return Err(TokenError::HeaderTooLong);
        }
        let buffer = if length <= scratch.inline.len() {
            &mut scratch.inline[..]
        } else {
            scratch.spilled.resize(length, 0);
            &mut scratch.spilled[..]
        };
        let bytes = base64url::decode_into(encoded, buffer).map_err(|_| TokenError::Base64(Part::Header))?;
        Self::read(bytes)
    }

    fn read(bytes: &'a [u8]) -> Result<Self, TokenError> {
        let mut fields = Fields::default();
        json::members(bytes, MAX_HEADER_MEMBERS, |name, value| {
            // The first fault is the one reported, but the whole object is looked at: a duplicate name outweighs it.
            if fields.fault.is_none() {
                fields.fault = fields.take(&name, value).err();
            }
        })
        .map_err(|error| match error {
            ObjectError::NotAnObject => TokenError::NotAnObject(Part::Header),
            ObjectError::DuplicateMember => TokenError::DuplicateMember(Part::Header),
            ObjectError::TooManyMembers => TokenError::TooManyHeaderMembers,
        })?;
        if let Some(fault) = fields.fault {
            return Err(fault);
        }
        let algorithm = fields.algorithm.ok_or(TokenError::MissingAlgorithm)?;
        Ok(Self { algorithm, kid: fields.kid, typ: fields.typ, cty: fields.cty })
    }
}

/// Room for a decoded header, so that reading one allocates only when it is longer than any ordinary header.
pub struct HeaderScratch {
    inline: [u8; 256],
    spilled: Vec<u8>,
}

impl HeaderScratch {
    /// Empty room, good for one token at a time.
    #[must_use]
    pub const fn new() -> Self {
        Self { inline: [0; 256], spilled: Vec::new() }
    }
}

impl Default for HeaderScratch {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Default)]
struct Fields<'a> {
    algorithm: Option<Algorithm>,
    kid: Option<Cow<'a, str>>,
    typ: Option<Cow<'a, str>>,
    cty: Option<Cow<'a, str>>,
    fault: Option<TokenError>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &str, value: Raw<'a>) -> Result<(), TokenError> {
        let string = |name| value.string().ok_or(TokenError::MalformedHeaderMember(name));
        match name {
            "alg" => {
                let alg = string("alg")?;
                self.algorithm = Some(Algorithm::from_name(&alg).ok_or_else(|| {
                    if alg.eq_ignore_ascii_case("none") {
                        TokenError::UnsignedAlgorithm
                    } else {
                        TokenError::UnknownAlgorithm
                    }
                })?);
            }
            "kid" => {
                let kid = string("kid")?;
                if kid.len() > MAX_KID_BYTES {
                    return Err(TokenError::MalformedHeaderMember("kid"));
                }
                self.kid = Some(kid);
            }
            "typ" => self.typ = Some(string("typ")?),
            "cty" => self.cty = Some(string("cty")?),
            "crit" => return Err(TokenError::CriticalHeader),
            "zip" => return Err(TokenError::TransformedPayload),
            // RFC 7797: anything but the default would mean another payload than the one we would read.
            "b64" if value.boolean() != Some(true) => return Err(TokenError::TransformedPayload),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Header<'_>, TokenError> {
        Header::read(json.as_bytes())
    }

    #[test]
    fn reads_what_it_keeps_and_ignores_the_rest() {
        let header = read(
            r#"{"typ":"at+jwt","alg":"ES256","kid":"k\u0031","cty":"x","x5t":"AA","jwk":{"kty":"oct"},"n":1e999}"#,
        )
        .unwrap();
        assert_eq!(header.algorithm(), Algorithm::Es256);
        assert_eq!(header.kid(), Some("k1"));
        assert_eq!(header.typ(), Some("at+jwt"));
        assert_eq!(header.cty(), Some("x"));
    }

    #[test]
    fn refuses_what_it_must() {
        use TokenError::*;
        let long_kid = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(MAX_KID_BYTES + 1));
        let many = format!(
            r#"{{"alg":"ES256",{}}}"#,
            (0..MAX_HEADER_MEMBERS).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",")
        );
        for (json, expected) in [
            (r#"{}"#, MissingAlgorithm),
            (r#"{"typ":"JWT"}"#, MissingAlgorithm),
            (r#"{"alg":"none"}"#, UnsignedAlgorithm),
            (r#"{"alg":"nOnE"}"#, UnsignedAlgorithm),
            (r#"{"alg":"n\u006fne"}"#, UnsignedAlgorithm),
            (r#"{"alg":""}"#, UnknownAlgorithm),
            (r#"{"alg":"es256"}"#, UnknownAlgorithm),
            (r#"{"alg":"RSA-OAEP"}"#, UnknownAlgorithm),
            (r#"{"alg":null}"#, MalformedHeaderMember("alg")),
            (r#"{"alg":["ES256"]}"#, MalformedHeaderMember("alg")),
            (r#"{"alg":"ES256","kid":7}"#, MalformedHeaderMember("kid")),
            (r#"{"alg":"ES256","kid":null}"#, MalformedHeaderMember("kid")),
            (r#"{"alg":"ES256","typ":{}}"#, MalformedHeaderMember("typ")),
            (&long_kid, MalformedHeaderMember("kid")),
            (&many, TooManyHeaderMembers),
            (r#"{"alg":"ES256","crit":["exp"],"exp":1}"#, CriticalHeader),
            (r#"{"alg":"ES256","crit":[]}"#, CriticalHeader),
            (r#"{"alg":"ES256","crit":null}"#, CriticalHeader),
            (r#"{"alg":"ES256","zip":"DEF"}"#, TransformedPayload),
            (r#"{"alg":"ES256","b64":false}"#, TransformedPayload),
            (r#"{"alg":"ES256","alg":"none"}"#, DuplicateMember(Part::Header)),
            (r#"{"alg":"none","alg":"ES256"}"#, DuplicateMember(Part::Header)),
            (r#"["alg","ES256"]"#, NotAnObject(Part::Header)),
            (r#"{"alg":"ES256"}{}"#, NotAnObject(Part::Header)),
        ] {
            assert_eq!(read(json), Err(expected), "{json}");
        }
    }
}
