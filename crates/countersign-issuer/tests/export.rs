//! Private keys that are to be stored, in the hands of another library.

use countersign_token::{Algorithm, DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, SigningKey, UnverifiedToken};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

#[test]
fn jsonwebtoken_signs_with_an_exported_key() {
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Ps256] {
        let (key, der) = SigningKey::generate_exportable(algorithm).unwrap();
        let theirs = match algorithm {
            Algorithm::EdDsa => EncodingKey::from_ed_der(der.as_bytes()),
            Algorithm::Es256 | Algorithm::Es384 => EncodingKey::from_ec_der(der.as_bytes()),
            // It wants PKCS#1, which is the last element of PKCS#8, behind a header of fixed length.
            _ => EncodingKey::from_rsa_der(&der.as_bytes()[26..]),
        };
        let header = Header::new(algorithm.name().parse().unwrap());
        let token = jsonwebtoken::encode(&header, &json!({ "sub": "ada" }), &theirs).unwrap();
        let mut scratch = HeaderScratch::new();
        let token = UnverifiedToken::parse(&token, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).unwrap();
        let verifying = key.verifying_key().unwrap().into();
        assert_eq!(token.verify(&verifying).unwrap().bytes(), br#"{"sub":"ada"}"#, "{algorithm}");
    }
}
