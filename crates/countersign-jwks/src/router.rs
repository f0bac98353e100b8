//! The sources of many issuers at work: chosen by a token's unverified issuer, started when needed, let go of when idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use countersign_token::{Answer, Ask, KeySet, Miss, UnverifiedIssuer, UnverifiedToken};
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::counters::{Counters, Group, KeyCounters};
use crate::driver::shown;
use crate::error::SourceError;
use crate::events::{MAX_EVENTS, Named};
use crate::issuers::{Admitted, Issuers, MAX_ISSUERS};
use crate::limited::FetchPool;
use crate::plan::MIN_RETRY_AFTER;
use crate::remote::Remote;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::waiting::{Waiting, timer};

mod admission;

use admission::Admission;

/// An issuer that has no keys is let go of when no token has come for so long: it would be asked for them again and again.
const IDLE_WITHOUT_KEYS: Duration = Duration::from_secs(60);

/// How often it is looked who is idle, at least.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// For how long it is believed whether any issuer's tokens can be judged. It takes a look at all of them to know.
const USABLE_BELIEVED: Duration = Duration::from_secs(1);

pub(crate) struct Router {
    /// Without those that are listed, which are among the entries.
    issuers: Issuers,
    /// By the name of the issuer.
    entries: ArcSwap<Entries>,
    /// Held by whoever changes the entries, or starts one: never by a request whose issuer runs.
    changing: Mutex<Admission>,
    pool: FetchPool,
    /// What is wrong with the settings, if anything is.
    fault: Option<SourceError>,
    events: broadcast::Sender<Named>,
    /// What all have counted, also those that have been let go of.
    counters: Arc<Counters>,
    /// Of the tenants, by template.
    groups: Box<[Arc<Group>]>,
    epoch: Instant,
    is_swept: AtomicBool,
    /// Whether any issuer had usable keys, and when that was looked at: milliseconds, doubled, and one more for yes.
    usable: AtomicU64,
    this: Weak<Self>,
}

type Entries = HashMap<Arc<str>, Arc<Entry>>;

/// One issuer.
struct Entry {
    remote: Remote,
    kind: Kind,
    /// Of a listed one, its own.
    group: Arc<Group>,
    /// `None` while it is idle.
    source: ArcSwapOption<Shared>,
    /// When it was made, and when the last token of it came, milliseconds since the router's epoch.
    made: u64,
    /// Whether it is a tenant that only a check has let in.
    is_checked: bool,
    used: AtomicU64,
    /// Whether it is no entry any more. Whoever still holds it must not start it.
    is_gone: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listed,
    /// Listed, and let go of when idle.
    Lazy,
    /// Let go of with its entry.
    Tenant,
}

/// What is known of an issuer.
enum Found {
    Source(Arc<Shared>),
    Unknown,
    /// There is no room at the moment.
    Busy,
}

impl Router {
    /// All issuers that are listed; none of them started yet.
    pub(crate) fn new(mut issuers: Issuers) -> Arc<Self> {
        let fault = issuers.check().err();
        let kind = if issuers.lazy { Kind::Lazy } else { Kind::Listed };
        let counters = Arc::default();
        let listed = std::mem::take(&mut issuers.listed);
        let entries = listed.into_iter().map(|(issuer, remote)| {
            let remote = issuers.configured(remote);
            let group = Group::new(shown(&issuer), &counters);
            (issuer, Arc::new(Entry::new(remote, kind, group, 0)))
        });
        let entries = ArcSwap::from_pointee(entries.collect());
        let groups = issuers.tenants.iter().map(|tenants| Group::new(shown(tenants.template()), &counters)).collect();
        Arc::new_cyclic(|this| Self {
            entries,
            issuers,
            changing: Mutex::default(),
            pool: FetchPool::new(),
            fault,
            events: broadcast::Sender::new(MAX_EVENTS),
            counters,
            groups,
            epoch: Instant::now(),
            is_swept: AtomicBool::new(false),
            usable: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    // For requests.

    /// The keys of the issuer that the token says it is from, if it runs and has some.
    pub(crate) fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Guard<Arc<KeySet>>> {
        token.with_unverified_issuer(|issuer| self.keys_of(issuer.find_in(&self.entries.load())?))?
    }

    /// The same for a token that a key of that issuer has verified before.
    pub(crate) fn snapshot_for_issuer(&self, issuer: &str) -> Option<Guard<Arc<KeySet>>> {
        self.keys_of(self.entries.load().get(issuer)?)
    }

    fn keys_of(&self, entry: &Entry) -> Option<Guard<Arc<KeySet>>> {
        let source = entry.source.load();
        let shared = source.as_ref()?;
        self.touch(entry);
        shared.snapshot()
    }

    pub(crate) fn ask(&self, miss: Miss<'_>) -> Ask<Waiting> {
        let found = miss.token.and_then(|token| token.with_unverified_issuer(|issuer| self.find(issuer)));
        match found {
            Some(Found::Source(shared)) => match shared.ask(miss) {
                Ask::Answered(answer) => Ask::Answered(self.softened(answer)),
                wait => wait,
            },
            Some(Found::Busy) => Ask::Answered(Answer::NotYet { retry_after: MIN_RETRY_AFTER }),
            Some(Found::Unknown) | None => Ask::Answered(Answer::UnknownIssuer),
        }
    }

    pub(crate) fn signature_mismatch(&self, miss: Miss<'_>) {
        let source = miss.token.and_then(|token| {
            token.with_unverified_issuer(|issuer| issuer.find_in(&self.entries.load())?.source.load_full())?
        });
        if let Some(shared) = source {
            shared.signature_mismatch(miss);
        }
    }

    /// An issuer that cannot be reached is no outage while tokens of others can be judged.
    pub(crate) fn softened(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Unavailable { retry_after, .. } if self.is_any_usable() => Answer::NotYet { retry_after },
            answer => answer,
        }
    }

    // For handles.

    pub(crate) fn events(&self) -> broadcast::Receiver<Named> {
        self.events.subscribe()
    }

    pub(crate) fn check(&self) -> Result<(), SourceError> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Starts those that are not lazy, and the sweeper.
    pub(crate) fn start(&self) {
        if !self.issuers.lazy && self.fault.is_none() {
            for entry in self.entries.load().values() {
                let _ = self.source_of(entry);
            }
        }
    }

    /// Whether tokens can be judged, as far as can be known before one comes: some issuer has usable keys, or all begin with their first token.
    pub(crate) fn is_ready(&self) -> bool {
        self.start();
        let entries = self.entries.load();
        let mut listed = entries.values().filter(|entry| entry.kind == Kind::Listed).peekable();
        listed.peek().is_none() || listed.any(|entry| entry.has_usable_keys())
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<Arc<Shared>> {
        self.entries.load().values().filter_map(|entry| entry.source.load_full()).collect()
    }

    pub(crate) fn counters(&self) -> KeyCounters {
        self.counters.read()
    }

    /// The sources that run, by the names that statistics may use; also of names without any.
    pub(crate) fn groups(&self) -> Vec<(Arc<Group>, Vec<Arc<Shared>>)> {
        let entries = self.entries.load();
        let (tenants, listed): (Vec<_>, Vec<_>) = entries.values().partition(|entry| entry.kind == Kind::Tenant);
        let source = |entry: &Arc<Entry>| entry.source.load_full();
        let listed = listed.into_iter().map(|entry| (Arc::clone(&entry.group), source(entry).into_iter().collect()));
        let templates = self.groups.iter().map(|group| {
            let members = tenants.iter().filter(|entry| Arc::ptr_eq(&entry.group, group));
            (Arc::clone(group), members.filter_map(|entry| source(entry)).collect())
        });
        listed.chain(templates).collect()
    }

    /// Those that run and are listed, or have keys.
    pub(crate) fn lasting(&self) -> Vec<Arc<Shared>> {
        let entries = self.entries.load();
        let lasting = entries.values().filter(|entry| entry.kind != Kind::Tenant || entry.has_usable_keys());
        lasting.filter_map(|entry| entry.source.load_full()).collect()
    }

    /// Adds an issuer, or gives it another source. Tokens of it are judged with that from now on.
    pub(crate) fn add(&self, issuer: &str, remote: Remote) -> Result<(), SourceError> {
        let remote = self.issuers.configured(remote.bound_to_issuer(issuer));
        remote.check()?;
        if issuer.is_empty() {
            return Err(SourceError::NotAnIssuer);
        }
        let mut admission = self.changing();
        let mut entries = HashMap::clone(&self.entries.load());
        if entries.len() - admission.tenants() >= MAX_ISSUERS && !entries.contains_key(issuer) {
            return Err(SourceError::TooManyIssuers);
        }
        let kind = if self.issuers.lazy { Kind::Lazy } else { Kind::Listed };
        // What another source of the same issuer has counted stays.
        let known = entries.get(issuer).filter(|entry| entry.kind != Kind::Tenant);
        let group = known.map_or_else(|| Group::new(shown(issuer), &self.counters), |entry| Arc::clone(&entry.group));
        let entry = Arc::new(Entry::new(remote, kind, group, self.now()));
        admission.leaves(entries.insert(issuer.into(), entry).as_deref());
        self.entries.store(Arc::new(entries));
        drop(admission);
        self.start();
        Ok(())
    }

    /// Removes an issuer: no token of it is accepted from now on. A tenant that is still admitted begins anew with its next token.
    pub(crate) fn remove(&self, issuer: &str) -> bool {
        let mut admission = self.changing();
        let mut entries = HashMap::clone(&self.entries.load());
        let removed = entries.remove(issuer);
        self.entries.store(Arc::new(entries));
        admission.leaves(removed.as_deref());
        removed.is_some()
    }

    // Starting, and letting go.

    fn find(&self, issuer: UnverifiedIssuer<'_>) -> Found {
        if let Some(entry) = issuer.find_in(&self.entries.load()) {
            self.touch(entry);
            return self.source_of(entry);
        }
        for (tenants, group) in self.issuers.tenants.iter().zip(&self.groups) {
            let Some((before, behind)) = tenants.around() else { continue };
            let Some(tenant) = issuer.between(before, behind) else { continue };
            let Some(admitted) = tenants.admits(tenant) else { continue };
            let Some(Ok(remote)) = tenants.source(tenant) else { continue };
            return self.admit(&format!("{before}{tenant}{behind}"), remote, admitted, group);
        }
        Found::Unknown
    }

    /// Makes an entry for a tenant that has none, if there is room.
    fn admit(&self, issuer: &str, remote: Remote, admitted: Admitted, group: &Arc<Group>) -> Found {
        let mut admission = self.changing();
        let entries = self.entries.load();
        if let Some(entry) = entries.get(issuer).cloned() {
            // Somebody else was faster.
            drop(admission);
            return self.source_of(&entry);
        }
        let now = self.now();
        let Ok(leaves) = admission.room(&entries, self.issuers.max_tenants, admitted, now) else { return Found::Busy };
        let mut entries = Entries::clone(&entries);
        if let Some(leaves) = leaves {
            admission.leaves(entries.remove(&leaves).as_deref());
        }
        let mut entry = Entry::new(self.issuers.configured(remote), Kind::Tenant, Arc::clone(group), now);
        entry.is_checked = admitted == Admitted::Checked;
        let entry = Arc::new(entry);
        admission.enters(&entry);
        entries.insert(issuer.into(), Arc::clone(&entry));
        self.entries.store(Arc::new(entries));
        drop(admission);
        self.source_of(&entry)
    }

    /// The source of an issuer, started if it is not. Without a runtime it does not run, and says so.
    fn source_of(&self, entry: &Entry) -> Found {
        let running = entry.source.load_full();
        let shared = match running {
            Some(shared) => shared,
            None => {
                let _lock = self.changing();
                match entry.source.load_full() {
                    Some(shared) => shared,
                    None if entry.is_gone.load(Ordering::Relaxed) => return Found::Busy,
                    None => {
                        let remote = entry.remote.clone().sharing(&self.pool);
                        let (events, router) = (Some(self.events.clone()), self.this.clone());
                        let backs_off_without_keys = entry.kind == Kind::Tenant;
                        let settings = remote.settings();
                        // Its place may be the same for several, but for a query that no log shows.
                        let label = settings.issuer.as_deref().map_or("".into(), |issuer| shown(issuer).into());
                        let group = Some(Arc::clone(&entry.group));
                        let settings = Settings { label, events, router, backs_off_without_keys, group, ..settings };
                        let shared = Arc::new(Shared::new(settings));
                        entry.used.store(self.now(), Ordering::Relaxed);
                        entry.source.store(Some(Arc::clone(&shared)));
                        shared
                    }
                }
            }
        };
        // It may have been made where there is no runtime, or have outlived it; and so may the sweeper.
        let _ = shared.ensure_running();
        self.sweep_from_now_on();
        Found::Source(shared)
    }

    /// Lets go of whoever is idle, as long as there is a runtime and the router.
    fn sweep_from_now_on(&self) {
        if self.is_swept.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if timer(Duration::ZERO).is_none() || self.is_swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let sweeper = Sweeper(self.this.clone());
        // Settings that do not pass may say zero.
        let every = SWEEP_EVERY.min(self.issuers.idle_after / 4).max(MIN_RETRY_AFTER);
        drop(runtime.spawn(async move {
            while let Some(router) = sweeper.0.upgrade() {
                router.sweep();
                drop(router);
                tokio::time::sleep(every).await;
            }
        }));
    }

    fn sweep(&self) {
        let mut admission = self.changing();
        let entries = self.entries.load();
        let idle: Vec<_> = entries.iter().filter(|(_, entry)| self.is_idle(entry)).collect();
        if idle.iter().any(|(_, entry)| entry.kind == Kind::Tenant) {
            let mut kept = Entries::clone(&entries);
            for (issuer, _) in idle.iter().filter(|(_, entry)| entry.kind == Kind::Tenant) {
                admission.leaves(kept.remove(*issuer).as_deref());
            }
            self.entries.store(Arc::new(kept));
        }
        for (_, entry) in idle {
            // Its task ends with the last request that waits for it.
            entry.source.store(None);
        }
    }

    fn is_idle(&self, entry: &Entry) -> bool {
        let idle = Duration::from_millis(self.now().saturating_sub(entry.used.load(Ordering::Relaxed)));
        let allowed = if entry.has_usable_keys() {
            self.issuers.idle_after
        } else {
            self.issuers.idle_after.min(IDLE_WITHOUT_KEYS)
        };
        entry.kind != Kind::Listed && idle >= allowed
    }

    // Helpers.

    /// Milliseconds since the epoch; never 0, which stands for "never".
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Written once a second and not with every token, or all cores would write it all the time.
    fn touch(&self, entry: &Entry) {
        let now = self.now();
        if now.saturating_sub(entry.used.load(Ordering::Relaxed)) >= 1_000 {
            entry.used.store(now, Ordering::Relaxed);
        }
    }

    /// Whether tokens of any issuer can be judged.
    pub(crate) fn is_any_usable(&self) -> bool {
        let (now, known) = (self.now(), self.usable.load(Ordering::Relaxed));
        if known != 0 && Duration::from_millis(now.saturating_sub(known >> 1)) < USABLE_BELIEVED {
            return known & 1 == 1;
        }
        let is_usable = self.entries.load().values().any(|entry| entry.has_usable_keys());
        self.usable.store((now << 1) | u64::from(is_usable), Ordering::Relaxed);
        is_usable
    }

    fn changing(&self) -> MutexGuard<'_, Admission> {
        // Nothing in the critical sections can leave it half done.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(remote: Remote, kind: Kind, group: Arc<Group>, made: u64) -> Self {
        let (source, is_gone) = (ArcSwapOption::empty(), AtomicBool::new(false));
        Self { remote, kind, group, source, made, is_checked: false, used: AtomicU64::new(made), is_gone }
    }

    fn has_usable_keys(&self) -> bool {
        self.source.load().as_ref().is_some_and(|shared| shared.has_usable_keys())
    }
}

/// Says that nobody sweeps any more, when its runtime drops it.
struct Sweeper(Weak<Router>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(router) = self.0.upgrade() {
            router.is_swept.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever found it a moment ago would start a second source of the issuer, that forgets when it was last asked.
    #[tokio::test(start_paused = true)]
    async fn an_entry_that_was_removed_is_not_started() {
        let remote = || Remote::new("https://a.example/keys").unwrap();
        let router = Router::new(Issuers::new().issuer_at("https://a.example", remote()).lazy());
        let entry = Arc::clone(&router.entries.load()["https://a.example"]);
        router.add("https://a.example", remote()).unwrap();
        assert!(matches!(router.source_of(&entry), Found::Busy) && entry.source.load().is_none());
        let entry = Arc::clone(&router.entries.load()["https://a.example"]);
        assert!(router.remove("https://a.example"));
        assert!(matches!(router.source_of(&entry), Found::Busy) && router.running().is_empty());
    }
}
