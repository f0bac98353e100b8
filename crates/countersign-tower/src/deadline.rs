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
//! # When the token is revoked
//!
//! If the layer or its verifier asks what has been revoked, it has passed as well as soon as they would refuse the
//! token for that: the deadline is told of changes, and asks again then, and every [`LOOK_AT_CLOCK`], because what is
//! known gets old without a change ([`Ended::RevocationsStale`], where that is refused). A change is acted on at once,
//! and further ones at most every [`RECHECK_SPACING`].
//!
//! # What it cannot do
//!
//! It ends what is polled. A client that reads nothing stops a server from polling what it sends: such a connection gets nothing more, and
//! stays open until the server's own write timeout. What was handed to the server before the deadline may arrive after it.

mod watch;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use countersign_claims::{Clock, UnixTime, Verified};
use futures_core::stream::{FusedStream, Stream};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::clock::SystemClock;
use crate::handler::Authenticated;
use watch::Watch;

/// How long nobody looks at the wall clock at most: after a suspend, or a step forward, a connection may outlive its token by so much. No
/// shorter, because each look wakes the task of a connection that has nothing else to do.
pub const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// How long a connection that has looked for a revocation after a change lets further changes wait. A busy feed changes
/// many times a second, and each change wakes every connection there is: ten thousand of them look a hundred thousand
/// times a second at most, which is some hundredths of one core.
pub const RECHECK_SPACING: Duration = Duration::from_millis(100);

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
    /// If it can be asked whether it has been revoked. Shared, because each wait has a copy, and without it all would
    /// be as large.
    token: Option<Arc<Verified>>,
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
        let token = verified.revocation().map(|_| Arc::new(verified.clone()));
        Self { token, ..Self::made(verified.accepted_until(), clock) }
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
        Self { left: sooner.left.min(left), token: self.token, ..sooner }
    }

    /// The instant from which on it has passed for the time; `None`: never, as the token has no `exp`, and the policy
    /// lets it.
    #[must_use]
    pub fn at(&self) -> Option<UnixTime> {
        self.at
    }

    /// Whether it has passed at the time `now`, whatever the clocks say, or the token would be refused by then because it has been revoked, or
    /// because that is not known well enough where it must be.
    #[must_use]
    pub fn has_passed(&self, now: UnixTime) -> bool {
        self.at.is_some_and(|at| now >= at)
            || self.token.as_ref().is_some_and(|token| token.check_revocation(now).is_err())
    }

    /// Waits until it has passed, and says why.
    ///
    /// Cancel safe: a wait that is dropped and begun anew ends no later. In a loop, `pin!` one future and wait for
    /// `&mut passed`, or make a new one each time: nothing is allocated, unless the token can be revoked. Each wait
    /// then listens for changes and asks once as it begins, so that pinning one is cheaper. A deadline of a token that
    /// never expires, and that nobody can revoke, waits for ever.
    ///
    /// # Panics
    /// When polled outside of a tokio runtime with time enabled.
    pub fn passed(&self) -> Passed<C>
    where
        C: Clone,
    {
        Passed::new(self.clone())
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
        Until { stream: Some(stream), last: None, passed: Passed::new(self) }
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
        Until { stream: Some(stream), last: Some(last), passed: Passed::new(self) }
    }

    fn made(at: Option<UnixTime>, clock: C) -> Self {
        let left = at.map_or(Duration::MAX, |at| at.saturating_since(clock.now()));
        Self { at, made: Instant::now(), left, token: None, clock }
    }

    /// How long to wait before looking again; `None` if it has passed on either clock.
    fn next_look(&self) -> Option<Duration> {
        let Some(at) = self.at else { return Some(LOOK_AT_CLOCK) };
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
    /// The token would be refused now: it has been revoked.
    Revoked,
    /// Every token would be refused now: what is known of revocations is too old, in the opinion of the
    /// [check](countersign_claims::revocation::RevocationCheck::refuse_stale).
    RevocationsStale,
}

impl Ended {
    /// For the client: the text of its [`Display`](fmt::Display), which is what a request with that token would be
    /// told, and so does not say that it is revoked. Short enough for a WebSocket's close frame (RFC 6455 §5.5: 123
    /// octets).
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "the token has expired",
            Self::Revoked => "the token is not valid",
            Self::RevocationsStale => "tokens cannot be checked at present",
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
        // None until the first poll, and for a token that nobody can revoke.
        watch: Option<Box<Watch>>,
    }
}

impl<C> Passed<C> {
    fn new(deadline: Deadline<C>) -> Self {
        Self { deadline, nap: None, watch: None }
    }
}

impl<C: Clock> Future for Passed<C> {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut this = self.project();
        let deadline = &*this.deadline;
        if deadline.at.is_none() && deadline.token.is_none() {
            return Poll::Pending;
        }
        // Whether or not the nap is over: it may have been a longer one than there is time now.
        while let Some(look) = deadline.next_look() {
            let mut sooner = None;
            if let Some(token) = &deadline.token {
                let now = deadline.clock.now();
                let watch = this.watch.get_or_insert_with(|| Box::new(Watch::begun(token, now)));
                match watch.poll(token, now, cx) {
                    Ok(at) => sooner = Some(at).filter(|at| *at < Instant::now() + look),
                    Err(ended) => return Poll::Ready(ended),
                }
            }
            match (this.nap.as_mut().as_pin_mut(), sooner) {
                (Some(nap), Some(at)) if nap.deadline() > at => this.nap.set(Some(sleep_until(at))),
                (Some(nap), _) => {
                    ready!(nap.poll(cx));
                    this.nap.set(None);
                }
                (None, Some(at)) => this.nap.set(Some(sleep_until(at))),
                (None, None) => this.nap.set(Some(sleep(look))),
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
