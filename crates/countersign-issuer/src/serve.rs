//! The JWKS over HTTP, from memory.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use countersign_claims::UnixTime;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;

use crate::config::RingConfig;
use crate::desk::Shared;
use crate::publication::{Publication, max_age};
use crate::state::RingState;

/// RFC 7517 §8.5.1.
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// Serves the JWKS of a ring as this node sees it, to whoever asks, at whatever path it is put:
/// `/.well-known/jwks.json`, or what the issuer's metadata says.
///
/// - `GET` and `HEAD`; anything else is 405.
/// - The body is made once for each state of the ring, `ETag` is strong, and `If-None-Match` is answered with 304 (RFC
///   9110 §13.1.2).
/// - `Cache-Control` is computed at the moment of the answer: for `A`, for less if a key is about to go, and for less
///   if the state was read long ago, so that no cache has a set in which a key is lacking by the time it may sign (I1).
/// - 503 with `Retry-After` as long as there is nothing to serve: the state was not read yet, has no keys, or was read
///   so long ago that what is served might lack a key. Verifiers then keep what they have, and other nodes can be
///   asked.
/// - `Access-Control-Allow-Origin: *`: public keys are for everybody, scripts in browsers included.
///
/// A service for axum (`route_service`), tonic's router, hyper (`TowerToHyperService`) and whatever else takes tower's.
/// It never fails and never waits.
#[derive(Clone)]
pub struct JwksService {
    shared: Arc<Shared>,
}

impl JwksService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn answer(&self, method: &Method, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let is_head = method == Method::HEAD;
        if !is_head && method != Method::GET {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, METHODS);
            return response;
        }
        let desk = self.shared.desk.load();
        let now = self.shared.clock.now();
        let age = desk.view.read_at().map(|read_at| now.since(&read_at));
        let ready = desk.ring.as_deref().zip(age).zip(desk.document.as_ref().ok());
        let fresh = ready.and_then(|((ring, age), document)| {
            Some((document, freshness(ring, &self.shared.config, age, now.wall)?.as_secs()))
        });
        let Some((document, max_age)) = fresh else {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let retry_after = self.shared.config.timing.tick.as_secs().max(1);
            response.headers_mut().insert(RETRY_AFTER, retry_after.into());
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return response;
        };
        let headers_out = response.headers_mut();
        let cache_control = HeaderValue::try_from(format!("public, max-age={max_age}"));
        headers_out.insert(CACHE_CONTROL, cache_control.unwrap_or(HeaderValue::from_static("no-cache")));
        headers_out.insert(ETAG, document.etag.clone());
        if headers.get_all(IF_NONE_MATCH).iter().any(|value| matches(value.as_bytes(), document.etag.as_bytes())) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers_out.insert(CONTENT_TYPE, JWK_SET);
        headers_out.insert(CONTENT_LENGTH, document.body.len().into());
        if !is_head {
            *response.body_mut() = Full::new(document.body.clone());
        }
        response
    }
}

impl fmt::Debug for JwksService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksService").field("issuer", &self.shared.issuer).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for JwksService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.headers())))
    }
}

/// A JWKS, ready to be sent.
pub(crate) struct Document {
    body: Bytes,
    etag: HeaderValue,
}

/// There is nothing to serve.
#[derive(Debug)]
pub(crate) struct NoDocument;

impl Document {
    pub(crate) fn of(ring: Option<&RingState>, config: &RingConfig) -> Result<Self, NoDocument> {
        // The time is for the `max-age` only, which is computed with each answer.
        let publication = Publication::of(ring.ok_or(NoDocument)?, config, UnixTime::from_secs(0));
        let publication = publication.map_err(|_| NoDocument)?;
        let etag = HeaderValue::try_from(publication.etag).map_err(|_| NoDocument)?;
        Ok(Self { body: Bytes::from_owner(publication.bytes), etag })
    }

    /// How many.
    #[cfg(feature = "metrics")]
    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }
}

/// For how long the set of a state that was read that long ago may be kept; `None` if it must not be given out any
/// more.
///
/// A key that this state lacks was read back after the state was read, so it signs `A + B + P + ε` after that at the
/// earliest. Intermediaries may add `B` to what is said here.
fn freshness(ring: &RingState, config: &RingConfig, age: Duration, now: UnixTime) -> Option<Duration> {
    let left = ring.terms.announcement().saturating_sub(ring.terms.intermediary).saturating_sub(age);
    let max_age = max_age(ring, config, now).min(left);
    (left >= Duration::from_secs(1)).then_some(max_age)
}

/// Whether the list of entity tags has this one, by the weak comparison (RFC 9110 §8.8.3.2), or is `*`. What is no
/// entity tag matches nothing.
fn matches(list: &[u8], etag: &[u8]) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        rest = rest.strip_prefix(b"W/").unwrap_or(rest);
        let Some(text) = rest.strip_prefix(b"\"") else { return false };
        let Some(end) = text.iter().position(|byte| *byte == b'"') else { return false };
        let (tag, after) = rest.split_at(end + 2);
        let after = after.trim_ascii_start();
        if !after.is_empty() && !after.starts_with(b",") {
            return false;
        }
        if tag == etag {
            return true;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests;
