//! Whole worlds at random: rotators, signers and verifiers, each with a clock of its own, around a store that delays, loses and lies. What has to be true is in
//! `oracle.rs`; each of the protocol's rules is broken once, to see that it is noticed.
//!
//! `COUNTERSIGN_SIMULATION_SEEDS` says how many worlds, `COUNTERSIGN_SIMULATION_SEED` which one to tell of.

mod oracle;
mod random;
mod scene;
mod store;
mod world;

use countersign_issuer::step::Rule;
use world::World;

/// How many worlds, unless the environment says more.
const SEEDS: u64 = 300;

/// How many worlds it may take at most until one of them notices that a rule is broken.
const SEEDS_TO_NOTICE: u64 = 2_000;

#[test]
fn no_unexpired_token_is_refused_anywhere_and_no_revoked_one_accepted_after_its_bound() {
    if let Some(seed) = environment("COUNTERSIGN_SIMULATION_SEED") {
        return tell(seed, None);
    }
    let (mut rotations, mut signatures) = (0, 0);
    for seed in 0..environment("COUNTERSIGN_SIMULATION_SEEDS").unwrap_or(SEEDS) {
        let mut world = World::new(seed, None);
        if let Some(what) = world.run() {
            panic!("seed {seed}: {what}; COUNTERSIGN_SIMULATION_SEED={seed} tells the whole story");
        }
        rotations += world.oracle.rotations;
        signatures += world.oracle.signatures;
    }
    assert!(rotations > 0 && signatures > rotations, "{rotations} rotations, {signatures} signatures");
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Everything that happens in one world.
fn tell(seed: u64, rule: Option<Rule>) {
    let mut world = World::new(seed, rule);
    world.log = Some(Vec::new());
    let broken = world.run();
    for line in world.log.unwrap_or_default() {
        println!("{line}");
    }
    println!("{:#?} {:#?}", world.scene.odds, world.scene.configs);
    if let Some(what) = broken {
        panic!("{what}");
    }
}

/// The first world that notices.
fn noticed(rule: Rule) -> Option<(u64, String)> {
    (0..SEEDS_TO_NOTICE).find_map(|seed| Some((seed, World::new(seed, Some(rule)).run()?)))
}
