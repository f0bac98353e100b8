//! The service over real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod admin;
#[cfg(unix)]
mod audit;
mod authentication;
mod bench;
mod connections;
mod limits;
#[cfg(unix)]
mod metrics;
mod openapi;
#[cfg(unix)]
mod revocations;
#[cfg(unix)]
mod served;
#[cfg(unix)]
mod server;
mod signed;
mod tokens;
