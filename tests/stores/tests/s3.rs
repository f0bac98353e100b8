//! Keys in objects: in S3, as moto has it, and in files, whose dates can be set.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use countersign_jwks::{KeyEvent, KeyState, Keys, MAX_BODY_BYTES, Remote};
use countersign_testkit::{IdentityProvider, TestKey};
use countersign_tests_stores::{PATIENCE, Server, finds, free_port, has, jwks, make_bucket, s3, until};
use countersign_token::Algorithm;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutOptions, RetryConfig};
use tokio::time::timeout;

const BUCKET: &str = "keys";
const SECRET: &str = "hunter2-is-the-secret-access-key";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A bucket on a server of its own.
struct Bucket {
    server: Option<Server>,
    port: u16,
    client: reqwest::Client,
    store: AmazonS3,
}

impl Bucket {
    async fn new() -> Self {
        let port = free_port();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut bucket = Self { server: None, port, client, store: store(port, no_retries()) };
        bucket.start().await;
        bucket
    }

    /// Starts the server with the bucket, and nothing in it.
    async fn start(&mut self) {
        self.server = Some(s3(self.port));
        make_bucket(self.port, BUCKET).await;
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    async fn put(&self, keys: &[TestKey]) {
        self.store.put(&path(), jwks(keys).into()).await.unwrap();
    }

    /// Whether the server lets anybody in from now on, or only whom it knows, which is nobody.
    async fn let_in(&self, anybody: bool) {
        let request = self.client.post(format!("http://127.0.0.1:{}/moto-api/reset-auth", self.port));
        let answer = request.body(if anybody { "inf" } else { "0" }).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    fn remote(&self) -> Remote {
        Remote::object(Arc::new(self.store.clone()), path(), "s3://keys/jwks.json")
    }

    /// A source that has the keys that are there.
    async fn keys(&self) -> Keys {
        let keys = Keys::remote(self.remote());
        keys.handle().ready_within(PATIENCE).await.unwrap();
        keys
    }
}

fn store(port: u16, retry: RetryConfig) -> AmazonS3 {
    let builder = AmazonS3Builder::new().with_endpoint(format!("http://127.0.0.1:{port}")).with_allow_http(true);
    let builder = builder.with_bucket_name(BUCKET).with_region("us-east-1").with_retry(retry);
    builder.with_access_key_id("AKIAEXAMPLE").with_secret_access_key(SECRET).build().unwrap()
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn path() -> Path {
    Path::from("issuer/jwks.json")
}

fn key(n: usize) -> TestKey {
    TestKey::nth(Algorithm::Es256, n)
}

/// Why a look that is asked for now fails.
async fn failure(keys: &Keys) -> String {
    keys.handle().refresh().await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_asked_for_by_its_etag_and_followed_when_it_is_replaced() {
    let bucket = Bucket::new().await;
    bucket.put(&[key(1)]).await;
    let keys = bucket.keys().await;
    assert!(finds(&keys, &key(1)).await);

    keys.handle().refresh().await.unwrap();
    bucket.server().wait_for("\" 304 ", 1);
    let status = keys.handle().status();
    assert_eq!((status.state, status.generation, status.fetches_failed), (KeyState::Ready, Some(1), 0));

    bucket.put(&[key(2)]).await;
    let begun = Instant::now();
    until("the new key is found", async || finds(&keys, &key(2)).await).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "within the spacing of forced looks and a look: {begun:?}");
    assert!(!has(&keys, &key(1)), "withdrawn");
    assert_eq!(keys.handle().status().clock_offset, None, "when an object was written says nothing of clocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_control_of_the_object_counts() {
    let bucket = Bucket::new().await;
    let put = async |keys: &[TestKey], cache_control| {
        let attributes = Attributes::from_iter([(Attribute::CacheControl, cache_control)]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        bucket.store.put_opts(&path(), jwks(keys).into(), options).await.unwrap();
    };
    put(&[key(1)], "public, max-age=1800").await;
    let handle = bucket.keys().await.handle();
    until("the lifetime is the object's", async || handle.status().lifetime == Some(Duration::from_secs(1800))).await;
    // And stays so, although a 304 of S3 does not repeat it.
    handle.refresh().await.unwrap();
    bucket.server().wait_for("\" 304 ", 1);
    assert_eq!(handle.status().lifetime, Some(Duration::from_secs(1800)));

    put(&[key(2)], "max-age=60").await;
    handle.refresh().await.unwrap();
    assert_eq!(handle.status().lifetime, Some(Duration::from_secs(60)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_leaves_the_keys_in_force_and_is_told_without_secrets() {
    let mut bucket = Bucket::new().await;
    bucket.put(&[key(1)]).await;
    let keys = bucket.keys().await;

    bucket.let_in(false).await;
    assert_eq!(failure(&keys).await, "access to the object is denied");
    bucket.let_in(true).await;

    bucket.store.delete(&path()).await.unwrap();
    assert_eq!(failure(&keys).await, "there is no such object, or no such bucket");

    let mut oversized = jwks(&[key(2)]);
    oversized.resize(MAX_BODY_BYTES + 1, b' ');
    bucket.store.put(&path(), oversized.clone().into()).await.unwrap();
    assert_eq!(failure(&keys).await, "the answer is too large");

    bucket.store.put(&path(), "<Error>not a key set</Error>".into()).await.unwrap();
    assert!(failure(&keys).await.contains("JSON"));

    bucket.stop();
    assert_eq!(failure(&keys).await, "the store failed: connection refused");
    let status = keys.handle().status();
    assert_eq!((status.state, status.generation, status.fetches_failed), (KeyState::Ready, Some(1), 5));
    assert!(has(&keys, &key(1)), "and the keys are there all the time");

    bucket.start().await;
    oversized.truncate(MAX_BODY_BYTES);
    bucket.store.put(&path(), oversized.into()).await.unwrap();
    keys.handle().refresh().await.unwrap();
    assert!(has(&keys, &key(2)) && !has(&keys, &key(1)));
}

/// A server that answers each request with this and closes; `None`: it says nothing.
fn answering(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 8192]);
            match answer {
                Some(answer) => drop(stream.write_all(answer.as_bytes())),
                None => silent.push(stream),
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_repeat_neither_what_the_server_says_nor_urls() {
    for (answer, error) in [
        (
            "HTTP/1.1 503 Slow Down\r\nContent-Length: 7\r\nConnection: close\r\n\r\nhunter2",
            "the store failed: the answer has status 503",
        ),
        (
            "HTTP/1.1 401 No\r\nContent-Length: 7\r\nConnection: close\r\n\r\nhunter2",
            "the store does not accept the credentials",
        ),
        ("HTTP/1.1 200 OK\r\nhunter2: hunter2\r\nConnection: close\r\n\r\nhunter2", "the store failed"),
        ("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n", "status 304 to a request that was not conditional"),
        ("hunter2\r\n\r\n", "the store failed"),
    ] {
        let store = Arc::new(store(answering(Some(answer)), no_retries()));
        let keys = Keys::remote(Remote::object(store, path(), "s3://keys/jwks.json"));
        assert_eq!(failure(&keys).await, error, "{answer}");
        for text in [format!("{keys:?}"), format!("{:?}", keys.handle().status())] {
            assert!(!text.contains("hunter2") && !text.contains("AKIA"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_ends_in_time_whatever_the_store_still_has_in_mind() {
    let unavailable = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for answer in [Some(unavailable), None] {
        let retries = RetryConfig { max_retries: usize::MAX, ..RetryConfig::default() };
        let store = Arc::new(store(answering(answer), retries));
        let begun = Instant::now();
        let keys = Keys::remote(Remote::object(store, path(), "s3://keys/jwks.json"));
        let mut events = keys.handle().events();
        let KeyEvent::Failed { error } = events.next().await.unwrap() else { panic!() };
        assert_eq!(&*error, "timed out");
        assert!(begun.elapsed() < Duration::from_secs(4), "2 s: {begun:?}");
    }
}

/// A directory as a store, in which objects can be as old as one likes.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-stores-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("issuer")).unwrap();
        Self(path)
    }

    fn put(&self, keys: &[TestKey], ago: Duration) {
        let (beside, file) = (self.0.join("beside"), self.0.join(path().as_ref()));
        fs::write(&beside, jwks(keys)).unwrap();
        let written = File::options().write(true).open(&beside).unwrap();
        written.set_modified(SystemTime::now() - ago).unwrap();
        fs::rename(beside, file).unwrap();
    }

    fn remote(&self) -> Remote {
        let store = LocalFileSystem::new_with_prefix(&self.0).unwrap();
        Remote::object(Arc::new(store), path(), "file://keys/jwks.json")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_object_is_refused_while_the_keys_are_fresh_and_not_for_ever() {
    let directory = Directory::new("older");
    directory.put(&[key(1)], Duration::ZERO);
    let keys = Keys::remote(directory.remote().default_lifetime(Duration::from_secs(4)));
    keys.handle().ready_within(PATIENCE).await.unwrap();
    let mut events = keys.handle().events();

    // As a copy that lags behind, or as somebody who takes a key set back.
    directory.put(&[key(2)], DAY);
    assert!(failure(&keys).await.contains("a copy lags behind"));
    assert!(has(&keys, &key(1)));

    let course = timeout(PATIENCE, async {
        let mut was_stale = false;
        loop {
            match events.next().await.unwrap() {
                KeyEvent::Stale => was_stale = true,
                KeyEvent::Rotated { .. } => return was_stale,
                _ => {}
            }
        }
    });
    assert!(course.await.unwrap(), "only once they are stale");
    assert!(has(&keys, &key(2)) && !has(&keys, &key(1)));

    // What is newer than that one is believed at once.
    directory.put(&[key(3)], DAY / 2);
    keys.handle().refresh().await.unwrap();
    assert!(has(&keys, &key(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_written_long_ago_replaces_the_keys_of_a_mirror() {
    let (directory, mirror) = (Directory::new("mirror"), IdentityProvider::start());
    let remote = directory.remote().or_else(Remote::new(mirror.jwks_url()).unwrap());
    let keys = Keys::remote(remote);
    keys.handle().ready_within(PATIENCE).await.unwrap();
    assert!(has(&keys, &mirror.key()), "there is no object yet");

    directory.put(&[key(1)], 7 * DAY);
    keys.handle().refresh().await.unwrap();
    assert!(has(&keys, &key(1)) && !has(&keys, &mirror.key()));
    // Nor is what the mirror says conditional on the ETag of the object.
    assert!(mirror.requests().iter().all(|request| !request.headers.contains_key("if-none-match")));
}
