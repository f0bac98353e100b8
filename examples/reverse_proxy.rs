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
use std::pin::pin;
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
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long the upstream may take to begin its answer, from the last that the client has sent on. How long either body may take is its
/// sender's affair: it may be a stream.
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
    // HTTP/2 has it in the target, and so may HTTP/1.1 (RFC 9112 §3.2.2).
    let authority = request.uri().authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
    let host = authority.or_else(|| request.headers().get(header::HOST).cloned());
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    remove_forwarded(headers);
    join_cookies(headers);
    headers.remove(header::HOST);
    // A peer's address is always a header's value.
    if let Ok(peer) = HeaderValue::try_from(peer.ip().to_string()) {
        headers.insert("x-forwarded-for", peer);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
    headers.append(header::VIA, HeaderValue::from_static("1.1 countersign-example"));

    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(proxy.upstream.clone());
    target.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    let Ok(target) = Uri::from_parts(target) else { return StatusCode::BAD_REQUEST.into_response() };
    *request.uri_mut() = target;
    *request.version_mut() = Version::HTTP_11;

    let (sent, mut progress) = watch::channel(());
    let request = request.map(|body| {
        let frames = body.map_frame(move |frame| {
            sent.send_replace(());
            frame
        });
        Body::new(frames)
    });
    let mut answer = pin!(proxy.client.request(request));
    loop {
        tokio::select! {
            answer = &mut answer => match answer {
                Ok(mut response) => {
                    remove_hop_by_hop(response.headers_mut());
                    return response.map(Body::new);
                }
                Err(_) => return StatusCode::BAD_GATEWAY.into_response(),
            },
            // Something was sent, or all of it: the time begins anew.
            Ok(()) = progress.changed() => {}
            () = sleep(PATIENCE) => return StatusCode::GATEWAY_TIMEOUT.into_response(),
        }
    }
}

/// What a client says of who stands behind it, in every spelling that an upstream may read alike. Nobody stands before this proxy, so
/// nobody else may say it.
fn remove_forwarded(headers: &mut HeaderMap) {
    let is_ours = |name: &HeaderName| {
        let name = name.as_str().replace('_', "-");
        name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
    };
    let made_up: Vec<_> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in made_up {
        headers.remove(name);
    }
}

/// HTTP/2 may split them, HTTP/1.1 may not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
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
    let is_bare = target.scheme() == Some(&Scheme::HTTP)
        && matches!(target.path_and_query().map(PathAndQuery::as_str), None | Some("/"));
    let upstream = target.authority().cloned().filter(|_| is_bare).ok_or("an upstream is http://host:port")?;

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
