use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::grpc::GRPC_STATUS;
use crate::refusal::Refusal;

/// Makes the response to a refused request; see [`OnRefusalLayer`]. Closures do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer refused requests with `Response<{B}>`",
    label = "not an answer to refused requests",
    note = "a closure does: `|refusal: &Refusal, response: Response<()>| response.map(|()| …)`, with a body of the type that the service \
            answers with; and so does `ProblemDetails`, if a `String` can be turned into that"
)]
pub trait RefusalResponse<B> {
    /// `response` is what would be sent, with status, challenge and `Retry-After`, and without a body. The client should be told no more
    /// of the `refusal` than it is told there.
    fn respond(&self, refusal: &Refusal, response: Response<()>) -> Response<B>;
}

impl<B, F> RefusalResponse<B> for F
where
    F: Fn(&Refusal, Response<()>) -> Response<B>,
{
    fn respond(&self, refusal: &Refusal, response: Response<()>) -> Response<B> {
        self(refusal, response)
    }
}

/// Problem details in JSON (RFC 9457), of type `about:blank`: `title`, `status` and `detail`; `error` as in the challenge; `scope`,
/// `acr_values` and `max_age` where these are lacking. For response bodies that can be made of a `String`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemDetails;

impl<B: From<String>> RefusalResponse<B> for ProblemDetails {
    fn respond(&self, refusal: &Refusal, response: Response<()>) -> Response<B> {
        let mut response = response.map(|()| B::from(problem(refusal).to_string()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

fn problem(refusal: &Refusal) -> serde_json::Value {
    let status = refusal.status();
    let mut problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": refusal.client_message(),
    });
    if let Some(error) = refusal.error() {
        problem["error"] = error.into();
    }
    if let Refusal::Denied(denied) = refusal {
        if !denied.required_scopes().is_empty() {
            problem["scope"] = denied.required_scopes().into();
        }
        if let Some(step_up) = denied.step_up() {
            if let Some(acr_values) = step_up.acr_values() {
                problem["acr_values"] = acr_values.into();
            }
            if let Some(max_age) = step_up.max_age() {
                problem["max_age"] = max_age.as_secs().into();
            }
        }
    }
    problem
}

/// Gives refusals another response than an empty one: a layer outside of [`RequireJwtLayer`](crate::RequireJwtLayer), whose
/// [`on_refusal`](crate::RequireJwtLayer::on_refusal) puts it there. It finds them by the [`Refusal`] in a response's extensions, and so also what
/// handlers and routes refuse. gRPC refusals are left as they are.
///
/// ```
/// use std::convert::Infallible;
/// use countersign_tower::{Refusal, RequireJwtLayer};
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # use countersign_claims::Policy;
/// # use countersign_token::KeySet;
/// # use countersign_verifier::Verifier;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let verifier = Verifier::new(KeySet::default(), Policy::new());
/// let layer = RequireJwtLayer::new(verifier)
///     .on_refusal(|refusal: &Refusal, response: Response<()>| response.map(|()| format!("sorry: {}", refusal.status())));
/// let service = ServiceBuilder::new()
///     .layer(layer)
///     .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("hello")))));
/// let response = service.oneshot(Request::new(())).await.unwrap();
/// assert_eq!(response.body(), "sorry: 401 Unauthorized");
/// # }
/// ```
#[derive(Clone)]
pub struct OnRefusalLayer<F> {
    respond: F,
}

impl<F> OnRefusalLayer<F> {
    /// Answers with what `respond` makes.
    #[must_use]
    pub fn new(respond: F) -> Self {
        Self { respond }
    }
}

impl<S, F: Clone> Layer<S> for OnRefusalLayer<F> {
    type Service = OnRefusal<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        OnRefusal { inner, respond: self.respond.clone() }
    }
}

impl<F> fmt::Debug for OnRefusalLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRefusalLayer").finish_non_exhaustive()
    }
}

/// Gives refusals another response than an empty one. Made by [`OnRefusalLayer`].
#[derive(Clone)]
pub struct OnRefusal<S, F> {
    inner: S,
    respond: F,
}

impl<S, F, ReqBody, ResBody> Service<Request<ReqBody>> for OnRefusal<S, F>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    F: RefusalResponse<ResBody> + Clone,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = OnRefusalFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        OnRefusalFuture { response: self.inner.call(request), respond: self.respond.clone() }
    }
}

impl<S: fmt::Debug, F> fmt::Debug for OnRefusal<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRefusal").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of [`OnRefusal`].
    pub struct OnRefusalFuture<R, F> {
        #[pin]
        response: R,
        respond: F,
    }
}

impl<R, F, B, E> Future for OnRefusalFuture<R, F>
where
    R: Future<Output = Result<Response<B>, E>>,
    F: RefusalResponse<B>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx))?;
        if response.headers().contains_key(GRPC_STATUS) {
            return Poll::Ready(Ok(response));
        }
        let Some(refusal) = response.extensions().get::<Refusal>().cloned() else {
            return Poll::Ready(Ok(response));
        };
        let mut response = response.map(|_| ());
        // Of a body that is not sent.
        response.headers_mut().remove(CONTENT_LENGTH);
        let mut response = this.respond.respond(&refusal, response);
        // Also where the closure has begun a new response.
        response.extensions_mut().insert(refusal);
        Poll::Ready(Ok(response))
    }
}

impl<R, F> fmt::Debug for OnRefusalFuture<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRefusalFuture").finish_non_exhaustive()
    }
}
