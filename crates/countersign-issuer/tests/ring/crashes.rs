//! Processes that die at each moment of a key's life, and those that go on after them, on a store of any kind. Shared with
//! `tests/stores`, which has those that need a server.
//!
//! Nothing here is true only on a machine that is fast: whoever waits waits until something is so, and what a verifier is
//! shown is judged by the clock after it has looked.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use countersign_claims::UnixTime;
use countersign_issuer::publication::Found;
use countersign_issuer::state::{KeyState, RingState};
use countersign_issuer::step::Effect;
use countersign_issuer::{KeyStore, Moment, Ring, RingConfig};
use countersign_token::{JwkSet, Origin};
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Builder, Runtime};

use crate::tokens::{ISSUER, Token, fetched, keks, read_state, try_token, verifies};

/// When the process dies, as a [`Doom`] is written.
const DIES_AT: &str = "COUNTERSIGN_TEST_DIES_AT";

/// What a process says before it dies, in front of the numbers of the steps.
const LAST_WORDS: &str = "dies at";

/// A process that has not done by then what it is to do is stuck. Nobody waits for it but those who are.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// More moments than the life of a key has.
const MANY: usize = 200;

/// What is numbered in INVARIANTS.md, under "What happens where it breaks".
const STEPS: std::ops::RangeInclusive<u8> = 1..=10;

/// How often a process is started anew that is to die at a step that it may not come to: another's key was earlier.
const ATTEMPTS: usize = 5;

/// How often whoever watches must have looked while a process lived and the next one went on.
const LOOKS: usize = 10;

/// Where a ring is kept.
pub(crate) trait Ground: Send + Sync {
    /// As fast as the inequalities allow there.
    fn config(&self) -> RingConfig;

    /// The store, opened anew.
    fn open(&self) -> Arc<dyn KeyStore>;

    /// This program, once more, as [`live`] on the same ground.
    fn child(&self) -> Command;

    /// How often whoever watches looks at the set.
    fn pace(&self) -> Duration;
}

/// When a process is to die: at that moment, counted from 0, or the first time that it is at that step.
#[derive(Clone, Copy, Debug)]
enum Doom {
    Moment(usize),
    Step(Moment, u8),
}

impl Doom {
    fn written(self) -> String {
        match self {
            Self::Moment(number) => number.to_string(),
            Self::Step(when, step) => format!("{when:?} {step}"),
        }
    }

    fn read(text: &str) -> Self {
        match text.split_once(' ') {
            None => Self::Moment(text.parse().unwrap()),
            Some((when, step)) => Self::Step(read_moment(when), step.parse().unwrap()),
        }
    }

    fn is_now(self, number: usize, when: Moment, steps: &[u8]) -> bool {
        match self {
            Self::Moment(doom) => doom == number,
            Self::Step(doom, step) => doom == when && steps.contains(&step),
        }
    }
}

fn read_moment(text: &str) -> Moment {
    if text == "Before" { Moment::Before } else { Moment::After }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// When its key had gone all the way.
    Lived,
    /// Killed, before or after these steps.
    Died(Moment, Vec<u8>),
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// This program as a process that runs one of its tests.
pub(crate) fn this_program(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--test-threads=1", "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
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

/// What the process does that dies: lives until a key has gone all the way, and dies before if it is told to.
pub(crate) fn live(ground: &impl Ground) {
    let doom = Doom::read(&std::env::var(DIES_AT).unwrap());
    runtime().block_on(async {
        let store = ground.open();
        let moments = AtomicUsize::new(0);
        let steps = Mutex::new(Steps::default());
        let ring = Ring::builder(ISSUER, ground.config(), Arc::clone(&store), keks());
        let ring = ring.at_each_effect(move |effect, moment| {
            // What only looks leaves nothing behind.
            if matches!(effect, Effect::Load | Effect::ReadPublished | Effect::ListSealed) {
                return;
            }
            let steps = steps.lock().unwrap().of(effect, moment);
            if doom.is_now(moments.fetch_add(1, Ordering::SeqCst), moment, &steps) {
                die(moment, &steps);
            }
        });
        let ring = ring.start().await.unwrap();
        // To the end of the last step: nobody is shown any more what is retired.
        while !(has_lived(&*store).await && is_published(&ring, &*store).await) {
            tokio::time::sleep(ground.pace()).await;
        }
        drop(ring);
    });
}

fn die(moment: Moment, steps: &[u8]) -> ! {
    let steps: Vec<_> = steps.iter().map(u8::to_string).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{LAST_WORDS} {moment:?} {}", steps.join(" ")).unwrap();
    out.flush().unwrap();
    kill_process(getpid(), Signal::KILL).unwrap();
    loop {
        thread::park();
    }
}

/// How a process ended that was told to die then.
fn lives_or_dies(ground: &impl Ground, doom: Doom) -> End {
    let mut child = ground.child().env(DIES_AT, doom.written()).spawn().unwrap();
    let status = wait(&mut child);
    if status.success() {
        return End::Lived;
    }
    assert_eq!(status.signal(), Some(9), "{status}");
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let last = said.lines().find_map(|line| line.split_once(LAST_WORDS)).unwrap_or_else(|| panic!("{said}")).1;
    let mut words = last.split_whitespace();
    End::Died(read_moment(words.next().unwrap()), words.map(|number| number.parse().unwrap()).collect())
}

/// Which steps an effect is.
#[derive(Default)]
struct Steps {
    /// As last written: how far each key was, and whether it had been read back.
    written: BTreeMap<String, (KeyState, bool)>,
}

impl Steps {
    fn of(&mut self, effect: &Effect, moment: Moment) -> Vec<u8> {
        match effect {
            Effect::Generate { .. } => vec![1],
            Effect::Publish { .. } => vec![3],
            Effect::ReadBack => vec![4],
            Effect::Seal { .. } => vec![5],
            Effect::Open { .. } => vec![6],
            Effect::Destroy { .. } => vec![9],
            Effect::Save { state, .. } => self.of_version(state, moment),
            _ => Vec::new(),
        }
    }

    fn of_version(&mut self, state: &RingState, moment: Moment) -> Vec<u8> {
        let keys = state.keys.iter().map(|(kid, key)| (kid.clone(), (key.state, key.confirmed_at.is_some())));
        let buried = state.tombstones.iter().map(|(kid, tombstone)| (kid.clone(), (tombstone.state, true)));
        let now: BTreeMap<_, _> = keys.chain(buried).collect();
        let mut steps = Vec::new();
        for (kid, (state, is_confirmed)) in &now {
            let before = self.written.get(kid);
            let is_new = before.is_none_or(|(before, _)| before != state);
            steps.extend((is_new && before.is_none()).then_some(2));
            steps.extend((*is_confirmed && before.is_some_and(|(_, before)| !before)).then_some(4));
            match state {
                // Where no key signs, this is one step with the next.
                KeyState::Active if before.is_some_and(|(before, _)| *before == KeyState::Announced) => steps.push(7),
                KeyState::Standby if is_new => steps.push(7),
                KeyState::Active if is_new => steps.push(8),
                KeyState::Retired if is_new => steps.push(10),
                _ => {}
            }
        }
        if moment == Moment::After {
            self.written = now;
        }
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}

/// Whether a key has gone all the way.
pub(crate) async fn has_lived(store: &dyn KeyStore) -> bool {
    // A store that does not answer is asked again.
    let Ok(Some(stored)) = store.load_state().await else { return false };
    let state = read_state(&stored.bytes);
    state.tombstones.values().any(|tombstone| tombstone.state == KeyState::Retired)
}

/// Whether the set is published that the node knows.
async fn is_published(ring: &Ring, store: &dyn KeyStore) -> bool {
    let Ok(Some(stored)) = store.load_jwks().await else { return false };
    Found::read(&stored.bytes).is_some_and(|found| found.seq == ring.status().set_seq)
}

/// A token of that slot, as soon as the node signs.
pub(crate) async fn signed(ring: &Ring, slot: &str) -> Token {
    let begun = Instant::now();
    loop {
        match try_token(ring, slot) {
            Ok(token) => return token,
            Err(reason) => assert!(begun.elapsed() < PATIENCE, "{slot} does not sign: {reason}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Signs until a token has been shown to the published set that cannot have expired by then.
async fn signs_what_is_published(ring: &Ring, store: &dyn KeyStore, slot: &str, doom: Doom) {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "{doom:?}: no token of {slot} was shown in time");
        let token = signed(ring, slot).await;
        let Ok(Some(stored)) = store.load_jwks().await else { continue };
        if UnixTime::from(SystemTime::now()) < token.exp {
            assert!(verifies(&token, &fetched(&stored.bytes)), "{doom:?}: {token:?}");
            return;
        }
    }
}

/// Looks at what verifiers see for as long as it is there.
struct Watch {
    stops: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    fn over(ground: &impl Ground) -> Self {
        let (stops, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, seen) = (Arc::clone(&stops), Arc::clone(&looks));
        let (store, pace) = (ground.open(), ground.pace());
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let mut was_published = false;
                while !until.load(Ordering::SeqCst) {
                    let has_seen = look(&*store, &mut was_published).await;
                    seen.fetch_add(usize::from(has_seen), Ordering::SeqCst);
                    tokio::time::sleep(pace).await;
                }
            });
        });
        Self { stops, looks, thread }
    }

    /// Whether it has seen enough; also if it has seen what must not be, and ended.
    fn is_done(&self) -> bool {
        self.looks.load(Ordering::SeqCst) > LOOKS || self.thread.is_finished()
    }

    fn end(self) {
        self.stops.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

/// Every key that has been, or may be, signed with before and after the look at the set is in it.
async fn look(store: &dyn KeyStore, was_published: &mut bool) -> bool {
    async fn live(store: &dyn KeyStore) -> Option<Vec<String>> {
        let state = read_state(&store.load_state().await.ok()??.bytes);
        let live = |state| matches!(state, KeyState::Standby | KeyState::Active | KeyState::Retiring);
        Some(state.keys.iter().filter(|(_, key)| live(key.state)).map(|(kid, _)| kid.clone()).collect())
    }
    let before = live(store).await;
    // An answer that does not come shows nothing.
    let Ok(jwks) = store.load_jwks().await else { return false };
    let Some(jwks) = jwks else {
        assert!(!*was_published, "the set is gone");
        return false;
    };
    *was_published = true;
    let keys = JwkSet::parse(&jwks.bytes, Origin::Remote).unwrap();
    assert!(!keys.keys().is_empty(), "the set is empty");
    let (Some(before), Some(after)) = (before, live(store).await) else { return false };
    for kid in before.into_iter().filter(|kid| after.contains(kid)) {
        assert!(keys.keys().iter().any(|key| key.kid() == Some(&kid)), "{kid} is not in the set");
    }
    true
}

/// A process dies then, unless its key has gone all the way before, and the next one goes on.
fn dies_and_is_followed(ground: &impl Ground, doom: Doom) -> End {
    let watch = Watch::over(ground);
    let end = lives_or_dies(ground, doom);
    runtime().block_on(async {
        let store = ground.open();
        let config = ground.config();
        let slots: Vec<_> = config.slots.iter().map(|slot| slot.name.clone()).collect();
        let ring = Ring::builder(ISSUER, config, Arc::clone(&store), keks()).start().await.unwrap();
        for slot in &slots {
            signs_what_is_published(&ring, &*store, slot, doom).await;
        }
        // Then it goes on as if nothing had happened: keys go all the way, and nothing is left lying about.
        let begun = Instant::now();
        loop {
            tokio::time::sleep(ground.pace()).await;
            let (state, stored) = (store.load_state().await, store.list_private().await);
            if let (Ok(Some(state)), Ok(stored)) = (&state, &stored) {
                let state = read_state(&state.bytes);
                let is_whole = stored.iter().all(|kid| state.keys.get(kid).is_some_and(|key| !key.destroyed));
                let is_next = |slot: &String| state.keys_in(slot, KeyState::Standby).next().is_some();
                if is_whole && has_lived(&*store).await && slots.iter().all(is_next) && watch.is_done() {
                    break;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "{doom:?} does not converge: {state:?} {stored:?}");
        }
    });
    watch.end();
    end
}

/// Lets a process die at each moment in turn, on a ground of its own, so many at a time: most of their life they wait.
/// Then, how many moments a life has being a matter of chance, at each of the numbered steps at which nobody has died.
/// Returns how many moments there were.
pub(crate) fn at_every_moment<G: Ground>(at_once: usize, ground: impl Fn() -> G + Sync) -> usize {
    let begun = Instant::now();
    let (next, lived_at) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let died = Mutex::new(BTreeMap::<(u8, bool), usize>::new());
    let count = |end: &End| {
        let End::Died(when, steps) = end else { return };
        for step in steps {
            *died.lock().unwrap().entry((*step, *when == Moment::After)).or_default() += 1;
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let moment = next.fetch_add(1, Ordering::SeqCst);
                    if moment >= lived_at.load(Ordering::SeqCst) {
                        return;
                    }
                    assert!(moment < MANY, "it never lives");
                    let end = dies_and_is_followed(&ground(), Doom::Moment(moment));
                    count(&end);
                    if end == End::Lived {
                        lived_at.fetch_min(moment, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let at = |step, when| died.lock().unwrap().get(&(step, when == Moment::After)).copied().unwrap_or(0);
    thread::scope(|scope| {
        for (step, when) in STEPS.flat_map(|step| [(step, Moment::Before), (step, Moment::After)]) {
            if at(step, when) == 0 {
                let (count, ground) = (&count, &ground);
                scope.spawn(move || {
                    let mut ends = (0..ATTEMPTS).map(|_| dies_and_is_followed(&ground(), Doom::Step(when, step)));
                    count(&ends.find(|end| *end != End::Lived).unwrap_or(End::Lived));
                });
            }
        }
    });
    for step in STEPS {
        let (before, after) = (at(step, Moment::Before), at(step, Moment::After));
        writeln!(std::io::stdout(), "step {step}: {before} have died before it, {after} after it").unwrap();
        assert!(before > 0 && after > 0, "nobody has died at step {step}");
    }
    let moments = lived_at.into_inner();
    writeln!(std::io::stdout(), "a life has {moments} moments; {} s", begun.elapsed().as_secs()).unwrap();
    moments
}
