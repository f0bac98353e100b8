use std::fmt;
use std::time::Duration;

use countersign_claims::{ClaimError, UnixTime};
use countersign_jwks::{KeyEvents, KeysHandle, NotFresh, NotReady};
use countersign_tower::Refusal;
use countersign_verifier::Refusal as TokenRefusal;

/// A look at a running [`JwtAuth`](crate::JwtAuth): readiness, the state of its keys, refresh now, and what is questionable
/// about its configuration. Cheap to clone; keeps the keys' task alive.
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
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) keys: KeysHandle,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) leeway: Duration,
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

    /// What happens to the keys from now on: see [`KeysHandle::events`].
    #[must_use]
    pub fn events(&self) -> KeyEvents {
        self.keys.events()
    }

    /// What is behind a refusal, as far as can be said: for people who ask why a token was refused.
    ///
    /// If a time rule refused it, and by the provider's clock (its last `Date`) it would have passed, it says that the clock is to blame and
    /// not the token.
    ///
    /// ```
    /// use std::time::Duration;
    /// use countersign::claims::ClaimError;
    /// use countersign::{JwtAuth, KeySet, Refusal, UnixTime};
    ///
    /// let handle = JwtAuth::with_keys(KeySet::default()).handle();
    /// let (expired_at, now) = (UnixTime::from_secs(1000), UnixTime::from_secs(1040));
    /// let refusal = Refusal::Token(ClaimError::Expired { expired_at, now }.into());
    /// assert_eq!(handle.explain(&refusal).to_string(), refusal.to_string());
    /// ```
    #[must_use]
    pub fn explain(&self, refusal: &Refusal) -> Explanation {
        // Of several providers it is not known whose token it was: only what all of their clocks say is said.
        let parts = self.keys.parts();
        let clocks = if parts.is_empty() { vec![self.keys.clone()] } else { parts };
        let offsets: Vec<_> = clocks.iter().filter_map(|keys| keys.status().clock_offset).collect();
        let is_of_all = offsets.iter().all(|offset| is_of_the_clock(refusal, *offset, self.leeway));
        let clock_offset = offsets.into_iter().min_by_key(|offset| offset.unsigned_abs()).filter(|_| is_of_all);
        Explanation { refusal: refusal.to_string(), clock_offset }
    }

    /// What works, but should not stay as it is.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Why a token was refused, for people. Made by [`Handle::explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    refusal: String,
    clock_offset: Option<i64>,
}

impl Explanation {
    /// How far the provider's clock is ahead of ours, seconds, if that is why the token was refused.
    #[must_use]
    pub fn clock_offset(&self) -> Option<i64> {
        self.clock_offset
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal)?;
        match self.clock_offset {
            Some(seconds) if seconds < 0 => {
                write!(
                    f,
                    "; the clock, not the token: the provider's clock is {} s behind ours",
                    seconds.unsigned_abs()
                )
            }
            Some(seconds) => write!(f, "; the clock, not the token: the provider's clock is {seconds} s ahead of ours"),
            None => Ok(()),
        }
    }
}

/// Whether the rule that refused would have been satisfied at the time that the provider's clock shows.
fn is_of_the_clock(refusal: &Refusal, offset: i64, leeway: Duration) -> bool {
    let fault = match refusal {
        Refusal::Token(TokenRefusal::Claim(fault)) => fault,
        Refusal::Token(TokenRefusal::KeyNotSought(fault)) => fault,
        _ => return false,
    };
    let by = Duration::from_secs(offset.unsigned_abs());
    let theirs = |now: UnixTime| if offset < 0 { now.saturating_sub(by) } else { now.saturating_add(by) };
    match fault {
        ClaimError::Expired { expired_at, now } => theirs(*now) < expired_at.saturating_add(leeway),
        ClaimError::NotYetValid { not_before: since, now }
        | ClaimError::IssuedInTheFuture { issued_at: since, now } => theirs(*now) >= since.saturating_sub(leeway),
        ClaimError::TooOld { issued_at, now, max_age } => {
            theirs(*now) < issued_at.saturating_add(*max_age).saturating_add(leeway)
        }
        _ => false,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_to_blame_only_if_the_providers_would_have_let_the_token_pass() {
        let at = UnixTime::from_secs;
        let leeway = Duration::from_secs(30);
        let expired = ClaimError::Expired { expired_at: at(1000), now: at(1040) };
        let early = ClaimError::NotYetValid { not_before: at(1000), now: at(960) };
        let future = ClaimError::IssuedInTheFuture { issued_at: at(1000), now: at(960) };
        let max_age = Duration::from_secs(100);
        let old = ClaimError::TooOld { issued_at: at(900), now: at(1040), max_age };
        for (fault, offset, clock) in [
            (&expired, -11, true),
            (&expired, -10, false),
            (&expired, 0, false),
            (&expired, 600, false),
            (&early, 10, true),
            (&early, 9, false),
            (&early, -600, false),
            (&future, 10, true),
            (&future, 9, false),
            (&old, -11, true),
            (&old, -10, false),
            (&ClaimError::WrongSubject, -600, false),
        ] {
            for refusal in [TokenRefusal::Claim(fault.clone()), TokenRefusal::KeyNotSought(Box::new(fault.clone()))] {
                assert_eq!(is_of_the_clock(&Refusal::Token(refusal), offset, leeway), clock, "{fault:?} {offset}");
            }
        }
        assert!(!is_of_the_clock(&Refusal::NoCredentials, -600, leeway));
    }

    #[test]
    fn an_explanation_says_which_clock_is_ahead() {
        let explanation = |clock_offset| Explanation { refusal: "it expired".into(), clock_offset }.to_string();
        assert_eq!(explanation(None), "it expired");
        assert_eq!(
            explanation(Some(-45)),
            "it expired; the clock, not the token: the provider's clock is 45 s behind ours"
        );
        assert_eq!(
            explanation(Some(45)),
            "it expired; the clock, not the token: the provider's clock is 45 s ahead of ours"
        );
    }
}
