//! Processes on one directory, some of which die.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_issuer::state::{KeyState, RingState};
use countersign_issuer::step::Effect;
use countersign_issuer::{DirectoryStore, KeyStore, Moment, Ring, RingConfig, Slot};
use countersign_token::{Algorithm, JwkSet, Origin};
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Builder, Runtime};

use crate::support::{ISSUER, fetched, keks, read_state, token, verifies};

/// Where the process that a test has started finds its ring.
const DIRECTORY: &str = "COUNTERSIGN_TEST_RING";
/// At which moment it dies, counted from 0; if it is to live, there is none.
const DIES_AT: &str = "COUNTERSIGN_TEST_DIES_AT";
/// Until when it lives otherwise.
const UNTIL: &str = "COUNTERSIGN_TEST_UNTIL";

/// How many processes die at a time: most of their life they wait.
const AT_ONCE: usize = 8;

/// A process that has not done by then what it is to do is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// The same, rotated so rarely that it does not happen here.
fn slow() -> RingConfig {
    let mut config = fast();
    config.timing.rotation = Duration::from_secs(3_600);
    config.timing.overlap = Duration::from_secs(3_600);
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

    fn ring(&self) -> PathBuf {
        self.0.join("ring")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What the process does that a test starts.
fn spawn(place: &Place, until: &str, dies_at: Option<usize>) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["processes::child", "--exact", "--test-threads=1"]).stdout(Stdio::null()).stderr(Stdio::null());
    child.env(DIRECTORY, &place.0).env(UNTIL, until);
    if let Some(moment) = dies_at {
        child.env(DIES_AT, moment.to_string());
    }
    child.spawn().unwrap()
}

/// Not a test but the process, if it was started as such.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let dies_at: Option<usize> = std::env::var(DIES_AT).ok().map(|moment| moment.parse().unwrap());
    runtime().block_on(async {
        if std::env::var(UNTIL).unwrap() == "ready" {
            let store = DirectoryStore::open(directory.join("ring")).unwrap();
            while !directory.join("go").exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let ring = Ring::builder(ISSUER, slow(), Arc::new(store), keks()).start().await.unwrap();
            ring.ready_within(PATIENCE).await.unwrap();
            let kids = [token(&ring, "es256").kid, token(&ring, "ed25519").kid];
            fs::write(directory.join(format!("kids-{}", std::process::id())), kids.join(" ")).unwrap();
            // Nobody goes before all are there.
            while !directory.join("stop").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } else {
            let store = DirectoryStore::open(directory.join("ring")).unwrap();
            let moments = AtomicUsize::new(0);
            let ring = Ring::builder(ISSUER, fast(), Arc::new(store.clone()), keks());
            let ring = ring.at_each_effect(move |effect, _: Moment| {
                // What only looks leaves nothing behind.
                let counts = !matches!(effect, Effect::Load | Effect::ReadPublished | Effect::ListSealed);
                if counts && Some(moments.fetch_add(1, Ordering::SeqCst)) == dies_at {
                    kill_process(getpid(), Signal::KILL).unwrap();
                    loop {
                        thread::park();
                    }
                }
            });
            let ring = ring.start().await.unwrap();
            while !has_lived(&store).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(ring);
        }
    });
}

/// Whether a key has gone all the way.
async fn has_lived(store: &DirectoryStore) -> bool {
    let Some(stored) = store.load_state().await.unwrap() else { return false };
    let state = read_state(&stored.bytes);
    state.tombstones.values().any(|tombstone| tombstone.state == KeyState::Retired)
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the process is stuck");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sixteen_processes_on_an_empty_store_make_one_key_for_each_slot() {
    const PROCESSES: usize = 16;
    let place = Place::new("sixteen");
    let mut children: Vec<_> = (0..PROCESSES).map(|_| spawn(&place, "ready", None)).collect();
    fs::write(place.0.join("go"), "").unwrap();
    let kids = || -> Vec<String> {
        let entries = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().path());
        let kids = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("kids-"));
        kids.map(|path| fs::read_to_string(path).unwrap()).filter(|kids| !kids.is_empty()).collect()
    };
    let begun = Instant::now();
    while kids().len() < PROCESSES && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    let kids = kids();
    let state = read_state(&fs::read(place.ring().join("state.json")).unwrap());
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

/// Looks at what verifiers see for as long as it is there.
struct Watch {
    stops: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Watch {
    fn over(ring: PathBuf) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stops);
        let thread = thread::spawn(move || {
            let mut looks = 0;
            let mut was_published = false;
            while !until.load(Ordering::SeqCst) {
                looks += usize::from(look(&ring, &mut was_published));
                thread::sleep(Duration::from_millis(5));
            }
            looks
        });
        Self { stops, thread }
    }

    fn end(self) -> usize {
        self.stops.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Every key that has been, or may be, signed with before and after the look at the set is in it.
fn look(ring: &Path, was_published: &mut bool) -> bool {
    let live = |state: &RingState| -> Vec<String> {
        let live = |state| matches!(state, KeyState::Standby | KeyState::Active | KeyState::Retiring);
        state.keys.iter().filter(|(_, key)| live(key.state)).map(|(kid, _)| kid.clone()).collect()
    };
    let state = || fs::read(ring.join("state.json")).ok().map(|document| read_state(&document));
    let before = state();
    let Ok(jwks) = fs::read(ring.join("jwks.json")) else {
        assert!(!*was_published, "the set is gone");
        return false;
    };
    *was_published = true;
    let keys = JwkSet::parse(&jwks, Origin::Remote).unwrap();
    assert!(!keys.keys().is_empty(), "the set is empty");
    let (Some(before), Some(after)) = (before, state()) else { return false };
    let after = live(&after);
    for kid in live(&before).into_iter().filter(|kid| after.contains(kid)) {
        assert!(keys.keys().iter().any(|key| key.kid() == Some(&kid)), "{kid} is not in the set");
    }
    true
}

/// Whether the process has lived to its end, and died at that moment otherwise.
fn dies_and_is_followed(moment: usize) -> bool {
    let place = Place::new("dies");
    let watch = Watch::over(place.ring());
    let status = wait(&mut spawn(&place, "lived", Some(moment)));
    assert!(status.success() || status.signal() == Some(9), "{status}");

    let runtime = runtime();
    runtime.block_on(async {
        let store = DirectoryStore::open(place.ring()).unwrap();
        let ring = Ring::builder(ISSUER, fast(), Arc::new(store.clone()), keks()).start().await.unwrap();
        ring.ready_within(PATIENCE).await.unwrap_or_else(|error| panic!("moment {moment}: {error}"));
        let keys = fetched(&store.load_jwks().await.unwrap().unwrap().bytes);
        assert!(verifies(&token(&ring, "es256"), &keys), "moment {moment}");
        // Then it goes on as if nothing had happened: keys go all the way, and nothing is left lying about.
        let begun = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let state = read_state(&store.load_state().await.unwrap().unwrap().bytes);
            let stored = store.list_private().await.unwrap();
            let is_whole = stored.iter().all(|kid| state.keys.get(kid).is_some_and(|key| !key.destroyed));
            let is_next = |slot: &str| state.keys_in(slot, KeyState::Standby).next().is_some();
            if is_whole && has_lived(&store).await && is_next("es256") && is_next("ed25519") {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "moment {moment} does not converge: {state:#?} {stored:?}");
        }
    });
    assert!(watch.end() > 10, "nobody has looked");
    status.success()
}

#[test]
fn whenever_a_process_dies_the_next_one_goes_on_and_no_verifier_notices() {
    let next = AtomicUsize::new(0);
    let lived_at = AtomicUsize::new(usize::MAX);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let moment = next.fetch_add(1, Ordering::SeqCst);
                    if moment >= lived_at.load(Ordering::SeqCst) {
                        return;
                    }
                    assert!(moment < MANY, "it never lives");
                    if dies_and_is_followed(moment) {
                        lived_at.fetch_min(moment, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    // Before and after each: two keys made, announced, published, read back, confirmed, two stored and opened, made
    // active; and that again for their successors, with rotation, destruction, retirement.
    assert!(lived_at.load(Ordering::SeqCst) > 50, "a life has {lived_at:?} moments");
}
