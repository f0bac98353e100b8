//! The key ring of countersign: keys are made, published, used, retired and destroyed on their own, and at no instant
//! does an unexpired token fail at a
//! verifier that follows the rules.

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
