//! Each example as a process, and a real client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, where a panic is the message")]

mod axum;
mod hyper;
mod issuer_and_api;
#[cfg(unix)]
mod kubernetes;
mod mcp;
mod prometheus;
mod quickstart;
mod reverse_proxy;
mod revocation;
mod ring_emergency;
mod ring_es256_and_rsa;
mod ring_every_15_minutes;
mod sse;
mod static_keys;
mod tcp;
mod tower_http;
mod typed_claims;
mod websocket;
