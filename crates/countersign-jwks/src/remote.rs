use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use countersign_token::Fetch;
#[cfg(feature = "object_store-0.14")]
use object_store::{ObjectStore, path::Path};
use url::Url;

use crate::address::{self, is_loopback, is_protected};
use crate::cache::{KeyCache, Seal};
use crate::discovery::Discovery;
use crate::error::SourceError;
use crate::failover::Failover;
use crate::jwks_url::JwksUrl;
use crate::lifetimes::Lifetimes;
use crate::limited::{FetchPool, Limited, Permits};
use crate::load::Load;
#[cfg(feature = "object_store-0.14")]
use crate::object::Object;
use crate::settings::Settings;

/// How far the clocks of provider and verifier may disagree before that is an event, unless
/// [`Remote::clock_tolerance`] says otherwise: half the default leeway of the time rules.
pub const DEFAULT_CLOCK_TOLERANCE: Duration = Duration::from_secs(15);

/// Keys that somebody publishes, and how to look at them: a JWK Set (RFC 7517 §5) behind a URL, or an issuer whose metadata says
/// where its keys are.
///
/// Setters accept anything; [`check`](Self::check) says what does not go. A source that was never checked and does not
/// pass fetches nothing: it is never ready, and its handle says why.
#[derive(Clone)]
pub struct Remote {
    place: Place,
    fallbacks: Vec<Place>,
    lifetimes: Lifetimes,
    issuer: Option<Arc<str>>,
    clock_tolerance: Option<Duration>,
    cache: Option<Arc<dyn KeyCache>>,
    seal: Seal,
    permits: Option<Arc<Permits>>,
    backs_off_without_keys: bool,
}

/// A place where keys may be, and how to get there.
#[derive(Clone)]
struct Place {
    location: Location,
    allow_http: bool,
    same_origin: bool,
    fetch: Option<Arc<dyn Fetch>>,
}

#[derive(Clone)]
enum Location {
    Jwks(Url),
    /// The name is kept as it was written: it is compared octet by octet.
    Issuer(Arc<str>, Url),
    #[cfg(feature = "object_store-0.14")]
    Object {
        store: Arc<dyn ObjectStore>,
        path: Path,
        name: Arc<str>,
    },
}

impl Remote {
    /// The key set at `url`.
    ///
    /// # Errors
    /// [`SourceError`] if `url` is not an `https` or `http` URL with a host and without credentials.
    pub fn new(url: impl AsRef<str>) -> Result<Self, SourceError> {
        Ok(Self::at(Location::Jwks(address::parse(url.as_ref())?), None))
    }

    /// The keys of `issuer`, wherever its metadata says that they are: OpenID Connect Discovery 1.0 §4, then RFC 8414 §3, whichever
    /// it has. Each key is [bound](countersign_token::VerifyingKey::bound_to_issuer) to the issuer.
    ///
    /// Metadata is used only if its `issuer` is the same, octet by octet. It is read again once an hour, or when a key is missing and it is
    /// older than a minute; as long as that fails, the place that is known is used.
    ///
    /// # Errors
    /// [`SourceError`] as [`new`](Self::new); [`SourceError::NotAnIssuer`] if it has a query or a fragment.
    ///
    /// ```
    /// use countersign_jwks::{Keys, Remote};
    ///
    /// let keys = Keys::remote(Remote::discover("https://login.example/tenant")?);
    /// # Ok::<(), countersign_jwks::SourceError>(())
    /// ```
    pub fn discover(issuer: impl AsRef<str>) -> Result<Self, SourceError> {
        let issuer: Arc<str> = issuer.as_ref().into();
        let url = address::parse(&issuer)?;
        // Nor anything that the parser drops or escapes: it goes into logs as it is.
        if issuer.contains(['?', '#']) || !issuer.chars().all(|char| char.is_ascii_graphic()) {
            return Err(SourceError::NotAnIssuer);
        }
        Ok(Self::at(Location::Issuer(Arc::clone(&issuer), url), Some(issuer)))
    }

    /// The key set in the object at `path` of `store`: in S3, GCS, Azure, or whatever else [`object_store`] speaks to. `name` is what the
    /// source is called in logs and in [caches](Self::cache), so it should be nobody else's: `s3://bucket/jwks.json`.
    ///
    /// How to get there is the store's business, so [`fetch`](Self::fetch) and [`dangerous_allow_http`](Self::dangerous_allow_http) mean
    /// nothing here; make it with TLS. Turn its retries down (`RetryConfig { max_retries: 0, .. }`): a look ends
    /// after 5 s, or 2 s while there are no keys, whatever the store still has in mind, and the next one comes by itself; with retries it says
    /// "timed out" where it could have said why.
    ///
    /// The object's `Cache-Control` counts as everywhere; without one the [default](Self::default_lifetime) does. An object that
    /// was written before the last one that was read here, by the store's clock, is refused while the keys in force are
    /// fresh: somewhere a copy lags behind. So going back to an older version of an object takes up to one lifetime; to go back at once,
    /// write it again.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use countersign_jwks::{Keys, Remote};
    /// use object_store::{memory::InMemory, path::Path};
    ///
    /// // With object_store's feature `aws`: AmazonS3Builder::from_env().with_bucket_name("keys").build()?
    /// let store = Arc::new(InMemory::new());
    /// let keys = Keys::remote(Remote::object(store, Path::from("jwks.json"), "s3://keys/jwks.json"));
    /// ```
    #[cfg(feature = "object_store-0.14")]
    pub fn object(store: Arc<dyn ObjectStore>, path: Path, name: impl Into<Arc<str>>) -> Self {
        Self::at(Location::Object { store, path, name: name.into() }, None)
    }

    fn at(location: Location, issuer: Option<Arc<str>>) -> Self {
        Self {
            place: Place { location, allow_http: false, same_origin: false, fetch: None },
            fallbacks: Vec::new(),
            lifetimes: Lifetimes::default(),
            issuer,
            clock_tolerance: None,
            cache: None,
            seal: Seal::default(),
            permits: None,
            backs_off_without_keys: false,
        }
    }

    /// Binds each key to this issuer, so that it vouches for tokens of no other
    /// ([`VerifyingKey::bound_to_issuer`](countersign_token::VerifyingKey::bound_to_issuer)). [`discover`](Self::discover) does so by itself.
    #[must_use]
    pub fn bound_to_issuer(mut self, issuer: impl Into<Arc<str>>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Where to look when that fails: a mirror. Of `other` only the place counts, with how to get there; all else stays as it is here.
    ///
    /// It is asked only if the places before it fail *and* the keys in force have outlived what they are good for, or there
    /// are none: a mirror that lags behind must not bring a withdrawn key back while there are better keys. Once the
    /// first place answers again, its keys replace those of the mirror, unless they are older by the clocks (`Date`) of the two.
    #[must_use]
    pub fn or_else(mut self, other: Self) -> Self {
        self.fallbacks.push(other.place);
        self.fallbacks.extend(other.fallbacks);
        self
    }

    /// Refuses metadata whose `jwks_uri` is at another origin (scheme, host, port) than the issuer. Off by default, because
    /// large issuers keep their keys elsewhere.
    #[must_use]
    pub fn same_origin(mut self) -> Self {
        self.place.same_origin = true;
        self
    }

    /// How long a key set is good for if its answer does not say (`Cache-Control`, `Expires`). The next look is due after
    /// 75 % ± 10 % of that, whatever the traffic. [`DEFAULT_LIFETIME`](crate::DEFAULT_LIFETIME) unless set; from
    /// [`MIN_DEFAULT_LIFETIME`](crate::MIN_DEFAULT_LIFETIME) to [`MAX_LIFETIME`](crate::MAX_LIFETIME).
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetimes.default = lifetime;
        self
    }

    /// How long a key set is good for at most, whatever its answer says: how long a key that the provider has withdrawn can
    /// still be accepted while the provider answers. [`DEFAULT_MAX_LIFETIME`](crate::DEFAULT_MAX_LIFETIME) unless set, or the default
    /// lifetime if that is longer; from there to [`MAX_LIFETIME`](crate::MAX_LIFETIME).
    #[must_use]
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.lifetimes.max = Some(max_lifetime);
        self
    }

    /// How long after the last successful look the keys are still believed; after that no token is accepted. Unless set, it is
    /// [`DEFAULT_MAX_STALE`](crate::DEFAULT_MAX_STALE) or twice the [longest lifetime](Self::max_lifetime), whichever is longer; from
    /// the latter to [`MAX_MAX_STALE`](crate::MAX_MAX_STALE).
    #[must_use]
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.lifetimes.stale = Some(max_stale);
        self
    }

    /// How far the provider's clock (`Date`) may be off before that is a [`KeyEvent::ClockOff`](crate::KeyEvent::ClockOff) and a
    /// warning in the log. [`DEFAULT_CLOCK_TOLERANCE`] unless set.
    #[must_use]
    pub fn clock_tolerance(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance = Some(tolerance);
        self
    }

    /// The same, unless it is set already: for layers that know the leeway of their time rules.
    #[must_use]
    pub fn clock_tolerance_or(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance.get_or_insert(tolerance);
        self
    }

    /// Writes the keys down there whenever they change, and once a minute while they are confirmed; a process that starts reads them there, and
    /// serves with them until its first fetch has ended: see [`KeyCache`]. They are refused if they are older than
    /// [`max_stale`](Self::max_stale) or not whole, and never replace keys that were fetched.
    #[must_use]
    pub fn cache(self, cache: impl KeyCache) -> Self {
        self.shared_cache(Arc::new(cache))
    }

    /// As [`cache`](Self::cache), with one that other sources use too.
    #[must_use]
    pub fn shared_cache(mut self, cache: Arc<dyn KeyCache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Seals snapshots with this secret (HMAC with SHA-256), and believes no others: then whoever can write to the
    /// [cache](Self::cache), or to where [exports](crate::KeysHandle::export) are kept, cannot bring in keys of his own. At least
    /// [`MIN_CACHE_SECRET_BYTES`](crate::MIN_CACHE_SECRET_BYTES), the same in all processes that share the cache.
    #[must_use]
    pub fn cache_secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.seal = Seal::new(secret.as_ref());
        self
    }

    /// What the source is called in its [cache](Self::cache): its name in logs, `#`, and a digest of all that tells it from other sources.
    /// It changes with [`bound_to_issuer`](Self::bound_to_issuer) and [`cache_secret`](Self::cache_secret).
    #[must_use]
    pub fn cache_name(&self) -> String {
        let issuer = self.issuer.as_deref().unwrap_or_default();
        self.seal.name(&self.place.location.label(), &[self.place.location.identity(), issuer])
    }

    /// Accepts plain `http` to hosts that are not loopback. Whoever is on the way can then replace the keys, and so sign
    /// tokens: only for networks in which something else vouches for the peer.
    #[must_use]
    pub fn dangerous_allow_http(mut self) -> Self {
        self.place.allow_http = true;
        self
    }

    /// Fetches with this instead of with `HttpFetch`.
    #[must_use]
    pub fn fetch(self, fetch: impl Fetch) -> Self {
        self.shared_fetch(Arc::new(fetch))
    }

    pub(crate) fn shared_fetch(mut self, fetch: Arc<dyn Fetch>) -> Self {
        self.place.fetch = Some(fetch);
        self
    }

    /// Fetches when it is its turn among the sources of this pool.
    #[must_use]
    pub fn pooled(self, pool: &FetchPool) -> Self {
        Self { backs_off_without_keys: true, ..self.sharing(pool) }
    }

    /// Whether its keys are [bound to an issuer](Self::bound_to_issuer).
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.issuer.is_some()
    }

    /// Whether these settings go together.
    ///
    /// # Errors
    /// [`SourceError`], the first that applies.
    pub fn check(&self) -> Result<(), SourceError> {
        self.load().map(drop)
    }

    /// Looks only with a permit of the pool, and with its fetcher unless it has its own.
    pub(crate) fn sharing(mut self, pool: &FetchPool) -> Self {
        for place in std::iter::once(&mut self.place).chain(&mut self.fallbacks) {
            place.fetch = place.fetch.take().or_else(|| pool.fetch.clone());
        }
        self.permits = Some(Arc::clone(&pool.permits));
        self
    }

    pub(crate) fn settings(self) -> Settings {
        Settings {
            load: self.load(),
            label: self.place.location.label().into(),
            name: Some(self.cache_name().into()),
            lifetimes: self.lifetimes,
            issuer: self.issuer,
            clock_tolerance: self.clock_tolerance.unwrap_or(DEFAULT_CLOCK_TOLERANCE),
            cache: self.cache,
            seal: self.seal,
            backs_off_without_keys: self.backs_off_without_keys,
            events: None,
            router: Weak::new(),
            group: None,
        }
    }

    /// What looks, if the settings pass.
    fn load(&self) -> Result<Arc<dyn Load>, SourceError> {
        let first = self.place.load()?;
        self.lifetimes.check()?;
        if !self.seal.is_long_enough() {
            return Err(SourceError::CacheSecret);
        }
        if self.cache.as_ref().is_some_and(|cache| cache.is_exposed()) && !self.seal.is_secret() {
            return Err(SourceError::ExposedCache);
        }
        let mut all = vec![first];
        for place in &self.fallbacks {
            all.push(place.load()?);
        }
        let load = if all.len() == 1 { all.remove(0) } else { Arc::new(Failover::new(all)) };
        Ok(match self.permits.clone() {
            Some(permits) => Arc::new(Limited { load, permits }),
            None => load,
        })
    }
}

impl Place {
    fn load(&self) -> Result<Arc<dyn Load>, SourceError> {
        Ok(match &self.location {
            Location::Jwks(url) => Arc::new(JwksUrl::new(url.clone(), self.fetch_from(url)?)),
            Location::Issuer(issuer, url) => {
                let fetch = self.fetch_from(url)?;
                // A stranger's metadata must not lead us to what listens on this machine only.
                let allow_loopback_http = url.scheme() == "http" && is_loopback(url);
                let discovery = Discovery::new(Arc::clone(issuer), url, fetch);
                let discovery = if self.same_origin { discovery.same_origin() } else { discovery };
                Arc::new(discovery.allow_http(self.allow_http, allow_loopback_http))
            }
            #[cfg(feature = "object_store-0.14")]
            Location::Object { store, path, .. } => Arc::new(Object::new(Arc::clone(store), path.clone())),
        })
    }

    /// What fetches, if `url` may be fetched from.
    fn fetch_from(&self, url: &Url) -> Result<Arc<dyn Fetch>, SourceError> {
        if !self.allow_http && !is_protected(url) {
            return Err(SourceError::PlainHttp);
        }
        self.fetch.clone().or_else(default_fetch).ok_or(SourceError::NoFetch)
    }
}

impl Location {
    /// Tells it from all others; may hold a secret.
    fn identity(&self) -> &str {
        match self {
            Self::Jwks(url) => url.as_str(),
            Self::Issuer(issuer, _) => issuer,
            #[cfg(feature = "object_store-0.14")]
            Self::Object { name, .. } => name,
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Jwks(url) => address::label(url),
            Self::Issuer(issuer, _) => issuer.as_ref().into(),
            #[cfg(feature = "object_store-0.14")]
            Self::Object { name, .. } => name.as_ref().into(),
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("location", &self.place.location.label())
            .field("fallbacks", &self.fallbacks.len())
            .field("default_lifetime", &self.lifetimes.default)
            .field("max_lifetime", &self.lifetimes.longest())
            .field("max_stale", &self.lifetimes.max_stale())
            .field("allow_http", &self.place.allow_http)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "reqwest")]
#[expect(clippy::unnecessary_wraps, reason = "there is none without the feature")]
pub(crate) fn default_fetch() -> Option<Arc<dyn Fetch>> {
    Some(Arc::new(crate::HttpFetch::new()))
}

#[cfg(not(feature = "reqwest"))]
pub(crate) fn default_fetch() -> Option<Arc<dyn Fetch>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "reqwest")]
    use crate::lifetimes::{
        DEFAULT_LIFETIME, DEFAULT_MAX_LIFETIME, MAX_LIFETIME, MAX_MAX_STALE, MIN_DEFAULT_LIFETIME, MIN_LIFETIME,
    };

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
        assert!(address::parse("https://example.com/keys?tenant=1#x").unwrap().fragment().is_none());
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
        assert_eq!(remote().default_lifetime(day).lifetimes.max_stale(), day * 2);
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
        assert!(!remote.settings().label.contains("hunter2"));
    }
}
