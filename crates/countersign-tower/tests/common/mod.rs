//! An issuer, a clock that stands still, and a source of keys that answers when the test says so.
#![allow(dead_code, unreachable_pub, reason = "each test file is its own crate and uses its own part")]

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use countersign_claims::{Policy, UnixTime};
use countersign_token::{Algorithm, Answer, Ask, KeySet, KeySource, Miss, SigningKey};
use countersign_tower::{Judged, Observer, RequireJwtLayer};
use countersign_verifier::Verifier;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use serde_json::json;
use tokio::sync::oneshot;

pub const NOW: i64 = 1_800_000_000;
pub const AUDIENCE: &str = "orders";

/// Who signs, under one name.
pub struct Issuer(pub SigningKey);

impl Issuer {
    pub fn new() -> Self {
        Self(SigningKey::generate(Algorithm::Es256).unwrap().with_kid("k1"))
    }

    pub fn keys(&self) -> KeySet {
        KeySet::new([self.0.verifying_key().unwrap()])
    }

    /// Good for a minute, with these scopes.
    pub fn token(&self, scopes: &str) -> String {
        self.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "sub": "ada", "scope": scopes }))
    }

    pub fn sign(&self, claims: &serde_json::Value) -> String {
        self.0.sign(claims).unwrap()
    }

    /// With all its keys at hand.
    pub fn layer(&self) -> RequireJwtLayer<KeySet> {
        layer(self.keys())
    }
}

pub fn layer<K: KeySource>(keys: K) -> RequireJwtLayer<K> {
    RequireJwtLayer::new(Verifier::new(keys, Policy::new().audience(AUDIENCE))).realm("orders").clock(now)
}

pub fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

pub fn request(token: &str) -> Request<()> {
    Request::builder().header(AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap()
}

/// The headers of a response as text, sorted.
pub fn headers<B>(response: &Response<B>) -> Vec<String> {
    let mut lines: Vec<_> =
        response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

/// What an observer has heard: the outcome, the reason or `-`, and whether a handler has said so.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// All of it so far, once.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Heard {
    fn judged(&self, judged: &Judged<'_>) {
        let (outcome, reason) = (judged.outcome().name(), judged.reason().unwrap_or("-"));
        let by = if judged.is_by_handler() { " by handler" } else { "" };
        self.0.lock().unwrap().push(format!("{outcome} {reason}{by}"));
    }
}

/// Keys that are there when [`publish`](Self::publish) says so, and answers that come when [`answer`](Self::answer) says so.
#[derive(Clone, Default)]
pub struct ScriptedKeys(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    keys: Option<Arc<KeySet>>,
    /// What is said at once; without it, those who ask wait.
    at_once: Option<Answer>,
    waiters: Vec<oneshot::Sender<Answer>>,
    asked: usize,
}

impl ScriptedKeys {
    pub fn answering(answer: Answer) -> Self {
        let keys = Self::default();
        keys.0.lock().unwrap().at_once = Some(answer);
        keys
    }

    pub fn publish(&self, keys: KeySet) {
        self.0.lock().unwrap().keys = Some(Arc::new(keys));
    }

    /// Ends the wait of all who wait.
    pub fn answer(&self, answer: Answer) {
        let waiters = std::mem::take(&mut self.0.lock().unwrap().waiters);
        for waiter in waiters {
            // Who has gone away needs no answer.
            let _ = waiter.send(answer);
        }
    }

    /// How many have asked so far.
    pub fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    /// How many still wait.
    pub fn waiting(&self) -> usize {
        self.0.lock().unwrap().waiters.iter().filter(|waiter| !waiter.is_closed()).count()
    }
}

impl KeySource for ScriptedKeys {
    type Snapshot<'a> = Arc<KeySet>;
    type Waiting = Waiting;

    fn snapshot(&self) -> Option<Arc<KeySet>> {
        self.0.lock().unwrap().keys.clone()
    }

    fn ask(&self, _: Miss<'_>) -> Ask<Waiting> {
        let mut script = self.0.lock().unwrap();
        script.asked += 1;
        if let Some(answer) = script.at_once {
            return Ask::Answered(answer);
        }
        let (sender, receiver) = oneshot::channel();
        script.waiters.push(sender);
        Ask::Wait(Waiting(receiver))
    }
}

pub struct Waiting(oneshot::Receiver<Answer>);

impl Future for Waiting {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let gone = Answer::NotYet { retry_after: Duration::from_secs(1) };
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(gone))
    }
}
