//! Compact JWS (RFC 7515) for [countersign]: strict parsing, keys prepared once, immutable key sets, signatures.
//!
//! This crate is *pure*: it reads no clock, spawns nothing, does no I/O and logs nothing. It takes a token apart
//! without copying it, finds the keys that may have signed it, and turns it into a [`VerifiedPayload`], a type whose
//! only constructor is a signature check that passed. What the payload *says* is the business of `countersign-claims`.
//!
//! The rules, in the order in which they are applied:
//!
//! 1. at most [`DEFAULT_MAX_TOKEN_BYTES`] (settable), before anything is decoded;
//! 2. exactly three parts, each strict base64url: no padding, no white space, no foreign characters, no stray bits;
//! 3. the header is one JSON object in UTF-8 without duplicate members; `alg` names an algorithm (there is no `none`),
//!    `crit`, `zip` and `b64` are refused; `jku`, `x5u`, `jwk` and `x5c` are never looked at;
//! 4. a key is eligible if its type, curve, `alg`, `use` and `key_ops` all admit the token's algorithm;
//! 5. the signature is checked by `aws-lc-rs` against a key that was parsed when the set was made.
//!
//! ```
//! use countersign_token::{Algorithm, HeaderScratch, KeySet, SigningKey, UnverifiedToken, DEFAULT_MAX_TOKEN_BYTES};
//!
//! let signer = SigningKey::generate(Algorithm::Es256)?.with_kid("2026-11");
//! let keys = KeySet::new([signer.verifying_key()?]);
//! let raw = signer.sign(&serde_json::json!({ "sub": "ada" }))?;
//!
//! let mut scratch = HeaderScratch::new();
//! let token = UnverifiedToken::parse(&raw, DEFAULT_MAX_TOKEN_BYTES, &mut scratch)?;
//! let key = keys.candidates(token.header().kid(), token.header().algorithm()).next().ok_or("no such key")?;
//! let payload = token.verify(key)?;
//! assert_eq!(payload.bytes(), br#"{"sub":"ada"}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [countersign]: https://docs.rs/countersign

mod algorithm;
mod base64url;
mod compact;
mod error;
mod fetch;
mod header;
pub mod json;
mod jwk;
mod key;
mod keyset;
mod pem;
mod scan;
mod sign;
mod source;
mod thumbprint;
mod unverified;
mod verify;

pub use algorithm::{Algorithm, AlgorithmSet};
pub use compact::{DEFAULT_MAX_TOKEN_BYTES, KnownHeader, UnreadToken, UnverifiedToken};
pub use error::{Part, SignatureError, TokenError};
pub use fetch::{Fetch, FetchError, FetchRequest, Fetched};
pub use header::{Header, HeaderScratch, MAX_HEADER_BYTES, MAX_HEADER_MEMBERS, MAX_KID_BYTES};
pub use jwk::{JwkSet, JwkSetError, MAX_KEYS, Origin, SkippedKey, Unusable};
pub use key::{KeyError, MIN_RSA_BITS, VerifyingKey};
pub use keyset::{KeySet, MAX_CANDIDATES, Stamp};
pub use pem::PemError;
pub use sign::{PrivateDer, RsaBits, SignError, SigningKey};
pub use source::{Answer, Ask, KeySource, Miss, Unready};
pub use thumbprint::Thumbprint;
pub use unverified::{UnverifiedIssuer, look_at_unverified_header, look_at_unverified_payload};
pub use verify::VerifiedPayload;
