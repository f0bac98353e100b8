//! The central validator: verifies with `jsonwebtoken` on `aws-lc-rs`, follows the provider's keys, and does some work besides,
//! such as looking a session up.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Form, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;

use crate::Failure;
use crate::app::{Trusted, block_on, serve as serve_routes};
use crate::central::client;
use crate::tokens::{AUDIENCE, Caller};

/// Between two fetches because of a key that is not known. As short as a provider that is one's own bears: nobody with a new
/// key is to be refused for long.
const BETWEEN_FETCHES: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    trusted: Trusted,
    /// How long the work besides takes. Nothing is computed meanwhile: it is a wait for a database.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    work: u64,
}

type Keys = HashMap<String, DecodingKey>;

struct Validator {
    client: Client<HttpConnector, Full<Bytes>>,
    jwks: Uri,
    keys: RwLock<Arc<Keys>>,
    /// When it was that they were last asked for; held by the one who asks.
    fetched: Mutex<Option<Instant>>,
    validation: Validation,
    work: Duration,
}

#[derive(Deserialize)]
struct Question {
    token: String,
}

#[derive(Serialize)]
struct Active {
    active: bool,
    #[serde(flatten)]
    caller: Caller,
}

pub fn serve(options: &Options) -> Result<(), Failure> {
    block_on(async {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[&options.trusted.issuer]);
        validation.set_audience(&[AUDIENCE]);
        let validator = Validator {
            client: client(),
            jwks: options.trusted.jwks.parse()?,
            keys: RwLock::default(),
            fetched: Mutex::new(None),
            validation,
            work: Duration::from_millis(options.work),
        };
        serve_routes(Router::new().route("/introspect", post(introspect)).with_state(Arc::new(validator))).await
    })
}

async fn introspect(State(validator): State<Arc<Validator>>, Form(question): Form<Question>) -> Response {
    let caller = validator.caller(&question.token).await;
    if !validator.work.is_zero() {
        tokio::time::sleep(validator.work).await;
    }
    match caller {
        Some(caller) => Json(Active { active: true, caller }).into_response(),
        None => Json(json!({ "active": false })).into_response(),
    }
}

impl Validator {
    async fn caller(&self, token: &str) -> Option<Caller> {
        let kid = decode_header(token).ok()?.kid?;
        let mut keys = self.keys();
        if !keys.contains_key(&kid) {
            // Without an answer there is no such key, and the caller is refused.
            self.fetch_for(&kid).await.ok()?;
            keys = self.keys();
        }
        Some(decode::<Caller>(token, keys.get(&kid)?, &self.validation).ok()?.claims)
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One fetch for all who miss a key at the same time.
    async fn fetch_for(&self, kid: &str) -> Result<(), Failure> {
        let mut fetched = self.fetched.lock().await;
        let is_recent = fetched.is_some_and(|at| at.elapsed() < BETWEEN_FETCHES);
        if is_recent || self.keys().contains_key(kid) {
            return Ok(());
        }
        *fetched = Some(Instant::now());
        let response = self.client.get(self.jwks.clone()).await?;
        let set: JwkSet = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
        let mut keys = Keys::new();
        for jwk in &set.keys {
            if let Some(kid) = &jwk.common.key_id {
                keys.insert(kid.clone(), DecodingKey::from_jwk(jwk)?);
            }
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }
}
