//! Keys of three kinds.

use std::process::Command;

use countersign_examples::{Client, Running, Scratch, documented_calls_to, example_binary};
use serde_json::Value;

#[tokio::test]
async fn each_kind_signs_and_is_published_and_none_was_made_by_the_reactor() {
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

    let said = |beginning: &str| -> u64 {
        let line = example.said.iter().find_map(|line| line.strip_prefix(beginning)).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let (made, held_up) = (said("keys of three kinds within "), said("the reactor was held up for "));
    // A key of 4096 bits takes hundreds of milliseconds, whatever the machine; a busy one may hold up anything a little.
    assert!(held_up < 200.max(made / 4), "{held_up} ms of {made} ms");

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
