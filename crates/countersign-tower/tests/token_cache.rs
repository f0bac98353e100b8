//! What the cache of verified tokens keeps alive, and what two layers over one verifier have of each other.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

mod common;

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use common::{AUDIENCE, Heard, Issuer, now, request};
use countersign_claims::revocation::{Changed, Judged as JudgedToken, RevocationCheck, Revocations, Verdict};
use countersign_claims::{Policy, UnixTime, Verified};
use countersign_token::KeySet;
use countersign_tower::{Judged, Observer, RequireJwtLayer};
use countersign_verifier::Verifier;
use http::{Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

fn verifier(issuer: &Issuer) -> Arc<Verifier<KeySet>> {
    Arc::new(Verifier::new(issuer.keys(), Policy::new().audience(AUDIENCE)))
}

async fn pass(layer: &RequireJwtLayer<KeySet>, token: &str) -> Option<Verified> {
    let inner = service_fn(|mut request: Request<()>| async move {
        Ok::<_, Infallible>(Response::new(request.extensions_mut().remove::<Verified>()))
    });
    let response = layer.layer(inner).oneshot(request(token)).await.unwrap();
    let verified: Option<Verified> = response.into_body();
    verified
}

/// One that says how the cache does, as a metrics observer of the user's own would.
struct Watching(Arc<Verifier<KeySet>>);

impl Observer for Watching {
    fn judged(&self, _: &Judged<'_>) {
        let _ = self.0.token_cache_status();
    }
}

#[tokio::test]
async fn an_observer_that_holds_the_verifier_goes_with_its_layer() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    let layer = RequireJwtLayer::new(Arc::clone(&verifier)).clock(now).observe(Watching(Arc::clone(&verifier)));
    let gone: Weak<_> = Arc::downgrade(&verifier);
    drop(verifier);
    for _ in 0..3 {
        assert!(pass(&layer, &issuer.token("")).await.is_some());
        let token = issuer.token("");
        for _ in 0..3 {
            assert!(pass(&layer, &token).await.is_some());
        }
    }
    drop(layer);
    assert!(gone.upgrade().is_none(), "the verifier, its keys and its cache are kept by its own cache");
}

/// One that fresh tokens are asked of by the verifier itself.
struct Asking(#[expect(dead_code, reason = "held is enough")] Arc<Verifier<KeySet>>);

impl Revocations for Asking {
    fn check(&self, _: &JudgedToken<'_>) -> Verdict {
        Verdict::Fresh
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn changed(&self) -> Changed {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_check_for_revocation_that_holds_the_verifier_goes_with_its_layer() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    let check = RevocationCheck::by(Asking(Arc::clone(&verifier)));
    let layer = RequireJwtLayer::new(Arc::clone(&verifier)).clock(now).revocation(check);
    let gone = Arc::downgrade(&verifier);
    drop(verifier);
    let token = issuer.token("");
    for _ in 0..3 {
        assert!(pass(&layer, &token).await.is_some());
    }
    drop(layer);
    assert!(gone.upgrade().is_none(), "the verifier, its keys and its cache are kept by its own cache");
}

#[tokio::test]
async fn a_layer_that_is_gone_is_not_kept_by_tokens_that_it_has_seen() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    let heard = Arc::new(Heard::default());
    let layer = RequireJwtLayer::new(Arc::clone(&verifier)).clock(now).observe(Shared(Arc::clone(&heard)));
    let token = issuer.token("");
    for _ in 0..3 {
        assert!(pass(&layer, &token).await.is_some());
    }
    drop(layer);
    assert_eq!(Arc::strong_count(&heard), 1);
}

struct Shared(Arc<Heard>);

impl Observer for Shared {
    fn judged(&self, judged: &Judged<'_>) {
        self.0.judged(judged);
    }
}

#[tokio::test]
async fn a_token_that_two_layers_know_has_of_each_what_is_its_own() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    let asked = RequireJwtLayer::new(Arc::clone(&verifier))
        .clock(now)
        .revocation(RevocationCheck::by(Asking(Arc::new(Verifier::new(issuer.keys(), Policy::new())))));
    let named = RequireJwtLayer::new(Arc::clone(&verifier)).clock(now).realm("named");
    let plain = RequireJwtLayer::new(verifier).plain_http_refusals();
    let token = issuer.sign(&serde_json::json!({ "aud": AUDIENCE, "exp": 4_000_000_000_u64 }));
    for _ in 0..4 {
        let [by_asked, by_named, by_plain] =
            [pass(&asked, &token).await, pass(&named, &token).await, pass(&plain, &token).await].map(Option::unwrap);
        assert_eq!((by_asked.revocation().is_some(), by_asked.context().is_some()), (true, true));
        assert_eq!((by_named.revocation().is_some(), by_named.context().is_some()), (false, true));
        assert_eq!((by_plain.revocation().is_some(), by_plain.context().is_some()), (false, true));
        let [a, b, c] = [&by_asked, &by_named, &by_plain].map(|verified| Arc::as_ptr(verified.context().unwrap()));
        assert!(!std::ptr::addr_eq(a, b) && !std::ptr::addr_eq(b, c) && !std::ptr::addr_eq(a, c));
    }
}
