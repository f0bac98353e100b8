//! The judgement inside of tower-http's layers: whatever is set of the layer holds there, and what cannot is refused.
#![cfg(feature = "tower-http-0.7")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Issuer, NOW, ScriptedKeys, headers, layer, request};
use countersign_claims::{Verified, scope};
use countersign_token::{Answer, KeySource, Unready};
use countersign_tower::{
    AuthorizeFuture, Caller, Judged, Observer, OnRefusalLayer, ProblemDetails, Refusal, RefusalLimit, Refused,
    RequestAuthorizer, RequireJwtLayer, TokenPlace, require,
};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use serde_json::json;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::auth::{AsyncAuthorizeRequest, AsyncRequireAuthorizationLayer};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_test::mock;

/// What the inner service has seen.
type Seen = Arc<Mutex<Option<Request<()>>>>;

async fn send<L>(outer: L, request: Request<()>) -> (Response<String>, Option<Request<()>>)
where
    L: Layer<BoxCloneService<Request<()>, Response<String>, Infallible>>,
    L::Service: Service<Request<()>, Response = Response<String>, Error = Infallible>,
{
    let seen = Seen::default();
    let inside = {
        let seen = Arc::clone(&seen);
        service_fn(move |request: Request<()>| {
            *seen.lock().unwrap() = Some(request);
            std::future::ready(Ok::<_, Infallible>(Response::new(String::from("inside"))))
        })
    };
    let response = outer.layer(BoxCloneService::new(inside)).oneshot(request).await.unwrap();
    let seen = seen.lock().unwrap().take();
    (response, seen)
}

/// Through the layer, and through both of tower-http's: the same answers, and the same requests for the inner service.
async fn send_all_ways<K: KeySource>(
    layer: &RequireJwtLayer<K>,
    request: Request<()>,
) -> (Response<String>, Option<Request<()>>) {
    let waits = AsyncRequireAuthorizationLayer::new(layer.authorizer().unwrap());
    let validates = ValidateRequestHeaderLayer::custom(layer.authorizer().unwrap());
    let (response, seen) = send(layer.clone(), request.clone()).await;
    for (other, seen_by_other) in [send(waits, request.clone()).await, send(validates, request.clone()).await] {
        assert_eq!(other.status(), response.status());
        assert_eq!(headers(&other), headers(&response));
        assert_eq!(other.body(), response.body());
        assert_eq!(other.extensions().get::<Refusal>(), response.extensions().get::<Refusal>());
        assert_eq!(seen_by_other.is_some(), seen.is_some());
        if let (Some(one), Some(other)) = (&seen, &seen_by_other) {
            assert_eq!((one.uri(), one.headers()), (other.uri(), other.headers()));
            let subject = |request: &Request<()>| {
                Caller::from_extensions(request.extensions())
                    .map(|caller| caller.verified().and_then(Verified::subject).map(str::to_owned))
            };
            assert_eq!(subject(one), subject(other));
        }
    }
    (response, seen)
}

#[tokio::test]
async fn every_setting_of_the_layer_holds() {
    let issuer = Issuer::new();
    let (good, foreign) = (issuer.token("orders:read"), issuer.sign(&json!({ "aud": "billing", "exp": NOW + 60 })));
    let cookie = |token: &str| Request::builder().header("cookie", format!("__Host-t={token}")).body(()).unwrap();
    let base = issuer.layer();

    let (response, seen) = send_all_ways(&base, request(&good)).await;
    assert_eq!((response.status().as_u16(), response.body().as_str()), (200, "inside"));
    assert!(seen.unwrap().extensions().get::<Verified>().is_some());

    let wide = base.clone().require(scope("orders:write"));
    assert_eq!(send_all_ways(&wide, request(&good)).await.0.status(), 403);

    let cookies = base.clone().token_from([TokenPlace::cookie("__Host-t")]);
    assert_eq!(send_all_ways(&cookies, cookie(&good)).await.0.status(), 200);
    assert_eq!(send_all_ways(&cookies, request(&good)).await.0.status(), 401);
    let stripping = cookies.strip_token().forward("sub", "x-user");
    let mut dressed = cookie(&good);
    dressed.headers_mut().insert("x-user", "admin".parse().unwrap());
    let seen = send_all_ways(&stripping, dressed).await.1.unwrap();
    assert_eq!(seen.headers().get("cookie"), None);
    assert_eq!(seen.headers()["x-user"], "ada");

    let optional = base.clone().optional();
    assert_eq!(send_all_ways(&optional, Request::new(())).await.0.status(), 200);
    assert_eq!(send_all_ways(&optional, request(&foreign)).await.0.status(), 401);
    let forgiving = base.clone().dangerous_treat_invalid_as_anonymous();
    let seen = send_all_ways(&forgiving, request(&foreign)).await.1.unwrap();
    assert!(matches!(Caller::from_extensions(seen.extensions()), Ok(Caller::Invalid(_))));

    let exempt = base.clone().exempt("/healthz").allow_cors_preflight();
    let at = |path: &str| Request::builder().uri(path).body(()).unwrap();
    assert_eq!(send_all_ways(&exempt, at("/healthz")).await.0.status(), 200);
    assert_eq!(send_all_ways(&exempt, at("/health")).await.0.status(), 401);
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .header("origin", "https://app.example")
        .header("access-control-request-method", "PUT")
        .body(())
        .unwrap();
    assert_eq!(send_all_ways(&exempt, preflight.clone()).await.0.status(), 200);
    assert_eq!(send_all_ways(&base, preflight).await.0.status(), 401);

    let shadow = base.clone().shadow();
    for request in [request(&good), request(&foreign), Request::new(())] {
        let seen = send_all_ways(&shadow, request).await.1.unwrap();
        assert!(seen.extensions().get::<Verified>().is_none());
    }

    let mut grpc = request(&foreign);
    *grpc.method_mut() = Method::POST;
    grpc.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    let metadata = base.clone().resource_metadata("https://api.example/.well-known/oauth-protected-resource");
    assert_eq!(send_all_ways(&metadata, grpc.clone()).await.0.headers()["grpc-status"], "16");
    let plain = metadata.plain_http_refusals();
    let refused = send_all_ways(&plain, grpc).await.0;
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains("resource_metadata="));
}

#[tokio::test]
async fn observers_and_limits_hear_of_every_request() {
    /// What was heard, and by whom.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Observer for Heard {
        fn judged(&self, judged: &Judged<'_>) {
            let refusal = judged.outcome().refusal().map_or("", Refusal::code);
            self.0.lock().unwrap().push(format!("{} {refusal}", judged.outcome().name()));
        }
    }

    impl RefusalLimit for Heard {
        fn retry_after(&self, refused: &Refused<'_>) -> Option<Duration> {
            self.0.lock().unwrap().push(format!("limit {}", refused.refusal().code()));
            Some(Duration::from_secs(7))
        }
    }

    let issuer = Issuer::new();
    let heard = Heard::default();
    let layer = issuer.layer().observe(heard.clone()).limit_refusals(heard.clone());
    send_all_ways(&layer, request(&issuer.token(""))).await;
    assert_eq!(std::mem::take(&mut *heard.0.lock().unwrap()), ["admitted "; 3]);
    let (response, _) = send_all_ways(&layer, Request::new(())).await;
    assert_eq!(headers(&response), ["cache-control: no-store", "retry-after: 7"]);
    assert_eq!(response.status(), 429);
    assert_eq!(*heard.0.lock().unwrap(), ["limit no_credentials", "refused limited"].repeat(3));
}

#[tokio::test]
async fn refusals_can_be_worded_outside_and_routes_can_demand_more_inside() {
    let issuer = Issuer::new();
    let stack = ServiceBuilder::new()
        .layer(OnRefusalLayer::new(ProblemDetails))
        .layer(AsyncRequireAuthorizationLayer::new(issuer.layer().authorizer().unwrap()))
        .layer(require(scope("orders:write")));
    let (refused, _) = send(&stack, Request::new(())).await;
    assert_eq!(refused.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(refused.status(), 401);
    let (denied, _) = send(&stack, request(&issuer.token(""))).await;
    assert!(denied.body().contains(r#""scope":"orders:write""#), "{}", denied.body());
    // The inner layer's answer has the outer one's realm.
    assert!(denied.headers()["www-authenticate"].to_str().unwrap().starts_with(r#"Bearer realm="orders""#));
    assert_eq!(send(&stack, request(&issuer.token("orders:write"))).await.0.status(), 200);
}

#[test]
fn a_token_in_the_query_is_a_configuration_error_because_its_answer_could_not_be_kept_private() {
    let issuer = Issuer::new();
    let layer = issuer.layer().token_from([TokenPlace::bearer(), TokenPlace::query("access_token")]);
    assert_eq!(layer.check(), Ok(()), "the layer can");
    let error = layer.authorizer::<String>().unwrap_err();
    assert!(error.to_string().contains("query"), "{error}");
    assert!(issuer.layer().realm("").authorizer::<String>().is_err(), "what the layer finds, it finds too");
}

#[test]
fn a_request_waits_for_its_key_and_goes_in() {
    let issuer = Issuer::new();
    let keys = ScriptedKeys::default();
    let authorizer: RequestAuthorizer<_, String> = layer(keys.clone()).authorizer().unwrap();
    let (mut service, mut handle) = mock::spawn_layer(AsyncRequireAuthorizationLayer::new(authorizer));
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut waiting = task::spawn(service.call(request(&issuer.token(""))));
    assert_pending!(waiting.poll());
    assert_pending!(handle.poll_request());
    keys.publish(issuer.keys());
    keys.answer(Answer::Changed);
    assert!(waiting.is_woken());
    assert_pending!(waiting.poll());
    let (request, send) = tokio_test::assert_ready!(handle.poll_request()).unwrap();
    assert_eq!(request.extensions().get::<Verified>().unwrap().subject(), Some("ada"));
    send.send_response(Response::new(String::from("inside")));
    assert_eq!(assert_ready_ok!(waiting.poll()).body(), "inside");
}

#[test]
fn a_request_that_is_refused_after_its_wait_never_goes_in_and_one_that_goes_away_leaves_the_queue() {
    let issuer = Issuer::new();
    for (answer, status) in [
        (Answer::Absent, 401),
        (Answer::NotYet { retry_after: Duration::from_secs(1) }, 429),
        (Answer::Unavailable { reason: Unready::NeverFetched, retry_after: Duration::from_secs(1) }, 503),
    ] {
        let keys = ScriptedKeys::default();
        let mut authorizer: RequestAuthorizer<_, String> = layer(keys.clone()).authorizer().unwrap();
        let mut judged = task::spawn(authorizer.authorize(request(&issuer.token(""))));
        assert_pending!(judged.poll());
        let gone = authorizer.authorize(request(&issuer.token("")));
        assert_eq!(keys.waiting(), 2);
        drop(gone);
        assert_eq!(keys.waiting(), 1);
        keys.answer(answer);
        let refused = tokio_test::assert_ready!(judged.poll()).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.body().as_str()), (status, ""));
    }
}

#[test]
fn readiness_is_the_inner_services_and_a_refusal_is_there_at_once() {
    let issuer = Issuer::new();
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<String>, _>(
        AsyncRequireAuthorizationLayer::new(issuer.layer().authorizer().unwrap()),
    );
    handle.allow(0);
    assert_pending!(service.poll_ready());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut refused = task::spawn(service.call(Request::new(())));
    assert_eq!(assert_ready_ok!(refused.poll()).status(), 401);
    assert_pending!(handle.poll_request());
}

/// As the documentation says. Should tower-http one day give it back meanwhile, the documentation can be friendlier.
#[tokio::test]
async fn a_waiting_request_holds_the_inner_services_capacity_which_under_the_layer_it_does_not() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let keys = ScriptedKeys::default();
    let auth = layer(keys.clone());
    let inside = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("inside"))));

    let adapted = AsyncRequireAuthorizationLayer::new(auth.authorizer().unwrap());
    let mut by_adapter = adapted.layer(ConcurrencyLimitLayer::new(1).layer(inside));
    let waiting = by_adapter.ready().await.unwrap().call(request(&token));
    assert_pending!(task::spawn(by_adapter.ready()).poll());
    drop(waiting);
    assert_ready_ok!(task::spawn(by_adapter.ready()).poll());

    let mut by_layer = auth.layer(ConcurrencyLimitLayer::new(1).layer(inside));
    let _waiting = by_layer.ready().await.unwrap().call(request(&token));
    assert_ready_ok!(task::spawn(by_layer.ready()).poll());
}

#[tokio::test]
async fn validation_does_not_wait_and_sends_away_whose_key_is_not_there() {
    let issuer = Issuer::new();
    let stranger = Issuer::new();
    let keys = ScriptedKeys::default();
    let validates = ValidateRequestHeaderLayer::custom(layer(keys.clone()).authorizer().unwrap());

    let (response, _) = send(validates.clone(), request(&issuer.token(""))).await;
    assert_eq!(headers(&response), ["cache-control: no-store", "retry-after: 1"]);
    assert_eq!(response.status(), 503, "there are no keys at all");
    assert_eq!((keys.asked(), keys.waiting()), (1, 0), "the source knows what is wanted, and nobody waits");

    let other = stranger.0.with_kid("k2");
    keys.publish(countersign_token::KeySet::new([other.verifying_key().unwrap()]));
    let (response, _) = send(validates.clone(), request(&issuer.token(""))).await;
    assert_eq!(response.status(), 429, "there are others");
    assert_eq!(response.extensions().get::<Refusal>().unwrap().code(), "key_not_checked_yet");

    keys.publish(issuer.keys());
    assert_eq!(send(validates, request(&issuer.token(""))).await.0.status(), 200);
}

#[test]
fn nothing_of_the_request_is_shown_and_bodies_need_only_default() {
    /// Neither `Send` nor `Clone`.
    #[derive(Debug, Default)]
    struct Body(std::marker::PhantomData<*const ()>);

    fn shareable<T: Clone + Send + Sync + 'static>(value: T) -> T {
        value
    }

    fn send<T: Send>(value: T) -> T {
        value
    }

    let issuer = Issuer::new();
    let token = issuer.token("");
    let authorizer: RequestAuthorizer<_, Body> = layer(ScriptedKeys::default()).authorizer().unwrap();
    let mut authorizer = shareable(authorizer);
    let waiting: AuthorizeFuture<_, Vec<u8>, Body> = send(authorizer.authorize(request(&token).map(|()| Vec::new())));
    let judged: AuthorizeFuture<_, (), Body> = authorizer.authorize(Request::new(()));
    assert_eq!(format!("{waiting:?} {judged:?}"), "AuthorizeFuture(Waiting) AuthorizeFuture(Judged)");
    assert!(!format!("{authorizer:?}").contains(&token));
    assert!(request(&token).headers()[AUTHORIZATION].to_str().unwrap().contains(&token));
}
