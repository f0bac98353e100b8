use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use countersign_claims::{ClaimError, Denied};
use countersign_verifier::{Fault, Refusal as TokenRefusal};
use http::{HeaderMap, Method, Response, StatusCode};

use crate::challenge::Wording;
use crate::signed::RequestRefusal;
use crate::{grpc, response};

/// Why a request was not let through. It stands in the extensions of every response that this crate makes, so that outer
/// layers can count and log by reason.
///
/// It is for the operator; the client is told less. Neither it nor its `Debug` has the token; of an `iss`, `aud` or `typ` that was
/// not wanted it has up to 64 characters, which are shown escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No token in any of the [places](crate::TokenPlace) where one may be: 401, and a challenge without `error`.
    NoCredentials,
    /// An `Authorization` header, or another place for a token, that is not well-formed: 400 `invalid_request`.
    MalformedCredentials,
    /// More than one `Authorization` header, or more than one token: 400 `invalid_request`.
    ManyCredentials,
    /// A token that was not accepted. By its [`fault`](countersign_verifier::Refusal::fault): 401 `invalid_token`, or, where
    /// the token is not to blame, 429 or 503.
    Token(TokenRefusal),
    /// A good token that does not do for this: 403 `insufficient_scope`, or 401 `insufficient_user_authentication` where its holder has to
    /// authenticate anew or better (RFC 9470).
    Denied(Denied),
    /// A good token that is not for this request, or not for the first time; or a request that cannot be compared with it.
    Request(RequestRefusal),
    /// Too many requests from this peer have been refused lately, and this one would have been as well: 429.
    Limited {
        /// When it may ask again.
        retry_after: Duration,
    },
}

impl Refusal {
    /// The HTTP status: 400, 401, 403, 429 or 503; of [signed requests](RequestRefusal) 408 and 413, too.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoCredentials => StatusCode::UNAUTHORIZED,
            Self::MalformedCredentials | Self::ManyCredentials => StatusCode::BAD_REQUEST,
            Self::Token(refusal) => match refusal.fault() {
                Fault::Token => StatusCode::UNAUTHORIZED,
                Fault::AskAgain => StatusCode::TOO_MANY_REQUESTS,
                Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Denied(denied) if denied.is_step_up() => StatusCode::UNAUTHORIZED,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Request(refusal) => refusal.status(),
            Self::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The gRPC status code: 16 `UNAUTHENTICATED`, 7 `PERMISSION_DENIED` or 14 `UNAVAILABLE`.
    ///
    /// 7 is only ever said to a caller who is known; 14 is what gRPC clients retry.
    #[must_use]
    pub fn grpc_code(&self) -> u8 {
        match self {
            Self::NoCredentials | Self::MalformedCredentials | Self::ManyCredentials => grpc::UNAUTHENTICATED,
            Self::Token(refusal) => match refusal.fault() {
                Fault::Token => grpc::UNAUTHENTICATED,
                Fault::AskAgain | Fault::Unavailable => grpc::UNAVAILABLE,
            },
            Self::Denied(denied) if denied.is_step_up() => grpc::UNAUTHENTICATED,
            Self::Denied(_) => grpc::PERMISSION_DENIED,
            Self::Request(refusal) if refusal.retry_after().is_some() => grpc::UNAVAILABLE,
            Self::Request(_) => grpc::UNAUTHENTICATED,
            Self::Limited { .. } => grpc::UNAVAILABLE,
        }
    }

    /// A short stable name for metrics and logs, out of a fixed set ([`CODES`](Self::CODES)); it contains nothing of the
    /// request.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::MalformedCredentials => "malformed_credentials",
            Self::ManyCredentials => "many_credentials",
            Self::Token(refusal) => refusal.code(),
            Self::Denied(denied) => denied.code(),
            Self::Request(refusal) => refusal.code(),
            Self::Limited { .. } => "limited",
        }
    }

    /// When asking again, with the same token, may help; only where it may.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Token(refusal) => refusal.retry_after(),
            Self::Request(refusal) => refusal.retry_after(),
            Self::Limited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// The response to a request with this method and these headers: gRPC, if it is a POST whose content type is gRPC's,
    /// otherwise HTTP. The body is empty.
    ///
    /// Without a `realm` the challenge has none, unless it would have no parameter at all: then it is
    /// [`DEFAULT_REALM`](crate::DEFAULT_REALM).
    ///
    /// ```
    /// use countersign_tower::Refusal;
    /// use http::{HeaderMap, Method, Response};
    ///
    /// let refusal = Refusal::NoCredentials;
    /// let response: Response<String> = refusal.into_response(&Method::GET, &HeaderMap::new(), Some("orders"));
    /// assert_eq!(response.status(), 401);
    /// assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="orders""#);
    /// assert_eq!(response.extensions().get::<Refusal>().map(Refusal::code), Some("no_credentials"));
    /// ```
    #[must_use]
    pub fn into_response<B: Default>(
        self,
        method: &Method,
        request_headers: &HeaderMap,
        realm: Option<&str>,
    ) -> Response<B> {
        let wording = Wording { realm, ..Wording::default() };
        response::refusal(self, grpc::Kind::of(method, request_headers), &wording).map(|()| B::default())
    }

    /// The error code of RFC 6750 §3.1, or RFC 9470 §3; none for who has shown nothing, and where no other credentials would help.
    pub(crate) fn error(&self) -> Option<&'static str> {
        match (self, self.status()) {
            (Self::NoCredentials, _) => None,
            (_, StatusCode::BAD_REQUEST) => Some("invalid_request"),
            (Self::Denied(_), StatusCode::UNAUTHORIZED) => Some("insufficient_user_authentication"),
            (_, StatusCode::UNAUTHORIZED) => Some("invalid_token"),
            (_, StatusCode::FORBIDDEN) => Some("insufficient_scope"),
            _ => None,
        }
    }

    /// What the client is told, in so many words for each family of reasons: never which check of several has failed, and
    /// nothing out of the token. That a token has expired may be told, because its holder can read it there.
    pub(crate) fn client_message(&self) -> &'static str {
        match self {
            Self::NoCredentials => "a Bearer token is needed",
            Self::MalformedCredentials => "the credentials are malformed",
            Self::ManyCredentials => "there is more than one set of credentials",
            Self::Token(refusal) => match refusal.fault() {
                Fault::Token if matches!(refusal, TokenRefusal::Claim(ClaimError::Expired { .. })) => {
                    "the token has expired"
                }
                Fault::Token => "the token is not valid",
                Fault::AskAgain => "the token could not be checked yet",
                Fault::Unavailable => "tokens cannot be checked at present",
            },
            Self::Denied(denied) if denied.is_step_up() => "a stronger or more recent authentication is needed",
            Self::Denied(denied) if denied.required_scopes().is_empty() => "the token does not allow this",
            Self::Denied(_) => "the token does not grant the scope needed",
            Self::Request(refusal) => refusal.client_message(),
            Self::Limited { .. } => "too many refused requests",
        }
    }

    /// As [`client_message`](Self::client_message), for gRPC, where there is no challenge: with the scopes that are needed.
    pub(crate) fn grpc_message(&self) -> Cow<'static, str> {
        match self {
            Self::Denied(denied) if !denied.required_scopes().is_empty() => {
                format!("{}: {}", self.client_message(), denied.required_scopes()).into()
            }
            _ => self.client_message().into(),
        }
    }
}

/// For the operator: what was found, and what was wanted.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials => f.write_str("there are no Bearer credentials"),
            Self::MalformedCredentials | Self::ManyCredentials => f.write_str(self.client_message()),
            Self::Token(refusal) => refusal.fmt(f),
            Self::Denied(denied) => denied.fmt(f),
            Self::Request(refusal) => refusal.fmt(f),
            Self::Limited { .. } => f.write_str("this peer has been refused too often, and would have been again"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<TokenRefusal> for Refusal {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Token(refusal)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}
