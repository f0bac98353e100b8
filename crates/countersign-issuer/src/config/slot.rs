use std::time::Duration;

use countersign_token::{Algorithm, RsaBits};

/// The longest name of a slot, bytes: it is a label in metrics and a member in the state.
pub const MAX_SLOT_NAME_BYTES: usize = 64;

/// One kind of key that the ring always has one of to sign with: an algorithm, and for RSA a size.
///
/// A ring that is there knows its slots by their names. One that is configured with another algorithm from now on has
/// the keys made from now on be of that kind, and those that there are live to their end; one that is left out stays
/// (see [what is not there](crate#what-is-not-there)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// What minting, commands and metrics call it: letters of ASCII, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its keys sign with.
    pub algorithm: Algorithm,
    /// How large they are, if they are RSA keys.
    pub rsa_bits: Option<RsaBits>,
    /// `L` of this slot; `None`: [`Timing::max_lifetime`](crate::Timing::max_lifetime).
    pub max_lifetime: Option<Duration>,
}

impl Slot {
    /// A slot of keys that have but one size; RSA keys have 2048 bits.
    #[must_use]
    pub fn new(name: impl Into<String>, algorithm: Algorithm) -> Self {
        let rsa_bits = is_rsa(algorithm).then(RsaBits::default);
        Self { name: name.into(), algorithm, rsa_bits, max_lifetime: None }
    }

    /// A slot of RSA keys of that size.
    #[must_use]
    pub fn rsa(name: impl Into<String>, algorithm: Algorithm, bits: RsaBits) -> Self {
        Self { name: name.into(), algorithm, rsa_bits: Some(bits), max_lifetime: None }
    }

    /// Sets `L` of this slot. To make it shorter again shortens tokens, and not what is waited for
    /// ([`Terms`](crate::state::Terms)).
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Bytes of one public key of this slot in a JWKS, at most.
    pub(crate) fn jwk_bytes(&self) -> usize {
        let material: usize = match self.algorithm {
            Algorithm::MlDsa44 => 1_312,
            Algorithm::MlDsa65 => 1_952,
            Algorithm::MlDsa87 => 2_592,
            Algorithm::Es512 => 132,
            Algorithm::Es384 => 96,
            Algorithm::Es256 => 64,
            _ => match self.rsa_bits {
                Some(RsaBits::B2048) => 259,
                Some(RsaBits::B3072) => 387,
                Some(_) => 515,
                None => 32,
            },
        };
        material.div_ceil(3) * 4 + JWK_FRAME_BYTES
    }

    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > MAX_SLOT_NAME_BYTES || !self.name.bytes().all(fits) {
            Some("its name is not 1 to 64 letters, digits, `-`, `_` or `.`")
        } else if self.algorithm.is_symmetric() {
            Some("HMAC has no public key to publish")
        } else if is_rsa(self.algorithm) != self.rsa_bits.is_some() {
            Some("a size goes with RSA, and RSA with a size")
        } else {
            None
        }
    }
}

/// Names, a `kid` of 43 characters, `alg`, `use`, `kty`, `crv`, an exponent, and punctuation.
const JWK_FRAME_BYTES: usize = 150;

fn is_rsa(algorithm: Algorithm) -> bool {
    use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
}
