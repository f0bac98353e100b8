use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The members of a JWK that may be published: those of the key types that sign (RFC 7518 §6, RFC 8037 §2, RFC 9964),
/// and what says how the key is used. No private
/// member is among them, so none can slip through.
const PUBLIC_MEMBERS: [&str; 10] = ["alg", "crv", "e", "kid", "kty", "n", "pub", "use", "x", "y"];

/// The longest value of a member: the modulus of an RSA key with 16 384 bits, or the largest ML-DSA key.
const MAX_VALUE_BYTES: usize = 4 * 1024;

/// A public JWK (RFC 7517): names and strings, in the order of the names, and nothing that is not public.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct PublicJwk(BTreeMap<String, String>);

/// Why something is not a public JWK. Carries no value of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwkError {
    /// Not an object of strings.
    NotStrings,
    /// A member that is private, or unknown.
    Member(String),
    /// No `kty`, or no `kid`.
    Lacks(&'static str),
    /// A value that is too long.
    TooLong,
}

impl fmt::Display for JwkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStrings => f.write_str("a public JWK is an object of strings"),
            Self::Member(name) => write!(f, "`{name}` is not a member of a public JWK"),
            Self::Lacks(name) => write!(f, "a published JWK needs `{name}`"),
            Self::TooLong => f.write_str("a member of the JWK is too long"),
        }
    }
}

impl std::error::Error for JwkError {}

impl PublicJwk {
    /// From what `SigningKey::public_jwk` makes, or from a set that somebody else has published.
    ///
    /// # Errors
    /// [`JwkError`] if there is a member that must not be published.
    pub fn new(value: &serde_json::Value) -> Result<Self, JwkError> {
        let object = value.as_object().ok_or(JwkError::NotStrings)?;
        let members = object.iter().map(|(name, value)| {
            known(name)?;
            Ok((name.clone(), value.as_str().ok_or(JwkError::NotStrings)?.to_owned()))
        });
        Self::try_from(members.collect::<Result<BTreeMap<_, _>, JwkError>>()?)
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.0.get("kid").map_or("", String::as_str)
    }

    /// One of its members.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl TryFrom<BTreeMap<String, String>> for PublicJwk {
    type Error = JwkError;

    fn try_from(members: BTreeMap<String, String>) -> Result<Self, JwkError> {
        for (name, value) in &members {
            known(name)?;
            if value.len() > MAX_VALUE_BYTES {
                return Err(JwkError::TooLong);
            }
        }
        for name in ["kid", "kty"] {
            if members.get(name).is_none_or(String::is_empty) {
                return Err(JwkError::Lacks(name));
            }
        }
        Ok(Self(members))
    }
}

impl From<PublicJwk> for BTreeMap<String, String> {
    fn from(jwk: PublicJwk) -> Self {
        jwk.0
    }
}

fn known(name: &str) -> Result<(), JwkError> {
    if PUBLIC_MEMBERS.contains(&name) { Ok(()) } else { Err(JwkError::Member(name.to_owned())) }
}
