use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use countersign_claims::revocation::RevocationCheck;
use countersign_claims::{Clock, ConfigError, Requirement, Stripes, UnixTime, Verified};
use countersign_token::{AlgorithmSet, Answer, KeySource};
use countersign_verifier::{Attempt, Refusal as TokenRefusal, Verifier};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};

use crate::answers::Answers;
use crate::caller::{Anonymous, Shadowed, ShadowedBy};
use crate::clock::SystemClock;
use crate::extract::{are_credentials, authorization, bearer_token, bearer_token_of, octets_behind_bearer};
use crate::forward::Forward;
use crate::limit::{RefusalLimit, Refused};
use crate::observe::{Judged, Outcome};
use crate::open::{Open, Unjudged};
use crate::place::{FoundToken, Places, TokenPlace};
use crate::refusal::Refusal;

/// All that a layer and its services share: what is asked of a request, and what is said to those refused.
pub(crate) struct Gate<K> {
    verifier: Arc<Verifier<K>>,
    revocation: Option<Revocation>,
    required: Option<Requirement>,
    clock: Arc<dyn Clock>,
    /// Where a token may be; `None` is the bearer header.
    places: Option<Places>,
    open: Option<Open>,
    shadow: bool,
    strip_token: bool,
    forward: Option<Forward>,
    limit: Option<Arc<dyn RefusalLimit>>,
    answers: Arc<Answers>,
    /// The same, as tokens carry it to handlers. Made with the first.
    context: OnceLock<Stripes<dyn Any + Send + Sync>>,
}

/// What a layer asks beside its verifier. Both are made with the layer, so that no request has to put them together.
#[derive(Clone)]
struct Revocation {
    own: Arc<RevocationCheck>,
    /// The verifier's, if it has one, and behind it this layer's: what is asked again of a token that has been let in.
    all: Stripes<RevocationCheck>,
}

/// How far the judgement of a request came without waiting; a refusal is the error beside it.
pub(crate) enum Judgement<W> {
    /// It goes on to the inner service.
    Pass(Pass),
    /// Its key has to be looked for.
    Waiting(W),
}

/// What goes on with a request.
pub(crate) enum Pass {
    /// A good token; whether it was in the query.
    Caller(Verified, bool),
    /// Nobody, and why, if a token was shown.
    Nobody(Option<Box<Refusal>>),
    /// Whatever there was: nothing of it is known to the inner service.
    Shadow,
}

/// When a judgement began, if somebody wants to know.
#[derive(Clone, Copy)]
pub(crate) struct Began(Option<Instant>);

impl<K: KeySource> Gate<K> {
    /// Synchronous and without a lock: what every request goes through.
    pub(crate) fn judge<B>(&self, request: &Request<B>) -> Result<Judgement<K::Waiting>, Refusal> {
        let began = self.began();
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        if let Some(open) = &self.open
            && let Some(unjudged) = open.without_a_look(method, uri, headers)
        {
            let outcome = match unjudged {
                Unjudged::Preflight => Outcome::Preflight,
                Unjudged::Exempt => Outcome::Exempt,
            };
            self.report(outcome, began, None);
            return Ok(Judgement::Pass(if self.shadow { Pass::Shadow } else { Pass::Nobody(None) }));
        }
        match self.attempt(uri, headers, self.clock.now()) {
            Ok((_, Attempt::Wait(_))) if self.shadow => {
                self.report(Outcome::ShadowUndecided, began, None);
                Ok(Judgement::Pass(Pass::Shadow))
            }
            Ok((_, Attempt::Wait(waiting))) => Ok(Judgement::Waiting(waiting)),
            Ok((in_query, Attempt::Done(outcome))) => {
                self.conclude(request, outcome.map_err(Refusal::from), in_query, began, None).map(Judgement::Pass)
            }
            Err(refusal) => self.conclude(request, Err(refusal), false, began, None).map(Judgement::Pass),
        }
    }

    /// The same after the wait. The token is looked up in the request again, so that nobody had to keep a copy.
    pub(crate) fn resume<B>(
        &self,
        request: &Request<B>,
        answer: Answer,
        waited: Option<Duration>,
    ) -> Result<Pass, Refusal> {
        let began = self.began();
        match self.token(request.uri(), request.headers()) {
            Ok(found) => {
                let outcome = self.verifier.resume(found.token, answer, self.clock.now());
                self.conclude(request, outcome.map_err(Refusal::from), found.in_query, began, waited)
            }
            Err(refusal) => self.conclude(request, Err(refusal), false, began, waited),
        }
    }

    /// From what the verifier says to what becomes of the request.
    fn conclude<B>(
        &self,
        request: &Request<B>,
        outcome: Result<Verified, Refusal>,
        in_query: bool,
        began: Began,
        waited: Option<Duration>,
    ) -> Result<Pass, Refusal> {
        let outcome = outcome.and_then(|verified| self.check_revocation(verified));
        match outcome.and_then(|verified| self.authorise(verified)) {
            Ok(verified) if self.shadow => {
                self.report(Outcome::ShadowAdmitted(&verified), began, waited);
                Ok(Pass::Shadow)
            }
            Ok(verified) => {
                self.report(Outcome::Admitted(&verified), began, waited);
                Ok(Pass::Caller(verified, in_query))
            }
            Err(refusal) if self.open.as_ref().is_some_and(|open| open.forgives(&refusal)) => {
                let refusal = Some(refusal).filter(|refusal| *refusal != Refusal::NoCredentials);
                self.report(Outcome::Anonymous(refusal.as_ref()), began, waited);
                Ok(if self.shadow { Pass::Shadow } else { Pass::Nobody(refusal.map(Box::new)) })
            }
            Err(refusal) if self.shadow => {
                self.report(Outcome::ShadowRefused(&refusal), began, waited);
                Ok(Pass::Shadow)
            }
            Err(refusal) => {
                let refused =
                    Refused { refusal: &refusal, headers: request.headers(), extensions: request.extensions() };
                let limited = self.limit.as_ref().and_then(|limit| limit.retry_after(&refused));
                let refusal = limited.map_or(refusal, |retry_after| Refusal::Limited { retry_after });
                self.report(Outcome::Refused(&refusal), began, waited);
                Err(refusal)
            }
        }
    }

    /// The rules across settings, where nobody looks at more of a request than its token.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.verifier.policy().judges_signed_requests() {
            let text = "signed_request_profile() judges tokens for single requests: call .signed_requests(…), which compares with these";
            return Err(ConfigError::Other(text.into()));
        }
        self.check_settings()
    }

    /// The same, where somebody does.
    pub(crate) fn check_signed(&self) -> Result<(), ConfigError> {
        let wrong = |text: &'static str| Err(ConfigError::Other(text.into()));
        if !self.verifier.policy().judges_signed_requests() {
            return wrong("signed_requests(…) needs a policy with signed_request_profile()");
        }
        if AlgorithmSet::HMAC.iter().any(|algorithm| self.verifier.allowed_algorithms().contains(algorithm)) {
            return wrong("requests are signed with keys of their clients' own: no HMAC with signed_requests(…)");
        }
        if self.places.is_some() || self.open.is_some() || self.shadow {
            return wrong(
                "signed_requests(…) goes with no other place for the token, no exemption, and neither with optional() nor with shadow()",
            );
        }
        self.check_settings()
    }

    fn check_settings(&self) -> Result<(), ConfigError> {
        self.answers.check()?;
        if let Some(places) = &self.places {
            places.check()?;
        }
        if let Some(open) = &self.open {
            open.check()?;
        }
        if let Some(forward) = &self.forward {
            forward.check()?;
        }
        if self.shadow && (self.strip_token || self.forward.is_some()) {
            let text =
                "shadow() lets every request through as it is: it goes neither with strip_token() nor with forward()";
            return Err(ConfigError::Other(text.into()));
        }
        self.verifier.check()
    }

    /// What was asked before is asked still.
    pub(crate) fn add_revocation(&mut self, check: RevocationCheck) {
        let own = match self.revocation.take() {
            None => check,
            Some(earlier) => RevocationCheck::clone(&earlier.own).and(check),
        };
        let all = match self.verifier.revocation_check() {
            None => own.clone(),
            Some(of_verifier) => RevocationCheck::clone(of_verifier).and(own.clone()),
        };
        self.revocation = Some(Revocation { own: Arc::new(own), all: Stripes::new(|| Arc::new(all.clone())) });
    }

    /// Finds the token and judges it. Whether it was in the query.
    fn attempt(&self, uri: &Uri, headers: &HeaderMap, now: UnixTime) -> Result<(bool, Attempt<K::Waiting>), Refusal> {
        match &self.places {
            None => Ok((false, self.attempt_bearer(authorization(headers)?, now)?)),
            Some(places) => {
                let found = places.find(uri, headers)?;
                Ok((found.in_query, self.verifier.attempt(found.token, now)))
            }
        }
    }

    /// The same where the token is in the ordinary place. What is accepted is well-formed, so that only of what is refused it is asked whether
    /// it is not.
    fn attempt_bearer(&self, value: &HeaderValue, now: UnixTime) -> Result<Attempt<K::Waiting>, Refusal> {
        let Some(octets) = octets_behind_bearer(value) else {
            return Ok(self.verifier.attempt(bearer_token_of(value)?, now));
        };
        if let Some(outcome) = self.verifier.recognise(octets, now) {
            return Ok(Attempt::Done(outcome));
        }
        // Nobody reads what is too long, not even to see whether it is printable.
        self.verifier.check_length(octets.len())?;
        let attempt = match std::str::from_utf8(octets) {
            Ok(token) => self.verifier.attempt_anew(token, now),
            Err(_) => return Err(Refusal::MalformedCredentials),
        };
        match attempt {
            Attempt::Done(Err(_)) if !are_credentials(octets) => Err(Refusal::MalformedCredentials),
            attempt => Ok(attempt),
        }
    }

    fn token<'r>(&self, uri: &'r Uri, headers: &'r HeaderMap) -> Result<FoundToken<'r>, Refusal> {
        match &self.places {
            None => bearer_token(headers).map(|token| FoundToken { token, in_query: false }),
            Some(places) => places.find(uri, headers),
        }
    }

    /// What the layer asks by itself; the verifier has asked already.
    fn check_revocation(&self, verified: Verified) -> Result<Verified, Refusal> {
        let Some(revocation) = &self.revocation else { return Ok(verified) };
        revocation.own.check(&verified, verified.judged_at()).map_err(TokenRefusal::from)?;
        let all = revocation.all.of(&verified);
        Ok(verified.with_revocation(all))
    }

    fn authorise(&self, verified: Verified) -> Result<Verified, Refusal> {
        if let Some(required) = &self.required {
            required.check(&verified)?;
        }
        Ok(verified)
    }

    /// What the inner service gets to see. Whether its answer is to be kept private.
    pub(crate) fn pass_on<B>(&self, pass: Pass, request: &mut Request<B>) -> bool {
        if matches!(pass, Pass::Shadow) {
            request.extensions_mut().insert(Shadowed);
            if !self.answers.grpc {
                request.extensions_mut().insert(ShadowedBy(Arc::clone(&self.answers)));
            }
            return false;
        }
        // Before anything is written: a claim may go on in the very header that the token came in.
        if self.strip_token {
            self.strip(request);
        }
        match pass {
            Pass::Shadow => false,
            Pass::Caller(verified, in_query) => {
                if let Some(forward) = &self.forward {
                    forward.apply(Some(&verified), request.headers_mut());
                }
                // Of an outer layer.
                request.extensions_mut().remove::<Anonymous>();
                let verified = if self.answers.matter_to_handlers() {
                    let context = self.context.get_or_init(|| Stripes::new(|| self.answers.as_context())).of(&verified);
                    verified.with_context(context)
                } else {
                    verified
                };
                request.extensions_mut().insert(verified);
                in_query
            }
            Pass::Nobody(refusal) => {
                if let Some(forward) = &self.forward {
                    forward.apply(None, request.headers_mut());
                }
                // What an outer layer has found is not what this one asks for.
                request.extensions_mut().remove::<Verified>();
                request.extensions_mut().insert(Anonymous::new(refusal, Arc::clone(&self.answers)));
                false
            }
        }
    }

    fn strip<B>(&self, request: &mut Request<B>) {
        let mut uri = std::mem::take(request.uri_mut());
        match &self.places {
            None => TokenPlace::bearer().strip(&mut uri, request.headers_mut()),
            Some(places) => places.strip(&mut uri, request.headers_mut()),
        }
        *request.uri_mut() = uri;
    }

    fn report(&self, outcome: Outcome<'_>, began: Began, waited: Option<Duration>) {
        if self.answers.observers.is_empty() {
            return;
        }
        let took = began.elapsed();
        let issuer = self.verifier.policy().configured_issuer(outcome.verified());
        self.answers.report(&Judged { outcome, issuer, took, waited, by_handler: false });
    }
}

impl<K> Gate<K> {
    pub(crate) fn new(verifier: Arc<Verifier<K>>) -> Self {
        Self {
            verifier,
            revocation: None,
            required: None,
            clock: Arc::new(SystemClock),
            places: None,
            open: None,
            shadow: false,
            strip_token: false,
            forward: None,
            limit: None,
            answers: Arc::default(),
            context: OnceLock::new(),
        }
    }

    pub(crate) fn verifier(&self) -> &Arc<Verifier<K>> {
        &self.verifier
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn required(&self) -> Option<&Requirement> {
        self.required.as_ref()
    }

    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.answers_mut().clock = Some(Arc::clone(&clock));
        self.clock = clock;
    }

    /// What was required before stays required.
    pub(crate) fn require(&mut self, requirement: Requirement) {
        let required = match self.required.take() {
            None => requirement,
            Some(earlier) => earlier.and(requirement),
        };
        self.answers_mut().scope = required.scopes_to_ask_for().into();
        self.required = Some(required);
    }

    /// Whether a token may be in the query, whose answers have to be kept private.
    #[cfg(feature = "tower-http-0.7")]
    pub(crate) fn looks_into_the_query(&self) -> bool {
        self.places.as_ref().is_some_and(Places::have_the_query)
    }

    pub(crate) fn set_places(&mut self, places: Vec<TokenPlace>) {
        let is_default = places.len() == 1 && places.iter().all(TokenPlace::is_bearer);
        self.places = (!is_default).then(|| Places::new(places));
    }

    pub(crate) fn open_mut(&mut self) -> &mut Open {
        self.open.get_or_insert_default()
    }

    pub(crate) fn set_shadow(&mut self) {
        self.shadow = true;
    }

    pub(crate) fn set_strip_token(&mut self) {
        self.strip_token = true;
    }

    pub(crate) fn forward_mut(&mut self) -> &mut Forward {
        self.forward.get_or_insert_default()
    }

    pub(crate) fn set_limit(&mut self, limit: Arc<dyn RefusalLimit>) {
        self.limit = Some(limit);
    }

    pub(crate) fn answers_mut(&mut self) -> &mut Answers {
        self.context = OnceLock::new();
        Arc::make_mut(&mut self.answers)
    }

    /// The refusal of this request, but for its body.
    pub(crate) fn refuse<B>(&self, refusal: Refusal, request: &Request<B>) -> Response<()> {
        self.answers.refuse(refusal, request.method(), request.headers())
    }

    /// Now, if anybody wants to know.
    pub(crate) fn began(&self) -> Began {
        Began((!self.answers.observers.is_empty()).then(Instant::now))
    }
}

impl Began {
    pub(crate) fn is_wanted(self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn elapsed(self) -> Option<Duration> {
        self.0.map(|began| began.elapsed())
    }
}

// By hand, because `K` need not be `Clone`.
impl<K> Clone for Gate<K> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            revocation: self.revocation.clone(),
            required: self.required.clone(),
            clock: Arc::clone(&self.clock),
            places: self.places.clone(),
            open: self.open.clone(),
            shadow: self.shadow,
            strip_token: self.strip_token,
            forward: self.forward.clone(),
            limit: self.limit.clone(),
            answers: Arc::clone(&self.answers),
            context: self.context.clone(),
        }
    }
}

impl<K> fmt::Debug for Gate<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("revocation", &self.revocation.as_ref().map(|revocation| &revocation.own))
            .field("required", &self.required)
            .field("places", &self.places)
            .field("open", &self.open)
            .field("shadow", &self.shadow)
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}
