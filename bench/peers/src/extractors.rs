//! Peers that are extractors of axum: the service is the handler itself, as axum makes one of it, which boxes its future.

use std::sync::Arc;

use axum::handler::Handler as _;
use axum::response::{IntoResponse, Response};
use axum_jwt_auth::{Decoder, RemoteJwksDecoder};
use countersign_bench::request::{AUDIENCE, ISSUER};
use http::StatusCode;

use crate::call::{Calls, MyClaims};
use crate::contenders::{Made, Setup};

pub fn axum_jwt_auth(setup: &Setup<'_>) -> Made {
    async fn handler(user: axum_jwt_auth::Claims<MyClaims>) -> StatusCode {
        answer(&user.claims)
    }

    let mut validation = jsonwebtoken_10::Validation::new(setup.issuer.algorithm.name().parse()?);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    validation.validate_nbf = true;
    let decoder =
        RemoteJwksDecoder::builder().jwks_url(setup.provider.jwks_url.clone()).validation(validation).build()?;
    setup.runtime.block_on(decoder.initialize())?;
    let state: Decoder<MyClaims> = Arc::new(decoder);
    Ok(Box::new(Calls::new(handler.with_state(state))?))
}

pub fn axum_jwks(setup: &Setup<'_>) -> Made {
    async fn handler(axum_jwks::Claims(claims): axum_jwks::Claims<MyClaims>) -> StatusCode {
        answer(&claims)
    }

    let fetched = axum_jwks::Jwks::from_jwks_url(&setup.provider.jwks_url, Some(AUDIENCE), None);
    let jwks = setup.runtime.block_on(fetched).map_err(|error| match error {
        axum_jwks::JwksError::KeyError(axum_jwks::JwkError::UnexpectedAlgorithm { .. }) => {
            "takes RSA keys only; another key fails the whole set".into()
        }
        error => error.to_string(),
    })?;
    Ok(Box::new(Calls::new(handler.with_state(jwks))?))
}

/// What being a handler of axum costs.
pub fn handler_alone(_: &Setup<'_>) -> Made {
    async fn handler() -> StatusCode {
        StatusCode::OK
    }

    Ok(Box::new(Calls::new(handler.with_state(()))?))
}

impl axum_jwks::ParseTokenClaims for MyClaims {
    type Rejection = Refused;
}

/// The rejection that axum-jwks wants its user to write.
pub struct Refused;

impl From<axum_jwks::TokenError> for Refused {
    fn from(_: axum_jwks::TokenError) -> Self {
        Self
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

fn answer(claims: &MyClaims) -> StatusCode {
    if claims.sub.is_empty() { StatusCode::UNAUTHORIZED } else { StatusCode::OK }
}
