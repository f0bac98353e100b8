//! Keys in PEM, made by OpenSSL 3.0 (see `pem/README.md`): what is read, and what is not.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_token::{
    Algorithm, AlgorithmSet, KeyError, KeySet, Origin, PemError, SignatureError, SigningKey, VerifyingKey,
};
use serde_json::json;

use crate::{CLAIMS, Refusal, base64url, from_base64url, key_set, pem, verify};

pub(crate) const RSA: &str = include_str!("pem/rsa.spki.pem");
pub(crate) const RSA_PKCS1: &str = include_str!("pem/rsa.pkcs1.pem");
pub(crate) const RSA_CERTIFICATE: &str = include_str!("pem/rsa.certificate.pem");
pub(crate) const RSA_PRIVATE: &str = include_str!("pem/rsa.private-pkcs8.pem");
const RSA_PRIVATE_PKCS1: &str = include_str!("pem/rsa.private-pkcs1.pem");

pub(crate) const P256: &str = include_str!("pem/p256.spki.pem");
pub(crate) const P256_CERTIFICATE: &str = include_str!("pem/p256.certificate.pem");
pub(crate) const P256_PRIVATE: &str = include_str!("pem/p256.private-pkcs8.pem");
const P256_PRIVATE_SEC1: &str = include_str!("pem/p256.private-sec1.pem");

pub(crate) const P384: &str = include_str!("pem/p384.spki.pem");
const P384_CERTIFICATE: &str = include_str!("pem/p384.certificate.pem");
pub(crate) const P384_PRIVATE: &str = include_str!("pem/p384.private-pkcs8.pem");
const P384_PRIVATE_SEC1: &str = include_str!("pem/p384.private-sec1.pem");

pub(crate) const P521: &str = include_str!("pem/p521.spki.pem");
const P521_CERTIFICATE: &str = include_str!("pem/p521.certificate.pem");
const P521_PRIVATE: &str = include_str!("pem/p521.private-pkcs8.pem");
const P521_PRIVATE_SEC1: &str = include_str!("pem/p521.private-sec1.pem");

pub(crate) const ED25519: &str = include_str!("pem/ed25519.spki.pem");
pub(crate) const ED25519_CERTIFICATE: &str = include_str!("pem/ed25519.certificate.pem");
pub(crate) const ED25519_PRIVATE: &str = include_str!("pem/ed25519.private-pkcs8.pem");

/// For each algorithm: private forms of one key, and public forms of the same.
const PAIRS: [(&[Algorithm], &[&str], &[&str]); 5] = [
    (
        &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512],
        &[RSA_PRIVATE, RSA_PRIVATE_PKCS1],
        &[RSA, RSA_PKCS1, RSA_CERTIFICATE],
    ),
    (&[Algorithm::Es256], &[P256_PRIVATE, P256_PRIVATE_SEC1], &[P256, P256_CERTIFICATE]),
    (&[Algorithm::Es384], &[P384_PRIVATE, P384_PRIVATE_SEC1], &[P384, P384_CERTIFICATE]),
    (&[Algorithm::Es512], &[P521_PRIVATE, P521_PRIVATE_SEC1], &[P521, P521_CERTIFICATE]),
    (&[Algorithm::EdDsa, Algorithm::Ed25519], &[ED25519_PRIVATE], &[ED25519, ED25519_CERTIFICATE]),
];

#[test]
fn what_a_private_pem_signs_its_public_pem_verifies() {
    for (algorithms, privates, publics) in PAIRS {
        for &algorithm in algorithms {
            for private in privates {
                let signer = SigningKey::from_pem(private, algorithm).unwrap();
                let token = signer.sign(&json!({ "sub": "ada" })).unwrap();
                for public in publics {
                    let keys = KeySet::new([VerifyingKey::from_pem(public, AlgorithmSet::ASYMMETRIC).unwrap()]);
                    assert_eq!(verify(&token, &keys).as_deref(), Ok(&br#"{"sub":"ada"}"#[..]), "{algorithm}");
                }
            }
        }
    }
}

/// The thumbprint is of the key and not of the document, so all forms of one key have the same.
#[test]
fn every_form_of_a_key_is_the_same_key() {
    for (algorithms, privates, publics) in PAIRS {
        let mut thumbprints = Vec::new();
        for public in publics {
            let key = VerifyingKey::from_pem(public, AlgorithmSet::ASYMMETRIC).unwrap();
            assert_eq!(key.algorithms(), algorithms.iter().copied().collect());
            assert_eq!(key.kid(), None);
            thumbprints.push(*key.thumbprint());
        }
        for private in privates {
            let signer = SigningKey::from_pem(private, algorithms[0]).unwrap();
            thumbprints.push(*signer.verifying_key().unwrap().thumbprint());
            let keys = key_set([signer.public_jwk().unwrap()], Origin::Remote);
            thumbprints.extend(keys.iter().map(|key| *key.thumbprint()));
        }
        thumbprints.dedup();
        assert_eq!(thumbprints.len(), 1, "{algorithms:?}");
    }
}

#[test]
fn the_text_around_a_section_does_not_matter() {
    let token = SigningKey::from_pem(P256_PRIVATE, Algorithm::Es256).unwrap().sign(&json!({})).unwrap();
    for public in [P256, P256_CERTIFICATE] {
        for text in [
            public.replace('\n', "\r\n"),
            public.trim_end().to_owned(),
            format!("\n\n{public}\n\n"),
            format!("subject=CN = issuer.example\r\nissuer=CN = issuer.example\r\n{public}"),
            format!("{public}# the end\n"),
        ] {
            let key = VerifyingKey::from_pem(&text, Algorithm::Es256).map_err(|error| (error, text)).unwrap();
            assert!(verify(&token, &KeySet::new([key])).is_ok());
        }
    }
}

#[test]
fn a_key_does_only_what_its_owner_says() {
    let key = |algorithms: AlgorithmSet| VerifyingKey::from_pem(RSA, algorithms).map(|key| key.algorithms());
    assert_eq!(key(Algorithm::Rs256.into()), Ok(Algorithm::Rs256.into()));
    let mixed = AlgorithmSet::HMAC.with(Algorithm::Es256).with(Algorithm::Ps512);
    assert_eq!(key(mixed), Ok(Algorithm::Ps512.into()));
    for none_fits in [AlgorithmSet::EMPTY, AlgorithmSet::HMAC, Algorithm::Es256.into()] {
        assert_eq!(key(none_fits), Err(PemError::Key(KeyError::NoAlgorithm)));
    }

    let signer = SigningKey::from_pem(RSA_PRIVATE, Algorithm::Ps256).unwrap();
    let token = signer.sign(&json!({})).unwrap();
    let keys = KeySet::new([VerifyingKey::from_pem(RSA, Algorithm::Rs256).unwrap()]);
    assert_eq!(verify(&token, &keys), Err(Refusal::NoKey));
}

/// RFC 4055 §1.2: id-RSASSA-PSS excludes PKCS#1 v1.5.
#[test]
fn a_key_of_type_rsassa_pss_does_only_pss() {
    let pem = include_str!("pem/rsa-pss.spki.pem");
    let pss = AlgorithmSet::from_iter([Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512]);
    assert_eq!(VerifyingKey::from_pem(pem, AlgorithmSet::ASYMMETRIC).unwrap().algorithms(), pss);
    let pkcs1 = VerifyingKey::from_pem(pem, Algorithm::Rs256);
    assert_eq!(pkcs1.map(drop), Err(PemError::Key(KeyError::NoAlgorithm)));
}

#[test]
fn what_is_not_a_public_key_for_signatures_is_refused() {
    let two = format!("{P256}{P384}");
    let chain = format!("{P256_CERTIFICATE}{RSA_CERTIFICATE}");
    let cut = &P256[..P256.len() / 2];
    let damaged = ED25519.replacen("MCow", "MCox", 1);
    let mislabelled = P256.replace("PUBLIC KEY", "RSA PUBLIC KEY");
    for (pem, error) in [
        ("", PemError::NotOneSection),
        ("not a PEM text", PemError::NotOneSection),
        (cut, PemError::NotOneSection),
        (&two, PemError::NotOneSection),
        (&chain, PemError::NotOneSection),
        (P256_PRIVATE, PemError::WrongLabel),
        (P256_PRIVATE_SEC1, PemError::WrongLabel),
        (RSA_PRIVATE_PKCS1, PemError::WrongLabel),
        (include_str!("pem/p256.encrypted.pem"), PemError::WrongLabel),
        (&mislabelled, PemError::Key(KeyError::Invalid)),
        (&damaged, PemError::Key(KeyError::Invalid)),
        (include_str!("pem/ed448.spki.pem"), PemError::Key(KeyError::Invalid)),
        (include_str!("pem/x25519.spki.pem"), PemError::Key(KeyError::Invalid)),
        (include_str!("pem/secp256k1.spki.pem"), PemError::Key(KeyError::Invalid)),
        // RFC 5480 §2.2 lets these stand in a certificate; nobody signs tokens with them.
        (include_str!("pem/p256-compressed.spki.pem"), PemError::Key(KeyError::Invalid)),
        // Version 1 has no extensions to say what the key is for.
        (include_str!("pem/p256-v1.certificate.pem"), PemError::Certificate),
        (include_str!("pem/rsa-1024.spki.pem"), PemError::Key(KeyError::WeakRsa { bits: 1024 })),
    ] {
        assert_eq!(VerifyingKey::from_pem(pem, AlgorithmSet::ASYMMETRIC).map(drop), Err(error), "{pem}");
    }
}

/// A curve that is spelled out in the key (which RFC 5480 §2.1.1 forbids) is the named one, or refused: with a
/// generator of one's own, here the public key itself, the private key would be 1.
#[test]
fn cve_2020_0601_curve_parameters_from_the_key() {
    let explicit = include_str!("pem/p256-explicit.spki.pem");
    let named = VerifyingKey::from_pem(P256, Algorithm::Es256).unwrap();
    let key = VerifyingKey::from_pem(explicit, Algorithm::Es256).unwrap();
    assert_eq!(key.thumbprint(), named.thumbprint());

    let mut der = section(explicit);
    let point = der.len() - 65..;
    let generator = der.windows(6).position(|window| window == b"\x04\x6b\x17\xd1\xf2\xe1").unwrap();
    let own = der[point].to_vec();
    der[generator..generator + own.len()].copy_from_slice(&own);
    let forged = VerifyingKey::from_pem(pem("PUBLIC KEY", &der), Algorithm::Es256);
    assert_eq!(forged.map(drop), Err(PemError::Key(KeyError::Invalid)));
}

/// The octets of a PEM section.
pub(crate) fn section(pem: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

#[test]
fn a_private_key_for_another_algorithm_is_refused() {
    for (algorithm, pem) in [
        (Algorithm::Es256, P384_PRIVATE),
        (Algorithm::Es256, P384_PRIVATE_SEC1),
        (Algorithm::Es256, RSA_PRIVATE),
        (Algorithm::Rs256, P256_PRIVATE),
        (Algorithm::Ed25519, P256_PRIVATE),
        (Algorithm::MlDsa44, ED25519_PRIVATE),
    ] {
        let key = SigningKey::from_pem(pem, algorithm);
        assert_eq!(key.map(drop), Err(PemError::Key(KeyError::Invalid)), "{algorithm}");
    }
    for public in [P256, P256_CERTIFICATE, include_str!("pem/p256.encrypted.pem")] {
        assert_eq!(SigningKey::from_pem(public, Algorithm::Es256).map(drop), Err(PemError::WrongLabel));
    }
    let hmac = SigningKey::from_pem(P256_PRIVATE, Algorithm::Hs256);
    assert_eq!(hmac.map(drop), Err(PemError::Key(KeyError::NoAlgorithm)));
}

/// `verify_bytes` is the signature and nothing else: any bytes will do, but only the key's own algorithm.
#[test]
fn bare_signatures_verify_over_any_bytes() {
    let signer = SigningKey::from_pem(P256_PRIVATE, Algorithm::Es256).unwrap();
    let key = VerifyingKey::from_pem(P256, Algorithm::Es256).unwrap();
    for message in [&b""[..], b"\0..\xff", CLAIMS.as_bytes()] {
        let signature = signer.signature(message).unwrap();
        assert_eq!(key.verify_bytes(Algorithm::Es256, message, &signature), Ok(()));
        assert!(key.verify_bytes(Algorithm::Es256, b"another", &signature).is_err());
        for other in Algorithm::ALL.into_iter().filter(|other| *other != Algorithm::Es256) {
            let refusal = key.verify_bytes(other, message, &signature);
            assert_eq!(refusal, Err(SignatureError::KeyNotEligible), "{other}");
        }
    }
}

/// RFC 7518 §6.2.1.2 and §6.3.1: coordinates of the curve's length; a modulus may have zeros in front, as some issuers
/// write it, and is the same key.
#[test]
fn a_modulus_with_leading_zeros_is_the_same_key() {
    let signer = SigningKey::from_pem(RSA_PRIVATE, Algorithm::Rs256).unwrap();
    let jwk = signer.public_jwk().unwrap();
    let mut padded = jwk.clone();
    let mut n = vec![0, 0];
    n.extend(from_base64url(jwk["n"].as_str().unwrap()));
    padded["n"] = base64url(n).into();
    padded["e"] = base64url([0, 1, 0, 1]).into();
    let keys = key_set([padded], Origin::Remote);
    assert_eq!(keys.iter().next().unwrap().thumbprint(), signer.verifying_key().unwrap().thumbprint());
    assert!(verify(&signer.sign(&json!({})).unwrap(), &keys).is_ok());
}
