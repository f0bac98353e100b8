//! Revocation for [countersign]: what is revoked, in memory beside the verifier, and how it comes there.
//!
//! [countersign]: https://docs.rs/countersign
