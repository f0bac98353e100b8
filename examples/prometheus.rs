//! An axum service whose metrics Prometheus scrapes: `cargo run --example prometheus`.
//!
//! ```text
//! TOKEN=…                                                                      # the token that it prints
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"        # 200
//! curl -i http://127.0.0.1:3000/hello                                          # 401
//! curl -i http://127.0.0.1:3000/metrics                                        # 200; both have been counted
//! ```
//!
//! In `examples/prometheus/` there are a configuration that scrapes it, alerts, and a dashboard for Grafana:
//! `prometheus --config.file=examples/prometheus/prometheus.yaml`. What each metric means is in OBSERVABILITY.md.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use axum::Router;
use axum::routing::get;
use clap::Parser as _;
use countersign::middleware::metrics::{KEY_WAIT, VERIFICATION, VERIFICATION_BUCKETS, WAIT_BUCKETS};
use countersign::{Claims, JwtAuth, Metrics, RevocationList};
use countersign_examples::Options;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde::Deserialize;
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    // The buckets in which times are counted anyway: with these, histograms are exact.
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(VERIFICATION.into()), &VERIFICATION_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(KEY_WAIT.into()), &WAIT_BUCKETS)?
        .install_recorder()?;

    let metrics = Metrics::new("orders");
    let auth = JwtAuth::new(&*trusted.jwks_url)
        .issuer(&*trusted.issuer)
        .audience(&*options.audience)
        .revocation(RevocationList::new())
        .metrics(&metrics);
    let scrape = async move || {
        metrics.flush();
        prometheus.run_upkeep();
        ([("content-type", "text/plain; version=0.0.4")], prometheus.render())
    };
    let app = Router::new()
        .route("/hello", get(hello))
        .layer(auth)
        // Added after the layer, so not covered by it: keep it from the world by other means, such as a port of its own.
        .route("/metrics", get(scrape));

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
