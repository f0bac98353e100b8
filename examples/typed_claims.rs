//! Claims as a type of your own, scopes for a group of routes and for one handler: `cargo run --example typed_claims`.
//!
//! ```text
//! TOKEN=…                                                                               # the token that it prints
//! curl -i http://127.0.0.1:3000/me                                                      # 401
//! curl -i http://127.0.0.1:3000/me -H "Authorization: Bearer $TOKEN"                    # 200
//! curl -i http://127.0.0.1:3000/report -H "Authorization: Bearer $TOKEN"                # 200
//! curl -i http://127.0.0.1:3000/orders/1 -H "Authorization: Bearer $TOKEN"              # 200
//! curl -i -X DELETE http://127.0.0.1:3000/orders/1 -H "Authorization: Bearer $TOKEN"    # 403
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser as _;
use countersign::{Claims, JwtAuth, Permit, permission, scope};
use countersign_examples::Options;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

permission! {
    /// May cancel orders.
    CancelOrders = scope("orders:write");
}

/// What this service needs of a token. `exp`, `iss` and `aud` have been judged before, and need not be here.
#[derive(Debug, Deserialize)]
struct Caller {
    sub: String,
    /// A token without a tenant is refused.
    tenant: String,
    /// A token without a plan is of a free one; a token with a plan that is not below is refused.
    #[serde(default)]
    plan: Plan,
    email: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Plan {
    #[default]
    Free,
    Pro,
}

async fn me(caller: Claims<Caller>) -> Json<Value> {
    Json(json!({ "sub": caller.sub, "tenant": caller.tenant, "email": caller.email }))
}

/// Hands the claims to another thread: `into_inner` is an `Arc` of them, and copies nothing.
async fn report(caller: Claims<Caller>) -> Result<String, StatusCode> {
    let caller = Claims::into_inner(caller);
    let rows = match caller.plan {
        Plan::Free => 10,
        Plan::Pro => 1000,
    };
    let report = tokio::task::spawn_blocking(move || format!("{rows} rows of {}, for {}", caller.tenant, caller.sub));
    report.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn order(Path(id): Path<u32>, caller: Claims<Caller>) -> Json<Value> {
    Json(json!({ "id": id, "tenant": caller.tenant }))
}

/// Needs a scope more than its neighbours. Claims and permit are of the same verification.
async fn cancel(Path(id): Path<u32>, _: Permit<CancelOrders>, caller: Claims<Caller>) -> Json<Value> {
    Json(json!({ "cancelled": id, "tenant": caller.tenant }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted_with(|token| token.claim("tenant", "acme").claim("plan", "pro"));

    let auth = JwtAuth::new(&*trusted.jwks_url)
        .issuer(&*trusted.issuer)
        .audience(&*options.audience)
        // Tokens that do not fit are refused here, whether or not a handler asks for the claims.
        .with_claims::<Caller>();
    // A clone with another policy; both share the keys, and the one task that fetches them.
    let readers = auth.clone().require(scope("orders:read"));
    let app = Router::new()
        .merge(Router::new().route("/orders/{id}", get(order).delete(cancel)).layer(readers))
        .merge(Router::new().route("/me", get(me)).route("/report", get(report)).layer(auth));

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
