//! Who signs the tokens, and what of its keys the contenders want to have, each in its own form.

use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use countersign::{Algorithm, SigningKey};
use countersign_bench::request::claims;
use countersign_bench::{Failure, unix_seconds};
use serde_json::{Value, json};

use crate::call::Token;

/// What signs. An issuer publishes the next one too, after it.
const KID: &str = "3f0c6a52-2026-11";
const NEXT_KID: &str = "91d2b7e4-2026-12";
const UNKNOWN_KID: &str = "c48f15a0-2027-01";

/// As long as the hash (RFC 7518 §3.2).
const SECRET: &[u8; 32] = b"a secret that nobody should know";
const NEXT_SECRET: &[u8; 32] = b"another secret that nobody knows";

pub struct Issuer {
    pub algorithm: Algorithm,
    pub signer: SigningKey,
    pub next: SigningKey,
    now: u64,
}

impl Issuer {
    pub fn new(algorithm: Algorithm) -> Result<Self, Failure> {
        Ok(Self {
            algorithm,
            signer: key(algorithm, SECRET)?.with_kid(KID),
            next: key(algorithm, NEXT_SECRET)?.with_kid(NEXT_KID),
            now: unix_seconds()?,
        })
    }

    /// Tokens that differ in their `jti`, which is a number from `first` on, and so in their signatures.
    pub fn tokens(&self, count: usize, first: usize) -> Result<Vec<Token>, Failure> {
        let numbers: Vec<usize> = (first..first + count).collect();
        // RSA takes most of a millisecond.
        let threads = thread::available_parallelism()?.get();
        let signed = thread::scope(|scope| {
            let signing: Vec<_> = numbers
                .chunks(count.div_ceil(threads).max(1))
                .map(|numbers| scope.spawn(|| numbers.iter().map(|number| self.token(*number)).collect::<Vec<_>>()))
                .collect();
            signing.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect::<Vec<_>>()
        });
        let tokens = signed.into_iter().collect::<Result<Vec<_>, String>>()?;
        if tokens.len() == count { Ok(tokens) } else { Err("a thread that signs has panicked".into()) }
    }

    fn token(&self, number: usize) -> Result<Token, String> {
        let mut claims = claims(self.now);
        claims["jti"] = format!("0b1e6a3c-52c7-4f7e-8f27-{number:012x}").into();
        let text = self.signer.sign_as("at+jwt", &claims).map_err(|error| error.to_string())?;
        Token::new(text).map_err(|error| error.to_string())
    }

    /// Its signature is that of another token of the same key.
    pub fn with_bad_signature(&self) -> Result<Token, Failure> {
        let (one, other) = (self.token(0)?, self.token(1)?);
        Token::new(format!("{}.{}", one.input(), B64.encode(&other.signature)))
    }

    /// Since an hour, which is more than anybody's leeway.
    pub fn expired(&self) -> Result<Token, Failure> {
        Token::new(self.signer.sign_as("at+jwt", &claims(self.now - 2 * 3600))?)
    }

    /// A good token but for the name of its key, which is the signer's.
    pub fn with_unknown_kid(&self) -> Result<Token, Failure> {
        let header = json!({ "typ": "at+jwt", "alg": self.algorithm.name(), "kid": UNKNOWN_KID });
        let input = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims(self.now).to_string()));
        let signature = B64.encode(self.signer.signature(input.as_bytes())?);
        Token::new(format!("{input}.{signature}"))
    }

    /// A member of the signer's JWK, decoded.
    pub fn member(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let jwk = jwk(&self.signer)?;
        Ok(B64.decode(jwk[name].as_str().ok_or("the JWK has no such member")?)?)
    }

    /// The signer's JWK, which for HMAC is the secret.
    pub fn jwk(&self) -> Result<Value, Failure> {
        jwk(&self.signer)
    }

    pub fn secret(&self) -> &'static [u8] {
        SECRET
    }

    /// What the issuer publishes: the key that signs, and the one that will.
    pub fn jwks(&self) -> Result<Value, Failure> {
        Ok(json!({ "keys": [jwk(&self.signer)?, jwk(&self.next)?] }))
    }
}

fn key(algorithm: Algorithm, secret: &[u8]) -> Result<SigningKey, Failure> {
    Ok(if algorithm.is_symmetric() {
        SigningKey::from_secret(secret, algorithm)?
    } else {
        SigningKey::generate(algorithm)?
    })
}

/// Nobody publishes secrets; but peers that take keys from a URL only can be measured with HMAC in no other way.
fn jwk(key: &SigningKey) -> Result<Value, Failure> {
    if !key.algorithm().is_symmetric() {
        return Ok(key.public_jwk()?);
    }
    let secret = if key.kid() == Some(KID) { SECRET } else { NEXT_SECRET };
    Ok(json!({ "kty": "oct", "k": B64.encode(secret), "alg": key.algorithm().name(), "use": "sig", "kid": key.kid() }))
}
