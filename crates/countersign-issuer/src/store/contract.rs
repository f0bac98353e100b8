//! What every store must do, whatever it is made of. Its tests call this.

use super::{
    JwksHeaders, KeyStore, MAX_SEALED_BYTES, MAX_STATE_BYTES, MAX_STORED_JWKS_BYTES, StoreErrorKind, StoreFuture,
    Version,
};

const HEADERS: JwksHeaders<'static> =
    JwksHeaders { content_type: "application/jwk-set+json", cache_control: "public, max-age=300" };

/// How many race for one version. As many processes as issue 8 has start on an empty store.
const RACERS: u8 = 16;

/// What the answer is to a write that has certainly lost. Some stores cannot be certain.
fn lost(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Conflict | StoreErrorKind::Unknown)
}

async fn kind<T>(answer: StoreFuture<'_, T>) -> StoreErrorKind {
    answer.await.err().map(|error| error.kind()).expect("an error")
}

/// Of a store that is empty.
pub(super) async fn every_promise_is_kept(store: &dyn KeyStore) {
    store.probe().await.unwrap();
    state(store).await;
    private_keys(store).await;
    jwks(store).await;
    store.probe().await.unwrap();
}

async fn state(store: &dyn KeyStore) {
    assert_eq!(store.load_state().await.unwrap(), None);
    assert!(lost(kind(store.swap_state(Some(&Version::new("\"0\"")), b"none")).await), "there is nothing to replace");
    assert_eq!(store.load_state().await.unwrap(), None);

    let first = store.swap_state(None, b"first").await.unwrap();
    assert!(lost(kind(store.swap_state(None, b"again")).await), "there is one");
    let second = store.swap_state(Some(&first), b"second").await.unwrap();
    assert_ne!(first, second);
    for stale in [None, Some(&first)] {
        assert!(lost(kind(store.swap_state(stale, b"stale")).await));
    }
    let found = store.load_state().await.unwrap().unwrap();
    assert_eq!((found.bytes.as_slice(), &found.version), (b"second".as_slice(), &second));

    let largest = vec![b' '; MAX_STATE_BYTES];
    let third = store.swap_state(Some(&second), &largest).await.unwrap();
    assert_eq!(store.load_state().await.unwrap().unwrap().bytes, largest);
    let too_large = vec![b' '; MAX_STATE_BYTES + 1];
    assert_eq!(kind(store.swap_state(Some(&third), &too_large)).await, StoreErrorKind::Unfit);
    store.swap_state(Some(&third), b"").await.unwrap();
    assert_eq!(store.load_state().await.unwrap().unwrap().bytes, b"");
}

async fn private_keys(store: &dyn KeyStore) {
    const KIDS: [&str; 4] = ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "../../state", "2026 / ключ", "state.json"];
    assert!(store.list_private().await.unwrap().is_empty());
    for kid in KIDS {
        assert_eq!(kind(store.get_private(kid)).await, StoreErrorKind::NotFound);
        store.destroy_private(kid).await.unwrap();
        let first = store.put_private(kid, kid.as_bytes()).await.unwrap();
        assert!(lost(kind(store.put_private(kid, b"again")).await), "create only");
        assert_eq!(store.get_private(kid).await.unwrap().bytes, kid.as_bytes());

        let second = store.replace_private(kid, &first, b"sealed anew").await.unwrap();
        assert!(lost(kind(store.replace_private(kid, &first, b"stale")).await));
        let found = store.get_private(kid).await.unwrap();
        assert_eq!((found.bytes.as_slice(), found.version), (b"sealed anew".as_slice(), second));
    }
    let mut listed = store.list_private().await.unwrap();
    listed.sort();
    let mut kids = KIDS.map(str::to_owned);
    kids.sort();
    assert_eq!(listed, kids);
    for kid in KIDS {
        let found = store.get_private(kid).await.unwrap().version;
        store.destroy_private(kid).await.unwrap();
        store.destroy_private(kid).await.unwrap();
        assert_eq!(kind(store.get_private(kid)).await, StoreErrorKind::NotFound);
        assert!(lost(kind(store.replace_private(kid, &found, b"back")).await), "what is destroyed is not replaced");
        assert_eq!(kind(store.get_private(kid)).await, StoreErrorKind::NotFound);
    }
    assert!(store.list_private().await.unwrap().is_empty());

    assert_eq!(kind(store.put_private("", b"x")).await, StoreErrorKind::Unfit);
    assert_eq!(kind(store.put_private("k", &vec![0; MAX_SEALED_BYTES + 1])).await, StoreErrorKind::Unfit);
    store.put_private("k", &vec![0; MAX_SEALED_BYTES]).await.unwrap();
    assert_eq!(store.get_private("k").await.unwrap().bytes.len(), MAX_SEALED_BYTES);
    store.destroy_private("k").await.unwrap();
}

async fn jwks(store: &dyn KeyStore) {
    assert_eq!(store.load_jwks().await.unwrap(), None);
    let first = store.publish_jwks(None, b"{\"seq\":1}", HEADERS).await.unwrap();
    assert!(lost(kind(store.publish_jwks(None, b"{\"seq\":0}", HEADERS)).await));
    let second = store.publish_jwks(Some(&first), b"{\"seq\":2}", HEADERS).await.unwrap();
    assert!(lost(kind(store.publish_jwks(Some(&first), b"{\"seq\":1,\"late\":1}", HEADERS)).await));
    let found = store.load_jwks().await.unwrap().unwrap();
    assert_eq!((found.bytes.as_slice(), &found.version), (b"{\"seq\":2}".as_slice(), &second));
    let too_large = vec![b' '; MAX_STORED_JWKS_BYTES + 1];
    assert_eq!(kind(store.publish_jwks(Some(&second), &too_large, HEADERS)).await, StoreErrorKind::Unfit);
}

/// Of a store that is empty, in a runtime of many threads.
pub(super) async fn one_of_many_wins<S: KeyStore + Clone>(store: &S) {
    let mut expected = None;
    for round in 0..8 {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (store, expected) = (store.clone(), expected.clone());
                tokio::spawn(async move { store.swap_state(expected.as_ref(), &[round, racer]).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (racer, running) in (0..).zip(racers) {
            match running.await.unwrap() {
                Ok(version) => winners.push((racer, version)),
                Err(error) => assert!(lost(error.kind()), "{error}"),
            }
        }
        let [(winner, version)] = winners.as_slice() else { panic!("{winners:?}") };
        let found = store.load_state().await.unwrap().unwrap();
        assert_eq!((found.bytes.as_slice(), &found.version), ([round, *winner].as_slice(), version));
        expected = Some(version.clone());
    }
    let creating: Vec<_> = (0..RACERS)
        .map(|racer| {
            let store = store.clone();
            tokio::spawn(async move { store.put_private("raced-for", &[racer]).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for running in creating {
        won += u8::from(running.await.unwrap());
    }
    assert_eq!(won, 1);
}
