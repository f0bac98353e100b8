//! Revocation for [countersign]: what is revoked, in memory beside the verifier, and how it comes there.
//!
//! [countersign]: https://docs.rs/countersign

mod feed;
mod in_process;
mod intake;
mod list;
mod options;
mod revoker;
pub mod snapshot_file;
mod status;

pub use feed::Feed;
pub use in_process::InProcess;
pub use intake::{Intake, ReplaceError, SnapshotBuilder};
pub use list::RevocationList;
pub use options::{DEFAULT_CAPACITY, DEFAULT_STALE_AFTER, FILTER_FROM, Filter, ListOptions, MAX_CAPACITY};
pub use revoker::{Assurance, DEFAULT_MAX_LIFETIME, Revoker};
pub use snapshot_file::{FileSink, FileSinkOptions, SnapshotError, SnapshotFile};
pub use status::{FeedStatus, ListStatus};

pub use countersign_claims::revocation::{
    Changed, Entry, Holdings, Judged, Level, Published, Publishing, RevocationCheck, RevocationError, RevocationSink,
    Revocations, Revoked, Revokes, SinkError, Verdict,
};
