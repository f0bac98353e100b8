//! Users' code that panics must not end the task: that would cost everybody the keys in force until the next request starts it again.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What `future` comes to, or what `panicked` says if it panics. What it leaves half done is its own, and it is not polled again.
pub(crate) async fn caught<T>(future: impl Future<Output = T>, panicked: impl Fn() -> T) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))).unwrap_or_else(|_| Poll::Ready(panicked()))
    })
    .await
}
