use std::fmt;
use std::sync::Arc;

use countersign_claims::{Clock, ConfigError, Requirement};
use countersign_token::KeySource;
use countersign_verifier::Verifier;
use tower_layer::Layer;

use crate::gate::Gate;
use crate::service::RequireJwt;

/// Lets through only requests with a good token. See the [crate's page](crate) for the rules.
///
/// Cheap to clone, and so are the services it makes: they share one `Arc` of the settings.
pub struct RequireJwtLayer<K> {
    gate: Arc<Gate<K>>,
}

impl<K: KeySource> RequireJwtLayer<K> {
    /// A layer that judges tokens with `verifier`: a [`Verifier`], or an `Arc` of one that is shared with others.
    #[must_use]
    pub fn new(verifier: impl Into<Arc<Verifier<K>>>) -> Self {
        Self { gate: Arc::new(Gate::new(verifier.into())) }
    }

    /// The realm named in challenges (RFC 9110 §11.5); [`DEFAULT_REALM`](crate::DEFAULT_REALM) if it is not set. Printable
    /// ASCII without `"` and `\`, or [`check`](Self::check) fails.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<Box<str>>) -> Self {
        Arc::make_mut(&mut self.gate).set_realm(realm.into());
        self
    }

    /// Demands this of every request; who lacks a scope gets 403 and is told all that are needed. Called again, it demands that
    /// as well.
    #[must_use]
    pub fn require(mut self, requirement: Requirement) -> Self {
        Arc::make_mut(&mut self.gate).require(requirement);
        self
    }

    /// Where the time comes from; [`SystemClock`](crate::SystemClock) if it is not set. It is read once per judgement, and
    /// again after a wait.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        Arc::make_mut(&mut self.gate).set_clock(Arc::new(clock));
        self
    }

    /// The verifier that judges the tokens.
    #[must_use]
    pub fn verifier(&self) -> &Arc<Verifier<K>> {
        self.gate.verifier()
    }

    /// The rules across settings. Quick, and reads no keys.
    ///
    /// # Errors
    /// [`ConfigError`]: the realm's, or the verifier's ([`Verifier::check`]).
    pub fn check(&self) -> Result<(), ConfigError> {
        self.gate.check()
    }
}

impl<S, K: KeySource> Layer<S> for RequireJwtLayer<K> {
    type Service = RequireJwt<S, K>;

    /// # Panics
    /// With the text of [`check`](RequireJwtLayer::check)'s error, if there is one: a misconfiguration shows when the
    /// service is put together, not at the first request.
    #[expect(clippy::panic, reason = "`Layer::layer` cannot fail, and a gate that is set up wrongly must not open")]
    fn layer(&self, inner: S) -> Self::Service {
        if let Err(error) = self.check() {
            panic!("countersign is misconfigured: {error}");
        }
        RequireJwt::new(inner, Arc::clone(&self.gate))
    }
}

// By hand, because `K` need not be `Clone`.
impl<K> Clone for RequireJwtLayer<K> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate) }
    }
}

impl<K> fmt::Debug for RequireJwtLayer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireJwtLayer").field("gate", &self.gate).finish()
    }
}
