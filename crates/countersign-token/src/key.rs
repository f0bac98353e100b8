use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use aws_lc_rs::{hmac, signature::PqdsaVerificationAlgorithm};
use smallvec::SmallVec;

use crate::algorithm::{Algorithm, AlgorithmSet};
use crate::base64url;
use crate::error::SignatureError;
use crate::header::MAX_KID_BYTES;
use crate::thumbprint::Thumbprint;

/// The shortest RSA modulus that is accepted (RFC 7518 §3.3 and §3.5), bits.
pub const MIN_RSA_BITS: usize = 2048;

/// The longest RSA modulus that is accepted, bits: what the crypto library verifies, and 16 times the work of 2048 bits.
const MAX_RSA_BITS: usize = 8192;

/// The longest RSA exponent, bytes. Every key in use has 65537 or 3; a long exponent only makes verification slow.
const MAX_RSA_EXPONENT_BYTES: usize = 4;

/// A key that verifies signatures, parsed once.
///
/// What it can be used for was settled when it was made: the key decides the algorithm family and the token can only
/// agree, so a public key can never be mistaken for an HMAC secret.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<Box<str>>,
    /// The one issuer whose tokens it vouches for, if it is bound to one.
    issuer: Option<Arc<str>>,
    thumbprint: Thumbprint,
    algorithms: AlgorithmSet,
    prepared: SmallVec<[(Algorithm, Prepared); 1]>,
}

#[derive(Clone)]
enum Prepared {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

/// Why key material cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// An RSA modulus below [`MIN_RSA_BITS`].
    WeakRsa {
        /// Its length, bits.
        bits: usize,
    },
    /// An RSA modulus that is even, or longer than 8192 bits.
    BadModulus,
    /// An RSA exponent that is even, below 3, or longer than 32 bits.
    BadExponent,
    /// A coordinate or a public key of the wrong length.
    WrongLength,
    /// A point that is not on its curve, or an encoding that the crypto library refuses.
    Invalid,
    /// An HMAC secret shorter than the hash (RFC 7518 §3.2), for every admitted algorithm.
    ShortSecret,
    /// None of the admitted algorithms fits this kind of key.
    NoAlgorithm,
    /// A key name longer than [`MAX_KID_BYTES`].
    LongKid,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WeakRsa { bits } => write!(f, "RSA key of {bits} bits, at least {MIN_RSA_BITS} are needed"),
            Self::BadModulus => f.write_str("RSA modulus that is even or too long"),
            Self::BadExponent => f.write_str("RSA exponent that is even, below 3 or too long"),
            Self::WrongLength => f.write_str("key material of the wrong length"),
            Self::Invalid => f.write_str("not a valid public key: malformed, or a point off its curve"),
            Self::ShortSecret => f.write_str("HMAC secret shorter than its hash"),
            Self::NoAlgorithm => f.write_str("none of the admitted algorithms fits this kind of key"),
            Self::LongKid => f.write_str("key name too long"),
        }
    }
}

impl std::error::Error for KeyError {}

/// The curves of RFC 7518 §6.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| curve.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length of a coordinate, bytes.
    pub(crate) const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The one algorithm of the curve (RFC 7518 §3.4).
    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
        }
    }

    pub(crate) const fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::P521 => &signature::ECDSA_P521_SHA512_FIXED,
        }
    }
}

/// Key material, whatever document it came from.
pub(crate) enum Material {
    /// Big-endian modulus and exponent.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// Big-endian coordinates, each of exactly the curve's length.
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    /// The 32 octets of RFC 8032.
    Ed25519 { x: Vec<u8> },
    /// The encoded public key of FIPS 204; `algorithm` is one of the three.
    MlDsa { algorithm: Algorithm, public: Vec<u8> },
    /// An HMAC secret.
    Secret(Vec<u8>),
}

impl Material {
    /// The members of a public JWK, in the lexicographic order that a thumbprint needs.
    pub(crate) fn jwk_members(&self) -> Vec<(&'static str, String)> {
        let text = |text: &str| text.to_owned();
        match self {
            Self::Rsa { n, e } => vec![
                ("e", base64url::encode(without_leading_zeros(e))),
                ("kty", text("RSA")),
                ("n", base64url::encode(without_leading_zeros(n))),
            ],
            Self::Ec { curve, x, y } => vec![
                ("crv", text(curve.name())),
                ("kty", text("EC")),
                ("x", base64url::encode(x)),
                ("y", base64url::encode(y)),
            ],
            Self::Ed25519 { x } => {
                vec![("crv", text("Ed25519")), ("kty", text("OKP")), ("x", base64url::encode(x))]
            }
            Self::MlDsa { algorithm, public } => {
                vec![("alg", text(algorithm.name())), ("kty", text("AKP")), ("pub", base64url::encode(public))]
            }
            Self::Secret(secret) => vec![("k", base64url::encode(secret)), ("kty", text("oct"))],
        }
    }

    fn thumbprint(&self) -> Thumbprint {
        let members = self.jwk_members();
        Thumbprint::of(&members.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>())
    }

    /// What this kind of key can do at all.
    fn capable_of(&self) -> AlgorithmSet {
        match self {
            Self::Rsa { .. } => AlgorithmSet::RSA,
            Self::Ec { curve, .. } => curve.algorithm().into(),
            Self::Ed25519 { .. } => AlgorithmSet::EMPTY.with(Algorithm::EdDsa).with(Algorithm::Ed25519),
            Self::MlDsa { algorithm, .. } => (*algorithm).into(),
            Self::Secret(_) => AlgorithmSet::HMAC,
        }
    }

    fn check(&self) -> Result<(), KeyError> {
        match self {
            Self::Rsa { n, e } => {
                let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
                let bits = bit_len(n);
                if bits < MIN_RSA_BITS {
                    return Err(KeyError::WeakRsa { bits });
                }
                if bits > MAX_RSA_BITS || n.last().is_none_or(|last| last % 2 == 0) {
                    return Err(KeyError::BadModulus);
                }
                let odd = e.last().is_some_and(|last| last % 2 == 1);
                if !odd || e == [1] || e.len() > MAX_RSA_EXPONENT_BYTES {
                    return Err(KeyError::BadExponent);
                }
                Ok(())
            }
            Self::Ec { curve, x, y } if x.len() != curve.coordinate_len() || y.len() != curve.coordinate_len() => {
                Err(KeyError::WrongLength)
            }
            Self::Ed25519 { x } if x.len() != 32 => Err(KeyError::WrongLength),
            Self::MlDsa { algorithm, public } if public.len() != ml_dsa_public_key_len(*algorithm) => {
                Err(KeyError::WrongLength)
            }
            _ => Ok(()),
        }
    }

    fn prepare(&self, algorithm: Algorithm) -> Result<Prepared, KeyError> {
        match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents { n: without_leading_zeros(n), e: without_leading_zeros(e) }
                .to_parsed_public_key(rsa(algorithm).ok_or(KeyError::NoAlgorithm)?),
            Self::Ec { curve, x, y } => {
                let point = [&[UNCOMPRESSED_POINT], x.as_slice(), y.as_slice()].concat();
                ParsedPublicKey::new(curve.verification(), point)
            }
            Self::Ed25519 { x } => ParsedPublicKey::new(&signature::ED25519, x),
            Self::MlDsa { algorithm, public } => ParsedPublicKey::new(ml_dsa(*algorithm), public),
            Self::Secret(secret) => {
                let hash = hmac_hash(algorithm).ok_or(KeyError::NoAlgorithm)?;
                return Ok(Prepared::Secret(Box::new(hmac::Key::new(hash, secret))));
            }
        }
        .map(Prepared::Public)
        .map_err(|_| KeyError::Invalid)
    }
}

/// SEC 1 §2.3.3: the octet before `x ‖ y`.
pub(crate) const UNCOMPRESSED_POINT: u8 = 4;

impl VerifyingKey {
    /// `admitted` is what the document around the key allows it to do (all, if it says nothing).
    pub(crate) fn new(material: &Material, kid: Option<&str>, admitted: AlgorithmSet) -> Result<Self, KeyError> {
        material.check()?;
        let mut algorithms = material.capable_of().intersection(admitted);
        if algorithms.is_empty() {
            return Err(KeyError::NoAlgorithm);
        }
        if let Material::Secret(secret) = material {
            // RFC 7518 §3.2: a key of the hash's size or larger.
            algorithms = algorithms
                .iter()
                .filter(|algorithm| {
                    hmac_hash(*algorithm).is_some_and(|hash| secret.len() >= hash.digest_algorithm().output_len())
                })
                .collect();
            if algorithms.is_empty() {
                return Err(KeyError::ShortSecret);
            }
        }
        let prepared = algorithms
            .iter()
            .map(|algorithm| Ok((algorithm, material.prepare(algorithm)?)))
            .collect::<Result<_, KeyError>>()?;
        let key = Self { kid: None, issuer: None, thumbprint: material.thumbprint(), algorithms, prepared };
        match kid {
            Some(kid) => key.with_kid(kid),
            None => Ok(key),
        }
    }

    /// An HMAC secret shared with the issuer, for the algorithms among `algorithms` that it is long enough for.
    ///
    /// Secrets are only ever configured like this: a fetched key set cannot bring one in.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`] if it is shorter than the hash of every one of them.
    pub fn from_secret(secret: &[u8], algorithms: impl Into<AlgorithmSet>) -> Result<Self, KeyError> {
        Self::new(&Material::Secret(secret.to_vec()), None, algorithms.into())
    }

    /// Gives the key a name, so that tokens with that `kid` find it.
    ///
    /// # Errors
    /// [`KeyError::LongKid`] above [`MAX_KID_BYTES`].
    pub fn with_kid(mut self, kid: impl Into<Box<str>>) -> Result<Self, KeyError> {
        let kid = kid.into();
        if kid.len() > MAX_KID_BYTES {
            return Err(KeyError::LongKid);
        }
        self.kid = Some(kid);
        Ok(self)
    }

    /// Binds the key to an issuer: tokens that it has signed are refused unless their `iss` is that, character by character
    /// (RFC 8725 §3.8), whatever else is configured. So keys of several issuers can stand side by side, and none answers for another.
    #[must_use]
    pub fn bound_to_issuer(mut self, issuer: impl Into<Arc<str>>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// The issuer that the key is bound to, if it is.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The key's name, as its owner gave it.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The RFC 7638 thumbprint of the key material.
    #[must_use]
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// What the key may verify.
    #[must_use]
    pub fn algorithms(&self) -> AlgorithmSet {
        self.algorithms
    }

    /// Whether this is the same key under the same name for the same uses and the same issuer.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// What makes it this key and no other, in an order of no meaning.
    pub(crate) fn identity(&self) -> impl Ord + '_ {
        (&self.thumbprint, &self.kid, self.algorithms.bits(), &self.issuer)
    }

    /// The bare check of a signature over `message`, for protocols that are not JWS. It says nothing about claims;
    /// tokens go through [`UnverifiedToken::verify`](crate::UnverifiedToken::verify), which covers their header too.
    ///
    /// `signature` has the form that JWS gives it (RFC 7518 §3): for ECDSA `r ‖ s`, not DER.
    ///
    /// # Errors
    /// [`SignatureError::KeyNotEligible`] if the key cannot do `algorithm`; [`SignatureError::TooShort`] or
    /// [`SignatureError::Mismatch`] if the signature is not one of this key over this message.
    pub fn verify_bytes(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let (_, prepared) = self
            .prepared
            .iter()
            .find(|(prepared_for, _)| *prepared_for == algorithm)
            .ok_or(SignatureError::KeyNotEligible)?;
        match prepared {
            Prepared::Public(key) => key.verify_sig(message, signature),
            // Compares in constant time, and the whole tag.
            Prepared::Secret(key) => hmac::verify(key, message, signature),
        }
        .map_err(|_| {
            if signature.len() < shortest_signature(algorithm) {
                SignatureError::TooShort
            } else {
                SignatureError::Mismatch
            }
        })
    }
}

/// Shows name, thumbprint and use; never key material, which for HMAC is the secret itself.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("VerifyingKey");
        debug.field("kid", &self.kid).field("algorithms", &self.algorithms);
        if self.algorithms.intersection(AlgorithmSet::HMAC).is_empty() {
            // The thumbprint of a secret is a hash that guesses could be checked against.
            debug.field("thumbprint", &self.thumbprint);
        }
        debug.finish_non_exhaustive()
    }
}

/// The length below which no signature of `algorithm` lies, bytes.
pub(crate) fn shortest_signature(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Es256 | Algorithm::EdDsa | Algorithm::Ed25519 | Algorithm::Hs512 => 64,
        Algorithm::Es384 => 96,
        Algorithm::Es512 => 132,
        Algorithm::MlDsa44 => 2420,
        Algorithm::MlDsa65 => 3309,
        Algorithm::MlDsa87 => 4627,
        Algorithm::Hs256 => 32,
        Algorithm::Hs384 => 48,
        _ => MIN_RSA_BITS / 8,
    }
}

/// The length above which no signature of `algorithm` lies, bytes. All but RSA's have one length.
pub(crate) fn longest_signature(algorithm: Algorithm) -> usize {
    if AlgorithmSet::RSA.contains(algorithm) { MAX_RSA_BITS / 8 } else { shortest_signature(algorithm) }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

pub(crate) fn ml_dsa(algorithm: Algorithm) -> &'static PqdsaVerificationAlgorithm {
    match algorithm {
        Algorithm::MlDsa44 => &signature::ML_DSA_44,
        Algorithm::MlDsa65 => &signature::ML_DSA_65,
        // `Material::MlDsa` is made with one of the three only.
        _ => &signature::ML_DSA_87,
    }
}

/// Length of the encoded public key (FIPS 204 §4, table 2), bytes.
pub(crate) fn ml_dsa_public_key_len(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::MlDsa44 => 1312,
        Algorithm::MlDsa65 => 1952,
        _ => 2592,
    }
}

pub(crate) fn hmac_hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => return None,
    })
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn bit_len(without_leading_zeros: &[u8]) -> usize {
    without_leading_zeros.first().map_or(0, |first| without_leading_zeros.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa_key(bits: usize, last: u8, e: &[u8]) -> Result<VerifyingKey, KeyError> {
        let mut n = vec![0xff; bits / 8];
        *n.last_mut().unwrap() = last;
        VerifyingKey::new(&Material::Rsa { n, e: e.to_vec() }, None, AlgorithmSet::ASYMMETRIC)
    }

    #[test]
    fn rsa_keys_are_checked_when_they_are_made() {
        let f4 = &[1, 0, 1];
        assert!(rsa_key(2048, 0xff, f4).is_ok());
        assert_eq!(rsa_key(2040, 0xff, f4).map(drop), Err(KeyError::WeakRsa { bits: 2040 }));

        assert_eq!(rsa_key(2048, 0xfe, f4).map(drop), Err(KeyError::BadModulus));
        assert_eq!(rsa_key(8200, 0xff, f4).map(drop), Err(KeyError::BadModulus));
        for e in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert_eq!(rsa_key(2048, 0xff, e).map(drop), Err(KeyError::BadExponent), "{e:?}");
        }
        assert!(rsa_key(2048, 0xff, &[3]).is_ok());
    }

    #[test]
    fn secrets_do_only_what_they_are_long_enough_for() {
        let key = |length| VerifyingKey::from_secret(&vec![7; length], AlgorithmSet::HMAC).map(|key| key.algorithms());
        assert_eq!(key(31), Err(KeyError::ShortSecret));
        assert_eq!(key(32), Ok(Algorithm::Hs256.into()));
        assert_eq!(key(64), Ok(AlgorithmSet::HMAC));
        let asymmetric = VerifyingKey::from_secret(&[7; 64], AlgorithmSet::ASYMMETRIC);
        assert_eq!(asymmetric.map(drop), Err(KeyError::NoAlgorithm));
    }

    #[test]
    fn debug_shows_no_secret_and_no_hash_of_one() {
        let shown =
            format!("{:?}", VerifyingKey::from_secret(b"correct horse battery staple 1234", Algorithm::Hs256).unwrap());
        assert!(!shown.contains("horse") && !shown.contains("humbprint"), "{shown}");
    }
}
