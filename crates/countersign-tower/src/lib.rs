//! The tower layer of [countersign]: every request shows a signed token, or is refused.
//!
//! [`RequireJwtLayer`] puts a [`Verifier`](countersign_verifier::Verifier) before a service that takes
//! [`http::Request`]: axum, tonic, hyper, or any other. It brings no HTTP client and no runtime; where keys come from is the
//! verifier's [`KeySource`](countersign_token::KeySource).
//!
//! # The rules
//!
//! In the order in which they are applied; the first that fails is the answer.
//!
//! 1. A [CORS preflight](RequireJwtLayer::allow_cors_preflight) and an [exempt path](RequireJwtLayer::exempt) go on without a look at
//!    their token, if that is set. Otherwise no method and no path is exempt.
//! 2. One token, in one of the [places](RequireJwtLayer::token_from) where one may be. By default that is the `Authorization` header with
//!    Bearer credentials ([`bearer_token`]); the query, the body and cookies do not count. None is 401 with a challenge and no `error`,
//!    or goes on as nobody's, [if that is set](RequireJwtLayer::optional); several, or a malformed one, 400 `invalid_request`.
//! 3. The verifier accepts the token: if not, 401 `invalid_token`. So is one that is
//!    [revoked](RequireJwtLayer::revocation), where anybody asks.
//! 4. A token whose key is not there yet waits for it, as long as the key source allows. If nobody could look in time, 429
//!    with `Retry-After`; if there are no keys at all, 503 with `Retry-After`. Neither has a challenge, so that no client
//!    throws a good token away.
//! 5. What is [required](RequireJwtLayer::require) of callers is satisfied: if not, 403 `insufficient_scope`, which names all scopes that
//!    the operation needs, or 401 `insufficient_user_authentication` where an authentication is lacking that a client can ask for
//!    (RFC 9470).
//! 6. The request goes to the inner service with [`Verified`](countersign_claims::Verified) in its extensions.
//! 7. Single routes demand more by [`require`], handlers by [`handler::Permit`] or
//!    [`Authenticated::require`](handler::Authenticated::require), and more of what is known of revocations by
//!    [`require_fresh`]. They answer as the layer does, with its realm and metadata.
//!
//! Each refusal has an empty body, unless [something else is made of it](RequireJwtLayer::on_refusal), `Cache-Control: no-store`, and the
//! full [`Refusal`] in its extensions, for outer layers. A POST whose content type is gRPC's (or gRPC-Web's) is refused as gRPC does it: HTTP
//! 200 with `grpc-status` 16, 7 or 14 and `grpc-message` in the headers. An [`Observer`] hears what becomes of each request.
//!
//! A layer that only [watches](RequireJwtLayer::shadow) applies the same rules, tells its observers, and lets every request through.
//!
//! # Who says no
//!
//! A [`Refusal`] is why a request was not let through, whoever has found out. A [`Denied`](countersign_claims::Denied)
//! is the part of it that is about a good token which does not do for something; [`handler::Forbidden`] is that with
//! what a handler needs to answer with it, [`handler::RevocationRefusal`] is a token that may have been revoked, and
//! [`handler::ExtractError`] is whatever keeps a handler from getting what it asks for.
//!
//! # Backpressure
//!
//! The service is ready when the inner one is, and calls the very instance that was polled ready. A request that is refused
//! or has to wait for a key releases at once what was reserved for it: it waits with an instance that was never polled, holds
//! none of the inner service's capacity, and queues for it like a new request once it is admitted. A request that is refused
//! never reaches the inner service.
//!
//! A request whose key is known is judged within `call`, without a lock, a task, a boxed future or an allocation of the
//! layer's own, but for the one entry in the request's extensions.
//!
//! # In a handler
//!
//! [`Claims::from_extensions`](handler::Claims::from_extensions) hands out what was verified wherever there are
//! [`http::Extensions`]: hyper, tonic, a service of one's own. It is in [`handler`], in every build.
//!
//! # gRPC-Web
//!
//! `tonic-web` may stand inside the layer or outside of it; its clients are told the same. A CORS layer goes outside both: it
//! answers preflights, which carry no token, and must expose `grpc-status` and `grpc-message`, or browsers hide them.
//! `tonic-web` answers 400 to what is not gRPC over HTTP/1.1, so on a port that has both it belongs around the gRPC routes
//! alone.
//!
//! # With tower-http
//!
//! From the outermost to the innermost, and why. The example `tower_http` of the repository has the whole stack, and a test for
//! each order that matters.
//!
//! 1. *Sensitive request headers*, then *request id*, then *trace*: a trace that stands outside writes tokens down. A token
//!    [in the query](TokenPlace::query) is in the trace's URI whatever is done.
//! 2. *Sensitive response headers*, *propagated request id*: inside of the trace and outside of what answers by itself.
//! 3. *CORS*: preflights have no token, and a browser hides from its script a 401 without CORS headers.
//! 4. *Catch panic*: inside of both, so that a panic is traced, and can be read.
//! 5. The layer of this crate. What is outside works for strangers too.
//! 6. *Timeout*: the wait for a key has a limit of its own. *Load shedding* and *concurrency limit*: strangers take no place.
//!    *Body limit*: of a stranger's upload nothing is read.
//!
//! ```
//! use std::time::Duration;
//!
//! # use countersign_claims::Policy;
//! # use countersign_token::KeySet;
//! # use countersign_tower::RequireJwtLayer;
//! # use countersign_verifier::Verifier;
//! use axum::{Router, routing::get};
//! use http::{StatusCode, header::{AUTHORIZATION, COOKIE}};
//! use tower::ServiceBuilder;
//! use tower_http::{
//!     cors::CorsLayer, limit::RequestBodyLimitLayer, sensitive_headers::SetSensitiveRequestHeadersLayer,
//!     timeout::TimeoutLayer, trace::TraceLayer,
//! };
//!
//! # let auth = RequireJwtLayer::new(Verifier::new(KeySet::default(), Policy::new().audience("orders")));
//! let stack = ServiceBuilder::new()
//!     .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, COOKIE]))
//!     .layer(TraceLayer::new_for_http())
//!     .layer(CorsLayer::new())
//!     .layer(auth)
//!     .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)))
//!     .layer(RequestBodyLimitLayer::new(1024 * 1024));
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(stack);
//! ```
//!
//! A stack that already has one of tower-http's authorisation layers can have that ask this crate, with the feature
//! `tower-http-0.7`: `RequestAuthorizer` says what it is like, and what it is not.
//!
//! # Probing
//!
//! Signatures cannot be guessed, but whoever tries tokens may learn from the answers, and fills logs. With the feature
//! `governor`, `PeerLimit` answers only so many refusals of an address for what they are, and the others with 429; good tokens
//! from there pass. Without it, [`limit_refusals`](RequireJwtLayer::limit_refusals) takes a [`RefusalLimit`] of your own.
//!
//! # Uploads
//!
//! A refusal reads nothing of the request's body, and drops it. Over HTTP/1.1 hyper then does not ask for a body announced by
//! `Expect: 100-continue`, and closes the connection if a body is still on its way; over HTTP/2 it ends the stream with
//! `NO_ERROR`, and the connection goes on.
//!
//! # When a token is judged
//!
//! When its request arrives, or after the wait for its key. How long an admitted request then queues for the inner service is
//! not counted, nor how long the service works on it. What answers for longer, a stream or a WebSocket, has `Deadline` for it (the
//! feature `tokio`).
//!
//! Whether a token has been revoked is asked at the same time. [`require_fresh`] asks again, at a route or in a
//! handler, and a `Deadline` for as long as it is waited for.
//!
//! Two layers around one service both judge; the inner one's [`Verified`](countersign_claims::Verified) is what the
//! handler sees, and what that layer asks of revocations is what is asked again. A handler cannot tell which policy a
//! token has satisfied: routes with different policies want different layers.
//!
//! # Signed requests
//!
//! Where one token must not do for a second request, [`signed_requests`](RequireJwtLayer::signed_requests) takes only those that
//! their clients have signed, one by one: method, URL and body. What such a token is says
//! [`countersign_claims::signed_request`], and how to make one
//! [REQUESTS.md](https://github.com/countersign-rs/countersign/blob/main/REQUESTS.md).
//!
//! # Behind a proxy
//!
//! A gRPC refusal is HTTP 200. A proxy that asks this service whether to let a request pass, and goes by the status alone, must
//! not hand on both the method and the content type of that request, or its sender chooses the answer.
//!
//! The layer sees what reaches it. A proxy that joins two `Authorization` headers with a comma makes a malformed one of
//! them, which is refused; a proxy that drops one makes the choice itself.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use countersign_claims::{Policy, Verified, scope};
//! use countersign_token::{Algorithm, KeySet, SigningKey};
//! use countersign_tower::RequireJwtLayer;
//! use countersign_verifier::Verifier;
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = SigningKey::generate(Algorithm::Es256)?;
//! let verifier = Verifier::new(KeySet::new([issuer.verifying_key()?]), Policy::new().audience("orders"));
//!
//! let service = ServiceBuilder::new()
//!     .layer(RequireJwtLayer::new(verifier).realm("orders").require(scope("orders:read")))
//!     .service(service_fn(async |request: Request<()>| {
//!         let caller = request.extensions().get::<Verified>().and_then(Verified::subject);
//!         Ok::<_, Infallible>(Response::new(caller.unwrap_or("nobody").to_owned()))
//!     }));
//!
//! let exp = 4_000_000_000_u64;
//! let reader = issuer.sign(&serde_json::json!({ "aud": "orders", "exp": exp, "sub": "ada", "scope": "orders:read" }))?;
//! let request = Request::builder().header("authorization", format!("Bearer {reader}")).body(())?;
//! let response = service.clone().oneshot(request).await?;
//! assert_eq!((response.status().as_u16(), response.body().as_str()), (200, "ada"));
//!
//! let response = service.clone().oneshot(Request::new(())).await?;
//! assert_eq!(response.status(), 401);
//! assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="orders", scope="orders:read""#);
//!
//! let other = issuer.sign(&serde_json::json!({ "aud": "orders", "exp": exp, "sub": "bob" }))?;
//! let request = Request::builder().header("authorization", format!("Bearer {other}")).body(())?;
//! let response = service.oneshot(request).await?;
//! assert_eq!(response.status(), 403);
//! # Ok(())
//! # }
//! ```
//!
//! # Crate features
//!
//! `axum` and `tonic-0.14` bring what is in [`handler`] to the root as well.
//!
//! - `axum` (off): `Claims` and `Authenticated` are axum extractors, and `Forbidden` and `RevocationRefusal` are axum responses.
//!   Costs `axum-core`. The layer works under axum without it, and what it does does not depend on it.
//! - `metrics` (off): `RequestMetrics`, for a recorder of the `metrics` crate. Costs `metrics`; nothing is counted until it is an observer.
//! - `tokio` (off): `Deadline`, at which connections end that outlive their request. Costs tokio with its timer, and `futures-core`.
//! - `tonic-0.14` (off): [`Refusal`], `ExtractError`, `Forbidden` and `RevocationRefusal` turn into `tonic::Status`. Costs tonic
//!   without its features, and tokio with it. The layer works under tonic without it, and answers gRPC in every build.
//! - `tower-http-0.7` (off): `RequestAuthorizer`, for tower-http's own authorisation layers. Costs tower-http with these. The
//!   layer stands among tower-http's others without it.
//! - `governor` (off): `PeerLimit`, a limit on refused requests for each peer. Costs governor.
//! - `tracing` (off): `Traces`, fields of spans and events for `tracing` 0.1. Costs `tracing`; nothing is said until it is an observer.
//!
//! [countersign]: https://docs.rs/countersign

mod answers;
mod authorise;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod caller;
mod challenge;
mod clock;
mod codes;
#[cfg(feature = "metrics")]
mod counts;
#[cfg(feature = "tokio")]
pub mod deadline;
mod extract;
mod forward;
mod fresh;
mod future;
mod gate;
mod grpc;
pub mod handler;
mod layer;
mod limit;
#[cfg(feature = "metrics")]
pub mod metrics;
mod observe;
mod on_refusal;
mod open;
#[cfg(feature = "governor")]
mod peer_limit;
mod permit;
mod place;
mod refusal;
mod resource_metadata;
mod response;
mod service;
mod signed;
#[cfg(feature = "tonic-0.14")]
mod tonic;
#[cfg(feature = "tower-http-0.7")]
mod tower_http;
#[cfg(feature = "tracing")]
pub mod traces;

#[cfg(feature = "axum")]
pub use self::axum::ExtractRejection;
#[cfg(feature = "tower-http-0.7")]
pub use self::tower_http::{AuthorizeFuture, RequestAuthorizer};
pub use authorise::{Require, RequireFuture, RequireLayer, require, require_fresh};
pub use body::EmptyBody;
pub use caller::Caller;
pub use challenge::DEFAULT_REALM;
pub use clock::SystemClock;
#[cfg(feature = "tokio")]
pub use deadline::{Deadline, Ended};
pub use extract::bearer_token;
pub use future::ResponseFuture;
// Always in `handler`. Here only with a framework's feature, so that whoever forgot it is told so by the compiler: an axum
// handler over a `Claims` that is no extractor would make it complain of `Handler`, and of nothing that helps.
#[cfg(any(feature = "axum", feature = "tonic-0.14"))] // with neither: `countersign_tower::handler`
pub use handler::{Authenticated, Claims, ExtractError, Forbidden, Permit, RevocationRefusal};
pub use layer::RequireJwtLayer;
pub use limit::{RefusalLimit, Refused};
#[cfg(feature = "metrics")]
pub use metrics::RequestMetrics;
pub use observe::{Judged, Observer, Outcome};
pub use on_refusal::{OnRefusal, OnRefusalFuture, OnRefusalLayer, ProblemDetails, RefusalResponse};
#[cfg(feature = "governor")]
pub use peer_limit::PeerLimit;
pub use place::TokenPlace;
pub use refusal::Refusal;
pub use resource_metadata::{ResourceMetadata, ResourceMetadataService};
pub use service::RequireJwt;
pub use signed::{
    DEFAULT_MAX_SIGNED_BODY, RequestRefusal, SignedBody, SignedRequest, SignedRequestFuture, SignedRequestLayer,
    SignedRequests,
};
#[cfg(feature = "tracing")]
pub use traces::Traces;
