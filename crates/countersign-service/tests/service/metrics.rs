//! What is scraped, beside what OBSERVABILITY.md and the alerts say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use countersign_service::policy::Denial;

use crate::bench::Answer;
use crate::served::{Served, get};

const DOCUMENTATION: &str = include_str!("../../../../OBSERVABILITY.md");
const ALERTS: &str = include_str!("../../../../examples/prometheus/alerts.yaml");
/// Where `/metrics` is beside everything else.
const LOOPBACK: &str = "listen = '127.0.0.1:0'\nissuer = 'http://127.0.0.1:1'";

const PREFIX: &str = "countersign_service_";

fn text(answer: Answer) -> String {
    assert_eq!((answer.status, &*answer.headers["content-type"]), (200, "text/plain; version=0.0.4"));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let text = String::from_utf8(answer.body).unwrap();
    text.replace(" \n", "\n")
}

/// Which labels each metric has, and which values each label.
fn scraped(text: &str) -> (BTreeMap<&str, BTreeSet<&str>>, BTreeMap<&str, BTreeSet<&str>>) {
    let (mut metrics, mut values) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for line in text.lines().filter(|line| line.starts_with(PREFIX)) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let of_metric = metrics.entry(name).or_default();
        for (label, value) in
            labels.split(',').filter_map(|label| label.split_once('=')).filter(|(name, _)| *name != "le")
        {
            of_metric.insert(label);
            values.entry(label).or_default().insert(value.trim_matches('"'));
        }
    }
    (metrics, values)
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_has_each_metric_with_its_type_and_labels_and_no_other() {
    let served = Served::new("metrics-documented", LOOPBACK).await;
    let text = text(served.get("/metrics").await);
    let (found, values) = scraped(&text);
    let mut documented = BTreeMap::new();
    for line in DOCUMENTATION.lines().filter(|line| line.starts_with(&format!("| `{PREFIX}"))) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        assert!(text.contains(&format!("# TYPE {name} {}\n", cells[2])), "{name} is no {}", cells[2]);
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        let labels = cells[4].split(", ").map(|label| label.trim_matches('`')).filter(|label| !label.is_empty());
        documented.insert(name, labels.collect::<BTreeSet<_>>());
    }
    assert_eq!(documented, found);
    // Nobody who asks for something can add a series: what is there at the beginning is all there ever is.
    assert_eq!(values["code"], Denial::CODES.into_iter().collect());
    for (label, all) in values.iter().filter(|(label, _)| !["code", "slot", "route"].contains(label)) {
        for value in all {
            assert!(DOCUMENTATION.contains(&format!("`{value}`")), "{label} {value}");
        }
    }
    assert!(text.contains("countersign_ring_alarms{"), "of the ring too");
}

#[test]
fn alerts_use_only_what_is_documented() {
    let used = ALERTS.split(PREFIX).skip(1).map(|rest| {
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        format!("{PREFIX}{}", &rest[..end])
    });
    let used: BTreeSet<_> = used.collect();
    assert!(used.len() >= 6, "{used:?}");
    for name in used {
        assert!(DOCUMENTATION.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_counted_under_no_name_that_a_stranger_could_choose() {
    let served = Served::new("metrics-counted", LOOPBACK).await;
    let before = text(served.get("/metrics").await);
    let requests = |text: &str, route: &str, class: &str| {
        value(text, &format!("countersign_service_requests_total{{route=\"{route}\",class=\"{class}\"}}"))
    };
    for path in ["/livez", "/evil1", "/evil2?x", "/v1/keys", "/v1/keys/evil3:revoke"] {
        served.get(path).await;
    }
    let after = text(served.get("/metrics").await);
    for (route, class, least) in
        [("/livez", "2xx", 1.0), ("other", "4xx", 2.0), ("/v1/keys", "4xx", 1.0), ("/v1/keys/{kid}:revoke", "4xx", 1.0)]
    {
        assert!(requests(&after, route, class) - requests(&before, route, class) >= least, "{route}");
    }
    let series = "countersign_service_authentications_total{method=\"none\",result=\"refused\"}";
    assert!(value(&after, series) > value(&before, series));
    assert!(value(&after, "countersign_service_connections") >= 1.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(now - value(&after, "countersign_service_policy_loaded_timestamp_seconds") < 600.0);
    assert!(!after.contains("evil"));
    // A policy that is not good is seen, and goes on being seen until it is.
    let policy = served.policy_file();
    let good = std::fs::read_to_string(&policy).unwrap();
    for (written, expected) in [("version = 2", 1.0), (&*good, 0.0)] {
        std::fs::write(&policy, written).unwrap();
        let mut failing = -1.0;
        for _ in 0..200 {
            failing = value(&text(served.get("/metrics").await), "countersign_service_policy_failing");
            if failing == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!((failing - expected).abs() < f64::EPSILON, "{written}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_nothing_is_served_beside_the_rest() {
    let off = format!("{LOOPBACK}\nmetrics_listen = 'off'");
    // With an issuer elsewhere, something stands in front that hands on what is asked.
    for settings in [
        "listen = '0.0.0.0:0'\nplain_http = true",
        "listen = '127.0.0.1:0'",
        "listen = '0.0.0.0:0'\nplain_http = true\nissuer = 'http://[::1]'",
        &off,
    ] {
        let served = Served::new("metrics-off", settings).await;
        let address = SocketAddr::from(([127, 0, 0, 1], served.address.port()));
        assert_eq!(get(address, "/metrics").await.refusal(), (404, "not_found".to_owned()));
        assert_eq!(served.metrics, None);
    }
    let served = Served::new("metrics-apart", "listen = '127.0.0.1:0'\nmetrics_listen = '127.0.0.1:0'").await;
    let apart = served.metrics.unwrap();
    assert!(text(get(apart, "/metrics").await).contains(PREFIX));
    assert_eq!(get(apart, "/v1/keys").await.status, 404);
    assert_eq!(get(apart, "/.well-known/jwks.json").await.status, 404);
    assert_eq!(served.get("/metrics").await.status, 404);
}
