//! What handlers write, whatever the framework: [`Claims`] and [`Authenticated`] to get at the token, [`Caller`] where
//! there need be none, [`Permit`] for one that may do something, and what they answer when it cannot be had, does not
//! grant enough, or may be revoked.
//!
//! Under axum, these four are extractors; that takes the feature `axum`. Without a framework, and under tonic, they
//! come from the request's extensions, and [`ExtractError`], [`Forbidden`], [`NotFresh`] and [`Refusal`] each have an
//! `into_response` that answers this request, HTTP or gRPC, in one line. With the feature `tonic-0.14` these turn into
//! `tonic::Status` by `?`.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::{ClaimsType, ClaimsTypeError, Denied, Permission, Requirement, Verified};
use countersign_verifier::Refusal as TokenRefusal;
use http::{Extensions, HeaderMap, Method, Response};

use crate::answers::Answers;
use crate::caller::{Anonymous, ShadowedBy, nobody};
use crate::challenge::Wording;
use crate::refusal::Refusal;
use crate::{grpc, response};

pub use crate::caller::Caller;
pub use crate::fresh::NotFresh;
pub use crate::permit::Permit;

/// The claims of the request's token, read into `T`. Cheap to clone.
///
/// They are read when first asked for, and shared from then on ([`Verified::claims`]). Under axum it is an extractor (with
/// the feature `axum`); elsewhere it comes [from the request's extensions](Self::from_extensions).
///
/// ```
/// use countersign_tower::handler::{Claims, ExtractError};
/// use http::{Request, Response};
///
/// #[derive(serde::Deserialize)]
/// struct MyClaims {
///     sub: String,
/// }
///
/// fn hello(request: &Request<String>) -> Result<Response<String>, ExtractError> {
///     let claims = Claims::<MyClaims>::from_extensions(request.extensions())?;
///     Ok(Response::new(format!("hello {}", claims.sub)))
/// }
///
/// // A handler behind the layer always finds a token. Without the layer it is the service's own fault: 500.
/// let request = Request::new(String::new());
/// let response = hello(&request)
///     .unwrap_or_else(|error| error.into_response(request.method(), request.headers(), request.extensions()));
/// assert_eq!(response.status(), 500);
/// ```
///
/// What cannot be read from claims does not compile, and the compiler says what is missing:
///
/// ```compile_fail,E0277
/// use countersign_tower::handler::Claims;
///
/// struct NotReadable;
///
/// fn hello(claims: Claims<NotReadable>) {}
/// ```
///
/// It is opaque: take it as `claims: Claims<MyClaims>` and use it like a `&MyClaims`, or take the `Arc` out with
/// [`into_inner`](Self::into_inner). `MyClaims` owns its fields (`String`, not `&str`).
pub struct Claims<T: ClaimsType>(Arc<T>);

impl<T: ClaimsType> Claims<T> {
    /// The claims of the request that these extensions are of: `http::Request::extensions`, or tonic's
    /// `Request::extensions`, which is the same type.
    ///
    /// # Errors
    /// [`ExtractError`]: the request has not been through the layer, or the claims do not fit `T`.
    pub fn from_extensions(extensions: &Extensions) -> Result<Self, ExtractError> {
        Ok(Self(verified(extensions)?.claims()?))
    }

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

/// The request's token as it was verified: issuer, subject, scopes, times. Cheap to clone.
///
/// [`Verified`] has one source, a verification that passed, so nothing else can make this succeed. Under axum it is an
/// extractor (with the feature `axum`); elsewhere it comes [from the request's extensions](Self::from_extensions).
///
/// ```
/// use countersign_claims::scope;
/// use countersign_tower::handler::Authenticated;
/// use http::{Request, Response};
///
/// /// Works with every framework that keeps `http`'s extensions.
/// fn cancel(request: Request<()>) -> Response<String> {
///     let (parts, ()) = request.into_parts();
///     let caller = match Authenticated::from_extensions(&parts.extensions) {
///         Ok(caller) => caller,
///         Err(error) => return error.into_response(&parts.method, &parts.headers, &parts.extensions),
///     };
///     if let Err(forbidden) = caller.require(&scope("orders:write")) {
///         return forbidden.into_response(&parts.method, &parts.headers, None);
///     }
///     Response::new(String::from("cancelled"))
/// }
/// # assert_eq!(cancel(Request::new(())).status(), 500);
/// ```
#[derive(Clone, Debug)]
pub struct Authenticated(pub Verified);

impl Authenticated {
    /// The verified token of the request that these extensions are of.
    ///
    /// # Errors
    /// [`ExtractError::NoLayer`]: the request has not been through the layer.
    pub fn from_extensions(extensions: &Extensions) -> Result<Self, ExtractError> {
        verified(extensions).cloned().map(Self)
    }

    /// The proof that the caller may do `P`, for handlers that learn what is to be done from the request's body. The same as
    /// [`Permit::of`], with an error that handlers can answer with.
    ///
    /// # Errors
    /// [`Forbidden`], which names all scopes that are needed.
    pub fn permit<P: Permission>(&self) -> Result<Permit<P>, Forbidden> {
        Permit::of(&self.0).map_err(|denied| Forbidden::new(denied, &self.0))
    }

    /// Demands this of the caller. The same as [`Requirement::check`], with an error that handlers can answer with.
    ///
    /// # Errors
    /// [`Forbidden`], which names all scopes that are needed.
    #[must_use = "nobody is refused unless the error is answered with: put a `?` after it"]
    pub fn require(&self, requirement: &Requirement) -> Result<(), Forbidden> {
        requirement.check(&self.0).map_err(|denied| Forbidden::new(denied, &self.0))
    }

    /// Demands that the token has certainly not been revoked, for what is dangerous: that is asked once more, and what
    /// is known of it must not be older than `max_age` now, by the clock of the layer. Whole routes have
    /// [`require_fresh`](crate::require_fresh).
    ///
    /// Where the layer lets everybody in while that is out of date, which it does by default, this is how some things
    /// are not done meanwhile. What is known cannot be younger than its feeds bring it: a `max_age` below their
    /// interval refuses everybody most of the time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use countersign_tower::handler::Authenticated;
    /// use http::{HeaderMap, Method, Response};
    ///
    /// fn pay(caller: &Authenticated, method: &Method, headers: &HeaderMap) -> Response<String> {
    ///     match caller.require_fresh(Duration::from_secs(15)) {
    ///         Ok(()) => Response::new(String::from("paid")),
    ///         Err(not_fresh) => not_fresh.into_response(method, headers),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`NotFresh`]. A layer without a [revocation check](crate::RequireJwtLayer::revocation), its own or its
    /// verifier's, is a misconfiguration, which is answered with 500.
    #[must_use = "nobody is refused unless the error is answered with: put a `?` after it"]
    pub fn require_fresh(&self, max_age: Duration) -> Result<(), NotFresh> {
        NotFresh::check(&self.0, max_age)
    }
}

impl Deref for Authenticated {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.0
    }
}

pub(crate) fn verified(extensions: &Extensions) -> Result<&Verified, ExtractError> {
    extensions.get().ok_or_else(|| nobody(extensions))
}

/// How the layer that this request has been through answers.
pub(crate) fn answers(extensions: &Extensions) -> Option<Arc<Answers>> {
    if let Some(verified) = extensions.get::<Verified>() {
        return Answers::of(verified);
    }
    let anonymous = extensions.get::<Anonymous>().map(|anonymous| Arc::clone(anonymous.answers()));
    anonymous.or_else(|| extensions.get::<ShadowedBy>().map(|ShadowedBy(answers)| Arc::clone(answers)))
}

/// Why [`Claims`] or [`Authenticated`] could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtractError {
    /// The request has not been through the layer, so nobody has verified its token: the service's own fault. HTTP 500,
    /// gRPC 13 `INTERNAL`.
    NoLayer,
    /// The layer only watches ([`shadow`](crate::RequireJwtLayer::shadow)), and hands out no claims: the service's own fault, answered
    /// as [`NoLayer`](Self::NoLayer).
    Shadow,
    /// There is no caller, which the layer allows, and the handler does not: HTTP 401, gRPC 16 `UNAUTHENTICATED`. The refusal says whether
    /// there was no token, or one that is not valid.
    Anonymous(Refusal),
    /// The token is good, and its claims do not fit the type: HTTP 401 `invalid_token`, gRPC 16 `UNAUTHENTICATED`.
    Claims(ClaimsTypeError),
    /// The token is good, and does not do for this: HTTP 403, or 401 where its holder has to authenticate anew or better.
    Denied(Forbidden),
    /// The token is good, and may have been revoked.
    NotFresh(NotFresh),
}

impl ExtractError {
    /// The refusal; `None` where the service is put together wrongly: there is no layer, or only one that watches, or
    /// asks nobody what has been revoked.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NoLayer | Self::Shadow => None,
            Self::Anonymous(refusal) => Some(refusal.clone()),
            Self::Claims(error) => Some(Refusal::Token(TokenRefusal::ClaimsType(error.clone()))),
            Self::Denied(forbidden) => Some(Refusal::Denied(forbidden.denied.clone())),
            Self::NotFresh(not_fresh) => not_fresh.refusal(),
        }
    }

    /// The response to a request with this method, these headers and these extensions, worded as the layer does that it has been through
    /// (realm, resource metadata, gRPC or not), whose observers hear of it; where there is no layer, 500 or gRPC's 13. The body is empty. A
    /// missing layer stands as [`ExtractError`] in the response's extensions, everything else as [`Refusal`].
    #[must_use]
    pub fn into_response<B: Default>(
        self,
        method: &Method,
        request_headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Response<B> {
        let answers = answers(extensions);
        let kind = Answers::kind_or_default(answers.as_deref(), method, request_headers);
        self.answer(answers.as_deref(), kind, "").map(|()| B::default())
    }

    /// `scope` is what a caller without a token should ask for, on top of what the layer says.
    pub(crate) fn answer(self, answers: Option<&Answers>, kind: Option<grpc::Kind>, scope: &str) -> Response<()> {
        match self.refusal() {
            Some(refusal) => Answers::refuse_in_handler(answers, refusal, kind, scope),
            None => response::no_layer(self, kind),
        }
    }
}

impl From<ClaimsTypeError> for ExtractError {
    fn from(error: ClaimsTypeError) -> Self {
        Self::Claims(error)
    }
}

/// For the operator, and for whoever forgot the layer.
impl fmt::Display for ExtractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLayer => f.write_str(NO_LAYER),
            Self::Shadow => f.write_str(SHADOW),
            Self::Anonymous(refusal) => refusal.fmt(f),
            Self::Claims(error) => error.fmt(f),
            Self::Denied(forbidden) => forbidden.fmt(f),
            Self::NotFresh(not_fresh) => not_fresh.fmt(f),
        }
    }
}

impl std::error::Error for ExtractError {}

/// Told to the client as well: nobody but the service's own developers will ever read it.
pub(crate) const NO_LAYER: &str = "this route has no countersign layer: its handler asks for a verified token, and nobody \
                                   has verified one; put the layer around the handler (axum's `Router::layer` covers the \
                                   routes that are there when it is called)";

/// Told to the client as well, likewise.
pub(crate) const SHADOW: &str = "this route's countersign layer only watches (shadow): its handler asks for a verified token, and gets \
                                 none before the layer enforces";

/// What a handler answers to a caller who is known and may not do this: 403 with the challenge of RFC 6750 §3.1, which names all scopes
/// that are needed, and gRPC 7 `PERMISSION_DENIED`; or 401 and 16 where the caller has to authenticate anew or better (RFC 9470).
///
/// [`Authenticated::require`] makes one, which then answers as its layer does (realm, resource metadata); [`Requirement::check`]
/// with `?` makes one that knows of no layer.
///
/// As axum's response it has seen no request, so it answers as plain HTTP, to gRPC callers too; [`into_response`](Self::into_response)
/// has seen one.
#[derive(Clone)]
pub struct Forbidden {
    denied: Denied,
    answers: Option<Arc<Answers>>,
}

impl Forbidden {
    pub(crate) fn new(denied: Denied, verified: &Verified) -> Self {
        Self { denied: Answers::denied(denied, verified), answers: Answers::of(verified) }
    }

    /// What is lacking.
    #[must_use]
    pub fn denied(&self) -> &Denied {
        &self.denied
    }

    /// The response to a request with this method and these headers, as [`Refusal::into_response`] makes it. `realm` is the
    /// challenge's; `None`: the layer's.
    #[must_use]
    pub fn into_response<B: Default>(
        self,
        method: &Method,
        request_headers: &HeaderMap,
        realm: Option<&str>,
    ) -> Response<B> {
        let kind = Answers::kind_or_default(self.answers.as_deref(), method, request_headers);
        let answers = self.answers.clone();
        let wording = answers.as_deref().map(Answers::wording).unwrap_or_default();
        let wording = Wording { realm: realm.or(wording.realm), ..wording };
        response::refusal(self.reported(), kind, &wording).map(|()| B::default())
    }

    #[cfg(feature = "axum")]
    pub(crate) fn answer(self, kind: Option<grpc::Kind>) -> Response<()> {
        Answers::refuse_in_handler(self.answers.as_deref(), self.denied.into(), kind, "")
    }

    /// The refusal, of which the observers have heard.
    pub(crate) fn reported(self) -> Refusal {
        let refusal = Refusal::Denied(self.denied);
        if let Some(answers) = &self.answers {
            answers.report_handler(&refusal);
        }
        refusal
    }
}

/// By what is lacking.
impl PartialEq for Forbidden {
    fn eq(&self, other: &Self) -> bool {
        self.denied == other.denied
    }
}

impl Eq for Forbidden {}

impl From<Denied> for Forbidden {
    fn from(denied: Denied) -> Self {
        Self { denied, answers: None }
    }
}

impl From<Forbidden> for Refusal {
    fn from(forbidden: Forbidden) -> Self {
        Self::Denied(forbidden.denied)
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.denied.fmt(f)
    }
}

impl fmt::Debug for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Forbidden").field(&self.denied).finish()
    }
}

impl std::error::Error for Forbidden {}
