//! What is said to those refused: status, headers, extensions, over HTTP and over gRPC.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::{AUDIENCE, Issuer, NOW, ScriptedKeys, headers, layer, request};
use countersign_claims::{ConfigError, Policy, Verified, scope};
use countersign_token::{Algorithm, Answer, KeySet, KeySource, SigningKey, Unready};
use countersign_tower::{DEFAULT_REALM, Refusal, RequireJwtLayer};
use countersign_verifier::Verifier;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use serde_json::json;
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt, service_fn};

/// Sends `request` through `layer` to a service that answers "inside", and returns its answer.
async fn send<K: KeySource>(layer: &RequireJwtLayer<K>, request: Request<()>) -> Response<String> {
    let inside = service_fn(async |request: Request<()>| {
        assert!(request.extensions().get::<Verified>().is_some(), "called without a verified token");
        Ok::<_, Infallible>(Response::new(String::from("inside")))
    });
    layer.layer(inside).oneshot(request).await.unwrap()
}

/// The refusal's status, code and headers, exactly; over gRPC as well.
async fn check<K: KeySource>(
    layer: &RequireJwtLayer<K>,
    mut request: Request<()>,
    (status, code, expected): (u16, &str, &[&str]),
    (grpc_status, grpc_message): (u8, &str),
) {
    let response = send(layer, request.clone()).await;
    assert_eq!(response.status(), status, "{code}");
    assert_eq!(headers(&response), expected, "{code}");
    assert_eq!(response.body(), "", "{code}");
    let refusal = response.extensions().get::<Refusal>().unwrap();
    assert_eq!(refusal.code(), code);
    assert_eq!(refusal.status(), status);

    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    *request.method_mut() = Method::POST;
    let response = send(layer, request).await;
    assert_eq!(response.status(), 200, "{code}");
    let retry_after = expected.iter().find(|line| line.starts_with("retry-after"));
    let mut expected = vec![
        String::from("cache-control: no-store"),
        String::from("content-type: application/grpc"),
        format!("grpc-message: {grpc_message}"),
        format!("grpc-status: {grpc_status}"),
    ];
    expected.extend(retry_after.map(|line| String::from(*line)));
    assert_eq!(headers(&response), expected, "{code}");
    assert_eq!(response.body(), "", "{code}");
    let refusal = response.extensions().get::<Refusal>().unwrap();
    assert_eq!((refusal.code(), refusal.grpc_code()), (code, grpc_status));
}

#[tokio::test]
async fn a_good_token_goes_in() {
    let issuer = Issuer::new();
    let response = send(&issuer.layer(), request(&issuer.token(""))).await;
    assert_eq!((response.status().as_u16(), response.body().as_str()), (200, "inside"));
    assert_eq!(headers(&response), [""; 0], "the inner response is left alone");
}

#[tokio::test]
async fn statement_7_no_credentials_is_401_without_an_error() {
    let layer = Issuer::new().layer();
    let basic = Request::builder().header(AUTHORIZATION, "Basic YTpi").body(()).unwrap();
    for request in [Request::new(()), basic] {
        check(
            &layer,
            request,
            (401, "no_credentials", &["cache-control: no-store", r#"www-authenticate: Bearer realm="orders""#]),
            (16, "a Bearer token is needed"),
        )
        .await;
    }
}

#[tokio::test]
async fn statement_5_two_tokens_or_a_malformed_one_are_400() {
    let issuer = Issuer::new();
    let mut twice = request(&issuer.token(""));
    let again = twice.headers()[AUTHORIZATION].clone();
    twice.headers_mut().append(AUTHORIZATION, again);
    check(
        &issuer.layer(),
        twice,
        (
            400,
            "many_credentials",
            &[
                "cache-control: no-store",
                "www-authenticate: Bearer realm=\"orders\", error=\"invalid_request\", \
                 error_description=\"there is more than one set of credentials\"",
            ],
        ),
        (16, "there is more than one set of credentials"),
    )
    .await;

    check(
        &issuer.layer(),
        request(&format!("{0}, Bearer {0}", issuer.token(""))),
        (
            400,
            "malformed_credentials",
            &[
                "cache-control: no-store",
                "www-authenticate: Bearer realm=\"orders\", error=\"invalid_request\", \
                 error_description=\"the credentials are malformed\"",
            ],
        ),
        (16, "the credentials are malformed"),
    )
    .await;
}

const INVALID: &[&str] = &[
    "cache-control: no-store",
    "www-authenticate: Bearer realm=\"orders\", error=\"invalid_token\", error_description=\"the token is not valid\"",
];

#[tokio::test]
async fn statement_8_a_token_that_is_not_good_is_401() {
    let issuer = Issuer::new();
    let layer = issuer.layer();
    let good = issuer.token("");
    let (head, _) = good.rsplit_once('.').unwrap();
    let stranger = |kid: &str| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid);
        key.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60 })).unwrap()
    };
    for (token, code) in [
        (String::from("a.b.c"), "not_base64url"),
        (String::from("x"), "not_three_parts"),
        (format!("{head}."), "signature_too_short"),
        (stranger("k1"), "bad_signature"),
        (stranger("k2"), "unknown_key"),
        (issuer.sign(&json!({ "aud": "billing", "exp": NOW + 60 })), "wrong_audience"),
        (issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "nbf": NOW + 50 })), "not_yet_valid"),
        (issuer.sign(&json!({ "aud": AUDIENCE })), "claim_missing"),
        ("x".repeat(9000), "token_too_long"),
    ] {
        check(&layer, request(&token), (401, code, INVALID), (16, "the token is not valid")).await;
    }
    check(
        &layer,
        request(&issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW - 3600 }))),
        (
            401,
            "expired",
            &[
                "cache-control: no-store",
                "www-authenticate: Bearer realm=\"orders\", error=\"invalid_token\", \
                 error_description=\"the token has expired\"",
            ],
        ),
        (16, "the token has expired"),
    )
    .await;
}

#[tokio::test]
async fn statement_9_a_missing_scope_is_403_and_names_all_that_are_needed() {
    let issuer = Issuer::new();
    let layer = issuer.layer().require(scope("orders:read").and(scope("a%b"))).require(scope("orders:write"));
    for granted in ["", "orders:read", "orders:read a%b", "orders:write ORDERS:READ a%b", "orders"] {
        check(
            &layer,
            request(&issuer.token(granted)),
            (
                403,
                "insufficient_scope",
                &[
                    "cache-control: no-store",
                    "www-authenticate: Bearer realm=\"orders\", error=\"insufficient_scope\", \
                     error_description=\"the token does not grant the scope needed\", \
                     scope=\"orders:read a%b orders:write\"",
                ],
            ),
            (7, "the token does not grant the scope needed: orders:read a%25b orders:write"),
        )
        .await;
    }
    let response = send(&layer, request(&issuer.token("orders:write a%b extra orders:read"))).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn statement_60_permission_denied_is_never_said_to_an_unknown_caller() {
    let issuer = Issuer::new();
    let layer = issuer.layer().require(scope("orders:read"));
    for token in ["x", &SigningKey::generate(Algorithm::Es256).unwrap().sign(&json!({ "exp": NOW + 60 })).unwrap()] {
        let response = send(&layer, request(token)).await;
        assert_eq!(response.extensions().get::<Refusal>().unwrap().grpc_code(), 16);
    }
}

#[tokio::test]
async fn r17_what_is_not_the_tokens_fault_is_429_or_503_without_a_challenge() {
    let issuer = Issuer::new();
    let not_yet = ScriptedKeys::answering(Answer::NotYet { retry_after: Duration::from_millis(1500) });
    check(
        &layer(not_yet),
        request(&issuer.token("")),
        (429, "key_not_checked_yet", &["cache-control: no-store", "retry-after: 2"]),
        (14, "the token could not be checked yet"),
    )
    .await;
    for (reason, code) in [
        (Unready::Starting, "keys_starting"),
        (Unready::NeverFetched, "keys_never_fetched"),
        (Unready::TooOld, "keys_too_old"),
        (Unready::NoRuntime, "keys_no_runtime"),
    ] {
        let unavailable = ScriptedKeys::answering(Answer::Unavailable { reason, retry_after: Duration::ZERO });
        check(
            &layer(unavailable),
            request(&issuer.token("")),
            (503, code, &["cache-control: no-store", "retry-after: 1"]),
            (14, "tokens cannot be checked at present"),
        )
        .await;
    }
}

#[tokio::test]
async fn r17_a_request_that_shows_nothing_is_401_even_without_keys() {
    let keys = ScriptedKeys::answering(Answer::NotYet { retry_after: Duration::ZERO });
    let gate = layer(keys.clone());
    assert_eq!(send(&gate, Request::new(())).await.status(), 401);
    assert_eq!(send(&gate, request("a.b.c")).await.status(), 401);
    assert_eq!(keys.asked(), 0, "nobody looks for the key of a token that has failed already");
}

#[tokio::test]
async fn statement_60_grpc_web_is_refused_in_its_own_family() {
    let layer = Issuer::new().layer();
    for (asked, answered) in [
        ("application/grpc", "application/grpc"),
        ("application/grpc-web+proto", "application/grpc-web"),
        ("application/grpc-web-text", "application/grpc-web-text"),
    ] {
        let request = Request::builder().method(Method::POST).header(CONTENT_TYPE, asked).body(()).unwrap();
        let response = send(&layer, request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], answered);
        assert_eq!(response.headers()["grpc-status"], "16");
    }
    let request = Request::builder().header(CONTENT_TYPE, "application/json").body(()).unwrap();
    let response = send(&layer, request).await;
    assert_eq!(response.status(), 401);
    assert!(!response.headers().contains_key("grpc-status"));
}

/// A proxy that asks with GET whether to let a request through passes the caller's headers on and takes 200 for yes.
#[tokio::test]
async fn t28_no_header_turns_a_refusal_into_a_200() {
    let issuer = Issuer::new();
    let layer = issuer.layer().require(scope("admin"));
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
        for content_type in ["application/grpc", "application/grpc-web+proto", "application/grpc-web-text"] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(content_type))];
            for (mut request, status) in
                [(Request::new(()), 401), (request("a.b.c"), 401), (request(&issuer.token("")), 403)]
            {
                *request.method_mut() = method.clone();
                request.headers_mut().extend(headers.clone());
                let response = send(&layer, request).await;
                assert_eq!(response.status(), status, "{method} {content_type}");
                assert!(response.headers().contains_key("www-authenticate"));
                assert!(!response.headers().contains_key("grpc-status"));
            }
        }
    }
}

#[tokio::test]
async fn statement_3_and_4_tokens_outside_the_header_do_not_count() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let inside = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::from("inside"))));
    let form = Request::post(format!("/?access_token={token}"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("cookie", format!("access_token={token}"))
        .header("proxy-authorization", format!("Bearer {token}"))
        .body(format!("access_token={token}"))
        .unwrap();
    let response = issuer.layer().layer(inside).oneshot(form).await.unwrap();
    assert_eq!(response.extensions().get::<Refusal>(), Some(&Refusal::NoCredentials));
}

#[tokio::test]
async fn r12_and_statement_10_any_octets_are_safe_and_nothing_is_echoed_or_said_twice() {
    let layer = Issuer::new().layer().require(scope("x"));
    for octet in (0..=255).filter(|octet| HeaderValue::from_bytes(&[*octet]).is_ok()) {
        for value in [
            vec![octet],
            [b"Bearer ", &[octet][..]].concat(),
            [b"Bearer mark", &[octet][..], b"mark"].concat(),
            [b"Bearer mark.", &[octet][..], b".mark"].concat(),
            [&[octet][..], b"Bearer mark"].concat(),
            [b"Bearer", &[octet][..], b"mark"].concat(),
        ] {
            let mut request = Request::new(());
            request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_bytes(&value).unwrap());
            let response = send(&layer, request).await;
            assert!(matches!(response.status().as_u16(), 400 | 401), "{}", value.escape_ascii());
            let told = response.headers()["www-authenticate"].to_str().unwrap();
            assert!(!told.contains("mark"), "{told}");
            for parameter in ["realm=", "error=", "error_description=", "scope=", "error_uri="] {
                assert!(told.matches(parameter).count() <= 1, "{told}");
            }
        }
    }
}

#[tokio::test]
async fn r16_no_debug_or_display_shows_the_token() {
    let issuer = Issuer::new();
    let gate = issuer.layer();
    let inside = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    for token in [
        issuer.token(""),
        issuer.sign(&json!({ "aud": "x", "exp": NOW + 60 })),
        SigningKey::generate(Algorithm::Es256).unwrap().sign(&json!({ "exp": NOW })).unwrap(),
    ] {
        let service = gate.layer(BoxCloneService::new(inside));
        let shown = format!("{gate:?} {service:?}");
        let response = service.oneshot(request(&token)).await.unwrap();
        let refusal = response.extensions().get::<Refusal>();
        let shown = format!("{shown} {refusal:?} {}", refusal.map(ToString::to_string).unwrap_or_default());
        for part in token.split('.') {
            assert!(!shown.contains(part), "{shown}");
        }
    }
    let keys = ScriptedKeys::default();
    let mut waiting = layer(keys).layer(BoxCloneService::new(inside));
    let token = issuer.token("");
    let future = waiting.call(request(&token));
    assert_eq!(format!("{future:?}"), "ResponseFuture(Waiting)");
}

#[test]
fn a_misconfigured_layer_says_so_and_cannot_be_used() {
    let issuer = Issuer::new();
    assert_eq!(issuer.layer().check(), Ok(()));
    assert_eq!(issuer.layer().realm("").check(), Err(ConfigError::Empty("realm")));
    for realm in ["a\"b", "a\\b", "a\nb", "é", "a\tb", "\u{7f}"] {
        assert!(matches!(issuer.layer().realm(realm).check(), Err(ConfigError::Other(_))), "{realm:?}");
    }
    assert_eq!(issuer.layer().realm("Orders, all of them").check(), Ok(()));

    let no_audience = Verifier::new(issuer.keys(), Policy::new().deny_unbound());
    assert!(RequireJwtLayer::new(no_audience).check().is_err());

    let panic = std::panic::catch_unwind(|| issuer.layer().realm("").layer(())).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "countersign is misconfigured: an empty realm");
}

#[tokio::test]
async fn the_default_realm_is_named_where_none_is_set() {
    let layer = RequireJwtLayer::new(Verifier::new(Issuer::new().keys(), Policy::new()));
    let response = send(&layer, Request::new(())).await;
    assert_eq!(response.headers()["www-authenticate"], format!("Bearer realm=\"{DEFAULT_REALM}\""));
}

#[tokio::test]
async fn invariant_9_two_layers_in_one_process_do_not_influence_each_other() {
    let (one, other) = (Issuer::new(), Issuer::new());
    let verifier = Arc::new(Verifier::new(one.keys(), Policy::new().audience(AUDIENCE)));
    let plain = RequireJwtLayer::new(Arc::clone(&verifier)).clock(common::now);
    // Made from a clone, which shares the `Arc` until a setter is called.
    let strict = plain.clone().realm("strict").require(scope("orders:write"));
    let foreign = other.layer().realm("foreign");
    assert!(Arc::ptr_eq(plain.verifier(), strict.verifier()));

    let token = one.token("orders:read");
    for _ in 0..2 {
        assert_eq!(send(&plain, request(&token)).await.status(), 200);
        assert_eq!(send(&strict, request(&token)).await.status(), 403);
        assert_eq!(send(&foreign, request(&token)).await.status(), 401);
        assert_eq!(send(&foreign, request(&other.token(""))).await.status(), 200);
        assert_eq!(send(&plain, request(&other.token(""))).await.status(), 401);
        let strictly = r#""strict", scope="orders:write""#;
        for (layer, parameters) in [(&plain, r#""api""#), (&strict, strictly), (&foreign, r#""foreign""#)] {
            let response = send(layer, Request::new(())).await;
            assert_eq!(response.headers()["www-authenticate"], format!("Bearer realm={parameters}"));
        }
    }
}

#[tokio::test]
async fn of_stacked_layers_each_judges_for_itself() {
    let (outer, inner) = (Issuer::new(), Issuer::new());
    let both = KeySet::new([outer.0.verifying_key().unwrap(), inner.0.verifying_key().unwrap()]);
    let inside = service_fn(async |request: Request<()>| {
        Ok::<_, Infallible>(Response::new(request.extensions().get::<Verified>().cloned()))
    });
    let stacked = layer(both).layer(inner.layer().layer(inside));
    let response = stacked.clone().oneshot(request(&outer.token(""))).await.unwrap();
    assert_eq!(response.status(), 401, "what the outer layer has verified is not verified for the inner one");
    let response = stacked.oneshot(request(&inner.token(""))).await.unwrap();
    assert_eq!(response.body().as_ref().and_then(Verified::subject), Some("ada"));
}

#[tokio::test]
async fn the_clock_is_asked_at_each_request() {
    use std::sync::atomic::{AtomicI64, Ordering};
    let time = Arc::new(AtomicI64::new(NOW));
    let issuer = Issuer::new();
    let clock = Arc::clone(&time);
    let layer = issuer.layer().clock(move || countersign_claims::UnixTime::from_secs(clock.load(Ordering::Relaxed)));
    let token = issuer.token("");
    assert_eq!(send(&layer, request(&token)).await.status(), 200);
    time.store(NOW + 3600, Ordering::Relaxed);
    let response = send(&layer, request(&token)).await;
    assert_eq!(response.extensions().get::<Refusal>().unwrap().code(), "expired");
}

#[tokio::test]
async fn the_system_clock_is_the_default() {
    let issuer = Issuer::new();
    let layer = RequireJwtLayer::new(Verifier::new(issuer.keys(), Policy::new()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(send(&layer, request(&issuer.sign(&json!({ "exp": now + 600 })))).await.status(), 200);
    assert_eq!(send(&layer, request(&issuer.sign(&json!({ "exp": now - 600 })))).await.status(), 401);
}
