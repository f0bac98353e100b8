//! REST, gRPC and gRPC-Web on one port.

use countersign_examples::{Answer, Client, Running, documented_calls_of};
use countersign_testkit::{IdentityProvider, Token};
use tonic::Code;

use crate::{connect, get, told, with};

#[tokio::test]
async fn both_sides_have_the_same_rules() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("one_port", &idp);
    let (rest, mut grpc) = (Client::http1(), connect(&example).await);
    let url = example.url("/orders/1");
    let reader = || idp.token("orders").scope("orders:read");
    let stranger = || idp.token("orders").scope("orders");

    assert_eq!(rest.get(&url, &reader()).await.content(), (200, r#"{"id":"1","owner":"ada"}"#));
    let order = grpc.get(with(&reader().sign(), get())).await.unwrap().into_inner();
    assert_eq!((&*order.id, &*order.owner), ("1", "ada"));

    let forbidden = rest.get(&url, &stranger()).await;
    assert_eq!(forbidden.content(), (403, ""));
    assert!(forbidden.challenge().contains(r#"scope="orders:read""#));
    let denied = grpc.get(with(&stranger().sign(), get())).await.unwrap_err();
    assert_eq!(told(&denied), (Code::PermissionDenied, "the token does not grant the scope needed: orders:read"));

    let nobody = rest.get_bare(&url).await;
    assert_eq!((nobody.content(), nobody.challenge()), ((401, ""), r#"Bearer realm="api""#));
    let nobody = grpc.get(get()).await.unwrap_err();
    assert_eq!(told(&nobody), (Code::Unauthenticated, "a Bearer token is needed"));

    rest.check_that_hostile_tokens_are_refused(&url, &reader()).await;
    for hostile in reader().hostile().iter().filter(|hostile| !hostile.names_unknown_key).take(2) {
        let refused = grpc.get(with(&hostile.token, get())).await.unwrap_err();
        assert_eq!(told(&refused), (Code::Unauthenticated, "the token is not valid"), "{}", hostile.attack);
    }

    idp.rotate();
    assert_eq!(rest.get(&url, &reader()).await.status, 200);
    assert_eq!(grpc.get(with(&reader().sign(), get())).await.unwrap().into_inner().owner, "ada");
}

#[tokio::test]
async fn a_path_that_is_not_there_is_404_for_everybody() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("one_port", &idp);
    for client in [Client::http1(), Client::http2()] {
        assert_eq!(client.get(&example.url("/nowhere"), &idp.token("orders")).await.content(), (404, ""));
        assert_eq!(client.get_bare(&example.url("/nowhere")).await.content(), (401, ""));
    }
}

/// `Get`, as a browser says it: over HTTP/1.1, with the status in the body.
async fn get_by_grpc_web(example: &Running, token: Option<&Token>) -> Answer {
    // Not compressed, three octets, field 1 is one octet long: "1".
    let message = b"\x00\x00\x00\x00\x03\x0a\x011".to_vec();
    let client = Client::http1();
    let mut request = client
        .request("POST", &example.url("/orders.v1.Orders/Get"))
        .header("content-type", "application/grpc-web+proto")
        .body(message);
    if let Some(token) = token {
        request = request.bearer_auth(token.sign());
    }
    client.send(request).await
}

#[tokio::test]
async fn browsers_are_answered_in_grpc_web() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("one_port", &idp);

    let order = get_by_grpc_web(&example, Some(&idp.token("orders").scope("orders:read"))).await;
    assert_eq!((order.status, order.header("content-type")), (200, "application/grpc-web+proto"));
    assert!(order.body.contains("\x0a\x011\x12\x03ada") && order.body.contains("grpc-status:0"), "{order:?}");

    // The layer's refusal, and the method's.
    let nobody = get_by_grpc_web(&example, None).await;
    assert_eq!((nobody.content(), nobody.header("content-type")), ((200, ""), "application/grpc-web"));
    assert_eq!((nobody.header("grpc-status"), nobody.header("grpc-message")), ("16", "a Bearer token is needed"));
    let denied = get_by_grpc_web(&example, Some(&idp.token("orders"))).await;
    assert_eq!((denied.status, denied.header("grpc-status")), (200, "7"), "{denied:?}");
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("one_port", include_str!("../../../one_port.rs")).await;
}
