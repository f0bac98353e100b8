//! A key ring's store in objects: in S3, as moto has it, which honours conditions; as s3rver has it, which does not;
//! and as a double has it that fails as it is told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

#[path = "../../../crates/countersign-issuer/src/store/contract.rs"]
mod contract;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_claims::UnixTime;
use countersign_issuer::{
    JwksHeaders, KeyStore, MAX_SEALED_BYTES, MAX_STATE_BYTES, MAX_STORED_JWKS_BYTES, ObjectKeyStore, StoreErrorKind,
    StoreFuture, Version,
};
use countersign_tests_stores::double::{Double, Fault, Flaw};
use countersign_tests_stores::{SIGNED, Server, free_port, make_bucket, s3, s3_without_conditions};
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;

const BUCKET: &str = "rings";
const SECRET: &str = "hunter2-is-the-secret-access-key";

const HEADERS: JwksHeaders<'static> =
    JwksHeaders { content_type: "application/jwk-set+json", cache_control: "public, max-age=300" };

/// The client, with as many retries of its own.
fn client(port: u16, bucket: &str, max_retries: usize) -> AmazonS3 {
    let retry = RetryConfig { max_retries, ..RetryConfig::default() };
    let builder = AmazonS3Builder::new().with_endpoint(format!("http://127.0.0.1:{port}")).with_allow_http(true);
    let builder = builder.with_bucket_name(bucket).with_region("us-east-1").with_retry(retry);
    builder.with_access_key_id("AKIAEXAMPLE").with_secret_access_key(SECRET).build().unwrap()
}

fn store(port: u16) -> ObjectKeyStore {
    ObjectKeyStore::new(Arc::new(client(port, BUCKET, 0)), Path::from("a"))
}

/// What kind of failure it is, told without secrets.
async fn kind<T>(answer: StoreFuture<'_, T>) -> Option<StoreErrorKind> {
    let error = answer.await.err()?;
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2") && !text.contains("AKIA") && !text.contains("http://"), "{text}");
    Some(error.kind())
}

/// A bucket of moto.
async fn moto() -> (Server, u16, reqwest::Client) {
    let port = free_port();
    let server = s3(port);
    make_bucket(port, BUCKET).await;
    (server, port, reqwest::Client::builder().no_proxy().build().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_promises_that_can_be_tried() {
    let (_server, port, _) = moto().await;
    contract::every_promise_is_kept(&store(port)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jwk_set_is_served_with_its_headers() {
    let (_server, port, client) = moto().await;
    let store = store(port);
    store.probe().await.unwrap();
    let first = store.publish_jwks(None, b"{\"keys\":[]}", HEADERS).await.unwrap();
    let shorter = JwksHeaders { cache_control: "public, max-age=60", ..HEADERS };
    store.publish_jwks(Some(&first), b"{\"keys\":[],\"seq\":2}", shorter).await.unwrap();
    let request = client.get(format!("http://127.0.0.1:{port}/{BUCKET}/a/jwks/jwks.json"));
    let answer = request.header("Authorization", SIGNED).send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/jwk-set+json");
    assert_eq!(header("cache-control"), "public, max-age=60");
    assert_eq!(answer.text().await.unwrap(), "{\"keys\":[],\"seq\":2}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_the_stores() {
    let (_server, port, _) = moto().await;
    let store = store(port);
    let before = UnixTime::from(SystemTime::now()).as_secs();
    let time = store.time().await.unwrap().unwrap();
    // moto's clock is this machine's; it says whole seconds.
    assert!((before..=UnixTime::from(SystemTime::now()).as_secs()).contains(&time.at.as_secs()), "{time:?}");
    assert_eq!(time.grain, Duration::from_secs(1));
    // And not when the object was written first.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(store.time().await.unwrap().unwrap().at > time.at);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_is_denied_and_a_server_that_is_gone_unavailable() {
    let (server, port, client) = moto().await;
    let store = store(port);
    store.probe().await.unwrap();
    let state = store.swap_state(None, b"{}").await.unwrap();
    store.put_private("kid", b"sealed").await.unwrap();
    let reset = client.post(format!("http://127.0.0.1:{port}/moto-api/reset-auth")).body("0").send().await.unwrap();
    assert!(reset.status().is_success());
    refused(&store, &state, StoreErrorKind::Denied).await;

    drop(server);
    refused(&store, &state, StoreErrorKind::Unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_from_a_bucket_that_is_not_there() {
    let (_server, port, _) = moto().await;
    let store = ObjectKeyStore::new(Arc::new(client(port, "another", 0)), Path::from("a"));
    refused(&store, &Version::new("\"1\""), StoreErrorKind::Unavailable).await;
    assert_eq!(kind(store.probe()).await, Some(StoreErrorKind::Unavailable));
}

/// Whatever is asked for is refused in this way. Of a write under a condition it may be unclear.
async fn refused(store: &ObjectKeyStore, version: &Version, expected: StoreErrorKind) {
    for kid in ["kid", "another"] {
        assert_eq!(kind(store.get_private(kid)).await, Some(expected));
        assert_eq!(kind(store.put_private(kid, b"x")).await, Some(expected));
    }
    assert_eq!(kind(store.list_private()).await, Some(expected));
    assert_eq!(kind(store.load_state()).await, Some(expected));
    assert_eq!(kind(store.load_jwks()).await, Some(expected));
    assert_eq!(kind(store.publish_jwks(None, b"{}", HEADERS)).await, Some(expected));
    assert_eq!(kind(store.time()).await, Some(expected));
    let swapped = kind(store.swap_state(Some(version), b"{}")).await.unwrap();
    assert!(swapped == expected || swapped == StoreErrorKind::Unknown, "{swapped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3rver_which_ignores_conditions_is_refused() {
    let directory = std::env::temp_dir().join(format!("countersign-s3rver-{}", std::process::id()));
    let (port, directory) = (free_port(), Scratch(directory));
    let _server = s3_without_conditions(port, &directory.0, BUCKET);
    let client = AmazonS3Builder::new().with_endpoint(format!("http://127.0.0.1:{port}")).with_allow_http(true);
    // Those are the only ones that it knows.
    let client = client.with_access_key_id("S3RVER").with_secret_access_key("S3RVER").with_region("us-east-1");
    let client = client.with_bucket_name(BUCKET).with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    let store = ObjectKeyStore::new(Arc::new(client.build().unwrap()), Path::from("a"));
    let error = store.probe().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unfit, "{error}");
    assert!(error.to_string().contains("If-None-Match"), "{error}");

    // Whoever says that he is alone may have it.
    let alone = store.dangerous_single_writer();
    alone.probe().await.unwrap();
    let first = alone.swap_state(None, b"1").await.unwrap();
    assert_eq!(kind(alone.swap_state(None, b"2")).await, Some(StoreErrorKind::Conflict));
    let second = alone.swap_state(Some(&first), b"2").await.unwrap();
    assert_eq!(kind(alone.swap_state(Some(&first), b"3")).await, Some(StoreErrorKind::Conflict));
    assert_eq!(alone.load_state().await.unwrap().unwrap().version, second);
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_double_keeps_the_promises_and_of_many_one_wins() {
    contract::every_promise_is_kept(&store(Double::start().port())).await;
    let store = store(Double::start().port());
    store.probe().await.unwrap();
    contract::one_of_many_wins(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_store_is_found_before_it_is_used() {
    for (flaw, part) in [
        (Flaw::IgnoresConditions, "If-None-Match"),
        (Flaw::IgnoresIfNoneMatch, "If-None-Match"),
        (Flaw::IgnoresIfMatch, "If-Match"),
        (Flaw::WritesWhatItRefuses, "has written what it said it had not"),
        (Flaw::RevivesWhatIsGone, "and is not"),
        (Flaw::NothingMatches, "just the one which must be there"),
        (Flaw::OtherEtags, "by another when it is read"),
        (Flaw::RemovesNothing, "still shows"),
        (Flaw::KnowsNoConditions, "status 501"),
    ] {
        let double = Double::start();
        double.set_flaw(flaw);
        let error = store(double.port()).probe().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unfit, "{flaw:?}: {error}");
        assert!(error.to_string().contains(part), "{flaw:?}: {error}");
    }
    // Of that, its client says no more than that it failed.
    let double = Double::start();
    double.set_flaw(Flaw::NoEtags);
    assert_eq!(kind(store(double.port()).probe()).await, Some(StoreErrorKind::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_during_the_probe_proves_nothing() {
    // At each of its writes in turn, those that must fail among them, and the marker's.
    for at in 0..6 {
        for fault in [Fault::Refuse(503), Fault::Deny(500), Fault::Vanish] {
            let double = Double::start();
            let store = store(double.port());
            for _ in 0..at {
                double.plan(Fault::None);
            }
            double.plan(fault);
            assert_eq!(kind(store.probe()).await, Some(StoreErrorKind::Unavailable), "{at}, {fault:?}");
            assert_eq!(kind(store.probe()).await, None, "{at}, {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_leaves_doubt_is_unknown_and_what_was_written_is_there() {
    for fault in
        [Fault::Vanish, Fault::Deny(500), Fault::Deny(503), Fault::Deny(412), Fault::Deny(409), Fault::Deny(408)]
    {
        let double = Double::start();
        let store = store(double.port());
        store.probe().await.unwrap();
        let first = store.swap_state(None, b"first").await.unwrap();

        double.plan(fault);
        assert_eq!(kind(store.swap_state(Some(&first), b"second")).await, Some(StoreErrorKind::Unknown), "{fault:?}");
        assert_eq!(store.load_state().await.unwrap().unwrap().bytes, b"second");
        double.plan(fault);
        assert_eq!(kind(store.put_private("kid", b"sealed")).await, Some(StoreErrorKind::Unknown), "{fault:?}");
        assert_eq!(store.get_private("kid").await.unwrap().bytes, b"sealed");
        double.plan(fault);
        assert_eq!(kind(store.publish_jwks(None, b"{}", HEADERS)).await, Some(StoreErrorKind::Unknown), "{fault:?}");
        assert_eq!(store.load_jwks().await.unwrap().unwrap().bytes, b"{}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_leaves_none_says_what_it_is() {
    for (status, expected) in [
        (400, StoreErrorKind::Unavailable),
        (401, StoreErrorKind::Denied),
        (403, StoreErrorKind::Denied),
        (429, StoreErrorKind::Unavailable),
        (501, StoreErrorKind::Unfit),
    ] {
        let double = Double::start();
        let store = store(double.port());
        store.probe().await.unwrap();
        double.plan(Fault::Refuse(status));
        assert_eq!(kind(store.swap_state(None, b"{}")).await, Some(expected), "{status}");
        assert_eq!(store.load_state().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_that_nobody_asked_for_hide_no_doubt() {
    // Done, and answered with a failure; done once more by the client, and met with its own success, or turned away.
    for second in [None, Some(Fault::Refuse(403)), Some(Fault::Refuse(400)), Some(Fault::Refuse(409))] {
        let double = Double::start();
        let store = ObjectKeyStore::new(Arc::new(client(double.port(), BUCKET, 3)), Path::from("a"));
        store.probe().await.unwrap();
        let first = store.swap_state(None, b"first").await.unwrap();
        for expected in [Some(&first), None] {
            let before = double.writes();
            double.plan(Fault::Deny(500));
            if let Some(second) = second {
                double.plan(second);
            }
            let answer = match expected {
                Some(first) => kind(store.swap_state(Some(first), b"second")).await,
                None => kind(store.put_private("kid", b"sealed")).await,
            };
            assert_eq!(answer, Some(StoreErrorKind::Unknown), "{second:?}");
            assert!(double.writes() >= before + 2, "it was sent again");
        }
        assert_eq!(store.load_state().await.unwrap().unwrap().bytes, b"second");
        assert_eq!(store.get_private("kid").await.unwrap().bytes, b"sealed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_ends_in_time_whatever_the_client_still_has_in_mind() {
    let limit = Duration::from_millis(300);
    let double = Double::start();
    let store =
        ObjectKeyStore::new(Arc::new(client(double.port(), BUCKET, usize::MAX)), Path::from("a")).time_limit(limit);
    store.probe().await.unwrap();
    for fault in [Fault::Hang, Fault::Vanish] {
        let begun = Instant::now();
        double.plan(fault);
        let version = store.load_state().await.unwrap().map(|stored| stored.version);
        assert_eq!(kind(store.swap_state(version.as_ref(), b"x")).await, Some(StoreErrorKind::Unknown));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(store.load_state().await.unwrap().unwrap().bytes, b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_vanishes_has_no_missing_keys() {
    let double = Double::start();
    let store = store(double.port());
    store.probe().await.unwrap();
    store.put_private("kid", b"sealed").await.unwrap();
    assert_eq!(kind(store.get_private("other")).await, Some(StoreErrorKind::NotFound));
    double.set_flaw(Flaw::NoBucket);
    for kid in ["kid", "other"] {
        assert_eq!(kind(store.get_private(kid)).await, Some(StoreErrorKind::Unavailable));
    }
    assert_eq!(kind(store.load_state()).await, Some(StoreErrorKind::Unavailable));
}
