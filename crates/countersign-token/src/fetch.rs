use std::fmt;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// How a document is fetched over HTTP. `countersign-jwks` has an implementation with `reqwest`; bring your own for a
/// custom proxy, client certificates, or a transport that is not HTTP at all.
///
/// # Security
/// An implementation follows no redirect, stops reading behind [`FetchRequest::max_bytes`] counted on *decompressed*
/// bytes, and gives up at [`FetchRequest::timeout`] however the peer drips. The driver enforces the time-out once more
/// around the returned future, and checks the length of what comes back. It must not block its thread: the time-out could
/// not end it then.
pub trait Fetch: Send + Sync + 'static {
    /// Fetches `request.url` once.
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>>;
}

/// What to fetch, and the bounds.
#[derive(Clone)]
#[non_exhaustive]
pub struct FetchRequest {
    /// An absolute `https` (or, where allowed, `http`) URL.
    pub url: String,
    /// The most bytes of body to accept, after decompression.
    pub max_bytes: usize,
    /// For the whole exchange, from connecting to the last byte.
    pub timeout: Duration,
    /// `If-None-Match`: the `ETag` of the set in force.
    pub etag: Option<String>,
    /// `If-Modified-Since`: the `Last-Modified` of the set in force.
    pub last_modified: Option<String>,
    /// Ask caches on the way to revalidate (`Cache-Control: no-cache`).
    pub revalidate: bool,
}

impl FetchRequest {
    /// An unconditional request.
    #[must_use]
    pub fn new(url: impl Into<String>, max_bytes: usize, timeout: Duration) -> Self {
        Self { url: url.into(), max_bytes, timeout, etag: None, last_modified: None, revalidate: false }
    }
}

/// Shows the URL without its query, which may hold a secret.
impl fmt::Debug for FetchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split_once('?').map_or(self.url.as_str(), |(url, _)| url);
        f.debug_struct("FetchRequest").field("url", &url).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The body; empty for 304.
    pub body: Vec<u8>,
    /// `ETag`, as sent.
    pub etag: Option<String>,
    /// `Last-Modified`, as sent.
    pub last_modified: Option<String>,
    /// `Cache-Control`, all its lines joined by commas.
    pub cache_control: Option<String>,
    /// `Age`.
    pub age: Option<Duration>,
    /// `Date`.
    pub date: Option<SystemTime>,
    /// `Expires`; a time long past if it is not a date (RFC 9111 §5.3).
    pub expires: Option<SystemTime>,
    /// `Retry-After`; a date as its distance from `Date`.
    pub retry_after: Option<Duration>,
}

/// Why nothing usable came back. Texts are for operators; they never contain a body.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection: name resolution, refusal, TLS.
    Connect(String),
    /// The time-out ran out.
    TimedOut,
    /// The body was longer than allowed.
    TooLarge,
    /// A redirect, which is never followed.
    Redirected,
    /// The connection broke, or the answer was not HTTP.
    Broken(String),
    /// The client could not be built, for instance because there are no trust roots.
    Client(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(text) => write!(f, "cannot connect: {text}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Redirected => f.write_str("the answer is a redirect, which is not followed"),
            Self::Broken(text) => write!(f, "the exchange broke off: {text}"),
            Self::Client(text) => write!(f, "no HTTP client: {text}"),
        }
    }
}

impl std::error::Error for FetchError {}
