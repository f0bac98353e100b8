use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use countersign_token::KeySource;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::EmptyBody;
use crate::gate::{Began, Gate};
use crate::response;

pin_project! {
    /// The response of [`RequireJwt`](crate::RequireJwt): the inner service's, or a refusal.
    ///
    /// # Cancel safety
    /// It may be dropped at any time. Dropped while it waits for a key, it gives up its place among those who wait; the
    /// inner service has then neither been polled for this request nor called. Dropped later, it drops the inner service's
    /// future.
    ///
    /// # Panics
    /// If it is polled again after it has ended.
    pub struct ResponseFuture<S, K, ReqBody>
    where
        S: Service<Request<ReqBody>>,
        K: KeySource,
    {
        #[pin]
        state: State<S, K, ReqBody>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, K, ReqBody>
    where
        S: Service<Request<ReqBody>>,
        K: KeySource,
    {
        /// Admitted, and in the hands of the inner service.
        Called { #[pin] response: S::Future },
        /// The same, with a token in the query: the answer is for this caller only (RFC 6750 §2.3).
        CalledPrivately { #[pin] response: S::Future },
        /// Refused. A response without its body, so that the body type need not be `Send` for the future to be.
        Refused { response: Option<Response<()>> },
        /// Its key is being looked for.
        Waiting { #[pin] answer: K::Waiting, waiter: Option<Waiter<S, K, ReqBody>> },
        /// Admitted after the wait, and now in the queue of the inner service like everybody else.
        Queued { waiter: Option<Waiter<S, K, ReqBody>> },
    }
}

/// What a request keeps while it waits.
pub(crate) struct Waiter<S, K, ReqBody> {
    /// A clone that has never been polled, so it holds none of the inner service's capacity.
    pub(crate) inner: S,
    pub(crate) gate: Arc<Gate<K>>,
    pub(crate) request: Request<ReqBody>,
}

/// Since when a request waits, in its extensions, because few want to know and every future would have to have room for it.
#[derive(Clone, Copy)]
pub(crate) struct WaitBegan(pub(crate) Began);

/// That the answer is for this caller only, likewise.
#[derive(Clone, Copy)]
struct KeepPrivate;

impl<S, K, ReqBody> ResponseFuture<S, K, ReqBody>
where
    S: Service<Request<ReqBody>>,
    K: KeySource,
{
    pub(crate) fn called(response: S::Future, is_private: bool) -> Self {
        Self { state: State::called(response, is_private) }
    }

    pub(crate) fn refused(response: Response<()>) -> Self {
        Self { state: State::Refused { response: Some(response) } }
    }

    pub(crate) fn waiting(answer: K::Waiting, waiter: Waiter<S, K, ReqBody>) -> Self {
        Self { state: State::Waiting { answer, waiter: Some(waiter) } }
    }
}

impl<S, K, ReqBody> State<S, K, ReqBody>
where
    S: Service<Request<ReqBody>>,
    K: KeySource,
{
    fn called(response: S::Future, is_private: bool) -> Self {
        if is_private { Self::CalledPrivately { response } } else { Self::Called { response } }
    }
}

impl<S, K, ReqBody, ResBody> Future for ResponseFuture<S, K, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    K: KeySource,
    ResBody: EmptyBody,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Called { response } => return response.poll(cx),
                StateProjection::CalledPrivately { response } => {
                    let mut answer = ready!(response.poll(cx))?;
                    response::keep_private(answer.headers_mut());
                    return Poll::Ready(Ok(answer));
                }
                StateProjection::Refused { response } => {
                    let response = response.take().expect(POLLED_AFTER_END);
                    return Poll::Ready(Ok(response.map(|()| ResBody::default())));
                }
                StateProjection::Waiting { answer, waiter } => {
                    let answer = ready!(answer.poll(cx));
                    let mut waiter = waiter.take().expect(POLLED_AFTER_END);
                    let waited = waiter
                        .request
                        .extensions_mut()
                        .remove::<WaitBegan>()
                        .and_then(|WaitBegan(began)| began.elapsed());
                    match waiter.gate.resume(&waiter.request, answer, waited) {
                        Ok(pass) => {
                            if waiter.gate.pass_on(pass, &mut waiter.request) {
                                waiter.request.extensions_mut().insert(KeepPrivate);
                            }
                            State::Queued { waiter: Some(waiter) }
                        }
                        Err(refusal) => {
                            let response = waiter.gate.refuse(refusal, &waiter.request);
                            State::Refused { response: Some(response) }
                        }
                    }
                }
                StateProjection::Queued { waiter } => {
                    let inner = &mut waiter.as_mut().expect(POLLED_AFTER_END).inner;
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        // Not to be polled again, and what it held is of no more use.
                        *waiter = None;
                        return Poll::Ready(Err(error));
                    }
                    let Waiter { mut inner, mut request, .. } = waiter.take().expect(POLLED_AFTER_END);
                    let is_private = request.extensions_mut().remove::<KeepPrivate>().is_some();
                    State::called(inner.call(request), is_private)
                }
            };
            state.set(next);
        }
    }
}

const POLLED_AFTER_END: &str = "`ResponseFuture` polled after it has ended";

impl<S, K, ReqBody> fmt::Debug for ResponseFuture<S, K, ReqBody>
where
    S: Service<Request<ReqBody>>,
    K: KeySource,
{
    /// Says how far it has come, and nothing of the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } | State::CalledPrivately { .. } => "Called",
            State::Refused { .. } => "Refused",
            State::Waiting { .. } => "Waiting",
            State::Queued { .. } => "Queued",
        };
        f.debug_tuple("ResponseFuture").field(&format_args!("{state}")).finish()
    }
}
