//! One store, one clock, and what a verifier makes of what is published.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_issuer::state::{KeyState, RingState};
use countersign_issuer::step::Alarm;
use countersign_issuer::{Clock, MemoryStore, Now, Ring, RingBuilder, RingConfig, RingEvent, RingStatus, Slot};
use countersign_token::{Algorithm, KeySet};
use tokio::time::{Instant, sleep};

use crate::tokens::try_token;
pub(crate) use crate::tokens::{ISSUER, Token, fetched, keks, read_state, verifies};

/// When the world begins, by all clocks.
const EPOCH: i64 = 1_800_000_000;

/// How often is looked whether something has happened.
const LOOK: Duration = Duration::from_secs(1);

/// The time of tokio, which tests stop.
#[derive(Clone, Copy)]
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn wall(&self) -> UnixTime {
        UnixTime::from_secs(EPOCH).saturating_add(self.0.elapsed())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Now {
        Now { wall: self.wall(), monotonic: self.0.elapsed() }
    }
}

/// One slot, whose keys rotate every two hours.
pub(crate) fn config() -> RingConfig {
    let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    config.timing.rotation = Duration::from_secs(2 * 3_600);
    config.timing.overlap = Duration::from_secs(3 * 3_600);
    config
}

/// The same, and a slot beside it.
pub(crate) fn two_slots() -> RingConfig {
    let mut config = config();
    config.slots.push(Slot::new("ed25519", Algorithm::Ed25519));
    config
}

/// A store, and the events of all nodes on it.
pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) clock: TokioClock,
    pub(crate) events: Arc<Mutex<Vec<RingEvent>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = TokioClock(Instant::now());
        let store = MemoryStore::new().with_clock(move || clock.wall());
        Self { store, clock, events: Arc::default() }
    }

    pub(crate) fn builder(&self, config: RingConfig) -> RingBuilder {
        let events = Arc::clone(&self.events);
        Ring::builder(ISSUER, config, Arc::new(self.store.clone()), keks())
            .clock(self.clock)
            .on_event(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub(crate) async fn start(&self, config: RingConfig) -> Ring {
        self.builder(config).start().await.unwrap()
    }

    /// A node that signs, and has a standby in each slot, and its private part in memory.
    pub(crate) async fn settled(&self, config: RingConfig) -> Ring {
        let ring = self.start(config).await;
        settle(&ring).await;
        ring
    }

    pub(crate) fn state(&self) -> RingState {
        read_state(&self.store.state().unwrap())
    }

    pub(crate) fn jwks(&self) -> Vec<u8> {
        self.store.jwks().unwrap()
    }

    /// The alarms that were raised, whether they are over or not.
    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        let events = self.events.lock().unwrap();
        let alarms = events.iter().filter_map(|event| match event {
            RingEvent::Alarm(alarm) => Some(alarm.clone()),
            _ => None,
        });
        alarms.collect()
    }

    pub(crate) fn active(&self, slot: &str) -> String {
        self.state().active(slot).unwrap().0.clone()
    }
}

/// Waits until the node signs, and has a standby in each slot, and what it takes to sign with it.
pub(crate) async fn settle(ring: &Ring) {
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    let is_held = |status: &RingStatus, kid: &String| status.keys.get(kid).is_some_and(|key| key.is_held);
    until(ring, |status| {
        status.slots.values().all(|slot| slot.standby.as_ref().is_some_and(|kid| is_held(status, kid)))
    })
    .await;
}

/// Waits until it is so, for a day at most.
pub(crate) async fn until(ring: &Ring, is_so: impl Fn(&RingStatus) -> bool) {
    let begun = Instant::now();
    while !is_so(&ring.status()) {
        assert!(begun.elapsed() < Duration::from_secs(86_400), "it never is: {:#?}", ring.status());
        sleep(LOOK).await;
    }
}

/// A token of that slot, as good as it may be.
pub(crate) fn token(ring: &Ring, slot: &str) -> Token {
    try_token(ring, slot).unwrap()
}

/// What verifiers may have in their caches: every set that was published, and until when it was the newest.
pub(crate) struct Caches {
    age: Duration,
    sets: VecDeque<(Option<UnixTime>, Vec<u8>, KeySet)>,
}

impl Caches {
    /// No cache is older than that.
    pub(crate) fn new(age: Duration) -> Self {
        Self { age, sets: VecDeque::new() }
    }

    pub(crate) fn see(&mut self, jwks: Vec<u8>, now: UnixTime) {
        if self.sets.back().is_some_and(|(_, known, _)| *known == jwks) {
            return;
        }
        if let Some((replaced, _, _)) = self.sets.back_mut() {
            *replaced = Some(now);
        }
        let keys = fetched(&jwks);
        assert!(!keys.is_empty());
        self.sets.push_back((None, jwks, keys));
        let oldest = now.saturating_sub(self.age);
        self.sets.retain(|(replaced, _, _)| replaced.is_none_or(|at| at >= oldest));
    }

    /// Every set that somebody may verify by.
    pub(crate) fn possible(&self, now: UnixTime) -> impl Iterator<Item = &KeySet> {
        let oldest = now.saturating_sub(self.age);
        let possible = self.sets.iter().filter(move |(replaced, _, _)| replaced.is_none_or(|at| at >= oldest));
        possible.map(|(_, _, keys)| keys)
    }

    /// Every token that has not expired by `now` verifies by every set that somebody may have; those that have are let go.
    #[track_caller]
    pub(crate) fn assert_accept(&self, tokens: &mut Vec<Token>, now: UnixTime) {
        tokens.retain(|token| token.exp > now);
        for keys in self.possible(now) {
            for token in &*tokens {
                assert!(verifies(token, keys), "{token:?} is refused at {now:?}");
            }
        }
    }
}

/// Signs and verifies for as long as that: every token that has not expired verifies by every set that somebody may
/// have. Returns the keys that have signed, in the order in which they began.
pub(crate) async fn live(world: &World, rings: &[&Ring], slots: &[&str], time: Duration) -> Vec<String> {
    const PACE: Duration = Duration::from_secs(60);
    let config = config();
    let mut caches = Caches::new(config.timing.cache_bound());
    let mut tokens: Vec<Token> = Vec::new();
    let mut signed = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let now = world.clock.wall();
        caches.see(world.jwks(), now);
        for (ring, slot) in rings.iter().flat_map(|ring| slots.iter().map(move |slot| (ring, slot))) {
            let token = token(ring, slot);
            if !signed.contains(&token.kid) {
                signed.push(token.kid.clone());
            }
            tokens.push(token);
        }
        caches.assert_accept(&mut tokens, now);
        sleep(PACE).await;
    }
    signed
}

pub(crate) fn in_state(status: &RingStatus, state: KeyState) -> Vec<String> {
    status.keys.iter().filter(|(_, key)| key.state == state).map(|(kid, _)| kid.clone()).collect()
}
