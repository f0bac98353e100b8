//! Five hundred requests a second while the new fleet of an issuer, with another configuration, takes over from the old
//! one, on one ring in a directory. Half of the requests show a token of a key that signs no more, as soon as there is one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::get;
use countersign::{Algorithm, JwtAuth};
use countersign_issuer::state::KeyState;
use countersign_issuer::step::Note;
use countersign_issuer::{DirectoryStore, JwksService, Kek, KekRing, Mint, Minter, Ring, RingConfig, RingEvent, Slot};
use countersign_tests::Result;
use countersign_tests::crowd::{AUDIENCE, Crowd, Seen, Shown};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::time::sleep;
use tower::ServiceExt as _;

use crate::Broken;
use crate::changes::{CONNECTIONS, RATE, Server};

const ISSUER: &str = "https://issuer.example";

/// How many services the fleets' tokens are shown to.
const SERVICES: u32 = 2;

/// What a token is of: the key that signs in its slot, or one that did.
const ACTIVE: &str = "the key that signs";
const PAST: &str = "a key that signs no more";

/// How many nodes a fleet has.
const NODES: usize = 2;

/// How long a node may take until it signs, and the first standby until it is there.
const PATIENCE: Duration = Duration::from_secs(60);

/// A token that is to be shown has as long to live.
const LEAST_LIFE: Duration = Duration::from_millis(500);

/// What the fleets do, one after the other, and for how long.
const ACTS: [(&str, Duration); 4] = [
    ("blue alone", Duration::from_secs(6)),
    ("green is there", Duration::from_secs(3)),
    ("both sign", Duration::from_secs(6)),
    ("green alone", Duration::from_secs(9)),
];

/// A key lives for some twenty seconds: it signs for six, and is gone after ten more.
fn blue() -> RingConfig {
    let (millis, secs) = (Duration::from_millis, Duration::from_secs);
    let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    let timing = &mut config.timing;
    (timing.max_age, timing.intermediary, timing.publish_lag) = (secs(2), secs(1), secs(0));
    (timing.clock_error, timing.leeway, timing.max_lifetime) = (secs(1), secs(0), secs(4));
    (timing.tick, timing.publish, timing.lease) = (millis(250), secs(1), secs(2));
    (timing.keygen, timing.rotation, timing.overlap) = (millis(50), millis(5_300), secs(8));
    (timing.heartbeat, timing.orphan) = (secs(1), secs(10));
    config
}

/// Longer tokens, longer caches, another slot.
fn green() -> RingConfig {
    let mut config = blue();
    config.slots.push(Slot::new("ed25519", Algorithm::Ed25519));
    let timing = &mut config.timing;
    (timing.max_age, timing.max_lifetime) = (Duration::from_secs(3), Duration::from_secs(5));
    (timing.rotation, timing.overlap) = (Duration::from_millis(6_300), Duration::from_secs(9));
    config
}

pub(crate) async fn run(broken: &mut Broken) -> Result<()> {
    let issuer = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = issuer.spawn(live()).await?;
    issuer.shutdown_background();
    outcome?.report(broken);
    Ok(())
}

/// Plays all acts; the fleets, and what is in front of them, live on this runtime.
async fn live() -> Result<Outcome> {
    let directory = std::env::temp_dir().join(format!("countersign-switch-{}", std::process::id()));
    let ground = Ground { directory, retired: Arc::default() };
    let front = Front::default();
    let address = front.serve().await?;
    let blue = Fleet::start("blue", blue(), &ground).await?;
    front.set(&[&blue], &[&blue]);

    let mut services = Vec::new();
    let mut crowds = Vec::new();
    for number in 0..SERVICES {
        let auth = JwtAuth::new(format!("http://{address}/jwks.json")).issuer(ISSUER).audience(AUDIENCE);
        // What the answers say counts, however short it is.
        let server = Server::start(auth.leeway(Duration::ZERO).default_lifetime(Duration::from_secs(1))).await?;
        let (size, period) = (CONNECTIONS / SERVICES, Duration::from_secs(CONNECTIONS.into()) / RATE);
        let shown = front.clone();
        let tokens = move |n: u32| shown.token(n * SERVICES + number);
        crowds.push(Crowd::gather(server.address, size, period, tokens).await?);
        services.push(server);
    }
    let begun = Instant::now();
    let [alone, is_there, both, took_over] = ACTS;
    sleep(alone.1).await;
    let green = Fleet::start("green", green(), &ground).await?;
    front.set(&[&blue, &green], &[&blue]);
    sleep(is_there.1).await;
    front.set(&[&blue, &green], &[&blue, &green]);
    sleep(both.1).await;
    front.set(&[&green], &[&green]);
    drop(blue);
    sleep(took_over.1).await;

    let mut seen = Vec::new();
    for (crowd, number) in crowds.into_iter().zip(0..) {
        let all = crowd.disperse().await?.into_iter().flatten();
        seen.extend(all.map(|seen| Seen { number: seen.number * SERVICES + number, ..seen }));
    }
    let took = begun.elapsed();
    let stage = std::mem::take(&mut *lock(&front.0));
    let retired = lock(&ground.retired).clone();
    Ok(Outcome { seen, took, shown: stage.shown, signed: stage.signed, unsigned: stage.unsigned, retired })
}

/// What became of it.
struct Outcome {
    seen: Vec<Seen>,
    took: Duration,
    shown: BTreeMap<u32, (Instant, &'static str)>,
    /// The keys that have signed a token that was shown.
    signed: BTreeSet<String>,
    unsigned: usize,
    /// The keys that have gone all the way.
    retired: Vec<String>,
}

impl Outcome {
    /// Prints its rows, and says which rules it broke.
    fn report(&self, broken: &mut Broken) {
        println!(
            "| token of | signed by | requests | 200 | refused | expired on the way |\n|---|---|---:|---:|---:|---:|"
        );
        let mut rows = BTreeMap::<_, [usize; 3]>::new();
        let mut refused = Vec::new();
        for seen in &self.seen {
            let Some((until, by)) = self.shown.get(&seen.number) else { continue };
            let [accepted, rejected, late] = rows.entry((Reverse(seen.name), *by)).or_default();
            match seen.answer.status {
                200 => *accepted += 1,
                _ if seen.done() >= *until => *late += 1,
                status => {
                    *rejected += 1;
                    refused.push(status);
                }
            }
        }
        for ((Reverse(name), by), [accepted, rejected, late]) in &rows {
            let all = accepted + rejected + late;
            println!("| {name} | {by} | {all} | {accepted} | {rejected} | {late} |");
        }
        let accepted = |name: &str, by: &str| rows.get(&(Reverse(name), by)).map_or(0, |[accepted, ..]| *accepted);
        let all = self.seen.len();
        let gone = self.signed.iter().filter(|kid| self.retired.contains(kid)).count();
        let (seconds, keys) = (self.took.as_secs_f64(), self.signed.len());
        println!("\n{all} requests in {seconds:.1} s; {keys} keys have signed, {gone} of them are retired by now");
        broken.expect("switch: nobody is refused", refused.is_empty(), || format!("{refused:?}"));
        for (name, by) in [(ACTIVE, "blue"), (ACTIVE, "green"), (PAST, "blue"), (PAST, "green")] {
            broken.expect(&format!("switch: tokens of {name}, by {by}"), accepted(name, by) > 0, || "none".to_owned());
        }
        broken.expect("switch: keys have gone all the way", gone > 0, || format!("{keys} have signed"));
        broken.expect("switch: whoever is to sign signs", self.unsigned * 100 <= all, || self.unsigned.to_string());
        let due = (self.took.as_secs_f64() * f64::from(RATE)) as usize;
        broken.expect("switch: the load was there", all >= due / 2, || format!("{all} of {due}"));
    }
}

/// What all nodes share, and nobody else needs.
fn keks() -> Result<KekRing> {
    Ok(KekRing::new([Kek::parse(&std::array::from_fn::<u8, 32, _>(|at| at as u8 ^ 0x80))?])?)
}

/// Some nodes of one configuration.
#[derive(Clone)]
struct Fleet {
    name: &'static str,
    slots: Vec<String>,
    minters: Vec<Minter>,
    sets: Vec<JwksService>,
}

impl Fleet {
    /// Starts it, and waits until all of it signs in all slots.
    async fn start(name: &'static str, config: RingConfig, ground: &Ground) -> Result<Self> {
        let slots = config.slots.iter().map(|slot| slot.name.clone()).collect();
        let mut rings = Vec::new();
        for _ in 0..NODES {
            let store = DirectoryStore::open(&ground.directory)?;
            let ring = Ring::builder(ISSUER, config.clone(), Arc::new(store), keks()?);
            let retired = Arc::clone(&ground.retired);
            let ring = ring.on_event(move |event| {
                if let RingEvent::Note(Note::Saved { moves, .. }) = event {
                    let gone = moves.iter().filter(|(_, state)| *state == KeyState::Retired);
                    lock(&retired).extend(gone.map(|(kid, _)| kid.clone()));
                }
            });
            rings.push(ring.start().await?);
        }
        for ring in &rings {
            ring.ready_within(PATIENCE).await.map_err(|_| format!("{name} does not sign"))?;
        }
        let (minters, sets) = (rings.iter().map(Ring::minter).collect(), rings.iter().map(Ring::jwks).collect());
        Ok(Self { name, slots, minters, sets })
    }
}

/// What the fleets share.
struct Ground {
    directory: PathBuf,
    /// The keys that have gone all the way.
    retired: Arc<Mutex<Vec<String>>>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        // It is a directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What stands in front of the fleets: which of them serve the key set and which sign.
#[derive(Clone, Default)]
struct Front(Arc<Mutex<Stage>>);

#[derive(Default)]
struct Stage {
    serving: Vec<JwksService>,
    served: usize,
    signing: Vec<Fleet>,
    /// By slot: the key that has signed the last token.
    signs: BTreeMap<String, String>,
    /// By `kid`: the token of it that lives longest.
    last: BTreeMap<String, Token>,
    /// By the number of the request: until when its token lives, and who has signed it.
    shown: BTreeMap<u32, (Instant, &'static str)>,
    /// The keys that have signed.
    signed: BTreeSet<String>,
    /// Requests for which nobody signed.
    unsigned: usize,
}

#[derive(Clone)]
struct Token {
    text: Arc<str>,
    kid: String,
    slot: String,
    by: &'static str,
    /// In whole seconds, as others read it, on the clock of this machine.
    until: Instant,
}

impl Front {
    fn set(&self, serving: &[&Fleet], signing: &[&Fleet]) {
        let mut stage = lock(&self.0);
        stage.serving = serving.iter().flat_map(|fleet| fleet.sets.iter().cloned()).collect();
        stage.signing = signing.iter().map(|fleet| (*fleet).clone()).collect();
    }

    /// Serves the key set of one node after the other.
    async fn serve(&self) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let front = self.clone();
        let set = get(move |request: Request<Body>| {
            let set = front.next_set();
            async move {
                let Some(set) = set else { return StatusCode::BAD_GATEWAY.into_response() };
                match set.oneshot(request).await {
                    Ok(answer) => answer.map(Body::new),
                    Err(never) => match never {},
                }
            }
        });
        let app = Router::new().route("/jwks.json", set);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(address)
    }

    fn next_set(&self) -> Option<JwksService> {
        let mut stage = lock(&self.0);
        stage.served += 1;
        let nodes = stage.serving.len();
        stage.serving.get(stage.served.checked_rem(nodes)?).cloned()
    }

    /// A token for the request of that number: one that was signed just now, or, every second time, one of a key that
    /// signs no more.
    fn token(&self, number: u32) -> Option<Shown> {
        let mut stage = lock(&self.0);
        let fresh = stage.sign(number);
        if let Some(fresh) = &fresh {
            stage.signs.insert(fresh.slot.clone(), fresh.kid.clone());
            stage.signed.insert(fresh.kid.clone());
            stage.last.insert(fresh.kid.clone(), fresh.clone());
        } else {
            stage.unsigned += 1;
        }
        let horizon = Instant::now() + LEAST_LIFE;
        stage.last.retain(|_, token| token.until > horizon);
        let is_old = |token: &&Token| stage.signs.get(&token.slot) != Some(&token.kid);
        let old: Vec<_> = stage.last.values().filter(is_old).collect();
        let turn = (number / SERVICES) as usize;
        let old = (turn % 2 == 1).then(|| old.get(turn.checked_rem(old.len())?).copied()).flatten().cloned();
        let (name, token) = match (old, fresh) {
            (Some(token), _) => (PAST, token),
            (None, Some(token)) => (ACTIVE, token),
            // Nobody signs at this moment; that is counted.
            (None, None) => (PAST, stage.last.values().next()?.clone()),
        };
        stage.shown.insert(number, (token.until, token.by));
        Some((name, token.text))
    }
}

impl Stage {
    fn sign(&self, number: u32) -> Option<Token> {
        let turn = (number / SERVICES) as usize / 2;
        let fleet = self.signing.get(turn.checked_rem(self.signing.len())?)?;
        let turn = turn / self.signing.len();
        let slot = &fleet.slots[turn % fleet.slots.len()];
        let minter = &fleet.minters[(turn / fleet.slots.len()) % fleet.minters.len()];
        let mint = Mint::new(PATIENCE).or_shorter().subject("ada").client_id("web").audience(AUDIENCE);
        let minted = minter.mint(slot, &mint).ok()?;
        // In this order it does not live longer here than it does.
        let now = Instant::now();
        let until = now + minted.expires_at.saturating_since(SystemTime::now().into());
        Some(Token { text: minted.token.into(), kid: minted.kid, slot: slot.clone(), by: fleet.name, until })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
