use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use countersign_claims::Requirement;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::answers::Answers;
use crate::body::EmptyBody;
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
    RequireLayer { requirement }
}

/// Demands something more of the callers of some routes. Made by [`require`].
#[derive(Clone, Debug)]
pub struct RequireLayer {
    requirement: Requirement,
}

impl<S> Layer<S> for RequireLayer {
    type Service = Require<S>;

    fn layer(&self, inner: S) -> Require<S> {
        Require { inner, requirement: self.requirement.clone() }
    }
}

/// Demands something more of the callers of some routes. Made by [`RequireLayer`].
#[derive(Clone, Debug)]
pub struct Require<S> {
    inner: S,
    requirement: Requirement,
}

impl<S> Require<S> {
    /// Without a caller, or one who may not: the answer.
    fn refuse<B>(&self, request: &Request<B>) -> Option<Response<()>> {
        let error = match verified(request.extensions()) {
            Ok(verified) => ExtractError::Denied(Forbidden::new(self.requirement.check(verified).err()?, verified)),
            Err(error) => error,
        };
        let answers = answers(request.extensions());
        let kind = Answers::kind_or_default(answers.as_deref(), request.method(), request.headers());
        Some(error.answer(answers.as_deref(), kind, self.requirement.scopes_to_ask_for()))
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
