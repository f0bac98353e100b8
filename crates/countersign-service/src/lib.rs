//! The token service of countersign: a key ring's keys over HTTP, and tokens signed for those whom a policy allows them.
//! What a key ring is, and its slots, is on the page of [`countersign_issuer`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use countersign::Algorithm;
//! use countersign_issuer::{Kek, KekRing, MemoryStore, Ring, RingConfig, Slot};
//! use countersign_service::TokenService;
//! use countersign_service::policy::Policy;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
//! let keks = KekRing::new([Kek::random()?])?;
//! let ring = Ring::builder("https://issuer.example", config, Arc::new(MemoryStore::new()), keks).start().await?;
//!
//! let policy = Policy::parse("version = 1", ring.config())?;
//! let service = TokenService::builder(ring, policy).build()?;
//! let router: axum::Router = service.router();
//! # let _ = router;
//! # Ok(())
//! # }
//! ```
//!
//! # What is served
//!
//! | path | what |
//! |---|---|
//! | `POST /v1/tokens` | a token, for a client whose [`policy`] allows it |
//! | `POST /v1/tokens:batch` | up to [`MAX_BATCH`] of them, each answered for itself |
//! | `GET /v1/keys` | every key of the ring and how far it has come, for [those who may know](#keys) |
//! | `POST /v1/keys:rotate`, `POST /v1/keys/{kid}:revoke` | orders to the ring, of [those who may give them](#keys) |
//! | `GET /.well-known/jwks.json` | the public keys ([`JwksService`](countersign_issuer::JwksService)) |
//! | `GET /.well-known/oauth-authorization-server` | metadata (RFC 8414), at the path of the issuer's if it has one |
//! | `GET /.well-known/openid-configuration` | of OpenID Connect Discovery what verifiers want to know: this is no OpenID provider |
//! | `GET /openapi.json` | all of this for machines ([`OPENAPI`]) |
//! | `GET /livez`, `GET /readyz` | whether the process answers, and whether every slot signs and assertions are taken, with what the ring does not succeed with |
//! | `GET /metrics` | of a [`Server`] only, and [not everywhere](#what-is-told-of-it) |
//!
//! # A request
//!
//! ```text
//! POST /v1/tokens
//! Authorization: Bearer <assertion>
//! Content-Type: application/json
//! Idempotency-Key: 7d4f…                                                 (optional)
//!
//! { "profile": "access", "aud": ["orders"], "scope": "orders:read" }     (sub, ttl, nbf_delay, alg, key_bits, cnf, claims)
//! ```
//!
//! The **assertion** is a JWT that the client signs with a key of its `jwks`, or of those that it publishes at its `jwks_uri`, which it
//! may rotate without asking (RFC 7523 as updated by RFC 10070): `typ` is `client-authentication+jwt`, `iss` and `sub` are the
//! client, `aud` is the issuer and nothing else, it lives for [`MAX_ASSERTION_LIFETIME`] at most, and its `jti` is good for one
//! request. A token of a workload issuer that the policy knows stands in its place, and, where that is allowed, `Basic` credentials with a [`ClientSecret`].
//!
//! A **signed request** does in place of it: a JWT that the client signs with the same key for this one request, method, URL and
//! body, so that whoever sees it can ask for nothing else with it. Its rules are on the page of
//! [`signed_request`](countersign::claims::signed_request); `aud` is the issuer, and the URL begins with
//! [`ServiceBuilder::base_url`] (of a [`Server`]: `base_url`).
//!
//! Over TLS a **certificate** of the client does as well (RFC 8705): one that an authority vouches for, by a name of it
//! (`tls_client_auth`), or one that it has signed itself, by its thumbprint (`self_signed_tls_client_auth`). With an
//! `Authorization` beside it, it must not be another client's; one that nobody is known by is no identity, but tokens can
//! be bound to it.
//!
//! Which assertions were used is remembered by each process for itself: of several behind one address each takes an
//! assertion once. For as long after its start as an assertion may live, a process takes only those that say (`iat`) that
//! they were made since, by a clock that may be 5 s ahead: so for the first 6 s it takes none, and is not ready (`/readyz`).
//!
//! # Keys
//!
//! Whoever has the [right](policy::AdminRight) in the policy sees the ring and gives it orders; each right stands for itself.
//! Only **signed requests** are taken, also for `GET`: assertions, workloads' tokens, certificates and secrets are not enough.
//! So they are made with `countersign request sign`, and a client without `jwks` and `jwks_uri` has none of these rights.
//!
//! ```text
//! POST /v1/keys:rotate                 keys:rotate
//! { "mode": "standby", "reason": "INC-7" }                               (slots, dry_run)
//!
//! POST /v1/keys:rotate                 keys:rotate and keys:revoke
//! { "mode": "emergency", "reason": "INC-7" }                             (slots, sign_at_once, dry_run)
//!
//! POST /v1/keys/{kid}:revoke           keys:revoke
//! { "reason": "INC-7" }                                                  (sign_at_once, dry_run)
//! ```
//!
//! - `standby`, for keys that are merely old: the standbys sign, or will as soon as there are any, and no token is refused.
//!   `emergency`, for keys that somebody else may have: those that sign are revoked, and the standbys sign in their place.
//!   `slots` are all unless they are named.
//! - The answer says which slots were rotated and which will be, which keys are revoked, which slots do not sign for now
//!   (`halted`), which key signs in each, and for how long verifiers may still accept tokens of what was revoked
//!   (`exposure_seconds`).
//! - A slot without a standby halts in an emergency until all verifiers can have the next key (640 s by default);
//!   `sign_at_once` has that key sign as soon as it is published, which verifiers accept that look for a key they lack.
//! - `dry_run` is answered with what would be done, as far as this node sees it, and does nothing.
//! - An order that was taken goes on when its client has gone. Under an `Idempotency-Key` it is given once: an emergency
//!   that is ordered again otherwise revokes the key that has taken over. While it is on its way its key is in use (409); if
//!   it takes more than 30 s the answer is 503, `order_pending`.
//!
//! # Refusals
//!
//! Problem details (RFC 9457) of type `about:blank`, with the code as `error`, and `size` and `max` where something is too
//! large:
//!
//! | status | codes |
//! |---|---|
//! | 400 | `invalid_request` |
//! | 401 | `invalid_client` |
//! | 403 | those of the [policy](policy::Denial), of which `admin_right_missing` is about [keys](#keys), and `payload_too_large`: the token would be longer than its profile allows |
//! | 404, 405 | `not_found`, `method_not_allowed`; `unknown_key`, `unknown_slot` |
//! | 408 | `request_timeout`: the body did not come in time |
//! | 409, 422 | `idempotency_key_in_use`, `idempotency_key_reused`; `order_refused`: the ring does not do that in the state it is in |
//! | 413, 415 | `content_too_large`, `unsupported_media_type` |
//! | 429 | `rate_limited` (a client, a grant, or an address with too many failures), `temporarily_unavailable`, with `Retry-After` |
//! | 431 | none, and no body: a head of more than [`MAX_HEAD_BYTES`], or of more than [`MAX_HEADERS`] |
//! | 500 | `server_error`: what must not happen |
//! | 503 | `key_unavailable`, `signing_failed`, `temporarily_unavailable` (also for more bodies at once than [`MAX_BODIES_BYTES`]), `audit_unavailable`, with `Retry-After`: nothing was signed, and nothing done; `order_failed`: not done, or the store does not say; `order_pending`: not known yet |
//!
//! An answer (200) to an `Idempotency-Key` is kept for five minutes, but not beyond the first `exp` of its tokens, and only if
//! no part of it was a 503 or a 429. A token in it whose key has been revoked since, or is published no more, is never handed
//! out again: then the whole answer is forgotten, and the request is answered anew, by the keys that sign now and within the
//! rates.
//!
//! What a `rate` of a grant counts are tokens that a key could sign: what is 503 because none does is not among them.
//!
//! # What is told of it
//!
//! - Each decision is written down where [`ServiceBuilder::audit`] says (of a [`Server`], `audit_file`), in lines of which
//!   none can be taken out unseen: [`audit`], and [`audit::check()`] or `countersign audit check`.
//! - Everything is counted, for the recorder of the `metrics` crate, 0.24. A [`Server`] has one, and serves `/metrics`
//!   where `metrics_listen` says; without it beside the rest, if that and the issuer are on loopback, and otherwise nowhere.
//! - A key that is revoked is told to verifiers that follow a file, if a [`Server`] has a `revocations_file`; of a ring that
//!   is kept elsewhere, [its builder](countersign_issuer::RingBuilder::revocations) says whom it tells. Others learn of it
//!   from the key set, later: the answer to the order has both times.
//! - What happens is in the log, as events of the crate `tracing`.
//!
//! The pages [OBSERVABILITY.md] and [REVOCATION.md] have the rest.
//!
//! [OBSERVABILITY.md]: https://github.com/countersign-rs/countersign/blob/main/OBSERVABILITY.md
//! [REVOCATION.md]: https://github.com/countersign-rs/countersign/blob/main/REVOCATION.md
//!
//! # By itself
//!
//! [`Server`] (Unix) is all of this over a directory, or with its ring in S3 (feature `s3`; [`RingPlace`]), with a [`Config`]
//! out of a file and the environment; its first run makes what it needs. `countersign serve` is that as a process, and
//! `CONFIGURATION.md` its settings. [`serve()`] is for whoever has a ring that is kept elsewhere, and [`serve_tls`] for whoever
//! has a certificate too.
//!
//! Over [`Tls`] they speak HTTP/2 with those who choose it in the handshake, and HTTP/1.1 with all others; the certificate
//! is exchanged while connections come. Without TLS there is HTTP/1.1 only, and a [`Server`] listens so on loopback only,
//! unless `plain_http` says that it is behind a proxy. What a proxy says of its clients is not read: no request has an
//! address or a certificate but those of the connection that it comes over ([`Peer`]).
//!
//! # What is not there
//!
//! No route takes over keys or gives one up: whoever has the [`Ring`](countersign_issuer::Ring) orders that.

mod admin;
pub mod audit;
mod authenticate;
mod body;
mod certificate;
mod config;
#[cfg(unix)]
mod files;
mod idempotency;
mod intake;
mod limit;
mod metadata;
mod numbers;
mod place;
pub mod policy;
#[cfg(unix)]
mod policy_file;
mod problem;
mod room;
mod serve;
#[cfg(unix)]
mod server;
mod service;
mod sha256;
mod signed;
mod tls;
mod tokens;
mod wire;
#[cfg(unix)]
mod writers;

pub use authenticate::{ClientSecret, MAX_ASSERTION_LIFETIME, MIN_SECRET_BYTES, SecretKey};
pub use body::{BODY_TIME, MAX_BODY_BYTES};
pub use certificate::ClientCertificate;
pub use config::{Config, ConfigError, ENVIRONMENT_PREFIX, MAX_CONFIG_BYTES, MetricsAt, SETTINGS, Setting, TlsFiles};
#[cfg(unix)]
pub use files::write_new;
pub use place::RingPlace;
#[cfg(unix)]
pub use policy_file::{PolicyFault, check_policy};
pub use room::MAX_BODIES_BYTES;
pub use serve::{
    ConnectionLimits, MAX_HEAD_BYTES, MAX_HEADERS, MAX_RESET_STREAMS, MAX_STREAMS, Peer, serve, serve_tls,
};
#[cfg(unix)]
pub use server::{FirstRun, Server, ServerError};
pub use service::{BuildError, ReloadError, ServiceBuilder, TokenService};
pub use tls::{MAX_PEM_BYTES, PinnedCertificates, Tls, TlsError, TlsPem};
pub use wire::{MAX_BATCH, MalformedRequest};
#[cfg(unix)]
pub use writers::{WritableByOthers, check_writers};

/// What is served, as an OpenAPI document (3.1).
pub const OPENAPI: &str = include_str!("../openapi.json");
