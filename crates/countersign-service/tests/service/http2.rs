//! HTTP/2, which there is over TLS only and for those who ask for it.

use std::time::Duration;

use bytes::Bytes;
use countersign_service::{ConnectionLimits, MAX_HEADERS, MAX_RESET_STREAMS, MAX_STREAMS, Tls};
use h2::client::SendRequest;
use http::{HeaderValue, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::connections::{LONG, Served, limits, served_with};
use crate::pki::{Authority, BOTH, client, secure};

struct Bench {
    authority: Authority,
    served: Served,
    go: std::sync::Arc<tokio::sync::Notify>,
}

struct Connected {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Bench {
    async fn new(limits: ConnectionLimits) -> Self {
        let authority = Authority::new("a");
        let tls = Tls::new(&authority.service(), ()).unwrap();
        let (served, go) = served_with(limits, Some(tls)).await;
        Self { authority, served, go }
    }

    async fn stream(&self) -> TlsStream<TcpStream> {
        let config = client(&self.authority, None, &["h2", "http/1.1"], BOTH);
        let stream = secure(config, TcpStream::connect(self.served.address).await.unwrap()).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream
    }

    async fn connect(&self) -> Connected {
        let (requests, connection) = h2::client::handshake(self.stream().await).await.unwrap();
        Connected { requests, connection: tokio::spawn(connection) }
    }
}

fn request(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}")).body(()).unwrap()
}

impl Connected {
    async fn status(&mut self, request: Request<()>) -> Result<u16, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (answer, _) = requests.send_request(request, true)?;
        Ok(answer.await?.status().as_u16())
    }
}

#[tokio::test]
async fn many_requests_go_over_one_connection_and_no_more_at_once_than_it_may_have() {
    let bench = Bench::new(ConnectionLimits::default()).await;
    let mut connected = bench.connect().await;
    assert_eq!(connected.status(request("/")).await.unwrap(), 200);
    assert_eq!(connected.requests.current_max_send_streams(), MAX_STREAMS as usize);
    let mut answers = Vec::new();
    for _ in 0..2 * MAX_STREAMS {
        let requests = connected.requests.clone();
        answers.push(tokio::spawn(async move {
            let mut requests = requests.ready().await.unwrap();
            requests.send_request(request("/slow"), true).unwrap().0.await.unwrap().status().as_u16()
        }));
    }
    for answer in answers {
        bench.go.notify_waiters();
        bench.go.notify_one();
        while !answer.is_finished() {
            bench.go.notify_waiters();
            tokio::task::yield_now().await;
        }
        assert_eq!(answer.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_head_has_no_more_in_it_than_over_http_1_1() {
    let bench = Bench::new(ConnectionLimits::default()).await;
    let mut connected = bench.connect().await;
    let with = |bytes: usize, headers: usize| {
        let mut request = request("/");
        for _ in 0..headers {
            let value = HeaderValue::from_str(&"x".repeat(bytes)).unwrap();
            request.headers_mut().append("x", value);
        }
        request
    };
    assert_eq!(connected.status(with(12_000, 1)).await.unwrap(), 200);
    assert_eq!(connected.status(with(17_000, 1)).await.unwrap(), 431);
    assert_eq!(connected.status(with(1, MAX_HEADERS)).await.unwrap(), 200);
    assert_eq!(connected.status(with(1, MAX_HEADERS + 1)).await.unwrap(), 431);
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `GET https://x/slow`, which ends its stream.
fn get_slow(stream: u32) -> Vec<u8> {
    let mut head = vec![0x82, 0x87, 0x01, 1, b'x', 0x04, 5];
    head.extend(b"/slow");
    frame(1, 0x5, stream, &head)
}

/// The code of the GOAWAY that a connection ends with; `None` if it ends without, or with none at all.
async fn goaway(mut stream: TlsStream<TcpStream>) -> Option<u32> {
    let mut answer = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
    let mut rest = &answer[..];
    let mut code = None;
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        if rest[3] == 7 {
            code = Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
        }
        rest = &rest[9 + length..];
    }
    code
}

const ENHANCE_YOUR_CALM: u32 = 0xB;

#[tokio::test]
async fn whoever_takes_back_what_he_asks_for_is_cut_off() {
    let bench = Bench::new(ConnectionLimits::default()).await;
    let send = async |resets: usize| {
        let mut stream = bench.stream().await;
        let mut sent = [PREFACE, &frame(4, 0, 0, &[])].concat();
        for index in 0..resets {
            let id = u32::try_from(2 * index + 1).unwrap();
            sent.extend(get_slow(id));
            sent.extend(frame(3, 0, id, &8_u32.to_be_bytes()));
        }
        stream.write_all(&sent).await.unwrap();
        stream
    };
    assert_eq!(goaway(send(20 * MAX_RESET_STREAMS).await).await, Some(ENHANCE_YOUR_CALM));
    // A few are nothing: the connection goes on until it has been idle for long enough.
    let mut some = send(MAX_RESET_STREAMS / 2).await;
    some.write_all(&frame(6, 0, 0, &[7; 8])).await.unwrap();
    let mut answer: Vec<u8> = Vec::new();
    while !answer.windows(8).any(|octets| octets == [7; 8]) {
        let mut octets = [0; 1_024];
        let read = timeout(LONG, some.read(&mut octets)).await.unwrap().unwrap();
        assert!(read > 0, "cut off");
        answer.extend(&octets[..read]);
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let bench = Bench::new(ConnectionLimits::default()).await;
    let mut stream = bench.stream().await;
    let mut sent = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 0, 1, &[0x82])].concat();
    // CONTINUATION, and never the end (CVE-2024-27316).
    for _ in 0..10_000 {
        sent.extend(frame(9, 0, 1, &[0x00, 1, b'a', 1, b'b']));
    }
    let _ = stream.write_all(&sent).await;
    let _ = goaway(stream).await;
}

#[tokio::test]
async fn whoever_asks_for_nothing_is_cut_off() {
    let mut limits = limits();
    // For the end of the connection's own (GOAWAY, and an answer to it, which never comes).
    limits.ending_time = limits.head_time;
    let bench = Bench::new(limits).await;
    let half = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 0, 1, &[0x82])].concat();
    for sent in [&b""[..], b"P", PREFACE, &half] {
        let mut stream = bench.stream().await;
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{sent:?} holds its connection");
    }
    // Over one that is idle after a request too; not while there is one.
    let mut connected = bench.connect().await;
    let mut slow = connected.requests.clone().ready().await.unwrap();
    let (answer, _) = slow.send_request(request("/slow"), true).unwrap();
    tokio::time::sleep(3 * limits.head_time).await;
    assert!(!connected.connection.is_finished());
    bench.go.notify_one();
    assert_eq!(answer.await.unwrap().status(), 200);
    drop(slow);
    timeout(LONG, &mut connected.connection).await.unwrap().unwrap().unwrap();
    assert!(connected.status(request("/")).await.is_err());
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_answered() {
    let bench = Bench::new(ConnectionLimits::default()).await;
    let mut connected = bench.connect().await;
    assert_eq!(connected.status(request("/")).await.unwrap(), 200);
    let mut slow = connected.requests.clone().ready().await.unwrap();
    let (answer, _) = slow.send_request(request("/slow"), true).unwrap();
    // The request is there when a later one has been answered.
    assert_eq!(connected.status(request("/")).await.unwrap(), 200);
    bench.served.end.send(()).unwrap();
    // No other is taken any more.
    let refused = async {
        while connected.status(request("/")).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, refused).await.unwrap();
    bench.go.notify_one();
    assert_eq!(timeout(LONG, answer).await.unwrap().unwrap().status(), 200);
    drop((slow, connected));
    timeout(LONG, bench.served.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn there_is_none_without_tls() {
    let (served, _) = served_with(ConnectionLimits::default(), None).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
}
