//! The facade, whole: real tokens over real sockets through the layer into a handler.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::collections::HashSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use axum::{Extension, Router};
use countersign::KeyState;
use countersign::middleware::ExtractRejection;
use countersign::token::{Fetch, FetchError, FetchRequest, Fetched};
use countersign::{
    Algorithm, Caller, Claims, ConfigError, Judged, JwtAuth, KeySet, Observer, Policy, Refusal, RefusalLimit, Refused,
    RequireJwtLayer, TokenPlace, UnixTime, Verified, Verifier, VerifyingKey, scope,
};
use countersign_testkit::{Answer, IdentityProvider, ManualClock, TestKey, Token};
use serde::Deserialize;
use serde_json::Value;
use tower::{Layer, Service, ServiceExt as _};

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

fn app(auth: JwtAuth) -> Router {
    Router::new().route("/hello", get(hello)).layer(auth)
}

/// A good token of an issuer that exists in its name only.
fn token_of(key: &TestKey, issuer: &str) -> Token {
    Token::new(key).issuer(issuer).audience("api")
}

fn key() -> TestKey {
    TestKey::nth(Algorithm::Es256, 0)
}

/// A good token of the provider's, but for a key that it does not publish.
fn with_made_up_kid(provider: &IdentityProvider, kid: &str) -> String {
    provider.token("api").signed_by(&key().with_kid(kid)).sign()
}

/// One request straight into the router.
async fn call(app: &Router, token: Option<&str>) -> (StatusCode, http::HeaderMap) {
    let mut request = Request::get("/hello");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    (response.status(), response.headers().clone())
}

#[tokio::test]
async fn over_real_sockets_a_good_token_passes_and_a_bad_one_does_not() {
    let provider = IdentityProvider::start();
    let auth = JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()).audience("api");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hello", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app(auth)).await });

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let good = provider.token("api");
    let response = client.get(&url).bearer_auth(good.sign()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "Hello, ada!");

    let response = client.get(&url).send().await.unwrap();
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Bearer ") && !challenge.contains("error"), "{challenge}");

    let bearer = |token: String| reqwest::header::HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    let hostile = good.hostile().into_iter().filter(|hostile| !hostile.names_unknown_key);
    let hostile = hostile.filter_map(|hostile| Some((hostile.attack, hostile.authorization()?)));
    let unfit = [
        ("claims that do not fit", bearer(good.claim("sub", Value::Null).sign())),
        ("nonsense", bearer("nonsense".to_owned())),
    ];
    let mut sent = 0;
    for (name, value) in hostile.chain(unfit) {
        sent += 1;
        // What is no credentials at all is a bad request.
        let is_token68 = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
        let is_credentials = value.as_bytes()["Bearer ".len()..].iter().all(is_token68);
        let (status, error) = if is_credentials { (401, "invalid_token") } else { (400, "invalid_request") };
        let response = client.get(&url).header("authorization", value).send().await.unwrap();
        assert_eq!(response.status(), status, "{name}");
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.contains(&format!("error=\"{error}\"")), "{name}: {challenge}");
        assert_eq!(response.text().await.unwrap(), "", "{name}");
    }
    assert!(sent > 80, "{sent}");
    assert!(provider.fetches() <= 2, "at most the mismatch under a known name was a reason to look again");
}

#[tokio::test]
async fn an_unannounced_rotation_refuses_nobody() {
    let provider = IdentityProvider::start();
    let app = app(JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()).audience("api"));
    let old_token = provider.token("api").sign();
    assert_eq!(call(&app, Some(&old_token)).await.0, 200);

    provider.rotate();
    let new_token = provider.token("api").sign();
    let calls = (0..50).map(|_| {
        let (app, new_token, old_token) = (app.clone(), new_token.clone(), old_token.clone());
        tokio::spawn(async move { (call(&app, Some(&new_token)).await.0, call(&app, Some(&old_token)).await.0) })
    });
    for answers in calls.collect::<Vec<_>>() {
        assert_eq!(answers.await.unwrap(), (StatusCode::OK, StatusCode::OK));
    }
    assert_eq!(provider.fetches(), 2, "fifty requests shared one fetch");
}

#[tokio::test]
async fn a_made_up_kid_is_the_callers_fault_once_somebody_has_looked() {
    let provider = IdentityProvider::start();
    let app = app(JwtAuth::new(provider.jwks_url()));
    assert_eq!(call(&app, Some(&provider.token("api").sign())).await.0, 200);
    let (status, headers) = call(&app, Some(&with_made_up_kid(&provider, "made-up"))).await;
    assert_eq!(status, 401);
    assert!(headers["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    assert_eq!(provider.fetches(), 2);
}

#[tokio::test]
async fn clones_share_one_source_and_policies_stay_apart() {
    let provider = IdentityProvider::start();
    let auth = JwtAuth::new(provider.jwks_url()).issuer(provider.issuer());
    let (ours, theirs) = (app(auth.clone().audience("api")), app(auth.clone().audience("billing")));
    let token = provider.token("api").scope("read").sign();
    assert_eq!(call(&ours, Some(&token)).await.0, 200);
    assert_eq!(call(&theirs, Some(&token)).await.0, 401);
    assert_eq!(call(&app(auth.clone().require(scope("read"))), Some(&token)).await.0, 200);
    for both in
        [auth.clone().require(scope("read").and(scope("write"))), auth.require(scope("read")).require(scope("write"))]
    {
        let (status, headers) = call(&app(both), Some(&token)).await;
        assert_eq!(status, 403);
        assert!(headers["www-authenticate"].to_str().unwrap().contains(r#"scope="read write""#));
    }
    assert_eq!(provider.fetches(), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_is_our_fault_and_not_the_callers() {
    let provider = IdentityProvider::start();
    provider.stop();
    let auth = JwtAuth::new(provider.jwks_url());
    let handle = auth.handle();
    let app = app(auth);
    let token = provider.token("api").sign();

    let (status, headers) = call(&app, Some(&token)).await;
    assert_eq!(status, 503);
    assert!(headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 5);
    assert!(!headers.contains_key("www-authenticate"));
    assert!(!handle.is_ready());
    // What cannot become good, whatever the keys, is refused all the same.
    assert_eq!(call(&app, Some("nonsense")).await.0, 401);

    provider.resume();
    tokio::time::timeout(Duration::from_secs(4), handle.keys().ready()).await.expect("within four seconds").unwrap();
    assert_eq!(call(&app, Some(&token)).await.0, 200);
}

#[tokio::test]
async fn the_last_good_keys_serve_while_the_provider_fails() {
    let provider = IdentityProvider::start();
    let app = app(JwtAuth::new(provider.jwks_url()));
    let token = provider.token("api").sign();
    assert_eq!(call(&app, Some(&token)).await.0, 200);
    for failure in [
        Answer::status(500),
        Answer::body("<html>"),
        Answer::body("{\"keys\":[]}"),
        Answer::status(404),
        Answer::Redirect,
        Answer::Truncated,
        Answer::Reset,
        Answer::Endless(1 << 30),
    ] {
        provider.set_answer(failure.clone());
        let (status, _) = call(&app, Some(&with_made_up_kid(&provider, "k2"))).await;
        assert_eq!(status, 429, "{failure:?}: neither the caller's fault nor a 5xx while there are keys");
        assert_eq!(call(&app, Some(&token)).await.0, 200, "{failure:?}");
    }
    assert!(provider.requests().iter().all(|request| request.path == "/jwks.json"), "no redirect was followed");
}

#[test]
fn building_needs_no_runtime_and_the_first_request_starts_the_driver() {
    let provider = IdentityProvider::start();
    let app = app(JwtAuth::new(provider.jwks_url()).audience("api"));
    assert_eq!(provider.fetches(), 0);
    let token = provider.token("api").sign();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(call(&app, Some(&token))).0, 200);
    // The runtime of the driver ends; the keys stay, and the next runtime goes on.
    drop(runtime);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(call(&app, Some(&token))).0, 200);
    provider.rotate();
    assert_eq!(runtime.block_on(call(&app, Some(&provider.token("api").sign()))).0, 200);
}

#[test]
fn without_any_runtime_the_answer_is_503_and_no_panic() {
    let auth = JwtAuth::new("https://login.example/jwks.json").audience("api");
    let mut service = auth.layer(tower::service_fn(|_: Request<()>| async { Ok::<_, ()>(http::Response::new(())) }));
    let token = token_of(&key(), "https://login.example").sign();
    let request = Request::get("/").header("authorization", format!("Bearer {token}")).body(()).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    let Poll::Ready(response) = pin!(service.call(request)).poll(&mut context) else { panic!("it waits for nobody") };
    assert_eq!(response.unwrap().status(), 503);
    assert!(!auth.handle().is_ready());
}

#[tokio::test]
async fn static_keys_and_secrets_need_no_provider() {
    let secret = TestKey::nth(Algorithm::Hs256, 0);
    let keys = || KeySet::new([secret.verifying_key()]);
    let token = token_of(&secret, "me").sign();
    let allowed = JwtAuth::with_keys(keys()).algorithms(Algorithm::Hs256).issuer("me").audience("api");
    assert!(allowed.handle().is_ready());
    assert!(allowed.handle().warnings().is_empty());
    assert_eq!(call(&app(allowed), Some(&token)).await.0, 200);
    let verifier = JwtAuth::with_keys(keys()).algorithms(Algorithm::Hs256).verifier();
    let now = UnixTime::from(std::time::SystemTime::now());
    assert_eq!(verifier.verify(&token, now).unwrap().subject(), Some("ada"));
}

#[tokio::test]
async fn every_setting_reaches_the_layer() {
    let keys = || JwtAuth::with_keys(KeySet::new([key().verifying_key()]));
    let token = token_of(&key(), "me");
    let named = |auth: JwtAuth, token: String| async move { call(&app(auth), Some(&token)).await };

    let unnamed = token.clone().signed_by(&key().without_kid()).sign();
    assert_eq!(named(keys(), unnamed.clone()).await.0, 200);
    assert_eq!(named(keys().require_kid(), unnamed).await.0, 401);

    let (status, headers) = call(&app(keys().realm("orders")), None).await;
    assert_eq!((status.as_u16(), headers["www-authenticate"].to_str().unwrap()), (401, r#"Bearer realm="orders""#));

    let clock = ManualClock::stopped_now();
    let service = app(keys().clock(clock.clone()));
    assert_eq!(call(&service, Some(&token.sign())).await.0, 200);
    clock.advance(Duration::from_secs(3600 + 31));
    assert_eq!(call(&service, Some(&token.sign())).await.0, 401, "the clock that was given, and as it goes");

    assert_eq!(named(keys().max_token_bytes(100), token.sign()).await.0, 401);
    assert_eq!(
        named(keys().access_token_profile().issuer("me").audience("api"), token.clone().typ("JWT").sign()).await.0,
        401
    );
    assert_eq!(
        named(keys().policy(|policy| policy.max_age(Duration::from_secs(1))), token.clone().claim("iat", 1).sign())
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn a_source_setting_on_a_clone_makes_another_source() {
    let provider = IdentityProvider::start();
    let auth = JwtAuth::new(provider.jwks_url());
    assert_eq!(call(&app(auth.clone()), Some(&provider.token("api").sign())).await.0, 200);
    let other = auth.clone().max_lifetime(Duration::from_secs(600));
    assert_eq!(call(&app(other), Some(&provider.token("api").sign())).await.0, 200);
    assert_eq!(provider.fetches(), 2, "each its own");
    assert_eq!(call(&app(auth), Some(&provider.token("api").sign())).await.0, 200);
    assert_eq!(provider.fetches(), 2);
}

#[tokio::test]
async fn claims_are_read_eagerly_on_demand_and_shared() {
    #[derive(Deserialize)]
    struct Strict {
        tenant: String,
    }
    let keys = || KeySet::new([key().verifying_key()]);
    let handler = |Extension(token): Extension<Verified>| async move {
        let (one, two) = (token.claims::<Strict>(), token.claims::<Strict>());
        format!("{}", one.is_ok_and(|one| Arc::ptr_eq(&one, &two.unwrap()) && one.tenant == "t1"))
    };
    let app = |auth: JwtAuth| Router::new().route("/hello", get(handler)).layer(auth);
    let fits = token_of(&key(), "me").claim("tenant", "t1").sign();
    let does_not = token_of(&key(), "me").sign();
    let (lazy, eager) = (app(JwtAuth::with_keys(keys())), app(JwtAuth::with_keys(keys()).with_claims::<Strict>()));
    assert_eq!(call(&lazy, Some(&fits)).await.0, 200);
    assert_eq!(call(&eager, Some(&fits)).await.0, 200);
    assert_eq!(call(&lazy, Some(&does_not)).await.0, 200);
    assert_eq!(call(&eager, Some(&does_not)).await.0, 401);
}

#[test]
fn contradictory_settings_are_found_before_any_request() {
    let url = "https://login.example/jwks.json";
    let keys = || KeySet::new([VerifyingKey::from_secret(&[7; 32], Algorithm::Hs256).unwrap()]);
    let contradictory = [
        (JwtAuth::new(url).algorithms(Algorithm::Hs256), "HMAC"),
        (JwtAuth::new(url).leeway(Duration::from_secs(301)), "leeway"),
        (JwtAuth::new(url).deny_unbound(), "issuer"),
        (JwtAuth::new(url).issuer("x").deny_unbound(), "audience"),
        (JwtAuth::new(url).issuer(""), "empty issuer"),
        (JwtAuth::new(url).max_token_bytes(0), "empty token"),
        (JwtAuth::new(url).access_token_profile(), "RFC 9068"),
        (JwtAuth::new(url).algorithms(countersign::AlgorithmSet::EMPTY), "no algorithm"),
        (JwtAuth::new("http://login.example/jwks.json"), "http"),
        (JwtAuth::with_keys(keys()), "HMAC secrets need"),
        (JwtAuth::with_keys(KeySet::default()), "none of the configured keys"),
        (JwtAuth::with_keys(keys()).algorithms(Algorithm::Hs256).dangerous_allow_http(), "dangerous_allow_http()"),
        (JwtAuth::with_keys(keys()).algorithms(Algorithm::Hs256).max_stale(Duration::ZERO), "max_stale()"),
    ];
    for (auth, text) in contradictory {
        let error = auth.check().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| auth.layer(()))).map(drop).unwrap_err();
        let message = panicked.downcast_ref::<String>().unwrap();
        assert!(message.contains(&error.to_string()), "{message}");
    }
    for fine in [
        JwtAuth::new(url),
        JwtAuth::new(url).issuer("x").audience("y").deny_unbound().access_token_profile(),
        JwtAuth::new("http://127.0.0.1:8080/jwks.json"),
        JwtAuth::new("http://localhost/jwks.json"),
        JwtAuth::new("http://login.example/jwks.json").dangerous_allow_http(),
    ] {
        assert_eq!(fine.check(), Ok::<(), ConfigError>(()));
    }
}

#[test]
fn what_is_no_url_is_refused_at_once() {
    for url in ["", "login.example", "/jwks.json", "ftp://login.example/", "file:///etc/passwd", "https://"] {
        assert!(JwtAuth::try_new(url).is_err(), "{url}");
    }
    for (url, text) in [("login.example", "not an absolute URL"), ("https://ada:hunter2@login.example/", "password")] {
        let panicked = std::panic::catch_unwind(|| JwtAuth::new(url)).map(drop).unwrap_err();
        let message = panicked.downcast_ref::<String>().unwrap();
        assert!(message.contains(text) && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn the_bare_one_liner_says_in_its_handle_what_it_lets_through() {
    let warnings =
        |auth: JwtAuth| auth.handle().warnings().iter().map(|warning| format!("{warning:?}")).collect::<HashSet<_>>();
    let url = "https://login.example/jwks.json";
    assert_eq!(warnings(JwtAuth::new(url)).len(), 2);
    assert_eq!(warnings(JwtAuth::new(url).issuer("x")), HashSet::from(["AnyAudience".to_owned()]));
    assert!(warnings(JwtAuth::new(url).issuer("x").audience("y")).is_empty());
}

#[test]
fn the_bare_one_liner_says_once_at_warn_level_what_it_lets_through() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let auth = JwtAuth::new("https://login.example/jwks.json");
        // axum calls `layer` once per route, each time on another clone.
        for _ in 0..3 {
            let _ = auth.clone().layer(());
        }
        let _ = JwtAuth::new("https://login.example/jwks.json").issuer("x").audience("y").layer(());
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.contains("WARN")), "{text}");
    assert!(text.contains("no audience is set") && text.contains("no issuer is set"), "{text}");
}

#[test]
fn debug_shows_no_secret() {
    let secret = VerifyingKey::from_secret(b"correct horse battery staple 1234", Algorithm::Hs256).unwrap();
    let auth = JwtAuth::with_keys(KeySet::new([secret])).algorithms(Algorithm::Hs256);
    let shown = format!("{auth:?} {:?} {:?}", auth.handle(), auth.verifier());
    assert!(!shown.contains("horse"), "{shown}");
}

#[tokio::test]
async fn cve_2026_48524_made_up_kids_do_not_flood_the_provider() {
    let provider = IdentityProvider::start();
    let app = app(JwtAuth::new(provider.jwks_url()));
    let good = provider.token("api").sign();
    assert_eq!(call(&app, Some(&good)).await.0, 200);

    let start = std::time::Instant::now();
    // A name of its own for each, and a signature that would fit.
    let flood = (0..640).map(|n| {
        let (app, token) = (app.clone(), with_made_up_kid(&provider, &format!("made-up-{n}")));
        tokio::spawn(async move { call(&app, Some(&token)).await.0.as_u16() })
    });
    let flood: Vec<_> = flood.collect();
    for _ in 0..100 {
        assert_eq!(call(&app, Some(&good)).await.0, 200);
    }
    for answer in flood {
        let status = answer.await.unwrap();
        assert!(matches!(status, 401 | 429), "{status}");
    }
    // The first fetch, and forced ones that are at least a second apart, however slow the machine.
    let bound = 2 + usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!(provider.fetches() <= bound, "{} fetches for 640 made-up names", provider.fetches());
}

#[tokio::test]
async fn cve_2025_59936_keys_of_one_issuer_do_not_answer_for_another() {
    let (ours, theirs) = (IdentityProvider::start(), IdentityProvider::start());
    for provider in [&ours, &theirs] {
        let same_name = provider.key().with_kid("same-name");
        provider.publish([same_name.clone()]);
        provider.sign_with(&same_name);
    }
    let protect = |provider: &IdentityProvider| app(JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()));
    let (our_app, their_app) = (protect(&ours), protect(&theirs));
    for _ in 0..2 {
        assert_eq!(call(&our_app, Some(&ours.token("api").sign())).await.0, 200);
        assert_eq!(call(&their_app, Some(&theirs.token("api").sign())).await.0, 200);
        assert_eq!(call(&our_app, Some(&ours.token("api").signed_by(&theirs.key()).sign())).await.0, 401);
        assert_eq!(call(&their_app, Some(&theirs.token("api").signed_by(&ours.key()).sign())).await.0, 401);
    }
}

#[tokio::test]
async fn cve_2024_45809_and_cve_2025_64527_fetching_and_odd_requests_at_once_crash_nothing() {
    let provider = IdentityProvider::start();
    let app = app(JwtAuth::new(provider.jwks_url()));
    let good = provider.token("api").sign();
    assert_eq!(call(&app, Some(&good)).await.0, 200);
    let requests = (0..200).map(|n| {
        let mut request = Request::get("/hello").header("authorization", format!("Bearer {good}"));
        if n % 2 == 0 {
            request = request.header("authorization", "Bearer second");
        }
        if n % 3 == 0 {
            provider.set_answer(Answer::status(500));
        }
        let (app, unknown) = (app.clone(), with_made_up_kid(&provider, "k2"));
        tokio::spawn(async move {
            let odd = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status();
            (n, odd.as_u16(), call(&app, Some(&unknown)).await.0.as_u16())
        })
    });
    for answers in requests.collect::<Vec<_>>() {
        let (n, odd, unknown) = answers.await.unwrap();
        assert_eq!(odd, if n % 2 == 0 { 400 } else { 200 });
        assert!(matches!(unknown, 401 | 429), "{unknown}");
    }
    assert_eq!(call(&app, Some(&good)).await.0, 200);
}

/// A fetcher that does what a test says, without a socket, so that the clock can be a paused one.
struct Scripted {
    keys: Option<String>,
    /// Falls when the source and its task are gone.
    alive: Arc<()>,
}

impl Fetch for Scripted {
    fn fetch(&self, _: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        let _ = &self.alive;
        Box::pin(async move {
            let Some(keys) = &self.keys else { return std::future::pending().await };
            let mut fetched = Fetched::default();
            fetched.status = 200;
            fetched.body = keys.clone().into_bytes();
            Ok(fetched)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_provider_hangs_requests_wait_two_seconds_and_then_get_503() {
    let auth = JwtAuth::new("https://login.example/jwks.json").fetch(Scripted { keys: None, alive: Arc::default() });
    let app = app(auth);
    let token = token_of(&key(), "me").sign();
    let start = tokio::time::Instant::now();
    let (status, headers) = call(&app, Some(&token)).await;
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"));
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_driver_stops_with_the_last_clone_service_and_handle() {
    let keys = serde_json::json!({ "keys": [key().public_jwk()] }).to_string();
    let alive = Arc::new(());
    let auth =
        JwtAuth::new("https://login.example/jwks.json").fetch(Scripted { keys: Some(keys), alive: Arc::clone(&alive) });
    let clone = auth.clone().audience("api");
    let service = app(clone.clone());
    let handle = auth.handle();
    assert_eq!(call(&service, Some(&token_of(&key(), "me").sign())).await.0, 200);
    drop((auth, clone));
    assert_eq!(Arc::strong_count(&alive), 2, "the service and the handle go on");
    handle.keys().refresh().await.unwrap();
    assert_eq!(handle.keys().status().fetches_started, 2);
    drop(service);
    assert!(handle.is_ready());
    drop(handle);
    // The task notices at its next step.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test]
async fn the_handle_shows_the_state_of_the_keys_and_refreshes_on_demand() {
    let provider = IdentityProvider::start();
    let handle = JwtAuth::new(provider.jwks_url()).handle();
    handle.keys().ready().await.unwrap();
    let status = handle.keys().status();
    assert_eq!((status.state, status.keys, status.skipped_total), (KeyState::Ready, 1, 0));
    provider.announce();
    handle.keys().refresh().await.unwrap();
    let refreshed = handle.keys().status();
    assert_eq!(refreshed.keys, 2);
    assert!(refreshed.generation > status.generation && refreshed.last_error.is_none());
    provider.set_answer(Answer::body("<html>"));
    let error = handle.keys().refresh().await.unwrap_err();
    assert!(error.to_string().contains("keys"), "{error}");
    assert_eq!(handle.keys().status().keys, 2);
    assert!(handle.keys().status().last_error.is_some());
}

#[tokio::test]
async fn a_key_replaced_under_its_name_is_noticed_by_the_signatures_that_fail() {
    let provider = IdentityProvider::start();
    let old = provider.key();
    let auth = JwtAuth::new(provider.jwks_url());
    let handle = auth.handle();
    let app = app(auth);
    assert_eq!(call(&app, Some(&provider.token("api").sign())).await.0, 200);
    let new = provider.replace_keys().with_kid(old.kid().unwrap());
    provider.publish([new.clone()]);
    let token = provider.token("api").signed_by(&new).sign();
    assert_eq!(call(&app, Some(&token)).await.0, 401, "refused at once, and never made to wait");
    // The refusal has asked for a look; this one is shared with it, or follows it.
    handle.keys().refresh().await.unwrap();
    assert_eq!(call(&app, Some(&token)).await.0, 200);
    assert_eq!(call(&app, Some(&provider.token("api").signed_by(&old).sign())).await.0, 401);
}

#[tokio::test]
async fn keys_that_have_not_changed_are_not_sent_again() {
    let provider = IdentityProvider::start();
    provider.send_etags();
    provider.set_header("cache-control", "max-age=1200");
    let handle = JwtAuth::new(provider.jwks_url()).handle();
    handle.keys().ready().await.unwrap();
    assert_eq!(handle.keys().status().lifetime, Some(Duration::from_secs(1200)));
    handle.keys().refresh().await.unwrap();
    let asked = provider.requests();
    assert_eq!(asked[0].headers.get("if-none-match"), None);
    let etag = &asked[1].headers["if-none-match"];
    let status = handle.keys().status();
    assert_eq!((status.generation, status.fetches_failed), (Some(1), 0), "304 is a success");
    assert!(status.clock_offset.unwrap().abs() <= 1, "the same machine");

    // What a refused answer says about itself is not what the next request is made conditional on.
    provider.answer_once(Answer::body("{\"keys\":[]}").with_header("etag", "\"empty\""));
    handle.keys().refresh().await.unwrap_err();
    handle.keys().refresh().await.unwrap();
    assert_eq!(provider.requests().last().unwrap().headers["if-none-match"], etag);
}

#[tokio::test]
async fn a_cache_that_lags_behind_brings_no_withdrawn_key_back() {
    let provider = IdentityProvider::start();
    let old = provider.key();
    let auth = JwtAuth::new(provider.jwks_url());
    let handle = auth.handle();
    let app = app(auth);
    let new = provider.replace_keys();
    assert_eq!(call(&app, Some(&provider.token("api").sign())).await.0, 200);
    let cached = serde_json::json!({ "keys": [old.public_jwk()] }).to_string();
    provider.set_answer(Answer::body(cached).with_header("age", "600"));
    let error = handle.keys().refresh().await.unwrap_err();
    assert!(error.to_string().contains("older"), "{error}");
    assert_eq!(call(&app, Some(&provider.token("api").signed_by(&new).sign())).await.0, 200);
    assert_ne!(call(&app, Some(&provider.token("api").signed_by(&old).sign())).await.0, 200);
}

#[tokio::test]
async fn a_withdrawn_key_verifies_nothing_once_the_keys_have_been_looked_at_again() {
    let provider = IdentityProvider::start();
    let auth = JwtAuth::new(provider.jwks_url());
    let handle = auth.handle();
    let app = app(auth);
    let old_token = provider.token("api").sign();
    assert_eq!(call(&app, Some(&old_token)).await.0, 200);
    provider.replace_keys();
    assert_eq!(call(&app, Some(&provider.token("api").sign())).await.0, 200, "an emergency rotation refuses nobody");
    handle.keys().ready().await.unwrap();
    assert_eq!(handle.keys().status().keys, 1);
    let status = call(&app, Some(&old_token)).await.0.as_u16();
    assert!(matches!(status, 401 | 429), "{status}: looked for, and not found");
}

#[tokio::test]
async fn after_an_emergency_rotation_the_old_key_is_401_at_once_and_an_unknown_one_is_waited_for() {
    // One poll, in which no other task runs.
    let at_once =
        |app: &Router, token: &str| match pin!(call(app, Some(token))).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((status, _)) => Some(status.as_u16()),
            Poll::Pending => None,
        };
    let provider = IdentityProvider::start();
    let app = app(JwtAuth::new(provider.jwks_url()));
    let old = provider.token("api").sign();
    assert_eq!(call(&app, Some(&old)).await.0, 200);
    provider.replace_keys();
    let new = provider.token("api").sign();
    assert_eq!(at_once(&app, &new), None);
    assert_eq!(call(&app, Some(&new)).await.0, 200);
    assert_eq!(at_once(&app, &old), Some(401));
    provider.rotate();
    let newer = provider.token("api").sign();
    assert_eq!(at_once(&app, &newer), None);
    assert_eq!(call(&app, Some(&newer)).await.0, 200);
    assert_eq!([&old, &new, &newer].map(|token| at_once(&app, token)), [Some(401), Some(200), Some(200)]);
}

/// What a client sees of an answer, and what the handler has seen of the request.
type Told = (u16, Vec<String>, String);

async fn told<S>(service: S, request: Request<Body>) -> Told
where
    S: Service<Request<Body>, Response = axum::response::Response, Error = std::convert::Infallible>,
{
    let response = service.oneshot(request).await.unwrap();
    let headers = response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let (status, mut headers) = (response.status().as_u16(), headers.collect::<Vec<_>>());
    headers.sort();
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

/// Says what it gets: of the caller, of the headers, of the URI.
fn mirror() -> Router {
    let mirror = async |caller: Result<Caller, ExtractRejection>, request: Request<Body>| {
        let caller = match caller {
            Ok(Caller::Authenticated(verified)) => format!("{:?}", verified.subject()),
            Ok(caller) => format!("{caller:?}"),
            Err(rejection) => format!("{:?}", rejection.error()),
        };
        let names: std::collections::BTreeMap<_, _> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        format!("{caller} {} {names:?}", request.uri())
    };
    Router::new().fallback(mirror)
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Observer for Seen {
    fn judged(&self, judged: &Judged<'_>) {
        self.0.lock().unwrap().push(format!("{} {:?}", judged.outcome().name(), judged.reason()));
    }
}

/// Whom it limits, it tells to come again in seven seconds.
struct Limit;

impl RefusalLimit for Limit {
    fn retry_after(&self, refused: &Refused<'_>) -> Option<Duration> {
        refused.headers().contains_key("x-again").then_some(Duration::from_secs(7))
    }
}

/// Requests between which each setting makes a difference.
fn requests(token: &str, other: &str) -> Vec<Request<Body>> {
    let get = |uri: &str, headers: &[(&str, &str)]| {
        let mut builder = Request::get(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).unwrap()
    };
    let bearer = format!("Bearer {token}");
    let mut preflight = get("/a", &[("origin", "https://a.example"), ("access-control-request-method", "PUT")]);
    *preflight.method_mut() = http::Method::OPTIONS;
    let mut grpc = get("/a", &[("content-type", "application/grpc")]);
    *grpc.method_mut() = http::Method::POST;
    vec![
        get("/a", &[("authorization", &bearer), ("x-user", "admin")]),
        get("/a", &[("authorization", &format!("Bearer {other}"))]),
        get("/a", &[("authorization", "Bearer a.b.c")]),
        get("/a", &[]),
        get("/a", &[("x-again", "1")]),
        get("/healthz", &[]),
        get("/a", &[("cookie", &format!("a=b; __Host-session={token}"))]),
        preflight,
        grpc,
    ]
}

#[tokio::test]
async fn every_setting_of_the_layer_is_the_facades_too_and_does_the_same() {
    type Auth = Box<dyn Fn(JwtAuth) -> JwtAuth>;
    type Bare = Box<dyn Fn(RequireJwtLayer<KeySet>) -> RequireJwtLayer<KeySet>>;
    /// The same calls, on either.
    macro_rules! settings {
        ($($name:literal: $($setting:ident($($argument:expr),*)).+;)+) => {
            vec![$((
                $name,
                Box::new(|auth: JwtAuth| auth$(.$setting($($argument),*))+) as Auth,
                Box::new(|layer: RequireJwtLayer<KeySet>| layer$(.$setting($($argument),*))+) as Bare,
            )),+]
        };
    }
    const NOW: i64 = 1_800_000_000;
    let seen = || SEEN.with(Clone::clone);
    thread_local! {
        static SEEN: Seen = Seen::default();
    }
    let settings: Vec<(&str, Auth, Bare)> = settings! {
        "realm": realm("ours");
        "require": require(scope("orders:write"));
        "require twice": require(scope("orders:write")).require(scope("x"));
        "token_from": token_from([TokenPlace::bearer(), TokenPlace::cookie("__Host-session")]);
        "strip_token": strip_token();
        "forward": forward("sub", "x-user");
        "optional": optional();
        "dangerous": dangerous_treat_invalid_as_anonymous();
        "preflight": allow_cors_preflight();
        "exempt": exempt("/healthz");
        "shadow": shadow();
        "limit_refusals": limit_refusals(Limit);
        "resource_metadata": resource_metadata("https://a.example/m");
        "plain_http_refusals": plain_http_refusals();
        "clock": clock(|| UnixTime::from_secs(NOW + 1_000_000));
    };
    let key = key();
    let keys = || KeySet::new([key.verifying_key()]);
    let token = |scope: &str| {
        let claims = serde_json::json!({ "aud": "api", "sub": "ada", "exp": NOW + 600, "scope": scope });
        key.signing_key().sign(&claims).unwrap()
    };
    let (good, other) = (token("orders:write"), token("orders:read"));
    let plain_auth = || JwtAuth::with_keys(keys()).audience("api").clock(|| UnixTime::from_secs(NOW)).observe(seen());
    let plain_layer = || {
        let verifier = Verifier::new(keys(), Policy::new().audience("api"));
        RequireJwtLayer::new(verifier).clock(|| UnixTime::from_secs(NOW)).observe(seen())
    };
    let heard = || std::mem::take(&mut *seen().0.lock().unwrap());
    let mut plain = Vec::new();
    for request in requests(&good, &other) {
        plain.push(told(plain_auth().layer(mirror()), request).await);
    }
    assert_eq!(heard().len(), plain.len());
    for (name, of_auth, of_layer) in &settings {
        let (auth, layer) = (of_auth(plain_auth()), of_layer(plain_layer()));
        assert_eq!(auth.check(), layer.check(), "{name}");
        let mut makes_a_difference = false;
        for (index, (one, two)) in requests(&good, &other).into_iter().zip(requests(&good, &other)).enumerate() {
            let by_auth = told(auth.layer(mirror()), one).await;
            let heard_by_auth = heard();
            let by_layer = told(layer.layer(mirror()), two).await;
            assert_eq!((&by_auth, heard_by_auth), (&by_layer, heard()), "{name}, request {index}");
            makes_a_difference |= by_auth != plain[index];
        }
        assert!(makes_a_difference, "{name} is not seen in any of these requests");
    }
    // Those that make two layers of one.
    for (index, (status, ..)) in plain.iter().enumerate() {
        let nth = || requests(&good, &other).remove(index);
        let answer = |_: &Refusal, response: http::Response<()>| response.map(|()| Body::from("ours"));
        let by_auth = told(plain_auth().on_refusal(answer).layer(mirror()), nth()).await;
        assert_eq!(by_auth, told(plain_layer().on_refusal(answer).layer(mirror()), nth()).await);
        assert_eq!(by_auth.2 == "ours", *status >= 400, "{by_auth:?}");
    }
}

#[tokio::test]
async fn clones_are_set_further_without_a_word_to_each_other() {
    let key = key();
    let auth = JwtAuth::with_keys(KeySet::new([key.verifying_key()])).audience("api");
    let service = |auth: &JwtAuth| auth.layer(mirror());
    let bare = || Request::get("/healthz").body(Body::empty()).unwrap();
    let before = told(service(&auth), bare()).await;
    assert_eq!(before.0, 401);
    // Built already, and set further all the same.
    let (optional, exempt) = (auth.clone().optional(), auth.clone().exempt("/healthz"));
    let shadow = optional.clone().shadow();
    let seen = Seen::default();
    let observed = auth.clone().observe(seen.clone());
    assert!(told(service(&optional), bare()).await.2.starts_with("Anonymous"));
    assert!(told(service(&exempt), bare()).await.2.starts_with("Anonymous"));
    assert!(told(service(&shadow), bare()).await.2.starts_with("Shadow"));
    assert_eq!(told(service(&auth), bare()).await, before);
    assert_eq!(seen.0.lock().unwrap().len(), 0);
    assert_eq!(told(service(&observed), bare()).await, before);
    // An observer, and so its count, is shared by the clones of what it was set on.
    assert_eq!(told(service(&observed.clone().realm("x")), bare()).await.0, 401);
    assert_eq!(seen.0.lock().unwrap().len(), 2);
    let other = Request::get("/a").body(Body::empty()).unwrap();
    assert_eq!(told(service(&exempt), other).await.0, 401);
}

#[tokio::test]
async fn a_shadow_makes_its_source_look_and_keeps_nobody_waiting() {
    let provider = IdentityProvider::start();
    let seen = Seen::default();
    let auth = JwtAuth::new(provider.jwks_url()).audience("api").observe(seen.clone()).shadow();
    let handle = auth.handle();
    handle.keys().ready().await.unwrap();
    provider.rotate();
    let token = provider.token("api").sign();
    let asked = || Request::get("/").header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
    let (status, _, body) = told(auth.layer(mirror()), asked()).await;
    assert!(status == 200 && body.starts_with("Shadow"), "{body}");
    assert_eq!(std::mem::take(&mut *seen.0.lock().unwrap()), ["shadow_undecided None"]);
    // The look that the request has caused, and nobody has waited for.
    let until_it_is_there = async {
        while provider.fetches() < 2 || handle.keys().status().generation < Some(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), until_it_is_there).await.unwrap();
    assert_eq!(told(auth.layer(mirror()), asked()).await.0, 200);
    assert_eq!(*seen.0.lock().unwrap(), ["shadow_admitted None"]);
}

/// HTTP/2 sends a cookie in pieces, and header names in lower case only.
#[tokio::test]
async fn over_http_2_a_cookie_in_pieces_is_found_and_what_is_spoofed_is_removed() {
    let key = key();
    let auth = JwtAuth::with_keys(KeySet::new([key.verifying_key()])).audience("api");
    let auth = auth.token_from([TokenPlace::cookie("__Host-session")]).strip_token().forward("sub", "x-user");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, mirror().layer(auth)).await });
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let token = token_of(&key, "https://issuer.example").sign();
    let cookie = format!("__Host-session={token}");
    let get = || client.get(&url).header("cookie", "a=b").header("cookie", &cookie).header("cookie", "c=d");
    let response = get().header("x_user", "admin").header("x-user", "admin").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    let text = response.text().await.unwrap();
    assert!(text.contains(r#""x-user": "ada""#) && !text.contains("admin") && !text.contains(&token), "{text}");
    let twice = get().header("cookie", &cookie).send().await.unwrap();
    assert_eq!(twice.status(), 400);
}
