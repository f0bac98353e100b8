//! Connections: so many, each with so much in its heads and for so long.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::numbers::Open;

/// The longest head of a request, bytes: an assertion has one or two thousand.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Headers of one request, at most: proxies add a dozen.
const MAX_HEADERS: usize = 64;

/// How long nobody is accepted after that has failed: out of files, it would fail again at once.
const PAUSE: Duration = Duration::from_millis(500);

/// What connections may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Connections at once; whoever comes then waits to be accepted. 1,024: each may hold a body and an answer.
    pub connections: usize,
    /// How long the head of a request may take to come, the time before its first byte included. 10 s.
    pub head_time: Duration,
    /// For how long a connection takes requests: one whose client does not read, or that no other limit sees, ends with
    /// it. 5 min; clients come again.
    pub connection_time: Duration,
    /// How long a request under way is waited for when its connection, or the service, ends. 10 s.
    pub ending_time: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            head_time: Duration::from_secs(10),
            connection_time: Duration::from_secs(300),
            ending_time: Duration::from_secs(10),
        }
    }
}

/// Serves `router` over HTTP/1.1 to whoever connects, until `shutdown`; then nobody is accepted any more, and requests
/// under way are answered within [`ending_time`](ConnectionLimits::ending_time).
///
/// A connection that cannot be accepted is not the service's end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let most = u32::try_from(limits.connections).unwrap_or(u32::MAX).clamp(1, MAX_PERMITS);
    let turns = Arc::new(Semaphore::new(most as usize));
    let (end, ending) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        // Accepted only when there is room: until then it waits where it costs nothing.
        let next = async { (Arc::clone(&turns).acquire_owned().await, listener.accept().await) };
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = next => accepted,
        };
        match accepted {
            (Ok(turn), Ok((stream, _))) => {
                let connection = connection(stream, router.clone(), builder.clone(), limits, ending.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    connection.await;
                });
            }
            (_, Err(error)) => {
                tracing::warn!(target: "countersign::service", %error, "connection not accepted");
                if !is_of_one_connection(&error) {
                    sleep(PAUSE).await;
                }
            }
            // Nobody closes it.
            (Err(_), _) => break,
        }
    }
    drop((listener, ending));
    // Every connection hears of it, and whoever ends gives its turn back.
    drop(end);
    let _ = timeout(limits.ending_time.saturating_add(PAUSE), turns.acquire_many(most)).await;
}

/// What one semaphore counts for `acquire_many`, and more than a process has files.
const MAX_PERMITS: u32 = 1 << 20;

async fn connection(
    stream: TcpStream,
    router: Router,
    builder: Builder,
    limits: ConnectionLimits,
    mut ending: watch::Receiver<()>,
) {
    let _open = Open::new();
    // Answers are small and are sent at once.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.map_request(|request: Request<Incoming>| request.map(Body::new)));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // What is wrong with a connection is its client's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(limits.connection_time) => {}
        _ = ending.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.ending_time, connection).await;
}

/// It ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
