//! Claims for [countersign]: what a verified payload says, and whether that is good enough.
//!
//! This crate is *pure*: the time is an argument, and nothing here does I/O. A [`Policy`] turns a
//! [`VerifiedPayload`](countersign_token::VerifiedPayload) — octets that a key has signed — and the time into a
//! [`Verified`], or says which claim was wrong.
//!
//! The rules, in the order in which they are applied:
//!
//! 1. the payload is one JSON object in UTF-8 without duplicate members at any depth;
//! 2. a registered claim that is there has the right type: a malformed claim is not an absent one;
//! 3. `typ` says access token or nothing in particular; ID tokens, logout tokens and security events are refused;
//! 4. `exp` (required), `nbf` and `iat` against the time, with leeway; age and lifetime;
//! 5. `iss` and `aud`, exactly, once configured;
//! 6. required claims, the RFC 9068 profile, the subject rule;
//! 7. a token bound to a key (`cnf`) is refused, because nobody here has seen the proof of possession.
//!
//! ```
//! use countersign_claims::{Policy, UnixTime};
//! use countersign_token::{Algorithm, HeaderScratch, KeySet, SigningKey, UnverifiedToken};
//!
//! let signer = SigningKey::generate(Algorithm::Es256)?;
//! let keys = KeySet::new([signer.verifying_key()?]);
//! let raw = signer.sign(&serde_json::json!({ "iss": "https://issuer.example", "aud": "api", "exp": 1000, "sub": "ada" }))?;
//!
//! let mut scratch = HeaderScratch::new();
//! let token = UnverifiedToken::parse(&raw, 8192, &mut scratch)?;
//! let key = keys.candidates(None, Algorithm::Es256).next().ok_or("no key")?;
//!
//! let policy = Policy::new().issuer("https://issuer.example").audience("api");
//! let verified = policy.judge(token.verify(key)?, UnixTime::from_secs(999))?;
//! assert_eq!(verified.subject(), Some("ada"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Whether a token that is good is good enough for an operation is a [`Requirement`]: a value made of scopes, claims, clients,
//! authentication and rules of one's own, joined by `and`, `or` and `not`. What it denies says what a client should ask for
//! ([`Denied`]). A [`Permission`] is one with a name that is a type.
//!
//! ```
//! use countersign_claims::{claim, scope};
//!
//! let cancel = scope("orders:write").and(claim("/realm_access/roles").contains("clerk")).or(scope("orders:admin"));
//! # assert_eq!(cancel.scopes_to_ask_for(), "orders:admin");
//! ```
//!
//! Whether a token has been revoked before its time is asked of [`Revocations`](revocation::Revocations); the module [`revocation`] has what the
//! two sides say to each other.
//!
//! A token that a client signs for one request, and for no other, is in [`signed_request`].
//!
//! [countersign]: https://docs.rs/countersign

mod error;
mod permission;
mod pointer;
mod policy;
mod registered;
mod remembered;
mod replay;
mod requirement;
pub mod revocation;
mod rules;
mod scopes;
pub mod signed_request;
mod stripes;
mod time;
mod typed;
mod value;
mod verified;

pub use error::{ClaimError, ConfigError, Found};
pub use permission::Permission;
pub use pointer::ClaimPointer;
pub use policy::{DEFAULT_LEEWAY, MAX_LEEWAY, Policy};
#[doc(hidden)]
pub use remembered::Remembered;
pub use replay::{Replay, ReplayMemory};
pub use requirement::{
    ClaimRule, Denied, MAX_ACR_VALUES, MAX_RULES, Requirement, Scalar, StepUp, acr, all, any, any_scope,
    authenticated_within, claim, client_id, client_id_in, predicate, scope, scopes, subject,
};
pub use rules::Rule;
#[doc(hidden)]
pub use stripes::Stripes;
pub use time::{Clock, MAX_NUMERIC_DATE, UnixTime};
pub use value::ClaimValue;
pub use verified::{ClaimsType, ClaimsTypeError, Verified};
