//! The metadata of a protected resource (RFC 9728), over real sockets, as a client finds them that knows nothing but the resource's URL;
//! and that what is compared is compared by code point.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use countersign::token::KeySource;
use countersign::{JwtAuth, KeySet, RequireJwtLayer, ResourceMetadata, scope};
use countersign_testkit::{IdentityProvider, TestKey, Token};
use countersign_tests::refusals::{layer, token};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A free port, and the URL of a resource at this path behind it.
async fn listen(path: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resource = format!("http://{}{path}", listener.local_addr().unwrap());
    (listener, resource)
}

fn serve(listener: TcpListener, app: Router) {
    tokio::spawn(async move { axum::serve(listener, app).await });
}

fn clients() -> [reqwest::Client; 2] {
    let builder = || reqwest::Client::builder().no_proxy();
    [builder().http1_only().build().unwrap(), builder().http2_prior_knowledge().build().unwrap()]
}

/// The metadata beside the resource, outside of its layer: as axum's route, and as a service.
fn around(protected: Router, metadata: &ResourceMetadata, as_service: bool) -> Router {
    if as_service {
        protected.route_service(metadata.path(), metadata.service::<Body>())
    } else {
        protected.route(metadata.path(), get(metadata.clone()))
    }
}

#[tokio::test]
async fn statement_39_a_client_finds_the_issuer_from_the_resource_alone() {
    let idp = IdentityProvider::start();
    for (path, as_service) in [("/mcp", false), ("/mcp", true), ("", false), ("/B/c%2Fd/", true)] {
        let (listener, resource) = listen(path).await;
        let metadata = ResourceMetadata::new(&resource)
            .unwrap()
            .authorization_server(idp.issuer())
            .scopes(["tools:call", "offline_access"])
            .member("resource_signing_alg_values_supported", Vec::<String>::new());
        let auth = JwtAuth::new(idp.jwks_url())
            .issuer(idp.issuer())
            .audience(&*resource)
            .require(scope("tools:call"))
            .resource_metadata(metadata.url());
        let protected = Router::new().fallback(async || "called").layer(auth);
        serve(listener, around(protected, &metadata, as_service));
        for client in clients() {
            let refused = client.get(&resource).send().await.unwrap();
            assert_eq!(refused.status(), 401);
            let told = refused.headers()["www-authenticate"].to_str().unwrap();
            let (_, url) = told.split_once("resource_metadata=\"").unwrap();
            let url = url.trim_end_matches('"');
            assert!(url.contains("/.well-known/oauth-protected-resource"), "{url}");

            let answer = client.get(url).send().await.unwrap();
            assert_eq!((answer.status(), &answer.headers()["content-type"]), (StatusCode::OK, &json_type()));
            let document: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            // RFC 9728 §3.3: identical to what the client began with, or the metadata must not be used.
            let expected = json!({
                "resource": resource,
                "authorization_servers": [idp.issuer()],
                "scopes_supported": ["tools:call"],
                "bearer_methods_supported": ["header"],
            });
            assert_eq!(document, expected, "{path}: without empty lists");

            let head = client.head(url).send().await.unwrap();
            assert_eq!((head.status(), &head.headers()["content-type"]), (StatusCode::OK, &json_type()));
            assert_eq!(client.post(url).send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);

            let issued = idp.token(document["resource"].as_str().unwrap()).scope("tools:call");
            let called = client.get(&resource).bearer_auth(issued.sign()).send().await.unwrap();
            assert_eq!(called.text().await.unwrap(), "called");
        }
    }
}

fn json_type() -> http::HeaderValue {
    http::HeaderValue::from_static("application/json")
}

async fn status<K: KeySource>(layer: &RequireJwtLayer<K>, token: &Token) -> StatusCode {
    let (listener, url) = listen("/").await;
    serve(listener, Router::new().fallback(async || "in").layer(layer.clone()));
    let [client, _] = clients();
    client.get(url).bearer_auth(token.sign()).send().await.unwrap().status()
}

/// RFC 9728 §6, which refers to RFC 8259 §8.3: neither letter case, nor escapes, nor Unicode's normal forms, nor what URLs have in common.
#[tokio::test]
async fn statement_40_text_is_compared_by_code_point_and_nothing_is_normalised() {
    const COMPOSED: &str = "https://api.example/\u{e9}";
    let same = [
        "https://api.example/e\u{301}",
        "https://api.example/%C3%A9",
        "https://api.example/\u{c9}",
        "https://API.example/\u{e9}",
        "https://api.example:443/\u{e9}",
        "https://api.example/\u{e9}/",
        "https://api.example/./\u{e9}",
        "https://api.example/\u{e9} ",
    ];
    let key = TestKey::nth(countersign::Algorithm::Es256, 0);
    let keys = || KeySet::new([key.verifying_key()]);
    let of = |issuer: &str, audience: &str| Token::new(&key).issuer(issuer).audience(audience);
    let auth = JwtAuth::with_keys(keys()).issuer(COMPOSED).audience(COMPOSED);
    for (issuer, audience, expected) in [(COMPOSED, COMPOSED, 200)]
        .into_iter()
        .chain(same.iter().flat_map(|other| [(COMPOSED, *other, 401), (*other, COMPOSED, 401)]))
    {
        let (listener, url) = listen("/").await;
        serve(listener, Router::new().fallback(async || "in").layer(auth.clone()));
        let [client, _] = clients();
        let answer = client.get(url).bearer_auth(of(issuer, audience).sign()).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{issuer} {audience}");
    }
    // An escape of JSON is another spelling of the same code points.
    let header = json!({ "alg": "ES256", "kid": key.kid() }).to_string();
    let claims = json!({ "iss": COMPOSED, "aud": COMPOSED, "exp": 4_000_000_000_u64 }).to_string();
    let claims = claims.replace('\u{e9}', "\\u00E9").replace("https://api", "https:\\/\\/\\u0061pi");
    let escaped = Token::new(&key).sign_parts(header, claims);
    let (listener, url) = listen("/").await;
    serve(listener, Router::new().fallback(async || "in").layer(auth));
    let [client, _] = clients();
    assert_eq!(client.get(url).bearer_auth(escaped).send().await.unwrap().status(), 200);

    // Our own metadata say `resource` as it was written.
    for resource in ["https://API.example/B%2fc/", "https://api.example:443", "HTTPS://api.example/a/../b"] {
        let metadata = ResourceMetadata::new(resource).unwrap();
        let document: Value = serde_json::from_str(&metadata.to_json()).unwrap();
        assert_eq!(document["resource"], resource);
    }
    // Scopes too.
    let needs = layer().require(scope("orders:read"));
    for (granted, expected) in
        [("orders:read", 200), ("Orders:read", 403), ("orders:r\u{435}ad", 403), ("orders%3Aread", 403)]
    {
        assert_eq!(status(&needs, &token().scope(granted)).await, expected, "{granted}");
    }
}
