//! What is said about revocation between those who verify tokens and those who revoke them: [`Revocations`], which a verifier asks,
//! [`RevocationSink`], which a revoker tells, and the [`Entry`] that travels between them.
//!
//! A signed token needs no look-up, so nothing ends it before its `exp` by itself. Here that is done by *what is known to be
//! revoked*, kept in memory beside the verifier. A token is revoked by one of three things, asked in this order:
//!
//! 1. **its key**: the one that has *verified* it, whatever `kid` the token names or does not name;
//! 2. **a cut-off**: nothing that was issued up to the second T counts for an issuer, a tenant, a client, a subject, a session or a family
//!    ([`Level`]). Of all that fit a token the latest counts, and a token whose `iat` is in that very second is refused: `iat` is in whole
//!    seconds, so it cannot be told which came first;
//! 3. **its `jti`**, together with its `iss`; never the bytes of the token, of which an attacker can make others.
//!
//! The crate `countersign-revocation` keeps them, and has the ways by which they come.

mod check;
mod entry;
mod judged;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use check::{RevocationCheck, RevocationError};
pub use entry::{Entry, Level, Revokes};
pub use judged::Judged;

use crate::time::UnixTime;

/// What is revoked, kept where tokens are verified.
///
/// It is asked with every request: [`check`](Self::check) takes no lock, waits for nothing and allocates nothing.
pub trait Revocations: Send + Sync + 'static {
    /// Whether a token that is good otherwise has been revoked.
    fn check(&self, token: &Judged<'_>) -> Verdict;

    /// How old that knowledge is at the time `now`: everything that had been revoked so long ago is known here. `None`: nothing is known yet,
    /// or not all of it.
    fn age(&self, now: UnixTime) -> Option<Duration>;

    /// Ends as soon as there may be more revoked than there was when this was called; for what outlives its request. It may end for no
    /// reason.
    fn changed(&self) -> Changed;

    /// How much is known, for metrics; `None` if nobody counts.
    fn holdings(&self) -> Option<Holdings> {
        None
    }
}

/// How much is known of revocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holdings {
    /// Tokens revoked by their `jti`.
    pub tokens: usize,
    /// Cut-offs of all levels.
    pub cut_offs: usize,
    /// Keys.
    pub keys: usize,
    /// The memory that these take, bytes.
    pub bytes: usize,
    /// Something could not be taken in because there is no room.
    pub is_full: bool,
}

/// One that several share.
impl<R: Revocations + ?Sized> Revocations for Arc<R> {
    fn check(&self, token: &Judged<'_>) -> Verdict {
        (**self).check(token)
    }

    fn age(&self, now: UnixTime) -> Option<Duration> {
        (**self).age(now)
    }

    fn changed(&self) -> Changed {
        (**self).changed()
    }

    fn holdings(&self) -> Option<Holdings> {
        (**self).holdings()
    }
}

/// See [`Revocations::changed`]. Boxed, because it is no part of a request's way.
pub type Changed = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// What [`Revocations`] say of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing revokes it.
    Fresh,
    /// It is revoked. Of several reasons it is the first in the order of the [module's page](self); of cut-offs the one that counts.
    Revoked(Revoked),
    /// Nothing revokes it as far as is known here, but that knowledge is out of date. What then becomes of the token is the
    /// [check's](RevocationCheck) decision.
    Stale {
        /// How old it is; `None`: nothing is known, or not all of it.
        age: Option<Duration>,
    },
}

/// Why a token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revoked {
    /// The key that verified it.
    Key,
    /// It was issued at a time up to which nothing of this level counts any more, or does not say when.
    CutOff {
        /// Of what.
        level: Level,
        /// The last second that is cut off.
        issued_until: UnixTime,
    },
    /// Its `jti`.
    Token,
}

impl Revoked {
    /// A short stable name for metrics and logs; it contains nothing of the token.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Key => "revoked_key",
            Self::Token => "revoked_token",
            Self::CutOff { level, .. } => match level {
                Level::Issuer => "revoked_issuer",
                Level::Tenant => "revoked_tenant",
                Level::Client => "revoked_client",
                Level::Subject => "revoked_subject",
                Level::Session => "revoked_session",
                Level::Family => "revoked_family",
            },
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("the key that has signed it is revoked"),
            Self::Token => f.write_str("its `jti` is revoked"),
            Self::CutOff { level, issued_until } => {
                write!(f, "everything of its {level} that was issued up to {issued_until} is revoked")
            }
        }
    }
}

/// Where somebody who revokes something tells it to: a list in the same process, or what carries it to many.
///
/// An issuer pushes the `kid` of a compromised key through it.
pub trait RevocationSink: Send + Sync + 'static {
    /// Publishes `entries`, all or none. Doing it again does no harm, and is what to do when it failed.
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing;
}

/// One that several share.
impl<S: RevocationSink + ?Sized> RevocationSink for Arc<S> {
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing {
        (**self).publish(entries)
    }
}

/// See [`RevocationSink::publish`]. If it is dropped before its end, the entries may or may not be published.
pub type Publishing = Pin<Box<dyn Future<Output = Result<Published, SinkError>> + Send>>;

/// What has been promised about entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Within this time from now, whoever verifies tokens and is not [stale](Verdict::Stale) by it refuses what they revoke. Zero: every check
    /// that begins from now on does.
    pub within: Duration,
}

impl Published {
    /// Promises that much.
    #[must_use]
    pub fn within(within: Duration) -> Self {
        Self { within }
    }
}

/// Why entries could not be published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkError {
    /// There is no room for them. Nothing is ever dropped to make some; a cut-off, which is one entry, may still fit.
    Full {
        /// How many entries there may be.
        capacity: usize,
    },
    /// An entry that cannot be carried: a name is too long, or empty.
    Unfit(&'static str),
    /// The sink is out of order. Whether the entries were published is not known: publish them again.
    Unavailable(Box<str>),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity } => write!(f, "there is no room for more revocations than {capacity}"),
            Self::Unfit(what) => write!(f, "{what} is empty or too long for a revocation"),
            Self::Unavailable(why) => write!(f, "revocations cannot be published: {why}"),
        }
    }
}

impl std::error::Error for SinkError {}
