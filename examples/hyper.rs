//! hyper without a framework, HTTP/1.1 and HTTP/2 on one port: `cargo run --example hyper`.
//!
//! ```text
//! TOKEN=…                                                                               # the token that it prints
//! curl -i http://127.0.0.1:3000/hello                                                   # 401
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"                 # 200
//! curl -N http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                # 200, one order after the other
//! curl -i -X DELETE http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"      # 403
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser as _;
use countersign::handler::{Authenticated, Claims};
use countersign::{JwtAuth, scope};
use countersign_examples::Options;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tower::{ServiceBuilder, service_fn};

/// For its refusals the layer needs a body type that has a `Default`. Most have one; this one is a full text or a stream.
type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

/// Called with good tokens only: the layer is around it.
async fn serve(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, _body) = request.into_parts();
    let caller = match Authenticated::from_extensions(&head.extensions) {
        Ok(caller) => caller,
        Err(no_layer) => return Ok(no_layer.into_response(&head.method, &head.headers, &head.extensions)),
    };
    let answer = match (&head.method, head.uri.path()) {
        (&Method::GET, "/hello") => Ok(hello(&head)),
        (&Method::GET, "/orders") => caller.require(&scope("orders:read")).map(|()| orders()),
        (&Method::DELETE, "/orders") => caller.require(&scope("orders:write")).map(|()| text("deleted\n")),
        _ => Ok(not_found()),
    };
    Ok(answer.unwrap_or_else(|forbidden| forbidden.into_response(&head.method, &head.headers, None)))
}

fn hello(head: &Parts) -> Response<Body> {
    match Claims::<MyClaims>::from_extensions(&head.extensions) {
        Ok(claims) => text(format!("Hello, {}!\n", claims.sub)),
        Err(error) => error.into_response(&head.method, &head.headers, &head.extensions),
    }
}

/// A body that is not there yet when the response begins. The layer hands it on as it is.
fn orders() -> Response<Body> {
    let orders = tokio_stream::iter(1..=3)
        .map(|id| Ok(Frame::data(Bytes::from(format!("order {id}\n")))))
        .throttle(Duration::from_millis(100));
    Response::new(StreamBody::new(orders).boxed_unsync())
}

fn not_found() -> Response<Body> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed_unsync())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    let service = TowerToHyperService::new(ServiceBuilder::new().layer(auth).service(service_fn(serve)));

    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer hyper waits for the rest of a request's headers for ever, and for peers that are gone.
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(20)));
    let connections = GracefulShutdown::new();
    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.map(|(socket, _)| socket),
            stopped = tokio::signal::ctrl_c() => break stopped?,
        };
        // Nor does hyper give up on a connection that says nothing at all. A service that anybody can reach wants a limit on
        // connections for that, or a proxy in front of it.
        let Ok(socket) = socket else {
            // Out of file descriptors, most likely: others will be closed.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let connection = server.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        // How it ended is the client's affair.
        tokio::spawn(connections.watch(connection));
    }
    // Requests under way may finish, for a while.
    timeout(Duration::from_secs(10), connections.shutdown()).await?;
    Ok(())
}
