//! The same of a key ring, which is in the test itself, on a clock that stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign::Algorithm;
use countersign::claims::UnixTime;
use countersign_issuer::step::Alarm;
use countersign_issuer::{Clock, Kek, KekRing, MemoryStore, Now, Ring, RingConfig, Slot};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::Instant;

use super::{DOCUMENTATION, Scraped, assert_documented, assert_uses_all_and_nothing_else, expressions};

pub(super) const PREFIX: &str = "countersign_ring_";

const LOG: &str = include_str!("../../../../crates/countersign-issuer/src/ring/log.rs");

/// The labels with a fixed set of values.
const LABELS: [&str; 3] = ["alarm", "work", "phase"];

/// Tokio's, on a day of the test's own.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let monotonic = self.0.elapsed();
        Now { wall: UnixTime::from_secs(1_800_000_000).saturating_add(monotonic), monotonic }
    }
}

/// What is scraped of a ring that has begun to sign.
async fn scraped() -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    let (store, keks) = (Arc::new(MemoryStore::new()), KekRing::new([Kek::random().unwrap()]).unwrap());
    let builder = Ring::builder("https://issuer.example", config, store, keks).clock(TokioClock(Instant::now()));
    let ring = builder.start().await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    recorder.handle().render()
}

#[tokio::test(start_paused = true)]
async fn alerts_and_dashboard_use_only_what_a_ring_says_and_all_of_it() {
    let text = scraped().await;
    let expressions = expressions(|expression| expression.contains(PREFIX));
    assert_uses_all_and_nothing_else(&expressions, &Scraped::of(&text).metrics());
    // What is selected by a value selects one that there is.
    for label in LABELS {
        let all = values(&text, label);
        for value in expressions.iter().flat_map(|expression| selected(expression, label)) {
            assert!(all.contains(value), "{label} is never {value}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_documentation_has_each_metric_of_a_ring_with_its_type_and_labels_and_no_other() {
    let text = scraped().await;
    assert_documented(&Scraped::of(&text), &text, |name| name.starts_with(PREFIX));
    for label in LABELS {
        let start = format!("| `{label}` |");
        let row = DOCUMENTATION.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {start}"));
        let documented: BTreeSet<_> = row.split('`').skip(3).step_by(2).collect();
        assert_eq!(documented, values(&text, label), "{label}");
    }
}

#[test]
fn the_documentation_has_each_alarm_and_each_text_of_the_log_with_its_level() {
    let grave = LOG.split("fn is_grave").nth(1).unwrap();
    let grave: BTreeSet<_> = grave.split("Alarm::").skip(1).map(|rest| word(rest).to_ascii_lowercase()).collect();
    let level = |code: &str| if grave.contains(&code.replace('_', "")) { "error" } else { "warn" };
    let alarms: BTreeMap<_, _> = Alarm::CODES.iter().map(|code| (*code, level(code))).collect();
    assert_eq!(table("| Alarm | Level |"), alarms);
    assert!(alarms.values().any(|level| *level == "error"));

    let mut said = BTreeMap::new();
    for rest in LOG.split("tracing::").skip(1) {
        let (level, rest) = rest.split_once("!(").unwrap();
        let text = rest.split(");").next().and_then(|call| call.rsplit('"').nth(1)).unwrap();
        // An alarm is said at the one level or the other.
        said.entry(text).and_modify(|level| *level = "error or warn").or_insert(level);
    }
    assert_eq!(table("| Text | Level |"), said);
}

/// The first two columns of the table with that heading.
fn table(heading: &str) -> BTreeMap<&str, &str> {
    let rest = DOCUMENTATION.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
        (cells.next().unwrap(), cells.next().unwrap())
    })
    .collect()
}

/// All values of that label that are scraped.
fn values<'a>(text: &'a str, label: &str) -> BTreeSet<&'a str> {
    let start = format!("{label}=\"");
    text.split(&*start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The values that an expression selects by that label.
fn selected<'a>(expression: &'a str, label: &str) -> Vec<&'a str> {
    let starts = [format!("{label}=\""), format!("{label}=~\"")];
    let found = starts.iter().flat_map(|start| expression.split(&**start).skip(1));
    found.filter_map(|rest| rest.split('"').next()).flat_map(|values| values.split('|')).collect()
}

fn word(rest: &str) -> &str {
    rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
}
