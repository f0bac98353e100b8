//! A second opinion, written from the RFCs and from the documented limits and sharing no code with what is fuzzed: not
//! `serde_json`, not the `base64` crate. It is slow, plain, and says of every input what has to come out.

pub mod base64url;
pub mod bearer;
pub mod claims;
pub mod header;
pub mod json;
pub mod jwk;

/// What the oracle says of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It has to be accepted, and this is what it says.
    Good(T),
    /// It has to be refused.
    Bad,
    /// Too near to a boundary, or too deep, for so plain a judge.
    NoOpinion,
}
