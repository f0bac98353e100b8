//! Revocation for [countersign]: what is revoked, in memory beside the verifier, and how it comes there.
//!
//! [countersign]: https://docs.rs/countersign

mod compaction;
mod feed;
mod filter;
mod hash;
mod horizon;
mod in_process;
mod intake;
mod layered;
mod list;
mod options;
mod part;
mod revoker;
mod set;
mod shared;
mod snapshot;
pub mod snapshot_file;
mod status;
#[cfg(test)]
mod tests;
mod until;

pub use feed::Feed;
pub use in_process::InProcess;
pub use intake::{Intake, ReplaceError, SnapshotBuilder};
pub use list::RevocationList;
pub use options::{DEFAULT_CAPACITY, DEFAULT_STALE_AFTER, FILTER_FROM, Filter, ListOptions, MAX_CAPACITY};
pub use revoker::{Assurance, DEFAULT_MAX_LIFETIME, Revoker};
pub use snapshot_file::{FileSink, FileSinkOptions, SnapshotError, SnapshotFile};
pub use status::{FeedStatus, ListStatus};
