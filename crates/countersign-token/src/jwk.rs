use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::algorithm::{Algorithm, AlgorithmSet};
use crate::base64url;
use crate::json::{self, ObjectError, Raw};
use crate::key::{Curve, KeyError, Material, VerifyingKey};
use crate::keyset::KeySet;

/// The most keys a set may have. A provider that rotates daily and keeps keys for a month has some thirty.
pub const MAX_KEYS: usize = 256;

/// Where a key set comes from, which decides what may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Published by somebody: public keys only. A symmetric or private key in it is a mistake that everybody can read.
    Remote,
    /// Configured by the owner of the verifier: secrets may be in it, and of private keys the public part is used.
    Local,
}

/// A JWK Set (RFC 7517 §5), as far as it can be used, with the reason for each key that cannot.
///
/// A key that cannot be used never spoils its neighbours.
#[derive(Debug, Default)]
pub struct JwkSet {
    keys: Vec<Arc<VerifyingKey>>,
    skipped: Vec<SkippedKey>,
}

/// A key of a set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedKey {
    /// Its position in `keys`, from 0.
    pub index: usize,
    /// Its name, if it could be read.
    pub kid: Option<Box<str>>,
    /// Why.
    pub reason: Unusable,
}

/// Why a JWK is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unusable {
    /// Not a JSON object.
    NotAnObject,
    /// It has a member name twice.
    DuplicateMember,
    /// A `kty` that is not known here; legal, and to be ignored (RFC 7517 §5).
    UnknownKeyType,
    /// A `crv` that is not known here.
    UnknownCurve,
    /// An `alg` that is not a signature algorithm known here.
    UnknownAlgorithm,
    /// A member that must be there is not. `AKP` needs `alg` (RFC 9964).
    Missing(&'static str),
    /// A member of the wrong type, or not strict base64url.
    Malformed(&'static str),
    /// `use` is not `sig` (RFC 7517 §4.2).
    NotForSignatures,
    /// `key_ops` has no `verify` (RFC 7517 §4.3).
    NotForVerifying,
    /// A private key whose `key_ops` has no `sign` (RFC 7517 §4.3).
    NotForSigning,
    /// `use` is `sig`, and `key_ops` has operations that are none of signatures (RFC 7517 §4.3).
    ContradictoryPurpose,
    /// `alg` cannot be done with this type of key.
    ContradictoryAlgorithm,
    /// A shared secret in a published set.
    Symmetric,
    /// A private key in a published set.
    Private,
    /// The key material itself.
    Key(KeyError),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("not a JSON object"),
            Self::DuplicateMember => f.write_str("a member name stands twice"),
            Self::UnknownKeyType => f.write_str("unknown `kty`"),
            Self::UnknownCurve => f.write_str("unknown `crv`"),
            Self::UnknownAlgorithm => f.write_str("`alg` is not a known signature algorithm"),
            Self::Missing(name) => write!(f, "`{name}` is missing"),
            Self::Malformed(name) => write!(f, "`{name}` is malformed"),
            Self::NotForSignatures => f.write_str("`use` is not `sig`"),
            Self::NotForVerifying => f.write_str("`key_ops` has no `verify`"),
            Self::NotForSigning => f.write_str("`key_ops` has no `sign`"),
            Self::ContradictoryPurpose => f.write_str("`use` is `sig`, and `key_ops` says otherwise"),
            Self::ContradictoryAlgorithm => f.write_str("`alg` does not fit the type of the key"),
            Self::Symmetric => f.write_str("a shared secret in a published set"),
            Self::Private => f.write_str("a private key in a published set"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

/// Why a document is not a key set at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwkSetError {
    /// Not a JSON object with an array `keys`.
    NotAKeySet,
    /// More than [`MAX_KEYS`].
    TooManyKeys,
}

impl fmt::Display for JwkSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAKeySet => f.write_str("not a JSON object with an array `keys`"),
            Self::TooManyKeys => write!(f, "more than {MAX_KEYS} keys"),
        }
    }
}

impl std::error::Error for Unusable {}

impl std::error::Error for JwkSetError {}

impl JwkSet {
    /// Reads a JWK Set document. The caller has bounded its length.
    ///
    /// # Errors
    /// [`JwkSetError`] if it is not a key set at all. A set without a single usable key is not an error here: what it
    /// means depends on what was there before.
    pub fn parse(document: &[u8], origin: Origin) -> Result<Self, JwkSetError> {
        let mut keys = None;
        json::own_members(document, |name, value| {
            if name == "keys" {
                keys = Some(value);
            }
        })
        .map_err(|_| JwkSetError::NotAKeySet)?;
        let elements: Vec<&RawValue> = keys
            .filter(|value| value.text().starts_with('['))
            .and_then(|value| serde_json::from_str(value.plain_text()?).ok())
            .ok_or(JwkSetError::NotAKeySet)?;
        if elements.len() > MAX_KEYS {
            return Err(JwkSetError::TooManyKeys);
        }
        let mut set = Self::default();
        for (index, element) in elements.into_iter().enumerate() {
            let mut kid = None;
            match read_key(element.get(), origin, &mut kid) {
                Ok(key) => set.keys.push(Arc::new(key)),
                Err(reason) => set.skipped.push(SkippedKey { index, kid: kid.map(Into::into), reason }),
            }
        }
        Ok(set)
    }

    /// The keys that can be used, in the order of the document.
    #[must_use]
    pub fn keys(&self) -> &[Arc<VerifyingKey>] {
        &self.keys
    }

    /// The keys that cannot, and why.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// The usable keys, indexed.
    #[must_use]
    pub fn into_key_set(self) -> KeySet {
        KeySet::new(self.keys)
    }
}

fn read_key(jwk: &str, origin: Origin, kid: &mut Option<String>) -> Result<VerifyingKey, Unusable> {
    let jwk = Jwk::read(jwk)?;
    *kid = jwk.string("kid")?.map(Cow::into_owned);
    jwk.check_purpose()?;
    let kty = jwk.required_string("kty")?;
    let alg = jwk.string("alg")?;
    let admitted = match &alg {
        None => AlgorithmSet::ASYMMETRIC,
        Some(name) => Algorithm::from_name(name).ok_or(Unusable::UnknownAlgorithm)?.into(),
    };
    let (material, private_members, admitted): (_, &[_], _) = match &*kty {
        "RSA" => {
            let material = Material::Rsa { n: jwk.octets("n")?, e: jwk.octets("e")? };
            (material, &["d", "p", "q", "dp", "dq", "qi", "oth"], admitted)
        }
        "EC" => {
            let curve = Curve::from_name(&jwk.required_string("crv")?).ok_or(Unusable::UnknownCurve)?;
            (Material::Ec { curve, x: jwk.octets("x")?, y: jwk.octets("y")? }, &["d"], admitted)
        }
        "OKP" => {
            if jwk.required_string("crv")? != "Ed25519" {
                return Err(Unusable::UnknownCurve);
            }
            (Material::Ed25519 { x: jwk.octets("x")? }, &["d"], admitted)
        }
        "AKP" => {
            let algorithm = match alg.as_deref().map(Algorithm::from_name) {
                None => return Err(Unusable::Missing("alg")),
                Some(Some(algorithm @ (Algorithm::MlDsa44 | Algorithm::MlDsa65 | Algorithm::MlDsa87))) => algorithm,
                Some(_) => return Err(Unusable::ContradictoryAlgorithm),
            };
            (Material::MlDsa { algorithm, public: jwk.octets("pub")? }, &["priv"], admitted)
        }
        "oct" if origin == Origin::Remote => return Err(Unusable::Symmetric),
        "oct" => {
            let admitted = if alg.is_none() { AlgorithmSet::HMAC } else { admitted };
            (Material::Secret(jwk.octets("k")?), &[], admitted)
        }
        _ => return Err(Unusable::UnknownKeyType),
    };
    if origin == Origin::Remote && private_members.iter().any(|name| jwk.has(name)) {
        return Err(Unusable::Private);
    }
    VerifyingKey::new(&material, kid.as_deref(), admitted).map_err(|error| match error {
        KeyError::NoAlgorithm => Unusable::ContradictoryAlgorithm,
        error => Unusable::Key(error),
    })
}

/// The members of one JWK; few enough that a search from the front is as good as a map.
pub(crate) struct Jwk<'a>(Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'a> Jwk<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, Unusable> {
        let mut members = Vec::new();
        json::members(text.as_bytes(), usize::MAX, |name, value| members.push((name, value))).map_err(|error| {
            match error {
                ObjectError::DuplicateMember => Unusable::DuplicateMember,
                _ => Unusable::NotAnObject,
            }
        })?;
        Ok(Self(members))
    }

    fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn string(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Unusable> {
        self.get(name).map(|value| value.string().ok_or(Unusable::Malformed(name))).transpose()
    }

    pub(crate) fn required_string(&self, name: &'static str) -> Result<Cow<'a, str>, Unusable> {
        self.string(name)?.ok_or(Unusable::Missing(name))
    }

    pub(crate) fn octets(&self, name: &'static str) -> Result<Vec<u8>, Unusable> {
        base64url::decode(&self.required_string(name)?).map_err(|_| Unusable::Malformed(name))
    }

    /// The same for signing.
    pub(crate) fn check_signing(&self) -> Result<(), Unusable> {
        if self.string("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err(Unusable::NotForSignatures);
        }
        let Some(operations) = self.get("key_ops") else { return Ok(()) };
        let operations = operations.strings().ok_or(Unusable::Malformed("key_ops"))?;
        if operations.iter().any(|operation| operation == "sign") { Ok(()) } else { Err(Unusable::NotForSigning) }
    }

    /// `use` and `key_ops`: each that is present must admit verification, and the two must not contradict each other.
    fn check_purpose(&self) -> Result<(), Unusable> {
        let purpose = self.string("use")?;
        if purpose.as_ref().is_some_and(|purpose| purpose != "sig") {
            return Err(Unusable::NotForSignatures);
        }
        let Some(operations) = self.get("key_ops") else { return Ok(()) };
        let operations = operations.strings().ok_or(Unusable::Malformed("key_ops"))?;
        if !operations.iter().any(|operation| operation == "verify") {
            return Err(Unusable::NotForVerifying);
        }
        let contradicts = |operation: &str| OPERATIONS_OF_OTHERS.contains(&operation);
        if purpose.is_some() && operations.iter().any(|operation| contradicts(operation)) {
            return Err(Unusable::ContradictoryPurpose);
        }
        Ok(())
    }
}

/// The operations of RFC 7517 §4.3 that are none of signatures.
const OPERATIONS_OF_OTHERS: [&str; 6] = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// What becomes of one JWK in a set with a good neighbour, which must survive whatever it is.
    fn check(jwk: &Value, origin: Origin) -> Result<AlgorithmSet, Unusable> {
        check_text(&jwk.to_string(), origin)
    }

    fn check_text(jwk: &str, origin: Origin) -> Result<AlgorithmSet, Unusable> {
        let good = SigningKey::generate(Algorithm::Es256).unwrap().with_kid("good").public_jwk().unwrap();
        let document = format!(r#"{{"unknown":[1,2],"keys":[{jwk},{good}]}}"#);
        let set = JwkSet::parse(document.as_bytes(), origin).unwrap();
        assert_eq!(set.keys().last().unwrap().kid(), Some("good"));
        match set.skipped() {
            [] => Ok(set.keys()[0].algorithms()),
            [skipped] => {
                assert_eq!(skipped.index, 0);
                Err(skipped.reason)
            }
            _ => unreachable!(),
        }
    }

    fn ec() -> Value {
        json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        })
    }

    /// RFC 8032 test 1.
    fn okp() -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
    }

    fn rsa(n: usize) -> Value {
        json!({ "kty": "RSA", "n": base64url::encode(&vec![0xff; n]), "e": "AQAB" })
    }

    fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
        jwk[name] = value.into();
        jwk
    }

    #[test]
    fn a_key_without_alg_gets_it_from_its_type() {
        assert_eq!(check(&ec(), Origin::Remote), Ok(Algorithm::Es256.into()));
        assert_eq!(
            check(&okp(), Origin::Remote),
            Ok(AlgorithmSet::EMPTY.with(Algorithm::EdDsa).with(Algorithm::Ed25519))
        );
        assert_eq!(check(&rsa(256), Origin::Remote), Ok(AlgorithmSet::RSA));
        assert_eq!(check(&with(rsa(256), "alg", "PS384"), Origin::Remote), Ok(Algorithm::Ps384.into()));
        assert_eq!(check(&with(okp(), "alg", "Ed25519"), Origin::Remote), Ok(Algorithm::Ed25519.into()));
        assert_eq!(
            check(&with(ec(), "key_ops", json!(["verify", "sign"])), Origin::Remote),
            Ok(Algorithm::Es256.into())
        );
    }

    #[test]
    fn a_key_that_cannot_be_used_is_skipped_with_its_reason() {
        use Unusable::*;
        let oct = || json!({"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"});
        for (jwk, reason) in [
            (json!([]), NotAnObject),
            (json!(null), NotAnObject),
            (json!({}), Missing("kty")),
            (json!({"kty": null}), Malformed("kty")),
            (json!({"kty": "rsa"}), UnknownKeyType),
            (json!({"kty": "PQ"}), UnknownKeyType),
            (with(ec(), "crv", "P-192"), UnknownCurve),
            (with(ec(), "crv", "secp256k1"), UnknownCurve),
            (with(okp(), "crv", "Ed448"), UnknownCurve),
            (with(okp(), "crv", "X25519"), UnknownCurve),
            (with(ec(), "alg", "ECDH-ES"), UnknownAlgorithm),
            (with(ec(), "alg", "none"), UnknownAlgorithm),
            (with(ec(), "alg", "ES384"), ContradictoryAlgorithm),
            (with(ec(), "alg", "HS256"), ContradictoryAlgorithm),
            (with(rsa(256), "alg", "ES256"), ContradictoryAlgorithm),
            (with(ec(), "alg", Value::Null), Malformed("alg")),
            (with(ec(), "use", "enc"), NotForSignatures),
            (with(ec(), "use", 1), Malformed("use")),
            (with(ec(), "key_ops", json!([])), NotForVerifying),
            (with(ec(), "key_ops", json!(["sign"])), NotForVerifying),
            (with(ec(), "key_ops", "verify"), Malformed("key_ops")),
            (with(with(ec(), "use", "enc"), "key_ops", json!(["verify"])), NotForSignatures),
            (with(with(ec(), "use", "sig"), "key_ops", json!(["verify", "encrypt"])), ContradictoryPurpose),
            (with(with(ec(), "use", "sig"), "key_ops", json!(["encrypt"])), NotForVerifying),
            (with(ec(), "x", "f83O"), Key(KeyError::WrongLength)),
            (with(ec(), "y", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"), Key(KeyError::Invalid)),
            (with(ec(), "x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU="), Malformed("x")),
            (with(ec(), "x", json!([1])), Malformed("x")),
            (with(ec(), "kid", 5), Malformed("kid")),
            (with(ec(), "kid", "k".repeat(257)), Key(KeyError::LongKid)),
            (json!({"kty": "EC", "crv": "P-256"}), Missing("x")),
            (with(okp(), "x", "AAAA"), Key(KeyError::WrongLength)),
            (rsa(128), Key(KeyError::WeakRsa { bits: 1024 })),
            (with(rsa(256), "e", "AQ"), Key(KeyError::BadExponent)),
            (with(rsa(256), "e", "AQAA"), Key(KeyError::BadExponent)),
            (with(rsa(256), "d", "AAAA"), Private),
            (with(rsa(256), "oth", json!([])), Private),
            (with(ec(), "d", Value::Null), Private),
            (oct(), Symmetric),
            (json!({"kty": "AKP", "pub": "AAAA"}), Missing("alg")),
            (json!({"kty": "AKP", "alg": "ES256", "pub": "AAAA"}), ContradictoryAlgorithm),
            (json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}), Key(KeyError::WrongLength)),
        ] {
            assert_eq!(check(&jwk, Origin::Remote), Err(reason), "{jwk}");
        }
        assert_eq!(check_text(r#"{"kty":"EC","kty":"oct"}"#, Origin::Remote), Err(DuplicateMember));
        assert_eq!(check_text(r#"{"kty":"EC","x":{"a":1,"a":2}}"#, Origin::Remote), Err(DuplicateMember));
    }

    #[test]
    fn a_local_set_may_hold_secrets() {
        let secret = |length: usize| json!({"kty": "oct", "k": base64url::encode(&vec![1; length])});
        assert_eq!(check(&secret(64), Origin::Local), Ok(AlgorithmSet::HMAC));
        assert_eq!(check(&with(secret(32), "alg", "HS256"), Origin::Local), Ok(Algorithm::Hs256.into()));
        assert_eq!(check(&secret(16), Origin::Local), Err(Unusable::Key(KeyError::ShortSecret)));
        assert_eq!(check(&with(secret(64), "alg", "RS256"), Origin::Local), Err(Unusable::ContradictoryAlgorithm));
        assert_eq!(check(&with(ec(), "d", "AAAA"), Origin::Local), Ok(Algorithm::Es256.into()));
    }

    #[test]
    fn a_document_that_is_no_key_set_is_refused_whole() {
        let parse = |document: &str| JwkSet::parse(document.as_bytes(), Origin::Remote).map(drop);
        for document in [
            "",
            "[]",
            "{}",
            "<html>",
            r#"{"keys":{}}"#,
            r#"{"keys":null}"#,
            r#"{"keys":[]"#,
            r#"{"keys":[],"keys":[]}"#,
        ] {
            assert_eq!(parse(document), Err(JwkSetError::NotAKeySet), "{document}");
        }
        assert_eq!(parse(r#"{"keys":[]}"#), Ok(()));
        let many = |count| format!(r#"{{"keys":[{}]}}"#, vec!["0"; count].join(","));
        assert_eq!(parse(&many(MAX_KEYS)), Ok(()));
        assert_eq!(parse(&many(MAX_KEYS + 1)), Err(JwkSetError::TooManyKeys));
        assert_eq!(parse(&"[".repeat(500_000)), Err(JwkSetError::NotAKeySet));
    }

    proptest! {
        #[test]
        fn never_panics(document in any::<Vec<u8>>(), member in r"\PC{0,12}", value in r"\PC{0,40}") {
            let _ = JwkSet::parse(&document, Origin::Local);
            let _ = check(&with(ec(), &member, value.clone()), Origin::Local);
            for name in ["x", "y", "n", "e", "k", "alg", "kty", "crv", "use", "key_ops", "pub", "kid"] {
                let _ = check(&with(rsa(256), name, value.clone()), Origin::Remote);
                let _ = check(&with(ec(), name, value.clone()), Origin::Remote);
            }
        }
    }
}
