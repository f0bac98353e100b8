use super::*;
use crate::store::contract;

const SECOND: Duration = Duration::from_secs(1);

/// The version of the state that is there.
async fn version(store: &MemoryStore) -> Option<Version> {
    store.load_state().await.unwrap().map(|stored| stored.version)
}

async fn kind<T>(answer: StoreFuture<'_, T>) -> Option<StoreErrorKind> {
    answer.await.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_store_in_memory_keeps_the_promises() {
    contract::every_promise_is_kept(&MemoryStore::new()).await;
    contract::every_promise_is_kept(&MemoryStore::with_hashes_for_versions()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_expect_the_same_one_wins() {
    contract::one_of_many_wins(&MemoryStore::new()).await;
}

#[tokio::test]
async fn contents_that_come_back_have_their_old_version_only_where_versions_are_hashes() {
    for (store, come_back) in [(MemoryStore::new(), false), (MemoryStore::with_hashes_for_versions(), true)] {
        let first = store.swap_state(None, b"a").await.unwrap();
        let second = store.swap_state(Some(&first), b"b").await.unwrap();
        let third = store.swap_state(Some(&second), b"a").await.unwrap();
        assert_eq!(first == third, come_back);
    }
}

#[tokio::test]
async fn a_lost_request_does_nothing_and_a_lost_answer_hides_what_was_done() {
    let store = MemoryStore::new();
    store.plan(Operation::SwapState, Fault::Refuse(StoreErrorKind::Unknown));
    assert_eq!(kind(store.swap_state(None, b"a")).await, Some(StoreErrorKind::Unknown));
    assert_eq!(store.state(), None);

    for answer in [StoreErrorKind::Unknown, StoreErrorKind::Conflict, StoreErrorKind::Denied] {
        let before = version(&store).await;
        store.plan(Operation::SwapState, Fault::Deny(answer));
        assert_eq!(kind(store.swap_state(before.as_ref(), answer.code().as_bytes())).await, Some(answer));
        assert_eq!(store.state().unwrap(), answer.code().as_bytes());
        assert_eq!(kind(store.swap_state(before.as_ref(), b"again")).await, Some(StoreErrorKind::Conflict));
    }
}

#[tokio::test]
async fn what_fails_by_itself_is_not_told_as_an_injected_success() {
    let store = MemoryStore::new();
    store.plan(Operation::SwapState, Fault::Deny(StoreErrorKind::Unknown));
    assert_eq!(kind(store.swap_state(Some(&Version::new("1")), b"a")).await, Some(StoreErrorKind::Conflict));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_write_is_done_in_between() {
    let store = MemoryStore::new();
    store.plan(Operation::SwapState, Fault::Delay { before: SECOND, after: SECOND });
    let begun = Instant::now();
    let (other, slow) = (store.clone(), store.clone());
    let slow = tokio::spawn(async move { slow.swap_state(None, b"slow").await.map(drop) });
    sleep(SECOND / 2).await;
    assert_eq!(other.state(), None);
    sleep(SECOND).await;
    assert_eq!(other.state().unwrap(), b"slow");
    assert_eq!(slow.await.unwrap(), Ok(()));
    assert_eq!(begun.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_late_write_lands_under_its_old_conditions() {
    for overtaken in [false, true] {
        let store = MemoryStore::new();
        let first = store.swap_state(None, b"first").await.unwrap();
        store.plan(Operation::SwapState, Fault::Late(SECOND));
        assert_eq!(kind(store.swap_state(Some(&first), b"late")).await, Some(StoreErrorKind::Unknown));
        assert_eq!(store.state().unwrap(), b"first");
        if overtaken {
            store.swap_state(Some(&first), b"other").await.unwrap();
        }
        sleep(2 * SECOND).await;
        assert_eq!(store.state().unwrap(), if overtaken { b"other".as_slice() } else { b"late" });
    }
}

#[tokio::test(start_paused = true)]
async fn late_writes_land_in_the_order_in_which_they_are_due() {
    let store = MemoryStore::new();
    for (kid, delay) in [("a", 3), ("b", 1)] {
        store.plan(Operation::PutPrivate, Fault::Late(delay * SECOND));
        assert_eq!(kind(store.put_private(kid, b"x")).await, Some(StoreErrorKind::Unknown));
    }
    sleep(2 * SECOND).await;
    assert_eq!(store.list_private().await.unwrap(), ["b"]);
    sleep(2 * SECOND).await;
    assert_eq!(store.list_private().await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn a_read_may_be_stale_garbage_or_refused() {
    let store = MemoryStore::new();
    store.plan(Operation::LoadState, Fault::Stale);
    assert_eq!(store.load_state().await.unwrap(), None);
    let first = store.swap_state(None, b"first").await.unwrap();
    let second = store.swap_state(Some(&first), b"second").await.unwrap();
    store.plan(Operation::LoadState, Fault::Stale);
    assert_eq!(store.load_state().await.unwrap().unwrap(), Stored { bytes: b"first".to_vec(), version: first });
    store.plan(Operation::LoadState, Fault::Garbage(b"{".to_vec()));
    assert_eq!(store.load_state().await.unwrap().unwrap(), Stored { bytes: b"{".to_vec(), version: second });

    store.put_private("k", b"sealed").await.unwrap();
    for refusal in [StoreErrorKind::NotFound, StoreErrorKind::Unavailable, StoreErrorKind::Denied] {
        store.plan(Operation::GetPrivate, Fault::Refuse(refusal));
        assert_eq!(kind(store.get_private("k")).await, Some(refusal));
    }
    assert_eq!(store.get_private("k").await.unwrap().bytes, b"sealed");
}

#[tokio::test]
async fn what_is_planned_comes_before_what_is_chosen_and_neither_after_it_behaves() {
    let store = MemoryStore::new();
    store.choose(|operation, kid| {
        (operation == Operation::GetPrivate && kid == Some("bad")).then_some(Fault::Refuse(StoreErrorKind::Denied))
    });
    store.put_private("bad", b"x").await.unwrap();
    store.put_private("good", b"y").await.unwrap();
    store.plan(Operation::GetPrivate, Fault::Refuse(StoreErrorKind::Unavailable));
    assert_eq!(kind(store.get_private("bad")).await, Some(StoreErrorKind::Unavailable));
    assert_eq!(kind(store.get_private("bad")).await, Some(StoreErrorKind::Denied));
    assert_eq!(kind(store.get_private("good")).await, None);
    store.plan(Operation::GetPrivate, Fault::Refuse(StoreErrorKind::Unavailable));
    store.behave();
    assert_eq!(kind(store.get_private("bad")).await, None);
    assert_eq!(store.calls(Operation::GetPrivate), 4);
    assert_eq!(store.bytes_written(), 2);
}

#[tokio::test]
async fn who_tampers_with_a_document_changes_its_version() {
    let store = MemoryStore::new();
    let first = store.swap_state(None, b"first").await.unwrap();
    store.tamper_with_state(Some(b"older".to_vec()));
    assert_eq!(kind(store.swap_state(Some(&first), b"second")).await, Some(StoreErrorKind::Conflict));
    store.tamper_with_private("k", Some(b"swapped".to_vec()));
    assert_eq!(store.get_private("k").await.unwrap().bytes, b"swapped");
    store.tamper_with_private("k", None);
    assert_eq!(kind(store.get_private("k")).await, Some(StoreErrorKind::NotFound));
    store.tamper_with_jwks(Some(b"{}".to_vec()));
    assert_eq!(store.jwks().unwrap(), b"{}");
}

#[tokio::test]
async fn its_clock_is_whatever_it_was_given() {
    assert_eq!(MemoryStore::new().time().await.unwrap(), None);
    let store = MemoryStore::new().with_clock(|| UnixTime::from_secs(7));
    assert_eq!(store.time().await.unwrap().unwrap().at, UnixTime::from_secs(7));
    store.plan(Operation::Time, Fault::Refuse(StoreErrorKind::Unavailable));
    assert_eq!(kind(store.time()).await, Some(StoreErrorKind::Unavailable));
}
