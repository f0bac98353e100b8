//! Processes that die at each step of a key's life on a ring in S3, as moto has it, and those that go on after them.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

#[path = "../../../crates/countersign-issuer/tests/ring/crashes.rs"]
mod crashes;
#[path = "../../../crates/countersign-issuer/tests/ring/tokens.rs"]
mod tokens;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign_issuer::{KeyStore, ObjectKeyStore, RingConfig, Slot};
use countersign_tests_stores::{free_port, make_bucket, s3};
use countersign_token::Algorithm;
use object_store::RetryConfig;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;

use crate::crashes::{Died, Ground, live, runtime, steps, this_program};

/// Where the process that a test has started finds its ring: the port, and the path in the bucket.
const PLACE: &str = "COUNTERSIGN_TEST_BUCKET";

const BUCKET: &str = "crashes";

/// How many processes die at a time. Each, and whoever watches it, makes a dozen requests a second, of which moto answers
/// some two hundred.
const AT_ONCE: usize = 6;

/// As fast as the inequalities allow with three seconds for each write: a key lives for some ten. One slot, because
/// each has the same steps.
fn config() -> RingConfig {
    let millis = Duration::from_millis;
    let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    let timing = &mut config.timing;
    (timing.max_age, timing.intermediary, timing.publish_lag) = (millis(100), millis(0), millis(0));
    (timing.clock_error, timing.leeway, timing.max_lifetime) = (millis(200), millis(0), millis(1_000));
    (timing.tick, timing.publish, timing.lease) = (millis(500), millis(3_000), millis(3_500));
    (timing.keygen, timing.rotation, timing.overlap) = (millis(50), millis(3_900), millis(4_900));
    (timing.heartbeat, timing.orphan) = (millis(1_000), millis(10_000));
    config
}

struct Place {
    port: u16,
    path: String,
}

impl Ground for Place {
    fn config(&self) -> RingConfig {
        config()
    }

    fn open(&self) -> Arc<dyn KeyStore> {
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let client = AmazonS3Builder::new().with_endpoint(endpoint).with_allow_http(true).with_bucket_name(BUCKET);
        let client = client.with_region("us-east-1").with_access_key_id("x").with_secret_access_key("x");
        let client = client.with_retry(retry).build().unwrap();
        Arc::new(ObjectKeyStore::new(Arc::new(client), Path::from(self.path.as_str())))
    }

    fn child(&self) -> Command {
        let mut command = this_program("one_that_dies");
        command.env(PLACE, format!("{} {}", self.port, self.path));
        command
    }

    fn pace(&self) -> Duration {
        Duration::from_millis(1_000)
    }
}

/// Not a test but the process, if it was started as such.
#[test]
fn one_that_dies() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let (port, path) = place.split_once(' ').unwrap();
    live(&Place { port: port.parse().unwrap(), path: path.to_owned() });
}

#[test]
fn whenever_a_process_dies_the_next_one_goes_on_in_s3_and_no_verifier_notices() {
    let port = free_port();
    let _server = s3(port);
    runtime().block_on(make_bucket(port, BUCKET));
    let rings = AtomicUsize::new(0);
    let ground = || Place { port, path: format!("ring-{}", rings.fetch_add(1, Ordering::Relaxed)) };
    // The first key is the first time that there is anything; all else is seen of the one that follows it, whose last steps
    // nobody lives to see.
    let dooms = steps().flat_map(|(step, when)| {
        let times = match step {
            1 | 9 | 10 => 1..=1,
            2 | 3 => 1..=2,
            _ => 2..=2,
        };
        times.map(move |times| (step, when, times))
    });
    let (died, begun) = (Died::default(), Instant::now());
    died.at_steps(AT_ONCE, dooms, ground);
    died.report(begun);
}
