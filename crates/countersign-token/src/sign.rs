mod export;
mod jwk;

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, PqdsaKeyPair, PqdsaSigningAlgorithm,
    RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa::KeySize};
use serde::Serialize;

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::key::{Curve, KeyError, Material, UNCOMPRESSED_POINT, VerifyingKey, hmac_hash};

pub use export::PrivateDer;

/// A private key (or an HMAC secret) that signs tokens with one algorithm.
///
/// ```
/// use countersign_token::{Algorithm, SigningKey};
///
/// let key = SigningKey::generate(Algorithm::Ed25519)?.with_kid("k1");
/// let token = key.sign_as("at+jwt", &serde_json::json!({ "sub": "ada", "exp": 2_000_000_000 }))?;
/// assert_eq!(token.split('.').count(), 3);
/// assert_eq!(key.public_jwk()?["kid"], "k1");
/// # Ok::<(), countersign_token::SignError>(())
/// ```
pub struct SigningKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
    Secret { key: Box<hmac::Key>, secret: Vec<u8> },
}

/// The size of an RSA key that is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RsaBits {
    /// 2048 bits, the default.
    #[default]
    B2048,
    /// 3072 bits.
    B3072,
    /// 4096 bits.
    B4096,
}

/// Why a key could not be made or did not sign. Carries nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// The key is not a valid private key for the algorithm.
    Key(KeyError),
    /// There is no public form of a shared secret.
    Symmetric,
    /// The claims could not be written as JSON.
    Claims,
    /// The crypto library or its source of randomness failed.
    Crypto,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => write!(f, "the key cannot be used: {error}"),
            Self::Symmetric => f.write_str("a shared secret has no public form"),
            Self::Claims => f.write_str("the claims cannot be written as JSON"),
            Self::Crypto => f.write_str("the crypto library failed"),
        }
    }
}

impl std::error::Error for SignError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key(error) => Some(error),
            _ => None,
        }
    }
}

impl From<KeyError> for SignError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl SigningKey {
    /// Makes a new key: RSA with 2048 bits, HMAC with a secret as long as the hash.
    ///
    /// # Errors
    /// [`SignError::Crypto`] if the library has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, SignError> {
        let pair = if let Some(curve) = curve(algorithm) {
            Pair::Ec(curve, EcdsaKeyPair::generate(ec_signing(curve)).map_err(|_| SignError::Crypto)?)
        } else if let Some(scheme) = ml_dsa_signing(algorithm) {
            Pair::MlDsa(PqdsaKeyPair::generate(scheme).map_err(|_| SignError::Crypto)?)
        } else if let Some(hash) = hmac_hash(algorithm) {
            let mut secret = vec![0; hash.digest_algorithm().output_len()];
            aws_lc_rs::rand::fill(&mut secret).map_err(|_| SignError::Crypto)?;
            return Self::from_secret(&secret, algorithm);
        } else if rsa_encoding(algorithm).is_some() {
            return Self::generate_rsa(algorithm, RsaBits::default());
        } else {
            Pair::Ed25519(Ed25519KeyPair::generate().map_err(|_| SignError::Crypto)?)
        };
        Ok(Self { kid: None, algorithm, pair })
    }

    /// Makes a new RSA key of that size. Slow: seconds in a debug build.
    ///
    /// # Errors
    /// [`KeyError::NoAlgorithm`] if `algorithm` is not one of RSA's.
    pub fn generate_rsa(algorithm: Algorithm, bits: RsaBits) -> Result<Self, SignError> {
        if rsa_encoding(algorithm).is_none() {
            return Err(KeyError::NoAlgorithm.into());
        }
        let size = match bits {
            RsaBits::B2048 => KeySize::Rsa2048,
            RsaBits::B3072 => KeySize::Rsa3072,
            RsaBits::B4096 => KeySize::Rsa4096,
        };
        let pair = RsaKeyPair::generate(size).map_err(|_| SignError::Crypto)?;
        Ok(Self { kid: None, algorithm, pair: Pair::Rsa(pair) })
    }

    /// A private key from PKCS#8 DER (RFC 5958); for RSA, PKCS#1 too.
    ///
    /// # Errors
    /// [`SignError::Key`] if it is not a private key for `algorithm`, or weaker than a verifier accepts.
    pub fn from_der(der: &[u8], algorithm: Algorithm) -> Result<Self, SignError> {
        let pair = if let Some(curve) = curve(algorithm) {
            EcdsaKeyPair::from_private_key_der(ec_signing(curve), der).map(|pair| Pair::Ec(curve, pair))
        } else if let Some(scheme) = ml_dsa_signing(algorithm) {
            PqdsaKeyPair::from_pkcs8(scheme, der).map(Pair::MlDsa)
        } else if rsa_encoding(algorithm).is_some() {
            RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).map(Pair::Rsa)
        } else if hmac_hash(algorithm).is_some() {
            return Err(KeyError::NoAlgorithm.into());
        } else {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519)
        };
        let key = Self { kid: None, algorithm, pair: pair.map_err(|_| KeyError::Invalid)? };
        // A key that no verifier would accept is refused here and not at the first token.
        key.verifying_key()?;
        Ok(key)
    }

    /// A shared secret, for one of the HMAC algorithms.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`] if it is shorter than the hash (RFC 7518 §3.2).
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, SignError> {
        let hash = hmac_hash(algorithm).ok_or(KeyError::NoAlgorithm)?;
        VerifyingKey::from_secret(secret, algorithm)?;
        let pair = Pair::Secret { key: Box::new(hmac::Key::new(hash, secret)), secret: secret.to_vec() };
        Ok(Self { kid: None, algorithm, pair })
    }

    /// Gives the key a name, which goes into the header of what it signs.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<Box<str>>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The key's name.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs `claims` as a token with `typ: JWT`.
    ///
    /// # Errors
    /// [`SignError::Claims`] if they are not JSON.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        self.sign_as("JWT", claims)
    }

    /// Signs `claims` as a token of the given type, such as `at+jwt` (RFC 9068 §2.1).
    ///
    /// # Errors
    /// [`SignError::Claims`] if they are not JSON.
    pub fn sign_as(&self, typ: &str, claims: &impl Serialize) -> Result<String, SignError> {
        #[derive(Serialize)]
        struct JoseHeader<'a> {
            typ: &'a str,
            alg: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            kid: Option<&'a str>,
        }
        let header = JoseHeader { typ, alg: self.algorithm.name(), kid: self.kid() };
        let header = serde_json::to_vec(&header).map_err(|_| SignError::Claims)?;
        let claims = serde_json::to_vec(claims).map_err(|_| SignError::Claims)?;
        let mut token = base64url::encode(&header);
        token.push('.');
        token.push_str(&base64url::encode(&claims));
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        token.push_str(&base64url::encode(&signature));
        Ok(token)
    }

    /// The bare signature of `message`, in the form that JWS wants (RFC 7518 §3).
    ///
    /// # Errors
    /// [`SignError::Crypto`] if the library fails.
    pub fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding = rsa_encoding(self.algorithm).ok_or(KeyError::NoAlgorithm)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).map_err(|_| SignError::Crypto)?;
                Ok(signature)
            }
            Pair::Ec(_, pair) => {
                pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(|_| SignError::Crypto)
            }
            Pair::Ed25519(pair) => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec()).map_err(|_| SignError::Crypto)
            }
            Pair::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                let length = pair.sign(message, &mut signature).map_err(|_| SignError::Crypto)?;
                signature.truncate(length);
                Ok(signature)
            }
            Pair::Secret { key, .. } => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }

    /// The key that verifies what this one signs, under the same name and for this one algorithm.
    ///
    /// # Errors
    /// [`SignError::Key`] if the public part is not one that verifiers accept.
    pub fn verifying_key(&self) -> Result<VerifyingKey, SignError> {
        let key = VerifyingKey::new(&self.public_material()?, self.kid(), self.algorithm.into())?;
        Ok(key)
    }

    /// The public JWK (RFC 7517), with `kid`, `alg` and `use: sig`; never a private member.
    ///
    /// # Errors
    /// [`SignError::Symmetric`] for HMAC.
    pub fn public_jwk(&self) -> Result<serde_json::Value, SignError> {
        if matches!(self.pair, Pair::Secret { .. }) {
            return Err(SignError::Symmetric);
        }
        let mut jwk = serde_json::Map::new();
        for (name, value) in self.public_material()?.jwk_members() {
            jwk.insert(name.to_owned(), value.into());
        }
        jwk.insert("alg".to_owned(), self.algorithm.name().into());
        jwk.insert("use".to_owned(), "sig".into());
        if let Some(kid) = self.kid() {
            jwk.insert("kid".to_owned(), kid.into());
        }
        Ok(jwk.into())
    }

    fn public_material(&self) -> Result<Material, SignError> {
        Ok(match &self.pair {
            Pair::Rsa(pair) => Material::Rsa {
                n: pair.public_key().modulus().big_endian_without_leading_zero().to_vec(),
                e: pair.public_key().exponent().big_endian_without_leading_zero().to_vec(),
            },
            Pair::Ec(curve, pair) => {
                Material::from_point(*curve, pair.public_key().as_ref()).ok_or(KeyError::Invalid)?
            }
            Pair::Ed25519(pair) => Material::Ed25519 { x: pair.public_key().as_ref().to_vec() },
            Pair::MlDsa(pair) => {
                Material::MlDsa { algorithm: self.algorithm, public: pair.public_key().as_ref().to_vec() }
            }
            Pair::Secret { secret, .. } => Material::Secret(secret.clone()),
        })
    }
}

impl Material {
    /// From an uncompressed point (SEC 1 §2.3.3).
    pub(crate) fn from_point(curve: Curve, point: &[u8]) -> Option<Self> {
        let (first, coordinates) = point.split_first()?;
        if *first != UNCOMPRESSED_POINT || coordinates.len() != 2 * curve.coordinate_len() {
            return None;
        }
        let (x, y) = coordinates.split_at(curve.coordinate_len());
        Some(Self::Ec { curve, x: x.to_vec(), y: y.to_vec() })
    }
}

/// Shows name and algorithm, never the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn curve(algorithm: Algorithm) -> Option<Curve> {
    [Curve::P256, Curve::P384, Curve::P521].into_iter().find(|curve| curve.algorithm() == algorithm)
}

fn ec_signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
    }
}

fn ml_dsa_signing(algorithm: Algorithm) -> Option<&'static PqdsaSigningAlgorithm> {
    Some(match algorithm {
        Algorithm::MlDsa44 => &signature::ML_DSA_44_SIGNING,
        Algorithm::MlDsa65 => &signature::ML_DSA_65_SIGNING,
        Algorithm::MlDsa87 => &signature::ML_DSA_87_SIGNING,
        _ => return None,
    })
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, KeySet, SignatureError, UnverifiedToken};

    fn verify(token: &str, keys: &KeySet) -> Result<Vec<u8>, SignatureError> {
        let mut scratch = HeaderScratch::new();
        let token = UnverifiedToken::parse(token, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).unwrap();
        let key = keys.candidates(token.header().kid(), token.header().algorithm()).next().expect("a candidate");
        token.verify(key).map(|payload| payload.bytes().to_vec())
    }

    #[test]
    fn every_algorithm_signs_and_verifies() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm).unwrap().with_kid("k\"1");
            let keys = KeySet::new([key.verifying_key().unwrap()]);
            let token = key.sign(&serde_json::json!({"sub": "ada"})).unwrap();
            assert_eq!(verify(&token, &keys).unwrap(), br#"{"sub":"ada"}"#, "{algorithm}");

            let other = SigningKey::generate(algorithm).unwrap().with_kid("k\"1");
            let others = KeySet::new([other.verifying_key().unwrap()]);
            assert_eq!(verify(&token, &others), Err(SignatureError::Mismatch), "{algorithm}");

            let (input, _) = token.rsplit_once('.').unwrap();
            assert_eq!(verify(&format!("{input}."), &keys), Err(SignatureError::TooShort), "{algorithm}");
        }
    }

    #[test]
    fn public_jwks_are_read_back_as_the_same_key() {
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
            let key = SigningKey::generate(algorithm).unwrap().with_kid("k1");
            let jwk = key.public_jwk().unwrap();
            assert!(["d", "p", "q", "priv", "k"].iter().all(|member| jwk.get(member).is_none()));
            let set = serde_json::json!({ "keys": [jwk] }).to_string();
            let set = crate::JwkSet::parse(set.as_bytes(), crate::Origin::Remote).unwrap();
            assert!(set.keys()[0].is_same_as(&key.verifying_key().unwrap()), "{algorithm}: {:?}", set.skipped());
        }
        let secret = SigningKey::generate(Algorithm::Hs256).unwrap();
        assert_eq!(secret.public_jwk(), Err(SignError::Symmetric));
    }

    #[test]
    fn keys_that_do_not_fit_are_refused_when_they_are_loaded() {
        assert_eq!(SigningKey::from_secret(&[1; 63], Algorithm::Hs512).map(drop), Err(KeyError::ShortSecret.into()));
        assert_eq!(SigningKey::from_secret(&[1; 64], Algorithm::Es256).map(drop), Err(KeyError::NoAlgorithm.into()));
        assert_eq!(SigningKey::from_der(b"nonsense", Algorithm::Rs256).map(drop), Err(KeyError::Invalid.into()));
        assert_eq!(
            SigningKey::generate_rsa(Algorithm::Es256, RsaBits::B2048).map(drop),
            Err(KeyError::NoAlgorithm.into())
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SigningKey::from_secret(b"correct horse battery staple 1234", Algorithm::Hs256).unwrap();
        assert!(!format!("{key:?}").contains("horse"));
    }
}
