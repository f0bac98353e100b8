use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};

/// No credentials, or none that are good.
pub(crate) const UNAUTHENTICATED: u8 = 16;
/// A known caller who may not do this.
pub(crate) const PERMISSION_DENIED: u8 = 7;
/// The service is put together wrongly.
pub(crate) const INTERNAL: u8 = 13;
/// Ask again.
pub(crate) const UNAVAILABLE: u8 = 14;

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The protocols that carry their status in trailers, under HTTP 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Grpc,
    GrpcWeb,
    GrpcWebText,
}

impl Kind {
    /// By the content type of the request; `None` is everything that is not gRPC.
    ///
    /// gRPC knows no method but POST. The method is looked at because a refusal under status 200 must not be had for a
    /// header that anybody can add: proxies that ask a service whether to let a request through (`auth_request`,
    /// forward auth) mostly ask with GET, hand the caller's headers on, and take 200 for yes. Of one that keeps the method
    /// the layer's documentation speaks.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        if method != Method::POST {
            return None;
        }
        let content_type = headers.get(CONTENT_TYPE)?.as_bytes();
        // A codec (`+proto`) or a parameter may follow, and is the caller's business.
        let end = content_type.iter().position(|byte| b"+; \t".contains(byte)).unwrap_or(content_type.len());
        [Self::Grpc, Self::GrpcWeb, Self::GrpcWebText]
            .into_iter()
            .find(|kind| content_type[..end].eq_ignore_ascii_case(kind.content_type().as_bytes()))
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::GrpcWeb => "application/grpc-web",
            Self::GrpcWebText => "application/grpc-web-text",
        }
    }

    /// Makes `response` a trailers-only one: the status stands in the headers, and no message and no trailer follows.
    pub(crate) fn refuse(self, code: u8, message: &str, response: &mut Response<()>) {
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(message)) {
            headers.insert(GRPC_MESSAGE, message);
        }
    }
}

/// As the gRPC protocol wants `grpc-message`: printable ASCII as it is, everything else and `%` as `%XX`.
fn percent_encoded(text: &str) -> String {
    percent_encoded_unless(text, |_, byte| matches!(byte, 0x20..=0x7e))
}

/// Each octet as `%XX`, but for those that are `plain` at their index; `%` never is.
pub(crate) fn percent_encoded_unless(text: &str, plain: impl Fn(usize, u8) -> bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        if byte != b'%' && byte.is_ascii() && plain(index, byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 0xf)])]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_and_content_type_say_whether_it_is_grpc() {
        use Kind::{Grpc, GrpcWeb, GrpcWebText};
        for (content_type, expected) in [
            ("application/grpc", Some(Grpc)),
            ("application/grpc+proto", Some(Grpc)),
            ("application/grpc+json; x=y", Some(Grpc)),
            ("application/grpc;charset=utf-8", Some(Grpc)),
            ("application/grpc ; x=y", Some(Grpc)),
            ("Application/gRPC+Proto", Some(Grpc)),
            ("application/grpc-web", Some(GrpcWeb)),
            ("application/grpc-web+proto", Some(GrpcWeb)),
            ("application/grpc-web-text", Some(GrpcWebText)),
            ("application/grpc-web-text+proto", Some(GrpcWebText)),
            ("application/grpc-foo", None),
            ("application/grpcweb", None),
            ("application/json", None),
            ("x application/grpc", None),
            ("text/plain; application/grpc", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            assert_eq!(Kind::of(&Method::POST, &headers), expected, "{content_type:?}");
            for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT] {
                assert_eq!(Kind::of(&method, &headers), None, "{method} {content_type:?}");
            }
        }
        assert_eq!(Kind::of(&Method::POST, &HeaderMap::new()), None);
    }

    #[test]
    fn messages_are_percent_encoded() {
        for (text, expected) in
            [("plain, text: ~!", "plain, text: ~!"), ("100%", "100%25"), ("é\n\u{7f}", "%C3%A9%0A%7F"), ("", "")]
        {
            assert_eq!(percent_encoded(text), expected);
        }
    }
}
