use std::time::Duration;

use countersign_claims::UnixTime;
use serde::{Deserialize, Serialize};

use super::{PublicJwk, Terms};
use crate::time::{optional_unix_millis, unix_millis};

/// How far a key has come. The order is that of [`join`](Self::join): of two opinions about a key the later one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Published, or about to be; its private part may not be stored yet.
    Announced,
    /// Nobody can lack it any more; its private part was stored, read and tested.
    Standby,
    /// It signs.
    Active,
    /// It signs no more; its tokens are still good, and it stays published until the last of them has expired.
    Retiring,
    /// It never signed and never will.
    Abandoned,
    /// Its last token has expired, and it is published no more.
    Retired,
    /// Somebody else may have it.
    Revoked,
}

impl KeyState {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Announced, Self::Standby, Self::Active, Self::Retiring, Self::Abandoned, Self::Retired, Self::Revoked];

    /// Whether the JWKS has keys in this state.
    #[must_use]
    pub const fn is_published(self) -> bool {
        matches!(self, Self::Announced | Self::Standby | Self::Active | Self::Retiring)
    }

    /// Whether nothing follows but revocation.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !self.is_published()
    }

    /// Whether somebody has to be able to sign with it, now or soon.
    #[must_use]
    pub const fn needs_private(self) -> bool {
        matches!(self, Self::Announced | Self::Standby | Self::Active)
    }

    /// The later of two opinions.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }

    /// Whether one version may have this state and the next one that.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use KeyState::{Abandoned, Active, Announced, Retired, Retiring, Revoked, Standby};
        matches!(
            (self, next),
            (_, Revoked)
                | (Announced, Announced | Standby | Active | Abandoned)
                | (Standby, Standby | Active | Abandoned)
                | (Active, Active | Retiring)
                | (Retiring, Retiring | Retired)
                | (Abandoned, Abandoned)
                | (Retired, Retired)
        )
    }
}

/// A key, in one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its slot.
    pub slot: String,
    /// What is published of it.
    pub jwk: PublicJwk,
    /// How far it has come.
    pub state: KeyState,
    /// The node that has made or adopted it, and has its private part until that is stored.
    pub maker: String,
    /// Every verifier there is has it already (it was adopted), or there was no set before (it is among the ring's
    /// first): it need only be read back.
    pub is_known: bool,
    /// When it was made, or adopted.
    #[serde(with = "unix_millis")]
    pub announced_at: UnixTime,
    /// When it had been read back from where verifiers read.
    #[serde(with = "optional_unix_millis")]
    pub confirmed_at: Option<UnixTime>,
    /// When it was made active.
    #[serde(with = "optional_unix_millis")]
    pub activated_at: Option<UnixTime>,
    /// When it was *seen* to be active no more. The write that deactivates it cannot say, because nobody knows when a
    /// write is going to arrive.
    #[serde(with = "optional_unix_millis")]
    pub deactivated_at: Option<UnixTime>,
    /// When it was abandoned or retired, or was seen to be revoked.
    #[serde(with = "optional_unix_millis")]
    pub ended_at: Option<UnixTime>,
    /// Tokens of it that others have signed may live until then.
    #[serde(with = "optional_unix_millis")]
    pub promised_until: Option<UnixTime>,
    /// It goes then, whatever tokens there are; what is signed with it expires earlier.
    #[serde(with = "optional_unix_millis")]
    pub remove_at: Option<UnixTime>,
    /// No private part is stored any more.
    pub destroyed: bool,
}

impl Key {
    /// Before when it must not sign (I1); `None` as long as it was not read back.
    #[must_use]
    pub fn ready_at(&self, terms: &Terms) -> Option<UnixTime> {
        let wait = if self.is_known { Duration::ZERO } else { terms.announcement() };
        self.confirmed_at.map(|at| at.saturating_add(wait))
    }

    /// Before when it must not be removed (I4); `None` as long as nobody has seen it deactivated.
    #[must_use]
    pub fn removable_at(&self, terms: &Terms, lifetime: Duration) -> Option<UnixTime> {
        let floor = self.deactivated_at?.saturating_add(terms.retention(lifetime));
        let floor = self.promise(terms).map_or(floor, |promise| floor.max(promise));
        Some(self.remove_at.map_or(floor, |at| floor.min(at)))
    }

    /// Before when its private part must not be destroyed: somebody may still sign with it (I3).
    #[must_use]
    pub fn destroyable_at(&self, terms: &Terms) -> Option<UnixTime> {
        match self.state {
            KeyState::Retiring => self.deactivated_at.map(|at| at.saturating_add(terms.last_signature())),
            state if state.is_terminal() => Some(UnixTime::from_secs(0)),
            _ => None,
        }
    }

    /// Until when tokens of it may be offered, if it was last used at that time.
    pub(crate) fn tokens_until(&self, last_use: UnixTime, terms: &Terms, lifetime: Duration) -> UnixTime {
        let own = last_use.saturating_add(terms.last_token(lifetime));
        self.promise(terms).map_or(own, |promise| own.max(promise))
    }

    fn promise(&self, terms: &Terms) -> Option<UnixTime> {
        self.promised_until.map(|until| until.saturating_add(terms.leeway).saturating_add(terms.clock_error))
    }
}
