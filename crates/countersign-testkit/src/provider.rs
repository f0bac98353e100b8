use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use countersign_token::Algorithm;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::answer::Answer;
use crate::keys::TestKey;
use crate::server::Server;
use crate::token::Token;

/// How many requests are remembered, the latest ones; a test may send floods.
pub const MAX_RECORDED_REQUESTS: usize = 1000;

/// Where the keys are.
pub(crate) const JWKS_PATH: &str = "/jwks.json";

/// Where [`Answer::Redirect`] leads.
pub(crate) const ELSEWHERE_PATH: &str = "/elsewhere/jwks.json";

/// An issuer on a real loopback socket that does what a test tells it to. Clones are the same provider; it ends with the
/// last of them.
///
/// It signs with one of its keys and publishes those that it has [published](Self::publish), at
/// [`jwks_url`](Self::jwks_url). It also says where they are in the metadata of OpenID Connect Discovery 1.0 §4 and RFC 8414 §3.
///
/// It runs in a thread and a runtime of its own, so that it answers whatever the test's runtime is doing, works in tests
/// without one, and is on real time while the test's clock is paused. Two providers that are there at the same time never
/// have a key in common.
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign::JwtAuth;
/// use countersign_testkit::{Answer, IdentityProvider};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // What is to be tested: a service that trusts this issuer.
/// let idp = IdentityProvider::start();
/// let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("orders");
/// let app = Router::new().route("/", get(async || "hello")).layer(auth);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let url = format!("http://{}/", listener.local_addr()?);
/// tokio::spawn(async move { axum::serve(listener, app).await });
///
/// let status = async |token: String| reqwest::Client::new().get(&url).bearer_auth(token).send().await.map(|r| r.status());
/// assert_eq!(status(idp.token("orders").sign()).await?, 200);
/// assert_eq!(status(idp.token("invoices").sign()).await?, 401);
///
/// // A rotation that nobody has announced refuses nobody.
/// let before = idp.token("orders").sign();
/// idp.rotate();
/// assert_eq!(status(idp.token("orders").sign()).await?, 200);
/// assert_eq!(status(before).await?, 200);
/// assert_eq!(idp.fetches(), 2);
///
/// // An issuer that is down does no harm to whoever has its keys.
/// idp.set_answer(Answer::status(500));
/// assert_eq!(status(idp.token("orders").sign()).await?, 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IdentityProvider(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    /// `None` while it is stopped.
    server: Mutex<Option<Server>>,
    /// Which of the process's keys are its own.
    seat: usize,
}

pub(crate) struct Shared {
    address: SocketAddr,
    issuer: String,
    state: Mutex<State>,
    fetches: watch::Sender<usize>,
}

struct State {
    signing: TestKey,
    published: Vec<TestKey>,
    /// The number of the next key.
    next: usize,
    headers: HeaderMap,
    answer: Answer,
    once: VecDeque<Answer>,
    requests: VecDeque<RecordedRequest>,
}

/// A request that reached an [`IdentityProvider`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// When its headers had been read.
    pub at: Instant,
    /// Its target, with the query.
    pub path: String,
    /// Its header fields.
    pub headers: HeaderMap,
}

impl IdentityProvider {
    /// Starts a provider with one key, for ES256, which it signs with and publishes.
    ///
    /// # Panics
    /// If there is no free port on loopback, or no more threads.
    #[must_use]
    pub fn start() -> Self {
        Self::with_algorithm(Algorithm::Es256)
    }

    /// As [`start`](Self::start), for another algorithm. All keys that it makes later are for this one too.
    ///
    /// # Panics
    /// As [`start`](Self::start), and for HMAC, whose keys nobody publishes.
    #[must_use]
    pub fn with_algorithm(algorithm: Algorithm) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), algorithm)
    }

    /// As [`with_algorithm`](Self::with_algorithm), at this address: for a provider that comes up after the service that
    /// asks it.
    ///
    /// # Panics
    /// As [`with_algorithm`](Self::with_algorithm), and if the address is taken or not a loopback address: it hands out
    /// tokens to nobody but the test.
    #[must_use]
    pub fn start_at(address: SocketAddr, algorithm: Algorithm) -> Self {
        assert!(!algorithm.is_symmetric(), "nobody publishes a shared secret");
        assert!(address.ip().is_loopback(), "{address} is not a loopback address");
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seat = seats::take();
        let signing = TestKey::nth(algorithm, first_key_of(seat));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        let state = State {
            published: vec![signing.clone()],
            signing,
            next: first_key_of(seat) + 1,
            headers,
            answer: Answer::Keys,
            once: VecDeque::new(),
            requests: VecDeque::new(),
        };
        let shared = Arc::new(Shared {
            address,
            issuer: format!("http://{address}"),
            state: Mutex::new(state),
            fetches: watch::Sender::new(0),
        });
        let server = Mutex::new(Some(Server::start(listener, Arc::clone(&shared))));
        Self(Arc::new(Running { shared, server, seat }))
    }

    /// `iss` of its tokens, and the origin of its URLs.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.shared.issuer
    }

    /// Where its keys are.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS_PATH}", self.issuer())
    }

    /// Where it listens, also while it is stopped.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.shared.address
    }

    // --- Tokens and keys

    /// A good token of this issuer's for that audience, signed with [its key](Self::key) as of now.
    pub fn token(&self, audience: &str) -> Token {
        Token::new(&self.key()).issuer(self.issuer()).audience(audience)
    }

    /// The key that it signs with.
    #[must_use]
    pub fn key(&self) -> TestKey {
        self.state().signing.clone()
    }

    /// The keys that it publishes, the oldest first.
    #[must_use]
    pub fn published(&self) -> Vec<TestKey> {
        self.state().published.clone()
    }

    /// Publishes a new key beside the others, and does not sign with it yet: what a careful issuer does before it rotates.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn announce(&self) -> TestKey {
        let key = self.new_key();
        self.state().published.push(key.clone());
        key
    }

    /// Signs with the next key: the one that was [announced](Self::announce) first and has not been used, or else a new one,
    /// which is published at this moment. The old one stays published.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn rotate(&self) -> TestKey {
        let announced = {
            let state = self.state();
            let after = state.published.iter().position(|key| key.is(&state.signing)).map_or(0, |at| at + 1);
            state.published.get(after).cloned()
        };
        let key = announced.unwrap_or_else(|| self.announce());
        self.state().signing = key.clone();
        key
    }

    /// Signs with a new key and publishes no other: an emergency rotation.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn replace_keys(&self) -> TestKey {
        let key = self.new_key();
        self.publish([key.clone()]);
        self.state().signing = key.clone();
        key
    }

    /// Publishes that key no longer. If it is the one that is signed with, so it remains.
    pub fn withdraw(&self, key: &TestKey) {
        self.state().published.retain(|published| !(published.is(key) && published.kid() == key.kid()));
    }

    /// Publishes these keys and no others, whatever is signed with.
    pub fn publish(&self, keys: impl IntoIterator<Item = TestKey>) {
        self.state().published = keys.into_iter().collect();
    }

    /// Signs with that key from now on, published or not.
    pub fn sign_with(&self, key: &TestKey) {
        self.state().signing = key.clone();
    }

    // --- How it answers

    /// Answers like this from now on, when it is asked for its keys.
    pub fn set_answer(&self, answer: Answer) {
        self.state().answer = answer;
    }

    /// Answers like this once, after what it has been told before to do once; then as it did before.
    pub fn answer_once(&self, answer: Answer) {
        self.state().once.push_back(answer);
    }

    /// Sends its keys with this header field from now on, such as `cache-control` or `etag`.
    ///
    /// # Panics
    /// If they are not a field name and value.
    pub fn set_header(&self, name: &str, value: &str) {
        let name: HeaderName = name.parse().expect("a field name");
        self.state().headers.insert(name, value.parse().expect("a field value"));
    }

    /// Goes down: closes its connections, and lets nobody connect.
    pub fn stop(&self) {
        drop(lock(&self.0.server).take());
    }

    /// Comes up again at the same address, with the same keys. Does nothing if it is up.
    ///
    /// # Panics
    /// If somebody else has taken the address meanwhile.
    pub fn resume(&self) {
        let mut server = lock(&self.0.server);
        if server.is_none() {
            let listener = TcpListener::bind(self.address()).expect("nobody has taken the address meanwhile");
            *server = Some(Server::start(listener, Arc::clone(&self.0.shared)));
        }
    }

    // --- What it has seen

    /// How often its keys have been asked for, whatever the answer was.
    #[must_use]
    pub fn fetches(&self) -> usize {
        *self.0.shared.fetches.borrow()
    }

    /// Waits until its keys have been asked for that often in all. Needs no particular runtime, and has no time-out.
    pub async fn fetched(&self, times: usize) {
        // It cannot be closed while we hold it.
        let _ = self.0.shared.fetches.subscribe().wait_for(|fetches| *fetches >= times).await;
    }

    /// The latest requests, the oldest of them first, for whatever path: at most [`MAX_RECORDED_REQUESTS`].
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state().requests.iter().cloned().collect()
    }

    fn new_key(&self) -> TestKey {
        let mut state = self.state();
        let n = state.next;
        state.next += 1;
        let algorithm = state.signing.algorithm();
        drop(state);
        TestKey::nth(algorithm, n)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.shared.state)
    }
}

/// Shows where it is.
impl fmt::Debug for IdentityProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityProvider").field("jwks_url", &self.jwks_url()).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        seats::give_back(self.seat);
    }
}

impl Shared {
    /// Takes note of a request, and says what to do with it.
    pub(crate) fn receive(&self, path: &str, headers: &HeaderMap) -> Answer {
        let mut state = lock(&self.state);
        if state.requests.len() == MAX_RECORDED_REQUESTS {
            state.requests.pop_front();
        }
        let request = RecordedRequest { at: Instant::now(), path: path.to_owned(), headers: headers.clone() };
        state.requests.push_back(request);
        match path {
            JWKS_PATH => {
                let answer = state.once.pop_front().unwrap_or_else(|| state.answer.clone());
                drop(state);
                self.fetches.send_modify(|fetches| *fetches += 1);
                answer
            }
            ELSEWHERE_PATH => Answer::Keys,
            "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => {
                let jwks_uri = format!("{}{JWKS_PATH}", self.issuer);
                Answer::body(json!({ "issuer": self.issuer, "jwks_uri": jwks_uri }).to_string())
            }
            _ => Answer::status(404),
        }
    }

    /// The keys as they are published at this moment, and the header fields that go with them.
    pub(crate) fn keys(&self) -> (HeaderMap, Vec<u8>) {
        let state = lock(&self.state);
        let keys: Vec<Value> = state.published.iter().map(TestKey::public_jwk).collect();
        (state.headers.clone(), json!({ "keys": keys }).to_string().into_bytes())
    }
}

/// A test that panics elsewhere must not take the provider with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More keys than one provider makes in a test.
const KEYS_PER_SEAT: usize = 1000;

fn first_key_of(seat: usize) -> usize {
    seat * KEYS_PER_SEAT
}

/// Which numbers of keys a provider may use. Those of a provider that has ended serve the next one: it need not make any.
mod seats {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

    pub(super) fn take() -> usize {
        let mut taken = super::lock(&TAKEN);
        let seat = (0..).find(|seat| !taken.contains(seat)).expect("there are fewer providers than numbers");
        taken.insert(seat);
        seat
    }

    pub(super) fn give_back(seat: usize) {
        super::lock(&TAKEN).remove(&seat);
    }
}
