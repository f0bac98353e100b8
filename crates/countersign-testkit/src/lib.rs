//! Test that your service lets in whom it should, and nobody else: with a real identity provider on loopback, real tokens,
//! and a catalogue of attacks on them.
//!
//! - [`IdentityProvider`] publishes keys at a JWKS URL on a real socket, rotates them on demand, and stalls, fails and lies
//!   when it is told to ([`Answer`]).
//! - [`Token`] makes good tokens, and bad ones, one step away from good.
//! - [`Token::hostile`] is a catalogue of forgeries that every verifier must refuse.
//! - [`ManualClock`] is a wall clock that a test moves.
//! - [`TestKey`]s are made once per process, because RSA keys take long to make.
//!
//! It belongs under `[dev-dependencies]`: nothing here is fit for production, least of all the keys.
//!
//! # Your service against the catalogue
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
