//! Keys of a service that a ring takes the place of, as they are kept there: PEM and JWK.

mod public;

use std::fmt;

use countersign_claims::UnixTime;
use countersign_token::{Algorithm, KeyError, PemError, PrivateDer, SignError, SigningKey};
use serde_json::Value;
use zeroize::Zeroizing;

pub(crate) use self::public::MATERIAL;
use crate::config::RingConfig;
use crate::holder::Public;
use crate::ring::verifying;
use crate::state::{JwkError, PublicJwk};
use crate::step::Adopted;
use crate::store::MAX_STORED_KID_BYTES;

/// A key of a running service, to be [adopted](crate::Ring::adopt).
///
/// It goes on under the `kid` that its tokens have, which is the RFC 7638 thumbprint unless it is said.
///
/// There is no `Debug` and no `Clone`; its copy of a private key is overwritten when it is dropped.
///
/// ```
/// # fn adopt(pem: &str, now: countersign_claims::UnixTime) -> countersign_issuer::AdoptKey {
/// use std::time::Duration;
/// use countersign_issuer::AdoptKey;
///
/// // The last token of the old service will have expired in a day.
/// AdoptKey::signing("rs256-2048", pem, now.saturating_add(Duration::from_secs(86_400))).kid("2026-11")
/// # }
/// ```
pub struct AdoptKey {
    slot: String,
    source: Source,
    signs: bool,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    tokens_until: UnixTime,
    remove_at: Option<UnixTime>,
}

enum Source {
    Pem(Zeroizing<Vec<u8>>),
    Jwk(Value),
}

/// Why a key cannot be adopted. Carries nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// The configuration has no such slot.
    NoSuchSlot(String),
    /// It is not PEM of such a key.
    Pem(PemError),
    /// It is not a JWK of such a key, or has a private part.
    Jwk,
    /// Its public part cannot be published.
    Unpublishable(JwkError),
    /// The key has another algorithm than the slot in which it is to sign.
    OtherAlgorithm,
    /// The `kid` is empty, or longer than [`MAX_STORED_KID_BYTES`].
    Kid,
    /// A private part that is not there does not sign.
    NoPrivatePart,
}

impl AdoptKey {
    /// A key that goes on signing in that slot, from a private PEM (`PRIVATE KEY`, `RSA PRIVATE KEY`, `EC PRIVATE KEY`,
    /// not encrypted). `tokens_until`: when the last token expires that the old service signs with it.
    #[must_use]
    pub fn signing(slot: impl Into<String>, pem: impl AsRef<[u8]>, tokens_until: UnixTime) -> Self {
        Self::new(slot.into(), Source::Pem(Zeroizing::new(pem.as_ref().to_vec())), true, tokens_until)
    }

    /// A key whose tokens are verified until they have expired, and that signs no more, from a public PEM (`PUBLIC
    /// KEY`, `RSA PUBLIC KEY`) or a private one, of which only the public part is taken.
    #[must_use]
    pub fn retiring(slot: impl Into<String>, pem: impl AsRef<[u8]>, tokens_until: UnixTime) -> Self {
        Self::new(slot.into(), Source::Pem(Zeroizing::new(pem.as_ref().to_vec())), false, tokens_until)
    }

    /// The same, from a public JWK, as it stands in the JWKS of the old service; with its `kid` and its `alg`, if it
    /// has them.
    #[must_use]
    pub fn retiring_jwk(slot: impl Into<String>, jwk: Value, tokens_until: UnixTime) -> Self {
        Self::new(slot.into(), Source::Jwk(jwk), false, tokens_until)
    }

    /// The name that the old service has published it by.
    #[must_use]
    pub fn kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// What its tokens say in `alg`; the algorithm of the slot unless it is said. Only keys that sign no more may have
    /// another.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// When it has to be gone, whatever tokens there are. What is signed with it here expires before.
    #[must_use]
    pub fn remove_at(mut self, at: UnixTime) -> Self {
        self.remove_at = Some(at);
        self
    }

    fn new(slot: String, source: Source, signs: bool, tokens_until: UnixTime) -> Self {
        Self { slot, source, signs, kid: None, algorithm: None, tokens_until, remove_at: None }
    }

    /// For the core, and the private part for the node's hands.
    pub(crate) fn read(self, config: &RingConfig) -> Result<(Adopted, Option<PrivateDer>), AdoptError> {
        let Self { slot: name, source, signs, kid, algorithm, tokens_until, remove_at } = self;
        let Some(slot) = config.slot(&name) else { return Err(AdoptError::NoSuchSlot(name)) };
        let (jwk, private) = match source {
            Source::Pem(pem) => read_pem(&pem, algorithm.unwrap_or(slot.algorithm), signs)?,
            Source::Jwk(jwk) => (public::of_jwk(&jwk, algorithm, slot.algorithm)?, None),
        };
        let jwk = named(jwk, kid)?;
        let jwk = PublicJwk::new(&jwk).map_err(AdoptError::Unpublishable)?;
        let verifying = verifying(&jwk).ok_or(AdoptError::Jwk)?;
        if signs && !verifying.algorithms().contains(slot.algorithm) {
            return Err(AdoptError::OtherAlgorithm);
        }
        Ok((Adopted { slot: name, jwk, signs, tokens_until, remove_at }, private))
    }
}

/// Of a key that a holder has made for a slot of that algorithm: its thumbprint is its name.
pub(crate) fn public_jwk(public: Public, algorithm: Algorithm) -> Option<PublicJwk> {
    let jwk = match public {
        Public::Pem(pem) => public::of_pem(&pem, algorithm),
        Public::Jwk(jwk) => public::of_jwk(&jwk, Some(algorithm), algorithm),
    };
    PublicJwk::new(&jwk.ok()?).ok()
}

/// The public JWK without a name, or with its thumbprint for one; and the private part, if it is to sign.
fn read_pem(pem: &[u8], algorithm: Algorithm, signs: bool) -> Result<(Value, Option<PrivateDer>), AdoptError> {
    let key = match SigningKey::from_pem(pem, algorithm) {
        Ok(key) => key,
        Err(PemError::WrongLabel) if signs => {
            let is_public = public::of_pem(pem, algorithm).is_ok();
            return Err(if is_public { AdoptError::NoPrivatePart } else { AdoptError::Pem(PemError::WrongLabel) });
        }
        Err(PemError::WrongLabel) => return Ok((public::of_pem(pem, algorithm)?, None)),
        Err(error) => return Err(AdoptError::Pem(error)),
    };
    let unusable = |error| {
        AdoptError::Pem(PemError::Key(if let SignError::Key(error) = error { error } else { KeyError::Invalid }))
    };
    let thumbprint = key.verifying_key().map_err(unusable)?.thumbprint().to_string();
    let jwk = key.with_kid(thumbprint).public_jwk().map_err(unusable)?;
    if !signs {
        return Ok((jwk, None));
    }
    // The same section that was read above.
    let section = ::pem::parse(pem).map_err(|_| AdoptError::Pem(PemError::NotPem))?;
    Ok((jwk, Some(PrivateDer::new(section.into_contents()))))
}

fn named(mut jwk: Value, kid: Option<String>) -> Result<Value, AdoptError> {
    let members = jwk.as_object_mut().ok_or(AdoptError::Jwk)?;
    if let Some(kid) = kid {
        members.insert("kid".to_owned(), kid.into());
    }
    let kid = members.get("kid").and_then(Value::as_str).unwrap_or_default();
    if kid.is_empty() || kid.len() > MAX_STORED_KID_BYTES { Err(AdoptError::Kid) } else { Ok(jwk) }
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchSlot(slot) => write!(f, "there is no slot `{slot}`"),
            Self::Pem(error) => error.fmt(f),
            Self::Jwk => f.write_str("it is not a public JWK for that algorithm"),
            Self::Unpublishable(error) => error.fmt(f),
            Self::OtherAlgorithm => f.write_str("it does not sign with the algorithm of the slot"),
            Self::Kid => write!(f, "a kid has 1 to {MAX_STORED_KID_BYTES} bytes"),
            Self::NoPrivatePart => f.write_str("a public key does not sign"),
        }
    }
}

impl std::error::Error for AdoptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pem(error) => Some(error),
            Self::Unpublishable(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
