//! What a key ring costs: a rotation, what is written for it, the key set that follows, and serving that.

mod life;
mod service;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::Algorithm;
use countersign::token::RsaBits;
use countersign_issuer::{DirectoryStore, MAX_JWKS_BYTES, MemoryStore, RingConfig, Slot};
use serde_json::Value;

use self::life::{Life, Written};
use crate::Failure;
use crate::timing::{Effort, median};

const DAY: Duration = Duration::from_secs(24 * 3_600);

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let directories = Directories::new()?;
    let parts =
        [rotations(&directories, effort)?, writes(&directories, effort)?, sets(effort)?, service::table(effort)?];
    Ok(parts.join("\n"))
}

/// One slot as it comes.
fn one_slot() -> RingConfig {
    RingConfig::new([Slot::new("es256", Algorithm::Es256)])
}

/// What a service has whose consumers are of three ages.
fn three_slots() -> RingConfig {
    let rsa = |name, bits| Slot::rsa(name, Algorithm::Rs256, bits);
    let mut config = one_slot();
    config.slots.extend([rsa("rs256-2048", RsaBits::B2048), rsa("rs256-4096", RsaBits::B4096)]);
    config
}

/// From the order to the answer, which says that the new keys sign. Time on the wall, because a disk is waited for.
fn rotations(directories: &Directories, effort: &Effort) -> Result<String, Failure> {
    let rounds = if effort.is_quick() { 1 } else { 31 };
    // Retained so shortly that there are not more keys than of a ring that rotates once a day.
    let mut one = one_slot();
    (one.timing.max_lifetime, one.timing.overlap) = (Duration::from_secs(300), Duration::from_secs(600));
    // To make keys is not what is measured, so they are such as are made quickly.
    let mut three = one.clone();
    three.slots.extend([Slot::new("es384", Algorithm::Es384), Slot::new("ed25519", Algorithm::Ed25519)]);
    let memory = || Arc::new(MemoryStore::new());
    let lives = [
        ("one slot, in memory", Life::begin(one.clone(), memory())?),
        ("three slots, in memory", Life::begin(three.clone(), memory())?),
        ("one slot, in a directory", Life::begin(one, directories.store()?)?),
        ("three slots, in a directory", Life::begin(three, directories.store()?)?),
    ];
    let plain = directories.directory("plain")?;
    lives.iter().for_each(|(_, life)| life.settle());
    let document = vec![b'x'; lives[2].1.state_bytes()];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); 1 + lives.len()];
    for _ in 0..rounds {
        let began = Instant::now();
        write_durably(&plain, &document)?;
        times[0].push(began.elapsed().as_secs_f64() * 1e6);
        for (at, (_, life)) in lives.iter().enumerate() {
            life.settle();
            times[1 + at].push(life.rotate()?.as_secs_f64() * 1e6);
        }
    }
    let medians: Vec<_> = times.iter_mut().map(|times| median(times)).collect();
    let slowest = times.iter().map(|times| times.iter().copied().fold(0.0, f64::max));
    let bytes = document.len();
    let plain = format!("(one file of {bytes} bytes written, brought to the disk and renamed)");
    let names = std::iter::once(&*plain).chain(lives.iter().map(|(name, _)| *name));
    let mut table =
        String::from("### `Ring::rotate`\n\n| | × a durable file | µs | slowest, µs |\n|---|---:|---:|---:|\n");
    for ((name, time), slowest) in names.zip(&medians).zip(slowest) {
        table.push_str(&format!("| {name} | {:.2} | {time:.0} | {slowest:.0} |\n", time / medians[0]));
    }
    table.push_str(&format!("\nMedian of {rounds}, in turns.\n"));
    Ok(table)
}

/// What a store does for a directory, and nothing else.
fn write_durably(directory: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let (new, place) = (directory.join("new"), directory.join("document"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, &place)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// All that is written from one rotation to the next, when nobody orders anything.
fn writes(directories: &Directories, effort: &Effort) -> Result<String, Failure> {
    // Until keys are retired as often as they are made.
    let (before, days) = if effort.is_quick() { (1, 1) } else { (3, 4) };
    let lives = [
        ("one slot, in memory", Life::begin(one_slot(), Arc::new(MemoryStore::new()))?),
        ("one slot, in a directory", Life::begin(one_slot(), directories.store()?)?),
        ("three slots, in memory", Life::begin(three_slots(), Arc::new(MemoryStore::new()))?),
    ];
    let mut table = String::from(
        "### Bytes written for a rotation\n\n\
         | | versions of the state | bytes | key sets | bytes | private parts | bytes | in all | × the least |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, life) in lives {
        life.live(DAY * before);
        let start = life.written();
        life.live(DAY * days);
        let Written { states, sets, privates } = life.written().since(&start).over(f64::from(days));
        let all = states.bytes + sets.bytes + privates.bytes;
        let least = privates.bytes + sets.bytes / sets.count.max(1.0);
        table.push_str(&format!(
            "| {name} | {:.1} | {:.0} | {:.1} | {:.0} | {:.1} | {:.0} | {all:.0} | {:.1} |\n",
            states.count,
            states.bytes,
            sets.count,
            sets.bytes,
            privates.count,
            privates.bytes,
            all / least
        ));
    }
    table.push_str(
        "\nThe least is the sealed private parts of the new keys, and one key set that has their public ones.\n",
    );
    Ok(table)
}

/// The largest set in a life that is long enough for all there may be.
fn sets(effort: &Effort) -> Result<String, Failure> {
    let mut often = one_slot();
    often.timing.rotation = Duration::from_secs(15 * 60);
    let days = |count: f64| DAY.mul_f64(if effort.is_quick() { count / 24.0 } else { count });
    let lives = [
        ("one slot, ES256; `R` = 24 h, `O` = 24 h", one_slot(), days(3.0)),
        ("three slots, ES256 and RS256 of 2048 and 4096 bits; the same", three_slots(), days(3.0)),
        ("one slot, ES256; `R` = 15 min, `O` = 24 h", often, days(1.1)),
    ];
    let mut table = String::from(
        "### Key sets\n\n| | keys | bytes | × the first | of what is allowed |\n|---|---:|---:|---:|---:|\n",
    );
    let mut first = None;
    for (name, config, time) in lives {
        let store = MemoryStore::new();
        let life = Life::begin(config, Arc::new(store.clone()))?;
        let mut largest = Vec::new();
        // Often enough to see each version of the set.
        life.watch(time, Duration::from_secs(60), || {
            let set = store.jwks().unwrap_or_default();
            if set.len() > largest.len() {
                largest = set;
            }
        });
        let set: Value = serde_json::from_slice(&largest)?;
        let keys = set["keys"].as_array().map_or(0, Vec::len);
        let bytes = largest.len() as f64;
        let ratio = bytes / *first.get_or_insert(bytes);
        let share = 100.0 * bytes / MAX_JWKS_BYTES as f64;
        table.push_str(&format!("| {name} | {keys} | {bytes:.0} | {ratio:.1} | {share:.1} % |\n"));
    }
    let mut refused = three_slots();
    refused.timing.rotation = Duration::from_secs(15 * 60);
    let error = refused.check().err().ok_or("three slots are never refused")?;
    table.push_str(&format!("\nThree slots that rotate every 15 minutes are refused at the start: “{error}”.\n"));
    Ok(table)
}

/// Beside the program, where there is a disk; what is for temporary files often is none.
struct Directories {
    path: PathBuf,
    count: std::cell::Cell<usize>,
}

impl Directories {
    fn new() -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let beside = program.parent().ok_or("the program is in no directory")?;
        let path = beside.join(format!("ring-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self { path, count: std::cell::Cell::new(0) })
    }

    fn directory(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// A new one.
    fn store(&self) -> Result<Arc<DirectoryStore>, Failure> {
        self.count.set(self.count.get() + 1);
        Ok(Arc::new(DirectoryStore::open(self.path.join(self.count.get().to_string()))?))
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        // What is left lies beside what a compiler has left.
        let _ = fs::remove_dir_all(&self.path);
    }
}
