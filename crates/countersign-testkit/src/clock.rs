use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use countersign_claims::{Clock, UnixTime};

/// A wall clock that stands still until a test moves it. Clones share the time.
///
/// Give a clone to the layer (`JwtAuth::clock`) and keep one. Tokens are judged by it: `exp`, `nbf` and `iat`. How old *keys* are
/// is measured by tokio's clock, which `tokio::time::pause` stops, and by the system's.
///
/// ```
/// use std::time::Duration;
///
/// use countersign_claims::{Clock as _, UnixTime};
/// use countersign_testkit::ManualClock;
///
/// let clock = ManualClock::new(UnixTime::from_secs(1_800_000_000));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), UnixTime::from_secs(1_800_000_060));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<UnixTime>>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: UnixTime) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// A clock that shows what the system's clock shows at this moment, and stands.
    #[must_use]
    pub fn stopped_now() -> Self {
        Self::new(SystemTime::now().into())
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.change(|now| now.saturating_add(by));
    }

    /// Moves the clock back, as an administrator or NTP may do.
    pub fn turn_back(&self, by: Duration) {
        self.change(|now| now.saturating_sub(by));
    }

    /// Sets the clock.
    pub fn set(&self, now: UnixTime) {
        self.change(|_| now);
    }

    fn change(&self, change: impl FnOnce(UnixTime) -> UnixTime) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = change(*now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
