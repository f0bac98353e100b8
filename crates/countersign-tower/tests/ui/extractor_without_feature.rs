//! `Claims` in an axum handler, and the feature `axum` forgotten.

use axum::{Router, routing::get};
use countersign_tower::Claims;

#[derive(serde::Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    claims.sub.clone()
}

fn main() {
    let _: Router = Router::new().route("/", get(hello));
}
