//! The axum example.

use std::time::Duration;

use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::IdentityProvider;
use serde_json::json;

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
async fn what_takes_a_scope_and_a_role_is_not_done_for_one_of_them() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("axum", &idp);
    let (client, order) = (Client::http1(), example.url("/orders/1"));
    let writer = || idp.token("orders").scope("orders:write");
    let roles = |roles: &[&str]| json!({ "roles": roles });

    let clerk = client.delete(&order, &writer().claim("realm_access", roles(&["auditor", "clerk"]))).await;
    assert_eq!(clerk.content(), (200, r#"{"by":"ada","cancelled":"1"}"#));

    let no_scope = client.delete(&order, &idp.token("orders").claim("realm_access", roles(&["clerk"]))).await;
    assert_eq!(no_scope.content(), (403, ""));
    assert!(no_scope.challenge().contains(r#"scope="orders:write""#), "{}", no_scope.challenge());
    // A role is nothing that a client could ask for, so it is not named; nor is one that only resembles it enough.
    for without in [writer(), writer().claim("realm_access", roles(&["clerks"])), writer().claim("roles", "clerk")] {
        let refused = client.delete(&order, &without).await;
        assert_eq!(refused.content(), (403, ""), "{without:?}");
        assert!(!refused.challenge().contains("clerk"), "{}", refused.challenge());
    }
}

#[tokio::test]
async fn the_public_page_is_for_everybody_but_those_with_a_bad_token() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("axum", &idp);
    let (client, page) = (Client::http1(), example.url("/"));
    assert_eq!(client.get_bare(&page).await.content(), (200, "Welcome!"));
    assert_eq!(client.get(&page, &idp.token("orders")).await.content(), (200, "Welcome back, ada!"));
    for bad in [idp.token("invoices"), idp.token("orders").expired(Duration::from_secs(60))] {
        assert_eq!(client.get(&page, &bad).await.content(), (401, ""), "{bad:?}");
    }
    let garbage = client.request("GET", &page).header("authorization", "Bearer a b");
    assert_eq!(client.send(garbage).await.status, 400);
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("axum", include_str!("../../axum.rs")).await;
}
