//! `MIGRATING.md` and `INTROSPECTION.md`, held to what is so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests panic")]

mod introspection;
mod page;
mod services;
