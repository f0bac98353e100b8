//! Keys that a ring does not hold itself.

use std::fmt;
use std::sync::Arc;

use countersign_token::{Algorithm, PrivateDer};
use serde_json::Value;

use crate::config::Slot;
use crate::signer::Signer;

/// Where the private keys of a ring are made and stay: a module (PKCS#11) or a service (a KMS) that never hands them out.
/// Given to a node by [`RingBuilder::key_holder`](crate::RingBuilder::key_holder); all nodes of a ring need the same.
///
/// What it gives in place of a private key is a **reference**: whatever it takes to find the key again, on any node. The
/// ring treats that as it treats private keys: sealed, stored before the key signs, opened by each node, and tested against
/// what is published. At the end of a key the reference is destroyed; the key itself is for the holder's own housekeeping,
/// which [`RingBuilder::on_event`](crate::RingBuilder::on_event) can start.
///
/// Both methods are called on threads where they may block; keys that take longer than 60 s to make are given up.
/// [`Signer::sign`] is called by whoever mints: a service that is asked over the network holds that thread up for as long
/// as it takes, and allows only as many tokens as its quota does.
pub trait KeyHolder: Send + Sync + 'static {
    /// A new key for that slot, of its algorithm, which is checked, and of its size, which is not. A reference has at most
    /// [`MAX_PRIVATE_DER_BYTES`](crate::MAX_PRIVATE_DER_BYTES).
    ///
    /// # Errors
    /// [`HolderError`]; the ring asks again at its next look.
    fn make(&self, slot: &Slot) -> Result<HeldKey, HolderError>;

    /// Who signs with the key of a reference; `None` if the octets are no reference of this holder's, but a private key
    /// (PKCS#8) that was [adopted](crate::Ring::adopt), or made before there was a holder: the ring opens that itself.
    /// They are whatever was sealed under the ring's own key-encryption keys, and so nobody else's.
    fn open(&self, reference: &[u8], algorithm: Algorithm) -> Option<Result<Arc<dyn Signer>, HolderError>>;
}

/// A key that was made elsewhere.
pub struct HeldKey {
    pub(crate) public: Public,
    pub(crate) reference: PrivateDer,
}

/// The two forms in which holders give public keys.
pub(crate) enum Public {
    Pem(Vec<u8>),
    Jwk(Value),
}

impl HeldKey {
    /// Its public part in PEM (SubjectPublicKeyInfo), and what [`KeyHolder::open`] finds it by. It is named by its
    /// thumbprint (RFC 7638).
    #[must_use]
    pub fn from_pem(pem: impl AsRef<[u8]>, reference: Vec<u8>) -> Self {
        Self { public: Public::Pem(pem.as_ref().to_vec()), reference: PrivateDer::new(reference) }
    }

    /// The same with a JWK, whose `kid` does not count.
    #[must_use]
    pub fn from_jwk(mut jwk: Value, reference: Vec<u8>) -> Self {
        if let Some(members) = jwk.as_object_mut() {
            members.remove("kid");
        }
        Self { public: Public::Jwk(jwk), reference: PrivateDer::new(reference) }
    }
}

/// Shows neither.
impl fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldKey").finish_non_exhaustive()
    }
}

/// Why a holder could not: for people, in events and in the log. Neither a secret nor a reference belongs into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderError(Box<str>);

impl HolderError {
    /// With this text.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for HolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HolderError {}
