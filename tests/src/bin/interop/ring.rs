//! A key ring under load: verifiers whose copies of its key set are fetched anew once they are as old as they may be, and
//! not before, whatever key is asked for: two of our layers, one of which follows a feed of revocations, and npm `jose`.
//! An order to rotate refuses nobody; a compromised key is refused by all of them within what the ring has said.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use countersign::claims::Policy;
use countersign::middleware::RequireJwtLayer;
use countersign::revocation::InProcess;
use countersign::token::{Answer, Ask, KeySource, Miss, Unready};
use countersign::verifier::Verifier;
use countersign::{Algorithm, JwkSet, KeySet, Origin, RevocationList};
use countersign_issuer::state::KeyState;
use countersign_issuer::step::{Compromised, Exposure, Note};
use countersign_issuer::{DirectoryStore, Kek, KekRing, Mint, Ring, RingConfig, RingEvent, Slot};
use countersign_tests::crowd::{AUDIENCE, Crowd, Seen, Shown, Tokens, accepted_after};
use countersign_tests::service::PATH;
use reqwest::header::CACHE_CONTROL;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::node::NodeJs;
use crate::service::client;
use crate::tally::Tally;
use crate::{Result, TIMEOUT};

const ISSUER: &str = "https://issuer.example";
const SLOT: &str = "es256";

/// How many callers each verifier has, and how often each of them calls: a hundred requests a second.
const CALLERS: u32 = 16;
const PERIOD: Duration = Duration::from_millis(160);

/// How long they call before anything happens, and after it must have.
const SPELL: Duration = Duration::from_secs(3);

/// `A`.
const MAX_AGE: Duration = Duration::from_secs(2);

const FIRST: &str = "the first key";
const STOLEN: &str = "the stolen key";
const NEXT: &str = "the next key";

/// A key may sign four seconds after it was read back; none rotates unless it is ordered.
fn config() -> RingConfig {
    let (millis, secs) = (Duration::from_millis, Duration::from_secs);
    let mut config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    let timing = &mut config.timing;
    (timing.max_age, timing.intermediary, timing.publish_lag) = (MAX_AGE, secs(1), secs(0));
    (timing.clock_error, timing.leeway, timing.max_lifetime) = (secs(1), secs(0), secs(120));
    (timing.tick, timing.publish, timing.lease) = (millis(250), secs(1), secs(10));
    (timing.keygen, timing.rotation, timing.overlap) = (millis(50), secs(3_600), secs(140));
    (timing.heartbeat, timing.orphan, timing.fan_out) = (secs(1), secs(20), millis(500));
    config
}

pub(crate) async fn run(nodejs: &NodeJs, tally: &mut Tally) -> Result<()> {
    let place = Place::new()?;
    let feed = InProcess::new();
    let revocations = RevocationList::new().follow(feed.clone());
    let versions = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&versions);
    let keks = KekRing::new([Kek::random()?])?;
    let ring = Ring::builder(ISSUER, config(), Arc::new(DirectoryStore::open(place.0.join("ring"))?), keks);
    let ring = ring.revocations(Arc::new(feed)).on_event(move |event| {
        if let RingEvent::Note(Note::Saved { seq, moves }) = event {
            written.lock().unwrap_or_else(PoisonError::into_inner).push((*seq, moves.clone()));
        }
    });
    let ring = ring.start().await?;
    has_standby(&ring).await?;
    let jwks = serve(Router::new().route_service("/jwks.json", ring.jwks())).await?;
    let jwks = format!("http://{jwks}/jwks.json");

    let (plain, fed) = (Copied::of(&jwks)?, Copied::of(&jwks)?);
    let mut judge = nodejs.start("guard.mjs")?;
    let port: Port = judge
        .ask(&json!({ "jwks": jwks, "issuer": ISSUER, "audience": AUDIENCE, "maxAge": MAX_AGE.as_millis() }))
        .await?;
    let verifier = |keys: &Copied| Verifier::new(keys.clone(), Policy::new().issuer(ISSUER).audience(AUDIENCE));
    let addresses = [
        ("a layer", guard(verifier(&plain)).await?),
        ("a layer with a feed", guard(verifier(&fed).revocation(revocations)).await?),
        ("jose", SocketAddr::from(([127, 0, 0, 1], port.port))),
    ];
    let begun = Instant::now();
    let tokens = Tokens::default();
    let first = token(&ring, FIRST)?;
    tokens.set([first.1.clone()]);
    let mut crowds = Vec::new();
    for (name, address) in addresses {
        let shown = tokens.clone();
        crowds.push((name, Crowd::gather(address, CALLERS, PERIOD, move |n| shown.nth(n, CALLERS)).await?));
    }
    sleep(SPELL).await;

    let before = ring.status().seq.unwrap_or_default();
    let ordered = Instant::now();
    let rotated = ring.rotate([SLOT]).await?;
    let took = ordered.elapsed();
    let stolen = token(&ring, STOLEN)?;
    tokens.set([first.1.clone(), stolen.1.clone()]);
    tally.expect("the order has made another key sign", rotated.now == [SLOT] && first.0 != stolen.0);
    let moved = |kid: &str, state| {
        let versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
        let version = versions.iter().find(|(_, moves)| moves.iter().any(|it| it.0 == kid && it.1 == state));
        version.map(|(seq, _)| *seq)
    };
    let is_one_write = [moved(&first.0, KeyState::Retiring), moved(&stolen.0, KeyState::Active)];
    tally.expect("an order to rotate is one write", is_one_write == [Some(before + 1); 2]);
    println!("ring: an order to rotate, one write to a directory: {:.1} ms", took.as_secs_f64() * 1e3);
    has_standby(&ring).await?;
    sleep(SPELL).await;

    let ordered = Instant::now();
    let revoked = ring.compromise(Compromised::Key(stolen.0.clone()), false).await?;
    let replied = Instant::now();
    let next = token(&ring, NEXT)?;
    tokens.set([first.1, stolen.1, next.1]);
    sleep(revoked.exposure.without_feed + SPELL).await;

    let compromise = Compromise { ordered, replied, exposure: revoked.exposure };
    println!("| verifier | token of | when | requests | 200 | others |\n|---|---|---|---:|---:|---:|");
    for (name, crowd) in crowds {
        compromise.judge(name, &crowd.disperse().await?, tally);
    }
    // One at first, one whenever a copy was as old as it may be, and not one for an unknown key.
    let most = begun.elapsed().as_secs() / MAX_AGE.as_secs() + 2;
    let Farewell { fetches, refusals } = judge.farewell().await?;
    println!("ring: fetches of the key set: {}, {} and jose {fetches}", plain.fetches(), fed.fetches());
    for (who, fetches) in [("a layer", plain.fetches()), ("a layer with a feed", fed.fetches()), ("jose", fetches)] {
        tally.expect(&format!("{who} has fetched the set no more than it must"), (2..=most).contains(&fetches));
    }
    tally.expect("jose refuses for want of the key only", refusals.keys().eq(["ERR_JWKS_NO_MATCHING_KEY"]));
    Ok(())
}

/// When a key was compromised, and what the ring has said about it.
struct Compromise {
    ordered: Instant,
    replied: Instant,
    exposure: Exposure,
}

impl Compromise {
    /// What one verifier has made of all that.
    fn judge(&self, verifier: &str, seen: &[Vec<Seen>], tally: &mut Tally) {
        let bound = if verifier.ends_with("feed") { self.exposure.with_feed } else { self.exposure.without_feed };
        let all = || seen.iter().flatten();
        let is_good = |seen: &&Seen| seen.answer.status == 200;
        for (name, is_after) in [(FIRST, false), (STOLEN, false), (FIRST, true), (STOLEN, true), (NEXT, true)] {
            let shown = |seen: &&Seen| seen.name == name && (seen.done() >= self.ordered) == is_after;
            let (requests, good) = (all().filter(shown).count(), all().filter(shown).filter(is_good).count());
            let when = if is_after { "after the compromise" } else { "before" };
            println!("| {verifier} | {name} | {when} | {requests} | {good} | {} |", requests - good);
            tally.expect(&format!("{verifier}: {name} is shown {when}"), requests > 0);
            if name != STOLEN || !is_after {
                tally.expect(&format!("{verifier}: {name} is never refused {when}"), requests == good);
            }
        }
        let refused = all().filter(|seen| seen.name == STOLEN && seen.answer.status == 401).map(Seen::done).min();
        let begins = refused.map(|at| at.saturating_duration_since(self.replied));
        let ends = accepted_after(seen, STOLEN, self.replied).map(|seen| seen.sent - self.replied);
        println!("ring: {verifier} refuses {STOLEN} after {begins:?}, accepts it until {ends:?}; at most {bound:?}");
        tally.expect(&format!("{verifier}: refusals begin within {bound:?}"), begins.is_some_and(|it| it <= bound));
        tally.expect(&format!("{verifier}: nobody is let in after that"), ends.is_none_or(|ends| ends <= bound));
    }
}

/// Waits until the slot has a key that could take over at once.
async fn has_standby(ring: &Ring) -> Result<()> {
    let begun = Instant::now();
    loop {
        let status = ring.status();
        let standby = status.slots.get(SLOT).and_then(|slot| slot.standby.as_ref());
        if standby.and_then(|kid| status.keys.get(kid)).is_some_and(|key| key.is_held) {
            return Ok(());
        }
        if begun.elapsed() > TIMEOUT * 6 {
            return Err("the ring has no standby".into());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A token of the key that signs now, and the key.
fn token(ring: &Ring, name: &'static str) -> Result<(String, Shown)> {
    let mint = Mint::new(Duration::from_secs(120)).or_shorter().subject("ada").client_id("web").audience(AUDIENCE);
    let minted = ring.minter().mint(SLOT, &mint)?;
    Ok((minted.kid, (name, minted.token.into())))
}

/// An API behind that verifier.
async fn guard(verifier: Verifier<Copied>) -> Result<SocketAddr> {
    serve(Router::new().route(PATH, get(async || "good")).layer(RequireJwtLayer::new(verifier))).await
}

async fn serve(app: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

#[derive(Deserialize)]
struct Port {
    port: u16,
}

/// What `jose` says in the end.
#[derive(Deserialize)]
struct Farewell {
    fetches: u64,
    refusals: std::collections::BTreeMap<String, u64>,
}

/// A copy of a key set that is fetched anew once it is as old as its answer allows, and not before, whatever key is asked
/// for. Clones are the same copy.
#[derive(Clone)]
struct Copied(Arc<Shared>);

struct Shared {
    url: String,
    client: reqwest::Client,
    /// Until when it is good.
    copy: Mutex<Option<(Arc<KeySet>, Instant)>>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<u64>,
    fetches: AtomicUsize,
}

impl Copied {
    fn of(url: &str) -> Result<Self> {
        let (copy, fetching, fetches) = (Mutex::default(), tokio::sync::Mutex::default(), AtomicUsize::new(0));
        Ok(Self(Arc::new(Shared { url: url.to_owned(), client: client()?, copy, fetching, fetches })))
    }

    fn fetches(&self) -> u64 {
        self.0.fetches.load(Ordering::SeqCst) as u64
    }
}

impl Shared {
    fn good(&self) -> Option<Arc<KeySet>> {
        let copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        copy.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(keys, _)| Arc::clone(keys))
    }

    async fn refresh(&self) -> Result<()> {
        let mut generation = self.fetching.lock().await;
        if self.good().is_some() {
            return Ok(());
        }
        let answer = self.client.get(&self.url).send().await?.error_for_status()?;
        let control = answer.headers().get(CACHE_CONTROL).ok_or("no Cache-Control")?.to_str()?.to_owned();
        let max_age = control.rsplit_once("max-age=").ok_or("no max-age")?.1.parse()?;
        let set = JwkSet::parse(&answer.bytes().await?, Origin::Remote)?;
        *generation += 1;
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let keys = Arc::new(set.into_key_set().with_generation(*generation));
        let until = Instant::now() + Duration::from_secs(max_age);
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some((keys, until));
        Ok(())
    }
}

impl KeySource for Copied {
    type Snapshot<'a> = Arc<KeySet>;
    type Waiting = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn snapshot(&self) -> Option<Arc<KeySet>> {
        self.0.good()
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting> {
        if miss.generation.is_some() {
            // It has a copy, and what is not in it is nowhere.
            return Ask::Answered(Answer::Absent);
        }
        let shared = Arc::clone(&self.0);
        Ask::Wait(Box::pin(async move {
            match shared.refresh().await {
                Ok(()) => Answer::Changed,
                Err(_) => Answer::Unavailable { reason: Unready::TooOld, retry_after: Duration::from_secs(1) },
            }
        }))
    }
}

/// A directory for temporary files, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self> {
        let place = std::env::temp_dir().join(format!("countersign-interop-{}", std::process::id()));
        std::fs::create_dir(&place)?;
        Ok(Self(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What remains is for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
