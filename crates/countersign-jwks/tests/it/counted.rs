//! What is counted: each number moves when it should, by how much it should, and not otherwise.

use std::time::{Duration, SystemTime};

use crate::issuers;
use crate::support::{JWKS, Script, Sites, Turn, document, look, look_up};
use countersign_jwks::{
    FETCH_TIME_BOUNDS, Issuers, KeyCounters, KeyState, Keys, KeysHandle, MIN_IDLE_AFTER, Remote, Tenants,
};
use countersign_token::{Algorithm, Answer, Ask, Fetched, JwkSet, KeySource, Miss, Origin};
use tokio::time::sleep;

const SEC: Duration = Duration::from_secs(1);

fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

fn answer(status: u16, indices: impl IntoIterator<Item = usize>, describe: impl FnOnce(&mut Fetched)) -> Turn {
    let mut fetched = Fetched::default();
    (fetched.status, fetched.body) = (status, document(indices));
    describe(&mut fetched);
    Turn::Answer(Box::new(fetched))
}

fn counters(keys: &Keys) -> KeyCounters {
    keys.handle().status().counters
}

/// What was counted of fetches: scheduled, requested, manual; changed, unchanged, refused, failed.
fn fetches(it: &KeyCounters) -> ([u64; 3], [u64; 4]) {
    let started = [it.fetches_scheduled, it.fetches_requested, it.fetches_manual];
    (started, [it.fetches_changed, it.fetches_unchanged, it.fetches_refused, it.fetches_failed])
}

/// What became of requests for unknown keys: a look provoked; suppressed as absent, in flight, spaced, crowded. They are all that there are.
fn fates(it: &KeyCounters) -> [u64; 5] {
    let suppressed = [it.suppressed_absent, it.suppressed_in_flight, it.suppressed_spaced, it.suppressed_crowded];
    let fates = [it.looks_provoked, suppressed[0], suppressed[1], suppressed[2], suppressed[3]];
    assert_eq!(it.looks_suppressed(), suppressed.iter().sum::<u64>());
    assert_eq!(it.unknown_keys, fates.iter().sum::<u64>());
    fates
}

async fn ready(source: &Keys) -> KeysHandle {
    let handle = source.handle();
    handle.ready().await.unwrap();
    handle
}

#[tokio::test(start_paused = true)]
async fn each_fetch_is_counted_by_what_it_came_to_and_by_who_wanted_it() {
    let script = Script::new([answer(200, [0], |it| it.etag = Some("\"1\"".into()))]);
    let source = script.keys();
    assert_eq!(counters(&source), KeyCounters::default());
    let handle = ready(&source).await;
    assert_eq!(fetches(&counters(&source)), ([1, 0, 0], [1, 0, 0, 0]));
    script.set(answer(304, [], |_| {}));
    handle.refresh().await.unwrap();
    assert_eq!(fetches(&counters(&source)), ([1, 0, 1], [1, 1, 0, 0]), "not modified");
    script.set(keys([0]));
    handle.refresh().await.unwrap();
    assert_eq!(fetches(&counters(&source)), ([1, 0, 2], [1, 2, 0, 0]), "the same again");
    script.set(keys([0, 1]));
    handle.refresh().await.unwrap();
    assert_eq!(fetches(&counters(&source)), ([1, 0, 3], [2, 2, 0, 0]));
    script.set(answer(200, [2], |it| it.date = Some(SystemTime::now() - 3600 * SEC)));
    handle.refresh().await.unwrap();
    script.set(answer(200, [3], |it| it.date = Some(SystemTime::now() - 7200 * SEC)));
    handle.refresh().await.unwrap_err();
    assert_eq!(fetches(&counters(&source)), ([1, 0, 5], [3, 2, 1, 0]), "older than those in force");
    for (index, turn) in
        [Turn::Body(500, Vec::new()), Turn::Body(200, b"{".to_vec()), Turn::Hang, Turn::Panic].into_iter().enumerate()
    {
        script.set(turn);
        handle.refresh().await.unwrap_err();
        let index = index as u64;
        assert_eq!(fetches(&counters(&source)), ([1, 0, 6 + index], [3, 2, 1, 1 + index]));
    }
    script.set(keys([2]));
    sleep(10 * SEC).await;
    assert_eq!(look_up(&source, "k7").await, Some(Answer::Absent));
    assert_eq!(fetches(&counters(&source)), ([1, 1, 9], [3, 3, 1, 4]));
    // The next one is due by itself.
    sleep(270 * SEC).await;
    let after = counters(&source);
    assert_eq!((after.fetches_scheduled, after.fetches_requested, after.fetches_manual), (2, 1, 9));
    assert_eq!(after.fetches(), script.fetches() as u64);
    assert_eq!(after.fetch_times.count, after.fetches());
}

#[tokio::test(start_paused = true)]
async fn the_times_of_fetches_are_a_histogram() {
    let script = Script::taking(SEC * 3 / 10, [keys([0])]);
    let source = script.keys();
    let handle = ready(&source).await;
    let times = || counters(&source).fetch_times;
    assert_eq!((times().count, times().sum), (1, SEC * 3 / 10));
    assert_eq!(times().buckets, [0, 0, 0, 0, 1, 0, 0, 0, 0], "{FETCH_TIME_BOUNDS:?}");
    script.set(Turn::Hang);
    handle.refresh().await.unwrap_err();
    assert_eq!((times().count, times().sum), (2, SEC * 53 / 10));
    assert_eq!(times().buckets, [0, 0, 0, 0, 1, 0, 0, 1, 0]);
    // One that is under way has no time yet.
    drop(handle.refresh());
    sleep(2 * SEC).await;
    assert_eq!((counters(&source).fetches(), times().count), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_counted_with_what_came_of_it() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    ready(&source).await;
    sleep(10 * SEC).await;
    assert_eq!(look_up(&source, "k0").await, None);
    assert_eq!(fates(&counters(&source)), [0; 5], "known keys are not counted");
    let (one, two) = (look(&source, "a"), look(&source, "b"));
    let (Some(Ask::Wait(one)), Some(Ask::Wait(two))) = (one, two) else { panic!("nobody knows yet") };
    assert_eq!(one.await, Answer::Absent);
    assert_eq!(fates(&counters(&source)), [1, 0, 1, 0, 0], "the first makes us look, the second joins it");
    assert_eq!(look_up(&source, "a").await, Some(Answer::Absent));
    assert_eq!(look_up(&source, &"x".repeat(300)).await, Some(Answer::Absent));
    assert_eq!(fates(&counters(&source)), [1, 2, 1, 0, 0], "a look would bring nothing");
    assert!(look_up(&source, "c").await.is_some());
    assert_eq!(fates(&counters(&source)), [1, 2, 1, 1, 0], "too soon");
    drop(two);
    // A key that has just come is nobody's unknown key.
    let miss = Miss { generation: Some(0), kid: Some("k0"), algorithm: Algorithm::Ed25519, token: None };
    assert!(matches!(source.ask(miss), Ask::Answered(Answer::Changed)));
    // Nor is one whose signature does not match; a look it is worth.
    sleep(10 * SEC).await;
    let before = counters(&source);
    let generation = source.snapshot().map(|set| set.generation());
    source.signature_mismatch(Miss { generation, ..miss });
    sleep(SEC / 2).await;
    let after = counters(&source);
    assert_eq!(fates(&after), fates(&before));
    assert_eq!(after.fetches_requested, before.fetches_requested + 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_keys_adds_up() {
    const FLOOD: u64 = 10_000;
    let script = Script::new([keys([0])]);
    let source = script.keys();
    ready(&source).await;
    sleep(10 * SEC).await;
    // All at once, before the task comes round to any.
    let asks: Vec<_> = (0..FLOOD).map(|index| look(&source, &format!("made-up-{index}")).unwrap()).collect();
    assert_eq!(source.handle().status().waiting, 1024);
    assert_eq!(fates(&counters(&source)), [0, 0, 0, 0, FLOOD - 1024]);
    let mut unanswered = 0;
    for ask in asks {
        if let Ask::Wait(wait) = ask {
            unanswered += u64::from(!matches!(wait.await, Answer::Absent));
        }
    }
    let status = source.handle().status();
    assert_eq!(fates(&status.counters), [1, 0, 1023, 0, FLOOD - 1024]);
    assert_eq!((status.waiting, status.counters.waits_unanswered, status.counters.waits_abandoned), (0, unanswered, 0));
    // One after the other.
    let before = script.fetches() as u64;
    let mut seen = status.counters;
    for index in 0..FLOOD {
        assert!(look_up(&source, &format!("made-up-too-{index}")).await.is_some());
        let now = counters(&source);
        assert_eq!(now.unknown_keys, seen.unknown_keys + 1);
        seen = now;
    }
    assert_eq!(fates(&seen).iter().sum::<u64>(), 2 * FLOOD);
    assert_eq!(seen.fetches(), script.fetches() as u64);
    assert!(seen.looks_provoked <= seen.fetches() && script.fetches() as u64 > before);
    assert_eq!((seen.without_keys, seen.suppressed_crowded), (0, FLOOD - 1024));
}

#[tokio::test(start_paused = true)]
async fn waits_are_counted_while_they_last_and_by_how_they_end() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    ready(&source).await;
    sleep(10 * SEC).await;
    let waits = || {
        let status = source.handle().status();
        (status.waiting, status.counters.waits_unanswered, status.counters.waits_abandoned)
    };
    let Some(Ask::Wait(wait)) = look(&source, "a") else { panic!("nobody knows yet") };
    assert_eq!(waits(), (1, 0, 0));
    assert_eq!(wait.await, Answer::Absent);
    assert_eq!(waits(), (0, 0, 0), "absent is an answer");
    sleep(10 * SEC).await;
    script.set(Turn::Hang);
    let Some(Ask::Wait(one)) = look(&source, "b") else { panic!("nobody knows yet") };
    let Some(Ask::Wait(two)) = look(&source, "c") else { panic!("nobody knows yet") };
    assert_eq!(waits(), (2, 0, 0));
    drop(two);
    assert_eq!(waits(), (1, 0, 1));
    assert!(matches!(one.await, Answer::NotYet { .. }));
    assert_eq!(waits(), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn where_there_are_no_keys_none_is_unknown() {
    let script = Script::new([Turn::Body(500, Vec::new())]);
    let source = script.keys();
    // Before the first fetch has ended, and after it.
    assert!(matches!(look_up(&source, "k0").await, Some(Answer::Unavailable { .. })));
    assert!(matches!(look_up(&source, "k0").await, Some(Answer::Unavailable { .. })));
    let now = counters(&source);
    assert_eq!((now.without_keys, now.waits_unanswered), (2, 1));
    assert_eq!(fates(&now), [0; 5]);
    script.set(keys([0]));
    ready(&source).await;
    assert_eq!(look_up(&source, "k0").await, None);
    assert_eq!(counters(&source).without_keys, 2);
}

fn named(handle: &KeysHandle) -> Vec<(String, KeyState, KeyCounters)> {
    let sources = handle.sources().into_iter();
    sources.map(|(name, status)| (name.to_string(), status.state, status.counters)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_union_is_the_sum_of_its_sources_and_each_has_a_name_that_shows_no_query() {
    let script = |index| Script::new([keys([index])]);
    let at = |url: &str, index| Keys::remote(Remote::new(url).unwrap().fetch(script(index)));
    let jwks = serde_json::json!({ "keys": [JWKS[5]] }).to_string();
    let fixed = Keys::fixed(JwkSet::parse(jwks.as_bytes(), Origin::Local).unwrap().into_key_set());
    let members =
        [at("https://b.test/keys", 0), at("https://a.test/keys?s=hunter2", 1), at("https://a.test/keys?s=hunter3", 2)];
    let source = Keys::union(members.clone().into_iter().chain([fixed])).unwrap();
    for member in &members {
        ready(member).await;
    }
    sleep(10 * SEC).await;
    assert_eq!(look_up(&source, "nope").await, Some(Answer::Absent));
    let handle = source.handle();
    let status = handle.status();
    assert_eq!((fates(&status.counters), status.sources, status.stale_sources), ([3, 0, 0, 0, 0], 4, 0));
    assert_eq!(fetches(&status.counters), ([3, 3, 0], [3, 3, 0, 0]));
    let sources = handle.sources();
    let names: Vec<_> = sources.iter().map(|(name, status)| (&**name, status.sources, status.keys)).collect();
    assert_eq!(names, [("https://a.test/keys", 2, 2), ("https://b.test/keys", 1, 1), ("static", 1, 1)]);
    let requested = |index: usize| sources[index].1.counters.fetches_requested;
    assert_eq!([requested(0), requested(1), requested(2)], [2, 1, 0]);
    assert_eq!(sources[2].1.counters, KeyCounters::default());
    assert_eq!(named(&members[0].handle())[0].0, "https://b.test/keys");
}

/// Whoever makes up tenants makes up no name, and what was counted stays when they are let go of.
#[tokio::test(start_paused = true)]
async fn tenants_are_counted_as_their_template_and_for_good() {
    let sites = Sites::default();
    let tenants = Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys");
    sites.set("https://login.example/t1/keys", keys([6]));
    let issuers = issuers::with_sites(Issuers::new(), &sites)
        .issuer_at("https://i0.example", Remote::new("https://i0.example/keys").unwrap())
        .tenants(tenants.allow(["t1"]).admit_if(|_| true))
        .idle_after(MIN_IDLE_AFTER);
    sites.set("https://i0.example/keys", keys([0]));
    let source = Keys::issuers(issuers);
    let handle = ready(&source).await;
    const TEMPLATE: &str = "https://login.example/{tenant}";
    let of = |name: &str| named(&handle).into_iter().find(|source| source.0 == name).unwrap();
    assert_eq!(of(TEMPLATE).1, KeyState::Starting);
    assert_eq!(of(TEMPLATE).2, KeyCounters::default());
    assert!(look_tenant(&source, "t1", "k6").await.is_some());
    for made_up in 0..20 {
        assert!(look_tenant(&source, &format!("made-up-{made_up}"), "k6").await.is_some());
    }
    sleep(SEC).await;
    let names: Vec<_> = named(&handle).into_iter().map(|source| source.0).collect();
    assert_eq!(names, ["https://i0.example", TEMPLATE]);
    assert!(handle.parts().len() > 20);
    assert_eq!((of(TEMPLATE).1, of("https://i0.example").2.fetches()), (KeyState::Ready, 1));
    let before = of(TEMPLATE).2;
    assert_eq!((before.without_keys, before.fetches_changed), (21, 1));
    assert!(before.fetches_failed >= 20);
    // All of them are idle now.
    sleep(10 * MIN_IDLE_AFTER).await;
    assert_eq!((handle.parts().len(), of(TEMPLATE).1), (1, KeyState::Starting));
    let after = of(TEMPLATE).2;
    assert_eq!((after.without_keys, after.fetches_changed), (21, 1));
    assert!(after.fetches_failed >= before.fetches_failed);
    let sum = handle.status().counters;
    assert_eq!(sum.fetches(), after.fetches() + of("https://i0.example").2.fetches());
    // Nor does anything fall when an issuer is removed, or gets another source.
    handle.add_issuer("https://i0.example", Remote::new("https://i0.example/keys").unwrap()).unwrap();
    ready(&source).await;
    assert!(of("https://i0.example").2.fetches() >= 2);
    let sum = handle.status().counters;
    assert!(handle.remove_issuer("https://i0.example"));
    assert!(handle.status().counters.fetches() >= sum.fetches());
    assert_eq!(named(&handle).len(), 1);
}

async fn look_tenant(source: &Keys, tenant: &str, kid: &str) -> Option<Answer> {
    issuers::look_up(source, &format!("https://login.example/{tenant}"), kid).await
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_put_off_has_no_outcome_and_no_time() {
    let sites = Sites::default();
    let source = Keys::issuers(issuers::numbered(&sites, 300));
    for index in 0..300 {
        sites.set(&format!("https://i{index}.example/keys"), Turn::Hang);
    }
    sleep(10 * SEC).await;
    assert!(counters(&source).fetches_postponed > 0);
    for index in 0..300 {
        sites.set(&format!("https://i{index}.example/keys"), keys([index % 8]));
    }
    while source.handle().status().keys < 300 {
        sleep(SEC / 10).await;
    }
    let now = counters(&source);
    assert_eq!(now.fetches_changed, 300);
    assert_eq!(now.fetch_times.count, now.fetches_changed + now.fetches_failed);
    assert_eq!(now.fetches(), now.fetch_times.count + now.fetches_postponed);
}

#[tokio::test(start_paused = true)]
async fn stale_sources_are_counted_and_the_status_fits_a_line() {
    let (one, two) = (Script::new([keys([0])]), Script::new([keys([1])]));
    let (one_keys, two_keys) = (one.keys(), two.keys());
    ready(&one_keys).await;
    ready(&two_keys).await;
    let source = Keys::union([one_keys, two_keys]).unwrap();
    one.set(Turn::Body(500, b"secret".to_vec()));
    sleep(400 * SEC).await;
    let status = source.handle().status();
    assert_eq!((status.state, status.sources, status.stale_sources), (KeyState::Ready, 2, 1));
    let line = status.to_string();
    assert!(line.starts_with("ready: 2 keys of 2 sources, confirmed 4"), "{line}");
    assert!(line.ends_with("0 unknown keys asked for, 0 without another fetch, 0 waiting; the last fetch failed: the answer has status 500"), "{line}");
    let one = &source.handle().parts()[0].status();
    assert!(one.to_string().starts_with("stale: 1 keys, generation 1, confirmed"), "{one}");
    assert_eq!(Keys::fixed(countersign_token::KeySet::default()).handle().status().to_string().lines().count(), 1);
}
