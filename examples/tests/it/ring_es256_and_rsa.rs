//! Keys of three kinds.

use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::Parser as _;
use countersign_examples::{Client, Running, Scratch, documented_calls_to, example_binary};
use countersign_issuer::{Kek, KekRing, MemoryStore, Ring};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

#[path = "../../ring_es256_and_rsa.rs"]
#[allow(dead_code, reason = "of the example, its configuration is wanted here, and not its `main`")]
mod example;

#[tokio::test]
async fn each_kind_signs_and_is_published() {
    let scratch = Scratch::new("three-kinds");
    let directory = scratch.path("ring");
    let example = Running::start("ring_es256_and_rsa", &["--directory", &directory]);
    let client = Client::http1();

    let jwks: Value =
        serde_json::from_str(&client.get_bare(&example.url("/.well-known/jwks.json")).await.body).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    // 64, 2048 and 4096 bits of modulus or coordinate, in base64url.
    let has = |algorithm: &str, member: &str, characters: usize| {
        keys.iter()
            .any(|key| key["alg"] == algorithm && key[member].as_str().is_some_and(|text| text.len() == characters))
    };
    assert!(has("ES256", "x", 43) && has("RS256", "n", 342) && has("RS256", "n", 683), "{jwks}");

    for beginning in ["keys of three kinds within ", "the reactor was held up for "] {
        assert!(example.said.iter().any(|line| line.starts_with(beginning)), "{:?}", example.said);
    }

    let orders = example.url("/orders");
    assert_eq!(example.tokens().count(), 3);
    for token in example.tokens() {
        client.check_that_forged_tokens_are_refused(&orders, token).await;
    }
    documented_calls_to(&example, include_str!("../../ring_es256_and_rsa.rs")).await;
}

#[test]
fn quarters_of_an_hour_are_refused_with_the_arithmetic_before_anything_is_made() {
    let scratch = Scratch::new("three-kinds-refused");
    let directory = scratch.path("ring");
    let mut example = Command::new(example_binary("ring_es256_and_rsa"));
    let refused = example.args(["--port", "0", "--rotation", "900", "--directory", &directory]).output().unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && message.contains("it is 294; publishing often is H, not R"), "{message}");
    assert!(!std::path::Path::new(&directory).exists());
}

#[test]
fn keys_are_made_on_threads_for_blocking_work_and_on_no_other() {
    let options = example::Options::parse_from(["example", "--hurry"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        // The one thread there is has something else to do.
        let (release, released) = mpsc::channel::<()>();
        let busy = spawn_blocking(move || released.recv());
        let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
        let store = Arc::new(MemoryStore::new());
        let ring =
            Ring::builder("https://issuer.example", example::config(&options), store, keks).start().await.unwrap();
        // Ten times as long as the ring waits for others to be quicker; and as often does this thread get around to something, however
        // long a key would occupy it.
        for _ in 0..20 {
            sleep(Duration::from_millis(100)).await;
        }
        let status = ring.status();
        assert!(status.seq == Some(1) && status.keys.is_empty(), "{status:?}");

        drop(release);
        busy.await.unwrap().unwrap_err();
        ring.ready_within(Duration::from_secs(120)).await.unwrap();
    });
}
