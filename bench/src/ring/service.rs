//! Serving the key set, beside a handler that does nothing but hand out the same bytes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use countersign::{Algorithm, SigningKey};
use countersign_issuer::by_hand::RingByHand;
use countersign_issuer::state::KeyState;
use countersign_issuer::{JwksService, SystemClock};
use http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use http::{HeaderValue, Request, Response, StatusCode};
use tower_service::Service;

use super::one_slot;
use crate::Failure;
use crate::timing::{BATCH, Contender, Effort, median, rounds};

const PATH: &str = "/.well-known/jwks.json";

/// What a ring of one slot has published most of the time.
const STATES: [KeyState; 3] = [KeyState::Active, KeyState::Standby, KeyState::Retiring];

pub(super) fn table(effort: &Effort) -> Result<String, Failure> {
    let ring = RingByHand::new("https://issuer.example", one_slot(), SystemClock::new());
    let keys = STATES.map(|state| {
        let key = SigningKey::generate(Algorithm::Es256)?;
        let kid = key.verifying_key()?.thumbprint().to_string();
        Ok::<_, Failure>((state, Arc::new(key.with_kid(kid))))
    });
    let keys = keys.into_iter().collect::<Result<Vec<_>, _>>()?;
    // Good for minutes, and nothing here takes as long.
    ring.show_keys(keys.iter().map(|(state, key)| ("es256", *state, key)))?;
    let service = ring.jwks();
    let (etag, bytes) = served(&service)?;
    let length = bytes.len();

    let bare = Router::new().route(PATH, get(bare(etag.clone(), bytes)));
    let mounted = Router::new().route_service(PATH, service.clone());
    let mut contenders = [
        contender("an axum handler that returns the same bytes and headers", bare, None, StatusCode::OK)?,
        contender("`JwksService` in the same place", mounted.clone(), None, StatusCode::OK)?,
        contender("the same, `If-None-Match`: 304", mounted, Some(&etag), StatusCode::NOT_MODIFIED)?,
        contender("`JwksService` by itself", service.clone(), None, StatusCode::OK)?,
        contender("the same, `If-None-Match`: 304", service, Some(&etag), StatusCode::NOT_MODIFIED)?,
    ];
    let mut times = rounds(&mut contenders, effort);
    let base = times[0].clone();
    let mut table = format!(
        "### Serving the key set ({length} bytes), calls within the process\n\n\
         | | × the bare handler | µs | calls per second, one thread |\n|---|---:|---:|---:|\n"
    );
    for (contender, times) in contenders.iter().zip(&mut times) {
        let mut ratios: Vec<_> = times.iter().zip(&base).map(|(time, base)| time / base).collect();
        let (ratio, micros) = (median(&mut ratios), median(times));
        table.push_str(&format!("| {} | {ratio:.2} | {micros:.3} | {:.0} |\n", contender.name, 1e6 / micros));
    }
    Ok(table)
}

/// The entity tag and the document.
fn served(service: &JwksService) -> Result<(HeaderValue, Bytes), Failure> {
    let response = answer(&mut service.clone(), request(None)?);
    let etag = response.headers().get(ETAG).cloned().ok_or("there is nothing to serve")?;
    let body = now(axum::body::to_bytes(Body::new(response.into_body()), usize::MAX))?;
    Ok((etag, body))
}

/// A handler, as one would write it.
fn bare(
    etag: HeaderValue,
    bytes: Bytes,
) -> impl Fn() -> std::future::Ready<([(http::HeaderName, HeaderValue); 4], Bytes)> + Clone + Send + Sync + 'static {
    move || {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json")),
            (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
            (ETAG, etag.clone()),
            (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        ];
        std::future::ready((headers, bytes.clone()))
    }
}

fn contender<S, B>(
    name: &'static str,
    mut service: S,
    etag: Option<&HeaderValue>,
    status: StatusCode,
) -> Result<Contender<'static>, Failure>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + 'static,
{
    let etag = etag.cloned();
    let response = answer(&mut service, request(etag.as_ref())?);
    if response.status() != status {
        return Err(format!("{name}: {}", response.status()).into());
    }
    // Neither making requests nor dropping answers to a client is what is measured.
    let requests = Rc::new(RefCell::new(Vec::with_capacity(BATCH)));
    let made = Rc::clone(&requests);
    let prepare = move || {
        let mut requests = made.borrow_mut();
        requests.clear();
        requests.extend((0..BATCH).map(|_| request(etag.as_ref()).expect("it was made before")));
    };
    let once = move || {
        let request = requests.borrow_mut().pop().expect("as many as there are calls");
        drop(black_box(answer(&mut service, request)));
    };
    Ok(Contender::prepared(name, prepare, once))
}

/// As a verifier asks.
fn request(etag: Option<&HeaderValue>) -> Result<Request<Body>, http::Error> {
    let mut request = Request::get(PATH).header(HOST, "issuer.example").header(ACCEPT, "application/jwk-set+json");
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    request.body(Body::empty())
}

fn answer<S, B>(service: &mut S, request: Request<Body>) -> Response<B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    match now(service.call(request)) {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Nothing here waits.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nobody waits for what is in memory"),
    }
}
