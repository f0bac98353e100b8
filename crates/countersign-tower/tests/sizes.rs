//! What the layer adds to a service and to its future, which every request carries about: neither grows unnoticed.
#![cfg(target_pointer_width = "64")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::mem::size_of;
use std::pin::Pin;
use std::task::{Context, Poll};

use common::ScriptedKeys;
use countersign_token::{KeySet, KeySource};
use countersign_tower::{Refusal, RequireJwt, RequireJwtLayer, ResponseFuture};
use http::{Request, Response};
use tower::Service;

/// A service of `S` bytes whose future has `F`.
#[derive(Clone)]
struct Inner<const S: usize, const F: usize>([u8; S]);

struct InnerFuture<const F: usize>([u8; F]);

impl<B, const S: usize, const F: usize> Service<Request<B>> for Inner<S, F> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = InnerFuture<F>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> InnerFuture<F> {
        InnerFuture([0; F])
    }
}

impl<const F: usize> Future for InnerFuture<F> {
    type Output = Result<Response<()>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(())))
    }
}

fn service<const S: usize>() -> usize {
    size_of::<RequireJwt<Inner<S, 0>, KeySet>>()
}

fn future<const S: usize, const F: usize, B, K: KeySource>() -> usize {
    size_of::<ResponseFuture<Inner<S, F>, K, B>>()
}

#[test]
fn a_service_is_a_pointer_larger_than_the_inner_one() {
    assert_eq!(size_of::<RequireJwtLayer<KeySet>>(), 8, "the settings, shared");
    assert_eq!(service::<0>(), 8);
    assert_eq!(service::<40>(), 48);
}

/// The future has room for the largest of its states. Either that is the inner future, and nothing is added but which state it is in;
/// or a wait: the request, the clone of the service that will take it, a pointer to the settings, and what is waited for.
#[test]
fn a_future_has_room_for_the_inner_one_or_for_a_wait() {
    assert_eq!(
        size_of::<Request<()>>(),
        224,
        "of `http`: if this fails, so does all below, and nobody here is to blame"
    );
    let (settings, no_wait) = (8, 24);
    assert_eq!(size_of::<<KeySet as KeySource>::Waiting>(), no_wait, "a `KeySet` answers at once");

    let waiting = 224 + settings + no_wait;
    assert_eq!(future::<0, 0, (), KeySet>(), waiting);
    assert_eq!(future::<0, 240, (), KeySet>(), waiting, "the inner future fits in");
    assert_eq!(future::<16, 0, (), KeySet>(), waiting + 16, "the clone of the service");
    assert_eq!(future::<0, 0, [u64; 4], KeySet>(), waiting + 32, "the request's body");
    let source = size_of::<<ScriptedKeys as KeySource>::Waiting>();
    assert_eq!(future::<0, 0, (), ScriptedKeys>(), waiting - no_wait + source, "what is waited for");
    assert_eq!(future::<0, 1000, (), KeySet>(), 1000 + 8, "the inner future, and the state");
}

/// It is in the error of every `Result` on the way, and in the extensions of each response that is a refusal.
#[test]
fn a_refusal_is_small() {
    assert_eq!(size_of::<Refusal>(), 56);
}
