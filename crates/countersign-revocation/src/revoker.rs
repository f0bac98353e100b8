use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_claims::revocation::{Entry, Level, RevocationSink, Revokes, SinkError};
use countersign_claims::{Clock, UnixTime, Verified};
use countersign_token::Thumbprint;

use crate::fits::fits;
use crate::list::RevocationList;

/// How long the longest token of an issuer lives unless set: a day.
pub const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Revokes: one token, one key, or all that was issued until now for a subject, a client, a session, a family, a tenant or by an issuer. Cheap to clone.
///
/// Every method publishes one entry to the [sink](RevocationSink) and answers with what that guarantees, the [`Assurance`]. All of them can be called
/// again: for a cut-off, with the second call's time.
///
/// ```
/// # use std::sync::Arc;
/// # use countersign_claims::UnixTime;
/// # use countersign_claims::revocation::{Entry, Published, Publishing, RevocationSink};
/// # use countersign_revocation::Revoker;
/// # struct Sink;
/// # impl RevocationSink for Sink {
/// #     fn publish(&self, _: Arc<[Entry]>) -> Publishing {
/// #         Box::pin(async { Ok(Published::within(std::time::Duration::ZERO)) })
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let revoker = Revoker::new(Sink, "https://issuer.example").clock(|| UnixTime::from_secs(1_800_000_000));
/// let assurance = revoker.subject("ada").await?;
/// // All of Ada's tokens are refused that say that they were issued by then. Do not issue new ones before:
/// assert_eq!(assurance.reissue_from, Some(UnixTime::from_secs(1_800_000_001)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Revoker {
    sink: Arc<dyn RevocationSink>,
    issuer: Box<str>,
    max_lifetime: Duration,
    clock_error: Duration,
    clock: Arc<dyn Clock>,
}

/// What is guaranteed of a revocation that has been published.
///
/// It holds for every verifier that follows the sink and is not [stale](countersign_claims::revocation::Verdict::Stale) by it: what is revoked is refused
/// by each check that begins [`within`](Self::within) that time or later, and long connections end as soon as it is known where they are. A verifier that
/// is cut off from the sink learns nothing, and its age grows: whether it goes on then is its
/// [policy](countersign_claims::revocation::RevocationCheck::max_age).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assurance {
    /// From the moment of the answer. Zero: every check that begins from now on.
    pub within: Duration,
    /// Of a cut-off: tokens whose `iat` is in this second or before it are refused. Of several cut-offs the latest.
    pub issued_until: Option<UnixTime>,
    /// Of a cut-off: the first second whose tokens pass. An issuer that is to replace what it has revoked issues no sooner.
    pub reissue_from: Option<UnixTime>,
    /// Until when it is remembered: all tokens that it concerns have expired by then. `None`: for good.
    pub until: Option<UnixTime>,
}

impl Revoker {
    /// Revokes tokens whose `iss` is `issuer`, to the letter.
    #[must_use]
    pub fn new(sink: impl RevocationSink, issuer: impl Into<Box<str>>) -> Self {
        Self {
            sink: Arc::new(sink),
            issuer: issuer.into(),
            max_lifetime: DEFAULT_MAX_LIFETIME,
            clock_error: Duration::ZERO,
            clock: Arc::new(|| UnixTime::from(SystemTime::now())),
        }
    }

    /// How long the longest token of this issuer lives, from `iat` to `exp`; [`DEFAULT_MAX_LIFETIME`] unless set. Cut-offs are remembered that long, so
    /// **a token that lives longer comes back to life**.
    #[must_use]
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.max_lifetime = max_lifetime;
        self
    }

    /// How far the issuer's clock may be ahead of this one; zero unless set, as for an issuer that revokes its own tokens. Cut-offs are that much later,
    /// rounded up to a second, and new tokens pass later too.
    #[must_use]
    pub fn clock_error(mut self, clock_error: Duration) -> Self {
        self.clock_error = clock_error;
        self
    }

    /// Where the time comes from; the system's clock unless set.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Revokes the token with this `jti`, which expires at `exp`.
    ///
    /// # Errors
    /// [`SinkError`], as of all methods; [`SinkError::Unfit`] if a name is empty or longer than
    /// [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES).
    pub async fn jwt_id(&self, jti: &str, exp: UnixTime) -> Result<Assurance, SinkError> {
        self.publish([self.entry(Revokes::Token { jwt_id: jti.into() }, Some(exp))]).await
    }

    /// Revokes this token by its own `iss` and `jti`, until its own `exp`; for good, if it has none.
    ///
    /// # Errors
    /// [`SinkError::Unfit`] if it has no `jti`.
    pub async fn token(&self, token: &Verified) -> Result<Assurance, SinkError> {
        let revokes = Revokes::Token { jwt_id: token.jwt_id().unwrap_or_default().into() };
        let issuer = token.issuer().unwrap_or_default().into();
        self.publish([Entry { issuer, revokes, until: token.expires_at() }]).await
    }

    /// Revokes all tokens of a subject (`sub`) that were issued until now.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn subject(&self, sub: &str) -> Result<Assurance, SinkError> {
        self.cut_off(Level::Subject, sub).await
    }

    /// Revokes all tokens of a client that were issued until now.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn client(&self, client_id: &str) -> Result<Assurance, SinkError> {
        self.cut_off(Level::Client, client_id).await
    }

    /// Revokes all tokens of a session (`sid`) that were issued until now.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn session(&self, sid: &str) -> Result<Assurance, SinkError> {
        self.cut_off(Level::Session, sid).await
    }

    /// Revokes all tokens of a family that were issued until now.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn family(&self, family: &str) -> Result<Assurance, SinkError> {
        self.cut_off(Level::Family, family).await
    }

    /// Revokes all tokens of a tenant that were issued until now.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn tenant(&self, tenant: &str) -> Result<Assurance, SinkError> {
        self.cut_off(Level::Tenant, tenant).await
    }

    /// Revokes all tokens of the issuer that were issued until now.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn issuer(&self) -> Result<Assurance, SinkError> {
        self.cut_off(Level::Issuer, "").await
    }

    /// Revokes, for good, the issuer's key of this name, and with it all tokens that it has signed or will sign. Where verifiers have the key under other
    /// names too, [`key_material`](Self::key_material) is the one that reaches it.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn key(&self, kid: &str) -> Result<Assurance, SinkError> {
        self.publish([self.entry(Revokes::Key { kid: kid.into() }, None)]).await
    }

    /// Revokes, for good, a key, whatever it is called and whoever publishes it.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn key_material(&self, thumbprint: Thumbprint) -> Result<Assurance, SinkError> {
        self.publish([self.entry(Revokes::KeyMaterial { thumbprint }, None)]).await
    }

    /// Publishes these, all or none, as they are. The answer is about all of them: the latest cut-off, and the longest time.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn publish(&self, entries: impl Into<Arc<[Entry]>>) -> Result<Assurance, SinkError> {
        let entries = entries.into();
        entries.iter().try_for_each(fits)?;
        let issued_until = entries.iter().filter_map(issued_until).max();
        let until = entries.iter().map(|entry| entry.until).reduce(|a, b| Some(a?.max(b?))).flatten();
        let within = self.sink.publish(entries).await?.within;
        let reissue_from = issued_until.map(|last| last.saturating_add(SECOND));
        Ok(Assurance { within, issued_until, reissue_from, until })
    }

    async fn cut_off(&self, level: Level, name: &str) -> Result<Assurance, SinkError> {
        // A second that has begun is cut off as a whole: it cannot be told which of its tokens came first.
        let second = UnixTime::from_secs(self.clock.now().as_secs());
        let issued_until = second.saturating_add(rounded_up(self.clock_error));
        let revokes = Revokes::CutOff { level, name: name.into(), issued_until };
        // The last one that is cut off may be issued at the very end of that second.
        let until = issued_until.saturating_add(SECOND).saturating_add(rounded_up(self.max_lifetime));
        self.publish([self.entry(revokes, Some(until))]).await
    }

    fn entry(&self, revokes: Revokes, until: Option<UnixTime>) -> Entry {
        Entry { issuer: self.issuer.clone(), revokes, until }
    }
}

impl RevocationList {
    /// Revokes tokens of `issuer` in this list, and nowhere else: for a single process, and for tests.
    #[must_use]
    pub fn revoker(&self, issuer: impl Into<Box<str>>) -> Revoker {
        Revoker::new(self.clone(), issuer)
    }
}

impl fmt::Debug for Revoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker")
            .field("issuer", &self.issuer)
            .field("max_lifetime", &self.max_lifetime)
            .field("clock_error", &self.clock_error)
            .finish_non_exhaustive()
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn rounded_up(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)))
}

/// The last second that is cut off.
fn issued_until(entry: &Entry) -> Option<UnixTime> {
    match entry.revokes {
        Revokes::CutOff { issued_until, .. } => Some(UnixTime::from_secs(issued_until.as_secs())),
        _ => None,
    }
}
