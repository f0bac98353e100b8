use axum_08 as axum;
use jsonwebtoken_10 as jsonwebtoken;

use std::sync::Arc;

use axum::{Router, routing::get};
use axum_jwt_auth::{Claims, Decoder, Error, RemoteJwksDecoder};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(user: Claims<MyClaims>) -> String {
    format!("Hello, {}!", user.claims.sub)
}

pub async fn app(jwks_url: &str, issuer: &str) -> Result<Router, Error> {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&["orders"]);
    let decoder = RemoteJwksDecoder::builder().jwks_url(jwks_url.into()).validation(validation).build()?;
    decoder.initialize().await?;
    let decoder: Decoder<MyClaims> = Arc::new(decoder);
    Ok(Router::new().route("/", get(hello)).with_state(decoder))
}
