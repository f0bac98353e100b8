//! A regression test for each class of mistake that other libraries made and that is decided at this layer, named after
//! one of its advisories where it has one. What claims or caches decide is tested where those are.

use std::time::{Duration, Instant};

use countersign_token::{
    Algorithm, AlgorithmSet, DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, JwkSet, JwkSetError, KeyError, KeySet,
    MAX_CANDIDATES, MAX_HEADER_MEMBERS, MAX_KEYS, Origin, Part, SignatureError, SigningKey, TokenError, Unusable,
    UnverifiedToken, VerifyingKey,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::keys::{self, section};
use crate::{
    CLAIMS, Refusal, base64url, hmac_signer, jwk_set, key_set, published, signature_of, signing_key, token_with_header,
    verify, with_signature,
};

const MISMATCH: Result<Vec<u8>, Refusal> = Err(Refusal::Signature(SignatureError::Mismatch));
const TOO_SHORT: Result<Vec<u8>, Refusal> = Err(Refusal::Signature(SignatureError::TooShort));

// Unsigned tokens.

#[test]
fn cve_2015_2951_algorithm_none() {
    let signer = signing_key(Algorithm::Es256);
    for keys in [published(&signer), KeySet::default()] {
        for spelling in ["none", "None", "NONE", "nOnE", "n\\u006fne"] {
            let header = format!(r#"{{"alg":"{spelling}"}}"#);
            let signed = token_with_header(&header, &signer);
            for token in [&signed, &with_signature(&signed, b"")] {
                assert_eq!(verify(token, &keys), Err(Refusal::Token(TokenError::UnsignedAlgorithm)), "{header}");
            }
        }
        for (header, error) in [
            ("{}", TokenError::MissingAlgorithm),
            (r#"{"alg":""}"#, TokenError::UnknownAlgorithm),
            (r#"{"alg":" none"}"#, TokenError::UnknownAlgorithm),
            (r#"{"alg":"none\u0000"}"#, TokenError::UnknownAlgorithm),
            (r#"{"alg":null}"#, TokenError::MalformedHeaderMember("alg")),
            (r#"{"alg":false}"#, TokenError::MalformedHeaderMember("alg")),
            (r#"{"alg":["ES256"]}"#, TokenError::MalformedHeaderMember("alg")),
            (r#"{"ALG":"ES256"}"#, TokenError::MissingAlgorithm),
        ] {
            assert_eq!(verify(&token_with_header(header, &signer), &keys), Err(Refusal::Token(error)), "{header}");
        }
    }
}

#[test]
fn cve_2020_28042_empty_signature() {
    for algorithm in Algorithm::ALL {
        let signer = signing_key(algorithm);
        let keys = KeySet::new([signer.verifying_key().unwrap()]);
        let token = signer.sign(&json!({})).unwrap();
        let (input, _) = token.rsplit_once('.').unwrap();
        assert_eq!(verify(&format!("{input}."), &keys), TOO_SHORT, "{algorithm}");
        assert_eq!(verify(input, &keys), Err(Refusal::Token(TokenError::NotThreeParts)), "{algorithm}");
    }
}

/// With no key there is nothing to verify with, and not nothing to verify.
#[test]
fn cve_2022_23540_no_key_configured() {
    for algorithm in Algorithm::ALL {
        let token = signing_key(algorithm).sign(&json!({})).unwrap();
        assert_eq!(verify(&token, &KeySet::default()), Err(Refusal::NoKey), "{algorithm}");
    }
}

// The algorithm from the token. `confusion` has the whole matrix.

fn hs256(secret: &[u8]) -> String {
    token_with_header(r#"{"alg":"HS256"}"#, &hmac_signer(Algorithm::Hs256, secret))
}

fn rsa_signer(algorithm: Algorithm) -> SigningKey {
    SigningKey::from_pem(keys::RSA_PRIVATE, algorithm).unwrap()
}

#[test]
fn cve_2015_9235_hmac_with_public_key() {
    let keys = KeySet::new([VerifyingKey::from_pem(keys::RSA, AlgorithmSet::RSA).unwrap()]);
    assert_eq!(verify(&hs256(keys::RSA.as_bytes()), &keys), Err(Refusal::NoKey));
}

/// The same with the older label, which other libraries' deny-lists had forgotten.
#[test]
fn cve_2017_11424_hmac_with_public_key_in_pkcs1() {
    let keys = KeySet::new([VerifyingKey::from_pem(keys::RSA_PKCS1, AlgorithmSet::RSA).unwrap()]);
    assert_eq!(verify(&hs256(keys::RSA_PKCS1.as_bytes()), &keys), Err(Refusal::NoKey));
}

#[test]
fn cve_2024_33663_hmac_with_public_key_in_der() {
    let keys = KeySet::new([VerifyingKey::from_pem(keys::P256, AlgorithmSet::ASYMMETRIC).unwrap()]);
    assert_eq!(verify(&hs256(&section(keys::P256)), &keys), Err(Refusal::NoKey));
}

#[test]
fn cve_2026_34950_hmac_with_white_space_before_the_pem() {
    let keys = KeySet::new([VerifyingKey::from_pem(keys::RSA, AlgorithmSet::RSA).unwrap()]);
    assert_eq!(verify(&hs256(format!(" \n{}", keys::RSA).as_bytes()), &keys), Err(Refusal::NoKey));
}

#[test]
fn cve_2026_48526_hmac_with_jwk_text() {
    let signer = rsa_signer(Algorithm::Rs256);
    let token = hs256(signer.public_jwk().unwrap().to_string().as_bytes());
    assert_eq!(verify(&token, &published(&signer)), Err(Refusal::NoKey));
}

/// A set may have one name for keys of several types: the token's algorithm finds the one that it fits.
#[test]
fn cve_2021_46743_kid_picks_other_key_type() {
    let rsa = rsa_signer(Algorithm::Rs256).with_kid("k1");
    let secret = [7; 32];
    let keys = KeySet::new([
        rsa.verifying_key().unwrap(),
        VerifyingKey::from_secret(&secret, Algorithm::Hs256).unwrap().with_kid("k2").unwrap(),
    ]);
    let with_kid = |kid: &str, signer: &SigningKey| {
        token_with_header(&json!({ "alg": signer.algorithm().name(), "kid": kid }).to_string(), signer)
    };
    let confused = hmac_signer(Algorithm::Hs256, keys::RSA.as_bytes());
    assert_eq!(verify(&with_kid("k1", &confused), &keys), Err(Refusal::NoKey));
    assert_eq!(verify(&with_kid("k2", &rsa), &keys), Err(Refusal::NoKey));
    assert_eq!(verify(&with_kid("k2", &confused), &keys), MISMATCH);
    assert!(verify(&with_kid("k1", &rsa), &keys).is_ok());
    assert!(verify(&with_kid("k2", &hmac_signer(Algorithm::Hs256, &secret)), &keys).is_ok());
}

/// A published key without `alg` gets its algorithms from its type, and they are never HMAC.
#[test]
fn cve_2026_22817_jwk_without_alg() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Ed25519] {
        let signer = signing_key(algorithm);
        let mut jwk = signer.public_jwk().unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        let keys = key_set([jwk.clone()], Origin::Remote);
        for key in keys.iter() {
            assert!(key.algorithms().contains(algorithm));
            assert!(key.algorithms().intersection(AlgorithmSet::HMAC).is_empty());
        }
        for secret in [jwk.to_string().into_bytes(), Vec::new()] {
            assert_eq!(verify(&hs256(&secret), &keys), Err(Refusal::NoKey));
        }
        assert!(verify(&signer.sign(&json!({})).unwrap(), &keys).is_ok());
    }
}

/// A secret that everybody can read signs nothing.
#[test]
fn a_secret_in_a_published_set_is_no_key() {
    let secret = [7; 32];
    let jwk = json!({ "kty": "oct", "k": base64url(secret), "alg": "HS256" });
    let set = jwk_set([jwk], Origin::Remote);
    assert_eq!(set.skipped()[0].reason, Unusable::Symmetric);
    assert_eq!(verify(&hs256(&secret), &set.into_key_set()), Err(Refusal::NoKey));
}

/// An algorithm outside what is signed: only the JSON serialization has room for one.
#[test]
fn ghsa_jc38_x7x8_2xc8_algorithm_from_an_unprotected_header() {
    let signer = signing_key(Algorithm::Es256);
    let input = format!(".{}", base64url(CLAIMS));
    let signature = base64url(signer.signature(input.as_bytes()).unwrap());
    let keys = published(&signer);
    let document =
        json!({ "payload": base64url(CLAIMS), "header": { "alg": "ES256" }, "signature": signature }).to_string();
    assert_eq!(verify(&document, &keys), Err(Refusal::Token(TokenError::NotThreeParts)));
    let compact = format!("{input}.{signature}");
    assert_eq!(verify(&compact, &keys), Err(Refusal::Token(TokenError::NotAnObject(Part::Header))));
}

// Keys from the token.

#[test]
fn cve_2018_0114_key_from_the_token() {
    let attacker = signing_key(Algorithm::Es256);
    let header = json!({ "alg": "ES256", "jwk": attacker.public_jwk().unwrap() }).to_string();
    assert_eq!(verify(&token_with_header(&header, &attacker), &published(&signing_key(Algorithm::Es256))), MISMATCH);
}

/// Nor when there is no other key.
#[test]
fn cve_2026_27962_key_from_the_token_for_want_of_another() {
    let attacker = signing_key(Algorithm::Es256);
    let header = json!({ "alg": "ES256", "jwk": attacker.public_jwk().unwrap() }).to_string();
    assert_eq!(verify(&token_with_header(&header, &attacker), &KeySet::default()), Err(Refusal::NoKey));
}

/// The crate cannot fetch anything; what is left to test is that the member changes nothing.
#[test]
fn cve_2024_21643_key_from_the_address_in_the_token() {
    let (issuer, attacker) = (signing_key(Algorithm::Es256), signing_key(Algorithm::Es256));
    let header = json!({ "alg": "ES256", "jku": "https://attacker.example/jwks.json" }).to_string();
    assert_eq!(verify(&token_with_header(&header, &attacker), &published(&issuer)), MISMATCH);
    assert!(verify(&token_with_header(&header, &issuer), &published(&issuer)).is_ok());
}

// Weak keys.

/// No secret shorter than the hash becomes a key (RFC 7518 §3.2), so there is none that nothing at all would match.
#[test]
fn cve_2026_45363_empty_hmac_key() {
    for (algorithm, length) in [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)] {
        for short in [0, 1, length - 1] {
            let secret = vec![7; short];
            assert_eq!(VerifyingKey::from_secret(&secret, algorithm).map(drop), Err(KeyError::ShortSecret));
            let jwk = json!({ "kty": "oct", "k": base64url(&secret), "alg": algorithm.name() });
            let set = jwk_set([jwk], Origin::Local);
            assert_eq!(set.skipped()[0].reason, Unusable::Key(KeyError::ShortSecret));
            let token =
                token_with_header(&json!({ "alg": algorithm.name() }).to_string(), &hmac_signer(algorithm, &secret));
            assert_eq!(verify(&token, &set.into_key_set()), Err(Refusal::NoKey));
        }
        // With a real secret, the empty one matches nothing.
        let keys = KeySet::new([VerifyingKey::from_secret(&vec![7; length], algorithm).unwrap()]);
        let token = token_with_header(&json!({ "alg": algorithm.name() }).to_string(), &hmac_signer(algorithm, b""));
        assert_eq!(verify(&token, &keys), MISMATCH);
    }
}

/// A tag is compared whole, whatever a length somewhere says.
#[test]
fn cve_2009_0217_truncated_or_extended_hmac() {
    for algorithm in AlgorithmSet::HMAC.iter() {
        let signer = signing_key(algorithm);
        let keys = KeySet::new([signer.verifying_key().unwrap()]);
        let token = signer.sign(&json!({})).unwrap();
        let tag = signature_of(&token);
        for length in 0..tag.len() {
            assert_eq!(verify(&with_signature(&token, &tag[..length]), &keys), TOO_SHORT, "{algorithm} {length}");
        }
        assert_eq!(verify(&with_signature(&token, &[&tag[..], &[0]].concat()), &keys), MISMATCH);
        assert_eq!(verify(&with_signature(&token, &[&tag[..], &tag].concat()), &keys), MISMATCH);
    }
}

// Signature arithmetic.

/// The orders of the curves (SEC 2 §2), as long as a coordinate.
const ORDERS: [(Algorithm, &str); 3] = [
    (Algorithm::Es256, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
    (
        Algorithm::Es384,
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    ),
    (
        Algorithm::Es512,
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
    ),
];

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The sum of two big-endian numbers of the same length, if it is not longer.
fn sum(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0;
    let mut digits: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let digit = u16::from(*a) + u16::from(*b) + carry;
            carry = digit >> 8;
            digit.to_be_bytes()[1]
        })
        .collect();
    digits.reverse();
    (carry == 0).then_some(digits)
}

/// `n - s` for `0 < s < n`.
fn difference(n: &[u8], s: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut digits: Vec<u8> = n
        .iter()
        .zip(s)
        .rev()
        .map(|(n, s)| {
            let digit = i16::from(*n) - i16::from(*s) - borrow;
            borrow = i16::from(digit < 0);
            digit.to_be_bytes()[1]
        })
        .collect();
    digits.reverse();
    digits
}

/// CVE-2021-43568 to 43572 were the same.
#[test]
fn cve_2022_21449_zero_signature() {
    for (algorithm, order) in ORDERS {
        let signer = signing_key(algorithm);
        let keys = published(&signer);
        let token = signer.sign(&json!({})).unwrap();
        let n = from_hex(order);
        let zero = vec![0; n.len()];
        let one = sum(&zero, &[&zero[1..], &[1]].concat()).unwrap();
        let good = signature_of(&token);
        let (r, s) = good.split_at(n.len());
        for (r, s) in [
            (&zero[..], &zero[..]),
            (&zero, s),
            (r, &zero),
            (&n, s),
            (r, &n),
            (&n, &n),
            (&one, &one),
            (&one, &zero),
            (&zero, &one),
        ] {
            assert_eq!(verify(&with_signature(&token, &[r, s].concat()), &keys), MISMATCH, "{algorithm}");
        }
        let ones = vec![0xff; 2 * n.len()];
        assert_eq!(verify(&with_signature(&token, &ones), &keys), MISMATCH, "{algorithm}");
    }
}

/// `r + n` and `s + n` are the same numbers modulo `n`, and not in its range. Coordinates of P-521 leave room for them.
#[test]
fn cve_2020_13822_signature_out_of_range() {
    let signer = signing_key(Algorithm::Es512);
    let keys = published(&signer);
    let token = signer.sign(&json!({})).unwrap();
    let n = from_hex(ORDERS[2].1);
    let good = signature_of(&token);
    let (r, s) = good.split_at(n.len());
    for (r, s) in [
        (sum(r, &n).unwrap(), s.to_vec()),
        (r.to_vec(), sum(s, &n).unwrap()),
        (sum(r, &n).unwrap(), sum(s, &n).unwrap()),
    ] {
        assert_eq!(verify(&with_signature(&token, &[r, s].concat()), &keys), MISMATCH);
    }
    // `n - s` is in the range: RFC 7518 §3.4 has no rule against it, and a signature is no name for a token.
    let other = [r, &difference(&n, s)].concat();
    assert!(verify(&with_signature(&token, &other), &keys).is_ok());
}

/// `S + L` for Ed25519 (RFC 8032 §5.1.7: "in the range 0 <= s < L").
#[test]
fn cve_2020_36843_ed25519_scalar_out_of_range() {
    const L: &str = "1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed";
    let signer = signing_key(Algorithm::Ed25519);
    let keys = published(&signer);
    let token = signer.sign(&json!({})).unwrap();
    let good = signature_of(&token);
    let (r, s) = good.split_at(32);
    let big_endian: Vec<u8> = s.iter().rev().copied().collect();
    let mut s_plus_l = sum(&big_endian, &from_hex(L)).unwrap();
    s_plus_l.reverse();
    assert_eq!(verify(&with_signature(&token, &[r, &s_plus_l].concat()), &keys), MISMATCH);
    // The neutral point and zero, which satisfy a careless equation for keys of small order.
    let mut neutral = vec![0; 64];
    assert_eq!(verify(&with_signature(&token, &neutral), &keys), MISMATCH);
    neutral[0] = 1;
    assert_eq!(verify(&with_signature(&token, &neutral), &keys), MISMATCH);
}

/// ECDSA in DER, as most crypto libraries hand it out.
#[test]
fn cve_2024_42461_ecdsa_signature_in_der() {
    fn integer(number: &[u8]) -> Vec<u8> {
        let mut digits: Vec<u8> = number.iter().copied().skip_while(|digit| *digit == 0).collect();
        if digits.first().is_none_or(|first| *first >= 0x80) {
            digits.insert(0, 0);
        }
        [&[2, u8::try_from(digits.len()).unwrap()], &digits[..]].concat()
    }
    for (algorithm, order) in ORDERS {
        let signer = signing_key(algorithm);
        let keys = published(&signer);
        let token = signer.sign(&json!({})).unwrap();
        let good = signature_of(&token);
        let (r, s) = good.split_at(order.len() / 2);
        let body = [integer(r), integer(s)].concat();
        let mut header = vec![0x30];
        header.extend((body.len() >= 0x80).then_some(0x81));
        header.push(u8::try_from(body.len()).unwrap());
        let der = [header, body].concat();
        assert!(matches!(verify(&with_signature(&token, &der), &keys), Err(Refusal::Signature(_))), "{algorithm}");
    }
}

/// A signature has exactly one length, for RSA that of the modulus.
#[test]
fn cve_2020_14968_signature_of_another_length() {
    for algorithm in AlgorithmSet::ASYMMETRIC.iter() {
        let signer = signing_key(algorithm);
        let keys = published(&signer);
        let token = signer.sign(&json!({})).unwrap();
        let good = signature_of(&token);
        let half = good.len() / 2;
        let (first, second) = good.split_at(half);
        for (what, signature) in [
            ("one octet less", good[..good.len() - 1].to_vec()),
            ("without its first octet", good[1..].to_vec()),
            ("half", first.to_vec()),
            ("zero behind", [&good[..], &[0]].concat()),
            ("zero in front", [&[0], &good[..]].concat()),
            ("zeros before both halves", [&[0], first, &[0], second].concat()),
            ("twice", good.repeat(2)),
        ] {
            let verdict = verify(&with_signature(&token, &signature), &keys);
            // Two of the largest signatures are more than a token may be.
            assert!(
                matches!(verdict, Err(Refusal::Signature(_) | Refusal::Token(TokenError::TooLong { .. }))),
                "{algorithm}: {what}: {verdict:?}"
            );
        }
    }
}

/// One token has one spelling: whatever a lenient decoder would take for the same octets is refused.
#[test]
fn cve_2022_25898_lenient_encodings() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    // Payload and signature both have `-` or `_`, and unused bits in their last character.
    let token = loop {
        let token = signer.sign(&json!({ "sub": "\u{ff}\u{fe}?>~\u{7f}", "x": "???>>>" })).unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        if signature.contains('-') && signature.contains('_') {
            break token;
        }
    };
    assert!(verify(&token, &keys).is_ok());
    let parts: Vec<&str> = token.split('.').collect();
    let mut tried = 0;
    for (at, part) in parts.iter().enumerate() {
        let last = part.chars().last().unwrap();
        let unused_bits: Vec<String> = BASE64_ALPHABET
            .chars()
            .filter(|other| *other != last)
            .map(|other| format!("{}{other}", &part[..part.len() - 1]))
            .filter(|text| same_octets_when_lenient(text, part))
            .collect();
        let mut spellings = vec![
            format!("{part}="),
            format!("{part}=="),
            format!("{part}\n"),
            format!(" {part}"),
            format!("{}\r\n{}", &part[..4], &part[4..]),
            format!("{}%{}", &part[..4], &part[4..]),
            format!("{part}\0"),
        ];
        spellings.extend(unused_bits);
        let standard = part.replace('-', "+").replace('_', "/");
        if standard != *part {
            spellings.push(standard);
        }
        for spelling in spellings {
            let mut parts = parts.clone();
            parts[at] = &spelling;
            let verdict = verify(&parts.join("."), &keys);
            let expected = match at {
                0 => Refusal::Token(TokenError::Base64(Part::Header)),
                // The payload is signed as it is spelled, and decoded only after the signature was found good.
                1 => Refusal::Signature(SignatureError::Mismatch),
                _ => Refusal::Signature(SignatureError::Base64(Part::Signature)),
            };
            assert_eq!(verdict, Err(expected), "{spelling:?}");
            tried += 1;
        }
    }
    assert!(tried > 3 * 7 + 15, "unused bits and the other alphabet were tried too: {tried}");

    // Signed as it stands, a payload must be strict all the same.
    let input = format!("{}.{}=", base64url(r#"{"alg":"ES256"}"#), base64url(b"{}"));
    let signed = format!("{input}.{}", base64url(signer.signature(input.as_bytes()).unwrap()));
    assert_eq!(verify(&signed, &keys), Err(Refusal::Signature(SignatureError::Base64(Part::Payload))));
}

const BASE64_ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Whether both decode to the same octets if the unused bits of the last character are not looked at.
fn same_octets_when_lenient(a: &str, b: &str) -> bool {
    let bits = |text: &str| {
        let last = BASE64_ALPHABET.find(text.chars().last().unwrap()).unwrap();
        match text.len() % 4 {
            2 => last >> 4,
            3 => last >> 2,
            _ => last,
        }
    };
    bits(a) == bits(b)
}

// Critical headers.

#[test]
fn cve_2025_59420_unknown_crit() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    for crit in [
        json!(["exp"]),
        json!(["https://issuer.example/policy"]),
        json!(["b64"]),
        json!(["alg"]),
        json!([]),
        json!([1]),
        json!("exp"),
        json!({ "exp": true }),
        json!(null),
        json!(false),
    ] {
        let header = json!({ "alg": "ES256", "crit": crit, "exp": 1, "b64": true }).to_string();
        let refusal = verify(&token_with_header(&header, &signer), &keys);
        assert_eq!(refusal, Err(Refusal::Token(TokenError::CriticalHeader)), "{header}");
    }
}

/// RFC 7797: `b64: false` signs another payload than the one that would be read.
#[test]
fn unencoded_payloads_are_refused_even_without_crit() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    for value in [json!(false), json!(null), json!("true"), json!(1)] {
        let header = json!({ "alg": "ES256", "b64": value }).to_string();
        let refusal = verify(&token_with_header(&header, &signer), &keys);
        assert_eq!(refusal, Err(Refusal::Token(TokenError::TransformedPayload)), "{header}");
    }
    let header = json!({ "alg": "ES256", "b64": true }).to_string();
    assert!(verify(&token_with_header(&header, &signer), &keys).is_ok());
}

// Two parsers, and other objects in the place of a token.

/// A document that is a JSON serialization to one parser and has a good compact token inside for another.
#[test]
fn cve_2022_39227_two_serialisations() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    let token = signer.sign(&json!({ "sub": "ada" })).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let forged = base64url(r#"{"sub":"eve"}"#);
    for mixture in [
        format!(
            r#"{{"  {header}.{forged}.":"","protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#
        ),
        format!(r#"{{"{header}.":"","payload":"{payload}","x":".{signature}"}}"#),
        format!("{header}.{payload}.{signature} "),
        format!("Bearer {token}"),
        format!("{token},{token}"),
        format!("\"{token}\""),
        format!("{header}.{forged}.{signature}.{payload}"),
        json!({ "payload": payload, "protected": header, "signature": signature }).to_string(),
        json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] }).to_string(),
    ] {
        assert!(verify(&mixture, &keys).is_err(), "{mixture}");
    }
}

/// A member that stands twice is another one to another parser, so it is none.
#[test]
fn cve_2017_12635_duplicate_members() {
    let signer = signing_key(Algorithm::Es256).with_kid("k1");
    let keys = published(&signer);
    for header in [
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","alg":"none"}"#,
        r#"{"alg":"ES256","alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"k2","kid":"k1"}"#,
        r#"{"alg":"ES256","kid":"k2","\u006bid":"k1"}"#,
        r#"{"alg":"ES256","x":{"y":[{"z":1,"z":2}]}}"#,
    ] {
        let refusal = verify(&token_with_header(header, &signer), &keys);
        assert_eq!(refusal, Err(Refusal::Token(TokenError::DuplicateMember(Part::Header))), "{header}");
    }
    for header in [r#"{"alg":"ES256"}{}"#, r#"{"alg":"ES256"} x"#, "\u{feff}{\"alg\":\"ES256\"}", r#""ES256""#, "[]"] {
        let refusal = verify(&token_with_header(header, &signer), &keys);
        assert_eq!(refusal, Err(Refusal::Token(TokenError::NotAnObject(Part::Header))), "{header}");
    }
    // A key set, too.
    let jwk = signer.public_jwk().unwrap().to_string();
    let twice = format!(r#"{{"keys":[],"keys":[{jwk}]}}"#);
    assert_eq!(JwkSet::parse(twice.as_bytes(), Origin::Remote).map(drop), Err(JwkSetError::NotAKeySet));
    let twice = format!(r#"{{"keys":[{}]}}"#, jwk.replacen('{', r#"{"kid":"k2","#, 1));
    let set = JwkSet::parse(twice.as_bytes(), Origin::Remote).unwrap();
    assert_eq!(set.skipped()[0].reason, Unusable::DuplicateMember);
}

#[test]
fn cve_2023_51774_jwe_as_jws() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    for header in
        [r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#, r#"{"alg":"dir","enc":"A128CBC-HS256"}"#, r#"{"alg":"ES256"}"#]
    {
        let five = format!("{}.AAAA.AAAA.{}.AAAA", base64url(header), base64url(CLAIMS));
        assert_eq!(verify(&five, &keys), Err(Refusal::Token(TokenError::Encrypted)), "{header}");
    }
    // In three parts, its algorithm is none of ours.
    for alg in ["RSA-OAEP", "RSA1_5", "dir", "A256GCMKW", "ECDH-ES", "PBES2-HS256+A128KW"] {
        let token = token_with_header(&json!({ "alg": alg, "enc": "A256GCM" }).to_string(), &signer);
        assert_eq!(verify(&token, &keys), Err(Refusal::Token(TokenError::UnknownAlgorithm)), "{alg}");
    }
}

// Work for nothing. The generous limit on time only catches work that grows out of bounds.

#[track_caller]
fn quickly<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = work();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");
    outcome
}

#[test]
fn cve_2025_30204_many_dots() {
    let keys = published(&signing_key(Algorithm::Es256));
    let at_the_limit = ".".repeat(DEFAULT_MAX_TOKEN_BYTES);
    assert_eq!(quickly(|| verify(&at_the_limit, &keys)), Err(Refusal::Token(TokenError::NotThreeParts)));
    let beyond = ".".repeat(16_000_000);
    let refusal = quickly(|| verify(&beyond, &keys));
    assert_eq!(
        refusal,
        Err(Refusal::Token(TokenError::TooLong { length: beyond.len(), limit: DEFAULT_MAX_TOKEN_BYTES }))
    );
    let unlimited = quickly(|| UnverifiedToken::parse(&beyond, usize::MAX, &mut HeaderScratch::new()).map(drop));
    assert_eq!(unlimited, Err(TokenError::NotThreeParts));
}

#[test]
fn cve_2025_61920_huge_token() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    let token = signer.sign(&json!({ "x": "x".repeat(DEFAULT_MAX_TOKEN_BYTES) })).unwrap();
    let refusal = Refusal::Token(TokenError::TooLong { length: token.len(), limit: DEFAULT_MAX_TOKEN_BYTES });
    assert_eq!(verify(&token, &keys), Err(refusal));

    // The limit is the whole token's, to the byte.
    let parse = |limit| UnverifiedToken::parse(&token, limit, &mut HeaderScratch::new()).map(drop);
    assert_eq!(parse(token.len()), Ok(()));
    let limit = token.len() - 1;
    assert_eq!(parse(limit), Err(TokenError::TooLong { length: token.len(), limit }));

    // Whatever the limit, the header and the signature have their own.
    let huge = "A".repeat(16_000_000);
    let header = base64url(r#"{"alg":"ES256"}"#);
    let parse = |token: &str| UnverifiedToken::parse(token, usize::MAX, &mut HeaderScratch::new()).map(drop);
    assert_eq!(quickly(|| parse(&format!("{huge}.e30.AA"))), Err(TokenError::HeaderTooLong));
    let token = format!("{header}.e30.{huge}");
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&token, usize::MAX, &mut scratch).unwrap();
    let key = keys.iter().next().unwrap();
    assert_eq!(quickly(|| token.verify(key).map(drop)), Err(SignatureError::Mismatch));
}

#[test]
fn cve_2025_62706_compressed_payload() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    for zip in [json!("DEF"), json!("none"), json!(null)] {
        let header = json!({ "alg": "ES256", "zip": zip }).to_string();
        let refusal = verify(&token_with_header(&header, &signer), &keys);
        assert_eq!(refusal, Err(Refusal::Token(TokenError::TransformedPayload)), "{header}");
    }
}

#[test]
fn cve_2025_53864_deep_json() {
    let signer = signing_key(Algorithm::Es256);
    let keys = published(&signer);
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [100, 600] {
            let deep = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            let header = format!(r#"{{"alg":"ES256","x":{deep}}}"#);
            let refusal = verify(&token_with_header(&header, &signer), &keys);
            assert_eq!(refusal, Err(Refusal::Token(TokenError::NotAnObject(Part::Header))), "{open} {depth}");
        }
        // A key set that is all depth, and one in which only a single key is.
        let unclosed = open.repeat(500_000);
        let parse = |document: &str| JwkSet::parse(document.as_bytes(), Origin::Remote);
        assert_eq!(quickly(|| parse(&unclosed)).map(drop), Err(JwkSetError::NotAKeySet));
        let deep = format!("{}0{}", open.repeat(100_000), close.repeat(100_000));
        let document = format!(r#"{{"x":{deep},"keys":[{{"kty":"EC","x":{deep}}},{}]}}"#, signer.public_jwk().unwrap());
        let set = quickly(|| parse(&document)).unwrap();
        assert_eq!(set.skipped()[0].reason, Unusable::NotAnObject);
        assert!(verify(&signer.sign(&json!({})).unwrap(), &set.into_key_set()).is_ok());
    }
}

/// PBES2 lets the token say how many rounds of hashing are to be done.
#[test]
fn cve_2023_50967_rounds_from_the_token() {
    let keys = published(&signing_key(Algorithm::Es256));
    let header = base64url(r#"{"alg":"PBES2-HS512+A256KW","p2s":"AAAA","p2c":2147483647,"enc":"A256GCM"}"#);
    let refusal = quickly(|| verify(&format!("{header}.AAAA.AAAA.AAAA.AAAA"), &keys));
    assert_eq!(refusal, Err(Refusal::Token(TokenError::Encrypted)));
    let refusal = quickly(|| verify(&format!("{header}.AAAA.AAAA"), &keys));
    assert_eq!(refusal, Err(Refusal::Token(TokenError::UnknownAlgorithm)));
}

#[test]
fn a_header_has_a_bounded_number_of_members() {
    let signer = signing_key(Algorithm::Es256);
    let members = |count: usize| (0..count).map(|n| (format!("m{n}"), json!(0))).collect::<serde_json::Map<_, _>>();
    let header = |count: usize| {
        let mut header = members(count - 1);
        header.insert("alg".into(), "ES256".into());
        Value::Object(header).to_string()
    };
    let keys = published(&signer);
    assert!(verify(&token_with_header(&header(MAX_HEADER_MEMBERS), &signer), &keys).is_ok());
    let refusal = verify(&token_with_header(&header(MAX_HEADER_MEMBERS + 1), &signer), &keys);
    assert_eq!(refusal, Err(Refusal::Token(TokenError::TooManyHeaderMembers)));
}

/// A set of very many keys is refused, and a token without `kid` is tried against few of those that there are.
#[test]
fn a_key_set_is_bounded_and_so_are_the_keys_tried() {
    let jwk = |kid: Option<&str>| {
        let mut jwk = signing_key(Algorithm::Es256).public_jwk().unwrap();
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    };
    let document = json!({ "keys": vec![jwk(None); MAX_KEYS + 1] }).to_string();
    assert_eq!(JwkSet::parse(document.as_bytes(), Origin::Remote).map(drop), Err(JwkSetError::TooManyKeys));
    for (kid, asked) in [(None, None), (Some("k1"), None), (Some("k1"), Some("k1"))] {
        let keys = key_set((0..20).map(|_| jwk(kid)), Origin::Remote);
        assert_eq!(keys.candidates(asked, Algorithm::Es256).count(), MAX_CANDIDATES);
    }
}

/// An RSA exponent of thousands of bits makes a verification cost as much as a signature.
#[test]
fn cve_2023_6237_costly_public_keys() {
    let jwk = rsa_signer(Algorithm::Rs256).public_jwk().unwrap();
    let with = |name: &str, octets: Vec<u8>| {
        let mut jwk = jwk.clone();
        jwk[name] = base64url(octets).into();
        jwk_set([jwk], Origin::Remote).skipped()[0].reason
    };
    assert_eq!(with("e", vec![0xff; 256]), Unusable::Key(KeyError::BadExponent));
    assert_eq!(with("e", vec![1]), Unusable::Key(KeyError::BadExponent));
    assert_eq!(with("n", vec![0xff; 2048]), Unusable::Key(KeyError::BadModulus));
    assert_eq!(with("n", vec![0xff; 128]), Unusable::Key(KeyError::WeakRsa { bits: 1024 }));
}

// No panic, and no acceptance, whatever comes.

proptest! {
    #[test]
    fn cve_2019_17195_garbage_is_refused_without_a_panic(
        text in r"\PC{0,200}",
        encoded in r"[A-Za-z0-9_-]{0,120}\.[A-Za-z0-9_-]{0,120}\.[A-Za-z0-9_-]{0,120}",
        header in r#"\{("alg":"(ES256|HS256|none|EdDSA)",?|"(kid|typ|crit|b64|zip)":[a-z0-9"\[\]{}]{0,6},?){0,4}\}"#,
        signature in proptest::collection::vec(any::<u8>(), 0..160),
    ) {
        let keys = garbage_keys();
        prop_assert!(verify(&text, keys).is_err());
        prop_assert!(verify(&encoded, keys).is_err());
        let token = format!("{}.{}.{}", base64url(&header), base64url(CLAIMS), base64url(&signature));
        prop_assert!(verify(&token, keys).is_err());
    }
}

fn garbage_keys() -> &'static KeySet {
    static KEYS: std::sync::LazyLock<KeySet> = std::sync::LazyLock::new(|| {
        KeySet::new(
            [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256]
                .map(|algorithm| signing_key(algorithm).verifying_key().unwrap()),
        )
    });
    &KEYS
}
