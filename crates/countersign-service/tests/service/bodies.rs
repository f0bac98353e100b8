//! Bodies that are half sent, and what is left for others.

use axum::body::Bytes;
use countersign_service::{ConnectionLimits, MAX_BODY_BYTES, Tls, serve_tls};
use h2::client::SendRequest;
use h2::{Reason, SendStream};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::admin::with_operators;
use crate::bench::{Bench, bearer, orders, read};
use crate::pki::{Authority, BOTH, client, secure};

/// With room for one body of the longest.
async fn narrow() -> Bench {
    Bench::made(with_operators, |builder| builder.bodies_at_once(MAX_BODY_BYTES)).await
}

/// More than half of the longest, so that it takes as much as that.
const HALF: usize = MAX_BODY_BYTES / 2 + 1;

/// `ask` until it says so: what others have sent, or taken back, comes when it comes.
async fn until(status: u16, mut ask: impl AsyncFnMut() -> u16) {
    for _ in 0..1_000 {
        if ask().await == status {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never {status}");
}

/// A request for a token with as much space behind it as one may have.
fn long() -> String {
    let orders = orders().to_string();
    format!("{orders}{}", " ".repeat(MAX_BODY_BYTES - orders.len()))
}

async fn half_sent(bench: &Bench) -> TcpStream {
    let head = format!("{}Content-Type: application/json\r\nConnection: close\r\n", bearer(&bench.assertion()));
    let head = format!("POST /v1/tokens HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {MAX_BODY_BYTES}\r\n\r\n");
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&long().as_bytes()[..HALF]).await.unwrap();
    stream
}

#[tokio::test]
async fn more_bodies_than_there_is_room_for_are_503_on_every_route_until_others_have_ended() {
    let bench = narrow().await;
    let mut held = half_sent(&bench).await;
    until(503, async || bench.ask(&orders()).await.status).await;
    let full = (503, "temporarily_unavailable".to_owned());
    assert_eq!(bench.ask(&orders()).await.refusal(), full);
    let batch = json!({ "requests": [orders()] });
    assert_eq!(bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &batch).await.refusal(), full);
    let order = json!({ "mode": "standby", "reason": "drill", "dry_run": true });
    let signed = bearer(&bench.signed("ops", "POST", "/v1/keys:rotate", &order.to_string()));
    assert_eq!(bench.post("/v1/keys:rotate", &signed, &order).await.refusal(), full);
    // Whatever has no body has all the room that it needs.
    let listed = bearer(&bench.signed("ops", "GET", "/v1/keys", ""));
    assert_eq!(bench.get_with("/v1/keys", &listed).await.status, 200);
    // Nobody else's body has been cut off.
    held.write_all(&long().as_bytes()[HALF..]).await.unwrap();
    assert_eq!(read(&mut held).await.status, 200);
    assert_eq!(bench.ask(&orders()).await.status, 200);
    // The request that was refused can come again as it is.
    assert_eq!(bench.post("/v1/keys:rotate", &signed, &order).await.status, 200);
    // Nor does one keep its room whose client goes.
    let held = half_sent(&bench).await;
    until(503, async || bench.ask(&orders()).await.status).await;
    drop(held);
    until(200, async || bench.ask(&orders()).await.status).await;
}

struct Connected(SendRequest<Bytes>);

impl Connected {
    async fn new(bench: &Bench) -> Self {
        let authority = Authority::new("a");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, router) = (Tls::new(&authority.service(), ()).unwrap(), bench.service.router());
        tokio::spawn(serve_tls(listener, tls, router, ConnectionLimits::default(), std::future::pending()));
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = secure(client(&authority, None, &["h2"], BOTH), stream).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(requests)
    }

    async fn begin(
        &mut self,
        bench: &Bench,
        body: &[u8],
        is_all: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = Request::post("https://localhost/v1/tokens")
            .header("authorization", format!("Bearer {}", bench.assertion()))
            .header("content-type", "application/json");
        let mut requests = self.0.clone().ready().await.unwrap();
        let (answer, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::copy_from_slice(body), is_all).unwrap();
        (answer, stream)
    }

    async fn ask(&mut self, bench: &Bench) -> Response<h2::RecvStream> {
        self.begin(bench, orders().to_string().as_bytes(), true).await.0.await.unwrap()
    }
}

#[tokio::test]
async fn half_sent_bodies_over_http_2_take_no_more_than_there_is_room_for_and_give_it_back_when_they_are_reset() {
    let bench = narrow().await;
    let mut connected = Connected::new(&bench).await;
    let (_answer, mut held) = connected.begin(&bench, &long().as_bytes()[..HALF], false).await;
    until(503, async || connected.ask(&bench).await.status().as_u16()).await;
    let mut refused = connected.ask(&bench).await;
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    let body: Value = serde_json::from_slice(&refused.body_mut().data().await.unwrap().unwrap()).unwrap();
    assert_eq!(body["error"], "temporarily_unavailable");
    held.send_reset(Reason::CANCEL);
    until(200, async || connected.ask(&bench).await.status().as_u16()).await;
}
