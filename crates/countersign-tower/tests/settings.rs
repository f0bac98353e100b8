//! What is set once stays set: on clones, on layers that are set further, and after a wait.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

mod common;

use std::convert::Infallible;

use common::{Issuer, NOW, ScriptedKeys, layer, request};
use countersign_claims::{UnixTime, scope};
use countersign_token::{Answer, KeySource};
use countersign_tower::{Refusal, RequireJwtLayer, TokenPlace};
use http::{Request, Response};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_test::mock;

async fn answer<K: KeySource>(layer: &RequireJwtLayer<K>, request: Request<()>) -> Response<String> {
    let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new("inside".to_owned())));
    layer.layer(inner).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn a_clone_that_is_set_further_keeps_what_was_set_before() {
    let issuer = Issuer::new();
    let base = issuer.layer().require(scope("orders:write")).realm("ours").clock(|| UnixTime::from_secs(NOW));
    let lacking = || request(&issuer.token("orders:read"));
    for further in [
        base.clone(),
        base.clone().realm("theirs"),
        base.clone().clock(|| UnixTime::from_secs(NOW + 1)),
        base.clone().require(scope("orders:read")),
    ] {
        assert_eq!(answer(&further, lacking()).await.status(), 403);
    }
    let realm = |response: Response<String>| response.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let further = base.clone().require(scope("orders:read"));
    assert!(realm(answer(&further, lacking()).await).starts_with(r#"Bearer realm="ours""#));
    // An hour later by the clock that was set first.
    let late = base.clone().clock(|| UnixTime::from_secs(NOW + 3600)).realm("late").require(scope("x"));
    let expired = answer(&late, lacking()).await;
    assert_eq!(expired.extensions().get::<Refusal>().unwrap().code(), "expired");
    assert!(realm(expired).starts_with(r#"Bearer realm="late""#));
    // And the first one is as it was.
    assert_eq!(answer(&base, request(&issuer.token("orders:write"))).await.status(), 200);
}

#[test]
fn a_refusal_after_a_wait_is_that_of_the_request_and_of_the_layer() {
    let issuer = Issuer::new();
    for (content_type, answer) in [
        (None, Answer::Absent),
        (Some("application/grpc"), Answer::Absent),
        (Some("application/grpc\t;x"), Answer::Absent),
        (Some("application/grpc"), Answer::NotYet { retry_after: std::time::Duration::from_secs(3) }),
    ] {
        let keys = ScriptedKeys::default();
        let (mut service, mut handle) =
            mock::spawn_layer::<Request<()>, Response<String>, _>(layer(keys.clone()).realm("ours"));
        handle.allow(1);
        let mut asked = request(&issuer.token(""));
        if let Some(content_type) = content_type {
            *asked.method_mut() = http::Method::POST;
            asked.headers_mut().insert("content-type", content_type.parse().unwrap());
        }
        assert_ready_ok!(service.poll_ready());
        let mut waiting = task::spawn(service.call(asked));
        assert_pending!(waiting.poll());
        keys.answer(answer);
        let response: Response<String> = assert_ready_ok!(waiting.poll());
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        match (content_type, answer) {
            (None, _) => {
                assert_eq!(response.status(), 401);
                assert!(
                    header("www-authenticate").unwrap().starts_with(r#"Bearer realm="ours", error="invalid_token""#)
                );
            }
            (Some(_), Answer::Absent) => {
                assert_eq!((response.status().as_u16(), header("grpc-status")), (200, Some("16")));
            }
            (Some(_), _) => {
                assert_eq!((response.status().as_u16(), header("grpc-status")), (200, Some("14")));
                assert_eq!(header("retry-after"), Some("3"));
            }
        }
        assert_eq!(response.body(), "");
    }
}

#[test]
fn the_url_of_resource_metadata_is_absolute_and_can_stand_in_a_challenge() {
    let check = |url: &str| Issuer::new().layer().resource_metadata(url).check();
    for url in [
        "https://api.example/.well-known/oauth-protected-resource",
        "HTTPS://api.example:8443/a?b=c",
        "http://127.0.0.1:3000/a",
        "https://[::1]/a",
    ] {
        assert_eq!(check(url), Ok(()), "{url}");
    }
    for url in [
        "",
        "/.well-known/oauth-protected-resource",
        "api.example/a",
        "//api.example/a",
        "ftp://api.example/a",
        "https://",
        "https:///a",
        "https:/api.example",
        "https://api.example/a b",
        "http://api.example/a b",
        "https://api.example/a\"",
        "https://api.example/a\", error=\"x",
        "https://api.example/\\",
        "https://api.example/\r\nset-cookie: a=b",
        "https://api.example/\u{e4}",
        "javascript:alert(1)",
    ] {
        let error = check(url).unwrap_err().to_string();
        assert!(error.contains("absolute http or https URL"), "{url:?}: {error}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_when_the_layer_is_put_together() {
    let layer = || Issuer::new().layer();
    for (contradicting, text) in [
        (layer().realm(""), "realm"),
        (layer().realm("a\"b"), "realm"),
        (layer().shadow().strip_token(), "neither with strip_token() nor with forward()"),
        (layer().forward("sub", "x-a").shadow(), "neither with strip_token() nor with forward()"),
        (layer().exempt("/public*"), "/public*"),
        (layer().exempt("healthz"), "healthz"),
        (layer().forward("sub", "x-a").forward("iss", "x-a"), "two claims are forwarded"),
        (layer().token_from([]), "place"),
    ] {
        let error = contradicting.check().unwrap_err().to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
    // These mean something together.
    for consistent in [
        layer().shadow().optional().exempt("/healthz").allow_cors_preflight(),
        layer().strip_token(),
        layer().token_from([TokenPlace::query("t")]),
        layer().optional().dangerous_treat_invalid_as_anonymous().optional(),
        layer().exempt("/a").exempt("/a"),
        layer().forward("sub", "x-a").forward("sub", "x-b").strip_token(),
        layer().plain_http_refusals().resource_metadata("https://a.example/"),
    ] {
        assert_eq!(consistent.check(), Ok(()));
    }
}
