//! What single routes and handlers demand: `require` and `Permit`, behind one layer.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![cfg(feature = "axum")]

mod common;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use common::{AUDIENCE, Issuer, NOW};
use countersign_claims::{Policy, UnixTime, Verified, acr, authenticated_within, claim, permission, scope};
use countersign_tower::{ExtractError, Forbidden, Permit, Refusal, RequireJwtLayer, require};
use countersign_verifier::Verifier;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_test::mock;

permission! {
    /// May read orders.
    pub Read = scope("orders:read");
    /// May change orders.
    pub Write = scope("orders:read").and(scope("orders:write"));
    /// May pay back, if authenticated strongly and lately.
    pub Refund = scope("orders:write").and(acr(["gold"])).and(authenticated_within(Duration::from_secs(300)));
    /// Works in the audit.
    pub Audit = claim("/org/department").equals("audit");
}

fn asked(method: Method, path: &str, token: Option<&str>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    builder.body(Body::empty()).unwrap()
}

fn challenge<B>(response: &Response<B>) -> (u16, &str) {
    let challenge = response.headers().get("www-authenticate").map_or("", |value| value.to_str().unwrap());
    (response.status().as_u16(), challenge)
}

fn with(issuer: &Issuer, more: &Value) -> String {
    let mut claims = json!({ "aud": AUDIENCE, "exp": NOW + 60, "sub": "ada" });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    issuer.sign(&claims)
}

const LACKS: &str = "Bearer realm=\"orders\", error=\"insufficient_scope\", \
                     error_description=\"the token does not grant the scope needed\", scope=\"orders:write orders:read\", \
                     resource_metadata=\"https://a.example/m\"";

#[tokio::test]
async fn a_route_demands_more_than_the_layer_in_each_way_that_axum_has() {
    let issuer = Issuer::new();
    let layer = issuer.layer().require(scope("orders:read")).resource_metadata("https://a.example/m");
    let demanding = || require(scope("orders:write"));
    let app = Router::new()
        .route("/method", post(async || "in").layer(demanding()).get(async || "in"))
        .merge(Router::new().route("/routes", get(async || "in")).route_layer(demanding()))
        .nest("/nested", Router::new().route("/a", get(async || "in")).layer(demanding()))
        .nest_service("/service", demanding().layer(get(async || "in")))
        .route("/open", get(async || "in"))
        .layer(layer);
    let send = async |method: Method, path: &str, token: Option<&str>| {
        app.clone().oneshot(asked(method, path, token)).await.unwrap()
    };
    let (reader, writer) = (issuer.token("orders:read"), issuer.token("orders:read orders:write"));
    for (method, path) in [
        (Method::POST, "/method"),
        (Method::GET, "/routes"),
        (Method::GET, "/nested/a"),
        (Method::GET, "/service/x"),
        (Method::HEAD, "/routes"),
    ] {
        let response = send(method.clone(), path, Some(&reader)).await;
        assert_eq!(challenge(&response), (403, LACKS), "{path}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.extensions().get::<Refusal>().unwrap().code(), "insufficient_scope");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 0);
        assert_eq!(send(method.clone(), path, Some(&writer)).await.status(), 200, "{path}");
        assert_eq!(send(method, path, None).await.status(), 401, "{path}");
    }
    for path in ["/method", "/open"] {
        assert_eq!(send(Method::GET, path, Some(&reader)).await.status(), 200, "{path}");
    }
    // What the layer demands is not met by what a route does.
    assert_eq!(send(Method::POST, "/method", Some(&issuer.token("orders:write"))).await.status(), 403);
}

#[tokio::test]
async fn a_route_without_a_layer_is_500_and_without_a_caller_401() {
    let issuer = Issuer::new();
    let route = || Router::new().route("/", get(async || "in").layer(require(scope("orders:write"))));
    let bare = route();
    let response = bare.oneshot(asked(Method::GET, "/", Some(&issuer.token("orders:write")))).await.unwrap();
    assert_eq!(challenge(&response), (500, ""));
    assert_eq!(response.extensions().get::<ExtractError>(), Some(&ExtractError::NoLayer));
    let optional = route().layer(issuer.layer().optional());
    let response = optional.oneshot(asked(Method::GET, "/", None)).await.unwrap();
    assert_eq!(challenge(&response), (401, "Bearer realm=\"orders\", scope=\"orders:write\""));
    // Statement 13: all scopes of the operation at once, the layer's and the route's.
    let optional = route().layer(issuer.layer().optional().require(scope("orders:read")));
    let response = optional.oneshot(asked(Method::GET, "/", None)).await.unwrap();
    assert_eq!(challenge(&response), (401, "Bearer realm=\"orders\", scope=\"orders:read orders:write\""));
}

#[tokio::test]
async fn statement_60_grpc_callers_are_refused_as_grpc_does_it() {
    let issuer = Issuer::new();
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("in"))));
    let demanding = require(scope("orders:write"));
    let grpc = |token: Option<String>| {
        let mut request = token.map_or_else(|| Request::new(()), |token| common::request(&token));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request
    };
    let reader = || Some(issuer.token("orders:read"));
    let header = |response: &Response<String>, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let layer = issuer.layer().optional();
    for (token, status) in [(reader(), "7"), (None, "16"), (Some(issuer.token("orders:write")), "-")] {
        let response = layer.layer(demanding.layer(inner)).oneshot(grpc(token)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "grpc-status").unwrap_or("-".into()), status);
    }
    let response = demanding.layer(inner).oneshot(grpc(None)).await.unwrap();
    assert_eq!(header(&response, "grpc-status").unwrap(), "13");
    // As the layer says: for a service that a proxy asks.
    let plain = layer.plain_http_refusals();
    for (token, status) in [(reader(), 403), (None, 401)] {
        let response = plain.layer(demanding.layer(inner)).oneshot(grpc(token)).await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "grpc-status")), (status, None));
    }
}

#[test]
fn who_is_refused_by_a_route_gives_back_what_was_reserved() {
    let issuer = Issuer::new();
    let verified = {
        let take = service_fn(async |request: Request<()>| {
            Ok::<_, Infallible>(Response::new(Some(request.extensions().get::<Verified>().unwrap().clone())))
        });
        let answer =
            tokio_test::block_on(issuer.layer().layer(take).oneshot(common::request(&issuer.token("")))).unwrap();
        answer.into_body().unwrap()
    };
    let (inner, mut handle) = mock::pair::<Request<()>, Response<String>>();
    handle.allow(9);
    let limited = ServiceBuilder::new().layer(require(scope("x"))).layer(ConcurrencyLimitLayer::new(1)).service(inner);
    let (mut refused, mut other) = (mock::Spawn::new(limited.clone()), mock::Spawn::new(limited));
    assert_ready_ok!(refused.poll_ready());
    assert_pending!(other.poll_ready(), "there is room for one");
    let mut request = Request::new(());
    request.extensions_mut().insert(verified);
    let mut response = task::spawn(refused.call(request));
    // Before anybody polls the answer.
    assert!(other.is_woken());
    assert_ready_ok!(other.poll_ready());
    assert_eq!(assert_ready_ok!(response.poll()).status(), 403);
    assert_pending!(handle.poll_request(), "the inner service is not called");
}

fn permits() -> Router {
    async fn write(permit: Permit<Write>) -> String {
        format!("{} {:?}", permit.subject().unwrap_or("?"), permit.verified().issuer())
    }
    Router::new()
        .route("/read", get(async |_: Permit<Read>| "in"))
        .route("/write", get(write))
        .route("/refund", get(async |_: Permit<Refund>| "in"))
        .route("/audit", get(async |_: Permit<Audit>| "in"))
}

#[tokio::test]
async fn statement_9_a_permit_is_had_by_who_may_and_the_others_hear_all_they_lack() {
    let issuer = Issuer::new();
    let app = permits().layer(issuer.layer());
    let send =
        async |path: &str, token: &str| app.clone().oneshot(asked(Method::GET, path, Some(token))).await.unwrap();
    assert_eq!(send("/write", &issuer.token("orders:write orders:read")).await.status(), 200);
    for scopes in ["", "orders:read", "orders:write", "orders:readorders:write"] {
        let response = send("/write", &issuer.token(scopes)).await;
        let expected = "Bearer realm=\"orders\", error=\"insufficient_scope\", error_description=\"the token does not \
                        grant the scope needed\", scope=\"orders:read orders:write\"";
        assert_eq!(challenge(&response), (403, expected), "{scopes}");
    }
    let audit = with(&issuer, &json!({ "org": { "department": "audit" } }));
    assert_eq!(send("/audit", &audit).await.status(), 200);
    let response = send("/audit", &issuer.token("")).await;
    let expected =
        "Bearer realm=\"orders\", error=\"insufficient_scope\", error_description=\"the token does not allow this\"";
    assert_eq!(challenge(&response), (403, expected));
    let bare = permits().oneshot(asked(Method::GET, "/read", Some(&audit))).await.unwrap();
    assert_eq!(bare.status(), 500);
}

#[tokio::test]
async fn who_must_authenticate_better_or_again_is_told_with_401() {
    let issuer = Issuer::new();
    let app = permits().layer(issuer.layer());
    for (claims, status, parameters) in [
        (json!({ "scope": "orders:write", "acr": "gold", "auth_time": NOW - 10 }), 200, vec![]),
        (json!({ "scope": "orders:write", "acr": "tin", "auth_time": NOW - 10 }), 401, vec!["acr_values=\"gold\""]),
        (json!({ "scope": "orders:write", "acr": "gold", "auth_time": NOW - 3600 }), 401, vec!["max_age=\"300\""]),
        (json!({ "scope": "orders:write" }), 401, vec!["acr_values=\"gold\"", "max_age=\"300\""]),
    ] {
        let response = app.clone().oneshot(asked(Method::GET, "/refund", Some(&with(&issuer, &claims)))).await.unwrap();
        let (told, challenge) = challenge(&response);
        assert_eq!(told, status, "{claims}");
        for parameter in &parameters {
            assert!(
                challenge.contains("error=\"insufficient_user_authentication\"") && challenge.contains(parameter),
                "{challenge}"
            );
        }
        assert_eq!(challenge.is_empty(), parameters.is_empty());
    }
}

#[tokio::test]
async fn a_wide_scope_of_the_policy_satisfies_a_narrow_one_wherever_it_is_demanded() {
    let issuer = Issuer::new();
    let policy = || Policy::new().audience(AUDIENCE);
    let of = |policy: Policy| RequireJwtLayer::new(Verifier::new(issuer.keys(), policy)).clock(common::now);
    let app = |layer| permits().route("/route", get(async || "in").layer(require(scope("orders:read")))).layer(layer);
    let wide = app(of(policy().scope_implies("orders:write", ["orders:read"])).require(scope("orders:read")));
    let plain = app(of(policy()));
    let token = issuer.token("orders:write");
    for path in ["/read", "/write", "/route"] {
        let send =
            async |app: &Router| app.clone().oneshot(asked(Method::GET, path, Some(&token))).await.unwrap().status();
        assert_eq!(send(&wide).await, 200, "{path}");
        assert_eq!(send(&plain).await, 403, "{path}");
    }
}

#[tokio::test]
async fn without_axum_a_permit_comes_from_the_extensions_and_forbidden_answers_as_the_layer_does() {
    let issuer = Issuer::new();
    let inner = service_fn(async |request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let verified = parts.extensions.get::<Verified>().unwrap();
        let answer = match Permit::<Write>::from_extensions(&parts.extensions) {
            Ok(permit) => Response::new(permit.subject().unwrap_or("?").to_owned()),
            Err(ExtractError::Denied(denied)) => {
                assert_eq!(&Permit::<Write>::of(verified).unwrap_err(), denied.denied());
                let forbidden =
                    countersign_tower::Authenticated(verified.clone()).require(&scope("orders:write")).unwrap_err();
                assert_eq!(forbidden, Forbidden::from(scope("orders:write").check(verified).unwrap_err()));
                let realm = parts.headers.get("x-realm").map(|realm| realm.to_str().unwrap());
                forbidden.into_response(&parts.method, &parts.headers, realm)
            }
            Err(error) => error.into_response(&parts.method, &parts.headers, &parts.extensions),
        };
        Ok::<_, Infallible>(answer)
    });
    let layer = issuer.layer().resource_metadata("https://a.example/m");
    let service = layer.layer(inner);
    let response = service.clone().oneshot(common::request(&issuer.token("orders:read orders:write"))).await.unwrap();
    assert_eq!(response.body(), "ada");
    let response = service.clone().oneshot(common::request(&issuer.token("orders:read"))).await.unwrap();
    // This layer demands nothing that would have to be kept.
    let lacks = LACKS.replace(" orders:read", "");
    assert_eq!(challenge(&response), (403, &*lacks));
    let mut other = common::request(&issuer.token("orders:read"));
    other.headers_mut().insert("x-realm", "other".parse().unwrap());
    let response = service.oneshot(other).await.unwrap();
    assert_eq!(challenge(&response), (403, &*lacks.replace("realm=\"orders\"", "realm=\"other\"")));
    assert_eq!(Permit::<Read>::from_extensions(&http::Extensions::new()).unwrap_err(), ExtractError::NoLayer);
}

#[test]
fn a_permit_shows_no_token() {
    let issuer = Issuer::new();
    let token = issuer.token("orders:read");
    let layer = issuer.layer().clock(|| UnixTime::from_secs(NOW));
    let inner = service_fn(async |request: Request<()>| {
        let permit = Permit::<Read>::from_extensions(request.extensions()).unwrap();
        Ok::<_, Infallible>(Response::new(format!("{permit:?} {:?}", permit.clone())))
    });
    let response = tokio_test::block_on(layer.layer(inner).oneshot(common::request(&token))).unwrap();
    let signature = token.rsplit('.').next().unwrap();
    assert!(response.body().contains("Permit") && !response.body().contains(signature), "{}", response.body());
}
