//! A stream that ends with its token.

use std::time::Duration;

use countersign::claims::DEFAULT_LEEWAY;
use countersign_examples::{Running, documented_calls_of};
use countersign_examples_grpc::orders::WatchRequest;
use countersign_testkit::{IdentityProvider, Token};
use tonic::Code;

use crate::{connect, told, with};

fn reader(idp: &IdentityProvider) -> Token {
    idp.token("orders").scope("orders:read")
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_others_go_on() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tonic_deadline", &idp);
    let mut orders = connect(&example).await;
    let mut long = orders.watch(with(&reader(&idp).sign(), WatchRequest {})).await.unwrap().into_inner();

    // Accepted for two to three seconds more: time enough to connect.
    let token = reader(&idp).expired(DEFAULT_LEEWAY - Duration::from_secs(3)).sign();
    let mut short = orders.watch(with(&token, WatchRequest {})).await.unwrap().into_inner();
    let mut last = 0;
    let end = loop {
        match short.message().await {
            Ok(order) => {
                last += 1;
                assert_eq!(order.unwrap().id, last.to_string());
            }
            Err(status) => break status,
        }
    };
    assert_eq!(told(&end), (Code::Unauthenticated, "the token has expired"));
    assert!(last >= 2, "{last}");
    // As a new call with it.
    let refused = orders.watch(with(&token, WatchRequest {})).await.unwrap_err();
    assert_eq!(told(&refused), told(&end));

    // It began before, and has more to say than the other.
    for id in 1..=last + 2 {
        assert_eq!(long.message().await.unwrap().unwrap().id, id.to_string());
    }
}

#[tokio::test]
async fn nobody_without_the_scope_is_told_anything() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tonic_deadline", &idp);
    let mut orders = connect(&example).await;
    let refused = orders.watch(WatchRequest {}).await.unwrap_err();
    assert_eq!(told(&refused), (Code::Unauthenticated, "a Bearer token is needed"));
    let denied = orders.watch(with(&idp.token("orders").sign(), WatchRequest {})).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("tonic_deadline", include_str!("../../../tonic_deadline.rs")).await;
}
