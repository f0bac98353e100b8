use std::fmt;
use std::sync::Arc;

use countersign_claims::revocation::RevocationCheck;
use countersign_claims::{Clock, ConfigError, Requirement};
use countersign_token::KeySource;
use countersign_verifier::Verifier;
use tower_layer::{Layer, Stack};

use crate::gate::Gate;
use crate::limit::RefusalLimit;
use crate::observe::Observer;
use crate::on_refusal::{OnRefusalLayer, ProblemDetails};
use crate::place::TokenPlace;
use crate::service::RequireJwt;
use crate::signed::{SignedRequestLayer, SignedRequests};

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
    pub fn realm(self, realm: impl Into<Box<str>>) -> Self {
        self.with(|gate| gate.answers_mut().realm = Some(realm.into()))
    }

    /// Demands this of every caller; who lacks a scope gets 403 and is told all that are needed, and who has to authenticate better or
    /// again 401 (RFC 9470). Called again, it demands that as well.
    ///
    /// Requests without a token are told the scopes too, so that their first token has them.
    #[must_use]
    pub fn require(self, requirement: Requirement) -> Self {
        self.with(|gate| gate.require(requirement))
    }

    /// Asks of each good token whether it has been revoked, also here: `Revocations`, such as a `RevocationList`, or a
    /// [`RevocationCheck`] that says more about it. It is asked behind what the verifier itself asks
    /// ([`Verifier::revocation`]), which it does not replace, so layers over one verifier can differ in it. Called
    /// again, it asks these as well.
    ///
    /// A revoked token is 401 `invalid_token`, as is any other that is not valid, and its sender is not told that it is
    /// revoked. What is out of date, where that is not to be trusted ([`RevocationCheck::refuse_stale`]), is 503 with
    /// `Retry-After`. Single routes are stricter by [`require_fresh`](crate::require_fresh), and a `Deadline` ends what
    /// outlives its request.
    ///
    /// ```
    /// # use countersign_claims::revocation::{Changed, Judged, Revocations, Verdict};
    /// # use countersign_claims::{Policy, UnixTime};
    /// # use countersign_token::KeySet;
    /// # use countersign_verifier::Verifier;
    /// # use std::time::Duration;
    /// # struct RevocationList;
    /// # impl Revocations for RevocationList {
    /// #     fn check(&self, _: &Judged<'_>) -> Verdict { Verdict::Fresh }
    /// #     fn age(&self, _: UnixTime) -> Option<Duration> { Some(Duration::ZERO) }
    /// #     fn changed(&self) -> Changed { Box::pin(std::future::pending()) }
    /// # }
    /// # let verifier = Verifier::new(KeySet::default(), Policy::new().audience("orders"));
    /// # let list = RevocationList;
    /// use countersign_claims::revocation::RevocationCheck;
    /// use countersign_tower::RequireJwtLayer;
    ///
    /// let layer = RequireJwtLayer::new(verifier).revocation(RevocationCheck::by(list).require_jwt_id());
    /// ```
    #[must_use]
    pub fn revocation(self, check: impl Into<RevocationCheck>) -> Self {
        self.with(|gate| gate.add_revocation(check.into()))
    }

    /// Where a token may be, in place of the bearer header: see [`TokenPlace`]. Two tokens in one request are 400.
    ///
    /// ```
    /// # use countersign_claims::Policy;
    /// # use countersign_token::KeySet;
    /// # use countersign_verifier::Verifier;
    /// use countersign_tower::{RequireJwtLayer, TokenPlace};
    ///
    /// # let verifier = Verifier::new(KeySet::default(), Policy::new());
    /// let layer = RequireJwtLayer::new(verifier)
    ///     .token_from([TokenPlace::bearer(), TokenPlace::cookie("__Host-session")]);
    /// layer.check()?;
    /// # Ok::<(), countersign_claims::ConfigError>(())
    /// ```
    #[must_use]
    pub fn token_from(self, places: impl IntoIterator<Item = TokenPlace>) -> Self {
        self.with(|gate| gate.set_places(places.into_iter().collect()))
    }

    /// Takes the token out of the request before the inner service sees it, from all places where one may be: for proxies, and for
    /// services that log what they get. Everything else stays, such as other cookies and `Authorization` of another scheme.
    ///
    /// A copy that somebody outside of this layer has made is out of reach: with a token in the query, axum's `OriginalUri`, which a
    /// `Router` makes, unless this layer is around the whole `Router`.
    #[must_use]
    pub fn strip_token(self) -> Self {
        self.with(Gate::set_strip_token)
    }

    /// Hands a claim on to the inner service in a header: for proxies. `claim` is the name of a member, or a JSON pointer (RFC 6901);
    /// it goes on if it is a string, a number or a boolean. Called again, one more.
    ///
    /// What the client sent under that name is removed from *every* request, also where there is no caller, and in every spelling that
    /// differs by `-` and `_`. Visible ASCII stays as it is; everything else, and `%`, is written as `%XX` of its UTF-8.
    #[must_use]
    pub fn forward(self, claim: &str, header: &str) -> Self {
        self.with(|gate| gate.forward_mut().add(claim, header))
    }

    /// Lets requests without a token pass, without a caller. A token that is shown must be good all the same, and satisfy what is
    /// [required](Self::require).
    ///
    /// Handlers take a [`Caller`](crate::Caller), or, with axum, an `Option` of [`Authenticated`](crate::handler::Authenticated) or
    /// [`Claims`](crate::handler::Claims). One that asks for either without the `Option` answers 401 to requests without a token.
    #[must_use]
    pub fn optional(self) -> Self {
        self.with(|gate| gate.open_mut().missing = true)
    }

    /// Lets requests without a token pass, and those with one that is not valid: expired, forged, meant for others, or no token at all.
    ///
    /// A client whose token has expired is then not told, and silently gets what everybody gets. Two tokens are still 400, a token
    /// that does not satisfy what is [required](Self::require) still 403, and one that could not be checked 429 or 503.
    #[must_use]
    pub fn dangerous_treat_invalid_as_anonymous(self) -> Self {
        self.with(|gate| {
            let open = gate.open_mut();
            open.missing = true;
            open.invalid = true;
        })
    }

    /// Lets CORS preflights pass, without a caller: `OPTIONS` with one `Origin` and one `Access-Control-Request-Method` (Fetch standard).
    /// For a CORS layer, or a handler of `OPTIONS`, inside this one; where it can be outside, this is not needed.
    #[must_use]
    pub fn allow_cors_preflight(self) -> Self {
        self.with(|gate| gate.open_mut().preflight = true)
    }

    /// Lets requests for this path pass, without a caller and without a look at their token. A path is exempt as it is written, such as
    /// `/healthz`; with `/*` at its end, so is everything below. Called again, one more.
    ///
    /// A path with escapes, empty or dot segments, `;` or `\` is never exempt below a `/*`, because routers disagree on where it leads.
    /// It is the path of the request line that counts, whatever the host: a service behind that goes by another (`X-Original-URL`,
    /// `X-Rewrite-URL`) must not be behind an exempt path. And it is the path that this layer sees: within axum's `nest`, without the
    /// prefix. Routes that are added after axum's
    /// `Router::layer` are outside of the layer, which is better where it can be done.
    #[must_use]
    pub fn exempt(self, path: &str) -> Self {
        self.with(|gate| gate.open_mut().exempt(path))
    }

    /// Watches, and lets every request through as it is, to whatever guards it today. The [observers](Self::observe) hear what would
    /// have become of it. No handler ever gets claims: routes that [`require`](crate::require) something and handlers that ask for a caller, also as
    /// an `Option`, answer 500. So put it around what needs neither yet. Nobody waits: a token whose key would have to be looked for is
    /// [undecided](crate::Outcome::ShadowUndecided).
    #[must_use]
    pub fn shadow(self) -> Self {
        self.with(Gate::set_shadow)
    }

    /// Tells `observer` of each judgement. Called again, one more.
    #[must_use]
    pub fn observe(self, observer: impl Observer) -> Self {
        self.with(|gate| gate.answers_mut().observers.push(Arc::new(observer)))
    }

    /// Slows down peers whose requests are refused again and again; see [`RefusalLimit`].
    #[must_use]
    pub fn limit_refusals(self, limit: impl RefusalLimit) -> Self {
        self.with(|gate| gate.set_limit(Arc::new(limit)))
    }

    /// Answers refused requests with what `respond` makes, in place of an empty body: a closure, or [`ProblemDetails`]. Comes last, because
    /// what it returns is two layers, and has no more settings. See [`OnRefusalLayer`].
    #[must_use]
    pub fn on_refusal<F>(self, respond: F) -> Stack<Self, OnRefusalLayer<F>> {
        Stack::new(self, OnRefusalLayer::new(respond))
    }

    /// [`on_refusal`](Self::on_refusal) with [`ProblemDetails`].
    #[must_use]
    pub fn problem_details(self) -> Stack<Self, OnRefusalLayer<ProblemDetails>> {
        self.on_refusal(ProblemDetails)
    }

    /// Where the metadata of this resource is (RFC 9728), which challenges then say: an absolute URL. See
    /// [`ResourceMetadata`](crate::ResourceMetadata).
    #[must_use]
    pub fn resource_metadata(self, url: impl Into<Box<str>>) -> Self {
        self.with(|gate| gate.answers_mut().resource_metadata = Some(url.into()))
    }

    /// Answers gRPC callers as plain HTTP, with 401, 403, 429 and 503: for a service that a proxy asks whether to let a request pass
    /// (forward auth), and that would take gRPC's 200 for yes.
    #[must_use]
    pub fn plain_http_refusals(self) -> Self {
        self.with(|gate| gate.answers_mut().grpc = false)
    }

    /// Takes only requests that their clients have signed, each with a token for it alone: see [`SignedRequests`]. The verifier's
    /// policy is one with [`signed_request_profile`](countersign_claims::Policy::signed_request_profile). Comes last, because what
    /// it returns is another layer, whose inner service gets a [`SignedBody`](crate::SignedBody).
    #[must_use]
    pub fn signed_requests(self, rules: SignedRequests) -> SignedRequestLayer<K> {
        SignedRequestLayer::new(self.gate, rules)
    }

    /// Where the time comes from; [`SystemClock`](crate::SystemClock) if it is not set. It is read once per judgement, and
    /// again after a wait.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        self.with(|gate| gate.set_clock(Arc::new(clock)))
    }

    /// What is required of callers, if anything is.
    #[must_use]
    pub fn required(&self) -> Option<&Requirement> {
        self.gate.required()
    }

    /// The verifier that judges the tokens.
    #[must_use]
    pub fn verifier(&self) -> &Arc<Verifier<K>> {
        self.gate.verifier()
    }

    /// The rules across settings. Quick, and reads no keys.
    ///
    /// # Errors
    /// [`ConfigError`]: of a setting of this layer, of two that contradict each other, or of the verifier ([`Verifier::check`]).
    pub fn check(&self) -> Result<(), ConfigError> {
        self.gate.check()
    }

    /// The same judgement for tower-http's own authorisation layers, with the settings made so far: see
    /// [`RequestAuthorizer`](crate::RequestAuthorizer).
    ///
    /// # Errors
    /// [`ConfigError`]: that of [`check`](Self::check), or that a token may be [in the query](TokenPlace::query).
    #[cfg(feature = "tower-http-0.7")]
    pub fn authorizer<ResBody>(&self) -> Result<crate::RequestAuthorizer<K, ResBody>, ConfigError> {
        self.check()?;
        if self.gate.looks_into_the_query() {
            let text = "an authorizer of tower-http's cannot keep the answers to tokens in the query private";
            return Err(ConfigError::Other(text.into()));
        }
        Ok(crate::RequestAuthorizer::new(Arc::clone(&self.gate)))
    }

    fn with(mut self, change: impl FnOnce(&mut Gate<K>)) -> Self {
        change(Arc::make_mut(&mut self.gate));
        self
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
