use std::fmt;

use memchr::{memchr, memrchr};

use crate::error::TokenError;
use crate::header::{Header, HeaderScratch};

/// The default limit on a token's length, bytes. It is what servers commonly grant all headers together, and four times
/// what the largest tokens of well-run issuers need.
pub const DEFAULT_MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A compact JWS of which nothing is known but where its three parts are.
///
/// For whoever has read the [same header](KnownHeader) before; [`UnverifiedToken::parse`] is for everybody else.
pub struct UnreadToken<'a> {
    text: &'a str,
    signing_input: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> UnreadToken<'a> {
    /// Takes `token` apart without copying it: length first, then the three parts.
    ///
    /// # Errors
    /// [`TokenError`], always the token's fault.
    pub fn split(token: &'a str, max_bytes: usize) -> Result<Self, TokenError> {
        if token.len() > max_bytes {
            return Err(TokenError::TooLong { length: token.len(), limit: max_bytes });
        }
        let (signing_input, signature) =
            around(token, memrchr(b'.', token.as_bytes())).ok_or(TokenError::NotThreeParts)?;
        let first_dot = memchr(b'.', signing_input.as_bytes());
        let (header, payload) = around(signing_input, first_dot).ok_or(TokenError::NotThreeParts)?;
        if memchr(b'.', payload.as_bytes()).is_some() {
            let dots = token.bytes().filter(|byte| *byte == b'.').count();
            return Err(if dots == 4 { TokenError::Encrypted } else { TokenError::NotThreeParts });
        }
        Ok(Self { text: token, signing_input, header, payload, signature })
    }

    /// The first part, as it stands in the token.
    #[must_use]
    pub fn encoded_header(&self) -> &'a str {
        self.header
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`TokenError`], always the token's fault.
    pub fn read(self, scratch: &'a mut HeaderScratch) -> Result<UnverifiedToken<'a>, TokenError> {
        let header = Header::decode(self.header, scratch)?;
        Ok(self.with(header, false))
    }

    /// The same without reading it, if it is `known`, octet by octet.
    ///
    /// # Errors
    /// The token as it was, if it has another header.
    pub fn recognise(self, known: &'a KnownHeader) -> Result<UnverifiedToken<'a>, Self> {
        if *known.encoded == *self.header { Ok(self.with(known.header.borrowed(), true)) } else { Err(self) }
    }

    fn with(self, header: Header<'a>, is_header_known: bool) -> UnverifiedToken<'a> {
        let Self { text, signing_input, payload, signature, .. } = self;
        UnverifiedToken { text, signing_input, payload, signature, header, is_header_known }
    }
}

/// The header part of a token, and what it says: tokens of one key have the same again and again.
pub struct KnownHeader {
    encoded: Box<str>,
    header: Header<'static>,
}

impl KnownHeader {
    /// That of this token.
    #[must_use]
    pub fn of(token: &UnverifiedToken<'_>) -> Self {
        Self { encoded: token.encoded_header().into(), header: token.header.to_owned() }
    }
}

/// A compact JWS that has been taken apart but not verified: it can be asked for its header and nothing else.
///
/// Its content comes out of [`verify`](Self::verify) only, so claims that nobody signed cannot be read by accident.
pub struct UnverifiedToken<'a> {
    text: &'a str,
    /// `header.payload`: what the signature is over (RFC 7515 §5.1).
    signing_input: &'a str,
    payload: &'a str,
    signature: &'a str,
    header: Header<'a>,
    is_header_known: bool,
}

impl<'a> UnverifiedToken<'a> {
    /// Takes `token` apart without copying it: length first, then the three parts, then the header.
    ///
    /// # Errors
    /// [`TokenError`], always the token's fault.
    pub fn parse(token: &'a str, max_bytes: usize, scratch: &'a mut HeaderScratch) -> Result<Self, TokenError> {
        UnreadToken::split(token, max_bytes)?.read(scratch)
    }

    /// The token, whole. It is what its bearer proves to be somebody with: it does not belong into logs.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The header, as the sender wrote it.
    #[must_use]
    pub fn header(&self) -> &Header<'a> {
        &self.header
    }

    /// The first part, as it stands in the token.
    #[must_use]
    pub fn encoded_header(&self) -> &'a str {
        // Behind it stand a dot and the payload.
        self.signing_input.get(..self.signing_input.len() - self.payload.len() - 1).unwrap_or_default()
    }

    /// Whether the header was not read, but [recognised](UnreadToken::recognise).
    #[must_use]
    pub fn is_header_known(&self) -> bool {
        self.is_header_known
    }

    pub(crate) fn signing_input(&self) -> &'a str {
        self.signing_input
    }

    pub(crate) fn encoded_payload(&self) -> &'a str {
        self.payload
    }

    pub(crate) fn encoded_signature(&self) -> &'a str {
        self.signature
    }
}

/// What stands before and behind the dot at `at`.
fn around(text: &str, at: Option<usize>) -> Option<(&str, &str)> {
    let (before, dot_and_behind) = text.split_at_checked(at?)?;
    Some((before, dot_and_behind.strip_prefix('.')?))
}

/// Shows nothing of it.
impl fmt::Debug for UnreadToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnreadToken")
    }
}

impl fmt::Debug for KnownHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KnownHeader").field(&self.header).finish()
    }
}

/// Shows the header only: a token in a log is a token in the hands of whoever reads it.
impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken").field("header", &self.header).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Part;
    use proptest::prelude::*;

    fn parse(token: &str) -> Result<(), TokenError> {
        UnverifiedToken::parse(token, DEFAULT_MAX_TOKEN_BYTES, &mut HeaderScratch::new()).map(drop)
    }

    /// `{"alg":"ES256"}`
    const HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";

    #[test]
    fn three_parts_and_no_more() {
        assert_eq!(parse(&format!("{HEADER}..")), Ok(()));
        for token in ["", "a", "a.b", &format!("{HEADER}.a.b.c"), &".".repeat(8000), &format!("{HEADER}.a.b.c.d.e")] {
            assert_eq!(parse(token), Err(TokenError::NotThreeParts), "{token}");
        }
        assert_eq!(parse(&format!("{HEADER}.a.b.c.d")), Err(TokenError::Encrypted));
    }

    #[test]
    fn length_is_checked_before_anything_is_decoded() {
        let token = format!("{}.a.b", "!".repeat(DEFAULT_MAX_TOKEN_BYTES));
        assert_eq!(
            parse(&token),
            Err(TokenError::TooLong { length: DEFAULT_MAX_TOKEN_BYTES + 4, limit: DEFAULT_MAX_TOKEN_BYTES })
        );
    }

    #[test]
    fn header_must_be_strict_base64url() {
        for header in
            [format!("{HEADER}="), format!(" {HEADER}"), HEADER.replace('J', "+"), format!("{}a", &HEADER[..17])]
        {
            assert_eq!(parse(&format!("{header}.e30.AA")), Err(TokenError::Base64(Part::Header)), "{header}");
        }
    }

    #[test]
    fn a_long_header_is_read_and_a_huge_one_is_not() {
        let with_chain = |length| {
            crate::base64url::encode(format!(r#"{{"alg":"ES256","x5c":["{}"]}}"#, "A".repeat(length)).as_bytes())
        };
        assert_eq!(parse(&format!("{}.e30.AA", with_chain(4000))), Ok(()));
        let huge = format!("{}.e30.AA", with_chain(7000));
        assert_eq!(
            UnverifiedToken::parse(&huge, usize::MAX, &mut HeaderScratch::new()).map(drop),
            Err(TokenError::HeaderTooLong)
        );
    }

    #[test]
    fn a_known_header_is_that_header_and_no_other() {
        let token = |header: &str| format!("{}.e30.AA", crate::base64url::encode(header.as_bytes()));
        let first = token(r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#);
        let mut scratch = HeaderScratch::new();
        let read = UnverifiedToken::parse(&first, 8192, &mut scratch).unwrap();
        assert!(!read.is_header_known());
        let known = KnownHeader::of(&read);
        let again = UnreadToken::split(&first, 8192).unwrap().recognise(&known).unwrap();
        assert!(again.is_header_known());
        assert_eq!((again.header(), again.encoded_header()), (read.header(), first.split('.').next().unwrap()));
        for other in [r#"{"alg":"ES256","kid":"k2","typ":"at+jwt"}"#, r#"{"alg":"ES256"}"#, "{}"] {
            let other = token(other);
            let unread = UnreadToken::split(&other, 8192).unwrap().recognise(&known).unwrap_err();
            assert_eq!(unread.encoded_header(), other.split('.').next().unwrap());
        }
    }

    proptest! {
        #[test]
        fn never_panics(token in r"\PC{0,60}", dotted in "[A-Za-z0-9_.-]{0,60}") {
            let _ = parse(&token);
            let _ = parse(&dotted);
        }
    }
}
