//! `/metrics`: where it is served, and for whom.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::time::interval;

use super::{ServerError, listen};
use crate::config::{Config, MetricsAt};
use crate::numbers;
use crate::serve::ConnectionLimits;

/// How often what was measured is put into buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// `/metrics`, and where it is served.
pub(super) struct Scraped {
    pub(super) handle: PrometheusHandle,
    /// `None`: beside everything else.
    pub(super) listener: Option<TcpListener>,
}

impl Scraped {
    pub(super) async fn of(config: &Config) -> Result<Option<Self>, ServerError> {
        let address = match config.metrics {
            MetricsAt::Address(address) => Some(address),
            // An `http` issuer is on loopback.
            MetricsAt::Loopback if config.listen.ip().is_loopback() && config.issuer.starts_with("http:") => None,
            _ => return Ok(None),
        };
        let Some(handle) = numbers::recorder() else {
            // Whoever has installed another one serves that.
            return match address {
                Some(_) => Err(ServerError("cannot serve metrics: another recorder is installed".into())),
                None => Ok(None),
            };
        };
        let listener = match address {
            None => None,
            Some(address) => Some(listen(address).await?),
        };
        Ok(Some(Self { handle, listener }))
    }
}

/// Those of a few scrapers.
pub(super) fn metrics_limits() -> ConnectionLimits {
    ConnectionLimits { connections: 16, ending_time: Duration::from_secs(1), ..ConnectionLimits::default() }
}

/// `/metrics`, and nothing else.
pub(super) fn scraped(handle: PrometheusHandle) -> Router {
    let shown =
        async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4"), (CACHE_CONTROL, "no-store")], handle.render());
    Router::new().route("/metrics", get(shown))
}

/// Never ends: what is measured would otherwise be kept until somebody asks.
pub(super) async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = interval(METRICS_UPKEEP);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
