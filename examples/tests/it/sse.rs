//! Server-sent events, by a client that connects again with a fresh token.

use std::time::Duration;

use countersign::claims::DEFAULT_LEEWAY;
use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::{IdentityProvider, Token};

/// Accepted for two to three seconds more: time enough to connect.
fn short(idp: &IdentityProvider) -> Token {
    idp.token("orders").expired(DEFAULT_LEEWAY - Duration::from_secs(3))
}

/// The numbers of the orders that came, and the name of the last event.
fn read(events: &str) -> (Vec<u64>, &str) {
    let ids = events.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
    (ids, events.lines().filter_map(|line| line.strip_prefix("event: ")).next_back().unwrap_or_default())
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_goes_on_with_the_next() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("sse", &idp);
    let (client, url) = (Client::http1(), example.url("/events"));

    let (mut seen, mut streams) = (Vec::new(), 0);
    while streams < 2 {
        let last: u64 = seen.last().copied().unwrap_or_default();
        let token = short(&idp).sign();
        let request = client.request("GET", &url).bearer_auth(&token).header("last-event-id", last);
        let answer = client.send(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
        assert!(answer.body.ends_with("event: expired\ndata: the token has expired\n\n"), "{}", answer.body);
        let (orders, event) = read(&answer.body);
        assert_eq!(event, "expired");
        assert!(orders.len() >= 2, "{orders:?}");
        seen.extend(orders);
        streams += 1;
        // Whoever tries it with the old one is not let in again.
        let again = client.send(client.request("GET", &url).bearer_auth(&token)).await;
        assert_eq!((again.status, again.body.as_str()), (401, ""));
    }
    // Nothing twice, and nothing left out.
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_whose_token_is_good_goes_on() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("sse", &idp);
    let (client, url) = (Client::http1(), example.url("/events"));

    let get = |token: &Token| client.request("GET", &url).bearer_auth(token.sign());
    let mut long = get(&idp.token("orders")).send().await.unwrap();
    let ended = client.send(get(&short(&idp))).await;
    assert_eq!(read(&ended.body).1, "expired");
    // It began before, and has more to say than the other.
    let mut said = String::new();
    while read(&said).0.len() <= read(&ended.body).0.len() + 2 {
        said += std::str::from_utf8(&long.chunk().await.unwrap().expect("it goes on")).unwrap();
    }
    assert_eq!(read(&said).1, "order");
}

#[tokio::test]
async fn nobody_without_a_good_token_is_told_anything() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("sse", &idp);
    let url = example.url("/events");
    assert_eq!(Client::http1().get_bare(&url).await.content(), (401, ""));
    let answer = Client::http1().get(&url, &idp.token("orders").expired(Duration::from_secs(60))).await;
    assert_eq!(answer.content(), (401, ""));
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("sse", include_str!("../../sse.rs")).await;
}
