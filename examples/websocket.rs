//! A WebSocket that is closed when its token expires: `cargo run --example websocket`.
//!
//! The token comes with the request that opens it, in the header `Authorization`. Every text comes back, until the token would be
//! refused: then the socket is closed with code 1008 (RFC 6455 §7.4.1) and the reason, and the client opens another with a fresh token.
//!
//! ```text
//! TOKEN=…                                                                                     # the token that it prints
//! websocat -H "Authorization: Bearer $TOKEN" ws://127.0.0.1:3000/echo                         # or any other client
//! URL=http://127.0.0.1:3000/echo
//! curl -i $URL                                                                                # 401
//! curl -i $URL -H "Authorization: Bearer $TOKEN"                                              # 400, no WebSocket
//! curl -i -m 2 $URL -H "Authorization: Bearer $TOKEN" -H "Connection: Upgrade" -H "Upgrade: websocket" -H "Sec-WebSocket-Version: 13" -H "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="    # 101
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use axum::routing::any;
use clap::Parser as _;
use countersign::{Authenticated, Deadline, Ended, JwtAuth};
use countersign_examples::Options;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// The longest message; whoever sends more is cut off.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How long a client may take to read that its time is over, and to say that it has.
const PATIENCE: Duration = Duration::from_secs(5);

async fn open(caller: Authenticated, upgrade: WebSocketUpgrade) -> Response {
    let deadline = caller.deadline();
    upgrade.max_message_size(MAX_MESSAGE_BYTES).on_upgrade(move |socket| serve(socket, deadline))
}

async fn serve(mut socket: WebSocket, deadline: Deadline) {
    // Beside all of it and not between two messages, or a client that does not read what we send would stay.
    let ended = tokio::select! {
        biased;
        ended = deadline.passed() => ended,
        () = echo(&mut socket) => return,
    };
    // How it takes it is the client's affair.
    let _ = timeout(PATIENCE, close(socket, ended)).await;
}

async fn echo(socket: &mut WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message
            && socket.send(Message::Text(text)).await.is_err()
        {
            return;
        }
    }
}

/// Says why, and waits for the client's own close: hanging up on what it has still sent might take our word away from it.
async fn close(mut socket: WebSocket, ended: Ended) {
    // With the one, it may come again with the same token.
    let code = if ended == Ended::RevocationsStale { close_code::AGAIN } else { close_code::POLICY };
    let frame = CloseFrame { code, reason: ended.reason().into() };
    if socket.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    let app = Router::new().route("/echo", any(open)).layer(auth);

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
