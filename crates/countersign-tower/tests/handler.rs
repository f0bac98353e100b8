//! What a handler gets and what it answers, without any framework.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;

use common::{AUDIENCE, Issuer, NOW, headers, request};
use countersign_claims::scope;
use countersign_tower::Refusal;
use countersign_tower::handler::{Authenticated, Claims, ExtractError, Forbidden};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Extensions, HeaderMap, Method, Request, Response};
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};

#[derive(Debug, serde::Deserialize)]
struct Tenancy {
    tenant: String,
}

/// The extensions of this request as the service behind the layer finds them.
async fn behind_the_layer(issuer: &Issuer, claims: &serde_json::Value) -> Extensions {
    let inside = service_fn(async |request: Request<()>| {
        let mut response = Response::new(());
        response.extensions_mut().clone_from(request.extensions());
        Ok::<_, Infallible>(response)
    });
    let response = issuer.layer().layer(inside).oneshot(request(&issuer.sign(claims))).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_parts().0.extensions
}

fn grpc() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"))])
}

#[tokio::test]
async fn claims_and_the_token_come_from_the_extensions() {
    let issuer = Issuer::new();
    let claims = json!({ "aud": AUDIENCE, "exp": NOW + 60, "sub": "ada", "tenant": "t1", "scope": "a b" });
    let extensions = behind_the_layer(&issuer, &claims).await;
    let (one, other) =
        (Claims::<Tenancy>::from_extensions(&extensions), Claims::<Tenancy>::from_extensions(&extensions));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.tenant, "t1");
    assert!(std::ptr::eq(&raw const *one, &raw const *other), "read once and shared");

    let caller = Authenticated::from_extensions(&extensions).unwrap();
    assert_eq!(caller.subject(), Some("ada"));
    assert_eq!(caller.require(&scope("a").and(scope("b"))), Ok(()));
    let forbidden = caller.require(&scope("a").and(scope("c"))).unwrap_err();
    assert_eq!(forbidden.denied().required_scopes(), "a c");
}

#[tokio::test]
async fn claims_that_do_not_fit_are_the_tokens_fault() {
    let issuer = Issuer::new();
    let extensions = behind_the_layer(&issuer, &json!({ "aud": AUDIENCE, "exp": NOW + 60, "tenant": 7 })).await;
    let error = Claims::<Tenancy>::from_extensions(&extensions).unwrap_err();
    assert_eq!(error.refusal().unwrap().code(), "claims_type");

    let response: Response<String> = error.clone().into_response(&Method::GET, &HeaderMap::new(), &extensions);
    assert_eq!((response.status().as_u16(), response.body().as_str()), (401, ""));
    assert_eq!(
        headers(&response),
        [
            "cache-control: no-store",
            "www-authenticate: Bearer realm=\"orders\", error=\"invalid_token\", \
             error_description=\"the token is not valid\""
        ]
    );
    assert_eq!(response.extensions().get::<Refusal>(), error.refusal().as_ref());

    let response: Response<String> = error.into_response(&Method::POST, &grpc(), &extensions);
    assert_eq!(response.status(), 200);
    assert_eq!(
        headers(&response),
        [
            "cache-control: no-store",
            "content-type: application/grpc",
            "grpc-message: the token is not valid",
            "grpc-status: 16"
        ]
    );
}

#[test]
fn without_the_layer_it_is_the_services_fault() {
    let error = Claims::<Tenancy>::from_extensions(&Extensions::new()).unwrap_err();
    assert_eq!(error, ExtractError::NoLayer);
    assert_eq!(Authenticated::from_extensions(&Extensions::new()).unwrap_err(), error);
    assert!(error.refusal().is_none());

    let response: Response<String> = error.clone().into_response(&Method::GET, &HeaderMap::new(), &Extensions::new());
    assert_eq!(response.status(), 500);
    assert_eq!(headers(&response), ["cache-control: no-store"]);
    assert_eq!(response.extensions().get::<ExtractError>(), Some(&error));

    let response: Response<String> = error.clone().into_response(&Method::POST, &grpc(), &Extensions::new());
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "13");
    assert_eq!(response.headers()["grpc-message"].to_str().unwrap(), error.to_string(), "nothing in it to encode");
}

#[tokio::test]
async fn a_scope_that_is_lacking_is_answered_in_one_line() {
    let issuer = Issuer::new();
    let extensions = behind_the_layer(&issuer, &json!({ "aud": AUDIENCE, "exp": NOW + 60 })).await;
    let caller = Authenticated::from_extensions(&extensions).unwrap();
    let needed = scope("orders:write").and(scope("50%"));
    let forbidden = caller.require(&needed).unwrap_err();
    assert_eq!(Forbidden::from(needed.check(&caller).unwrap_err()), forbidden);

    let response: Response<String> = forbidden.clone().into_response(&Method::GET, &HeaderMap::new(), Some("orders"));
    assert_eq!(response.status(), 403);
    assert_eq!(
        response.headers()["www-authenticate"],
        "Bearer realm=\"orders\", error=\"insufficient_scope\", \
         error_description=\"the token does not grant the scope needed\", scope=\"orders:write 50%\""
    );

    let response: Response<String> = forbidden.into_response(&Method::POST, &grpc(), None);
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "7");
    assert_eq!(response.headers()["grpc-message"], "the token does not grant the scope needed: orders:write 50%25");
}
