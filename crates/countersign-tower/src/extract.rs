use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};

use crate::refusal::Refusal;

/// The Bearer token of a request, borrowed from its headers (RFC 6750 §2.1, RFC 9110 §11).
///
/// There must be one `Authorization` header, with the scheme `Bearer` in any case, one or more spaces, and a token without
/// white space or commas. The query string, the body and cookies are never looked at. Whether the token is worth anything
/// is not known afterwards.
///
/// # Errors
/// - [`Refusal::NoCredentials`]: no `Authorization` header, or one with another scheme;
/// - [`Refusal::ManyCredentials`]: several `Authorization` headers, whatever they hold;
/// - [`Refusal::MalformedCredentials`]: everything else.
///
/// ```
/// use countersign_tower::{Refusal, bearer_token};
/// use http::HeaderMap;
/// use http::header::{AUTHORIZATION, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// assert!(matches!(bearer_token(&headers), Err(Refusal::NoCredentials)));
/// headers.insert(AUTHORIZATION, HeaderValue::from_static("bearer a.b.c"));
/// assert_eq!(bearer_token(&headers)?, "a.b.c");
/// # Ok::<(), Refusal>(())
/// ```
pub fn bearer_token(headers: &HeaderMap) -> Result<&str, Refusal> {
    bearer_token_of(authorization(headers)?)
}

/// The only `Authorization` header.
pub(crate) fn authorization(headers: &HeaderMap) -> Result<&HeaderValue, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::NoCredentials)?;
    if values.next().is_some() { Err(Refusal::ManyCredentials) } else { Ok(value) }
}

/// What follows `Bearer ` in this `Authorization`, whatever it is, as nearly everybody writes it: [`bearer_token_of`] finds the same token if these
/// [are credentials](are_credentials), and something wrong with it otherwise.
pub(crate) fn octets_behind_bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, credentials) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !credentials.starts_with(b" ")).then_some(credentials)
}

/// The token in this `Authorization`.
pub(crate) fn bearer_token_of(value: &HeaderValue) -> Result<&str, Refusal> {
    let value = printable(value.as_bytes()).ok_or(Refusal::MalformedCredentials)?;
    let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.is_empty() || !scheme.bytes().all(is_tchar) {
        return Err(Refusal::MalformedCredentials);
    }
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Refusal::NoCredentials);
    }
    let token = credentials.trim_start_matches(' ');
    if are_credentials(token.as_bytes()) { Ok(token) } else { Err(Refusal::MalformedCredentials) }
}

/// Whether this can be what follows the scheme: one or more printable characters, no space, and no comma, which is what a proxy writes between two
/// headers that it joins.
pub(crate) fn are_credentials(octets: &[u8]) -> bool {
    !octets.is_empty() && !any(octets, |byte| !matches!(byte, b'!'..=b'~') | (byte == b','))
}

/// Whether this `Authorization` has well-formed credentials of another scheme than `Bearer`.
pub(crate) fn is_of_another_scheme(value: &HeaderValue) -> bool {
    matches!(bearer_token_of(value), Err(Refusal::NoCredentials))
}

/// Whether `text` can be a token anywhere: one or more characters of RFC 6750 §2.1's `b64token`.
pub(crate) fn is_token_text(text: &str) -> bool {
    !text.is_empty() && !any(text.as_bytes(), |byte| !(byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)))
}

/// The value as text, if it is printable ASCII and tabs; a header value may hold any octet but NUL, CR and LF.
fn printable(value: &[u8]) -> Option<&str> {
    if any(value, |byte| !matches!(byte, b'\t' | b' '..=b'~')) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// Looks at all octets, without leaving early: so it is vector code, and a token is a thousand octets that are fine.
fn any(octets: &[u8], is_odd: impl Fn(u8) -> bool) -> bool {
    octets.iter().fold(false, |odd, octet| odd | is_odd(*octet))
}

/// RFC 9110 §5.6.2: what the names of schemes, cookies and WebSocket protocols are made of.
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// One header for each value; expected is the token, or the refusal's code.
    fn check(values: &[&[u8]], expected: Result<&str, &str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        let found = bearer_token(&headers);
        let shown: Vec<_> = values.iter().map(|value| value.escape_ascii().to_string()).collect();
        assert_eq!(found.as_ref().copied().map_err(Refusal::code), expected, "{shown:?}");
    }

    const NONE: Result<&str, &str> = Err("no_credentials");
    const MALFORMED: Result<&str, &str> = Err("malformed_credentials");
    const MANY: Result<&str, &str> = Err("many_credentials");

    #[test]
    fn statement_1_the_bearer_header_form_is_accepted() {
        check(&[b"Bearer a.b.c"], Ok("a.b.c"));
        check(&[b"Bearer   a.b.c"], Ok("a.b.c"));
        check(&[b"Bearer AZaz09-._~+/=="], Ok("AZaz09-._~+/=="));
    }

    #[test]
    fn what_follows_bearer_is_the_token_unless_something_is_wrong_with_it() {
        for octet in (0..=255).filter(|octet| HeaderValue::from_bytes(&[*octet]).is_ok()) {
            for at in 0..27 {
                let mut value = *b"Bearer aaaaaa.bbbbbb.cccccc";
                value[at] = octet;
                let value = HeaderValue::from_bytes(&value).unwrap();
                let Some(octets) = octets_behind_bearer(&value) else { continue };
                match bearer_token_of(&value) {
                    Ok(token) => assert_eq!((octets, are_credentials(octets)), (token.as_bytes(), true)),
                    Err(refusal) => {
                        assert_eq!((refusal.code(), are_credentials(octets)), ("malformed_credentials", false));
                    }
                }
            }
        }
        let octets = |value| octets_behind_bearer(&HeaderValue::from_static(value)).map(<[u8]>::len);
        assert_eq!(
            ["Bearer a.b.c", "bearer a", "Bearer ", "Bearer  a", "Basic aa"].map(octets),
            [Some(5), Some(1), Some(0), None, None]
        );
    }

    #[test]
    fn statement_2_the_scheme_compares_case_insensitively() {
        check(&[b"bearer a.b.c"], Ok("a.b.c"));
        check(&[b"BEARER a.b.c"], Ok("a.b.c"));
        check(&[b"bEaReR a.b.c"], Ok("a.b.c"));
    }

    #[test]
    fn statement_5_a_repeated_header_is_refused_whatever_it_holds() {
        check(&[b"Bearer a.b.c", b"Bearer a.b.c"], MANY);
        check(&[b"Bearer a.b.c", b"Basic YTpi"], MANY);
        check(&[b"Basic YTpi", b"Bearer a.b.c"], MANY);
        check(&[b"", b"Bearer a.b.c"], MANY);
        check(&[b"Basic YTpi", b"Digest x"], MANY);
    }

    #[test]
    fn other_schemes_are_no_bearer_credentials() {
        check(&[], NONE);
        check(&[b"Basic YTpi"], NONE);
        check(&[b"DPoP a.b.c"], NONE);
        check(&[b"Negotiate"], NONE);
        check(&[b"Bearerish a.b.c"], NONE);
        check(&[b"Bearera.b.c"], NONE);
        check(&[b"BearerBearer a.b.c"], NONE);
    }

    #[test]
    fn t27_smuggled_and_broken_headers_are_refused() {
        check(&[b""], MALFORMED);
        check(&[b" "], MALFORMED);
        check(&[b"Bearer"], MALFORMED);
        check(&[b"Bearer "], MALFORMED);
        check(&[b"Bearer    "], MALFORMED);
        check(&[b" Bearer a.b.c"], MALFORMED);
        check(&[b"\tBearer a.b.c"], MALFORMED);
        check(&[b"Bearer\ta.b.c"], MALFORMED);
        check(&[b"Bearer \ta.b.c"], MALFORMED);
        check(&[b"Bearer a.b.c "], MALFORMED);
        check(&[b"Bearer a.b.c\t"], MALFORMED);
        check(&[b"Bearer a b"], MALFORMED);
        check(&[b"Bearer a.b.c, Bearer d.e.f"], MALFORMED);
        check(&[b"Bearer a.b.c,Bearer"], MALFORMED);
        check(&[b"Bearer, Bearer a.b.c"], MALFORMED);
        check(&[b"Bearer, a.b.c"], MALFORMED);
        check(&[b"Bearer=a.b.c"], MALFORMED);
        check(&[b"Bearer: a.b.c"], MALFORMED);
        check(&[b"\"Bearer\" a.b.c"], MALFORMED);
        check(&[b"Bearer a.b.\xff"], MALFORMED);
        check(&[b"Bearer a.b.\xc3\xa9"], MALFORMED);
        check(&[b"\xefBearer a.b.c"], MALFORMED);
        check(&[b"B\xc3\xa9arer a.b.c"], MALFORMED);
        // A no-break space separates nothing.
        check(&[b"Bearer\xc2\xa0a.b.c"], MALFORMED);
    }
}
