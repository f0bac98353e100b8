#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::{Body, to_bytes};
use countersign::{Algorithm, SigningKey, UnixTime};
use countersign_issuer::{Kek, KekRing, MemoryStore, Ring, RingConfig, Slot};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

#[tokio::test]
async fn what_is_long_is_read_and_weighed_where_there_is_a_turn_for_it_and_what_is_short_needs_none() {
    const ISSUER: &str = "https://issuer.example";
    const NOW: i64 = 1_800_000_000;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
    let ring = Ring::builder(ISSUER, config, Arc::new(MemoryStore::new()), keks).start().await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    let jwks = json!({ "keys": [key.public_jwk().unwrap()] });
    let grant = |name: &str| {
        format!(
            "[clients.web.grants.{name}]\nprofiles = [\"access\"]\nsubjects = {{ self = true }}\n\
             audiences = {{ exact = [\"orders\"] }}\n"
        )
    };
    let policy = format!(
        "version = 1\n[profiles.access]\nslots = [\"es256\"]\nlifetime = 300\n[clients.web]\njwks = '{jwks}'\n{}{}",
        grant("a"),
        grant("b")
    );
    let policy = policy::Policy::parse(&policy, ring.config()).unwrap();
    // Of a service that has been there for longer than the leeway.
    let clock = Arc::new(AtomicI64::new(NOW - 7));
    let now = Arc::clone(&clock);
    let builder = TokenService::builder(ring, policy);
    let service = builder.clock(move || UnixTime::from_secs(now.load(Ordering::SeqCst))).build().unwrap();
    clock.store(NOW, Ordering::SeqCst);
    let serial = AtomicI64::new(0);
    let ask = async |path: &str, length: usize| {
        let jti = serial.fetch_add(1, Ordering::SeqCst).to_string();
        let claims = json!({ "iss": "web", "sub": "web", "aud": ISSUER, "iat": NOW, "exp": NOW + 60, "jti": jti });
        let token = key.sign_as("client-authentication+jwt", &claims).unwrap();
        let asked = json!({ "profile": "access", "aud": "orders" });
        let body = if path.ends_with("batch") { json!({ "requests": [asked] }) } else { asked };
        let body = format!("{body:length$}", body = body.to_string());
        let request = Request::post(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        let response = service.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let told: Value = serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap();
        (status, told["error"].as_str().map(str::to_owned))
    };
    let cores = u32::try_from(service.0.signing.available_permits()).unwrap();
    let turns = Arc::clone(&service.0.signing).acquire_many_owned(cores).await.unwrap();
    tokio::time::pause();
    let busy = (503, Some("temporarily_unavailable".to_owned()));
    // Two grants: twice the work.
    for path in ["/v1/tokens", "/v1/tokens:batch"] {
        assert_eq!(ask(path, SHORT / 2).await, (200, None), "{path}");
        assert_eq!(ask(path, SHORT / 2 + 1).await, busy, "{path}");
    }
    drop(turns);
    for path in ["/v1/tokens", "/v1/tokens:batch"] {
        assert_eq!(ask(path, SHORT / 2 + 1).await, (200, None), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_long_to_have_something_signed_is_told_to_come_again() {
    let turns = Arc::new(Semaphore::new(1));
    let wait = async |for_turn: Duration| {
        let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(for_turn).await;
            drop(turn);
        });
        elsewhere(&turns, || 7).await
    };
    let moment = Duration::from_millis(1);
    assert_eq!(wait(MAX_WAIT - moment).await.unwrap(), 7);
    let problem = wait(MAX_WAIT + moment).await.unwrap_err();
    assert_eq!((problem.status().as_u16(), problem.code()), (503, "temporarily_unavailable"));
}
