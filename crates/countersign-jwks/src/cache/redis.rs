use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisError,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{CacheError, CacheFuture, KeyCache, MAX_SNAPSHOT_BYTES};
use crate::lifetimes::MAX_MAX_STALE;
use crate::load::TOO_LARGE;

#[cfg(feature = "redis-tls")]
mod tls;

/// What the keys of a [`RedisCache`] begin with; the source's name follows.
pub const REDIS_PREFIX: &str = "countersign:keys:";

/// The longest answer that is read, bytes: a snapshot, and what Redis says around it and to the log-in.
const MAX_ANSWER_BYTES: usize = MAX_SNAPSHOT_BYTES + 4096;

/// The longest error code of a server that is repeated in a log; its own are short words.
const MAX_CODE_CHARS: usize = 32;

/// A Redis, or a Valkey, that a fleet shares, with an entry for each source: `countersign:keys:` and the source's name.
///
/// Entries expire [30 days](crate::MAX_MAX_STALE) after they were written, when no source believes them any more. There is a
/// connection per call, so for each source and process one in a minute at most: none is kept that could break, or outlive its
/// runtime. Commands: `SET` and `GETRANGE`, with `AUTH` and `SELECT` as the URL says, and `CLIENT SETINFO`, which may be refused. A Redis that is down costs nothing but the warm
/// start; a cluster is not followed from one of its nodes to another.
///
/// # Security
/// Without TLS (`rediss://`, with the feature `redis-tls`) whoever is on the way can replace what is read, and so sign tokens: then it needs a
/// [secret](crate::Remote::cache_secret) to seal what is stored, unless it is on this machine. Whoever can write to the Redis can do the same in any case,
/// so a secret is always a good idea. The password of the URL appears neither in
/// errors nor in `Debug`.
///
/// ```
/// use countersign_jwks::{Keys, RedisCache, Remote};
///
/// # let secret = [7; 32];
/// let cache = RedisCache::new("redis://orders:password@redis.internal/0")?;
/// let remote = Remote::new("https://issuer.example/keys")?.cache(cache).cache_secret(secret);
/// let keys = Keys::remote(remote);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RedisCache {
    server: ConnectionInfo,
    /// For connections that shall have it.
    #[cfg(feature = "redis-tls")]
    tls: Option<tls::Tls>,
}

impl RedisCache {
    /// The Redis at `url`: `redis://[user][:password@]host[:port][/database]`, with `rediss` for TLS, or on Unix
    /// `redis+unix:///path[?db=1&user=name&pass=password]`. Nothing is connected yet.
    ///
    /// # Errors
    /// If it is not such a URL; with `rediss` where the feature `redis-tls` is off.
    pub fn new(url: impl AsRef<str>) -> Result<Self, CacheError> {
        // The library's own words may repeat parts of the URL.
        let parse = |url: &str| url.into_connection_info().map_err(|_| CacheError::new("not the URL of a Redis"));
        match over_tls(url.as_ref()) {
            // No fragment, such as `#insecure`, which for the library means that anybody will do.
            #[cfg(feature = "redis-tls")]
            Some(rest) if !rest.contains('#') => {
                Ok(Self { server: parse(&format!("redis{rest}"))?, tls: Some(tls::Tls::default()) })
            }
            #[cfg(not(feature = "redis-tls"))]
            Some(_) => Err(CacheError::new("no TLS to Redis: enable the feature `redis-tls`")),
            _ => Ok(Self {
                server: parse(url.as_ref())?,
                #[cfg(feature = "redis-tls")]
                tls: None,
            }),
        }
    }

    /// Believes a server that shows a certificate of one of these authorities (PEM), instead of those that the system trusts. For a URL with
    /// `rediss`; all others have no use for it.
    ///
    /// # Errors
    /// If there is no certificate in it, or something else.
    #[cfg(feature = "redis-tls")]
    pub fn trusting(mut self, pem: impl AsRef<[u8]>) -> Result<Self, CacheError> {
        let tls = tls::Tls::trusting(pem.as_ref())?;
        self.tls = self.tls.map(|_| tls);
        Ok(self)
    }

    /// Connects, asks, and hangs up.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, CacheError> {
        match self.server.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                #[cfg(feature = "redis-tls")]
                if let Some(tls) = &self.tls {
                    return self.ask_over(tls.connect(host, stream).await?, command).await;
                }
                self.ask_over(stream, command).await
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => self.ask_over(tokio::net::UnixStream::connect(path).await?, command).await,
            _ => Err(CacheError::new("not an address that there is a way to")),
        }
    }

    /// All of it within this future, so that whoever drops it has ended it.
    async fn ask_over<T, S>(&self, stream: S, command: &Cmd) -> Result<T, CacheError>
    where
        T: FromRedisValue,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let is_too_large = Arc::new(AtomicBool::new(false));
        let stream = Bounded { stream, left: MAX_ANSWER_BYTES, is_too_large: Arc::clone(&is_too_large) };
        // Whoever calls has a time-out of his own.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let connecting = MultiplexedConnection::new_with_config(self.server.redis_settings(), stream, config);
        let (mut connection, driving) = connecting.await.map_err(|error| text(&error))?;
        let mut asking = pin!(command.query_async(&mut connection));
        let answer = tokio::select! {
            biased;
            answer = &mut asking => answer,
            // Then whoever asks is told why.
            () = driving => asking.await,
        };
        answer.map_err(|error| match is_too_large.load(Ordering::Relaxed) {
            true => CacheError::new(TOO_LARGE),
            false => text(&error),
        })
    }
}

impl KeyCache for RedisCache {
    fn is_exposed(&self) -> bool {
        #[cfg(feature = "redis-tls")]
        if self.tls.is_some() {
            return false;
        }
        match self.server.addr() {
            ConnectionAddr::Tcp(host, _) => {
                !(host.eq_ignore_ascii_case("localhost")
                    || host.parse().is_ok_and(|address: IpAddr| address.is_loopback()))
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(_) => false,
            _ => true,
        }
    }

    fn load<'a>(&'a self, name: &'a str) -> CacheFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            // Anything may be stored there, up to 512 MB. One octet more than is of use, so that what is too long does not pass for whole.
            let mut command = redis::cmd("GETRANGE");
            command.arg(key(name)).arg(0).arg(MAX_SNAPSHOT_BYTES);
            let snapshot: Vec<u8> = self.ask(&command).await?;
            // What is not there reads as nothing.
            Ok((!snapshot.is_empty()).then_some(snapshot))
        })
    }

    fn store<'a>(&'a self, name: &'a str, snapshot: Vec<u8>) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let mut command = redis::cmd("SET");
            command.arg(key(name)).arg(snapshot).arg("EX").arg(MAX_MAX_STALE.as_secs());
            self.ask(&command).await
        })
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisCache").field(&format_args!("{}", self.server.addr())).finish()
    }
}

/// What follows the scheme, colon included, if that is one for TLS.
fn over_tls(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once(':')?;
    ["rediss", "valkeys"].iter().any(|it| scheme.eq_ignore_ascii_case(it)).then(|| &url[scheme.len()..])
}

fn key(name: &str) -> String {
    format!("{REDIS_PREFIX}{name}")
}

/// What went wrong, for the log. What the server says, but for its code, is not repeated: anybody may be at the other end.
fn text(error: &RedisError) -> CacheError {
    if let Some(code) = error.code() {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(MAX_CODE_CHARS).collect();
        return CacheError::new(format!("Redis says {code}"));
    }
    match error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
        Some(error) => CacheError::new(error.to_string()),
        None => CacheError::new(error.category()),
    }
}

/// Fails when more has come in than can be of use: a server may answer what it likes.
struct Bounded<S> {
    stream: S,
    left: usize,
    /// Set when it fails: on its way through the library, the reason is lost.
    is_too_large: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        match self.left.checked_sub(buffer.filled().len() - before) {
            Some(left) => self.left = left,
            None => {
                self.is_too_large.store(true, Ordering::Relaxed);
                return Poll::Ready(Err(io::Error::other(TOO_LARGE)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[cfg(feature = "reqwest")]
mod tests {
    use super::*;
    use crate::{Remote, SourceError};

    #[test]
    fn a_redis_that_anybody_on_the_way_can_answer_for_needs_a_secret() {
        for (url, is_exposed) in [
            ("redis://127.0.0.1", false),
            ("redis://LOCALHOST:7000/1", false),
            ("redis://[::1]", false),
            ("redis://redis.internal", true),
            ("redis://10.0.0.1", true),
            ("redis://localhost.example", true),
            ("redis://127.0.0.1.example", true),
            #[cfg(unix)]
            ("redis+unix:///run/redis.sock", false),
            #[cfg(feature = "redis-tls")]
            ("rediss://redis.internal", false),
        ] {
            let cache = RedisCache::new(url).expect(url);
            let remote = || Remote::new("https://issuer.example/keys").unwrap().cache(cache.clone());
            let expected = if is_exposed { Err(SourceError::ExposedCache) } else { Ok(()) };
            assert_eq!(remote().check(), expected, "{url}");
            assert_eq!(remote().cache_secret([7; 32]).check(), Ok(()), "{url}");
        }
    }
}
