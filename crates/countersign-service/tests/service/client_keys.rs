//! Keys of clients that are fetched from where they publish them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_testkit::{IdentityProvider, TestKey};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::{Answer, Bench, POLICY, bearer, jwks, key, orders};

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

#[tokio::test]
async fn as_many_places_as_there_may_be_keep_no_start_and_no_reload_waiting() {
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
