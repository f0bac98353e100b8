use axum_08 as axum;

use axum::{Router, routing::get};
use countersign::{Claims, JwtAuth, scope};
use serde::Deserialize;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

pub fn app(jwks_url: &str, issuer: &str) -> Router {
    let auth = JwtAuth::new(jwks_url).issuer(issuer).audience("orders").require(scope("orders:read"));
    Router::new().route("/", get(hello)).layer(auth)
}
