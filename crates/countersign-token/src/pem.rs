use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaSubjectPublicKey};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, AlgorithmSet};
use crate::key::{Curve, KeyError, Material, VerifyingKey, ml_dsa, ml_dsa_public_key_len};

/// Why a PEM text gave no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemError {
    /// Not exactly one PEM section.
    NotOneSection,
    /// No PEM section at all, or one that is cut off or not base64.
    NotPem,
    /// A section that is not `PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`.
    WrongLabel,
    /// A certificate that cannot be read.
    Certificate,
    /// The key itself.
    Key(KeyError),
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOneSection => f.write_str("not exactly one PEM section"),
            Self::NotPem => f.write_str("not PEM, or cut off"),
            Self::WrongLabel => f.write_str("not a public key or a certificate"),
            Self::Certificate => f.write_str("not a readable X.509 certificate"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PemError {}

impl VerifyingKey {
    /// A public key from PEM: `PUBLIC KEY` (SubjectPublicKeyInfo, RFC 5280), `RSA PUBLIC KEY` (PKCS#1, RFC 8017) or
    /// `CERTIFICATE` (X.509; only its key is used: neither validity nor issuer is looked at, because whoever configured
    /// it has vouched for it).
    ///
    /// `algorithms` is what the key may be used for. There is no default: for RSA it decides between PKCS#1 v1.5
    /// and PSS, which the key itself does not tell, unless its type is id-RSASSA-PSS: such a key does only PSS
    /// (RFC 4055 §1.2).
    ///
    /// # Errors
    /// [`PemError`].
    ///
    /// ```
    /// use countersign_token::{Algorithm, VerifyingKey};
    ///
    /// let pem = "-----BEGIN PUBLIC KEY-----\n\
    ///     MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
    ///     -----END PUBLIC KEY-----\n";
    /// let key = VerifyingKey::from_pem(pem, Algorithm::Ed25519)?.with_kid("k1")?;
    /// assert_eq!(key.kid(), Some("k1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_pem(pem: impl AsRef<[u8]>, algorithms: impl Into<AlgorithmSet>) -> Result<Self, PemError> {
        let sections = ::pem::parse_many(pem).map_err(|_| PemError::NotOneSection)?;
        let [section] = sections.as_slice() else { return Err(PemError::NotOneSection) };
        from_section(section, algorithms.into())
    }

    /// The public keys of all sections of a PEM text, in its order, each as [`from_pem`](Self::from_pem) reads it. One that cannot be
    /// used spoils the whole.
    ///
    /// **Not for certificate chains:** every section is a key that is trusted, so an authority's certificate in it would make the
    /// authority's key one that tokens may be signed with.
    ///
    /// # Errors
    /// [`PemError`]; [`PemError::NotPem`] also if a section was begun and not ended, as in a file that is not written to its end.
    pub fn all_from_pem(pem: impl AsRef<[u8]>, algorithms: impl Into<AlgorithmSet>) -> Result<Vec<Self>, PemError> {
        /// What the library looks for; it passes over a section that does not end.
        const BEGIN: &[u8] = b"-----BEGIN ";
        let (pem, algorithms) = (pem.as_ref(), algorithms.into());
        let sections = ::pem::parse_many(pem).map_err(|_| PemError::NotPem)?;
        let begun = pem.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
        if sections.is_empty() || begun != sections.len() {
            return Err(PemError::NotPem);
        }
        sections.iter().map(|section| from_section(section, algorithms)).collect()
    }
}

fn from_section(section: &::pem::Pem, algorithms: AlgorithmSet) -> Result<VerifyingKey, PemError> {
    let material = match section.tag() {
        "PUBLIC KEY" => from_spki(section.contents()),
        "RSA PUBLIC KEY" => from_rsa(section.contents()),
        "CERTIFICATE" => {
            let der = CertificateDer::from(section.contents());
            let certificate = webpki::EndEntityCert::try_from(&der).map_err(|_| PemError::Certificate)?;
            from_spki(&certificate.subject_public_key_info())
        }
        _ => return Err(PemError::WrongLabel),
    };
    let (material, admitted) = material.ok_or(PemError::Key(KeyError::Invalid))?;
    VerifyingKey::new(&material, None, algorithms.intersection(admitted)).map_err(PemError::Key)
}

impl crate::SigningKey {
    /// A private key from PEM: `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC 1).
    ///
    /// # Errors
    /// [`PemError`]; [`KeyError::Invalid`] if it is not a private key for `algorithm`.
    pub fn from_pem(pem: impl AsRef<[u8]>, algorithm: Algorithm) -> Result<Self, PemError> {
        let mut sections = ::pem::parse_many(pem).map_err(|_| PemError::NotOneSection)?;
        let section = sections.pop().filter(|_| sections.is_empty()).ok_or(PemError::NotOneSection)?;
        let is_private = matches!(section.tag(), "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY");
        let der = Zeroizing::new(section.into_contents());
        if !is_private {
            return Err(PemError::WrongLabel);
        }
        Self::from_der(&der, algorithm).map_err(|error| match error {
            crate::SignError::Key(error) => PemError::Key(error),
            _ => PemError::Key(KeyError::Invalid),
        })
    }
}

/// The key, and what the document around it admits.
fn from_rsa(der: &[u8]) -> Option<(Material, AlgorithmSet)> {
    let key = RsaSubjectPublicKey::from_der(der).ok()?;
    let material = Material::Rsa {
        n: key.modulus().big_endian_without_leading_zero().to_vec(),
        e: key.exponent().big_endian_without_leading_zero().to_vec(),
    };
    Some((material, if is_pss_only(der) { PSS } else { AlgorithmSet::RSA }))
}

const PSS: AlgorithmSet = AlgorithmSet::EMPTY.with(Algorithm::Ps256).with(Algorithm::Ps384).with(Algorithm::Ps512);

/// The object identifier id-RSASSA-PSS in DER (RFC 4055 §3.1).
const ID_RSASSA_PSS: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// Whether a SubjectPublicKeyInfo that the crypto library took for an RSA key has the type id-RSASSA-PSS. Its object
/// identifier comes first; before it are the headers of two sequences, of at most 4 octets each.
fn is_pss_only(spki: &[u8]) -> bool {
    spki.windows(ID_RSASSA_PSS.len()).take(9).any(|window| window == ID_RSASSA_PSS)
}

/// The last element of a SubjectPublicKeyInfo is the key itself. Once the crypto library has accepted the whole as a key
/// of a kind whose length is fixed, the key is its tail.
fn from_spki(der: &[u8]) -> Option<(Material, AlgorithmSet)> {
    let tail = |length: usize| der.len().checked_sub(length).map(|start| der[start..].to_vec());
    if let Some(rsa) = from_rsa(der) {
        return Some(rsa);
    }
    for curve in [Curve::P256, Curve::P384, Curve::P521] {
        if ParsedPublicKey::new(curve.verification(), der).is_ok() {
            let material = Material::from_point(curve, &tail(1 + 2 * curve.coordinate_len())?)?;
            return Some((material, AlgorithmSet::ASYMMETRIC));
        }
    }
    // Only a SubjectPublicKeyInfo: bare octets have no business in a PEM section, and 32 of them could be anything.
    if der.len() > 32 && ParsedPublicKey::new(&signature::ED25519, der).is_ok() {
        return Some((Material::Ed25519 { x: tail(32)? }, AlgorithmSet::ASYMMETRIC));
    }
    for algorithm in [Algorithm::MlDsa44, Algorithm::MlDsa65, Algorithm::MlDsa87] {
        let length = ml_dsa_public_key_len(algorithm);
        if der.len() > length && ParsedPublicKey::new(ml_dsa(algorithm), der).is_ok() {
            return Some((Material::MlDsa { algorithm, public: tail(length)? }, AlgorithmSet::ASYMMETRIC));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_public_key_is_refused() {
        let section = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        let ed25519 = section("PUBLIC KEY", "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        let check = |pem: &str| VerifyingKey::from_pem(pem, AlgorithmSet::ASYMMETRIC).map(|key| key.algorithms());
        assert!(check(&ed25519).is_ok());
        assert_eq!(check(""), Err(PemError::NotOneSection));
        assert_eq!(check(&ed25519.repeat(2)), Err(PemError::NotOneSection));
        assert_eq!(check(&section("PRIVATE KEY", "AAAA")), Err(PemError::WrongLabel));
        assert_eq!(check(&section("CERTIFICATE", "AAAA")), Err(PemError::Certificate));
        assert_eq!(check(&section("PUBLIC KEY", "AAAA")), Err(PemError::Key(KeyError::Invalid)));
        let bare = section("PUBLIC KEY", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        assert_eq!(check(&bare), Err(PemError::Key(KeyError::Invalid)));
        let wrong = VerifyingKey::from_pem(&ed25519, Algorithm::Es256);
        assert_eq!(wrong.map(drop), Err(PemError::Key(KeyError::NoAlgorithm)));
    }

    #[test]
    fn several_sections_are_several_keys_and_half_a_section_is_none_at_all() {
        let ed25519 = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
        let all = |pem: &str| VerifyingKey::all_from_pem(pem, AlgorithmSet::ASYMMETRIC).map(|keys| keys.len());
        let two = format!("# a comment\n{ed25519}{RSA_PSS}\n");
        assert_eq!(all(&two), Ok(2));
        assert_eq!(all(ed25519), Ok(1));
        assert_eq!(all(""), Err(PemError::NotPem));
        let first = two.find("-----END").unwrap();
        let (complete, second) = (two.find("-----BEGIN PUBLIC KEY-----\nMIIB").unwrap(), two.trim_end().len());
        for length in (0..first).chain(complete + "-----BEGIN ".len()..second) {
            assert!(all(&two[..length]).is_err(), "{length}");
        }
        let private = ed25519.replace("PUBLIC", "PRIVATE");
        assert_eq!(all(&format!("{ed25519}{private}")), Err(PemError::WrongLabel));
    }

    #[test]
    fn a_key_for_pss_does_only_pss() {
        let der = ::pem::parse(RSA_PSS).unwrap().into_contents();
        assert!(is_pss_only(&der));
        let check = |algorithms: AlgorithmSet| VerifyingKey::from_pem(RSA_PSS, algorithms).map(|key| key.algorithms());
        assert_eq!(check(AlgorithmSet::ASYMMETRIC), Ok(PSS));
        assert_eq!(check(Algorithm::Ps384.into()), Ok(Algorithm::Ps384.into()));
        assert_eq!(check(Algorithm::Rs256.into()), Err(PemError::Key(KeyError::NoAlgorithm)));
    }

    /// Made with `openssl genpkey -algorithm RSA-PSS`.
    const RSA_PSS: &str = "-----BEGIN PUBLIC KEY-----
MIIBIDALBgkqhkiG9w0BAQoDggEPADCCAQoCggEBALc+73jOs6r4M9cTLztjxdrR
wrt/IWaiXifhzBYjjM/cwGUQTFkgPFc+68+5rwPah6irfXJ92OWz+EDRwD1hGSHR
BHWJHtzHWPOsnzJxYUzFNeaMh1bPuJY/TpBVXeq/3kup9JQ8KullD/cB0v9ZKqSJ
2PVO9MrL3N7xyJ+fTiLR6Cm/omljhf8/JwAGyMrBS9mJodmKOHdxq7G4fgkAZpBu
RTi8n6MMPUr7S0m/kNzWCEFehwx1NNqr04tiSm78+9v/Cd0bvo4Xn8yFctV0B9pM
S+a7/Lvgq4jeG/ouIEUL9LMeBuJI+gE/w7DGLjLa68sysbeEL/HMOd2M6m4cmUEC
AwEAAQ==
-----END PUBLIC KEY-----";
}
