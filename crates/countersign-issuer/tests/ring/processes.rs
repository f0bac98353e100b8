//! Processes on one directory, some of which die.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_issuer::state::KeyState;
use countersign_issuer::{DirectoryStore, KeyStore, Ring, RingConfig, Slot};
use countersign_token::Algorithm;

use crate::crashes::{
    Died, Doom, Ground, PATIENCE, dies_and_is_followed, live, runtime, signed, steps, this_program, wait,
};
use crate::support::{ISSUER, keks, read_state};

/// Where the process that a test has started finds its ring.
const DIRECTORY: &str = "COUNTERSIGN_TEST_RING";

/// How many processes die at a time.
const AT_ONCE: usize = 8;

/// More moments than the life of a key has.
const MANY: usize = 200;

/// As fast as the inequalities allow: a key lives for some three seconds.
fn fast() -> RingConfig {
    let millis = Duration::from_millis;
    let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256), Slot::new("ed25519", Algorithm::Ed25519)]);
    let timing = &mut config.timing;
    (timing.max_age, timing.intermediary, timing.publish_lag) = (millis(100), millis(0), millis(0));
    (timing.clock_error, timing.leeway, timing.max_lifetime) = (millis(200), millis(0), millis(200));
    (timing.tick, timing.publish, timing.lease) = (millis(100), millis(100), millis(400));
    (timing.keygen, timing.rotation, timing.overlap) = (millis(50), millis(800), millis(1_000));
    (timing.heartbeat, timing.orphan) = (millis(500), millis(1_000));
    config
}

/// It looks as often, and nothing is late before all who are here are done: no key rotates, none is given up, and a view
/// is young for as long as a machine with other things to do may take between two looks.
fn patient() -> RingConfig {
    let mut config = fast();
    let timing = &mut config.timing;
    (timing.lease, timing.orphan) = (PATIENCE, PATIENCE);
    (timing.rotation, timing.overlap) = (Duration::from_secs(3_600), Duration::from_secs(3_600));
    config
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("countersign-ring-{}-{name}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> DirectoryStore {
        DirectoryStore::open(self.0.join("ring")).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Ground for Place {
    fn config(&self) -> RingConfig {
        fast()
    }

    fn open(&self) -> Arc<dyn KeyStore> {
        Arc::new(self.store())
    }

    fn child(&self) -> Command {
        self.process("processes::one_that_dies")
    }

    fn pace(&self) -> Duration {
        Duration::from_millis(5)
    }
}

impl Place {
    fn process(&self, test: &str) -> Command {
        let mut command = this_program(test);
        command.env(DIRECTORY, &self.0);
        command
    }
}

/// Where this process finds its ring, if it is one that a test has started.
fn place_of_child() -> Option<std::mem::ManuallyDrop<Place>> {
    // Whoever has made it removes it.
    std::env::var_os(DIRECTORY).map(|path| std::mem::ManuallyDrop::new(Place(path.into())))
}

/// Not a test but the process, if it was started as such.
#[test]
fn one_that_dies() {
    let Some(place) = place_of_child() else { return };
    live(&*place);
}

/// The same.
#[test]
fn one_of_many() {
    let Some(place) = place_of_child() else { return };
    runtime().block_on(async {
        while !place.0.join("go").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let ring = Ring::builder(ISSUER, patient(), Arc::new(place.store()), keks()).start().await.unwrap();
        let kids = [signed(&ring, "es256").await.kid, signed(&ring, "ed25519").await.kid];
        // Nobody reads half of it.
        let (half, whole) = (format!("half-{}", std::process::id()), format!("kids-{}", std::process::id()));
        fs::write(place.0.join(&half), kids.join(" ")).unwrap();
        fs::rename(place.0.join(half), place.0.join(whole)).unwrap();
        // Nobody goes before all are there.
        while !place.0.join("stop").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn sixteen_processes_on_an_empty_store_make_one_key_for_each_slot() {
    const PROCESSES: usize = 16;
    let place = Place::new("sixteen");
    let spawn = |_| place.process("processes::one_of_many").stdout(Stdio::null()).spawn().unwrap();
    let mut children: Vec<Child> = (0..PROCESSES).map(spawn).collect();
    fs::write(place.0.join("go"), "").unwrap();
    let kids = || -> Vec<String> {
        let entries = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().path());
        let kids = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("kids-"));
        kids.map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    let begun = Instant::now();
    while kids().len() < PROCESSES && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    let kids = kids();
    let state = read_state(&runtime().block_on(place.store().load_state()).unwrap().unwrap().bytes);
    fs::write(place.0.join("stop"), "").unwrap();
    for child in &mut children {
        assert!(wait(child).success());
    }
    assert_eq!(kids.len(), PROCESSES, "each has signed");
    assert!(kids.iter().all(|it| *it == kids[0]), "{kids:?}");
    for slot in ["es256", "ed25519"] {
        let of_slot: Vec<_> = state.keys.values().filter(|key| key.slot == slot).map(|key| key.state).collect();
        let signing = of_slot.iter().filter(|state| **state == KeyState::Active).count();
        assert!(signing == 1 && of_slot.len() <= 2, "{slot}: {of_slot:?}");
    }
    assert!(state.tombstones.is_empty(), "{state:?}");
}

#[test]
fn whenever_a_process_dies_the_next_one_goes_on_and_no_verifier_notices() {
    let begun = Instant::now();
    let ground = || Place::new("dies");
    let (next, lived_at) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let died = Died::default();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let moment = next.fetch_add(1, Ordering::SeqCst);
                    if moment >= lived_at.load(Ordering::SeqCst) {
                        return;
                    }
                    assert!(moment < MANY, "it never lives");
                    let end = dies_and_is_followed(&ground(), Doom::Moment(moment));
                    if !died.count(&end) {
                        lived_at.fetch_min(moment, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    // How many moments a life has is a matter of chance: there may be a step at which nobody has died.
    let missing: Vec<_> = steps().filter(|(step, when)| died.at(*step, *when) == 0).collect();
    died.at_steps(AT_ONCE, missing.into_iter().map(|(step, when)| (step, when, 1)), ground);
    died.report(begun);
    // Before and after each: two keys made, announced, published, read back, confirmed, two stored and opened, made
    // active; and that again for their successors, with rotation, destruction, retirement.
    assert!(lived_at.load(Ordering::SeqCst) > 50, "a life has {lived_at:?} moments");
}
