//! The request that every benchmark makes, and the service that it reaches.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::marker::PhantomData;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use countersign::{ClaimsType, Verified};
use http::{HeaderMap, Request, Response, StatusCode, header};
use serde_json::json;
use tower_service::Service;

pub const ISSUER: &str = "https://login.example/realms/production";

/// Whom the tokens are for.
pub const AUDIENCE: &str = "orders";

/// Those of a token that was issued now, seconds since the Unix epoch.
pub fn claims(now: u64) -> serde_json::Value {
    json!({
        "iss": ISSUER,
        "sub": "5f2c8f0e-7f4e-4c53-9d3a-0d6f1b7b8a11",
        "aud": [AUDIENCE, "billing"],
        "exp": now + 3600,
        "nbf": now,
        "iat": now,
        "jti": "0b1e6a3c-52c7-4f7e-8f27-6a1f8a1c9e55",
        "typ": "Bearer",
        "azp": "web-frontend",
        "scope": "openid profile orders:read orders:write",
        "roles": ["user", "editor", "reviewer"],
    })
}

/// Six header fields, one of them the token.
pub fn headers(token: &str) -> Result<HeaderMap, header::InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, "orders.example".parse()?);
    headers.insert(header::USER_AGENT, "bench/1.0".parse()?);
    headers.insert(header::ACCEPT, "application/json".parse()?);
    headers.insert(header::ACCEPT_ENCODING, "gzip".parse()?);
    headers.insert("x-request-id", "7f4e4c539d3a".parse()?);
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse()?);
    Ok(headers)
}

/// The trivial inner service; it looks at what the layer left for it.
#[derive(Clone)]
pub struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        black_box(request.extensions().get::<Verified>().and_then(Verified::subject));
        ready(Ok(Response::new(())))
    }
}

/// The same, which asks for its claims as a `T` too.
pub struct Reader<T>(PhantomData<T>);

impl<T> Reader<T> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

// By hand, because `T` need not be `Clone`.
impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T: ClaimsType> Service<Request<()>> for Reader<T> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let claims = request.extensions().get::<Verified>().and_then(|verified| verified.claims::<T>().ok());
        black_box(claims.expect("they fit"));
        ready(Ok(Response::new(())))
    }
}

/// One request, from making it to the answer.
pub fn call<S>(service: &mut S, headers: &HeaderMap)
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    assert!(answer(service, headers).is_success());
}

/// The same for one that is refused.
pub fn refused<S>(service: &mut S, headers: &HeaderMap)
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    assert!(answer(service, headers).is_client_error());
}

fn answer<S>(service: &mut S, headers: &HeaderMap) -> StatusCode
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    assert!(service.poll_ready(&mut context).is_ready());
    let future = pin!(service.call(request));
    match future.poll(&mut context) {
        Poll::Ready(Ok(response)) => response.status(),
        Poll::Pending => unreachable!("the keys are there"),
    }
}
