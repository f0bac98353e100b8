//! A test for each requirement and statement that the token layer decides (`SECURITY.md`, `tests/STATEMENTS.md`), named
//! after it. The files beside this one go deeper.

use countersign_token::{
    Algorithm, KeyError, KeySet, MAX_KID_BYTES, Origin, Part, SignatureError, SigningKey, TokenError, Unusable,
    VerifyingKey,
};
use serde_json::{Value, json};

use crate::{
    Refusal, base64url, hmac_signer, jwk_set, published, signature_of, signing_key, token_with_header, verify,
    with_signature,
};

fn es256() -> SigningKey {
    signing_key(Algorithm::Es256).with_kid("k1")
}

/// What becomes of a token with that header, signed in earnest by a published key.
fn with_header(header: &str) -> Result<Vec<u8>, Refusal> {
    let signer = es256();
    verify(&token_with_header(header, &signer), &published(&signer))
}

/// Why the one JWK is not used.
fn unusable(jwk: Value) -> Unusable {
    let set = jwk_set([jwk], Origin::Remote);
    assert!(set.keys().is_empty());
    set.skipped()[0].reason
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

fn public(algorithm: Algorithm) -> Value {
    signing_key(algorithm).public_jwk().unwrap()
}

#[test]
fn r1_the_key_decides_and_the_header_only_agrees() {
    let signer = es256();
    let keys = published(&signer);
    for header in [r#"{"alg":"HS256","kid":"k1"}"#, r#"{"alg":"RS256","kid":"k1"}"#, r#"{"alg":"ES384","kid":"k1"}"#] {
        assert_eq!(verify(&token_with_header(header, &signer), &keys), Err(Refusal::NoKey), "{header}");
    }
    // Without `alg` the key's algorithm comes from its type.
    let mut jwk = signer.public_jwk().unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    assert_eq!(jwk_set([jwk], Origin::Remote).keys()[0].algorithms(), Algorithm::Es256.into());
    assert_eq!(unusable(json!({"kty": "oct", "k": base64url([7; 64])})), Unusable::Symmetric);
}

#[test]
fn r2_restrictions_of_a_key_bind() {
    assert_eq!(unusable(with(public(Algorithm::Es256), "use", "enc")), Unusable::NotForSignatures);
    assert_eq!(unusable(with(public(Algorithm::Es256), "key_ops", json!(["sign"]))), Unusable::NotForVerifying);
    assert_eq!(unusable(with(public(Algorithm::Es256), "alg", "ES384")), Unusable::ContradictoryAlgorithm);
    assert_eq!(unusable(with(public(Algorithm::Rs256), "e", "AQ")), Unusable::Key(KeyError::BadExponent));
}

#[test]
fn r3_signatures_are_strict() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Ed25519, Algorithm::Hs256] {
        let signer = signing_key(algorithm);
        let keys = KeySet::new([signer.verifying_key().unwrap()]);
        let token = signer.sign(&json!({})).unwrap();
        let signature = signature_of(&token);
        assert!(verify(&token, &keys).is_ok());
        for wrong in [
            [&signature[..], &[0]].concat(),
            [&[0], &signature[..]].concat(),
            signature[..signature.len() - 1].to_vec(),
            vec![0; signature.len()],
        ] {
            assert!(
                matches!(verify(&with_signature(&token, &wrong), &keys), Err(Refusal::Signature(_))),
                "{algorithm}"
            );
        }
    }
}

#[test]
fn r4_base64url_is_strict() {
    let signer = es256();
    let keys = published(&signer);
    let token = signer.sign(&json!({})).unwrap();
    for (change, part) in [
        (format!("{token}="), Part::Signature),
        (format!("{token} "), Part::Signature),
        (token.replacen('.', "=.", 1), Part::Header),
        (format!("\n{token}"), Part::Header),
    ] {
        let refusal = verify(&change, &keys).unwrap_err();
        let expected = [Refusal::Token(TokenError::Base64(part)), Refusal::Signature(SignatureError::Base64(part))];
        assert!(expected.contains(&refusal), "{change}: {refusal:?}");
    }
}

#[test]
fn statement_16_three_parts_of_strict_base64url() {
    let token = es256().sign(&json!({})).unwrap();
    let keys = KeySet::default();
    for wrong in ["", ".", "..", &token[..token.rfind('.').unwrap()], &format!("{token}.")] {
        assert!(matches!(verify(wrong, &keys), Err(Refusal::Token(_))), "{wrong}");
    }
}

#[test]
fn statement_17_duplicate_members_are_refused() {
    let expected = Err(Refusal::Token(TokenError::DuplicateMember(Part::Header)));
    assert_eq!(with_header(r#"{"alg":"ES256","kid":"k1","kid":"k1"}"#), expected);
    assert_eq!(with_header(r#"{"alg":"ES256","x":{"a":1,"\u0061":1}}"#), expected);
}

#[test]
fn statement_18_crit_is_refused() {
    for crit in [r#"["unknown"]"#, "[]", r#"["exp"]"#, "null", r#"{"exp":1}"#] {
        let header = format!(r#"{{"alg":"ES256","kid":"k1","crit":{crit}}}"#);
        assert_eq!(with_header(&header), Err(Refusal::Token(TokenError::CriticalHeader)), "{crit}");
    }
}

#[test]
fn statement_19_none_is_refused_in_any_letter_case() {
    for bits in 0..16 {
        let none: String = "none"
            .chars()
            .enumerate()
            .map(|(at, c)| if bits >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        let header = format!(r#"{{"alg":"{none}"}}"#);
        assert_eq!(with_header(&header), Err(Refusal::Token(TokenError::UnsignedAlgorithm)), "{none}");
    }
}

#[test]
fn statement_20_hmac_with_a_public_key_never_verifies() {
    let signer = signing_key(Algorithm::Rs256).with_kid("k1");
    let secret = signer.public_jwk().unwrap().to_string();
    let forged = token_with_header(r#"{"alg":"HS256","kid":"k1"}"#, &hmac_signer(Algorithm::Hs256, secret.as_bytes()));
    assert_eq!(verify(&forged, &published(&signer)), Err(Refusal::NoKey));
}

#[test]
fn statement_21_rsa_below_2048_bits_is_refused_at_load() {
    let modulus = |bits: usize| with(public(Algorithm::Rs256), "n", base64url(vec![0xff; bits / 8]));
    assert_eq!(unusable(modulus(1024)), Unusable::Key(KeyError::WeakRsa { bits: 1024 }));
    assert_eq!(unusable(modulus(2040)), Unusable::Key(KeyError::WeakRsa { bits: 2040 }));
    assert_eq!(jwk_set([modulus(2048)], Origin::Remote).keys().len(), 1);
}

#[test]
fn statement_22_ecdsa_is_fixed_length_and_bound_to_its_curve() {
    for (algorithm, length) in [(Algorithm::Es256, 64), (Algorithm::Es384, 96), (Algorithm::Es512, 132)] {
        let signer = signing_key(algorithm);
        let token = signer.sign(&json!({})).unwrap();
        assert_eq!(signature_of(&token).len(), length);
        let mut der = vec![0x30, u8::try_from(length).unwrap() + 4];
        for half in signature_of(&token).chunks(length / 2) {
            der.extend([2, u8::try_from(length / 2).unwrap()]);
            der.extend(half);
        }
        assert_eq!(
            verify(&with_signature(&token, &der), &published(&signer)),
            Err(Refusal::Signature(SignatureError::Mismatch))
        );
        assert_eq!(unusable(with(signer.public_jwk().unwrap(), "alg", "RS256")), Unusable::ContradictoryAlgorithm);
    }
}

#[test]
fn statement_23_an_hmac_key_is_as_long_as_its_hash() {
    for (algorithm, length) in [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)] {
        let key = |length| VerifyingKey::from_secret(&vec![1; length], algorithm).map(|key| key.algorithms());
        assert_eq!(key(length - 1), Err(KeyError::ShortSecret));
        assert_eq!(key(length), Ok(algorithm.into()));
    }
}

#[test]
fn statement_24_points_off_the_curve_are_refused() {
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512] {
        let (jwk, other) = (public(algorithm), public(algorithm));
        assert_eq!(unusable(with(jwk, "y", other["y"].clone())), Unusable::Key(KeyError::Invalid));
    }
}

#[test]
fn statement_25_the_header_is_a_json_object_in_utf_8() {
    for header in ["[]", "null", "\"ES256\"", "{\"alg\":\"ES256\"", "{\"alg\":\"ES256\"} {}"] {
        assert_eq!(with_header(header), Err(Refusal::Token(TokenError::NotAnObject(Part::Header))), "{header}");
    }
    let latin_1 = format!("{}.e30.AA", base64url(b"{\"alg\":\"ES256\",\"kid\":\"\xfc\"}"));
    let refusal = verify(&latin_1, &KeySet::default());
    assert_eq!(refusal, Err(Refusal::Token(TokenError::NotAnObject(Part::Header))));
}

#[test]
fn statement_26_a_key_in_the_token_is_never_used() {
    let (owner, attacker) = (es256(), es256());
    let jwk = attacker.public_jwk().unwrap();
    let header = json!({
        "alg": "ES256", "kid": "k1", "jwk": jwk, "jku": "https://attacker.example/jwks.json",
        "x5u": "https://attacker.example/cert.pem", "x5c": ["AAAA"],
    });
    let forged = token_with_header(&header.to_string(), &attacker);
    assert_eq!(verify(&forged, &published(&owner)), Err(Refusal::Signature(SignatureError::Mismatch)));
}

#[test]
fn statement_27_kid_is_bounded_and_only_looked_up() {
    let kid = |length| format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(length));
    assert_eq!(with_header(&kid(MAX_KID_BYTES)), Err(Refusal::NoKey));
    assert_eq!(with_header(&kid(MAX_KID_BYTES + 1)), Err(Refusal::Token(TokenError::MalformedHeaderMember("kid"))));
    for kid in ["../../etc/passwd", "' OR 1=1 --", "k1\\u0000", "k1\\r\\nx: y", "${jndi:ldap://x}"] {
        assert_eq!(with_header(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)), Err(Refusal::NoKey), "{kid}");
    }
}

#[test]
fn statement_28_ed25519_under_both_names_and_no_ed448() {
    let signer = signing_key(Algorithm::Ed25519).with_kid("k1");
    let mut jwk = signer.public_jwk().unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    let keys = jwk_set([jwk.clone()], Origin::Remote).into_key_set();
    for header in [r#"{"alg":"Ed25519","kid":"k1"}"#, r#"{"alg":"EdDSA","kid":"k1"}"#] {
        assert!(verify(&token_with_header(header, &signer), &keys).is_ok());
    }
    let ed448 = with(with(jwk, "crv", "Ed448"), "x", base64url([7; 57]));
    assert_eq!(unusable(ed448), Unusable::UnknownCurve);
}

#[test]
fn statement_29_an_akp_key_is_bound_to_its_alg() {
    let jwk = public(Algorithm::MlDsa44);
    let mut nameless = jwk.clone();
    nameless.as_object_mut().unwrap().remove("alg");
    assert_eq!(unusable(nameless), Unusable::Missing("alg"));
    assert_eq!(unusable(with(jwk.clone(), "alg", "ML-DSA-65")), Unusable::Key(KeyError::WrongLength));
    let keys = jwk_set([jwk], Origin::Remote).into_key_set();
    assert_eq!(keys.candidates(None, Algorithm::MlDsa65).count(), 0);
    assert_eq!(keys.candidates(None, Algorithm::MlDsa44).count(), 1);
}

#[test]
fn statement_30_compressed_and_five_part_tokens_are_refused() {
    assert_eq!(
        with_header(r#"{"alg":"ES256","kid":"k1","zip":"DEF"}"#),
        Err(Refusal::Token(TokenError::TransformedPayload))
    );
    assert_eq!(verify("e30.e30.e30.e30.e30", &KeySet::default()), Err(Refusal::Token(TokenError::Encrypted)));
}

#[test]
fn statement_31_a_bad_key_does_not_spoil_its_neighbours() {
    let good = es256();
    for bad in [json!({"kty": "PQC"}), json!({"kty": "EC", "crv": "P-256"}), json!({"kty": null}), json!(7), json!([])]
    {
        let set = jwk_set([bad.clone(), good.public_jwk().unwrap(), bad], Origin::Remote);
        assert_eq!((set.keys().len(), set.skipped().len()), (1, 2));
        assert!(verify(&good.sign(&json!({})).unwrap(), &set.into_key_set()).is_ok());
    }
}

#[test]
fn statement_32_unknown_members_are_ignored() {
    let jwk = with(with(es256().public_jwk().unwrap(), "iat", 1_700_000_000), "x5t", "AAAA");
    assert_eq!(jwk_set([jwk], Origin::Remote).keys().len(), 1);
    assert!(with_header(r#"{"alg":"ES256","kid":"k1","x5t":"AAAA","unknown":{"deep":[1]}}"#).is_ok());
}

#[test]
fn statement_33_use_and_key_ops_exclude_and_must_not_contradict() {
    let jwk = || public(Algorithm::Es256);
    assert_eq!(unusable(with(jwk(), "use", "enc")), Unusable::NotForSignatures);
    assert_eq!(unusable(with(jwk(), "key_ops", json!(["sign"]))), Unusable::NotForVerifying);
    assert_eq!(unusable(with(jwk(), "key_ops", json!(["verify", "deriveKey"]))), Unusable::ContradictoryPurpose);
}

#[test]
fn statement_34_the_keys_alg_equals_the_tokens() {
    let signer = signing_key(Algorithm::Rs256).with_kid("k1");
    let keys = published(&signer);
    for alg in ["RS384", "RS512", "PS256"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"k1"}}"#);
        assert_eq!(verify(&token_with_header(&header, &signer), &keys), Err(Refusal::NoKey), "{alg}");
    }
}

#[test]
fn statement_35_kid_is_case_sensitive_and_resolved_by_type() {
    let (ec, ed) = (es256(), signing_key(Algorithm::Ed25519).with_kid("k1"));
    let keys = jwk_set([ed.public_jwk().unwrap(), ec.public_jwk().unwrap()], Origin::Remote).into_key_set();
    assert!(verify(&ec.sign(&json!({})).unwrap(), &keys).is_ok());
    assert!(verify(&ed.sign(&json!({})).unwrap(), &keys).is_ok());
    assert_eq!(verify(&token_with_header(r#"{"alg":"ES256","kid":"K1"}"#, &ec), &keys), Err(Refusal::NoKey));
}
