//! Good tokens are good, every attack of the catalogue is refused, and each for the reason in its name: judged by the
//! verifier of this project and, so that neither can excuse the other, by hand where that is short.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use countersign::verifier::{Fault, Verifier};
use countersign::{Algorithm, AlgorithmSet, JwtAuth, KeySet, SigningKey, VerifyingKey};
use countersign_claims::{Clock as _, UnixTime};
use countersign_testkit::{HostileToken, IdentityProvider, ManualClock, TestKey, Token};

const ISSUER: &str = "https://issuer.example";

fn verifier(key: &TestKey) -> Arc<Verifier<countersign::Keys>> {
    JwtAuth::with_keys(KeySet::new([key.verifying_key()]))
        .algorithms(key.algorithm())
        .issuer(ISSUER)
        .audience("orders")
        .verifier()
}

fn good(key: &TestKey) -> Token {
    Token::new(key).issuer(ISSUER).audience("orders")
}

/// Why the verifier refuses it.
fn refusal(verifier: &Verifier<countersign::Keys>, token: &str) -> Option<&'static str> {
    let now = ManualClock::stopped_now().now();
    verifier.verify(token, now).err().map(|refusal| {
        assert_eq!(refusal.fault(), Fault::Token, "{refusal}");
        refusal.code()
    })
}

#[test]
fn a_token_is_good_until_it_is_made_bad() {
    for algorithm in Algorithm::ALL {
        let key = TestKey::nth(algorithm, 0);
        let verifier = verifier(&key);
        assert_eq!(refusal(&verifier, &good(&key).sign()), None, "{algorithm}");
        assert_eq!(refusal(&verifier, &good(&key).without("jti").scope("a b").claim("x", 1).sign()), None);
        assert_eq!(refusal(&verifier, &good(&key).typ("JWT").sign()), None);
        assert_eq!(refusal(&verifier, &good(&key).signed_by(&key.clone().without_kid()).sign()), None);
    }
}

#[test]
fn every_attack_is_refused_with_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let key = TestKey::nth(algorithm, 0);
        let verifier = verifier(&key);
        let catalogue = good(&key).hostile();
        assert!(catalogue.len() > 80, "{algorithm}: {}", catalogue.len());
        let names: BTreeSet<_> = catalogue.iter().map(|hostile| hostile.attack).collect();
        assert_eq!(names.len(), catalogue.len(), "each has a name of its own");
        for HostileToken { attack, token, .. } in catalogue {
            assert!(refusal(&verifier, &token).is_some(), "{algorithm}: {attack}");
        }
    }
}

/// What the verifier finds wrong with each, for ES256: an attack that is refused for another reason than its own tests nothing.
const REASONS: &[(&str, &[&str])] = &[
    (
        "alg_none",
        &[
            "alg none, no signature",
            "alg none, old signature",
            "alg None, no signature",
            "alg None, old signature",
            "alg NONE, no signature",
            "alg NONE, old signature",
            "alg nOnE, no signature",
            "alg nOnE, old signature",
        ],
    ),
    ("alg_missing", &["alg absent"]),
    ("header_malformed", &["alg null", "alg a list", "kid of another type", "kid too long"]),
    ("alg_unknown", &["alg empty", "alg in lower case", "alg with a space behind"]),
    (
        "alg_not_allowed",
        &[
            "HS256 keyed with the public key in PEM",
            "HS384 keyed with the public key in PEM",
            "HS512 keyed with the public key in PEM",
            "HS256 keyed with the public key in PEM, trimmed",
            "HS256 keyed with the public key in PEM behind white space",
            "HS256 keyed with the public key in DER",
            "HS256 keyed with the text of the public JWK",
            "HS256 keyed with the bare public member",
            "HS256 keyed with nothing",
            "HS256 keyed with an empty file",
        ],
    ),
    ("signature_too_short", &["signature stripped", "signature cut short"]),
    (
        "not_three_parts",
        &[
            "signature and its dot stripped",
            "a dot behind",
            "a dot in front",
            "more dots than anybody counts",
            "JSON serialisation",
        ],
    ),
    (
        "bad_signature",
        &[
            "signature with an octet behind",
            "signature with an octet in front",
            "signature of zeros",
            "signature of ones",
            "a bit of the signature flipped",
            "payload swapped",
            "header swapped",
            "ECDSA signature in DER",
            "attacker's key under the good kid",
            "attacker's key without a kid",
            "attacker's key embedded as jwk",
            "attacker's key embedded as jwk, without a kid",
            "attacker's key set as jku",
            "attacker's certificate as x5u",
            "x5c that is no certificate",
        ],
    ),
    ("header_duplicate_member", &["kid twice", "alg twice", "alg twice, once by an escape"]),
    (
        "unknown_key",
        &[
            "attacker's key under a kid of his own",
            "kid is a path",
            "kid is a URL",
            "kid is SQL",
            "kid with control characters",
            "kid empty",
        ],
    ),
    ("crit", &["crit names an extension", "crit empty", "crit no list"]),
    ("payload_transformed", &["b64 false", "b64 false without crit", "zip"]),
    (
        "wrong_type",
        &["a DPoP proof", "a logout token", "a security event token", "an authorization request", "a status list"],
    ),
    (
        "header_not_an_object",
        &[
            "header in a list",
            "header with something behind it",
            "header not UTF-8",
            "header empty",
            "header too deep",
            "nothing but dots",
        ],
    ),
    ("encrypted", &["five parts, like a JWE"]),
    (
        "not_base64url",
        &[
            "compact and JSON serialisation in one",
            "padded signature",
            "padded header",
            "padded payload",
            "white space behind",
            "white space inside",
            "line feed inside",
            "stray bits in the last character",
            "payload in the alphabet of plain base64",
        ],
    ),
    ("token_too_long", &["too long"]),
    ("expired", &["expired"]),
    ("claim_missing", &["exp absent", "iss absent", "aud absent"]),
    (
        "claim_malformed",
        &[
            "exp null",
            "exp is text",
            "exp negative",
            "exp beyond all calendars",
            "nbf is text",
            "iat is text",
            "sub of another type",
            "iss in a list",
            "aud an empty list",
            "aud an object",
        ],
    ),
    ("not_yet_valid", &["not yet valid"]),
    ("issued_in_the_future", &["issued in the future"]),
    ("id_token", &["an ID token"]),
    ("bound_to_key", &["bound to a key"]),
    ("payload_duplicate_member", &["exp twice", "exp twice, once by an escape", "aud twice"]),
    (
        "payload_not_an_object",
        &[
            "claims behind a byte order mark",
            "claims in a list",
            "claims with something behind them",
            "claims not UTF-8",
            "claims empty",
            "claims too deep",
            "another token for claims",
        ],
    ),
    ("wrong_issuer", &["iss another", "iss with a slash behind", "iss cut short", "iss in another case"]),
    (
        "wrong_audience",
        &[
            "aud another",
            "aud with something behind",
            "aud cut short",
            "aud a list of near misses",
            "aud in another case",
        ],
    ),
];

#[test]
fn every_attack_is_refused_for_its_own_reason() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let verifier = verifier(&key);
    let catalogue = good(&key).hostile();
    for hostile in &catalogue {
        let found = refusal(&verifier, &hostile.token).unwrap();
        let expected = REASONS.iter().find(|(_, attacks)| attacks.contains(&hostile.attack)).map(|(code, _)| *code);
        assert_eq!(Some(found), expected, "{}", hostile.attack);
        assert_eq!(hostile.names_unknown_key, found == "unknown_key", "{}", hostile.attack);
    }
    assert_eq!(REASONS.iter().map(|(_, attacks)| attacks.len()).sum::<usize>(), catalogue.len());
}

/// The catalogue is made by what the good token says, not by what the attacker's clock says.
#[test]
fn attacks_on_a_token_of_another_time() {
    let clock = ManualClock::new(UnixTime::from_secs(2_000_000_000));
    let key = TestKey::nth(Algorithm::Ed25519, 0);
    let verifier = verifier(&key);
    let token = good(&key).issued_at(clock.now(), Duration::from_secs(600));
    assert!(verifier.verify(&token.sign(), clock.now()).is_ok());
    for hostile in token.hostile() {
        assert!(verifier.verify(&hostile.token, clock.now()).is_err(), "{}", hostile.attack);
    }
    clock.advance(Duration::from_secs(600 + 61));
    assert_eq!(verifier.verify(&token.sign(), clock.now()).unwrap_err().code(), "expired");
    clock.turn_back(Duration::from_secs(1200));
    assert_eq!(verifier.verify(&token.sign(), clock.now()).unwrap_err().code(), "issued_in_the_future");
    clock.set(UnixTime::from_secs(2_000_000_300));
    assert!(verifier.verify(&token.sign(), clock.now()).is_ok());
}

/// Whatever a test has made of the good token, its attacks are attacks.
#[test]
fn attacks_on_a_token_without_iat_on_an_old_one_and_on_one_without_a_kid() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let verifier = verifier(&key);
    let now = ManualClock::stopped_now().now().as_secs();
    let old = good(&key).claim("iat", now - 90_000).claim("exp", now + 60);
    let long = good(&key).claim("iat", now - 7200).claim("exp", now + 90_000);
    let fractional = good(&key).claim("iat", now as f64 - 0.5);
    for token in [good(&key).without("iat"), old, long, fractional, good(&key).signed_by(&key.clone().without_kid())] {
        assert_eq!(refusal(&verifier, &token.sign()), None);
        for HostileToken { attack, token, names_unknown_key, .. } in token.hostile() {
            let found = refusal(&verifier, &token).unwrap_or_else(|| panic!("{attack} is accepted"));
            let expected = REASONS.iter().find(|(_, attacks)| attacks.contains(&attack)).map(|(code, _)| *code);
            // A verifier whose one key has a name tries it for a token without one.
            assert!(Some(found) == expected || attack.contains("kid"), "{attack}: {found}");
            assert!(names_unknown_key || found != "unknown_key", "{attack}");
        }
    }
}

/// An audience without letters has no other case.
#[test]
fn attacks_are_never_the_good_token() {
    for audience in ["1234", "x", "ORDERS", "https://api.example/"] {
        let key = TestKey::nth(Algorithm::Ed25519, 0);
        let token = Token::new(&key).issuer(ISSUER).audience(audience);
        let auth = JwtAuth::with_keys(KeySet::new([key.verifying_key()])).issuer(ISSUER).audience(audience);
        let verifier = auth.verifier();
        assert_eq!(refusal(&verifier, &token.sign()), None);
        for hostile in token.hostile() {
            assert!(refusal(&verifier, &hostile.token).is_some(), "{audience}: {}", hostile.attack);
        }
    }
}

/// Verifiers with the gap that it is about fall for an attack: an attack that no gap lets in shows nothing.
#[test]
fn attacks_get_in_where_there_is_a_gap_for_them() {
    let attack = |token: &Token, name: &str| {
        let found = token.hostile().into_iter().find(|hostile| hostile.attack == name);
        found.unwrap_or_else(|| panic!("no {name}")).token
    };
    // The attacker's keys, for who fetches what a token names.
    let idp = IdentityProvider::with_algorithm(Algorithm::Rs256);
    let good = idp.token("orders");
    let header = |token: &str| {
        let header = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&header).unwrap()
    };
    let jku = attack(&good, "attacker's key set as jku");
    let url = header(&jku)["jku"].as_str().unwrap().to_owned();
    let body = get(&url);
    let set = countersign::JwkSet::parse(&body, countersign::Origin::Remote).unwrap().into_key_set();
    let fetching = JwtAuth::with_keys(set).issuer(idp.issuer()).audience("orders").verifier();
    assert_eq!(refusal(&fetching, &jku), None);
    assert_eq!(refusal(&fetching, &attack(&good, "kid is a URL")), None);
    assert!(idp.requests().iter().any(|request| request.path.starts_with("/attacker/")), "and shows up");

    // One key for all algorithms of its family.
    let any = VerifyingKey::from_pem(idp.key().public_pem(), AlgorithmSet::ASYMMETRIC).unwrap();
    let any = KeySet::new([any]).unnamed_keys_match_any_kid();
    let unbound = JwtAuth::with_keys(any).issuer(idp.issuer()).audience("orders").verifier();
    assert_eq!(refusal(&unbound, &attack(&good, "signed with an algorithm that the key is not published for")), None);

    // No issuer, no audience, a clock that stands still.
    let keys = || JwtAuth::with_keys(KeySet::new([idp.key().verifying_key()]));
    let lax = keys().verifier();
    for name in ["iss another", "iss absent", "iss cut short", "aud another", "aud absent", "aud a list of near misses"]
    {
        assert_eq!(refusal(&lax, &attack(&good, name)), None, "{name}");
    }
    let now = ManualClock::stopped_now().now();
    let strict = keys().issuer(idp.issuer()).audience("orders").verifier();
    for (name, by_the_clock) in [
        ("expired", now.saturating_sub(Duration::from_secs(3 * 3600 / 2))),
        ("not yet valid", now.saturating_add(Duration::from_secs(5 * 3600 / 2))),
        ("issued in the future", now.saturating_add(Duration::from_secs(5 * 3600 / 2))),
    ] {
        let outcome = strict.verify(&attack(&good, name), by_the_clock);
        assert!(outcome.is_ok(), "{name}: {:?}", outcome.err());
    }
}

/// A request without a client library: tests here have no runtime.
fn get(url: &str) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    answer.split_off(body)
}

#[test]
fn what_a_header_cannot_carry_is_not_sent() {
    let catalogue = good(&TestKey::nth(Algorithm::Es256, 0)).hostile();
    let kept: Vec<_> = catalogue.iter().filter(|hostile| hostile.authorization().is_none()).collect();
    let kept: Vec<_> = kept.iter().map(|hostile| hostile.attack).collect();
    assert_eq!(kept, ["white space behind", "line feed inside"]);
}

#[test]
fn what_the_token_does_not_say_cannot_be_attacked() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let attacks = |token: &Token| token.hostile().into_iter().map(|hostile| hostile.attack).collect::<Vec<_>>();
    assert!(!attacks(&Token::new(&key)).iter().any(|attack| attack.starts_with("iss ") || attack.starts_with("aud ")));
    let list = Token::new(&key).claim("aud", vec!["orders", "invoices"]);
    assert!(attacks(&list).contains(&"aud in another case"));
}

#[test]
fn keys_are_made_once_and_come_in_every_form() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
        let key = TestKey::nth(algorithm, 0);
        assert_eq!(key.public_jwk(), TestKey::nth(algorithm, 0).public_jwk(), "{algorithm}");
        assert_ne!(key.public_jwk(), TestKey::nth(algorithm, 1).with_kid(key.kid().unwrap()).public_jwk());
        assert_eq!(key.clone().without_kid().public_jwk().get("kid"), None);
        assert_eq!(key.secret(), None);

        let signed = SigningKey::from_pem(key.private_pem(), algorithm).unwrap().sign(good(&key).claims()).unwrap();
        let read = VerifyingKey::from_pem(key.public_pem(), algorithm).unwrap();
        let verifier = JwtAuth::with_keys(KeySet::new([read])).algorithms(algorithm).issuer(ISSUER).audience("orders");
        assert_eq!(refusal(&verifier.verifier(), &signed), None, "{algorithm}");
    }
    let secret = TestKey::nth(Algorithm::Hs512, 0);
    assert_eq!((secret.secret().map(<[u8]>::len), secret.public_der()), (Some(64), None));
}

#[test]
fn debug_shows_no_key() {
    let key = TestKey::nth(Algorithm::Hs256, 0);
    assert_eq!(format!("{key:?}"), r#"TestKey { kid: Some("HS256-0"), algorithm: Hs256, .. }"#);
}

#[test]
fn a_token_says_what_it_was_told_to() {
    let key = TestKey::nth(Algorithm::EdDsa, 0);
    let token = Token::new(&key);
    let claim = |token: &Token, name: &str| token.claims().get(name).cloned().unwrap_or_default();
    assert_ne!(claim(&token, "jti"), claim(&Token::new(&key), "jti"));
    let lifetime = |token: &Token| claim(token, "exp").as_i64().unwrap() - claim(token, "iat").as_i64().unwrap();
    assert_eq!(lifetime(&token), 3600);
    assert_eq!(lifetime(&token.clone().expired(Duration::from_secs(5))), 3600);
    let soon = token.clone().expires_in(Duration::from_secs(5));
    assert!((5..7).contains(&lifetime(&soon)), "{}", lifetime(&soon));
    let expired = token.clone().expired(Duration::from_secs(5));
    let now = UnixTime::from(std::time::SystemTime::now()).as_secs();
    assert!((5..7).contains(&(now - claim(&expired, "exp").as_i64().unwrap())));
}
