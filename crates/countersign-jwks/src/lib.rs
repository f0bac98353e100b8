//! Where the keys of [countersign] come from, and when to look again.
//!
//! [`Keys`] is a [`KeySource`](countersign_token::KeySource):
//!
//! | the keys are | made by |
//! |---|---|
//! | a JWK Set behind a URL | [`Keys::remote`] with [`Remote::new`]; mirrors of it: [`Remote::or_else`] |
//! | where an issuer's metadata says | [`Keys::remote`] with [`Remote::discover`] |
//! | in files of this machine | [`Keys::local`] with [`Local`] |
//! | those of several sources, for every token | [`Keys::union`] |
//! | those of many issuers or tenants, each for its own tokens | [`Keys::issuers`] with [`Issuers`] and [`Tenants`] |
//! | given, and do not change | [`Keys::fixed`] |
//!
//! Requests only ever read a snapshot; one task per source fetches, and no request does. What it guarantees of each source, whatever the
//! traffic and whatever the provider does ([FAILURES.md] has what a request gets in each case):
//!
//! 1. at most one fetch is in flight, and fetches that requests provoke are never closer together than 1 s, doubling to
//!    5 s while they bring nothing new, counted from the last attempt, failed or not;
//! 2. a key that appears without notice is found by the request that needs it, which waits for at most 2 s; a flood of
//!    made-up key names delays that to about 5 s and cannot prevent it;
//! 3. keys are refreshed ahead of expiry with jitter, whatever the traffic, and dropped when the provider drops them: within
//!    the lifetime that the provider's caching headers ask for, 1 min to [1 h](Remote::max_lifetime), 5 min where they say
//!    nothing, plus one fetch, while the provider answers (4 is for when it does not);
//! 4. a good set survives error pages, garbage and outages, up to [`Remote::max_stale`] after the last success; then
//!    there are no keys, and the answer is "unavailable" instead of blind trust;
//! 5. a set without a single usable key replaces a good one only if a second fetch, a second later, brings it again; a set
//!    that is older than the one in force (by `Date` and `Age`), from a cache that lags behind, never does;
//! 6. a machine that was suspended, or whose clock was set, forgets no bound and refuses no good token: when the two clocks
//!    disagree there is a look at the provider, at the latest 10 s later, and nothing is called too old before it has ended;
//! 7. redirects are refused, bodies cut off at [`MAX_BODY_BYTES`], and plain `http` is for loopback only.
//!
//! ```
//! use countersign_jwks::{KeyState, Keys, Remote};
//!
//! let remote = Remote::new("https://issuer.example/.well-known/jwks.json")?;
//! remote.check()?;
//! let keys = Keys::remote(remote); // outside of a runtime: the first request, or look at readiness, starts the task
//! assert!(!keys.handle().is_ready());
//! # Ok::<(), countersign_jwks::SourceError>(())
//! ```
//!
//! # Files
//! [`Local`] reads a JWK Set, PEM, a directory of both, or HMAC secrets, and notices within [`POLL_INTERVAL`] (2 s) that they have changed,
//! by whatever means; 1, 2, 4, 5 and 6 hold as above. Between two swaps every request is judged by the same whole set.
//!
//! ```
//! use countersign_jwks::{Keys, Local};
//! use countersign_token::{Algorithm, AlgorithmSet};
//!
//! // The current secret in the first line, those before it below.
//! let secrets = Local::secrets("/run/secrets/jwt", Algorithm::Hs256);
//! // A mounted ConfigMap: `2026-11.pem` is the key of tokens with that `kid`.
//! let mounted = Local::directory("/etc/keys", AlgorithmSet::EMPTY.with(Algorithm::Es256).with(Algorithm::EdDsa));
//! secrets.check()?;
//! mounted.check()?;
//! let keys = [secrets, mounted].map(Keys::local);
//! # Ok::<(), countersign_jwks::SourceError>(())
//! ```
//!
//! # Many issuers
//! A token is tried with the keys of the issuer that it names, each of them bound to that issuer, and no token makes us ask anybody who is not listed
//! or admitted. What is bounded is said at [`Issuers`]. A source that is one of many may have to wait for one of [`MAX_FETCHES`] places, up to 4 s, on top of
//! the times above.
//!
//! # Warm starts
//! With a [`KeyCache`], such as [`FileCache`], a process begins with the keys that the last one had; without one, [`KeysHandle::export`] and
//! [`KeysHandle::import`] do the same. Such keys are as old as their provider's last word, are stale or refused by the same bounds (3 and 4), and never
//! replace anything that was fetched.
//!
//! # Observing
//! [`KeysHandle::status`] has the state and [`KeyCounters`]: fetches by outcome and trigger and their times, requests for unknown keys and how many of
//! them made nobody look, waits, warm starts. [`KeysHandle::sources`] has the same by the names that labels may be made of, and
//! [`KeysHandle::events`] what happens, when it does. Each fetch is a span `countersign.fetch` of the target `countersign`, at level `INFO`, with these fields and
//! no others: `source` (a name of [`sources`](KeysHandle::sources)), `trigger` (`start`, `scheduled`, `request`, `manual`), and at its end `outcome`
//! (`changed`, `unchanged`, `refused`, `failed`, `postponed`) and `duration_ms`; what is logged of a fetch is logged in its span.
//!
//! # Runtime
//! The task is spawned on the tokio runtime in whose context the source is made or first used; the runtime needs its
//! time and I/O drivers, as `#[tokio::main]` has them. It ends with the last clone of [`Keys`] and [`KeysHandle`]. If its
//! runtime is shut down, the next request that comes without finding keys starts it again on its own. A runtime that is
//! neither driven nor dropped keeps the task from both working and ending: do not make a source in a `block_on` whose
//! runtime is left lying around.
//!
//! # Crate features
//! - `reqwest` (default): `HttpFetch`. Without it there is no HTTP client and no TLS in the tree, and
//!   [`Remote::fetch`] must be given a [`Fetch`](countersign_token::Fetch).
//! - `object_store-0.14`: `Remote::object`, for keys in S3, GCS or Azure. Costs `object_store` without its clients, and chrono; your own
//!   dependency on `object_store` switches on the client that you need (`aws`, `gcp`, `azure`).
//! - `redis`: `RedisCache`, so that a fleet starts warm from one Redis. Costs the `redis` crate.
//! - `redis-tls`: the same with TLS. Costs rustls, as `reqwest` does.
//!
//! [countersign]: https://docs.rs/countersign
//! [FAILURES.md]: https://github.com/countersign-rs/countersign/blob/main/FAILURES.md

mod address;
mod cache;
mod counters;
mod discovery;
mod driver;
mod error;
mod events;
mod failover;
mod handle;
mod hints;
#[cfg(feature = "reqwest")]
mod http;
mod issuers;
mod jwks_url;
mod keys;
mod lifetimes;
mod limited;
mod load;
mod local;
#[cfg(feature = "object_store-0.14")]
mod object;
mod plan;
mod refreshing;
mod remote;
mod review;
mod router;
mod settings;
mod shared;
mod status;
mod union;
mod unwind;
mod waiting;
mod withdrawn;

pub use cache::{
    CacheError, CacheFuture, FileCache, ImportError, KeyCache, MAX_SNAPSHOT_BYTES, MIN_CACHE_SECRET_BYTES,
};
#[cfg(feature = "redis")]
pub use cache::{REDIS_PREFIX, RedisCache};
pub use counters::{FETCH_TIME_BOUNDS, FetchTimes, KeyCounters};
pub use error::SourceError;
pub use events::{KeyEvent, KeyEvents, MAX_EVENTS};
pub use handle::{KeysHandle, NotFresh, NotReady};
#[cfg(feature = "reqwest")]
pub use http::{CONNECT_TIMEOUT, HttpFetch};
pub use issuers::{
    DEFAULT_IDLE_AFTER, DEFAULT_MAX_TENANTS, Issuers, MAX_ISSUERS, MAX_TENANT_BYTES, MIN_IDLE_AFTER, Tenants,
};
pub use keys::{Keys, Snapshot};
pub use lifetimes::{
    DEFAULT_LIFETIME, DEFAULT_MAX_LIFETIME, DEFAULT_MAX_STALE, MAX_LIFETIME, MAX_MAX_STALE, MIN_DEFAULT_LIFETIME,
    MIN_LIFETIME,
};
pub use limited::{FetchPool, MAX_FETCHES};
pub use load::MAX_BODY_BYTES;
pub use local::{Local, MAX_ENTRIES, MAX_FILES, POLL_INTERVAL};
pub use refreshing::{RefreshError, Refreshing};
pub use remote::{DEFAULT_CLOCK_TOLERANCE, Remote};
pub use review::{Finding, KeyReview, MAX_BYTES_OF_OTHERS, Review};
pub use status::{KeyState, KeyStatus, MAX_SKIPPED_SHOWN};
pub use waiting::Waiting;
pub use withdrawn::MAX_WITHDRAWN;
