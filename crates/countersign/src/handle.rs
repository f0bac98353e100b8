use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::revocation::RevocationCheck;
use countersign_claims::{Clock, Requirement};
use countersign_jwks::{KeyEvents, Keys, KeysHandle, NotFresh, NotReady};
use countersign_verifier::{TokenCacheStatus, Verifier};

/// A look at a running [`JwtAuth`](crate::JwtAuth): readiness, the state of its keys, refresh now, why a token is refused, and what is
/// questionable about its configuration. Cheap to clone; keeps the keys' task alive.
///
/// ```
/// # #[cfg(feature = "axum")]
/// # mod example {
/// use axum::{Router, http::StatusCode, routing::get};
/// use countersign::{Authenticated, JwtAuth};
///
/// async fn hello(token: Authenticated) -> String {
///     format!("Hello, {}!", token.subject().unwrap_or("stranger"))
/// }
///
/// pub fn app(auth: JwtAuth) -> Router {
///     let handle = auth.handle();
///     let ready = async move || if handle.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
///     // Routes that are added after the layer are open.
///     Router::new().route("/", get(hello)).layer(auth).route("/readyz", get(ready))
/// }
/// # }
/// # #[cfg(feature = "axum")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use axum::{body::Body, http::Request};
/// # use countersign::{Algorithm, JwtAuth, KeySet, SigningKey};
/// # use tower::ServiceExt;
/// # let keys = KeySet::new([SigningKey::generate(Algorithm::Es256)?.verifying_key()?]);
/// # let app = example::app(JwtAuth::with_keys(keys).audience("orders"));
/// # for (path, status) in [("/", 401), ("/readyz", 200)] {
/// #     assert_eq!(app.clone().oneshot(Request::get(path).body(Body::empty())?).await?.status(), status);
/// # }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "axum"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(crate) keys: KeysHandle,
    pub(crate) verifier: Arc<Verifier<Keys>>,
    pub(crate) required: Option<Requirement>,
    pub(crate) revocation: Option<Arc<RevocationCheck>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) warnings: Vec<Warning>,
}

impl Handle {
    /// The keys: readiness for `/readyz`, their age and number, the last error, refresh now.
    #[must_use]
    pub fn keys(&self) -> &KeysHandle {
        &self.keys
    }

    /// Whether tokens can be judged: the value of `/readyz`. The first look starts fetching, if nothing else has.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.keys.is_ready()
    }

    /// Waits until tokens can be judged, but not longer than `deadline`: see [`KeysHandle::ready_within`].
    ///
    /// # Errors
    /// [`NotReady`], with the reason.
    pub async fn ready_within(&self, deadline: Duration) -> Result<(), NotReady> {
        self.keys.ready_within(deadline).await
    }

    /// Waits until the keys have been looked at within their lifetime, but not longer than `deadline`: see
    /// [`KeysHandle::fresh_within`].
    ///
    /// # Errors
    /// [`NotFresh`]; go on with what there is.
    pub async fn fresh_within(&self, deadline: Duration) -> Result<(), NotFresh> {
        self.keys.fresh_within(deadline).await
    }

    /// How it is checked whether tokens have been revoked, if it is. Whether it is known what has been:
    /// [`RevocationCheck::age`], which is `None` until it is; a [`RevocationList`](crate::RevocationList) has a `status()` and `ready()`.
    #[must_use]
    pub fn revocation(&self) -> Option<&RevocationCheck> {
        self.revocation.as_deref()
    }

    /// How the cache of verified tokens does; `None` if there is none.
    #[must_use]
    pub fn token_cache(&self) -> Option<TokenCacheStatus> {
        self.verifier.token_cache_status()
    }

    /// What happens to the keys from now on: see [`KeysHandle::events`].
    #[must_use]
    pub fn events(&self) -> KeyEvents {
        self.keys.events()
    }

    /// What works, but should not stay as it is.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Shows the policy and the state of the keys; never a token or a secret.
impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("verifier", &self.verifier)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// A configuration that works and lets more through than its owner may think. Also logged once, at warn level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// No audience is set: tokens that the same issuer made for other services pass.
    AnyAudience,
    /// No issuer is set: any token that one of the keys has signed passes, whoever it says it is from.
    AnyIssuer,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnyAudience => "no audience is set: tokens meant for other services pass; call .audience(…)",
            Self::AnyIssuer => "no issuer is set: the `iss` of tokens is not looked at; call .issuer(…)",
        })
    }
}
