//! Tokens that a client signs for one request: whoever sees one can order nothing else with it.
//!
//! # The token
//!
//! A JWT, signed with a key of the client's own (asymmetric; never a shared secret), sent as `Authorization: Bearer`:
//!
//! | where | what |
//! |---|---|
//! | `typ` | `request+jwt` ([`TYPE`]) |
//! | `alg`, `kid` | as of every token; the key is one of those that the service knows for this client |
//! | `iss`, `sub` | the client; both, and the same |
//! | `aud` | the service's identifier, exactly, and nothing beside it |
//! | `iat`, `exp` | when it was made, and at most 60 seconds later ([`MAX_LIFETIME`]); compared with the clock with [`LEEWAY`] |
//! | `jti` | a name that comes once; random, 128 bits or more |
//! | `htm` | the method, in the octets of the request line: `POST`, never `post` |
//! | `htu` | the URL as the client sends it, with its query: see below |
//! | `body_sha256` | SHA-256 of the body (FIPS 180-4) in base64url without padding, 43 characters; also of an empty one |
//!
//! Nothing else is looked at, but that the rules of every token hold: each name once, no `cnf`, no `crit`, `nbf` if it is there.
//!
//! `htm` and `htu` are named as in RFC 9449 (DPoP), whose `htu` is without the query: neither `typ` passes for the other. The body
//! is digested as RFC 9530 does it for `Content-Digest`: the octets of the content, behind `Transfer-Encoding` and before
//! `Content-Encoding` is undone. **Headers are not signed**, nor are trailers.
//!
//! # `htu`, and how it is compared
//!
//! The service knows its own base URL, such as `https://api.example`; what `Host` and `:authority` say is not looked at, since
//! proxies write them anew. `htu` must be that base and behind it the path and the query of the request, octet by octet: **nothing is
//! normalised**, so it has to be written as it goes over the wire:
//!
//! - scheme and host in lower case, without user information, without the default port, without a dot at the host's end;
//! - at least one `/` as path; the query, if there is one, with its `?`, the empty one too; no fragment;
//! - percent-encoding as it is sent: `%7E` is not `~`, `%2f` is not `%2F`; nothing that is not printable ASCII.
//!
//! Because routers, proxies and frameworks disagree on which spellings are the same, and every spelling that this comparison
//! would take for another is one that somebody behind it may take for a third. For the same reason a path in which there is an
//! empty segment (`//`), a dot segment (also as `%2e`) or a `\` is refused whatever was signed. The client takes the text out of the URL
//! library that its HTTP client uses, after that has parsed it.
//!
//! # What the service does
//!
//! In this order, and none of it before what is above it:
//!
//! 1. the token, by a [`Policy`](crate::Policy) with [`signed_request_profile`](crate::Policy::signed_request_profile);
//! 2. [`check_head`]: method and URL;
//! 3. whether it was used ([`SingleUse::check`]);
//! 4. the body is read, within a bound in octets and in time, and [`check_body`] compares;
//! 5. [`SingleUse::use_up`].
//!
//! It is used up last: if it were before the body has been compared, whoever has seen a token could spend it on a body of his own, and the
//! client's request would be refused. As it is, only the request that the client has signed can.
//!
//! A process does not know what one before it has accepted, so it takes no token that was made before it was there, or might
//! have been: for as long as the leeway after its start it takes none. Each process remembers for itself: of several
//! behind one URL each takes a token once.
//!
//! ```
//! use countersign_claims::signed_request::{self, BodyDigest, RequestSigner, SingleUse};
//! use countersign_claims::{Policy, ReplayMemory, UnixTime};
//! use countersign_token::{Algorithm, HeaderScratch, SigningKey, UnverifiedToken};
//!
//! let key = SigningKey::generate(Algorithm::Es256)?;
//! let known = std::sync::Arc::new(key.verifying_key()?.bound_to_issuer("billing"));
//! let now = UnixTime::from_secs(1_000);
//!
//! // The client.
//! let signer = RequestSigner::new(key, "billing", "https://api.example")?;
//! let raw = signer.sign("POST", "https://api.example/v1/keys:rotate?slot=a", b"{}", now)?;
//!
//! // The service.
//! let policy = Policy::new().audience("https://api.example").signed_request_profile();
//! let once = SingleUse::new(ReplayMemory::default(), UnixTime::from_secs(900), policy.leeway_in_force());
//! let mut scratch = HeaderScratch::new();
//! let verified = policy.judge(UnverifiedToken::parse(&raw, 8192, &mut scratch)?.verify(&known)?, now)?;
//! signed_request::check_head(&verified, "POST", "https://api.example/v1/keys:rotate?slot=a")?;
//! once.check(&verified)?;
//! signed_request::check_body(&verified, &BodyDigest::of(b"{}"))?;
//! once.use_up(&verified, now)?;
//! assert!(once.use_up(&verified, now).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod once;
mod sign;
mod url;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::value::Place;
use crate::verified::Verified;

pub use self::once::{NotOnce, SingleUse};
pub use self::sign::{RequestSigner, SignRequestError};
pub use self::url::{BadUrl, BaseUrl, NoTarget};

/// `typ` of these tokens.
pub const TYPE: &str = "request+jwt";

/// The longest from `iat` to `exp`: it is made for a request that is sent at once, and for as long it has to be remembered.
pub const MAX_LIFETIME: Duration = Duration::from_secs(60);

/// The tolerance for clocks that disagree, unless another is set. Shorter than for other tokens: those who are kept by NTP
/// never need it, and for as long a process that has just begun takes no token.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// The claims that say which request it is.
const METHOD: &str = "htm";
const URL: &str = "htu";
const BODY: &str = "body_sha256";

/// Whether the token was made for this method and this URL, and not with a secret that others have. The URL is the service's own
/// base and the request's path and query: [`BaseUrl::url_of`].
///
/// # Errors
/// [`NotThisRequest`].
pub fn check_head(verified: &Verified, method: &str, url: &str) -> Result<(), NotThisRequest> {
    if verified.algorithm().is_symmetric() {
        return Err(NotThisRequest::SharedSecret);
    }
    compare(verified, METHOD, method)?;
    compare(verified, URL, url)?;
    // What will be compared last is known to be there before anything is read.
    text(verified, BODY).map(drop)
}

/// Whether the token was made for this body.
///
/// # Errors
/// [`NotThisRequest`].
pub fn check_body(verified: &Verified, digest: &BodyDigest) -> Result<(), NotThisRequest> {
    compare(verified, BODY, &digest.to_string())
}

/// Why a token is not for the request that it came with. The token's fault: 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotThisRequest {
    /// This claim is not there.
    Missing(&'static str),
    /// This claim is no string.
    Malformed(&'static str),
    /// This claim is that of another request.
    Other(&'static str),
    /// It is signed with a secret that others have, too.
    SharedSecret,
}

impl fmt::Display for NotThisRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(claim) => write!(f, "`{claim}` is missing"),
            Self::Malformed(claim) => write!(f, "`{claim}` is no string"),
            Self::Other(claim) => write!(f, "`{claim}` is not that of this request"),
            Self::SharedSecret => f.write_str(SHARED_SECRET),
        }
    }
}

impl std::error::Error for NotThisRequest {}

const SHARED_SECRET: &str = "a request is signed with a key of the client's own, not with a shared secret";

/// SHA-256 of a body. Its text is what `body_sha256` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// That of a body which is there as a whole.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let mut digest = Digesting::new();
        digest.update(body);
        digest.finish()
    }
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The digest of a body that comes in parts.
#[derive(Clone)]
pub struct Digesting(digest::Context);

impl Digesting {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// The next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// That was all.
    #[must_use]
    pub fn finish(self) -> BodyDigest {
        let mut octets = [0; 32];
        for (to, from) in octets.iter_mut().zip(self.0.finish().as_ref()) {
            *to = *from;
        }
        BodyDigest(octets)
    }
}

impl Default for Digesting {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Digesting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digesting").finish_non_exhaustive()
    }
}

fn compare(verified: &Verified, claim: &'static str, wanted: &str) -> Result<(), NotThisRequest> {
    if text(verified, claim)? == wanted { Ok(()) } else { Err(NotThisRequest::Other(claim)) }
}

fn text<'v>(verified: &'v Verified, claim: &'static str) -> Result<Cow<'v, str>, NotThisRequest> {
    match verified.member(claim) {
        Place::Value(value) => value.string().ok_or(NotThisRequest::Malformed(claim)),
        _ => Err(NotThisRequest::Missing(claim)),
    }
}
