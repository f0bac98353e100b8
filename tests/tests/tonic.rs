//! The layer under tonic: all four kinds of calls, through tonic's own client, and gRPC-Web through an HTTP/1.1 client.
//!
//! The service is written by hand and its messages are plain text, so that nothing has to be generated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, BufMut};
use countersign::token::KeySource;
use countersign::{Authenticated, Claims, JwtAuth, Permit, RequireJwtLayer, require, scope};
use countersign_testkit::{DangerousFakeAuth, IdentityProvider};
use countersign_tests::refusals::{AUDIENCE, RefusalCase, WriteOrders, bearer, layer, refusal_cases, token};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_web::GrpcWebLayer;
use tower::{Service, service_fn};

/// After this long nothing more comes, and the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message is its text.
#[derive(Clone, Copy, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let octets = buffer.copy_to_bytes(buffer.remaining());
        String::from_utf8(octets.to_vec()).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[derive(serde::Deserialize)]
struct MyClaims {
    sub: String,
}

fn caller<T>(request: &Request<T>) -> Result<String, Status> {
    Ok(Claims::<MyClaims>::from_extensions(request.extensions())?.sub.clone())
}

async fn greet(request: Request<String>) -> Result<Response<String>, Status> {
    Ok(Response::new(format!("{} to {}", request.get_ref(), caller(&request)?)))
}

async fn cancel(request: Request<String>) -> Result<Response<String>, Status> {
    Authenticated::from_extensions(request.extensions())?.require(&scope("orders:write").and(scope("50%")))?;
    greet(request).await
}

async fn write(request: Request<String>) -> Result<Response<String>, Status> {
    Permit::<WriteOrders>::from_extensions(request.extensions())?;
    greet(request).await
}

type Texts = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// A stream that needs a permit.
async fn watch(request: Request<String>) -> Result<Response<Texts>, Status> {
    Permit::<WriteOrders>::from_extensions(request.extensions())?;
    count(request).await
}

async fn count(request: Request<String>) -> Result<Response<Texts>, Status> {
    let caller = caller(&request)?;
    Ok(Response::new(Box::pin(tokio_stream::iter(1..=3).map(move |n| Ok(format!("{n} for {caller}"))))))
}

async fn join(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    let caller = caller(&request)?;
    let texts: Vec<String> = request.into_inner().collect::<Result<_, _>>().await?;
    Ok(Response::new(format!("{} from {caller}", texts.join(" "))))
}

async fn echo(request: Request<Streaming<String>>) -> Result<Response<Texts>, Status> {
    let caller = caller(&request)?;
    let texts = request.into_inner().map(move |text| text.map(|text| format!("{caller}: {text}")));
    Ok(Response::new(Box::pin(texts)))
}

/// What `tonic-build` would generate, and a count of calls.
#[derive(Clone, Default)]
struct Orders {
    calls: Arc<AtomicUsize>,
}

impl NamedService for Orders {
    const NAME: &'static str = "orders.Orders";
}

impl Service<http::Request<Body>> for Orders {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Text);
            Ok(match request.uri().path() {
                "/orders.Orders/Greet" => grpc.unary(service_fn(greet), request).await,
                "/orders.Orders/Cancel" => grpc.unary(service_fn(cancel), request).await,
                "/orders.Orders/Write" => grpc.unary(service_fn(write), request).await,
                "/orders.Orders/Watch" => grpc.server_streaming(service_fn(watch), request).await,
                "/orders.Orders/Count" => grpc.server_streaming(service_fn(count), request).await,
                "/orders.Orders/Join" => grpc.client_streaming(service_fn(join), request).await,
                "/orders.Orders/Echo" => grpc.streaming(service_fn(echo), request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

async fn listen() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// [`Orders`] behind `layer` on a free port, as a tonic server has it; and the count of its calls.
async fn serve<K: KeySource>(layer: RequireJwtLayer<K>) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, listener) = listen().await;
    let orders = Orders::default();
    let calls = Arc::clone(&orders.calls);
    let server = Server::builder().layer(layer).add_service(orders);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (address, calls)
}

/// A client that sends these `authorization` values with each call.
struct Client {
    grpc: tonic::client::Grpc<Channel>,
    authorization: Vec<String>,
}

impl Client {
    async fn to(address: SocketAddr, authorization: impl IntoIterator<Item = String>) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().timeout(PATIENCE);
        let mut grpc = tonic::client::Grpc::new(channel.connect().await.unwrap());
        grpc.ready().await.unwrap();
        Self { grpc, authorization: authorization.into_iter().collect() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for value in &self.authorization {
            request.metadata_mut().append("authorization", value.parse().unwrap());
        }
        request
    }

    async fn unary(&mut self, method: &'static str, text: &str) -> Result<String, Status> {
        self.grpc.ready().await.unwrap();
        let request = self.request(text.to_owned());
        self.grpc.unary(request, PathAndQuery::from_static(method), Text).await.map(Response::into_inner)
    }

    async fn greet(&mut self) -> Result<String, Status> {
        self.unary("/orders.Orders/Greet", "hello").await
    }

    async fn count(&mut self) -> Result<Streaming<String>, Status> {
        self.stream("/orders.Orders/Count").await
    }

    async fn stream(&mut self, method: &'static str) -> Result<Streaming<String>, Status> {
        self.grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static(method);
        self.grpc.server_streaming(self.request(String::new()), path, Text).await.map(Response::into_inner)
    }

    async fn join(&mut self, texts: impl Stream<Item = String> + Send + 'static) -> Result<String, Status> {
        self.grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/orders.Orders/Join");
        self.grpc.client_streaming(self.request(texts), path, Text).await.map(Response::into_inner)
    }

    async fn echo(&mut self, texts: impl Stream<Item = String> + Send + 'static) -> Result<Streaming<String>, Status> {
        self.grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/orders.Orders/Echo");
        self.grpc.streaming(self.request(texts), path, Text).await.map(Response::into_inner)
    }
}

fn texts(texts: &[&str]) -> impl Stream<Item = String> + Send + 'static {
    let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
    tokio_stream::iter(texts)
}

#[tokio::test]
async fn the_four_kinds_of_calls_get_their_claims() {
    let (address, calls) = serve(layer()).await;
    let mut client = Client::to(address, [bearer(&token())]).await;
    assert_eq!(client.greet().await.unwrap(), "hello to ada");
    let counted: Vec<_> = client.count().await.unwrap().collect::<Result<_, _>>().await.unwrap();
    assert_eq!(counted, ["1 for ada", "2 for ada", "3 for ada"]);
    assert_eq!(client.join(texts(&["one", "two"])).await.unwrap(), "one two from ada");

    // Each is answered before the next is said.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut answers = client.echo(ReceiverStream::new(receiver)).await.unwrap();
    for text in ["one", "two"] {
        sender.send(text.to_owned()).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), format!("ada: {text}"));
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn jwt_auth_protects_a_tonic_server() {
    let idp = IdentityProvider::start();
    let (address, listener) = listen().await;
    let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience(AUDIENCE);
    let server = Server::builder().layer(auth).add_service(Orders::default());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    assert_eq!(Client::to(address, [bearer(&idp.token(AUDIENCE))]).await.greet().await.unwrap(), "hello to ada");
    idp.rotate();
    assert_eq!(Client::to(address, [bearer(&idp.token(AUDIENCE))]).await.greet().await.unwrap(), "hello to ada");
    let status = Client::to(address, [bearer(&idp.token("billing"))]).await.greet().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the token is not valid"));
}

#[tokio::test]
async fn a_made_up_caller_calls_a_tonic_server_as_a_real_one_does() {
    let reader = DangerousFakeAuth::subject("eve").scope("orders:read").even_in_release_builds();
    for (caller, code) in [(reader.clone().scope("orders:write 50%"), Code::Ok), (reader, Code::PermissionDenied)] {
        let (address, listener) = listen().await;
        let server = Server::builder().layer(caller).add_service(Orders::default());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let mut client = Client::to(address, []).await;
        assert_eq!(client.greet().await.unwrap(), "hello to eve");
        let cancelled = client.unary("/orders.Orders/Cancel", "bye").await;
        assert_eq!(cancelled.map_or_else(|status| status.code(), |_| Code::Ok), code);
    }
}

/// What a client sees of a refusal.
fn assert_refused(status: &Status, case: &RefusalCase) {
    assert_eq!(i32::from(status.code()), case.grpc_status, "{}", case.name);
    assert_eq!(status.message(), case.grpc_message, "{}", case.name);
    let metadata = |name| status.metadata().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(metadata("retry-after"), case.retry_after.as_deref(), "{}", case.name);
    assert_eq!(metadata("cache-control"), Some("no-store"), "{}", case.name);
    assert_eq!(metadata("www-authenticate"), None, "{}", case.name);
    assert_eq!(status.details(), b"", "{}", case.name);
}

#[tokio::test]
async fn each_refusal_of_each_kind_of_call() {
    for case in refusal_cases() {
        let (address, calls) = serve(case.layer.clone()).await;
        let mut client = Client::to(address, case.authorization.clone()).await;
        assert_refused(&client.greet().await.unwrap_err(), &case);
        assert_refused(&client.count().await.unwrap_err(), &case);
        // A caller that never stops sending is refused all the same.
        assert_refused(&client.join(tokio_stream::pending()).await.unwrap_err(), &case);
        assert_refused(&client.echo(tokio_stream::pending()).await.unwrap_err(), &case);
        assert_refused(&client.echo(texts(&["one"])).await.unwrap_err(), &case);
        assert_eq!(calls.load(Ordering::SeqCst), 0, "{}", case.name);
    }
}

#[tokio::test]
async fn a_method_refuses_by_a_question_mark_as_the_layer_does() {
    let (address, _) = serve(layer()).await;
    let mut client = Client::to(address, [bearer(&token().scope("orders:write 50%"))]).await;
    assert_eq!(client.unary("/orders.Orders/Cancel", "bye").await.unwrap(), "bye to ada");

    let mut client = Client::to(address, [bearer(&token())]).await;
    let status = client.unary("/orders.Orders/Cancel", "bye").await.unwrap_err();
    let by_layer = refusal_cases().into_iter().find(|case| case.name == "lacks scopes").unwrap();
    assert_eq!((i32::from(status.code()), status.message()), (by_layer.grpc_status, &*by_layer.grpc_message));

    let mut client = Client::to(address, [bearer(&token().without("sub"))]).await;
    let status = client.greet().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the token is not valid"));

    let (address, listener) = listen().await;
    tokio::spawn(Server::builder().add_service(Orders::default()).serve_with_incoming(TcpIncoming::from(listener)));
    let status = Client::to(address, []).await.greet().await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "a method without the layer");
}

/// The layer, a layer of the service's own inside of it, and permits in methods with one answer and with many: a caller cannot tell who has
/// refused it.
#[tokio::test]
async fn permits_and_layers_within_refuse_as_the_layer_does() {
    let by_layer = serve(layer().require(scope("orders:write"))).await.0;
    let (within, listener) = listen().await;
    let server = Server::builder().layer(layer()).layer(require(scope("orders:write"))).add_service(Orders::default());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let by_permit = serve(layer()).await.0;
    for (granted, code) in [("orders:read", Code::PermissionDenied), ("orders:write", Code::Ok)] {
        for (address, unary, streaming) in [
            (by_layer, "/orders.Orders/Greet", "/orders.Orders/Count"),
            (within, "/orders.Orders/Greet", "/orders.Orders/Count"),
            (by_permit, "/orders.Orders/Write", "/orders.Orders/Watch"),
        ] {
            let mut client = Client::to(address, [bearer(&token().scope(granted))]).await;
            let answers = [client.unary(unary, "x").await.map(drop), client.stream(streaming).await.map(drop)];
            for answer in answers {
                let (found, message) = answer
                    .map_or_else(|status| (status.code(), status.message().to_owned()), |()| (Code::Ok, String::new()));
                assert_eq!(found, code, "{unary} {granted}");
                let denied = "the token does not grant the scope needed: orders:write";
                assert_eq!(message, if code == Code::Ok { "" } else { denied });
            }
        }
    }
}

/// A refusal is one HEADERS frame with END_STREAM; tonic's client does not show that.
#[tokio::test]
async fn a_refusal_by_a_tonic_server_is_trailers_only() {
    let (address, _) = serve(layer()).await;
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/orders.Orders/Greet"))
        .header(CONTENT_TYPE, "application/grpc")
        .body(Full::new(bytes::Bytes::from_static(b"\0\0\0\0\0")))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"16".parse().unwrap()));
    assert!(response.body().is_end_stream(), "END_STREAM on HEADERS");
}

fn http1() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).http1_only().build().unwrap()
}

#[tokio::test]
async fn one_layer_protects_rest_and_grpc_on_one_port() {
    let http1 = http1();
    for case in refusal_cases() {
        for (let_in, layer) in [(true, layer()), (false, case.layer.clone())] {
            let routes = Routes::new(Orders::default()).into_axum_router();
            let app = Router::new().route("/orders", get(async || "orders")).merge(routes).layer(layer);
            let (address, listener) = listen().await;
            tokio::spawn(async move { axum::serve(listener, app).await });

            let authorization = if let_in { vec![bearer(&token())] } else { case.authorization.clone() };
            let mut request = http1.get(format!("http://{address}/orders"));
            for value in &authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let rest = request.send().await.unwrap();
            let grpc = Client::to(address, authorization).await.greet().await;
            if let_in {
                assert_eq!(rest.text().await.unwrap(), "orders");
                assert_eq!(grpc.unwrap(), "hello to ada");
            } else {
                assert_eq!(rest.status(), case.status, "{}", case.name);
                assert!(!rest.headers().contains_key("grpc-status"), "{}", case.name);
                assert_refused(&grpc.unwrap_err(), &case);
            }
        }
    }
}

/// `message` as one frame of gRPC-Web.
fn frame(message: &str) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message.as_bytes()].concat()
}

/// The messages of a gRPC-Web body, and its trailers.
fn frames(mut body: &[u8]) -> (Vec<String>, Option<String>) {
    let (mut messages, mut trailers) = (Vec::new(), None);
    while let [flag, a, b, c, d, rest @ ..] = body {
        let (payload, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        let text = String::from_utf8(payload.to_vec()).unwrap();
        if *flag == 0x80 {
            trailers = Some(text);
        } else {
            messages.push(text);
        }
        body = rest;
    }
    assert!(body.is_empty());
    (messages, trailers)
}

/// tonic-web may stand on either side of the layer, and gRPC-Web clients see the same.
#[tokio::test]
async fn grpc_web_over_http_1_with_tonic_web_inside_or_outside() {
    let http1 = http1();
    for case in refusal_cases() {
        for (let_in, web_is_outside) in [(true, true), (true, false), (false, true), (false, false)] {
            let layer = if let_in { layer() } else { case.layer.clone() };
            let (address, listener) = listen().await;
            let incoming = TcpIncoming::from(listener);
            // The first layer is the outermost.
            let builder = Server::builder().accept_http1(true);
            if web_is_outside {
                let server = builder.layer(GrpcWebLayer::new()).layer(layer).add_service(Orders::default());
                tokio::spawn(server.serve_with_incoming(incoming));
            } else {
                let server = builder.layer(layer).layer(GrpcWebLayer::new()).add_service(Orders::default());
                tokio::spawn(server.serve_with_incoming(incoming));
            }
            let authorization = if let_in { vec![bearer(&token())] } else { case.authorization.clone() };
            for content_type in ["application/grpc-web+proto", "application/grpc-web", "application/grpc-web-text"] {
                let is_text = content_type.ends_with("text");
                let body = if is_text { BASE64_STANDARD.encode(frame("hello")).into_bytes() } else { frame("hello") };
                let mut request = http1.post(format!("http://{address}/orders.Orders/Greet"));
                for value in &authorization {
                    request = request.header(AUTHORIZATION, value);
                }
                let request = request.header(CONTENT_TYPE, content_type).header("accept", content_type).body(body);
                let response = request.send().await.unwrap();
                let shown = format!("{} {content_type}, outside: {web_is_outside}", case.name);
                assert_eq!(response.status(), 200, "{shown}");
                let headers = response.headers().clone();
                let answered = headers[CONTENT_TYPE].to_str().unwrap();
                let family = if is_text { "application/grpc-web-text" } else { "application/grpc-web" };
                assert_eq!(answered.split('+').next(), Some(family), "{shown}");
                let body = response.bytes().await.unwrap();
                if let_in {
                    let body = if is_text { decode_pieces(&body) } else { body.to_vec() };
                    let (messages, trailers) = frames(&body);
                    assert_eq!(messages, ["hello to ada"], "{shown}");
                    assert!(trailers.unwrap().contains("grpc-status:0"), "{shown}");
                } else {
                    assert_eq!(headers["grpc-status"].to_str().unwrap(), case.grpc_status.to_string(), "{shown}");
                    let message = headers["grpc-message"].to_str().unwrap().replace("%25", "%");
                    assert_eq!(message, case.grpc_message, "{shown}");
                    assert_eq!(body, "", "{shown}");
                }
            }
        }
    }
}

/// A text body is several pieces of base64, each with its own padding.
fn decode_pieces(body: &[u8]) -> Vec<u8> {
    body.chunks(4).flat_map(|piece| BASE64_STANDARD.decode(piece).unwrap()).collect()
}
