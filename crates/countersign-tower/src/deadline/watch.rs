//! Whether a token has been revoked, for as long as somebody waits.

use std::task::Context;

use countersign_claims::revocation::{Changed, RevocationError};
use countersign_claims::{UnixTime, Verified};
use tokio::time::Instant;

use super::{Ended, RECHECK_SPACING};

/// One wait. It is boxed, because few tokens have a revocation check, and every wait would have to have room for it.
pub(super) struct Watch {
    state: State,
    /// When a change was last acted on.
    acted: Option<Instant>,
}

enum State {
    /// Nothing revoked it when this began to wait.
    Fresh(Changed),
    /// There has been a change, and from then on it may be looked at.
    Due(Instant),
    /// It stays so, whatever becomes known later.
    Ended(Ended),
}

impl Watch {
    pub(super) fn begun(token: &Verified, now: UnixTime) -> Self {
        Self { state: State::looked(token, now), acted: None }
    }

    /// When to look again at the latest; `None`: when there is a change, of which the task hears. `is_time`: that so much time has passed that
    /// what is known has to be looked at in any case.
    pub(super) fn poll(
        &mut self,
        token: &Verified,
        now: UnixTime,
        is_time: bool,
        cx: &mut Context<'_>,
    ) -> Result<Option<Instant>, Ended> {
        if is_time
            && let State::Fresh(_) = self.state
            && let Err(error) = token.check_revocation(now)
        {
            self.state = State::Ended(error.into());
        }
        loop {
            match &mut self.state {
                State::Ended(ended) => return Err(*ended),
                State::Fresh(changed) => {
                    if changed.as_mut().poll(cx).is_pending() {
                        return Ok(None);
                    }
                    let first = Instant::now();
                    self.state = State::Due(self.acted.map_or(first, |acted| acted + RECHECK_SPACING));
                }
                State::Due(due) => {
                    let at = Instant::now();
                    if at < *due {
                        return Ok(Some(*due));
                    }
                    self.acted = Some(at);
                    self.state = State::looked(token, now);
                }
            }
        }
    }
}

impl State {
    /// Listens first, and looks then: of what changes in between, the look or the listener knows.
    fn looked(token: &Verified, now: UnixTime) -> Self {
        let Some(check) = token.revocation() else { return Self::Fresh(Box::pin(std::future::pending())) };
        let changed = check.changed();
        match check.check(token, now) {
            Ok(()) => Self::Fresh(changed),
            Err(error) => Self::Ended(error.into()),
        }
    }
}

impl From<RevocationError> for Ended {
    fn from(error: RevocationError) -> Self {
        match error {
            RevocationError::Revoked(_) | RevocationError::Irrevocable(_) => Self::Revoked,
            // What this version does not know is not an acceptance, and says nothing of the token.
            _ => Self::RevocationsStale,
        }
    }
}
