//! What a recorder is told of layers and keys, by a clock of the test's own: `examples/tests/it/prometheus.rs` has the same over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::middleware::metrics::MAX_ISSUER_LABELS;
use countersign::token::{Fetch, FetchError, FetchRequest, Fetched};
use countersign::{Algorithm, Issuers, JwtAuth, KeySet, MAX_SOURCE_LABELS, Metrics, Remote, scope};
use countersign_testkit::{TestKey, Token};
use http::{Request, Response};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};

const ISSUER: &str = "https://issuer.example";

fn key() -> TestKey {
    TestKey::nth(Algorithm::Es256, 0)
}

fn auth() -> JwtAuth {
    JwtAuth::with_keys(KeySet::new([key().verifying_key()])).issuer(ISSUER).audience("orders")
}

fn good() -> Token {
    Token::new(&key()).issuer(ISSUER).audience("orders").scope("orders:read")
}

fn request(token: &Token) -> Request<()> {
    Request::builder().header("authorization", format!("Bearer {}", token.sign())).body(()).unwrap()
}

/// The status that the layer answers to a request.
async fn status<L>(layer: &L, request: Request<()>) -> u16
where
    L: Layer<Inner>,
    L::Service: tower::Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    layer.layer(inner()).oneshot(request).await.unwrap().status().as_u16()
}

type Inner = tower::util::ServiceFn<fn(Request<()>) -> std::future::Ready<Result<Response<()>, Infallible>>>;

fn inner() -> Inner {
    service_fn(|_| std::future::ready(Ok(Response::new(()))))
}

/// A recorder, and what it has been told.
struct Told(PrometheusRecorder);

impl Told {
    fn new() -> Self {
        Self(PrometheusBuilder::new().build_recorder())
    }

    fn flush(&self, metrics: &Metrics) {
        metrics::with_local_recorder(&self.0, || metrics.flush());
    }

    /// The sum of the series of that name that have all these texts in their labels; `None` if there is none.
    fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.0.handle().render();
        let series = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let values = series.filter(|line| labels.iter().all(|label| line.contains(label)));
        values.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).reduce(|sum, value| sum + value)
    }

    fn requests(&self, labels: &[&str]) -> Option<f64> {
        self.sum("countersign_requests_total", labels)
    }
}

/// An issuer's keys, while it is up.
#[derive(Clone)]
struct Provider {
    is_up: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    fn new() -> Self {
        Self { is_up: Arc::new(AtomicBool::new(true)), asked: Arc::default() }
    }

    fn auth(&self) -> JwtAuth {
        JwtAuth::new("https://issuer.example/keys?code=hunter2").fetch(self.clone()).issuer(ISSUER).audience("orders")
    }
}

impl Fetch for Provider {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(request.url);
            let mut fetched = Fetched::default();
            fetched.status = if self.is_up.load(Ordering::Relaxed) { 200 } else { 500 };
            fetched.body = json!({ "keys": [key().public_jwk()] }).to_string().into_bytes();
            Ok(fetched)
        })
    }
}

#[tokio::test]
async fn nothing_is_counted_twice_or_before_it_happens() {
    let (told, metrics) = (Told::new(), Metrics::new("orders"));
    let layer = auth().metrics(&metrics);
    told.flush(&metrics);
    assert_eq!(told.requests(&[]), None);
    for _ in 0..3 {
        assert_eq!(status(&layer, request(&good())).await, 200);
    }
    for total in [3.0, 3.0] {
        told.flush(&metrics);
        assert_eq!(told.requests(&[r#"outcome="admitted""#, r#"layer="orders""#, ISSUER]), Some(total));
    }
    assert_eq!(status(&layer, request(&good().audience("invoices"))).await, 401);
    told.flush(&metrics);
    assert_eq!(told.requests(&[]), Some(4.0));
    assert_eq!(told.requests(&[r#"outcome="refused""#, r#"reason="wrong_audience""#]), Some(1.0));
    assert_eq!(told.sum("countersign_verification_seconds_count", &[r#"outcome="accepted""#]), Some(3.0));
    assert_eq!(told.sum("countersign_verification_seconds_count", &[r#"outcome="refused""#]), Some(1.0));
}

#[tokio::test]
async fn without_metrics_nothing_is_counted() {
    let (told, metrics) = (Told::new(), Metrics::new("orders"));
    assert_eq!(status(&auth(), request(&good())).await, 200);
    told.flush(&metrics);
    assert_eq!((told.requests(&[]), told.sum("countersign_keys", &[])), (None, None));
}

#[tokio::test]
async fn layers_that_differ_in_policy_count_together_and_their_keys_once() {
    let (told, metrics, provider) = (Told::new(), Metrics::new("orders"), Provider::new());
    let base = provider.auth().metrics(&metrics);
    let strict = base.clone().require(scope("orders:write"));
    assert_eq!(status(&base, request(&good())).await, 200);
    assert_eq!(status(&strict, request(&good())).await, 403);
    told.flush(&metrics);
    assert_eq!(told.requests(&[]), Some(2.0));
    assert_eq!(told.sum("countersign_key_fetches_total", &[r#"outcome="changed""#]), Some(1.0));
    assert_eq!(told.sum("countersign_keys", &[r#"source="https://issuer.example/keys""#]), Some(1.0));
    assert!(!told.0.handle().render().contains("hunter2"));
}

#[tokio::test]
async fn the_refusal_of_a_handler_is_counted_beside_the_admission() {
    let (told, metrics) = (Told::new(), Metrics::new("orders"));
    let layer = auth().metrics(&metrics);
    let handler = service_fn(async |request: Request<()>| {
        let caller = countersign::Authenticated::from_extensions(request.extensions()).unwrap();
        let forbidden = caller.require(&scope("orders:write")).unwrap_err();
        Ok::<_, Infallible>(forbidden.into_response::<()>(request.method(), request.headers(), None))
    });
    assert_eq!(layer.layer(handler).oneshot(request(&good())).await.unwrap().status(), 403);
    told.flush(&metrics);
    assert_eq!(told.requests(&[r#"outcome="admitted""#]), Some(1.0));
    assert_eq!(told.requests(&[r#"outcome="refused_by_handler""#, r#"reason="insufficient_scope""#]), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn keys_age_and_go_stale_while_the_provider_is_down_and_recover() {
    let (told, metrics, provider) = (Told::new(), Metrics::new("orders"), Provider::new());
    let layer = provider.auth().metrics(&metrics);
    assert_eq!(status(&layer, request(&good())).await, 200);
    let state = || {
        told.flush(&metrics);
        let gauge = |name| told.sum(name, &[]).unwrap();
        (gauge("countersign_keys"), gauge("countersign_keys_stale"), gauge("countersign_keys_age_seconds"))
    };
    let (keys, stale, age) = state();
    assert!(keys == 1.0 && stale == 0.0 && age < 1.0, "{age}");

    provider.is_up.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (keys, stale, age) = state();
    assert!(keys == 1.0 && stale == 1.0 && age >= 600.0, "{stale} {age}");
    assert!(told.sum("countersign_key_fetches_total", &[r#"outcome="failed""#]).unwrap() >= 3.0);

    tokio::time::sleep(Duration::from_secs(25 * 3600)).await;
    let (keys, stale, _) = state();
    assert_eq!((keys, stale), (0.0, 0.0));
    assert_eq!(status(&layer, request(&good())).await, 503);
    told.flush(&metrics);
    assert_eq!(told.requests(&[r#"reason="keys_too_old""#]), Some(1.0));

    provider.is_up.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (keys, stale, age) = state();
    assert!(keys == 1.0 && stale == 0.0 && age < 300.0, "{age}");
}

#[tokio::test(start_paused = true)]
async fn flushing_ends_with_the_last_clone_of_the_layer_and_of_the_metrics() {
    let metrics = Metrics::new("orders");
    let layer = auth().metrics(&metrics);
    let service = layer.layer(inner());
    let flushing = tokio::spawn(metrics.flush_every(Duration::from_secs(5)));
    drop((metrics, layer));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!flushing.is_finished());
    drop(service);
    tokio::time::timeout(Duration::from_secs(6), flushing).await.unwrap().unwrap();
}

#[tokio::test]
async fn labels_are_bounded_whatever_is_configured_and_whatever_tokens_say() {
    let (told, metrics, provider) = (Told::new(), Metrics::new("orders"), Provider::new());
    let of_one = |index| format!("https://{index:03}.example");
    let issuers = (0..2 * MAX_SOURCE_LABELS).fold(Issuers::new(), |issuers, index| {
        let remote = Remote::new(format!("{}/keys", of_one(index))).unwrap();
        issuers.issuer_at(of_one(index), remote)
    });
    let layer = JwtAuth::issuers(issuers.each({
        let provider = provider.clone();
        move |remote| remote.fetch(provider.clone())
    }))
    .audience("orders")
    .metrics(&metrics);
    for index in 0..2 * MAX_SOURCE_LABELS {
        assert_eq!(status(&layer, request(&good().issuer(&of_one(index)))).await, 200, "{index}");
    }
    assert_eq!(status(&layer, request(&good().issuer("https://mallory.example"))).await, 401);
    told.flush(&metrics);
    let text = told.0.handle().render();
    assert!(!text.contains("mallory"), "{text}");
    let series = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
    assert_eq!(series("countersign_keys"), MAX_SOURCE_LABELS + 1);
    assert_eq!(series("countersign_unknown_keys_total"), MAX_SOURCE_LABELS + 1);
    assert_eq!(told.sum("countersign_keys", &[r#"source="other""#]), Some(MAX_SOURCE_LABELS as f64));
    assert_eq!(series("countersign_requests_total"), MAX_ISSUER_LABELS + 2);
    assert_eq!(told.requests(&[r#"issuer="other""#]), Some((2 * MAX_SOURCE_LABELS - MAX_ISSUER_LABELS) as f64));
    assert_eq!(told.requests(&[r#"issuer="none""#, r#"reason="unknown_issuer""#]), Some(1.0));
}
