use std::error::Error;
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use countersign_token::{Fetch, FetchError, FetchRequest, Fetched};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_ENCODING, DATE, ETAG, EXPIRES, HeaderMap, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER,
};
use reqwest::{Client, Response, redirect, retry};
use url::Url;

use crate::address::is_loopback;
use crate::hints::delta_seconds;

/// For the connection alone, out of [`FetchRequest::timeout`]: an address that swallows packets leaves time for the
/// next one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How every request introduces itself.
const USER_AGENT: &str = concat!("countersign-jwks/", env!("CARGO_PKG_VERSION"));

/// RFC 7517 §8.5 has the second; most providers say the first.
const ACCEPTED: &str = "application/json, application/jwk-set+json";

/// Fetches with `reqwest`: TLS by rustls with the platform's trust roots, and the proxies that the environment names,
/// except for loopback addresses: what is exempt from TLS because it stays on this machine must stay on it.
///
/// Follows no redirect, repeats nothing, sends no cookies, keeps no connection, refuses compressed bodies.
#[derive(Default)]
pub struct HttpFetch {
    // Built with the first request, within a runtime; a failure is not kept, because trust roots may turn up.
    client: OnceLock<Client>,
    loopback: OnceLock<Client>,
}

impl HttpFetch {
    /// A fetcher whose client is built when it is first needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self, loopback: bool) -> Result<&Client, FetchError> {
        let slot = if loopback { &self.loopback } else { &self.client };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            // Whatever other crates of the tree switch on: with `native-tls` that would be the default.
            .tls_backend_rustls()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            // Fetches are minutes apart, and a kept connection would belong to the runtime that opened it.
            .pool_max_idle_per_host(0)
            // In case another crate of the tree switches these features on: the length is counted as sent.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        let builder = if loopback {
            // Nor does a resolver decide where `localhost` is (RFC 6761 §6.3); the port is the URL's.
            let addresses = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
            builder.no_proxy().resolve_to_addrs("localhost", &addresses)
        } else {
            builder
        };
        let client = builder.build().map_err(|error| FetchError::Client(text(error)))?;
        Ok(slot.get_or_init(|| client))
    }

    async fn exchange(&self, request: FetchRequest) -> Result<Fetched, FetchError> {
        let url = Url::parse(&request.url).map_err(|_| FetchError::Client("not a URL".into()))?;
        let client = self.client(is_loopback(&url))?;
        let headers = headers(&request);
        let response = client.get(url).headers(headers).timeout(request.timeout).send().await.map_err(classify)?;
        if response.status().is_redirection() && response.status().as_u16() != 304 {
            return Err(FetchError::Redirected);
        }
        if encodings(response.headers()).any(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            return Err(FetchError::Broken("the answer has a Content-Encoding, which was not asked for".into()));
        }
        let mut fetched = described(&response);
        // What an error page says is of no interest.
        if fetched.status == 200 {
            fetched.body = body(response, request.max_bytes).await?;
        }
        Ok(fetched)
    }
}

impl Fetch for HttpFetch {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(self.exchange(request))
    }
}

impl fmt::Debug for HttpFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpFetch")
    }
}

fn headers(request: &FetchRequest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if request.revalidate {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    for (name, value) in [(IF_NONE_MATCH, &request.etag), (IF_MODIFIED_SINCE, &request.last_modified)] {
        if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

fn encodings(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// All that the headers say.
fn described(response: &Response) -> Fetched {
    let headers = response.headers();
    let line = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = |name| line(name).and_then(|value| delta_seconds(value.trim())).map(Duration::from_secs);
    let date = |name| line(name).and_then(|value| httpdate::parse_http_date(value).ok());
    let cache_control: Vec<&str> =
        headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok()).collect();
    let mut fetched = Fetched::default();
    fetched.status = response.status().as_u16();
    fetched.etag = line(ETAG).map(Into::into);
    fetched.last_modified = line(LAST_MODIFIED).map(Into::into);
    fetched.cache_control = (!cache_control.is_empty()).then(|| cache_control.join(", "));
    fetched.age = seconds(AGE);
    fetched.date = date(DATE);
    // What is no date, "0" above all, is past (RFC 9111 §5.3).
    fetched.expires = headers.contains_key(EXPIRES).then(|| date(EXPIRES).unwrap_or(SystemTime::UNIX_EPOCH));
    fetched.retry_after = seconds(RETRY_AFTER).or_else(|| {
        // A date counts from the answer's own (RFC 9110 §10.2.3).
        date(RETRY_AFTER)?.duration_since(fetched.date?).ok()
    });
    fetched
}

/// Reads as long as it is short enough, whatever `Content-Length` promised.
async fn body(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(classify)? {
        if chunk.len() > max_bytes - body.len() {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn classify(error: reqwest::Error) -> FetchError {
    if error.is_connect() {
        FetchError::Connect(text(error))
    } else if error.is_timeout() {
        FetchError::TimedOut
    } else {
        FetchError::Broken(text(error))
    }
}

/// The error with its causes, without the URL, whose query may hold a secret.
fn text(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
