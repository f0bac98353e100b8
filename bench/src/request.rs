//! The request that every benchmark makes, and the service that it reaches.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use countersign::claims::ClaimsType;
use countersign::{SigningKey, Verified};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tower_service::Service;

use crate::Failure;
use crate::timing::{BATCH, Contender};

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

/// What a handler reads of them.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the work")]
pub struct MyClaims {
    sub: String,
    azp: String,
    roles: Vec<String>,
}

/// So many tokens, each with a name of its own.
pub fn tokens(signer: &SigningKey, now: u64, many: usize) -> Result<Vec<String>, Failure> {
    (0..many)
        .map(|at| {
            let mut claims = claims(now);
            claims["jti"] = token_id(at).into();
            Ok(signer.sign_as("at+jwt", &claims)?)
        })
        .collect()
}

/// A token with the signature of another by the same key. That of another key would do as well, but for RSA, where such a number may be too large to be a
/// signature at all, which is seen at once.
pub fn wrongly_signed(signer: &SigningKey, now: u64) -> Result<String, Failure> {
    let tokens = tokens(signer, now, 2)?;
    let parts = |at: usize| tokens[at].rsplit_once('.').ok_or("three parts");
    Ok(format!("{}.{}", parts(0)?.0, parts(1)?.1))
}

/// The `jti` of one of many tokens.
pub fn token_id(at: usize) -> String {
    format!("0b1e6a3c-52c7-4f7e-8f27-{at:012}")
}

/// Six header fields, one of them the token.
pub fn headers(token: &str) -> Result<HeaderMap, header::InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("orders.example"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("bench/1.0"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert("x-request-id", HeaderValue::from_static("7f4e4c539d3a"));
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse()?);
    Ok(headers)
}

/// A request as a server has it when it has read its head, ready to be sent again and again.
pub fn request(token: &str) -> Result<Request<()>, header::InvalidHeaderValue> {
    let mut request = Request::new(());
    *request.headers_mut() = headers(token)?;
    Ok(request)
}

/// The trivial inner service; it looks at what the layer left for it, and hands the request back: making requests is not what is measured.
#[derive(Clone)]
pub struct Handler {
    look: fn(&Verified),
    done_with: Rc<Cell<Option<Request<()>>>>,
}

impl Handler {
    /// Looks at the subject.
    pub fn new() -> Self {
        Self { look: |verified| _ = black_box(verified.subject()), done_with: Rc::default() }
    }

    /// Looks at the claims as a `T`.
    pub fn reading<T: ClaimsType>() -> Self {
        Self { look: |verified| drop(black_box(verified.claims::<T>().expect("they fit"))), ..Self::new() }
    }
}

impl Default for Handler {
    fn default() -> Self {
        Self::new()
    }
}

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        if let Some(verified) = request.extensions().get() {
            (self.look)(verified);
        }
        // Whole: a map that was only cleared would keep its memory.
        drop(std::mem::take(request.extensions_mut()));
        self.done_with.set(Some(request));
        ready(Ok(Response::new(())))
    }
}

/// One call, from a request to its answer. Whoever serves it has the request then, or nobody.
pub fn call<S>(service: &mut S, request: Request<()>) -> StatusCode
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    let future = pin!(service.call(request));
    match future.poll(&mut context) {
        Poll::Ready(Ok(response)) => response.status(),
        Poll::Pending => unreachable!("the keys are there"),
    }
}

/// One call that reaches `handler`. The request comes back.
pub fn serve<S>(service: &mut S, handler: &Handler, request: Request<()>) -> Request<()>
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    assert!(call(service, request).is_success());
    handler.done_with.take().expect("the handler was reached")
}

/// Requests that wait to be served, as a server has them that has just read them: each with the next of these tokens.
pub struct Arrivals<'t> {
    tokens: &'t [String],
    /// Of the token that comes next.
    at: Cell<usize>,
    arrived: RefCell<Vec<Request<()>>>,
    served: RefCell<Vec<Request<()>>>,
}

impl<'t> Arrivals<'t> {
    pub fn new(tokens: &'t [String]) -> Self {
        Self { tokens, at: Cell::new(0), arrived: RefCell::default(), served: RefCell::default() }
    }

    /// A contender that serves them.
    pub fn served_by<S>(&'t self, name: &'static str, mut service: S, handler: Handler) -> Contender<'t>
    where
        S: Service<Request<()>, Response = Response<()>, Error = Infallible> + 't,
    {
        Contender::prepared(name, || self.arrive(), move || self.serve(&mut service, &handler))
    }

    /// A contender that has seen none of them: `make` makes it anew whenever they begin anew.
    pub fn first_seen_by<S>(&'t self, name: &'static str, make: impl Fn() -> S + 't, handler: Handler) -> Contender<'t>
    where
        S: Service<Request<()>, Response = Response<()>, Error = Infallible> + 't,
    {
        let served_by = Rc::new(RefCell::new(make()));
        let made = Rc::clone(&served_by);
        let prepare = move || {
            if self.begin_anew() {
                made.replace(make());
            }
            self.arrive();
        };
        Contender::prepared(name, prepare, move || self.serve(&mut *served_by.borrow_mut(), &handler))
    }

    /// A contender that refuses them.
    pub fn refused_by<S>(&'t self, name: &'static str, mut service: S) -> Contender<'t>
    where
        S: Service<Request<()>, Response = Response<()>, Error = Infallible> + 't,
    {
        Contender::prepared(name, || self.arrive(), move || assert!(call(&mut service, self.next()).is_client_error()))
    }

    /// Has as many arrive as are served together.
    pub fn arrive(&self) {
        self.served.borrow_mut().clear();
        let mut arrived = self.arrived.borrow_mut();
        while arrived.len() < BATCH {
            let at = self.at.get();
            self.at.set((at + 1) % self.tokens.len());
            arrived.push(request(&self.tokens[at]).expect("a token is a header's value"));
        }
    }

    /// Serves each of them so often, unmeasured.
    pub fn get_known<S>(&self, service: &mut S, handler: &Handler, times: usize)
    where
        S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
    {
        for _ in 0..(times * self.tokens.len()).div_ceil(BATCH) {
            self.arrive();
            (0..BATCH).for_each(|_| self.serve(service, handler));
        }
    }

    pub fn serve<S>(&self, service: &mut S, handler: &Handler)
    where
        S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
    {
        self.served.borrow_mut().push(serve(service, handler, self.next()));
    }

    /// Whether the tokens begin anew with the next that arrives.
    fn begin_anew(&self) -> bool {
        self.at.get() == 0
    }

    /// The last to arrive is served first, which makes no difference.
    fn next(&self) -> Request<()> {
        self.arrived.borrow_mut().pop().expect("as many have arrived as are served")
    }
}
