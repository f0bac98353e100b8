//! Providers and strangers that mean harm, through the facade.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign::token::{Fetch, FetchError, FetchRequest, Fetched};
use countersign::verifier::Refusal;
use countersign::{Algorithm, Issuers, JwtAuth, Keys, Remote, SigningKey, SystemClock, Tenants, UnixTime};
use serde_json::{Value, json};

/// Documents by URL, each after a while.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<HashMap<String, Site>>>);

/// How long it takes to answer, what it says, and what its clock shows.
type Site = (Duration, Vec<u8>, Option<SystemTime>);

impl Net {
    fn set(&self, url: &str, takes: Duration, body: &Value) {
        self.0.lock().unwrap().insert(url.into(), (takes, body.to_string().into_bytes(), None));
    }

    fn set_dated(&self, url: &str, body: &Value, date: SystemTime) {
        self.0.lock().unwrap().insert(url.into(), (Duration::ZERO, body.to_string().into_bytes(), Some(date)));
    }
}

impl Fetch for Net {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(async move {
            let found = self.0.lock().unwrap().get(&request.url).cloned();
            let mut fetched = Fetched::default();
            fetched.status = 404;
            if let Some((takes, body, date)) = found {
                tokio::time::sleep(takes).await;
                (fetched.status, fetched.body, fetched.date) = (200, body, date);
            }
            Ok(fetched)
        })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(signer: &SigningKey, issuer: &str) -> String {
    signer.sign(&json!({ "iss": issuer, "exp": now() + 600, "aud": "orders" })).unwrap()
}

fn signer(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid(kid)
}

fn set(signer: &SigningKey) -> Value {
    json!({ "keys": [signer.public_jwk().unwrap()] })
}

/// Two names of one provider, or two tenants of a provider that signs for all with the same keys (Entra ID, Auth0's custom domains): a union of
/// both, as `Keys::union` recommends, each bound to its issuer.
#[tokio::test(start_paused = true)]
async fn a_union_accepts_the_tokens_of_both_issuers_that_share_a_key() {
    let (net, signer) = (Net::default(), signer("shared"));
    let issuers = ["https://old.example", "https://new.example"];
    let members = issuers.map(|issuer| {
        let jwks = format!("{issuer}/keys");
        net.set(
            &format!("{issuer}/.well-known/openid-configuration"),
            Duration::ZERO,
            &json!({ "issuer": issuer, "jwks_uri": jwks }),
        );
        net.set(&jwks, Duration::ZERO, &set(&signer));
        Keys::remote(Remote::discover(issuer).unwrap().fetch(net.clone()))
    });
    let keys = Keys::union(members).unwrap();
    keys.handle().fresh_within(Duration::from_secs(5)).await.unwrap();
    let auth = JwtAuth::from_keys(keys).issuer(issuers[0]).issuer(issuers[1]).audience("orders");
    let verifier = auth.verifier();
    for issuer in issuers {
        let verified = verifier.verify_or_wait(&token(&signer, issuer), &SystemClock).await;
        assert!(verified.is_ok(), "{issuer}: {verified:?}");
    }
}

/// A stranger raises 5xx: the good tenant's request waits for its keys, they come, and it is told that there are none.
#[tokio::test(start_paused = true)]
async fn a_made_up_tenant_does_not_make_the_request_of_a_good_one_a_503() {
    let (net, proven, good) = (Net::default(), signer("proven"), signer("good"));
    net.set("https://login.example/proven/keys", Duration::ZERO, &set(&proven));
    net.set("https://login.example/good/keys", Duration::from_millis(200), &set(&good));
    let tenants = Tenants::of("https://login.example/{tenant}")
        .jwks("https://login.example/{tenant}/keys")
        .allow(["proven", "good"])
        .admit_if(|_| true);
    let each = {
        let net = net.clone();
        move |remote: Remote| remote.fetch(net.clone())
    };
    let auth = JwtAuth::issuers(Issuers::new().tenants(tenants).max_tenants(2).each(each)).audience("orders");
    let verifier = Arc::new(auth.verifier());
    verifier.verify_or_wait(&token(&proven, "https://login.example/proven"), &SystemClock).await.unwrap();
    let request = {
        let (verifier, token) = (Arc::clone(&verifier), token(&good, "https://login.example/good"));
        tokio::spawn(async move { verifier.verify_or_wait(&token, &SystemClock).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Without waiting, and the sync call has its own say.
    let made_up = verifier
        .verify(&token(&proven, "https://login.example/made-up"), UnixTime::from_secs(i64::try_from(now()).unwrap()));
    let refused = request.await.unwrap();
    assert!(
        refused.is_ok() && !matches!(made_up, Err(Refusal::KeysUnavailable { .. })),
        "the good one: {refused:?}; the made-up one, which is no outage: {made_up:?}"
    );
}

/// `explain_refusal` blames the clock of whichever issuer's is furthest off.
#[tokio::test(start_paused = true)]
async fn an_explanation_does_not_blame_the_clock_of_another_issuer() {
    let (net, good, other) = (Net::default(), signer("good"), signer("other"));
    net.set_dated("https://good.example/keys", &set(&good), SystemTime::now());
    // Its clock is an hour behind; it may be a tenant's own server.
    net.set_dated("https://other.example/keys", &set(&other), SystemTime::now() - Duration::from_secs(3_600));
    let remote = |url| Remote::new(url).unwrap().fetch(net.clone());
    let issuers = Issuers::new()
        .issuer_at("https://good.example", remote("https://good.example/keys"))
        .issuer_at("https://other.example", remote("https://other.example/keys"));
    let auth = JwtAuth::issuers(issuers).audience("orders");
    let handle = auth.handle();
    auth.handle().keys().fresh_within(Duration::from_secs(5)).await.unwrap();
    let expired = good.sign(&json!({ "iss": "https://good.example", "exp": now() - 600, "aud": "orders" })).unwrap();
    let refusal = auth.verifier().verify_or_wait(&expired, &SystemClock).await.unwrap_err();
    let explanation = handle.explain_refusal(&countersign::Refusal::Token(refusal)).to_string();
    assert!(!explanation.contains("the clock, not the token"), "{explanation}");
}
