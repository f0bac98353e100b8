//! The service over real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod admin;
mod authentication;
mod bench;
mod connections;
mod limits;
mod openapi;
#[cfg(unix)]
mod server;
mod signed;
mod tokens;
