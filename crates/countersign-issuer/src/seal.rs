//! Secrets at rest: private keys are encrypted before a store sees them, and the state document carries a code that
//! only those can make who hold the same key.

mod envelope;
mod error;
mod kek;
mod mac;
mod source;

use aws_lc_rs::aead::NONCE_LEN;
use countersign_token::PrivateDer;

pub use envelope::{KeyIdentity, MAX_PRIVATE_DER_BYTES, Purpose};
pub use error::{KekError, SealError};
pub use kek::{KEK_BYTES, Kek, KekId};
pub use mac::StateMac;
pub use source::{DEFAULT_COMMAND_TIME, KekSource, MAX_KEK_SOURCE_BYTES};

/// The most key-encryption keys in a [`KekRing`]. One seals, and one or two are on their way out.
pub const MAX_KEKS: usize = 16;

/// Key-encryption keys: the first one seals, all of them open. Nothing to do with the [ring](crate::Ring) of signing
/// keys, but that it seals that one's.
///
/// To replace one, start every node with the new one behind the old one, so that all can open it; then with the new one
/// in front. A rotator that starts so has each private key [sealed anew](Self::rewrap) when it opens it, and the next
/// version of the state carries the code of the new one (an [order to rotate](crate::Ring::rotate) writes one at once).
/// Leave the old one out when nothing is [sealed](Self::sealed_under) or [protected](StateMac::protected_under) under it
/// any more.
///
/// ```
/// use countersign_claims::UnixTime;
/// use countersign_issuer::{Kek, KekRing, KeyIdentity, Purpose, SealError};
/// use countersign_token::{Algorithm, SigningKey};
///
/// let ring = KekRing::new([Kek::random()?])?;
/// let (key, der) = SigningKey::generate_exportable(Algorithm::Es256)?;
/// let kid = key.verifying_key()?.thumbprint().to_string();
/// let identity = KeyIdentity {
///     issuer: "https://issuer.example",
///     kid: &kid,
///     algorithm: Algorithm::Es256,
///     purpose: Purpose::Signing,
///     created_at: UnixTime::from_secs(1_800_000_000),
/// };
///
/// let sealed = ring.seal(&identity, &der)?;
/// assert_eq!(ring.open(&identity, &sealed)?.as_bytes(), der.as_bytes());
/// // In the place of another key's it is worth nothing.
/// let other = KeyIdentity { kid: "another", ..identity };
/// assert_eq!(ring.open(&other, &sealed).err(), Some(SealError::Undecryptable));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KekRing(Vec<Kek>);

impl KekRing {
    /// The first one seals.
    ///
    /// # Errors
    /// If there is none, the same one twice, or more than [`MAX_KEKS`].
    pub fn new(keks: impl IntoIterator<Item = Kek>) -> Result<Self, KekError> {
        let keks: Vec<_> = keks.into_iter().take(MAX_KEKS + 1).collect();
        if keks.is_empty() {
            return Err(KekError::Ring("there is no key-encryption key"));
        }
        if keks.len() > MAX_KEKS {
            return Err(KekError::Ring("there are more than 16 key-encryption keys"));
        }
        if keks.iter().enumerate().any(|(at, kek)| keks.iter().take(at).any(|other| other.id() == kek.id())) {
            return Err(KekError::Ring("the same key-encryption key is there twice"));
        }
        Ok(Self(keks))
    }

    /// All that can open, first the one that seals.
    pub fn ids(&self) -> impl Iterator<Item = KekId> {
        self.0.iter().map(Kek::id)
    }

    /// Seals a private key under a new key of its own, and that one under the first key-encryption key. Twice the same
    /// is never the same.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] for more than [`MAX_PRIVATE_DER_BYTES`]; [`SealError::Crypto`] if the library has no
    /// randomness.
    pub fn seal(&self, identity: &KeyIdentity<'_>, der: &PrivateDer) -> Result<Vec<u8>, SealError> {
        envelope::seal(self.first()?, identity, der.as_bytes())
    }

    /// Opens what was sealed for just this identity.
    ///
    /// # Errors
    /// [`SealError::Malformed`] and [`SealError::UnknownVersion`] if it is nothing that was sealed here,
    /// [`SealError::UnknownKek`] if the ring lacks the key, and [`SealError::Undecryptable`] if it was changed, or
    /// sealed for another identity.
    pub fn open(&self, identity: &KeyIdentity<'_>, sealed: &[u8]) -> Result<PrivateDer, SealError> {
        let envelope = envelope::Envelope::parse(sealed)?;
        envelope.open(self.find(envelope.kek)?, identity).map(PrivateDer::new)
    }

    /// The same key sealed under the first key-encryption key; `None` if it is already. Only the key's own key is
    /// encrypted anew.
    ///
    /// # Errors
    /// As [`open`](Self::open): what does not open is left alone.
    pub fn rewrap(&self, identity: &KeyIdentity<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        let envelope = envelope::Envelope::parse(sealed)?;
        let (under, first) = (self.find(envelope.kek)?, self.first()?);
        // What it was made of is of no use here, but that it can be opened is.
        drop(envelope.open(under, identity).map(PrivateDer::new)?);
        if under.id() == first.id() {
            return Ok(None);
        }
        envelope.rewrap(under, first, identity).map(Some)
    }

    /// Under which key-encryption key that is sealed, whether it is in the ring or not.
    ///
    /// # Errors
    /// [`SealError::Malformed`] and [`SealError::UnknownVersion`].
    pub fn sealed_under(sealed: &[u8]) -> Result<KekId, SealError> {
        envelope::Envelope::parse(sealed).map(|envelope| envelope.kek)
    }

    fn first(&self) -> Result<&Kek, SealError> {
        // `new` lets no ring be without one.
        self.0.first().ok_or(SealError::Crypto)
    }

    fn find(&self, id: KekId) -> Result<&Kek, SealError> {
        self.0.iter().find(|kek| kek.id() == id).ok_or(SealError::UnknownKek(id))
    }
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut random = [0; N];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| SealError::Crypto)?;
    Ok(random)
}

fn nonce() -> Result<[u8; NONCE_LEN], SealError> {
    random()
}

/// Strings one after the other, each with its length, so that no two lists of them look alike.
fn append(text: &mut Vec<u8>, part: &[u8]) {
    text.extend_from_slice(&(part.len() as u64).to_be_bytes());
    text.extend_from_slice(part);
}

#[cfg(test)]
mod tests;
