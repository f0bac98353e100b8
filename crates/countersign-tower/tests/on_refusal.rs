//! Other answers to those refused than an empty one: only to them, and with all that is said to them in headers.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![cfg(feature = "axum")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use common::{AUDIENCE, Heard, Issuer, NOW, ScriptedKeys};
use countersign_claims::{acr, authenticated_within, permission, scope};
use countersign_token::{Answer, Unready};
use countersign_tower::{Authenticated, OnRefusalLayer, Permit, ProblemDetails, Refusal, RequireJwtLayer, require};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer as _, ServiceExt as _, service_fn};

permission! {
    /// May change orders.
    pub Write = scope("orders:read").and(scope("orders:write"));
    /// May pay back, if authenticated strongly and lately.
    pub Refund = acr(["gold", "silver"]).and(authenticated_within(Duration::from_secs(300)));
}

fn asked(path: &str, token: Option<&str>) -> Request<Body> {
    let mut builder = Request::get(path);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    builder.body(Body::empty()).unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn problem(response: Response<Body>) -> Value {
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    serde_json::from_str(&text(response).await).unwrap()
}

fn routes() -> Router {
    Router::new()
        .route("/", get(async || "in"))
        .route("/write", get(async |_: Permit<Write>| "in"))
        .route("/refund", get(async |_: Permit<Refund>| "in"))
        .route("/route", get(async || "in").layer(require(scope("orders:write"))))
        .route("/must", get(async |_: Authenticated| "in"))
        .route("/own", get(async || (StatusCode::FORBIDDEN, [("www-authenticate", "Own")], "own")))
}

#[tokio::test]
async fn problem_details_say_what_the_headers_say() {
    let issuer = Issuer::new();
    let app = routes().layer(issuer.layer().problem_details());
    let reader = issuer.token("orders:read");
    let expired = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW - 3600 }));
    for (path, token, expected, challenge) in [
        (
            "/",
            None,
            json!({ "type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "a Bearer token is needed" }),
            "Bearer realm=\"orders\"",
        ),
        (
            "/",
            Some(expired.as_str()),
            json!({ "type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "the token has expired", "error": "invalid_token" }),
            "Bearer realm=\"orders\", error=\"invalid_token\", error_description=\"the token has expired\"",
        ),
        (
            "/",
            Some("a b"),
            json!({ "type": "about:blank", "title": "Bad Request", "status": 400, "detail": "the credentials are malformed", "error": "invalid_request" }),
            "Bearer realm=\"orders\", error=\"invalid_request\", error_description=\"the credentials are malformed\"",
        ),
        (
            "/write",
            Some(&reader),
            json!({
                "type": "about:blank", "title": "Forbidden", "status": 403, "error": "insufficient_scope",
                "detail": "the token does not grant the scope needed", "scope": "orders:read orders:write",
            }),
            "Bearer realm=\"orders\", error=\"insufficient_scope\", error_description=\"the token does not grant the scope needed\", scope=\"orders:read orders:write\"",
        ),
        (
            "/refund",
            Some(&reader),
            json!({
                "type": "about:blank", "title": "Unauthorized", "status": 401,
                "error": "insufficient_user_authentication", "acr_values": "gold silver", "max_age": 300,
                "detail": "a stronger or more recent authentication is needed",
            }),
            "Bearer realm=\"orders\", error=\"insufficient_user_authentication\", error_description=\"a stronger or more recent authentication is needed\", acr_values=\"gold silver\", max_age=\"300\"",
        ),
    ] {
        let response = app.clone().oneshot(asked(path, token)).await.unwrap();
        assert_eq!(u64::from(response.status().as_u16()), expected["status"].as_u64().unwrap());
        assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge);
        assert!(response.extensions().get::<Refusal>().is_some(), "outer layers count by it");
        assert_eq!(problem(response).await, expected, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_to_blame_on_the_client_has_no_error_and_keeps_its_retry_after() {
    let retry_after = Duration::from_secs(5);
    let issuer = Issuer::new();
    for (answer, status) in
        [(Answer::Unavailable { reason: Unready::TooOld, retry_after }, 503), (Answer::NotYet { retry_after }, 429)]
    {
        let keys = ScriptedKeys::answering(answer);
        keys.publish(Issuer(Issuer::new().0.with_kid("k2")).keys());
        let app = routes().layer(common::layer(keys).problem_details());
        let response = app.oneshot(asked("/", Some(&issuer.token("")))).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (status, &"5".parse().unwrap()));
        let problem = problem(response).await;
        assert_eq!((problem["status"].as_u64(), problem.get("error")), (Some(status.into()), None));
    }
}

#[tokio::test]
async fn only_refusals_are_touched() {
    let issuer = Issuer::new();
    let app = routes().layer(issuer.layer().optional().problem_details());
    for (path, status, body) in [("/", 200, "in"), ("/own", 403, "own"), ("/none", 404, "")] {
        let response = app.clone().oneshot(asked(path, None)).await.unwrap();
        assert_eq!(response.status(), status);
        assert_ne!(
            response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()),
            "application/problem+json"
        );
        assert_eq!(text(response).await, body);
    }
    // What routes and handlers refuse is.
    for path in ["/must", "/route", "/write"] {
        let response = app.clone().oneshot(asked(path, None)).await.unwrap();
        assert_eq!(problem(response).await["detail"], "a Bearer token is needed", "{path}");
    }
    // The service's own fault is told as it is.
    let bare = OnRefusalLayer::new(ProblemDetails).layer(routes());
    let response = bare.oneshot(asked("/must", None)).await.unwrap();
    assert_eq!(response.status(), 500);
    assert!(text(response).await.starts_with("this route has no countersign layer"));
}

#[tokio::test]
async fn grpc_refusals_are_left_as_they_are() {
    let issuer = Issuer::new();
    let app = routes().route("/grpc", axum::routing::post(async |_: Permit<Write>| "in"));
    let app = app.layer(issuer.layer().problem_details());
    for (path, token, status) in [("/", None, "16"), ("/grpc", Some(issuer.token("")), "7")] {
        let mut request = asked(path, token.as_deref());
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], status);
        assert_eq!(text(response).await, "");
    }
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn send(address: SocketAddr, method: &str, version: &str) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{method} / HTTP/{version}\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn over_sockets_the_length_is_that_of_the_body_and_head_has_none() {
    let address = serve(routes().layer(Issuer::new().layer().problem_details())).await;
    let (head, body) = send(address, "GET", "1.1").await;
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert_eq!(head.matches("content-length").count(), 1);
    assert!(head.contains(&format!("content-length: {}", body.len())) && !body.is_empty(), "{head}");
    let (head_of_head, nothing) = send(address, "HEAD", "1.1").await;
    assert_eq!(nothing, "");
    assert!(head_of_head.contains("www-authenticate: bearer realm=\"orders\""), "{head_of_head}");
    assert!(head_of_head.contains("application/problem+json"), "{head_of_head}");
    let (head, old) = send(address, "GET", "1.0").await;
    assert!(head.starts_with("http/1.0 401") && !head.contains("chunked"), "{head}");
    assert_eq!(old, body);
}

#[tokio::test]
async fn a_closure_may_make_a_response_of_its_own_and_the_refusal_stays_with_it() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mine(u8);
    let issuer = Issuer::new();
    let heard = Heard::default();
    let layer = issuer.layer().observe(heard.clone()).on_refusal(|refusal: &Refusal, response: Response<()>| {
        assert_eq!(response.extensions().get::<Refusal>(), Some(refusal));
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
        let mut own = Response::new(format!("no: {}", refusal.code()));
        *own.status_mut() = StatusCode::NOT_FOUND;
        own.extensions_mut().insert(Mine(7));
        own
    });
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("in"))));
    let response = layer.layer(inner).oneshot(Request::new(())).await.unwrap();
    assert_eq!((response.status().as_u16(), response.body().as_str()), (404, "no: no_credentials"));
    assert!(response.headers().is_empty());
    assert_eq!(response.extensions().get(), Some(&Mine(7)));
    assert_eq!(response.extensions().get::<Refusal>(), Some(&Refusal::NoCredentials));
    let response = layer.layer(inner).oneshot(common::request(&issuer.token(""))).await.unwrap();
    assert_eq!(response.body(), "in");
    assert_eq!(heard.take(), ["refused no_credentials", "admitted -"]);
}

#[tokio::test]
async fn the_length_of_a_body_that_is_not_sent_goes() {
    let inner = service_fn(async |_: Request<()>| {
        let mut response: Response<String> =
            Refusal::NoCredentials.into_response(&Method::GET, &http::HeaderMap::new(), None);
        response.headers_mut().insert(CONTENT_LENGTH, "0".parse().unwrap());
        response.extensions_mut().insert(7_u8);
        Ok::<_, Infallible>(response)
    });
    let response = OnRefusalLayer::new(ProblemDetails).layer(inner).oneshot(Request::new(())).await.unwrap();
    assert!(!response.headers().contains_key(CONTENT_LENGTH) && !response.body().is_empty());
    assert_eq!(response.extensions().get(), Some(&7_u8));
}

#[tokio::test]
async fn errors_of_the_inner_service_are_its_own() {
    let issuer = Issuer::new();
    let failing = service_fn(async |_: Request<()>| Err::<Response<String>, _>("broken"));
    let layer = issuer.layer().problem_details();
    assert_eq!(layer.layer(failing).oneshot(common::request(&issuer.token(""))).await.unwrap_err(), "broken");
}

#[test]
#[should_panic(expected = "countersign is misconfigured")]
fn a_layer_that_is_set_up_wrongly_does_not_hide_behind_it() {
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    drop(RequireJwtLayer::realm(Issuer::new().layer(), "\"").problem_details().layer(inner));
}
