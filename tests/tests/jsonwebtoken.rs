//! Tokens and key sets of `jsonwebtoken` 11, what most Rust issuers mint with, for every algorithm that it knows; and our
//! tokens judged by it. The key set is *its* rendering of its keys, served over a real socket.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Router};
use countersign::{Algorithm, JwtAuth, KeySet, SigningKey, Verified, VerifyingKey};
use countersign_testkit::{Answer, IdentityProvider, TestKey, Token};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const SECRET: &[u8] = b"a secret of sixty-four bytes, which is what HS512 wants at least";

const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

/// Claims that nobody objects to; who signs them is another matter.
fn claims(issuer: &str) -> Token {
    Token::new(&TestKey::nth(Algorithm::Es256, 0)).issuer(issuer).audience("api")
}

fn theirs(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    algorithm.name().parse().unwrap()
}

/// A new private key in the form that `jsonwebtoken` wants.
fn encoding_key(algorithm: Algorithm) -> EncodingKey {
    let ec = |scheme| EncodingKey::from_ec_der(EcdsaKeyPair::generate(scheme).unwrap().to_pkcs8v1().unwrap().as_ref());
    match algorithm {
        Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::EdDsa => {
            EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref())
        }
        _ => {
            let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> =
                RsaKeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
            EncodingKey::from_rsa_der(&rsa_private_key(pkcs8.as_ref()))
        }
    }
}

/// PKCS#1 is what `jsonwebtoken` wants; it is the last element of PKCS#8, behind a header of fixed length.
fn rsa_private_key(pkcs8: &[u8]) -> Vec<u8> {
    pkcs8[26..].to_vec()
}

async fn serve(auth: JwtAuth) -> String {
    let handler = |Extension(token): Extension<Verified>| async move { token.subject().unwrap_or("nobody").to_owned() };
    let app = Router::new().route("/", get(handler)).layer(auth);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn call(url: &str, token: &str) -> (StatusCode, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(url).bearer_auth(token).send().await.unwrap();
    (StatusCode::from_u16(response.status().as_u16()).unwrap(), response.text().await.unwrap())
}

fn header(algorithm: Algorithm) -> Header {
    let mut header = Header::new(theirs(algorithm));
    header.kid = Some(algorithm.name().to_owned());
    header
}

#[tokio::test]
async fn tokens_of_jsonwebtoken_pass_with_its_own_key_set() {
    let keys: Vec<_> = ASYMMETRIC.map(|algorithm| (algorithm, encoding_key(algorithm))).into();
    let published: Vec<Value> = keys
        .iter()
        .map(|(algorithm, key)| {
            let mut jwk = Jwk::from_encoding_key(key, theirs(*algorithm)).unwrap();
            jwk.common.key_id = Some(algorithm.name().to_owned());
            serde_json::to_value(jwk).unwrap()
        })
        .collect();
    let provider = IdentityProvider::start();
    provider.set_answer(Answer::body(json!({ "keys": published }).to_string()));
    let auth = JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()).audience("api");
    let handle = auth.handle();
    let url = serve(auth).await;
    handle.keys().ready().await.unwrap();
    assert_eq!(handle.keys().status().keys, ASYMMETRIC.len(), "{:?}", handle.keys().status());

    for (algorithm, key) in &keys {
        let token = jsonwebtoken::encode(&header(*algorithm), claims(provider.issuer()).claims(), key).unwrap();
        assert_eq!(call(&url, &token).await, (StatusCode::OK, "ada".to_owned()), "{algorithm}");

        let stranger =
            jsonwebtoken::encode(&header(*algorithm), claims(provider.issuer()).claims(), &encoding_key(*algorithm))
                .unwrap();
        assert_eq!(call(&url, &stranger).await.0, StatusCode::UNAUTHORIZED, "{algorithm}");
    }
}

#[tokio::test]
async fn its_hmac_tokens_pass_with_a_configured_secret() {
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let keys =
            KeySet::new([VerifyingKey::from_secret(SECRET, algorithm).unwrap().with_kid(algorithm.name()).unwrap()]);
        let url = serve(JwtAuth::with_keys(keys).algorithms(algorithm).issuer("me").audience("api")).await;
        let encode = |secret| {
            jsonwebtoken::encode(&header(algorithm), claims("me").claims(), &EncodingKey::from_secret(secret)).unwrap()
        };
        assert_eq!(call(&url, &encode(SECRET)).await, (StatusCode::OK, "ada".to_owned()), "{algorithm}");
        assert_eq!(call(&url, &encode(&SECRET[1..])).await.0, StatusCode::UNAUTHORIZED, "{algorithm}");
    }
}

#[test]
fn jsonwebtoken_accepts_our_tokens_and_our_keys() {
    for algorithm in ASYMMETRIC {
        let key = SigningKey::generate(algorithm).unwrap().with_kid("k1");
        let jwk: Jwk = serde_json::from_value(key.public_jwk().unwrap()).unwrap();
        let token = key.sign(claims("me").claims()).unwrap();
        let mut validation = Validation::new(theirs(algorithm));
        validation.set_issuer(&["me"]);
        validation.set_audience(&["api"]);
        let decoded = jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation);
        let decoded = decoded.unwrap();
        assert_eq!(decoded.claims["sub"], "ada");
        assert_eq!(decoded.header.kid.as_deref(), Some("k1"));
    }
}
