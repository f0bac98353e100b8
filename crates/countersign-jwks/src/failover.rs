//! One place after the other, until one answers.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use crate::load::{Landing, Load, Loading, Look};

/// Looks at the first place; at the next ones only if those before fail and there are no fresh keys that they could spoil.
pub(crate) struct Failover(Vec<Arc<dyn Load>>);

impl Failover {
    pub(crate) fn new(places: Vec<Arc<dyn Load>>) -> Self {
        Self(places)
    }

    async fn look(&self, look: Look) -> Landing {
        let deadline = Instant::now() + look.timeout;
        let (mut errors, mut retry_after) = (Vec::new(), None);
        for (index, place) in self.0.iter().enumerate() {
            if index > 0 && look.has_fresh_keys {
                break;
            }
            // Each gets an equal share of what is left: one that hangs must not use up the time of the next.
            let left = deadline.saturating_duration_since(Instant::now());
            let places_left = u32::try_from(self.0.len() - index).unwrap_or(u32::MAX);
            let share = if look.has_fresh_keys { left } else { left / places_left };
            let landing = timeout(share, place.load(Look { timeout: share, ..look.clone() })).await;
            match landing.unwrap_or_else(|_| Landing::failed("timed out")) {
                Landing::Failed { error, retry_after: wish } => {
                    errors.push(error);
                    // Of several wishes the first place's: it is the one that is asked first again.
                    retry_after = retry_after.or(wish);
                }
                landing => return landing,
            }
        }
        Landing::Failed { error: errors.join("; then: "), retry_after }
    }
}

impl Load for Failover {
    fn load(&self, look: Look) -> Loading<'_> {
        Box::pin(self.look(look))
    }
}
