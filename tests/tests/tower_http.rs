//! The layer's judgement inside of tower-http's authorisation layers, and the limit on refused requests, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use countersign::{Authenticated, JwtAuth, PeerLimit};
use countersign_testkit::{IdentityProvider, Token};
use countersign_tests::refusals::{AUDIENCE, bearer, refusal_cases, token};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use tokio::net::TcpListener;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::auth::AsyncRequireAuthorizationLayer;
use tower_http::validate_request::ValidateRequestHeaderLayer;

/// After this long nothing more comes, and the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn inside(_: Request<()>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(String::from("inside")))
}

/// Status, headers and trailers, sorted.
async fn said<S>(service: S, request: Request<()>) -> Vec<String>
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible>,
{
    let response = service.oneshot(request).await.unwrap();
    assert!(response.body().is_empty() || response.body() == "inside");
    let mut lines: Vec<_> = response.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    lines.sort();
    lines.insert(0, response.status().to_string());
    lines
}

#[tokio::test]
async fn each_refusal_is_the_same_as_under_the_layer() {
    for case in refusal_cases() {
        let layer = case.layer.clone();
        let waits = AsyncRequireAuthorizationLayer::new(case.layer.authorizer().unwrap());
        let validates = ValidateRequestHeaderLayer::custom(case.layer.authorizer().unwrap());
        for (method, content_type) in
            [(Method::GET, "text/plain"), (Method::HEAD, "text/plain"), (Method::POST, "application/grpc")]
        {
            let mut request = Request::builder().method(method.clone()).header(CONTENT_TYPE, content_type);
            for value in &case.authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let request = request.body(()).unwrap();
            let expected = said(layer.layer(service_fn(inside)), request.clone()).await;
            match method {
                Method::POST => {
                    assert!(expected.contains(&format!("grpc-status: \"{}\"", case.grpc_status)), "{expected:?}");
                }
                _ => assert!(expected[0].starts_with(&case.status.to_string()), "{}: {expected:?}", case.name),
            }
            assert_eq!(said(waits.layer(service_fn(inside)), request.clone()).await, expected, "{}", case.name);
            assert_eq!(said(validates.layer(service_fn(inside)), request).await, expected, "{}", case.name);
        }
    }
    let good = Request::builder().header(AUTHORIZATION, bearer(&token())).body(()).unwrap();
    let auth = countersign_tests::refusals::layer();
    let waits = AsyncRequireAuthorizationLayer::new(auth.authorizer().unwrap());
    assert_eq!(said(waits.layer(service_fn(inside)), good).await, ["200 OK"]);
}

/// Serves `app` on a free port, with the peer's address in each request.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}/")
}

async fn ask(client: &reqwest::Client, url: &str, token: &Token) -> reqwest::Response {
    client.get(url).bearer_auth(token.sign()).send().await.unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn requests_wait_for_keys_that_are_fetched_and_follow_a_rotation() {
    let idp = IdentityProvider::start();
    let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience(AUDIENCE);
    let hello = get(async |caller: Authenticated| caller.subject().unwrap_or_default().to_owned());
    let app = Router::new()
        .route("/", hello)
        .layer(AsyncRequireAuthorizationLayer::new(auth.authorizer::<axum::body::Body>().unwrap()));
    let (url, client) = (serve(app).await, client());
    for _ in 0..2 {
        let response = ask(&client, &url, &idp.token(AUDIENCE)).await;
        assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "ada"));
        idp.rotate();
    }
    assert_eq!(ask(&client, &url, &idp.token("billing")).await.status(), 401);
}

#[tokio::test]
async fn validation_sends_away_whose_key_is_not_there_and_has_it_fetched_for_the_next() {
    let idp = IdentityProvider::start();
    let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience(AUDIENCE);
    let app = Router::new()
        .route("/", get(async || "hello"))
        .layer(ValidateRequestHeaderLayer::custom(auth.authorizer::<axum::body::Body>().unwrap()));
    let (url, client) = (serve(app).await, client());
    auth.handle().ready_within(PATIENCE).await.unwrap();
    assert_eq!(ask(&client, &url, &idp.token(AUDIENCE)).await.status(), 200);

    idp.rotate();
    let token = idp.token(AUDIENCE);
    let first = ask(&client, &url, &token).await;
    assert_eq!(first.status(), 429);
    assert!(first.headers().contains_key("retry-after"));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ask(&client, &url, &token).await.status() != 200 {
        assert!(tokio::time::Instant::now() < deadline, "nobody has fetched the key");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As the documentation shows it for axum.
#[tokio::test]
async fn a_flood_of_bad_tokens_is_limited_by_its_address_and_a_good_one_from_there_is_not() {
    let idp = IdentityProvider::start();
    let limit = PeerLimit::per_minute(NonZeroU32::MIN, |_, extensions| {
        extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
    })
    .burst(NonZeroU32::new(3).unwrap());
    let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience(AUDIENCE).limit_refusals(limit);
    let (url, client) = (serve(Router::new().route("/", get(async || "hello")).layer(auth)).await, client());
    let (good, bad) = (idp.token(AUDIENCE), idp.token("billing"));
    for number in 0..20 {
        let refused = ask(&client, &url, &bad).await;
        assert_eq!(refused.status(), if number < 3 { 401 } else { 429 }, "{number}");
        assert_eq!(refused.headers().contains_key("retry-after"), number >= 3);
        assert_eq!(ask(&client, &url, &good).await.status(), 200);
    }
}

/// As the documentation shows it for tonic: the peer is where tonic's server puts it.
#[tokio::test]
async fn tonics_server_says_who_the_peer_is() {
    let idp = IdentityProvider::start();
    let limit = PeerLimit::per_minute(NonZeroU32::MIN, |_, extensions| {
        let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        Some(peer.expect("tonic's server has put it there").ip())
    });
    let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience(AUDIENCE).limit_refusals(limit);
    let incoming = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/orders.Orders/List", incoming.local_addr().unwrap());
    let routes = tonic::service::Routes::from(Router::new());
    let server = tonic::transport::Server::builder().layer(auth).add_routes(routes).serve_with_incoming(incoming);
    tokio::spawn(server);
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for expected in ["16", "14", "14"] {
        let call = client.post(&url).header(CONTENT_TYPE, "application/grpc");
        let refused = call.bearer_auth(idp.token("billing").sign()).send().await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers()["grpc-status"].to_str().unwrap()), (200, expected));
    }
}
