//! The axum example, by a real client.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

use countersign_examples::Running;
use countersign_testkit::{IdentityProvider, Token};

struct Answer {
    status: u16,
    challenge: Option<String>,
    body: String,
}

async fn get(url: &str, token: Option<&Token>) -> Answer {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token.sign());
    }
    let response = request.send().await.unwrap();
    let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    Answer { status: response.status().as_u16(), challenge, body: response.text().await.unwrap() }
}

#[tokio::test]
async fn it_lets_in_whom_it_should() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("axum", &idp);

    let hello = get(&example.url("/hello"), Some(&idp.token("orders"))).await;
    assert_eq!((hello.status, hello.body.as_str()), (200, "Hello, ada!"));
    let healthz = get(&example.url("/healthz"), None).await;
    assert_eq!((healthz.status, healthz.body.as_str()), (200, "ok"));

    let nobody = get(&example.url("/hello"), None).await;
    assert_eq!((nobody.status, nobody.body.as_str()), (401, ""));
    assert_eq!(nobody.challenge.as_deref(), Some(r#"Bearer realm="api""#));
    let foreign = get(&example.url("/hello"), Some(&idp.token("invoices"))).await;
    assert_eq!((foreign.status, foreign.body.as_str()), (401, ""));
    assert!(foreign.challenge.unwrap().contains(r#"error="invalid_token""#));
}

#[tokio::test]
async fn it_asks_for_a_scope_and_survives_a_rotation() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("axum", &idp);

    let orders = get(&example.url("/orders"), Some(&idp.token("orders").scope("orders:read"))).await;
    assert_eq!((orders.status, orders.body.as_str()), (200, r#"[{"id":"1","owner":"ada"}]"#));
    let forbidden = get(&example.url("/orders"), Some(&idp.token("orders").scope("orders"))).await;
    assert_eq!((forbidden.status, forbidden.body.as_str()), (403, ""));
    assert!(forbidden.challenge.unwrap().contains(r#"scope="orders:read""#));

    idp.rotate();
    let rotated = get(&example.url("/hello"), Some(&idp.token("orders"))).await;
    assert_eq!(rotated.status, 200);
}

#[tokio::test]
async fn without_an_issuer_it_brings_one() {
    let example = Running::start("axum", &[]);
    let token = example.said.iter().find(|line| line.starts_with("ey")).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(example.url("/orders")).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
