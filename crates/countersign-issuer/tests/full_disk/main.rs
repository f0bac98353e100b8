//! A full disk for hours, which pass in seconds: the ring's own tasks and files, on a clock that jumps to whatever is waited for next.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod on_disk;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_issuer::state::KeyState;
use countersign_issuer::step::Alarm;
use countersign_issuer::{
    Clock, DirectoryStore, Kek, KekRing, KeyStore as _, Mint, MintError, Now, Ring, RingConfig, Slot, Work,
};
use countersign_token::Algorithm;
use tokio::time::{Instant, sleep, sleep_until};

use crate::on_disk::{fill, on_disk};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// Says to the process that it is the one on the disk, and where that is.
const INSIDE: &str = "ON_DISK";

#[test]
fn on_a_full_disk_a_key_signs_to_its_hard_limit_and_its_successor_when_there_is_room() {
    if let Some(place) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        return runtime.unwrap().block_on(for_hours(Path::new(&place)));
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("full-disk");
    fs::create_dir_all(&place).unwrap();
    let this = std::env::current_exe().unwrap();
    let name = "on_a_full_disk_a_key_signs_to_its_hard_limit_and_its_successor_when_there_is_room";
    let mut command = on_disk(&place, "1m", &[this.to_str().unwrap(), "--exact", name, "--nocapture"]);
    let output = command.env(INSIDE, &place).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

struct Jumping(Instant);

impl Clock for Jumping {
    fn now(&self) -> Now {
        let monotonic = self.0.elapsed();
        Now { wall: UnixTime::from_secs(1_800_000_000).saturating_add(monotonic), monotonic }
    }
}

async fn for_hours(place: &Path) {
    let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    config.timing.rotation = HOUR;
    config.timing.overlap = 2 * HOUR;
    config.timing.max_lifetime = 10 * MINUTE;
    config.timing.hard_limit = 4 * HOUR;
    let store = Arc::new(DirectoryStore::open(place.join("ring")).unwrap());
    let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
    let begun = Instant::now();
    let node = Ring::builder("https://issuer.example", config, store.clone(), keks).clock(Jumping(begun));
    let ring = node.start().await.unwrap();
    ring.ready_within(MINUTE).await.unwrap();
    let mint = || ring.minter().mint("es256", &Mint::new(MINUTE)).map(|minted| minted.kid);
    let first = mint().unwrap();
    sleep(20 * MINUTE).await;
    let next = ring.status().slots["es256"].standby.clone().unwrap();
    let (state, jwks) = (store.load_state().await.unwrap(), store.load_jwks().await.unwrap());

    let ballast = place.join("ballast");
    fill(&ballast);
    sleep_until(begun + HOUR - MINUTE).await;
    assert_eq!(ring.status().alarms, [], "nothing is due");
    sleep_until(begun + 4 * HOUR - 2 * MINUTE).await;
    assert_eq!(mint().unwrap(), first);
    let status = ring.status();
    assert!(status.failing.contains_key(&Work::SaveState), "{:?}", status.failing);
    assert!(status.alarms.contains(&Alarm::RotationOverdue("es256".into())), "{:?}", status.alarms);
    assert!(status.alarms.iter().any(|alarm| matches!(alarm, Alarm::StoreFailing(_))), "{:?}", status.alarms);
    sleep_until(begun + 4 * HOUR + 2 * MINUTE).await;
    assert!(mint().is_err_and(|error: MintError| error.is_temporary()));
    assert_eq!((store.load_state().await.unwrap(), store.load_jwks().await.unwrap()), (state, jwks), "as they were");

    fs::remove_file(ballast).unwrap();
    // However long it was full, it is looked again within minutes.
    sleep(5 * MINUTE).await;
    assert_eq!(mint().unwrap(), next, "which had been announced before");
    let status = ring.status();
    assert_eq!((status.keys[&*first].state, status.keys[&*next].state), (KeyState::Retiring, KeyState::Active));
    assert!(status.failing.is_empty() && status.alarms.is_empty(), "{status:?}");
}
