//! Keys that were in force and are not any more.

use std::time::Duration;

use crate::issuers;
use crate::support::{Script, Sites, Turn, look_up};
use countersign_jwks::{DEFAULT_MAX_STALE, KeyState, Keys};
use countersign_token::KeySet;
use tokio::time::sleep;

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
