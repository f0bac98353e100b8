//! The layer and the extractors under axum.
#![cfg(feature = "axum")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::{any, get};
use common::{AUDIENCE, Issuer, NOW, ScriptedKeys, layer};
use countersign_claims::scope;
use countersign_token::{Answer, Unready};
use countersign_tower::{Authenticated, Claims, Forbidden, Refusal};
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;

#[derive(Debug, serde::Deserialize)]
struct Tenancy {
    sub: String,
    tenant: String,
}

#[derive(serde::Deserialize)]
struct Subject {
    sub: String,
}

async fn tenant(claims: Claims<Tenancy>, again: Claims<Tenancy>) -> String {
    assert!(std::ptr::eq(&raw const *claims, &raw const *again), "read once and shared");
    format!("{} of {}", claims.sub, claims.tenant)
}

async fn subject(claims: Claims<Subject>) -> String {
    claims.sub.clone()
}

async fn write(caller: Authenticated) -> Result<String, Forbidden> {
    scope("orders:write").and(scope("orders:read")).check(&caller)?;
    caller.require(&scope("orders:read"))?;
    Ok(String::from("written"))
}

async fn send(app: &Router, request: Request<Body>) -> Response {
    app.clone().oneshot(request).await.unwrap()
}

fn get_with(token: &str, path: &str) -> Request<Body> {
    Request::get(path).header(AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn handlers_get_their_claims() {
    let issuer = Issuer::new();
    let app = Router::new().route("/", get(tenant)).route("/sub", get(subject)).layer(issuer.layer());
    let token = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "sub": "ada", "tenant": "t1" }));
    let response = send(&app, get_with(&token, "/")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "ada of t1");
    assert_eq!(text(send(&app, get_with(&token, "/sub")).await).await, "ada");
}

#[tokio::test]
async fn claims_that_do_not_fit_the_handler_are_401() {
    let issuer = Issuer::new();
    let app = Router::new().route("/", get(tenant).post(tenant)).layer(issuer.layer());
    for tenant in [json!(null), json!(7), json!(["t1"])] {
        let token = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "sub": "ada", "tenant": tenant }));
        let response = send(&app, get_with(&token, "/")).await;
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.headers()["www-authenticate"],
            r#"Bearer realm="orders", error="invalid_token", error_description="the token is not valid""#
        );
        assert_eq!(response.extensions().get::<Refusal>().unwrap().code(), "claims_type");
        assert_eq!(text(response).await, "");

        let mut request = get_with(&token, "/");
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
        let response = send(&app, request).await;
        assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"16".parse().unwrap()));
    }
}

#[tokio::test]
async fn a_handler_can_refuse_for_want_of_a_scope() {
    let issuer = Issuer::new();
    let app = Router::new().route("/", get(write)).layer(issuer.layer());
    assert_eq!(send(&app, get_with(&issuer.token("orders:read orders:write"), "/")).await.status(), 200);
    let response = send(&app, get_with(&issuer.token("orders:read"), "/")).await;
    assert_eq!(response.status(), 403);
    assert_eq!(
        response.headers()["www-authenticate"],
        "Bearer error=\"insufficient_scope\", error_description=\"the token does not grant the scope needed\", \
         scope=\"orders:write orders:read\""
    );
    assert_eq!(response.extensions().get::<Refusal>().unwrap().code(), "insufficient_scope");
}

#[tokio::test]
async fn a_missing_layer_is_500_and_says_so() {
    let issuer = Issuer::new();
    let app = Router::new()
        .route("/protected", get(tenant))
        .layer(issuer.layer())
        .route("/forgotten", any(tenant))
        .route("/also", any(write));
    for path in ["/forgotten", "/also"] {
        let response = send(&app, get_with(&issuer.token("orders:write"), path)).await;
        assert_eq!(response.status(), 500);
        assert!(!response.headers().contains_key("www-authenticate"));
        let text = text(response).await;
        assert!(text.starts_with("this route has no countersign layer"), "{text}");

        let mut request = get_with(&issuer.token("orders:write"), path);
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
        let response = send(&app, request).await;
        assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"13".parse().unwrap()));
    }
}

#[tokio::test]
async fn t28_no_route_under_the_layer_is_open() {
    let issuer = Issuer::new();
    let open = || any(async || "reached");
    let app = Router::new()
        .route("/", open())
        .route("/slash/", open())
        .nest("/v1", Router::new().route("/orders/{id}", open()).nest("/deep", Router::new().route("/x", open())))
        .merge(Router::new().route("/merged", open()))
        .nest_service("/service", open())
        .fallback(async || "fallback")
        .layer(issuer.layer());
    let token = issuer.token("");
    for path in ["/", "/slash/", "/slash", "/v1/orders/7", "/v1/deep/x", "/v1/none", "/merged", "/service/x", "/none"] {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::TRACE, Method::PATCH] {
            // Dressed up as a CORS preflight, and as a WebSocket handshake.
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header(ORIGIN, "https://elsewhere.example")
                .header("access-control-request-method", "GET")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .body(Body::empty())
                .unwrap();
            let response = send(&app, request).await;
            assert_eq!(response.status(), 401, "{method} {path}");
            assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="orders""#);
        }
        let response = send(&app, get_with(&token, path)).await;
        assert_eq!(response.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_layer_on_some_routes_leaves_the_others_open() {
    let issuer = Issuer::new();
    let private = Router::new().route("/private", get(subject)).route_layer(issuer.layer());
    let app = Router::new().route("/health", get(async || "up")).merge(private);
    let request = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(send(&app, request("/health")).await.status(), 200);
    assert_eq!(send(&app, request("/private")).await.status(), 401);
    assert_eq!(send(&app, request("/none")).await.status(), 404, "`route_layer` leaves the fallback alone");
    assert_eq!(send(&app, get_with(&issuer.token(""), "/private")).await.status(), 200);
}

#[tokio::test]
async fn waiting_and_refusals_for_want_of_keys_work_under_axum() {
    let issuer = Issuer::new();
    let keys = ScriptedKeys::default();
    let app = Router::new().route("/", get(subject)).layer(layer(keys.clone()));
    let mut waiting = tokio_test::task::spawn(app.clone().oneshot(get_with(&issuer.token(""), "/")));
    tokio_test::assert_pending!(waiting.poll());
    keys.publish(issuer.keys());
    keys.answer(Answer::Changed);
    assert_eq!(tokio_test::assert_ready_ok!(waiting.poll()).status(), 200);

    let unavailable = Answer::Unavailable { reason: Unready::TooOld, retry_after: std::time::Duration::from_secs(5) };
    let app = Router::new().route("/", get(subject)).layer(layer(ScriptedKeys::answering(unavailable)));
    let response = send(&app, get_with(&issuer.token(""), "/")).await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"5".parse().unwrap()));
}
