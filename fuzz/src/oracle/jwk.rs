//! JWK Sets (RFC 7517), keys (RFC 7518 §6, RFC 8037 §2, RFC 9964), and the limits that countersign documents.

use super::base64url;
use super::header::ALGORITHMS;
use super::json::{Json, Members};

/// What a usable key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub kid: Option<String>,
    /// Names of algorithms.
    pub algorithms: Vec<&'static str>,
}

/// The elements of `keys`, if the document is a key set at all.
pub fn elements<'v, 'a>(document: &'v Json<'a>) -> Option<&'v [Json<'a>]> {
    match document.own_members()?.get("keys")? {
        Json::Array(elements) if elements.len() <= 256 => Some(elements),
        _ => None,
    }
}

/// The key that `element` is, unless the crypto library knows better (a point off its curve). `is_published`: not configured
/// by the owner of the verifier.
pub fn usable(element: &Json<'_>, is_published: bool) -> Option<Key> {
    let members = element.sound_members()?;
    let text = |name| match members.get(name) {
        None => Some(None),
        Some(value) => value.text().map(Some),
    };
    let (kid, purpose, alg) = (text("kid")?, text("use")?, text("alg")?);
    if kid.is_some_and(|kid| kid.len() > 256) || !is_for_verifying(members, purpose) {
        return None;
    }
    let capable = capable_of(members, is_published)?;
    let algorithms = match alg {
        None => capable,
        Some(alg) => capable.into_iter().filter(|name| *name == alg).collect(),
    };
    (!algorithms.is_empty()).then(|| Key { kid: kid.map(str::to_owned), algorithms })
}

fn is_for_verifying(members: Members<'_, '_>, purpose: Option<&str>) -> bool {
    let others = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"];
    let operations_fit = match members.get("key_ops") {
        None => true,
        Some(operations) => operations.texts().is_some_and(|operations| {
            operations.contains(&"verify")
                && (purpose.is_none() || !operations.iter().any(|operation| others.contains(operation)))
        }),
    };
    purpose.is_none_or(|purpose| purpose == "sig") && operations_fit
}

/// What its material, which must be well-formed, can do at all.
fn capable_of(members: Members<'_, '_>, is_published: bool) -> Option<Vec<&'static str>> {
    let text = |name| members.get(name).and_then(Json::text);
    let octets = |name| text(name).and_then(|text| base64url::decode(text.as_bytes()));
    let length = |name| octets(name).map(|octets| octets.len());
    let all = |prefixes: &[&str]| -> Vec<_> {
        ALGORITHMS.into_iter().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect()
    };
    let (capable, private_members): (_, &[_]) = match text("kty")? {
        "RSA" => {
            let (n, e) = (without_leading_zeros(octets("n")?), without_leading_zeros(octets("e")?));
            let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
            if !(2048..=8192).contains(&bits(&n)) || !is_odd(&n) || !is_odd(&e) || e == [1] || e.len() > 4 {
                return None;
            }
            (all(&["RS", "PS"]), &["d", "p", "q", "dp", "dq", "qi", "oth"])
        }
        "EC" => {
            let (coordinate, name) = match text("crv")? {
                "P-256" => (32, "ES256"),
                "P-384" => (48, "ES384"),
                "P-521" => (66, "ES512"),
                _ => return None,
            };
            if (length("x")?, length("y")?) != (coordinate, coordinate) {
                return None;
            }
            (all(&[name]), &["d"])
        }
        "OKP" if text("crv")? == "Ed25519" && length("x")? == 32 => (all(&["EdDSA", "Ed25519"]), &["d"]),
        "AKP" => {
            let alg = text("alg")?;
            let expected = match alg {
                "ML-DSA-44" => 1312,
                "ML-DSA-65" => 1952,
                "ML-DSA-87" => 2592,
                _ => return None,
            };
            if length("pub")? != expected {
                return None;
            }
            (all(&[alg]), &["priv"])
        }
        "oct" if !is_published => {
            let length = length("k")?;
            let fits = |name: &&'static str| match *name {
                "HS256" => length >= 32,
                "HS384" => length >= 48,
                _ => length >= 64,
            };
            (all(&["HS"]).into_iter().filter(fits).collect(), &[])
        }
        _ => return None,
    };
    let is_private = private_members.iter().any(|name| members.get(name).is_some());
    (!(is_published && is_private)).then_some(capable)
}

fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.drain(..zeros);
    number
}

/// Of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
