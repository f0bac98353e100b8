//! `MIGRATING.md` and `INTROSPECTION.md`, held to what is so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod introspection;
mod page;
mod services;
