//! The key ring of countersign: keys are made, published, used, retired and destroyed on their own, and at no instant
//! does an unexpired token fail at a
//! verifier that follows the rules.
//!
//! What is true at every instant, and by which quantities, is in `INVARIANTS.md` beside this crate.
//!
//! # What is not there
//!
//! - **Keys that rotate faster than they can be announced.** A slot has one next key at a time, so `R` is at least
//!   `C + P + ε` and what it takes to make and publish one (I6), 11 minutes by default; a configuration with less is
//!   refused. Shorten `A` and `B` ([`Timing::max_age`], [`Timing::intermediary`]) to shorten it.
//! - **A way back from longer quantities.** What others wait for ([`state::Terms`]) only ever grows; to configure less
//!   again shortens what this ring does and not what it waits for. The set stays a little larger and rotations may
//!   come later. `INVARIANTS.md` says how to move to another ring where that will not do.
//! - **A signed key set.** Whoever can write where the set is published, or stands in for that place, can add a key to
//!   it. Serve it with [`JwksService`], whose source is the state, which is authenticated; or let nobody write there.

mod adopt;
#[doc(hidden)]
pub mod by_hand;
mod config;
mod desk;
mod mint;
pub mod publication;
mod ring;
mod seal;
mod serve;
mod signer;
mod source;
pub mod state;
pub mod step;
mod store;
mod time;

pub use adopt::{AdoptError, AdoptKey};
pub use config::{
    ConfigError, MAX_JWKS_BYTES, MAX_KEYS, MAX_SLOT_NAME_BYTES, RingConfig, Slot, Timing, WARN_KEYS, Warning,
};
pub use mint::{
    ACCESS_TOKEN_TYPE, DEFAULT_MAX_PAYLOAD_BYTES, MAX_CLAIMS_BYTES, MAX_TYPE_BYTES, Mint, MintError, Minted, Minter,
};
pub use ring::{
    KeyStatus, Moment, NotReady, OrderError, ReadBack, Revoked, Ring, RingBuilder, RingEvent, RingStatus, Rotated,
    SlotSigner, SlotStatus, StartError, Work,
};
pub use seal::{
    DEFAULT_COMMAND_TIME, KEK_BYTES, Kek, KekError, KekId, KekRing, KekSource, KeyIdentity, MAX_KEK_SOURCE_BYTES,
    MAX_KEKS, MAX_PRIVATE_DER_BYTES, Purpose, SealError, StateMac,
};
pub use serve::JwksService;
pub use signer::Signer;
pub use source::{MAX_STALE, RingKeys, RingSnapshot};
#[cfg(unix)]
pub use store::DirectoryStore;
#[cfg(feature = "object_store-0.14")]
pub use store::{DEFAULT_TIME_LIMIT, ObjectKeyStore};
pub use store::{
    Fault, JwksHeaders, KeyStore, MAX_LISTED, MAX_SEALED_BYTES, MAX_STATE_BYTES, MAX_STORED_JWKS_BYTES,
    MAX_STORED_KID_BYTES, MemoryStore, Operation, StoreError, StoreErrorKind, StoreFuture, StoreTime, Stored, Version,
};
pub use time::{Clock, Now, SystemClock};
