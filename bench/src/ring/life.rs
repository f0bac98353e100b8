//! A ring at work on a clock that passes as soon as nobody has anything to do.

use std::ops::Sub;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::claims::UnixTime;
use countersign_issuer::{
    Clock, JwksHeaders, Kek, KekRing, KeyStore, Now, Ring, RingConfig, StoreFuture, StoreTime, Stored, Version,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

use crate::Failure;

/// How often is looked whether something has happened.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Life {
    /// The task of the ring is in it, and ends with it.
    runtime: Runtime,
    ring: Ring,
    store: Arc<Counted>,
}

impl Life {
    /// A ring that has begun to sign.
    pub(super) fn begin(config: RingConfig, store: Arc<dyn KeyStore>) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let store = Arc::new(Counted { store, written: Mutex::default() });
        let ring = runtime.block_on(async {
            let clock = TokioClock(Instant::now());
            let keks = KekRing::new([Kek::random()?])?;
            let ring = Ring::builder("https://issuer.example", config, Arc::<Counted>::clone(&store), keks);
            let ring = ring.clock(clock).start().await?;
            ring.ready_within(Duration::from_secs(600)).await?;
            Ok::<_, Failure>(ring)
        })?;
        Ok(Self { runtime, ring, store })
    }

    pub(super) fn live(&self, time: Duration) {
        // In the runtime, where the time of the sleep is looked up.
        self.runtime.block_on(async { sleep(time).await });
    }

    /// Looks every so often.
    pub(super) fn watch(&self, time: Duration, every: Duration, mut look: impl FnMut()) {
        self.runtime.block_on(async {
            let begun = Instant::now();
            while begun.elapsed() < time {
                look();
                sleep(every).await;
            }
        });
    }

    /// Until each slot has a standby that this node can sign with, and what was to be published is.
    pub(super) fn settle(&self) {
        self.runtime.block_on(async {
            loop {
                let status = self.ring.status();
                let is_held = |kid: &String| status.keys.get(kid).is_some_and(|key| key.is_held);
                if status.slots.values().all(|slot| slot.standby.as_ref().is_some_and(is_held)) {
                    break;
                }
                sleep(LOOK).await;
            }
        });
    }

    /// How long it takes until all slots sign with their next keys.
    pub(super) fn rotate(&self) -> Result<Duration, Failure> {
        self.runtime.block_on(async {
            let began = std::time::Instant::now();
            let rotated = self.ring.rotate::<String>([]).await?;
            let took = began.elapsed();
            if rotated.later.is_empty() { Ok(took) } else { Err("a slot has no standby".into()) }
        })
    }

    pub(super) fn written(&self) -> Written {
        *self.store.written()
    }

    /// Of the state document as it is.
    pub(super) fn state_bytes(&self) -> usize {
        let stored = self.runtime.block_on(self.store.load_state());
        stored.ok().flatten().map_or(0, |stored| stored.bytes.len())
    }
}

/// The time of tokio, on some day.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let monotonic = self.0.elapsed();
        Now { wall: UnixTime::from_secs(1_800_000_000).saturating_add(monotonic), monotonic }
    }
}

/// What was written, of each kind.
#[derive(Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) states: Writes,
    pub(super) sets: Writes,
    pub(super) privates: Writes,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Writes {
    pub(super) count: f64,
    pub(super) bytes: f64,
}

impl Written {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            states: self.states - before.states,
            sets: self.sets - before.sets,
            privates: self.privates - before.privates,
        }
    }

    /// For each of so many.
    pub(super) fn over(self, many: f64) -> Self {
        let share = |it: Writes| Writes { count: it.count / many, bytes: it.bytes / many };
        Self { states: share(self.states), sets: share(self.sets), privates: share(self.privates) }
    }
}

impl Sub for Writes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { count: self.count - other.count, bytes: self.bytes - other.bytes }
    }
}

/// Counts what is written to a store.
struct Counted {
    store: Arc<dyn KeyStore>,
    written: Mutex<Written>,
}

impl Counted {
    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, of: impl FnOnce(&mut Written) -> &mut Writes, bytes: &[u8]) {
        let mut written = self.written();
        let writes = of(&mut written);
        writes.count += 1.0;
        writes.bytes += bytes.len() as f64;
    }
}

impl KeyStore for Counted {
    fn load_state(&self) -> StoreFuture<'_, Option<Stored>> {
        self.store.load_state()
    }

    fn swap_state<'a>(&'a self, expected: Option<&'a Version>, state: &'a [u8]) -> StoreFuture<'a, Version> {
        self.count(|written| &mut written.states, state);
        self.store.swap_state(expected, state)
    }

    fn put_private<'a>(&'a self, kid: &'a str, sealed: &'a [u8]) -> StoreFuture<'a, Version> {
        self.count(|written| &mut written.privates, sealed);
        self.store.put_private(kid, sealed)
    }

    fn replace_private<'a>(
        &'a self,
        kid: &'a str,
        expected: &'a Version,
        sealed: &'a [u8],
    ) -> StoreFuture<'a, Version> {
        self.count(|written| &mut written.privates, sealed);
        self.store.replace_private(kid, expected, sealed)
    }

    fn get_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, Stored> {
        self.store.get_private(kid)
    }

    fn destroy_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, ()> {
        self.store.destroy_private(kid)
    }

    fn list_private(&self) -> StoreFuture<'_, Vec<String>> {
        self.store.list_private()
    }

    fn load_jwks(&self) -> StoreFuture<'_, Option<Stored>> {
        self.store.load_jwks()
    }

    fn publish_jwks<'a>(
        &'a self,
        expected: Option<&'a Version>,
        jwks: &'a [u8],
        headers: JwksHeaders<'a>,
    ) -> StoreFuture<'a, Version> {
        self.count(|written| &mut written.sets, jwks);
        self.store.publish_jwks(expected, jwks, headers)
    }

    fn probe(&self) -> StoreFuture<'_, ()> {
        self.store.probe()
    }

    fn time(&self) -> StoreFuture<'_, Option<StoreTime>> {
        self.store.time()
    }
}
