//! Test that your service lets in whom it should, and nobody else: with a real identity provider on loopback, real tokens,
//! and a catalogue of attacks on them.
//!
//! - [`IdentityProvider`] publishes keys at a JWKS URL on a real socket, rotates them on demand, and stalls, fails and lies
//!   when it is told to ([`Answer`]).
//! - [`Token`] makes good tokens, and bad ones, one step away from good.
//! - [`Token::hostile`] is a catalogue of forgeries that every verifier must refuse.
//! - [`ManualClock`] is a wall clock that a test moves.
//! - [`TestKey`]s are made once per process, because RSA keys take long to make.
//! - [`DangerousFakeAuth`] takes every request for that of a caller that you make up.
//!
//! It belongs under `[dev-dependencies]`: nothing here is fit for production, least of all the keys.
//! `cargo tree -e normal -i countersign-testkit` names whatever you ship that has it, and should find nothing.
//!
//! # Three levels of tests
//!
//! Have the routes apart from the layer, `fn routes() -> Router` and `fn app(auth: JwtAuth) -> Router`: then each of these is
//! a few lines.
//!
//! ## 1. What a handler does for whom
//!
//! [`DangerousFakeAuth`] stands in the place of `JwtAuth`: no provider, no network, no cryptography per request. Right for the many
//! tests in which somebody is logged in. It refuses nobody, so it says nothing about who is kept out.
//!
//! ```
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use axum::{Router, routing::post};
//! use countersign::{Authenticated, Forbidden, scope};
//! use countersign_testkit::DangerousFakeAuth;
//! use tower::ServiceExt as _;
//!
//! async fn cancel(caller: Authenticated) -> Result<&'static str, Forbidden> {
//!     caller.require(&scope("orders:write"))?;
//!     Ok("cancelled")
//! }
//!
//! fn routes() -> Router {
//!     Router::new().route("/cancel", post(cancel))
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! for (scopes, expected) in [("orders:read orders:write", StatusCode::OK), ("orders:read", StatusCode::FORBIDDEN)] {
//!     let caller = DangerousFakeAuth::subject("ada").scope(scopes);
//! #   let caller = caller.even_in_release_builds();
//!     let app = routes().layer(caller);
//!     let response = app.oneshot(Request::post("/cancel").body(Body::empty())?).await?;
//!     assert_eq!(response.status(), expected);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Under tonic it is a layer as well; for a method that is called as a function, its request gets
//! `request.extensions_mut().insert(fake.verified())`.
//!
//! ## 2. The service as it is shipped
//!
//! The layer with its whole configuration, and an [`IdentityProvider`] in place of yours. It rotates, goes down and lies when it is told to.
//!
//! ```
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use axum::{Router, routing::get};
//! use countersign::JwtAuth;
//! use countersign_testkit::{IdentityProvider, Token};
//! use tower::ServiceExt as _;
//!
//! fn app(auth: JwtAuth) -> Router {
//!     Router::new().route("/", get(async || "hello")).layer(auth)
//! }
//!
//! async fn status(app: &Router, token: &Token) -> StatusCode {
//!     let request = Request::get("/").header("authorization", format!("Bearer {}", token.sign()));
//!     app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
//! }
//!
//! # #[tokio::main]
//! # async fn main() {
//! let idp = IdentityProvider::start();
//! let app = app(JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("orders"));
//! assert_eq!(status(&app, &idp.token("orders")).await, StatusCode::OK);
//! assert_eq!(status(&app, &idp.token("billing")).await, StatusCode::UNAUTHORIZED);
//!
//! // A new key is looked for when its first token comes; nobody is refused.
//! idp.rotate();
//! let token = idp.token("orders");
//! assert_eq!(status(&app, &token).await, StatusCode::OK);
//!
//! // While the provider is down, the keys that are known go on to serve.
//! idp.stop();
//! assert_eq!(status(&app, &token).await, StatusCode::OK);
//! # }
//! ```
//!
//! ## 3. What attackers try
//!
//! [`Token::hostile`] against a route shows that the layer is on it, configured as it should be. Run it over all of your routes, and one that
//! was added outside of the layer is found.
//!
//! ```
//! use axum::body::Body;
//! use axum::http::{HeaderValue, Request, StatusCode};
//! use axum::{Router, routing::get};
//! use countersign::JwtAuth;
//! use countersign_testkit::IdentityProvider;
//! use tower::ServiceExt as _;
//!
//! fn app(jwks_url: &str, issuer: &str) -> Router {
//!     let auth = JwtAuth::new(jwks_url).issuer(issuer).audience("orders");
//!     Router::new().route("/", get(async || "hello")).layer(auth)
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let idp = IdentityProvider::start();
//! let app = app(&idp.jwks_url(), idp.issuer());
//! let request = |value: HeaderValue| Request::get("/").header("authorization", value).body(Body::empty());
//!
//! let good = idp.token("orders");
//! let value = format!("Bearer {}", good.sign()).parse()?;
//! assert_eq!(app.clone().oneshot(request(value)?).await?.status(), StatusCode::OK);
//!
//! for hostile in good.hostile() {
//!     // Some cannot be put into a header.
//!     let Some(value) = hostile.authorization() else { continue };
//!     let status = app.clone().oneshot(request(value)?).await?.status();
//!     // A service that has to look for a key may say "ask again".
//!     let refused = status.is_client_error() && (status != StatusCode::TOO_MANY_REQUESTS || hostile.names_unknown_key);
//!     assert!(refused, "{}: {status}", hostile.attack);
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod clock;
mod fake_auth;
mod hostile;
mod keys;
mod provider;
mod server;
mod token;

pub use answer::Answer;
pub use clock::ManualClock;
pub use fake_auth::{DangerousFakeAuth, DangerousFakeAuthService, FAKE_LIFETIME};
pub use hostile::HostileToken;
pub use keys::TestKey;
pub use provider::{IdentityProvider, MAX_RECORDED_REQUESTS, RecordedRequest};
pub use token::{DEFAULT_LIFETIME, Token};
