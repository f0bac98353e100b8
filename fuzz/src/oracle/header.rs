//! The JOSE header (RFC 7515 §4), with the limits that countersign documents.

use super::json::{self, NoJson};
use super::{Verdict, base64url};

/// The registered names of all signature algorithms that there are here.
pub const ALGORITHMS: [&str; 17] = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
    "HS256",
    "HS384",
    "HS512",
];

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub alg: String,
    pub kid: Option<String>,
    pub typ: Option<String>,
    pub cty: Option<String>,
}

/// A compact token: three parts, and a good header in the first.
pub fn of_token(token: &str) -> Verdict<Header> {
    let parts: Vec<_> = token.split('.').collect();
    match (parts.as_slice(), parts.first().and_then(|part| base64url::decode(part.as_bytes()))) {
        ([_, _, _], Some(octets)) => read(&octets),
        _ => Verdict::Bad,
    }
}

/// A header, decoded.
pub fn read(octets: &[u8]) -> Verdict<Header> {
    if octets.len() > 6 * 1024 {
        return Verdict::Bad;
    }
    match json::parse(octets) {
        Ok(value) => match judge(&value) {
            None => Verdict::Bad,
            Some(_) if may_take_too_much_memory(octets) => Verdict::NoOpinion,
            Some(header) => Verdict::Good(header),
        },
        Err(NoJson::Malformed) => Verdict::Bad,
        Err(NoJson::TooDeep) => Verdict::NoOpinion,
    }
}

/// Whether there are so many escapes, or so many names, that some limit to what a header may take in memory is near.
fn may_take_too_much_memory(octets: &[u8]) -> bool {
    let count = |wanted: u8| octets.iter().filter(|octet| **octet == wanted).count();
    (octets.len() > 64 && count(b'\\') > 0) || count(b':') > 16
}

fn judge(value: &json::Json<'_>) -> Option<Header> {
    let members = value.sound_members()?;
    let is_transformed = match members.get("b64") {
        None | Some(json::Json::Boolean(true)) => false,
        Some(_) => true,
    };
    if members.len() > 32 || members.get("crit").is_some() || members.get("zip").is_some() || is_transformed {
        return None;
    }
    // Absent is fine, another type is not.
    let text = |name| match members.get(name) {
        None => Some(None),
        Some(value) => value.text().map(|text| Some(text.to_owned())),
    };
    let header = Header { alg: text("alg")??, kid: text("kid")?, typ: text("typ")?, cty: text("cty")? };
    let is_known = ALGORITHMS.contains(&header.alg.as_str());
    let is_short = |text: &Option<String>, limit| text.as_ref().is_none_or(|text| text.len() <= limit);
    (is_known && is_short(&header.kid, 256) && is_short(&header.typ, 255) && is_short(&header.cty, 255))
        .then_some(header)
}
