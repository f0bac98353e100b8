//! The layer under hyper without a framework: HTTP/1.0, HTTP/1.1 and HTTP/2 over real sockets, with real clients and with
//! raw octets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign::handler::{Authenticated, Claims};
use countersign::token::KeySource;
use countersign::{JwtAuth, RequireJwtLayer, TokenPlace, scope};
use countersign_testkit::IdentityProvider;
use countersign_tests::refusals::{AUDIENCE, bearer, layer, refusal_cases, token};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tower::{Layer, Service};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// After this long nothing more comes, and the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever comes here has shown a token.
async fn inside(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    #[derive(serde::Deserialize)]
    struct MyClaims {
        sub: String,
    }

    if request.uri().path() == "/echo" {
        return Ok(Response::new(request.into_body().boxed_unsync()));
    }
    if request.uri().path() == "/count" {
        let body = request.into_body().collect().await?.to_bytes();
        return Ok(Response::new(text(body.len().to_string())));
    }
    let (head, _) = request.into_parts();
    if head.uri.path() == "/cancel" {
        let caller = Authenticated::from_extensions(&head.extensions).expect("the layer is there");
        if let Err(forbidden) = caller.require(&scope("orders:write")) {
            return Ok(forbidden.into_response(&head.method, &head.headers, Some("orders")));
        }
    }
    Ok(match Claims::<MyClaims>::from_extensions(&head.extensions) {
        Ok(claims) => Response::new(text(format!("hello {}", claims.sub))),
        Err(error) => error.into_response(&head.method, &head.headers, &head.extensions),
    })
}

fn text(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// A server of [`inside`] on a free port.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Server {
    async fn start<K: KeySource>(layer: &RequireJwtLayer<K>) -> Self {
        Self::serve(|inner| layer.layer(inner)).await
    }

    /// With whatever `protect` makes of the service.
    async fn serve<S>(protect: impl FnOnce(CountedService) -> S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = hyper::Error> + Clone + Send + 'static,
        S::Future: Send,
    {
        let (connections, calls) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), connections, calls };
        let service = TowerToHyperService::new(protect(CountedService(Arc::clone(&server.calls))));
        let connections = Arc::clone(&server.connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let service = service.clone();
                tokio::spawn(async move {
                    // That a client goes away in the middle is what some tests do.
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many connections there have been.
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How often [`inside`] was called.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct CountedService(Arc<AtomicUsize>);

impl Service<Request<Incoming>> for CountedService {
    type Response = Response<Body>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), hyper::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(inside(request))
    }
}

/// Header lines without those that hyper adds as it sees fit, sorted; names in lower case.
fn lines(headers: &http::HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .filter(|(name, _)| *name != "date" && *name != "content-length")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

/// One client for each version of HTTP.
fn clients() -> [(Version, reqwest::Client); 2] {
    let builder = || reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    [
        (Version::HTTP_11, builder().http1_only().build().unwrap()),
        (Version::HTTP_2, builder().http2_prior_knowledge().build().unwrap()),
    ]
}

#[tokio::test]
async fn a_good_token_is_let_in_over_both_versions() {
    let server = Server::start(&layer()).await;
    for (version, client) in clients() {
        let response = client.get(server.url("/")).header(AUTHORIZATION, bearer(&token())).send().await.unwrap();
        assert_eq!((response.version(), response.status()), (version, StatusCode::OK));
        assert_eq!(response.text().await.unwrap(), "hello ada");
    }
}

#[tokio::test]
async fn jwt_auth_protects_a_hyper_service() {
    let idp = IdentityProvider::start();
    let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience(AUDIENCE);
    let server = Server::serve(|inner| auth.layer(inner)).await;
    for (_, client) in clients() {
        let get = |token: String| client.get(server.url("/")).bearer_auth(token).send();
        assert_eq!(get(idp.token(AUDIENCE).sign()).await.unwrap().text().await.unwrap(), "hello ada");
        assert_eq!(get(idp.token("billing").sign()).await.unwrap().status(), 401);
        idp.rotate();
        assert_eq!(get(idp.token(AUDIENCE).sign()).await.unwrap().status(), 200, "it waited for the new key");
    }
}

#[tokio::test]
async fn each_refusal_over_both_versions_to_the_letter() {
    for case in refusal_cases() {
        let server = Server::start(&case.layer).await;
        let mut expected: Vec<_> = case.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        expected.push(String::from("cache-control: no-store"));
        expected.sort();
        for (version, client) in clients() {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS, Method::DELETE] {
                let mut request = client.request(method.clone(), server.url("/"));
                for value in &case.authorization {
                    request = request.header(AUTHORIZATION, value);
                }
                let response = request.send().await.unwrap();
                let shown = format!("{} {method} {version:?}", case.name);
                assert_eq!(response.version(), version, "{shown}");
                assert_eq!(response.status(), case.status, "{shown}");
                assert_eq!(lines(response.headers()), expected, "{shown}");
                let length = response.headers().get("content-length");
                assert!(length.is_none_or(|length| length == "0"), "{shown}: {length:?}");
                assert_eq!(response.bytes().await.unwrap(), "", "{shown}");
            }
        }
        assert_eq!(server.calls(), 0, "{}", case.name);
        assert_eq!(server.connections(), 2, "{}: a refusal ends no connection", case.name);
    }
}

#[tokio::test]
async fn statement_3_no_token_in_the_query_unless_it_is_switched_on_and_then_the_answer_is_private() {
    let places = [TokenPlace::bearer(), TokenPlace::query("access_token")];
    let in_query = format!("/?a=b&access_token={}", token().sign());
    for (layer, status, caching) in [(layer(), 401, "no-store"), (layer().token_from(places), 200, "private")] {
        let server = Server::start(&layer).await;
        for (_, client) in clients() {
            for method in [Method::GET, Method::HEAD] {
                let answer = client.request(method.clone(), server.url(&in_query)).send().await.unwrap();
                assert_eq!(answer.status(), status);
                assert_eq!(answer.headers()["cache-control"], caching);
                let in_header = client.request(method, server.url("/")).header(AUTHORIZATION, bearer(&token()));
                let answer = in_header.send().await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.headers().get("cache-control")), (200, None));
            }
        }
    }
}

#[tokio::test]
async fn a_handler_turns_its_own_refusals_into_responses() {
    let server = Server::start(&layer()).await;
    for (_, client) in clients() {
        let cancel = |token: String| client.post(server.url("/cancel")).bearer_auth(token).send();
        let response = cancel(token().scope("orders:write").sign()).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "hello ada");
        let response = cancel(token().sign()).await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(
            response.headers()["www-authenticate"],
            "Bearer realm=\"orders\", error=\"insufficient_scope\", \
             error_description=\"the token does not grant the scope needed\", scope=\"orders:write\""
        );
        // No `sub`, which the type of claims needs.
        let response = client.get(server.url("/")).bearer_auth(token().without("sub").sign()).send().await.unwrap();
        assert_eq!(response.status(), 401);
    }
}

/// A raw connection: what is written and read is octets.
struct Raw(BufReader<TcpStream>);

impl Raw {
    async fn to(server: &Server) -> Self {
        Self(BufReader::new(TcpStream::connect(server.address).await.unwrap()))
    }

    async fn write(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// The next response's status line and headers in lower case; its body is not read.
    async fn head(&mut self) -> Vec<String> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("nothing came");
            assert_ne!(read.unwrap(), 0, "the connection was closed after {head:?}");
            match line.trim_end() {
                "" => return head,
                line => head.push(line.to_lowercase()),
            }
        }
    }

    /// All that comes until the server closes the connection.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_to_string(&mut rest)).await.expect("it was not closed").unwrap();
        rest
    }

    /// Whether a good request is served on this connection.
    async fn is_alive(&mut self) -> bool {
        self.write(&format!(
            "GET / HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\nconnection: close\r\n\r\n",
            bearer(&token())
        ))
        .await;
        let rest = self.rest().await;
        rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\nhello ada")
    }
}

#[tokio::test]
async fn a_refused_head_has_no_body_and_the_connection_goes_on() {
    let server = Server::start(&layer()).await;
    let mut raw = Raw::to(&server).await;
    // Two at once: were there a body, it would be taken for the second response.
    raw.write("HEAD / HTTP/1.1\r\nhost: x\r\n\r\nHEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    for _ in 0..2 {
        let head = raw.head().await;
        assert_eq!(head[0], "http/1.1 401 unauthorized");
        assert!(head.contains(&String::from(r#"www-authenticate: bearer realm="orders""#)), "{head:?}");
    }
    assert!(raw.is_alive().await);
}

#[tokio::test]
async fn http_1_0_gets_its_refusal_and_a_closed_connection() {
    for case in refusal_cases() {
        let server = Server::start(&case.layer).await;
        for method in ["GET", "HEAD"] {
            let mut raw = Raw::to(&server).await;
            // No `Host`, as HTTP/1.0 has it.
            let authorization: String =
                case.authorization.iter().map(|value| format!("authorization: {value}\r\n")).collect();
            raw.write(&format!("{method} / HTTP/1.0\r\n{authorization}\r\n")).await;
            let response = raw.rest().await;
            assert!(response.starts_with(&format!("HTTP/1.0 {} ", case.status)), "{}: {response}", case.name);
            assert!(response.ends_with("\r\n\r\n"), "{}: {response}", case.name);
            for (name, value) in &case.headers {
                assert!(response.contains(&format!("\r\n{name}: {value}\r\n")), "{}: {response}", case.name);
            }
        }
    }
    let server = Server::start(&layer()).await;
    let mut raw = Raw::to(&server).await;
    raw.write(&format!("GET / HTTP/1.0\r\nauthorization: {}\r\n\r\n", bearer(&token()))).await;
    assert!(raw.rest().await.ends_with("\r\n\r\nhello ada"));
}

#[tokio::test]
async fn a_refused_upload_is_not_asked_for() {
    let server = Server::start(&layer()).await;
    let upload = |authorization: &str, length: u64| {
        format!(
            "POST /count HTTP/1.1\r\nhost: x\r\n{authorization}content-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    // A client that asks first is spared the upload.
    let mut raw = Raw::to(&server).await;
    raw.write(&upload("", 1 << 40)).await;
    assert_eq!(raw.head().await[0], "http/1.1 401 unauthorized", "and no `100 Continue` before it");

    // With a good token it is asked for, because somebody reads it.
    let mut raw = Raw::to(&server).await;
    raw.write(&upload(&format!("authorization: {}\r\n", bearer(&token())), 5)).await;
    assert_eq!(raw.head().await, ["http/1.1 100 continue"]);
    raw.write("apple").await;
    assert_eq!(raw.head().await[0], "http/1.1 200 ok");

    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_upload() {
    let server = Server::start(&layer()).await;
    // The rest of this body never comes. The answer does, and then nobody reads on.
    let mut raw = Raw::to(&server).await;
    raw.write("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\nthe beginning").await;
    assert_eq!(raw.head().await[0], "http/1.1 401 unauthorized");
    assert_eq!(raw.rest().await, "", "what would come next on this connection is not a request");

    // A body that is there as a whole is skipped, and the connection goes on.
    let mut raw = Raw::to(&server).await;
    raw.write("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\napple").await;
    assert_eq!(raw.head().await[0], "http/1.1 401 unauthorized");
    assert!(raw.is_alive().await);
}

/// RFC 9113 §8.1: a server that has answered and does not need the rest of the request ends the stream with `NO_ERROR`, which
/// tells the client to keep the answer and to stop sending.
#[tokio::test]
async fn over_http2_a_refusal_is_one_frame_and_then_the_stream_ends_without_error() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const END_STREAM: u8 = 1;

    let server = Server::start(&layer()).await;
    let mut raw = Raw::to(&server).await.0;
    // The preface, an empty SETTINGS, and HEADERS of stream 1 that END_HEADERS but not the stream: POST http / and authority "x".
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    request.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    request.extend([0, 0, 6, HEADERS, 4, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x41, 1, b'x']);
    raw.write_all(&request).await.unwrap();

    let mut of_the_stream: Vec<(u8, u8, Vec<u8>)> = Vec::new();
    while of_the_stream.last().is_none_or(|(kind, ..)| *kind != RST_STREAM) {
        let mut head = [0; 9];
        tokio::time::timeout(PATIENCE, raw.read_exact(&mut head)).await.expect("the stream is not ended").unwrap();
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        raw.read_exact(&mut payload).await.unwrap();
        if stream == [0, 0, 0, 1] {
            of_the_stream.push((kind, flags, payload));
        }
    }
    let [(first, flags, _), (last, _, error)] = &of_the_stream[..] else { panic!("{of_the_stream:?}") };
    assert_eq!((*first, flags & END_STREAM), (HEADERS, END_STREAM));
    assert_eq!((*last, &error[..]), (RST_STREAM, &[0, 0, 0, 0][..]), "not NO_ERROR");
}

type Client = hyper::client::conn::http2::SendRequest<Body>;

/// One HTTP/2 connection.
async fn http2(server: &Server) -> Client {
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn answer(response: impl Future<Output = hyper::Result<Response<Incoming>>>) -> Response<Incoming> {
    tokio::time::timeout(PATIENCE, response).await.expect("no answer").unwrap()
}

/// A body that goes on for as long as its sender does.
fn unfinished() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// What is not read of a refused upload must not use up the window that all uploads of an HTTP/2 connection share.
#[tokio::test]
async fn refused_uploads_do_not_clog_an_http2_connection() {
    const UPLOADS: usize = 24;
    const SIZE: usize = 1 << 20;

    let server = Server::start(&layer()).await;
    let client = http2(&server).await;
    let upload = |authorization: &str| {
        let request = Request::post(server.url("/echo")).header(AUTHORIZATION, authorization);
        let mut client = client.clone();
        client.send_request(request.body(text("x".repeat(SIZE))).unwrap())
    };
    for _ in 0..UPLOADS {
        let response = answer(upload("Bearer nonsense")).await;
        assert_eq!(response.status(), 401);
        assert!(response.body().is_end_stream(), "END_STREAM on HEADERS");
    }
    assert_eq!(server.calls(), 0);
    let response = answer(upload(&bearer(&token()))).await;
    let echo = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("clogged").unwrap();
    assert_eq!(echo.to_bytes().len(), SIZE);
    assert_eq!(server.connections(), 1);
}

/// Sends a piece, gets it back, sends the next: nothing is collected on the way.
async fn talks(sender: mpsc::Sender<Bytes>, mut response: Response<Incoming>) {
    assert_eq!(response.status(), 200);
    for piece in ["one", "two", "three"] {
        sender.send(Bytes::from(piece)).await.unwrap();
        let frame = tokio::time::timeout(PATIENCE, response.body_mut().frame()).await.expect("it is held back");
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), piece);
    }
    drop(sender);
    let rest = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("the end is held back");
    assert_eq!(rest.unwrap().to_bytes(), "");
}

#[tokio::test]
async fn bodies_stream_through_the_layer_piece_by_piece() {
    let server = Server::start(&layer()).await;
    let (sender, body) = unfinished();
    let request = Request::post(server.url("/echo")).header(AUTHORIZATION, bearer(&token())).body(body).unwrap();
    talks(sender, answer(http2(&server).await.send_request(request)).await).await;

    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let (sender, body) = unfinished();
    let request =
        Request::post("/echo").header("host", "x").header(AUTHORIZATION, bearer(&token())).body(body).unwrap();
    talks(sender, answer(client.send_request(request)).await).await;
}

#[tokio::test]
async fn grpc_refusals_are_trailers_only() {
    for case in refusal_cases() {
        let server = Server::start(&case.layer).await;
        let mut client = http2(&server).await;
        for (asked, answered) in [
            ("application/grpc", "application/grpc"),
            ("application/grpc+proto", "application/grpc"),
            ("application/grpc-web+proto", "application/grpc-web"),
            ("application/grpc-web-text", "application/grpc-web-text"),
        ] {
            // A client that streams has not ended its side yet.
            let (_sender, body) = unfinished();
            let mut request = Request::post(server.url("/orders.Orders/List")).header(CONTENT_TYPE, asked);
            for value in &case.authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let response = answer(client.send_request(request.body(body).unwrap())).await;
            assert_eq!(response.status(), 200);
            assert!(response.body().is_end_stream(), "{}: END_STREAM on HEADERS, and nothing after", case.name);
            let headers = response.headers();
            assert_eq!(headers[CONTENT_TYPE], answered);
            assert_eq!(headers["grpc-status"].to_str().unwrap(), case.grpc_status.to_string());
            assert_eq!(headers["grpc-message"].to_str().unwrap().replace("%25", "%"), case.grpc_message);
            assert_eq!(headers.get("retry-after").map(|value| value.to_str().unwrap()), case.retry_after.as_deref());
            assert!(!headers.contains_key("www-authenticate"));
        }
        assert_eq!((server.calls(), server.connections()), (0, 1));
    }
}

/// One call of curl with these options; what it shows of the response's status line, headers and body.
async fn curl(server: &Server, options: &[&str]) -> String {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "20"])
        .args(options)
        .arg(server.url("/"))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{options:?} {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().to_lowercase()
}

#[tokio::test]
async fn curl_is_let_in_and_refused() {
    let Ok(version) = std::process::Command::new("curl").arg("--version").output() else {
        println!("left out: there is no curl here");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    for case in refusal_cases() {
        let server = Server::start(&case.layer).await;
        let protected = Server::start(&layer()).await;
        for (option, name) in
            [("--http1.0", "http/1.0"), ("--http1.1", "http/1.1"), ("--http2-prior-knowledge", "http/2")]
        {
            if name == "http/2" && !version.contains("HTTP2") {
                println!("left out: this curl has no HTTP/2");
                continue;
            }
            let good = curl(&protected, &[option, "-H", &format!("authorization: {}", bearer(&token()))]).await;
            assert!(good.starts_with(&format!("{name} 200")) && good.ends_with("\r\n\r\nhello ada"), "{good}");

            let headers: Vec<_> = case.authorization.iter().map(|value| format!("authorization: {value}")).collect();
            for method in [&[][..], &["--head"], &["--data", "x"]] {
                // Over HTTP/2 curl 7.88 takes an early answer for an error if the stream is ended while it still sends, though
                // it is ended as the test above says.
                if name == "http/2" && method.first() == Some(&"--data") {
                    continue;
                }
                let mut options = [&[option], method].concat();
                options.extend(headers.iter().flat_map(|header| ["-H", header]));
                let refused = curl(&server, &options).await;
                assert!(refused.starts_with(&format!("{name} {}", case.status)), "{refused}");
                assert!(refused.ends_with("\r\n\r\n"), "{}: no body: {refused}", case.name);
                for (name, value) in &case.headers {
                    assert!(refused.contains(&format!("\r\n{name}: {}\r\n", value.to_lowercase())), "{refused}");
                }
            }
        }
    }
}
