//! tonic's `Status` made of a refusal says what the layer's own gRPC answer says.
#![cfg(feature = "tonic-0.14")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use common::{AUDIENCE, Issuer, NOW, ScriptedKeys, layer, request};
use countersign_claims::scope;
use countersign_token::{Answer, KeySource, Unready};
use countersign_tower::{Authenticated, Claims, ExtractError, Refusal, RequireJwtLayer};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use serde_json::json;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tower::{Layer, ServiceExt, service_fn};

/// The answer of `layer` to a gRPC call with these headers.
async fn call<K: KeySource>(layer: &RequireJwtLayer<K>, mut request: Request<()>) -> Response<()> {
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let inside = service_fn(async |request: Request<()>| {
        let mut response = Response::new(());
        response.extensions_mut().clone_from(request.extensions());
        Ok::<_, Infallible>(response)
    });
    layer.layer(inside).oneshot(request).await.unwrap()
}

/// Code, message and when to ask again: all that a client can see of a refusal.
fn seen(status: &Status) -> (Code, &str, Option<&str>) {
    let retry_after = status.metadata().get("retry-after").map(|value| value.to_str().unwrap());
    (status.code(), status.message(), retry_after)
}

#[tokio::test]
async fn a_status_says_what_the_layer_says() {
    let issuer = Issuer::new();
    let mut twice = request("a.b.c");
    twice.headers_mut().append(AUTHORIZATION, HeaderValue::from_static("Bearer a.b.c"));
    let expired = issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW - 3600 }));
    let not_yet = Answer::NotYet { retry_after: Duration::from_millis(1500) };
    let unavailable = Answer::Unavailable { reason: Unready::TooOld, retry_after: Duration::ZERO };
    let strict = issuer.layer().require(scope("50%").and(scope("orders:write")));
    for (response, code, retry_after) in [
        (call(&issuer.layer(), Request::new(())).await, Code::Unauthenticated, None),
        (call(&issuer.layer(), twice).await, Code::Unauthenticated, None),
        (call(&issuer.layer(), request("a, b")).await, Code::Unauthenticated, None),
        (call(&issuer.layer(), request("a.b.c")).await, Code::Unauthenticated, None),
        (call(&issuer.layer(), request(&expired)).await, Code::Unauthenticated, None),
        (call(&strict, request(&issuer.token(""))).await, Code::PermissionDenied, None),
        (
            call(&layer(ScriptedKeys::answering(not_yet)), request(&issuer.token(""))).await,
            Code::Unavailable,
            Some("2"),
        ),
        (
            call(&layer(ScriptedKeys::answering(unavailable)), request(&issuer.token(""))).await,
            Code::Unavailable,
            Some("1"),
        ),
    ] {
        let refusal = response.extensions().get::<Refusal>().unwrap().clone();
        let of_the_layer = Status::from_header_map(response.headers()).unwrap();
        let converted = Status::from(refusal.clone());
        assert_eq!(seen(&of_the_layer), seen(&converted));
        assert_eq!((converted.code(), seen(&converted).2), (code, retry_after), "{refusal}");
        let source = converted.source().and_then(|source| source.downcast_ref::<Refusal>());
        assert_eq!(source, Some(&refusal), "for those who count and log");
    }
}

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code, reason = "never read: it does not fit")]
struct NotThese {
    tenant: String,
}

/// A service method as a user writes it.
fn method(request: &tonic::Request<()>) -> Result<(), Status> {
    Authenticated::from_extensions(request.extensions())?.require(&scope("a").and(scope("50%")))?;
    Claims::<NotThese>::from_extensions(request.extensions())?;
    Ok(())
}

#[tokio::test]
async fn a_methods_errors_become_a_status() {
    let issuer = Issuer::new();
    let refused_by_method = async |scopes: &str| {
        let response = call(&issuer.layer(), request(&issuer.token(scopes))).await;
        let request = tonic::Request::from_parts(MetadataMap::new(), response.into_parts().0.extensions, ());
        method(&request).unwrap_err()
    };

    let status = refused_by_method("").await;
    let by_layer = call(&issuer.layer().require(scope("a").and(scope("50%"))), request(&issuer.token(""))).await;
    assert_eq!(seen(&status), seen(&Status::from_header_map(by_layer.headers()).unwrap()));
    assert_eq!(status.message(), "the token does not grant the scope needed: a 50%");

    let status = refused_by_method("a 50%").await;
    let by_layer = call(&issuer.layer(), request("a.b.c")).await;
    assert_eq!(seen(&status), seen(&Status::from_header_map(by_layer.headers()).unwrap()));
    let Some(refusal) = status.source().and_then(|source| source.downcast_ref::<Refusal>()) else {
        panic!("{status:?} has no source");
    };
    assert_eq!(refusal.code(), "claims_type");

    let status = method(&tonic::Request::new(())).unwrap_err();
    assert_eq!(seen(&status), (Code::Internal, ExtractError::NoLayer.to_string().as_str(), None));
}
