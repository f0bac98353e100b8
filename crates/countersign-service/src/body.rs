//! Bodies, of so many bytes and within a time.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

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
    match tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(MAX_BODY_BYTES)),
        Ok(Err(_)) => Err(incomplete()),
        Err(_) => Err(too_slow()),
    }
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
