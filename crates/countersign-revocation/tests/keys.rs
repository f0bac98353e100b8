//! What the revocation of a key reaches: with a real verifier, and an attacker who has the key and writes what they like.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{START, options};
use countersign_claims::Policy;
use countersign_claims::revocation::{Entry, RevocationSink as _, Revokes};
use countersign_revocation::RevocationList;
use countersign_token::{Algorithm, KeySet, SigningKey};
use countersign_verifier::Verifier;

const ISSUER: &str = "https://issuer.example";

fn token(key: &SigningKey, issuer: Option<&str>) -> String {
    let exp = START.saturating_add(Duration::from_secs(300)).as_secs();
    let claims = match issuer {
        Some(issuer) => serde_json::json!({ "iss": issuer, "aud": "api", "exp": exp }),
        None => serde_json::json!({ "aud": "api", "exp": exp }),
    };
    key.sign(&claims).unwrap()
}

fn code(verifier: &Verifier<KeySet>, token: &str) -> &'static str {
    verifier.verify(token, START).map_or_else(|refusal| refusal.code(), |_| "accepted")
}

fn publish(list: &RevocationList, revokes: Revokes) {
    // It is done before anything is waited for.
    drop(list.publish(Arc::new([Entry { issuer: ISSUER.into(), revokes, until: None }])));
}

fn stolen() -> SigningKey {
    SigningKey::generate(Algorithm::Es256).unwrap().with_kid("k1")
}

#[test]
fn a_key_that_is_revoked_by_its_name_is_revoked_whatever_issuer_whoever_has_it_writes() {
    let key = stolen();
    let list = RevocationList::with(options());
    publish(&list, Revokes::Key { kid: "k1".into() });
    let keys = || KeySet::new([key.verifying_key().unwrap()]);
    let bound = Verifier::new(keys(), Policy::new().issuer(ISSUER).audience("api")).revocation(list.clone());
    let unbound = Verifier::new(keys(), Policy::new().audience("api")).revocation(list.clone());
    for (issuer, by_bound, by_unbound) in [
        (Some(ISSUER), "revoked_key", "revoked_key"),
        (Some("https://other.example"), "wrong_issuer", "revoked_key"),
        (None, "claim_missing", "revoked_key"),
    ] {
        let token = token(&key, issuer);
        assert_eq!((code(&bound, &token), code(&unbound, &token)), (by_bound, by_unbound), "{issuer:?}");
    }
    // With several issuers and keys that are bound to none it is not certain whose the key is.
    let policy = Policy::new().issuer(ISSUER).issuer("https://other.example").audience("api");
    let either = Verifier::new(keys(), policy).revocation(list);
    for issuer in [ISSUER, "https://other.example"] {
        assert_eq!(code(&either, &token(&key, Some(issuer))), "revoked_key");
    }
}

#[test]
fn a_key_of_another_issuer_that_has_the_same_name_is_not_revoked_where_it_is_certain_whose_it_is() {
    let key = stolen();
    let list = RevocationList::with(options());
    publish(&list, Revokes::Key { kid: "k1".into() });
    let alone = Verifier::new(
        KeySet::new([key.verifying_key().unwrap()]),
        Policy::new().issuer("https://other.example").audience("api"),
    );
    let bound = Verifier::new(
        KeySet::new([key.verifying_key().unwrap().bound_to_issuer("https://other.example")]),
        Policy::new().issuer_of_key().audience("api"),
    );
    for verifier in [alone, bound] {
        assert_eq!(code(&verifier.revocation(list.clone()), &token(&key, Some("https://other.example"))), "accepted");
    }
}

#[test]
fn a_key_that_has_two_names_is_revoked_by_what_it_is_and_not_by_one_of_them() {
    let key = stolen();
    let list = RevocationList::with(options());
    publish(&list, Revokes::Key { kid: "k1".into() });
    let other = key.verifying_key().unwrap().with_kid("k2").unwrap();
    let keys = KeySet::new([key.verifying_key().unwrap(), other]);
    let verifier = Verifier::new(keys, Policy::new().issuer(ISSUER).audience("api")).revocation(list.clone());
    let thumbprint = *key.verifying_key().unwrap().thumbprint();
    let [by_name, by_other_name] = [token(&key, Some(ISSUER)), token(&key.with_kid("k2"), Some(ISSUER))];
    assert_eq!([code(&verifier, &by_name), code(&verifier, &by_other_name)], ["revoked_key", "accepted"]);
    publish(&list, Revokes::KeyMaterial { thumbprint });
    assert_eq!([code(&verifier, &by_name), code(&verifier, &by_other_name)], ["revoked_key"; 2]);
}
