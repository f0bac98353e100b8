use std::fmt;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::signed_request::{NotOnce, NotThisRequest};
use http::StatusCode;

/// When to ask again while there is no room to remember that a token is used: what was used longest ago is forgotten every second.
const RETRY_FULL_AFTER: Duration = Duration::from_secs(2);

/// Why a request with a good token is refused all the same, where [requests are signed](crate::SignedRequests).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestRefusal {
    /// The token is that of another request: 401 `invalid_token`.
    Other(NotThisRequest),
    /// It was used before: 401 `invalid_token`.
    Used,
    /// There is no room to remember that it is used: 503.
    CannotRemember,
    /// A process before this one may have taken it, and one that is made later will do: 503.
    OlderThanProcess {
        /// When that may be made.
        retry_after: Duration,
    },
    /// The request's target can be read in more than one way, or is for another origin: 400 `invalid_request`.
    AmbiguousTarget,
    /// The body is longer than this, bytes: 413.
    BodyTooLarge {
        /// The limit.
        most: usize,
    },
    /// The body did not come to its end: 400 `invalid_request`.
    BodyIncomplete,
    /// The body took too long to come: 408.
    BodyTimeout,
}

impl RequestRefusal {
    pub(super) fn once(why: NotOnce, now: UnixTime) -> Self {
        match why {
            NotOnce::Full => Self::CannotRemember,
            NotOnce::OlderThanThis { taken_from } => {
                Self::OlderThanProcess { retry_after: taken_from.saturating_since(now).max(Duration::from_secs(1)) }
            }
            // What this version does not know is not a first use.
            _ => Self::Used,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Other(_) | Self::Used => StatusCode::UNAUTHORIZED,
            Self::CannotRemember | Self::OlderThanProcess { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::AmbiguousTarget | Self::BodyIncomplete => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// A short stable name for metrics and logs, out of a fixed set; it contains nothing of the request.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Other(NotThisRequest::SharedSecret) => "request_shared_secret",
            Self::Other(NotThisRequest::Missing(_) | NotThisRequest::Malformed(_)) => "request_claim_unusable",
            Self::Other(_) => "request_other",
            Self::Used => "request_used",
            Self::CannotRemember => "request_memory_full",
            Self::OlderThanProcess { .. } => "request_older_than_process",
            Self::AmbiguousTarget => "request_target_ambiguous",
            Self::BodyTooLarge { .. } => "request_body_too_large",
            Self::BodyIncomplete => "request_body_incomplete",
            Self::BodyTimeout => "request_body_timeout",
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CannotRemember => Some(RETRY_FULL_AFTER),
            Self::OlderThanProcess { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    pub(crate) fn client_message(&self) -> &'static str {
        match self {
            Self::Other(_) => "the token is not for this request",
            Self::Used => "the token was used before",
            Self::CannotRemember => "no request can be taken in at present",
            Self::OlderThanProcess { .. } => "the token was made before this process was there: make another",
            Self::AmbiguousTarget => "the URL can be read in more than one way",
            Self::BodyTooLarge { .. } => "the body is too large",
            Self::BodyIncomplete => "the body did not come to its end",
            Self::BodyTimeout => "the body took too long",
        }
    }
}

/// For the operator.
impl fmt::Display for RequestRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(why) => why.fmt(f),
            Self::BodyTooLarge { most } => write!(f, "the body is longer than {most} bytes"),
            _ => f.write_str(self.client_message()),
        }
    }
}

impl std::error::Error for RequestRefusal {}
