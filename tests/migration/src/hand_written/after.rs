use axum_08 as axum;

use axum::{Router, routing::get};
use countersign::{Algorithm, Authenticated, Claims, Forbidden, JwtAuth, scope};
use serde::Deserialize;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(caller: Authenticated, claims: Claims<MyClaims>) -> Result<String, Forbidden> {
    caller.require(&scope("orders:read"))?;
    Ok(format!("Hello, {}!", claims.sub))
}

pub fn app(jwks_url: &str, issuer: &str) -> Router {
    let auth = JwtAuth::new(jwks_url).issuer(issuer).audience("orders").algorithms(Algorithm::Es256);
    Router::new().route("/", get(hello)).layer(auth)
}
