//! Room for bodies that are on their way: so many bytes, of all requests together.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Semaphore;

use crate::body::MAX_BODY_BYTES;
use crate::problem::Problem;
use crate::service::TokenService;

/// All bodies that are held at once, bytes: one of the longest for each of the connections that there may be by default. Without it
/// those of HTTP/2, each with [`MAX_STREAMS`](crate::MAX_STREAMS) half-sent requests, could hold 1 GiB.
///
/// A body counts by what has come of it, not by what it says that it will be: to have others refused, somebody has to send as
/// much. What a buffer has in reserve is not counted, and is as much again at most.
pub const MAX_BODIES_BYTES: usize = 1_024 * MAX_BODY_BYTES;

/// How much of the room there is for one client's bodies: so much of it, or one of the longest if that is more. Whoever has credentials
/// shall not have everybody else refused by sending what he does not end.
const OF_ONE: usize = 8;

/// What a body takes at least: less is not worth the counting.
const MIN_SHARE: usize = 1_024;

/// One for all routes and connections of a service. Clones are the same.
#[derive(Clone)]
pub(crate) struct Room(Arc<Inner>);

struct Inner {
    left: Semaphore,
    of_one: usize,
    by_client: Mutex<HashMap<Box<str>, usize>>,
}

/// What one request has of it, until it ends.
struct Share {
    room: Room,
    /// Whose it is, once that is known. Those of whom it is not, which are the operators', have the share of one client together.
    client: OnceLock<Box<str>>,
    held: AtomicUsize,
    is_refused: AtomicBool,
}

/// A body that takes its share as it comes.
struct Counted {
    body: Body,
    /// Of it, so far.
    come: usize,
    share: Arc<Share>,
}

/// There is none for the rest of a body.
#[derive(Debug)]
struct NoRoom;

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no room for the body")
    }
}

impl std::error::Error for NoRoom {}

impl Room {
    /// For so many bytes, and for one body of the longest at least: otherwise none of them could ever be read.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(MAX_BODY_BYTES, Semaphore::MAX_PERMITS);
        let of_one = (bytes / OF_ONE).max(MAX_BODY_BYTES);
        Self(Arc::new(Inner { left: Semaphore::new(bytes), of_one, by_client: Mutex::default() }))
    }

    fn share(&self) -> Arc<Share> {
        let (held, is_refused) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Share { room: self.clone(), client: OnceLock::new(), held, is_refused })
    }

    fn take(&self, client: &str, bytes: usize) -> bool {
        let mut by_client = self.0.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let held = by_client.get(client).copied().unwrap_or_default().saturating_add(bytes);
        let permits = u32::try_from(bytes).ok().filter(|_| held <= self.0.of_one);
        let Some(Ok(taken)) = permits.map(|permits| self.0.left.try_acquire_many(permits)) else { return false };
        taken.forget();
        by_client.insert(client.into(), held);
        true
    }

    fn give_back(&self, client: &str, bytes: usize) {
        let mut by_client = self.0.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = by_client.get_mut(client) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                by_client.remove(client);
            }
        }
        self.0.left.add_permits(bytes);
    }
}

impl Share {
    /// Whether there is room for a body of which so much has come. Asked by the one body that has this share.
    fn grow_to(&self, come: usize) -> bool {
        // Taken in doubling steps, so that octet by octet costs next to nothing; of a longer one nobody keeps more.
        let wanted = come.next_power_of_two().clamp(MIN_SHARE, MAX_BODY_BYTES);
        let held = self.held.load(Ordering::Relaxed);
        if wanted <= held {
            return true;
        }
        let has_room = self.room.take(self.client(), wanted - held);
        match has_room {
            true => self.held.store(wanted, Ordering::Relaxed),
            false => self.is_refused.store(true, Ordering::Relaxed),
        }
        has_room
    }

    fn client(&self) -> &str {
        self.client.get().map_or("", |client| client)
    }
}

/// However the request has ended.
impl Drop for Share {
    fn drop(&mut self) {
        let held = *self.held.get_mut();
        if held > 0 {
            self.room.give_back(self.client(), held);
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.come = self.come.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if !self.share.grow_to(self.come) {
                return Poll::Ready(Some(Err(axum::Error::new(NoRoom))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Around every route, whoever reads the body there: it sees one that breaks off, and what is answered is said here.
pub(crate) async fn within(State(service): State<TokenService>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let share = service.0.room.share();
    let mut request = request.map(|body| Body::new(Counted { body, come: 0, share: Arc::clone(&share) }));
    request.extensions_mut().insert(Arc::clone(&share));
    let response = next.run(request).await;
    if share.is_refused.load(Ordering::Relaxed) { full().into_response() } else { response }
}

/// Whose the body is that comes with `head`, before any of it is read.
pub(crate) fn belongs_to(client: &str, head: &Parts) {
    if let Some(share) = head.extensions.get::<Arc<Share>>() {
        // A request has one client.
        let _ = share.client.set(client.into());
    }
}

fn full() -> Problem {
    Problem::unavailable("temporarily_unavailable", "too many bodies are on their way").ending_the_connection()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use http_body_util::BodyExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    fn left(room: &Room) -> usize {
        room.0.left.available_permits()
    }

    /// A body whose beginning comes, and whose end never does.
    fn half(share: &Arc<Share>, bytes: usize) -> Body {
        let begun = tokio_stream::once(Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes])));
        let body = Body::from_stream(begun.chain(tokio_stream::pending()));
        Body::new(Counted { body, come: 0, share: Arc::clone(share) })
    }

    #[tokio::test]
    async fn what_a_body_takes_is_given_back_when_its_request_ends_and_not_before() {
        let room = Room::new(MAX_BODY_BYTES);
        let share = room.share();
        let mut body = half(&share, 3_000);
        assert_eq!(left(&room), MAX_BODY_BYTES, "nothing for what has not come");
        body.frame().await.unwrap().unwrap();
        assert_eq!(left(&room), MAX_BODY_BYTES - 4_096);
        // What was read of it is still there when it is not.
        drop(body);
        assert_eq!(left(&room), MAX_BODY_BYTES - 4_096);
        drop(share);
        assert_eq!(left(&room), MAX_BODY_BYTES);
    }

    #[tokio::test]
    async fn what_a_cancelled_request_has_taken_is_given_back() {
        let room = Room::new(MAX_BODY_BYTES);
        let reading = {
            let room = room.clone();
            tokio::spawn(async move {
                let share = room.share();
                half(&share, MAX_BODY_BYTES).collect().await.map(|_| ())
            })
        };
        while left(&room) > 0 {
            tokio::task::yield_now().await;
        }
        reading.abort();
        assert!(reading.await.unwrap_err().is_cancelled());
        assert_eq!(left(&room), MAX_BODY_BYTES);
    }

    #[tokio::test]
    async fn a_body_that_there_is_no_room_for_breaks_off_and_has_taken_nothing_more() {
        let room = Room::new(MAX_BODY_BYTES);
        let (first, second) = (room.share(), room.share());
        half(&first, MAX_BODY_BYTES / 2 + 1).frame().await.unwrap().unwrap();
        assert!(half(&second, 1).frame().await.unwrap().is_err());
        assert!(second.is_refused.load(Ordering::Relaxed) && !first.is_refused.load(Ordering::Relaxed));
        drop((first, second));
        assert_eq!(left(&room), MAX_BODY_BYTES);
    }

    #[test]
    fn no_client_takes_more_than_its_share_and_others_have_theirs() {
        let room = Room::new(2 * OF_ONE * MAX_BODY_BYTES);
        let of = |client: &str| {
            let share = room.share();
            share.client.set(client.into()).unwrap();
            share
        };
        let held: Vec<_> = (0..2).map(|_| of("web")).collect();
        assert!(held.iter().all(|share| share.grow_to(MAX_BODY_BYTES)));
        let third = of("web");
        assert!(!third.grow_to(1) && third.is_refused.load(Ordering::Relaxed));
        assert!(of("other").grow_to(MAX_BODY_BYTES) && room.share().grow_to(MAX_BODY_BYTES));
        drop(held);
        assert!(third.grow_to(MAX_BODY_BYTES));
        drop(third);
        assert_eq!(left(&room), 2 * OF_ONE * MAX_BODY_BYTES);
        assert!(room.0.by_client.lock().unwrap().is_empty(), "nothing of clients that hold nothing");
    }

    #[test]
    fn no_body_takes_more_than_the_longest_may_have_and_no_room_is_too_small_for_that() {
        let room = Room::new(0);
        let share = room.share();
        assert!(share.grow_to(1) && share.grow_to(MAX_BODY_BYTES) && share.grow_to(10 * MAX_BODY_BYTES));
        drop(share);
        assert_eq!(left(&room), MAX_BODY_BYTES);
    }
}
