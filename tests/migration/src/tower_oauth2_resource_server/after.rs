use axum_08 as axum;

use axum::{Router, routing::get};
use countersign::{Claims, JwtAuth};
use serde::Deserialize;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

pub fn app(issuer: &str) -> Router {
    let auth = JwtAuth::discover(issuer).audience("orders");
    Router::new().route("/", get(hello)).layer(auth)
}
