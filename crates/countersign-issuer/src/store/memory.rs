//! A store in memory, for tests. It keeps its promises, because each of its steps holds a lock, and breaks them as it
//! is told.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_claims::UnixTime;
use tokio::time::{Instant, sleep};

use super::{
    JwksHeaders, KeyStore, MAX_SEALED_BYTES, MAX_STATE_BYTES, MAX_STORED_JWKS_BYTES, StoreError, StoreErrorKind,
    StoreFuture, StoreTime, Stored, Version, check_size, names,
};

/// A [`KeyStore`] in memory, whose clones are one store seen by many nodes: for tests, and for rings that need not
/// outlive their process. It has no clock, unless [it is given one](Self::with_clock).
///
/// What it is told to do wrong, it does to whole operations: before, after, instead, or later. Time is tokio's, which
/// tests may stop.
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<World>>);

/// What a store can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`KeyStore::load_state`]
    LoadState,
    /// [`KeyStore::swap_state`]
    SwapState,
    /// [`KeyStore::put_private`]
    PutPrivate,
    /// [`KeyStore::replace_private`]
    ReplacePrivate,
    /// [`KeyStore::get_private`]
    GetPrivate,
    /// [`KeyStore::destroy_private`]
    DestroyPrivate,
    /// [`KeyStore::list_private`]
    ListPrivate,
    /// [`KeyStore::load_jwks`]
    LoadJwks,
    /// [`KeyStore::publish_jwks`]
    PublishJwks,
    /// [`KeyStore::probe`]
    Probe,
    /// [`KeyStore::time`]
    Time,
}

/// What goes wrong with one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and this is the answer. With [`StoreErrorKind::Unknown`]: the request got lost.
    Refuse(StoreErrorKind),
    /// It is done, and this is the answer all the same. With [`StoreErrorKind::Unknown`]: the answer got lost. With
    /// [`StoreErrorKind::Conflict`]: a client that tried again on its own met with its own success.
    Deny(StoreErrorKind),
    /// It takes so long until it is done, and so long again until the answer is there.
    Delay {
        /// Until it is done.
        before: Duration,
        /// From then until the answer.
        after: Duration,
    },
    /// The answer is [`StoreErrorKind::Unknown`] at once, and so much later, whatever has happened meanwhile, it is
    /// done: under its old conditions, which may not hold any more. Read operations are done at once.
    Late(Duration),
    /// A read answers with what was there before the last write.
    Stale,
    /// A read answers with this, under the version of what is there.
    Garbage(Vec<u8>),
}

/// What decides of each operation and, if it concerns one key, that key's name, what goes wrong with it.
type Chooser = Box<dyn FnMut(Operation, Option<&str>) -> Option<Fault> + Send>;

/// A write that has yet to arrive.
type Landing = Box<dyn FnOnce(&mut Contents) + Send>;

#[derive(Default)]
struct World {
    contents: Contents,
    scripted: BTreeMap<Operation, VecDeque<Fault>>,
    chooser: Option<Chooser>,
    late: Vec<(Instant, Landing)>,
    calls: BTreeMap<Operation, u64>,
    clock: Option<Box<dyn Fn() -> UnixTime + Send>>,
}

#[derive(Default)]
struct Contents {
    state: Document,
    jwks: Document,
    jwks_headers: Option<(String, String)>,
    private: BTreeMap<String, Document>,
    versions: u64,
    versions_are_hashes: bool,
    bytes_written: u64,
}

/// One document, and what was there before.
#[derive(Default)]
struct Document {
    now: Option<Stored>,
    before: Option<Stored>,
}

impl MemoryStore {
    /// An empty store, in which no version ever comes back.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(World::default())))
    }

    /// An empty store in which equal contents have equal versions, as where an ETag is a hash.
    #[must_use]
    pub fn with_hashes_for_versions() -> Self {
        let store = Self::new();
        store.world().contents.versions_are_hashes = true;
        store
    }

    /// Has it say that its clock shows what this one does.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> UnixTime + Send + 'static) -> Self {
        self.world().clock = Some(Box::new(clock));
        self
    }

    /// This goes wrong with the next operation of the kind for which nothing is planned yet.
    pub fn plan(&self, operation: Operation, fault: Fault) {
        self.world().scripted.entry(operation).or_default().push_back(fault);
    }

    /// Whatever is not planned goes wrong as this chooses, which is asked before each operation, with the key's name if
    /// it concerns one key.
    pub fn choose(&self, chooser: impl FnMut(Operation, Option<&str>) -> Option<Fault> + Send + 'static) {
        self.world().chooser = Some(Box::new(chooser));
    }

    /// From now on nothing goes wrong any more; what is still to land does.
    pub fn behave(&self) {
        let mut world = self.world();
        world.scripted.clear();
        world.chooser = None;
    }

    /// How often it was asked to do this.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.world().calls.get(&operation).copied().unwrap_or_default()
    }

    /// How many bytes were written in all.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.world().contents.bytes_written
    }

    /// The state document that is there.
    #[must_use]
    pub fn state(&self) -> Option<Vec<u8>> {
        self.world().landed().state.bytes()
    }

    /// The JWK Set that is there.
    #[must_use]
    pub fn jwks(&self) -> Option<Vec<u8>> {
        self.world().landed().jwks.bytes()
    }

    /// `Content-Type` and `Cache-Control` of the JWK Set that is there.
    #[must_use]
    pub fn jwks_headers(&self) -> Option<(String, String)> {
        self.world().landed().jwks_headers.clone()
    }

    /// The sealed private key of that name that is there.
    #[must_use]
    pub fn private(&self, kid: &str) -> Option<Vec<u8>> {
        self.world().landed().private.get(kid).and_then(Document::bytes)
    }

    /// Somebody has put this state document there, or has removed it.
    pub fn tamper_with_state(&self, bytes: Option<Vec<u8>>) {
        self.tamper(|contents| &mut contents.state, bytes);
    }

    /// Somebody has put this JWK Set there, or has removed it.
    pub fn tamper_with_jwks(&self, bytes: Option<Vec<u8>>) {
        self.tamper(|contents| &mut contents.jwks, bytes);
    }

    /// Somebody has put this sealed private key there, or has removed it.
    pub fn tamper_with_private(&self, kid: &str, bytes: Option<Vec<u8>>) {
        self.tamper(|contents| contents.private.entry(kid.to_owned()).or_default(), bytes);
    }

    fn tamper(&self, document: impl FnOnce(&mut Contents) -> &mut Document, bytes: Option<Vec<u8>>) {
        let mut world = self.world();
        let contents = world.landed();
        let stored = bytes.map(|bytes| contents.stored(&bytes));
        document(contents).set(stored);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // Nothing that may panic holds it, but for a chooser, which leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong with this operation, which begins now.
    fn begin(&self, operation: Operation, kid: Option<&str>) -> Option<Fault> {
        let mut world = self.world();
        *world.calls.entry(operation).or_default() += 1;
        let scripted = world.scripted.get_mut(&operation).and_then(VecDeque::pop_front);
        scripted.or_else(|| world.chooser.as_mut().and_then(|chooser| chooser(operation, kid)))
    }

    /// A write: applied as a whole, with the lock held, at one instant.
    async fn write<T>(
        &self,
        operation: Operation,
        kid: Option<&str>,
        apply: impl FnOnce(&mut Contents) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.begin(operation, kid) {
            None | Some(Fault::Stale | Fault::Garbage(_)) => apply(self.world().landed()),
            Some(Fault::Refuse(kind)) => Err(injected(kind)),
            Some(Fault::Deny(kind)) => apply(self.world().landed()).and(Err(injected(kind))),
            Some(Fault::Delay { before, after }) => {
                sleep(before).await;
                let result = apply(self.world().landed());
                sleep(after).await;
                result
            }
            Some(Fault::Late(delay)) => {
                let landing = Box::new(move |contents: &mut Contents| drop(apply(contents)));
                self.world().late.push((Instant::now() + delay, landing));
                Err(injected(StoreErrorKind::Unknown))
            }
        }
    }

    /// A read of whatever `look` finds.
    async fn read<T>(
        &self,
        fault: Option<Fault>,
        look: impl FnOnce(&Contents) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        match fault {
            None | Some(Fault::Late(_) | Fault::Stale | Fault::Garbage(_)) => look(self.world().landed()),
            Some(Fault::Refuse(kind) | Fault::Deny(kind)) => Err(injected(kind)),
            Some(Fault::Delay { before, after }) => {
                sleep(before).await;
                let result = look(self.world().landed());
                sleep(after).await;
                result
            }
        }
    }

    /// A read of one document.
    async fn read_document(
        &self,
        operation: Operation,
        kid: Option<&str>,
        document: impl for<'a> FnOnce(&'a Contents) -> Option<&'a Document> + Send,
    ) -> Result<Option<Stored>, StoreError> {
        let fault = self.begin(operation, kid);
        let stale = fault == Some(Fault::Stale);
        let garbage = if let Some(Fault::Garbage(garbage)) = &fault { Some(garbage.clone()) } else { None };
        let found = self.read(fault, move |contents| {
            let Some(document) = document(contents) else { return Ok(None) };
            Ok(if stale { document.before.clone() } else { document.now.clone() })
        });
        Ok(found.await?.map(|stored| Stored { bytes: garbage.unwrap_or(stored.bytes), ..stored }))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("calls", &self.world().calls).finish_non_exhaustive()
    }
}

fn injected(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, format!("injected: {kind}"))
}

impl World {
    /// The contents, once everything that is due has landed.
    fn landed(&mut self) -> &mut Contents {
        let now = Instant::now();
        // In the order in which they are due, whatever the order in which they were sent.
        self.late.sort_by_key(|(due, _)| *due);
        let due = self.late.partition_point(|(due, _)| *due <= now);
        for (_, landing) in self.late.drain(..due) {
            landing(&mut self.contents);
        }
        &mut self.contents
    }
}

impl Contents {
    fn stored(&mut self, bytes: &[u8]) -> Stored {
        self.versions += 1;
        let version = if self.versions_are_hashes {
            digest(&SHA256, bytes).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
        } else {
            self.versions.to_string()
        };
        Stored { bytes: bytes.to_vec(), version: Version::new(version) }
    }

    fn swap(
        &mut self,
        document: impl Fn(&mut Self) -> &mut Document,
        expected: Option<&Version>,
        bytes: &[u8],
    ) -> Result<Version, StoreError> {
        if document(self).now.as_ref().map(|stored| &stored.version) != expected {
            return Err(StoreError::new(StoreErrorKind::Conflict, "another version is there"));
        }
        let stored = self.stored(bytes);
        let version = stored.version.clone();
        self.bytes_written += bytes.len() as u64;
        document(self).set(Some(stored));
        Ok(version)
    }
}

impl Document {
    fn set(&mut self, stored: Option<Stored>) {
        self.before = std::mem::replace(&mut self.now, stored);
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        self.now.as_ref().map(|stored| stored.bytes.clone())
    }
}

impl KeyStore for MemoryStore {
    fn load_state(&self) -> StoreFuture<'_, Option<Stored>> {
        Box::pin(self.read_document(Operation::LoadState, None, |contents| Some(&contents.state)))
    }

    fn swap_state<'a>(&'a self, expected: Option<&'a Version>, state: &'a [u8]) -> StoreFuture<'a, Version> {
        let (expected, bytes) = (expected.cloned(), state.to_vec());
        Box::pin(self.write(Operation::SwapState, None, move |contents| {
            check_size("the state document", &bytes, MAX_STATE_BYTES)?;
            contents.swap(|contents| &mut contents.state, expected.as_ref(), &bytes)
        }))
    }

    fn put_private<'a>(&'a self, kid: &'a str, sealed: &'a [u8]) -> StoreFuture<'a, Version> {
        let (name, bytes) = (kid.to_owned(), sealed.to_vec());
        Box::pin(self.write(Operation::PutPrivate, Some(kid), move |contents| {
            names::of_private(&name)?;
            check_size("the sealed key", &bytes, MAX_SEALED_BYTES)?;
            contents.swap(|contents| contents.private.entry(name.clone()).or_default(), None, &bytes)
        }))
    }

    fn replace_private<'a>(
        &'a self,
        kid: &'a str,
        expected: &'a Version,
        sealed: &'a [u8],
    ) -> StoreFuture<'a, Version> {
        let (name, expected, bytes) = (kid.to_owned(), expected.clone(), sealed.to_vec());
        Box::pin(self.write(Operation::ReplacePrivate, Some(kid), move |contents| {
            names::of_private(&name)?;
            check_size("the sealed key", &bytes, MAX_SEALED_BYTES)?;
            contents.swap(|contents| contents.private.entry(name.clone()).or_default(), Some(&expected), &bytes)
        }))
    }

    fn get_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, Stored> {
        Box::pin(async move {
            names::of_private(kid)?;
            let found =
                self.read_document(Operation::GetPrivate, Some(kid), |contents| contents.private.get(kid)).await?;
            found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "there is no such private key"))
        })
    }

    fn destroy_private<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, ()> {
        let name = kid.to_owned();
        Box::pin(self.write(Operation::DestroyPrivate, Some(kid), move |contents| {
            if let Some(document) = contents.private.get_mut(&name) {
                document.set(None);
            }
            Ok(())
        }))
    }

    fn list_private(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(self.read(self.begin(Operation::ListPrivate, None), |contents| {
            let present = contents.private.iter().filter(|(_, document)| document.now.is_some());
            Ok(present.map(|(kid, _)| kid.clone()).collect())
        }))
    }

    fn load_jwks(&self) -> StoreFuture<'_, Option<Stored>> {
        Box::pin(self.read_document(Operation::LoadJwks, None, |contents| Some(&contents.jwks)))
    }

    fn publish_jwks<'a>(
        &'a self,
        expected: Option<&'a Version>,
        jwks: &'a [u8],
        headers: JwksHeaders<'a>,
    ) -> StoreFuture<'a, Version> {
        let (expected, bytes) = (expected.cloned(), jwks.to_vec());
        let headers = (headers.content_type.to_owned(), headers.cache_control.to_owned());
        Box::pin(self.write(Operation::PublishJwks, None, move |contents| {
            check_size("the JWK Set", &bytes, MAX_STORED_JWKS_BYTES)?;
            let version = contents.swap(|contents| &mut contents.jwks, expected.as_ref(), &bytes)?;
            contents.jwks_headers = Some(headers);
            Ok(version)
        }))
    }

    fn probe(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.read(self.begin(Operation::Probe, None), |_| Ok(())))
    }

    fn time(&self) -> StoreFuture<'_, Option<StoreTime>> {
        Box::pin(async {
            self.read(self.begin(Operation::Time, None), |_| Ok(())).await?;
            let at = self.world().clock.as_ref().map(|clock| clock());
            Ok(at.map(|at| StoreTime { at, grain: Duration::ZERO }))
        })
    }
}

#[cfg(test)]
mod tests;
