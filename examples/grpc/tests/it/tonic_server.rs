//! The tonic server, by tonic's client, and by one that knows nothing of gRPC and sees what is sent.

use countersign_examples::{Client, Running, documented_calls_of};
use countersign_examples_grpc::orders::{CancelReply, CancelRequest, Order, WatchRequest};
use countersign_testkit::IdentityProvider;
use tonic::{Code, Request};

use crate::{connect, get, told, with};

fn order(id: &str) -> Order {
    Order { id: id.to_owned(), owner: "ada".to_owned() }
}

#[tokio::test]
async fn each_method_answers_who_has_its_scope() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tonic_server", &idp);
    let mut orders = connect(&example).await;
    let reader = || idp.token("orders").scope("orders:read").sign();
    let writer = || idp.token("orders").scope("orders:write").sign();
    let cancel = || CancelRequest { id: "1".to_owned() };

    assert_eq!(orders.get(with(&reader(), get())).await.unwrap().into_inner(), order("1"));
    let mut watched = orders.watch(with(&reader(), WatchRequest {})).await.unwrap().into_inner();
    for id in ["1", "2", "3"] {
        assert_eq!(watched.message().await.unwrap(), Some(order(id)));
    }
    assert_eq!(watched.message().await.unwrap(), None);
    assert_eq!(orders.cancel(with(&writer(), cancel())).await.unwrap().into_inner(), CancelReply {});

    let no_read = (Code::PermissionDenied, "the token does not grant the scope needed: orders:read");
    let no_write = (Code::PermissionDenied, "the token does not grant the scope needed: orders:write");
    assert_eq!(told(&orders.get(with(&writer(), get())).await.unwrap_err()), no_read);
    assert_eq!(told(&orders.watch(with(&writer(), WatchRequest {})).await.unwrap_err()), no_read);
    assert_eq!(told(&orders.cancel(with(&reader(), cancel())).await.unwrap_err()), no_write);

    idp.rotate();
    assert_eq!(orders.get(with(&reader(), get())).await.unwrap().into_inner(), order("1"));
}

#[tokio::test]
async fn whoever_has_no_good_token_is_unauthenticated() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tonic_server", &idp);
    let mut orders = connect(&example).await;
    let good = idp.token("orders").scope("orders:read");

    assert_eq!(told(&orders.get(get()).await.unwrap_err()), (Code::Unauthenticated, "a Bearer token is needed"));
    let refused = orders.watch(WatchRequest {}).await.unwrap_err();
    assert_eq!(told(&refused), (Code::Unauthenticated, "a Bearer token is needed"));
    // The method reads the claims into a type that has a `sub`.
    let misfit = orders.get(with(&good.clone().without("sub").sign(), get())).await.unwrap_err();
    assert_eq!(told(&misfit), (Code::Unauthenticated, "the token is not valid"));

    let mut sent = 0;
    for hostile in good.hostile() {
        // Those with a made-up key's name may have to wait for a look, and a long one is too much for HTTP/2's own limit.
        let is_left_out = hostile.names_unknown_key || hostile.token.len() > 8192;
        let Some(authorization) = hostile.authorization().filter(|_| !is_left_out) else { continue };
        let mut request = Request::new(get());
        request.metadata_mut().insert("authorization", authorization.as_bytes().try_into().unwrap());
        let refused = orders.get(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{}: {refused:?}", hostile.attack);
        sent += 1;
    }
    assert!(sent > 50, "{sent}");
}

#[tokio::test]
async fn a_refusal_is_status_200_and_nothing_but_headers() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tonic_server", &idp);
    let client = Client::http2();
    let url = example.url("/orders.v1.Orders/Get");

    let request = client.request("POST", &url).header("content-type", "application/grpc");
    let nobody = client.send(request).await;
    assert_eq!(nobody.content(), (200, ""));
    assert_eq!((nobody.header("content-type"), nobody.header("grpc-status")), ("application/grpc", "16"));
    assert_eq!(nobody.header("grpc-message"), "a Bearer token is needed");
    assert_eq!(nobody.challenge(), "");

    // Who does not speak gRPC is refused as HTTP does it.
    let nobody = client.get_bare(&url).await;
    assert_eq!((nobody.content(), nobody.challenge()), ((401, ""), r#"Bearer realm="api""#));
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("tonic_server", include_str!("../../../tonic_server.rs")).await;
}
