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
use countersign_issuer::{KeyStore, Moment, Ring, RingBuilder, RingConfig};
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

/// What is numbered in INVARIANTS.md, under "What happens where it breaks".
const STEPS: std::ops::RangeInclusive<u8> = 1..=10;

/// Before and after each of them.
pub(crate) fn steps() -> impl Iterator<Item = (u8, Moment)> {
    STEPS.flat_map(|step| [(step, Moment::Before), (step, Moment::After)])
}

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

/// When a process is to die: at that moment, counted from 0, or when it is at that step for so many times.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doom {
    Moment(usize),
    Step { when: Moment, step: u8, times: usize },
}

impl Doom {
    fn written(self) -> String {
        match self {
            Self::Moment(number) => number.to_string(),
            Self::Step { when, step, times } => format!("{when:?} {step} {times}"),
        }
    }

    fn read(text: &str) -> Self {
        let words: Vec<_> = text.split(' ').collect();
        match words[..] {
            [number] => Self::Moment(number.parse().unwrap()),
            [when, step, times] => {
                Self::Step { when: read_moment(when), step: step.parse().unwrap(), times: times.parse().unwrap() }
            }
            _ => panic!("{text}"),
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
        let past = Mutex::new(Past::default());
        let hook = Arc::new(move |effect: &Effect, moment| {
            // What only looks leaves nothing behind.
            if matches!(effect, Effect::Load | Effect::ReadPublished | Effect::ListSealed) {
                return;
            }
            let mut past = past.lock().unwrap();
            let steps = past.steps(effect, moment);
            if past.comes_to(doom, moment, &steps) {
                die(moment, &steps);
            }
        });
        let ring = started(ground, &store, |ring| {
            let hook = Arc::clone(&hook);
            ring.at_each_effect(move |effect, moment| hook(effect, moment))
        })
        .await;
        // To the end of the last step: nobody is shown any more what is retired.
        while !(has_lived(&*store).await && is_published(&ring, &*store).await) {
            tokio::time::sleep(ground.pace()).await;
        }
        drop(ring);
    });
}

/// A node, as soon as the store answers in time.
async fn started(ground: &impl Ground, store: &Arc<dyn KeyStore>, change: impl Fn(RingBuilder) -> RingBuilder) -> Ring {
    let begun = Instant::now();
    loop {
        let ring = Ring::builder(ISSUER, ground.config(), Arc::clone(store), keks());
        match change(ring).start().await {
            Ok(ring) => return ring,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "it does not start: {error}"),
        }
        tokio::time::sleep(ground.pace()).await;
    }
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

/// What a process has behind it.
#[derive(Default)]
struct Past {
    moments: usize,
    /// How often it was before or after each step.
    steps: BTreeMap<(u8, bool), usize>,
    /// As last written: how far each key was, and whether it had been read back.
    written: BTreeMap<String, (KeyState, bool)>,
}

impl Past {
    /// One moment more: whether it is the one to die at.
    fn comes_to(&mut self, doom: Doom, when: Moment, steps: &[u8]) -> bool {
        for step in steps {
            *self.steps.entry((*step, when == Moment::After)).or_default() += 1;
        }
        self.moments += 1;
        match doom {
            Doom::Moment(number) => self.moments - 1 == number,
            Doom::Step { when: then, step, times } => {
                then == when && steps.contains(&step) && self.steps[&(step, when == Moment::After)] == times
            }
        }
    }

    /// Which steps an effect is.
    fn steps(&mut self, effect: &Effect, moment: Moment) -> Vec<u8> {
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
            assert!(verifies(&token, &fetched(&stored.bytes)), "{doom:?}: {} is not in the set", token.kid);
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
pub(crate) fn dies_and_is_followed(ground: &impl Ground, doom: Doom) -> End {
    let watch = Watch::over(ground);
    let end = lives_or_dies(ground, doom);
    runtime().block_on(async {
        let store = ground.open();
        let slots: Vec<_> = ground.config().slots.into_iter().map(|slot| slot.name).collect();
        let ring = started(ground, &store, |ring| ring).await;
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

/// How many have died before or after each step.
#[derive(Default)]
pub(crate) struct Died(Mutex<BTreeMap<(u8, bool), usize>>);

impl Died {
    /// False if it has lived.
    pub(crate) fn count(&self, end: &End) -> bool {
        let End::Died(when, steps) = end else { return false };
        for step in steps {
            *self.0.lock().unwrap().entry((*step, *when == Moment::After)).or_default() += 1;
        }
        true
    }

    pub(crate) fn at(&self, step: u8, when: Moment) -> usize {
        self.0.lock().unwrap().get(&(step, when == Moment::After)).copied().unwrap_or(0)
    }

    /// Lets processes die at these steps, each for so many times, on grounds of their own, so many at once: most of their
    /// life they wait.
    pub(crate) fn at_steps<G: Ground>(
        &self,
        at_once: usize,
        dooms: impl Iterator<Item = (u8, Moment, usize)>,
        ground: impl Fn() -> G + Sync,
    ) {
        let dooms: Vec<_> = dooms.collect();
        let dooms = Mutex::new(dooms);
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    loop {
                        let doom = dooms.lock().unwrap().pop();
                        let Some((step, when, times)) = doom else { return };
                        let doom = Doom::Step { when, step, times };
                        let mut ends = (0..ATTEMPTS).map(|_| dies_and_is_followed(&ground(), doom));
                        assert!(ends.any(|end| self.count(&end)), "nobody comes to {doom:?}");
                    }
                });
            }
        });
    }

    /// Says how many have died where, and that at each of the numbered steps somebody has.
    pub(crate) fn report(&self, begun: Instant) {
        let mut out = std::io::stdout().lock();
        for step in STEPS {
            let (before, after) = (self.at(step, Moment::Before), self.at(step, Moment::After));
            writeln!(out, "step {step}: {before} have died before it, {after} after it").unwrap();
            assert!(before > 0 && after > 0, "nobody has died at step {step}");
        }
        writeln!(out, "processes that die: {} s", begun.elapsed().as_secs()).unwrap();
    }
}
