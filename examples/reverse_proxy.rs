//! A reverse proxy that lets nobody through to the upstream without a good token: `cargo run --example reverse_proxy`.
//!
//! The upstream (`--upstream http://…`; without it, one of its own that shows what it was sent) gets no token. It gets who the caller is, in
//! headers that nobody but this proxy can set, and must not be reachable by anybody else.
//!
//! ```text
//! TOKEN=…                                                                                    # the token that it prints
//! curl -i http://127.0.0.1:3000/any/path                                                     # 401
//! curl -i http://127.0.0.1:3000/any/path?a=b -H "Authorization: Bearer $TOKEN"               # 200, and what the upstream saw
//! curl -i http://127.0.0.1:3000/ -H "Authorization: Bearer $TOKEN" -H "X-Auth-User: root"    # 200; the user is still ada
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{StatusCode, Uri, Version};
use axum::response::{IntoResponse as _, Response};
use clap::Parser as _;
use countersign::{JwtAuth, scope};
use countersign_examples::Options;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// How long the upstream may take to begin its answer. How long the answer itself may take is its own affair: it may be a stream.
const PATIENCE: Duration = Duration::from_secs(10);

/// What concerns one connection only, and is not handed on (RFC 9110 §7.6.1). An upgrade is not handed on either: this proxy has none.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a client says of who stands behind it. Nobody stands before this proxy, so nobody else may say it.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    common: Options,
    /// Where admitted requests go: `http://host:port`.
    #[arg(long)]
    upstream: Option<Uri>,
}

#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Body>,
    upstream: Authority,
}

/// Called with good tokens only: the layer is around it. Bodies go through as they come, in both directions.
async fn pass_on(
    State(proxy): State<Proxy>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let host = request.headers().get(header::HOST).cloned();
    remove_hop_by_hop(request.headers_mut());
    for name in FORWARDED {
        request.headers_mut().remove(name);
    }
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    // A peer's address is always a header's value.
    if let Ok(peer) = HeaderValue::try_from(peer.ip().to_string()) {
        headers.insert("x-forwarded-for", peer);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }

    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(proxy.upstream.clone());
    target.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    let Ok(target) = Uri::from_parts(target) else { return StatusCode::BAD_REQUEST.into_response() };
    *request.uri_mut() = target;
    *request.version_mut() = Version::HTTP_11;

    match timeout(PATIENCE, proxy.client.request(request)).await {
        Ok(Ok(mut response)) => {
            remove_hop_by_hop(response.headers_mut());
            response.map(Body::new)
        }
        Ok(Err(_)) => StatusCode::BAD_GATEWAY.into_response(),
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

/// Those that are always, and those that `Connection` names. (The layer has taken the names of its own headers out of `Connection`, or a client
/// could have them removed here.)
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let connection =
        headers.get_all(header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named: Vec<_> = connection.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// An upstream to try the proxy with: it shows what it was sent.
async fn upstream() -> Result<Uri, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}", listener.local_addr()?).parse()?;
    let show = async |request: Request| {
        let (head, body) = request.into_parts();
        let mut shown = format!("{} {}\n", head.method, head.uri);
        for (name, value) in &head.headers {
            shown.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        let echo = axum::body::to_bytes(body, 1024).await.unwrap_or_default();
        shown.push_str(&String::from_utf8_lossy(&echo));
        shown
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(show)).await });
    Ok(uri)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Cli::parse();
    let trusted = options.common.trusted();
    let target = match options.upstream {
        Some(upstream) => upstream,
        None => upstream().await?,
    };
    let upstream = target.authority().cloned().ok_or("an upstream is http://host:port")?;

    let auth = JwtAuth::new(&*trusted.jwks_url)
        .issuer(&*trusted.issuer)
        .audience(&*options.common.audience)
        .require(scope("orders:read"))
        // Whoever gets hold of the upstream's logs gets hold of no token.
        .strip_token()
        .forward("sub", "x-auth-user")
        .forward("scope", "x-auth-scope")
        .forward("/tenant/id", "x-auth-tenant");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let app = Router::new().fallback(pass_on).with_state(Proxy { client, upstream }).layer(auth);

    let listener = TcpListener::bind(options.common.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
