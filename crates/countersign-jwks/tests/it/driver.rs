//! The task that fetches, with a scripted `Fetch` and, wherever one runtime is enough, a paused clock.

use std::future::Future as _;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use crate::support::{Script, Turn, document, look, look_up};
use countersign_jwks::{
    CacheFuture, DEFAULT_MAX_STALE, KeyCache, KeyEvent, KeyState, KeyStatus, Keys, KeysHandle, MAX_BODY_BYTES,
};
use countersign_token::{Algorithm, Answer, Ask, Fetched, KeySet, KeySource, Miss, SigningKey, Unready};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep, timeout};

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_wait_for_the_first_fetch() {
    let script = Script::taking(SEC, [keys([0])]);
    let source = script.keys();
    assert_eq!(source.handle().status().state, KeyState::Starting);
    let begun = Instant::now();
    assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
    assert_eq!(begun.elapsed(), SEC);
    assert_eq!(look_up(&source, "k0").await, None);
    let status = source.handle().status();
    assert_eq!((status.state, status.generation, status.keys), (KeyState::Ready, Some(1), 1));
    assert_eq!((status.fetches_started, status.fetches_failed), (1, 0));
    assert!(status.last_success.unwrap() < SEC);
    assert!(source.handle().is_ready());
}

/// An answer with this status and these keys, and what `describe` says of it.
fn answer(status: u16, indices: impl IntoIterator<Item = usize>, describe: impl FnOnce(&mut Fetched)) -> Turn {
    let mut fetched = Fetched::default();
    (fetched.status, fetched.body) = (status, document(indices));
    describe(&mut fetched);
    Turn::Answer(Box::new(fetched))
}

#[tokio::test(start_paused = true)]
async fn answers_say_how_long_they_are_good_for() {
    let turns = [
        answer(200, [0], |it| it.cache_control = Some("public, max-age=1800".into())),
        answer(200, [0], |it| it.age = Some(10 * SEC)),
    ];
    let script = Script::new(turns);
    let handle = script.keys().handle();
    handle.ready().await.unwrap();
    assert_eq!(handle.status().lifetime, Some(1800 * SEC));
    sleep(1100 * SEC).await;
    assert_eq!(script.fetches(), 1);
    sleep(500 * SEC).await;
    assert!(script.fetches() > 1, "refreshed ahead of expiry");
    assert_eq!(handle.status().lifetime, Some(300 * SEC), "it does not say, so it is the interval");
}

#[tokio::test(start_paused = true)]
async fn unmodified_keys_are_not_sent_again() {
    let describe = |it: &mut Fetched| {
        it.etag = Some("\"1\"".into());
        it.last_modified = Some("Sun, 06 Nov 1994 08:49:37 GMT".into());
    };
    let script = Script::new([answer(200, [0], describe), answer(304, [], |_| {})]);
    let source = script.keys();
    let handle = source.handle();
    handle.ready().await.unwrap();
    assert_eq!(look_up(&source, "k0").await, None);
    assert_eq!(look_up(&source, "nope").await, Some(Answer::Absent), "unmodified is a verdict too");
    let status = handle.status();
    assert_eq!((status.state, status.generation, status.fetches_failed), (KeyState::Ready, Some(1), 0));
    let requests = script.requests();
    assert_eq!((&requests[0].etag, &requests[0].last_modified), (&None, &None));
    assert_eq!(requests[1].etag.as_deref(), Some("\"1\""));
    assert_eq!(requests[1].last_modified.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(requests.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn not_modified_without_keys_is_a_failure() {
    let handle = Script::new([answer(304, [], |_| {}), keys([0])]).keys().handle();
    sleep(100 * MS).await;
    assert_eq!(handle.status().state, KeyState::Unusable(Unready::NeverFetched));
    assert_eq!(handle.status().last_error.as_deref(), Some("status 304 to a request that was not conditional"));
    handle.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_older_than_the_keys_in_force_is_refused_and_said_so() {
    let generated = |seconds: u64| {
        let at = SystemTime::now() - Duration::from_secs(seconds);
        move |it: &mut Fetched| it.date = Some(at)
    };
    let script = Script::new([answer(200, [1], generated(60)), answer(200, [0], generated(600))]);
    let source = script.keys();
    let handle = source.handle();
    handle.ready().await.unwrap();
    let error = handle.refresh().await.unwrap_err().to_string();
    assert!(error.contains("older"), "{error}");
    assert_eq!(look_up(&source, "k1").await, None);
    assert_eq!(handle.status().clock_offset, Some(-600));
    script.set(answer(200, [0], generated(0)));
    handle.refresh().await.unwrap();
    assert_eq!(look_up(&source, "k0").await, None);
    assert_eq!(handle.status().clock_offset, Some(0));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let script = Script::new([keys([0]), answer(429, [], |it| it.retry_after = Some(200 * SEC)), keys([0])]);
    let handle = script.keys().handle();
    handle.ready().await.unwrap();
    let begun = Instant::now();
    while script.fetches() < 2 {
        sleep(SEC).await;
    }
    let refused = Instant::now();
    while script.fetches() < 3 {
        sleep(SEC).await;
    }
    assert!(refused - begun < 256 * SEC);
    assert!((198..=203).contains(&refused.elapsed().as_secs()), "{:?}", refused.elapsed());
    assert_eq!(handle.status().fetches_failed, 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_wait_two_seconds_and_no_longer() {
    let source = Script::new([Turn::Hang]).keys();
    let begun = Instant::now();
    let answer = look_up(&source, "k0").await;
    assert_eq!(begun.elapsed(), 2 * SEC);
    // The first fetch is cut off at the same moment.
    let Some(Answer::Unavailable { reason, retry_after }) = answer else { panic!("{answer:?}") };
    assert!(matches!(reason, Unready::Starting | Unready::NeverFetched) && retry_after >= SEC, "{answer:?}");
    // From then on it is known that nobody can say.
    sleep(10 * MS).await;
    let Some(Ask::Answered(Answer::Unavailable { reason, .. })) = look(&source, "k0") else { panic!() };
    assert_eq!(reason, Unready::NeverFetched);
    let status = source.handle().status();
    assert_eq!(status.state, KeyState::Unusable(Unready::NeverFetched));
    assert_eq!((status.last_error.as_deref(), status.fetches_failed), (Some("timed out"), 1));
}

#[tokio::test(start_paused = true)]
async fn sixty_four_waiters_for_one_new_key_cause_one_fetch() {
    let script = Script::new([keys([0]), keys([0, 1])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    let waiters: Vec<_> = (0..64)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { look_up(&source, "k1").await })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Some(Answer::Changed));
    }
    assert_eq!(script.fetches(), 2);
    assert_eq!(script.requests().iter().map(|request| request.revalidate).collect::<Vec<_>>(), [false, true]);
    assert_eq!(look_up(&source, "k1").await, None);
}

#[tokio::test(start_paused = true)]
async fn absent_is_known_without_asking_the_task_again() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    assert_eq!(look_up(&source, "nope").await, Some(Answer::Absent));
    for _ in 0..5000 {
        assert!(matches!(look(&source, "nope"), Some(Ask::Answered(Answer::Absent))));
    }
    let long = "x".repeat(1000);
    assert!(matches!(look(&source, &long), Some(Ask::Answered(Answer::Absent))));
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_slot_is_answered_at_once() {
    for ready in [false, true] {
        let source = Script::taking(SEC, [keys([0])]).keys();
        if ready {
            source.handle().ready().await.unwrap();
        }
        // Nothing is awaited in between, so the task cannot empty its queue.
        let waiting: Vec<_> = (0..1024).map(|index| look(&source, &format!("x{index}")).unwrap()).collect();
        assert!(waiting.iter().all(|ask| matches!(ask, Ask::Wait(_))));
        let answer = match look(&source, "one too many") {
            Some(Ask::Answered(answer)) => answer,
            other => panic!("{other:?}"),
        };
        if ready {
            assert!(matches!(answer, Answer::NotYet { .. }), "{answer:?}");
        } else {
            assert!(matches!(answer, Answer::Unavailable { reason: Unready::Starting, .. }), "{answer:?}");
        }
        for ask in waiting {
            let Ask::Wait(waiting) = ask else { unreachable!() };
            timeout(2 * SEC + MS, waiting).await.expect("every wait ends");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_kids_costs_few_fetches_and_hides_no_key() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    let begun = Instant::now();
    let mut found_after = None;
    let mut made_up = 0;
    while begun.elapsed() < 60 * SEC {
        for _ in 0..50 {
            made_up += 1;
            drop(look(&source, &format!("made up {made_up}")));
        }
        if begun.elapsed() >= 30 * SEC {
            script.set(keys([0, 1]));
            if found_after.is_none() && look(&source, "k1").is_none() {
                found_after = Some(begun.elapsed() - 30 * SEC);
            }
        }
        assert!(look(&source, "k0").is_none(), "a good key is always there");
        sleep(20 * MS).await;
    }
    assert!(found_after.unwrap() <= 5 * SEC + 50 * MS, "{found_after:?}");
    // 1 s, 2 s, 4 s, then every 5 s; once more from the start after the rotation.
    assert!(script.fetches() <= 18, "{}", script.fetches());
}

#[tokio::test(start_paused = true)]
async fn refreshes_without_any_request_and_survives_what_providers_do() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    let handle = source.handle();
    handle.ready().await.unwrap();
    for turn in [
        Turn::Body(500, document([1])),
        Turn::Body(302, document([1])),
        Turn::Body(204, Vec::new()),
        Turn::Body(200, b"<html>".to_vec()),
        Turn::Body(200, document([1])[..50].to_vec()),
        Turn::Body(200, [document([1]), vec![b' '; MAX_BODY_BYTES]].concat()),
        Turn::Hang,
    ] {
        let failed = handle.status().fetches_failed;
        script.set(turn.clone());
        sleep(300 * SEC).await;
        let status = handle.status();
        assert!(status.fetches_failed > failed && status.last_error.is_some(), "{turn:?}");
        assert_eq!((status.generation, status.keys), (Some(1), 1), "{turn:?}");
        script.set(keys([0]));
        sleep(70 * SEC).await;
        assert_eq!(handle.status().last_error, None);
    }
    script.set(keys([1]));
    sleep(300 * SEC).await;
    assert_eq!(handle.status().generation, Some(2));
    assert_eq!(look_up(&source, "k1").await, None);
}

#[tokio::test(start_paused = true)]
async fn an_empty_set_replaces_a_good_one_only_when_it_is_confirmed() {
    let script = Script::new([keys([0]), keys([]), keys([0]), keys([]), keys([])]);
    let source = script.keys();
    let handle = source.handle();
    handle.ready().await.unwrap();
    assert_eq!(handle.refresh().await.unwrap_err().to_string(), "the key set has no usable key (0 skipped)");
    assert_eq!(handle.status().keys, 1);
    sleep(SEC + 50 * MS).await;
    assert_eq!((script.fetches(), handle.status().last_error), (3, None));
    sleep(10 * SEC).await;
    handle.refresh().await.unwrap_err();
    sleep(SEC + 50 * MS).await;
    let status = handle.status();
    assert_eq!((status.state, status.generation, status.keys), (KeyState::Empty, Some(2), 0));
    assert!(!handle.is_ready());
}

#[tokio::test(start_paused = true)]
async fn keys_are_not_believed_for_ever() {
    let script = Script::new([keys([0]), Turn::Body(503, Vec::new())]);
    let source = script.keys();
    let handle = source.handle();
    handle.ready().await.unwrap();
    sleep(DEFAULT_MAX_STALE - SEC).await;
    assert_eq!(look_up(&source, "k0").await, None);
    assert_eq!(handle.status().state, KeyState::Stale);
    sleep(2 * SEC).await;
    assert!(source.snapshot().is_none());
    assert!(matches!(look_up(&source, "k0").await, Some(Answer::Unavailable { reason: Unready::TooOld, .. })));
    assert_eq!(handle.status().state, KeyState::Unusable(Unready::TooOld));
    script.set(keys([0]));
    timeout(2 * SEC, handle.ready()).await.expect("looks every second").unwrap();
    assert_eq!(handle.status().generation, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ends_with_the_look_it_caused() {
    let script = Script::taking(100 * MS, [keys([0]), Turn::Body(500, Vec::new()), keys([0, 1])]);
    let handle = script.keys().handle();
    handle.ready().await.unwrap();
    assert_eq!(handle.refresh().await.unwrap_err().to_string(), "the answer has status 500");
    let begun = Instant::now();
    let (one, other) = (handle.refresh(), handle.refresh());
    assert_eq!((one.await, other.await), (Ok(()), Ok(())));
    assert_eq!(begun.elapsed(), 2 * SEC, "1.9 s of spacing, 0.1 s of fetch");
    assert_eq!((script.fetches(), handle.status().keys), (3, 2));
    for _ in 0..64 {
        drop(handle.refresh());
    }
    assert!(handle.refresh().await.unwrap_err().to_string().contains("too many"));
}

#[tokio::test(start_paused = true)]
async fn signatures_that_fail_cause_few_looks() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    for _ in 0..1000 {
        source.signature_mismatch(Miss {
            generation: Some(1),
            kid: Some("k0"),
            algorithm: Algorithm::Ed25519,
            token: None,
        });
        sleep(100 * MS).await;
    }
    assert_eq!(script.fetches(), 5, "in a hundred seconds the first one, and one look in thirty seconds");
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_of_its_users() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    // Idle, and in the middle of a fetch.
    for turn in [keys([0]), Turn::Hang] {
        let source = Script::new([turn]).keys();
        let (clone, handle) = (source.clone(), source.handle());
        sleep(100 * MS).await;
        assert_eq!(tasks(), 1);
        drop(source);
        drop(clone);
        sleep(MS).await;
        assert_eq!(tasks(), 1, "the handle is a user too");
        drop(handle);
        sleep(MS).await;
        assert_eq!(tasks(), 0);
    }
}

#[test]
fn without_a_runtime_nobody_panics() {
    let source = Script::new([keys([0])]).keys();
    let Some(Ask::Answered(answer)) = look(&source, "k0") else { panic!("waits for nobody") };
    assert_eq!(answer, Answer::Unavailable { reason: Unready::NoRuntime, retry_after: SEC });
    let handle = source.handle();
    assert!(!handle.is_ready());
    assert_eq!(handle.status().state, KeyState::Unusable(Unready::NoRuntime));
    source.signature_mismatch(Miss { generation: None, kid: None, algorithm: Algorithm::Es256, token: None });
    // The first use within a runtime starts it.
    runtime().block_on(async {
        assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
    });
}

#[test]
fn looking_at_readiness_starts_the_task() {
    for look in [
        |keys: &Keys| assert!(!keys.handle().is_ready()),
        |keys: &Keys| assert_eq!(keys.handle().status().state, KeyState::Starting),
        |keys: &Keys| drop(keys.handle().refresh()),
    ] {
        let script = Script::new([keys([0])]);
        let source = script.keys();
        assert_eq!(script.fetches(), 0);
        runtime().block_on(async {
            look(&source);
            tokio::task::yield_now().await;
            assert_eq!(script.fetches(), 1);
        });
    }
}

#[test]
fn a_second_runtime_takes_over_from_one_that_died() {
    let script = Script::new([keys([0]), keys([0, 1])]);
    let first = runtime();
    let source = first.block_on(async {
        let source = script.keys();
        source.handle().ready().await.unwrap();
        source
    });
    let orphan = first.block_on(async { look(&source, "nobody's").unwrap() });
    drop(first);
    // Nobody looks after the keys, so they are not in force; the next look says so, or gets them back.
    assert!(source.snapshot().is_none());
    assert!(matches!(look(&source, "k0"), Some(Ask::Answered(Answer::Unavailable { reason: Unready::NoRuntime, .. }))));
    runtime().block_on(async {
        let Ask::Wait(orphan) = orphan else { panic!() };
        assert!(matches!(orphan.await, Answer::Unavailable { .. }), "not left hanging");
        assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed), "at once");
        assert_eq!((look_up(&source, "k0").await, script.fetches()), (None, 1));
        assert_eq!(look_up(&source, "k1").await, Some(Answer::Changed));
        assert_eq!(source.handle().status().generation, Some(2));
    });
    // And a third one, with a refresh.
    runtime().block_on(async { timeout(8 * SEC, source.handle().refresh()).await.unwrap().unwrap() });
}

#[test]
fn a_runtime_that_dies_before_the_first_answer_loses_nothing() {
    let script = Script::new([Turn::Hang, keys([0])]);
    let first = runtime();
    let source = first.block_on(async {
        let source = script.keys();
        sleep(20 * MS).await;
        assert_eq!(script.fetches(), 1);
        source
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
    });
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_is_survived_and_not_repeated_at_every_request() {
    let script = Script::new([Turn::Panic, Turn::Panic, keys([0])]);
    let source = script.keys();
    let begun = Instant::now();
    while look(&source, "k0").is_some() {
        sleep(10 * MS).await;
        assert!(begun.elapsed() < 5 * SEC);
    }
    assert_eq!(script.fetches(), 3);
    assert!(begun.elapsed() >= 2 * SEC, "a second apart");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_leaves_the_keys_in_force() {
    let script = Script::new([keys([0]), Turn::Panic, keys([0, 1])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    let answer = look_up(&source, "k1").await;
    assert!(matches!(answer, Some(Answer::NotYet { .. })), "{answer:?}: a failed look is not a lack of keys");
    assert!(source.snapshot().is_some());
    assert_eq!(source.handle().status().last_error.as_deref(), Some("the fetcher panicked"));
    sleep(5 * SEC).await;
    assert_eq!(look_up(&source, "k1").await, Some(Answer::Changed));
}

#[test]
fn keys_are_not_believed_for_ever_when_nobody_drives_their_task() {
    let script = Script::new([keys([0])]);
    let idle = runtime();
    let source = idle.block_on(async {
        let source = script.keys();
        source.handle().ready().await.unwrap();
        source
    });
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
        tokio::time::advance(DEFAULT_MAX_STALE - SEC).await;
        assert!(source.snapshot().is_some());
        tokio::time::advance(2 * SEC).await;
        assert!(source.snapshot().is_none());
        let answer = look_up(&source, "k0").await;
        assert!(matches!(answer, Some(Answer::Unavailable { reason: Unready::TooOld, .. })), "{answer:?}");
        assert_eq!(source.handle().status().state, KeyState::Unusable(Unready::TooOld));
        assert!(!source.handle().is_ready());
    });
}

#[test]
fn a_runtime_without_timers_is_none_and_no_panic() {
    let source = Script::new([keys([0])]).keys();
    Builder::new_current_thread().build().unwrap().block_on(async {
        let answer = look_up(&source, "k0").await;
        assert!(matches!(answer, Some(Answer::Unavailable { reason: Unready::NoRuntime, .. })), "{answer:?}");
    });
    runtime().block_on(async {
        assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
    });
}

#[tokio::test(start_paused = true)]
async fn settings_that_do_not_pass_fetch_nothing() {
    let script = Script::new([keys([0])]);
    let source = Keys::remote(script.remote().default_lifetime(Duration::ZERO));
    assert!(matches!(look_up(&source, "k0").await, Some(Answer::Unavailable { .. })));
    sleep(60 * SEC).await;
    assert_eq!(script.fetches(), 0);
    assert!(source.handle().status().last_error.unwrap().contains("default_lifetime"));
}

#[tokio::test(start_paused = true)]
async fn skipped_keys_are_named_with_their_reason() {
    let body = br#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a\nb"},{"kty":"new"}]}"#.to_vec();
    let mut set: serde_json::Value = serde_json::from_slice(&body).unwrap();
    set["keys"].as_array_mut().unwrap().push(crate::support::JWKS[0].clone());
    let source = Script::new([Turn::Body(200, set.to_string().into_bytes())]).keys();
    source.handle().ready().await.unwrap();
    let status = source.handle().status();
    assert_eq!((status.keys, status.skipped_total, status.skipped.len()), (1, 2, 2));
    assert_eq!(status.skipped[0].kid.as_deref(), Some("a\nb"));
    assert_eq!(status.skipped[0].reason.to_string(), "a shared secret in a published set");
}

#[tokio::test(start_paused = true)]
async fn a_reader_keeps_the_whole_set_it_began_with() {
    let source = Script::new([keys([0, 1]), keys([2])]).keys();
    source.handle().ready().await.unwrap();
    let before = source.snapshot().unwrap();
    source.handle().refresh().await.unwrap();
    let after = source.snapshot().unwrap();
    assert_eq!((before.generation(), before.len(), after.generation(), after.len()), (1, 2, 2, 1));
}

#[test]
fn fixed_keys_are_what_they_are() {
    let key = SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid("k0").verifying_key().unwrap();
    let source = Keys::fixed(KeySet::new([key]));
    assert!(look(&source, "k0").is_none());
    assert!(matches!(look(&source, "k1"), Some(Ask::Answered(Answer::Absent))));
    let handle = source.handle();
    assert!(handle.is_ready());
    let status = handle.status();
    assert_eq!((status.state, status.generation, status.keys), (KeyState::Static, Some(0), 1));
    runtime().block_on(async {
        handle.ready().await.unwrap();
        handle.refresh().await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn events_tell_what_becomes_of_the_keys() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    let handle = source.handle();
    let mut events = handle.events();
    let name = |index: &usize| Some(Box::from(format!("k{index}")));
    let rotated = |generation, keys, added: &[usize], removed: &[usize]| {
        let names = |indices: &[usize]| indices.iter().map(name).collect();
        Some(KeyEvent::Rotated { generation, keys, added: names(added), removed: names(removed) })
    };
    assert_eq!(events.next().await, rotated(1, 1, &[0], &[]));
    script.set(keys([1, 2]));
    handle.refresh().await.unwrap();
    assert_eq!(events.next().await, rotated(2, 2, &[1, 2], &[0]));
    handle.refresh().await.unwrap();
    script.set(keys([]));
    handle.refresh().await.unwrap_err();
    let Some(KeyEvent::Refused { reason }) = events.next().await else { panic!("nothing has changed in between") };
    assert!(reason.contains("no usable key"), "{reason}");

    // An outage, to its end.
    script.set(Turn::Body(500, Vec::new()));
    let mut seen = Vec::new();
    let begun = Instant::now();
    loop {
        match events.next().await.unwrap() {
            KeyEvent::Failed { error } => assert_eq!(&*error, "the answer has status 500"),
            KeyEvent::TooOld => break,
            event => seen.push(event),
        }
    }
    assert_eq!(seen, [KeyEvent::Stale], "once");
    assert!(begun.elapsed() <= DEFAULT_MAX_STALE);
    script.set(keys([1, 2]));
    loop {
        match events.next().await.unwrap() {
            KeyEvent::Failed { .. } => {}
            event => {
                assert_eq!(event, KeyEvent::Recovered, "the same keys as before are no rotation");
                break;
            }
        }
    }
    drop((source, handle));
    assert_eq!(events.next().await, None);
    assert_eq!(Keys::fixed(KeySet::default()).handle().events().next().await, None);
}

#[tokio::test(start_paused = true)]
async fn whoever_hears_of_something_finds_it_in_the_status() {
    /// Looks at the moment at which it is told, which is while the task still does what it does.
    struct Looks(KeysHandle, Mutex<Vec<KeyStatus>>);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0.status());
        }
    }

    let script = Script::new([keys([0])]);
    let source = script.keys();
    source.handle().ready().await.unwrap();
    let looks = Arc::new(Looks(source.handle(), Mutex::default()));
    let waker = Waker::from(Arc::clone(&looks));
    let mut context = Context::from_waker(&waker);

    script.set(Turn::Body(500, Vec::new()));
    let mut events = source.handle().events();
    {
        let (mut event, mut refreshed) = (pin!(events.next()), pin!(source.handle().refresh()));
        assert!(event.as_mut().poll(&mut context).is_pending() && refreshed.as_mut().poll(&mut context).is_pending());
        sleep(SEC).await;
        let seen = std::mem::take(&mut *looks.1.lock().unwrap());
        assert_eq!(seen.len(), 2, "an event, and the end of what was asked for");
        assert!(seen.iter().all(|status| status.last_error.is_some() && status.fetches_failed == 1), "{seen:?}");
        assert!(event.poll(&mut context).is_ready() && refreshed.poll(&mut context).is_ready());
    }
    loop {
        let mut event = pin!(events.next());
        match event.as_mut().poll(&mut context) {
            Poll::Ready(Some(KeyEvent::Stale)) => break,
            Poll::Ready(_) => {}
            Poll::Pending => sleep(SEC).await,
        }
    }
    assert_eq!(looks.1.lock().unwrap().last().unwrap().state, KeyState::Stale);
}

/// A cache that takes a second to say what it remembers.
struct SlowCache(Option<Vec<u8>>);

impl KeyCache for SlowCache {
    fn load<'a>(&'a self, _: &'a str) -> CacheFuture<'a, Option<Vec<u8>>> {
        Box::pin(async {
            sleep(SEC).await;
            Ok(self.0.clone())
        })
    }

    fn store<'a>(&'a self, _: &'a str, _: Vec<u8>) -> CacheFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_is_sent_away_before_the_cache_has_said_what_it_remembers() {
    let first = Script::new([keys([0])]).keys();
    first.handle().ready().await.unwrap();
    let snapshot = first.handle().export().unwrap();
    let down = || Script::new([Turn::Body(500, Vec::new())]).remote();

    // The look fails after 10 ms.
    let source = Keys::remote(down().cache(SlowCache(Some(snapshot))));
    sleep(500 * MS).await;
    let begun = Instant::now();
    assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
    assert_eq!(begun.elapsed(), 500 * MS);
    assert_eq!(look_up(&source, "k0").await, None);
    sleep(10 * MS).await;
    assert_eq!(source.handle().status().fetches_failed, 1, "and then the failure is told");

    // A cache that remembers nothing keeps it back no longer.
    let source = Keys::remote(down().cache(SlowCache(None)));
    sleep(999 * MS).await;
    assert_eq!(source.handle().status().state, KeyState::Starting);
    sleep(2 * MS).await;
    assert_eq!(source.handle().status().state, KeyState::Unusable(Unready::NeverFetched));
    // Nor does it keep keys back.
    let source = Keys::remote(Script::new([keys([1])]).remote().cache(SlowCache(None)));
    sleep(20 * MS).await;
    assert_eq!(look_up(&source, "k1").await, None);
}

#[tokio::test(start_paused = true)]
async fn the_handle_says_how_long_a_withdrawn_key_can_be_trusted_and_how_many_answers_were_refused() {
    let script = Script::new([answer(200, [0], |it| it.cache_control = Some("max-age=600".into()))]);
    let handle = Keys::remote(script.remote().max_lifetime(3_000 * SEC).max_stale(7_000 * SEC)).handle();
    let status = handle.status();
    assert_eq!(
        (status.withdrawn_after, status.max_stale),
        (None, Some(7_000 * SEC)),
        "there is nothing to withdraw yet"
    );
    handle.ready().await.unwrap();
    let status = handle.status();
    assert_eq!(status.withdrawn_after, Some(605 * SEC), "the lifetime, and one fetch");
    assert_eq!((status.answers_refused, status.fetches_failed), (0, 0));
    // A failure is no refusal; an empty set that nobody has confirmed is one.
    for (turn, refused, failed) in [(Turn::Body(500, Vec::new()), 0, 1), (keys([]), 1, 2)] {
        script.set(turn);
        handle.refresh().await.unwrap_err();
        let status = handle.status();
        assert_eq!((status.answers_refused, status.fetches_failed), (refused, failed));
        script.set(keys([0]));
        handle.refresh().await.unwrap();
    }
    let fixed = Keys::fixed(KeySet::default()).handle().status();
    assert_eq!((fixed.withdrawn_after, fixed.max_stale), (None, None));
}
