use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{CacheError, CacheFuture, KeyCache, MAX_SNAPSHOT_BYTES};
use crate::local::open_without_waiting;

/// A directory with a file for each source.
///
/// A file is replaced as a whole (written beside its place, synced, and renamed), and is its owner's to read and write. Keep the directory
/// out of strangers' reach, or [seal](crate::Remote::cache_secret) what is in it.
///
/// ```
/// use countersign_jwks::{FileCache, Keys, Remote};
///
/// let remote = Remote::new("https://issuer.example/keys")?.cache(FileCache::new("/var/cache/orders"));
/// let keys = Keys::remote(remote);
/// # Ok::<(), countersign_jwks::SourceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileCache {
    directory: PathBuf,
    /// A file system that hangs keeps the thread that waits for it: one, and not one for each call.
    turn: Arc<Semaphore>,
}

impl FileCache {
    /// A cache in `directory`, which is made when something is stored, if it is not there.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), turn: Arc::new(Semaphore::new(1)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(file_name(name))
    }

    /// Sources that share the cache take turns, and wait for theirs as long as a call may take.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, CacheError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| CacheError::new("closed"))?;
        let working = tokio::task::spawn_blocking(move || {
            // Not given back before the work has ended, whoever has stopped waiting for it.
            let _turn = turn;
            work()
        });
        match working.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(CacheError::new("the work was given up")),
        }
    }
}

impl KeyCache for FileCache {
    fn load<'a>(&'a self, name: &'a str) -> CacheFuture<'a, Option<Vec<u8>>> {
        let path = self.path(name);
        Box::pin(self.off_thread(move || read(&path)))
    }

    fn store<'a>(&'a self, name: &'a str, snapshot: Vec<u8>) -> CacheFuture<'a, ()> {
        let path = self.path(name);
        Box::pin(self.off_thread(move || replace(&path, &snapshot)))
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match open_without_waiting(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut snapshot = Vec::new();
    file.take(MAX_SNAPSHOT_BYTES as u64 + 1).read_to_end(&mut snapshot)?;
    Ok(Some(snapshot))
}

fn replace(path: &Path, snapshot: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // Processes may share the directory, and sources of a process a name. A hash of nothing with random keys is the standard library's
    // only source of randomness.
    let beside = path.with_extension(format!("{:016x}.tmp", RandomState::new().hash_one(())));
    let written = write(&beside, snapshot).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write(path: &Path, snapshot: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // Nobody's link is followed: it must not be there.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(snapshot)?;
    file.sync_all()
}

/// The name as a file's: what is not plain is written as `%` and two digits, and a name that is too long for a file system is cut and
/// told from others by a hash of the whole.
fn file_name(name: &str) -> String {
    /// File systems allow 255 octets; the extensions come on top.
    const MAX_BYTES: usize = 180;
    let mut file_name = String::new();
    for octet in name.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => file_name.push(char::from(octet)),
            _ => file_name.push_str(&format!("%{octet:02x}")),
        }
    }
    if file_name.len() > MAX_BYTES {
        // The standard library's hash, with keys that are the same in every process; what is in the file says whose it is.
        let hash = BuildHasher::hash_one(&std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(), name);
        file_name.truncate(MAX_BYTES);
        file_name.push_str(&format!("%{hash:016x}"));
    }
    file_name.push_str(".keys");
    file_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_different_and_never_too_long() {
        for name in ["", ".", "..", "/etc/passwd", "https://issuer.example/keys", "a\0b", &"x".repeat(10_000)] {
            let file = file_name(name);
            assert!(
                file.len() < 240 && !file.contains(['/', '\0', '\\', ':']) && !file.starts_with('.') || file == ".keys",
                "{file}"
            );
        }
        assert_ne!(file_name("a/b"), file_name("a%2fb"));
        assert_ne!(file_name(&"x".repeat(500)), file_name(&"x".repeat(501)));
    }

    #[tokio::test]
    async fn what_is_stored_is_loaded_and_replaced_as_a_whole() {
        let directory = std::env::temp_dir().join(format!("countersign-cache-{}", std::process::id()));
        let cache = FileCache::new(&directory);
        assert_eq!(cache.load("a").await, Ok(None));
        cache.store("a", b"one".to_vec()).await.unwrap();
        cache.store("b", b"other".to_vec()).await.unwrap();
        cache.store("a", b"two".to_vec()).await.unwrap();
        assert_eq!(cache.load("a").await, Ok(Some(b"two".to_vec())));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nothing is left lying about");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(cache.path("a")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::remove_dir_all(&directory).unwrap();
        // A directory that cannot be made is an error, and no panic.
        assert!(FileCache::new("/dev/null/x").store("a", Vec::new()).await.is_err());
    }
}
