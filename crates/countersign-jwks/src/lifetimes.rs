//! For how long keys are good: what is configured of it, and which of that goes together.

use std::time::Duration;

use crate::error::SourceError;
use crate::plan::Config;

/// How long a key set is good for if neither its answer nor [`Remote::default_lifetime`](crate::Remote::default_lifetime) says.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The shortest default lifetime: as often as strangers can make us look.
pub const MIN_DEFAULT_LIFETIME: Duration = Duration::from_secs(1);

/// The longest lifetime that a key set can be given, by default or by its answer. A key that the provider withdraws is trusted
/// for about that long, so a day is generous.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What a key set is good for at least, whatever its answer says (or the default lifetime, if that is shorter): providers say
/// `no-store` and mean nobody any harm.
pub const MIN_LIFETIME: Duration = Duration::from_secs(60);

/// What a key set is good for at most, whatever its answer says, unless [`Remote::max_lifetime`](crate::Remote::max_lifetime)
/// says otherwise.
pub const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long after the last success a set is still believed unless [`Remote::max_stale`](crate::Remote::max_stale) says otherwise.
pub const DEFAULT_MAX_STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest time that a set can be believed without hearing from its provider: a long outage's worth. Whoever needs
/// more wants static keys.
pub const MAX_MAX_STALE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many lifetimes `max_stale` must have room for, so that one failed refresh does not end trust.
pub(crate) const LIFETIMES_IN_MAX_STALE: u32 = 2;

/// What was set, and the defaults of the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) default: Duration,
    pub(crate) max: Option<Duration>,
    pub(crate) stale: Option<Duration>,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { default: DEFAULT_LIFETIME, max: None, stale: None }
    }
}

impl Lifetimes {
    pub(crate) fn longest(&self) -> Duration {
        self.max.unwrap_or(DEFAULT_MAX_LIFETIME.max(self.default))
    }

    pub(crate) fn max_stale(&self) -> Duration {
        let least = self.longest().saturating_mul(LIFETIMES_IN_MAX_STALE);
        self.stale.unwrap_or(DEFAULT_MAX_STALE.max(least))
    }

    pub(crate) fn check(&self) -> Result<(), SourceError> {
        if !(MIN_DEFAULT_LIFETIME..=MAX_LIFETIME).contains(&self.default) {
            return Err(SourceError::DefaultLifetime(self.default));
        }
        let max_lifetime = self.longest();
        if !(self.default.max(MIN_LIFETIME)..=MAX_LIFETIME).contains(&max_lifetime) {
            return Err(SourceError::MaxLifetime { max_lifetime, default_lifetime: self.default });
        }
        let max_stale = self.max_stale();
        if !(max_lifetime * LIFETIMES_IN_MAX_STALE..=MAX_MAX_STALE).contains(&max_stale) {
            return Err(SourceError::MaxStale { max_stale, max_lifetime });
        }
        Ok(())
    }

    /// What the plan needs to know.
    pub(crate) fn config(&self, seed: u64) -> Config {
        Config {
            lifetime: self.default,
            // Settings that do not pass fetch nothing, but they must not panic.
            min_lifetime: MIN_LIFETIME.min(self.default).min(self.longest()),
            max_lifetime: self.longest(),
            max_stale: self.max_stale(),
            backs_off_without_keys: false,
            seed,
        }
    }
}
