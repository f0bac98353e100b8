//! Any octets as a key set, published and configured; and, if they are one JSON value, as a key among good neighbours.

use std::sync::LazyLock;

use countersign::token::{Algorithm, JwkSet, KeySet, Origin, SkippedKey, Unusable, VerifyingKey};
use countersign::verifier::Verifier;

use crate::harness::{self, SIGNED, now};
use crate::oracle::json::{self, Json, NoJson};
use crate::oracle::jwk;

/// RFC 8032 §7.1, test 1, under a name that no token has.
const NEIGHBOUR: &str =
    r#"{"kty":"OKP","crv":"Ed25519","kid":"neighbour","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

pub fn run(data: &[u8]) {
    let value = json::parse(data);
    check(data, value.as_ref());
    if let (Ok(_), Ok(text)) = (&value, std::str::from_utf8(data)) {
        let document = format!(r#"{{"keys":[{NEIGHBOUR},{text},{NEIGHBOUR}],"keys2":{text}}}"#);
        check(document.as_bytes(), json::parse(document.as_bytes()).as_ref());
        let set = JwkSet::parse(document.as_bytes(), Origin::Remote).expect("one key does not spoil a set");
        let neighbours = set.keys().iter().filter(|key| key.kid() == Some("neighbour")).count();
        assert!(neighbours >= 2, "one key does not spoil its neighbours");
    }
}

fn check(document: &[u8], value: Result<&Json<'_>, &NoJson>) {
    let published = JwkSet::parse(document, Origin::Remote);
    let configured = JwkSet::parse(document, Origin::Local);
    assert_eq!(published.as_ref().err(), configured.as_ref().err(), "where it comes from says nothing of its shape");
    let elements = value.ok().and_then(jwk::elements);
    if value.err() != Some(&NoJson::TooDeep) {
        assert_eq!(published.is_ok(), elements.is_some());
    }
    let (Ok(published), Ok(configured)) = (published, configured) else { return };
    if let Some(elements) = elements {
        check_each(&published, elements, true);
        check_each(&configured, elements, false);
    }
    check_origins(&published, &configured);
    for set in [published, configured] {
        check_tokens(set.into_key_set());
    }
}

/// Each element is a key or is skipped, as the oracle says, and the order is kept.
fn check_each(set: &JwkSet, elements: &[Json<'_>], is_published: bool) {
    assert_eq!(set.keys().len() + set.skipped().len(), elements.len());
    let (mut keys, mut skipped) = (set.keys().iter(), set.skipped().iter().peekable());
    for (index, element) in elements.iter().enumerate() {
        let expected = jwk::usable(element, is_published);
        match (skipped.next_if(|skipped| skipped.index == index), expected) {
            // Only the crypto library can tell that a point is off its curve.
            (Some(skipped), expected) => {
                assert!(
                    expected.is_none() || is_left_to_the_library(skipped),
                    "{skipped:?}, and should be {expected:?}"
                );
            }
            (None, Some(expected)) => {
                let key = keys.next().expect("as many as are not skipped");
                let algorithms: Vec<_> = key.algorithms().iter().map(Algorithm::name).collect();
                assert_eq!((key.kid(), algorithms), (expected.kid.as_deref(), expected.algorithms));
                assert!(!(is_published && key.algorithms().iter().any(Algorithm::is_symmetric)));
            }
            (None, None) => panic!("key {index} is used, and should not be: {element:?}"),
        }
    }
}

fn is_left_to_the_library(skipped: &SkippedKey) -> bool {
    matches!(skipped.reason, Unusable::Key(countersign::token::KeyError::Invalid))
}

/// What may be published may be configured, and is the same key; what is skipped for another reason than being secret is
/// skipped in both.
fn check_origins(published: &JwkSet, configured: &JwkSet) {
    let mut others = configured.keys().iter();
    for key in published.keys() {
        assert!(others.any(|other| other.is_same_as(key)), "not the same key when it is configured: {key:?}");
    }
    for skipped in published.skipped() {
        let is_secret = matches!(skipped.reason, Unusable::Symmetric | Unusable::Private);
        assert!(is_secret || configured.skipped().contains(skipped), "{skipped:?}");
    }
}

/// Tokens of our own keys are accepted only if the set has that very key.
fn check_tokens(keys: KeySet) {
    static OURS: LazyLock<KeySet> = LazyLock::new(harness::keys);
    let is_there = |key: &VerifyingKey, keys: &KeySet| keys.iter().any(|other| other.thumbprint() == key.thumbprint());
    let ours: Vec<_> = OURS.iter().filter(|key| is_there(key, &keys)).map(|key| *key.thumbprint()).collect();
    let verifier: Verifier<KeySet> = harness::verifier(keys);
    for signed in SIGNED.iter() {
        if let Ok(verified) = verifier.verify(signed.token, now()) {
            assert!(harness::is_good(signed.token.as_bytes()));
            assert!(ours.contains(verified.key().thumbprint()), "a key that did not sign it: {:?}", verified.key());
        }
    }
}
