//! axum's traits for what handlers write: extractors, and answers.

use std::fmt;

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use countersign_claims::ClaimsType;
use http::request::Parts;

use crate::handler::{Authenticated, Claims, ExtractError, Forbidden};
use crate::{grpc, response};

/// A token whose claims do not fit `T` is answered with 401 `invalid_token`; a route without the layer with 500 and a text
/// that says so.
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign_claims::{Policy, scope};
/// use countersign_token::{Algorithm, KeySet, SigningKey};
/// use countersign_tower::{Authenticated, Claims, Forbidden, RequireJwtLayer};
/// use countersign_verifier::Verifier;
///
/// #[derive(serde::Deserialize)]
/// struct MyClaims {
///     sub: String,
/// }
///
/// async fn hello(claims: Claims<MyClaims>) -> String {
///     format!("hello {}", claims.sub)
/// }
///
/// async fn cancel(caller: Authenticated) -> Result<&'static str, Forbidden> {
///     caller.require(&scope("orders:write"))?;
///     Ok("cancelled")
/// }
///
/// # let issuer = SigningKey::generate(Algorithm::Es256)?;
/// # let verifier = Verifier::new(KeySet::new([issuer.verifying_key()?]), Policy::new().audience("orders"));
/// # let app: Router =
/// Router::new().route("/", get(hello)).route("/cancel", get(cancel)).layer(RequireJwtLayer::new(verifier))
/// # ;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `Router::layer` covers the routes and the fallback that are there when it is called, and nothing that is added later.
impl<T: ClaimsType, S: Send + Sync> FromRequestParts<S> for Claims<T> {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractRejection> {
        Self::from_extensions(&parts.extensions).map_err(|error| ExtractRejection::new(error, parts))
    }
}

/// A route without the layer is answered with 500 and a text that says so.
impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractRejection> {
        Self::from_extensions(&parts.extensions).map_err(|error| ExtractRejection::new(error, parts))
    }
}

/// Why the extractors [`Claims`] or [`Authenticated`] failed: an [`ExtractError`] that knows how the request wants to be
/// answered.
#[derive(Clone, Debug)]
pub struct ExtractRejection {
    error: ExtractError,
    grpc: Option<grpc::Kind>,
}

impl ExtractRejection {
    fn new(error: ExtractError, request: &Parts) -> Self {
        Self { error, grpc: grpc::Kind::of(&request.method, &request.headers) }
    }

    /// What is wrong.
    #[must_use]
    pub fn error(&self) -> &ExtractError {
        &self.error
    }
}

impl fmt::Display for ExtractRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ExtractRejection {}

impl IntoResponse for ExtractRejection {
    fn into_response(self) -> Response {
        match (self.error.refusal(), self.grpc) {
            // The realm is the layer's affair, and `error` is parameter enough.
            (Some(refusal), grpc) => response::refusal(refusal, grpc, None).map(|()| Body::empty()),
            (None, Some(grpc)) => response::no_layer(Some(grpc)).map(|()| Body::empty()),
            (None, None) => (response::no_layer(None).into_parts().0, self.error.to_string()).into_response(),
        }
    }
}

impl IntoResponse for Forbidden {
    fn into_response(self) -> Response {
        response::refusal(self.into(), None, None).map(|()| Body::empty())
    }
}
