//! What axum handlers write: `Claims<T>` and `Authenticated` to get at the token, `Forbidden` to refuse.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use countersign_claims::{ClaimsType, InsufficientScope, Verified};
use countersign_verifier::Refusal as TokenRefusal;
use http::StatusCode;
use http::request::Parts;

use crate::refusal::Refusal;
use crate::{grpc, response};

/// The claims of the request's token, read into `T`. Cheap to clone.
///
/// They are read when first asked for, and shared from then on ([`Verified::claims`]). A token whose claims do not fit `T`
/// is answered with 401 `invalid_token`; a route without the layer with 500 and a text that says so.
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
/// async fn cancel(Authenticated(verified): Authenticated) -> Result<&'static str, Forbidden> {
///     scope("orders:write").check(&verified)?;
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
/// What cannot be read from claims does not compile, and the compiler says what is missing:
///
/// ```compile_fail,E0277
/// use countersign_tower::Claims;
///
/// struct NotReadable;
///
/// async fn hello(claims: Claims<NotReadable>) {}
/// ```
///
/// It is opaque: take it as `claims: Claims<MyClaims>` and use it like a `&MyClaims`, or take the `Arc` out with
/// [`into_inner`](Self::into_inner). `MyClaims` owns its fields (`String`, not `&str`).
///
/// `Router::layer` covers the routes and the fallback that are there when it is called, and nothing that is added later.
pub struct Claims<T: ClaimsType>(Arc<T>);

impl<T: ClaimsType> Claims<T> {
    /// The claims, shared with everybody who holds this token.
    #[must_use]
    pub fn into_inner(this: Self) -> Arc<T> {
        this.0
    }
}

impl<T: ClaimsType> Deref for Claims<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ClaimsType> Clone for Claims<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ClaimsType + fmt::Debug> fmt::Debug for Claims<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claims").field(&self.0).finish()
    }
}

impl<T: ClaimsType, S: Send + Sync> FromRequestParts<S> for Claims<T> {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractRejection> {
        match verified(parts)?.claims() {
            Ok(claims) => Ok(Self(claims)),
            Err(error) => Err(ExtractRejection(Reason::Refused {
                refusal: Refusal::Token(TokenRefusal::ClaimsType(error)),
                grpc: grpc::Kind::of(&parts.method, &parts.headers),
            })),
        }
    }
}

/// The request's token as it was verified: issuer, subject, scopes, times. A route without the layer answers 500.
///
/// [`Verified`] has one source, a verification that passed, so nothing else can make this extractor succeed.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Verified);

impl Deref for Authenticated {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ExtractRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractRejection> {
        verified(parts).cloned().map(Self)
    }
}

fn verified(parts: &Parts) -> Result<&Verified, ExtractRejection> {
    parts.extensions.get().ok_or(ExtractRejection(Reason::NoLayer))
}

/// Why [`Claims`] or [`Authenticated`] could not be had.
#[derive(Clone, Debug)]
pub struct ExtractRejection(Reason);

#[derive(Clone, Debug)]
enum Reason {
    NoLayer,
    Refused { refusal: Refusal, grpc: Option<grpc::Kind> },
}

impl ExtractRejection {
    /// The refusal, if the token is to blame; `None` if the route has no layer, which is the service's own fault.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.0 {
            Reason::NoLayer => None,
            Reason::Refused { refusal, .. } => Some(refusal),
        }
    }
}

impl fmt::Display for ExtractRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::NoLayer => f.write_str(NO_LAYER),
            Reason::Refused { refusal, .. } => refusal.fmt(f),
        }
    }
}

const NO_LAYER: &str = "this route has no countersign layer: its handler asks for a verified token, and nobody has \
                        verified one; add the layer to the router after the route";

impl std::error::Error for ExtractRejection {}

impl IntoResponse for ExtractRejection {
    fn into_response(self) -> Response {
        match self.0 {
            Reason::NoLayer => (StatusCode::INTERNAL_SERVER_ERROR, NO_LAYER).into_response(),
            // The realm is the layer's affair, and `error` is parameter enough.
            Reason::Refused { refusal, grpc } => response::refusal(refusal, grpc, None).map(|()| Body::empty()),
        }
    }
}

/// What a handler returns to a caller who is known and lacks a scope: 403 with the challenge of RFC 6750 §3.1, which names
/// all scopes that are needed.
///
/// [`Scopes::check`](countersign_claims::Scopes::check) with `?` makes one. It has seen no request, so it answers as plain
/// HTTP, to gRPC callers too, and without a `realm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden(pub InsufficientScope);

impl From<InsufficientScope> for Forbidden {
    fn from(lacking: InsufficientScope) -> Self {
        Self(lacking)
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Forbidden {}

impl IntoResponse for Forbidden {
    fn into_response(self) -> Response {
        response::refusal(self.0.into(), None, None).map(|()| Body::empty())
    }
}
