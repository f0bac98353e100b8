use axum_07 as axum;

use axum::{Router, routing::get};
use jwt_authorizer::error::InitError;
use jwt_authorizer::{Authorizer, IntoLayer as _, JwtAuthorizer, JwtClaims, Validation};
use serde::Deserialize;

#[derive(Clone, Deserialize)]
struct MyClaims {
    sub: String,
    scope: Option<String>,
}

fn may_read(claims: &MyClaims) -> bool {
    claims.scope.as_deref().unwrap_or_default().split(' ').any(|scope| scope == "orders:read")
}

async fn hello(JwtClaims(claims): JwtClaims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

pub async fn app(jwks_url: &str, issuer: &str) -> Result<Router, InitError> {
    let auth: Authorizer<MyClaims> = JwtAuthorizer::from_jwks_url(jwks_url)
        .validation(Validation::new().iss(&[issuer]).aud(&["orders"]))
        .check(may_read)
        .build()
        .await?;
    Ok(Router::new().route("/", get(hello)).layer(auth.into_layer()))
}
