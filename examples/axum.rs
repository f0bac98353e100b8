//! An axum service that answers to whoever shows a good token: `cargo run --example axum`.
//!
//! ```text
//! TOKEN=…                                                                      # the token that it prints
//! curl -i http://127.0.0.1:3000/healthz                                                 # 200
//! curl -i http://127.0.0.1:3000/                                                        # 200, to nobody in particular
//! curl -i http://127.0.0.1:3000/hello                                                   # 401
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"                 # 200
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                # 200; 403 without the scope orders:read
//! curl -i -X DELETE http://127.0.0.1:3000/orders/1 -H "Authorization: Bearer $TOKEN"    # 403, it takes a scope and a role more
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use axum::extract::Path;
use axum::routing::{delete, get};
use axum::{Json, Router};
use clap::Parser as _;
use countersign::{Authenticated, Claims, JwtAuth, Permit, claim, permission, scope};
use countersign_examples::Options;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

permission! {
    /// May see orders.
    ListOrders = scope("orders:read");
    /// May cancel them: the client was granted it, and the user is one of those who may.
    CancelOrders = scope("orders:write").and(claim("/realm_access/roles").contains("clerk"));
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

async fn orders(permit: Permit<ListOrders>) -> Json<Value> {
    Json(json!([{ "id": "1", "owner": permit.subject() }]))
}

/// Whoever calls this, a test or another handler, has to have the permit.
async fn cancel(Path(id): Path<String>, permit: Permit<CancelOrders>) -> Json<Value> {
    Json(json!({ "cancelled": id, "by": permit.subject() }))
}

/// `None` is a request without a token. One with a bad token does not come here: it is refused.
async fn welcome(caller: Option<Authenticated>) -> String {
    match caller.as_ref().and_then(|caller| caller.subject()) {
        Some(subject) => format!("Welcome back, {subject}!"),
        None => "Welcome!".to_owned(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    // A clone with another policy; both share the keys.
    let public = Router::new().route("/", get(welcome)).layer(auth.clone().optional());
    let app = Router::new()
        .route("/hello", get(hello))
        .route("/orders", get(orders))
        .route("/orders/{id}", delete(cancel))
        .layer(auth)
        // Added after the layer, so not covered by it.
        .merge(public)
        .route("/healthz", get(async || "ok"));

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
