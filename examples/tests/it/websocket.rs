//! The WebSocket, by a real client.

use std::time::Duration;

use countersign::claims::DEFAULT_LEEWAY;
use countersign_examples::{Running, documented_calls_of};
use countersign_testkit::{IdentityProvider, Token};
use futures_util::SinkExt as _;
use http::header::{AUTHORIZATION, HeaderValue};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Accepted for two to three seconds more: time enough to connect.
fn short(idp: &IdentityProvider) -> Token {
    idp.token("orders").expired(DEFAULT_LEEWAY - Duration::from_secs(3))
}

async fn open(example: &Running, token: Option<&Token>) -> Result<Socket, Error> {
    open_with(example, token.map(|token| format!("Bearer {}", token.sign()).parse().unwrap())).await
}

async fn open_with(example: &Running, authorization: Option<HeaderValue>) -> Result<Socket, Error> {
    let mut request = format!("ws://{}/echo", example.address()).into_client_request()?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    Ok(connect_async(request).await?.0)
}

/// It says the same again.
async fn check_echo(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
}

#[tokio::test]
async fn a_socket_is_closed_when_its_token_expires_and_others_are_not() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("websocket", &idp);
    let mut long = open(&example, Some(&idp.token("orders"))).await.unwrap();
    let mut socket = open(&example, Some(&short(&idp))).await.unwrap();
    check_echo(&mut socket, "hello").await;

    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else { panic!("no reason") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Policy, "the token has expired"));
    assert!(socket.next().await.is_none(), "the connection is closed, after our own close");

    check_echo(&mut long, "still here").await;
    // A fresh token opens another.
    check_echo(&mut open(&example, Some(&short(&idp))).await.unwrap(), "again").await;
}

/// One that sends and never reads, so that the server can get rid of nothing.
#[tokio::test]
async fn no_socket_outlives_its_token_by_not_reading() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("websocket", &idp);
    let mut socket = open(&example, Some(&short(&idp))).await.unwrap();
    let text = "a".repeat(32 * 1024);
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while socket.send(Message::text(text.clone())).await.is_ok() {}
    });
    ended.await.expect("it is cut off");
}

#[tokio::test]
async fn nobody_without_a_good_token_opens_one() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("websocket", &idp);
    let expired = idp.token("orders").expired(Duration::from_secs(60));
    for token in [None, Some(&expired)] {
        let Err(Error::Http(response)) = open(&example, token).await else { panic!("it was let in") };
        assert_eq!(response.status(), 401);
    }
    let mut sent = 0;
    for hostile in idp.token("orders").hostile() {
        let name = hostile.attack;
        // Those with a made-up key's name may have to wait for a look; and this client sends nothing but ASCII.
        let sendable = |authorization: &HeaderValue| !hostile.names_unknown_key && authorization.to_str().is_ok();
        let Some(authorization) = hostile.authorization().filter(sendable) else { continue };
        let opened = open_with(&example, Some(authorization)).await;
        let Err(Error::Http(response)) = opened else { panic!("{name} was let in") };
        assert!(matches!(response.status().as_u16(), 400 | 401), "{name}: {}", response.status());
        assert!(response.headers()["www-authenticate"].to_str().unwrap().contains("error="), "{name}");
        sent += 1;
    }
    assert!(sent > 50, "{sent}");
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("websocket", include_str!("../../websocket.rs")).await;
}
