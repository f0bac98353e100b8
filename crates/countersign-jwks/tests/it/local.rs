//! Keys from files, on the real file system, with a paused clock: it stands while the file system works.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_jwks::{KeyEvent, KeyState, KeyStatus, Keys, Local, MAX_BODY_BYTES, POLL_INTERVAL};
use countersign_token::{
    Algorithm, AlgorithmSet, Answer, Ask, DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, KeySource, SigningKey, Unready,
    UnverifiedToken,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{document, look, look_up};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// RFC 8032 test 1.
const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

/// RFC 8032 test 2.
const OTHER_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n-----END PUBLIC KEY-----\n";

const OLD: &str = "old-hunter2-old-hunter2-old-hunter2";
const NEW: &str = "new-hunter2-new-hunter2-new-hunter2";

/// A directory that is gone when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("countersign-local-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes in place; the file is its owner's alone.
    fn write(&self, name: &str, octets: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, octets).unwrap();
        self.allow(name, 0o600);
        path
    }

    fn allow(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Puts `directory` where `..data` points to, as the kubelet does.
    fn publish(&self, directory: &str) {
        symlink(directory, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for what must come soon.
async fn until(keys: &Keys, what: &str, holds: impl Fn(&KeyStatus) -> bool) -> KeyStatus {
    let begun = Instant::now();
    loop {
        let status = keys.handle().status();
        if holds(&status) {
            return status;
        }
        assert!(begun.elapsed() < 10 * SEC, "{what}: {status:?}");
        sleep(20 * MS).await;
    }
}

async fn until_generation(keys: &Keys, generation: u64) -> KeyStatus {
    until(keys, "generation", |status| status.generation == Some(generation)).await
}

/// What a look says that happened to coincide with a write of the test's: it works in a thread of its own.
const COINCIDENCE: &str = "changed while it was read";

/// Waits for a failure, which must leave the keys alone, and tells why.
async fn until_failure(keys: &Keys) -> String {
    let before = keys.handle().status();
    let is_failure = |status: &KeyStatus| {
        let error = status.last_error.as_deref();
        status.fetches_failed > before.fetches_failed && error.is_some_and(|error| !error.ends_with(COINCIDENCE))
    };
    let status = until(keys, "a failure", is_failure).await;
    assert_eq!((status.generation, status.keys), (before.generation, before.keys), "{status:?}");
    status.last_error.unwrap()
}

/// The names of all keys, sorted.
fn names(keys: &Keys) -> Vec<String> {
    let Some(set) = keys.snapshot() else { return Vec::new() };
    let mut names: Vec<String> = set.iter().map(|key| key.kid().unwrap_or("-").to_owned()).collect();
    names.sort_unstable();
    names
}

fn token(secret: &str, kid: Option<&str>) -> String {
    let key = SigningKey::from_secret(secret.as_bytes(), Algorithm::Hs256).unwrap();
    let key = if let Some(kid) = kid { key.with_kid(kid) } else { key };
    key.sign(&json!({"sub": "ada"})).unwrap()
}

/// Whether the signature of that token is good, by one of the keys that it may be of.
fn accepts(keys: &Keys, token: &str) -> bool {
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(token, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).unwrap();
    let set = keys.snapshot().unwrap();
    set.candidates(token.header().kid(), token.header().algorithm()).any(|key| token.verify(key).is_ok())
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_is_written_in_place_renamed_onto_or_linked_elsewhere() {
    let directory = Directory::new();
    let path = directory.write("keys.jwks", document([0]));
    let keys = Keys::local(Local::jwks(&path));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    assert_eq!(names(&keys), ["k0"]);

    let begun = Instant::now();
    directory.write("keys.jwks", document([0, 1]));
    until_generation(&keys, 2).await;
    assert_eq!(names(&keys), ["k0", "k1"]);
    assert!(begun.elapsed() <= POLL_INTERVAL + SEC, "{:?}", begun.elapsed());

    let next = directory.write("next", document([2]));
    fs::rename(next, &path).unwrap();
    until_generation(&keys, 3).await;
    assert_eq!(names(&keys), ["k2"]);

    directory.write("elsewhere", document([3]));
    symlink("elsewhere", directory.path("link")).unwrap();
    fs::rename(directory.path("link"), &path).unwrap();
    until_generation(&keys, 4).await;
    directory.write("elsewhere", document([4]));
    until_generation(&keys, 5).await;
    assert_eq!(names(&keys), ["k4"]);
}

#[tokio::test(start_paused = true)]
async fn what_kubernetes_mounts_is_swapped_as_a_whole() {
    let directory = Directory::new();
    directory.write("..2026_1/keys.jwks", document([0]));
    directory.write("..2026_1/spare.pem", PEM);
    directory.publish("..2026_1");
    for name in ["keys.jwks", "spare.pem"] {
        symlink(Path::new("..data").join(name), directory.path(name)).unwrap();
    }
    let all = Keys::local(Local::directory(&directory.0, AlgorithmSet::ASYMMETRIC));
    let one = Keys::local(Local::jwks(directory.path("keys.jwks")));
    all.handle().ready_within(10 * SEC).await.unwrap();
    one.handle().ready_within(10 * SEC).await.unwrap();
    assert_eq!((names(&all), names(&one)), (vec!["k0".into(), "spare".into()], vec!["k0".into()]));

    directory.write("..2026_2/keys.jwks", document([1]));
    directory.write("..2026_2/spare.pem", OTHER_PEM);
    directory.publish("..2026_2");
    fs::remove_dir_all(directory.path("..2026_1")).unwrap();
    until_generation(&all, 2).await;
    until_generation(&one, 2).await;
    assert_eq!((names(&all), names(&one)), (vec!["k1".into(), "spare".into()], vec!["k1".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_by_the_token_that_needs_it_and_not_when_the_files_are_next_looked_at() {
    let directory = Directory::new();
    let path = directory.write("keys.jwks", document([0]));
    let keys = Keys::local(Local::jwks(&path));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    sleep(100 * MS).await;
    directory.write("keys.jwks", document([0, 1]));
    let begun = Instant::now();
    assert_eq!(look_up(&keys, "k1").await, Some(Answer::Changed));
    assert!(begun.elapsed() < POLL_INTERVAL / 4, "{:?}", begun.elapsed());
    assert_eq!(look_up(&keys, "k7").await, Some(Answer::Absent));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_gone_from_a_file_is_absent_at_once_and_back_when_it_is_back() {
    let directory = Directory::new();
    let path = directory.write("keys.jwks", document([0, 1]));
    let keys = Keys::local(Local::jwks(&path));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    fs::rename(directory.write("next", document([1])), &path).unwrap();
    until_generation(&keys, 2).await;
    assert!(matches!(look(&keys, "k0"), Some(Ask::Answered(Answer::Absent))));
    fs::rename(directory.write("next", document([0, 1])), &path).unwrap();
    until_generation(&keys, 3).await;
    assert_eq!(look_up(&keys, "k0").await, None);
}

#[tokio::test(start_paused = true)]
async fn files_that_do_not_change_are_not_read() {
    let directory = Directory::new();
    let path = directory.write("keys.jwks", document([0]));
    // The file's clock is the real one: until then a second write might not show.
    std::thread::sleep(Duration::from_millis(2_100));
    let keys = Keys::local(Local::jwks(&path).default_lifetime(3600 * SEC));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    sleep(600 * SEC).await;
    assert_eq!(keys.handle().status().fetches_started, 1);
    sleep(3600 * SEC).await;
    assert_eq!(keys.handle().status().fetches_started, 2, "even if nothing seems to change");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_just_written_is_read_twice_because_a_second_write_may_not_show() {
    let directory = Directory::new();
    let path = directory.write("keys.jwks", document([0]));
    let keys = Keys::local(Local::jwks(&path));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    until(&keys, "a second look", |status| status.fetches_started == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_leaves_its_keys_until_they_are_too_old() {
    let directory = Directory::new();
    let path = directory.write("keys.jwks", document([0]));
    let keys = Keys::local(Local::jwks(&path).default_lifetime(10 * SEC).max_stale(120 * SEC));
    let mut events = keys.handle().events();
    keys.handle().ready_within(10 * SEC).await.unwrap();
    fs::remove_file(&path).unwrap();
    let error = until_failure(&keys).await;
    assert!(error.starts_with(path.to_str().unwrap()) && error.contains("No such file"), "{error}");
    sleep(100 * SEC).await;
    assert_eq!((names(&keys), keys.handle().status().state), (vec!["k0".into()], KeyState::Stale));
    sleep(25 * SEC).await;
    assert_eq!(keys.handle().status().state, KeyState::Unusable(Unready::TooOld));
    directory.write("keys.jwks", document([0]));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    assert_eq!(names(&keys), ["k0"]);
    let mut kinds = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(MS, events.next()).await {
        kinds.push(event);
    }
    assert!(kinds.iter().any(|event| matches!(event, KeyEvent::TooOld)), "{kinds:?}");
    assert!(kinds.iter().any(|event| matches!(event, KeyEvent::Recovered)), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_key_file_replaces_nothing() {
    let directory = Directory::new();
    let good = document([0]);
    let path = directory.write("keys.jwks", &good);
    let keys = Keys::local(Local::jwks(&path));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    let mut large = document([0, 1]);
    large.resize(MAX_BODY_BYTES + 1, b' ');
    for (bad, reason) in [
        (&good[..good.len() / 2], "not a JSON object with an array `keys`"),
        (b"".as_slice(), "not a JSON object with an array `keys`"),
        (b"\xff\0garbage", "not a JSON object with an array `keys`"),
        (&large, "longer than 524288 bytes"),
    ] {
        directory.write("keys.jwks", bad);
        let error = until_failure(&keys).await;
        assert_eq!(error, format!("{}: {reason}", path.display()));
        directory.write("keys.jwks", &good);
        until(&keys, "it is good again", |status| status.last_error.is_none()).await;
    }
    large.truncate(MAX_BODY_BYTES);
    directory.write("keys.jwks", large);
    until_generation(&keys, 2).await;
}

#[tokio::test(start_paused = true)]
async fn only_regular_files_are_read_and_only_directories_listed() {
    let directory = Directory::new();
    let fifo = directory.path("fifo.jwks");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let file = directory.write("file", document([0]));
    let algorithms = AlgorithmSet::ASYMMETRIC;
    let path_of_mem = Path::new("/proc/self/mem");
    for (local, reason) in [
        (Local::jwks(&fifo), "not a regular file"),
        (Local::pem("/dev/zero", algorithms), "not a regular file"),
        (Local::secrets(&directory.0, Algorithm::Hs256), "not a regular file"),
        (Local::directory(&file, algorithms), "Not a directory"),
        (Local::directory(&directory.0, algorithms), "fifo.jwks: not a regular file"),
        (Local::jwks(file.join("below")), "Not a directory"),
        (Local::jwks(directory.path("absent")), "No such file"),
    ] {
        let keys = Keys::local(local);
        let error = until_failure(&keys).await;
        assert!(error.contains(reason), "{error}");
        assert_eq!(keys.handle().status().state, KeyState::Unusable(Unready::NeverFetched));
    }
    // A regular file that cannot be read, whoever one is.
    if path_of_mem.exists() {
        let error = until_failure(&Keys::local(Local::jwks(path_of_mem))).await;
        assert!(error.starts_with("/proc/self/mem: "), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_may_not_be_read_is_an_error_for_everybody_but_root() {
    let directory = Directory::new();
    let path = directory.write("keys.jwks", document([0]));
    let keys = Keys::local(Local::jwks(&path));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    directory.write("keys.jwks", document([1]));
    directory.allow("keys.jwks", 0o000);
    let is_root = fs::File::open(&path).is_ok();
    if is_root {
        until_generation(&keys, 2).await;
    } else {
        assert!(until_failure(&keys).await.contains("Permission denied"));
        directory.allow("keys.jwks", 0o400);
        until_generation(&keys, 2).await;
    }
    assert_eq!(names(&keys), ["k1"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_taken_for_a_shorter_one() {
    let directory = Directory::new();
    // Two whole lines, and another two a moment later.
    let path = directory.write("secrets", format!("{NEW}\n"));
    let keys = Keys::local(Local::secrets(&path, Algorithm::Hs256));
    sleep(50 * MS).await;
    assert_eq!(keys.handle().status().state, KeyState::Starting);
    directory.write("secrets", format!("{NEW}\n{OLD}\n"));
    let is_coincidence = |error: &str| error == format!("{}: {COINCIDENCE}", path.display());
    until(&keys, "a failure", |status| status.last_error.as_deref().is_some_and(is_coincidence)).await;
    assert_eq!(keys.snapshot().map(|set| set.len()), None);
    let status = until_generation(&keys, 1).await;
    assert_eq!(status.keys, 2);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_swapped_without_a_restart_and_a_removed_one_is_dead() {
    let directory = Directory::new();
    let path = directory.write("secrets", OLD);
    let keys = Keys::local(Local::secrets(&path, Algorithm::Hs256));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    let (old, new) = (token(OLD, None), token(NEW, None));
    assert!(accepts(&keys, &old) && !accepts(&keys, &new));

    directory.write("secrets", format!("{NEW}\n{OLD}\n"));
    until_generation(&keys, 2).await;
    assert!(accepts(&keys, &old) && accepts(&keys, &new));

    directory.write("secrets", format!("{OLD}\n{NEW}\n"));
    sleep(10 * SEC).await;
    assert_eq!(keys.handle().status().generation, Some(2), "another order is no news");

    directory.write("secrets", format!("{NEW}\n"));
    until_generation(&keys, 3).await;
    assert!(!accepts(&keys, &old) && accepts(&keys, &new));
}

#[tokio::test(start_paused = true)]
async fn a_secrets_file_that_cannot_be_meant_leaves_the_secrets_in_force() {
    let directory = Directory::new();
    let path = directory.write("secrets", OLD);
    let keys = Keys::local(Local::secrets(&path, Algorithm::Hs256));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    for (file, reason) in [
        (String::new(), "no secret in it"),
        (format!("{NEW}\n{}\n", &OLD[..31]), "line 2: HMAC secret shorter than its hash"),
        (format!("{NEW}\n").repeat(5), "more than 4 secrets: no more would be tried"),
        (format!("base64:{NEW}"), "line 1: malformed base64"),
    ] {
        directory.write("secrets", file);
        assert_eq!(until_failure(&keys).await, format!("{}: {reason}", path.display()));
        assert!(accepts(&keys, &token(OLD, None)));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_without_a_name_are_for_tokens_without_one_unless_it_is_said_otherwise() {
    let directory = Directory::new();
    let secrets = || Local::secrets(directory.write("secrets", OLD), Algorithm::Hs256);
    let (unnamed, named) = (token(OLD, None), token(OLD, Some("a")));
    for (local, accepted) in [
        (secrets(), [true, false]),
        (secrets().kid("a"), [true, true]),
        (secrets().kid("b"), [true, false]),
        (secrets().unnamed_keys_match_any_kid(), [true, true]),
        (secrets().kid("b").unnamed_keys_match_any_kid(), [true, false]),
    ] {
        let keys = Keys::local(local.clone());
        keys.handle().ready_within(10 * SEC).await.unwrap();
        assert_eq!([accepts(&keys, &unnamed), accepts(&keys, &named)], accepted, "{local:?}");
    }
    // The rule survives being bound, and being swapped.
    let keys = Keys::local(secrets().unnamed_keys_match_any_kid().bound_to_issuer("https://issuer.test"));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    directory.write("secrets", format!("{NEW}\n{OLD}"));
    until_generation(&keys, 2).await;
    assert!(accepts(&keys, &named));
    assert!(keys.snapshot().unwrap().iter().all(|key| key.issuer() == Some("https://issuer.test")));
}

#[tokio::test(start_paused = true)]
async fn pem_files_have_one_key_or_a_few_and_nothing_else() {
    let directory = Directory::new();
    let path = directory.write("keys.pem", format!("{PEM}{OTHER_PEM}"));
    let keys = Keys::local(Local::pem(&path, Algorithm::Ed25519).kid("a"));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    assert_eq!(names(&keys), ["a", "a"]);
    for (bad, reason) in [
        (PEM.repeat(5), "more than 4 keys without a name of their own: no more would be tried"),
        (format!("{PEM}{}", &OTHER_PEM[..60]), "not PEM, or cut off"),
        (String::new(), "not PEM, or cut off"),
        (format!("{PEM}{}", PEM.replace("PUBLIC", "PRIVATE")), "not a public key or a certificate"),
    ] {
        directory.write("keys.pem", bad);
        assert_eq!(until_failure(&keys).await, format!("{}: {reason}", path.display()));
    }
    let wrong = until_failure(&Keys::local(Local::pem(directory.write("b", PEM), Algorithm::Es256))).await;
    assert!(wrong.ends_with("none of the admitted algorithms fits this kind of key"), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_what_its_key_files_are() {
    let directory = Directory::new();
    let source = || Keys::local(Local::directory(&directory.0, AlgorithmSet::ASYMMETRIC));
    assert!(until_failure(&source()).await.ends_with("no key files in it"));
    directory.write("a.jwks", document([0, 1]));
    directory.write("b.json", document([2]));
    directory.write("pem.pem", PEM);
    directory.write("Two.Dots.CRT", OTHER_PEM);
    for ignored in [".hidden.pem", "README.md", "keys.pem~", "sub.pem/k.pem", "..data/k.pem", "pem"] {
        directory.write(ignored, "not a key");
    }
    let keys = source();
    keys.handle().ready_within(10 * SEC).await.unwrap();
    assert_eq!(names(&keys), ["Two.Dots", "k0", "k1", "k2", "pem"]);

    fs::remove_file(directory.path("a.jwks")).unwrap();
    until_generation(&keys, 2).await;
    assert_eq!(names(&keys), ["Two.Dots", "k2", "pem"]);
    directory.write("new.cer", PEM);
    until_generation(&keys, 3).await;

    // One bad file keeps all as they are, and is named.
    directory.write("more.jwks", document([5]));
    directory.write("bad.pem", format!("{PEM}{OTHER_PEM}"));
    let error = until_failure(&keys).await;
    assert_eq!(error, format!("{}: more than one key, for one name", directory.path("bad.pem").display()));
    fs::remove_file(directory.path("bad.pem")).unwrap();
    until_generation(&keys, 4).await;
    symlink("nowhere", directory.path("dangling.pem")).unwrap();
    assert!(until_failure(&keys).await.contains("dangling.pem: No such file"));
    fs::remove_file(directory.path("dangling.pem")).unwrap();

    let many: Vec<_> = (0..200).map(|_| 6).collect();
    directory.write("m1.jwks", document(many.clone()));
    directory.write("m2.jwks", document(many));
    assert!(until_failure(&keys).await.ends_with("more than 256 keys in its files"));
    fs::remove_dir_all(&directory.0).unwrap();
    assert!(until_failure(&keys).await.contains("No such file"));
    directory.write("a.jwks", document([0]));
    until_generation(&keys, 5).await;
    assert_eq!(names(&keys), ["k0"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_is_skipped_and_an_empty_set_is_believed_the_second_time() {
    let directory = Directory::new();
    let mut jwks: serde_json::Value = serde_json::from_slice(&document([0])).unwrap();
    jwks["keys"].as_array_mut().unwrap().push(json!({"kty": "EC", "kid": "odd", "crv": "P-192"}));
    let path = directory.write("keys.jwks", jwks.to_string());
    let keys = Keys::local(Local::jwks(&path));
    keys.handle().ready_within(10 * SEC).await.unwrap();
    let status = keys.handle().status();
    assert_eq!((status.keys, status.skipped_total, status.skipped[0].kid.as_deref()), (1, 1, Some("odd")));
    directory.write("keys.jwks", r#"{"keys":[]}"#);
    until(&keys, "the set is empty", |status| status.state == KeyState::Empty).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_may_read_is_no_secret_and_what_they_may_write_is_no_key() {
    let directory = Directory::new();
    let oct = r#"{"keys":[{"kty":"oct","kid":"s","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","alg":"HS256"}]}"#;
    let (secrets, jwks) = (directory.write("secrets", OLD), directory.write("public.jwks", document([0])));
    let (pem, oct) = (directory.write("a.pem", PEM), directory.write("oct.jwks", oct));
    let sources = [
        ("secrets", Local::secrets(secrets, Algorithm::Hs256)),
        ("oct.jwks", Local::jwks(oct)),
        ("public.jwks", Local::jwks(jwks)),
        ("a.pem", Local::pem(pem, Algorithm::Ed25519)),
    ];
    for (name, source) in sources {
        let is_secret = matches!(name, "secrets" | "oct.jwks");
        for (mode, is_fine) in
            [(0o600, true), (0o440, true), (0o660, true), (0o644, !is_secret), (0o601, !is_secret), (0o602, false)]
        {
            directory.allow(name, mode);
            let keys = Keys::local(source.clone());
            if is_fine {
                until_generation(&keys, 1).await;
                continue;
            }
            let error = until_failure(&keys).await;
            assert!(error.contains(&format!("mode {mode:04o}; dangerous_allow_access_by_others")), "{error}");
            // As soon as it is put right it is used, although nothing was written.
            directory.allow(name, 0o600);
            until_generation(&keys, 1).await;
            directory.allow(name, mode);
            let keys = Keys::local(source.clone().dangerous_allow_access_by_others());
            until_generation(&keys, 1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_shows_a_secret() {
    let directory = Directory::new();
    let path = directory.write("secrets", format!("{NEW}\n{OLD}\n"));
    let local = Local::secrets(&path, Algorithm::Hs256);
    let keys = Keys::local(local.clone());
    let mut events = keys.handle().events();
    keys.handle().ready_within(10 * SEC).await.unwrap();
    let mut shown = format!("{local:?}{keys:?}{:?}{:?}", keys.handle(), keys.handle().status());
    // Each of these fails, at another place.
    for bad in [
        format!("{NEW}\n{}", &OLD[..20]),
        format!("base64:{OLD}"),
        format!("\u{feff}{OLD}"),
        format!("{OLD}\u{7}"),
        format!("{OLD}\n").repeat(5),
    ] {
        directory.write("secrets", bad);
        shown += &until_failure(&keys).await;
        shown += &format!("{:?}{}", keys.handle().status(), keys.handle().refresh().await.unwrap_err());
    }
    directory.write("secrets", [0xff; 40]);
    shown += &until_failure(&keys).await;
    for source in [Local::jwks(directory.write("a", OLD)), Local::pem(directory.write("b", OLD), Algorithm::Es256)] {
        shown += &until_failure(&Keys::local(source)).await;
    }
    while let Ok(Some(event)) = tokio::time::timeout(MS, events.next()).await {
        shown += &format!("{event:?}{event}");
    }
    assert!(shown.len() > 2_000 && shown.contains("line 2"), "{shown}");
    let base64 = "b2xkLWh1bnRlcjIt";
    assert!(!shown.contains("hunter2") && !shown.contains(base64) && !shown.contains("104, 117"), "{shown}");
    // Nor can it be taken out.
    assert_eq!(keys.handle().export(), None);
}

#[tokio::test(start_paused = true)]
async fn settings_that_do_not_pass_read_nothing_and_say_why() {
    let directory = Directory::new();
    let keys = Keys::local(Local::secrets(directory.write("secrets", OLD), Algorithm::Rs256));
    assert_eq!(until_failure(&keys).await, "none of the algorithms is one for that kind of key");
    assert!(!keys.handle().is_ready());
}
