//! An issuer that is its own API's.

use std::process::Command;
use std::time::Duration;

use countersign::{JwtAuth, SystemClock};
use countersign_examples::{Client, Running, Scratch, documented_calls_to, example_binary};
use tokio::time::{sleep, timeout};

/// How often is looked whether keys have rotated.
const LOOK: Duration = Duration::from_millis(50);

/// Seconds, and not eleven minutes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Example {
    running: Running,
    client: Client,
    token: String,
    admin: String,
}

impl Example {
    fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let directory = scratch.path("ring");
        let running = Running::start("issuer_and_api", &[&["--directory", &directory], arguments].concat());
        let mut tokens = running.tokens().map(str::to_owned);
        let [token, admin] = [tokens.next().unwrap(), tokens.next().unwrap()];
        drop(tokens);
        Self { running, client: Client::http1(), token, admin }
    }

    async fn status(&self, method: &str, path: &str, token: &str) -> u16 {
        self.client.call(method, &self.running.url(path), token).await.status
    }

    async fn token_for(&self, subject: &str) -> String {
        let answer = self.client.call("POST", &self.running.url(&format!("/tokens/{subject}")), &self.admin).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// What the API says of both, and who has the key set by its URL, as other services do.
    async fn assert_everybody_accepts(&self, tokens: &[&str]) {
        let jwks_url = self.running.url("/.well-known/jwks.json");
        let elsewhere = JwtAuth::new(jwks_url).issuer("https://issuer.example").audience("orders").verifier();
        for token in tokens {
            assert_eq!(self.status("GET", "/orders", token).await, 200);
            elsewhere.verify_or_wait(token, &SystemClock).await.unwrap();
        }
    }

    /// Once a token has another key than this one.
    async fn first_token_after(&self, old: &str) -> String {
        let looking = async {
            loop {
                let token = self.token_for("grace").await;
                if header(&token) != header(old) {
                    return token;
                }
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, looking).await.expect("a rotation")
    }
}

/// Where the name of the key is.
fn header(token: &str) -> &str {
    token.split('.').next().unwrap()
}

#[tokio::test]
async fn the_api_lets_in_what_its_issuer_mints_and_nothing_else() {
    let scratch = Scratch::new("issuer-and-api-tokens");
    let example = Example::start(&scratch, &[]);
    let orders = example.running.url("/orders");
    assert_eq!(example.client.call("GET", &orders, &example.token).await.content(), (200, "the orders of ada"));
    let grace = example.token_for("grace").await;
    assert_eq!(example.client.call("GET", &orders, &grace).await.content(), (200, "the orders of grace"));
    let nobody = example.client.get_bare(&orders).await;
    assert_eq!((nobody.content(), nobody.challenge()), ((401, ""), r#"Bearer realm="api""#));
    example.client.check_that_forged_tokens_are_refused(&orders, &example.token).await;

    // Neither for others nor for themselves.
    for path in ["/tokens/root", "/tokens/ada", "/keys/rotate"] {
        let answer = example.client.call("POST", &example.running.url(path), &example.token).await;
        assert_eq!(answer.content(), (403, ""), "{path}");
        assert!(answer.challenge().contains(r#"error="insufficient_scope""#), "{answer:?}");
        let without = example.client.send(example.client.request("POST", &example.running.url(path))).await;
        assert_eq!(without.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_rotation_that_somebody_orders_refuses_nobody() {
    let scratch = Scratch::new("issuer-and-api-rotation");
    let example = Example::start(&scratch, &["--hurry"]);
    let first = &example.token;
    let answer = example.client.call("POST", &example.running.url("/keys/rotate"), &example.admin).await;
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    let second = example.first_token_after(first).await;
    example.assert_everybody_accepts(&[first, &second]).await;

    #[cfg(unix)]
    {
        example.running.hang_up();
        let third = example.first_token_after(&second).await;
        example.assert_everybody_accepts(&[first, &second, &third]).await;
    }
}

#[tokio::test]
async fn keys_outlive_the_process_and_are_another_issuers_to_nobody() {
    let scratch = Scratch::new("issuer-and-api-restart");
    let mut example = Example::start(&scratch, &[]);
    let before = example.token.clone();
    example.running.kill();
    let again = Example::start(&scratch, &[]);
    assert_eq!(header(&again.token), header(&before));
    assert_eq!(again.status("GET", "/orders", &before).await, 200);

    let mut other = Command::new(example_binary("issuer_and_api"));
    let directory = scratch.path("ring");
    let other = other.args(["--port", "0", "--directory", &directory, "--issuer", "https://other.example"]);
    let refused = other.output().unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && message.contains("state"), "{message}");
}

#[tokio::test]
async fn the_documented_calls_work() {
    let scratch = Scratch::new("issuer-and-api-documented");
    let example = Example::start(&scratch, &[]);
    documented_calls_to(&example.running, include_str!("../../issuer_and_api.rs")).await;
}
