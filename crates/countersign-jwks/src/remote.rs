use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::Fetch;
use url::{Host, ParseError, Url};

use crate::plan::Config;

/// How long a key set is good for if neither its answer nor [`Remote::default_lifetime`] says.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The shortest default lifetime: as often as strangers can make us look.
pub const MIN_DEFAULT_LIFETIME: Duration = Duration::from_secs(1);

/// The longest lifetime that a key set can be given, by default or by its answer. A key that the provider withdraws is trusted
/// for about that long, so a day is generous.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What a key set is good for at least, whatever its answer says (or the default lifetime, if that is shorter): providers say
/// `no-store` and mean nobody any harm.
pub const MIN_LIFETIME: Duration = Duration::from_secs(60);

/// What a key set is good for at most, whatever its answer says, unless [`Remote::max_lifetime`] says otherwise.
pub const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long after the last success a set is still believed unless [`Remote::max_stale`] says otherwise.
pub const DEFAULT_MAX_STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest time that a set can be believed without hearing from its provider: a long outage's worth. Whoever needs
/// more wants static keys.
pub const MAX_MAX_STALE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many lifetimes `max_stale` must have room for, so that one failed refresh does not end trust.
const LIFETIMES_IN_MAX_STALE: u32 = 2;

/// A JWK Set (RFC 7517 §5) behind a URL, and how to look at it.
///
/// Setters accept anything; [`check`](Self::check) says what does not go. A source that was never checked and does not
/// pass fetches nothing: it is never ready, and its handle says why.
#[derive(Clone)]
pub struct Remote {
    url: Url,
    default_lifetime: Duration,
    max_lifetime: Option<Duration>,
    max_stale: Option<Duration>,
    allow_http: bool,
    fetch: Option<Arc<dyn Fetch>>,
}

/// Why a source cannot be used. Texts name the setting; they do not repeat the URL, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceError {
    /// Not an absolute URL.
    NotAUrl,
    /// A URL without a host.
    NoHost,
    /// A scheme other than `https` and `http`.
    Scheme,
    /// A user name or password in the URL: it would end up in logs.
    Credentials,
    /// Plain `http` to a host that is not loopback, without [`Remote::dangerous_allow_http`].
    PlainHttp,
    /// The default lifetime is not between [`MIN_DEFAULT_LIFETIME`] and [`MAX_LIFETIME`].
    DefaultLifetime(Duration),
    /// `max_lifetime` is not between the default lifetime (or [`MIN_LIFETIME`], if that is longer) and [`MAX_LIFETIME`].
    MaxLifetime {
        /// What was set.
        max_lifetime: Duration,
        /// The default lifetime in force.
        default_lifetime: Duration,
    },
    /// `max_stale` is more than [`MAX_MAX_STALE`] or less than twice the longest lifetime.
    MaxStale {
        /// What was set.
        max_stale: Duration,
        /// The longest lifetime that an answer can give a key set.
        max_lifetime: Duration,
    },
    /// Nothing to fetch with: the feature `reqwest` is off and [`Remote::fetch`] was not called.
    NoFetch,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAUrl => f.write_str("not an absolute URL"),
            Self::NoHost => f.write_str("the URL has no host"),
            Self::Scheme => f.write_str("the URL is neither https nor http"),
            Self::Credentials => f.write_str("the URL contains a user name or password"),
            Self::PlainHttp => f.write_str(
                "plain http to a host that is not loopback: keys fetched over it are anybody's \
                 (dangerous_allow_http() accepts that)",
            ),
            Self::DefaultLifetime(lifetime) => {
                write!(
                    f,
                    "a default_lifetime of {lifetime:?} is not between {MIN_DEFAULT_LIFETIME:?} and {MAX_LIFETIME:?}"
                )
            }
            Self::MaxLifetime { max_lifetime, default_lifetime } => write!(
                f,
                "max_lifetime of {max_lifetime:?} is not between {:?} and {MAX_LIFETIME:?}",
                default_lifetime.max(&MIN_LIFETIME)
            ),
            Self::MaxStale { max_stale, max_lifetime } => write!(
                f,
                "max_stale of {max_stale:?} is not between {LIFETIMES_IN_MAX_STALE} times max_lifetime, which is \
                 {max_lifetime:?}, and {MAX_MAX_STALE:?}"
            ),
            Self::NoFetch => f.write_str("nothing to fetch with: enable the feature `reqwest` or set `fetch`"),
        }
    }
}

impl std::error::Error for SourceError {}

impl Remote {
    /// The key set at `url`.
    ///
    /// # Errors
    /// [`SourceError`] if `url` is not an `https` or `http` URL with a host and without credentials.
    pub fn new(url: impl AsRef<str>) -> Result<Self, SourceError> {
        let mut url = Url::parse(url.as_ref()).map_err(|error| match error {
            ParseError::EmptyHost => SourceError::NoHost,
            _ => SourceError::NotAUrl,
        })?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(SourceError::Scheme);
        }
        if url.host().is_none() {
            return Err(SourceError::NoHost);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SourceError::Credentials);
        }
        url.set_fragment(None);
        let fetch = default_fetch();
        Ok(Self {
            url,
            default_lifetime: DEFAULT_LIFETIME,
            max_lifetime: None,
            max_stale: None,
            allow_http: false,
            fetch,
        })
    }

    /// How long a key set is good for if its answer does not say (`Cache-Control`, `Expires`). The next look is due after
    /// 75 % ± 10 % of that, whatever the traffic. [`DEFAULT_LIFETIME`] unless set; from [`MIN_DEFAULT_LIFETIME`] to [`MAX_LIFETIME`].
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime;
        self
    }

    /// How long a key set is good for at most, whatever its answer says: how long a key that the provider has withdrawn can
    /// still be accepted while the provider answers. [`DEFAULT_MAX_LIFETIME`] unless set, or the default lifetime if that is longer; from
    /// there to [`MAX_LIFETIME`].
    #[must_use]
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.max_lifetime = Some(max_lifetime);
        self
    }

    /// How long after the last successful look the keys are still believed; after that no token is accepted. Unless set, it is
    /// [`DEFAULT_MAX_STALE`] or twice the [longest lifetime](Self::max_lifetime), whichever is longer; from the latter to
    /// [`MAX_MAX_STALE`].
    #[must_use]
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.max_stale = Some(max_stale);
        self
    }

    /// Accepts plain `http` to hosts that are not loopback. Whoever is on the way can then replace the keys, and so sign
    /// tokens: only for networks in which something else vouches for the peer.
    #[must_use]
    pub fn dangerous_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Fetches with this instead of with `HttpFetch`.
    #[must_use]
    pub fn fetch(mut self, fetch: impl Fetch) -> Self {
        self.fetch = Some(Arc::new(fetch));
        self
    }

    /// Whether these settings go together.
    ///
    /// # Errors
    /// [`SourceError`], the first that applies.
    pub fn check(&self) -> Result<(), SourceError> {
        if self.url.scheme() == "http" && !self.allow_http && !is_loopback(&self.url) {
            return Err(SourceError::PlainHttp);
        }
        if !(MIN_DEFAULT_LIFETIME..=MAX_LIFETIME).contains(&self.default_lifetime) {
            return Err(SourceError::DefaultLifetime(self.default_lifetime));
        }
        let max_lifetime = self.longest_lifetime();
        if !(self.default_lifetime.max(MIN_LIFETIME)..=MAX_LIFETIME).contains(&max_lifetime) {
            return Err(SourceError::MaxLifetime { max_lifetime, default_lifetime: self.default_lifetime });
        }
        let max_stale = self.stale_limit();
        if !(max_lifetime * LIFETIMES_IN_MAX_STALE..=MAX_MAX_STALE).contains(&max_stale) {
            return Err(SourceError::MaxStale { max_stale, max_lifetime });
        }
        if self.fetch.is_none() {
            return Err(SourceError::NoFetch);
        }
        Ok(())
    }

    /// The URL without its query, which may hold a secret: for logs.
    pub(crate) fn label(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.into()
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// What the plan needs to know.
    pub(crate) fn config(&self, seed: u64) -> Config {
        Config {
            lifetime: self.default_lifetime,
            // Settings that do not pass fetch nothing, but they must not panic.
            min_lifetime: MIN_LIFETIME.min(self.default_lifetime).min(self.longest_lifetime()),
            max_lifetime: self.longest_lifetime(),
            max_stale: self.stale_limit(),
            seed,
        }
    }

    fn longest_lifetime(&self) -> Duration {
        self.max_lifetime.unwrap_or(DEFAULT_MAX_LIFETIME.max(self.default_lifetime))
    }

    fn stale_limit(&self) -> Duration {
        let least = self.longest_lifetime().saturating_mul(LIFETIMES_IN_MAX_STALE);
        self.max_stale.unwrap_or(DEFAULT_MAX_STALE.max(least))
    }

    /// What to fetch with, if the settings pass.
    pub(crate) fn checked_fetch(&self) -> Result<Arc<dyn Fetch>, SourceError> {
        self.check()?;
        self.fetch.clone().ok_or(SourceError::NoFetch)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.label())
            .field("default_lifetime", &self.default_lifetime)
            .field("max_lifetime", &self.longest_lifetime())
            .field("max_stale", &self.stale_limit())
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}

/// Whether what is sent to this host stays on this machine, as far as the URL says: 127.0.0.0/8, `::1`, `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

#[cfg(feature = "reqwest")]
#[expect(clippy::unnecessary_wraps, reason = "there is none without the feature")]
fn default_fetch() -> Option<Arc<dyn Fetch>> {
    Some(Arc::new(crate::HttpFetch::new()))
}

#[cfg(not(feature = "reqwest"))]
fn default_fetch() -> Option<Arc<dyn Fetch>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_absolute_http_with_a_host_and_without_credentials() {
        for (url, error) in [
            ("", SourceError::NotAUrl),
            ("keys.json", SourceError::NotAUrl),
            ("/keys.json", SourceError::NotAUrl),
            ("https://", SourceError::NoHost),
            ("https:///", SourceError::NoHost),
            ("file:///etc/passwd", SourceError::Scheme),
            ("ftp://example.com/", SourceError::Scheme),
            ("data:application/json,{}", SourceError::Scheme),
            ("https://user@example.com/", SourceError::Credentials),
            ("https://:secret@example.com/", SourceError::Credentials),
        ] {
            assert_eq!(Remote::new(url).err(), Some(error), "{url}");
        }
        assert!(Remote::new("https://example.com/keys?tenant=1#x").unwrap().url().fragment().is_none());
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn r13_plain_http_only_to_loopback_unless_dangerously_allowed() {
        let check = |url: &str| Remote::new(url).unwrap().check();
        for url in
            ["https://example.com", "http://127.0.0.1:8080/k", "http://127.9.9.9", "http://[::1]/", "http://LOCALHOST"]
        {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in
            ["http://example.com", "http://localhost.example.com", "http://10.0.0.1", "http://[::2]/", "http://0.0.0.0"]
        {
            assert_eq!(check(url), Err(SourceError::PlainHttp), "{url}");
            assert_eq!(Remote::new(url).unwrap().dangerous_allow_http().check(), Ok(()), "{url}");
        }
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn times_are_bounded_and_do_not_contradict_each_other() {
        let remote = || Remote::new("https://example.com").unwrap();
        let day = MAX_LIFETIME;
        for fine in [
            remote().default_lifetime(day),
            remote().default_lifetime(day).max_stale(day * 2),
            remote().default_lifetime(MIN_DEFAULT_LIFETIME),
            remote().max_lifetime(day),
            remote().default_lifetime(MIN_DEFAULT_LIFETIME).max_lifetime(MIN_LIFETIME).max_stale(MIN_LIFETIME * 2),
        ] {
            assert_eq!(fine.check(), Ok(()), "{fine:?}");
        }
        assert_eq!(remote().default_lifetime(day).stale_limit(), day * 2);
        for lifetime in [Duration::ZERO, MIN_DEFAULT_LIFETIME / 2, MAX_LIFETIME * 2, Duration::MAX] {
            assert_eq!(remote().default_lifetime(lifetime).check(), Err(SourceError::DefaultLifetime(lifetime)));
        }
        for lifetime in [Duration::ZERO, DEFAULT_LIFETIME - MIN_DEFAULT_LIFETIME, MAX_LIFETIME * 2, Duration::MAX] {
            assert!(matches!(remote().max_lifetime(lifetime).check(), Err(SourceError::MaxLifetime { .. })));
        }
        for max_stale in [Duration::ZERO, DEFAULT_MAX_LIFETIME, MAX_MAX_STALE * 2] {
            assert!(matches!(remote().max_stale(max_stale).check(), Err(SourceError::MaxStale { .. })));
        }
    }

    #[test]
    fn debug_shows_no_query() {
        let remote = Remote::new("https://example.com/keys?code=hunter2").unwrap();
        assert!(!format!("{remote:?}").contains("hunter2"));
        assert!(!remote.label().contains("hunter2"));
    }
}
