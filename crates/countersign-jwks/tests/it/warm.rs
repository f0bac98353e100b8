//! Keys that outlive the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Script, Turn, look_up};
use countersign_jwks::{
    CacheError, CacheFuture, FileCache, ImportError, KeyCache, KeyEvent, KeyState, Keys, Remote, SourceError,
};
use countersign_token::{Answer, KeySource};
use tokio::time::sleep;

const SEC: Duration = Duration::from_secs(1);

fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

fn down() -> Script {
    Script::new([Turn::Body(500, Vec::new())])
}

/// A cache in memory, which fails on demand.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    stored: HashMap<String, Vec<u8>>,
    stores: usize,
    fails: bool,
    hangs: bool,
    panics: bool,
    garbage: Option<Vec<u8>>,
}

impl Memory {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    async fn behave(&self) -> Result<(), CacheError> {
        let (fails, hangs, panics) = self.with(|inner| (inner.fails, inner.hangs, inner.panics));
        assert!(!panics, "as told");
        if hangs {
            std::future::pending::<()>().await;
        }
        if fails { Err(CacheError::new("as told")) } else { Ok(()) }
    }
}

impl KeyCache for Memory {
    fn load<'a>(&'a self, name: &'a str) -> CacheFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            self.behave().await?;
            Ok(self.with(|inner| inner.garbage.clone().or_else(|| inner.stored.get(name).cloned())))
        })
    }

    fn store<'a>(&'a self, name: &'a str, snapshot: Vec<u8>) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            self.behave().await?;
            self.with(|inner| {
                inner.stores += 1;
                inner.stored.insert(name.into(), snapshot);
            });
            Ok(())
        })
    }
}

/// A cache that a process which has ended has left behind.
async fn left_behind(configure: impl Fn(Remote) -> Remote) -> Memory {
    let memory = Memory::default();
    let script = Script::new([keys([0])]);
    let source = Keys::remote(configure(script.remote()).cache(memory.clone()));
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    assert_eq!(memory.with(|inner| inner.stored.len()), 1);
    memory
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_while_the_provider_is_down_serves_with_what_the_last_one_had() {
    let memory = left_behind(|remote| remote).await;
    let script = down();
    let source = Keys::remote(script.remote().cache(memory.clone()));
    let mut events = source.handle().events();
    // The first request waits for neither provider nor time-out.
    assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
    assert!(matches!(events.next().await, Some(KeyEvent::Restored { keys: 1, .. })));
    assert!(source.handle().is_ready());
    sleep(10 * SEC).await;
    assert_eq!(look_up(&source, "k0").await, None);
    // What was fetched outweighs it at once.
    script.set(keys([1]));
    source.handle().refresh().await.unwrap();
    assert!(look_up(&source, "k0").await.is_some());
    assert_eq!(look_up(&source, "k1").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_fails_hangs_or_panics_costs_nothing_but_the_warm_start() {
    for misbehave in [
        (|inner| inner.fails = true) as fn(&mut Inner),
        |inner| inner.hangs = true,
        |inner| inner.panics = true,
        |inner| {
            let garbage = [Vec::new(), b"{}".to_vec(), vec![0xff; 1 << 20]];
            inner.garbage = Some(garbage[inner.stores % 3].clone());
        },
    ] {
        let memory = Memory::default();
        memory.with(misbehave);
        let script = Script::new([keys([0])]);
        let source = Keys::remote(script.remote().cache(memory.clone()));
        assert_eq!(look_up(&source, "k0").await, Some(Answer::Changed));
        sleep(1_000 * SEC).await;
        assert_eq!(source.handle().status().state, KeyState::Ready);
        // It is written again once it can be.
        memory.with(|inner| (inner.fails, inner.hangs, inner.panics) = (false, false, false));
        sleep(1_000 * SEC).await;
        assert!(memory.with(|inner| inner.stores) > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_written_when_keys_change_and_not_with_every_answer() {
    let memory = Memory::default();
    let script = Script::new([keys([0])]);
    let source = Keys::remote(script.remote().cache(memory.clone()));
    source.handle().ready().await.unwrap();
    for _ in 0..20 {
        source.handle().refresh().await.unwrap();
    }
    assert!(memory.with(|inner| inner.stores) <= 3, "once a minute at most while nothing changes");
    let before = memory.with(|inner| inner.stores);
    sleep(10 * SEC).await;
    script.set(keys([0, 1]));
    assert_eq!(look_up(&source, "k1").await, Some(Answer::Changed));
    sleep(SEC).await;
    assert_eq!(memory.with(|inner| inner.stores), before + 1);
    // An answer that is not believed is not written down.
    script.set(Turn::Keys(Vec::new()));
    source.handle().refresh().await.unwrap_err();
    assert_eq!(memory.with(|inner| inner.stores), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_somebody_without_the_secret_is_refused() {
    let secret = [7; 32];
    let honest = left_behind(|remote| remote.cache_secret(secret)).await;
    let forged = left_behind(|remote| remote).await;
    let other = left_behind(|remote| remote.cache_secret([8; 32])).await;
    for (memory, is_believed) in [(honest, true), (forged, false), (other, false)] {
        let source = Keys::remote(down().remote().cache(memory).cache_secret(secret));
        sleep(SEC).await;
        assert_eq!(source.snapshot().is_some(), is_believed);
    }
    assert_eq!(down().remote().cache_secret([7; 31]).check(), Err(SourceError::CacheSecret));
}

/// Above all two tenants whose keys are told apart by a query: it is no part of what a source is called.
#[tokio::test(start_paused = true)]
async fn sources_that_share_a_cache_have_each_their_own() {
    let memory = Memory::default();
    let source = |url: &str, issuer: Option<&str>, fetch: Script| {
        let remote = Remote::new(url).unwrap().fetch(fetch).cache(memory.clone());
        Keys::remote(issuer.iter().fold(remote, |remote, issuer| remote.bound_to_issuer(*issuer)))
    };
    let sources = [
        ("https://a.test/keys?secret=hunter2", None, 0),
        ("https://a.test/keys?secret=hunter3", None, 1),
        ("https://a.test/keys", None, 2),
        ("https://a.test/keys", Some("https://x.test"), 3),
        ("https://a.test/keys", Some("https://y.test"), 4),
    ];
    for (url, issuer, key) in sources {
        source(url, issuer, Script::new([keys([key])])).handle().ready().await.unwrap();
        sleep(SEC).await;
    }
    let names: Vec<_> = memory.with(|inner| inner.stored.keys().cloned().collect());
    assert!(names.len() == 5 && names.iter().all(|name| !name.contains("hunter")), "{names:?}");
    for (url, issuer, key) in sources {
        let source = source(url, issuer, down());
        assert_eq!(look_up(&source, &format!("k{key}")).await, Some(Answer::Changed), "{url} {issuer:?}");
        let set = source.snapshot().unwrap();
        assert!(set.len() == 1 && set.iter().all(|key| key.issuer() == issuer));
    }
    // Somebody has swapped them.
    memory.with(|inner| {
        let first = inner.stored[&names[0]].clone();
        inner.stored.values_mut().for_each(|snapshot| snapshot.clone_from(&first));
    });
    let mut served = 0;
    for (url, issuer, _) in sources {
        let source = source(url, issuer, down());
        sleep(SEC).await;
        served += usize::from(source.snapshot().is_some());
    }
    assert_eq!(served, 1, "the one whose it is");
}

#[tokio::test(start_paused = true)]
async fn exported_keys_are_imported_once_and_never_over_others() {
    let script = Script::new([keys([0])]);
    let source = script.keys();
    assert_eq!(source.handle().export(), None, "there is nothing yet");
    source.handle().ready().await.unwrap();
    let snapshot = source.handle().export().unwrap();

    let second = down();
    let source = second.keys();
    sleep(SEC / 2).await;
    let handle = source.handle();
    assert_eq!(handle.import(&snapshot).await, Ok(true));
    assert_eq!(look_up(&source, "k0").await, None);
    let generation = source.snapshot().unwrap().generation();
    assert_eq!(handle.import(&snapshot).await, Ok(false), "to do it twice is to do it once");
    assert_eq!(source.snapshot().unwrap().generation(), generation);
    assert_eq!(handle.export().map(|again| again.len()), Some(snapshot.len()), "and it can be exported again");

    let fresh = Script::new([keys([1])]).keys();
    fresh.handle().ready().await.unwrap();
    assert_eq!(fresh.handle().import(&snapshot).await, Ok(false));
    assert!(look_up(&fresh, "k0").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_whole_or_of_another_source_is_not_imported() {
    let source = Script::new([keys([0])]).keys();
    source.handle().ready().await.unwrap();
    let snapshot = source.handle().export().unwrap();
    let handle = down().keys().handle();
    for broken in [&snapshot[..snapshot.len() - 1], b"", b"{}", b"\xff"] {
        assert_eq!(handle.import(broken).await, Err(ImportError::NotWhole));
    }
    let text = String::from_utf8(snapshot.clone()).unwrap();
    let changed = text.replace("issuer.test", "issuer.evil");
    assert_eq!(handle.import(changed.as_bytes()).await, Err(ImportError::NotWhole));
    let other = Keys::remote(Remote::new("https://other.test/keys").unwrap().fetch(down())).handle();
    assert_eq!(other.import(&snapshot).await, Err(ImportError::OtherSource));
    assert_eq!(
        Keys::fixed(countersign_token::KeySet::default()).handle().import(&snapshot).await,
        Err(ImportError::NotRemote)
    );
    assert!(!handle.is_ready());
}

#[tokio::test]
async fn a_file_cache_is_there_for_the_next_process() {
    let directory = std::env::temp_dir().join(format!("countersign-warm-{}", std::process::id()));
    let source = Keys::remote(Script::new([keys([0])]).remote().cache(FileCache::new(&directory)));
    source.handle().ready().await.unwrap();
    while !directory.exists()
        || std::fs::read_dir(&directory)
            .unwrap()
            .all(|file| file.unwrap().path().extension().is_none_or(|it| it != "keys"))
    {
        tokio::task::yield_now().await;
    }
    drop(source);
    let source = Keys::remote(down().remote().cache(FileCache::new(&directory)));
    source.handle().ready_within(10 * SEC).await.unwrap();
    assert_eq!(look_up(&source, "k0").await, None);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test(start_paused = true)]
async fn starting_waits_fails_or_goes_on() {
    let script = down();
    let handle = script.keys().handle();
    let begun = tokio::time::Instant::now();
    let error = handle.ready_within(5 * SEC).await.unwrap_err();
    assert_eq!(begun.elapsed(), 5 * SEC);
    assert!(error.to_string().contains("status 500"), "{error}");
    script.set(keys([0]));
    handle.ready_within(5 * SEC).await.unwrap();
    assert!(begun.elapsed() < 7 * SEC, "within the next look");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_told_once_until_it_agrees_again() {
    let at = |ahead: i64| {
        let mut fetched = countersign_token::Fetched::default();
        (fetched.status, fetched.body) = (200, crate::support::document([0]));
        let by = Duration::from_secs(ahead.unsigned_abs());
        let now = std::time::SystemTime::now();
        fetched.date = Some(if ahead < 0 { now - by } else { now + by });
        Turn::Answer(Box::new(fetched))
    };
    let script = Script::new([at(0)]);
    let handle = Keys::remote(script.remote().clock_tolerance(15 * SEC)).handle();
    let mut events = handle.events();
    handle.ready().await.unwrap();
    let mut told = Vec::new();
    for ahead in [0, 14, -40, -41, 0, 60] {
        script.set(at(ahead));
        handle.refresh().await.unwrap();
        let offset = handle.status().clock_offset.unwrap();
        assert!((offset - ahead).abs() <= 1, "{offset} {ahead}");
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(1), events.next()).await {
            if let KeyEvent::ClockOff { seconds } = event {
                told.push((ahead, (seconds - ahead).abs() <= 1));
            }
        }
    }
    assert_eq!(told, [(-40, true), (60, true)]);
}

/// A process that is frozen between requests, as functions are: nothing was refreshed meanwhile.
#[tokio::test(start_paused = true)]
async fn whoever_was_frozen_waits_for_one_look_and_not_longer_than_he_likes() {
    let script = Script::taking(SEC / 10, [keys([0])]);
    let source = script.keys();
    let handle = source.handle();
    handle.fresh_within(5 * SEC).await.unwrap();
    assert_eq!(script.fetches(), 1, "the look under way will do");
    handle.fresh_within(5 * SEC).await.unwrap();
    assert_eq!(script.fetches(), 1, "they are fresh");
    // As if its task had not run for ten minutes.
    script.set(Turn::Hang);
    sleep(600 * SEC).await;
    assert_eq!(handle.status().state, KeyState::Stale);
    let begun = tokio::time::Instant::now();
    assert!(handle.fresh_within(SEC).await.is_err());
    assert_eq!(begun.elapsed(), SEC);
    assert!(handle.is_ready(), "stale keys are keys");
    let before = script.fetches();
    script.set(keys([1]));
    handle.fresh_within(20 * SEC).await.unwrap();
    assert_eq!(look_up(&source, "k1").await, None);
    assert!(script.fetches() <= before + 1, "{} {before}", script.fetches());
    assert_eq!(Keys::fixed(countersign_token::KeySet::default()).handle().fresh_within(SEC).await, Ok(()));
}

/// Nor does a snapshot that names a file put keys in the place of those that are in it.
#[tokio::test(start_paused = true)]
async fn files_are_not_imported_into() {
    let handle = Keys::local(countersign_jwks::Local::jwks("/nowhere/keys.jwks")).handle();
    let source = Script::new([keys([0])]).keys();
    source.handle().ready().await.unwrap();
    assert_eq!(handle.import(&source.handle().export().unwrap()).await, Err(ImportError::NotRemote));
    assert_eq!(handle.export(), None);
}

#[tokio::test(start_paused = true)]
async fn a_warm_start_is_counted_as_a_hit_or_a_miss() {
    let counted = async |source: &Keys| {
        sleep(10 * SEC).await;
        let counters = source.handle().status().counters;
        (counters.cache_hits, counters.cache_misses)
    };
    let memory = left_behind(|remote| remote).await;
    let warm = Keys::remote(down().remote().cache(memory.clone()));
    assert_eq!(counted(&warm).await, (1, 0));
    for _ in 0..3 {
        warm.handle().refresh().await.unwrap_err();
    }
    assert_eq!(counted(&warm).await, (1, 0), "it is read once");
    let cold = Script::new([keys([0])]);
    assert_eq!(counted(&Keys::remote(cold.remote().cache(Memory::default()))).await, (0, 1));
    for misbehave in [
        (|inner| inner.fails = true) as fn(&mut Inner),
        |inner| inner.hangs = true,
        |inner| inner.garbage = Some(b"{}".to_vec()),
    ] {
        let memory = Memory::default();
        memory.with(misbehave);
        assert_eq!(counted(&Keys::remote(Script::new([keys([0])]).remote().cache(memory))).await, (0, 1));
    }
    let sealed = Keys::remote(down().remote().cache(memory).cache_secret([7; 32]));
    assert_eq!(counted(&sealed).await, (0, 1), "not believed");
    // Without a cache there is nothing to count, whatever is imported.
    let source = down().keys();
    sleep(SEC / 2).await;
    assert_eq!(source.handle().import(&warm.handle().export().unwrap()).await, Ok(true));
    assert_eq!(counted(&source).await, (0, 0));
}
