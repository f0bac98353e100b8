//! The primitive vectors of project Wycheproof, through `VerifyingKey`: what it calls valid verifies, the rest does
//! not.
//!
//! Each test says how many vectors verified and how many did not, so that an empty or truncated set is noticed.

use std::sync::Arc;

use countersign_token::{Algorithm, AlgorithmSet, KeyError, Origin, PemError, SignatureError, Unusable, VerifyingKey};
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, mac, mldsa_verify, rsa_pkcs1_verify, rsa_pss_verify};

use crate::{base64url, jwk_set, pem};

/// What became of the vectors of a set.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    verified: usize,
    refused: usize,
}

impl Tally {
    fn new(verified: usize, refused: usize) -> Self {
        Self { verified, refused }
    }

    fn count(&mut self, outcome: Result<(), SignatureError>) -> bool {
        if outcome.is_ok() {
            self.verified += 1;
        } else {
            self.refused += 1;
        }
        outcome.is_ok()
    }
}

/// The key of a group from its PEM text; where there is a JWK too, both must be the same key.
fn key(pem: &str, jwk: Option<Value>, algorithm: Algorithm) -> VerifyingKey {
    let key = VerifyingKey::from_pem(pem, algorithm).unwrap();
    if let Some(jwk) = jwk {
        assert_eq!(only_key(jwk).thumbprint(), key.thumbprint(), "PEM and JWK are the same key");
    }
    key
}

fn only_key(jwk: Value) -> Arc<VerifyingKey> {
    let set = jwk_set([jwk], Origin::Remote);
    assert_eq!(set.skipped(), []);
    Arc::clone(&set.keys()[0])
}

// ECDSA, in the form of JWS (`r ‖ s`, which Wycheproof calls P1363), and in DER, which no token has.

fn ecdsa_fixed(name: ecdsa::TestName, algorithm: Algorithm, crv: &str, coordinate: usize) -> Tally {
    let mut tally = Tally::default();
    for group in ecdsa::TestSet::load(name).unwrap().test_groups {
        let (x, y) = group.key.key[1..].split_at(coordinate);
        let jwk = json!({ "kty": "EC", "crv": crv, "x": base64url(x), "y": base64url(y) });
        let key = key(&group.pem, Some(jwk), algorithm);
        for test in group.tests {
            let verified = tally.count(key.verify_bytes(algorithm, &test.msg, &test.sig));
            assert_eq!(verified, test.result == TestResult::Valid, "{algorithm} {} {}", test.tc_id, test.comment);
        }
    }
    tally
}

#[test]
fn ecdsa_signatures_of_fixed_length() {
    use ecdsa::TestName::*;
    assert_eq!(ecdsa_fixed(EcdsaSecp256r1Sha256P1363, Algorithm::Es256, "P-256", 32), Tally::new(173, 89));
    assert_eq!(ecdsa_fixed(EcdsaSecp384r1Sha384P1363, Algorithm::Es384, "P-384", 48), Tally::new(193, 87));
    assert_eq!(ecdsa_fixed(EcdsaSecp521r1Sha512P1363, Algorithm::Es512, "P-521", 66), Tally::new(231, 87));
}

fn ecdsa_der(name: ecdsa::TestName, algorithm: Algorithm) -> Tally {
    let mut tally = Tally::default();
    for group in ecdsa::TestSet::load(name).unwrap().test_groups {
        let key = key(&group.pem, None, algorithm);
        for test in group.tests {
            tally.count(key.verify_bytes(algorithm, &test.msg, &test.sig));
        }
    }
    tally
}

#[test]
fn ecdsa_signatures_in_der_never_verify() {
    use ecdsa::TestName::*;
    assert_eq!(ecdsa_der(EcdsaSecp256r1Sha256, Algorithm::Es256), Tally::new(0, 484));
    assert_eq!(ecdsa_der(EcdsaSecp384r1Sha384, Algorithm::Es384), Tally::new(0, 504));
    assert_eq!(ecdsa_der(EcdsaSecp521r1Sha512, Algorithm::Es512), Tally::new(0, 542));
}

/// The curve fixes the hash (RFC 7518 §3.4): the same keys with another one.
#[test]
fn ecdsa_signatures_over_another_hash_never_verify() {
    use ecdsa::TestName::*;
    assert_eq!(ecdsa_der(EcdsaSecp256r1Sha512P1363, Algorithm::Es256).verified, 0);
    assert_eq!(ecdsa_der(EcdsaSecp384r1Sha512P1363, Algorithm::Es384).verified, 0);
    assert_eq!(ecdsa_der(EcdsaSecp521r1Shake256P1363, Algorithm::Es512).verified, 0);
}

// Ed25519.

#[test]
fn ed25519() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(group.key.pk.as_slice()) });
        let key = key(&group.pem, Some(jwk), Algorithm::Ed25519);
        for test in group.tests {
            let verified = tally.count(key.verify_bytes(Algorithm::Ed25519, &test.msg, &test.sig));
            assert_eq!(verified, test.result == TestResult::Valid, "{} {}", test.tc_id, test.comment);
        }
    }
    assert_eq!(tally, Tally::new(88, 63));
}

/// RFC 8037 keys of other curves are not ours.
#[test]
fn ed448_keys_are_refused() {
    let groups = eddsa::TestSet::load(eddsa::TestName::Ed448).unwrap().test_groups;
    assert!(!groups.is_empty());
    for group in groups {
        let key = VerifyingKey::from_pem(&group.pem, AlgorithmSet::ASYMMETRIC);
        assert_eq!(key.map(drop), Err(PemError::Key(KeyError::Invalid)));
    }
}

// RSASSA-PKCS1-v1_5.

fn rsa_pkcs1(name: rsa_pkcs1_verify::TestName, algorithm: Algorithm) -> Tally {
    let mut tally = Tally::default();
    for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
        let key = key(&group.pem, Some(rsa_jwk(&group.asn_key)), algorithm);
        for test in group.tests {
            let verified = tally.count(key.verify_bytes(algorithm, &test.msg, &test.sig));
            // "Acceptable" is one vector per set, whose digest has no parameters where RFC 8017 §9.2 wants NULL. The
            // RFC lets a verifier take it; we do not.
            assert_eq!(verified, test.result == TestResult::Valid, "{name:?} {} {}", test.tc_id, test.comment);
        }
    }
    tally
}

/// The JWK of a PKCS#1 `RSAPublicKey`.
fn rsa_jwk(pkcs1: &[u8]) -> Value {
    let (n, e) = integers(pkcs1);
    json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
}

/// The two integers of a DER `SEQUENCE { INTEGER, INTEGER }`, without leading zeros.
fn integers(der: &[u8]) -> (&[u8], &[u8]) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            short if short < 0x80 => (usize::from(short), 2),
            0x81 => (usize::from(der[2]), 3),
            0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
            _ => unreachable!("no key of the vectors is that long"),
        };
        der[start..].split_at(length)
    }
    let (sequence, _) = element(der);
    let (n, rest) = element(sequence);
    let (e, _) = element(rest);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}

#[test]
fn rsa_pkcs1_signatures() {
    use rsa_pkcs1_verify::TestName::*;
    for (name, algorithm, verified, refused) in [
        (Rsa2048Sha256, Algorithm::Rs256, 9, 250),
        (Rsa2048Sha384, Algorithm::Rs384, 7, 251),
        (Rsa2048Sha512, Algorithm::Rs512, 8, 251),
        (Rsa3072Sha256, Algorithm::Rs256, 8, 251),
        (Rsa3072Sha384, Algorithm::Rs384, 7, 252),
        (Rsa3072Sha512, Algorithm::Rs512, 8, 252),
        (Rsa4096Sha256, Algorithm::Rs256, 7, 251),
        (Rsa4096Sha384, Algorithm::Rs384, 7, 252),
        (Rsa4096Sha512, Algorithm::Rs512, 7, 252),
        (Rsa8192Sha256, Algorithm::Rs256, 7, 251),
        (Rsa8192Sha384, Algorithm::Rs384, 7, 252),
        (Rsa8192Sha512, Algorithm::Rs512, 7, 252),
    ] {
        assert_eq!(rsa_pkcs1(name, algorithm), Tally::new(verified, refused), "{name:?}");
    }
}

// RSASSA-PSS.

fn rsa_pss(name: rsa_pss_verify::TestName, algorithm: Algorithm) -> Tally {
    let mut tally = Tally::default();
    for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
        let key = key(&group.pem, Some(rsa_jwk(&group.asn_key)), algorithm);
        for test in group.tests {
            let verified = tally.count(key.verify_bytes(algorithm, &test.msg, &test.sig));
            // In a set for other parameters, `Tally` tells what verified under ours.
            if group.salt_size == hash_len(algorithm) {
                assert_eq!(verified, test.result == TestResult::Valid, "{name:?} {} {}", test.tc_id, test.comment);
            }
        }
    }
    tally
}

fn hash_len(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Ps256 => 32,
        Algorithm::Ps384 => 48,
        _ => 64,
    }
}

#[test]
fn rsa_pss_signatures() {
    use rsa_pss_verify::TestName::*;
    for (name, algorithm, verified, refused) in [
        (RsaPss2048Sha256Mgf1SaltLen32, Algorithm::Ps256, 63, 45),
        (RsaPss2048Sha384Mgf1SaltLen48, Algorithm::Ps384, 95, 46),
        (RsaPss3072Sha256Mgf1SaltLen32, Algorithm::Ps256, 63, 45),
        (RsaPss4096Sha256Mgf1SaltLen32, Algorithm::Ps256, 63, 45),
        (RsaPss4096Sha384Mgf1SaltLen48, Algorithm::Ps384, 95, 46),
        (RsaPss4096Sha512Mgf1SaltLen64, Algorithm::Ps512, 132, 47),
    ] {
        assert_eq!(rsa_pss(name, algorithm), Tally::new(verified, refused), "{name:?}");
    }
}

/// RFC 7518 §3.5: the salt is as long as the hash, and the hash of MGF1 is the same.
#[test]
fn rsa_pss_signatures_with_other_parameters_do_not_verify() {
    use rsa_pss_verify::TestName::*;
    for (name, algorithm, verified, refused) in [
        // The one that verifies is "s_len changed to 32": invalid for that set, and exactly what PS256 wants.
        (RsaPss2048Sha256Mgf1SaltLen0, Algorithm::Ps256, 1, 102),
        (RsaPss2048Sha256Mgf1Sha1_20, Algorithm::Ps256, 0, 108),
        (RsaPss4096Sha512Mgf1SaltLen32, Algorithm::Ps512, 0, 177),
    ] {
        assert_eq!(rsa_pss(name, algorithm), Tally::new(verified, refused), "{name:?}");
    }
}

/// 150 combinations of hash, MGF1 hash and salt length, of which ours are three.
#[test]
fn rsa_pss_parameters_are_those_of_the_algorithm_and_no_others() {
    let ours = [Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];
    let mut tally = Tally::default();
    for group in rsa_pss_verify::TestSet::load(rsa_pss_verify::TestName::RsaPssmisc).unwrap().test_groups {
        let hash = |algorithm| match algorithm {
            Algorithm::Ps256 => wycheproof::HashFunction::Sha2_256,
            Algorithm::Ps384 => wycheproof::HashFunction::Sha2_384,
            _ => wycheproof::HashFunction::Sha2_512,
        };
        let key = VerifyingKey::from_pem(&group.pem, AlgorithmSet::from_iter(ours)).unwrap();
        for test in &group.tests {
            for algorithm in ours {
                let expected = group.hash == hash(algorithm)
                    && group.mgf_hash == Some(hash(algorithm))
                    && group.salt_size == hash_len(algorithm);
                let verified = tally.count(key.verify_bytes(algorithm, &test.msg, &test.sig));
                assert_eq!(verified, expected, "{algorithm} {} {}", test.tc_id, test.comment);
            }
        }
    }
    assert_eq!(tally, Tally::new(3, 3 * 150 - 3));
}

/// Keys of type id-RSASSA-PSS (RFC 4055): the same vectors, and never PKCS#1 v1.5.
#[test]
fn rsa_keys_for_pss_do_only_pss() {
    use rsa_pss_verify::TestName::*;
    for (name, algorithm, verified, refused) in [
        (RsaPss2048Sha256Mgf1SaltLen32WithParams, Algorithm::Ps256, 63, 45),
        (RsaPss3072Sha256Mgf1SaltLen32WithParams, Algorithm::Ps256, 63, 45),
        (RsaPss4096Sha512Mgf1SaltLen64WithParams, Algorithm::Ps512, 132, 47),
        (RsaPss4096Sha512Mgf1SaltLen32WithParams, Algorithm::Ps512, 0, 177),
        (RsaPss2048Sha512Mgf1Sha256SaltLen32WithParams, Algorithm::Ps512, 0, 178),
    ] {
        assert_eq!(rsa_pss(name, algorithm), Tally::new(verified, refused), "{name:?}");
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let key = VerifyingKey::from_pem(&group.pem, Algorithm::Rs256);
            assert_eq!(key.map(drop), Err(PemError::Key(KeyError::NoAlgorithm)), "{name:?}");
        }
    }
}

// HMAC.

/// The tally of the whole tags; for the truncated ones and for the secrets that are too short, nothing may verify.
fn hmac(name: mac::TestName, algorithm: Algorithm) -> (Tally, usize) {
    let (mut tally, mut short_secrets) = (Tally::default(), 0);
    let hash_bits = match algorithm {
        Algorithm::Hs256 => 256,
        Algorithm::Hs384 => 384,
        _ => 512,
    };
    for group in mac::TestSet::load(name).unwrap().test_groups {
        for test in group.tests {
            let key = VerifyingKey::from_secret(&test.key, algorithm);
            if group.key_size < hash_bits {
                assert_eq!(key.map(drop), Err(KeyError::ShortSecret));
                short_secrets += 1;
                continue;
            }
            let verified = tally.count(key.unwrap().verify_bytes(algorithm, &test.msg, &test.tag));
            let whole = group.tag_size == hash_bits;
            assert_eq!(verified, whole && test.result == TestResult::Valid, "{algorithm} {}", test.tc_id);
        }
    }
    (tally, short_secrets)
}

#[test]
fn hmac_tags_whole_and_with_long_enough_secrets() {
    for (name, algorithm) in [
        (mac::TestName::HmacSha256, Algorithm::Hs256),
        (mac::TestName::HmacSha384, Algorithm::Hs384),
        (mac::TestName::HmacSha512, Algorithm::Hs512),
    ] {
        assert_eq!(hmac(name, algorithm), (Tally::new(30, 138), 6), "{name:?}");
    }
}

// ML-DSA, with the empty context string that RFC 9964 prescribes.

fn ml_dsa(name: mldsa_verify::TestName, algorithm: Algorithm, public_len: usize) -> (Tally, usize) {
    let (mut tally, mut bad_keys) = (Tally::default(), 0);
    for group in mldsa_verify::TestSet::load(name).unwrap().test_groups {
        let jwk = json!({ "kty": "AKP", "alg": algorithm.name(), "pub": base64url(group.pubkey.as_slice()) });
        if group.pubkey.len() != public_len {
            let reason = jwk_set([jwk], Origin::Remote).skipped()[0].reason;
            assert_eq!(reason, Unusable::Key(KeyError::WrongLength));
            bad_keys += group.tests.len();
            continue;
        }
        let key = key(&pem("PUBLIC KEY", &group.der), Some(jwk), algorithm);
        for test in group.tests {
            let context = test.ctx.as_ref().is_some_and(|context| !context.is_empty());
            let verified = tally.count(key.verify_bytes(algorithm, &test.msg, &test.sig));
            let expected = test.result == TestResult::Valid && !context;
            assert_eq!(verified, expected, "{algorithm} {} {}", test.tc_id, test.comment);
        }
    }
    (tally, bad_keys)
}

#[test]
fn ml_dsa_signatures_with_an_empty_context() {
    use mldsa_verify::TestName::*;
    assert_eq!(ml_dsa(MlDsa44Verify, Algorithm::MlDsa44, 1312), (Tally::new(75, 101), 4));
    assert_eq!(ml_dsa(MlDsa65Verify, Algorithm::MlDsa65, 1952), (Tally::new(77, 129), 4));
    assert_eq!(ml_dsa(MlDsa87Verify, Algorithm::MlDsa87, 2592), (Tally::new(69, 168), 4));
}
