//! A protected service on a real socket, and a connection to it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use countersign::{Authenticated, Claims, JwtAuth};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::http::request::Builder;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::Result;

/// After this long nothing more comes: two seconds of it may be the wait for a key, the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where [`serve`] has its handlers.
pub const PATH: &str = "/claims";

/// Serves [`PATH`] behind `auth` on a free port of loopback, until the runtime ends: GET says what the claims are, and POST
/// answers gRPC calls.
///
/// # Errors
/// If there is no free port.
pub async fn serve(auth: JwtAuth) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = Router::new().route(PATH, get(echo).post(done)).layer(auth);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

async fn echo(claims: Claims<Value>) -> Json<Value> {
    Json(Value::clone(&claims))
}

/// A call without a message, which went well: status and trailers in one.
async fn done(_: Authenticated) -> [(&'static str, &'static str); 2] {
    [("content-type", "application/grpc"), ("grpc-status", "0")]
}

/// One connection to [`serve`], which is used again and again, as connections to services are.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    host: String,
}

/// What a service said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The gRPC status, where there is one.
    pub grpc: Option<u16>,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u64>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its end is seen by whoever sends next.
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    /// Shows this token with a GET.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&mut self, token: &str) -> Result<Answer> {
        self.send(Request::get(PATH), token).await
    }

    /// Shows this token with a gRPC call.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn grpc(&mut self, token: &str) -> Result<Answer> {
        self.send(Request::builder().method(Method::POST).uri(PATH).header(CONTENT_TYPE, "application/grpc"), token)
            .await
    }

    async fn send(&mut self, request: Builder, token: &str) -> Result<Answer> {
        let request = request.header(HOST, &self.host).header(AUTHORIZATION, format!("Bearer {token}"));
        let request = request.body(Empty::new())?;
        let exchange = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let number = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()?.parse().ok());
            let answer = Answer {
                status: response.status().as_u16(),
                grpc: number("grpc-status").and_then(|code| u16::try_from(code).ok()),
                retry_after: number(RETRY_AFTER.as_str()),
            };
            response.into_body().collect().await?;
            Ok::<_, hyper::Error>(answer)
        };
        Ok(tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| format!("no answer after {PATIENCE:?}"))??)
    }
}
