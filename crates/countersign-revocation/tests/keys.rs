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
fn a_key_that_is_revoked_by_its_name_is_revoked_for_its_issuer_so_the_policy_has_to_demand_one() {
    let key = stolen();
    let list = RevocationList::with(options());
    publish(&list, Revokes::Key { kid: "k1".into() });
    let keys = || KeySet::new([key.verifying_key().unwrap()]);
    let bound = Verifier::new(keys(), Policy::new().issuer(ISSUER).audience("api")).revocation(list.clone());
    let unbound = Verifier::new(keys(), Policy::new().audience("api")).revocation(list.clone());
    for (issuer, by_bound, by_unbound) in [
        (Some(ISSUER), "revoked_key", "revoked_key"),
        (Some("https://other.example"), "wrong_issuer", "accepted"),
        (None, "claim_missing", "accepted"),
    ] {
        let token = token(&key, issuer);
        assert_eq!((code(&bound, &token), code(&unbound, &token)), (by_bound, by_unbound), "{issuer:?}");
    }
    // What it is revokes it wherever it is.
    publish(&list, Revokes::KeyMaterial { thumbprint: *key.verifying_key().unwrap().thumbprint() });
    for issuer in [Some(ISSUER), Some("https://other.example"), None] {
        assert_ne!(code(&unbound, &token(&key, issuer)), "accepted");
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
