//! A server for one kind of request, on bare sockets: no HTTP library sends half an answer, or a reset.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::provider::{ELSEWHERE_PATH, Shared};

/// The head of a request may be this long: a test's client has no reason to send more.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// And have this many fields.
const MAX_HEADERS: usize = 100;

/// A thread that serves, until this is dropped; then all its connections are closed.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("identity-provider".to_owned());
        let thread = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, shared) => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread.expect("a thread")) }
    }
}

impl Drop for Server {
    /// Comes back when the port is free again.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If it has panicked, the test has seen so by now.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let shared = Arc::clone(&shared);
                    // A client that goes away is no fault of ours.
                    connections.spawn(async move { drop(serve(stream, &shared).await) });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    while let Some(request) = read_head(&mut stream, &mut received).await? {
        let answer = if request.is_get { shared.receive(&request.path, &request.headers) } else { Answer::status(405) };
        respond(&mut stream, answer, &request, shared).await?;
        if !request.keeps_alive {
            break;
        }
    }
    Ok(())
}

struct Request {
    is_get: bool,
    keeps_alive: bool,
    path: String,
    headers: HeaderMap,
}

/// The next request, without a body: nobody sends one along with a GET. `None` at the end, and after what is no request.
async fn read_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(received) {
            Ok(httparse::Status::Complete(length)) => {
                let mut headers = HeaderMap::new();
                for field in parsed.headers.iter() {
                    if let (Ok(name), Ok(value)) =
                        (field.name.parse::<HeaderName>(), HeaderValue::from_bytes(field.value))
                    {
                        headers.append(name, value);
                    }
                }
                let closes = headers.get(header::CONNECTION).is_some_and(|value| value == "close");
                let request = Request {
                    is_get: parsed.method == Some("GET"),
                    keeps_alive: parsed.version == Some(1) && !closes && !headers.contains_key(header::CONTENT_LENGTH),
                    path: parsed.path.unwrap_or_default().to_owned(),
                    headers,
                };
                received.drain(..length);
                return Ok(Some(request));
            }
            Ok(httparse::Status::Partial) if received.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) | Err(_) => return Ok(None),
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

async fn respond(stream: &mut TcpStream, answer: Answer, request: &Request, shared: &Shared) -> io::Result<()> {
    match answer {
        Answer::Keys => stream.write_all(&keys(request, shared)).await,
        Answer::Late(delay) => {
            tokio::time::sleep(delay).await;
            stream.write_all(&keys(request, shared)).await
        }
        Answer::Drip(pause) => drip(stream, &keys(request, shared), pause).await,
        Answer::Truncated => {
            let (head, body) = whole(shared);
            stream.write_all(&head).await?;
            stream.write_all(&body[..body.len() / 2]).await?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Answer::Response { status, headers, body } => {
            let fields: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            stream.write_all(&head(status, &fields, body.len())).await?;
            stream.write_all(&body).await
        }
        Answer::Redirect => stream.write_all(&head(302, &[("location", ELSEWHERE_PATH.as_bytes())], 0)).await,
        Answer::Endless(octets) => endless(stream, octets).await,
        Answer::Stall => {
            // Until the client gives up, or the provider ends.
            io::copy(stream, &mut io::sink()).await.map(drop)
        }
        Answer::Reset => {
            stream.set_zero_linger()?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
}

fn keys(request: &Request, shared: &Shared) -> Vec<u8> {
    let (headers, _) = shared.keys();
    let etag = headers.get(header::ETAG);
    if etag.is_some() && request.headers.get(header::IF_NONE_MATCH) == etag {
        return head(304, &fields(&headers), 0);
    }
    let (mut answer, body) = whole(shared);
    answer.extend(body);
    answer
}

/// Head and body of the answer with the keys.
fn whole(shared: &Shared) -> (Vec<u8>, Vec<u8>) {
    let (headers, body) = shared.keys();
    (head(200, &fields(&headers), body.len()), body)
}

fn fields(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

fn head(status: u16, fields: &[(&str, &[u8])], length: usize) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
    let mut field = |name: &str, value: &[u8]| {
        head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    };
    for (name, value) in fields {
        field(name, value);
    }
    let has = |wanted: &str| fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    if !has("content-length") && status != 304 {
        field("content-length", length.to_string().as_bytes());
    }
    if !has("date") {
        field("date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

async fn drip(stream: &mut TcpStream, octets: &[u8], pause: Duration) -> io::Result<()> {
    for octet in octets {
        stream.write_all(&[*octet]).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// A document of that many octets, and no word of its length.
async fn endless(stream: &mut TcpStream, octets: u64) -> io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"keys\":[")
        .await?;
    io::copy(&mut io::repeat(b' ').take(octets), stream).await?;
    Err(io::ErrorKind::ConnectionAborted.into())
}
