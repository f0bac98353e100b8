//! How often an address is told that its credentials are not good.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use countersign_service::{ConnectionLimits, serve};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};

use crate::admin::with_operators;
use crate::bench::{Answer, Bench, bearer, orders, read};

const A_MINUTE: NonZeroU32 = NonZeroU32::new(3).unwrap();

async fn served(bench: &Bench) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = bench.service.router();
    tokio::spawn(serve(listener, router, ConnectionLimits::default(), std::future::pending()));
    address
}

async fn post(to: SocketAddr, from: &str, headers: &str) -> Answer {
    send(to, from, "POST", "/v1/tokens", headers, &orders().to_string()).await
}

async fn send(to: SocketAddr, from: &str, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let headers = format!("{headers}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    read(&mut stream).await
}

#[tokio::test]
async fn failures_of_an_address_are_limited_and_neither_its_good_credentials_nor_its_neighbours() {
    let bench = Bench::made(|policy| policy, |builder| builder.failed_authentications(A_MINUTE)).await;
    let address = served(&bench).await;
    let bad = async |from: &str| post(address, from, &bearer("a.b.c")).await.refusal();
    let malformed = async |from: &str| post(address, from, "Authorization: Bearer \r\n").await.refusal();
    let (wrong, limited) = ((401, "invalid_client".to_owned()), (429, "rate_limited".to_owned()));
    // To show nothing is no failure.
    for _ in 0..10 {
        assert_eq!(post(address, "127.0.0.1", "").await.status, 401);
    }
    assert_eq!((bad("127.0.0.1").await, bad("127.0.0.1").await), (wrong.clone(), wrong.clone()));
    assert_eq!(malformed("127.0.0.1").await.0, 400);
    for _ in 0..3 {
        assert_eq!(bad("127.0.0.1").await, limited);
        assert_eq!(malformed("127.0.0.1").await, limited);
        // Good credentials are taken all the same, and unlock nothing.
        assert_eq!(post(address, "127.0.0.1", &bearer(&bench.assertion())).await.status, 200);
    }
    // What is said in headers of where a request comes from is nobody's business.
    let forwarded = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n".to_owned() + &bearer("a.b.c");
    assert_eq!(post(address, "127.0.0.1", &forwarded).await.refusal(), limited);
    assert_eq!(bad("127.0.0.2").await, wrong);
}

#[tokio::test]
async fn each_way_to_fail_is_counted_and_limited_in_the_same_manner() {
    let bench = Bench::made(with_operators, |builder| builder.failed_authentications(A_MINUTE)).await;
    let address = served(&bench).await;
    let order = r#"{ "mode": "standby", "reason": "drill", "dry_run": true }"#;
    let rotate = async |from: &str, headers: &str| send(address, from, "POST", "/v1/keys:rotate", headers, order).await;
    let signed = |path: &str, body: &str| bearer(&bench.signed("ops", "POST", path, body));
    let seen = signed("/v1/keys:rotate", order);
    assert_eq!(rotate("127.0.0.9", &seen).await.status, 200);
    // Where from, what is shown, to which route, and what that is answered.
    let tokens = "/v1/tokens";
    let keys = "/v1/keys:rotate";
    for (from, path, shown, status) in [
        ("127.0.0.1", tokens, bearer("a.b.c"), 401),
        ("127.0.0.2", tokens, "Authorization: Bearer \r\n".to_owned(), 400),
        // Good tokens, of another body and of another request.
        ("127.0.0.3", tokens, signed(tokens, "{}"), 401),
        ("127.0.0.4", tokens, signed(keys, order), 401),
        ("127.0.0.5", keys, bearer("a.b.c"), 401),
        ("127.0.0.6", keys, "Authorization: Bearer \r\n".to_owned(), 400),
        ("127.0.0.7", keys, signed(keys, "{}"), 401),
        ("127.0.0.8", keys, signed(tokens, order), 401),
        ("127.0.0.9", keys, seen, 401),
    ] {
        let fail = async || match path {
            "/v1/tokens" => post(address, from, &shown).await,
            _ => rotate(from, &shown).await,
        };
        for _ in 0..A_MINUTE.get() {
            assert_eq!(fail().await.status, status, "{from} {path}");
        }
        let limited = (429, "rate_limited".to_owned());
        assert_eq!(fail().await.refusal(), limited, "{from} {path}");
        // All of them are one count, and what is good is none.
        assert_eq!(post(address, from, &bearer("a.b.c")).await.refusal(), limited);
        assert_eq!(rotate(from, &bearer("a.b.c")).await.refusal(), limited);
        assert_eq!(rotate(from, &signed(keys, order)).await.status, 200);
        assert_eq!(rotate(from, "").await.status, 401, "who shows nothing is told so");
    }
    // Neither to show nothing nor to lack a right is a failure.
    for _ in 0..2 * A_MINUTE.get() {
        assert_eq!(rotate("127.0.0.10", "").await.status, 401);
        let listed = bearer(&bench.signed("reader", "POST", keys, order));
        assert_eq!(rotate("127.0.0.10", &listed).await.status, 403);
    }
    assert_eq!(post(address, "127.0.0.10", &bearer("a.b.c")).await.status, 401);
}

#[tokio::test]
async fn without_a_limit_every_failure_is_told() {
    let bench = Bench::new().await;
    let address = served(&bench).await;
    for _ in 0..200 {
        assert_eq!(post(address, "127.0.0.1", &bearer("a.b.c")).await.status, 401);
    }
}
