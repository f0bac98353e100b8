//! The key ring of countersign: keys are made, published, used, retired and destroyed on their own, and at no instant
//! does an unexpired token fail at a
//! verifier that follows the rules.

mod config;
pub mod publication;
pub mod state;
pub mod step;
mod store;
mod time;

pub use config::{
    ConfigError, MAX_JWKS_BYTES, MAX_KEYS, MAX_SLOT_NAME_BYTES, RingConfig, Slot, Timing, WARN_KEYS, Warning,
};
pub use time::Now;
