//! A look at files, and noticing when they change.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Local;
use super::files::{CHANGED, Survey, fault};
use crate::load::{Landing, Load, Loading, Look};

/// How often somebody looks whether files have changed: often enough that nobody waits for it, and seldom enough that a disk does
/// not notice. It costs one `stat` for each file.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// For how long after a write another one may leave the same times behind: file systems count in steps of up to that (FAT).
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How long a file that was written a moment ago must have been left alone after it was read, or it counts as half written: longer than
/// an editor or `cp` pauses between two writes, and short beside the two seconds that a request waits for a key.
const QUIET: Duration = Duration::from_millis(100);

pub(super) struct Watched {
    local: Arc<Local>,
    /// What the last look saw.
    seen: Mutex<Option<Seen>>,
    /// File systems may hang for ever (NFS), and threads with them: one, whatever happens.
    turn: Arc<Semaphore>,
}

struct Seen {
    survey: Survey,
    /// Whether a later change would show.
    is_settled: bool,
}

impl Watched {
    pub(super) fn new(local: Local) -> Self {
        Self { local: Arc::new(local), seen: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }

    async fn look(&self) -> Landing {
        self.try_look().await.unwrap_or_else(Landing::failed)
    }

    async fn try_look(&self) -> Result<Landing, String> {
        let now = SystemTime::now();
        let (survey, document) = self
            .off_thread(|local| {
                let survey = local.survey();
                let document = survey.as_deref().map_err(Clone::clone).and_then(|found| local.read(found));
                (survey, document)
            })
            .await?;
        let is_fresh = survey.iter().flatten().any(|found| found.is_fresh(now, SETTLED_AFTER));
        // Whatever comes of it: what has failed will not go better until it changes, or until the plan thinks that it might.
        self.saw(Seen { survey: survey.clone(), is_settled: !is_fresh });
        let document = document?;
        if is_fresh {
            sleep(QUIET).await;
        }
        if self.off_thread(Local::survey).await? != survey {
            return Err(fault(&self.local.path, CHANGED));
        }
        // A file says nothing about how long it is good for.
        Ok(Landing::Fetched(Box::new(document), Box::default()))
    }

    /// Ends when what is there is not what the last look saw, or when that look came too early to tell.
    async fn until_changed(&self) {
        loop {
            sleep(POLL_INTERVAL).await;
            let Ok(survey) = self.off_thread(Local::survey).await else { continue };
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.as_ref().is_some_and(|seen| !seen.is_settled || seen.survey != survey) {
                return;
            }
        }
    }

    fn saw(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Local) -> T + Send + 'static,
    ) -> Result<T, String> {
        const GIVEN_UP: &str = "the work was given up";
        // Whoever waits here waits until his time is up.
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| GIVEN_UP)?;
        let local = Arc::clone(&self.local);
        let work = tokio::task::spawn_blocking(move || {
            // Only now, and not when somebody has lost patience.
            let _turn = turn;
            work(&local)
        });
        work.await.map_err(|_| GIVEN_UP.into())
    }
}

impl Load for Watched {
    fn load(&self, _: Look) -> Loading<'_> {
        Box::pin(self.look())
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.until_changed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn one_thread_at_most_is_stuck_in_a_file_system_that_hangs() {
        let watched = Watched::new(Local::jwks("/nowhere"));
        let (begun, has_begun) = mpsc::channel();
        let (release, hang) = mpsc::channel::<()>();
        let hanging = {
            let begun = begun.clone();
            watched.off_thread(move |_| {
                begun.send(1).unwrap();
                hang.recv()
            })
        };
        // Somebody loses patience; the thread does not.
        tokio::select! { biased; _ = hanging => panic!("it hangs"), () = yield_now() => {} }
        assert_eq!(has_begun.recv(), Ok(1));
        let mut next = Box::pin(watched.off_thread(move |_| begun.send(2)));
        for _ in 0..100 {
            tokio::select! { biased; _ = &mut next => panic!("it waits"), () = yield_now() => {} }
        }
        assert_eq!(has_begun.try_recv(), Err(mpsc::TryRecvError::Empty));
        release.send(()).unwrap();
        next.await.unwrap().unwrap();
        assert_eq!(has_begun.recv(), Ok(2));
        // Nor does a panic keep the turn.
        assert!(watched.off_thread(|_| -> () { panic!("as it happens") }).await.is_err());
        assert_eq!(watched.off_thread(|_| 3).await, Ok(3));
    }
}
