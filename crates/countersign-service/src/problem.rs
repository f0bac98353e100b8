//! How refusals are worded: problem details (RFC 9457) with a code in the manner of OAuth.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use countersign_issuer::MintError;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::policy::{Denial, Denied};

/// When to ask again where nobody knows better: the ring looks at its store every few seconds.
pub(crate) const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(2);

/// A refusal, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    error: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
    size: Option<usize>,
    most: Option<u64>,
    blames_credentials: bool,
    ends_connection: bool,
}

/// The body, of type `about:blank`.
#[derive(Serialize)]
pub(crate) struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: Option<&'static str>,
    status: u16,
    detail: &'a str,
    error: &'static str,
    /// What there would be, where it is too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    /// What would do, where something is too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, error: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            error,
            detail: detail.into(),
            retry_after: None,
            challenge: None,
            size: None,
            most: None,
            blames_credentials: false,
            ends_connection: false,
        }
    }

    /// 400 `invalid_request`.
    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// 401 `invalid_client`, for credentials that are not good; the challenge is what RFC 6750 §3 has for it.
    pub(crate) fn unknown_client(detail: &'static str, challenge: &'static str) -> Self {
        Self { blames_credentials: true, ..Self::unknown(detail, challenge) }
    }

    /// 401 `invalid_client`, for none, or of a kind that nobody takes: who has shown nothing is told no error.
    pub(crate) fn nothing_shown(detail: &'static str) -> Self {
        Self::unknown(detail, "Bearer")
    }

    /// 400 `invalid_request`, for what are no credentials.
    pub(crate) fn malformed_credentials(detail: &'static str) -> Self {
        Self { blames_credentials: true, ..Self::invalid(detail) }
    }

    fn unknown(detail: &'static str, challenge: &'static str) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", detail);
        Self { challenge: Some(challenge), ..problem }
    }

    /// 503.
    pub(crate) fn unavailable(error: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, detail).retry_after(RETRY_AFTER_DEFAULT)
    }

    /// What does not happen, and must be no panic if it does: an answer that is no JSON, or a thread that has panicked.
    pub(crate) fn unwritable() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the answer could not be made")
    }

    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What is still on its way over this connection is of no use any more.
    pub(crate) fn ending_the_connection(mut self) -> Self {
        self.ends_connection = true;
        self
    }

    pub(crate) fn most(mut self, most: u64) -> Self {
        self.most = Some(most);
        self
    }

    pub(crate) fn code(&self) -> &'static str {
        self.error
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether credentials were shown that are not good, or are none.
    pub(crate) fn blames_credentials(&self) -> bool {
        self.blames_credentials
    }

    /// Whether the same may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// For people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn body(&self) -> Body<'_> {
        Body {
            kind: "about:blank",
            title: self.status.canonical_reason(),
            status: self.status.as_u16(),
            detail: &self.detail,
            error: self.error,
            size: self.size,
            max: self.most,
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let problem = Self::new(StatusCode::FORBIDDEN, denied.code(), denied.to_string());
        match denied.denial {
            Denial::Lifetime { most } | Denial::Delay { most } => problem.most(most.as_secs()),
            Denial::ClaimTooLarge(_, most) => problem.most(most as u64),
            _ => problem,
        }
    }
}

impl From<MintError> for Problem {
    fn from(error: MintError) -> Self {
        if error.is_temporary() {
            return Self::unavailable(error.code(), error.to_string());
        }
        let forbidden = |error: MintError| Self::new(StatusCode::FORBIDDEN, error.code(), error.to_string());
        match error {
            // The policy names no others, so the ring is not what it was checked against.
            MintError::NotSigning(_) => Self::unavailable("key_unavailable", error.to_string()),
            MintError::LifetimeTooLong { most } => forbidden(error).most(most.as_secs()),
            MintError::TokenTooLarge { size, most } => Self { size: Some(size), ..forbidden(error).most(most as u64) },
            MintError::PayloadTooLarge { most } => forbidden(error).most(most as u64),
            MintError::ClaimNotPermitted(_) => forbidden(error),
            _ => Self::invalid(error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Of texts and numbers; writing them does not fail.
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(after) = self.retry_after {
            // Rounded up: who comes a moment too early is refused once more.
            headers.insert(RETRY_AFTER, (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1).into());
        }
        if self.ends_connection {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
