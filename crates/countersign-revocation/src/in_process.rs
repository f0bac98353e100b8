use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_claims::revocation::{Entry, Published, Publishing, RevocationSink, SinkError};

use crate::feed::Feed;
use crate::intake::Intake;

/// A feed within a process: what is [published](RevocationSink::publish) to it is in force in every list that follows it. That is done when
/// `publish` returns, and what it returns need not be waited for. Clones are the same feed.
///
/// It remembers nothing: **lists follow it before anything is published.** One that comes later has missed something, so it is
/// [incomplete](crate::ListStatus::incomplete). With no list there is nowhere to publish to, which is [`SinkError::Unavailable`].
///
/// Of several lists each takes all or none: when `publish` fails, those that have room have taken it.
#[derive(Clone, Default)]
pub struct InProcess(Arc<Mutex<Followers>>);

#[derive(Default)]
struct Followers {
    intakes: Vec<Intake>,
    /// Something has been published.
    has_begun: bool,
}

impl InProcess {
    /// One that no list follows yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nobody panics with it.
    fn lock(&self) -> MutexGuard<'_, Followers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_now(&self, entries: &[Entry]) -> Result<(), SinkError> {
        // It is held to the end, so that no list begins to follow and misses this.
        let mut followers = self.lock();
        followers.intakes.retain(Intake::is_wanted);
        if followers.intakes.is_empty() {
            return Err(SinkError::Unavailable("no list follows".into()));
        }
        followers.has_begun = true;
        // Those that have room take it, although another has not; the first failure is the answer.
        followers.intakes.iter().map(|intake| intake.add(entries, None)).fold(Ok(()), Result::and)
    }
}

impl Feed for InProcess {
    fn name(&self) -> Cow<'static, str> {
        "in process".into()
    }

    fn start(self, intake: Intake) {
        let mut followers = self.lock();
        intake.confirm_always();
        if followers.has_begun {
            intake.failed("something was published before this list followed");
            intake.overflowed();
        }
        followers.intakes.push(intake);
    }
}

impl RevocationSink for InProcess {
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing {
        let done = self.publish_now(&entries);
        Box::pin(std::future::ready(done.map(|()| Published::within(Duration::ZERO))))
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("lists", &self.lock().intakes.len()).finish()
    }
}
