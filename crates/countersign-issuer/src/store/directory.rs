//! A store in a directory, the embedded default.

#[cfg(test)]
mod crash;
mod file;
mod root;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use self::file::{Entry, Readers};
use self::root::Root;
use super::{
    JwksHeaders, KeyStore, MAX_LISTED, MAX_SEALED_BYTES, MAX_STATE_BYTES, MAX_STORED_JWKS_BYTES, StoreError,
    StoreErrorKind, StoreFuture, StoreTime, Stored, Version, check_size, names,
};

const STATE: &str = "state.json";
const JWKS: &str = "jwks.json";

/// A [`KeyStore`] in a directory of this machine, which its processes may share:
///
/// ```text
/// <directory>          0700
///   state.json         0600
///   jwks.json          0644
///   state.lock         0600   whoever writes holds it (flock)
///   keys/              0700
///     <kid>.sealed     0600
/// ```
///
/// A file is written beside its place, brought to the disk, and renamed into it, and then the directory is brought to
/// the disk: whenever the process or the machine dies, the file is the old one or the new one. What a dead process
/// leaves lying about goes away when the directory is opened again. The version of a file is the hash of its contents.
///
/// Symbolic links, other owners, and permissions that let others in are refused, when the directory is opened and
/// whenever a file is read; the error says which file it is and what to do. If the directory is removed or another
/// comes in its place (a mount that vanishes), everything is [`Unavailable`](StoreErrorKind::Unavailable), and no key
/// is missing.
///
/// To destroy a key removes its name. What was in the file may survive on the disk, in a snapshot or a backup; it is
/// sealed, and what it was sealed with is not here.
///
/// It serves nothing, so the headers of the JWK Set are not kept. All work is done on tokio's threads for blocking
/// work.
#[derive(Clone)]
pub struct DirectoryStore(Arc<Root>);

impl DirectoryStore {
    /// Opens the directory, and makes it if it is not there; its parent must be. Blocks.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unfit`] if what is there must not be used, or is on a network file system, whose locks and
    /// caches keep the promises of a store only if they are set up to; [`Denied`](StoreErrorKind::Denied) and
    /// [`Unavailable`](StoreErrorKind::Unavailable) as the operating system says.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Root::open(directory.as_ref(), false)?)))
    }

    /// The same, if need be on a network file system (NFS, SMB, FUSE and the like). It must have locks that all
    /// machines see (`flock`), and names that all see as soon as they have changed (NFS: `lookupcache=none` or `noac`);
    /// nothing here can find out whether it has.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn dangerous_open_on_network_file_system(directory: impl AsRef<Path>) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Root::open(directory.as_ref(), true)?)))
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let root = Arc::clone(&self.0);
        Box::pin(async move {
            let Ok(runtime) = Handle::try_current() else {
                return Err(StoreError::new(StoreErrorKind::Unavailable, "there is no tokio runtime here"));
            };
            let working = runtime.spawn_blocking(move || work(&root)).await;
            working.unwrap_or_else(|_| {
                Err(StoreError::new(StoreErrorKind::Unknown, "the work on the directory was given up"))
            })
        })
    }

    fn read(&self, entry: Entry) -> StoreFuture<'_, Option<Stored>> {
        self.run(move |root| {
            root.check_in_place()?;
            root.read(&entry)
        })
    }

    fn swap(&self, entry: Entry, expected: Option<&Version>, bytes: &[u8]) -> StoreFuture<'_, Version> {
        let (expected, bytes) = (expected.cloned(), bytes.to_vec());
        self.run(move |root| {
            check_size(entry.what, &bytes, entry.limit)?;
            let lock = root.lock()?;
            root.check_in_place()?;
            if root.read(&entry)?.map(|stored| stored.version) != expected {
                return Err(StoreError::new(
                    StoreErrorKind::Conflict,
                    format!("another version of {} is there", entry.what),
                ));
            }
            root.replace(&lock, &entry, &bytes)
        })
    }
}

impl fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirectoryStore").field(&self.0.path()).finish()
    }
}

fn state() -> Entry {
    Entry {
        what: "the state document",
        name: STATE.into(),
        in_keys: false,
        readers: Readers::Owner,
        limit: MAX_STATE_BYTES,
    }
}

fn jwks() -> Entry {
    Entry {
        what: "the JWK Set",
        name: JWKS.into(),
        in_keys: false,
        readers: Readers::All,
        limit: MAX_STORED_JWKS_BYTES,
    }
}

fn private(kid: &str) -> Result<Entry, StoreError> {
    let name = names::of_private(kid)?;
    Ok(Entry { what: "the sealed key", name, in_keys: true, readers: Readers::Owner, limit: MAX_SEALED_BYTES })
}

impl KeyStore for DirectoryStore {
    fn load_state(&self) -> StoreFuture<'_, Option<Stored>> {
        self.read(state())
    }

    fn swap_state<'a>(&'a self, expected: Option<&'a Version>, bytes: &'a [u8]) -> StoreFuture<'a, Version> {
        self.swap(state(), expected, bytes)
    }

    fn put_private<'a>(&'a self, kid: &'a str, sealed: &'a [u8]) -> StoreFuture<'a, Version> {
        match private(kid) {
            Ok(entry) => self.swap(entry, None, sealed),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn replace_private<'a>(
        &'a self,
        kid: &'a str,
        expected: &'a Version,
        sealed: &'a [u8],
    ) -> StoreFuture<'a, Version> {
        match private(kid) {
            Ok(entry) => self.swap(entry, Some(expected), sealed),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn get_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, Stored> {
        Box::pin(async move {
            let found = self.read(private(kid)?).await?;
            found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "there is no such private key"))
        })
    }

    fn destroy_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let entry = private(kid)?;
            self.run(move |root| {
                let lock = root.lock()?;
                root.check_in_place()?;
                root.remove(&lock, &entry)
            })
            .await
        })
    }

    fn list_private(&self) -> StoreFuture<'_, Vec<String>> {
        self.run(|root| {
            root.check_in_place()?;
            let mut kids = Vec::new();
            for name in root.names_of_keys()? {
                kids.extend(names::kid_of(&name));
                if kids.len() > MAX_LISTED {
                    return Err(StoreError::new(
                        StoreErrorKind::Unfit,
                        format!("there are more than {MAX_LISTED} private keys"),
                    ));
                }
            }
            Ok(kids)
        })
    }

    fn load_jwks(&self) -> StoreFuture<'_, Option<Stored>> {
        self.read(jwks())
    }

    fn publish_jwks<'a>(
        &'a self,
        expected: Option<&'a Version>,
        bytes: &'a [u8],
        _headers: JwksHeaders<'a>,
    ) -> StoreFuture<'a, Version> {
        self.swap(jwks(), expected, bytes)
    }

    fn probe(&self) -> StoreFuture<'_, ()> {
        self.run(Root::probe)
    }

    fn time(&self) -> StoreFuture<'_, Option<StoreTime>> {
        self.run(Root::time)
    }
}
