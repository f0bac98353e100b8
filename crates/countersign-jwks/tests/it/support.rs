//! What the tests of this crate share: key sets, and a `Fetch` that does as it is told.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use countersign_jwks::{Keys, Remote};
use countersign_token::{
    Algorithm, Answer, Ask, Fetch, FetchError, FetchRequest, Fetched, KeySource, Miss, SigningKey,
};
use serde_json::{Value, json};

/// Public JWKs named `k0`, `k1`, …
pub(crate) static JWKS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let jwk =
        |index| SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid(format!("k{index}")).public_jwk().unwrap();
    (0..8).map(jwk).collect()
});

/// The document with these keys.
pub(crate) fn document(keys: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let keys: Vec<_> = keys.into_iter().map(|index| &JWKS[index]).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// How a scripted fetch goes.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    Keys(Vec<usize>),
    Body(u16, Vec<u8>),
    Answer(Box<Fetched>),
    Hang,
    Panic,
}

/// Plays its turns in order, then repeats the last for ever. Clones are the same script.
#[derive(Clone)]
pub(crate) struct Script(Arc<Inner>);

struct Inner {
    turns: Mutex<VecDeque<Turn>>,
    takes: Duration,
    begun: AtomicUsize,
    in_flight: AtomicUsize,
    requests: Mutex<Vec<FetchRequest>>,
}

impl Script {
    pub(crate) fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::taking(Duration::from_millis(10), turns)
    }

    pub(crate) fn taking(takes: Duration, turns: impl IntoIterator<Item = Turn>) -> Self {
        let turns = Mutex::new(turns.into_iter().collect());
        let (begun, in_flight, requests) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::default());
        Self(Arc::new(Inner { turns, takes, begun, in_flight, requests }))
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys::remote(self.remote())
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::new("https://issuer.test/keys").unwrap().fetch(self.clone())
    }

    /// From now on.
    pub(crate) fn set(&self, turn: Turn) {
        *self.0.turns.lock().unwrap() = VecDeque::from([turn]);
    }

    pub(crate) fn fetches(&self) -> usize {
        self.0.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<FetchRequest> {
        self.0.requests.lock().unwrap().clone()
    }

    fn turn(&self) -> Turn {
        let mut turns = self.0.turns.lock().unwrap();
        if turns.len() > 1 { turns.pop_front().unwrap() } else { turns.front().unwrap().clone() }
    }
}

/// Counts a fetch as in flight until it is dropped, however that comes about.
struct InFlight(Arc<Inner>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fetch for Script {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(async move {
            self.0.begun.fetch_add(1, Ordering::SeqCst);
            assert_eq!(self.0.in_flight.fetch_add(1, Ordering::SeqCst), 0, "two fetches in flight");
            let _in_flight = InFlight(Arc::clone(&self.0));
            self.0.requests.lock().unwrap().push(request);
            let turn = self.turn();
            tokio::time::sleep(self.0.takes).await;
            match turn {
                Turn::Hang => std::future::pending().await,
                turn => Ok(played(turn)),
            }
        })
    }
}

/// A network of documents by URL; what is not there is 404. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Sites(Arc<Mutex<Net>>);

#[derive(Default)]
struct Net {
    answers: HashMap<String, Turn>,
    requests: Vec<FetchRequest>,
    in_flight: usize,
    most_in_flight: usize,
}

impl Sites {
    pub(crate) fn set(&self, url: &str, turn: Turn) {
        self.0.lock().unwrap().answers.insert(url.into(), turn);
    }

    /// Metadata of `issuer` at `url`.
    pub(crate) fn metadata(&self, url: &str, issuer: &str, jwks_uri: &str) {
        self.set(url, Turn::Body(200, json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string().into_bytes()));
    }

    pub(crate) fn requests(&self) -> Vec<FetchRequest> {
        self.0.lock().unwrap().requests.clone()
    }

    /// What was asked for so far, in order; and forgets it.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().requests).into_iter().map(|request| request.url).collect()
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.0.lock().unwrap().most_in_flight
    }
}

impl Fetch for Sites {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(async move {
            let turn = {
                let mut net = self.0.lock().unwrap();
                net.in_flight += 1;
                net.most_in_flight = net.most_in_flight.max(net.in_flight);
                let turn = net.answers.get(&request.url).cloned();
                net.requests.push(request);
                turn
            };
            tokio::time::sleep(Duration::from_millis(10)).await;
            let fetched = match turn {
                Some(Turn::Hang) => {
                    self.0.lock().unwrap().in_flight -= 1;
                    std::future::pending().await
                }
                turn => played(turn.unwrap_or(Turn::Body(404, Vec::new()))),
            };
            self.0.lock().unwrap().in_flight -= 1;
            Ok(fetched)
        })
    }
}

fn played(turn: Turn) -> Fetched {
    let mut fetched = Fetched::default();
    (fetched.status, fetched.body) = match turn {
        Turn::Answer(answer) => return *answer,
        Turn::Keys(keys) => (200, document(keys)),
        Turn::Body(status, body) => (status, body),
        Turn::Hang => unreachable!("it does not answer"),
        Turn::Panic => panic!("as scripted"),
    };
    fetched
}

/// Looks `kid` up as a verifier does, waiting if there is something to wait for. `None`: it was there at once.
pub(crate) async fn look_up(keys: &Keys, kid: &str) -> Option<Answer> {
    match look(keys, kid)? {
        Ask::Answered(answer) => Some(answer),
        Ask::Wait(waiting) => Some(waiting.await),
    }
}

/// The same without waiting.
pub(crate) fn look(keys: &Keys, kid: &str) -> Option<Ask<countersign_jwks::Waiting>> {
    let generation = match keys.snapshot() {
        Some(set) if set.candidates(Some(kid), Algorithm::Ed25519).next().is_some() => return None,
        Some(set) => Some(set.generation()),
        None => None,
    };
    Some(keys.ask(Miss { generation, kid: Some(kid), algorithm: Algorithm::Ed25519, token: None }))
}
