//! Nodes at work, as their users see them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod adoption;
mod blue_green;
mod compromise;
#[cfg(unix)]
mod crashes;
mod ending;
mod failures;
mod holder;
mod keks;
mod life;
mod nodes;
mod one_binary;
#[cfg(unix)]
mod processes;
mod read_back;
mod steps;
mod support;
mod tokens;
#[cfg(any(feature = "tracing", feature = "metrics"))]
mod told;
