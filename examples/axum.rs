//! An axum service that answers to whoever shows a good token: `cargo run --example axum`.
//!
//! ```text
//! TOKEN=…                                                                      # the token that it prints
//! curl -i http://127.0.0.1:3000/healthz                                        # 200
//! curl -i http://127.0.0.1:3000/hello                                          # 401
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"        # 200
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"       # 200; 403 without the scope orders:read
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use axum::routing::get;
use axum::{Json, Router};
use clap::Parser as _;
use countersign::{Authenticated, Claims, Forbidden, JwtAuth, scope};
use countersign_examples::Options;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

async fn orders(caller: Authenticated) -> Result<Json<Value>, Forbidden> {
    caller.require(&scope("orders:read"))?;
    Ok(Json(json!([{ "id": "1", "owner": caller.subject() }])))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    let app = Router::new()
        .route("/hello", get(hello))
        .route("/orders", get(orders))
        .layer(auth)
        // Added after the layer, so not covered by it.
        .route("/healthz", get(async || "ok"));

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
