//! The Prometheus example: what is scraped, and that the dashboard, the alerts and the documentation speak of that and of nothing else.
//! A key ring, which the example does not have, is in `ring.rs`.

mod ring;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::IdentityProvider;
use serde_json::Value;

const ALERTS: &str = include_str!("../../prometheus/alerts.yaml");
const ALERTS_TEST: &str = include_str!("../../prometheus/alerts-test.yaml");
const DASHBOARD: &str = include_str!("../../prometheus/grafana-dashboard.json");
const DOCUMENTATION: &str = include_str!("../../../OBSERVABILITY.md");

/// Of the token service, whose own tests compare what it says.
const SERVICE: &str = "countersign_service_";

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The value of each series, by its text: name and labels.
struct Scraped(BTreeMap<String, f64>);

impl Scraped {
    fn of(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            samples
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(series, value)| (series.into(), value.parse().unwrap()))
                .collect(),
        )
    }

    /// The sum of all series of that name with all these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = self.0.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        of_name.filter(|(series, _)| labels.iter().all(|label| series.contains(label))).map(|(_, value)| value).sum()
    }

    /// Which labels each metric has.
    fn metrics(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut metrics = BTreeMap::<_, BTreeSet<_>>::new();
        for series in self.0.keys() {
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            // No value has a quotation mark or a comma.
            metrics.entry(name).or_default().extend(labels.split(',').filter_map(|label| label.split('=').next()));
        }
        metrics
    }
}

/// A service that has seen good and bad requests, a rotation, and an outage of its provider.
async fn lived_in() -> (Scraped, String) {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("prometheus", &idp);
    let client = Client::http1();
    let hello = example.url("/hello");
    for _ in 0..3 {
        assert_eq!(client.get(&hello, &idp.token("orders")).await.status, 200);
    }
    assert_eq!(client.get_bare(&hello).await.status, 401);
    assert_eq!(client.get(&hello, &idp.token("invoices")).await.status, 401);
    idp.rotate();
    assert_eq!(client.get(&hello, &idp.token("orders")).await.status, 200);
    // A key that nobody has been told of, while its issuer is out of reach: the request waits, in vain.
    let unknown = idp.token("orders").header("kid", "made-up");
    idp.stop();
    let scrape = async || client.get_bare(&example.url("/metrics")).await.body;
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(matches!(client.get(&hello, &unknown).await.status, 401 | 429));
        let text = scrape().await;
        let scraped = Scraped::of(&text);
        if scraped.sum("countersign_key_fetches_total", &[r#"outcome="failed""#]) > 0.0 {
            return (scraped, text);
        }
        assert!(Instant::now() < deadline, "no fetch fails:\n{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_has_happened_is_scraped() {
    let (scraped, text) = lived_in().await;
    let requests = |labels: &[&str]| scraped.sum("countersign_requests_total", labels);
    assert_eq!(
        requests(&[r#"layer="orders""#, r#"outcome="admitted""#, r#"reason="none""#, r#"issuer="http://127"#]),
        4.0
    );
    assert_eq!(requests(&[r#"outcome="refused""#, r#"reason="no_credentials""#]), 1.0);
    assert_eq!(requests(&[r#"outcome="refused""#, r#"reason="wrong_audience""#]), 1.0);
    assert!(requests(&[r#"outcome="refused""#, r#"reason="key_not_checked_yet""#]) >= 1.0, "{text}");
    let sum = |name, labels: &[&str]| scraped.sum(name, labels);
    assert_eq!(sum("countersign_verification_seconds_count", &[r#"outcome="accepted""#]), 4.0);
    assert!(sum("countersign_verification_seconds_sum", &[r#"outcome="accepted""#]) > 0.0);
    assert!(sum("countersign_key_wait_seconds_count", &[]) >= 1.0, "{text}");
    assert_eq!(sum("countersign_key_fetches_total", &[r#"outcome="changed""#]), 2.0);
    assert_eq!(sum("countersign_keys_generation", &[]), 2.0);
    assert!(sum("countersign_keys", &[]) >= 1.0);
    assert!(sum("countersign_unknown_keys_total", &[]) >= 2.0);
    assert_eq!(sum("countersign_keys_stale", &[]), 0.0);
    for secret in ["made-up", "ada"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn alerts_and_dashboard_use_only_what_is_scraped() {
    let (scraped, _) = lived_in().await;
    let metrics = scraped.metrics();
    let expressions = expressions(|expression| !expression.contains(ring::PREFIX) && !expression.contains(SERVICE));
    assert!(expressions.len() >= 12, "{expressions:?}");
    assert_uses_all_and_nothing_else(&expressions, &metrics);
}

#[tokio::test]
async fn the_documentation_has_each_metric_with_its_type_and_labels_and_no_other() {
    let (scraped, text) = lived_in().await;
    assert_documented(&scraped, &text, |name| !name.starts_with(ring::PREFIX) && !name.starts_with(SERVICE));
    // Each outcome and reason that is scraped is named, but for the codes of refusals, which are listed elsewhere.
    for series in scraped.0.keys().filter(|series| !series.starts_with("countersign_requests_total")) {
        for value in ["outcome=\"", "reason=\""].iter().filter_map(|label| series.split_once(label)) {
            let value = value.1.split('"').next().unwrap();
            assert!(DOCUMENTATION.contains(&format!("`{value}`")), "{series}");
        }
    }
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("prometheus", include_str!("../../prometheus.rs")).await;
}

#[test]
fn each_alert_is_made_to_fire_by_its_test() {
    let after =
        |text: &'static str, start: &'static str| text.split(start).skip(1).filter_map(|rest| rest.lines().next());
    let fires = after(ALERTS_TEST, "alertname: ").zip(ALERTS_TEST.split("alertname: ").skip(1));
    let fires: BTreeSet<_> = fires
        .filter(|(_, rest)| rest.split("- eval_time").next().unwrap().contains("exp_labels"))
        .map(|(name, _)| name)
        .collect();
    let alerts: BTreeSet<_> = after(ALERTS, "- alert: ").collect();
    assert_eq!(alerts, fires);
}

#[test]
fn names_and_labels_are_found_in_an_expression() {
    let expression = r#"sum by (le, a) (rate(countersign_x_bucket{layer=~"$layer",b="c"}[5m])) > countersign_y"#;
    assert_eq!(selectors(expression), [("countersign_x_bucket", vec!["layer", "b"]), ("countersign_y", vec![])]);
    assert_eq!(grouped_by(expression), ["le", "a"]);
}

/// The page has each of these metrics with its type, help and labels, and no other.
fn assert_documented(scraped: &Scraped, text: &str, is_meant: fn(&str) -> bool) {
    let mut documented = BTreeMap::new();
    for line in DOCUMENTATION.lines().filter(|line| line.starts_with("| `countersign_")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        if !is_meant(name) {
            continue;
        }
        assert!(text.contains(&format!("# TYPE {name} {}\n", cells[2])), "{name} is no {}", cells[2]);
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        let labels: BTreeSet<_> = cells[4].split(", ").map(|label| label.trim_matches('`')).collect();
        documented.insert(name, labels);
    }
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for (name, labels) in scraped.metrics() {
        found.entry(family(name)).or_default().extend(labels.into_iter().filter(|label| *label != "le"));
    }
    assert_eq!(documented, found);
}

/// Of the alerts and the dashboard.
fn expressions(is_meant: fn(&str) -> bool) -> Vec<String> {
    let mut expressions = Vec::new();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    expressions_in(&dashboard, &mut expressions);
    let alerts = ALERTS.lines().map(|line| line.trim().trim_start_matches("expr: "));
    expressions.extend(alerts.filter(|line| line.contains("countersign_")).map(String::from));
    expressions.retain(|expression| is_meant(expression));
    expressions
}

fn assert_uses_all_and_nothing_else(expressions: &[String], metrics: &BTreeMap<&str, BTreeSet<&str>>) {
    let mut used = BTreeSet::new();
    for expression in expressions {
        for (name, labels) in selectors(expression) {
            let of_metric = metrics.get(name).unwrap_or_else(|| panic!("there is no {name}: {expression}"));
            for label in labels.iter().copied().chain(grouped_by(expression)) {
                // Prometheus itself adds the instance.
                assert!(label == "instance" || of_metric.contains(label), "{name} has no {label}: {expression}");
            }
            used.insert(family(name));
        }
    }
    let scraped: BTreeSet<_> = metrics.keys().map(|name| family(name)).collect();
    assert_eq!(used, scraped, "something is scraped that nobody looks at");
}

/// A histogram is three metrics.
fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// All texts in `expr` of a dashboard, and the queries of its variables.
fn expressions_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if ["expr", "query"].contains(&&**name) && text.contains("countersign_") => {
                        found.push(text.clone());
                    }
                    _ => expressions_in(value, found),
                }
            }
        }
        Value::Array(members) => members.iter().for_each(|value| expressions_in(value, found)),
        _ => {}
    }
}

/// The metrics in an expression, and the labels that each is selected by.
fn selectors(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let starts = expression.match_indices("countersign_").map(|(at, _)| &expression[at..]);
    let of_one = |rest: &'_ str| -> (usize, Option<usize>) {
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        (end, rest[end..].strip_prefix('{').and_then(|labels| labels.find('}')).map(|length| end + 1 + length))
    };
    starts
        .map(|rest| {
            let (end, closed) = of_one(rest);
            let labels = closed.map_or("", |closed| &rest[end + 1..closed]);
            let names = labels.split(',').filter_map(|label| label.split(['=', '!']).next());
            (&rest[..end], names.filter(|name| !name.is_empty()).collect())
        })
        .collect()
}

/// The labels in each `by (…)`.
fn grouped_by(expression: &str) -> Vec<&str> {
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    groups.flat_map(|labels| labels.split(", ")).collect()
}
