//! Keys of clients that are fetched from where they publish them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_testkit::{IdentityProvider, TestKey};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::{Answer, Bench, POLICY, bearer, jwks, key, orders, read};

const GRANT: &str =
    "grants.g = { profiles = [\"access\"], subjects = { self = true }, audiences = { exact = [\"orders\"] } }\n";

/// Of a machine that has something else to do, too.
const LONG: Duration = Duration::from_secs(60);

/// A client beside the others, and where its keys are.
fn with(policy: &str, client: &str, keys: &str) -> String {
    format!("{policy}[clients.{client}]\n{keys}\nadmin = [\"keys:read\"]\n{GRANT}")
}

fn with_far(policy: &str, provider: &IdentityProvider) -> String {
    with(policy, "far", &at(provider))
}

fn at(provider: &IdentityProvider) -> String {
    format!("jwks_uri = \"{}\"", provider.jwks_url())
}

async fn ask(bench: &Bench, key: &TestKey) -> Answer {
    ask_as(bench, "far", key).await
}

async fn ask_as(bench: &Bench, client: &str, key: &TestKey) -> Answer {
    bench.post("/v1/tokens", &bearer(&bench.assertion_with(&key.signing_key(), client)), &orders()).await
}

async fn list(bench: &Bench, key: &TestKey) -> Answer {
    let signed = bench.signed_with(&key.signing_key(), "far", "GET", "/v1/keys", "");
    bench.get_with("/v1/keys", &bearer(&signed)).await
}

/// What it is answered in the end, by someone who comes again when he is told to.
async fn at_last(ask: impl AsyncFn() -> Answer) -> u16 {
    let asking = async {
        loop {
            let status = ask().await.status;
            if !matches!(status, 429 | 503) {
                return status;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, asking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_publishes_its_keys_rotates_them_as_it_likes() {
    let provider = IdentityProvider::start();
    let bench = Bench::with(|policy| with_far(&policy, &provider)).await;
    assert_eq!(provider.fetches(), 0, "nobody is asked for what nobody needs");
    let first = provider.key();
    assert_eq!(at_last(async || ask(&bench, &first).await).await, 200);
    assert_eq!(list(&bench, &first).await.status, 200);
    // One copy for assertions and for the layer in front of the ring's routes.
    assert_eq!(provider.fetches(), 1);
    // A new one is looked for when it is first seen, and the old one is good for as long as it is published.
    let second = provider.rotate();
    assert_eq!(at_last(async || ask(&bench, &second).await).await, 200);
    assert_eq!((ask(&bench, &first).await.status, list(&bench, &second).await.status), (200, 200));
    provider.withdraw(&first);
    let third = provider.rotate();
    assert_eq!(at_last(async || list(&bench, &third).await).await, 200);
    assert_eq!(at_last(async || ask(&bench, &first).await).await, 401);
    assert_eq!(at_last(async || list(&bench, &first).await).await, 401);
    assert_eq!(ask(&bench, &third).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_known_by_the_keys_of_a_client_that_are_fetched() {
    let [provider, other] = [IdentityProvider::start(), IdentityProvider::start()];
    let bench = Bench::with(|policy| with(&with_far(&policy, &provider), "near", &at(&other))).await;
    let ask = async |client: &str, key: &TestKey| at_last(async || ask_as(&bench, client, key).await).await;
    assert_eq!((ask("far", &provider.key()).await, ask("near", &other.key()).await), (200, 200));
    for (client, key) in [("near", provider.key()), ("far", other.key()), ("web", provider.key())] {
        assert_eq!(ask(client, &key).await, 401, "{client}");
    }
    assert_eq!(ask("web", &provider.key().with_kid("c1")).await, 401, "under the name of the key that `web` has");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_keys_cause_no_flood_of_fetches_and_no_wait_for_those_that_are_known() {
    let provider = IdentityProvider::start();
    let bench = Arc::new(Bench::with(|policy| with_far(&policy, &provider)).await);
    assert_eq!(at_last(async || ask(&bench, &provider.key()).await).await, 200);
    let made_up: Vec<_> = (0..200).map(|index| bench.assertion_with(&key(&format!("k{index}")), "far")).collect();
    // Long enough for whoever does not have to wait.
    provider.set_answer(countersign_testkit::Answer::Late(Duration::from_secs(1)));
    let begun = Instant::now();
    let asked = made_up.into_iter().map(|token| {
        let bench = Arc::clone(&bench);
        async move { bench.post("/v1/tokens", &bearer(&token), &orders()).await.status }
    });
    let mut asked = asked.collect::<JoinSet<_>>();
    provider.wait_for_fetches(2).await;
    let mut answered = 0;
    while asked.try_join_next().is_some() {
        answered += 1;
    }
    assert_eq!(ask(&bench, &provider.key()).await.status, 200);
    assert!(answered < 200, "some still wait");
    let statuses = asked.join_all().await;
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    // One in a second, at most, and one that was under way.
    let most = begun.elapsed().as_secs() + 3;
    assert!(provider.fetches() as u64 <= most, "{} in {most} s", provider.fetches());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_there_are_no_keys_the_client_is_told_to_come_again() {
    let provider = IdentityProvider::start();
    provider.stop();
    let bench = Bench::with(|policy| with_far(&policy, &provider)).await;
    let key = provider.key();
    assert_eq!(ask(&bench, &key).await.refusal(), (503, "temporarily_unavailable".to_owned()));
    assert_eq!(list(&bench, &key).await.status, 503);
    assert_eq!(bench.ask(&orders()).await.status, 200);
    provider.resume();
    assert_eq!(at_last(async || ask(&bench, &key).await).await, 200);
    // What was fetched is good while the client's site is away.
    provider.stop();
    assert_eq!(ask(&bench, &key).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_keeps_what_was_fetched_from_where_it_says_the_same_and_nothing_else() {
    let [provider, other] = [IdentityProvider::start(), IdentityProvider::start()];
    let bench = Bench::with(|policy| with_far(&policy, &provider)).await;
    let ask = async |key: &TestKey| at_last(async || ask(&bench, key).await).await;
    let (here, there) = (provider.key(), other.key());
    assert_eq!(ask(&here).await, 200);
    let policy = POLICY.replace("JWKS", &jwks(&[&bench.key]));
    let put = |policy: &str| bench.service.reload(policy).unwrap();
    put(&with_far(&policy.replace("\"first\"", "\"second\""), &provider));
    assert_eq!((ask(&here).await, provider.fetches()), (200, 1));
    put(&with_far(&policy, &other));
    assert_eq!((ask(&there).await, ask(&here).await), (200, 401));
    // In the document, and elsewhere again.
    put(&with(&policy, "far", &format!("jwks = '{{\"keys\":[{}]}}'", here.public_jwk())));
    assert_eq!((ask(&here).await, ask(&there).await), (200, 401));
    put(&with_far(&policy, &other));
    assert_eq!((ask(&there).await, ask(&here).await), (200, 401));
    // Whoever is not in the policy any more is nobody, whatever was fetched, and is asked for nothing.
    put(&with(&policy, "near", &at(&other)));
    let fetched = other.fetches();
    assert_eq!((ask(&there).await, ask(&other.rotate()).await), (401, 401));
    assert_eq!(other.fetches(), fetched);
    // One that is refused changes nothing.
    assert!(bench.service.reload(&with_far("version = 2", &provider)).is_err());
    assert_eq!(at_last(async || ask_as(&bench, "near", &there).await).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_under_one_policy_is_not_known_by_the_keys_of_the_next() {
    let [provider, other] = [IdentityProvider::start(), IdentityProvider::start()];
    let bench = Arc::new(Bench::with(|policy| with_far(&policy, &provider)).await);
    assert_eq!(at_last(async || ask(&bench, &provider.key()).await).await, 200);
    provider.set_answer(countersign_testkit::Answer::Late(Duration::from_secs(1)));
    let fetches = provider.fetches();
    let asked = tokio::spawn({
        let (bench, key) = (Arc::clone(&bench), other.key());
        async move { ask(&bench, &key).await.status }
    });
    provider.wait_for_fetches(fetches + 1).await;
    // The client is given to somebody else, who may be granted less than it was.
    let policy = with_far(&POLICY.replace("JWKS", &jwks(&[&bench.key])), &other);
    bench.service.reload(&policy).unwrap();
    assert_eq!(at_last(async || ask(&bench, &other.key()).await).await, 200);
    assert_eq!(asked.await.unwrap(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_key_is_taken_from_its_client_while_its_body_comes_is_refused() {
    let [provider, other] = [IdentityProvider::start(), IdentityProvider::start()];
    let with_operator =
        |policy: &str, provider: &IdentityProvider| with_far(policy, provider).replace("keys:read", "keys:rotate");
    let bench = Bench::with(|policy| with_operator(&policy, &provider)).await;
    let body = r#"{ "mode": "standby", "reason": "drill", "dry_run": true }"#;
    let key = provider.key().signing_key();
    let signed = || bearer(&bench.signed_with(&key, "far", "POST", "/v1/keys:rotate", body));
    let send_slowly = async |meanwhile: &dyn Fn()| {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "POST /v1/keys:rotate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            signed()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Until the head has been judged, if this machine has the time.
        sleep(Duration::from_millis(500)).await;
        meanwhile();
        stream.write_all(body.as_bytes()).await.unwrap();
        read(&mut stream).await.status
    };
    assert_eq!(at_last(async || bench.post_text("/v1/keys:rotate", &signed(), body).await).await, 200);
    assert_eq!(send_slowly(&|| ()).await, 200);
    let next = with_operator(&POLICY.replace("JWKS", &jwks(&[&bench.key])), &other);
    assert_eq!(send_slowly(&|| bench.service.reload(&next).unwrap()).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_which_the_first_client_publishes_its_keys_follows_one_without_any() {
    let provider = IdentityProvider::start();
    let bench = Bench::new().await;
    assert_eq!(ask(&bench, &provider.key()).await.status, 401);
    let policy = POLICY.replace("JWKS", &jwks(&[&bench.key]));
    bench.service.reload(&with_far(&policy, &provider)).unwrap();
    assert_eq!(at_last(async || ask(&bench, &provider.key()).await).await, 200);
    bench.service.reload(&policy).unwrap();
    assert_eq!(ask(&bench, &provider.key()).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_so_many_places_are_asked_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let client = |index: usize| format!("[clients.c{index}]\njwks_uri = \"{url}\"\n");
    let clients: String = (0..100).map(client).collect();
    let bench = Arc::new(Bench::with(|policy| policy + &clients).await);
    let asked = (0..100).map(|index| {
        let (bench, key) = (Arc::clone(&bench), key("k"));
        let token = bench.assertion_with(&key, &format!("c{index}"));
        async move { bench.post("/v1/tokens", &bearer(&token), &orders()).await.status }
    });
    let asked = asked.collect::<JoinSet<_>>();
    let mut open = Vec::new();
    // Nobody is answered, so each of them is under way for as long as it may.
    while let Ok(accepted) = timeout(Duration::from_millis(500), listener.accept()).await {
        open.push(accepted.unwrap());
    }
    let most = countersign::jwks::MAX_FETCHES / 3;
    assert!((1..=most).contains(&open.len()), "{}", open.len());
    assert!(asked.join_all().await.iter().all(|status| *status == 503));
}

#[tokio::test]
async fn of_as_many_places_as_there_may_be_none_is_asked_before_its_client_comes() {
    let places = |policy: &str| {
        (0..countersign_service::policy::MAX_CLIENT_URLS).fold(policy.to_owned(), |policy, index| {
            policy + &format!("[clients.c{index}]\njwks_uri = \"http://127.0.0.1:9/{index}\"\n")
        })
    };
    let bench = Bench::with(|policy| places(&policy)).await;
    bench.service.reload(&places(&POLICY.replace("JWKS", &jwks(&[&bench.key])))).unwrap();
    // Nothing is fetched for whom nobody comes.
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks < 50, "{tasks} tasks");
}
