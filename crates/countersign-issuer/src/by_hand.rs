//! A ring without a store and without a task: whoever tests or measures what reads a ring says what its state is. Not
//! for services, whose keys would never rotate.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_claims::UnixTime;
use countersign_token::{JwkSet, KeySet, Origin, SigningKey};

use crate::config::RingConfig;
use crate::desk::{Desk, Shared};
use crate::mint::Minter;
use crate::ring::Door;
use crate::serve::JwksService;
use crate::signer::Signer;
use crate::source::RingKeys;
use crate::state::{Halt, JwkError, Key, KeyState, PublicJwk, RingState, SlotMode, SlotState, Terms};
use crate::step::{Effect, Event, Loaded, Node, OpenFailure, Role, step};
use crate::store::Version;
use crate::time::{Clock, Now};

/// See the module.
pub struct RingByHand {
    shared: Arc<Shared>,
}

impl RingByHand {
    /// With nothing read yet.
    #[must_use]
    pub fn new(issuer: &str, config: RingConfig, clock: impl Clock) -> Self {
        let view = Node::new(1, Role::Signer).signing_view(&config);
        let desk = Desk::new(&config, view, HashMap::new(), None, Arc::default());
        Self {
            shared: Arc::new(Shared {
                issuer: issuer.into(),
                config,
                clock: Arc::new(clock),
                desk: ArcSwap::from_pointee(desk),
                door: Door::closed(),
            }),
        }
    }

    /// From now on this is the state, read just now, and these are the signers that the node has.
    pub fn show(&self, ring: RingState, signers: impl IntoIterator<Item = (String, Arc<dyn Signer>)>) {
        let Shared { issuer, config, clock, desk, .. } = &*self.shared;
        let signers: HashMap<_, _> = signers.into_iter().collect();
        let ring = Arc::new(ring);
        let node = looking(config, clock.now(), &ring, &signers);
        let before = desk.load_full();
        let keys = keys(&ring, issuer, &before.keys);
        desk.store(Arc::new(Desk::new(config, node.signing_view(config), signers, Some(ring), Arc::new(keys))));
    }

    /// The same with signers that are keys in memory: those of the keys that are in the state.
    ///
    /// # Errors
    /// As of [`state`].
    pub fn show_keys<'a>(
        &self,
        keys: impl IntoIterator<Item = (&'a str, KeyState, &'a Arc<SigningKey>)>,
    ) -> Result<(), JwkError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let now = self.shared.clock.now().wall;
        let ring = state(&self.shared.config, now, keys.iter().map(|(slot, state, key)| (*slot, *state, &***key)))?;
        let signers = keys.into_iter().filter_map(|(_, _, key)| {
            let signer: Arc<dyn Signer> = Arc::<SigningKey>::clone(key);
            Some((key.kid()?.to_owned(), signer))
        });
        self.show(ring, signers);
        Ok(())
    }

    /// What signs by it.
    #[must_use]
    pub fn minter(&self) -> Minter {
        Minter::new(Arc::clone(&self.shared))
    }

    /// What verifies by it.
    #[must_use]
    pub fn keys(&self) -> RingKeys {
        RingKeys::new(Arc::clone(&self.shared))
    }

    /// What serves it.
    #[must_use]
    pub fn jwks(&self) -> JwksService {
        JwksService::new(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for RingByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signers = self.shared.desk.load().signers.len();
        f.debug_struct("RingByHand")
            .field("issuer", &self.shared.issuer)
            .field("signers", &signers)
            .finish_non_exhaustive()
    }
}

/// A clock that somebody sets.
#[derive(Clone, Debug)]
pub struct ClockByHand(Arc<Mutex<Now>>);

impl ClockByHand {
    /// Stands at `wall`.
    #[must_use]
    pub fn new(wall: UnixTime) -> Self {
        Self(Arc::new(Mutex::new(Now { wall, monotonic: Duration::from_secs(1_000) })))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.change(|now| {
            *now = Now { wall: now.wall.saturating_add(by), monotonic: now.monotonic.saturating_add(by) }
        });
    }

    /// Sets the wall clock, as an administrator does.
    pub fn set(&self, wall: UnixTime) {
        self.change(|now| now.wall = wall);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Now) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for ClockByHand {
    fn now(&self) -> Now {
        self.change(|now| *now)
    }
}

/// A state with these keys, each with its slot and how far it has come. A slot without an active key is halted. `now`
/// is when all of it happened.
///
/// # Errors
/// That a key has no name, or no public part.
pub fn state<'a>(
    config: &RingConfig,
    now: UnixTime,
    keys: impl IntoIterator<Item = (&'a str, KeyState, &'a SigningKey)>,
) -> Result<RingState, JwkError> {
    let mut ring = RingState::empty(Terms::from(&config.timing));
    (ring.seq, ring.set_seq, ring.written_at) = (1, 1, now);
    for slot in &config.slots {
        let mode = SlotMode::Halted { reason: Halt::Starting, sign_at_once: false };
        let max_lifetime = config.max_lifetime(slot);
        ring.slots.insert(slot.name.clone(), SlotState { mode, rotate_requested: false, max_lifetime });
    }
    for (slot, state, key) in keys {
        let jwk = PublicJwk::new(&key.public_jwk().map_err(|_| JwkError::NotStrings)?)?;
        if let Some(slot) = ring.slots.get_mut(slot).filter(|_| state == KeyState::Active) {
            slot.mode = SlotMode::Running;
        }
        ring.keys.insert(jwk.kid().to_owned(), entry(slot, state, jwk, now));
    }
    Ok(ring)
}

fn entry(slot: &str, state: KeyState, jwk: PublicJwk, now: UnixTime) -> Key {
    Key {
        slot: slot.to_owned(),
        jwk,
        state,
        maker: String::new(),
        is_known: true,
        announced_at: now,
        confirmed_at: Some(now),
        activated_at: matches!(state, KeyState::Active | KeyState::Retiring).then_some(now),
        deactivated_at: (state == KeyState::Retiring).then_some(now),
        ended_at: state.is_terminal().then_some(now),
        promised_until: None,
        remove_at: None,
        destroyed: state.is_terminal(),
    }
}

/// A node that has just read this state and has these signers.
fn looking(config: &RingConfig, now: Now, ring: &Arc<RingState>, signers: &HashMap<String, Arc<dyn Signer>>) -> Node {
    let mut node = Node::new(1, Role::Signer);
    let mut events = vec![Event::Tick];
    while let Some(event) = events.pop() {
        let (next, effects) = step(config, node, now, event);
        node = next;
        events.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Load => {
                let state = Some((Arc::clone(ring), Version::new("1")));
                Some(Event::Loaded(Ok(Loaded { state, store_time: None })))
            }
            Effect::Open { kid, .. } => {
                let result = if signers.contains_key(&kid) { Ok(()) } else { Err(OpenFailure::Unavailable) };
                Some(Event::Opened { kid, result })
            }
            _ => None,
        }));
    }
    node
}

fn keys(ring: &RingState, issuer: &str, before: &KeySet) -> KeySet {
    let keys: Vec<_> = ring.published().map(|(_, key)| BTreeMap::from(key.jwk.clone())).collect();
    let document = serde_json::to_vec(&BTreeMap::from([("keys", keys)])).unwrap_or_default();
    let keys = JwkSet::parse(&document, Origin::Remote).map(JwkSet::into_key_set).unwrap_or_default();
    let keys = keys.bound_to_issuer(issuer).succeeding(before);
    keys.with_generation(before.generation() + 1)
}
