//! One call: the request that every contender gets, the handler behind it, and the answer.

use std::convert::Infallible;
use std::future::{Future as _, Ready, poll_fn, ready};
use std::marker::PhantomData;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use countersign_bench::Failure;
use countersign_bench::request::headers;
use http::{Extensions, HeaderValue, Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tower_service::Service;

/// What handlers want to know of the caller; what the peers are told to read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MyClaims {
    pub sub: String,
    pub azp: String,
    pub roles: Vec<String>,
}

/// A token in each of the forms in which a contender is given it.
pub struct Token {
    pub text: String,
    pub signature: Vec<u8>,
    /// How long what is signed is.
    input: usize,
    authorization: HeaderValue,
}

impl Token {
    pub fn new(text: String) -> Result<Self, Failure> {
        let (input, signature) = text.rsplit_once('.').ok_or("a token has three parts")?;
        let (input, signature) = (input.len(), B64.decode(signature)?);
        let authorization = HeaderValue::try_from(format!("Bearer {text}"))?;
        // The first clone makes it one that is shared, which is none of the contenders' business.
        drop(authorization.clone());
        Ok(Self { text, signature, input, authorization })
    }

    /// What is signed.
    pub fn input(&self) -> &str {
        &self.text[..self.input]
    }
}

/// What is measured.
pub trait Contend {
    /// Its work; the answer's status, or what would be one.
    fn once(&mut self, token: &Token) -> StatusCode;

    /// Before each round of its own, outside the time that is measured.
    fn before_round(&mut self) {}

    /// Whether it has waited for somebody in its last call.
    fn has_waited(&self) -> bool {
        false
    }
}

impl<F: FnMut(&Token) -> StatusCode> Contend for F {
    fn once(&mut self, token: &Token) -> StatusCode {
        self(token)
    }
}

/// The trivial inner service: looks at what the middleware left for it, and finds the caller there or refuses.
pub struct Inner<B> {
    look: fn(&Extensions) -> bool,
    body: PhantomData<fn() -> B>,
}

impl<B> Inner<B> {
    pub fn looking(look: fn(&Extensions) -> bool) -> Self {
        Self { look, body: PhantomData }
    }
}

impl<B> Clone for Inner<B> {
    fn clone(&self) -> Self {
        Self::looking(self.look)
    }
}

impl<B: Default> Service<Request<Body>> for Inner<B> {
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Ready<Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut response = Response::new(B::default());
        if !(self.look)(request.extensions()) {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        ready(Ok(response))
    }
}

/// Whole calls of a service, from making the request to the answer.
pub struct Calls<S> {
    service: S,
    headers: http::HeaderMap,
    runtime: Handle,
    has_waited: bool,
}

impl<S> Calls<S> {
    pub fn new(service: S) -> Result<Self, Failure> {
        Ok(Self { service, headers: headers("")?, runtime: Handle::try_current()?, has_waited: false })
    }

    pub fn replace(&mut self, service: S) {
        self.service = service;
    }
}

impl<S, B> Contend for Calls<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    fn once(&mut self, token: &Token) -> StatusCode {
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = self.headers.clone();
        // In its place; the map would grow before it looks whether there is one to replace.
        if let Some(authorization) = request.headers_mut().get_mut(header::AUTHORIZATION) {
            *authorization = token.authorization.clone();
        }
        let mut context = Context::from_waker(Waker::noop());
        if self.service.poll_ready(&mut context).is_pending() {
            let _ = self.runtime.block_on(poll_fn(|context| self.service.poll_ready(context)));
        }
        // Nobody waits for anything but for keys, and these are there unless the kid is unknown.
        let mut future = pin!(self.service.call(request));
        let answer = future.as_mut().poll(&mut context);
        self.has_waited = answer.is_pending();
        let Ok(response) = match answer {
            Poll::Ready(response) => response,
            Poll::Pending => self.runtime.block_on(future),
        };
        response.status()
    }

    fn has_waited(&self) -> bool {
        self.has_waited
    }
}
