//! What the provider may do wrong, while the service has its keys and when it has none yet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use countersign::jwks::DEFAULT_MAX_STALE;
use countersign::{KeyEvent, KeyEvents};
use countersign_testkit::{Answer, IdentityProvider};
use countersign_tests::bomb::gzip_bomb;
use countersign_tests::crowd::made_up;
use countersign_tests::documented::{Row, rows};
use countersign_tests::service::Connection;
use tokio::task::JoinSet;

use crate::{LOOK, Stage};

/// The table's first column.
const PROVIDER: &str = "the provider …";

/// How a provider fails.
#[derive(Clone, Debug)]
enum Fault {
    /// It is not there.
    Down,
    /// It answers like this.
    Always(Answer),
    /// Its answer has no usable key: what a service that has keys believes only when it is said twice.
    Empty(Answer),
}

/// Everything that the first column of the table may say.
fn faults() -> Vec<(&'static str, Fault)> {
    let unusable =
        r#"{"keys":[{"kty":"oct","kid":"1","k":"c2VjcmV0"},{"kty":"EC","kid":"2","crv":"P-256","x":"AA","y":"AA"}]}"#;
    vec![
        ("lets nobody connect", Fault::Down),
        ("accepts, and says nothing", Fault::Always(Answer::Stall)),
        ("resets the connection", Fault::Always(Answer::Reset)),
        ("answers garbage", Fault::Always(Answer::body("<html>Sorry!</html>"))),
        ("sends one byte a second", Fault::Always(Answer::Drip(Duration::from_secs(1)))),
        ("sends 1 GB", Fault::Always(Answer::Endless(1 << 30))),
        ("redirects, to where it redirects", Fault::Always(Answer::status(302).with_header("location", "/jwks.json"))),
        ("redirects to where keys are", Fault::Always(Answer::Redirect)),
        (
            "sends a gzip bomb",
            Fault::Always(Answer::body(gzip_bomb(300).unwrap()).with_header("content-encoding", "gzip")),
        ),
        ("says 500", Fault::Always(Answer::status(500))),
        ("says 404", Fault::Always(Answer::status(404))),
        ("says 429, `Retry-After` an hour", Fault::Always(Answer::status(429).with_header("retry-after", "3600"))),
        ("sends half an answer", Fault::Always(Answer::Truncated)),
        ("has no keys", Fault::Empty(Answer::body(r#"{"keys":[]}"#))),
        ("has only keys that nobody can use", Fault::Empty(Answer::body(unusable))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_tokens_pass_whatever_the_provider_does() {
    try_rows("known", with_keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_keys_says_so_and_for_how_long() {
    try_rows("none yet", without_keys).await;
}

/// Tries all of these rows at once, since each has a provider of its own.
async fn try_rows<F>(keys: &str, attempt: fn(Row, Fault) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut untried: BTreeSet<_> = faults().iter().map(|(name, _)| name.replace('`', "")).collect();
    for row in rows(PROVIDER).into_iter().filter(|row| row.cell("keys") == keys) {
        let name = row.cell(PROVIDER).to_owned();
        let fault = faults().into_iter().find(|(known, _)| known.replace('`', "") == name);
        let Some((_, fault)) = fault else { panic!("{name}: no such fault") };
        untried.remove(&name);
        attempts.spawn(attempt(row, fault));
    }
    assert!(untried.is_empty(), "not documented: {untried:?}");
    // A panic of one is one of all.
    attempts.join_all().await;
}

/// A row of a service that has keys.
async fn with_keys(row: Row, fault: Fault) {
    let name = row.cell(PROVIDER).to_owned();
    let stage = Stage::with_keys().await;
    let (good, stranger) = (stage.token(), made_up(&stage.provider, 0));
    let mut events = stage.handle.keys().events();
    let before = stage.status();
    let mut connection = stage.connect().await;
    assert_eq!(connection.get(&good).await.unwrap().status, 200, "{name}");

    match fault {
        Fault::Empty(answer) => stage.provider.answer_once(answer),
        fault => inflict(&stage.provider, fault),
    }
    let mut look = std::pin::pin!(stage.handle.keys().refresh());
    loop {
        // Until the look has failed, which takes five seconds with some.
        expect(&row, "a good token", &mut connection, &good).await;
        if let Ok(outcome) = tokio::time::timeout(LOOK, &mut look).await {
            outcome.unwrap_err();
            break;
        }
    }
    assert_shows(&row, &stage, &mut events).await;
    let after = stage.status();
    assert_eq!((after.generation, after.keys), (before.generation, before.keys), "{name}: the same keys are in force");
    assert_eq!(row.time("serve"), Some(DEFAULT_MAX_STALE), "{name}");
    expect(&row, "a token of an unknown key", &mut stage.connect().await, &stranger).await;
    expect(&row, "a good token", &mut connection, &good).await;

    heal(&stage.provider);
    stage.provider.rotate();
    let new = stage.token();
    accepted_in_time(&row, &mut connection, &new).await;
    expect(&row, "a good token", &mut connection, &good).await;
    let healed = stage.status();
    assert_eq!((healed.last_error, healed.keys), (None, 2), "{name}");
    assert!(stage.provider.requests().iter().all(|request| request.path == "/jwks.json"), "{name}: followed");
}

/// A row of a service that starts while the provider fails.
async fn without_keys(row: Row, fault: Fault) {
    let name = row.cell(PROVIDER).to_owned();
    let provider = IdentityProvider::start();
    inflict(&provider, fault);
    let stage = Stage::of(provider, |auth| auth).await;
    let mut events = stage.handle.keys().events();
    let (good, stranger) = (stage.token(), made_up(&stage.provider, 0));
    // The first wait for the first fetch, and those that come later get the answer at once.
    for _ in 0..2 {
        let (mut one, mut other) = (stage.connect().await, stage.connect().await);
        tokio::join!(
            expect(&row, "a good token", &mut one, &good),
            expect(&row, "a token of an unknown key", &mut other, &stranger)
        );
        assert!(!stage.handle.is_ready(), "{name}");
    }
    assert_shows(&row, &stage, &mut events).await;

    heal(&stage.provider);
    accepted_in_time(&row, &mut stage.connect().await, &good).await;
    assert!(stage.handle.is_ready(), "{name}");
    assert_eq!(stage.status().last_error, None, "{name}");
}

fn inflict(provider: &IdentityProvider, fault: Fault) {
    match fault {
        Fault::Down => provider.stop(),
        Fault::Always(answer) | Fault::Empty(answer) => provider.set_answer(answer),
    }
}

fn heal(provider: &IdentityProvider) {
    provider.set_answer(Answer::Keys);
    provider.resume();
}

/// Whether that token gets what the row says, over HTTP and over gRPC, and no longer wait than it says.
async fn expect(row: &Row, what: &str, connection: &mut Connection, token: &str) {
    let http = connection.get(token).await.unwrap();
    let grpc = connection.grpc(token).await.unwrap();
    let said = format!("{}, gRPC {}", http.status, grpc.grpc.unwrap_or(u16::MAX));
    assert_eq!(said, row.cell(what), "{}: {what}", row.cell(PROVIDER));
    assert_eq!(grpc.status, 200, "a gRPC refusal is no HTTP one");
    for answer in [http, grpc] {
        let is_bounded = |seconds| Duration::from_secs(seconds) <= row.time("Retry-After, at most").unwrap_or_default();
        let may_help = matches!(answer.status, 429 | 503) || answer.grpc == Some(14);
        assert_eq!(answer.retry_after.map(is_bounded), may_help.then_some(true), "{}: {answer:?}", row.cell(PROVIDER));
    }
}

/// Whether the operator sees what the row says.
async fn assert_shows(row: &Row, stage: &Stage, events: &mut KeyEvents) {
    let name = row.cell(PROVIDER);
    let status = stage.status();
    assert_eq!(format!("{:?}", status.state), row.cell("state"), "{name}");
    let error = status.last_error.unwrap_or_default();
    assert!(error.contains(row.cell("last error has")), "{name}: {error}");
    let (kind, text) = match events.next().await.unwrap() {
        KeyEvent::Failed { error } => ("Failed", error),
        KeyEvent::Refused { reason } => ("Refused", reason),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(kind, row.cell("event"), "{name}");
    assert!(text.contains(row.cell("last error has")), "{name}: {text}");
}

/// Whether that token is accepted as soon after this as the row says.
async fn accepted_in_time(row: &Row, connection: &mut Connection, token: &str) {
    let start = Instant::now();
    let within = row.time("well again within").unwrap();
    loop {
        let answer = connection.get(token).await.unwrap();
        if answer.status == 200 {
            return;
        }
        assert!(start.elapsed() < within, "{}: still {answer:?} after {within:?}", row.cell(PROVIDER));
        assert_ne!(answer.status, 401, "{}: a good token", row.cell(PROVIDER));
        tokio::time::sleep(LOOK).await;
    }
}
