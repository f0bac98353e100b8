use std::time::SystemTime;

use countersign_claims::{Clock, UnixTime};

/// The operating system's clock: what a layer uses unless told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        SystemTime::now().into()
    }
}
