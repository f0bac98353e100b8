//! Connections: so many, each with so much in its heads and for so long.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::certificate::ClientCertificate;
use crate::numbers::Open;
use crate::tls::{H2, Tls};

/// The longest head of a request, bytes: an assertion has one or two thousand.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Headers of one request, at most: proxies add a dozen.
pub const MAX_HEADERS: usize = 64;

/// How long nobody is accepted after that has failed: out of files, it would fail again at once.
const PAUSE: Duration = Duration::from_millis(500);

/// Requests at once over one connection of HTTP/2: a client has some under way. What their bodies may hold together is
/// [`MAX_BODIES_BYTES`](crate::MAX_BODIES_BYTES).
pub const MAX_STREAMS: u32 = 16;

/// Streams that a client has taken back before they were looked at, and that are still remembered: beyond that the
/// connection ends (CVE-2023-44487).
pub const MAX_RESET_STREAMS: usize = 16;

/// Octets of a body under way that nobody has read yet, per stream and per connection: a request has 64 KiB at most.
const WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 4 * WINDOW;

/// What connections may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Connections at once; whoever comes then waits to be accepted. 1,024: each may hold a body and an answer.
    pub connections: usize,
    /// How long a TLS handshake may take. 10 s: two round trips and a signature.
    pub handshake_time: Duration,
    /// How long the head of a request may take to come, the time before its first byte included; over HTTP/2, for how
    /// long there may be no request. 10 s.
    pub head_time: Duration,
    /// How long a client of HTTP/2 may take to say that it is still there, which it is asked twice as seldom. 10 s.
    pub ping_time: Duration,
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
            handshake_time: Duration::from_secs(10),
            head_time: Duration::from_secs(10),
            ping_time: Duration::from_secs(10),
            connection_time: Duration::from_secs(300),
            ending_time: Duration::from_secs(10),
        }
    }
}

/// Who is at the other end of the connection that a request came over; one of its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Where the connection comes from: of a proxy's, if there is one.
    pub address: SocketAddr,
    /// What it has shown in the handshake.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Serves `router` over HTTP/1.1 to whoever connects, until `shutdown`; then nobody is accepted any more, and requests
/// under way are answered within [`ending_time`](ConnectionLimits::ending_time).
///
/// A connection that cannot be accepted is not the service's end. Each request has its [`Peer`] among its extensions.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) {
    accept(listener, None, router, limits, shutdown).await;
}

/// The same over TLS, and over HTTP/2 with those who choose it in the handshake (ALPN `h2`).
pub async fn serve_tls(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) {
    accept(listener, Some(tls), router, limits, shutdown).await;
}

pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let most = u32::try_from(limits.connections).unwrap_or(u32::MAX).clamp(1, MAX_PERMITS);
    let turns = Arc::new(Semaphore::new(most as usize));
    let (end, ending) = watch::channel(());
    let host = Host::new(tls, router, limits, ending);
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
            (Ok(turn), Ok((stream, address))) => {
                let host = host.clone();
                tokio::spawn(async move {
                    let _turn = turn;
                    host.receive(stream, address).await;
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
    drop((listener, host));
    // Every connection hears of it, and whoever ends gives its turn back.
    drop(end);
    let _ = timeout(limits.ending_time.saturating_add(PAUSE), turns.acquire_many(most)).await;
}

/// What one semaphore counts for `acquire_many`, and more than a process has files.
const MAX_PERMITS: u32 = 1 << 20;

/// What all connections have in common.
#[derive(Clone)]
struct Host {
    tls: Option<Tls>,
    router: Router,
    limits: ConnectionLimits,
    ending: watch::Receiver<()>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Host {
    fn new(tls: Option<Tls>, router: Router, limits: ConnectionLimits, ending: watch::Receiver<()>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_local_error_reset_streams(MAX_RESET_STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(WINDOW as usize)
            .keep_alive_interval(limits.ping_time.saturating_mul(2))
            .keep_alive_timeout(limits.ping_time);
        Self { tls, router, limits, ending, http1, http2 }
    }

    async fn receive(mut self, stream: TcpStream, address: SocketAddr) {
        let _open = Open::new();
        // Answers are small and are sent at once.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.http1(stream, Peer { address, certificate: None }).await;
        };
        let accepted = tokio::select! {
            accepted = timeout(self.limits.handshake_time, tls.accept(stream)) => accepted,
            _ = self.ending.changed() => return,
        };
        let (stream, certificate) = match accepted {
            Ok(Ok(accepted)) => accepted,
            // What is wrong with a connection is its client's business.
            Ok(Err(error)) => return tracing::debug!(target: "countersign::service", %address, %error, "no handshake"),
            Err(_) => return,
        };
        let peer = Peer { address, certificate: certificate.map(Arc::new) };
        if stream.get_ref().1.alpn_protocol() == Some(H2) {
            let (service, requests) = Requests::new(self.router, peer);
            let connection = self.http2.serve_connection(TokioIo::new(stream), service);
            drive(connection, self.limits, self.ending, Some(requests)).await;
        } else {
            self.http1(stream, peer).await;
        }
    }

    async fn http1<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin>(self, stream: S, peer: Peer) {
        let (service, _) = Requests::new(self.router, peer);
        let connection = self.http1.serve_connection(TokioIo::new(stream), service);
        // It sees to its own idle time.
        drive(connection, self.limits, self.ending, None).await;
    }
}

/// A connection that can be told to take no more requests.
trait Ends: Future {
    fn end(self: Pin<&mut Self>);
}

impl<I: Read + Write + Unpin> Ends for http1::Connection<I, Requests> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I: Read + Write + Unpin> Ends for http2::Connection<I, Requests, TokioExecutor> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive(
    connection: impl Ends,
    limits: ConnectionLimits,
    mut ending: watch::Receiver<()>,
    requests: Option<watch::Receiver<usize>>,
) {
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(limits.connection_time) => {}
        () = idle(requests, limits.head_time) => {}
        _ = ending.changed() => {}
    }
    connection.as_mut().end();
    let _ = timeout(limits.ending_time, connection).await;
}

/// Until there has been no request for so long.
async fn idle(requests: Option<watch::Receiver<usize>>, time: Duration) {
    let Some(mut requests) = requests else { return std::future::pending().await };
    loop {
        let under_way = *requests.borrow_and_update();
        let changed = async {
            if requests.changed().await.is_err() {
                // The connection is at its end; it says so itself.
                std::future::pending::<()>().await;
            }
        };
        if under_way > 0 {
            changed.await;
        } else if timeout(time, changed).await.is_err() {
            return;
        }
    }
}

/// The requests of one connection, and how many are under way.
struct Requests {
    router: Router,
    peer: Peer,
    under_way: watch::Sender<usize>,
}

impl Requests {
    fn new(router: Router, peer: Peer) -> (Self, watch::Receiver<usize>) {
        let (under_way, receiver) = watch::channel(0);
        (Self { router, peer, under_way }, receiver)
    }
}

/// Ended also if its client has taken it back.
struct UnderWay(watch::Sender<usize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|number| *number = number.saturating_sub(1));
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.under_way.send_modify(|number| *number = number.saturating_add(1));
        let under_way = UnderWay(self.under_way.clone());
        request.extensions_mut().insert(self.peer.clone());
        let router = self.router.clone();
        Box::pin(async move {
            let _under_way = under_way;
            // HTTP/1.1 has refused it already.
            if request.headers().len() > MAX_HEADERS {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                return Ok(response);
            }
            router.oneshot(request.map(Body::new)).await
        })
    }
}

/// It ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
