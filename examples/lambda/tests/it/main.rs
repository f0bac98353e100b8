//! The function, under a runtime that does what Lambda's does: it hands out events one by one, and freezes the process
//! whenever that asks for the next.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, where a panic is the message")]

mod function;
mod runtime;
