//! The verifier of [countersign]: a token and the time in, claims or the reason out.
//!
//! It joins a [`KeySource`](countersign_token::KeySource), where the keys come from, with a
//! [`Policy`](countersign_claims::Policy), what a token has to say. It does no I/O and knows no runtime and no HTTP, so it
//! serves WebSocket messages, queues, MQTT and plain TCP as it serves the tower layer that is built on it.
//!
//! ```
//! use countersign_claims::{Policy, UnixTime};
//! use countersign_token::{Algorithm, KeySet, SigningKey};
//! use countersign_verifier::Verifier;
//!
//! let issuer = SigningKey::generate(Algorithm::Es256)?.with_kid("k1");
//! let verifier = Verifier::new(KeySet::new([issuer.verifying_key()?]), Policy::new().audience("queue"));
//!
//! let token = issuer.sign(&serde_json::json!({ "aud": "queue", "sub": "ada", "exp": 1000 }))?;
//! let verified = verifier.verify(&token, UnixTime::from_secs(0))?;
//! assert_eq!(verified.subject(), Some("ada"));
//!
//! let refusal = verifier.verify(&token, UnixTime::from_secs(2000)).unwrap_err();
//! assert_eq!(refusal.code(), "expired");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [countersign]: https://docs.rs/countersign

mod cache;
mod environment;
mod explain;
mod hints;
mod refusal;
mod shown;
mod threads;
mod usual;
mod verifier;

pub use cache::{DEFAULT_CACHED_BYTES, DEFAULT_CACHED_TOKENS, TokenCacheStatus};
pub use explain::{Check, Outcome, Report, Step, Verdict};
pub use refusal::{Fault, Refusal};
#[doc(hidden)]
pub use threads::number_of_thread;
pub use verifier::{Attempt, Verifier};
