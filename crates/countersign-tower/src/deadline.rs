//! When a connection ends that outlives its request: [`Deadline`], for SSE, WebSockets and streaming gRPC. Needs the feature
//! `tokio`.
//!
//! The layer judges a token once, when its request arrives. Whatever answers for longer than that waits for the deadline
//! beside its own work ([`Deadline::passed`]), or wraps the stream that it sends ([`Deadline::end`]).
//!
//! # When it has passed
//!
//! From the instant on at which the layer would refuse the token for the time
//! ([`Verified::accepted_until`]): `exp` and the leeway. Ending earlier would cut off a client whom the layer admits again with the very
//! same token; ending later would make an open connection worth more than a token.
//!
//! Time is read off two clocks, and the first that says so ends it:
//!
//! - The wall clock, which is looked at with every poll, and every [`LOOK_AT_CLOCK`] while nothing else happens: a machine that was suspended, or whose
//!   clock was set forward, ends the connection within that time.
//! - The monotonic clock, which has counted from when the `Deadline` was made: a wall clock that is set back, or stands still, prolongs
//!   nothing. A clock that is set right by setting it back thus may end a connection whose token is still good; its client
//!   connects again.
//!
//! # What it cannot do
//!
//! It ends what is polled. A client that reads nothing stops a server from polling what it sends: such a connection gets nothing more, and
//! stays open until the server's own write timeout. What was handed to the server before the deadline may arrive after it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use countersign_claims::{Clock, UnixTime, Verified};
use futures_core::stream::{FusedStream, Stream};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use crate::clock::SystemClock;
use crate::handler::Authenticated;

/// How long nobody looks at the wall clock at most: after a suspend, or a step forward, a connection may outlive its token by so much. No
/// shorter, because each look wakes the task of a connection that has nothing else to do.
pub const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// The end of what a token has opened. See the [module's page](self) for when that is.
///
/// Make it at once in the handler, from [`Authenticated::deadline`] or [`of`](Self::of): the monotonic clock counts from there.
///
/// ```
/// use std::time::Duration;
///
/// use countersign_tower::handler::Authenticated;
/// use tokio::time::sleep;
///
/// /// A connection, whatever it speaks.
/// async fn serve(caller: Authenticated) -> &'static str {
///     let deadline = caller.deadline();
///     loop {
///         tokio::select! {
///             // First the deadline, then anything else.
///             biased;
///             ended = deadline.passed() => return ended.reason(),
///             () = sleep(Duration::from_secs(1)) => { /* say something */ }
///         }
///     }
/// }
/// ```
#[derive(Clone)]
#[must_use = "it ends nothing by itself"]
pub struct Deadline<C = SystemClock> {
    at: Option<UnixTime>,
    /// When it was made, and how long there was left.
    made: Instant,
    left: Duration,
    clock: C,
}

impl Deadline {
    /// That of this token, by the system's clock.
    pub fn of(verified: &Verified) -> Self {
        Self::by(verified, SystemClock)
    }
}

impl<C: Clock> Deadline<C> {
    /// That of this token, by a clock of your own: the one that you gave to the layer.
    pub fn by(verified: &Verified, clock: C) -> Self {
        Self::made(verified.accepted_until(), clock)
    }

    /// At this time if it is the earlier one: for connections that must not be open for longer than so, or that end at `exp` without
    /// the leeway (`deadline.no_later_than(exp)`, of [`Verified::expires_at`]).
    pub fn no_later_than(self, at: UnixTime) -> Self {
        if self.at.is_some_and(|own| own <= at) {
            return self;
        }
        // Of the time that is left already, nothing comes back, whatever the wall clock says by now.
        let left = self.left.saturating_sub(self.made.elapsed());
        let sooner = Self::made(Some(at), self.clock);
        Self { left: sooner.left.min(left), ..sooner }
    }

    /// The instant from which on it has passed; `None`: never, as the token has no `exp`, and the policy lets it.
    #[must_use]
    pub fn at(&self) -> Option<UnixTime> {
        self.at
    }

    /// Whether it has passed at the time `now`, whatever the clocks say.
    #[must_use]
    pub fn has_passed(&self, now: UnixTime) -> bool {
        self.at.is_some_and(|at| now >= at)
    }

    /// Waits until it has passed, and says why.
    ///
    /// Cancel safe: a wait that is dropped and begun anew ends no later. Nothing is allocated; in a loop, `pin!` one future
    /// and wait for `&mut passed`, or make a new one each time. A deadline of a token that never expires waits for ever.
    ///
    /// # Panics
    /// When polled outside of a tokio runtime with time enabled.
    pub fn passed(&self) -> Passed<C>
    where
        C: Clone,
    {
        Passed { deadline: self.clone(), nap: None }
    }

    /// The items of `stream` until the deadline, and then its end. The stream is dropped there and then.
    ///
    /// The deadline is looked at before each item, so that none comes after it, however fast they come.
    ///
    /// ```
    /// # use countersign_tower::handler::Authenticated;
    /// use tokio_stream::Stream;
    ///
    /// fn events(caller: Authenticated) -> impl Stream<Item = u32> {
    ///     caller.deadline().end(tokio_stream::iter(0..))
    /// }
    /// ```
    ///
    /// # Panics
    /// The result does when polled outside of a tokio runtime with time enabled.
    pub fn end<S: Stream>(self, stream: S) -> Until<S, fn(Ended) -> S::Item, C> {
        Until { stream: Some(stream), last: None, passed: Passed { deadline: self, nap: None } }
    }

    /// As [`end`](Self::end), with one item more at the deadline, which says why it was the last. A stream that ends by itself
    /// before gets none.
    ///
    /// With the feature `tonic-0.14`, [`Ended`] turns into the `Status` that the layer would refuse the token with:
    /// `caller.deadline().end_with(orders, |ended| Err(ended.into()))`.
    ///
    /// # Panics
    /// As [`end`](Self::end).
    pub fn end_with<S: Stream, F: FnOnce(Ended) -> S::Item>(self, stream: S, last: F) -> Until<S, F, C> {
        Until { stream: Some(stream), last: Some(last), passed: Passed { deadline: self, nap: None } }
    }

    fn made(at: Option<UnixTime>, clock: C) -> Self {
        let left = at.map_or(Duration::MAX, |at| at.saturating_since(clock.now()));
        Self { at, made: Instant::now(), left, clock }
    }

    /// How long to wait before looking again; `None` if it has passed on either clock. `at` is its own.
    fn next_look(&self, at: UnixTime) -> Option<Duration> {
        let by_wall_clock = at.saturating_since(self.clock.now());
        let left = by_wall_clock.min(self.left.saturating_sub(self.made.elapsed()));
        (!left.is_zero()).then(|| left.min(LOOK_AT_CLOCK))
    }
}

impl<C> fmt::Debug for Deadline<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Authenticated {
    /// When what this token has opened must end, by the system's clock. With a clock of your own: [`Deadline::by`].
    ///
    /// Needs the feature `tokio`.
    pub fn deadline(&self) -> Deadline {
        Deadline::of(self)
    }
}

/// Why a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The token would be refused now: it has expired, or it is older than the policy allows.
    Expired,
}

impl Ended {
    /// For the client: the text of its [`Display`](fmt::Display). Short enough for a WebSocket's close frame (RFC 6455 §5.5: 123 octets).
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "the token has expired",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Ended {}

pin_project! {
    /// Waits for a [`Deadline`]. Made by [`Deadline::passed`].
    ///
    /// It stays ready once it is.
    #[must_use = "futures do nothing unless polled"]
    pub struct Passed<C = SystemClock> {
        deadline: Deadline<C>,
        // None until the first poll, and for a deadline that never passes.
        #[pin]
        nap: Option<Sleep>,
    }
}

impl<C: Clock> Future for Passed<C> {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut this = self.project();
        let Some(at) = this.deadline.at else { return Poll::Pending };
        // Whether or not the nap is over: it may have been a longer one than there is time now.
        while let Some(look) = this.deadline.next_look(at) {
            match this.nap.as_mut().as_pin_mut() {
                None => this.nap.set(Some(sleep(look))),
                Some(nap) => {
                    ready!(nap.poll(cx));
                    this.nap.set(None);
                }
            }
        }
        Poll::Ready(Ended::Expired)
    }
}

impl<C> fmt::Debug for Passed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Passed").field(&self.deadline).finish()
    }
}

pin_project! {
    /// A stream that ends at a [`Deadline`]. Made by [`Deadline::end`] and [`Deadline::end_with`].
    #[must_use = "streams do nothing unless polled"]
    pub struct Until<S, F, C = SystemClock> {
        // None once it has ended.
        #[pin]
        stream: Option<S>,
        last: Option<F>,
        #[pin]
        passed: Passed<C>,
    }
}

impl<S: Stream, F: FnOnce(Ended) -> S::Item, C: Clock> Stream for Until<S, F, C> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        let Some(stream) = this.stream.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(ended) = this.passed.poll(cx) {
            this.stream.set(None);
            return Poll::Ready(this.last.take().map(|last| last(ended)));
        }
        let item = ready!(stream.poll_next(cx));
        if item.is_none() {
            this.stream.set(None);
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let Some(stream) = &self.stream else { return (0, Some(0)) };
        let most = stream.size_hint().1.and_then(|most| most.checked_add(self.last.is_some().into()));
        (0, most)
    }
}

impl<S: Stream, F: FnOnce(Ended) -> S::Item, C: Clock> FusedStream for Until<S, F, C> {
    fn is_terminated(&self) -> bool {
        self.stream.is_none()
    }
}

impl<S, F, C> fmt::Debug for Until<S, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Until").field("deadline", &self.passed.deadline).finish_non_exhaustive()
    }
}
