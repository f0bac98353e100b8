//! What one world is like: its quantities, its population, its misfortunes.

use std::time::Duration;

use countersign_issuer::step::Rule;
use countersign_issuer::{RingConfig, Slot};
use countersign_token::Algorithm;

use crate::random::Random;

/// How often things go wrong, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Odds {
    /// A request is not carried out, and the answer says so.
    pub(crate) refused: u64,
    /// The answer is lost.
    pub(crate) lost: u64,
    /// A success is answered with a conflict.
    pub(crate) own_conflict: u64,
    /// A request is not carried out, and is answered with a conflict nevertheless.
    pub(crate) undecided: u64,
    /// A request takes long, to the store or from it.
    pub(crate) slow: u64,
    /// A process dies before or after an effect.
    pub(crate) crash: u64,
    /// A process, or its rotating task alone, stands still after a step.
    pub(crate) pause: u64,
}

pub(crate) struct Scene {
    /// By fleet.
    pub(crate) configs: Vec<RingConfig>,
    pub(crate) rotators: u64,
    pub(crate) signers: u64,
    pub(crate) verifiers: u64,
    pub(crate) odds: Odds,
    /// Until when things go wrong, milliseconds; then there is time to recover.
    pub(crate) trouble_until: u64,
    pub(crate) end: u64,
    /// How long after a publication the set is readable anywhere at all, at most, as long as something is wrong.
    pub(crate) longest_stall: u64,
    pub(crate) has_bad_clocks: bool,
    pub(crate) loses_privates: bool,
    pub(crate) has_commands: bool,
}

impl Scene {
    pub(crate) fn new(random: &mut Random) -> Self {
        let first = config(random);
        let mut configs = vec![first.clone()];
        if random.in_1000(250) {
            configs.push(another_fleet(&first, random));
        }
        for config in &configs {
            config.check().unwrap();
        }
        let (rotation, settling) = (millis(first.timing.rotation), settling(&configs));
        let trouble_until = rotation * random.between(2, 4);
        Self {
            rotators: random.between(1, 4),
            signers: random.below(4),
            verifiers: random.between(1, 5),
            odds: odds(random),
            trouble_until,
            end: trouble_until + settling + rotation,
            longest_stall: if random.in_1000(400) { random.any_length(200_000) } else { 200 },
            has_bad_clocks: random.in_1000(200),
            loses_privates: random.in_1000(150),
            has_commands: random.in_1000(500),
            configs,
        }
    }
}

impl Scene {
    /// A rule that matters only in rare trouble is given some, so that few worlds are needed to see it broken.
    pub(crate) fn provoke(&mut self, rule: Option<Rule>) {
        match rule {
            Some(Rule::OnlyMissingRotates) => {
                (self.odds.refused, self.odds.crash) = (self.odds.refused.max(150), self.odds.crash.max(15));
            }
            // One that stands still with a write in its hands, and nobody who does it meanwhile.
            Some(Rule::DeactivationIsSeen) => {
                (self.rotators, self.signers, self.odds.pause) = (1, self.signers.max(1), self.odds.pause.max(30));
            }
            Some(Rule::ReadBack) => self.longest_stall = self.longest_stall.max(60_000),
            Some(Rule::PublishIsConditional) => self.odds.slow = self.odds.slow.max(60),
            _ => {}
        }
    }
}

fn config(random: &mut Random) -> RingConfig {
    let names = ["es256", "ed25519", "rs256"];
    let algorithms = [Algorithm::Es256, Algorithm::Ed25519, Algorithm::Rs256];
    let count = *random.one_of(&[1, 1, 2, 3]);
    let slots = names.iter().zip(algorithms).take(count).map(|(name, algorithm)| Slot::new(*name, algorithm));
    let mut config = RingConfig::new(slots);
    let timing = &mut config.timing;
    let seconds = |random: &mut Random, low, high| Duration::from_secs(random.between(low, high));
    timing.max_age = seconds(random, 4, 20);
    timing.intermediary = timing.max_age;
    timing.publish_lag = Duration::from_millis(random.between(0, 3_000));
    timing.clock_error = seconds(random, 2, 12);
    timing.leeway = seconds(random, 0, 4);
    timing.max_lifetime = seconds(random, 5, 30);
    timing.tick = Duration::from_millis(random.between(1_000, 2_500));
    timing.publish = Duration::from_secs(1);
    timing.keygen = Duration::from_secs(1);
    timing.lease = timing.tick + timing.publish + Duration::from_millis(random.between(500, 4_000));
    let floor = timing.announcement() + timing.tick + timing.keygen + timing.publish;
    timing.rotation = floor + Duration::from_millis(random.between(0, 20_000));
    timing.overlap = timing.lease + timing.max_lifetime + timing.leeway + timing.clock_error * 2;
    timing.overlap += Duration::from_secs(*random.one_of(&[0, 0, 5]));
    timing.heartbeat = Duration::from_secs(60);
    timing.hard_limit = timing.rotation * 20;
    timing.orphan = timing.max_age + timing.publish_lag + timing.clock_error + timing.tick + timing.publish;
    timing.orphan += Duration::from_secs(random.between(2, 10));
    config
}

/// Blue and green: the other fleet has longer quantities where two fleets may differ, or shorter ones.
fn another_fleet(first: &RingConfig, random: &mut Random) -> RingConfig {
    let mut config = first.clone();
    let timing = &mut config.timing;
    timing.max_age += Duration::from_secs(random.between(0, 8));
    timing.intermediary = timing.max_age;
    timing.max_lifetime += Duration::from_secs(random.between(0, 20));
    let floor = timing.announcement() + timing.tick + timing.keygen + timing.publish;
    timing.rotation = timing.rotation.max(floor);
    timing.overlap = timing.lease + timing.max_lifetime + timing.leeway + timing.clock_error * 2;
    timing.orphan = timing.orphan.max(timing.max_age * 2 + timing.clock_error + timing.tick * 4);
    config
}

fn odds(random: &mut Random) -> Odds {
    let mut some = |most: u64| if random.in_1000(400) { random.any_length(most) } else { 0 };
    Odds {
        refused: some(200),
        lost: some(150),
        own_conflict: some(500),
        undecided: some(200),
        slow: some(100),
        crash: some(30),
        pause: some(30),
    }
}

/// How long a ring takes to be as it should be, once nothing goes wrong any more.
pub(crate) fn settling(configs: &[RingConfig]) -> u64 {
    let longest = |of: fn(&RingConfig) -> Duration| configs.iter().map(of).max().unwrap_or_default();
    let announcement = longest(|config| config.timing.announcement());
    let orphan = longest(|config| config.timing.orphan);
    // An orphan is given up, a key is made, read back behind a cache, and waits; what has failed is retried after eight
    // ticks at most, a few times.
    let retries = longest(|config| config.timing.tick * 40 + config.timing.max_age);
    millis(announcement * 2 + orphan * 2 + retries)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
