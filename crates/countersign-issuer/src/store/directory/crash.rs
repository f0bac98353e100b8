//! Processes that die after each step of a change. What is on the disk after the machine itself has died cannot be
//! tried here.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::super::{JwksHeaders, KeyStore, StoreErrorKind, Stored};
use super::DirectoryStore;
use super::file::{Step, is_temporary};

/// How many steps the process may take in all.
const STEPS: &str = "COUNTERSIGN_TEST_STEPS";
/// What it does.
const CHANGE: &str = "COUNTERSIGN_TEST_CHANGE";
/// Where.
const DIRECTORY: &str = "COUNTERSIGN_TEST_DIRECTORY";

/// The test that is the process which dies.
const CHILD: &str = "store::directory::crash::child";

/// More steps than any change has.
const MANY: usize = 64;

const HEADERS: JwksHeaders<'static> = JwksHeaders { content_type: "application/json", cache_control: "no-store" };

/// Counts in the process that is to die; in all others there is nothing to count.
pub(super) fn reached(_: Step) {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let Some(steps) = std::env::var_os(STEPS) else { return };
    let steps: usize = steps.to_str().and_then(|steps| steps.parse().ok()).expect("a number");
    if TAKEN.fetch_add(1, Ordering::SeqCst) == steps {
        kill_process(getpid(), Signal::KILL).expect("one's own process");
        loop {
            std::thread::park();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    SwapState,
    FirstState,
    PutPrivate,
    ReplacePrivate,
    DestroyPrivate,
    PublishJwks,
}

const CHANGES: [Change; 6] = [
    Change::SwapState,
    Change::FirstState,
    Change::PutPrivate,
    Change::ReplacePrivate,
    Change::DestroyPrivate,
    Change::PublishJwks,
];

/// Several chunks, each unlike the others.
fn contents(seed: u8, chunks: u8) -> Vec<u8> {
    (0..chunks).flat_map(|chunk| [seed ^ chunk; 4096]).chain([seed]).collect()
}

impl Change {
    fn named(name: &str) -> Self {
        CHANGES.into_iter().find(|change| format!("{change:?}") == name).expect("a change")
    }

    /// What is there before.
    fn before(self) -> Option<Vec<u8>> {
        (!matches!(self, Self::FirstState | Self::PutPrivate)).then(|| contents(b'o', 2))
    }

    /// What is there after.
    fn after(self) -> Option<Vec<u8>> {
        (self != Self::DestroyPrivate).then(|| contents(b'n', 3))
    }

    async fn find(self, store: &DirectoryStore) -> Option<Stored> {
        match self {
            Self::SwapState | Self::FirstState => store.load_state().await.unwrap(),
            Self::PublishJwks => store.load_jwks().await.unwrap(),
            _ => match store.get_private("kid").await {
                Err(error) if error.kind() == StoreErrorKind::NotFound => None,
                found => Some(found.unwrap()),
            },
        }
    }

    async fn put(self, store: &DirectoryStore, bytes: Option<&[u8]>) {
        let found = self.find(store).await.map(|stored| stored.version);
        let Some(bytes) = bytes else { return store.destroy_private("kid").await.unwrap() };
        let put = match (self, &found) {
            (Self::SwapState | Self::FirstState, _) => store.swap_state(found.as_ref(), bytes),
            (Self::PublishJwks, _) => store.publish_jwks(found.as_ref(), bytes, HEADERS),
            (_, Some(found)) => store.replace_private("kid", found, bytes),
            (_, None) => store.put_private("kid", bytes),
        };
        put.await.unwrap();
    }
}

/// Not a test but the process that dies, if it was started as such.
#[tokio::test]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let change = Change::named(&std::env::var(CHANGE).unwrap());
    let store = DirectoryStore::open(directory).unwrap();
    change.put(&store, change.after().as_deref()).await;
}

/// Whether it lived to the end.
fn run_child(directory: &Path, change: Change, steps: usize) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([CHILD, "--exact", "--test-threads=1"]).stdout(Stdio::null()).stderr(Stdio::null());
    child.env(DIRECTORY, directory).env(CHANGE, format!("{change:?}")).env(STEPS, steps.to_string());
    let status = child.status().unwrap();
    assert!(status.success() || status.signal() == Some(9), "{status}");
    status.success()
}

fn left_behind(directory: &Path) -> Vec<PathBuf> {
    let names = |directory: PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let all = names(directory.to_owned()).chain(names(directory.join("keys")));
    all.filter(|path| is_temporary(path.file_name().unwrap().to_str().unwrap())).collect()
}

#[tokio::test]
async fn whenever_a_process_dies_the_next_one_finds_the_old_contents_or_the_new() {
    for change in CHANGES {
        let (mut old, mut new, mut litter) = (0, 0, 0);
        for steps in 0..MANY {
            let directory = super::tests::Place::new();
            let store = DirectoryStore::open(directory.path()).unwrap();
            if let Some(before) = change.before() {
                change.put(&store, Some(&before)).await;
            }
            drop(store);

            let lived = run_child(directory.path(), change, steps);
            litter += left_behind(directory.path()).len();
            let store = DirectoryStore::open(directory.path()).unwrap();
            assert_eq!(left_behind(directory.path()), Vec::<PathBuf>::new(), "{change:?}, {steps} steps");
            let found = change.find(&store).await.map(|stored| stored.bytes);
            if found == change.before() && !lived {
                old += 1;
            } else {
                assert!(found == change.after(), "{change:?}, {steps} steps: neither the old contents nor the new");
                new += 1;
            }
            // And it goes on as if nothing had happened.
            change.put(&store, change.after().as_deref()).await;
            assert!(change.find(&store).await.map(|stored| stored.bytes) == change.after());
            if lived {
                break;
            }
            assert!(steps + 1 < MANY, "it never lives");
        }
        // It died before and after the one step that counts; and while it wrote it left something to clean away.
        assert!(old >= 2 && new >= 2, "{change:?}: {old} old, {new} new");
        assert!(litter > 0 || change == Change::DestroyPrivate, "{change:?}");
    }
}
