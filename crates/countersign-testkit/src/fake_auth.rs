use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use countersign_claims::revocation::{Changed, Judged, RevocationCheck, Revocations, Verdict};
use countersign_claims::{Policy, UnixTime, Verified};
use countersign_token::{Algorithm, HeaderScratch, UnverifiedToken};
use http::Request;
use serde_json::{Map, Value};
use tower_layer::Layer;
use tower_service::Service;

use crate::keys::{FAKE_CALLER, TestKey};
use crate::token::Token;

/// How long the made-up caller's token is good for: longer than any test, as it is judged once, when it is made; and a handler
/// that ends with its caller's token shall not end before the test.
pub const FAKE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// `iss` and the key's `kid` of the made-up caller, unless it is told otherwise: nobody's (RFC 6761 §6.4), and easy to find in a log.
const FAKE_ISSUER: &str = "https://dangerous-fake-auth.invalid";
const FAKE_KID: &str = "dangerous-fake-auth";

/// A layer that takes **every request for that of one made-up caller**, whatever token it has or has not: for tests of
/// handlers, in the place of `JwtAuth`.
///
/// Handlers see what they see behind `JwtAuth`: `Claims<T>`, `Authenticated`, scopes, and a [`Verified`] that has come about like
/// any other. There is no back door: one token is signed with a key that this process has made, its signature is checked, a
/// [`Policy`] judges it, and each request gets a clone of the outcome. So requests cost no cryptography, and what
/// the policy would refuse cannot be faked.
///
/// ```
/// use axum::body::Body;
/// use axum::http::{Request, StatusCode};
/// use axum::{Router, routing::get};
/// use countersign::{Authenticated, Forbidden, scope};
/// use countersign_testkit::DangerousFakeAuth;
/// use tower::ServiceExt as _;
///
/// async fn orders(caller: Authenticated) -> Result<String, Forbidden> {
///     caller.require(&scope("orders:read"))?;
///     Ok(format!("orders of {}", caller.subject().unwrap_or("nobody")))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let routes = Router::new().route("/orders", get(orders));
/// let get_orders = || Request::get("/orders").body(Body::empty());
///
/// let reader = DangerousFakeAuth::subject("ada").scope("orders:read");
/// # let reader = reader.even_in_release_builds();
/// let response = routes.clone().layer(reader).oneshot(get_orders()?).await?;
/// assert_eq!(response.status(), StatusCode::OK);
///
/// let stranger = DangerousFakeAuth::subject("eve");
/// # let stranger = stranger.even_in_release_builds();
/// let response = routes.layer(stranger).oneshot(get_orders()?).await?;
/// assert_eq!(response.status(), StatusCode::FORBIDDEN);
/// # Ok(())
/// # }
/// ```
///
/// It refuses nobody, so it shows nothing of what `JwtAuth` refuses: that takes an [`IdentityProvider`](crate::IdentityProvider).
/// What `JwtAuth::require` demands of all routes is not demanded either.
///
/// # Kept out of production
///
/// - It is in this crate and nowhere else, and this crate belongs under `[dev-dependencies]`:
///   `cargo tree -e normal -i countersign-testkit` names whatever you ship that has it, and should find nothing.
/// - Where debug assertions are off, as in release builds, it panics when a service is put together, before the first
///   request, unless [`even_in_release_builds`](Self::even_in_release_builds) was called.
/// - Its tokens are of the issuer `https://dangerous-fake-auth.invalid` and the key `dangerous-fake-auth`, unless told otherwise.
///
/// # Panics
/// [`layer`](Layer::layer) panics where [`verified`](Self::verified) does.
#[derive(Clone, Debug)]
#[must_use = "it is a layer, to be put on a service"]
pub struct DangerousFakeAuth {
    token: Token,
    policy: Policy,
    revocation: Arc<RevocationCheck>,
    even_in_release_builds: bool,
    /// Made once and shared by clones, because frameworks call `layer` once per route, each time on a clone.
    verified: Arc<OnceLock<Verified>>,
}

impl DangerousFakeAuth {
    /// A caller with that `sub`, and with what a careful issuer says of callers (RFC 9068 §2.2) but for `aud`: `client_id: app`, a
    /// `jti`, `iat` now, `exp` in a day ([`FAKE_LIFETIME`]), and an `iss` of nobody's.
    pub fn subject(subject: &str) -> Self {
        let token = Token::new(&fake_key()).issuer(FAKE_ISSUER).subject(subject).expires_in(FAKE_LIFETIME);
        Self::of(token)
    }

    /// A caller of whom the token says just this, and `exp` in a day ([`FAKE_LIFETIME`]) if it is not among it. For claims that
    /// do not fit a handler's type, too.
    ///
    /// ```
    /// use countersign_testkit::DangerousFakeAuth;
    /// use serde_json::json;
    ///
    /// let robot = DangerousFakeAuth::with_claims(json!({ "client_id": "robot", "scope": "orders:read", "tenant": "t1" }));
    /// # let robot = robot.even_in_release_builds();
    /// assert_eq!(robot.verified().client_id(), Some("robot"));
    /// assert_eq!(robot.verified().subject(), None);
    /// ```
    ///
    /// # Panics
    /// If `claims` is not an object.
    #[track_caller]
    pub fn with_claims(claims: Value) -> Self {
        let claims: Map<_, _> = serde_json::from_value(claims).expect("claims are a JSON object");
        let has_exp = claims.contains_key("exp");
        let token = Token::new(&fake_key()).only_claims(claims);
        Self::of(if has_exp { token } else { token.expires_in(FAKE_LIFETIME) })
    }

    /// Sets `iss`.
    pub fn issuer(self, issuer: &str) -> Self {
        self.claim("iss", issuer)
    }

    /// Sets `aud` to this one audience.
    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    /// Sets `scope`: scopes separated by spaces.
    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    /// Sets any claim to any value.
    pub fn claim(self, name: &str, value: impl Into<Value>) -> Self {
        Self { token: self.token.claim(name, value), verified: Arc::default(), ..self }
    }

    /// Judges the made-up caller's token by this policy, such as the service's own, instead of [`Policy::new`].
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, verified: Arc::default(), ..self }
    }

    /// Has whatever asks once more, such as `require_fresh` and deadlines, ask this. Unless it is set, nothing is ever revoked, and that is always
    /// known. The layer itself does not ask: it refuses nobody, so a handler that asks nothing once more is reached by a revoked caller too.
    ///
    /// What revokes it has to be of its issuer, which is nobody's unless it is [set](Self::issuer); a revoker's `token` takes that of the token:
    ///
    /// ```
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use axum::{Router, routing::post};
    /// use countersign::{RevocationList, require_fresh};
    /// use countersign_testkit::DangerousFakeAuth;
    /// use std::time::Duration;
    /// use tower::ServiceExt as _;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let list = RevocationList::new();
    /// let ada = DangerousFakeAuth::subject("ada").revocation(list.clone());
    /// # let ada = ada.even_in_release_builds();
    /// list.revoker("").token(&ada.verified()).await?;
    ///
    /// let pay = post(async || "paid").layer(require_fresh(Duration::from_secs(10)));
    /// let app = Router::new().route("/pay", pay).layer(ada);
    /// let response = app.oneshot(Request::post("/pay").body(Body::empty())?).await?;
    /// assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    /// # Ok(())
    /// # }
    /// ```
    pub fn revocation(self, check: impl Into<RevocationCheck>) -> Self {
        Self { revocation: Arc::new(check.into()), verified: Arc::default(), ..self }
    }

    /// Lets it work where debug assertions are off too, for tests that are run with `--release`.
    pub fn even_in_release_builds(self) -> Self {
        Self { even_in_release_builds: true, ..self }
    }

    /// What each request gets, for a test that calls a handler without a layer: `Authenticated(fake.verified())` is its
    /// argument under axum, `request.extensions_mut().insert(fake.verified())` puts it into a request.
    ///
    /// It is made at the first call and the same from then on.
    ///
    /// # Panics
    /// If debug assertions are off, as in release builds, and [`even_in_release_builds`](Self::even_in_release_builds) was not
    /// called. If the policy refuses the claims, or they are none, such as an `exp` that is text. If the system has no randomness.
    #[must_use]
    #[track_caller]
    pub fn verified(&self) -> Verified {
        if let Some(objection) = objection(cfg!(debug_assertions), self.even_in_release_builds) {
            stop(objection);
        }
        // No closure, so that the panic has the caller's line.
        if let Some(verified) = self.verified.get() {
            return verified.clone();
        }
        let verified = match self.verify() {
            Ok(verified) => verified,
            Err(error) => stop(&error),
        };
        self.verified.get_or_init(|| verified).clone()
    }

    fn of(token: Token) -> Self {
        Self {
            token,
            policy: Policy::new(),
            revocation: Arc::new(NothingRevoked.into()),
            even_in_release_builds: false,
            verified: Arc::default(),
        }
    }

    /// The way of every token: taken apart, its signature checked with its key, its claims judged at the time.
    fn verify(&self) -> Result<Verified, String> {
        let signed = self.token.sign();
        let mut scratch = HeaderScratch::new();
        let token = UnverifiedToken::parse(&signed, usize::MAX, &mut scratch).map_err(|error| error.to_string())?;
        let key = Arc::new(self.token.key().verifying_key());
        let payload = token.verify(&key).map_err(|error| error.to_string())?;
        let verified =
            self.policy.judge(payload, UnixTime::from(SystemTime::now())).map_err(|error| error.to_string())?;
        Ok(verified.with_revocation(Arc::clone(&self.revocation)))
    }
}

/// Knows at any time that nothing is revoked.
struct NothingRevoked;

impl Revocations for NothingRevoked {
    fn check(&self, _: &Judged<'_>) -> Verdict {
        Verdict::Fresh
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn changed(&self) -> Changed {
        Box::pin(std::future::pending())
    }
}

fn fake_key() -> TestKey {
    TestKey::nth(Algorithm::Es256, FAKE_CALLER).with_kid(FAKE_KID)
}

/// What speaks against working in this build.
fn objection(debug_assertions: bool, even_in_release_builds: bool) -> Option<&'static str> {
    const OBJECTION: &str = "it authenticates everybody, and this is a build without debug assertions, as production's are; \
                             a test that is run like that calls even_in_release_builds()";
    (!debug_assertions && !even_in_release_builds).then_some(OBJECTION)
}

#[track_caller]
#[expect(clippy::panic, reason = "documented: a test that cannot be set up has failed, and production must not start")]
fn stop(why: &str) -> ! {
    panic!("DangerousFakeAuth: {why}")
}

impl<S> Layer<S> for DangerousFakeAuth {
    type Service = DangerousFakeAuthService<S>;

    #[track_caller]
    fn layer(&self, inner: S) -> Self::Service {
        DangerousFakeAuthService { inner, verified: self.verified() }
    }
}

/// The service behind [`DangerousFakeAuth`], which takes every request for that of the made-up caller.
#[derive(Clone, Debug)]
pub struct DangerousFakeAuthService<S> {
    inner: S,
    verified: Verified,
}

impl<S, B> Service<Request<B>> for DangerousFakeAuthService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.verified.clone());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_build_has_to_be_asked_for() {
        assert!(objection(false, false).is_some());
        assert_eq!([(true, false), (true, true), (false, true)].map(|(debug, even)| objection(debug, even)), [None; 3]);
    }

    #[test]
    fn a_setting_changes_the_caller_that_it_is_made_on_and_no_other() {
        let ada = DangerousFakeAuth::subject("ada").even_in_release_builds();
        assert!(!ada.verified().has_scope("orders:read"));
        let reader = ada.clone().scope("orders:read");
        assert!(reader.verified().has_scope("orders:read"));
        assert!(!ada.verified().has_scope("orders:read"));
    }
}
