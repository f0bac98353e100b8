use axum_08 as axum;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router, routing::get, routing::post};
use countersign::{Authenticated, Judged, JwtAuth, Observer, Outcome};
use serde::Deserialize;

/// Who calls, whoever has found out.
#[derive(Clone)]
struct Caller {
    subject: String,
}

async fn list(Extension(caller): Extension<Caller>) -> String {
    format!("the orders of {}", caller.subject)
}

async fn create(Extension(caller): Extension<Caller>) -> String {
    format!("an order of {}", caller.subject)
}

fn reads() -> Router {
    Router::new().route("/orders", get(list))
}

fn writes() -> Router {
    Router::new().route("/orders/new", post(create))
}

#[derive(Clone)]
pub struct Introspection {
    pub client: reqwest::Client,
    pub url: String,
}

/// What RFC 7662 §2.2 answers.
#[derive(Deserialize)]
struct Answer {
    active: bool,
    sub: Option<String>,
}

impl Introspection {
    async fn ask(&self, token: &str) -> reqwest::Result<Answer> {
        let request = self.client.post(&self.url).form(&[("token", token)]);
        request.send().await?.error_for_status()?.json().await
    }
}

async fn introspect(
    State(introspection): State<Introspection>,
    mut request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
    let answer = introspection.ask(token).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let subject = answer.sub.filter(|_| answer.active).ok_or(StatusCode::UNAUTHORIZED)?;
    request.extensions_mut().insert(Caller { subject });
    Ok(next.run(request).await)
}

fn by_introspection(routes: Router, introspection: Introspection) -> Router {
    routes.layer(from_fn_with_state(introspection, introspect))
}

pub fn before(introspection: Introspection) -> Router {
    by_introspection(reads().merge(writes()), introspection)
}

/// Handlers ask for a [`Caller`], as they did before.
async fn name_caller(caller: Authenticated, mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let subject = caller.subject().ok_or(StatusCode::UNAUTHORIZED)?.to_owned();
    request.extensions_mut().insert(Caller { subject });
    Ok(next.run(request).await)
}

fn locally(routes: Router, auth: &JwtAuth) -> Router {
    routes.layer(from_fn(name_caller)).layer(auth.clone())
}

/// How many requests would have been refused, by reason.
#[derive(Default)]
pub struct WouldBeRefused(Mutex<BTreeMap<&'static str, u64>>);

impl WouldBeRefused {
    pub fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for WouldBeRefused {
    fn judged(&self, judged: &Judged<'_>) {
        let reason = match judged.outcome() {
            Outcome::ShadowRefused(refusal) => refusal.code(),
            Outcome::ShadowUndecided => "undecided",
            _ => return,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }
}

pub fn auth(jwks_url: &str, issuer: &str, seen: Arc<WouldBeRefused>) -> JwtAuth {
    JwtAuth::new(jwks_url).issuer(issuer).audience("orders").observe(seen)
}

pub fn first(auth: &JwtAuth, introspection: Introspection) -> Router {
    before(introspection).layer(auth.clone().shadow())
}

pub fn second(auth: &JwtAuth, introspection: Introspection) -> Router {
    let writes = by_introspection(writes(), introspection).layer(auth.clone().shadow());
    locally(reads(), auth).merge(writes)
}

pub fn both(auth: &JwtAuth, introspection: Introspection) -> Router {
    by_introspection(writes(), introspection).layer(auth.clone())
}

pub fn third(auth: &JwtAuth) -> Router {
    locally(reads().merge(writes()), auth)
}
