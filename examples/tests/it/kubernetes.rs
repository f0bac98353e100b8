//! The service for Kubernetes, through an issuer's outages and to its own end.

use std::time::{Duration, Instant};

use countersign_examples::{Answer, Client, Running, documented_calls_of};
use countersign_testkit::{self as testkit, IdentityProvider};
use tokio::net::TcpStream;
use tokio::time::sleep;

const MANIFEST: &str = include_str!("../../kubernetes.yaml");

/// How long after its issuer's return a service may need to notice: a look that hangs is abandoned after 2 s, the next
/// begins within one more.
const NOTICED_WITHIN: Duration = Duration::from_secs(4);

/// Keys that are good for a second, so that an outage makes them stale soon.
fn start_with_short_lifetime(idp: &IdentityProvider) -> Running {
    let (jwks_url, issuer) = (idp.jwks_url(), idp.issuer());
    Running::start("kubernetes", &["--jwks-url", &jwks_url, "--issuer", issuer, "--key-lifetime", "1"])
}

/// Asks for readiness until it is as wanted, and returns how long that took.
async fn readiness_becomes(example: &Running, status: u16, body: &str) -> Duration {
    let (client, start) = (Client::http1(), Instant::now());
    loop {
        let answer = client.get_bare(&example.url("/readyz")).await;
        if answer.content() == (status, body) {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{answer:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn hello(example: &Running, idp: &IdentityProvider) -> Answer {
    Client::http1().get(&example.url("/hello"), &idp.token("orders")).await
}

/// A fault that the issuer has when the service starts, and its end.
type Fault = (&'static str, fn(&IdentityProvider), fn(&IdentityProvider));

#[tokio::test]
async fn a_start_without_the_issuer_is_alive_and_not_ready_until_it_is_there() {
    let faults: [Fault; 3] = [
        ("down", IdentityProvider::stop, IdentityProvider::resume),
        ("hanging", |idp| idp.set_answer(testkit::Answer::Stall), |idp| idp.set_answer(testkit::Answer::Keys)),
        ("failing", |idp| idp.set_answer(testkit::Answer::status(500)), |idp| idp.set_answer(testkit::Answer::Keys)),
    ];
    for (fault, begin, end) in faults {
        let idp = IdentityProvider::start();
        begin(&idp);
        let mut example = Running::start_trusting("kubernetes", &idp);
        let client = Client::http1();

        assert_eq!(client.get_bare(&example.url("/livez")).await.content(), (200, "ok"), "{fault}");
        assert_eq!(client.get_bare(&example.url("/readyz")).await.status, 503, "{fault}");
        readiness_becomes(&example, 503, r#"{"keys":"never_fetched"}"#).await;
        let refused = hello(&example, &idp).await;
        assert_eq!(refused.content(), (503, ""), "{fault}");
        let retry_after: u64 = refused.header("retry-after").parse().expect("seconds");
        assert!((1..=5).contains(&retry_after), "{fault}: {retry_after}");
        example.hear("keys: the keys could not be fetched: ");
        // Failures go on, and it is alive.
        assert_eq!(client.get_bare(&example.url("/livez")).await.status, 200, "{fault}");

        end(&idp);
        let took = readiness_becomes(&example, 200, r#"{"keys":"ready"}"#).await;
        assert!(took <= NOTICED_WITHIN, "{fault}: {took:?}");
        assert_eq!(hello(&example, &idp).await.content(), (200, "Hello, ada!"), "{fault}");
        assert_eq!(example.hear("keys: key set "), "1 is in force: 1 keys, 1 new, 0 gone", "{fault}");
    }
}

#[tokio::test]
async fn stale_keys_leave_it_ready_and_good_tokens_accepted() {
    let idp = IdentityProvider::start();
    let mut example = start_with_short_lifetime(&idp);
    readiness_becomes(&example, 200, r#"{"keys":"ready"}"#).await;

    idp.stop();
    example.hear("keys: the keys are stale");
    for _ in 0..20 {
        let readyz = Client::http1().get_bare(&example.url("/readyz")).await;
        assert_eq!(readyz.content(), (200, r#"{"keys":"stale"}"#));
        assert_eq!(Client::http1().get_bare(&example.url("/livez")).await.status, 200);
        assert_eq!(hello(&example, &idp).await.content(), (200, "Hello, ada!"));
    }

    idp.resume();
    example.hear("keys: the keys are fresh again");
    assert_eq!(hello(&example, &idp).await.status, 200);
}

#[tokio::test]
async fn a_rotation_refuses_nobody() {
    let idp = IdentityProvider::start();
    let mut example = Running::start_trusting("kubernetes", &idp);
    readiness_becomes(&example, 200, r#"{"keys":"ready"}"#).await;
    let before = idp.token("orders");

    idp.rotate();
    let after = idp.token("orders");
    let mut callers = tokio::task::JoinSet::new();
    for token in [before, after].into_iter().cycle().take(32) {
        let url = example.url("/hello");
        callers.spawn(async move { Client::http1().get(&url, &token).await.status });
    }
    assert_eq!(callers.join_all().await, [200; 32]);
    assert_eq!(Client::http1().get_bare(&example.url("/readyz")).await.status, 200);
    assert_eq!(example.hear("keys: key set 2 "), "is in force: 2 keys, 1 new, 0 gone");
    assert_eq!(idp.fetches(), 2);
}

/// A node that stood still while the issuer rotated: its pod refuses nobody once it goes on, and stays ready.
#[tokio::test]
async fn a_pod_that_was_frozen_through_a_rotation_refuses_nobody() {
    let idp = IdentityProvider::start();
    let example = start_with_short_lifetime(&idp);
    readiness_becomes(&example, 200, r#"{"keys":"ready"}"#).await;
    let before = idp.token("orders");

    example.freeze();
    idp.rotate();
    // Longer than the keys are good for.
    sleep(Duration::from_secs(3)).await;
    example.thaw();

    for token in [idp.token("orders"), before] {
        assert_eq!(Client::http1().get(&example.url("/hello"), &token).await.status, 200);
    }
    assert_eq!(Client::http1().get_bare(&example.url("/readyz")).await.status, 200);
}

#[tokio::test]
async fn sigterm_lets_requests_finish_and_nobody_else_in() {
    let idp = IdentityProvider::start();
    let mut example = Running::start_trusting("kubernetes", &idp);
    readiness_becomes(&example, 200, r#"{"keys":"ready"}"#).await;

    // A request that takes its time: its key is being looked for.
    idp.answer_once(testkit::Answer::Late(Duration::from_secs(1)));
    idp.rotate();
    let (url, token) = (example.url("/hello"), idp.token("orders"));
    let under_way = tokio::spawn(async move { Client::http1().get(&url, &token).await });
    idp.wait_for_fetches(2).await;

    example.terminate();
    while TcpStream::connect(example.address()).await.is_ok() {
        assert!(!under_way.is_finished(), "it still lets clients in");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(under_way.await.unwrap().content(), (200, "Hello, ada!"));
    assert!(example.wait().success());
}

#[tokio::test]
async fn the_manifest_has_probes_that_are_there_and_arguments_that_are_known() {
    let idp = IdentityProvider::start();
    let (jwks_url, issuer) = (idp.jwks_url(), idp.issuer());
    let mut arguments = Vec::new();
    for argument in MANIFEST.lines().filter_map(|line| line.trim().strip_prefix("- --")) {
        let (name, value) = argument.split_once('=').expect("a value");
        arguments.push(match name {
            "port" => continue,
            "host" => "--host=127.0.0.1".to_owned(),
            "jwks-url" => format!("--jwks-url={jwks_url}"),
            "issuer" => format!("--issuer={issuer}"),
            name => format!("--{name}={value}"),
        });
    }
    assert_eq!(arguments.len(), 4);
    let arguments: Vec<_> = arguments.iter().map(|argument| &**argument).collect();
    let example = Running::start("kubernetes", &arguments);
    readiness_becomes(&example, 200, r#"{"keys":"ready"}"#).await;

    let probes: Vec<_> = MANIFEST.lines().filter_map(|line| line.trim().strip_prefix("path: ")).collect();
    assert_eq!(probes, ["/livez", "/livez", "/readyz"]);
    for path in probes {
        assert_eq!(Client::http1().get_bare(&example.url(path)).await.status, 200, "{path}");
    }
    assert_eq!(hello(&example, &idp).await.status, 200);
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("kubernetes", include_str!("../../kubernetes.rs")).await;
}
