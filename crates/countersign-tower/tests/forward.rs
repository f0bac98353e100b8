//! Claims as headers: what the client sent under their names never arrives, and what the token says does.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

mod common;

use std::convert::Infallible;

use common::{AUDIENCE, Issuer, NOW, ScriptedKeys};
use countersign_token::{Answer, KeySource};
use countersign_tower::{RequireJwtLayer, TokenPlace};
use http::{HeaderMap, Method, Request, Response};
use serde_json::{Value, json};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// The headers that the inner service gets.
async fn arrives<K: KeySource>(layer: &RequireJwtLayer<K>, request: Request<()>) -> HeaderMap {
    let inner = service_fn(async |request: Request<()>| Ok::<_, Infallible>(Response::new(request.headers().clone())));
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// What a client sends who wants to be somebody else.
fn spoofed(token: Option<&str>) -> Request<()> {
    let mut builder = Request::builder().uri("/a").header("x-kept", "1");
    for name in ["X-User", "x-user", "x_user", "X_User", "x-tenant_id", "x_tenant-id", "x-tenant-id", "x_tenant_id"] {
        builder = builder.header(name, "admin");
    }
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    builder.body(()).unwrap()
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn what_the_client_claims_to_be_is_removed_on_every_path() {
    let issuer = Issuer::new();
    let forwarding = || issuer.layer().forward("sub", "x-user").forward("/tenant/id", "X-Tenant-Id");
    let token = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "sub": "ada", "tenant": { "id": 7 } }));

    let headers = arrives(&forwarding(), spoofed(Some(&token))).await;
    assert_eq!(names(&headers), ["authorization", "x-kept", "x-tenant-id", "x-user"]);
    for (name, value) in [("x-user", "ada"), ("x-tenant-id", "7"), ("x-kept", "1")] {
        assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
    }
    // A token without these claims does not leave the client's in.
    let bare = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60 }));
    assert_eq!(names(&arrives(&forwarding(), spoofed(Some(&bare))).await), ["authorization", "x-kept"]);
    // Nor does nobody.
    assert_eq!(names(&arrives(&forwarding().optional(), spoofed(None)).await), ["x-kept"]);
    let lax = forwarding().dangerous_treat_invalid_as_anonymous();
    assert_eq!(names(&arrives(&lax, spoofed(Some("a.b.c"))).await), ["authorization", "x-kept"]);
    let exempt = forwarding().exempt("/a");
    assert_eq!(names(&arrives(&exempt, spoofed(Some(&token))).await), ["authorization", "x-kept"]);
    let mut preflight = spoofed(None);
    *preflight.method_mut() = Method::OPTIONS;
    preflight.headers_mut().insert("origin", "https://a.example".parse().unwrap());
    preflight.headers_mut().insert("access-control-request-method", "GET".parse().unwrap());
    let headers = arrives(&forwarding().allow_cors_preflight(), preflight).await;
    assert_eq!(names(&headers), ["access-control-request-method", "origin", "x-kept"]);
    // Nor a wait.
    let keys = ScriptedKeys::default();
    let waiting = common::layer(keys.clone()).forward("sub", "x-user").forward("/tenant/id", "x-tenant-id");
    let mut answer = tokio_test::task::spawn(arrives(&waiting, spoofed(Some(&token))));
    tokio_test::assert_pending!(answer.poll());
    keys.publish(issuer.keys());
    keys.answer(Answer::Changed);
    let headers = tokio_test::assert_ready!(answer.poll());
    assert_eq!(names(&headers), ["authorization", "x-kept", "x-tenant-id", "x-user"]);
}

#[tokio::test]
async fn a_claim_goes_on_as_one_header_or_not_at_all() {
    let issuer = Issuer::new();
    let layer = issuer.layer().forward("c", "x-c");
    for (claim, expected) in [
        (json!("Ada Lovelace"), Some("Ada Lovelace")),
        (json!(""), Some("")),
        (json!(7), Some("7")),
        (json!(-1), Some("-1")),
        (json!(true), Some("true")),
        (json!("a\r\nx-admin: 1"), Some("a%0D%0Ax-admin: 1")),
        (json!("a\nb\0"), Some("a%0Ab%00")),
        (json!("Zoë"), Some("Zo%C3%AB")),
        (json!("100%"), Some("100%25")),
        (json!(" a "), Some("%20a%20")),
        (json!("a\tb"), Some("a%09b")),
        (json!(["a"]), None),
        (json!({ "a": "b" }), None),
        (Value::Null, None),
    ] {
        let token = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "c": claim }));
        let headers = arrives(&layer, common::request(&token)).await;
        let values: Vec<_> = headers.get_all("x-c").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, expected.into_iter().collect::<Vec<_>>(), "{claim}");
        assert!(!headers.contains_key("x-admin"));
    }
}

#[tokio::test]
async fn a_claim_may_go_on_where_the_token_came_in() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().strip_token().forward("sub", "authorization");
    assert_eq!(arrives(&layer, common::request(&token)).await["authorization"], "ada");
    let layer = issuer.layer().token_from([TokenPlace::header("x-token")]).forward("sub", "x-token").strip_token();
    let asked = Request::builder().header("x-token", &token).body(()).unwrap();
    assert_eq!(arrives(&layer, asked).await["x-token"], "ada");
}

#[tokio::test]
async fn a_client_cannot_have_the_next_proxy_drop_it() {
    let issuer = Issuer::new();
    let layer = issuer.layer().forward("sub", "x-user");
    for (connection, expected) in
        [("close, x-user", Some("close")), ("X_User", None), ("keep-alive", Some("keep-alive"))]
    {
        let mut asked = common::request(&issuer.token(""));
        asked.headers_mut().insert("connection", connection.parse().unwrap());
        let headers = arrives(&layer, asked).await;
        assert_eq!(headers.get("connection").map(|value| value.to_str().unwrap()), expected);
        assert_eq!(headers["x-user"], "ada");
    }
}

#[test]
fn what_cannot_be_forwarded_is_a_configuration_error() {
    let layer = Issuer::new().layer();
    for (claims, text) in [
        (&[("sub", "x-a"), ("iss", "X_A")][..], "two claims"),
        (&[("sub", "x-a"), ("sub", "x-a")], "two claims"),
        (&[("sub", "x a")], "not the name of a header"),
        (&[("sub", "")], "not the name of a header"),
        (&[("sub", "host")], "HTTP's own"),
        (&[("sub", "Transfer-Encoding")], "HTTP's own"),
    ] {
        let layer = claims.iter().fold(layer.clone(), |layer, (claim, header)| layer.forward(claim, header));
        let error = layer.check().unwrap_err().to_string();
        assert!(error.contains(text), "{claims:?}: {error}");
    }
    assert!(layer.clone().forward("/a~b", "x-a").check().is_err(), "no JSON pointer");
    assert_eq!(layer.forward("sub", "x-a").forward("sub", "x-b").check(), Ok(()), "one claim may go on twice");
}
