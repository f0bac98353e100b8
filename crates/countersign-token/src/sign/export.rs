//! The other door by which keys are made: with what is needed to open them again.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use zeroize::Zeroize;

use super::{Pair, RsaBits, SignError, SigningKey};
use crate::algorithm::Algorithm;
use crate::key::KeyError;

/// A private key in DER, in clear, for as long as it takes to encrypt it: what [`SigningKey::from_der`] reads.
/// Overwritten with zeros when it is dropped; there is no `Debug` and no `Clone`.
///
/// ```compile_fail
/// fn show(key: &countersign_token::PrivateDer) {
///     println!("{key:?}");
/// }
/// ```
///
/// ```compile_fail
/// fn copy(key: &countersign_token::PrivateDer) -> countersign_token::PrivateDer {
///     key.clone()
/// }
/// ```
pub struct PrivateDer(Vec<u8>);

impl PrivateDer {
    /// Takes over what was decrypted or read. If the vector was grown, what it has left behind in memory is beyond
    /// reach.
    #[must_use]
    pub fn new(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// The DER. Whoever copies it sees to it that the copy is overwritten.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PrivateDer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl SigningKey {
    /// Makes a new key as [`generate`](Self::generate) does, and gives its private part away, once, as PKCS#8 (RFC
    /// 5958; version 1, which OpenSSL reads).
    ///
    /// There is no way to get the private part out of a `SigningKey` that is already there: a key that was made by
    /// `generate` or read from somewhere can sign and be dropped, whatever code it is handed to. A key ring, which must
    /// find its keys again after a restart, makes them here.
    ///
    /// # Errors
    /// [`KeyError::NoAlgorithm`] for HMAC, [`SignError::Crypto`] if the library has no randomness.
    pub fn generate_exportable(algorithm: Algorithm) -> Result<(Self, PrivateDer), SignError> {
        if algorithm.is_symmetric() {
            return Err(KeyError::NoAlgorithm.into());
        }
        Self::generate(algorithm)?.exported()
    }

    /// The same for [`generate_rsa`](Self::generate_rsa).
    ///
    /// # Errors
    /// As there.
    pub fn generate_rsa_exportable(algorithm: Algorithm, bits: RsaBits) -> Result<(Self, PrivateDer), SignError> {
        Self::generate_rsa(algorithm, bits)?.exported()
    }

    fn exported(self) -> Result<(Self, PrivateDer), SignError> {
        // The library's documents overwrite themselves, too.
        let der = match &self.pair {
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map(|der| der.as_ref().to_vec()),
            Pair::Ec(_, pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::MlDsa(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Secret { .. } => return Err(KeyError::NoAlgorithm.into()),
        };
        let der = PrivateDer::new(der.map_err(|_| SignError::Crypto)?);
        Ok((self, der))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, UnverifiedToken};

    /// Whether a token of the one verifies with the other's public key.
    fn fits(signer: &SigningKey, verifier: &SigningKey) -> bool {
        let token = signer.sign(&serde_json::json!({ "sub": "ada" })).unwrap();
        let mut scratch = HeaderScratch::new();
        let token = UnverifiedToken::parse(&token, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).unwrap();
        token.verify(&verifier.verifying_key().unwrap().into()).is_ok()
    }

    #[test]
    fn what_is_exported_opens_as_the_same_key() {
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
            let (key, der) = SigningKey::generate_exportable(algorithm).unwrap();
            let opened = SigningKey::from_der(der.as_bytes(), algorithm).unwrap();
            assert!(fits(&key, &opened) && fits(&opened, &key), "{algorithm}");
            assert!(opened.verifying_key().unwrap().is_same_as(&key.verifying_key().unwrap()), "{algorithm}");

            let (other, other_der) = SigningKey::generate_exportable(algorithm).unwrap();
            assert!(!fits(&other, &key) && der.as_bytes() != other_der.as_bytes(), "{algorithm}");
        }
    }

    #[test]
    fn rsa_keys_are_exported_in_every_size() {
        for (bits, bytes) in [(RsaBits::B2048, 256), (RsaBits::B3072, 384), (RsaBits::B4096, 512)] {
            let (key, der) = SigningKey::generate_rsa_exportable(Algorithm::Ps256, bits).unwrap();
            // For another algorithm of the same keys, too.
            let opened = SigningKey::from_der(der.as_bytes(), Algorithm::Rs256).unwrap();
            assert_eq!(opened.signature(b"message").unwrap().len(), bytes);
            let thumbprint = |key: &SigningKey| *key.verifying_key().unwrap().thumbprint();
            assert_eq!(thumbprint(&opened), thumbprint(&key));
        }
    }

    #[test]
    fn a_shared_secret_is_not_exported() {
        let error = SigningKey::generate_exportable(Algorithm::Hs256).map(drop).unwrap_err();
        assert_eq!(error, KeyError::NoAlgorithm.into());
        let error = SigningKey::generate_rsa_exportable(Algorithm::Es256, RsaBits::B2048).map(drop).unwrap_err();
        assert_eq!(error, KeyError::NoAlgorithm.into());
    }
}
