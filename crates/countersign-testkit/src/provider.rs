use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_token::Algorithm;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::sync::watch;

use crate::answer::Answer;
use crate::keys::TestKey;
use crate::server::Server;
use crate::token::Token;

/// How many requests are remembered, the latest ones; a test may send floods.
pub const MAX_RECORDED_REQUESTS: usize = 1000;

/// How often [`IdentityProvider::stop`] tries to keep its address, and how long it waits in between: a second is more than a
/// process takes to start.
const MAX_BINDS: u32 = 1000;
const BIND_AGAIN: Duration = Duration::from_millis(1);

/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;

/// Where the attacker's keys are, for those who go and fetch what a token names.
pub(crate) const ATTACKERS_PATH: &str = "/attacker/jwks.json";

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
/// It runs in a thread and a runtime of its own, so that it answers whatever the test's runtime is doing, and works in tests
/// without one. No two providers of a process have the same key under the same name, not even one after the other.
///
/// Do not fetch from it while tokio's clock is paused: a paused clock moves on while a socket is waited for, and time-outs ring
/// before any answer can come. Tests with a paused clock want a `Fetch` without a socket.
///
/// A service notices new keys when it needs them, or when those that it has are due. A test that does not want to wait for either
/// says `auth.handle().keys().refresh().await`; after an outage, `auth.handle().keys().ready().await`.
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
    server: Mutex<Listening>,
}

/// Whether it is up. Down, it keeps its address, so that nobody else gets what is sent there.
enum Listening {
    Up(#[expect(dead_code, reason = "it serves until it is dropped")] Server),
    Down(Socket),
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
    /// Published and not used yet, the oldest first.
    announced: VecDeque<TestKey>,
    taken: fresh::Taken,
    headers: HeaderMap,
    sends_etags: bool,
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
    /// Its target, with the query. Attacks of [`Token::hostile`] lead to `/attacker/…`: nobody may ever ask for that.
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
        let mut taken = fresh::Taken::default();
        let signing = taken.key(algorithm);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        let state = State {
            published: vec![signing.clone()],
            announced: VecDeque::new(),
            signing,
            taken,
            headers,
            sends_etags: false,
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
        let server = Mutex::new(Listening::Up(Server::start(listener, Arc::clone(&shared))));
        Self(Arc::new(Running { shared, server }))
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
        let mut state = self.state();
        state.published.push(key.clone());
        state.announced.push_back(key.clone());
        key
    }

    /// Signs with the next key: the one that was [announced](Self::announce) first and has not been used or withdrawn since, or
    /// else a new one, which is published at this moment. The old one stays published.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn rotate(&self) -> TestKey {
        let is_announced = !self.state().announced.is_empty();
        if !is_announced {
            self.announce();
        }
        let mut state = self.state();
        if let Some(next) = state.announced.pop_front() {
            state.signing = next;
        }
        state.signing.clone()
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
        let mut state = self.state();
        let remains = |other: &TestKey| !(other.is(key) && other.kid() == key.kid());
        state.published.retain(remains);
        state.announced.retain(remains);
    }

    /// Publishes these keys and no others, whatever is signed with.
    pub fn publish(&self, keys: impl IntoIterator<Item = TestKey>) {
        let mut state = self.state();
        state.published = keys.into_iter().collect();
        state.announced.clear();
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

    /// Answers the next request for its keys like this, after the requests for which it has been told so before. After these it
    /// answers as [`set_answer`](Self::set_answer) says.
    pub fn answer_once(&self, answer: Answer) {
        self.state().once.push_back(answer);
    }

    /// Sends its keys with this header field from now on, such as `cache-control`. For `etag` there is
    /// [`send_etags`](Self::send_etags).
    ///
    /// # Panics
    /// If they are not a field name and value.
    pub fn set_header(&self, name: &str, value: &str) {
        let name: HeaderName = name.parse().expect("a field name");
        self.state().headers.insert(name, value.parse().expect("a field value"));
    }

    /// Sends its keys with an `ETag` from now on, another one for other keys, and answers 304 to requests that name it.
    pub fn send_etags(&self) {
        self.state().sends_etags = true;
    }

    /// Goes down: closes its connections, and lets nobody connect. Its address stays its own.
    ///
    /// # Panics
    /// If the system has no more sockets.
    pub fn stop(&self) {
        let mut server = lock(&self.0.server);
        if let Listening::Up(_) = *server {
            let domain = Domain::for_address(self.address());
            let reserved = Socket::new(domain, Type::STREAM, None).expect("a socket");
            reserved.set_reuse_address(true).expect("a socket that is not bound yet");
            // Ends the server, and with it its hold on the address.
            *server = Listening::Down(reserved);
            if let Listening::Down(reserved) = &*server {
                // A process that is being started has a copy of the listener until it has become another program.
                let is_bound = (0..MAX_BINDS).any(|attempt| {
                    if attempt > 0 {
                        std::thread::sleep(BIND_AGAIN);
                    }
                    reserved.bind(&self.address().into()).is_ok()
                });
                assert!(is_bound, "the address was ours a moment ago");
                // To be reused by nobody else.
                reserved.set_reuse_address(false).expect("a bound socket");
            }
        }
    }

    /// Comes up again at the same address, with the same keys. Does nothing if it is up.
    ///
    /// # Panics
    /// If the system lets nobody listen.
    pub fn resume(&self) {
        let mut server = lock(&self.0.server);
        if let Listening::Down(reserved) = &*server {
            // Connections of the past are no hindrance to whoever comes next.
            reserved.set_reuse_address(true).expect("a bound socket");
            reserved.listen(BACKLOG).expect("a bound socket can listen");
            let listener = reserved.try_clone().expect("a socket").into();
            *server = Listening::Up(Server::start(listener, Arc::clone(&self.0.shared)));
        }
    }

    // --- What it has seen

    /// How often its keys have been asked for, whatever the answer was.
    #[must_use]
    pub fn fetches(&self) -> usize {
        *self.0.shared.fetches.borrow()
    }

    /// Waits until its keys have been asked for at least that many times since it started. Needs no particular runtime, and has
    /// no time-out.
    pub async fn wait_for_fetches(&self, times: usize) {
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
        let algorithm = state.signing.algorithm();
        state.taken.key(algorithm)
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

impl Shared {
    /// Takes note of a request, and says what to do with it.
    pub(crate) fn receive(&self, path: &str, headers: &HeaderMap) -> Answer {
        let mut state = lock(&self.state);
        if state.requests.len() == MAX_RECORDED_REQUESTS {
            state.requests.pop_front();
        }
        let request = RecordedRequest { at: Instant::now(), path: path.to_owned(), headers: headers.clone() };
        state.requests.push_back(request);
        match path.split('?').next().unwrap_or_default() {
            JWKS_PATH => {
                let answer = state.once.pop_front().unwrap_or_else(|| state.answer.clone());
                drop(state);
                self.fetches.send_modify(|fetches| *fetches += 1);
                answer
            }
            ELSEWHERE_PATH => Answer::Keys,
            ATTACKERS_PATH => {
                let attacker = state.signing.impostor();
                let keys = [attacker.public_jwk(), attacker.with_kid(format!("{}{path}", self.issuer)).public_jwk()];
                Answer::body(json!({ "keys": keys }).to_string())
            }
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
        let body = json!({ "keys": keys }).to_string();
        let mut headers = state.headers.clone();
        if state.sends_etags {
            let mut hasher = DefaultHasher::new();
            body.hash(&mut hasher);
            let etag = format!("\"{:x}\"", hasher.finish());
            headers.insert(header::ETAG, etag.parse().expect("hexadecimal digits"));
        }
        (headers, body.into_bytes())
    }
}

/// A test that panics elsewhere must not take the provider with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys that no provider of this process has had before, under names that none has had before: a token of a provider that
/// has ended is a stranger's to all that come after it.
///
/// RSA keys take long to make, so those of a provider that has ended serve the next ones, under new names.
mod fresh {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use countersign_token::Algorithm;

    use crate::keys::TestKey;

    /// From here on; those below are the test's own.
    pub(super) const FIRST: usize = 1000;

    /// What a provider has taken, to be given back.
    #[derive(Debug, Default)]
    pub(super) struct Taken(Vec<(Algorithm, usize)>);

    static SERIAL: AtomicUsize = AtomicUsize::new(FIRST);
    static FREE: Mutex<Vec<(Algorithm, usize)>> = Mutex::new(Vec::new());

    impl Taken {
        pub(super) fn key(&mut self, algorithm: Algorithm) -> TestKey {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let is_slow = algorithm.name().starts_with(['R', 'P']);
            let number = if is_slow { reused(algorithm).unwrap_or(serial) } else { serial };
            if is_slow {
                self.0.push((algorithm, number));
            }
            TestKey::nth(algorithm, number).with_kid(format!("{algorithm}-{serial}"))
        }
    }

    impl Drop for Taken {
        fn drop(&mut self) {
            super::lock(&FREE).append(&mut self.0);
        }
    }

    fn reused(algorithm: Algorithm) -> Option<usize> {
        let mut free = super::lock(&FREE);
        let at = free.iter().position(|(free, _)| *free == algorithm)?;
        Some(free.swap_remove(at).1)
    }
}
