//! Providers and strangers that mean harm: what they must not be able to do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::issuers::{keys, look, look_up as look_up_of, numbered, token, with_sites};
use crate::support::{Script, Sites, Turn, document, look_up};
use countersign_jwks::{FileCache, Issuers, KeyCache, Keys, Remote, Tenants};
use countersign_token::{
    Algorithm, Answer, Ask, Fetched, HeaderScratch, JwkSet, KeySource, Origin, SigningKey, UnverifiedToken,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn tenant(name: impl std::fmt::Display) -> String {
    format!("https://login.example/{name}")
}

fn tenant_keys(name: impl std::fmt::Display) -> String {
    format!("https://login.example/{name}/keys")
}

fn tenants() -> Tenants {
    Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys")
}

/// A tenant with keys, and one that a check has let in and that has none.
async fn one_good_and_one_made_up() -> Keys {
    let sites = Sites::default();
    sites.set(&tenant_keys("good"), keys([0]));
    let source = Keys::issuers(with_sites(Issuers::new().tenants(tenants().admit_if(|_| true)), &sites));
    assert_eq!(look_up_of(&source, &tenant("good"), "k0").await, Some(Answer::Changed));
    drop(look(&source, &tenant("made-up"), "k0"));
    sleep(5 * SEC).await;
    source
}

fn has_keys(source: &Keys, issuer: &str, kid: &str) -> bool {
    look(source, issuer, kid).is_none()
}

fn has_snapshot(source: &Keys, issuer: &str) -> bool {
    let token = token(&json!({ "iss": issuer }), "k0");
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&token, 8192, &mut scratch).unwrap();
    source.snapshot_for(&token).is_some()
}

// Many issuers.

/// Issuers: "so that a check that lets made-up names through does not make us flood the issuer".
#[tokio::test(start_paused = true)]
async fn made_up_tenants_are_not_asked_for_once_their_tokens_have_stopped() {
    let sites = Sites::default();
    let source = Keys::issuers(with_sites(Issuers::new().tenants(tenants().admit_if(|_| true)), &sites));
    // One token each, as fast as they are let in; then the stranger goes home.
    for made_up in 0..1_000 {
        drop(look(&source, &tenant(format!("x{made_up}")), "k0"));
        sleep(32 * MS).await;
    }
    sites.asked();
    sleep(600 * SEC).await;
    let asked = sites.asked().len();
    assert!(asked < 10_000, "{asked} requests in ten minutes in which nobody sent a token");
}

#[tokio::test(start_paused = true)]
async fn listed_tenants_that_take_turns_keep_their_distance() {
    let sites = Sites::default();
    let listed = tenants().allow(["t1", "t2"]);
    let source = Keys::issuers(with_sites(Issuers::new().tenants(listed).max_tenants(1), &sites));
    // The issuer is down: 404. A stranger names two of the tenants in turn.
    for turn in 0..1_000 {
        drop(look(&source, &tenant(["t1", "t2"][turn % 2]), "k0"));
        sleep(MS).await;
    }
    let asked = sites.asked().len();
    assert!(asked <= 10, "{asked} requests in a second, for two tenants");
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_tenants_are_no_more_than_max_tenants() {
    let sites = Sites::default();
    let listed = tenants().allow(["t1", "t2"]);
    let source = Keys::issuers(with_sites(Issuers::new().tenants(listed).max_tenants(1), &sites));
    for name in ["t1", "t2"] {
        sites.set(&tenant_keys(name), Turn::Hang);
    }
    let mut waiting = Vec::new();
    for turn in 0..1_000 {
        waiting.push(look(&source, &tenant(["t1", "t2"][turn % 2]), "k0"));
        sleep(MS).await;
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks <= 10, "{tasks} tasks for at most one tenant");
}

/// A tenant whose keys come in 100 ms never gets in, and its requests get what is 503 for the verifier.
#[tokio::test(start_paused = true)]
async fn made_up_tenants_do_not_push_out_a_listed_one_before_its_keys_come() {
    let slow = Script::taking(100 * MS, [keys([1])]);
    let quick = Sites::default();
    quick.set(&tenant_keys("proven"), keys([0]));
    let each = {
        let (slow, quick) = (slow.clone(), quick.clone());
        move |remote: Remote| {
            if format!("{remote:?}").contains("/good/") {
                remote.fetch(slow.clone())
            } else {
                remote.fetch(quick.clone())
            }
        }
    };
    let both = tenants().allow(["proven", "good"]).admit_if(|_| true);
    let source = Arc::new(Keys::issuers(Issuers::new().tenants(both).max_tenants(2).each(each)));
    assert_eq!(look_up_of(&source, &tenant("proven"), "k0").await, Some(Answer::Changed));
    let flood = {
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            for made_up in 0.. {
                let ask = look(&source, &tenant(format!("x{made_up}")), "k0");
                assert!(ask.is_some());
                drop(ask);
                drop(look(&source, &tenant("proven"), "k0"));
                sleep(20 * MS).await;
            }
        })
    };
    sleep(SEC).await;
    let (mut judged, mut impossible) = (0, 0);
    for _ in 0..100 {
        match look(&source, &tenant("good"), "k1") {
            None => judged += 1,
            Some(Ask::Wait(wait)) => {
                let answer = wait.await;
                if answer == Answer::Changed {
                    if has_snapshot(&source, &tenant("good")) { judged += 1 } else { impossible += 1 }
                }
            }
            Some(Ask::Answered(_)) => {}
        }
        sleep(200 * MS).await;
    }
    flood.abort();
    assert!(
        judged > 50 && impossible == 0,
        "of 100 good tokens {judged} judged, {impossible} told 503 (Changed, and no set)"
    );
}

/// limited.rs: "so that no number of issuers that never answer keeps others from being refreshed".
#[tokio::test(start_paused = true)]
async fn issuers_that_hang_once_they_have_keys_do_not_keep_others_from_being_refreshed() {
    let worst = worst_delay_among_hanging_issuers(400, true).await;
    assert!(worst <= 10 * SEC, "a rotation of the good issuer was followed only after {worst:?}");
}

/// The same without any stranger: an outage of a provider that many tenants share is enough.
#[tokio::test(start_paused = true)]
async fn an_outage_of_a_shared_provider_does_not_keep_other_issuers_from_being_refreshed() {
    let worst = worst_delay_among_hanging_issuers(2_000, false).await;
    assert!(worst <= 10 * SEC, "a rotation of the good issuer was followed only after {worst:?}");
}

async fn worst_delay_among_hanging_issuers(count: usize, flooded: bool) -> Duration {
    let sites = Sites::default();
    let source = Arc::new(Keys::issuers(numbered(&sites, count)));
    sleep(60 * SEC).await;
    for hanging in 1..count {
        assert!(has_keys(&source, &format!("https://i{hanging}.example"), &format!("k{}", hanging % 8)));
        sites.set(&format!("https://i{hanging}.example/keys"), Turn::Hang);
    }
    // One provider of 399 of them hangs, and a stranger sends each a made-up kid now and then.
    let flood = {
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            loop {
                for hanging in (1..count).filter(|_| flooded) {
                    drop(look(&source, &format!("https://i{hanging}.example"), "made-up"));
                }
                sleep(SEC).await;
            }
        })
    };
    sleep(400 * SEC).await;
    let mut worst = Duration::ZERO;
    for key in 1..8 {
        sites.set("https://i0.example/keys", keys([0, key]));
        let begun = Instant::now();
        while !has_keys(&source, "https://i0.example", &format!("k{key}")) {
            let _ = look_up_of(&source, "https://i0.example", &format!("k{key}")).await;
            sleep(200 * MS).await;
            assert!(begun.elapsed() < 600 * SEC, "never");
        }
        worst = worst.max(begun.elapsed());
        sleep(20 * SEC).await;
    }
    flood.abort();
    worst
}

/// A function runtime calls it before each invocation.
#[tokio::test(start_paused = true)]
async fn a_made_up_tenant_does_not_make_fresh_within_wait() {
    let source = one_good_and_one_made_up().await;
    let begun = Instant::now();
    let fresh = source.handle().fresh_within(2 * SEC).await;
    assert!(fresh.is_ok() && begun.elapsed() < SEC, "{fresh:?} after {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_public_issuers_metadata_does_not_lead_to_this_machine() {
    let sites = Sites::default();
    let metadata = "https://login.example/.well-known/openid-configuration";
    for inside in [
        "https://127.0.0.1:8443/admin?drop=1",
        "https://localhost/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest",
    ] {
        sites.metadata(metadata, "https://login.example", inside);
        let source = Keys::remote(Remote::discover("https://login.example").unwrap().fetch(sites.clone()));
        sleep(SEC).await;
        drop(source);
        let asked = sites.asked();
        assert!(!asked.iter().any(|url| url == inside), "{asked:?}");
    }
}

#[test]
fn a_name_of_an_issuer_cannot_begin_a_line_in_the_log() {
    let issuer = "https://a.example/\nERROR all keys were stolen";
    if let Ok(remote) = Remote::discover(issuer) {
        let keys = Keys::remote(remote);
        assert!(!keys.handle().name().unwrap().contains('\n'), "{:?}", keys.handle().name());
    }
}

// Discovery and failover.

/// An issuer with RFC 8414 metadata only, each answer of which takes 600 ms: two seconds are enough for three.
#[tokio::test(start_paused = true)]
async fn an_issuer_that_takes_600_ms_for_each_answer_begins() {
    let not_there = Turn::Body(404, Vec::new());
    let metadata =
        json!({ "issuer": "https://login.example", "jwks_uri": "https://login.example/k" }).to_string().into_bytes();
    let turns = [not_there, Turn::Body(200, metadata), Turn::Keys(vec![0])];
    let script = Script::taking(600 * MS, turns.iter().cycle().take(300).cloned().collect::<Vec<_>>());
    let source = Keys::remote(Remote::discover("https://login.example").unwrap().fetch(script.clone()));
    let ready = source.handle().ready_within(60 * SEC).await;
    let urls: Vec<_> = script.requests().into_iter().map(|request| request.url).take(6).collect();
    assert!(ready.is_ok(), "{ready:?} {urls:?}");
}

fn dated(keys: &[usize], ahead: i64, age: Option<u64>) -> Turn {
    let mut fetched = Fetched::default();
    (fetched.status, fetched.body) = (200, document(keys.iter().copied()));
    let by = Duration::from_secs(ahead.unsigned_abs());
    let now = SystemTime::now();
    fetched.date = Some(if ahead < 0 { now - by } else { now + by });
    fetched.age = age.map(Duration::from_secs);
    Turn::Answer(Box::new(fetched))
}

/// Many servers say 403 of what is not there (S3), or show their front page: an issuer with RFC 8414 metadata only never begins there.
#[tokio::test(start_paused = true)]
async fn an_issuer_that_says_403_of_what_it_does_not_have_is_found_at_the_other_place() {
    for (status, body) in [(403, &b""[..]), (200, &b"<!doctype html>"[..])] {
        let sites = Sites::default();
        sites.set("https://login.example/.well-known/openid-configuration", Turn::Body(status, body.to_vec()));
        let metadata = "https://login.example/.well-known/oauth-authorization-server";
        sites.metadata(metadata, "https://login.example", "https://login.example/k");
        sites.set("https://login.example/k", keys([0]));
        let source = Keys::remote(Remote::discover("https://login.example").unwrap().fetch(sites.clone()));
        let ready = source.handle().ready_within(60 * SEC).await;
        assert!(ready.is_ok(), "{status} {ready:?}");
    }
}

/// While an operator gives an issuer another source, a request that waits for it is told 503 (Changed, and no set).
#[tokio::test(start_paused = true)]
async fn an_issuer_that_gets_another_source_is_no_outage_for_who_waits() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 2));
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    sites.set("https://i1.example/keys", keys([1, 5]));
    let Some(Ask::Wait(wait)) = look(&source, "https://i1.example", "k5") else { panic!("it waits") };
    sites.set("https://new.example/keys", Turn::Hang);
    source.handle().add_issuer("https://i1.example", Remote::new("https://new.example/keys").unwrap()).unwrap();
    // The verifier makes "ask again" of that, because others have keys.
    assert!(wait.await != Answer::Changed || source.has_keys());
}

#[tokio::test(start_paused = true)]
async fn tenants_are_told_apart_in_the_log() {
    let sites = Sites::default();
    let by_query =
        Tenants::of("https://login.example/{tenant}").jwks("https://login.example/keys?t={tenant}").allow(["t1", "t2"]);
    let source = Keys::issuers(with_sites(Issuers::new().tenants(by_query), &sites));
    for name in ["t1", "t2"] {
        drop(look(&source, &tenant(name), "k0"));
    }
    let names: Vec<_> = source.handle().parts().iter().map(|part| part.name().unwrap().to_owned()).collect();
    assert_ne!(names[0], names[1]);
}

/// Not expected to fail: nobody deadlocks or panics, whatever threads do at once.
#[test]
fn everything_at_once_neither_hangs_nor_panics() {
    let sites = Sites::default();
    for name in 0..20 {
        sites.set(&tenant_keys(format!("t{name}")), keys([name % 8]));
    }
    let issuers = numbered(&sites, 10).lazy().tenants(tenants().admit_if(|_| true)).max_tenants(5).idle_after(50 * MS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (ended, has_ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let source = Arc::new(Keys::issuers(issuers));
            let work = (0..4_usize).map(|worker| {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    for turn in 0..3_000_usize {
                        let at = turn * 7 + worker * 13;
                        match at % 11 {
                            0 => drop(source.handle().remove_issuer(tenant(format!("t{}", at % 20)))),
                            1 => {
                                let name = format!("https://i{}.example", at % 12);
                                drop(source.handle().add_issuer(&name, Remote::new(format!("{name}/keys")).unwrap()));
                            }
                            2 => drop(source.handle().status()),
                            3 => drop(source.handle().is_ready()),
                            4 => drop(source.handle().refresh()),
                            5 => drop(look(&source, &format!("https://i{}.example", at % 12), "k1")),
                            6 => {
                                let _ = tokio::time::timeout(5 * MS, look_up_of(&source, &tenant(at % 20), "k9")).await;
                            }
                            _ => drop(look(&source, &tenant(format!("t{}", at % 20)), "k0")),
                        }
                        if turn % 50 == 0 {
                            sleep(MS).await;
                        }
                    }
                })
            });
            for one in work.collect::<Vec<_>>() {
                one.await.unwrap();
            }
        });
        let _ = ended.send(());
    });
    assert_eq!(has_ended.recv_timeout(Duration::from_secs(60)), Ok(()));
}

// A union.

/// KeySet::unnamed_keys_match_any_kid, alone and in a union.
#[tokio::test(start_paused = true)]
async fn keys_that_match_any_kid_do_so_in_a_union_too() {
    let jwk = SigningKey::generate(Algorithm::Ed25519).unwrap().public_jwk().unwrap();
    let document = json!({ "keys": [jwk] }).to_string();
    let set = JwkSet::parse(document.as_bytes(), Origin::Remote).unwrap().into_key_set().unnamed_keys_match_any_kid();
    let alone = Keys::fixed(set);
    assert_eq!(look_up(&alone, "whatever").await, None);
    let union = Keys::union([alone]).unwrap();
    assert_eq!(look_up(&union, "whatever").await, None);
}

/// KeysHandle::import: "unless there are keys already". There are none that are believed.
#[tokio::test(start_paused = true)]
async fn keys_that_are_too_old_do_not_keep_younger_ones_from_being_imported() {
    let old = Script::new([keys([0]), Turn::Body(500, Vec::new())]);
    let source = Keys::remote(old.remote().max_lifetime(600 * SEC).max_stale(1_200 * SEC));
    source.handle().ready().await.unwrap();
    sleep(1_300 * SEC).await;
    assert!(!source.handle().is_ready());
    // Another process of the fleet has reached the provider a moment ago.
    let other = Script::new([keys([1])]);
    let other = Keys::remote(other.remote().max_lifetime(600 * SEC).max_stale(1_200 * SEC));
    other.handle().ready().await.unwrap();
    let kept = other.handle().export().unwrap();
    assert_eq!(source.handle().import(&kept).await, Ok(true));
    assert!(source.handle().is_ready());
}

/// "as long as that fails, the place that is known is used": only for somebody who waits longer than requests do.
#[tokio::test(start_paused = true)]
async fn metadata_that_hangs_does_not_make_the_first_token_of_a_new_key_be_refused() {
    let sites = Sites::default();
    let metadata = "https://login.example/.well-known/openid-configuration";
    sites.metadata(metadata, "https://login.example", "https://login.example/k");
    sites.set("https://login.example/k", keys([0]));
    let source = Keys::remote(Remote::discover("https://login.example").unwrap().fetch(sites.clone()));
    source.handle().ready().await.unwrap();
    sleep(120 * SEC).await;
    sites.set(metadata, Turn::Hang);
    sites.set("https://login.example/k", keys([0, 1]));
    assert_eq!(look_up(&source, "k1").await, Some(Answer::Changed));
}

/// "Our own inability is 503": the union of the example in `Keys::union`, with its remote members down, has no keys at all.
#[tokio::test(start_paused = true)]
async fn a_union_without_any_key_is_an_outage_although_an_empty_fixed_set_is_in_it() {
    let down = Script::new([Turn::Body(500, Vec::new())]);
    let union = Keys::union([down.keys(), Keys::fixed(countersign_token::KeySet::default())]).unwrap();
    sleep(5 * SEC).await;
    assert!(!union.handle().is_ready());
    let answer = look_up(&union, "k0").await;
    assert!(matches!(answer, Some(Answer::Unavailable { .. })), "{answer:?}");
}

/// `refresh` is for operators: somebody's made-up tenant must not make it fail for ever.
#[tokio::test(start_paused = true)]
async fn a_made_up_tenant_does_not_make_every_refresh_fail() {
    let source = one_good_and_one_made_up().await;
    let refreshed = source.handle().refresh().await;
    assert!(refreshed.is_ok(), "{refreshed:?}");
}

/// Looks that fail for want of a permit are our own doing: with a provider that answers in 100 ms none should.
#[tokio::test(start_paused = true)]
async fn a_refresh_of_many_healthy_issuers_succeeds() {
    let sites = Slow(Sites::default());
    let mut issuers = Issuers::new();
    for index in 0..2_000 {
        let jwks = format!("https://i{index}.example/keys");
        sites.0.set(&jwks, keys([index % 8]));
        issuers = issuers.issuer_at(format!("https://i{index}.example"), Remote::new(&jwks).unwrap());
    }
    let each = sites.clone();
    let source = Keys::issuers(issuers.each(move |remote| remote.fetch(each.clone())));
    sleep(60 * SEC).await;
    assert_eq!(source.handle().status().keys, 2_000);
    let failed = source.handle().status().fetches_failed;
    let refreshed = source.handle().refresh().await;
    let more = source.handle().status().fetches_failed - failed;
    assert!(
        refreshed.is_ok() && failed == 0,
        "{refreshed:?}; looks that failed: {failed} at the start, {more} with the refresh"
    );
}

#[derive(Clone)]
struct Slow(Sites);

impl countersign_token::Fetch for Slow {
    fn fetch(
        &self,
        request: countersign_token::FetchRequest,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Fetched, countersign_token::FetchError>> + Send + '_>> {
        Box::pin(async move {
            sleep(100 * MS).await;
            self.0.fetch(request).await
        })
    }
}

// Warm start.

/// What was kept says it is as old as its `Date`, although a cache had it for half an hour; and so hides a newer set.
#[tokio::test(start_paused = true)]
async fn what_is_restored_is_no_younger_than_it_was() {
    // A cache that says its own time: generated half an hour ago.
    let begin = || Script::new([dated(&[0], 0, Some(1_800))]);
    let rotated = || dated(&[0, 1], 0, Some(1_500));
    let script = begin();
    let source = script.keys();
    source.handle().ready().await.unwrap();
    let kept = source.handle().export().unwrap();
    // Without a restart the newer set is believed.
    script.set(rotated());
    source.handle().refresh().await.unwrap();
    assert_eq!(look_up(&source, "k1").await, None);
    // With one it is not.
    let script = Script::taking(SEC / 2, [rotated()]);
    let source = script.keys();
    assert!(source.handle().import(&kept).await.unwrap());
    sleep(120 * SEC).await;
    assert_eq!(look_up(&source, "k1").await, None, "{:?}", source.handle().status().last_error);
}

#[cfg(unix)]
mod files {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("countersign-attack-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// FileCache: "Keep the directory out of strangers' reach, or seal what is in it."
    #[tokio::test]
    async fn a_link_where_the_cache_writes_does_not_make_it_overwrite_another_file() {
        let directory = Directory::new("link");
        let victim = directory.0.join("victim");
        fs::write(&victim, "precious").unwrap();
        let cache = directory.0.join("cache");
        fs::create_dir(&cache).unwrap();
        // Whoever can write there knows the name: it is in `ps`.
        std::os::unix::fs::symlink(&victim, cache.join(format!("a.{}.tmp", std::process::id()))).unwrap();
        let _ = FileCache::new(&cache).store("a", b"snapshot".to_vec()).await;
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    /// Containers that share a volume have process id 1 each: the same as two caches in one process.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn processes_with_one_pid_that_share_a_directory_leave_only_whole_files() {
        let directory = Directory::new("race");
        let snapshots: Vec<Vec<u8>> = (0..4_u8).map(|fill| vec![fill; 200_000 + 50_000 * usize::from(fill)]).collect();
        let writers: Vec<_> = snapshots
            .iter()
            .cloned()
            .map(|snapshot| {
                let cache = FileCache::new(&directory.0);
                tokio::spawn(async move {
                    let mut failed = 0;
                    for _ in 0..50 {
                        failed += usize::from(cache.store("a", snapshot.clone()).await.is_err());
                    }
                    failed
                })
            })
            .collect();
        let reader = FileCache::new(&directory.0);
        let (mut torn, mut read) = (0, 0);
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            if let Ok(Some(snapshot)) = reader.load("a").await {
                read += 1;
                torn += usize::from(!snapshots.contains(&snapshot));
            }
        }
        let mut failed = 0;
        for writer in writers {
            failed += writer.await.unwrap();
        }
        assert!(
            torn == 0 && failed == 0,
            "{torn} of {read} reads saw a file that nobody wrote; {failed} of 200 writes failed"
        );
    }

    /// "A failure costs nothing but the warm start": a file system that hangs keeps a thread for each call, for ever.
    #[test]
    fn a_cache_that_hangs_neither_keeps_the_process_from_ending_nor_takes_all_threads() {
        let directory = Directory::new("fifo");
        // One way to hang: a FIFO that nobody else opens, where the file should be. NFS is another.
        let fifo = directory.0.join("a.keys");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let path = directory.0.clone();
        let (ended, has_ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build().unwrap();
            runtime.block_on(async {
                let cache = FileCache::new(path);
                for _ in 0..4 {
                    let _ = tokio::time::timeout(50 * MS, cache.load("a")).await;
                }
                // All that needs a blocking thread now waits: `getaddrinfo` of the key fetches, for one.
                let resolved = tokio::time::timeout(SEC, tokio::task::spawn_blocking(|| ())).await;
                let _ = ended.send(format!("blocking work: {}", if resolved.is_ok() { "done" } else { "starved" }));
            });
            drop(runtime);
            let _ = ended.send("runtime ended".into());
        });
        let first = has_ended.recv_timeout(5 * SEC).unwrap();
        let second = has_ended.recv_timeout(3 * SEC);
        // Lets the threads go, so that this test ends.
        drop(fs::OpenOptions::new().read(true).write(true).open(&fifo));
        assert!(first.ends_with("done") && second.is_ok(), "{first}; ending the runtime: {second:?}");
    }

    /// Local::jwks: secrets "may be in it, and then it must be out of bounds for others".
    #[tokio::test]
    async fn a_private_key_that_everybody_can_read_is_refused_like_a_secret() {
        use std::os::unix::fs::PermissionsExt;
        let directory = Directory::new("private");
        let file = directory.0.join("keys.jwks");
        // RFC 8037 appendix A.1.
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA",
            "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        fs::write(&file, json!({ "keys": [key] }).to_string()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let source = Keys::local(countersign_jwks::Local::jwks(&file));
        let ready = source.handle().ready_within(SEC).await;
        assert!(ready.is_err(), "whoever reads it signs tokens, and nobody was told");
    }
}
