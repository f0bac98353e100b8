//! A service for Kubernetes: probes, key events in its log, an orderly end: `cargo run --example kubernetes`.
//!
//! ```text
//! TOKEN=…                                                                      # the token that it prints
//! curl -i http://127.0.0.1:3000/livez                                          # 200, as long as the process can answer
//! curl -i http://127.0.0.1:3000/hello                                          # 401
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"        # 200
//! curl -i http://127.0.0.1:3000/readyz                                         # 200 {"keys":"ready"}; 503 without keys
//! ```
//!
//! `kubernetes.yaml` beside it is the Deployment. What its probes ask, and what they must not:
//!
//! - **liveness**: `/livez` looks at nothing. A pod that is restarted because the issuer is down loses the keys that it has,
//!   and cannot get new ones.
//! - **readiness**: `/readyz` is 503 as long as no token can be judged: before the first keys, and after `max_stale` without
//!   a word from the issuer. Keys that are merely *stale* are good, and the pod stays ready: or else an issuer's outage would
//!   take all pods out of service at once. A rollout during an outage waits, because the new pods are not ready, and the old
//!   ones serve.
//! - **startup**: `/livez` again, and no path of its own. A startup probe that fails kills the pod too, so it must not wait
//!   for keys.

#![allow(clippy::print_stdout, reason = "standard output is the log of a container")]

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use countersign::token::Unready;
use countersign::{Claims, Handle, JwtAuth, KeyState};
use countersign_examples::Options;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long requests under way may take once the pod is to end. With the `preStop` before it, it has to fit into
/// `terminationGracePeriodSeconds`.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct PodOptions {
    #[command(flatten)]
    common: Options,
    /// The address to listen on. In a pod 0.0.0.0 (or ::), since probes and clients come from outside of it.
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
    host: IpAddr,
    /// How many seconds keys are good for if the issuer does not say.
    #[arg(long, default_value_t = 300)]
    key_lifetime: u64,
}

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

/// Says no more than everybody in the cluster may know. Why the last fetch failed is in the log.
async fn readyz(State(handle): State<Handle>) -> (StatusCode, Json<Value>) {
    let status = if handle.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "keys": word_for(handle.keys().status().state) })))
}

fn word_for(state: KeyState) -> &'static str {
    match state {
        KeyState::Static => "static",
        KeyState::Starting => "starting",
        KeyState::Ready => "ready",
        KeyState::Stale => "stale",
        KeyState::Empty => "empty",
        KeyState::Unusable(Unready::NeverFetched) => "never_fetched",
        KeyState::Unusable(Unready::TooOld) => "too_old",
        _ => "unusable",
    }
}

/// Rotations, failures and recoveries, a line each. `KeyEvent::TooOld` is the one to page somebody for, `Stale` the one
/// that leaves time.
async fn log_key_events(handle: Handle) {
    let mut events = handle.keys().events();
    while let Some(event) = events.next().await {
        println!("keys: {event}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before anything else: process 1 of a container ignores the signals that it does not ask for.
    let told_to_stop = told_to_stop()?;
    let options = PodOptions::parse();
    let trusted = options.common.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url)
        .issuer(&*trusted.issuer)
        .audience(&*options.common.audience)
        .default_lifetime(Duration::from_secs(options.key_lifetime));
    let handle = auth.handle();
    tokio::spawn(log_key_events(handle.clone()));
    let app = Router::new()
        .route("/hello", get(hello))
        .layer(auth)
        // Added after the layer, so not covered by it: the kubelet has no token.
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .with_state(handle);

    let listener = TcpListener::bind(SocketAddr::new(options.host, options.common.port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let (stop, stopping) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(async move {
        // It "fails" when `stop` is dropped, and that is the sign.
        let stopping = async { drop(stopping.await) };
        axum::serve(listener, app).with_graceful_shutdown(stopping).await
    });
    tokio::select! {
        served = &mut serving => return Ok(served??),
        () = told_to_stop => println!("stopping"),
    }
    drop(stop);
    match timeout(DRAIN, serving).await {
        Ok(served) => served??,
        Err(_) => println!("there are requests that have not ended after {DRAIN:?}"),
    }
    Ok(())
}

/// Is over when the kubelet (SIGTERM) or a person (Ctrl-C) wants the process to end. SIGTERM is heard from this call on, and
/// not only from the first poll.
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let terminated = terminated()?;
    Ok(async {
        tokio::select! {
            () = terminated => {}
            Ok(()) = tokio::signal::ctrl_c() => {}
        }
    })
}

#[cfg(unix)]
fn terminated() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let _ = terminate.recv().await;
    })
}

#[cfg(not(unix))]
fn terminated() -> io::Result<impl Future<Output = ()>> {
    Ok(std::future::pending())
}
