//! What connections may do, over a router that does next to nothing.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use countersign_service::{ConnectionLimits, Tls, serve, serve_tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bench::read;

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) end: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<()>,
}

async fn served(limits: ConnectionLimits) -> (Served, std::sync::Arc<tokio::sync::Notify>) {
    served_with(limits, None).await
}

/// `/slow` answers when it is told to.
pub(crate) async fn served_with(
    limits: ConnectionLimits,
    tls: Option<Tls>,
) -> (Served, std::sync::Arc<tokio::sync::Notify>) {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let slow = {
        let go = std::sync::Arc::clone(&go);
        get(async move || {
            go.notified().await;
            "slow"
        })
    };
    let router = Router::new().route("/", get(async || "ok")).route("/slow", slow);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ending) = oneshot::channel();
    let shutdown = async {
        let _ = ending.await;
    };
    let ended = match tls {
        None => tokio::spawn(serve(listener, router, limits, shutdown)),
        Some(tls) => tokio::spawn(serve_tls(listener, tls, router, limits, shutdown)),
    };
    (Served { address, end, ended }, go)
}

pub(crate) fn limits() -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    limits.head_time = Duration::from_millis(300);
    limits
}

pub(crate) const LONG: Duration = Duration::from_secs(20);

async fn connect(served: &Served, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

pub(crate) fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_head_has_so_many_bytes_and_so_many_headers() {
    let (served, _) = served(limits()).await;
    let status = async |headers: &str| read(&mut connect(&served, &request("/", headers)).await).await.status;
    assert_eq!(status("").await, 200);
    assert_eq!(status(&format!("X: {}\r\n", "x".repeat(12_000))).await, 200);
    assert_eq!(status(&format!("X: {}\r\n", "x".repeat(17_000))).await, 431);
    assert_eq!(status(&"X: x\r\n".repeat(60)).await, 200);
    assert_eq!(status(&"X: x\r\n".repeat(70)).await, 431);
}

#[tokio::test]
async fn whoever_sends_nothing_or_half_a_head_or_lingers_is_cut_off() {
    let (served, _) = served(limits()).await;
    for sent in ["", "G", "GET / HTTP/1.1\r\nHost", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = connect(&served, sent).await;
        let mut rest = Vec::new();
        let ended = timeout(LONG, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{sent:?} holds its connection");
    }
}

#[tokio::test]
async fn no_more_connections_are_served_than_there_may_be() {
    let mut limits = limits();
    limits.connections = 2;
    limits.head_time = LONG;
    let (served, go) = served(limits).await;
    let mut held = [connect(&served, &request("/slow", "")).await, connect(&served, &request("/slow", "")).await];
    let mut third = connect(&served, &request("/", "")).await;
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(300), third.peek(&mut byte)).await.is_err(), "the third has to wait");
    for stream in &mut held {
        go.notify_one();
        assert_eq!(timeout(LONG, read(stream)).await.unwrap().body, b"slow");
    }
    assert_eq!(timeout(LONG, read(&mut third)).await.unwrap().body, b"ok");
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_answered_and_nobody_is_accepted_any_more() {
    let (served, go) = served(ConnectionLimits::default()).await;
    let mut under_way = connect(&served, &request("/slow", "")).await;
    let mut idle = connect(&served, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // Both are there: the one has its answer, and the other's handler has begun.
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.end.send(()).unwrap();
    let mut rest = Vec::new();
    timeout(LONG, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
    assert!(!served.ended.is_finished());
    go.notify_one();
    assert_eq!(timeout(LONG, read(&mut under_way)).await.unwrap().body, b"slow");
    timeout(LONG, served.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_under_way_for_too_long_is_not_waited_for() {
    let mut limits = limits();
    limits.connection_time = Duration::from_millis(200);
    limits.ending_time = Duration::from_millis(200);
    let (served, _go) = served(limits).await;
    let mut never = connect(&served, &request("/slow", "")).await;
    let mut rest = Vec::new();
    let _ = timeout(LONG, never.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    served.end.send(()).unwrap();
    timeout(LONG, served.ended).await.unwrap().unwrap();
}
