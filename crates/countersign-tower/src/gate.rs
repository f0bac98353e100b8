use std::fmt;
use std::sync::Arc;

use countersign_claims::{Clock, ConfigError, Requirement, Verified};
use countersign_token::{Answer, KeySource};
use countersign_verifier::{Attempt, Verifier};
use http::{HeaderMap, Request, Response};

use crate::challenge::{DEFAULT_REALM, is_quotable};
use crate::clock::SystemClock;
use crate::extract::bearer_token;
use crate::refusal::Refusal;
use crate::{grpc, response};

/// All that a layer and its services share: what is asked of a request, and what is said to those refused.
pub(crate) struct Gate<K> {
    verifier: Arc<Verifier<K>>,
    required: Option<Requirement>,
    realm: Box<str>,
    clock: Arc<dyn Clock>,
}

/// How far the judgement of a request came without waiting; a refusal is the error beside it.
pub(crate) enum Judgement<W> {
    Admitted(Verified),
    /// Its key has to be looked for.
    Waiting(W),
}

impl<K: KeySource> Gate<K> {
    /// Synchronous and without a lock: what every request goes through.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> Result<Judgement<K::Waiting>, Refusal> {
        match self.verifier.attempt(bearer_token(headers)?, self.clock.now()) {
            Attempt::Done(outcome) => Ok(Judgement::Admitted(self.authorise(outcome?)?)),
            Attempt::Wait(waiting) => Ok(Judgement::Waiting(waiting)),
        }
    }

    /// The same after the wait. The token is looked up in the headers again, so that nobody had to keep a copy.
    pub(crate) fn resume(&self, headers: &HeaderMap, answer: Answer) -> Result<Verified, Refusal> {
        self.authorise(self.verifier.resume(bearer_token(headers)?, answer, self.clock.now())?)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.realm.is_empty() {
            return Err(ConfigError::Empty("realm"));
        }
        if !self.realm.bytes().all(is_quotable) {
            return Err(ConfigError::Other("a realm is printable ASCII without `\"` and `\\`".into()));
        }
        self.verifier.check()
    }

    fn authorise(&self, verified: Verified) -> Result<Verified, Refusal> {
        if let Some(required) = &self.required {
            required.check(&verified)?;
        }
        Ok(verified)
    }
}

impl<K> Gate<K> {
    pub(crate) fn new(verifier: Arc<Verifier<K>>) -> Self {
        Self { verifier, required: None, realm: DEFAULT_REALM.into(), clock: Arc::new(SystemClock) }
    }

    pub(crate) fn verifier(&self) -> &Arc<Verifier<K>> {
        &self.verifier
    }

    pub(crate) fn set_realm(&mut self, realm: Box<str>) {
        self.realm = realm;
    }

    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    /// What was required before stays required.
    pub(crate) fn require(&mut self, requirement: Requirement) {
        self.required = Some(match self.required.take() {
            None => requirement,
            Some(earlier) => earlier.and(requirement),
        });
    }

    /// The refusal of this request, but for its body.
    pub(crate) fn refuse<B>(&self, refusal: Refusal, request: &Request<B>) -> Response<()> {
        response::refusal(refusal, grpc::Kind::of(request.method(), request.headers()), Some(&self.realm))
    }
}

// By hand, because `K` need not be `Clone`.
impl<K> Clone for Gate<K> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            required: self.required.clone(),
            realm: self.realm.clone(),
            clock: Arc::clone(&self.clock),
        }
    }
}

impl<K> fmt::Debug for Gate<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("required", &self.required).field("realm", &self.realm).finish_non_exhaustive()
    }
}
