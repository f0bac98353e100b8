//! Revocation for [countersign]: what is revoked, in memory beside the verifier, and how it comes there.
//!
//! A [`RevocationList`] answers with every request whether a token is revoked: from memory, without a lock, without waiting, without allocating.
//! What is asked of it, and in which order, is on the page of [`countersign_claims::revocation`].
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use countersign_claims::{Policy, UnixTime};
//! use countersign_revocation::RevocationList;
//! use countersign_token::{Algorithm, KeySet, SigningKey};
//! use countersign_verifier::Verifier;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = SigningKey::generate(Algorithm::Es256)?.with_kid("k1");
//! let revocations = RevocationList::new();
//! let policy = Policy::new().issuer("https://issuer.example").audience("api");
//! let verifier = Verifier::new(KeySet::new([issuer.verifying_key()?]), policy).revocation(revocations.clone());
//!
//! let now = UnixTime::from(SystemTime::now());
//! let expires_at = now.saturating_add(Duration::from_secs(300));
//! let claims = serde_json::json!({
//!     "iss": "https://issuer.example", "aud": "api", "exp": expires_at.as_secs(), "jti": "17",
//! });
//! let token = issuer.sign(&claims)?;
//! assert!(verifier.verify(&token, now).is_ok());
//!
//! revocations.revoker("https://issuer.example").jwt_id("17", expires_at).await?;
//! assert_eq!(verifier.verify(&token, now).unwrap_err().code(), "revoked_token");
//! # Ok(())
//! # }
//! ```
//!
//! # Where it comes from
//!
//! A list [follows](RevocationList::follow) any number of [feeds](Feed). Each has a part of the list to itself, through its [`Intake`], so what one says
//! never undoes what another has said. [`InProcess`] is a feed for several lists in one process; a list is its own, too.
//!
//! # How old it is
//!
//! A feed promises with what it hands on that everything is there that was revoked *as of* some time. The list is as old as the oldest of these
//! promises, and beyond [30 seconds](DEFAULT_STALE_AFTER) it calls itself stale. What becomes of tokens then is decided
//! [where it is asked](countersign_claims::revocation::RevocationCheck).
//!
//! # When it is forgotten
//!
//! An entry counts until ten minutes after the last of its tokens is over, and up to one minute more: whatever leeway verifiers grant, and however
//! far their clocks are apart within reason, it outlives its tokens. Then its memory is used again, unless the clock has jumped ahead: what it jumps over
//! is not believed before that time has passed.
//!
//! **Nothing is forgotten to make room.** A list that has its [capacity](ListOptions::capacity) takes nothing more, and says so: to the feed, in its
//! [status](ListStatus::full) and in the log, as an error. Then there is still room for keys; a cut-off concerns many tokens and is one entry.
//!
//! # What it costs
//!
//! 20.5 bytes for each token. What comes is in force as soon as it has been handed on; it is merged into the rest by a thread that runs for as long as that takes,
//! during which memory is needed for both. For very large lists there are [filters](Filter).
//!
//! [countersign]: https://docs.rs/countersign

mod compaction;
mod feed;
mod filter;
mod fits;
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
pub use fits::MAX_NAME_BYTES;
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
