//! Nobody who reads keys waits for somebody who replaces them: the slowest thousandth of requests, with and without.
//!
//! It is the real source, [`Keys::remote`], with its plan, its task and its snapshot, that is swapped here. The plan keeps
//! forced looks a second apart, by tokio's clock; so that clock is virtual in the task's runtime, where each wait is over
//! at once, and the task is let run once in a real millisecond. The thread that serves requests is in no runtime and
//! reads the real one. One more source has a real clock, and swaps as often as the plan then allows.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::token::{Fetch, FetchError, FetchRequest, Fetched};
use countersign::{Algorithm, Keys, KeysHandle, Policy, Remote, RequireJwt, RequireJwtLayer, SigningKey, Verifier};
use http::Request;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;
use tower_layer::Layer;

use crate::request::{AUDIENCE, Handler, ISSUER, claims, request, serve};
use crate::timing::{Effort, median};
use crate::{Failure, unix_seconds};

/// How far apart the looks at a provider are. A thousand a second.
const TICK: Duration = Duration::from_millis(1);

/// In how many the slowest is looked at: p99.9.
const TAIL: usize = 1_000;

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(Algorithm::Rs256)?.with_kid("3f0c6a52-2026-11");
    let token = signer.sign_as("at+jwt", &claims(unix_seconds()?))?;
    let documents = documents(&signer)?;

    let mut sides = [
        Side::new("nothing", Meanwhile::Nothing, Source::new(&documents, true)?),
        Side::new("1,000 looks a second, which bring the same keys", Meanwhile::Look, Source::new(&documents, true)?),
        Side::new("1,000 looks a second, which bring other keys", Meanwhile::Rotate, Source::new(&documents, true)?),
        Side::new(
            "real time: as many looks as the plan allows, which bring other keys",
            Meanwhile::Rotate,
            Source::new(&documents, false)?,
        ),
    ];
    for round in 0..effort.tail_rounds {
        for turn in 0..sides.len() {
            // Who goes first changes, so that what drifts favours nobody.
            let at = (round + turn) % sides.len();
            sides[at].round(request(&token)?, effort.tail_calls)?;
        }
    }
    Ok(table(&mut sides, effort))
}

fn table(sides: &mut [Side], effort: &Effort) -> String {
    let mut table = String::from(
        "### Requests while the keys change (RS256, the layer, whole `Service` call)\n\n\
         | meanwhile, on another thread | swaps a second | p50, µs | p99, µs | p99.9, µs | p99.9 × that of the first row |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    let mut rounds = String::new();
    let base = sides[0].tails.clone();
    for side in sides {
        side.all.sort_unstable();
        let mut ratios: Vec<f64> = side.tails.iter().zip(&base).map(|(tail, base)| tail / base).collect();
        let median = median(&mut ratios);
        table.push_str(&format!(
            "| {} | {:.1} | {:.2} | {:.2} | {:.2} | {median:.2} |\n",
            side.name,
            side.swaps as f64 / side.took.as_secs_f64(),
            slowest_but_one_in(2, &side.all),
            slowest_but_one_in(100, &side.all),
            slowest_but_one_in(TAIL, &side.all),
        ));
        if side.meanwhile != Meanwhile::Nothing {
            let ratios: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
            rounds.push_str(&format!("- {}: {}\n", side.name, ratios.join(" ")));
        }
    }
    let (calls, count) = (effort.tail_rounds * effort.tail_calls, effort.tail_rounds);
    format!(
        "{table}\n{calls} calls in each row, in {count} rounds. The last column is the median of these ratios, one of each \
         round, sorted:\n\n{rounds}"
    )
}

/// What a row shows.
struct Side {
    name: &'static str,
    meanwhile: Meanwhile,
    source: Source,
    handler: Handler,
    service: RequireJwt<Handler, Keys>,
    /// What each call took, nanoseconds.
    all: Vec<u32>,
    /// The p99.9 of each round, microseconds.
    tails: Vec<f64>,
    swaps: u64,
    took: Duration,
}

/// What another thread does while requests are served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Look,
    Rotate,
}

impl Side {
    fn new(name: &'static str, meanwhile: Meanwhile, source: Source) -> Self {
        source.rotates.store(meanwhile == Meanwhile::Rotate, Ordering::Relaxed);
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        let verifier = Verifier::new(source.keys.clone(), policy).algorithms(Algorithm::Rs256);
        let handler = Handler::new();
        let service = RequireJwtLayer::new(verifier.without_token_cache()).layer(handler.clone());
        Self {
            name,
            meanwhile,
            source,
            handler,
            service,
            all: Vec::new(),
            tails: Vec::new(),
            swaps: 0,
            took: Duration::ZERO,
        }
    }

    fn round(&mut self, mut request: Request<()>, calls: usize) -> Result<(), Failure> {
        let mut times = Vec::with_capacity(calls);
        let (source, service, handler, over) = (&self.source, &mut self.service, &self.handler, AtomicBool::new(false));
        let generation = source.generation();
        let start = Instant::now();
        thread::scope(|scope| {
            if self.meanwhile != Meanwhile::Nothing {
                scope.spawn(|| source.look_until(&over, TICK));
            }
            for _ in 0..calls {
                let start = Instant::now();
                request = serve(service, handler, request);
                times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            over.store(true, Ordering::Relaxed);
        });
        self.took += start.elapsed();
        let swaps = source.generation() - generation;
        if self.meanwhile == Meanwhile::Rotate && source.virtual_time && swaps == 0 {
            return Err("the keys did not change while they should".into());
        }
        self.swaps += swaps;
        self.all.extend_from_slice(&times);
        times.sort_unstable();
        self.tails.push(slowest_but_one_in(TAIL, &times));
        Ok(())
    }
}

/// The one below which all but one in `one_in` of the sorted `times` are, microseconds.
fn slowest_but_one_in(one_in: usize, times: &[u32]) -> f64 {
    f64::from(times[times.len() - 1 - times.len() / one_in]) / 1e3
}

/// Keys from a provider, and the runtime of the task that looks at it, which runs only when it is told to.
pub struct Source {
    runtime: Runtime,
    virtual_time: bool,
    pub keys: Keys,
    handle: KeysHandle,
    rotates: Arc<AtomicBool>,
}

impl Source {
    fn new(documents: &Arc<[Vec<u8>; 2]>, virtual_time: bool) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(virtual_time).build()?;
        let rotates = Arc::new(AtomicBool::new(false));
        let provider =
            Provider { documents: Arc::clone(documents), asked: AtomicUsize::new(0), rotates: Arc::clone(&rotates) };
        let remote =
            Remote::new("https://login.example/jwks")?.default_lifetime(Duration::from_secs(1)).fetch(provider);
        remote.check()?;
        let keys = runtime.block_on(async { Keys::remote(remote) });
        let handle = keys.handle();
        runtime.block_on(handle.ready()).map_err(|reason| reason.to_string())?;
        Ok(Self { runtime, virtual_time, keys, handle, rotates })
    }

    /// Of a provider in virtual time that has other keys with each look, beside this one's.
    pub fn rotating(signer: &SigningKey) -> Result<Self, Failure> {
        let source = Self::new(&documents(signer)?, true)?;
        source.rotates.store(true, Ordering::Relaxed);
        Ok(source)
    }

    /// Looks at the provider again and again, each time as soon as the plan allows, which in virtual time is at once.
    pub fn look_until(&self, over: &AtomicBool, tick: Duration) {
        let (mut next, mut look) = (Instant::now(), self.handle.refresh());
        while !over.load(Ordering::Relaxed) {
            next += tick;
            let outcome = self.runtime.block_on(async {
                if self.virtual_time {
                    return Some((&mut look).await);
                }
                timeout_at(next.into(), &mut look).await.ok()
            });
            if let Some(outcome) = outcome {
                outcome.expect("the provider answers");
                look = self.handle.refresh();
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// Grows with each change of the keys.
    pub fn generation(&self) -> u64 {
        self.handle.status().generation.unwrap_or_default()
    }
}

/// Publishes the one document, or both in turn: the key that signs is in both, and the other one is another.
struct Provider {
    documents: Arc<[Vec<u8>; 2]>,
    asked: AtomicUsize,
    rotates: Arc<AtomicBool>,
}

impl Fetch for Provider {
    fn fetch(&self, _: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(async {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            let document = if self.rotates.load(Ordering::Relaxed) { asked % 2 } else { 0 };
            let mut fetched = Fetched::default();
            fetched.status = 200;
            fetched.body = self.documents[document].clone();
            Ok(fetched)
        })
    }
}

fn documents(signer: &SigningKey) -> Result<Arc<[Vec<u8>; 2]>, Failure> {
    let others = [other_key("91d2b7e4-2026-12")?, other_key("5b1e6a3c-2026-12")?];
    let documents = others.map(|other| Ok(json!({ "keys": [signer.public_jwk()?, other] }).to_string().into_bytes()));
    let [one, another]: [Result<_, Failure>; 2] = documents;
    Ok(Arc::new([one?, another?]))
}

fn other_key(kid: &str) -> Result<Value, Failure> {
    Ok(SigningKey::generate(Algorithm::Rs256)?.with_kid(kid).public_jwk()?)
}
