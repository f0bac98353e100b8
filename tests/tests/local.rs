//! Secrets in a file, swapped while requests come in.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which the exception for tests does not cover")]

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign::{Algorithm, JwtAuth, Keys, KeysHandle, Local, Policy, RequireJwtLayer, Verifier};
use countersign_testkit::{TestKey, Token};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt as _, service_fn};

const ISSUER: &str = "https://login.example";

/// How many clients send requests, one after the other, all the time.
const CLIENTS: usize = 8;

/// Replaces the file as a whole.
fn write(path: &Path, lines: &[String]) {
    let beside = path.with_extension("new");
    fs::write(&beside, lines.join("\n")).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, path).unwrap();
}

fn line(key: &TestKey) -> String {
    format!("base64:{}", STANDARD.encode(key.secret().unwrap()))
}

fn token(key: &TestKey) -> String {
    Token::new(key).issuer(ISSUER).audience("api").sign()
}

/// One request through the layer.
async fn call(layer: &RequireJwtLayer<Keys>, token: &str) -> StatusCode {
    let hello = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
    let request = Request::get("/").header("authorization", format!("Bearer {token}")).body(Full::<Bytes>::default());
    layer.layer(hello).oneshot(request.unwrap()).await.unwrap().status()
}

async fn until(handle: &KeysHandle, generation: u64) {
    let reached = async {
        while handle.status().generation != Some(generation) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.unwrap();
}

/// All that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_swapped_under_load_and_nobody_is_refused_before_the_old_one_is_dead() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();

    let [old, new] = [0, 1].map(|number| TestKey::nth(Algorithm::Hs256, number).without_kid());
    let file = File(std::env::temp_dir().join(format!("countersign-secrets-{}", std::process::id())));
    write(&file.0, &[line(&old)]);
    let keys = Keys::local(Local::secrets(&file.0, Algorithm::Hs256).bound_to_issuer(ISSUER));
    let handle = keys.handle();
    let policy = Policy::new().issuer(ISSUER).audience("api");
    let layer = RequireJwtLayer::new(Verifier::new(keys, policy).algorithms(Algorithm::Hs256));
    layer.check().unwrap();
    // The first requests wait for the first look.
    assert_eq!(call(&layer, &token(&old)).await, StatusCode::OK);
    assert_eq!(call(&layer, &token(&new)).await, StatusCode::UNAUTHORIZED, "nobody has heard of it");

    // Whose tokens the clients have, and how many of each have been let in.
    let in_use = Arc::new([AtomicBool::new(true), AtomicBool::new(false)]);
    let passed = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (layer, in_use, passed, stop) = (layer.clone(), in_use.clone(), passed.clone(), stop.clone());
            let tokens = [token(&old), token(&new)];
            tokio::spawn(async move {
                let mut refused = Vec::new();
                while !stop.load(SeqCst) {
                    for index in 0..tokens.len() {
                        if in_use[index].load(SeqCst) {
                            match call(&layer, &tokens[index]).await {
                                StatusCode::OK => drop(passed[index].fetch_add(1, SeqCst)),
                                status => refused.push((index, status)),
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                refused
            })
        })
        .collect();

    // The new secret is spread first, and used for signing once it is known.
    write(&file.0, &[line(&new), line(&old)]);
    until(&handle, 2).await;
    in_use[1].store(true, SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Somebody's mistake in between changes nothing.
    write(&file.0, &[line(&new), line(&old)[..20].to_owned()]);
    let failed = handle.status().fetches_failed;
    while handle.status().fetches_failed == failed {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(handle.status().last_error.unwrap().contains("line 2"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The last token of the old one has expired, as it were.
    in_use[0].store(false, SeqCst);
    tokio::time::sleep(Duration::from_millis(100)).await;
    write(&file.0, &[line(&new)]);
    until(&handle, 3).await;
    assert_eq!(call(&layer, &token(&old)).await, StatusCode::UNAUTHORIZED, "dead");
    tokio::time::sleep(Duration::from_millis(100)).await;

    stop.store(true, SeqCst);
    for client in clients {
        assert_eq!(client.await.unwrap(), [], "nobody was refused");
    }
    let passed = [passed[0].load(SeqCst), passed[1].load(SeqCst)];
    assert!(passed.iter().all(|count| *count > 10 * CLIENTS), "{passed:?}");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("line 2") && log.contains("keys published"), "{log}");
    for key in [&old, &new] {
        assert!(!log.contains(&line(key)[7..27]), "{log}");
    }
}

#[test]
fn the_example_in_the_readme_goes_together() {
    let keys = Keys::local(Local::secrets("/run/secrets/jwt", Algorithm::Hs256));
    let auth = JwtAuth::from_keys(keys).algorithms(Algorithm::Hs256).issuer("https://login.example").audience("orders");
    assert_eq!(auth.check(), Ok(()));
}
