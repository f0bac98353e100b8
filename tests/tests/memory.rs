//! How much memory a provider that lies about its keys can cost: a program of its own, so that nothing else is measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]
#![expect(clippy::print_stderr, reason = "what was measured, for whoever wants to see it")]

use std::time::Duration;

use countersign::JwtAuth;
use countersign_testkit::{Answer, IdentityProvider};
use countersign_tests::bomb::gzip_bomb;
use countersign_tests::crowd::AUDIENCE;
use countersign_tests::service::{Connection, serve};
use tokio::task::JoinSet;

/// What the peak may be above what it was before, bytes.
const MAX_GROWTH: u64 = 16 << 20;

/// Long enough for three looks with the first retries between them, or for one that hangs until its time-out and another.
const MISERY: Duration = Duration::from_secs(8);

/// The peak of this process's resident memory, bytes; `None` where the system does not say so.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// Makes the present the peak, so that what building the test took hides nothing. Linux; proc_pid_clear_refs(5).
fn forget_peak() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        eprintln!("what the test itself has used counts too: {error}");
    }
}

fn faults() -> [Answer; 4] {
    // Short enough to be read, and to be unpacked.
    let bomb = gzip_bomb(300).unwrap();
    assert!(bomb.len() < countersign::jwks::MAX_BODY_BYTES);
    [
        Answer::Endless(1 << 30),
        Answer::body(bomb).with_header("content-encoding", "gzip"),
        Answer::Drip(Duration::from_secs(1)),
        Answer::status(302).with_header("location", "/jwks.json"),
    ]
}

/// A provider with that fault, for a service that has its keys and for one that starts now. Whoever has keys is served meanwhile.
async fn suffer(fault: Answer) {
    let provider = IdentityProvider::start();
    let auth = || JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()).audience(AUDIENCE);
    let known = auth();
    let handle = known.handle();
    handle.keys().ready().await.unwrap();
    provider.set_answer(fault);
    let starting = auth().handle();
    let mut connection = Connection::open(serve(known).await.unwrap()).await.unwrap();
    let token = provider.token(AUDIENCE).sign();
    let looking = tokio::spawn(async move {
        loop {
            handle.keys().refresh().await.unwrap_err();
        }
    });
    let end = tokio::time::Instant::now() + MISERY;
    while tokio::time::Instant::now() < end {
        assert_eq!(connection.get(&token).await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!looking.is_finished(), "a look that succeeds is no failure");
    looking.abort();
    let status = starting.keys().status();
    assert!(status.fetches_failed >= 2 && status.keys == 0, "{status:?}");
}

/// All that the provider sends, as a fetcher without a limit would take it.
async fn swallow(answer: Answer) -> usize {
    let provider = IdentityProvider::start();
    provider.set_answer(answer);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut response = client.get(provider.jwks_url()).send().await.unwrap();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
    }
    body.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_provider_makes_the_service_use_more_than_16_mib() {
    let Some(before) = peak() else {
        eprintln!("this system does not say how much memory a process has used at most: nothing is measured");
        return;
    };
    let faults = faults();
    // Whatever is made once per process: key pairs, the HTTP client with its trust roots.
    let provider = IdentityProvider::start();
    let handle = JwtAuth::new(provider.jwks_url()).handle();
    handle.keys().ready().await.unwrap();

    forget_peak();
    let calm = peak().unwrap();
    let mut suffering = JoinSet::new();
    for fault in faults {
        suffering.spawn(suffer(fault));
    }
    suffering.join_all().await;
    let suffered = peak().unwrap();
    eprintln!(
        "peak: {} KiB at first, {} KiB before the faults, {} KiB after them",
        before >> 10,
        calm >> 10,
        suffered >> 10
    );
    assert!(suffered - calm <= MAX_GROWTH, "{} KiB more", (suffered - calm) >> 10);

    // The measure can fail: it notices the same answers once somebody reads them to their end. The provider itself needs nothing
    // for what it makes up as it goes.
    let [Answer::Endless(_), bomb, ..] = crate::faults() else { panic!("other faults") };
    for (answer, octets) in [(Answer::Endless(64 << 20), 64 << 20), (bomb, 300 << 20)] {
        forget_peak();
        let calm = peak().unwrap();
        let swallowed = swallow(answer).await;
        assert!(swallowed >= octets, "{swallowed}");
        assert!(peak().unwrap() - calm > MAX_GROWTH, "it was not noticed");
    }
}
