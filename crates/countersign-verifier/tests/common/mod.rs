//! A key source that does what a test tells it, and remembers what it was asked; and tokens signed in earnest.
#![allow(dead_code, reason = "each test binary uses its share")]

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_claims::{Policy, UnixTime, Verified};
use countersign_token::{Algorithm, AlgorithmSet, Answer, Ask, KeySet, KeySource, Miss, SigningKey};
use countersign_verifier::{Refusal, Verifier};

/// What a source was asked for: generation, `kid`, algorithm.
pub(crate) type Asked = (Option<u64>, Option<String>, Algorithm);

pub(crate) struct Source {
    state: Mutex<State>,
    polls: AtomicUsize,
    /// Everybody waits, even for an answer that is there.
    slow: bool,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// `None`: the answer comes later.
    answer: Option<Answer>,
    asked: Vec<Asked>,
    mismatches: Vec<Asked>,
}

impl Source {
    /// Has `keys` and gives `answer` at once to whatever it is asked.
    pub(crate) fn answering(keys: impl Into<Option<KeySet>>, answer: Answer) -> Arc<Self> {
        Self::new(keys.into(), Some(answer), false)
    }

    /// Has `keys` and lets everybody wait until [`answer`](Self::answer).
    pub(crate) fn slow(keys: impl Into<Option<KeySet>>) -> Arc<Self> {
        Self::new(keys.into(), None, true)
    }

    fn new(keys: Option<KeySet>, answer: Option<Answer>, slow: bool) -> Arc<Self> {
        let state = State { keys: keys.map(Arc::new), answer, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), polls: AtomicUsize::new(0), slow })
    }

    pub(crate) fn publish(&self, keys: KeySet) {
        self.state().keys = Some(Arc::new(keys));
    }

    pub(crate) fn withdraw(&self) {
        self.state().keys = None;
    }

    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        self.state().keys.clone()
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.state().answer = Some(answer);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    pub(crate) fn mismatches(&self) -> Vec<Asked> {
        self.state().mismatches.clone()
    }

    /// Starts the list of what was asked anew.
    pub(crate) fn forget(&self) {
        self.state().asked.clear();
    }

    /// How often somebody has polled for an answer.
    pub(crate) fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }
}

/// The [`Source`] as a verifier holds it, while the test holds the other end.
pub(crate) struct Keys(pub(crate) Arc<Source>);

impl KeySource for Keys {
    type Snapshot<'a> = Arc<KeySet>;
    type Waiting = Waiting;

    fn snapshot(&self) -> Option<Arc<KeySet>> {
        self.0.state().keys.clone()
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Waiting> {
        let mut state = self.0.state();
        state.asked.push(asked(miss));
        match state.answer {
            Some(answer) if !self.0.slow => Ask::Answered(answer),
            _ => Ask::Wait(Waiting(Arc::clone(&self.0))),
        }
    }

    fn signature_mismatch(&self, miss: Miss<'_>) {
        self.0.state().mismatches.push(asked(miss));
    }
}

fn asked(miss: Miss<'_>) -> Asked {
    (miss.generation, miss.kid.map(str::to_owned), miss.algorithm)
}

#[derive(Debug)]
pub(crate) struct Waiting(Arc<Source>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl Future for Waiting {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        self.0.state().answer.map_or(Poll::Pending, Poll::Ready)
    }
}

/// Polls once, as an executor would.
pub(crate) fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn verifier(source: &Arc<Source>) -> Verifier<Keys> {
    Verifier::new(Keys(Arc::clone(source)), Policy::new().issuer(ISSUER).audience("api"))
}

/// A verifier with these keys and no other, for every algorithm.
pub(crate) fn static_verifier<'s>(signers: impl IntoIterator<Item = &'s SigningKey>) -> Verifier<KeySet> {
    let keys = signers.into_iter().map(|signer| signer.verifying_key().expect("a good key"));
    Verifier::new(KeySet::new(keys), Policy::new().issuer(ISSUER).audience("api"))
        .algorithms(Algorithm::ALL.into_iter().collect::<AlgorithmSet>())
}

pub(crate) fn key_set(signer: &SigningKey) -> KeySet {
    KeySet::new([signer.verifying_key().expect("a good key")])
}

pub(crate) const ISSUER: &str = "https://issuer.example";

/// Good claims until 2000.
pub(crate) const CLAIMS: &str = r#"{"iss":"https://issuer.example","aud":"api","sub":"ada","iat":900,"exp":2000}"#;

pub(crate) fn signer(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::Ed25519).expect("randomness").with_kid(kid)
}

/// A token with these claims and the header that the key gives it.
pub(crate) fn token(signer: &SigningKey, claims: &str) -> String {
    let mut header = format!(r#"{{"alg":"{}","#, signer.algorithm());
    if let Some(kid) = signer.kid() {
        header += &format!(r#""kid":"{kid}","#);
    }
    token_with_header(signer, &(header + r#""typ":"JWT"}"#), claims)
}

/// A token with exactly this header and these claims.
pub(crate) fn token_with_header(signer: &SigningKey, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(claims));
    let signature = signer.signature(signed.as_bytes()).expect("it can sign");
    format!("{signed}.{}", base64url(signature))
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// `accepted`, or the code of the refusal.
pub(crate) fn code(outcome: Result<Verified, Refusal>) -> &'static str {
    match outcome {
        Ok(_) => "accepted",
        Err(refusal) => refusal.code(),
    }
}

pub(crate) fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}
