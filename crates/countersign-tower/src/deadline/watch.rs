//! Whether a token has been revoked, for as long as somebody waits.

use std::task::Context;

use countersign_claims::revocation::{Changed, RevocationError};
use countersign_claims::{UnixTime, Verified};
use tokio::time::Instant;

use super::{Ended, LOOK_AT_CLOCK, RECHECK_SPACING};

/// One wait. It is boxed, because few tokens have a revocation check, and every wait would have to have room for it.
pub(super) struct Watch {
    state: State,
    looked: Instant,
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
        Self { state: State::looked(token, now), looked: Instant::now(), acted: None }
    }

    /// When to look again at the latest; if there is a change before, the task hears of it.
    pub(super) fn poll(&mut self, token: &Verified, now: UnixTime, cx: &mut Context<'_>) -> Result<Instant, Ended> {
        let at = Instant::now();
        loop {
            match &mut self.state {
                State::Ended(ended) => return Err(*ended),
                State::Fresh(changed) => {
                    let look = self.looked + LOOK_AT_CLOCK;
                    if changed.as_mut().poll(cx).is_ready() {
                        self.state = State::Due(self.acted.map_or(at, |acted| acted + RECHECK_SPACING));
                    } else if at < look {
                        return Ok(look);
                    } else {
                        // What is known has become older, and nothing else has changed.
                        self.looked = at;
                        if let Err(error) = token.check_revocation(now) {
                            self.state = State::Ended(error.into());
                        }
                    }
                }
                State::Due(due) if at < *due => return Ok(*due),
                State::Due(_) => {
                    self.looked = at;
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
        // Without one there would be nothing to wait for, and no deadline does.
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
