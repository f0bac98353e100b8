//! The Prometheus example: what is scraped, and that the dashboard, the alerts and the table speak of nothing else.

use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::IdentityProvider;

#[tokio::test]
async fn requests_are_counted_by_outcome_reason_and_issuer() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("prometheus", &idp);
    let client = Client::http1();

    for _ in 0..3 {
        assert_eq!(client.get(&example.url("/hello"), &idp.token("orders")).await.status, 200);
    }
    assert_eq!(client.get_bare(&example.url("/hello")).await.status, 401);
    let scraped = client.get_bare(&example.url("/metrics")).await.body;
    println!("{scraped}");
    let issuer = idp.issuer();
    for line in [
        format!(r#"countersign_requests_total{{layer="orders",outcome="admitted",reason="none",issuer="{issuer}"}} 3"#),
        format!(
            r#"countersign_requests_total{{layer="orders",outcome="refused",reason="no_credentials",issuer="{issuer}"}} 1"#
        ),
    ] {
        assert!(scraped.lines().any(|scraped| scraped == line), "{line}\n{scraped}");
    }
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("prometheus", include_str!("../../prometheus.rs")).await;
}
