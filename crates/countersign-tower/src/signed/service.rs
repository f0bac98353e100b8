use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use countersign_claims::Verified;
use countersign_claims::signed_request::{BodyDigest, check_body, check_head};
use http::{Request, Response, request};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::Rules;
use super::body::{Reading, SignedBody};
use super::refusal::RequestRefusal;
use crate::answers::Answers;
use crate::body::EmptyBody;
use crate::refusal::Refusal;

/// What stands between the layer and the inner service where requests are signed: compares the token with the request. Made by
/// [`SignedRequestLayer`](crate::SignedRequestLayer).
///
/// While a body is being read, nothing of the inner service's capacity is held.
#[derive(Clone)]
pub struct SignedRequest<S> {
    inner: S,
    rules: Rules,
}

impl<S> SignedRequest<S> {
    pub(super) fn new(inner: S, rules: Rules) -> Self {
        Self { inner, rules }
    }
}

impl<S, B, ResBody> Service<Request<B>> for SignedRequest<S>
where
    S: Service<Request<SignedBody>, Response = Response<ResBody>> + Clone,
    B: Body,
    ResBody: EmptyBody,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = SignedRequestFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // What was polled ready gives back what it has reserved, as in `RequireJwt`; the clone was never polled.
        self.inner = self.inner.clone();
        let (head, body) = request.into_parts();
        let state = match self.rules.begin(&head, body) {
            Ok(reading) => State::Reading {
                reading,
                timer: self.rules.timer(),
                waiting: Some(Waiting { inner: self.inner.clone(), head, rules: self.rules.clone() }),
            },
            Err(refusal) => refused(refusal, &head),
        };
        SignedRequestFuture { state }
    }
}

pin_project! {
    /// The response of [`SignedRequest`]: the inner service's, or a refusal.
    ///
    /// # Cancel safety
    /// It may be dropped at any time. Dropped while the body is being read, the token is not used up.
    ///
    /// # Panics
    /// If it is polled again after it has ended.
    pub struct SignedRequestFuture<S, B>
    where
        S: Service<Request<SignedBody>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B>
    where
        S: Service<Request<SignedBody>>,
    {
        /// Its body is on its way.
        Reading { #[pin] reading: Reading<B>, #[pin] timer: Option<Timer>, waiting: Option<Waiting<S>> },
        /// Admitted, and in the queue of the inner service.
        Queued { queued: Option<(S, Request<SignedBody>)> },
        /// In the hands of the inner service.
        Called { #[pin] response: S::Future },
        Refused { response: Option<Response<()>> },
    }
}

#[cfg(feature = "tokio")]
type Timer = tokio::time::Sleep;
#[cfg(not(feature = "tokio"))]
type Timer = std::future::Pending<()>;

/// What a request keeps while its body is read.
struct Waiting<S> {
    inner: S,
    head: request::Parts,
    rules: Rules,
}

impl<S, B, ResBody> Future for SignedRequestFuture<S, B>
where
    S: Service<Request<SignedBody>, Response = Response<ResBody>>,
    B: Body,
    ResBody: EmptyBody,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Reading { reading, timer, waiting } => {
                    let read = match reading.poll(cx) {
                        Poll::Ready(read) => read,
                        Poll::Pending => match timer.as_pin_mut().map(|timer| timer.poll(cx)) {
                            Some(Poll::Ready(())) => Err(RequestRefusal::BodyTimeout),
                            _ => return Poll::Pending,
                        },
                    };
                    let Waiting { inner, head, rules } = waiting.take().expect(POLLED_AFTER_END);
                    let admitted = read.map_err(Refusal::Request).and_then(|(body, digest)| {
                        rules.end(&head, &digest)?;
                        Ok(body)
                    });
                    match admitted {
                        Ok(body) => State::Queued { queued: Some((inner, Request::from_parts(head, body))) },
                        Err(refusal) => refused(refusal, &head),
                    }
                }
                StateProjection::Queued { queued } => {
                    let (inner, _) = queued.as_mut().expect(POLLED_AFTER_END);
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        // Not to be polled again, and what it held is of no more use.
                        *queued = None;
                        return Poll::Ready(Err(error));
                    }
                    let (mut inner, request) = queued.take().expect(POLLED_AFTER_END);
                    State::Called { response: inner.call(request) }
                }
                StateProjection::Called { response } => return response.poll(cx),
                StateProjection::Refused { response } => {
                    let response = response.take().expect(POLLED_AFTER_END);
                    return Poll::Ready(Ok(response.map(|()| ResBody::default())));
                }
            };
            state.set(next);
        }
    }
}

const POLLED_AFTER_END: &str = "`SignedRequestFuture` polled after it has ended";

impl Rules {
    /// What can be told before any of the body is there.
    fn begin<B: Body>(&self, head: &request::Parts, body: B) -> Result<Reading<B>, Refusal> {
        let verified = verified(head)?;
        let refuse = Refusal::Request;
        let url = self.settings.url_of(head.version, &head.uri).map_err(|_| refuse(RequestRefusal::AmbiguousTarget))?;
        check_head(verified, head.method.as_str(), &url).map_err(|why| refuse(RequestRefusal::Other(why)))?;
        self.once.check(verified).map_err(|why| refuse(RequestRefusal::once(why, self.clock.now())))?;
        Reading::new(body, self.settings.most).map_err(refuse)
    }

    /// The rest. Used up last: before that, whoever has seen the token could spend it on another body.
    fn end(&self, head: &request::Parts, digest: &BodyDigest) -> Result<(), Refusal> {
        let verified = verified(head)?;
        check_body(verified, digest).map_err(|why| Refusal::Request(RequestRefusal::Other(why)))?;
        let now = self.clock.now();
        self.once.use_up(verified, now).map_err(|why| Refusal::Request(RequestRefusal::once(why, now)))
    }

    #[cfg(feature = "tokio")]
    fn timer(&self) -> Option<Timer> {
        self.settings.body_time.map(tokio::time::sleep)
    }

    #[cfg(not(feature = "tokio"))]
    fn timer(&self) -> Option<Timer> {
        // Nobody can have set one.
        self.settings.body_time.map(|_| std::future::pending())
    }
}

/// The layer outside lets nothing through without one.
fn verified(head: &request::Parts) -> Result<&Verified, Refusal> {
    head.extensions.get::<Verified>().ok_or(Refusal::NoCredentials)
}

fn refused<S, B>(refusal: Refusal, head: &request::Parts) -> State<S, B>
where
    S: Service<Request<SignedBody>>,
{
    let answers = head.extensions.get::<Verified>().and_then(Answers::of);
    let kind = Answers::kind_or_default(answers.as_deref(), &head.method, &head.headers);
    State::Refused { response: Some(Answers::refuse_in_handler(answers.as_deref(), refusal, kind, "")) }
}

impl<S: fmt::Debug> fmt::Debug for SignedRequest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest").field("inner", &self.inner).field("rules", &self.rules).finish()
    }
}

impl<S, B> fmt::Debug for SignedRequestFuture<S, B>
where
    S: Service<Request<SignedBody>>,
{
    /// Says how far it has come, and nothing of the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Reading { .. } => "Reading",
            State::Queued { .. } => "Queued",
            State::Called { .. } => "Called",
            State::Refused { .. } => "Refused",
        };
        f.debug_tuple("SignedRequestFuture").field(&format_args!("{state}")).finish()
    }
}
