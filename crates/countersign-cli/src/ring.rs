//! A ring, opened for one command.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use countersign::UnixTime;
use countersign_issuer::state::RingState;
use countersign_issuer::step::Role;
use countersign_issuer::{
    KekRing, KekSource, KeyStore, OrderError, Ring, RingBuilder, RingConfig, StateMac, StoreErrorKind,
};
use countersign_service::RingPlace;
use tokio::time::{Instant, sleep};

use crate::exit::Failure;
use crate::output::Screen;

/// How long a command waits for the ring to have done what is due: a key of RSA with 4096 bits takes seconds, and another node may be at work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The same where nothing is to be done but to open what there is.
pub(crate) const PATIENCE_TO_LOOK: Duration = Duration::from_secs(10);

/// How often a node looks that lives for one command. Others wait twice as long for it when it is gone.
const TICK: Duration = Duration::from_secs(1);

/// How often it is said what is under way.
const PROGRESS: Duration = Duration::from_millis(200);

/// Where a ring is, and what it is sealed with.
#[derive(Args)]
pub(crate) struct Place {
    /// Where the key ring is: its directory, or `s3://BUCKET/PREFIX`, with the endpoint and the credentials of the environment (`AWS_…`).
    #[arg(long = "ring", value_name = "PLACE")]
    ring: RingPlace,

    /// Where the key-encryption key is: `file:PATH`, `env:NAME`, or `command:PROGRAM ARGUMENTS`, which is split at spaces and started
    /// without a shell. Again: one that opens what it has sealed, and seals no more.
    #[arg(long, value_name = "SOURCE", required = true)]
    kek: Vec<KekSource>,

    /// The group of a key-encryption key's file may read it (0640).
    #[arg(long)]
    kek_group_may_read: bool,
}

/// A ring as it was found.
pub(crate) struct Found {
    issuer: String,
    store: Arc<dyn KeyStore>,
    keks: Arc<KekRing>,
    /// `None` if none has begun there.
    pub(crate) state: Option<RingState>,
}

impl Place {
    /// For a command that can do without a ring.
    pub(crate) fn new(ring: RingPlace, kek: Vec<KekSource>, kek_group_may_read: bool) -> Self {
        Self { ring, kek, kek_group_may_read }
    }

    /// Reads the state. The directory is made if `begins`.
    pub(crate) async fn open(&self, issuer: &str, begins: bool) -> Result<Found, Failure> {
        if let (false, RingPlace::Directory(directory)) = (begins, &self.ring)
            && !directory.is_dir()
        {
            return Err(no_ring());
        }
        let source = |kek: &KekSource| if self.kek_group_may_read { kek.clone().group_may_read() } else { kek.clone() };
        let keks = self.kek.iter().map(|kek| source(kek).load()).collect::<Result<Vec<_>, _>>();
        let keks = keks.and_then(KekRing::new);
        let keks = Arc::new(keks.map_err(|error| Failure::unavailable("no_kek", error.to_string()))?);
        let failed = |error: countersign_issuer::StoreError| Failure::unavailable("store", error.to_string());
        let store = self.ring.open().map_err(failed)?;
        let state = match store.load_state().await {
            Ok(Some(stored)) => Some(read(&keks, issuer, &stored.bytes)?),
            Ok(None) => None,
            // A bucket that was never probed does not say what is not there; the node probes it first.
            Err(error) if begins && error.kind() == StoreErrorKind::Unavailable => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Found { issuer: issuer.to_owned(), store, keks, state })
    }
}

fn read(keks: &Arc<KekRing>, issuer: &str, document: &[u8]) -> Result<RingState, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::unavailable("ring_unreadable", format!("the state of the ring cannot be read: {error}"))
    };
    let mac = StateMac::new(Arc::clone(keks), issuer);
    let state = mac.check(document).map_err(|error| unreadable(&error))?;
    RingState::from_bytes(state).map_err(|error| unreadable(&error))
}

pub(crate) fn no_ring() -> Failure {
    Failure::unavailable("no_ring", "there is no ring in that place")
}

impl Found {
    /// What it says itself.
    pub(crate) fn config(&self) -> Result<RingConfig, Failure> {
        self.state.as_ref().map(RingConfig::of_ring).ok_or_else(no_ring)
    }

    /// A node of it, at work.
    pub(crate) async fn start(
        self,
        mut config: RingConfig,
        role: Role,
        more: impl FnOnce(RingBuilder) -> RingBuilder,
    ) -> Result<Ring, Failure> {
        config.timing.tick = TICK;
        // The only other one was the reader's.
        let keks = Arc::into_inner(self.keks).ok_or_else(|| Failure::unavailable("no_kek", "the keys are in use"))?;
        let builder = Ring::builder(self.issuer, config, self.store, keks).role(role);
        match more(builder).start().await {
            Ok(ring) => Ok(ring),
            Err(countersign_issuer::StartError::Config(error)) => Err(Failure::usage(error.to_string())),
            Err(error) => Err(Failure::unavailable("ring", error.to_string())),
        }
    }
}

/// Waits until the node has done what is due, and says meanwhile what takes long.
pub(crate) async fn settle(ring: &Ring, within: Duration, screen: &Screen) -> bool {
    let begun = Instant::now();
    let mut settled = pin!(ring.settled_within(within));
    loop {
        tokio::select! {
            settled = &mut settled => {
                screen.progress("");
                return settled;
            }
            () = sleep(PROGRESS) => {
                let making = ring.status().making.join(", ");
                if !making.is_empty() {
                    screen.progress(&format!("making a key for {making}: {} s", begun.elapsed().as_secs()));
                }
            }
        }
    }
}

/// What has not succeeded, if a node did not settle.
pub(crate) fn unsettled(ring: &Ring, within: Duration) -> Failure {
    let failing: Vec<_> =
        ring.status().failing.iter().map(|(work, error)| format!("{}: {error}", work.code())).collect();
    let why = if failing.is_empty() { "another node may be at work".to_owned() } else { failing.join("; ") };
    Failure::unavailable("not_settled", format!("not all that is due was done within {} s: {why}", within.as_secs()))
}

/// Why an order was not carried out.
pub(crate) fn not_done(error: &OrderError) -> Failure {
    match error.is_temporary() {
        true => Failure::unavailable("order_failed", error.to_string()),
        false => Failure::refused("order_refused", error.to_string()),
    }
}

/// A number and its unit: `90s`, `15m`, `24h`, `30d`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "a time is a number and s, m, h or d, such as 90s or 24h";
    let (number, seconds) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => return Err(FORM),
    };
    let number: u64 = number.parse().map_err(|_| FORM)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or(FORM)
}

/// RFC 3339, in UTC, whole seconds.
pub(crate) fn date(time: UnixTime) -> String {
    const DAY: i64 = 86_400;
    let (mut days, seconds) = (time.as_secs().div_euclid(DAY), time.as_secs().rem_euclid(DAY));
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    // No time here is before 1970, and none is thousands of years away.
    while days >= 365 + i64::from(is_leap(year)) && year < 9_999 {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use countersign::Algorithm;
    use countersign_issuer::{Fault, Kek, MemoryStore, Operation, Slot};

    use super::*;
    use crate::output::Colour;

    #[tokio::test(start_paused = true)]
    async fn a_ring_that_does_not_settle_is_waited_for_so_long_and_what_fails_is_told() {
        let store = MemoryStore::new();
        let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
        let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
        let ring =
            Ring::builder("https://issuer.example", config, Arc::new(store.clone()), keks).start().await.unwrap();
        store.choose(|operation, _| {
            (operation == Operation::LoadState).then_some(Fault::Refuse(StoreErrorKind::Unavailable))
        });
        for patience in [PATIENCE_TO_LOOK, PATIENCE] {
            let begun = Instant::now();
            assert!(!settle(&ring, patience, &Screen::new(true, Colour::Never)).await);
            assert_eq!(begun.elapsed().as_secs(), patience.as_secs());
            let told = unsettled(&ring, patience).message;
            assert!(told.contains(&format!("within {} s: load_state", patience.as_secs())), "{told}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("24h", 86_400), ("30d", 2_592_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "s", "90", "-1s", "1.5h", "1w", "ä", "99999999999999999999d", "999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(UnixTime::from_secs(seconds)), expected);
        }
    }
}
