//! Signed requests: over real sockets, and with bodies that come as a test wants.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod common;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request as AxumRequest;
use axum::response::Response as AxumResponse;
use common::{Heard, NOW, headers};
use countersign_claims::signed_request::{BodyDigest, LEEWAY, RequestSigner, SingleUse, TYPE};
use countersign_claims::{Policy, ReplayMemory, UnixTime, Verified};
use countersign_token::{Algorithm, AlgorithmSet, KeySet, SigningKey, VerifyingKey};
use countersign_tower::{
    DEFAULT_MAX_SIGNED_BODY, OnRefusalLayer, ProblemDetails, Refusal, RequireJwtLayer, SignedBody, SignedRequestLayer,
    SignedRequests, TokenPlace,
};
use countersign_verifier::Verifier;
use http::header::AUTHORIZATION;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::{Layer, Service, ServiceExt, service_fn};

const CLIENT: &str = "billing";
const SERVICE: &str = "https://api.example";

/// A client, a service that knows its key, and the clock that both go by.
struct World {
    signer: RequestSigner,
    known: VerifyingKey,
    clock: Arc<AtomicI64>,
    inside: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::generate(Algorithm::Es256).unwrap().with_kid("k1");
        let known = key.verifying_key().unwrap().bound_to_issuer(CLIENT);
        let signer = RequestSigner::new(key, CLIENT, SERVICE).unwrap();
        Self { signer, known, clock: Arc::new(AtomicI64::new(NOW)), inside: Arc::default() }
    }

    fn keys(&self) -> KeySet {
        KeySet::new([self.known.clone()])
    }

    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.clock.load(Ordering::SeqCst))
    }

    fn sign(&self, method: &str, target: &str, body: &[u8]) -> String {
        self.signer.sign(method, &format!("{SERVICE}{target}"), body, self.now()).unwrap()
    }

    /// The layer before the option is set, by the clock of this world.
    fn tokens(&self) -> RequireJwtLayer<KeySet> {
        let clock = Arc::clone(&self.clock);
        let policy = Policy::new().audience(SERVICE).signed_request_profile();
        RequireJwtLayer::new(Verifier::new(self.keys(), policy).without_token_cache())
            .clock(move || UnixTime::from_secs(clock.load(Ordering::SeqCst)))
    }

    /// What a process that has been there for long has.
    fn old(memory: ReplayMemory) -> Arc<SingleUse> {
        Arc::new(SingleUse::new(memory, UnixTime::from_secs(NOW - 1_000), LEEWAY))
    }

    fn rules() -> SignedRequests {
        SignedRequests::new(SERVICE).single_use(Self::old(ReplayMemory::default()))
    }

    fn layer(&self) -> SignedRequestLayer<KeySet> {
        self.tokens().signed_requests(Self::rules())
    }

    /// A service that says what it has got, and how often it was called.
    fn app(&self, layer: SignedRequestLayer<KeySet>) -> Router {
        let inside = Arc::clone(&self.inside);
        let handler = async move |request: AxumRequest| {
            inside.fetch_add(1, Ordering::SeqCst);
            let client = request.extensions().get::<Verified>().unwrap().subject().unwrap().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            AxumResponse::new(axum::body::Body::from(format!("{client}: {}", String::from_utf8_lossy(&body))))
        };
        Router::new().fallback(handler).layer(layer)
    }

    async fn serve(&self) -> SocketAddr {
        serve(self.app(self.layer())).await
    }

    fn called(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A request as these octets go over the wire, with the token.
fn raw(line: &str, token: &str, headers: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{headers}\r\n{body}"
    )
}

fn with_length(line: &str, token: &str, body: &str) -> String {
    raw(line, token, &format!("Content-Length: {}\r\n", body.len()), body)
}

/// The status, and all that came.
async fn send(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn a_request_as_it_was_signed_is_let_in_with_its_body() {
    let world = World::new();
    let address = world.serve().await;
    for (method, target, headers, sent, body) in [
        ("POST", "/v1/keys:rotate?slot=a&x=%20", "Content-Length: 2\r\n", "{}", "{}"),
        ("POST", "/chunked", "Transfer-Encoding: chunked\r\n", "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", "{}"),
        ("GET", "/", "", "", ""),
        ("POST", "/", "Content-Length: 0\r\n", "", ""),
        ("DELETE", "/a/?", "", "", ""),
        ("PROPFIND", "/a%2Fb;c=d", "", "", ""),
    ] {
        let token = world.sign(method, target, body.as_bytes());
        let (status, answer) = send(address, &raw(&format!("{method} {target}"), &token, headers, sent)).await;
        assert_eq!(status, 200, "{method} {target}: {answer}");
        assert!(answer.ends_with(&format!("{CLIENT}: {body}")), "{answer}");
    }
    assert_eq!(world.called(), 6);
}

#[tokio::test]
async fn a_request_line_that_was_not_signed_is_refused() {
    let world = World::new();
    let address = world.serve().await;
    for (line, expected) in [
        ("PUT /v1/orders?a=b", 401),
        ("post /v1/orders?a=b", 401),
        ("POST /v1/order?a=b", 401),
        ("POST /v1/orders/?a=b", 401),
        ("POST /v1/orders", 401),
        ("POST /v1/orders?", 401),
        ("POST /v1/orders?a=b&a=c", 401),
        ("POST /v1/orders?a=%62", 401),
        ("POST /v1/orders%3Fa=b", 401),
        ("POST /v1/%6frders?a=b", 401),
        ("POST /v1/Orders?a=b", 401),
        ("POST //v1/orders?a=b", 400),
        ("POST //api.example/v1/orders?a=b", 400),
        ("POST /v1//orders?a=b", 400),
        ("POST /v1/./orders?a=b", 400),
        ("POST /x/../v1/orders?a=b", 400),
        ("POST /x/%2e%2E/v1/orders?a=b", 400),
        ("POST /v1\\orders?a=b", 400),
        // For another origin, and so for another service.
        ("POST https://other.example/v1/orders?a=b", 400),
        ("POST http://api.example/v1/orders?a=b", 400),
        ("POST https://api.example:443/v1/orders?a=b", 400),
        ("POST https://api.example/v1/order?a=b", 401),
        ("OPTIONS *", 400),
    ] {
        let token = world.sign("POST", "/v1/orders?a=b", b"{}");
        let (status, answer) = send(address, &with_length(line, &token, "{}")).await;
        assert_eq!(status, expected, "{line}: {answer}");
        // It was not used up by that.
        assert_eq!(send(address, &with_length("POST /v1/orders?a=b", &token, "{}")).await.0, 200, "{line}");
    }
    let token = world.sign("POST", "/v1/orders?a=b", b"{}");
    assert_eq!(send(address, &with_length("POST https://api.example/v1/orders?a=b", &token, "{}")).await.0, 200);
}

/// Whoever writes `Host` anew, as proxies do, changes nothing; and whoever signs for another host is refused whatever it says.
#[tokio::test]
async fn the_host_header_says_nothing() {
    let world = World::new();
    let address = world.serve().await;
    let post = |token: &str, host: &str| {
        with_length("POST /a", token, "")
            .replace("Host: api.example\r\n", &format!("Host: {host}\r\nX-Forwarded-Host: {host}\r\n"))
    };
    for host in ["api.example", "other.example", "127.0.0.1:1234"] {
        assert_eq!(send(address, &post(&world.sign("POST", "/a", b""), host)).await.0, 200, "{host}");
        let other = world.signer.sign("POST", "https://other.example/a", b"", world.now()).unwrap();
        assert_eq!(send(address, &post(&other, host)).await.0, 401, "{host}");
    }
}

#[tokio::test]
async fn a_body_that_was_not_signed_is_refused_and_uses_nothing_up() {
    let world = World::new();
    let address = world.serve().await;
    for (signed, sent) in [
        ("{\"amount\":10}", "{\"amount\":90}"),
        ("{\"amount\":10}", "{\"amount\":10} "),
        ("{\"amount\":10}", "{\"amount\":10}{\"amount\":10}"),
        ("{\"amount\":10}", "{\"amount\":10"),
        ("{\"amount\":10}", ""),
        ("", "x"),
        ("", "\0"),
    ] {
        let token = world.sign("POST", "/pay", signed.as_bytes());
        let before = world.called();
        assert_eq!(send(address, &with_length("POST /pay", &token, sent)).await.0, 401, "{sent:?} for {signed:?}");
        assert_eq!(world.called(), before);
        assert_eq!(send(address, &with_length("POST /pay", &token, signed)).await.0, 200, "{signed:?}");
    }
    // Cut off on its way: whoever comes to its end sees it.
    let token = world.sign("POST", "/pay", b"0123456789");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(raw("POST /pay", &token, "Content-Length: 10\r\n", "01234").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let before = world.called();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(world.called(), before);
    // What comes behind the body belongs to no request, and least of all to this one.
    let (status, answer) =
        send(address, &(raw("POST /pay", &token, "Content-Length: 10\r\n", "0123456789") + "trailing")).await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("billing: 0123456789"), "{answer}");
}

#[tokio::test]
async fn a_token_is_good_for_one_request_even_for_two_at_once() {
    let world = World::new();
    let address = world.serve().await;
    let request = with_length("POST /a", &world.sign("POST", "/a", b"x"), "x");
    assert_eq!(send(address, &request).await.0, 200);
    let (status, answer) = send(address, &request).await;
    assert_eq!(status, 401);
    assert!(answer.contains("error_description=\"the token was used before\""), "{answer}");
    world.clock.fetch_add(64, Ordering::SeqCst);
    assert_eq!(send(address, &request).await.0, 401);
    world.clock.fetch_add(1, Ordering::SeqCst);
    assert_eq!(send(address, &request).await.0, 401, "expired");
    for _ in 0..10 {
        let request = with_length("POST /a", &world.sign("POST", "/a", b"x"), "x");
        let both = tokio::join!(send(address, &request), send(address, &request));
        let mut both = [both.0.0, both.1.0];
        both.sort_unstable();
        assert_eq!(both, [200, 401]);
    }
    assert_eq!(world.called(), 11);
}

#[tokio::test]
async fn a_token_that_is_none_for_a_request_is_401() {
    let world = World::new();
    let address = world.serve().await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap().with_kid("k1");
    let stranger = RequestSigner::new(key, CLIENT, SERVICE).unwrap();
    let stranger = stranger.sign("POST", &format!("{SERVICE}/a"), b"", world.now()).unwrap();
    assert_eq!(send(address, &with_length("POST /a", &stranger, "")).await.0, 401);
    assert_eq!(send(address, &with_length("POST /a", "a.b.c", "")).await.0, 401);
    let other = RequestSigner::new(SigningKey::generate(Algorithm::Es256).unwrap(), "other", SERVICE).unwrap();
    let other = other.sign("POST", &format!("{SERVICE}/a"), b"", world.now()).unwrap();
    assert_eq!(send(address, &with_length("POST /a", &other, "")).await.0, 401);
    assert_eq!(world.called(), 0);
}

/// What the claims of a token can be in place of what they have to be; the key is the client's own.
#[tokio::test]
async fn claims_that_do_not_fit_are_401() {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let mut world = World::new();
    world.known = key.verifying_key().unwrap().bound_to_issuer(CLIENT);
    let address = world.serve().await;
    let claims = json!({ "iss": CLIENT, "sub": CLIENT, "aud": SERVICE, "iat": NOW, "exp": NOW + 60, "jti": "a", "htm": "POST",
        "htu": "https://api.example/a", "body_sha256": BodyDigest::of(b"").to_string() });
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    for (typ, claims) in [
        ("JWT", claims.clone()),
        ("at+jwt", claims.clone()),
        ("client-authentication+jwt", claims.clone()),
        ("dpop+jwt", claims.clone()),
        (TYPE, with("aud", json!([SERVICE, "https://other.example"]))),
        (TYPE, with("aud", json!("https://other.example"))),
        (TYPE, with("sub", json!("other"))),
        (TYPE, with("exp", json!(NOW + 61))),
        (TYPE, with("iat", json!(NOW - 61))),
        (TYPE, with("iat", json!(NOW + 6))),
        (TYPE, with("exp", json!(NOW - 5))),
        (TYPE, with("jti", json!(null))),
        (TYPE, with("htm", json!(null))),
        (TYPE, with("htu", json!(["https://api.example/a"]))),
        (TYPE, with("body_sha256", json!(""))),
    ] {
        let token = key.sign_as(typ, &claims).unwrap();
        assert_eq!(send(address, &with_length("POST /a", &token, "")).await.0, 401, "{typ} {claims}");
    }
    let token = key.sign_as(TYPE, &claims).unwrap();
    assert_eq!(send(address, &with_length("POST /a", &token, "")).await.0, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_however_it_comes() {
    let world = World::new();
    let address = serve(world.app(world.tokens().signed_requests(World::rules().max_body_bytes(8)))).await;
    let large = "012345678";
    let token = world.sign("POST", "/a", large.as_bytes());
    assert_eq!(send(address, &with_length("POST /a", &token, large)).await.0, 413);
    let chunked = raw("POST /a", &token, "Transfer-Encoding: chunked\r\n", "9\r\n012345678\r\n0\r\n\r\n");
    assert_eq!(send(address, &chunked).await.0, 413);
    let chunks = "1\r\n0\r\n".repeat(9) + "0\r\n\r\n";
    assert_eq!(send(address, &raw("POST /a", &token, "Transfer-Encoding: chunked\r\n", &chunks)).await.0, 413);
    // Announced, and never sent.
    let announced = raw("POST /a", &token, "Content-Length: 1000000000000\r\n", "");
    assert_eq!(send(address, &announced).await.0, 413);
    assert_eq!(world.called(), 0);
    let token = world.sign("POST", "/a", b"01234567");
    assert_eq!(send(address, &with_length("POST /a", &token, "01234567")).await.0, 200);
}

#[tokio::test]
async fn a_memory_that_is_full_and_a_process_that_is_new_are_503() {
    let world = World::new();
    let full = World::rules().single_use(World::old(ReplayMemory::new(1, 1)));
    let address = serve(world.app(world.tokens().signed_requests(full))).await;
    let send_new = async || {
        let (status, answer) = send(address, &with_length("POST /a", &world.sign("POST", "/a", b""), "")).await;
        let retry_after = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")).map(str::to_owned);
        (status, retry_after)
    };
    assert_eq!(send_new().await, (200, None));
    assert_eq!(send_new().await, (503, Some("2".to_owned())));
    world.clock.fetch_add(65, Ordering::SeqCst);
    assert_eq!(send_new().await, (200, None), "there is room again when nobody can use the first any more");

    // It begins now.
    let address = serve(world.app(world.tokens().signed_requests(SignedRequests::new(SERVICE)))).await;
    let begun = world.sign("POST", "/a", b"");
    let (status, answer) = send(address, &with_length("POST /a", &begun, "")).await;
    assert_eq!((status, answer.contains("retry-after: 5\r\n")), (503, true), "{answer}");
    world.clock.fetch_add(5, Ordering::SeqCst);
    let (status, answer) = send(address, &with_length("POST /a", &begun, "")).await;
    assert_eq!((status, answer.contains("retry-after: 1\r\n")), (503, true), "{answer}");
    assert_eq!(send(address, &with_length("POST /a", &world.sign("POST", "/a", b""), "")).await.0, 200);
}

/// A request whose body is what comes out of a channel.
fn streamed(world: &World, signed: &[u8]) -> (mpsc::Sender<&'static str>, Request<Streamed>) {
    let (sender, receiver) = mpsc::channel(8);
    let frames: fn(&'static str) -> _ = |part| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(part)));
    let body = StreamBody::new(tokio_stream::StreamExt::map(ReceiverStream::new(receiver), frames));
    let token = world.sign("POST", "/a", signed);
    (sender, Request::post("/a").header(AUTHORIZATION, format!("Bearer {token}")).body(body).unwrap())
}

type Streamed = StreamBody<
    tokio_stream::adapters::Map<
        ReceiverStream<&'static str>,
        fn(&'static str) -> Result<http_body::Frame<Bytes>, Infallible>,
    >,
>;

fn inner() -> impl Service<Request<SignedBody>, Response = Response<String>, Error = Infallible, Future: Send> + Clone {
    service_fn(async |request: Request<SignedBody>| {
        let body = request.into_body().into_bytes();
        Ok(Response::new(String::from_utf8(body.to_vec()).unwrap()))
    })
}

#[tokio::test]
async fn a_body_that_is_on_its_way_holds_none_of_the_inner_services_capacity() {
    let world = World::new();
    let limited = tower::limit::ConcurrencyLimit::new(inner(), 1);
    let service = world.layer().layer(limited);
    let (sender, slow) = streamed(&world, b"slow");
    let slow = tokio::spawn(service.clone().oneshot(slow));
    tokio::task::yield_now().await;
    for _ in 0..3 {
        let token = world.sign("POST", "/a", b"fast");
        let fast =
            Request::post("/a").header(AUTHORIZATION, format!("Bearer {token}")).body(Full::new(Bytes::from("fast")));
        let fast = service.clone().oneshot(fast.unwrap()).await;
        assert_eq!(fast.unwrap().body(), "fast");
    }
    sender.send("sl").await.unwrap();
    sender.send("ow").await.unwrap();
    drop(sender);
    assert_eq!(slow.await.unwrap().unwrap().body(), "slow");
}

#[tokio::test]
async fn whoever_gives_up_while_the_body_is_read_has_used_nothing_up() {
    let world = World::new();
    let service = world.layer().layer(inner());
    let (sender, request) = streamed(&world, b"ab");
    let token = request.headers()[AUTHORIZATION].clone();
    let mut answer = Box::pin(service.clone().oneshot(request));
    sender.send("a").await.unwrap();
    assert!(futures_poll(answer.as_mut()).is_none());
    drop(answer);
    let request = Request::post("/a").header(AUTHORIZATION, token).body(Full::new(Bytes::from("ab"))).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().body(), "ab");
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn trailers_are_not_signed_and_do_not_go_on() {
    let world = World::new();
    let token = world.sign("POST", "/a", b"ab");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-amount", "90".parse().unwrap());
    let frames =
        [http_body::Frame::data(Bytes::from("ab")), http_body::Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body = StreamBody::new(tokio_stream::iter(frames));
    let request = Request::post("/a").header(AUTHORIZATION, format!("Bearer {token}")).body(body).unwrap();
    let seen = service_fn(async |request: Request<SignedBody>| {
        let collected = request.into_body().collect().await.unwrap();
        Ok::<_, Infallible>(Response::new(format!("{:?}", collected.trailers())))
    });
    assert_eq!(world.layer().layer(seen).oneshot(request).await.unwrap().body(), "None");
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_is_408() {
    let world = World::new();
    let layer = world.tokens().signed_requests(World::rules().body_time(Duration::from_secs(10)));
    let service = layer.layer(inner());
    let (sender, request) = streamed(&world, b"0123456789abcdef");
    let drip = tokio::spawn(async move {
        while sender.send("0").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let began = tokio::time::Instant::now();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(response.extensions().get::<Refusal>().map(Refusal::code), Some("request_body_timeout"));
    assert_eq!(began.elapsed().as_secs(), 10);
    drip.await.unwrap();
}

/// In HTTP/2 every request has scheme and host, as the last proxy has written them.
#[tokio::test]
async fn http_2_has_an_authority_that_says_nothing() {
    let world = World::new();
    for uri in ["https://api.example/a?b", "http://10.0.0.7:8080/a?b"] {
        let token = world.sign("POST", "/a?b", b"");
        let request = Request::post(uri).version(Version::HTTP_2).header(AUTHORIZATION, format!("Bearer {token}"));
        let response = world.layer().layer(inner()).oneshot(request.body(Full::<Bytes>::default()).unwrap()).await;
        assert_eq!(response.unwrap().status(), 200, "{uri}");
    }
}

#[tokio::test]
async fn a_service_below_a_path_has_it_in_its_base() {
    let world = World::new();
    let rules = SignedRequests::new("https://api.example/billing").single_use(World::old(ReplayMemory::default()));
    let service = world.tokens().signed_requests(rules).layer(inner());
    for (signed, expected) in [("/billing/a", 200), ("/a", 401), ("/billing/billing/a", 401)] {
        let token = world.sign("GET", signed, b"");
        let request = Request::get("/a").header(AUTHORIZATION, format!("Bearer {token}"));
        let response = service.clone().oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), expected, "{signed}");
    }
}

/// The table of `RequestRefusal`, as clients and operators see it.
#[tokio::test]
async fn each_refusal_is_told_as_it_is_documented() {
    let heard = Heard::default();
    let world = World::new();
    let layer = world.tokens().realm("orders").observe(heard.clone()).signed_requests(World::rules().max_body_bytes(4));
    let service = tower::ServiceBuilder::new().layer(OnRefusalLayer::new(ProblemDetails)).layer(layer).service(inner());
    let good = world.sign("POST", "/a", b"ab");
    let request = |method: &str, target: &str, token: &str, body: &'static str| {
        let request = Request::builder().method(method).uri(target).header(AUTHORIZATION, format!("Bearer {token}"));
        request.body(Full::new(Bytes::from(body))).unwrap()
    };
    let challenge = |error: &str, text: &str| {
        format!("www-authenticate: Bearer realm=\"orders\", error=\"{error}\", error_description=\"{text}\"")
    };
    let other = challenge("invalid_token", "the token is not for this request");
    for (request, status, code, says) in [
        (request("GET", "/a", &good, "ab"), 401, "request_other", Some(other.clone())),
        (request("POST", "/b", &good, "ab"), 401, "request_other", Some(other.clone())),
        (request("POST", "/a", &good, "ac"), 401, "request_other", Some(other)),
        (
            request("POST", "/a/../a", &good, "ab"),
            400,
            "request_target_ambiguous",
            Some(challenge("invalid_request", "the URL can be read in more than one way")),
        ),
        (request("POST", "/a", &good, "abcde"), 413, "request_body_too_large", None),
        (request("POST", "/a", &good, "ab"), 200, "-", None),
        (
            request("POST", "/a", &good, "ab"),
            401,
            "request_used",
            Some(challenge("invalid_token", "the token was used before")),
        ),
    ] {
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{code}");
        assert_eq!(headers(&response).into_iter().find(|line| line.starts_with("www-authenticate")), says, "{code}");
        assert_eq!(response.extensions().get::<Refusal>().map_or("-", Refusal::code), code);
        let expected = if status == 200 {
            vec![String::from("admitted -")]
        } else {
            vec![String::from("admitted -"), format!("refused {code} by handler")]
        };
        assert_eq!(heard.take(), expected);
        if status != 200 {
            let problem: Value = serde_json::from_str(response.body()).unwrap();
            assert_eq!(problem["status"], status, "{problem}");
        }
    }
}

/// The codes in the table of `REQUESTS.md` are those that the source has.
#[test]
fn every_reason_has_its_row() {
    let quoted = |text: &'static str, quote: char| -> BTreeSet<&'static str> {
        text.split(quote).filter(|part| part.starts_with("request_") && !part.contains(char::is_whitespace)).collect()
    };
    let (_, codes) = include_str!("../src/signed/refusal.rs").split_once("fn code(").unwrap();
    let codes = quoted(codes, '"');
    assert_eq!(codes.len(), 10, "{codes:?}");
    assert_eq!(quoted(include_str!("../../../REQUESTS.md"), '`'), codes);
}

#[test]
fn settings_that_contradict_each_other_are_found() {
    let world = World::new();
    let rules = World::rules;
    assert_eq!(world.layer().check(), Ok(()));
    assert_eq!(DEFAULT_MAX_SIGNED_BODY, 65_536);
    let ordinary = RequireJwtLayer::new(Verifier::new(world.keys(), Policy::new().audience(SERVICE)));
    let with_secrets = Verifier::new(world.keys(), Policy::new().audience(SERVICE).signed_request_profile())
        .algorithms(AlgorithmSet::HMAC);
    for (layer, text) in [
        (world.tokens().optional().signed_requests(rules()), "optional()"),
        (world.tokens().exempt("/healthz").signed_requests(rules()), "exemption"),
        (world.tokens().allow_cors_preflight().signed_requests(rules()), "exemption"),
        (world.tokens().shadow().signed_requests(rules()), "shadow()"),
        (world.tokens().token_from([TokenPlace::cookie("a")]).signed_requests(rules()), "other place"),
        (world.tokens().realm("\"").signed_requests(rules()), "realm"),
        (ordinary.signed_requests(rules()), "signed_request_profile()"),
        (RequireJwtLayer::new(with_secrets).signed_requests(rules()), "HMAC"),
        (world.tokens().signed_requests(SignedRequests::new("api.example")), "https://"),
        (world.tokens().signed_requests(SignedRequests::new("https://api.example/")), "slash"),
    ] {
        let error = layer.check().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    // Whoever forgets the option would take each token for any request.
    assert!(world.tokens().check().unwrap_err().to_string().contains("signed_requests"));
}

#[test]
#[should_panic(expected = "signed_requests")]
fn a_layer_that_forgets_the_option_does_not_open() {
    let _ = World::new().tokens().layer(inner());
}
