//! Several sources as one.

use std::time::Duration;

use crate::support::{JWKS, Script, Turn, look_up};
use countersign_jwks::{Issuers, KeyState, Keys, SourceError};
use countersign_token::{Algorithm, Answer, JwkSet, KeySet, KeySource, Miss, Origin, Unready};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);

fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

fn fixed(index: usize) -> Keys {
    let document = serde_json::json!({ "keys": [JWKS[index]] }).to_string();
    Keys::fixed(JwkSet::parse(document.as_bytes(), Origin::Local).unwrap().into_key_set())
}

fn union(members: impl IntoIterator<Item = Keys>) -> Keys {
    Keys::union(members).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_union_has_the_keys_of_all_and_follows_each() {
    let (one, two) = (Script::new([keys([0])]), Script::new([keys([1])]));
    let source = union([one.keys(), two.keys(), fixed(2)]);
    assert!(source.handle().is_ready(), "static keys are there at once");
    assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
    for kid in ["k0", "k1", "k2"] {
        assert_eq!(look_up(&source, kid).await, None, "{kid}");
    }
    let generation = source.snapshot().unwrap().generation();
    // A new key in either is found by whoever needs it, and what either withdraws is gone.
    sleep(10 * SEC).await;
    two.set(keys([3]));
    assert_eq!(look_up(&source, "k3").await, Some(Answer::Changed));
    assert!(look_up(&source, "k1").await.is_some());
    let set = source.snapshot().unwrap();
    assert!(set.generation() > generation);
    assert_eq!(set.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_absent_only_when_every_member_has_looked() {
    let (one, two) = (Script::new([keys([0])]), Script::new([keys([1])]));
    let source = union([one.keys(), two.keys()]);
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    let before = (one.fetches(), two.fetches());
    assert_eq!(look_up(&source, "nope").await, Some(Answer::Absent));
    assert_eq!((one.fetches(), two.fetches()), (before.0 + 1, before.1 + 1), "both were asked, at once");
    // One cannot be asked: nobody knows.
    sleep(10 * SEC).await;
    two.set(Turn::Body(500, Vec::new()));
    assert!(matches!(look_up(&source, "nope either").await, Some(Answer::NotYet { .. })));
    // A member without any keys is no outage while another has some.
    let three = Script::new([Turn::Body(500, Vec::new())]);
    let source = union([fixed(0), three.keys()]);
    sleep(SEC / 2).await;
    assert!(matches!(look_up(&source, "nope").await, Some(Answer::NotYet { .. })));
    assert_eq!(look_up(&source, "k0").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_answered_by_the_first_member_that_has_the_key() {
    let (quick, hanging) = (Script::new([keys([0])]), Script::new([keys([1]), Turn::Hang]));
    let source = union([hanging.keys(), quick.keys()]);
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    quick.set(keys([0, 2]));
    let begun = Instant::now();
    assert_eq!(look_up(&source, "k2").await, Some(Answer::Changed));
    assert!(begun.elapsed() < SEC / 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_any_keys_a_union_is_unavailable() {
    let (one, two) = (Script::new([Turn::Body(500, Vec::new())]), Script::new([Turn::Hang]));
    let source = union([one.keys(), two.keys()]);
    assert!(source.snapshot().is_none() && !source.handle().is_ready());
    sleep(3 * SEC).await;
    let answer = look_up(&source, "k0").await;
    assert!(matches!(answer, Some(Answer::Unavailable { reason: Unready::NeverFetched, .. })), "{answer:?}");
    assert_eq!(source.handle().status().state, KeyState::Unusable(Unready::NeverFetched));
    two.set(keys([0]));
    source.handle().ready_within(10 * SEC).await.unwrap();
    assert_eq!(look_up(&source, "k0").await, None);
}

/// What is too old to be trusted in its source is so in a union too, whatever the others have.
#[tokio::test(start_paused = true)]
async fn the_keys_of_a_member_that_is_too_old_are_gone() {
    let old = Script::new([keys([0]), Turn::Body(500, Vec::new())]);
    let fresh = Script::new([keys([1])]);
    let remote = old.remote().max_lifetime(600 * SEC).max_stale(1_200 * SEC);
    let source = union([Keys::remote(remote), fresh.keys()]);
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    assert_eq!((look_up(&source, "k0").await, look_up(&source, "k1").await), (None, None));
    sleep(1_300 * SEC).await;
    let set = source.snapshot().unwrap();
    assert_eq!(set.iter().filter_map(|key| key.kid()).collect::<Vec<_>>(), ["k1"]);
    let parts = source.handle().parts();
    assert_eq!(
        parts.iter().map(|part| part.status().state).collect::<Vec<_>>(),
        [KeyState::Unusable(Unready::TooOld), KeyState::Ready]
    );
    assert_eq!(source.handle().status().state, KeyState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_bad_signature_makes_the_member_look_that_has_the_key() {
    let (one, two) = (Script::new([keys([0])]), Script::new([keys([1])]));
    let source = union([one.keys(), two.keys()]);
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    let generation = Some(source.snapshot().unwrap().generation());
    source.signature_mismatch(Miss { generation, kid: Some("k1"), algorithm: Algorithm::Ed25519, token: None });
    sleep(SEC).await;
    assert_eq!((one.fetches(), two.fetches()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_union_refreshes_and_tells_events_of_all() {
    let (one, two) = (Script::new([keys([0])]), Script::new([keys([1]), Turn::Body(500, Vec::new())]));
    let source = union([one.keys(), union([two.keys(), fixed(2)])]);
    let mut events = source.handle().events();
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    assert!(source.handle().refresh().await.unwrap_err().to_string().contains("500"));
    assert_eq!((one.fetches(), two.fetches()), (2, 2));
    let mut told = Vec::new();
    while let Ok(Some((name, event))) = tokio::time::timeout(SEC, events.next_named()).await {
        told.push(format!("{name}: {event}"));
    }
    assert_eq!(told.iter().filter(|event| event.contains("key set 1")).count(), 2, "{told:?}");
    assert!(
        told.iter().any(|event| event.starts_with("https://issuer.test/keys: ") && event.contains("500")),
        "{told:?}"
    );
    let status = source.handle().status();
    assert_eq!((status.keys, status.fetches_started, status.fetches_failed), (3, 4, 1));
}

#[tokio::test(start_paused = true)]
async fn many_issuers_are_no_member_of_a_union() {
    let issuers = Keys::issuers(Issuers::new().issuer("https://a.example"));
    assert_eq!(Keys::union([issuers]).err(), Some(SourceError::IssuersInUnion));
    let nothing = union([]);
    assert!(nothing.snapshot().is_none() && !nothing.handle().is_ready());
    assert_eq!(look_up(&nothing, "k0").await, Some(Answer::Absent));
    assert!(nothing.handle().ready().await.is_err());
    let empty = union([Keys::fixed(KeySet::default())]);
    assert!(!empty.handle().is_ready());
}

/// Readers of a union, while its members change all the time, see whole sets and never wait long.
#[test]
fn readers_see_one_merged_set_or_the_next() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (one, two) = (Script::taking(Duration::ZERO, [keys([0, 1])]), Script::taking(Duration::ZERO, [keys([2, 3])]));
    let source = runtime.block_on(async {
        let source = union([one.keys(), two.keys()]);
        for part in source.handle().parts() {
            part.ready().await.unwrap();
        }
        source
    });
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let source = source.clone();
            std::thread::spawn(move || {
                let mut last = 0;
                let end = std::time::Instant::now() + 2 * SEC;
                while std::time::Instant::now() < end {
                    let set = source.snapshot().unwrap();
                    assert!(set.generation() >= last, "it never goes back");
                    last = set.generation();
                    let names: Vec<_> = set.iter().filter_map(|key| key.kid()).collect();
                    assert!(matches!(names[..], ["k0", "k1", ..] | ["k4", "k5", ..]), "{names:?}");
                    assert!(matches!(names[2..], ["k2", "k3"] | ["k6", "k7"]), "{names:?}");
                }
                last
            })
        })
        .collect();
    for round in 0..2 {
        one.set(if round % 2 == 0 { keys([4, 5]) } else { keys([0, 1]) });
        two.set(if round % 2 == 0 { keys([6, 7]) } else { keys([2, 3]) });
        let _ = runtime.block_on(source.handle().refresh());
    }
    assert!(readers.into_iter().map(|reader| reader.join().unwrap()).max().unwrap() >= 3);
}
