//! What signs: a key in memory, or somebody who holds it.

use countersign_token::{Algorithm, SignError, SigningKey};

/// Somebody who signs with one key. A key in memory does ([`SigningKey`]); so does a module or a service that never hands its key
/// out, which is plugged in as a [`KeyHolder`](crate::KeyHolder).
///
/// It is called by whoever mints, on its thread, and shared by all of them: it takes no lock that a slow caller could hold.
pub trait Signer: Send + Sync + 'static {
    /// What it signs with.
    fn algorithm(&self) -> Algorithm;

    /// The signature of `message`, in the form of a JWS (RFC 7518 §3).
    ///
    /// # Errors
    /// [`SignError`] if it could not sign; nothing of the key is in it.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

impl Signer for SigningKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.signature(message)
    }
}
