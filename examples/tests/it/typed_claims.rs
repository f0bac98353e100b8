//! Claims as a type.

use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::{IdentityProvider, Token};
use serde_json::{Value, json};

fn token(idp: &IdentityProvider) -> Token {
    idp.token("orders").claim("tenant", "acme").scope("orders:read")
}

#[tokio::test]
async fn claims_reach_the_handler_as_their_type() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("typed_claims", &idp);
    let client = Client::http1();

    let me = client.get(&example.url("/me"), &token(&idp)).await;
    let body: Value = serde_json::from_str(&me.body).unwrap();
    assert_eq!((me.status, body), (200, json!({ "sub": "ada", "tenant": "acme", "email": null })));
    let me = client.get(&example.url("/me"), &token(&idp).claim("email", "ada@acme.example")).await;
    let body: Value = serde_json::from_str(&me.body).unwrap();
    assert_eq!(body["email"], "ada@acme.example");

    let report = client.get(&example.url("/report"), &token(&idp)).await;
    assert_eq!(report.content(), (200, "10 rows of acme, for ada"));
    let report = client.get(&example.url("/report"), &token(&idp).claim("plan", "pro")).await;
    assert_eq!(report.content(), (200, "1000 rows of acme, for ada"));

    idp.rotate();
    assert_eq!(client.get(&example.url("/report"), &token(&idp)).await.content(), (200, "10 rows of acme, for ada"));
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused_before_any_handler() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("typed_claims", &idp);
    let client = Client::http1();

    let misfits = [
        token(&idp).without("tenant"),
        token(&idp).without("sub"),
        token(&idp).claim("tenant", 7),
        token(&idp).claim("plan", "platinum"),
        token(&idp).claim("email", vec!["ada@acme.example"]),
    ];
    // `/orders/x` asks for no claims: its path does not even parse.
    for (token, path) in misfits.iter().flat_map(|token| ["/me", "/orders/1", "/orders/x"].map(|path| (token, path))) {
        let answer = client.get(&example.url(path), token).await;
        assert_eq!(answer.content(), (401, ""), "{path} {token:?}");
        assert!(answer.challenge().contains(r#"error="invalid_token""#));
    }
    let nobody = client.get_bare(&example.url("/me")).await;
    assert_eq!((nobody.content(), nobody.challenge()), ((401, ""), r#"Bearer realm="api""#));
    client.check_that_hostile_tokens_are_refused(&example.url("/me"), &token(&idp)).await;
}

#[tokio::test]
async fn a_group_needs_one_scope_and_a_handler_another() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("typed_claims", &idp);
    let client = Client::http1();
    let order = example.url("/orders/1");
    let both = "orders:read orders:write";

    let read = client.get(&order, &token(&idp)).await;
    assert_eq!(read.content(), (200, r#"{"id":1,"tenant":"acme"}"#));
    let cancelled = client.delete(&order, &token(&idp).scope(both)).await;
    assert_eq!(cancelled.content(), (200, r#"{"cancelled":1,"tenant":"acme"}"#));

    // The handler's own, and what the caller has of the group's, so that it asks for both.
    let forbidden = client.delete(&order, &token(&idp)).await;
    assert_eq!(forbidden.content(), (403, ""));
    assert!(forbidden.challenge().contains(r#"scope="orders:write orders:read""#), "{}", forbidden.challenge());
    // The group's, which comes first.
    for answer in [
        client.get(&order, &token(&idp).without("scope")).await,
        client.delete(&order, &token(&idp).scope("orders:write")).await,
    ] {
        assert_eq!(answer.content(), (403, ""));
        assert!(answer.challenge().contains(r#"scope="orders:read""#), "{}", answer.challenge());
    }
    // Outside the group it takes no scope.
    assert_eq!(client.get(&example.url("/me"), &token(&idp).without("scope")).await.status, 200);
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("typed_claims", include_str!("../../typed_claims.rs")).await;
}
