//! A layer that only watches: everything goes through as it came, somebody hears of it, and nobody gets claims.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![cfg(feature = "axum")]

mod common;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use common::{AUDIENCE, Heard, Issuer, NOW, ScriptedKeys};
use countersign_claims::{Policy, Verified, permission, scope};
use countersign_token::{Answer, Unready};
use countersign_tower::{Authenticated, Caller, Claims, ExtractError, Permit, RequireJwtLayer, TokenPlace, require};
use countersign_verifier::Verifier;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::{Layer as _, ServiceExt as _, service_fn};

permission! {
    /// May change orders.
    pub Write = scope("orders:write");
}

#[derive(Clone, Debug, PartialEq)]
struct OfThePeer(u8);

fn request(credentials: &[&str]) -> Request<String> {
    let mut builder = Request::post("/a?b=c").header("cookie", "d=e").extension(OfThePeer(7));
    for value in credentials {
        builder = builder.header("authorization", *value);
    }
    builder.body("body".to_owned()).unwrap()
}

#[tokio::test]
async fn every_request_goes_through_as_it_is_and_is_heard_of_once() {
    let issuer = Issuer::new();
    let bearer = |token: &str| format!("Bearer {token}");
    let stranger = Issuer::new().0.with_kid("k2").sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60 })).unwrap();
    let good = bearer(&issuer.token("orders:write"));
    for (credentials, keys, expected) in [
        (vec![good.clone()], None, "shadow_admitted -"),
        (vec![], None, "shadow_refused no_credentials"),
        (vec!["Bearer a b".into()], None, "shadow_refused malformed_credentials"),
        (vec![good.clone(), good.clone()], None, "shadow_refused many_credentials"),
        (vec![bearer(&issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW - 999 })))], None, "shadow_refused expired"),
        (vec![bearer(&Issuer::new().token(""))], None, "shadow_refused bad_signature"),
        (vec![bearer(&issuer.token(""))], None, "shadow_refused insufficient_scope"),
        (vec![bearer(&stranger)], Some(ScriptedKeys::default()), "shadow_undecided -"),
        (vec![bearer(&stranger)], Some(ScriptedKeys::answering(Answer::Absent)), "shadow_refused unknown_key"),
        (
            vec![bearer(&stranger)],
            Some(ScriptedKeys::answering(Answer::Unavailable {
                reason: Unready::TooOld,
                retry_after: Duration::from_secs(5),
            })),
            "shadow_refused keys_too_old",
        ),
    ] {
        let inner = service_fn(async |request: Request<String>| {
            let (parts, body) = request.into_parts();
            assert!(parts.extensions.get::<Verified>().is_none());
            assert_eq!(parts.extensions.get(), Some(&OfThePeer(7)));
            assert_eq!(
                (parts.method.as_str(), parts.uri.to_string().as_str(), body.as_str()),
                ("POST", "/a?b=c", "body")
            );
            let mut response = Response::new(body);
            *response.headers_mut() = parts.headers;
            *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
            Ok::<_, Infallible>(response)
        });
        let credentials: Vec<&str> = credentials.iter().map(String::as_str).collect();
        let (sent, heard) = (request(&credentials), Heard::default());
        let headers = sent.headers().clone();
        let answer = match &keys {
            None => {
                let layer = issuer.layer().require(scope("orders:write")).observe(heard.clone()).shadow();
                layer.layer(inner).oneshot(sent).await
            }
            Some(keys) => {
                let layer = common::layer(keys.clone()).observe(heard.clone()).shadow();
                let mut answer = tokio_test::task::spawn(layer.layer(inner).oneshot(sent));
                tokio_test::assert_ready!(answer.poll(), "nobody waits")
            }
        };
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers(), answer.body().as_str()), (418, &headers, "body"));
        assert_eq!(heard.take(), [expected]);
        if let Some(keys) = keys {
            assert_eq!(keys.asked(), 1, "the source is told what is missing, so that it looks");
            assert_eq!(keys.waiting(), 0);
        }
    }
}

#[tokio::test]
async fn a_shadow_leaves_the_token_the_uri_and_caching_alone() {
    let issuer = Issuer::new();
    let layer = issuer.layer().token_from([TokenPlace::query("t")]).shadow();
    let uri = format!("/a?t={}&b", issuer.token(""));
    let inner = service_fn(async |request: Request<()>| Ok::<_, Infallible>(Response::new(request.uri().to_string())));
    let answer = layer.layer(inner).oneshot(Request::get(&uri).body(()).unwrap()).await.unwrap();
    assert_eq!((answer.body(), answer.headers().len()), (&uri, 0));
}

fn handlers() -> Router {
    #[derive(serde::Deserialize)]
    struct Anything {}
    Router::new()
        .route("/authenticated", get(async |_: Authenticated| "claims"))
        .route("/claims", get(async |_: Claims<Anything>| "claims"))
        .route("/caller", get(async |_: Caller| "claims"))
        .route("/permit", get(async |_: Permit<Write>| "claims"))
        .route("/maybe", get(async |_: Option<Authenticated>| "claims"))
        .route("/maybe_claims", get(async |_: Option<Claims<Anything>>| "claims"))
        .route("/route", get(async || "claims").layer(require(scope("orders:write"))))
        .route("/of_today", get(async || "today"))
}

const ROUTES: [&str; 7] = ["/authenticated", "/claims", "/caller", "/permit", "/maybe", "/maybe_claims", "/route"];

async fn get_from(app: &Router, path: &str, token: Option<&str>) -> (u16, String) {
    let mut builder = Request::get(path);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    let response = app.clone().oneshot(builder.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn no_extractor_yields_anything_under_a_shadow() {
    let issuer = Issuer::new();
    let token = issuer.token("orders:write");
    for layer in [
        issuer.layer().shadow(),
        issuer.layer().shadow().optional(),
        issuer.layer().dangerous_treat_invalid_as_anonymous().shadow(),
        issuer.layer().shadow().exempt("/*"),
    ] {
        let app = handlers().layer(layer);
        for token in [Some(token.as_str()), Some("a.b.c"), None] {
            for path in ROUTES {
                let (status, text) = get_from(&app, path, token).await;
                assert_eq!(status, 500, "{path}");
                assert!(path == "/route" || text.contains("only watches (shadow)"), "{path}: {text}");
            }
            assert_eq!(get_from(&app, "/of_today", token).await, (200, "today".into()));
        }
    }
    let shadowed = issuer.layer().shadow().layer(service_fn(async |request: Request<()>| {
        Ok::<_, Infallible>(Response::new(format!("{:?}", Authenticated::from_extensions(request.extensions()))))
    }));
    let answer = shadowed.oneshot(common::request(&token)).await.unwrap();
    assert_eq!(*answer.body(), format!("{:?}", Err::<Authenticated, _>(ExtractError::Shadow)));
}

#[tokio::test]
async fn a_shadow_beside_a_layer_that_enforces_changes_nothing_of_what_that_finds() {
    let issuer = Issuer::new();
    let policy = Policy::new().audience("billing");
    let heard = Heard::default();
    let watching = RequireJwtLayer::new(Verifier::new(issuer.keys(), policy)).clock(common::now);
    let watching = watching.observe(heard.clone()).shadow();
    let token = issuer.token("orders:write");
    let within = handlers().layer(watching.clone()).layer(issuer.layer());
    let around = handlers().layer(issuer.layer()).layer(watching.clone());
    for app in [within.clone(), around.clone()] {
        for path in ROUTES {
            assert_eq!(get_from(&app, path, Some(&token)).await, (200, "claims".into()), "{path}");
            assert_eq!(heard.take(), ["shadow_refused wrong_audience"]);
        }
    }
    // Refused outside, the inner one does not hear of it.
    assert_eq!(get_from(&within, "/caller", None).await.0, 401);
    assert_eq!(heard.take(), [""; 0]);
    assert_eq!(get_from(&around, "/caller", None).await.0, 401);
    assert_eq!(heard.take(), ["shadow_refused no_credentials"]);
    // Nor do the claims of a layer that only watches come out behind one that lets everybody in.
    let good_to_the_shadow = issuer.sign(&json!({ "aud": "billing", "exp": NOW + 60, "sub": "bob" }));
    let lax = issuer.layer().dangerous_treat_invalid_as_anonymous();
    let app = handlers().layer(watching.clone()).layer(lax.clone());
    assert_eq!(get_from(&app, "/authenticated", Some(&good_to_the_shadow)).await.0, 401);
    let app = handlers().layer(lax).layer(watching);
    assert_eq!(get_from(&app, "/authenticated", Some(&good_to_the_shadow)).await.0, 401);
    assert_eq!(heard.take(), ["shadow_admitted -", "shadow_admitted -"]);
}

#[test]
fn a_shadow_that_should_change_the_request_is_a_configuration_error() {
    let layer = || Issuer::new().layer().shadow();
    for changing in [layer().strip_token(), layer().forward("sub", "x-user")] {
        let error = changing.check().unwrap_err().to_string();
        assert!(error.contains("shadow()"), "{error}");
    }
    assert_eq!(layer().optional().exempt("/a").allow_cors_preflight().check(), Ok(()));
}
