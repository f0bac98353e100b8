use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign_claims::revocation::RevocationCheck;
use countersign_claims::{ClaimsType, Clock, ConfigError, Policy, Requirement};
#[cfg(feature = "metrics")]
use countersign_jwks::KeysHandle;
use countersign_jwks::{Issuers, Keys, Remote, SourceError};
use countersign_token::{AlgorithmSet, Fetch, KeySet, KeySource};
use countersign_tower::{
    Observer, OnRefusalLayer, ProblemDetails, RefusalLimit, RequireJwt, RequireJwtLayer, SystemClock, TokenPlace,
};
use countersign_verifier::Verifier;
use tower_layer::{Layer, Stack};

use crate::handle::{Handle, Warning};
#[cfg(feature = "metrics")]
use crate::metrics::Metrics;

/// Authentication by signed tokens, as a [`tower::Layer`](tower_layer::Layer).
///
/// ```
/// use countersign::JwtAuth;
///
/// let auth = JwtAuth::new("https://login.example/.well-known/jwks.json")
///     .issuer("https://login.example")
///     .audience("orders");
/// auth.check()?;
/// # Ok::<(), countersign::ConfigError>(())
/// ```
///
/// Building one needs no `await` and no runtime. Fetching begins when the layer is put on a service or the handle is looked
/// at, if there is a tokio runtime by then, and at the first request otherwise. Requests that come before the first answer
/// wait for it, at most two seconds, and get 503 only then.
///
/// It is cheap to clone. Clones share one source of keys, with one task behind it, which ends with the last of them and of
/// the services made from them. Settings of the *policy* leave the source shared; settings of the *source* (lifetimes,
/// staleness, plain http, own fetcher) make a new one.
///
/// # Panics
/// [`layer`](Layer::layer) panics, with the text of [`check`](Self::check), if the configuration is contradictory: that is
/// found when the service is put together, and never at a request.
#[derive(Clone)]
pub struct JwtAuth {
    source: Arc<Source>,
    policy: Policy,
    algorithms: Option<AlgorithmSet>,
    max_token_bytes: Option<usize>,
    token_cache: TokenCache,
    kid_required: bool,
    with_claims: Option<fn(Verifier<Keys>) -> Verifier<Keys>>,
    revocation: Option<Arc<RevocationCheck>>,
    /// What is set of the layer, in order.
    layer: Vec<LayerSetting>,
    #[cfg(feature = "metrics")]
    metrics: Vec<Metrics>,
    /// Of the layer too; the handle explains by it.
    /// `None` is the system's, of which nobody need be told.
    clock: Option<Arc<dyn Clock>>,
    /// The first setting of a single fetched source, where there is none.
    misplaced: Option<&'static str>,
    /// Made once and shared by clones, because frameworks call `layer` once per route, each time on a clone.
    built: Arc<OnceLock<RequireJwtLayer<Keys>>>,
}

/// Where the keys come from, and the one `Keys` made from it.
struct Source {
    origin: KeysFrom,
    keys: OnceLock<Keys>,
    /// The same for all layers over these keys, so that it can be told that they are the same.
    #[cfg(feature = "metrics")]
    measured: OnceLock<Arc<KeysHandle>>,
}

impl Source {
    fn new(origin: KeysFrom, keys: Option<Keys>) -> Self {
        Self {
            origin,
            keys: keys.map_or_else(OnceLock::new, OnceLock::from),
            #[cfg(feature = "metrics")]
            measured: OnceLock::new(),
        }
    }
}

type LayerSetting = Arc<dyn Fn(RequireJwtLayer<Keys>) -> RequireJwtLayer<Keys> + Send + Sync>;

enum KeysFrom {
    Remote(Box<Remote>),
    Issuers(Box<Issuers>),
    Given,
}

/// Of verified tokens.
#[derive(Clone, Copy)]
enum TokenCache {
    /// The verifier's own.
    Default,
    Of {
        tokens: usize,
        bytes: usize,
    },
    Off,
}

impl JwtAuth {
    /// Takes the keys from a JWKS URL.
    ///
    /// Without [`issuer`](Self::issuer) and [`audience`](Self::audience), every token that one of those keys has signed
    /// passes, also one that was meant for another service. The layer says so once, at warn level, and in its
    /// [`handle`](Self::handle); [`deny_unbound`](Self::deny_unbound) makes it an error.
    ///
    /// # Panics
    /// If `jwks_url` is not an absolute `http` or `https` URL with a host and without user name and password;
    /// [`try_new`](Self::try_new) returns that as an error.
    #[must_use]
    #[track_caller]
    pub fn new(jwks_url: impl AsRef<str>) -> Self {
        match Self::try_new(jwks_url) {
            Ok(auth) => auth,
            // Without the URL, which may hold a secret; the caller's line shows it.
            #[expect(clippy::panic, reason = "documented: the one-liner is for constants in code")]
            Err(error) => panic!("JwtAuth::new: {error}"),
        }
    }

    /// Takes the keys from a JWKS URL that comes from elsewhere than the code, such as a configuration file.
    ///
    /// # Errors
    /// [`SourceError`] if it is not an absolute `http` or `https` URL with a host and without user name and password.
    pub fn try_new(jwks_url: impl AsRef<str>) -> Result<Self, SourceError> {
        Ok(Self::from_remote(Remote::new(jwks_url.as_ref())?))
    }

    /// Takes the keys from wherever the metadata of `issuer` says that they are (OpenID Connect Discovery, RFC 8414), and demands
    /// that `iss` is that issuer. The metadata counts only if it is the same issuer's, octet by octet: see [`Remote::discover`].
    ///
    /// ```
    /// use countersign::JwtAuth;
    ///
    /// let auth = JwtAuth::discover("https://login.example").audience("orders").deny_unbound();
    /// auth.check()?;
    /// # Ok::<(), countersign::ConfigError>(())
    /// ```
    ///
    /// # Panics
    /// If `issuer` is not such a URL as [`new`](Self::new) takes, or has a query or a fragment;
    /// [`try_discover`](Self::try_discover) returns that as an error.
    #[must_use]
    #[track_caller]
    pub fn discover(issuer: impl AsRef<str>) -> Self {
        match Self::try_discover(issuer) {
            Ok(auth) => auth,
            #[expect(clippy::panic, reason = "documented: the one-liner is for constants in code")]
            Err(error) => panic!("JwtAuth::discover: {error}"),
        }
    }

    /// As [`discover`](Self::discover), for an issuer that comes from elsewhere than the code.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn try_discover(issuer: impl AsRef<str>) -> Result<Self, SourceError> {
        let issuer = issuer.as_ref();
        Ok(Self::from_remote(Remote::discover(issuer)?).issuer(issuer))
    }

    /// Accepts tokens of several issuers, each verified with that issuer's own keys: see [`Issuers`].
    ///
    /// ```
    /// use countersign::{Issuers, JwtAuth, Tenants};
    ///
    /// let issuers = Issuers::new()
    ///     .issuer("https://login.example")
    ///     .tenants(Tenants::of("https://login.other.example/{tenant}/v2.0").allow(["t1", "t2"]));
    /// let auth = JwtAuth::issuers(issuers).audience("orders");
    /// auth.check()?;
    /// # Ok::<(), countersign::ConfigError>(())
    /// ```
    #[must_use]
    pub fn issuers(issuers: Issuers) -> Self {
        Self::from_source(Source::new(KeysFrom::Issuers(Box::new(issuers)), None))
    }

    /// Takes the keys from a source that was made elsewhere: a union, files, or one that several layers share.
    ///
    /// HMAC secrets among them need [`algorithms`](Self::algorithms), because only asymmetric algorithms are allowed by default.
    ///
    /// Where each key is bound to its issuer (discovered ones are), `.policy(Policy::issuer_of_key)` demands that instead of one [`issuer`](Self::issuer).
    /// Settings of the source, such as its lifetimes, are made on the [`Remote`] or [`Local`](countersign_jwks::Local), whose own `check` says whether they go together.
    #[must_use]
    pub fn from_keys(keys: Keys) -> Self {
        Self::from_source(Source::new(KeysFrom::Given, Some(keys)))
    }

    /// Takes the keys from a remote source that was configured in detail: with a cache, mirrors, a discovered issuer.
    ///
    /// It demands no issuer by itself: call [`issuer`](Self::issuer) too, also after [`Remote::discover`].
    #[must_use]
    pub fn from_remote(remote: Remote) -> Self {
        Self::from_source(Source::new(KeysFrom::Remote(Box::new(remote)), None))
    }

    /// Uses these keys and no others: from PEM files, from a JWKS document, or secrets shared with the issuer. HMAC secrets
    /// need [`algorithms`](Self::algorithms), because only asymmetric algorithms are allowed by default.
    ///
    /// A token that names its key finds only a key of that name. Keys from PEM have none: give it with
    /// [`with_kid`](countersign_token::VerifyingKey::with_kid), or let them answer for every name with
    /// [`unnamed_keys_match_any_kid`](KeySet::unnamed_keys_match_any_kid).
    ///
    /// ```
    /// use countersign::{Algorithm, JwtAuth, KeySet, VerifyingKey};
    ///
    /// let secret = VerifyingKey::from_secret(b"a secret of at least thirty-two bytes", Algorithm::Hs256)?;
    /// let auth = JwtAuth::with_keys(KeySet::new([secret])).algorithms(Algorithm::Hs256).audience("orders");
    /// auth.check()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_keys(keys: KeySet) -> Self {
        Self::from_source(Source::new(KeysFrom::Given, Some(Keys::fixed(keys))))
    }

    fn from_source(source: Source) -> Self {
        // Where each key says whose it is, nobody need list the issuers.
        let are_bound = match &source.origin {
            KeysFrom::Remote(remote) => remote.is_bound(),
            KeysFrom::Issuers(_) => true,
            KeysFrom::Given => source.keys.get().is_some_and(Keys::are_bound),
        };
        Self {
            source: Arc::new(source),
            policy: if are_bound { Policy::new().issuer_of_key() } else { Policy::new() },
            algorithms: None,
            max_token_bytes: None,
            token_cache: TokenCache::Default,
            kid_required: false,
            with_claims: None,
            revocation: None,
            layer: Vec::new(),
            #[cfg(feature = "metrics")]
            metrics: Vec::new(),
            clock: None,
            misplaced: None,
            built: Arc::default(),
        }
    }

    /// Demands `iss`, equal to `issuer` character by character. Called again, any of the values will do.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<Box<str>>) -> Self {
        self.policy_with(|policy| policy.issuer(issuer))
    }

    /// Demands `aud`, with one member equal to `audience` character by character. Called again, any of the values will do.
    ///
    /// It is the service's own name and not that of a client: ID tokens have the client's name in `aud`, and some providers'
    /// have nothing else by which they could be told from access tokens. [`access_token_profile`](Self::access_token_profile)
    /// can tell them, where the provider follows it.
    #[must_use]
    pub fn audience(self, audience: impl Into<Box<str>>) -> Self {
        self.policy_with(|policy| policy.audience(audience))
    }

    /// The tolerance in comparisons with the clock: 30 s by default, at most 300 s.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        self.policy_with(|policy| policy.leeway(leeway))
    }

    /// Makes an unset issuer or audience an error of [`check`](Self::check).
    #[must_use]
    pub fn deny_unbound(self) -> Self {
        self.policy_with(Policy::deny_unbound)
    }

    /// The access-token profile of RFC 9068: see [`Policy::access_token_profile`].
    #[must_use]
    pub fn access_token_profile(self) -> Self {
        self.policy_with(Policy::access_token_profile)
    }

    /// Changes the rest of the [`Policy`]: required claims, subject, maximum age and lifetime, types of token, where
    /// [scopes are](Policy::scope_claim) and which [implies which](Policy::scope_implies).
    ///
    /// ```
    /// use std::time::Duration;
    /// use countersign::JwtAuth;
    ///
    /// let auth = JwtAuth::new("https://login.example/jwks.json")
    ///     .policy(|policy| policy.require_claim("tenant").max_lifetime(Duration::from_secs(3600)));
    /// ```
    #[must_use]
    pub fn policy(self, change: impl FnOnce(Policy) -> Policy) -> Self {
        self.policy_with(change)
    }

    /// Allows these signature algorithms and no others. By default all asymmetric ones.
    #[must_use]
    pub fn algorithms(self, algorithms: impl Into<AlgorithmSet>) -> Self {
        let algorithms = algorithms.into();
        self.with(|auth| auth.algorithms = Some(algorithms))
    }

    /// Refuses tokens longer than this, before anything of them is decoded. By default 8 KiB, of which a signature with
    /// ML-DSA-87 takes six.
    #[must_use]
    pub fn max_token_bytes(self, bytes: usize) -> Self {
        self.with(|auth| auth.max_token_bytes = Some(bytes))
    }

    /// Refuses tokens that do not name their key.
    #[must_use]
    pub fn require_kid(self) -> Self {
        self.with(|auth| auth.kid_required = true)
    }

    /// Reads the claims into `T` in the layer and refuses tokens that do not fit, instead of when a handler asks.
    #[must_use]
    pub fn with_claims<T: ClaimsType>(self) -> Self {
        self.with(|auth| auth.with_claims = Some(Verifier::with_claims::<T>))
    }

    /// How many verified tokens are remembered, and how many bytes they may take together: see [`Verifier::token_cache`]. By default
    /// [`DEFAULT_CACHED_TOKENS`](crate::DEFAULT_CACHED_TOKENS) and [`DEFAULT_CACHED_BYTES`](crate::DEFAULT_CACHED_BYTES), as long as so many come.
    ///
    /// Clones of this have one cache between them as long as they are configured alike; otherwise each has its own.
    #[must_use]
    pub fn token_cache(self, tokens: usize, bytes: usize) -> Self {
        self.with(|auth| auth.token_cache = TokenCache::Of { tokens, bytes })
    }

    /// Remembers no tokens: the signature of each is verified each time.
    #[must_use]
    pub fn without_token_cache(self) -> Self {
        self.with(|auth| auth.token_cache = TokenCache::Off)
    }

    /// Asks of each good token whether it has been revoked: a [`RevocationList`](crate::RevocationList), or a [`RevocationCheck`] that says more
    /// about it. Called again, it asks these as well. See [`revocation`](crate::revocation).
    ///
    /// ```
    /// use std::time::Duration;
    /// use countersign::{JwtAuth, RevocationCheck, RevocationList};
    ///
    /// let revocations = RevocationList::new();
    /// let auth = JwtAuth::new("https://login.example/jwks.json")
    ///     .revocation(RevocationCheck::by(revocations.clone()).require_jwt_id().max_age(Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn revocation(self, check: impl Into<RevocationCheck>) -> Self {
        self.with(|auth| {
            auth.revocation = Some(Arc::new(match auth.revocation.take() {
                None => check.into(),
                Some(earlier) => Arc::unwrap_or_clone(earlier).and(check),
            }));
        })
    }

    /// Demands this of every caller: 403 without it, naming all scopes that are needed, or 401 (RFC 9470). Called again, it demands that as well. See
    /// [`RequireJwtLayer::require`].
    ///
    /// ```
    /// use countersign::{JwtAuth, claim, scope};
    ///
    /// let auth = JwtAuth::new("https://login.example/jwks.json")
    ///     .require(scope("orders:read").or(claim("/realm_access/roles").contains("auditor")));
    /// ```
    #[must_use]
    pub fn require(self, requirement: Requirement) -> Self {
        self.layer_with(move |layer| layer.require(requirement.clone()))
    }

    /// The `realm` of challenges; [`DEFAULT_REALM`](countersign_tower::DEFAULT_REALM) if it is not set. Printable ASCII
    /// without `"` and `\`, or [`check`](Self::check) fails.
    #[must_use]
    pub fn realm(self, realm: impl Into<Box<str>>) -> Self {
        let realm = realm.into();
        self.layer_with(move |layer| layer.realm(realm.clone()))
    }

    /// Where a token may be, in place of the bearer header: see [`TokenPlace`]. Two tokens in one request are 400.
    ///
    /// ```
    /// use countersign::{JwtAuth, TokenPlace};
    ///
    /// let auth = JwtAuth::new("https://login.example/jwks.json")
    ///     .token_from([TokenPlace::bearer(), TokenPlace::cookie("__Host-session")]);
    /// ```
    #[must_use]
    pub fn token_from(self, places: impl IntoIterator<Item = TokenPlace>) -> Self {
        let places: Vec<_> = places.into_iter().collect();
        self.layer_with(move |layer| layer.token_from(places.clone()))
    }

    /// Takes the token out of the request before the inner service sees it: see [`RequireJwtLayer::strip_token`].
    #[must_use]
    pub fn strip_token(self) -> Self {
        self.layer_with(RequireJwtLayer::strip_token)
    }

    /// Hands a claim on to the inner service in a header, after removing what the client sent under that name: see
    /// [`RequireJwtLayer::forward`].
    #[must_use]
    pub fn forward(self, claim: impl Into<Box<str>>, header: impl Into<Box<str>>) -> Self {
        let (claim, header) = (claim.into(), header.into());
        self.layer_with(move |layer| layer.forward(&claim, &header))
    }

    /// Lets requests without a token pass, without a caller; a token that is shown must be good all the same. See
    /// [`RequireJwtLayer::optional`].
    #[must_use]
    pub fn optional(self) -> Self {
        self.layer_with(RequireJwtLayer::optional)
    }

    /// Lets requests without a token pass, and those with one that is not valid: see
    /// [`RequireJwtLayer::dangerous_treat_invalid_as_anonymous`].
    #[must_use]
    pub fn dangerous_treat_invalid_as_anonymous(self) -> Self {
        self.layer_with(RequireJwtLayer::dangerous_treat_invalid_as_anonymous)
    }

    /// Lets CORS preflights pass, without a caller: see [`RequireJwtLayer::allow_cors_preflight`].
    #[must_use]
    pub fn allow_cors_preflight(self) -> Self {
        self.layer_with(RequireJwtLayer::allow_cors_preflight)
    }

    /// Lets requests for this path pass without a look at their token, such as `/healthz` or `/public/*`: see [`RequireJwtLayer::exempt`].
    #[must_use]
    pub fn exempt(self, path: impl Into<Box<str>>) -> Self {
        let path = path.into();
        self.layer_with(move |layer| layer.exempt(&path))
    }

    /// Watches, and lets every request through to whatever guards it today: see [`RequireJwtLayer::shadow`].
    #[must_use]
    pub fn shadow(self) -> Self {
        self.layer_with(RequireJwtLayer::shadow)
    }

    /// Tells `observer` of each judgement. Called again, one more. See [`Observer`].
    #[must_use]
    pub fn observe(self, observer: impl Observer) -> Self {
        let observer = Arc::new(observer);
        self.layer_with(move |layer| layer.observe(Arc::clone(&observer)))
    }

    /// Counts what becomes of requests, and how their keys are: see [`Metrics`].
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(self, metrics: &Metrics) -> Self {
        self.with(|auth| auth.metrics.push(metrics.clone()))
    }

    /// Records what becomes of each request in its span, and says refusals in events: see [`Traces`](crate::Traces).
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn traced(self) -> Self {
        self.observe(crate::Traces::new())
    }

    /// Slows down peers whose requests are refused again and again: see [`RefusalLimit`].
    #[must_use]
    pub fn limit_refusals(self, limit: impl RefusalLimit) -> Self {
        let limit = Arc::new(limit);
        self.layer_with(move |layer| layer.limit_refusals(Arc::clone(&limit)))
    }

    /// Where the metadata of this resource is (RFC 9728), which challenges then say: see [`ResourceMetadata`](crate::ResourceMetadata).
    #[must_use]
    pub fn resource_metadata(self, url: impl Into<Box<str>>) -> Self {
        let url = url.into();
        self.layer_with(move |layer| layer.resource_metadata(url.clone()))
    }

    /// Answers gRPC callers as plain HTTP: see [`RequireJwtLayer::plain_http_refusals`].
    #[must_use]
    pub fn plain_http_refusals(self) -> Self {
        self.layer_with(RequireJwtLayer::plain_http_refusals)
    }

    /// Answers refused requests with what `respond` makes, in place of an empty body. Comes last: what it returns is two layers, and has
    /// no more settings. See [`OnRefusalLayer`].
    #[must_use]
    pub fn on_refusal<F>(self, respond: F) -> Stack<Self, OnRefusalLayer<F>> {
        Stack::new(self, OnRefusalLayer::new(respond))
    }

    /// Answers refused requests with problem details (RFC 9457). Comes last, as [`on_refusal`](Self::on_refusal).
    #[must_use]
    pub fn problem_details(self) -> Stack<Self, OnRefusalLayer<ProblemDetails>> {
        self.on_refusal(ProblemDetails)
    }

    /// Takes the time from elsewhere than the system's clock: for tests.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        self.with(|auth| auth.clock = Some(Arc::new(clock)))
    }

    /// How long fetched keys are good for if the answer does not say (`Cache-Control`, `Expires`); they are fetched anew a
    /// little earlier, whatever the traffic. By default five minutes. Makes a new source.
    #[must_use]
    pub fn default_lifetime(self, lifetime: Duration) -> Self {
        self.source_with("default_lifetime", |remote| remote.default_lifetime(lifetime))
    }

    /// How long fetched keys are good for at most, whatever the answer says: how long a key that the issuer has withdrawn
    /// can still be accepted while the issuer answers. By default an hour. Makes a new source.
    #[must_use]
    pub fn max_lifetime(self, max_lifetime: Duration) -> Self {
        self.source_with("max_lifetime", |remote| remote.max_lifetime(max_lifetime))
    }

    /// How long keys are trusted while the issuer cannot be reached. By default 24 hours, or twice the
    /// [longest lifetime](Self::max_lifetime); then 503. Makes a new source.
    #[must_use]
    pub fn max_stale(self, max_stale: Duration) -> Self {
        self.source_with("max_stale", |remote| remote.max_stale(max_stale))
    }

    /// Allows plain http to hosts other than loopback: whoever is on the way can then forge tokens. Makes a new source.
    #[must_use]
    pub fn dangerous_allow_http(self) -> Self {
        self.source_with("dangerous_allow_http", Remote::dangerous_allow_http)
    }

    /// Fetches with a client of your own. Makes a new source.
    #[must_use]
    pub fn fetch(self, fetch: impl Fetch) -> Self {
        self.source_with("fetch", |remote| remote.fetch(fetch))
    }

    /// Whether the settings can work together. Starts fetching, if those of the source can and there is a runtime.
    ///
    /// # Errors
    /// [`ConfigError`], the same that makes [`layer`](Layer::layer) panic.
    pub fn check(&self) -> Result<(), ConfigError> {
        let algorithms = self.algorithms.unwrap_or(AlgorithmSet::ASYMMETRIC);
        match &self.source.origin {
            KeysFrom::Remote(remote) => {
                remote.check().map_err(|error| ConfigError::Other(error.to_string().into()))?;
            }
            KeysFrom::Issuers(issuers) => {
                issuers.check().map_err(|error| ConfigError::Other(error.to_string().into()))?;
            }
            KeysFrom::Given => {
                let keys = self.keys();
                keys.check().map_err(|error| ConfigError::Other(error.to_string().into()))?;
                let usable =
                    |keys: &KeySet| keys.iter().any(|key| !key.algorithms().intersection(algorithms).is_empty());
                // Keys that may change may become usable.
                if keys.is_fixed() && !keys.snapshot().is_some_and(|keys| usable(&keys)) {
                    return Err(ConfigError::NoUsableKey);
                }
            }
        }
        let is_fetched = !matches!(self.source.origin, KeysFrom::Given);
        if is_fetched && !algorithms.intersection(AlgorithmSet::HMAC).is_empty() {
            return Err(ConfigError::HmacWithFetchedKeys);
        }
        if let Some(setting) = self.misplaced {
            let text = match &self.source.origin {
                KeysFrom::Issuers(_) => format!("{setting}() is about one source; Issuers::each() sets it for many"),
                _ if self.keys().is_fixed() => {
                    format!("{setting}() is about fetching keys, and these keys are configured here")
                }
                _ => format!("{setting}() is about one source that is made here; set it where these keys are made"),
            };
            return Err(ConfigError::Other(text.into()));
        }
        self.configure().check()
    }

    /// A look at readiness and keys. Starts fetching, if there is a runtime.
    #[must_use]
    pub fn handle(&self) -> Handle {
        // A misconfigured layer is never built, and has a handle all the same.
        let layer = &if self.check().is_ok() { self.built().clone() } else { self.configure() };
        Handle {
            keys: self.keys().handle(),
            verifier: Arc::clone(layer.verifier()),
            required: layer.required().cloned(),
            revocation: self.revocation.clone(),
            clock: self.clock_in_force(),
            warnings: self.warnings(),
        }
    }

    /// The same check without HTTP: for messages, connections and protocols of your own. What is
    /// [required](Self::require) is the layer's affair; here, [`Requirement::check`] does it.
    ///
    /// ```
    /// use countersign::{Algorithm, JwtAuth, KeySet, SigningKey, SystemClock, UnixTime};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let issuer = SigningKey::generate(Algorithm::Es256)?;
    /// # let token = issuer.sign(&serde_json::json!({ "aud": "orders", "sub": "ada", "exp": 4_000_000_000_u64 }))?;
    /// # let auth = JwtAuth::with_keys(KeySet::new([issuer.verifying_key()?])).audience("orders");
    /// let verifier = auth.verifier();
    /// // Waits while its key is being looked for, at most two seconds …
    /// let verified = verifier.verify_or_wait(&token, &SystemClock).await?;
    /// assert_eq!(verified.subject(), Some("ada"));
    /// // … or never waits, at a time of your own.
    /// assert!(verifier.verify(&token, UnixTime::from_secs(4_000_000_030)).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// As [`layer`](Layer::layer).
    #[must_use]
    pub fn verifier(&self) -> Arc<Verifier<Keys>> {
        Arc::clone(self.built().verifier())
    }

    /// The same judgement for tower-http's own authorisation layers, with all settings of this one: see
    /// [`RequestAuthorizer`](countersign_tower::RequestAuthorizer).
    ///
    /// ```
    /// use countersign::JwtAuth;
    /// use tower_http::auth::AsyncRequireAuthorizationLayer;
    ///
    /// # type Body = axum::body::Body;
    /// let auth = JwtAuth::new("https://login.example/jwks.json").audience("orders");
    /// let layer = AsyncRequireAuthorizationLayer::new(auth.authorizer::<Body>()?);
    /// # Ok::<(), countersign::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`]: that of [`check`](Self::check), or that a token may be [in the query](TokenPlace::query), whose answers
    /// it cannot keep private.
    #[cfg(feature = "tower-http-0.7")]
    pub fn authorizer<ResBody>(&self) -> Result<countersign_tower::RequestAuthorizer<Keys, ResBody>, ConfigError> {
        self.check()?;
        self.built().authorizer()
    }

    fn clock_in_force(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock))
    }

    fn keys(&self) -> &Keys {
        // By then tokens begin to be refused that are good.
        let clock_tolerance = self.policy.leeway_in_force() / 2;
        self.source.keys.get_or_init(|| match &self.source.origin {
            KeysFrom::Remote(remote) => Keys::remote((**remote).clone().clock_tolerance_or(clock_tolerance)),
            KeysFrom::Issuers(issuers) => Keys::issuers((**issuers).clone().clock_tolerance(clock_tolerance)),
            // Set when it was made; an empty set refuses everything.
            KeysFrom::Given => Keys::fixed(KeySet::default()),
        })
    }

    fn warnings(&self) -> Vec<Warning> {
        [
            (self.policy.accepts_any_audience(), Warning::AnyAudience),
            (self.policy.accepts_any_issuer(), Warning::AnyIssuer),
        ]
        .into_iter()
        .filter_map(|(applies, warning)| applies.then_some(warning))
        .collect()
    }

    fn built(&self) -> &RequireJwtLayer<Keys> {
        self.built.get_or_init(|| {
            if let Err(error) = self.check() {
                #[expect(clippy::panic, reason = "documented: a misconfigured layer must not wait for a request")]
                {
                    panic!("this JwtAuth cannot work: {error}");
                }
            }
            for warning in self.warnings() {
                tracing::warn!(target: "countersign", "{warning}");
            }
            self.configure()
        })
    }

    fn configure(&self) -> RequireJwtLayer<Keys> {
        let mut verifier = Verifier::new(self.keys().clone(), self.policy.clone());
        if let Some(algorithms) = self.algorithms {
            verifier = verifier.algorithms(algorithms);
        }
        if let Some(bytes) = self.max_token_bytes {
            verifier = verifier.max_token_bytes(bytes);
        }
        verifier = match self.token_cache {
            TokenCache::Default => verifier,
            TokenCache::Of { tokens, bytes } => verifier.token_cache(tokens, bytes),
            TokenCache::Off => verifier.without_token_cache(),
        };
        if self.kid_required {
            verifier = verifier.require_kid();
        }
        if let Some(with_claims) = self.with_claims {
            verifier = with_claims(verifier);
        }
        if let Some(revocation) = &self.revocation {
            verifier = verifier.revocation((**revocation).clone());
        }
        let mut layer = RequireJwtLayer::new(verifier);
        if let Some(clock) = self.clock.clone() {
            layer = layer.clock(move || clock.now());
        }
        let layer = self.layer.iter().fold(layer, |layer, setting| setting(layer));
        #[cfg(feature = "metrics")]
        let layer = self.metrics.iter().fold(layer, |layer, metrics| {
            metrics.watch_tokens(layer.verifier());
            layer.observe(metrics.observer(self.measured(), self.revocation.as_ref(), &self.clock_in_force()))
        });
        layer
    }

    #[cfg(feature = "metrics")]
    fn measured(&self) -> &Arc<KeysHandle> {
        self.source.measured.get_or_init(|| Arc::new(self.keys().handle()))
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self.built = Arc::default();
        self
    }

    fn layer_with(
        self,
        setting: impl Fn(RequireJwtLayer<Keys>) -> RequireJwtLayer<Keys> + Send + Sync + 'static,
    ) -> Self {
        self.with(|auth| auth.layer.push(Arc::new(setting)))
    }

    fn policy_with(self, change: impl FnOnce(Policy) -> Policy) -> Self {
        self.with(|auth| auth.policy = change(std::mem::take(&mut auth.policy)))
    }

    /// Static keys have nothing to set: whoever tries expects something that would not happen.
    fn source_with(self, setting: &'static str, change: impl FnOnce(Remote) -> Remote) -> Self {
        self.with(|auth| match &auth.source.origin {
            KeysFrom::Remote(remote) => {
                let origin = KeysFrom::Remote(Box::new(change((**remote).clone())));
                auth.source = Arc::new(Source::new(origin, None));
            }
            KeysFrom::Given | KeysFrom::Issuers(_) => {
                auth.misplaced.get_or_insert(setting);
            }
        })
    }
}

impl<S> Layer<S> for JwtAuth {
    type Service = RequireJwt<S, Keys>;

    fn layer(&self, inner: S) -> Self::Service {
        self.built().layer(inner)
    }
}

/// Shows the policy and the state of the keys; never a token or a secret.
impl fmt::Debug for JwtAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuth")
            .field("keys", &self.source.keys.get())
            .field("policy", &self.policy)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
