use std::fmt;
use std::time::Duration;

use crate::replay::{Replay, ReplayMemory};
use crate::time::UnixTime;
use crate::verified::Verified;

/// Sees to it that none of these tokens is taken twice: by this process, and by those before it.
#[derive(Debug)]
pub struct SingleUse {
    memory: ReplayMemory,
    /// What was accepted before this was made says an earlier `iat`, whatever the clock of its client.
    from: UnixTime,
}

/// Why a token cannot be taken, or not be known to be taken for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotOnce {
    /// It was used before, or it is too old to tell: 401.
    Used,
    /// There is no room to remember it: 503.
    Full,
    /// A process before this one may have taken it. 503: one that is made later will do.
    OlderThanThis {
        /// From when on.
        taken_from: UnixTime,
    },
}

impl fmt::Display for NotOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => Replay::Used.fmt(f),
            Self::Full => Replay::Full.fmt(f),
            Self::OlderThanThis { taken_from } => {
                write!(
                    f,
                    "a process before this one may have taken it; those are taken whose `iat` is {taken_from} or later"
                )
            }
        }
    }
}

impl std::error::Error for NotOnce {}

impl SingleUse {
    /// Begins at `now`, when no other process takes these tokens any more. `leeway` is that of the policy that judges them:
    /// no token was accepted whose `iat` was later by more than that.
    #[must_use]
    pub fn new(memory: ReplayMemory, now: UnixTime, leeway: Duration) -> Self {
        // `iat` mostly has whole seconds, so that what is made in this second says that it was before.
        let from = now.saturating_add(leeway).saturating_add(Duration::from_nanos(999_999_999));
        Self { memory, from: UnixTime::from_secs(from.as_secs()) }
    }

    /// Whether it could be taken now, without taking it.
    ///
    /// # Errors
    /// [`NotOnce`].
    pub fn check(&self, verified: &Verified) -> Result<(), NotOnce> {
        self.parts(verified).and_then(
            |(client, jti, _)| {
                if self.memory.is_used(client, jti) { Err(NotOnce::Used) } else { Ok(()) }
            },
        )
    }

    /// Takes it: nobody can take it again. The policy has accepted it; that it still does, `now` that its request has been read, is
    /// asked here.
    ///
    /// # Errors
    /// [`NotOnce`].
    pub fn use_up(&self, verified: &Verified, now: UnixTime) -> Result<(), NotOnce> {
        let (client, jti, until) = self.parts(verified)?;
        self.memory.admit(client, jti, until, now).map_err(|why| match why {
            Replay::Used => NotOnce::Used,
            Replay::Full => NotOnce::Full,
        })
    }

    /// From when on tokens are taken.
    #[must_use]
    pub fn taken_from(&self) -> UnixTime {
        self.from
    }

    /// Whose it is, what it is called, and when nobody takes it any more. The profile has demanded all of it.
    fn parts<'v>(&self, verified: &'v Verified) -> Result<(&'v str, &'v str, UnixTime), NotOnce> {
        let (Some(client), Some(jti), Some(until)) = (verified.subject(), verified.jwt_id(), verified.accepted_until())
        else {
            return Err(NotOnce::Used);
        };
        if verified.issued_at().is_none_or(|issued_at| issued_at < self.from) {
            return Err(NotOnce::OlderThanThis { taken_from: self.from });
        }
        Ok((client, jti, until))
    }
}
