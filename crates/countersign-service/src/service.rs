use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, get_service, post};
use countersign::claims::{Replay, ReplayMemory};
use countersign::{Clock, PeerLimit, SystemClock, UnixTime};
use countersign_issuer::{Minter, Ring};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::admin::{self, MAX_ORDERS};
use crate::audit::{Audit, Record, Time};
use crate::authenticate::{ASSERTION_LEEWAY, ASSERTION_WINDOW, Authenticator, Caller, ClientKeys, SecretKey};
use crate::idempotency::{BOUNDS, Idempotency};
use crate::limit::{Limited, Limits};
use crate::metadata::{self, Metadata};
use crate::numbers::Numbers;
use crate::policy::{MAX_TOKEN_BYTES, Policy, PolicyError};
use crate::problem::Problem;
use crate::room::{self, MAX_BODIES_BYTES, Room};
use crate::serve::Peer;
use crate::signed::{self, Signed};
use crate::tls::PinnedCertificates;
use crate::tokens;

/// The token service of one issuer. Clones are the same service.
#[derive(Clone)]
pub struct TokenService(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) ring: Ring,
    pub(crate) minter: Minter,
    metadata: Metadata,
    pub(crate) clock: Arc<dyn Clock>,
    secrets: Option<SecretKey>,
    in_force: ArcSwap<InForce>,
    replays: ReplayMemory,
    pub(crate) signed: Signed,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) failures: Option<PeerLimit>,
    pub(crate) room: Room,
    /// For what takes long enough to be done elsewhere than where requests are taken in.
    pub(crate) signing: Arc<Semaphore>,
    /// For what operators order.
    pub(crate) orders: Arc<Semaphore>,
    pub(crate) audit: Option<Audit>,
    pub(crate) numbers: Numbers,
    /// Whatever says that it was made from then on, no process before this one can have taken: the second after that in which this
    /// one was made, and the leeway.
    born: UnixTime,
}

/// What follows from one edition of the policy; swapped whole.
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    authenticator: Authenticator,
    limits: Limits,
}

/// What a service is to be. Made by [`TokenService::builder`].
pub struct ServiceBuilder {
    ring: Ring,
    policy: Policy,
    clock: Arc<dyn Clock>,
    secrets: Option<SecretKey>,
    base_url: Option<Box<str>>,
    failures: Option<NonZeroU32>,
    bodies: usize,
    audit: Option<Audit>,
}

/// Why there is no service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer is no `https` or `http` URL without query and fragment, so no metadata can be found for it (RFC 8414
    /// §2).
    NotAnIssuer,
    /// Client secrets are switched on, and there is no key to hash them under.
    NoSecretKey,
    /// What the policy says of workload issuers cannot be used.
    Workloads(Box<str>),
    /// Clients cannot sign requests for what they would know the service as.
    BaseUrl(Box<str>),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnIssuer => f.write_str("the issuer is no `https` URL without query and fragment"),
            Self::NoSecretKey => {
                f.write_str("`allow_client_secret_basic` needs a key to hash the secrets under (`secret_key_file`)")
            }
            Self::Workloads(text) => write!(f, "`workload_issuers`: {text}"),
            Self::BaseUrl(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for BuildError {}

/// Why a new edition of the policy is not in force; the one before stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadError {
    /// The document.
    Policy(PolicyError),
    /// What the service would be under it.
    Service(BuildError),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(error) => error.fmt(f),
            Self::Service(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReloadError {}

impl ServiceBuilder {
    /// Where the time comes from that clients are recognised by. The ring has its own. [`SystemClock`] unless it is said.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What client secrets are hashed under; needed only by a policy that allows them.
    #[must_use]
    pub fn secret_key(mut self, key: SecretKey) -> Self {
        self.secrets = Some(key);
        self
    }

    /// Where decisions are written down: each token that is signed or denied, and each order to the ring before it is
    /// carried out. Nowhere unless it is said.
    #[must_use]
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }

    /// What the URLs of this service begin with, as its clients see them and [sign](countersign::claims::signed_request) them:
    /// such as `https://issuer.example`. Scheme, host and port of the issuer unless it is said.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<Box<str>>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// How many times a minute, and at once, a [`Peer`](crate::Peer) is told that its credentials are not good; after
    /// that it is told to wait, and no more (429). Good ones are taken from it all the same, and unlock nothing. As often as it
    /// likes unless it is said; whom no [`Peer`](crate::Peer) is known of are counted as one.
    #[must_use]
    pub fn failed_authentications(mut self, per_minute: NonZeroU32) -> Self {
        self.failures = Some(per_minute);
        self
    }

    /// How much room there is for the bodies of all requests together, bytes: one that finds none is refused (503), and may
    /// come again. [`MAX_BODIES_BYTES`] unless it is said, and never less than one body may have
    /// ([`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES)).
    #[must_use]
    pub fn bodies_at_once(mut self, bytes: usize) -> Self {
        self.bodies = bytes;
        self
    }

    /// Counts for the recorder of the `metrics` crate that is installed by then.
    ///
    /// Within a tokio runtime, which fetches the keys of workload issuers.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<TokenService, BuildError> {
        let metadata = Metadata::new(self.ring.issuer(), self.ring.config()).ok_or(BuildError::NotAnIssuer)?;
        let in_force = InForce::new(self.policy, &self.ring, self.secrets.as_ref(), None)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let now = self.clock.now();
        let base_url = self.base_url.unwrap_or_else(|| signed::base_url_of(self.ring.issuer()));
        let signed = Signed::new(&base_url, now).map_err(BuildError::BaseUrl)?;
        if let Some(audit) = &self.audit {
            let (issuer, policy) = (self.ring.issuer().into(), in_force.policy.revision().into());
            audit.note(Record::Begin { time: Time(now), version: env!("CARGO_PKG_VERSION"), issuer, policy });
        }
        let paths = routes(&metadata, &self.ring).into_iter().map(|(_, path)| (admin::routed(&path), path));
        let paths = paths.collect::<Vec<_>>();
        let numbers = Numbers::new(self.ring.config(), paths.iter().map(|(path, route)| (&**path, &**route)));
        numbers.loaded();
        Ok(TokenService(Arc::new(Inner {
            // The length of a whole token is bounded by its profile.
            minter: self.ring.minter().max_payload_bytes(MAX_TOKEN_BYTES),
            ring: self.ring,
            metadata,
            born: UnixTime::from_secs(now.saturating_add(Duration::from_nanos(999_999_999)).as_secs())
                .saturating_add(ASSERTION_LEEWAY),
            clock: self.clock,
            secrets: self.secrets,
            in_force: ArcSwap::from_pointee(in_force),
            replays: ReplayMemory::default(),
            signed,
            idempotency: Arc::new(Idempotency::new(BOUNDS)),
            failures: self.failures.map(|per_minute| PeerLimit::per_minute(per_minute, |_, _| None)),
            room: Room::new(self.bodies),
            signing: Arc::new(Semaphore::new(cores)),
            orders: Arc::new(Semaphore::new(MAX_ORDERS)),
            audit: self.audit,
            numbers,
        })))
    }
}

impl fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl InForce {
    fn new(
        policy: Policy,
        ring: &Ring,
        secrets: Option<&SecretKey>,
        before: Option<&Self>,
    ) -> Result<Self, BuildError> {
        let known = before.map(|before| &before.authenticator);
        let authenticator = Authenticator::admit(&policy, ring.issuer(), secrets, known)?;
        let limits = Limits::new(&policy, before.map(|before| &before.limits));
        Ok(Self { policy, authenticator, limits })
    }
}

impl TokenService {
    /// A service that signs with the keys of `ring` what `policy` allows.
    #[must_use]
    pub fn builder(ring: Ring, policy: Policy) -> ServiceBuilder {
        ServiceBuilder {
            ring,
            policy,
            clock: Arc::new(SystemClock),
            secrets: None,
            audit: None,
            base_url: None,
            failures: None,
            bodies: MAX_BODIES_BYTES,
        }
    }

    /// All [routes](Self::routes).
    pub fn router(&self) -> Router {
        let router = table(&self.0.metadata, &self.0.ring)
            .into_iter()
            .fold(Router::new(), |router, (_, path, route)| router.route(&path, route));
        router
            .merge(admin::router(self))
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here"))
            .method_not_allowed_fallback(async || {
                let detail = "not with this method";
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            })
            .layer(axum::middleware::from_fn_with_state(self.clone(), room::within))
            .layer(axum::middleware::from_fn_with_state(self.clone(), count))
            .with_state(self.clone())
    }

    /// Method and path of each route, as they are listed on the [crate's page](crate) and in [`OPENAPI`](crate::OPENAPI).
    #[must_use]
    pub fn routes(&self) -> Vec<(&'static str, String)> {
        routes(&self.0.metadata, &self.0.ring)
    }

    /// Puts another edition of the policy in force, if all of it is good; requests that are under way end under the one
    /// that they have begun with.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub fn reload(&self, document: &str) -> Result<(), ReloadError> {
        let reloaded = self.replace(document);
        self.0.numbers.reloaded(reloaded.is_ok());
        reloaded
    }

    fn replace(&self, document: &str) -> Result<(), ReloadError> {
        let Inner { ring, secrets, in_force, .. } = &*self.0;
        let policy = Policy::parse(document, ring.config()).map_err(ReloadError::Policy)?;
        let before = in_force.load_full();
        let next = InForce::new(policy, ring, secrets.as_ref(), Some(&before)).map_err(ReloadError::Service)?;
        tracing::info!(target: "countersign::service", revision = next.policy.revision(), "policy in force");
        if let Some(audit) = &self.0.audit {
            let policy = next.policy.revision().into();
            audit.note(Record::Policy { time: Time(self.0.clock.now()), policy });
        }
        in_force.store(Arc::new(next));
        Ok(())
    }

    /// Ends its ring's node ([`Ring::end_within`]) when no more requests come, and has it written down what has come of orders
    /// that were on their way. The ring, and those who wait for it, have this time; the audit log has its own.
    pub async fn end_within(&self, time: Duration) {
        let Inner { ring, orders, .. } = &*self.0;
        let all = u32::try_from(MAX_ORDERS).unwrap_or(u32::MAX);
        let begun = Instant::now();
        // First those that are taken but may not have reached the ring yet: it would end without them. Each is in the
        // log's queue when its turn is over.
        let turns = timeout(time, orders.acquire_many(all)).await;
        let has_ended = ring.end_within(time.saturating_sub(begun.elapsed())).await;
        if turns.is_err() || !has_ended {
            tracing::warn!(target: "countersign::service", "ended before all was brought to its end");
        }
        if let Some(audit) = &self.0.audit {
            audit.flush().await;
        }
    }

    /// The certificates that clients are known by under the policy in force, whoever has signed them.
    #[must_use]
    pub fn pinned_certificates(&self) -> impl PinnedCertificates + use<> {
        Pinned(Arc::clone(&self.0))
    }

    /// The [revision](Policy::revision) of the policy in force.
    #[must_use]
    pub fn policy_revision(&self) -> String {
        self.0.in_force.load().policy.revision().to_owned()
    }
}

impl fmt::Debug for TokenService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenService").field("ring", &self.0.ring).finish_non_exhaustive()
    }
}

struct Pinned(Arc<Inner>);

impl PinnedCertificates for Pinned {
    fn are_some(&self) -> bool {
        self.0.in_force.load().authenticator.certificates().have_pins()
    }

    fn contain(&self, thumbprint: &[u8; 32]) -> bool {
        self.0.in_force.load().authenticator.certificates().pin(thumbprint)
    }
}

impl Inner {
    pub(crate) fn issuer(&self) -> &str {
        self.ring.issuer()
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Who is asking, for the first time and not too often. Whoever has signed the request is [admitted](Self::admit_signed) when its
    /// body is there.
    pub(crate) async fn admit(&self, in_force: &InForce, head: &http::request::Parts) -> Result<Caller, Problem> {
        let peer = head.extensions.get::<Peer>();
        let admitted = self.judge(in_force, head, peer).await.map_err(|problem| self.failed(peer, problem));
        let is_all = !admitted.as_ref().is_ok_and(|caller| caller.signed.is_some());
        if is_all {
            self.numbers.authenticated(admitted.as_ref().map(|caller| caller.method).map_err(Problem::status));
        }
        admitted
    }

    /// What is told to whoever is not recognised, in whatever way that was tried: the problem, or, if too many credentials that
    /// are not good have come from there, to wait. Good ones never get here.
    pub(crate) fn failed(&self, peer: Option<&Peer>, problem: Problem) -> Problem {
        let limit = self.failures.as_ref().filter(|_| problem.blames_credentials());
        match limit.and_then(|limit| limit.refuse(peer.map(|peer| peer.address.ip()))) {
            None => problem,
            Some(after) => {
                let detail = "too many credentials that are not good have come from this address";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(after)
            }
        }
    }

    /// Whether the certificate of the connection, if there is one, is no other client's.
    pub(crate) fn agree(
        &self,
        in_force: &InForce,
        caller: &Caller,
        head: &http::request::Parts,
    ) -> Result<(), Problem> {
        let certificate = head.extensions.get::<Peer>().and_then(|peer| peer.certificate.as_deref());
        certificate.map_or(Ok(()), |certificate| {
            in_force.authenticator.certificates().agree(certificate, caller, self.clock.now())
        })
    }

    async fn judge(
        &self,
        in_force: &InForce,
        head: &http::request::Parts,
        peer: Option<&Peer>,
    ) -> Result<Caller, Problem> {
        let caller = in_force.authenticator.recognise(&in_force.policy, &head.headers, peer, &*self.clock).await?;
        tracing::debug!(target: "countersign::service", client = &*caller.client, method = caller.method, "client recognised");
        if let Some(verified) = &caller.signed {
            self.signed.begin(verified, head, self.clock.now())?;
            return Ok(caller);
        }
        let Some(once) = &caller.once else {
            in_force.count(&caller.client)?;
            return Ok(caller);
        };
        let used = || {
            let detail = "the assertion was used before, or may have been: it is older than this process";
            Problem::unknown_client(detail, "Bearer error=\"invalid_token\"")
        };
        let now = self.clock.now();
        // What a process before this one has taken is not known. It says that it was made before then, or it ends within the
        // window and the leeway, which is in `born` already.
        let is_old = once.issued_at.is_none_or(|issued_at| issued_at < self.born);
        if is_old && now < self.born.saturating_add(ASSERTION_WINDOW) || self.replays.is_used(&caller.client, &once.jti)
        {
            return Err(used());
        }
        // Before it is used up, so that it can be shown again; not before that is asked, or whoever has seen one could
        // have its client refused.
        in_force.count(&caller.client)?;
        self.replays.admit(&caller.client, &once.jti, once.until, now).map_err(|why| match why {
            Replay::Full => Problem::unavailable("temporarily_unavailable", "too many assertions are remembered"),
            _ => used(),
        })?;
        Ok(caller)
    }

    /// The rest, of a request that its client has signed. Counted only now, or whoever has seen its token could use its rate up.
    pub(crate) fn admit_signed(
        &self,
        in_force: &InForce,
        caller: &Caller,
        head: &http::request::Parts,
        body: &[u8],
    ) -> Result<(), Problem> {
        let Some(verified) = &caller.signed else { return Ok(()) };
        let used_up = signed::check_body(verified, body)
            .and_then(|()| in_force.count(&caller.client))
            .and_then(|()| self.signed.use_up(verified, self.clock.now()))
            .map_err(|problem| self.failed(head.extensions.get::<Peer>(), problem));
        self.numbers.authenticated(used_up.as_ref().map(|()| caller.method).map_err(Problem::status));
        used_up
    }
}

impl InForce {
    pub(crate) fn client_keys(&self) -> &ClientKeys {
        self.authenticator.client_keys()
    }

    pub(crate) fn count(&self, client: &str) -> Result<(), Problem> {
        self.limits.count(client).map_err(limited)
    }

    pub(crate) fn count_grant(&self, client: &str, grant: &str) -> Result<(), Problem> {
        self.limits.count_grant(client, grant).map_err(limited)
    }

    pub(crate) fn count_others(&self, client: &str, tokens: usize) -> Result<(), Problem> {
        self.limits.count_others(client, tokens).map_err(limited)
    }
}

fn limited(why: Limited) -> Problem {
    match why {
        Limited::For(after) => {
            let detail = "the client asks for more than its `rate`, or than that of the grant";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(after)
        }
        Limited::Never => Problem::invalid("more tokens at once than the client's `rate` ever allows"),
    }
}

/// Method, path and what answers.
type Table = Vec<(&'static str, String, MethodRouter<TokenService>)>;

/// All but those of [`admin`].
fn table(metadata: &Metadata, ring: &Ring) -> Table {
    let Metadata { oauth, oauth_bound, openid, path } = metadata.clone();
    let alive = async || no_store(StatusCode::OK, json!({ "status": "ok" }).to_string());
    vec![
        ("post", "/v1/tokens".to_owned(), post(tokens::one)),
        ("post", "/v1/tokens:batch".to_owned(), post(tokens::batch)),
        ("get", "/.well-known/jwks.json".to_owned(), get_service(ring.jwks())),
        (
            "get",
            format!("/.well-known/oauth-authorization-server{path}"),
            get(async move |State(service): State<TokenService>| {
                let is_bound = service.0.in_force.load().policy.binds_to_certificates();
                metadata::answer(if is_bound { oauth_bound } else { oauth })
            }),
        ),
        ("get", format!("{path}/.well-known/openid-configuration"), get(async move || metadata::answer(openid))),
        ("get", "/openapi.json".to_owned(), get(async || metadata::answer(crate::OPENAPI.into()))),
        ("get", "/livez".to_owned(), get(alive)),
        ("get", "/readyz".to_owned(), get(ready)),
    ]
}

fn routes(metadata: &Metadata, ring: &Ring) -> Vec<(&'static str, String)> {
    let admin = admin::ROUTES.into_iter().map(|(method, path)| (method, path.to_owned()));
    table(metadata, ring).into_iter().map(|(method, path, _)| (method, path)).chain(admin).collect()
}

/// Around every route.
async fn count(State(service): State<TokenService>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    service.0.numbers.answered(path.as_ref().map(MatchedPath::as_str), response.status());
    response
}

/// Whether every slot signs, which do not, and what the ring's operator has to know, which says what will not sign for ever.
async fn ready(State(service): State<TokenService>) -> Response {
    let Inner { ring, clock, born, .. } = &*service.0;
    // Until then, what is made now cannot be told from what a process before this one has taken.
    let has_begun = clock.now() >= *born;
    let slots: serde_json::Map<_, _> = match ring.ready_within(Duration::ZERO).await {
        Ok(()) => serde_json::Map::new(),
        Err(missing) => missing.0.into_iter().map(|(slot, reason)| (slot, reason.to_string().into())).collect(),
    };
    let (status, text) = match has_begun && slots.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let mut body = json!({ "status": text });
    if text != "ready" {
        body["slots"] = slots.into();
    }
    if !has_begun {
        body["assertions_from"] = json!(born.as_secs());
    }
    let told = ring.status();
    let failing: Vec<_> = told.failing.keys().map(|work| work.code()).collect();
    let alarms: BTreeSet<_> = told.alarms.iter().map(countersign_issuer::step::Alarm::code).collect();
    if !failing.is_empty() {
        body["failing"] = json!(failing);
    }
    if !alarms.is_empty() {
        body["alarms"] = json!(alarms);
    }
    no_store(status, body.to_string())
}

pub(crate) fn no_store(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    let mut response = (status, body.into()).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
