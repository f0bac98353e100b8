//! Tests of countersign's public API. What is in this library itself is only what several of them share.

pub mod bomb;
pub mod crowd;
pub mod documented;
pub mod refusals;
pub mod service;

/// What goes wrong in here is told to whoever runs the test.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// So do those of the guide to revocation.
#[cfg(doctest)]
#[doc = include_str!("../../REVOCATION.md")]
pub struct Revocation;
