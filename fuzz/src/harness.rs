//! The keys, tokens, clock and policy that all targets share. Nothing of it is random or depends on the time, so that what
//! fails once fails again.
//!
//! `keys/public.jwks` and `keys/tokens.txt` were made once, by `cargo run --example make_keys`, which forgot the private
//! keys. Two keys can sign here, because the standards have published them; both sign deterministically.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use countersign::claims::{Policy, UnixTime};
use countersign::token::{Algorithm, AlgorithmSet, JwkSet, KeySet, Origin, SigningKey, VerifyingKey};
use countersign::verifier::{Refusal, Verifier};

use crate::oracle::base64url;

/// When all this happens.
pub const NOW: i64 = 1_800_000_000;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "api";

/// The scope that the layer demands, and the verifier does not.
pub const SCOPE: &str = "read";

/// Claims that everybody accepts.
pub const GOOD_CLAIMS: &str =
    r#"{"iss":"https://issuer.example","aud":"api","sub":"ada","scope":"read","exp":1800000300}"#;

/// The key of RFC 7515 §A.1.1: not a secret, but the example of one.
const RFC_7515_SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

/// The key of RFC 8037 §A.1, as PKCS#8 (RFC 8410 §7) without its last line.
const RFC_8037_PRIVATE_KEY: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A token that was signed, once, by one of the five keys.
#[derive(Debug)]
pub struct Signed {
    /// The code of its refusal, or `accepted`.
    pub outcome: &'static str,
    pub token: &'static str,
}

pub static SIGNED: LazyLock<Vec<Signed>> = LazyLock::new(|| {
    include_str!("../keys/tokens.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(outcome, token)| Signed { outcome, token })
        .collect()
});

/// What becomes of a token that was signed, at the layer; `None` if it was not.
pub fn outcome(token: &[u8]) -> Option<&'static str> {
    static OUTCOMES: LazyLock<HashMap<&[u8], &str>> =
        LazyLock::new(|| SIGNED.iter().map(|signed| (signed.token.as_bytes(), signed.outcome)).collect());
    OUTCOMES.get(token).copied()
}

pub fn is_good(token: &[u8]) -> bool {
    // The verifier asks for no scope.
    matches!(outcome(token), Some("accepted" | "insufficient_scope"))
}

/// The octets 1 to 8 and 14 to 31, as many as are needed, stand for the signed tokens, so that a fuzzer has words for them, and
/// seeds survive a change of keys.
pub fn with_signed_tokens(input: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(input.len());
    for run in input.split_inclusive(|octet| *octet < b' ') {
        let (plain, last) = run.split_at(run.len() - 1);
        output.extend_from_slice(plain);
        let index = match last[0] {
            octet @ 1..=8 => usize::from(octet - 1),
            octet @ 14..=31 => usize::from(octet - 6),
            _ => usize::MAX,
        };
        output.extend_from_slice(SIGNED.get(index).map_or(last, |signed| signed.token.as_bytes()));
    }
    output
}

/// Of the five keys, those that everybody may see.
pub const PUBLIC_KEYS: &str = include_str!("../keys/public.jwks");

/// All five keys: RS256, PS256, ES256 and EdDSA, and the secret for HS256.
pub fn keys() -> KeySet {
    let public = JwkSet::parse(PUBLIC_KEYS.as_bytes(), Origin::Remote).expect("a key set");
    let secret = VerifyingKey::from_secret(&secret(), Algorithm::Hs256).and_then(|key| key.with_kid("hs"));
    KeySet::new(public.keys().iter().cloned().chain([Arc::new(secret.expect("a good secret"))]))
}

pub fn policy() -> Policy {
    Policy::new().issuer(ISSUER).audience(AUDIENCE)
}

pub fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

/// Knows the five keys, and allows their five algorithms and all others.
pub static VERIFIER: LazyLock<Verifier<KeySet>> = LazyLock::new(|| verifier(keys()));

pub fn verifier(keys: KeySet) -> Verifier<KeySet> {
    Verifier::new(keys, policy()).algorithms(AlgorithmSet::from_iter(Algorithm::ALL))
}

pub fn hs256() -> SigningKey {
    SigningKey::from_secret(&secret(), Algorithm::Hs256).expect("a good secret").with_kid("hs")
}

pub fn eddsa() -> SigningKey {
    let private = base64url::decode(RFC_8037_PRIVATE_KEY.as_bytes()).expect("base64url");
    let pkcs8 = [&PKCS8_ED25519[..], &private].concat();
    SigningKey::from_der(&pkcs8, Algorithm::EdDsa).expect("a good key").with_kid("ed")
}

fn secret() -> Vec<u8> {
    base64url::decode(RFC_7515_SECRET.as_bytes()).expect("base64url")
}

/// A token with exactly these octets as header and payload.
pub fn sign(key: &SigningKey, header: &[u8], payload: &[u8]) -> String {
    let mut token = base64url::encode(header) + "." + &base64url::encode(payload);
    let signature = key.signature(token.as_bytes()).expect("it can sign");
    token += ".";
    token + &base64url::encode(&signature)
}

/// No text that a refusal may leave in a log has a part of `credentials`, a token or what was sent in its place, nor a
/// character that disturbs a log.
pub fn assert_discreet(refusal: &Refusal, credentials: &[u8]) {
    /// Longer than every word of our own texts, which a fuzzer learns by watching this comparison.
    const LONG: usize = 24;
    match refusal {
        // Most refusals, and so not worth a text each time: what is `Copy` has nothing of a token.
        Refusal::Token(error) => return has_nothing(error),
        Refusal::Signature(error) => return has_nothing(error),
        Refusal::AlgorithmNotAllowed(algorithm) => return has_nothing(algorithm),
        _ => {}
    }
    let texts = format!("{refusal}\0{refusal:?}");
    assert_eq!(texts.chars().filter(|character| character.is_control()).count(), 1, "{texts:?} can disturb a log");
    for part in credentials.split(|octet| b" .,".contains(octet)).filter(|part| part.len() >= LONG) {
        let is_in = std::str::from_utf8(part).is_ok_and(|part| texts.contains(part));
        assert!(!is_in, "{texts:?} has a part of the credentials");
    }
}

/// That this compiles is the check.
fn has_nothing<T: Copy + 'static>(_: &T) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A harness whose tokens are all refused would find nothing.
    #[test]
    fn the_signed_tokens_are_judged_as_they_are_meant() {
        assert!(SIGNED.len() >= 10);
        for signed in SIGNED.iter() {
            let verdict = VERIFIER.verify(signed.token, now());
            match signed.outcome {
                "accepted" | "insufficient_scope" => assert!(verdict.is_ok(), "{signed:?}"),
                code => assert_eq!(verdict.unwrap_err().code(), code),
            }
        }
        for name in ["RS256", "PS256", "ES256", "EdDSA", "HS256"] {
            let is_of =
                |signed: &&Signed| VERIFIER.verify(signed.token, now()).is_ok_and(|it| it.algorithm().name() == name);
            assert!(SIGNED.iter().any(|signed| is_of(&signed)), "{name}");
        }
    }
}
