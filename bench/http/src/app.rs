//! The service, three times: without authentication, with `JwtAuth`, and asking a central validator. All of them answer alike.

use std::future::Future;
use std::net::Ipv4Addr;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use axum::{Extension, Router};
use clap::Args;
use countersign::{Claims, JwtAuth};
use tokio::net::TcpListener;

use crate::Failure;
use crate::central::{Central, Verdict};
use crate::tokens::{AUDIENCE, Caller};

/// Whose tokens are good.
#[derive(Args)]
pub struct Trusted {
    #[arg(long)]
    pub jwks: String,
    #[arg(long)]
    pub issuer: String,
}

/// Who knows which tokens are good.
#[derive(Args)]
pub struct Asks {
    /// `host:port` of the validator.
    #[arg(long)]
    pub validator: String,
}

pub fn plain() -> Result<(), Failure> {
    block_on(serve(Router::new().route("/hello", get(async || greet("5f2c8f0e-7f4e-4c53-9d3a-0d6f00000000")))))
}

pub fn countersign(trusted: &Trusted) -> Result<(), Failure> {
    async fn hello(caller: Claims<Caller>) -> String {
        greet(&caller.sub)
    }
    block_on(async {
        let auth = JwtAuth::new(&*trusted.jwks).issuer(&*trusted.issuer).audience(AUDIENCE).with_claims::<Caller>();
        serve(Router::new().route("/hello", get(hello)).layer(auth)).await
    })
}

pub fn central(asks: &Asks) -> Result<(), Failure> {
    async fn hello(caller: Extension<Caller>) -> String {
        greet(&caller.sub)
    }
    block_on(async {
        let central = Central::new(&asks.validator)?;
        serve(Router::new().route("/hello", get(hello)).layer(from_fn_with_state(central, ask))).await
    })
}

fn greet(subject: &str) -> String {
    format!("Hello, {subject}!")
}

/// Lets in whom the validator knows.
async fn ask(State(central): State<Central>, mut request: Request, next: Next) -> Response {
    let token =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = token else { return StatusCode::UNAUTHORIZED.into_response() };
    match central.ask(token).await {
        Ok(Verdict::Active(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(Verdict::Inactive) => StatusCode::UNAUTHORIZED.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// In the runtime that a service has by default: a thread for each processor that it may use, which here is one.
pub fn block_on(serving: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serving)
}

/// Says where on standard output, and serves.
pub async fn serve(routes: Router) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    // A connection whose options cannot be set is one that has ended.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    Ok(axum::serve(listener, routes).await?)
}
