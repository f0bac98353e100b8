use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Changed, Judged, Level, Revocations, Revoked, Verdict};
use crate::time::UnixTime;
use crate::verified::Verified;

/// How a verifier uses [`Revocations`]: what a token must have so that it can be revoked, and what becomes of tokens while it is not known for sure.
///
/// By default a token that is not known to be revoked is accepted, however old that knowledge is: whoever has short-lived tokens loses little by it, and
/// a feed that is down does not take the service with it. **Watch the age** (it is a metric), or refuse: [`refuse_stale`](Self::refuse_stale).
///
/// And by default a token without `jti` is accepted, although no `jti` can revoke it: [`require_jwt_id`](Self::require_jwt_id). A token without `iat` is
/// refused wherever a cut-off fits it, because nobody can say that it is younger.
#[derive(Clone)]
pub struct RevocationCheck {
    revocations: Arc<dyn Revocations>,
    jwt_id: bool,
    issued_at: bool,
    levels: Vec<Level>,
    refuse_stale: bool,
    max_age: Option<Duration>,
    /// What is asked behind this one.
    next: Option<Arc<RevocationCheck>>,
}

impl RevocationCheck {
    /// Asks `revocations`; the defaults.
    #[must_use]
    pub fn by(revocations: impl Revocations) -> Self {
        Self {
            revocations: Arc::new(revocations),
            jwt_id: false,
            issued_at: false,
            levels: Vec::new(),
            refuse_stale: false,
            max_age: None,
            next: None,
        }
    }

    /// Refuses tokens without `jti`, or with an empty one, which cannot be revoked one by one.
    #[must_use]
    pub fn require_jwt_id(mut self) -> Self {
        self.jwt_id = true;
        self
    }

    /// Refuses tokens without `iat`, also where no cut-off fits them.
    #[must_use]
    pub fn require_issued_at(mut self) -> Self {
        self.issued_at = true;
        self
    }

    /// Refuses tokens that do not say which one of this level they are of, or leave it empty, so that a cut-off of it would miss them. Called again, of
    /// that level too.
    #[must_use]
    pub fn require_level(mut self, level: Level) -> Self {
        if !self.levels.contains(&level) {
            self.levels.push(level);
        }
        self
    }

    /// Refuses every token, with 503, while what is known of revocations is out of date, in the opinion of those who know it
    /// ([`Verdict::Stale`]).
    #[must_use]
    pub fn refuse_stale(mut self) -> Self {
        self.refuse_stale = true;
        self
    }

    /// Refuses every token, with 503, while what is known of revocations is older than this, or not known at all. Called again, the shorter
    /// time counts.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(self.max_age.map_or(max_age, |earlier| earlier.min(max_age)));
        self
    }

    /// Asks `other` as well, behind this one and with the settings of its own; the first that does not accept a token
    /// says why, unless a later one knows that it is revoked.
    #[must_use]
    pub fn and(mut self, other: impl Into<RevocationCheck>) -> Self {
        let next = match self.next.take() {
            None => other.into(),
            Some(next) => Arc::unwrap_or_clone(next).and(other.into()),
        };
        self.next = Some(Arc::new(next));
        self
    }

    /// All that are asked, in their order.
    pub fn revocations(&self) -> impl Iterator<Item = &Arc<dyn Revocations>> {
        std::iter::successors(Some(self), |check| check.next.as_deref()).map(|check| &check.revocations)
    }

    /// How old what is known is at the time `now`: of several the worst. `None`: nothing is known, or not all of it.
    #[must_use]
    pub fn age(&self, now: UnixTime) -> Option<Duration> {
        self.revocations().try_fold(Duration::ZERO, |worst, revocations| Some(worst.max(revocations.age(now)?)))
    }

    /// Whether a good token is to be accepted at the time `now`.
    ///
    /// # Errors
    /// [`RevocationError`]. That a token is revoked outweighs all else, whoever of several says so.
    pub fn check(&self, token: &Verified, now: UnixTime) -> Result<(), RevocationError> {
        let own = self.check_own(token, now);
        match (own, &self.next) {
            (Err(RevocationError::Revoked(_)), _) | (_, None) => own,
            (_, Some(next)) => match next.check(token, now) {
                revoked @ Err(RevocationError::Revoked(_)) => revoked,
                others => own.and(others),
            },
        }
    }

    /// Whether what is known is at most so old, of all that is asked.
    ///
    /// # Errors
    /// [`RevocationError::Stale`].
    pub fn check_age(&self, max_age: Duration, now: UnixTime) -> Result<(), RevocationError> {
        within(max_age, self.age(now))
    }

    /// [`Revocations::changed`] of all that is asked: ends with the first that does.
    #[must_use]
    pub fn changed(&self) -> Changed {
        let mut own = self.revocations.changed();
        let Some(next) = &self.next else { return own };
        let mut others = next.changed();
        Box::pin(poll_fn(move |cx| {
            let has_changed = own.as_mut().poll(cx).is_ready() || others.as_mut().poll(cx).is_ready();
            if has_changed { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    /// The same of this one alone.
    fn check_own(&self, token: &Verified, now: UnixTime) -> Result<(), RevocationError> {
        let judged = Judged::of(token, now);
        let stale = match self.revocations.check(&judged) {
            Verdict::Revoked(why) => return Err(RevocationError::Revoked(why)),
            Verdict::Fresh => None,
            Verdict::Stale { age } => Some(age),
        };
        if let Some(missing) = self.missing(&judged) {
            return Err(RevocationError::Irrevocable(missing));
        }
        if let Some(max_age) = self.max_age {
            within(max_age, self.revocations.age(now))?;
        }
        match stale {
            Some(age) if self.refuse_stale => Err(RevocationError::Stale { age }),
            _ => Ok(()),
        }
    }

    /// What a token must have, in words, and does not.
    fn missing(&self, token: &Judged<'_>) -> Option<&'static str> {
        // An empty name is as good as none: no entry has one.
        let is_missing = |name: Option<&str>| name.is_none_or(str::is_empty);
        if self.jwt_id && is_missing(token.jwt_id) {
            return Some("jti");
        }
        if self.issued_at && token.issued_at.is_none() {
            return Some("iat");
        }
        self.levels.iter().find(|level| is_missing(token.level(**level))).map(|level| level.name())
    }
}

fn within(max_age: Duration, age: Option<Duration>) -> Result<(), RevocationError> {
    match age {
        Some(age) if age <= max_age => Ok(()),
        age => Err(RevocationError::Stale { age }),
    }
}

impl<R: Revocations> From<R> for RevocationCheck {
    fn from(revocations: R) -> Self {
        Self::by(revocations)
    }
}

impl fmt::Debug for RevocationCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationCheck")
            .field("require_jwt_id", &self.jwt_id)
            .field("require_issued_at", &self.issued_at)
            .field("require_levels", &self.levels)
            .field("refuse_stale", &self.refuse_stale)
            .field("max_age", &self.max_age)
            .field("and", &self.next)
            .finish_non_exhaustive()
    }
}

/// Why a token that is good otherwise is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationError {
    /// It is revoked: 401.
    Revoked(Revoked),
    /// It lacks what it would be revoked by, and that is demanded: 401. In words: `jti`, `iat`, or a [`Level`].
    Irrevocable(&'static str),
    /// What is known of revocations is too old, and tokens are to be refused then: 503.
    Stale {
        /// How old it is; `None`: nothing is known, or not all of it.
        age: Option<Duration>,
    },
}

impl fmt::Display for RevocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked(why) => why.fmt(f),
            Self::Irrevocable(what) => write!(f, "without `{what}` it could not be revoked, and that is demanded here"),
            Self::Stale { age: Some(age) } => write!(f, "what is known of revocations is {age:?} old"),
            Self::Stale { age: None } => f.write_str("it is not known what has been revoked"),
        }
    }
}

impl std::error::Error for RevocationError {}
