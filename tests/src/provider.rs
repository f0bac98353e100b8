//! An issuer on a real loopback socket that does what a test tells it to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use countersign::SigningKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A JWKS endpoint; it ends when the runtime of the test does.
#[derive(Clone)]
pub struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<(StatusCode, String)>,
    fetches: AtomicUsize,
}

impl Provider {
    /// Publishes these keys on a free port.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), keys).await
    }

    /// Publishes these keys at that address.
    pub async fn start_at(address: SocketAddr, keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared =
            Arc::new(Shared { answer: Mutex::new((StatusCode::OK, key_set(keys))), fetches: AtomicUsize::new(0) });
        let routes = Router::new().route("/jwks.json", get(answer)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, shared }
    }

    /// Publishes these keys from now on, and no others.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.answer(StatusCode::OK, key_set(keys));
    }

    /// Answers like this from now on.
    pub fn answer(&self, status: StatusCode, body: impl Into<String>) {
        *self.shared.answer.lock().expect("no test panics with it") = (status, body.into());
    }

    /// How often the keys have been fetched.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its keys are.
    pub fn jwks_url(&self) -> String {
        format!("{}/jwks.json", self.issuer())
    }

    /// Claims that nobody objects to, for the audience `api`.
    pub fn claims(&self) -> Value {
        claims(&self.issuer())
    }
}

/// Claims of that issuer that nobody objects to, for the audience `api`.
pub fn claims(issuer: &str) -> Value {
    let now =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    json!({
        "iss": issuer, "aud": "api", "sub": "ada", "client_id": "app", "jti": "1",
        "iat": now, "exp": now + 3600, "scope": "read",
    })
}

fn key_set(keys: &[&SigningKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.public_jwk().expect("a public key")).collect();
    json!({ "keys": keys }).to_string()
}

async fn answer(State(shared): State<Arc<Shared>>) -> Response {
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    let (status, body) = shared.answer.lock().expect("no test panics with it").clone();
    (status, [("content-type", "application/json")], body).into_response()
}
