//! Keys of clients that are fetched from where they publish them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::SigningKey;
use countersign::claims::signed_request::{BodyDigest, TYPE};
use countersign_testkit::{IdentityProvider, TestKey};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bench::{Answer, Bench, ISSUER, POLICY, bearer, jwks, key, orders};

/// A client beside the others, whose keys are at that URL.
fn with_client(policy: &str, url: &str) -> String {
    policy.to_owned()
        + &format!(
            "[clients.far]\njwks_uri = \"{url}\"\nadmin = [\"keys:read\"]\n\
             grants.g = {{ profiles = [\"access\"], subjects = {{ self = true }}, audiences = {{ exact = [\"orders\"] }} }}\n"
        )
}

/// What that client says of itself, with `key`.
fn assertion(bench: &Bench, key: &SigningKey) -> String {
    let mut claims = bench.claims();
    claims["iss"] = json!("far");
    claims["sub"] = json!("far");
    key.sign_as("client-authentication+jwt", &claims).unwrap()
}

async fn ask(bench: &Bench, key: &TestKey) -> Answer {
    bench.post("/v1/tokens", &bearer(&assertion(bench, &key.signing_key())), &orders()).await
}

async fn list(bench: &Bench, key: &TestKey) -> Answer {
    let mut claims: Value = bench.claims();
    for (name, value) in [("iss", "far"), ("sub", "far"), ("htm", "GET"), ("htu", &*format!("{ISSUER}/v1/keys"))] {
        claims[name] = json!(value);
    }
    claims["body_sha256"] = json!(BodyDigest::of(b"").to_string());
    bench.get_with("/v1/keys", &bearer(&key.signing_key().sign_as(TYPE, &claims).unwrap())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_publishes_its_keys_rotates_them_as_it_likes() {
    let provider = IdentityProvider::start();
    let bench = Bench::with(|policy| with_client(&policy, &provider.jwks_url())).await;
    let first = provider.key();
    assert_eq!(ask(&bench, &first).await.status, 200);
    assert_eq!(list(&bench, &first).await.status, 200);
    // Two routes and the layer of a third have had the same copy.
    assert_eq!(provider.fetches(), 1);
    // A new one is looked for when it is first seen, and the old one is good for as long as it is published.
    let second = provider.rotate();
    assert_eq!(ask(&bench, &second).await.status, 200);
    assert_eq!(ask(&bench, &first).await.status, 200);
    assert_eq!(list(&bench, &second).await.status, 200);
    provider.withdraw(&first);
    let third = provider.rotate();
    assert_eq!(list(&bench, &third).await.status, 200);
    assert_eq!(ask(&bench, &first).await.refusal(), (401, "invalid_client".to_owned()));
    assert_eq!(list(&bench, &first).await.status, 401);
    assert_eq!(provider.fetches(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_known_by_the_keys_of_a_client_that_are_fetched() {
    let provider = IdentityProvider::start();
    let bench = Bench::with(|policy| with_client(&policy, &provider.jwks_url())).await;
    let theirs = provider.key().signing_key();
    assert_eq!(ask(&bench, &provider.key()).await.status, 200);
    // The claims are those of `web`.
    let of_web = theirs.sign_as("client-authentication+jwt", &bench.claims()).unwrap();
    assert_eq!(bench.post("/v1/tokens", &bearer(&of_web), &orders()).await.status, 401);
    let of_nobody = bench.assertion_of("far");
    assert_eq!(bench.post("/v1/tokens", &bearer(&of_nobody), &orders()).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_keys_cause_no_flood_of_fetches_and_no_wait_for_those_that_are_known() {
    let provider = IdentityProvider::start();
    let bench = Arc::new(Bench::with(|policy| with_client(&policy, &provider.jwks_url())).await);
    assert_eq!(ask(&bench, &provider.key()).await.status, 200);
    let begun = Instant::now();
    let asked = (0..200).map(|index| {
        let headers = bearer(&assertion(&bench, &key(&format!("k{index}"))));
        let bench = Arc::clone(&bench);
        async move { bench.post("/v1/tokens", &headers, &orders()).await.status }
    });
    let statuses = asked.collect::<JoinSet<_>>().join_all().await;
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert_eq!(ask(&bench, &provider.key()).await.status, 200);
    // One in a second, at most, and one that was under way.
    let most = begun.elapsed().as_secs() + 3;
    assert!(provider.fetches() as u64 <= most, "{} in {most} s", provider.fetches());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_there_are_no_keys_the_client_is_told_to_come_again_and_no_other_waits() {
    let provider = IdentityProvider::start();
    provider.stop();
    let bench = Bench::with(|policy| with_client(&policy, &provider.jwks_url())).await;
    let key = provider.key();
    assert_eq!(ask(&bench, &key).await.refusal(), (503, "temporarily_unavailable".to_owned()));
    assert_eq!(list(&bench, &key).await.status, 503);
    assert_eq!(bench.ask(&orders()).await.status, 200);
    provider.resume();
    let mut status = 503;
    while status == 503 {
        status = ask(&bench, &key).await.status;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status, 200);
    // What was fetched is good while the client's site is away.
    provider.stop();
    assert_eq!(ask(&bench, &key).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_keeps_what_was_fetched_from_where_it_says_the_same() {
    let [provider, other] = [IdentityProvider::start(), IdentityProvider::start()];
    let bench = Bench::with(|policy| with_client(&policy, &provider.jwks_url())).await;
    assert_eq!(ask(&bench, &provider.key()).await.status, 200);
    let policy = |client: &str, url: &str| {
        let policy = POLICY.replace("JWKS", &jwks(&[&bench.key])).replace("\"first\"", "\"second\"");
        with_client(&policy, url).replace("far", client)
    };
    bench.service.reload(&policy("far", &provider.jwks_url())).unwrap();
    assert_eq!(ask(&bench, &provider.key()).await.status, 200);
    assert_eq!(provider.fetches(), 1);
    bench.service.reload(&policy("far", &other.jwks_url())).unwrap();
    assert_eq!(ask(&bench, &other.key()).await.status, 200);
    assert_eq!(ask(&bench, &provider.key()).await.status, 401);
    // Whoever is not in the policy any more is nobody, whatever was fetched.
    bench.service.reload(&policy("near", &other.jwks_url())).unwrap();
    assert_eq!(ask(&bench, &other.key()).await.status, 401);
}
