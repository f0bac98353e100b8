//! How often an address is told that its credentials are not good.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use countersign_service::{ConnectionLimits, serve};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};

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
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let body = orders().to_string();
    let headers = format!("{headers}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let request = format!("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n{body}");
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
async fn without_a_limit_every_failure_is_told() {
    let bench = Bench::new().await;
    let address = served(&bench).await;
    for _ in 0..200 {
        assert_eq!(post(address, "127.0.0.1", &bearer("a.b.c")).await.status, 401);
    }
}
