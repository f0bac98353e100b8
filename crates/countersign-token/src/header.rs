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

/// The longest text with escapes that is kept, bytes as written: it takes memory. That of most kids in nothing but escapes.
const MAX_ESCAPED_BYTES: usize = 512;

/// The longest `typ` and `cty`, bytes: two names of RFC 6838 §4.2 and a slash.
const MAX_MEDIA_TYPE_BYTES: usize = 127 + 1 + 127;

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

    /// The same, borrowed.
    pub(crate) fn borrowed(&self) -> Header<'_> {
        fn borrowed<'h>(text: &'h Option<Cow<'_, str>>) -> Option<Cow<'h, str>> {
            text.as_deref().map(Cow::Borrowed)
        }
        Header {
            algorithm: self.algorithm,
            kid: borrowed(&self.kid),
            typ: borrowed(&self.typ),
            cty: borrowed(&self.cty),
        }
    }

    /// The same with all its text.
    pub(crate) fn to_owned(&self) -> Header<'static> {
        fn owned(text: &Option<Cow<'_, str>>) -> Option<Cow<'static, str>> {
            text.as_deref().map(|text| Cow::Owned(text.to_owned()))
        }
        Header { algorithm: self.algorithm, kid: owned(&self.kid), typ: owned(&self.typ), cty: owned(&self.cty) }
    }

    /// Decodes and reads the first part of a token.
    pub(crate) fn decode(encoded: &str, scratch: &'a mut HeaderScratch) -> Result<Self, TokenError> {
        let length = base64url::decoded_len(encoded.len());
        if length > MAX_HEADER_BYTES {
            return Err(TokenError::HeaderTooLong);
        }
        let not_base64 = |_| TokenError::Base64(Part::Header);
        if length <= scratch.0.len() {
            return Self::read(base64url::decode_into(encoded, &mut scratch.0).map_err(not_base64)?);
        }
        // Of a long one, with a chain of certificates in it, only the short texts are kept.
        base64url::look_at(encoded, |bytes| Header::read(bytes).map(|header| header.to_owned())).map_err(not_base64)?
    }

    fn read(bytes: &'a [u8]) -> Result<Self, TokenError> {
        let mut fields = Fields::default();
        json::members_of_header(bytes, MAX_HEADER_MEMBERS, |name, value| {
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

/// Room for a decoded header, so that reading one allocates only when it is longer than any ordinary header, and then no more than what is kept of it.
pub struct HeaderScratch([u8; 256]);

impl HeaderScratch {
    /// Empty room, good for one token at a time.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; 256])
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
        let string = |name| value.string_of_at_most(MAX_ESCAPED_BYTES).ok_or(TokenError::MalformedHeaderMember(name));
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
            "typ" => self.typ = Some(string("typ").and_then(|typ| media_type("typ", typ))?),
            "cty" => self.cty = Some(string("cty").and_then(|cty| media_type("cty", cty))?),
            "crit" => return Err(TokenError::CriticalHeader),
            "zip" => return Err(TokenError::TransformedPayload),
            // RFC 7797: anything but the default would mean another payload than the one we would read.
            "b64" if value.boolean() != Some(true) => return Err(TokenError::TransformedPayload),
            _ => {}
        }
        Ok(())
    }
}

fn media_type<'a>(member: &'static str, value: Cow<'a, str>) -> Result<Cow<'a, str>, TokenError> {
    if value.len() > MAX_MEDIA_TYPE_BYTES { Err(TokenError::MalformedHeaderMember(member)) } else { Ok(value) }
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
        let long_typ = format!(r#"{{"alg":"ES256","typ":"{}"}}"#, "t".repeat(MAX_MEDIA_TYPE_BYTES + 1));
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
            (&long_typ, MalformedHeaderMember("typ")),
            (&long_typ.replace("typ", "cty"), MalformedHeaderMember("cty")),
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
