//! Three nodes of one ring, in the double of S3 that the tests of stores have, and in moto.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, where a panic is the message")]

use std::process::Command;
use std::time::Duration;

use countersign_examples::{Client, Running, documented_calls_to, example_binary};
use countersign_tests_stores::double::{Double, Flaw};
use countersign_tests_stores::{PATIENCE, SIGNED, free_port, s3};
use tokio::time::{sleep, timeout};

/// How often is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(50);

const BUCKET: &str = "rings";

/// Somebody's key-encryption key: 32 bytes in hexadecimal digits.
const KEK: &str = "5d3b2a190817f6e5d4c3b2a1908f7e6d5c4b3a29180f7e6d5c4b3a2918070605";

/// An endpoint, and who asks what is there.
struct Place {
    url: String,
    client: Client,
}

impl Place {
    fn new(port: u16) -> Self {
        Self { url: format!("http://127.0.0.1:{port}"), client: Client::http1() }
    }

    fn environment<'a>(&'a self, kek: &'a str) -> [(&'a str, &'a str); 8] {
        [
            ("AWS_ENDPOINT", &self.url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2-is-the-secret-access-key"),
            ("RING_KEK", kek),
            // Whatever proxy there is, the server is not behind it.
            ("NO_PROXY", "127.0.0.1"),
            ("no_proxy", "127.0.0.1"),
        ]
    }

    fn start(&self, arguments: &[&str]) -> Node {
        let arguments = [&["--bucket", BUCKET], arguments].concat();
        let running = Running::start_with("ring_object_store", &arguments, &self.environment(KEK));
        let tokens: Vec<_> = running.tokens().map(str::to_owned).collect();
        let [token, admin] = tokens.try_into().unwrap();
        Node { running, client: Client::http1(), token, admin }
    }

    /// What it says that does not start.
    fn refusal(&self, kek: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(example_binary("ring_object_store"));
        command.args(["--port", "0", "--bucket", BUCKET]).args(arguments).envs(self.environment(kek));
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    async fn object(&self, name: &str) -> String {
        let url = format!("{}/{BUCKET}/ring/{name}", self.url);
        let answer = self.client.send(self.client.request("GET", &url).header("Authorization", SIGNED)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }
}

struct Node {
    running: Running,
    client: Client,
    token: String,
    admin: String,
}

impl Node {
    async fn status(&self, method: &str, path: &str, token: &str) -> u16 {
        self.client.call(method, &self.running.url(path), token).await.status
    }

    async fn mint(&self) -> String {
        let answer = self.client.call("POST", &self.running.url("/tokens/grace"), &self.admin).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    async fn jwks(&self) -> String {
        self.client.get_bare(&self.running.url("/.well-known/jwks.json")).await.body
    }

    /// Has the ring rotated by this node.
    async fn rotate(&self) {
        let status = self.status("POST", "/keys/rotate", &self.admin).await;
        assert!(matches!(status, 200 | 202), "{status}");
    }
}

/// Where the name of the key is.
fn header(token: &str) -> &str {
    token.split('.').next().unwrap()
}

async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looking).await.expect("it comes about")
}

/// A token of each of these nodes, once none of them signs with that key any more and all with the same.
async fn tokens_after(nodes: &[&Node], old: &str) -> Vec<String> {
    until(async || {
        let mut tokens = Vec::new();
        for node in nodes {
            tokens.push(node.mint().await);
        }
        let is_new = |token: &String| header(token) != header(old) && header(token) == header(&tokens[0]);
        tokens.iter().all(is_new).then_some(tokens)
    })
    .await
}

/// Wherever a token was minted, and by which key, it is good at each node.
async fn assert_all_accept(nodes: &[&Node], tokens: &[String]) {
    for (node, token) in nodes.iter().flat_map(|node| tokens.iter().map(move |token| (node, token))) {
        assert_eq!(node.status("GET", "/orders", token).await, 200);
    }
}

async fn three_nodes_are_one_issuer(place: &Place) {
    let mut first = place.start(&["--hurry"]);
    let [second, third] = [place.start(&["--hurry"]), place.start(&["--hurry"])];
    let mut tokens: Vec<_> = [&first, &second, &third].map(|node| node.token.clone()).into();
    assert!(tokens.iter().all(|token| header(token) == header(&tokens[0])), "one key signs");
    assert_all_accept(&[&first, &second, &third], &tokens).await;

    second.rotate().await;
    tokens.extend(tokens_after(&[&first, &second, &third], &first.token).await);
    assert_all_accept(&[&first, &second, &third], &tokens).await;

    // The others go on without it, and it with them.
    first.running.kill();
    third.rotate().await;
    let signed = tokens[3].clone();
    tokens.extend(tokens_after(&[&second, &third], &signed).await);
    let first = place.start(&["--hurry"]);
    tokens.push(first.token.clone());
    assert_all_accept(&[&first, &second, &third], &tokens).await;

    // What each of them serves is what lies in the bucket.
    until(async || {
        let stored = place.object("jwks/jwks.json").await;
        let served = [first.jwks().await, second.jwks().await, third.jwks().await];
        served.iter().all(|set| *set == stored).then_some(())
    })
    .await;
    let state = place.object("state/state.json").await;
    assert!(state.contains("\"active\"") && !state.contains("\"d\""), "{state}");

    let orders = third.running.url("/orders");
    third.client.check_that_forged_tokens_are_refused(&orders, &first.token).await;
    assert_eq!(third.status("POST", "/keys/rotate", &first.token).await, 403);
    assert_eq!(third.status("POST", "/tokens/root", &first.token).await, 403);

    // Whoever has the bucket and not the key-encryption key, or is another issuer, is no node of it.
    let stranger = place.refusal(&KEK.replace('5', "6"), &[]);
    assert!(stranger.contains("State(") && stranger.contains("not in the ring"), "{stranger}");
    let other = place.refusal(KEK, &["--issuer", "https://other.example"]);
    assert!(other.contains("State("), "{other}");
    assert_all_accept(&[&first, &second, &third], &tokens).await;
}

#[tokio::test]
async fn three_nodes_are_one_issuer_in_the_double() {
    three_nodes_are_one_issuer(&Place::new(Double::start().port())).await;
}

#[tokio::test]
#[ignore = "wants moto, which tests/stores/run installs"]
async fn three_nodes_are_one_issuer_in_moto() {
    let port = free_port();
    let _server = s3(port);
    let place = Place::new(port);
    let bucket = place.client.request("PUT", &format!("{}/{BUCKET}", place.url)).header("Authorization", SIGNED);
    assert_eq!(place.client.send(bucket).await.status, 200);
    three_nodes_are_one_issuer(&place).await;
}

#[tokio::test]
async fn a_store_that_ignores_conditions_and_a_bucket_that_is_not_there_are_refused() {
    let double = Double::start();
    let place = Place::new(double.port());
    double.set_flaw(Flaw::IgnoresConditions);
    let unfit = place.refusal(KEK, &[]);
    assert!(unfit.contains("If-None-Match"), "{unfit}");
    double.set_flaw(Flaw::NoBucket);
    let gone = place.refusal(KEK, &[]);
    for secret in ["hunter2", "AKIA", KEK] {
        assert!(!format!("{unfit}{gone}").contains(secret), "{unfit}{gone}");
    }
    double.set_flaw(Flaw::None);
    assert!(place.refusal("correct horse battery staple 123", &[]).contains("Malformed"));
}

#[tokio::test]
async fn the_documented_calls_work() {
    let place = Place::new(Double::start().port());
    let node = place.start(&[]);
    documented_calls_to(&node.running, include_str!("../../../ring_object_store.rs")).await;
}
