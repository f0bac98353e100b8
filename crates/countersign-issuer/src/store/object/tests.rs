use object_store::memory::InMemory;
use object_store::{Attribute, GetOptions, ObjectStoreExt};

use super::super::contract;
use super::*;

fn memory() -> (Arc<InMemory>, ObjectKeyStore) {
    let objects = Arc::new(InMemory::new());
    let store = ObjectKeyStore::new(Arc::clone(&objects) as _, Path::from("rings/a"));
    (objects, store)
}

async fn names(objects: &InMemory) -> Vec<String> {
    let mut list = objects.list(None);
    let mut names = Vec::new();
    while let Some(found) = std::future::poll_fn(|context| list.as_mut().poll_next(context)).await {
        names.push(found.unwrap().location.to_string());
    }
    names
}

async fn kind<T>(answer: StoreFuture<'_, T>) -> Option<StoreErrorKind> {
    answer.await.err().map(|error| error.kind())
}

#[tokio::test]
async fn an_object_store_keeps_the_promises() {
    contract::every_promise_is_kept(&memory().1).await;
    contract::every_promise_is_kept(&memory().1.dangerous_single_writer()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_expect_the_same_one_wins() {
    let store = memory().1;
    store.probe().await.unwrap();
    contract::one_of_many_wins(&store).await;
}

#[tokio::test]
async fn each_part_has_its_place_and_a_probe_leaves_only_markers() {
    let (objects, store) = memory();
    store.probe().await.unwrap();
    let markers = ["rings/a/jwks/marker", "rings/a/sealed/marker", "rings/a/state/marker"];
    assert_eq!(names(&objects).await, markers);

    store.swap_state(None, b"{}").await.unwrap();
    store.put_private("kid", b"sealed").await.unwrap();
    let headers = JwksHeaders { content_type: "application/jwk-set+json", cache_control: "public, max-age=300" };
    store.publish_jwks(None, b"{\"keys\":[]}", headers).await.unwrap();
    assert!(store.time().await.unwrap().is_some());
    assert_eq!(
        names(&objects).await,
        [
            "rings/a/jwks/jwks.json",
            "rings/a/jwks/marker",
            "rings/a/sealed/kid.sealed",
            "rings/a/sealed/marker",
            "rings/a/state/clock",
            "rings/a/state/marker",
            "rings/a/state/state.json",
        ]
    );
    let jwks = objects.get_opts(&Path::from("rings/a/jwks/jwks.json"), GetOptions::default()).await.unwrap();
    assert_eq!(jwks.attributes.get(&Attribute::ContentType).unwrap().as_ref(), "application/jwk-set+json");
    assert_eq!(jwks.attributes.get(&Attribute::CacheControl).unwrap().as_ref(), "public, max-age=300");
    let state = objects.get_opts(&Path::from("rings/a/state/state.json"), GetOptions::default()).await.unwrap();
    assert_eq!(state.attributes.get(&Attribute::CacheControl).unwrap().as_ref(), "no-store");
}

#[tokio::test]
async fn parts_may_be_in_stores_of_their_own() {
    let (state, public, secret) = (memory().0, Arc::new(InMemory::new()), Arc::new(InMemory::new()));
    let store = ObjectKeyStore::new(Arc::clone(&state) as _, Path::default())
        .jwks(Arc::clone(&public) as _, Path::default())
        .sealed(Arc::clone(&secret) as _, Path::from("a"));
    contract::every_promise_is_kept(&store).await;
    store.put_private("kid", b"sealed").await.unwrap();
    assert_eq!(names(&state).await, ["state/marker", "state/state.json"]);
    assert_eq!(names(&public).await, ["jwks.json", "marker"]);
    assert_eq!(names(&secret).await, ["a/kid.sealed", "a/marker"]);
}

#[tokio::test]
async fn no_key_is_missing_from_a_place_that_was_emptied() {
    let (objects, store) = memory();
    assert_eq!(kind(store.get_private("kid")).await, Some(StoreErrorKind::Unavailable), "it was not probed");
    store.probe().await.unwrap();
    assert_eq!(kind(store.get_private("kid")).await, Some(StoreErrorKind::NotFound));
    store.put_private("kid", b"sealed").await.unwrap();
    for name in names(&objects).await {
        objects.delete(&Path::from(name)).await.unwrap();
    }
    assert_eq!(kind(store.get_private("kid")).await, Some(StoreErrorKind::Unavailable));
    assert_eq!(kind(store.load_state()).await, Some(StoreErrorKind::Unavailable));
    assert_eq!(kind(store.load_jwks()).await, Some(StoreErrorKind::Unavailable));
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_unknown_and_only_a_single_writer_is_sure() {
    for (single, answer) in [(false, StoreErrorKind::Unknown), (true, StoreErrorKind::Conflict)] {
        let store = memory().1;
        let store = if single { store.dangerous_single_writer() } else { store };
        store.swap_state(None, b"{}").await.unwrap();
        assert_eq!(kind(store.swap_state(None, b"{}")).await, Some(answer));
        assert_eq!(kind(store.swap_state(Some(&Version::new("\"99\"")), b"{}")).await, Some(answer));
    }
}

#[tokio::test]
async fn objects_that_are_no_keys_are_not_listed() {
    let (objects, store) = memory();
    for name in ["README", "x.sealed.bak", "b64.!.sealed", "deeper/x.sealed", "kid.sealed"] {
        objects.put(&Path::from(format!("rings/a/sealed/{name}")), "x".into()).await.unwrap();
    }
    objects.put(&Path::from("rings/a/sealed-too/y.sealed"), "x".into()).await.unwrap();
    assert_eq!(store.list_private().await.unwrap(), ["kid"]);
}

#[tokio::test]
async fn an_object_of_absurd_size_is_not_read() {
    let (objects, store) = memory();
    objects.put(&Path::from("rings/a/state/state.json"), vec![b' '; MAX_STATE_BYTES + 1].into()).await.unwrap();
    assert_eq!(kind(store.load_state()).await, Some(StoreErrorKind::Unfit));
}

#[test]
fn a_version_is_given_back_as_the_store_has_named_it() {
    use object_store::{PutMode, UpdateVersion};
    let update = |e_tag: Option<&str>, version: Option<&str>| {
        PutMode::Update(UpdateVersion { e_tag: e_tag.map(Into::into), version: version.map(Into::into) })
    };
    for (e_tag, version) in [(Some("\"a\""), None), (Some("\"a\""), Some("17")), (None, Some("17"))] {
        let named = place::version(e_tag, version).unwrap();
        assert_eq!(Condition::Is(&named).mode(), update(e_tag, version));
    }
    assert_eq!(place::version(None, None).unwrap_err().kind(), StoreErrorKind::Unfit);
}
