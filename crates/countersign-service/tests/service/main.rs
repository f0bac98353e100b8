//! The service over real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod admin;
#[cfg(unix)]
mod audit;
mod authentication;
mod bench;
mod bodies;
mod certificates;
mod client_keys;
mod connections;
mod http2;
mod limits;
#[cfg(unix)]
mod metrics;
mod openapi;
mod peers;
mod pki;
#[cfg(unix)]
mod revocations;
#[cfg(unix)]
mod served;
#[cfg(unix)]
mod server;
mod signed;
mod tls;
mod tokens;
