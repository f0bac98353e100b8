use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use countersign_claims::Clock;
use countersign_claims::revocation::{Holdings, RevocationCheck};
use countersign_jwks::{KeyCounters, KeyStatus, Keys, KeysHandle};
use countersign_tower::{Judged, Observer, RequestMetrics};
use countersign_verifier::{TokenCacheStatus, Verifier};
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, Unit};

/// The shortest time from one flush of [`Metrics::flush_every`] to the next: more often than that nobody scrapes.
pub const MIN_FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The most sources that are told apart by name, in the order of the alphabet; the rest are one, `other`. Each is about twenty series.
pub const MAX_SOURCE_LABELS: usize = 64;

const OTHER: &str = "other";

/// The metrics of a layer and of its keys, for the recorder of the `metrics` crate, 0.24, and whatever exports from there.
///
/// Requests are counted in memory ([`RequestMetrics`]), and keys count themselves. [`flush`](Self::flush) tells the recorder: call it where metrics
/// are rendered, or spawn [`flush_every`](Self::flush_every) if something else renders them. All names, labels and units are in
/// [OBSERVABILITY.md](https://github.com/countersign-rs/countersign/blob/main/OBSERVABILITY.md).
///
/// ```
/// use countersign::{JwtAuth, Metrics};
///
/// let metrics = Metrics::new("orders");
/// let auth = JwtAuth::new("https://login.example/jwks.json").audience("orders").metrics(&metrics);
/// // In the handler of /metrics, before it renders:
/// metrics.flush();
/// ```
///
/// Clones count together. Keys are watched as long as the layer, one of its clones or a service made from them exists; layers over different
/// sources want a `Metrics` each, with names of their own.
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    requests: RequestMetrics,
    watched: Mutex<Vec<Watched>>,
    revocations: Mutex<Vec<WatchedRevocations>>,
    tokens: Mutex<Vec<WatchedTokens>>,
}

/// Whoever remembers tokens, and what the recorder has been told of it.
struct WatchedTokens {
    verifier: Weak<Verifier<Keys>>,
    told: TokenCacheStatus,
}

/// What a layer asks of revocations, and the clock that it asks with.
struct WatchedRevocations {
    check: Weak<RevocationCheck>,
    clock: Arc<dyn Clock>,
}

/// Keys of a layer, and what the recorder has been told of them.
struct Watched {
    keys: Weak<KeysHandle>,
    told: BTreeMap<Arc<str>, KeyCounters>,
}

impl Metrics {
    /// `layer` tells the layers of one process apart: a few, which do not change.
    #[must_use]
    pub fn new(layer: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Shared {
            requests: RequestMetrics::new(layer),
            watched: Mutex::default(),
            revocations: Mutex::default(),
            tokens: Mutex::default(),
        }))
    }

    /// Tells the recorder, the global one or that of [`metrics::with_local_recorder`], how keys are and what has been counted since it was last
    /// told. Without a recorder it is lost: install that first.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// Flushes every so often, [`MIN_FLUSH_INTERVAL`] at least, until the last clone of this and of the layer is gone: for
    /// `tokio::spawn`, where what renders the metrics is not yours.
    ///
    /// # Panics
    /// When it is polled where there is no tokio runtime with a timer.
    pub fn flush_every(&self, interval: Duration) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::downgrade(&self.0);
        async move {
            let mut ticks = tokio::time::interval(interval.max(MIN_FLUSH_INTERVAL));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match shared.upgrade() {
                    Some(shared) => shared.flush(),
                    None => return,
                }
            }
        }
    }

    /// Watches a verifier's cache of tokens, as long as there is the verifier.
    pub(crate) fn watch_tokens(&self, verifier: &Arc<Verifier<Keys>>) {
        let mut watched = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|watched| watched.verifier.strong_count() > 0);
        if verifier.token_cache_status().is_some() {
            // Not more than a weak one: an observer of its layer leads to this, and would keep what keeps it.
            watched.push(WatchedTokens { verifier: Arc::downgrade(verifier), told: TokenCacheStatus::default() });
        }
    }

    /// The observer of a layer over these keys that asks this of revocations.
    pub(crate) fn observer(
        &self,
        keys: &Arc<KeysHandle>,
        revocation: Option<&Arc<RevocationCheck>>,
        clock: &Arc<dyn Clock>,
    ) -> Measuring {
        if let Some(check) = revocation {
            let mut watched = self.0.revocations.lock().unwrap_or_else(PoisonError::into_inner);
            watched.retain(|watched| watched.check.strong_count() > 0);
            if !watched.iter().any(|watched| watched.check.as_ptr() == Arc::as_ptr(check)) {
                watched.push(WatchedRevocations { check: Arc::downgrade(check), clock: Arc::clone(clock) });
            }
        }
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|watched| watched.keys.strong_count() > 0);
        // Layers that differ in policy alone share their keys.
        if !watched.iter().any(|watched| watched.keys.as_ptr() == Arc::as_ptr(keys)) {
            watched.push(Watched { keys: Arc::downgrade(keys), told: BTreeMap::new() });
        }
        Measuring { metrics: self.clone(), _keys: Arc::clone(keys), _revocation: revocation.cloned() }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(self.0.requests.layer()).finish()
    }
}

/// What a layer holds, and its services: as long as one of them exists, its keys are watched, and its revocations.
pub(crate) struct Measuring {
    metrics: Metrics,
    _keys: Arc<KeysHandle>,
    _revocation: Option<Arc<RevocationCheck>>,
}

impl Observer for Measuring {
    fn judged(&self, judged: &Judged<'_>) {
        self.metrics.0.requests.judged(judged);
    }
}

impl Shared {
    fn flush(&self) {
        self.requests.flush();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|watched| watched.keys.strong_count() > 0);
        metrics::with_recorder(|recorder| {
            describe(recorder);
            let to = To { recorder, layer: self.requests.layer() };
            let mut states = BTreeMap::<Arc<str>, State>::new();
            for Watched { keys, told } in watched.iter_mut() {
                let Some(keys) = keys.upgrade() else { continue };
                for (at, (source, status)) in keys.sources().into_iter().enumerate() {
                    let label = if at < MAX_SOURCE_LABELS { Arc::clone(&source) } else { OTHER.into() };
                    to.count(&label, &status.counters, told.entry(source).or_default());
                    states.entry(label).or_default().add(&status);
                }
            }
            for (source, state) in &states {
                to.set(source, state);
            }
            if let Some(revocations) = self.revocations() {
                to.set_revocations(&revocations);
            }
            if let Some((held, news)) = self.tokens() {
                to.set_tokens(&held, &news);
            }
        });
    }

    /// What all remember together, and what they have counted since the recorder was told; `None` if none remembers any.
    fn tokens(&self) -> Option<(TokenCacheStatus, TokenCacheStatus)> {
        let mut watched = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|watched| watched.verifier.strong_count() > 0);
        let mut all = None::<(TokenCacheStatus, TokenCacheStatus)>;
        for WatchedTokens { verifier, told } in watched.iter_mut() {
            let Some(status) = verifier.upgrade().and_then(|verifier| verifier.token_cache_status()) else { continue };
            let (held, news) = all.get_or_insert_default();
            held.tokens += status.tokens;
            held.bytes += status.bytes;
            news.hits += status.hits - told.hits;
            news.misses += status.misses - told.misses;
            *told = status;
        }
        all
    }

    /// Those of all layers together; `None` if none asks.
    fn revocations(&self) -> Option<RevocationState> {
        let mut watched = self.revocations.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|watched| watched.check.strong_count() > 0);
        let mut state = None::<RevocationState>;
        for watched in watched.iter() {
            let Some(check) = watched.check.upgrade() else { continue };
            let age = check.age(watched.clock.now()).map_or(f64::INFINITY, |age| age.as_secs_f64());
            let state = state.get_or_insert_default();
            state.age = state.age.max(age);
            for holdings in check.revocations().filter_map(|revocations| revocations.holdings()) {
                state.holdings.tokens += holdings.tokens;
                state.holdings.cut_offs += holdings.cut_offs;
                state.holdings.keys += holdings.keys;
                state.holdings.bytes += holdings.bytes;
                state.holdings.is_full |= holdings.is_full;
            }
        }
        state
    }
}

/// What is known of revocations: the sums, and of ages the worst; infinite if nothing is known.
#[derive(Default)]
struct RevocationState {
    age: f64,
    holdings: Holdings,
}

/// Of the sources of one label.
#[derive(Default)]
struct State {
    /// How many there are; none of an issuer that begins with its first token.
    sources: usize,
    keys: usize,
    stale: usize,
    generation: Option<u64>,
    age: Option<Duration>,
    clock_offset: Option<i64>,
}

impl State {
    /// The sums, and of times the worse.
    fn add(&mut self, status: &KeyStatus) {
        self.sources += status.sources;
        self.keys += status.keys;
        self.stale += status.stale_sources;
        self.generation = self.generation.max(status.generation);
        self.age = self.age.max(status.last_success);
        let offsets = [self.clock_offset, status.clock_offset];
        self.clock_offset = offsets.into_iter().flatten().max_by_key(|offset| offset.unsigned_abs());
    }
}

const METADATA: Metadata<'static> = Metadata::new("countersign", Level::INFO, None);

const KEYS: &str = "countersign_keys";
const GENERATION: &str = "countersign_keys_generation";
const AGE: &str = "countersign_keys_age_seconds";
const STALE: &str = "countersign_keys_stale";
const CLOCK_OFFSET: &str = "countersign_keys_clock_offset_seconds";
const FETCHES: &str = "countersign_key_fetches_total";
const UNKNOWN_KEYS: &str = "countersign_unknown_keys_total";
const SUPPRESSED: &str = "countersign_suppressed_fetches_total";
const CACHE: &str = "countersign_key_cache_total";

const TOKEN_CACHE: &str = "countersign_token_cache_total";
const CACHED_TOKENS: &str = "countersign_token_cache_tokens";
const CACHED_BYTES: &str = "countersign_token_cache_bytes";

const REVOCATION_AGE: &str = "countersign_revocation_age_seconds";
const REVOCATIONS: &str = "countersign_revocations";
const REVOCATION_BYTES: &str = "countersign_revocation_bytes";
const REVOCATIONS_FULL: &str = "countersign_revocations_full";

/// A series of a source, and what it counts: name, label if it has one more, counter.
type OfSource = (&'static str, Option<(&'static str, &'static str)>, fn(&KeyCounters) -> u64);

const COUNTERS: [OfSource; 12] = [
    (FETCHES, Some(("outcome", "changed")), |counters| counters.fetches_changed),
    (FETCHES, Some(("outcome", "unchanged")), |counters| counters.fetches_unchanged),
    (FETCHES, Some(("outcome", "refused")), |counters| counters.fetches_refused),
    (FETCHES, Some(("outcome", "failed")), |counters| counters.fetches_failed),
    (FETCHES, Some(("outcome", "postponed")), |counters| counters.fetches_postponed),
    (UNKNOWN_KEYS, None, |counters| counters.unknown_keys),
    (SUPPRESSED, Some(("reason", "absent")), |counters| counters.suppressed_absent),
    (SUPPRESSED, Some(("reason", "in_flight")), |counters| counters.suppressed_in_flight),
    (SUPPRESSED, Some(("reason", "spaced")), |counters| counters.suppressed_spaced),
    (SUPPRESSED, Some(("reason", "crowded")), |counters| counters.suppressed_crowded),
    (CACHE, Some(("outcome", "hit")), |counters| counters.cache_hits),
    (CACHE, Some(("outcome", "miss")), |counters| counters.cache_misses),
];

struct To<'a> {
    recorder: &'a dyn Recorder,
    layer: &'a Arc<str>,
}

impl To<'_> {
    /// What has been counted since it was told. Series begin at 0, so that their first count is a rise.
    fn count(&self, source: &Arc<str>, counters: &KeyCounters, told: &mut KeyCounters) {
        for (name, label, count) in COUNTERS {
            let more = count(counters).saturating_sub(count(told));
            self.recorder.register_counter(&self.key(name, source, label), &METADATA).increment(more);
        }
        *told = *counters;
    }

    #[expect(clippy::cast_precision_loss, reason = "nothing here comes near 2^53")]
    fn set(&self, source: &Arc<str>, state: &State) {
        if state.sources == 0 {
            return;
        }
        let gauges = [
            (KEYS, Some(state.keys as f64)),
            (STALE, Some(state.stale as f64)),
            (GENERATION, state.generation.map(|generation| generation as f64)),
            (AGE, state.age.map(|age| age.as_secs_f64())),
            (CLOCK_OFFSET, state.clock_offset.map(|offset| offset as f64)),
        ];
        for (name, value) in gauges {
            if let Some(value) = value {
                self.recorder.register_gauge(&self.key(name, source, None), &METADATA).set(value);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nothing here comes near 2^53")]
    fn set_revocations(&self, state: &RevocationState) {
        let holdings = &state.holdings;
        let kind = |kind| Some(Label::from_static_parts("kind", kind));
        for (name, label, value) in [
            (REVOCATION_AGE, None, state.age),
            (REVOCATIONS, kind("token"), holdings.tokens as f64),
            (REVOCATIONS, kind("cut_off"), holdings.cut_offs as f64),
            (REVOCATIONS, kind("key"), holdings.keys as f64),
            (REVOCATION_BYTES, None, holdings.bytes as f64),
            (REVOCATIONS_FULL, None, f64::from(u8::from(holdings.is_full))),
        ] {
            self.recorder.register_gauge(&self.key_of_layer(name, label), &METADATA).set(value);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nothing here comes near 2^53")]
    fn set_tokens(&self, held: &TokenCacheStatus, news: &TokenCacheStatus) {
        for (outcome, more) in [("hit", news.hits), ("miss", news.misses)] {
            let outcome = Label::from_static_parts("outcome", outcome);
            self.recorder.register_counter(&self.key_of_layer(TOKEN_CACHE, Some(outcome)), &METADATA).increment(more);
        }
        for (name, value) in [(CACHED_TOKENS, held.tokens as f64), (CACHED_BYTES, held.bytes as f64)] {
            self.recorder.register_gauge(&self.key_of_layer(name, None), &METADATA).set(value);
        }
    }

    fn key_of_layer(&self, name: &'static str, label: Option<Label>) -> Key {
        let mut labels = vec![Label::new("layer", Arc::clone(self.layer))];
        labels.extend(label);
        Key::from_parts(name, labels)
    }

    fn key(&self, name: &'static str, source: &Arc<str>, label: Option<(&'static str, &'static str)>) -> Key {
        let mut labels = vec![Label::new("layer", Arc::clone(self.layer)), Label::new("source", Arc::clone(source))];
        labels.extend(label.map(|(name, value)| Label::from_static_parts(name, value)));
        Key::from_parts(name, labels)
    }
}

fn describe(recorder: &dyn Recorder) {
    let (name, count) = (KeyName::from_const_str, Some(Unit::Count));
    for (gauge, unit, text) in [
        (KEYS, Unit::Count, "Keys in force"),
        (GENERATION, Unit::Count, "The number of the key set in force, which grows with each change"),
        (AGE, Unit::Seconds, "How long ago the provider last confirmed or replaced the keys"),
        (
            STALE,
            Unit::Count,
            "Sources whose keys have outlived their lifetime and are used all the same: 0 or 1 of one",
        ),
        (CACHED_TOKENS, Unit::Count, "Verified tokens that are remembered"),
        (CACHED_BYTES, Unit::Bytes, "The memory that these take"),
        (REVOCATION_AGE, Unit::Seconds, "How old what is known of revocations is; infinite if it is not known"),
        (REVOCATIONS, Unit::Count, "Revocations in force"),
        (REVOCATION_BYTES, Unit::Bytes, "The memory that revocations take"),
        (REVOCATIONS_FULL, Unit::Count, "1 while there is no room for more revocations"),
        (CLOCK_OFFSET, Unit::Seconds, "How far the clock of the provider is ahead of ours; below 0 if it is behind"),
    ] {
        recorder.describe_gauge(name(gauge), Some(unit), text.into());
    }
    for (counter, text) in [
        (FETCHES, "Fetches of keys by their outcome"),
        (UNKNOWN_KEYS, "Requests that asked for a key that is not in force"),
        (SUPPRESSED, "Those that did not start a fetch, by the reason"),
        (CACHE, "Reads of the cache for warm starts"),
        (TOKEN_CACHE, "Good tokens that were remembered, and that were not"),
    ] {
        recorder.describe_counter(name(counter), count, text.into());
    }
}
