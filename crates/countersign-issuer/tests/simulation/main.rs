//! Whole worlds at random: rotators, signers and verifiers, each with a clock of its own, around a store that delays,
//! loses and lies. What has to be true is in
//! `oracle.rs`; each of the protocol's rules is broken once, to see that it is noticed.
//!
//! `COUNTERSIGN_SIMULATION_SEEDS` says how many worlds, `COUNTERSIGN_SIMULATION_FIRST` from which one on,
//! `COUNTERSIGN_SIMULATION_SEED` which one to tell of.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "everything here is a test")]

mod model;
mod oracle;
mod random;
mod scene;
mod store;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use countersign_issuer::step::Rule;
use world::World;

/// How many worlds, unless the environment says more.
const SEEDS: u64 = 200;

/// How many worlds it may take at most until one of them notices that a rule is broken.
const SEEDS_TO_NOTICE: u64 = 1_000;

#[test]
fn no_unexpired_token_is_refused_anywhere_and_no_revoked_one_accepted_after_its_bound() {
    if let Some(seed) = environment("COUNTERSIGN_SIMULATION_SEED") {
        return tell(seed, None);
    }
    let first = environment("COUNTERSIGN_SIMULATION_FIRST").unwrap_or(0);
    let count = environment("COUNTERSIGN_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let lived = live_through(first, first.checked_add(count).unwrap(), None);
    if let Some((seed, what)) = lived.broken {
        panic!("seed {seed}: {what}; COUNTERSIGN_SIMULATION_SEED={seed} tells the whole story");
    }
    let Lived { rotations, signatures, .. } = lived;
    println!("{count} worlds from seed {first} on: {rotations} rotations, {signatures} signatures, no objection");
    assert!(rotations > 0 && signatures > rotations, "{rotations} rotations, {signatures} signatures");
}

#[derive(Default)]
struct Lived {
    rotations: u64,
    signatures: u64,
    /// The lowest seed of a world in which something was broken, and what.
    broken: Option<(u64, String)>,
}

/// The worlds of these seeds, on all processors; after one that is broken no later one is begun.
fn live_through(first: u64, end: u64, rule: Option<Rule>) -> Lived {
    let (next, lived) = (AtomicU64::new(first), Mutex::new(Lived::default()));
    let live = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || lived.lock().unwrap().broken.is_some() {
                return;
            }
            let mut world = World::new(seed, rule);
            let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
            let broken = ended.unwrap_or_else(|_| Some("it panicked".to_owned())).map(|what| (seed, what));
            let mut lived = lived.lock().unwrap();
            lived.rotations += world.oracle.rotations;
            lived.signatures += world.oracle.signatures;
            lived.broken = lived.broken.take().into_iter().chain(broken).min();
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| _ = scope.spawn(live));
    });
    lived.into_inner().unwrap()
}

/// A number; whatever else is there is a mistake.
fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
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

/// The worlds of a mutant are as any others, but for some more of the trouble that its rule is for.
macro_rules! noticed {
    ($(fn $name:ident: $rule:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let found = live_through(0, SEEDS_TO_NOTICE, Some(Rule::$rule)).broken;
                let (seed, what) = found.unwrap_or_else(|| panic!("{SEEDS_TO_NOTICE} worlds without {:?}, and nobody noticed", Rule::$rule));
                println!("{:?}: seed {seed}: {what}", Rule::$rule);
            }
        )*
    };
}

noticed! {
    fn it_is_noticed_when_a_put_that_returned_starts_the_clock: ReadBack;
    fn it_is_noticed_when_the_difference_of_clocks_is_left_out: ClockError;
    fn it_is_noticed_when_a_conflict_is_taken_for_a_loss: ConflictIsDoubted;
    fn it_is_noticed_when_nonces_are_not_compared: NonceIsCompared;
    fn it_is_noticed_when_keys_are_removed_early: Retention;
    fn it_is_noticed_when_sets_are_published_over_whatever_is_there: PublishIsConditional;
    fn it_is_noticed_when_a_key_that_cannot_be_read_counts_as_missing: OnlyMissingRotates;
    fn it_is_noticed_when_somebody_signs_by_an_old_view: ViewIsYoung;
    fn it_is_noticed_when_a_key_counts_as_deactivated_before_it_is: DeactivationIsSeen;
    fn it_is_noticed_when_a_key_signs_before_everybody_can_have_it: Announcement;
    fn it_is_noticed_when_a_wrong_clock_is_believed: ClockIsSound;
    fn it_is_noticed_when_a_private_part_is_destroyed_at_once: LeaseBeforeDestruction;
}
