use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use countersign_claims::UnixTime;
use rustix::process::{Uid, geteuid};

use super::super::{StoreErrorKind, contract};
use super::root::Root;
use super::*;

const HEADERS: JwksHeaders<'static> = JwksHeaders { content_type: "application/json", cache_control: "no-store" };

/// A directory's name where there is none yet, and none when the test has ended.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new() -> Self {
        let name = format!("countersign-ring-{}-{}", std::process::id(), file::temporary_name().unwrap());
        Self(std::env::temp_dir().join(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self) -> DirectoryStore {
        DirectoryStore::open(&self.0).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A store with all there can be in it.
async fn full(place: &Place) -> DirectoryStore {
    let store = place.open();
    store.swap_state(None, b"{}").await.unwrap();
    store.put_private("kid", b"sealed").await.unwrap();
    store.publish_jwks(None, b"{}", HEADERS).await.unwrap();
    store
}

fn refusal(place: &Place) -> String {
    let error = DirectoryStore::open(place.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unfit, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_directory_keeps_the_promises() {
    contract::every_promise_is_kept(&Place::new().open()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_expect_the_same_one_wins() {
    contract::one_of_many_wins(&Place::new().open()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_were_opened_one_by_one_are_one_store() {
    let place = Place::new();
    let mut expected = None;
    for round in 0..4 {
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (path, expected) = (place.path().to_owned(), expected.clone());
                // They race for the directory, too.
                tokio::spawn(async move {
                    let store = tokio::task::spawn_blocking(move || DirectoryStore::open(path)).await.unwrap().unwrap();
                    store.swap_state(expected.as_ref(), &[round, racer]).await
                })
            })
            .collect();
        let mut won = Vec::new();
        for racer in racers {
            won.extend(racer.await.unwrap().ok());
        }
        assert_eq!(won.len(), 1);
        expected = won.pop();
    }
}

#[tokio::test]
async fn what_it_makes_is_nobody_elses() {
    let place = Place::new();
    drop(full(&place).await);
    let found: Vec<_> = ["", "keys", "state.json", "state.lock", "keys/kid.sealed", "jwks.json"]
        .map(|name| mode(&place.path().join(name)))
        .into();
    assert_eq!(found, [0o700, 0o700, 0o600, 0o600, 0o600, 0o644]);
}

#[tokio::test]
async fn loose_permissions_are_refused_with_what_to_do() {
    for (name, loose, advice) in [
        ("", 0o750, "chmod 700"),
        ("", 0o701, "chmod 700"),
        ("keys", 0o755, "chmod 700"),
        ("state.json", 0o640, "chmod 600"),
        ("state.lock", 0o666, "chmod 600"),
        ("keys/kid.sealed", 0o604, "chmod 600"),
        ("jwks.json", 0o664, "chmod 644"),
    ] {
        let place = Place::new();
        drop(full(&place).await);
        chmod(&place.path().join(name), loose);
        let text = refusal(&place);
        assert!(text.contains(place.path().join(name).to_str().unwrap().trim_end_matches('/')), "{text}");
        assert!(text.contains(advice) && text.contains(&format!("{loose:04o}")), "{text}");
    }
}

#[tokio::test]
async fn permissions_that_become_loose_later_are_noticed_by_whoever_reads() {
    let place = Place::new();
    let store = full(&place).await;
    chmod(&place.path().join("keys/kid.sealed"), 0o644);
    assert_eq!(store.get_private("kid").await.unwrap_err().kind(), StoreErrorKind::Unfit);
    assert_eq!(store.probe().await.unwrap_err().kind(), StoreErrorKind::Unfit);
    chmod(&place.path().join("keys/kid.sealed"), 0o600);
    store.probe().await.unwrap();
}

#[tokio::test]
async fn symbolic_links_are_refused_wherever_they_are() {
    for name in ["", "keys", "state.json", "state.lock", "keys/kid.sealed", "jwks.json"] {
        let (place, elsewhere) = (Place::new(), Place::new());
        drop(full(&place).await);
        let path = place.path().join(name);
        fs::rename(&path, elsewhere.path()).unwrap();
        symlink(elsewhere.path(), place.path().join(name).to_str().unwrap().trim_end_matches('/')).unwrap();
        let text = refusal(&place);
        assert!(text.contains("symbolic link"), "{name}: {text}");
        if name.is_empty() {
            fs::remove_file(place.path()).unwrap();
        } else if elsewhere.path().is_file() {
            fs::remove_file(elsewhere.path()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_link_that_comes_later_is_neither_read_nor_written_through() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let store = full(&place).await;
    let version = store.load_state().await.unwrap().unwrap().version;
    fs::write(elsewhere.path(), "{}").unwrap();
    fs::remove_file(place.path().join("state.json")).unwrap();
    symlink(elsewhere.path(), place.path().join("state.json")).unwrap();
    assert_eq!(store.load_state().await.unwrap_err().kind(), StoreErrorKind::Unfit);
    for expected in [None, Some(&version)] {
        assert_eq!(store.swap_state(expected, b"new").await.unwrap_err().kind(), StoreErrorKind::Unfit);
    }
    assert_eq!(fs::read(elsewhere.path()).unwrap(), b"{}");
    fs::remove_file(elsewhere.path()).unwrap();
}

// Elsewhere, rustix makes no FIFO.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_no_regular_file_is_neither_read_nor_waited_for() {
    let place = Place::new();
    let store = full(&place).await;
    let path = place.path().join("state.json");
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let error = store.load_state().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("not a regular file")), (StoreErrorKind::Unfit, true));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(store.load_state().await.unwrap_err().kind(), StoreErrorKind::Unfit);
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_refused() {
    let place = Place::new();
    drop(full(&place).await);
    let somebody = Uid::from_raw(geteuid().as_raw() + 1);
    let error = Root::open_as(place.path(), false, somebody, Duration::ZERO).map(drop).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unfit);
    assert!(error.to_string().contains("chown"), "{error}");
}

#[tokio::test]
async fn a_file_of_absurd_size_is_not_read() {
    let place = Place::new();
    let store = full(&place).await;
    let file = fs::File::options().write(true).open(place.path().join("state.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(store.load_state().await.unwrap_err().kind(), StoreErrorKind::Unfit);
}

#[tokio::test]
async fn no_key_is_missing_from_a_directory_that_is_not_there() {
    for gone in ["", "keys"] {
        let (place, elsewhere) = (Place::new(), Place::new());
        let store = full(&place).await;
        let path = place.path().join(gone);
        fs::rename(&path, elsewhere.path()).unwrap();
        for comes_back_empty in [false, true] {
            if comes_back_empty {
                fs::create_dir(&path).unwrap();
                chmod(&path, 0o700);
            }
            for kid in ["kid", "other"] {
                assert_eq!(store.get_private(kid).await.unwrap_err().kind(), StoreErrorKind::Unavailable, "{gone}");
                assert_eq!(store.destroy_private(kid).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
            }
            assert_eq!(store.load_state().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
            assert_eq!(store.swap_state(None, b"x").await.unwrap_err().kind(), StoreErrorKind::Unavailable);
            assert_eq!(store.list_private().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        }
    }
}

#[tokio::test]
async fn a_parent_that_is_missing_is_not_made() {
    let place = Place::new();
    let error = DirectoryStore::open(place.path().join("below")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(!place.path().exists());
}

#[tokio::test]
async fn whoever_hangs_with_the_lock_makes_the_store_unavailable_and_no_more() {
    let place = Place::new();
    drop(full(&place).await);
    let wait = Duration::from_millis(50);
    let store = DirectoryStore(Arc::new(Root::open_as(place.path(), false, geteuid(), wait).unwrap()));
    let other = Root::open(place.path(), false).unwrap();
    let lock = other.lock().unwrap();
    let version = store.load_state().await.unwrap().unwrap().version;
    let begun = Instant::now();
    let error = store.swap_state(Some(&version), b"x").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() >= wait);
    drop(lock);
    store.swap_state(Some(&version), b"x").await.unwrap();
}

#[tokio::test]
async fn a_lock_file_that_was_removed_is_made_again() {
    let place = Place::new();
    let store = full(&place).await;
    fs::remove_file(place.path().join("state.lock")).unwrap();
    let version = store.load_state().await.unwrap().unwrap().version;
    store.swap_state(Some(&version), b"x").await.unwrap();
    assert_eq!(mode(&place.path().join("state.lock")), 0o600);
}

#[tokio::test]
async fn only_what_a_dead_process_left_is_cleaned_away() {
    let place = Place::new();
    drop(full(&place).await);
    let (others, litter) = ([".tmp", "note.txt"], [".tmp-0123456789abcdef", "keys/.tmp-fedcba9876543210"]);
    for name in others.into_iter().chain(litter) {
        fs::write(place.path().join(name), "x").unwrap();
    }
    drop(place.open());
    for name in others {
        assert!(place.path().join(name).exists(), "{name}");
    }
    for name in litter {
        assert!(!place.path().join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn files_that_are_no_keys_are_not_listed() {
    let place = Place::new();
    let store = full(&place).await;
    for name in ["README", "x.sealed.bak", "b64.!.sealed", ".hidden.sealed"] {
        fs::write(place.path().join("keys").join(name), "x").unwrap();
    }
    assert_eq!(store.list_private().await.unwrap(), ["kid"]);
}

#[cfg(target_os = "linux")]
#[test]
fn network_file_systems_are_known_by_their_numbers() {
    for (magic, name) in
        [(0x6969, Some("NFS")), (0xff53_4d42, Some("CIFS")), (0x6573_5546, Some("FUSE")), (0x0102_1997, Some("9P"))]
    {
        assert_eq!(root::network_named(magic), name);
    }
    // ext4, XFS, Btrfs, tmpfs, overlay, ZFS.
    for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
        assert_eq!(root::network_named(magic), None);
    }
}

#[tokio::test]
async fn a_local_file_system_has_no_clock_of_its_own_and_a_touched_file_tells_that_of_a_server() {
    let place = Place::new();
    let store = full(&place).await;
    assert_eq!(store.time().await.unwrap(), None);
    let before = UnixTime::from(SystemTime::now()).saturating_sub(Duration::from_secs(1));
    let touched = Root::open(place.path(), false).unwrap().touched().unwrap();
    assert!(touched.at > before && touched.at <= UnixTime::from(SystemTime::now()), "{touched:?}");
}

#[test]
fn without_a_runtime_it_is_unavailable() {
    let store = Place::new();
    let store = store.open();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut loading = store.load_state();
    let std::task::Poll::Ready(Err(error)) = loading.as_mut().poll(&mut context) else { panic!("it waits") };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}
