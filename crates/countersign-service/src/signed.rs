//! Requests that their clients have signed, with the keys that they sign assertions with.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use countersign::claims::signed_request::{self, BodyDigest, NotOnce, NotThisRequest, SingleUse};
use countersign::claims::{Policy, ReplayMemory, Verified};
use countersign::middleware::{RequestRefusal, SignedRequestLayer, SignedRequests};
use countersign::token::{Ask, KeySource, Miss, UnverifiedToken};
use countersign::{KeySet, Keys, OnRefusalLayer, Refusal, RefusalResponse, RequireJwtLayer, UnixTime, Verifier};
use http::{StatusCode, request};
use tower::layer::util::Stack;

use crate::authenticate::{MALFORMED, NO_CREDENTIALS, REFUSED, SEVERAL, challenged};
use crate::body::{BODY_TIME, MAX_BODY_BYTES};
use crate::metadata;
use crate::problem::Problem;
use crate::serve::Peer;
use crate::service::{Inner, TokenService};

/// How their clients have shown who they are.
pub(crate) const METHOD: &str = "signed_request";

/// What these requests are compared with, and which were there already. One for all routes, and for all policies.
pub(crate) struct Signed {
    requests: SignedRequests,
    once: Arc<SingleUse>,
}

/// What [`layer`] is: the layer for signed requests, and what it answers to others.
pub(crate) type Layer = Stack<SignedRequestLayer<ClientsInForce>, OnRefusalLayer<Problems>>;

/// For routes that only signed requests may come to, of clients that the policy in force has keys of. Behind it `Verified` is in the
/// request's extensions, whose subject is the client, and the body is all there. [`refused`] belongs around it.
pub(crate) fn layer(service: &TokenService) -> Layer {
    let inner = &service.0;
    let verifier = Verifier::new(ClientsInForce(Arc::clone(inner)), policy(inner.issuer())).without_token_cache();
    let clock = Arc::clone(&inner.clock);
    let layer = RequireJwtLayer::new(verifier).clock(move || clock.now()).plain_http_refusals();
    Stack::new(layer.signed_requests(inner.signed.requests.clone()), OnRefusalLayer::new(Problems))
}

/// What is demanded of the tokens.
pub(crate) fn policy(issuer: &str) -> Policy {
    Policy::new().audience(issuer).signed_request_profile()
}

/// What the URLs of an issuer begin with, as a client's URL library writes them.
pub(crate) fn base_url_of(issuer: &str) -> Box<str> {
    let (origin, _) = metadata::path_of(issuer).unwrap_or_default();
    let origin = origin.to_ascii_lowercase();
    let default_port = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(default_port).unwrap_or(&origin).into()
}

/// Whether requests can be signed for URLs that begin so.
pub(crate) fn check_base_url(url: &str) -> Result<(), Box<str>> {
    let checked = signed_request::BaseUrl::parse(url).map(drop);
    checked.map_err(|error| format!("clients cannot sign requests for {url:?}: {error}").into())
}

/// Whether a token says that it is for one request. RFC 7515 §4.1.9.
pub(crate) fn is_type(typ: &str) -> bool {
    const PREFIX: &str = "application/";
    let is = |typ: &str| typ.eq_ignore_ascii_case(signed_request::TYPE);
    let prefix = typ.get(..PREFIX.len()).filter(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
    is(typ) || prefix.is_some() && typ.get(PREFIX.len()..).is_some_and(is)
}

impl Signed {
    /// For a service of that base URL that begins at `now`.
    pub(crate) fn new(base_url: &str, now: UnixTime) -> Result<Self, Box<str>> {
        check_base_url(base_url)?;
        let once = Arc::new(SingleUse::new(ReplayMemory::default(), now, signed_request::LEEWAY));
        let requests = SignedRequests::new(base_url)
            .max_body_bytes(MAX_BODY_BYTES)
            .body_time(BODY_TIME)
            .single_use(Arc::clone(&once));
        Ok(Self { requests, once })
    }

    /// Whether the token is for this method and URL, and was not used, before any of the body is there.
    pub(crate) fn begin(&self, verified: &Verified, head: &request::Parts, now: UnixTime) -> Result<(), Problem> {
        let url = self.requests.url_of(head.version, &head.uri).map_err(|error| Problem::invalid(error.to_string()))?;
        signed_request::check_head(verified, head.method.as_str(), &url).map_err(other)?;
        self.once.check(verified).map_err(|why| not_once(why, now))
    }

    /// Nobody can use it again.
    pub(crate) fn use_up(&self, verified: &Verified, now: UnixTime) -> Result<(), Problem> {
        self.once.use_up(verified, now).map_err(|why| not_once(why, now))
    }
}

/// Whether the token is for this body.
pub(crate) fn check_body(verified: &Verified, body: &[u8]) -> Result<(), Problem> {
    signed_request::check_body(verified, &BodyDigest::of(body)).map_err(other)
}

fn other(why: NotThisRequest) -> Problem {
    tracing::debug!(target: "countersign::service", %why, "signed request refused");
    challenged(OTHER)
}

fn not_once(why: NotOnce, now: UnixTime) -> Problem {
    match why {
        NotOnce::Full => Problem::unavailable("temporarily_unavailable", FULL),
        NotOnce::OlderThanThis { taken_from } => {
            Problem::unavailable("temporarily_unavailable", TOO_OLD).retry_after(taken_from.saturating_since(now))
        }
        _ => challenged(USED),
    }
}

const OTHER: &str = "the token is not for this request";
const USED: &str = "the token was used before";
const FULL: &str = "too many signed requests are remembered";
const TOO_OLD: &str = "the token was made before this process was there: make another";

/// The layer's refusals as those of the routes without it.
#[derive(Clone)]
pub(crate) struct Problems;

/// What the layer has refused a request for; among the extensions of the answer.
#[derive(Clone)]
struct RefusedFor(Problem);

/// Around the layer, which knows of no address: what it refuses is counted, and limited, as everywhere else. Its own limit would
/// not hear of tokens that are good, but for another request.
pub(crate) async fn refused(State(service): State<TokenService>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let mut response = next.run(request).await;
    let Some(RefusedFor(problem)) = response.extensions_mut().remove() else { return response };
    let problem = service.0.failed(peer.as_ref(), problem);
    service.0.numbers.authenticated(Err(problem.status()));
    problem.into_response()
}

impl RefusalResponse<Body> for Problems {
    fn respond(&self, refusal: &Refusal, response: Response<()>) -> Response<Body> {
        tracing::debug!(target: "countersign::service", reason = refusal.code(), "signed request refused");
        let problem = problem(refusal, response.status());
        let mut response = problem.clone().into_response();
        response.extensions_mut().insert(RefusedFor(problem));
        response
    }
}

fn problem(refusal: &Refusal, status: StatusCode) -> Problem {
    let temporary = |status, detail| {
        let after = refusal.retry_after().unwrap_or(crate::problem::RETRY_AFTER_DEFAULT);
        Problem::new(status, "temporarily_unavailable", detail).retry_after(after)
    };
    match refusal {
        Refusal::NoCredentials => challenged(NO_CREDENTIALS),
        Refusal::MalformedCredentials => Problem::malformed_credentials(MALFORMED),
        Refusal::ManyCredentials => Problem::malformed_credentials(SEVERAL),
        Refusal::Request(RequestRefusal::Other(_)) => challenged(OTHER),
        Refusal::Request(RequestRefusal::Used) => challenged(USED),
        Refusal::Request(RequestRefusal::CannotRemember) => temporary(status, FULL),
        Refusal::Request(RequestRefusal::OlderThanProcess { .. }) => temporary(status, TOO_OLD),
        Refusal::Request(RequestRefusal::BodyTooLarge { most }) => crate::body::too_large(*most),
        Refusal::Request(RequestRefusal::BodyTimeout) => crate::body::too_slow(),
        Refusal::Request(RequestRefusal::BodyIncomplete) => crate::body::incomplete(),
        _ if status == StatusCode::UNAUTHORIZED => challenged(REFUSED),
        _ if status == StatusCode::BAD_REQUEST => Problem::invalid("the request is malformed"),
        _ => temporary(status, "the token cannot be checked at present"),
    }
}

/// The keys of the clients in the policy that is in force when a request comes.
pub(crate) struct ClientsInForce(Arc<Inner>);

impl KeySource for ClientsInForce {
    type Snapshot<'a> = Arc<KeySet>;
    type Waiting = <Keys as KeySource>::Waiting;

    /// There are none that are good for every token.
    fn snapshot(&self) -> Option<Arc<KeySet>> {
        None
    }

    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Arc<KeySet>> {
        self.0.in_force().client_keys().of_client(token)?.current()
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting> {
        self.0.in_force().client_keys().ask(miss)
    }

    fn is_known_absent(&self, miss: Miss<'_>) -> bool {
        self.0.in_force().client_keys().is_known_absent(miss)
    }

    fn signature_mismatch(&self, miss: Miss<'_>) {
        self.0.in_force().client_keys().signature_mismatch(miss);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use axum::Router;
    use axum::body::to_bytes;
    use axum::extract::Request;
    use axum::routing::post;
    use countersign::claims::signed_request::{MAX_LIFETIME, RequestSigner};
    use countersign::{Algorithm, SigningKey};
    use countersign_issuer::{Kek, KekRing, MemoryStore, Ring, RingConfig, Slot};
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;
    use tower::ServiceExt as _;

    use super::*;

    const ISSUER: &str = "https://issuer.example";
    const ORDER: &str = "https://issuer.example/v1/order";
    const NOW: i64 = 1_800_000_000;

    struct World {
        service: TokenService,
        app: Router,
        clock: Arc<AtomicI64>,
    }

    fn policy_of(key: &SigningKey) -> String {
        let jwks = json!({ "keys": [key.public_jwk().unwrap()] });
        format!("version = 1\n[clients.ops]\njwks = '{jwks}'\n")
    }

    /// Of a service that has been there for longer than the leeway.
    async fn world(key: &SigningKey) -> World {
        let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
        let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
        let ring = Ring::builder(ISSUER, config, Arc::new(MemoryStore::new()), keks).start().await.unwrap();
        let clock = Arc::new(AtomicI64::new(NOW - 5));
        let now = Arc::clone(&clock);
        let policy = crate::policy::Policy::parse(&policy_of(key), ring.config()).unwrap();
        let builder = TokenService::builder(ring, policy);
        let service = builder.clock(move || UnixTime::from_secs(now.load(Ordering::SeqCst))).build().unwrap();
        clock.store(NOW, Ordering::SeqCst);
        let handler = async |request: Request| {
            let client = request.extensions().get::<Verified>().unwrap().subject().unwrap().to_owned();
            client + " " + std::str::from_utf8(&to_bytes(request.into_body(), 100).await.unwrap()).unwrap()
        };
        let app = Router::new().route("/v1/order", post(handler)).route_layer(layer(&service));
        World { service, app, clock }
    }

    async fn send(world: &World, token: &str, body: &'static str) -> (u16, Value) {
        let request = Request::post("/v1/order").header("authorization", format!("Bearer {token}"));
        let response = world.app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()))
    }

    #[tokio::test]
    async fn behind_the_layer_only_signed_requests_of_clients_in_the_policy_in_force_come() {
        let key = || SigningKey::generate(Algorithm::Es256).unwrap();
        let (first, next) = (key(), key());
        let world = world(&first).await;
        let next_policy = policy_of(&next);
        let first = RequestSigner::new(first, "ops", ISSUER).unwrap();
        let next = RequestSigner::new(next, "ops", ISSUER).unwrap();
        let now = || UnixTime::from_secs(world.clock.load(Ordering::SeqCst));
        let sign = |signer: &RequestSigner| signer.sign("POST", ORDER, b"{}", now()).unwrap();

        let token = sign(&first);
        assert_eq!(send(&world, &token, "[]").await.0, 401);
        assert_eq!(send(&world, &token, "{}").await, (200, json!("ops {}")));
        let (status, problem) = send(&world, &token, "{}").await;
        assert_eq!((status, &problem["error"], &problem["detail"]), (401, &json!("invalid_client"), &json!(USED)));
        assert_eq!(send(&world, &sign(&next), "{}").await.0, 401, "its key is not in force yet");

        world.service.reload(&next_policy).unwrap();
        assert_eq!(send(&world, &sign(&first), "{}").await.0, 401, "its key is not in force any more");
        let token = sign(&next);
        assert_eq!(send(&world, &token, "{}").await.0, 200);
        world.service.reload(&next_policy).unwrap();
        assert_eq!(send(&world, &token, "{}").await.0, 401, "a new policy forgets nothing");
        let old = sign(&next);
        world.clock.fetch_add(i64::try_from(MAX_LIFETIME.as_secs()).unwrap() + 5, Ordering::SeqCst);
        assert_eq!(send(&world, &old, "{}").await.0, 401);
    }

    #[tokio::test]
    async fn an_assertion_of_the_same_client_orders_nothing() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let world = world(&key).await;
        let claims = json!({ "iss": "ops", "sub": "ops", "aud": ISSUER, "iat": NOW, "exp": NOW + 60, "jti": "a" });
        let token = key.sign_as("client-authentication+jwt", &claims).unwrap();
        let (status, problem) = send(&world, &token, "{}").await;
        assert_eq!((status, &problem["error"]), (401, &json!("invalid_client")), "{problem}");
        let request = Request::post("/v1/order").body(Body::empty()).unwrap();
        let response = world.app.clone().oneshot(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
    }

    #[test]
    fn what_the_layer_refuses_is_told_as_everything_else_is() {
        let retry_after = Duration::from_secs(3);
        for (refusal, status, code) in [
            (Refusal::NoCredentials, 401, "invalid_client"),
            (Refusal::MalformedCredentials, 400, "invalid_request"),
            (Refusal::Request(RequestRefusal::Other(NotThisRequest::Other("htm"))), 401, "invalid_client"),
            (Refusal::Request(RequestRefusal::Used), 401, "invalid_client"),
            (Refusal::Request(RequestRefusal::CannotRemember), 503, "temporarily_unavailable"),
            (Refusal::Request(RequestRefusal::OlderThanProcess { retry_after }), 503, "temporarily_unavailable"),
            (Refusal::Request(RequestRefusal::AmbiguousTarget), 400, "invalid_request"),
            (Refusal::Request(RequestRefusal::BodyTooLarge { most: 8 }), 413, "content_too_large"),
            (Refusal::Request(RequestRefusal::BodyIncomplete), 400, "invalid_request"),
            (Refusal::Request(RequestRefusal::BodyTimeout), 408, "request_timeout"),
        ] {
            let problem = problem(&refusal, refusal.status());
            assert_eq!(problem.code(), code, "{refusal:?}");
            assert_eq!(problem.into_response().status(), status, "{refusal:?}");
        }
    }

    #[test]
    fn every_issuer_has_urls_that_can_be_signed() {
        for (issuer, expected) in [
            ("https://issuer.example", "https://issuer.example"),
            ("https://Issuer.example/tenant", "https://issuer.example"),
            ("https://issuer.example:443/", "https://issuer.example"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:443", "http://[::1]:443"),
        ] {
            assert_eq!(&*base_url_of(issuer), expected);
            assert!(Signed::new(expected, UnixTime::from_secs(NOW)).is_ok(), "{expected}");
        }
        assert!(Signed::new("https://issuer.example/", UnixTime::from_secs(NOW)).is_err());
    }

    #[test]
    fn a_type_is_compared_as_a_media_type() {
        for typ in ["request+jwt", "REQUEST+jwt", "application/request+jwt", "Application/Request+JWT"] {
            assert!(is_type(typ), "{typ}");
        }
        for typ in
            ["", "jwt", "request", "request+jwt ", "text/request+jwt", "application/", "client-authentication+jwt"]
        {
            assert!(!is_type(typ), "{typ}");
        }
    }
}
