//! Mistakes that other libraries have made with claims, each named after one of the advisories. Every token here is
//! signed in earnest by the right key: what is tried is whether its claims are really checked.

mod common;

use common::{ISSUER, at, code, signer, static_verifier, token};
use countersign_claims::Policy;
use countersign_token::KeySet;
use countersign_verifier::Verifier;

/// A verifier's verdict on each of these claims, `exp` added, at the time 1000. The policy is that of a careful service:
/// one issuer, one audience.
#[track_caller]
fn check(rows: &[(&str, &str)]) {
    let signer = signer("k");
    let verifier = static_verifier([&signer]);
    for (members, expected) in rows {
        let claims = format!(r#"{{"exp":2000,{members}}}"#);
        assert_eq!(code(verifier.verify(&token(&signer, &claims), at(1000))), *expected, "{claims}");
    }
}

/// jwt-go read `aud` as a string, took an array for an absent claim, and an absent claim for a good one.
#[test]
fn cve_2020_26160_aud_array() {
    check(&[
        (r#""iss":"https://issuer.example","aud":["other"]"#, "wrong_audience"),
        (r#""iss":"https://issuer.example","aud":["other","third"]"#, "wrong_audience"),
        (r#""iss":"https://issuer.example","aud":[]"#, "claim_malformed"),
        (r#""iss":"https://issuer.example","aud":[""]"#, "wrong_audience"),
        (r#""iss":"https://issuer.example","aud":"""#, "wrong_audience"),
        (r#""iss":"https://issuer.example","aud":null"#, "claim_malformed"),
        (r#""iss":"https://issuer.example""#, "claim_missing"),
        (r#""iss":"https://issuer.example","aud":["other","api"]"#, "accepted"),
    ]);
}

/// PyJWT asked whether the token's issuer was *in* the configured string.
#[test]
fn cve_2024_53861_issuer_substring() {
    for start in 0..=ISSUER.len() {
        for end in start..=ISSUER.len() {
            let part = &ISSUER[start..end];
            let expected = if part == ISSUER { "accepted" } else { "wrong_issuer" };
            check(&[(&format!(r#""iss":"{part}","aud":"api""#), expected)]);
        }
    }
    // And the other way round.
    check(&[
        (r#""iss":"https://issuer.example.evil.test","aud":"api""#, "wrong_issuer"),
        (r#""iss":"https://evil.test/?https://issuer.example","aud":"api""#, "wrong_issuer"),
    ]);
    // The same of audiences.
    check(&[
        (r#""iss":"https://issuer.example","aud":"ap""#, "wrong_audience"),
        (r#""iss":"https://issuer.example","aud":"a""#, "wrong_audience"),
        (r#""iss":"https://issuer.example","aud":"apis""#, "wrong_audience"),
    ]);
}

/// fast-jwt accepted an array in which one issuer was the right one; who then reads the first takes the attacker's.
#[test]
fn cve_2025_30144_issuer_array() {
    check(&[
        (r#""iss":["https://evil.test","https://issuer.example"],"aud":"api""#, "claim_malformed"),
        (r#""iss":["https://issuer.example","https://evil.test"],"aud":"api""#, "claim_malformed"),
        (r#""iss":["https://issuer.example"],"aud":"api""#, "claim_malformed"),
        (r#""iss":[],"aud":"api""#, "claim_malformed"),
        (r#""iss":{"0":"https://issuer.example"},"aud":"api""#, "claim_malformed"),
    ]);
    // Not even where no issuer is configured.
    let signer = signer("k");
    let any = Verifier::new(KeySet::new([signer.verifying_key().unwrap()]), Policy::new());
    let claims = r#"{"exp":2000,"iss":["https://issuer.example"]}"#;
    assert_eq!(code(any.verify(&token(&signer, claims), at(1000))), "claim_malformed");
}

/// jsonwebtoken before 10.3 took a claim that it could not read for one that is not there, and so did not check it.
#[test]
fn cve_2026_25537_wrong_type_is_not_absent() {
    let signer = signer("k");
    // Nothing is required: what is there is checked all the same.
    let policy = Policy::new().dangerous_allow_missing_exp();
    let lax = Verifier::new(KeySet::new([signer.verifying_key().unwrap()]), policy);
    assert_eq!(code(lax.verify(&token(&signer, "{}"), at(1000))), "accepted");
    for claim in ["exp", "nbf", "iat"] {
        for value in [r#""99999999999""#, r#""1""#, "null", "true", "[1]", "{}", "-1", "1e300"] {
            let claims = format!(r#"{{"{claim}":{value}}}"#);
            assert_eq!(code(lax.verify(&token(&signer, &claims), at(1000))), "claim_malformed", "{claims}");
        }
    }
    for claim in ["iss", "sub", "aud", "jti", "client_id"] {
        for value in ["null", "true", "1", "{}", "[1]", r#"["api",1]"#, r#"[["api"]]"#] {
            let claims = format!(r#"{{"{claim}":{value}}}"#);
            assert_eq!(code(lax.verify(&token(&signer, &claims), at(1000))), "claim_malformed", "{claims}");
        }
    }
}

/// The same library does not look at `nbf` unless it is told to, and the tokens of tomorrow pass today.
#[test]
fn cve_2026_25537_nbf_is_checked_without_being_asked_for() {
    check(&[
        (r#""iss":"https://issuer.example","aud":"api","nbf":1031"#, "not_yet_valid"),
        (r#""iss":"https://issuer.example","aud":"api","nbf":1030"#, "accepted"),
        (r#""iss":"https://issuer.example","aud":"api","nbf":"1031""#, "claim_malformed"),
    ]);
}

/// python-jwt read a token with two parsers that saw two payloads. Duplicate names are the same attack on us and whoever
/// reads the claims after us.
#[test]
fn cve_2022_39227_two_readings_of_one_payload() {
    check(&[
        (r#""iss":"https://issuer.example","aud":"api","sub":"ada","sub":"root""#, "payload_duplicate_member"),
        (r#""iss":"https://issuer.example","aud":"api","sub":"ada","\u0073ub":"root""#, "payload_duplicate_member"),
        (r#""iss":"https://evil.test","aud":"api","iss":"https://issuer.example""#, "payload_duplicate_member"),
        (r#""iss":"https://issuer.example","aud":"api","exp":1"#, "payload_duplicate_member"),
        (
            r#""iss":"https://issuer.example","aud":"api","realm_access":{"roles":[],"roles":["admin"]}"#,
            "payload_duplicate_member",
        ),
    ]);
    // The forged token of that advisory: the JSON serialization with a compact one inside.
    let signer = signer("k");
    let good = token(&signer, common::CLAIMS);
    let parts: Vec<_> = good.split('.').collect();
    let forged = format!(
        r#"{{" {}.{}.":"","protected":"{}","payload":"{}","signature":"{}"}}"#,
        parts[0],
        common::base64url(r#"{"sub":"root"}"#),
        parts[0],
        parts[1],
        parts[2]
    );
    assert_eq!(code(static_verifier([&signer]).verify(&forged, at(1000))), "not_base64url");
}

/// Nimbus let an unexpected exception out of its parser, and deep nesting overflow its stack (CVE-2025-53864).
#[test]
fn cve_2019_17195_odd_payloads_are_refusals_and_no_panics() {
    let signer = signer("k");
    let verifier = static_verifier([&signer]).max_token_bytes(usize::MAX);
    let deep = format!(r#"{{"exp":2000,"x":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let nested = format!(r#"{{"exp":2000,"x":{}1{}}}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    for payload in ["", "null", "[]", "\"\"", "0", "{", "{}x", "\0", "{\"exp\":}", &deep, &nested] {
        assert_eq!(code(verifier.verify(&token(&signer, payload), at(1000))), "payload_not_an_object");
    }
}
