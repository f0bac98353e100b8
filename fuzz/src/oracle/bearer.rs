//! The `Authorization` header (RFC 6750 §2.1, RFC 9110 §11.4) and the content types of gRPC.

/// The most octets of a token that the layer reads (its default).
const MAX_TOKEN_OCTETS: usize = 8 * 1024;

/// What the values of the `Authorization` header fields of one request are.
#[derive(Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    None,
    Many,
    Malformed,
    Token(&'a [u8]),
}

pub fn of(values: &[Vec<u8>]) -> Credentials<'_> {
    let value = match values {
        [] => return Credentials::None,
        [value] => value.as_slice(),
        _ => return Credentials::Many,
    };
    // A token that is too long, one space after the scheme, is refused for its length, unread.
    if let Some((scheme, token)) = value.split_at_checked(b"Bearer ".len())
        && scheme.eq_ignore_ascii_case(b"Bearer ")
        && token.len() > MAX_TOKEN_OCTETS
        && !token.starts_with(b" ")
    {
        return Credentials::Token(token);
    }
    if value.iter().any(|octet| !(octet.is_ascii_graphic() || *octet == b' ' || *octet == b'\t')) {
        return Credentials::Malformed;
    }
    let scheme_end = value.iter().position(|octet| *octet == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_end);
    // RFC 9110 §5.6.2: a token is visible ASCII without delimiters.
    let delimiters = b"\t\"(),/:;<=>?@[\\]{}";
    if scheme.is_empty() || scheme.iter().any(|octet| delimiters.contains(octet)) {
        return Credentials::Malformed;
    }
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Credentials::None;
    }
    let Some(token_start) = rest.iter().position(|octet| *octet != b' ') else { return Credentials::Malformed };
    let token = &rest[token_start..];
    if token.iter().any(|octet| b" \t,".contains(octet)) { Credentials::Malformed } else { Credentials::Token(token) }
}

/// The content type of the answer to a gRPC request with this one; `None` is everything that is not gRPC.
pub fn grpc(method: &str, content_type: &[u8]) -> Option<&'static str> {
    let essence = content_type.split(|octet| b"+; \t".contains(octet)).next()?.to_ascii_lowercase();
    let kinds = ["application/grpc", "application/grpc-web", "application/grpc-web-text"];
    kinds.into_iter().find(|kind| method == "POST" && kind.as_bytes() == essence)
}
