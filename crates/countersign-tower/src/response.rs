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
    *response.headers_mut() = HeaderMap::with_capacity(USUAL_FIELDS);
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

/// How many header fields a refusal has at most, over HTTP: a map that knows it grows no second time.
const USUAL_FIELDS: usize = 3;

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
    let said: Vec<_> = headers.get_all(CACHE_CONTROL).iter().flat_map(|value| directives(value.as_bytes())).collect();
    let is = |directive: &[u8], name: &str| directive.eq_ignore_ascii_case(name.as_bytes());
    if said.iter().any(|directive| is(directive, "private") || is(directive, "no-store")) {
        return;
    }
    // The rest stays: `no-cache` and `max-age` bind the caller's own cache. `private="…"` speaks of some fields only.
    let name = |directive: &[u8]| directive.iter().position(|byte| *byte == b'=').unwrap_or(directive.len());
    let is_for_shared = |directive: &[u8]| {
        ["public", "s-maxage", "private"].iter().any(|shared| is(directive[..name(directive)].trim_ascii_end(), shared))
    };
    let mut kept: Vec<_> = said.into_iter().filter(|directive| !is_for_shared(directive)).collect();
    let private = HeaderValue::from_static("private");
    let value = if kept.is_empty() {
        private
    } else {
        kept.push(b"private");
        HeaderValue::from_bytes(&kept.join(&b", "[..])).unwrap_or(private)
    };
    headers.insert(CACHE_CONTROL, value);
}

/// The directives of a `Cache-Control`; a comma between quotes separates none.
fn directives(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |byte| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' => is_escaped = is_quoted,
            _ => {}
        }
        *byte == b',' && !is_quoted
    });
    parts.map(<[u8]>::trim_ascii).filter(|directive| !directive.is_empty())
}

/// Rounded up, because a client that comes too early comes in vain; at least one, because zero invites a loop.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_private_is_otherwise_cached_as_it_was() {
        for (said, expected) in [
            (&[][..], "private"),
            (&[""], "private"),
            (&["private"], "private"),
            (&["max-age=1, PRIVATE"], "max-age=1, PRIVATE"),
            (&["No-Store"], "No-Store"),
            (&["public, max-age=60"], "max-age=60, private"),
            (&["Public", "S-MaxAge=9, no-cache"], "no-cache, private"),
            (&["s-maxage =9,must-revalidate"], "must-revalidate, private"),
            (&["private=\"set-cookie, x-a\", max-age=5"], "max-age=5, private"),
            (&["no-cache=\"a, private\""], "no-cache=\"a, private\", private"),
            (&["x=\"\\\", no-store\""], "x=\"\\\", no-store\", private"),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            keep_private(&mut headers);
            let values: Vec<_> = headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(values, [expected], "{said:?}");
        }
    }

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
