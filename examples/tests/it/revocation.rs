//! Logging out, by a client with several tokens.

use countersign_examples::{Answer, Client, Running, documented_calls_of};
use countersign_testkit::{IdentityProvider, Token};

async fn post(client: &Client, url: String, token: &Token) -> Answer {
    client.send(client.request("POST", &url).bearer_auth(token.sign())).await
}

#[tokio::test]
async fn a_token_that_was_logged_out_is_over_and_its_neighbours_are_not() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("revocation", &idp);
    let (client, orders) = (Client::http1(), example.url("/orders"));
    let [one, another] = [idp.token("orders"), idp.token("orders")];

    assert_eq!(client.get(&orders, &one).await.content(), (200, "the orders of ada"));
    assert_eq!(post(&client, example.url("/logout"), &one).await.content(), (200, r#"{"within_seconds":0}"#));
    let refused = client.get(&orders, &one).await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.challenge(),
        r#"Bearer realm="api", error="invalid_token", error_description="the token is not valid""#
    );
    assert_eq!(client.get(&orders, &another).await.status, 200);
    // Nothing in it may make another token of it: neither another key name, nor white space.
    assert_eq!(client.get(&orders, &one.clone().without_header("kid")).await.status, 401);
}

#[tokio::test]
async fn whoever_logs_out_everywhere_is_out_everywhere_and_open_streams_end() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("revocation", &idp);
    let (client, orders) = (Client::http1(), example.url("/orders"));
    let [one, another, grace] = [idp.token("orders"), idp.token("orders"), idp.token("orders").subject("grace")];

    let stream = client.request("GET", &example.url("/events")).bearer_auth(another.sign()).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let answer = post(&client, example.url("/logout-everywhere"), &one).await;
    assert!(answer.body.contains("log_in_again_from"), "{}", answer.body);
    // It would go on for an hour.
    let said = stream.text().await.unwrap();
    assert!(said.ends_with("event: ended\ndata: the token is not valid\n\n"), "{said}");
    for token in [&one, &another] {
        assert_eq!(client.get(&orders, token).await.status, 401);
    }
    assert_eq!(client.get(&orders, &grace).await.content(), (200, "the orders of grace"));
}

#[tokio::test]
async fn tokens_that_cannot_be_revoked_are_refused() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("revocation", &idp);
    let client = Client::http1();
    assert_eq!(client.get(&example.url("/orders"), &idp.token("orders").without("jti")).await.status, 401);
}

#[tokio::test]
async fn documented_calls_do_what_they_say() {
    documented_calls_of("revocation", include_str!("../../revocation.rs")).await;
}
