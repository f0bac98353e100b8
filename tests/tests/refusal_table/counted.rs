//! What the operator sees of each row: the reason in the response's extensions, and the labels of the request's counter.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use countersign::middleware::RequestMetrics;
use countersign::{Judged, Observer, Refusal};
use countersign_tests::refusals::{Handler, RefusalCase};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt as _;

use crate::cases;

/// What an observer has heard, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(String, String)>>>);

impl Observer for Heard {
    fn judged(&self, judged: &Judged<'_>) {
        let reason = judged.reason().unwrap_or("none").to_owned();
        self.0.lock().unwrap().push((judged.name().to_owned(), reason));
    }
}

fn request(case: &RefusalCase, content_type: &'static str) -> Request<axum::body::Body> {
    let mut request = Request::post(format!("/orders.Orders/List{}", case.query)).header("content-type", content_type);
    for value in &case.authorization {
        request = request.header(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    request.body(axum::body::Body::empty()).unwrap()
}

#[tokio::test]
async fn each_row_has_its_reason_and_is_counted_as_it_says() {
    for case in cases() {
        for content_type in ["application/json", "application/grpc"] {
            let (heard, metrics) = (Heard::default(), RequestMetrics::new("orders"));
            let app = case.app(|layer| layer.observe(heard.clone()).observe(metrics.clone()));
            let response = app.oneshot(request(&case, content_type)).await.unwrap();
            let reason = response.extensions().get::<Refusal>().map(Refusal::code);
            assert_eq!(reason, case.reason.as_deref(), "{}", case.name);
            assert_eq!(*heard.0.lock().unwrap(), case.counted, "{}", case.name);

            let recorder = PrometheusBuilder::new().build_recorder();
            metrics::with_local_recorder(&recorder, || metrics.flush());
            assert_eq!(series(&recorder.handle().render()), case.counted.iter().cloned().collect(), "{}", case.name);
            assert_eq!(case.counted.is_empty(), matches!(case.handler, Handler::WithoutLayer), "{}", case.name);
        }
    }
}

/// The labels `outcome` and `reason` of all series of the counter, each of which stands at 1.
fn series(rendered: &str) -> BTreeSet<(String, String)> {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let lines = rendered.lines().filter(|line| line.starts_with("countersign_requests_total{"));
    lines
        .map(|line| {
            assert!(line.ends_with("} 1"), "{line}");
            (label(line, "outcome"), label(line, "reason"))
        })
        .collect()
}
