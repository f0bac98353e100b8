use axum_08 as axum;

use std::time::Duration;

use axum::{Router, routing::get};
use countersign::{Algorithm, Claims, JwtAuth, NotReady};
use serde::Deserialize;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

pub async fn app(jwks_url: &str, issuer: &str) -> Result<Router, NotReady> {
    let auth = JwtAuth::new(jwks_url).issuer(issuer).audience("orders").algorithms(Algorithm::Es256);
    // As before: no keys, no start. Without this line the service starts, and answers 503 until there are keys.
    auth.handle().ready_within(Duration::from_secs(5)).await?;
    Ok(Router::new().route("/", get(hello)).layer(auth))
}
