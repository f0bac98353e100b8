//! Bodies, of so many bytes and within a time.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use crate::problem::Problem;

/// The longest body, bytes: a batch of the most requests, of 256 bytes each.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long a body may take to come: it fits into a few dozen packets.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// A body of JSON.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    check_type(headers)?;
    // As it is announced, before any of it has come.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large(MAX_BODY_BYTES));
    }
    tokio::time::timeout(BODY_TIME, all(body)).await.unwrap_or_else(|_| Err(too_slow()))
}

/// Copied as it comes: what is kept of a body that comes octet by octet would be many times as long as the body.
async fn all(mut body: Body) -> Result<Bytes, Problem> {
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| incomplete())?.into_data() else { continue };
        if data.len() > MAX_BODY_BYTES - octets.len() {
            return Err(too_large(MAX_BODY_BYTES));
        }
        octets.extend_from_slice(&data);
    }
    Ok(octets.into())
}

pub(crate) fn too_large(most: usize) -> Problem {
    let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "content_too_large", "the body is too large");
    problem.most(most as u64).ending_the_connection()
}

pub(crate) fn incomplete() -> Problem {
    Problem::invalid("the body did not come to its end").ending_the_connection()
}

pub(crate) fn too_slow() -> Problem {
    let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body took too long");
    problem.ending_the_connection()
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail);
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(refused("the body must not be encoded"));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let media_type = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok());
    let is_json = media_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim_matches([' ', '\t']).eq_ignore_ascii_case("application/json")
    });
    if is_json { Ok(()) } else { Err(refused("the body must be application/json")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use std::sync::Arc;

    use http::HeaderValue;
    use tokio_stream::StreamExt as _;

    use super::*;

    /// One octet, counted for as long as it is there.
    struct Octet(#[expect(dead_code, reason = "is counted")] Arc<()>);

    impl AsRef<[u8]> for Octet {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_octet_by_octet_takes_no_more_room_than_another() {
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        for (length, is_good) in [(MAX_BODY_BYTES, true), (MAX_BODY_BYTES + 1, false)] {
            let count = Arc::new(());
            let octets = {
                let count = Arc::clone(&count);
                tokio_stream::iter(0..length).map_while(move |_| {
                    // This one, those that are on their way, and no others.
                    assert!(Arc::strong_count(&count) < 8, "they are kept");
                    Some(Ok::<_, std::io::Error>(Bytes::from_owner(Octet(Arc::clone(&count)))))
                })
            };
            let read = read(&headers, Body::from_stream(octets)).await;
            assert_eq!(read.as_ref().map(Bytes::len).ok(), is_good.then_some(length));
            assert!(is_good || read.unwrap_err().code() == "content_too_large");
        }
    }
}
