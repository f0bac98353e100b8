//! Among the layers of tower and tower-http, in the right order: `cargo run --example tower_http`.
//!
//! ```text
//! TOKEN=…                                                                      # the token that it prints
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"        # 200
//! curl -i http://127.0.0.1:3000/hello                                          # 401, with an x-request-id
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer a.b.c"         # 401; 429 from the eleventh on
//! curl -i -X OPTIONS http://127.0.0.1:3000/hello -H "Origin: https://app.example" -H "Access-Control-Request-Method: GET" # 200
//! curl -i http://127.0.0.1:3000/panic -H "Authorization: Bearer $TOKEN"        # 500
//! ```
//!
//! A `ServiceBuilder` is read from top to bottom, as a request comes in: the first layer is the outermost, sees every request
//! first and every answer last. What stands above the authentication works for strangers too, what stands below only for
//! callers with a good token.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{BoxError, Router};
use bytes::Bytes;
use clap::Parser;
use countersign::{Authenticated, JwtAuth, PeerLimit};
use countersign_examples::Options;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::{SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::{DefaultMakeSpan, DefaultOnRequest, DefaultOnResponse, TraceLayer};
use tracing::Level;

/// Refusals a minute for each address, and at once: a client in good faith causes one or two when its keys have changed.
const REFUSALS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// More is no order.
const MAX_BODY: usize = 1024 * 1024;

#[derive(Parser)]
struct StackOptions {
    #[command(flatten)]
    common: Options,
    /// How many milliseconds a handler may take.
    #[arg(long, default_value_t = 10_000)]
    timeout: u64,
    /// How many requests may be in handlers at once.
    #[arg(long, default_value_t = 256)]
    at_once: usize,
}

async fn hello(caller: Authenticated) -> impl IntoResponse {
    let greeting = format!("Hello, {}!", caller.subject().unwrap_or("stranger"));
    ([(SET_COOKIE, "__Host-greeted=today; Path=/; Secure; HttpOnly")], greeting)
}

async fn upload(order: Bytes) -> String {
    format!("{} octets", order.len())
}

#[expect(clippy::panic, reason = "to show what becomes of it")]
async fn broken() -> &'static str {
    panic!("this handler is broken")
}

fn app(auth: JwtAuth, options: &StackOptions) -> Router {
    let limit = PeerLimit::per_minute(REFUSALS, |_headers, extensions| {
        extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
    });
    let stack = ServiceBuilder::new()
        // Above the trace, or it would have written the token down before anybody marked it. No token in the query here: the
        // trace has the URI, and nothing can be marked in that.
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, COOKIE]))
        // Above the trace, whose span then has it. One that the client has sent stays: behind a proxy that is the proxy's.
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        // Above everything that answers by itself, so that refusals, preflights and timeouts are traced as well.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(DefaultMakeSpan::new().level(Level::INFO).include_headers(true))
                .on_request(DefaultOnRequest::new().level(Level::INFO))
                .on_response(DefaultOnResponse::new().level(Level::INFO).include_headers(true)),
        )
        // Answers come from below: what is to be marked in them has to be marked below the trace.
        .layer(SetSensitiveResponseHeadersLayer::new([SET_COOKIE]))
        // Above everything that answers by itself: who complains of a refusal can say which.
        .layer(PropagateRequestIdLayer::x_request_id())
        // Above the authentication, because a preflight has no token, and because a browser hides from its script every answer
        // without these headers: of a 401 it would see a network error, and not the challenge that says what to do.
        .layer(
            CorsLayer::new()
                .allow_origin(HeaderValue::from_static("https://app.example"))
                .allow_methods([Method::GET, Method::POST])
                .allow_headers([AUTHORIZATION, CONTENT_TYPE])
                .expose_headers([WWW_AUTHENTICATE, RETRY_AFTER, HeaderName::from_static("x-request-id")]),
        )
        // Below the trace and CORS, so that a panic is a 500 which is traced and which a browser can read.
        .layer(CatchPanicLayer::new())
        // Here strangers end. Above the limits on what handlers may use, so that they use nothing of it; they are slowed by
        // their address, which good tokens from there do not notice.
        .layer(auth.limit_refusals(limit))
        // Below the authentication, whose wait for a key has a limit of its own (two seconds) and is not the handler's. Above
        // the body's limit, so that an upload which drips counts. 503, because 408 would say that the client was too slow,
        // and 504 that somebody behind us was.
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_millis(options.timeout)))
        // Two that belong together: without the first, requests would queue for the second instead of being answered. axum
        // wants an answer for every error, and load shedding is one. `Global`, because axum calls a layer once per route, and
        // each would have a limit of its own.
        .layer(HandleErrorLayer::new(async |_: BoxError| StatusCode::SERVICE_UNAVAILABLE))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(options.at_once))
        // Below the authentication: a stranger's upload is refused for want of a token, and none of it is read. What is too
        // long by its own account is 413 at once; what does not say so, when the handler has read so much.
        .layer(RequestBodyLimitLayer::new(MAX_BODY));
    // No compression: an answer that holds a secret beside something of the client's choice gives the secret away by its
    // length (BREACH). Where answers are neither, it belongs above the authentication and below the trace.
    Router::new()
        .route("/hello", get(hello))
        .route("/upload", post(upload))
        .route("/slow", get(std::future::pending::<String>))
        .route("/panic", get(broken))
        .layer(stack)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = StackOptions::parse();
    // Whoever collects standard output knows the time.
    tracing_subscriber::fmt().without_time().with_level(false).with_ansi(false).init();
    let trusted = options.common.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.common.audience);
    // For `ConnectInfo`: without it all peers are counted as one.
    let app = app(auth, &options).into_make_service_with_connect_info::<SocketAddr>();

    let listener = TcpListener::bind(options.common.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
