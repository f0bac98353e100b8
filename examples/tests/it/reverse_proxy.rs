//! The reverse proxy: what the upstream gets to see, and what it does not.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{any, get, post};
use bytes::Bytes;
use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::IdentityProvider;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

fn start(idp: &IdentityProvider, upstream: Option<&str>) -> Running {
    let (jwks_url, issuer) = (idp.jwks_url(), idp.issuer());
    let mut arguments = vec!["--jwks-url", &jwks_url, "--issuer", issuer, "--audience", "orders"];
    arguments.extend(upstream.iter().flat_map(|upstream| ["--upstream", upstream]));
    Running::start("reverse_proxy", &arguments)
}

/// An upstream of the test's own.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn the_upstream_sees_the_caller_and_neither_the_token_nor_what_the_client_made_up() {
    let idp = IdentityProvider::start();
    let example = start(&idp, None);
    let client = Client::http1();
    let token = idp.token("orders").scope("orders:read").claim("tenant", json!({ "id": "t 1\u{e9}" })).sign();
    let request = client
        .request("POST", &example.url("/a/b?c=d&e=%20"))
        .bearer_auth(&token)
        .header("x-auth-user", "root")
        .header("x_auth_scope", "admin")
        .header("x-forwarded-for", "10.0.0.1")
        .header("forwarded", "for=10.0.0.1")
        .header("x_forwarded_for", "10.0.0.1")
        .header("x-real-ip", "10.0.0.1")
        .header("x-forwarded-port", "10")
        .header("te", "trailers")
        .header("connection", "x-auth-user, x-mine")
        .header("x-mine", "of this connection")
        .header("x-other", "kept")
        .body("the body");
    let seen = client.send(request).await;
    assert_eq!(seen.status, 200, "{seen:?}");
    let lines: Vec<_> = seen.body.lines().collect();
    assert_eq!(lines[0], "POST /a/b?c=d&e=%20");
    assert_eq!(lines.last(), Some(&"the body"));
    for line in [
        "x-auth-user: ada",
        "x-auth-scope: orders:read",
        "x-auth-tenant: t 1%C3%A9",
        "x-forwarded-for: 127.0.0.1",
        "x-other: kept",
        "via: 1.1 countersign-example",
        &format!("x-forwarded-host: {}", example.address()),
    ] {
        assert_eq!(lines.iter().filter(|found| **found == line).count(), 1, "{line}: {}", seen.body);
    }
    for never in [
        &*token,
        "authorization",
        "root",
        "admin",
        "10.0.0.1",
        "x-mine",
        "trailers",
        "x_auth",
        "x_forwarded",
        "x-real-ip",
        "x-forwarded-port",
    ] {
        assert!(!seen.body.contains(never), "{never}: {}", seen.body);
    }
}

#[tokio::test]
async fn nobody_else_reaches_the_upstream() {
    let idp = IdentityProvider::start();
    let (tell, mut told) = mpsc::channel(1);
    let upstream = serve(Router::new().fallback(any(async move || {
        tell.try_send(()).unwrap();
    })))
    .await;
    let example = start(&idp, Some(&upstream));
    let client = Client::http1();
    assert_eq!(client.get_bare(&example.url("/")).await.status, 401);
    assert_eq!(client.get(&example.url("/"), &idp.token("orders").scope("orders:write")).await.status, 403);
    assert_eq!(client.get(&example.url("/"), &idp.token("invoices")).await.status, 401);
    assert!(told.try_recv().is_err());
    assert_eq!(client.get(&example.url("/"), &idp.token("orders").scope("orders:read")).await.status, 200);
    assert!(told.try_recv().is_ok());
}

#[tokio::test]
async fn bodies_go_through_as_they_come() {
    let idp = IdentityProvider::start();
    let echo = async |request: Request| Body::from_stream(request.into_body().into_data_stream());
    let upstream = serve(Router::new().route("/echo", any(echo))).await;
    let example = start(&idp, Some(&upstream));
    let (sender, pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let request = Client::http1()
        .request("POST", &example.url("/echo"))
        .bearer_auth(idp.token("orders").scope("orders:read").sign())
        .body(reqwest::Body::wrap_stream(ReceiverStream::new(pieces)));
    sender.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
    let response = request.send().await.unwrap();
    let mut echoed = response.bytes_stream();
    // Each comes back before the next has been sent.
    assert_eq!(&*echoed.next().await.unwrap().unwrap(), b"one");
    sender.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
    assert_eq!(&*echoed.next().await.unwrap().unwrap(), b"two");
    drop(sender);
    assert!(echoed.next().await.is_none());
}

#[tokio::test]
async fn over_http_2_cookies_are_joined_and_the_host_is_told() {
    let idp = IdentityProvider::start();
    let example = start(&idp, None);
    let client = Client::http2();
    let request = client.request("GET", &example.url("/")).bearer_auth(idp.token("orders").scope("orders:read").sign());
    let seen = client.send(request.header("cookie", "a=b").header("cookie", "c=d")).await;
    assert!(seen.body.contains("\ncookie: a=b; c=d\n"), "{}", seen.body);
    assert!(seen.body.contains(&format!("\nx-forwarded-host: {}\n", example.address())), "{}", seen.body);
}

/// The upstream answers when it has all; the client takes longer than an upstream may, and is never still for so long.
#[tokio::test]
async fn a_slow_upload_is_no_slow_upstream() {
    let idp = IdentityProvider::start();
    let collect = async |body: Bytes| body;
    let upstream = serve(Router::new().route("/", post(collect))).await;
    let example = start(&idp, Some(&upstream));
    let (sender, pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let request = Client::http1()
        .request("POST", &example.url("/"))
        .bearer_auth(idp.token("orders").scope("orders:read").sign())
        .body(reqwest::Body::wrap_stream(ReceiverStream::new(pieces)));
    let upload = async move {
        for _ in 0..3 {
            sender.send(Ok(Bytes::from_static(b"a"))).await.unwrap();
            // Real time, because the proxy is another process: in all, more than its patience of 10 s.
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    };
    let (response, ()) = tokio::join!(request.send(), upload);
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "aaa");
}

#[tokio::test]
async fn an_upstream_that_is_down_is_502_and_one_that_is_slow_504() {
    let idp = IdentityProvider::start();
    let token = idp.token("orders").scope("orders:read");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let example = start(&idp, Some(&format!("http://{gone}")));
    assert_eq!(Client::http1().get(&example.url("/"), &token).await.status, 502);

    let slow = serve(Router::new().route("/", get(async || tokio::time::sleep(Duration::from_secs(60)).await))).await;
    let example = start(&idp, Some(&slow));
    assert_eq!(Client::http1().get(&example.url("/"), &token).await.status, 504);
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("reverse_proxy", include_str!("../../reverse_proxy.rs")).await;
}
