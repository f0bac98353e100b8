//! The hyper example, over both versions of HTTP that it speaks.

use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::IdentityProvider;

#[tokio::test]
async fn it_lets_in_whom_it_should_over_http1_and_http2() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("hyper", &idp);
    let [hello_url, orders_url] = ["/hello", "/orders"].map(|path| example.url(path));

    for client in [Client::http1(), Client::http2()] {
        let reader = idp.token("orders").scope("orders:read");
        let hello = client.get(&hello_url, &reader).await;
        assert_eq!(hello.content(), (200, "Hello, ada!\n"));
        let streamed = client.get(&orders_url, &reader).await;
        assert_eq!(streamed.content(), (200, "order 1\norder 2\norder 3\n"));
        // Nobody knew how long it would be when it began.
        assert_eq!(streamed.header("content-length"), "");
        let nowhere = client.get(&example.url("/nowhere"), &reader).await;
        assert_eq!(nowhere.content(), (404, ""));

        let nobody = client.get_bare(&hello_url).await;
        assert_eq!(nobody.content(), (401, ""));
        assert_eq!(nobody.challenge(), r#"Bearer realm="api""#);
        let no_subject = client.get(&hello_url, &reader.clone().without("sub")).await;
        assert_eq!(no_subject.content(), (401, ""));
        assert!(no_subject.challenge().contains(r#"error="invalid_token""#));

        let forbidden = client.delete(&orders_url, &reader).await;
        assert_eq!(forbidden.content(), (403, ""));
        assert!(forbidden.challenge().contains(r#"scope="orders:write""#));
        let deleted = client.delete(&orders_url, &reader.scope("orders:write")).await;
        assert_eq!(deleted.content(), (200, "deleted\n"));
    }
}

#[tokio::test]
async fn it_refuses_forgeries_and_survives_a_rotation() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("hyper", &idp);
    let client = Client::http2();
    client.check_that_hostile_tokens_are_refused(&example.url("/hello"), &idp.token("orders")).await;

    idp.rotate();
    let rotated = client.get(&example.url("/hello"), &idp.token("orders")).await;
    assert_eq!(rotated.content(), (200, "Hello, ada!\n"));
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("hyper", include_str!("../../hyper.rs")).await;
}
