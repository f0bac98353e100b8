//! axum's traits for what handlers write: extractors, and answers.

use std::fmt;
use std::sync::Arc;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use countersign_claims::{ClaimsType, Permission};
use http::request::Parts;

use crate::answers::Answers;
use crate::fresh::RevocationRefusal;
use crate::grpc;
use crate::handler::{Authenticated, Caller, Claims, ExtractError, Forbidden, Permit, answers};
use crate::resource_metadata::ResourceMetadata;

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

/// `None` where there is no caller, which the layer must [allow](crate::RequireJwtLayer::optional).
impl<T: ClaimsType, S: Send + Sync> OptionalFromRequestParts<S> for Claims<T> {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, ExtractRejection> {
        optional(Self::from_extensions(&parts.extensions), parts)
    }
}

/// A route without the layer is answered with 500 and a text that says so.
impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractRejection> {
        Self::from_extensions(&parts.extensions).map_err(|error| ExtractRejection::new(error, parts))
    }
}

/// `None` where there is no caller, which the layer must [allow](crate::RequireJwtLayer::optional).
impl<S: Send + Sync> OptionalFromRequestParts<S> for Authenticated {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, ExtractRejection> {
        optional(Self::from_extensions(&parts.extensions), parts)
    }
}

/// Fails only where there is no layer, or one that only watches.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractRejection> {
        Self::from_extensions(&parts.extensions).map_err(|error| ExtractRejection::new(error, parts))
    }
}

/// A caller who may not is answered with 403, or 401 where an authentication is lacking; a route without the layer with 500.
impl<P: Permission, S: Send + Sync> FromRequestParts<S> for Permit<P> {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractRejection> {
        Self::from_extensions(&parts.extensions).map_err(|error| ExtractRejection {
            scope: P::requirement().scopes_to_ask_for(),
            ..ExtractRejection::new(error, parts)
        })
    }
}

fn optional<T>(extracted: Result<T, ExtractError>, parts: &Parts) -> Result<Option<T>, ExtractRejection> {
    match extracted {
        Ok(extracted) => Ok(Some(extracted)),
        Err(ExtractError::Anonymous(_)) => Ok(None),
        Err(error) => Err(ExtractRejection::new(error, parts)),
    }
}

/// Why an extractor failed: an [`ExtractError`] that knows how the request wants to be answered, and how its layer words refusals.
#[derive(Clone)]
pub struct ExtractRejection {
    error: ExtractError,
    grpc: Option<grpc::Kind>,
    answers: Option<Arc<Answers>>,
    /// What a caller without a token should ask for, on top of what the layer says.
    scope: &'static str,
}

impl ExtractRejection {
    fn new(error: ExtractError, request: &Parts) -> Self {
        let answers = answers(&request.extensions);
        let grpc = Answers::kind_or_default(answers.as_deref(), &request.method, &request.headers);
        Self { error, grpc, answers, scope: "" }
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

impl fmt::Debug for ExtractRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExtractRejection").field(&self.error).finish()
    }
}

impl std::error::Error for ExtractRejection {}

impl IntoResponse for ExtractRejection {
    fn into_response(self) -> Response {
        if self.error.refusal().is_some() || self.grpc.is_some() {
            return self.error.answer(self.answers.as_deref(), self.grpc, self.scope).map(|()| Body::empty());
        }
        misconfigured(self.error)
    }
}

/// For the service's own developers, who are the only ones to see it.
fn misconfigured(error: ExtractError) -> Response {
    let text = error.to_string();
    (error.answer(None, None, "").into_parts().0, text).into_response()
}

impl IntoResponse for Forbidden {
    fn into_response(self) -> Response {
        self.answer(None).map(|()| Body::empty())
    }
}

impl IntoResponse for RevocationRefusal {
    fn into_response(self) -> Response {
        if self.refusal().is_none() {
            return misconfigured(ExtractError::RevocationRefusal(self));
        }
        self.answer(None).map(|()| Body::empty())
    }
}

/// The document: for `get(metadata)`.
impl IntoResponse for ResourceMetadata {
    fn into_response(self) -> Response {
        Self::response(self.to_json())
    }
}
