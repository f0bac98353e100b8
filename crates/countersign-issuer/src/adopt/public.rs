//! Public JWKs of keys that were published in other forms.

use aws_lc_rs::signature::RsaSubjectPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_token::{Algorithm, JwkSet, Origin, PemError, VerifyingKey};
use serde_json::{Map, Value, json};

use super::AdoptError;

/// The members that are the key itself (RFC 7518 §6, RFC 8037 §2, RFC 9964).
pub(crate) const MATERIAL: [&str; 7] = ["kty", "crv", "e", "n", "pub", "x", "y"];

/// Of a public PEM; its thumbprint is its name.
pub(super) fn of_pem(pem: &[u8], algorithm: Algorithm) -> Result<Value, AdoptError> {
    let key = VerifyingKey::from_pem(pem, algorithm).map_err(AdoptError::Pem)?;
    let section = ::pem::parse(pem).map_err(|_| AdoptError::Pem(PemError::NotPem))?;
    // The key says its thumbprint, but not itself. So what it is is taken from where it stands in such a document, and
    // compared with that: what is no such document has another.
    let mut jwk = material(section.contents(), algorithm).ok_or(AdoptError::Pem(PemError::WrongLabel))?;
    let thumbprint = key.thumbprint().to_string();
    jwk.extend([
        ("alg".to_owned(), algorithm.name().into()),
        ("use".to_owned(), "sig".into()),
        ("kid".to_owned(), thumbprint.into()),
    ]);
    let jwk = Value::from(jwk);
    let same = read(&jwk).is_some_and(|read| read.thumbprint() == key.thumbprint());
    if same { Ok(jwk) } else { Err(AdoptError::Pem(PemError::WrongLabel)) }
}

/// Of a JWK as somebody has published it: what is not needed is left out, and nothing private is let through.
pub(super) fn of_jwk(jwk: &Value, algorithm: Option<Algorithm>, slot: Algorithm) -> Result<Value, AdoptError> {
    let key = read(jwk).ok_or(AdoptError::Jwk)?;
    let said = jwk.get("alg").and_then(Value::as_str).and_then(Algorithm::from_name);
    let algorithm = algorithm.or(said).unwrap_or(slot);
    if !key.algorithms().contains(algorithm) {
        return Err(AdoptError::Jwk);
    }
    let kid = key.kid().map_or_else(|| key.thumbprint().to_string(), str::to_owned);
    let material = MATERIAL.into_iter().filter_map(|name| Some((name.to_owned(), jwk.get(name)?.clone())));
    let mut members: Map<_, _> = material.collect();
    members.extend([
        ("alg".to_owned(), algorithm.name().into()),
        ("use".to_owned(), "sig".into()),
        ("kid".to_owned(), kid.into()),
    ]);
    Ok(members.into())
}

fn read(jwk: &Value) -> Option<VerifyingKey> {
    let document = json!({ "keys": [jwk] }).to_string();
    let set = JwkSet::parse(document.as_bytes(), Origin::Remote).ok()?;
    set.keys().first().map(|key| VerifyingKey::clone(key))
}

/// In a SubjectPublicKeyInfo the key comes last; RSA keys have numbers in it that have to be taken out.
fn material(der: &[u8], algorithm: Algorithm) -> Option<Map<String, Value>> {
    let tail = |length: usize| der.len().checked_sub(length).map(|start| URL_SAFE_NO_PAD.encode(&der[start..]));
    let ec = |curve: &str, coordinate: usize| {
        let (x, y) = der.get(der.len().checked_sub(2 * coordinate)?..)?.split_at(coordinate);
        Some(json!({
            "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }))
    };
    let jwk = match algorithm {
        Algorithm::Es256 => ec("P-256", 32)?,
        Algorithm::Es384 => ec("P-384", 48)?,
        Algorithm::Es512 => ec("P-521", 66)?,
        Algorithm::EdDsa | Algorithm::Ed25519 => json!({ "kty": "OKP", "crv": "Ed25519", "x": tail(32)? }),
        // FIPS 204 §4, table 2.
        Algorithm::MlDsa44 => json!({ "kty": "AKP", "pub": tail(1312)? }),
        Algorithm::MlDsa65 => json!({ "kty": "AKP", "pub": tail(1952)? }),
        Algorithm::MlDsa87 => json!({ "kty": "AKP", "pub": tail(2592)? }),
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
        _ => {
            let key = RsaSubjectPublicKey::from_der(der).ok()?;
            json!({
                "kty": "RSA",
                "n": URL_SAFE_NO_PAD.encode(key.modulus().big_endian_without_leading_zero()),
                "e": URL_SAFE_NO_PAD.encode(key.exponent().big_endian_without_leading_zero()),
            })
        }
    };
    if let Value::Object(members) = jwk { Some(members) } else { None }
}
