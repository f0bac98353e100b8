use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, PqdsaKeyPair, RsaKeyPair};
use countersign_token::{Algorithm, SigningKey, VerifyingKey};
use serde_json::Value;

/// A key to sign test tokens with. Cheap to clone.
///
/// A process makes each key once, when it is first asked for: the [`nth`](Self::nth) RSA key costs the first test that wants
/// it a tenth of a second or more, and the others nothing. No two processes have the same keys.
///
/// ```
/// use countersign_testkit::TestKey;
/// use countersign_token::Algorithm;
///
/// let key = TestKey::nth(Algorithm::Rs256, 0);
/// assert_eq!(key.kid(), Some("RS256-0"));
/// assert_eq!(key.public_jwk(), TestKey::nth(Algorithm::Rs256, 0).public_jwk());
/// assert_ne!(key.public_jwk(), TestKey::nth(Algorithm::Rs256, 1).public_jwk());
/// assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----"));
/// ```
#[derive(Clone)]
pub struct TestKey {
    kid: Option<Arc<str>>,
    algorithm: Algorithm,
    made: Arc<Made>,
}

struct Made {
    signer: SigningKey,
    /// PKCS#8; for HMAC the secret itself.
    private: Vec<u8>,
    /// SubjectPublicKeyInfo; for HMAC empty.
    public: Vec<u8>,
}

impl TestKey {
    /// The key number `n` of this process for that algorithm, under a `kid` that says so.
    ///
    /// Providers take theirs from number 1000 up; those below are the test's own.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn nth(algorithm: Algorithm, n: usize) -> Self {
        type Slot = Arc<OnceLock<Arc<Made>>>;
        static KEYS: Mutex<Option<HashMap<(Algorithm, usize), Slot>>> = Mutex::new(None);

        let slot = {
            let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keys.get_or_insert_default().entry((algorithm, n)).or_default())
        };
        // Outside the lock: whoever wants another key does not wait for this one.
        let made = Arc::clone(slot.get_or_init(|| Arc::new(make(algorithm))));
        Self { kid: Some(format!("{algorithm}-{n}").into()), algorithm, made }
    }

    /// The same key under another name.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<Arc<str>>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The same key without a name: neither its JWK nor the tokens it signs have a `kid`.
    #[must_use]
    pub fn without_kid(mut self) -> Self {
        self.kid = None;
        self
    }

    /// The name that its JWK has, and the tokens it signs.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as `countersign` wants it to sign.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        let key = read(&self.made.private, self.algorithm);
        match &self.kid {
            Some(kid) => key.with_kid(&**kid),
            None => key,
        }
    }

    /// The key as `countersign` wants it to verify, for a set of static keys.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.signing_key().verifying_key().expect("the key has been made for this")
    }

    /// The public key as an issuer publishes it (RFC 7517), with `kid`, `alg` and `use`.
    ///
    /// # Panics
    /// For HMAC: nobody publishes a secret.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        self.signing_key().public_jwk().expect("the public part of a key pair")
    }

    /// The public key in PEM (`BEGIN PUBLIC KEY`).
    ///
    /// # Panics
    /// For HMAC, which has none.
    #[must_use]
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", self.public_der().expect("a secret has no public form"))
    }

    /// The private key in PEM (`BEGIN PRIVATE KEY`, PKCS#8).
    ///
    /// # Panics
    /// For HMAC, whose secrets have no such form.
    #[must_use]
    pub fn private_pem(&self) -> String {
        assert!(!self.algorithm.is_symmetric(), "a shared secret has no PEM form");
        pem("PRIVATE KEY", &self.made.private)
    }

    /// The shared secret of an HMAC key.
    #[must_use]
    pub fn secret(&self) -> Option<&[u8]> {
        self.algorithm.is_symmetric().then_some(&self.made.private)
    }

    /// The public key in DER (SubjectPublicKeyInfo); `None` for HMAC.
    #[must_use]
    pub fn public_der(&self) -> Option<&[u8]> {
        (!self.algorithm.is_symmetric()).then_some(&self.made.public)
    }

    /// The bare signature of a JWS signing input, whatever it says.
    pub(crate) fn signature(&self, input: &[u8]) -> Vec<u8> {
        self.made.signer.signature(input).expect("the system has randomness")
    }

    /// Another key of this process for the same algorithm, which nobody publishes, under the same name: an attacker's.
    pub(crate) fn impostor(&self) -> Self {
        Self { kid: self.kid.clone(), ..Self::nth(self.algorithm, IMPOSTOR) }
    }

    /// The same key for another algorithm of its family, as nobody has published it. Only RSA has such.
    pub(crate) fn sibling(&self) -> Option<Self> {
        let algorithm = match self.algorithm {
            Algorithm::Rs256 => Algorithm::Ps256,
            Algorithm::Rs384 | Algorithm::Ps256 => Algorithm::Rs256,
            Algorithm::Rs512 => Algorithm::Ps512,
            Algorithm::Ps384 => Algorithm::Ps256,
            Algorithm::Ps512 => Algorithm::Rs512,
            _ => return None,
        };
        let (private, public) = (self.made.private.clone(), self.made.public.clone());
        let made = Arc::new(Made { signer: read(&private, algorithm), private, public });
        Some(Self { kid: self.kid.clone(), algorithm, made })
    }

    /// Whether it is the same key, under whatever name.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.made, &other.made)
    }
}

/// A number that no test counts up to.
const IMPOSTOR: usize = usize::MAX;

/// And the next one below: the key of [`DangerousFakeAuth`](crate::DangerousFakeAuth).
pub(crate) const FAKE_CALLER: usize = IMPOSTOR - 1;

/// Shows name and algorithm.
impl fmt::Debug for TestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestKey").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn make(algorithm: Algorithm) -> Made {
    let (private, public) = pair(algorithm).expect("the system has randomness");
    Made { signer: read(&private, algorithm), private, public }
}

fn read(private: &[u8], algorithm: Algorithm) -> SigningKey {
    let key = if algorithm.is_symmetric() {
        SigningKey::from_secret(private, algorithm)
    } else {
        SigningKey::from_der(private, algorithm)
    };
    key.expect("the key has been made for this algorithm")
}

/// A new key: PKCS#8 and SubjectPublicKeyInfo.
fn pair(algorithm: Algorithm) -> Result<(Vec<u8>, Vec<u8>), aws_lc_rs::error::Unspecified> {
    let ecdsa = |scheme| {
        let pair = EcdsaKeyPair::generate(scheme)?;
        let private = pair.to_pkcs8v1()?.as_ref().to_vec();
        Ok((private, public_der(pair.public_key())?))
    };
    let ml_dsa = |scheme| {
        let pair = PqdsaKeyPair::generate(scheme)?;
        let private = pair.to_pkcs8v1()?.as_ref().to_vec();
        Ok((private, public_der(pair.public_key())?))
    };
    match algorithm {
        Algorithm::Es256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::Es512 => ecdsa(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
        Algorithm::MlDsa44 => ml_dsa(&signature::ML_DSA_44_SIGNING),
        Algorithm::MlDsa65 => ml_dsa(&signature::ML_DSA_65_SIGNING),
        Algorithm::MlDsa87 => ml_dsa(&signature::ML_DSA_87_SIGNING),
        Algorithm::EdDsa | Algorithm::Ed25519 => {
            let pair = Ed25519KeyPair::generate()?;
            let private = pair.to_pkcs8v1()?.as_ref().to_vec();
            Ok((private, public_der(pair.public_key())?))
        }
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            // As long as the longest of the three hashes.
            let mut secret = vec![0; 64];
            aws_lc_rs::rand::fill(&mut secret)?;
            Ok((secret, Vec::new()))
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
            let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?.as_ref().to_vec();
            Ok((private, public_der(pair.public_key())?))
        }
    }
}

fn public_der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    Ok(key.as_der()?.as_ref().to_vec())
}

fn pem(tag: &str, der: &[u8]) -> String {
    let line_feeds = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), line_feeds)
}
