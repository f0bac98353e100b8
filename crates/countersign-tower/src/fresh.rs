//! Whether a token is certainly not revoked, for what must not be done with one that is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::Verified;
use countersign_verifier::Refusal as TokenRefusal;
use http::{HeaderMap, Method, Response};

use crate::answers::Answers;
use crate::grpc;
use crate::handler::ExtractError;
use crate::refusal::Refusal;

/// What a handler answers where it is not certain enough that a token has not been revoked.
/// [`Authenticated::require_fresh`](crate::handler::Authenticated::require_fresh) makes one, which then answers as its
/// layer does (realm, resource metadata).
///
/// It is about revocations, and not the `NotFresh` of `countersign-jwks`, which is about keys and is the one at the root of
/// `countersign`; there, this one is `countersign::handler::NotFresh`.
///
/// What is known of revocations is too old, or not known: 503 with `Retry-After`, gRPC 14 `UNAVAILABLE`. The token has
/// been revoked since the layer has let it in: 401 `invalid_token`, 16 `UNAUTHENTICATED`. The layer has nobody to ask,
/// which is the service's own fault: 500, 13 `INTERNAL`.
///
/// As axum's response it has seen no request, so it answers as plain HTTP, to gRPC callers too;
/// [`into_response`](Self::into_response) has seen one.
#[derive(Clone)]
pub struct NotFresh {
    /// None: there is no revocation check.
    refusal: Option<TokenRefusal>,
    answers: Option<Arc<Answers>>,
}

impl NotFresh {
    /// Asks once more, by the clock of the layer.
    pub(crate) fn check(verified: &Verified, max_age: Duration) -> Result<(), Self> {
        let refused = |refusal| Self { refusal, answers: Answers::of(verified) };
        let check = verified.revocation().ok_or_else(|| refused(None))?;
        let now = Answers::now(verified);
        let checked = check.check(verified, now).and_then(|()| check.check_age(max_age, now));
        checked.map_err(|error| refused(Some(error.into())))
    }

    /// The refusal; `None` if there is no revocation check, which is not the caller's fault.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.clone().map(Refusal::Token)
    }

    /// The response to a request with this method and these headers, worded as the layer does, whose observers hear of
    /// it. The body is empty.
    #[must_use]
    pub fn into_response<B: Default>(self, method: &Method, request_headers: &HeaderMap) -> Response<B> {
        let kind = Answers::kind_or_default(self.answers.as_deref(), method, request_headers);
        self.answer(kind).map(|()| B::default())
    }

    pub(crate) fn answer(self, kind: Option<grpc::Kind>) -> Response<()> {
        let answers = self.answers.clone();
        ExtractError::NotFresh(self).answer(answers.as_deref(), kind, "")
    }

    /// Tells the observers, where the answer is made by somebody who does not know them.
    #[cfg(feature = "tonic-0.14")]
    pub(crate) fn report(&self) {
        if let (Some(answers), Some(refusal)) = (&self.answers, self.refusal()) {
            answers.report_handler(&refusal);
        }
    }
}

/// By what is wrong.
impl PartialEq for NotFresh {
    fn eq(&self, other: &Self) -> bool {
        self.refusal == other.refusal
    }
}

impl Eq for NotFresh {}

/// For the operator, and for whoever forgot the revocation check.
impl fmt::Display for NotFresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Some(refusal) => refusal.fmt(f),
            None => f.write_str(NO_REVOCATION),
        }
    }
}

impl fmt::Debug for NotFresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotFresh").field(&self.refusal).finish()
    }
}

impl std::error::Error for NotFresh {}

/// Told to the client as well: nobody but the service's own developers will ever read it.
const NO_REVOCATION: &str = "this route's countersign layer asks nobody what has been revoked: its handler asks \
                             how fresh that is; put `revocation(…)` on the layer or its verifier";
