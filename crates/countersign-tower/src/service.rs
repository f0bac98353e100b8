use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use countersign_token::KeySource;
use http::{Request, Response};
use tower_service::Service;

use crate::body::EmptyBody;
use crate::future::{ResponseFuture, WaitBegan, Waiter};
use crate::gate::{Gate, Judgement};

/// Lets through only requests with a good token. See the [crate's page](crate) for the rules.
///
/// Made by [`RequireJwtLayer`](crate::RequireJwtLayer). It is ready when the inner service is, and the inner service that
/// was polled ready is the one that is called.
pub struct RequireJwt<S, K> {
    inner: S,
    gate: Arc<Gate<K>>,
}

impl<S, K> RequireJwt<S, K> {
    pub(crate) fn new(inner: S, gate: Arc<Gate<K>>) -> Self {
        Self { inner, gate }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, without its gate.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, K, ReqBody, ResBody> Service<Request<ReqBody>> for RequireJwt<S, K>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    K: KeySource,
    ResBody: EmptyBody,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S, K, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    /// Judges the request here and now, unless its key has to be looked for. Whoever is not passed on releases the capacity
    /// that [`poll_ready`](Self::poll_ready) reserved.
    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.gate.judge(&request) {
            Ok(Judgement::Pass(pass)) => {
                let is_private = self.gate.pass_on(pass, &mut request);
                ResponseFuture::called(self.inner.call(request), is_private)
            }
            Ok(Judgement::Waiting(answer)) => {
                self.release();
                let began = self.gate.began();
                if began.is_wanted() {
                    request.extensions_mut().insert(WaitBegan(began));
                }
                let waiter = Waiter { inner: self.inner.clone(), gate: Arc::clone(&self.gate), request };
                ResponseFuture::waiting(answer, waiter)
            }
            Err(refusal) => {
                self.release();
                ResponseFuture::refused(self.gate.refuse(refusal, &request))
            }
        }
    }
}

impl<S: Clone, K> RequireJwt<S, K> {
    /// Drops the instance that was polled ready, and with it what it had reserved; a fresh one takes its place, as the next
    /// caller polls again anyway.
    ///
    /// Kept in a waiting request, the reservations of as many waiters as there is capacity would stop every good token for
    /// as long as they wait. Kept here, the last one would be missed by those who have ended their wait, until somebody else
    /// comes (a buffer with one instance of this service, over a limit of one, would hang).
    fn release(&mut self) {
        self.inner = self.inner.clone();
    }
}

// By hand, because `K` need not be `Clone`.
impl<S: Clone, K> Clone for RequireJwt<S, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<S: fmt::Debug, K> fmt::Debug for RequireJwt<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireJwt").field("inner", &self.inner).field("gate", &self.gate).finish()
    }
}
