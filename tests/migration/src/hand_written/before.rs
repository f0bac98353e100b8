use axum_08 as axum;
use jsonwebtoken_11 as jsonwebtoken;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router, routing::get};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde::Deserialize;

#[derive(Clone, Deserialize)]
struct MyClaims {
    sub: String,
    scope: Option<String>,
}

struct Auth {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
}

async fn authenticate(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let header = request.headers().get(header::AUTHORIZATION).ok_or(StatusCode::UNAUTHORIZED)?;
    let token = header.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
    let kid = decode_header(token).ok().and_then(|header| header.kid).ok_or(StatusCode::UNAUTHORIZED)?;
    let key = auth.keys.get(&kid).ok_or(StatusCode::UNAUTHORIZED)?;
    let data = decode::<MyClaims>(token, key, &auth.validation).map_err(|_| StatusCode::UNAUTHORIZED)?;
    request.extensions_mut().insert(data.claims);
    Ok(next.run(request).await)
}

async fn hello(Extension(claims): Extension<MyClaims>) -> Result<String, StatusCode> {
    if !claims.scope.as_deref().unwrap_or_default().split(' ').any(|scope| scope == "orders:read") {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(format!("Hello, {}!", claims.sub))
}

pub async fn app(jwks_url: &str, issuer: &str) -> Result<Router, Box<dyn Error>> {
    let jwks: JwkSet = reqwest::get(jwks_url).await?.json().await?;
    let mut keys = HashMap::new();
    for jwk in &jwks.keys {
        keys.insert(jwk.common.key_id.clone().unwrap_or_default(), DecodingKey::from_jwk(jwk)?);
    }
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&["orders"]);
    let auth = Arc::new(Auth { keys, validation });
    Ok(Router::new().route("/", get(hello)).layer(from_fn_with_state(auth, authenticate)))
}
