use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use countersign_claims::{Requirement, Verified};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::answers::Answers;
use crate::body::EmptyBody;
use crate::fresh::NotFresh;
use crate::handler::{ExtractError, Forbidden, answers, verified};

/// Demands something more of the callers of some routes: a layer inside of [`RequireJwtLayer`](crate::RequireJwtLayer), such as axum's
/// `route_layer` or `MethodRouter::layer` put one.
///
/// Refusals are worded as that layer's are. Where there is none, the answer is 500; where there is no caller, because the layer allows
/// that, 401.
///
/// ```
/// # use countersign_claims::{Policy, scope};
/// # use countersign_token::KeySet;
/// # use countersign_tower::RequireJwtLayer;
/// # use countersign_verifier::Verifier;
/// use axum::{Router, routing::{get, post}};
/// use countersign_tower::require;
///
/// # let verifier = Verifier::new(KeySet::default(), Policy::new().audience("orders"));
/// # let app: Router =
/// Router::new()
///     .route("/orders", post(async || "ordered").layer(require(scope("orders:write"))))
///     .route("/orders", get(async || "none"))
///     .layer(RequireJwtLayer::new(verifier).require(scope("orders:read")))
/// # ;
/// ```
#[must_use]
pub fn require(requirement: Requirement) -> RequireLayer {
    RequireLayer { demand: Demand::Of(requirement) }
}

/// Demands that the tokens of some routes have certainly not been revoked: a layer as [`require`]'s. What the layer
/// outside of it has asked is asked once more, and what is known of revocations must not be older than `max_age` now,
/// by the clock of that layer.
///
/// A token that has been revoked meanwhile is 401 `invalid_token` (gRPC 16); what is known being too old is 503 with
/// `Retry-After` (14). Where the layer asks nobody
/// ([`RequireJwtLayer::revocation`](crate::RequireJwtLayer::revocation), or its verifier's), or there is none, the
/// answer is 500 (13); where there is no caller, because the layer allows that, 401.
///
/// In a handler: [`Authenticated::require_fresh`](crate::handler::Authenticated::require_fresh), which says what to
/// choose.
///
/// ```
/// # use countersign_claims::revocation::{Changed, Judged, Revocations, Verdict};
/// # use countersign_claims::{Policy, UnixTime};
/// # use countersign_token::KeySet;
/// # use countersign_tower::RequireJwtLayer;
/// # use countersign_verifier::Verifier;
/// # struct RevocationList;
/// # impl Revocations for RevocationList {
/// #     fn check(&self, _: &Judged<'_>) -> Verdict { Verdict::Fresh }
/// #     fn age(&self, _: UnixTime) -> Option<Duration> { Some(Duration::ZERO) }
/// #     fn changed(&self) -> Changed { Box::pin(std::future::pending()) }
/// # }
/// use std::time::Duration;
///
/// use axum::{Router, routing::{get, post}};
/// use countersign_tower::require_fresh;
///
/// # let verifier = Verifier::new(KeySet::default(), Policy::new().audience("orders"));
/// # let list = RevocationList;
/// # let app: Router =
/// Router::new()
///     .route("/payments", post(async || "paid").layer(require_fresh(Duration::from_secs(15))))
///     .route("/orders", get(async || "none"))
///     .layer(RequireJwtLayer::new(verifier).revocation(list))
/// # ;
/// ```
#[must_use]
pub fn require_fresh(max_age: Duration) -> RequireLayer {
    RequireLayer { demand: Demand::Fresh(max_age) }
}

/// Demands something more of the callers of some routes. Made by [`require`] and [`require_fresh`].
#[derive(Clone, Debug)]
pub struct RequireLayer {
    demand: Demand,
}

#[derive(Clone, Debug)]
enum Demand {
    /// Of what the token says.
    Of(Requirement),
    /// Of how old that may be which is known of revocations.
    Fresh(Duration),
}

impl Demand {
    fn check(&self, verified: &Verified) -> Result<(), ExtractError> {
        match self {
            Self::Of(requirement) => {
                requirement.check(verified).map_err(|denied| ExtractError::Denied(Forbidden::new(denied, verified)))
            }
            Self::Fresh(max_age) => NotFresh::check(verified, *max_age).map_err(ExtractError::NotFresh),
        }
    }

    /// What a caller without a token should ask for.
    fn scopes_to_ask_for(&self) -> &str {
        match self {
            Self::Of(requirement) => requirement.scopes_to_ask_for(),
            Self::Fresh(_) => "",
        }
    }
}

impl<S> Layer<S> for RequireLayer {
    type Service = Require<S>;

    fn layer(&self, inner: S) -> Require<S> {
        Require { inner, demand: self.demand.clone() }
    }
}

/// Demands something more of the callers of some routes. Made by [`RequireLayer`].
#[derive(Clone, Debug)]
pub struct Require<S> {
    inner: S,
    demand: Demand,
}

impl<S> Require<S> {
    /// Without a caller, or one who may not: the answer.
    fn refuse<B>(&self, request: &Request<B>) -> Option<Response<()>> {
        let error = verified(request.extensions()).and_then(|verified| self.demand.check(verified)).err()?;
        let answers = answers(request.extensions());
        let kind = Answers::kind_or_default(answers.as_deref(), request.method(), request.headers());
        Some(error.answer(answers.as_deref(), kind, self.demand.scopes_to_ask_for()))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Require<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: EmptyBody,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = RequireFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.refuse(&request) {
            None => RequireFuture { state: State::Called { response: self.inner.call(request) } },
            Some(response) => {
                // Gives back what `poll_ready` has reserved, as `RequireJwt` does.
                self.inner = self.inner.clone();
                RequireFuture { state: State::Refused { response: Some(response) } }
            }
        }
    }
}

pin_project! {
    /// The response of [`Require`]: the inner service's, or a refusal.
    ///
    /// # Panics
    /// If it is polled again after it has ended.
    pub struct RequireFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Called { #[pin] response: F },
        Refused { response: Option<Response<()>> },
    }
}

impl<F, B, E> Future for RequireFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: EmptyBody,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { response } => Poll::Ready(ready!(response.poll(cx))),
            StateProjection::Refused { response } => {
                let response = response.take().expect("`RequireFuture` polled after it has ended");
                Poll::Ready(Ok(response.map(|()| B::default())))
            }
        }
    }
}

impl<F> fmt::Debug for RequireFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireFuture").finish_non_exhaustive()
    }
}
