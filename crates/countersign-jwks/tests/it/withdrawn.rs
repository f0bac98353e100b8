//! Keys that were in force and are not any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::issuers;
use crate::support::{Script, Sites, Turn, look, look_up};
use countersign_jwks::{DEFAULT_MAX_STALE, KeyEvent, KeyState, Keys, Remote};
use countersign_token::{Answer, Ask, KeySet, KeySource as _};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_in_force_is_withdrawn_until_it_comes_back() {
    let script = Script::new([keys([0, 1])]);
    let source = script.keys();
    let handle = source.handle();
    handle.ready().await.unwrap();
    let withdrawn = || ["k0", "k1", "k2", "nope"].map(|kid| handle.withdrawn(kid));
    assert_eq!(withdrawn(), [None; 4]);
    script.set(keys([1, 2]));
    handle.refresh().await.unwrap();
    sleep(10 * SEC).await;
    assert_eq!(withdrawn(), [Some(10 * SEC), None, None, None]);
    // Nobody has said anything of the keys that an outage makes too old.
    script.set(Turn::Body(500, Vec::new()));
    sleep(DEFAULT_MAX_STALE).await;
    assert!(matches!(handle.status().state, KeyState::Unusable(_)));
    assert_eq!(withdrawn(), [Some(DEFAULT_MAX_STALE + 10 * SEC), None, None, None]);
    script.set(keys([0]));
    handle.refresh().await.unwrap();
    sleep(SEC).await;
    assert_eq!(withdrawn(), [None, Some(SEC), Some(SEC), None]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_believed_withdraws_nothing() {
    let script = Script::new([keys([0]), keys([])]);
    let source = script.keys();
    let handle = source.handle();
    handle.ready().await.unwrap();
    handle.refresh().await.unwrap_err();
    assert_eq!(handle.withdrawn("k0"), None);
    // The second look confirms it.
    sleep(2 * SEC).await;
    assert_eq!(handle.status().state, KeyState::Empty);
    assert!(handle.withdrawn("k0").is_some());
}

#[tokio::test(start_paused = true)]
async fn in_a_union_a_key_is_withdrawn_when_no_member_has_it_any_more() {
    let (one, two) = (Script::new([keys([0, 1])]), Script::new([keys([0, 2])]));
    let (one_keys, two_keys) = (one.keys(), two.keys());
    let source = Keys::union([one_keys.clone(), two_keys.clone(), Keys::fixed(KeySet::default())]).unwrap();
    for keys in [&one_keys, &two_keys] {
        keys.handle().ready().await.unwrap();
    }
    one.set(keys([1]));
    one_keys.handle().refresh().await.unwrap();
    sleep(SEC).await;
    assert_eq!((one_keys.handle().withdrawn("k0"), source.handle().withdrawn("k0")), (Some(SEC), None));
    assert_eq!(look_up(&source, "k0").await, None);
    two.set(keys([2]));
    two_keys.handle().refresh().await.unwrap();
    sleep(SEC).await;
    let ago = two_keys.handle().withdrawn("k0");
    assert!(ago.is_some() && source.handle().withdrawn("k0") == ago, "since the last of them has let go of it");
    assert_eq!(source.handle().withdrawn("k1"), None);
    assert_eq!(Keys::fixed(KeySet::default()).handle().withdrawn("k0"), None);
}

#[tokio::test(start_paused = true)]
async fn of_many_issuers_each_remembers_its_own() {
    let sites = Sites::default();
    let source = Keys::issuers(issuers::numbered(&sites, 2));
    source.handle().refresh().await.unwrap();
    sites.set("https://i0.example/keys", keys([1]));
    source.handle().refresh().await.unwrap();
    let withdrawn_of = |issuer: &str| {
        let part = source.handle().parts().into_iter().find(|part| part.name() == Some(issuer)).unwrap();
        ["k0", "k1"].map(|kid| part.withdrawn(kid).is_some())
    };
    assert_eq!(withdrawn_of("https://i0.example"), [true, false]);
    assert_eq!(withdrawn_of("https://i1.example"), [false, false]);
    assert!(source.handle().withdrawn("k0").is_some() && source.handle().withdrawn("k1").is_none());
}

/// What a look-up comes to that waits for nothing; `None` if it would have to.
fn at_once(keys: &Keys, kid: &str) -> Option<Answer> {
    match look(keys, kid) {
        Some(Ask::Answered(answer)) => Some(answer),
        Some(Ask::Wait(_)) => None,
        None => panic!("{kid} is there"),
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_emergency_rotation_tokens_of_the_old_key_wait_for_nothing_and_those_of_the_new_one_do() {
    let script = Script::new([keys([0, 1])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    sleep(10 * SEC).await;
    script.set(keys([2]));
    let begun = Instant::now();
    assert_eq!(look_up(&source, "k2").await, Some(Answer::Changed), "it waits for a look");
    assert_eq!(begun.elapsed(), 10 * MS);
    while begun.elapsed() < 5 * SEC {
        assert_eq!(
            [at_once(&source, "k0"), at_once(&source, "k1")],
            [Some(Answer::Absent); 2],
            "{:?}",
            begun.elapsed()
        );
        sleep(249 * MS).await;
    }
    assert_eq!(script.fetches(), 2);
    // The next rotation is as unknown as ever.
    script.set(keys([2, 3]));
    assert_eq!(at_once(&source, "k3"), None);
    assert_eq!(look_up(&source, "k3").await, Some(Answer::Changed));
    // And a key that was withdrawn in error is there as soon as it is there.
    script.set(keys([0, 2]));
    source.handle().refresh().await.unwrap();
    assert_eq!(look_up(&source, "k0").await, None);
    assert_eq!(at_once(&source, "k3"), Some(Answer::Absent));
}

/// Whoever sees the set without a key finds that it is known to be absent, at whatever moment.
#[test]
fn nobody_sees_a_set_before_what_it_lacks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for _ in 0..100 {
        let script = Script::taking(Duration::ZERO, [keys([0])]);
        let source = script.keys();
        let handle = source.handle();
        runtime.block_on(handle.ready()).unwrap();
        script.set(keys([1]));
        let (reads, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let _inside = runtime.enter();
                loop {
                    reads.store(true, Ordering::SeqCst);
                    let is_last = is_over.load(Ordering::SeqCst);
                    if let Some(ask) = look(&source, "k0") {
                        return matches!(ask, Ask::Answered(Answer::Absent));
                    }
                    if is_last {
                        return false;
                    }
                }
            });
            while !reads.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let refreshed = runtime.block_on(handle.refresh());
            let is_replaced = source.snapshot().is_some_and(|set| set.generation() == 2);
            is_over.store(true, Ordering::SeqCst);
            refreshed.is_ok() && is_replaced && reader.join().unwrap()
        });
        assert!(seen);
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_union_a_key_is_known_to_be_absent_when_every_member_has_looked() {
    let (one, two) = (Script::new([keys([0, 1])]), Script::new([keys([0, 2])]));
    let (one_keys, two_keys) = (one.keys(), two.keys());
    let source = Keys::union([one_keys.clone(), two_keys.clone()]).unwrap();
    for keys in [&one_keys, &two_keys] {
        keys.handle().ready().await.unwrap();
    }
    one.set(keys([1]));
    one_keys.handle().refresh().await.unwrap();
    assert_eq!(at_once(&one_keys, "k0"), Some(Answer::Absent));
    assert_eq!(look_up(&source, "k0").await, None, "the other one has it");
    two.set(keys([2]));
    two_keys.handle().refresh().await.unwrap();
    assert_eq!(at_once(&source, "k0"), Some(Answer::Absent));
    // The other one has never had this, and may have it now.
    one.set(keys([3]));
    one_keys.handle().refresh().await.unwrap();
    assert_eq!((at_once(&one_keys, "k1"), at_once(&source, "k1")), (Some(Answer::Absent), None));
    two.set(keys([1, 2]));
    assert_eq!(look_up(&source, "k1").await, Some(Answer::Changed));
}

#[tokio::test(start_paused = true)]
async fn what_a_mirror_lacks_is_looked_for() {
    let sites = Sites::default();
    let (first, mirror) = ("https://a.test/keys", "https://b.test/keys");
    let remote = |url| Remote::new(url).unwrap().fetch(sites.clone());
    sites.set(first, keys([0, 1]));
    sites.set(mirror, keys([0]));
    let source = Keys::remote(remote(first).or_else(remote(mirror)));
    source.handle().ready().await.unwrap();
    // From now on caches are told to look again, lest they keep this name absent.
    assert_eq!(look_up(&source, "k7").await, Some(Answer::Absent));
    sites.set(first, Turn::Body(500, Vec::new()));
    let mut events = source.handle().events();
    while !matches!(events.next().await, Some(KeyEvent::Rotated { .. })) {}
    // The mirror is behind.
    assert!(sites.requests().last().is_some_and(|request| request.url == mirror && request.revalidate));
    assert_eq!(at_once(&source, "k1"), None);
    sites.set(first, keys([0, 1]));
    assert_eq!(look_up(&source, "k1").await, Some(Answer::Changed));
}

#[tokio::test(start_paused = true)]
async fn of_many_issuers_each_has_its_own_absences() {
    let sites = Sites::default();
    let source = Keys::issuers(issuers::numbered(&sites, 2));
    source.handle().ready().await.unwrap();
    sleep(10 * SEC).await;
    sites.set("https://i0.example/keys", keys([2]));
    assert_eq!(issuers::look_up(&source, "https://i0.example", "k2").await, Some(Answer::Changed));
    let of_0 = issuers::look(&source, "https://i0.example", "k0");
    assert!(matches!(of_0, Some(Ask::Answered(Answer::Absent))), "{of_0:?}");
    let of_1 = issuers::look(&source, "https://i1.example", "k0");
    assert!(matches!(of_1, Some(Ask::Wait(_))), "{of_1:?}");
}

/// One of an issuer's servers, all behind one address, has not heard of the new key yet, and hides that; a stranger's invention makes us ask it. What it lacks
/// counts as withdrawn until the next look, or for as long as an absence lasts: the price of refusing a withdrawn key at once (`DESIGN.md`).
#[tokio::test(start_paused = true)]
async fn a_key_that_one_answer_lacks_is_absent_no_longer_than_any() {
    let script = Script::new([keys([0, 1])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    sleep(10 * SEC).await;
    script.set(keys([0]));
    assert_eq!(look_up(&source, "invented").await, Some(Answer::Absent));
    script.set(keys([0, 1]));
    assert_eq!(look_up(&source, "k1").await, Some(Answer::Absent));
    sleep(6 * SEC).await;
    assert!(matches!(look_up(&source, "k1").await, None | Some(Answer::Changed)));
}
