//! Tests of countersign's public API. What is in this library itself is only what several of them share.

pub mod refusals;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
