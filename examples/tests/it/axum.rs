//! The axum example.

use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::IdentityProvider;

#[tokio::test]
async fn it_lets_in_whom_it_should() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("axum", &idp);
    let client = Client::http1();

    let hello = client.get(&example.url("/hello"), &idp.token("orders")).await;
    assert_eq!(hello.content(), (200, "Hello, ada!"));
    let healthz = client.get_bare(&example.url("/healthz")).await;
    assert_eq!(healthz.content(), (200, "ok"));

    let nobody = client.get_bare(&example.url("/hello")).await;
    assert_eq!(nobody.content(), (401, ""));
    assert_eq!(nobody.challenge(), r#"Bearer realm="api""#);
    let foreign = client.get(&example.url("/hello"), &idp.token("invoices")).await;
    assert_eq!(foreign.content(), (401, ""));
    assert!(foreign.challenge().contains(r#"error="invalid_token""#));
    client.check_that_hostile_tokens_are_refused(&example.url("/hello"), &idp.token("orders")).await;
}

#[tokio::test]
async fn it_asks_for_a_scope_and_survives_a_rotation() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("axum", &idp);
    let client = Client::http1();

    let orders = client.get(&example.url("/orders"), &idp.token("orders").scope("orders:read")).await;
    assert_eq!(orders.content(), (200, r#"[{"id":"1","owner":"ada"}]"#));
    let forbidden = client.get(&example.url("/orders"), &idp.token("orders").scope("orders")).await;
    assert_eq!(forbidden.content(), (403, ""));
    assert!(forbidden.challenge().contains(r#"scope="orders:read""#));

    idp.rotate();
    let rotated = client.get(&example.url("/hello"), &idp.token("orders")).await;
    assert_eq!(rotated.content(), (200, "Hello, ada!"));
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("axum", include_str!("../../axum.rs")).await;
}
