//! Revocation for [countersign]: what is revoked, in memory beside the verifier, and how it comes there.
//!
//! [countersign]: https://docs.rs/countersign

mod revoker;
pub mod snapshot;

pub use revoker::{Assurance, DEFAULT_MAX_LIFETIME, Revoker};
pub use snapshot::{FileSink, FileSinkOptions, SnapshotError, SnapshotFile};
