//! Nodes around a store that does as it is told, at once.

use super::*;
use crate::publication::Found;

/// Which effects fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Load,
    Save,
    Publish,
    ReadBack,
    Seal,
    Destroy,
    Push,
}

pub(super) struct Bench {
    pub(super) config: RingConfig,
    pub(super) nodes: Vec<Node>,
    pub(super) now: u64,
    /// By how much the wall clock of a node is off, seconds.
    pub(super) offset: i64,
    pub(super) state: Option<(Arc<RingState>, u64)>,
    pub(super) set: Option<(Arc<[u8]>, u64)>,
    pub(super) privates: BTreeSet<String>,
    pub(super) failing: BTreeMap<Kind, Failure>,
    /// What reading a private part says, if not what is so.
    pub(super) opening: Option<OpenFailure>,
    /// Saves that land and are answered with this.
    pub(super) lying: Option<Failure>,
    pub(super) replies: Vec<Reply>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) pushed: Vec<String>,
    pub(super) generated: u32,
    /// After so many effects a node dies before it has done the next, or after.
    pub(super) dies: Option<(u32, bool)>,
    pub(super) effects: u32,
    versions: u64,
}

impl Bench {
    pub(super) fn new(config: RingConfig, nodes: u128) -> Self {
        config.check().unwrap();
        Self {
            config,
            nodes: (1..=nodes).map(|seed| Node::new(seed << 64, Role::Rotator)).collect(),
            now: 1_000,
            offset: 0,
            state: None,
            set: None,
            privates: BTreeSet::new(),
            failing: BTreeMap::new(),
            opening: None,
            lying: None,
            replies: Vec::new(),
            alarms: Vec::new(),
            pushed: Vec::new(),
            generated: 0,
            dies: None,
            effects: 0,
            versions: 0,
        }
    }

    /// A ring that has run for long enough to have a key that signs and one on standby.
    pub(super) fn running(nodes: u128) -> Self {
        let mut bench = Self::new(RingConfig::new([Slot::new("es256", Algorithm::Es256)]), nodes);
        bench.pass(900);
        assert!(bench.kid(KeyState::Active).is_some() && bench.kid(KeyState::Standby).is_some(), "{:?}", bench.ring());
        bench
    }

    pub(super) fn clock(&self) -> Now {
        let wall = UnixTime::from_secs(1_800_000_000 + self.now as i64 + self.offset);
        Now { wall, monotonic: Duration::from_secs(self.now) }
    }

    pub(super) fn ring(&self) -> &RingState {
        &self.state.as_ref().unwrap().0
    }

    pub(super) fn kid(&self, state: KeyState) -> Option<String> {
        self.ring().keys.iter().find(|(_, key)| key.state == state).map(|(kid, _)| kid.clone())
    }

    pub(super) fn published(&self) -> Vec<String> {
        Found::read(&self.set.as_ref().unwrap().0).unwrap().kids
    }

    /// So many seconds, in each of which every node looks at its clock.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            for index in 0..self.nodes.len() {
                self.feed(index, Event::Tick);
            }
        }
    }

    pub(super) fn command(&mut self, command: Command) -> Reply {
        let id = self.replies.len() as u64;
        self.feed(0, Event::Command { id, command });
        self.pass(1);
        assert_eq!(self.replies.len() as u64, id + 1, "no reply");
        self.replies[id as usize].clone()
    }

    pub(super) fn signs(&self, index: usize) -> Result<String, NotSigning> {
        let view = self.nodes[index].signing_view(&self.config);
        view.leave("es256", self.clock()).map(|leave| leave.kid.to_owned())
    }

    pub(super) fn feed(&mut self, index: usize, event: Event) {
        let mut events = VecDeque::from([event]);
        let mut steps = 0;
        while let Some(event) = events.pop_front() {
            steps += 1;
            assert!(steps < 1_000, "no end of it: {event:?}");
            let node = self.nodes[index].clone();
            let (node, effects) = step(&self.config, node, self.clock(), event);
            self.nodes[index] = node;
            for effect in effects {
                if !matches!(effect, Effect::Wake(_) | Effect::Note(_) | Effect::Load) {
                    self.effects += 1;
                }
                if let Some((_, does_it)) = self.dies.filter(|(at, _)| *at == self.effects) {
                    self.dies = None;
                    if does_it {
                        let _ = self.execute(effect);
                    }
                    self.nodes[index] = Node::new(u128::from(1_000 + self.now) << 64, Role::Rotator);
                    return;
                }
                events.extend(self.execute(effect));
            }
        }
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        let version = |number: u64| Version::new(number.to_string());
        let fails = |kind: Kind| self.failing.get(&kind).copied();
        Some(match effect {
            Effect::Load => Event::Loaded(match fails(Kind::Load) {
                Some(failure) => Err(failure),
                None => {
                    let state = self.state.as_ref().map(|(state, number)| (state.clone(), version(*number)));
                    let store_time = Some(UnixTime::from_secs(1_800_000_000 + self.now as i64));
                    Ok(Loaded { state, store_time })
                }
            }),
            Effect::Save { state, expected } => {
                if let Some(failure) = fails(Kind::Save) {
                    return Some(Event::Saved(Err(failure)));
                }
                if self.state.as_ref().map(|(_, number)| version(*number)) != expected {
                    return Some(Event::Saved(Err(Failure::Conflict)));
                }
                self.versions += 1;
                self.state = Some((state, self.versions));
                Event::Saved(self.lying.map_or(Ok(version(self.versions)), Err))
            }
            Effect::Generate { slot } => {
                self.generated += 1;
                let jwk = serde_json::json!({ "kid": format!("{slot}-{}", self.generated), "kty": "EC" });
                Event::Generated { slot, key: Some(PublicJwk::new(&jwk).unwrap()) }
            }
            Effect::ReadPublished => {
                Event::PublishedRead(Ok(self.set.as_ref().map(|(bytes, number)| (bytes.clone(), version(*number)))))
            }
            Effect::Publish { publication, expected } => {
                if let Some(failure) = fails(Kind::Publish) {
                    return Some(Event::Published(Err(failure)));
                }
                if self.set.as_ref().map(|(_, number)| version(*number)) != expected {
                    return Some(Event::Published(Err(Failure::Conflict)));
                }
                self.versions += 1;
                self.set = Some((publication.bytes, self.versions));
                Event::Published(Ok(version(self.versions)))
            }
            Effect::ReadBack => Event::ReadBack(match fails(Kind::ReadBack) {
                Some(failure) => Err(failure),
                None => Ok(self.set.as_ref().unwrap().0.clone()),
            }),
            Effect::Seal { kid } => {
                let failure = fails(Kind::Seal);
                if failure.is_none() {
                    self.privates.insert(kid.clone());
                }
                Event::Sealed { kid, result: failure.map_or(Ok(()), Err) }
            }
            Effect::Open { kid, .. } => {
                let is_there = self.privates.contains(&kid);
                let result = self.opening.map_or(if is_there { Ok(()) } else { Err(OpenFailure::NotFound) }, Err);
                Event::Opened { kid, result }
            }
            Effect::Destroy { kid } => {
                let failure = fails(Kind::Destroy);
                if failure.is_none() {
                    self.privates.remove(&kid);
                }
                Event::Destroyed { kid, result: failure.map_or(Ok(()), Err) }
            }
            Effect::ListSealed => Event::SealedListed(Ok(self.privates.iter().cloned().collect())),
            Effect::PushRevocation { kid, .. } => {
                let is_done = fails(Kind::Push).is_none();
                if is_done {
                    self.pushed.push(kid.clone());
                }
                Event::RevocationPushed { kid, is_done }
            }
            Effect::Reply { reply, .. } => {
                self.replies.push(reply);
                return None;
            }
            Effect::Alarm(alarm) => {
                self.alarms.push(alarm);
                return None;
            }
            _ => return None,
        })
    }
}
