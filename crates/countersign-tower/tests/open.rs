//! Exempt paths and preflights over real sockets, under axum: whatever axum makes of a path, no protected handler is reached through one
//! that is exempt.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![cfg(feature = "axum")]

mod common;

use std::net::SocketAddr;

use axum::Router;
use axum::routing::any;
use common::{Heard, Issuer};
use countersign_tower::{Authenticated, Caller};
use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a protected handler says; nobody without a token may read it.
const SECRET: &str = "the secret";

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// The octets of a request, with its target as it is, and what comes back until the connection ends.
async fn send(address: SocketAddr, method: &str, target: &[u8], headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut octets = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"].concat();
    octets.extend(format!("host: api.example\r\nconnection: close\r\n{headers}\r\n").bytes());
    stream.write_all(&octets).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

fn secret() -> axum::routing::MethodRouter {
    any(async |uri: Uri| format!("{SECRET} of {uri}"))
}

/// What reads a path in ways of its own: captures, a nested router, a service, and what is left.
fn routes() -> Router {
    let open = || any(async || "open");
    Router::new()
        .route("/healthz", open())
        .route("/public/", open())
        .route("/public/{*rest}", open())
        .route("/orders", secret())
        .route("/orders/{id}", secret())
        .route("/orders/public/{*rest}", secret())
        .nest("/api", Router::new().route("/healthz", secret()).route("/public/{*rest}", secret()).fallback(secret()))
        .nest_service("/service", secret())
        .route("/{tenant}/healthz", secret())
        .fallback(async |uri: Uri| format!("{SECRET} of {uri}"))
}

/// Whether a protected handler could have been meant: all but those that are exempt to the letter.
const TARGETS: [&[u8]; 44] = [
    b"/",
    b"/orders",
    b"//orders",
    b"/./orders",
    b"/healthz/",
    b"//healthz",
    b"/healthz//",
    b"/healthz/orders",
    b"/healthz/../orders",
    b"/healthz;/orders",
    b"/healthz%2f..%2forders",
    b"/healthz%00",
    b"/healthz%20",
    b"/HEALTHZ",
    b"/%68ealthz",
    b"/public",
    b"/public%2f",
    b"/publicity",
    b"/Public/a",
    b"/public/..",
    b"/public/../orders",
    b"/public/./../orders",
    b"/public/a/../../orders",
    b"/public//orders",
    b"/public/%2e%2e/orders",
    b"/public/%2E%2e%2Forders",
    b"/public/.%2e/orders",
    b"/public/%252e%252e/orders",
    b"/public/..%5corders",
    b"/public/..\\orders",
    b"/public/..;/orders",
    b"/public/;/../orders",
    b"/public/..%00/orders",
    b"/public/\xc0\xae\xc0\xae/orders",
    b"/public/\xef\xbc\x8e\xef\xbc\x8e/orders",
    b"/orders?/public/a",
    b"/orders#/public/a",
    b"/orders/public/a",
    b"/api/healthz",
    b"/api/public/a",
    b"/service/public/a",
    b"/service/healthz",
    b"/t1/healthz",
    b"?/healthz",
];

#[tokio::test]
async fn no_protected_handler_is_reached_through_an_exempt_path() {
    let issuer = Issuer::new();
    let layer = issuer.layer().exempt("/healthz").exempt("/public/*");
    let within = serve(routes().layer(layer.clone())).await;
    let around = serve(Router::new().fallback_service(tower::Layer::layer(&layer, routes()))).await;
    let token = format!("authorization: Bearer {}\r\n", issuer.token(""));
    for address in [within, around] {
        for target in TARGETS {
            let absolute = [b"http://api.example", target].concat();
            for target in [target, &absolute] {
                for method in ["GET", "POST", "OPTIONS", "HEAD"] {
                    let (status, answer) = send(address, method, target, "").await;
                    let target = String::from_utf8_lossy(target);
                    // What hyper does not take for a URI never comes here.
                    assert!(status == 401 || status == 400, "{method} {target}: {answer}");
                    assert!(!answer.contains(SECRET), "{method} {target}: {answer}");
                }
                // And with a token each of them does lead somewhere, or this would prove nothing.
                let (status, answer) = send(address, "GET", target, &token).await;
                let is_there = status == 200 || status == 400;
                assert!(is_there, "{}: {answer}", String::from_utf8_lossy(target));
            }
        }
        for (method, target) in [
            ("OPTIONS", "*"),
            ("GET", "*"),
            ("CONNECT", "orders.example:443"),
            ("CONNECT", "healthz:80"),
            ("GET", "http://api.example"),
            ("GET", "http://healthz/orders"),
            ("GET", "healthz"),
            ("GET", ""),
        ] {
            let (status, answer) = send(address, method, target.as_bytes(), "").await;
            assert!(status == 401 || status == 400, "{method} {target:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn what_is_exempt_is_open_to_all_and_without_a_caller() {
    let issuer = Issuer::new();
    let heard = Heard::default();
    let layer = issuer.layer().exempt("/healthz").exempt("/public/*").exempt("/who").observe(heard.clone());
    let who = any(async |caller: Caller| format!("{caller:?}"));
    let must = any(async |_: Authenticated| SECRET);
    let app = routes().route("/who", who).route("/public/must", must).layer(layer);
    let address = serve(app).await;
    for target in
        ["/healthz", "/healthz?a=/../b", "/public/", "/public/a/b.css", "/public/...", "http://other.example/healthz"]
    {
        for credentials in ["", "authorization: Bearer a b\r\n", "authorization: Bearer a.b.c\r\n"] {
            let (status, answer) = send(address, "GET", target.as_bytes(), credentials).await;
            assert!(status == 200 && answer.ends_with("open"), "{target}: {answer}");
            assert_eq!(heard.take(), ["exempt -"]);
        }
    }
    // A good token is not looked at either.
    let token = format!("authorization: Bearer {}\r\n", issuer.token(""));
    assert!(send(address, "GET", b"/who", &token).await.1.ends_with("Anonymous"));
    let (status, answer) = send(address, "GET", b"/public/must", &token).await;
    assert!(status == 401 && !answer.contains(SECRET), "{answer}");
}

#[tokio::test]
async fn a_path_is_exempt_as_the_layer_sees_it() {
    let issuer = Issuer::new();
    let layer = issuer.layer().exempt("/healthz").exempt("/");
    let inner = Router::new().route("/", any(async || "root")).route("/healthz", any(async || "up"));
    let inner = inner.route("/orders", secret()).layer(layer);
    let address = serve(Router::new().nest("/api", inner).route("/healthz", secret()).fallback(secret())).await;
    for (target, status) in [("/api/healthz", 200), ("/api", 200), ("/api/orders", 401), ("/api//healthz", 200)] {
        let (told, answer) = send(address, "GET", target.as_bytes(), "").await;
        // `/api//healthz` is axum's fallback, outside of this layer.
        assert!(told == status && (target == "/api//healthz") == answer.contains(SECRET), "{target}: {answer}");
    }
}

#[tokio::test]
async fn a_preflight_passes_and_nothing_that_resembles_one() {
    let issuer = Issuer::new();
    let heard = Heard::default();
    let layer = issuer.layer().allow_cors_preflight().observe(heard.clone());
    let route = any(async |caller: Caller| format!("{caller:?}"));
    let app = Router::new().route("/orders", route).route("/must", any(async |_: Authenticated| SECRET)).layer(layer);
    let address = serve(app).await;
    const PREFLIGHT: &str = "origin: https://app.example\r\naccess-control-request-method: DELETE\r\n";
    let (status, answer) = send(address, "OPTIONS", b"/orders", PREFLIGHT).await;
    assert!(status == 200 && answer.ends_with("Anonymous"), "{answer}");
    assert_eq!(heard.take(), ["preflight -"]);
    assert_eq!(send(address, "OPTIONS", b"/must", PREFLIGHT).await.0, 401);
    assert_eq!(heard.take(), ["preflight -", "refused no_credentials by handler"]);
    for (method, headers) in [
        ("GET", PREFLIGHT.to_owned()),
        ("POST", PREFLIGHT.to_owned()),
        ("POST", format!("{PREFLIGHT}x-http-method-override: OPTIONS\r\n")),
        ("options", PREFLIGHT.to_owned()),
        ("OPTIONS", String::new()),
        ("OPTIONS", "origin: https://app.example\r\n".into()),
        ("OPTIONS", "access-control-request-method: DELETE\r\n".into()),
        ("OPTIONS", "origin:\r\naccess-control-request-method: DELETE\r\n".into()),
        ("OPTIONS", "origin: a\r\naccess-control-request-method: a b\r\n".into()),
        ("OPTIONS", format!("{PREFLIGHT}origin: https://b.example\r\n")),
        ("OPTIONS", format!("{PREFLIGHT}access-control-request-method: GET\r\n")),
    ] {
        let (status, answer) = send(address, method, b"/orders", &headers).await;
        assert_eq!(status, 401, "{method} {headers}: {answer}");
    }
    // Not where nobody has asked for it.
    let strict = serve(Router::new().route("/orders", secret()).layer(issuer.layer())).await;
    assert_eq!(send(strict, "OPTIONS", b"/orders", PREFLIGHT).await.0, 401);
}
