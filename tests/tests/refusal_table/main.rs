//! What `REFUSALS.md` says, over real sockets: each row of its tables is read and tried, so that it cannot say what is not so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod asked;
mod counted;
mod grpc;

mod uploads;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use countersign::Refusal;
use countersign_tests::documented::refusal_rows;
use countersign_tests::refusals::{CASES, REASONS, RefusalCase, all_cases, reason_cases};
use tokio::net::TcpListener;

/// After this long nothing more comes, and the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves `app` over HTTP/1.0, 1.1 and, with prior knowledge, 2.
async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// The rows of the two tables that name cases.
fn cases() -> Vec<RefusalCase> {
    [all_cases(), reason_cases()].concat()
}

#[test]
fn there_is_a_case_for_each_row_and_a_row_for_each_case() {
    for (heading, cases) in [(CASES, all_cases()), (REASONS, reason_cases())] {
        let documented: Vec<_> = refusal_rows(heading).iter().map(|row| row.cell(heading).to_owned()).collect();
        let tried: Vec<_> = cases.iter().map(|case| case.name.to_owned()).collect();
        let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(sorted(&documented), sorted(&tried));
        assert_eq!((documented.len(), tried.len()), (sorted(&documented).len(), documented.len()), "a name twice");
    }
}

#[test]
fn every_reason_that_there_is_has_a_row_and_there_are_no_others() {
    let documented: BTreeSet<_> = cases().into_iter().filter_map(|case| case.reason).collect();
    // Those of signed requests have theirs in `REQUESTS.md`.
    let codes: Vec<_> = Refusal::CODES.iter().copied().filter(|code| !code.starts_with("request_")).collect();
    assert_eq!(documented.iter().map(String::as_str).collect::<Vec<_>>(), codes);
}
