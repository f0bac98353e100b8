use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};

use crate::challenge::Wording;
use crate::handler::ExtractError;
use crate::refusal::Refusal;
use crate::{challenge, grpc};

/// A refusal as a response, but for its body, which is empty whatever its type: RFC 6750 §3 over HTTP, trailers-only over
/// gRPC. The refusal itself goes into the extensions, where only this process can see it.
pub(crate) fn refusal(refusal: Refusal, grpc: Option<grpc::Kind>, wording: &Wording<'_>) -> Response<()> {
    let mut response = Response::new(());
    match grpc {
        Some(kind) => kind.refuse(refusal.grpc_code(), &refusal.grpc_message(), &mut response),
        None => {
            *response.status_mut() = refusal.status();
            if let Some(challenge) = challenge::of(&refusal, wording) {
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
        }
    }
    if let Some(retry_after) = refusal.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(refusal);
    response
}

/// The answer of a handler that needs a verified token, behind no layer or one that only watches: a fault of the service's own, so
/// without a challenge.
pub(crate) fn no_layer(error: ExtractError, grpc: Option<grpc::Kind>) -> Response<()> {
    let mut response = Response::new(());
    match grpc {
        Some(kind) => kind.refuse(grpc::INTERNAL, &error.to_string(), &mut response),
        None => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(error);
    response
}

/// Says that an answer is for its caller only (RFC 6750 §2.3), unless it says that, or more, already.
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    let mut directives =
        headers.get_all(CACHE_CONTROL).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_private = |directive: &[u8]| {
        let directive = directive.trim_ascii();
        directive.eq_ignore_ascii_case(b"private") || directive.eq_ignore_ascii_case(b"no-store")
    };
    if !directives.any(is_private) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// Rounded up, because a client that comes too early comes in vain; at least one, because zero invites a loop.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_and_at_least_one() {
        for (duration, expected) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(1), 1),
            (Duration::from_millis(1001), 2),
            (Duration::from_secs(60), 60),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(whole_seconds(duration), expected, "{duration:?}");
        }
    }
}
