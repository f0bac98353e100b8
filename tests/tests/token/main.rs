//! The public API of `countersign-token` against published examples, primitive vectors, keys made by OpenSSL, and the
//! attacks that other libraries fell for.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

mod confusion;
mod cve;
mod keys;
mod rfc;
mod statements;
mod wycheproof;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use countersign_token::{
    Algorithm, DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, JwkSet, KeySet, Origin, SignatureError, SigningKey, TokenError,
    UnverifiedToken,
};
use serde_json::{Value, json};

/// Why a token was refused, by whichever step refused it.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// It is not a token that could be verified at all.
    Token(TokenError),
    /// No key of the set may have signed it.
    NoKey,
    /// What the last of the keys that may have signed it says.
    Signature(SignatureError),
}

/// What a verifier with these keys does with a token: its payload, or why not.
fn verify(token: &str, keys: &KeySet) -> Result<Vec<u8>, Refusal> {
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(token, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).map_err(Refusal::Token)?;
    let mut refusal = Refusal::NoKey;
    for key in keys.candidates(token.header().kid(), token.header().algorithm()) {
        match token.verify(key) {
            Ok(payload) => return Ok(payload.bytes().to_vec()),
            Err(error) => refusal = Refusal::Signature(error),
        }
    }
    Err(refusal)
}

/// The set of these JWKs, every one of which must be usable.
fn key_set(jwks: impl IntoIterator<Item = Value>, origin: Origin) -> KeySet {
    let set = jwk_set(jwks, origin);
    assert_eq!(set.skipped(), [], "every key is usable");
    set.into_key_set()
}

fn jwk_set(jwks: impl IntoIterator<Item = Value>, origin: Origin) -> JwkSet {
    let document = json!({ "keys": jwks.into_iter().collect::<Vec<_>>() }).to_string();
    JwkSet::parse(document.as_bytes(), origin).unwrap()
}

/// The published key set of an issuer with this one key.
fn published(signer: &SigningKey) -> KeySet {
    key_set([signer.public_jwk().unwrap()], Origin::Remote)
}

/// A token with exactly this header, signed in earnest.
fn token_with_header(header: &str, signer: &SigningKey) -> String {
    let input = format!("{}.{}", base64url(header), base64url(CLAIMS));
    let signature = signer.signature(input.as_bytes()).unwrap();
    format!("{input}.{}", base64url(signature))
}

/// The token with this signature in place of its own.
fn with_signature(token: &str, signature: &[u8]) -> String {
    let (input, _) = token.rsplit_once('.').unwrap();
    format!("{input}.{}", base64url(signature))
}

/// The octets of the token's signature.
fn signature_of(token: &str) -> Vec<u8> {
    from_base64url(token.rsplit_once('.').unwrap().1)
}

/// The payload of the tokens that are made here.
const CLAIMS: &str = r#"{"iss":"https://issuer.example","sub":"ada"}"#;

fn signing_key(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm).unwrap()
}

/// The signer of an attacker who takes these octets for the HMAC secret. Zeros up to the block length of the hash do
/// not change an HMAC (RFC 2104 §2), but get octets that are too short for a secret past our own check.
fn hmac_signer(algorithm: Algorithm, secret: &[u8]) -> SigningKey {
    let block = if algorithm == Algorithm::Hs256 { 64 } else { 128 };
    let mut secret = secret.to_vec();
    secret.resize(secret.len().max(block), 0);
    SigningKey::from_secret(&secret, algorithm).unwrap()
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn from_base64url(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A PEM section of these octets.
fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
