//! The crate through its public API: the task with a scripted provider, the HTTP client with sockets that misbehave.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which the exception for tests does not cover")]

mod counted;
mod discovery;
mod driver;
#[cfg(feature = "reqwest")]
mod hostile;
#[cfg(feature = "reqwest")]
mod http;
mod issuers;
mod local;
mod support;
mod together;
mod traced;
mod warm;
mod withdrawn;
