use std::fmt;
use std::time::Duration;

use countersign_token::MAX_KID_BYTES;

use crate::cache::MIN_CACHE_SECRET_BYTES;
use crate::issuers::{MAX_ISSUERS, MIN_IDLE_AFTER};
use crate::lifetimes::{LIFETIMES_IN_MAX_STALE, MAX_LIFETIME, MAX_MAX_STALE, MIN_DEFAULT_LIFETIME, MIN_LIFETIME};

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
    /// Plain `http` to a host that is not loopback, without [`Remote::dangerous_allow_http`](crate::Remote::dangerous_allow_http).
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
    /// Not the URL of an issuer: it has a query or a fragment (RFC 8414 §2), or characters that are none of a URL.
    NotAnIssuer,
    /// A `cache_secret` shorter than [`MIN_CACHE_SECRET_BYTES`](crate::MIN_CACHE_SECRET_BYTES).
    CacheSecret,
    /// An empty path.
    NoPath,
    /// None of the algorithms is one for that kind of key: PEM has public keys, and secrets are for HMAC.
    NoAlgorithm,
    /// A name for keys that come with names of their own, in a JWK Set or a directory.
    NamedAlready,
    /// A name longer than [`MAX_KID_BYTES`].
    LongKid,
    /// A cache to which anybody on the way can [bring keys of his own](crate::KeyCache::is_exposed), such as a Redis without TLS that is not
    /// on this machine, and no `cache_secret`.
    ExposedCache,
    /// No issuer and no tenants.
    NoIssuer,
    /// An issuer is listed twice.
    IssuerTwice,
    /// More issuers, or room for more tenants, than [`MAX_ISSUERS`](crate::MAX_ISSUERS).
    TooManyIssuers,
    /// A template of tenants' issuers without `{tenant}`, or with more than one.
    Template,
    /// A listed tenant whose name [cannot stand](crate::Tenants) where the template has it.
    TenantName,
    /// `idle_after` is less than [`MIN_IDLE_AFTER`](crate::MIN_IDLE_AFTER).
    IdleAfter(Duration),
    /// A source with many issuers as a member of a union, which has one set of keys for every token.
    IssuersInUnion,
    /// The source has not many issuers but one.
    OneIssuer,
    /// Nothing to fetch with: the feature `reqwest` is off and [`Remote::fetch`](crate::Remote::fetch) was not called.
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
            Self::NotAnIssuer => f.write_str("the URL of an issuer has neither query nor fragment"),
            Self::CacheSecret => write!(f, "a cache_secret has at least {MIN_CACHE_SECRET_BYTES} bytes"),
            Self::NoPath => f.write_str("the path is empty"),
            Self::NoAlgorithm => f.write_str("none of the algorithms is one for that kind of key"),
            Self::NamedAlready => {
                f.write_str("kid() is for PEM files and secrets: a JWK Set or a directory has names of its own")
            }
            Self::LongKid => write!(f, "a kid has at most {MAX_KID_BYTES} bytes"),
            Self::ExposedCache => f.write_str(
                "what is read from the cache can be anybody's on the way to it: set a cache_secret, or use TLS",
            ),
            Self::NoIssuer => f.write_str("no issuer and no tenants are listed"),
            Self::IssuerTwice => f.write_str("an issuer is listed twice"),
            Self::TooManyIssuers => write!(f, "more than {MAX_ISSUERS} issuers or tenants"),
            Self::Template => f.write_str("a template of tenants' issuers has `{tenant}` in one place"),
            Self::TenantName => f.write_str("a listed tenant has a name that cannot stand in its place"),
            Self::IdleAfter(time) => write!(f, "idle_after of {time:?} is less than {MIN_IDLE_AFTER:?}"),
            Self::IssuersInUnion => f.write_str("a source with many issuers cannot be a member of a union"),
            Self::OneIssuer => f.write_str("the source has not many issuers but one"),
            Self::NoFetch => f.write_str("nothing to fetch with: enable the feature `reqwest` or set `fetch`"),
        }
    }
}

impl std::error::Error for SourceError {}
