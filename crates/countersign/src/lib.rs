//! Stateless JWT authentication for axum, hyper, tonic and every other tower stack.
//!
//! A service checks each request's token itself, in microseconds, with the issuer's public keys at hand; a background
//! task follows the issuer's rotation. No request waits for the network while its key is known, and none of those is
//! refused because the issuer is down, for up to a day ([`JwtAuth::max_stale`]).
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # mod example {
//! use axum::{Router, routing::get};
//! use countersign::{Claims, JwtAuth};
//!
//! #[derive(serde::Deserialize)]
//! struct MyClaims { sub: String }
//!
//! async fn hello(claims: Claims<MyClaims>) -> String {
//!     format!("Hello, {}!", claims.sub)
//! }
//!
//! pub fn app() -> Router {
//!     let auth = JwtAuth::new("https://login.example/.well-known/jwks.json")
//!         .issuer("https://login.example")
//!         .audience("orders");
//!     Router::new().route("/", get(hello)).layer(auth)
//! }
//! # }
//! # #[cfg(feature = "axum")]
//! # example::app();
//! ```
//!
//! # What a request gets
//!
//! | the request | HTTP | gRPC |
//! |---|---|---|
//! | has a good token | passed on, with [`Verified`] in its extensions | the same |
//! | has no bearer token | 401, a challenge without `error` | 16 |
//! | has two tokens, or something that is no token syntax | 400 `invalid_request` | 16 |
//! | has a token that is malformed, expired, revoked, badly signed, for somebody else, or of a key that was looked for and not found | 401 `invalid_token` | 16 |
//! | lacks a scope, a role, or whatever else is required | 403 `insufficient_scope` | 7 |
//! | is of an authentication that is too weak or too old (RFC 9470) | 401 `insufficient_user_authentication` | 16 |
//! | names a key that could not be looked for in time | 429 with `Retry-After` | 14 |
//! | comes while there are no usable keys at all, or, where that is refused, while it is not known what has been revoked | 503 with `Retry-After` | 14 |
//!
//! A request is gRPC if it is a POST with gRPC's content type; its refusals are HTTP 200, as gRPC wants them.
//! [REFUSALS.md](https://github.com/countersign-rs/countersign/blob/main/REFUSALS.md) has each to the letter. [`middleware`] says in which order
//! the rules are applied, which types say no, and how the layer stands among others.
//!
//! # Who may do what
//!
//! A [`Requirement`] is a value: [`scope`], [`claim`] (roles and groups, at any JSON pointer), [`client_id`], [`acr`], [`authenticated_within`],
//! [`predicate`] and others, joined by [`and`](Requirement::and), [`or`](Requirement::or) and [`not`](Requirement::not). It is demanded of all
//! callers by [`JwtAuth::require`], before a route by the function [`require`], and in a handler by `Authenticated::require`, or by an argument
//! `Permit<P>`, which is the proof of it; [`permission!`] makes the `P`. Which scope implies another, and which claims hold scopes, is the
//! [`Policy`]'s: [`Policy::scope_implies`], [`Policy::scope_claim`], by [`JwtAuth::policy`].
//!
//! Not everybody needs a token: [`JwtAuth::optional`] (with [`Caller`]), [`JwtAuth::exempt`], [`JwtAuth::allow_cors_preflight`].
//!
//! # Where the keys come from
//!
//! [`JwtAuth::new`] takes a JWKS URL, [`JwtAuth::discover`] an issuer, [`JwtAuth::issuers`] many, [`JwtAuth::from_remote`] a [`Remote`] with mirrors or a
//! cache for warm starts, [`JwtAuth::from_keys`] files ([`Local`]) and unions ([`Keys::union`]), and [`JwtAuth::with_keys`] keys that do not change.
//! A key that the issuer withdraws is accepted for five minutes more if the issuer does not say otherwise, an hour at most ([`JwtAuth::max_lifetime`]),
//! while the issuer answers, and up to a day while it does not ([`JwtAuth::max_stale`]); both bounds are in [`KeyStatus`].
//! [`JwtAuth::handle`] has readiness, state and events. [`jwks`] lists what is guaranteed, and
//! [FAILURES.md](https://github.com/countersign-rs/countersign/blob/main/FAILURES.md) what a request gets when the issuer fails.
//!
//! # What is revoked
//!
//! A signed token is good until its `exp`, unless somebody says otherwise. [`JwtAuth::revocation`] takes a [`RevocationList`]: tokens (`jti`), subjects, clients,
//! sessions, tenants and keys that count no more, in memory beside the verifier, which asks it with each request, in less than a hundredth of a signature check. A [`Revoker`] puts them there,
//! [`SnapshotFile`] brings them from elsewhere, where a [`FileSink`] has written them. [`revocation`] says what is guaranteed, and
//! [REVOCATION.md](https://github.com/countersign-rs/countersign/blob/main/REVOCATION.md) how to go about it.
//!
//! # In a handler
//!
//! Under axum, `Claims`, `Authenticated`, `Caller` and `Permit` are extractors. Everywhere else there is
//! [`Claims::from_extensions`](handler::Claims::from_extensions), for hyper's requests and for tonic's; without the features
//! below it is found in [`handler`].
//!
//! What answers for longer than its token is good, such as SSE, a WebSocket or a gRPC stream, ends at a [`Deadline`].
//!
//! # Crate features
//!
//! - `reqwest` (default): the HTTP client that fetches a JWKS URL. Costs `reqwest` with rustls on aws-lc-rs. Leave it out if
//!   your keys are static or you bring your own [`Fetch`](token::Fetch).
//! - `object_store-0.14`: [`Remote`] can be an object in S3, GCS or Azure (`Remote::object`). Costs `object_store`, whose clients your own
//!   dependency on it switches on.
//! - `redis`: `RedisCache`, so that a fleet starts warm from one Redis. Costs the `redis` crate. `redis-tls`: with TLS,
//!   which costs rustls, as `reqwest` does.
//! - `metrics`: `JwtAuth::metrics`, requests and keys for a recorder of the `metrics` crate, 0.24. Costs `metrics`.
//! - `axum`: `Claims`, `Authenticated` (both also as `Option`), `Caller` and `Permit` are axum extractors, `Forbidden` and [`ResourceMetadata`] axum
//!   responses. Costs `axum-core`.
//! - `tonic-0.14`: [`Refusal`], `ExtractError` and `Forbidden` turn into `tonic::Status` by `?`. Costs tonic without its
//!   features. gRPC callers are refused as gRPC says in every build.
//! - `tower-http-0.7`: `JwtAuth::authorizer`, for tower-http's own authorisation layers. Costs tower-http with these. How
//!   [`JwtAuth`] goes with its other layers is in [`middleware`], and needs no feature.
//! - `governor`: `PeerLimit`, a limit on refused requests for each peer. Costs governor.
//! - `tracing`: `JwtAuth::traced`, what became of a request as fields of its span, and refusals as events. Costs nothing: what sources log is
//!   there in every build.
//!
//! # The crates behind it
//!
//! [`token`] takes tokens apart and checks signatures, [`claims`] judges what they say, [`verifier`] joins the two
//! without I/O (for WebSockets, queues, TCP), [`jwks`] keeps the keys fresh, [`revocation`] knows what counts no more, [`middleware`] is the tower layer.

mod auth;
mod explain;
mod handle;
#[cfg(feature = "metrics")]
mod metrics;

pub use auth::JwtAuth;
pub use explain::Explanation;
pub use handle::{Handle, Warning};
#[cfg(feature = "metrics")]
pub use metrics::{MAX_SOURCE_LABELS, MIN_FLUSH_INTERVAL, Metrics};

pub use countersign_claims::{
    ClaimError, ClaimPointer, ClaimRule, ClaimValue, ClaimsType, Clock, ConfigError, Denied, Permission, Policy,
    Requirement, Scalar, StepUp, UnixTime, Verified, acr, all, any, any_scope, authenticated_within, claim, client_id,
    client_id_in, permission, predicate, scope, scopes, subject,
};
#[cfg(feature = "redis")]
pub use countersign_jwks::RedisCache;
pub use countersign_jwks::{
    CacheError, CacheFuture, FileCache, ImportError, Issuers, KeyCache, KeyEvent, KeyEvents, KeyState, KeyStatus, Keys,
    KeysHandle, Local, NotFresh, NotReady, RefreshError, Remote, SourceError, Tenants,
};
pub use countersign_revocation::{FileSink, RevocationCheck, RevocationList, Revoker, SnapshotFile};
pub use countersign_token::{Algorithm, AlgorithmSet, JwkSet, KeySet, Origin, SigningKey, VerifyingKey};
#[cfg(feature = "axum")]
pub use countersign_tower::ExtractRejection;
#[cfg(feature = "governor")]
pub use countersign_tower::PeerLimit;
#[cfg(feature = "tower-http-0.7")]
pub use countersign_tower::RequestAuthorizer;
pub use countersign_tower::deadline::{self, Deadline, Ended};
// Always in `handler`; here only with a framework's feature, so that whoever forgot it is told so by the compiler.
#[cfg(any(feature = "axum", feature = "tonic-0.14"))] // with neither: `countersign::handler`
pub use countersign_tower::handler::{Authenticated, Claims, ExtractError, Forbidden, Permit, RevocationRefusal};
pub use countersign_tower::{
    Caller, Judged, Observer, OnRefusalLayer, Outcome, ProblemDetails, Refusal, RefusalLimit, RefusalResponse, Refused,
    RequireJwt, RequireJwtLayer, RequireLayer, ResourceMetadata, SystemClock, TokenPlace, handler, require,
    require_fresh,
};
#[cfg(feature = "tracing")]
pub use countersign_tower::{Traces, traces};
pub use countersign_verifier::{
    DEFAULT_CACHED_BYTES, DEFAULT_CACHED_TOKENS, Report, TokenCacheStatus, Verdict, Verifier,
};

pub use countersign_claims as claims;
pub use countersign_jwks as jwks;
pub use countersign_revocation as revocation;
pub use countersign_token as token;
pub use countersign_tower as middleware;
pub use countersign_verifier as verifier;
