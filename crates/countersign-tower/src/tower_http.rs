//! tower-http's traits for its layers that ask somebody else whether a request may pass.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use countersign_token::{Answer, KeySource};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_http::auth::AsyncAuthorizeRequest;
use tower_http::validate_request::ValidateRequest;

use crate::body::EmptyBody;
use crate::gate::{Began, Gate, Judgement, Pass};

/// The judgement of a [`RequireJwtLayer`](crate::RequireJwtLayer) inside one of tower-http's layers, for stacks that have
/// such a layer already. Made by [`RequireJwtLayer::authorizer`](crate::RequireJwtLayer::authorizer).
///
/// All settings of the layer hold here too, and the answers are the same. What its own service does better:
///
/// - tower-http keeps the inner service that was polled ready while a request waits for its key. Over a concurrency limit,
///   as many waiting requests as it has room for stop everybody, for two seconds at most.
/// - It does not see the inner service's answer, so it cannot mark it `Cache-Control: private`. Tokens in the query, which
///   need that (RFC 6750 §2.3), are a configuration error.
/// - Other words for a refusal come from an [`OnRefusalLayer`](crate::OnRefusalLayer) outside of tower-http's.
///
/// Under [`AsyncRequireAuthorizationLayer`](tower_http::auth::AsyncRequireAuthorizationLayer) a request waits for its key as
/// under the layer:
///
/// ```
/// use std::convert::Infallible;
///
/// use countersign_claims::{Policy, Verified};
/// use countersign_token::{Algorithm, KeySet, SigningKey};
/// use countersign_tower::RequireJwtLayer;
/// use countersign_verifier::Verifier;
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_http::auth::AsyncRequireAuthorizationLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let issuer = SigningKey::generate(Algorithm::Es256)?;
/// # let verifier = Verifier::new(KeySet::new([issuer.verifying_key()?]), Policy::new().audience("orders"));
/// let auth = RequireJwtLayer::new(verifier).realm("orders");
/// let service = ServiceBuilder::new()
///     .layer(AsyncRequireAuthorizationLayer::new(auth.authorizer()?))
///     .service(service_fn(async |request: Request<()>| {
///         let caller = request.extensions().get::<Verified>().and_then(Verified::subject);
///         Ok::<_, Infallible>(Response::new(caller.unwrap_or("nobody").to_owned()))
///     }));
///
/// let response = service.oneshot(Request::new(())).await?;
/// assert_eq!(response.status(), 401);
/// assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="orders""#);
/// # Ok(())
/// # }
/// ```
///
/// Under [`ValidateRequestHeaderLayer::custom`](tower_http::validate_request::ValidateRequestHeaderLayer::custom), which
/// cannot wait, a token whose key has to be looked for is answered at once with 429, or with 503 while there are no keys at
/// all. The look begins all the same; whoever comes again after `Retry-After` finds the key. After each rotation some good
/// tokens are answered so: prefer the other.
pub struct RequestAuthorizer<K, ResBody> {
    gate: Arc<Gate<K>>,
    /// What tower-http's layer takes the type of refusals from.
    body: PhantomData<fn() -> ResBody>,
}

impl<K, ResBody> RequestAuthorizer<K, ResBody> {
    pub(crate) fn new(gate: Arc<Gate<K>>) -> Self {
        Self { gate, body: PhantomData }
    }
}

impl<K: KeySource, ReqBody, ResBody: EmptyBody> AsyncAuthorizeRequest<ReqBody> for RequestAuthorizer<K, ResBody> {
    type RequestBody = ReqBody;
    type ResponseBody = ResBody;
    type Future = AuthorizeFuture<K, ReqBody, ResBody>;

    /// Judges the request here and now, unless its key has to be looked for.
    fn authorize(&mut self, request: Request<ReqBody>) -> Self::Future {
        let state = match self.gate.judge(&request) {
            Ok(Judgement::Waiting(answer)) => {
                let began = self.gate.began();
                State::Waiting { answer, request: Some(request), gate: Arc::clone(&self.gate), began }
            }
            Ok(Judgement::Pass(pass)) => State::Judged { outcome: Some(Ok(passed_on(&self.gate, pass, request))) },
            Err(refusal) => State::Judged { outcome: Some(Err(self.gate.refuse(refusal, &request))) },
        };
        AuthorizeFuture { state, body: PhantomData }
    }
}

impl<K: KeySource, ReqBody, ResBody: EmptyBody> ValidateRequest<ReqBody> for RequestAuthorizer<K, ResBody> {
    type ResponseBody = ResBody;

    /// Judges the request, and never waits.
    fn validate(&mut self, request: &mut Request<ReqBody>) -> Result<(), Response<ResBody>> {
        let outcome = match self.gate.judge(request) {
            Ok(Judgement::Pass(pass)) => Ok(pass),
            // The source has been told; one more look at what is there, and whoever is not served by that is to come again.
            Ok(Judgement::Waiting(_)) => self.gate.resume(request, Answer::Changed, None),
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(pass) => {
                self.gate.pass_on(pass, request);
                Ok(())
            }
            Err(refusal) => Err(self.gate.refuse(refusal, request).map(|()| ResBody::default())),
        }
    }
}

pin_project! {
    /// Whether a request may pass, for tower-http's `AsyncRequireAuthorization`. Made by [`RequestAuthorizer`].
    ///
    /// # Cancel safety
    /// It may be dropped at any time; a request that waits for a key then gives up its place among those who wait.
    ///
    /// # Panics
    /// If it is polled again after it has ended.
    pub struct AuthorizeFuture<K, ReqBody, ResBody>
    where
        K: KeySource,
    {
        #[pin]
        state: State<K, ReqBody>,
        body: PhantomData<fn() -> ResBody>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<K, ReqBody>
    where
        K: KeySource,
    {
        Judged { outcome: Option<Result<Request<ReqBody>, Response<()>>> },
        /// Its key is being looked for.
        Waiting { #[pin] answer: K::Waiting, request: Option<Request<ReqBody>>, gate: Arc<Gate<K>>, began: Began },
    }
}

impl<K: KeySource, ReqBody, ResBody: EmptyBody> Future for AuthorizeFuture<K, ReqBody, ResBody> {
    type Output = Result<Request<ReqBody>, Response<ResBody>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match self.project().state.project() {
            StateProjection::Judged { outcome } => outcome.take().expect(POLLED_AFTER_END),
            StateProjection::Waiting { answer, request, gate, began } => {
                let answer = ready!(answer.poll(cx));
                let request = request.take().expect(POLLED_AFTER_END);
                match gate.resume(&request, answer, began.elapsed()) {
                    Ok(pass) => Ok(passed_on(gate, pass, request)),
                    Err(refusal) => Err(gate.refuse(refusal, &request)),
                }
            }
        };
        Poll::Ready(outcome.map_err(|response| response.map(|()| ResBody::default())))
    }
}

const POLLED_AFTER_END: &str = "`AuthorizeFuture` polled after it has ended";

/// The request as the inner service gets to see it. That its answer is to be kept private is never asked for here: tokens in
/// the query are a configuration error.
fn passed_on<K: KeySource, B>(gate: &Gate<K>, pass: Pass, mut request: Request<B>) -> Request<B> {
    gate.pass_on(pass, &mut request);
    request
}

// By hand, because neither `K` nor the body need be `Clone`.
impl<K, ResBody> Clone for RequestAuthorizer<K, ResBody> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.gate))
    }
}

impl<K, ResBody> fmt::Debug for RequestAuthorizer<K, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestAuthorizer").field("gate", &self.gate).finish()
    }
}

impl<K: KeySource, ReqBody, ResBody> fmt::Debug for AuthorizeFuture<K, ReqBody, ResBody> {
    /// Says how far it has come, and nothing of the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Judged { .. } => "Judged",
            State::Waiting { .. } => "Waiting",
        };
        f.debug_tuple("AuthorizeFuture").field(&format_args!("{state}")).finish()
    }
}
