//! A service on loopback with one client, and what a client needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use countersign::claims::signed_request::{BodyDigest, TYPE};
use countersign::token::RsaBits;
use countersign::{Algorithm, SigningKey, UnixTime};
use countersign_issuer::{Clock, Kek, KekRing, MemoryStore, Now, Ring, RingConfig, Slot, SystemClock};
use countersign_service::policy::Policy;
use countersign_service::{SecretKey, ServiceBuilder, TokenService};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const ISSUER: &str = "https://issuer.example";

pub(crate) const POLICY: &str = r#"
version = 1
revision = "first"

[profiles.access]
slots = ["es256"]
lifetime = 300

[profiles.rsa]
slots = ["rs256"]
lifetime = 300

[clients.web]
jwks = 'JWKS'
[clients.web.grants.orders]
profiles = ["access", "rsa"]
subjects = { self = true, prefixes = ["user:"] }
audiences = { exact = ["orders"] }
scopes = ["orders:read"]
claims.tenant = { type = "string", max_bytes = 8192 }
"#;

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) service: TokenService,
    pub(crate) ring: Ring,
    pub(crate) store: MemoryStore,
    pub(crate) key: SigningKey,
    /// By how many seconds the ring's clock is ahead.
    pub(crate) ring_ahead: Arc<AtomicU64>,
    /// By how much the service's clock is ahead.
    ahead: Arc<AtomicI64>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// Status and code of a refusal, which is told as every refusal is.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json", "{body}");
        assert_eq!(self.headers["cache-control"], "no-store", "{body}");
        assert_eq!((&body["type"], &body["status"]), (&json!("about:blank"), &json!(self.status)), "{body}");
        let has_time = matches!(self.status, 429 | 503);
        assert_eq!(self.headers.contains_key("retry-after"), has_time, "{body}");
        assert_eq!(self.headers.contains_key("www-authenticate"), self.status == 401, "{body}");
        (self.status, body["error"].as_str().unwrap().to_owned())
    }
}

pub(crate) fn jwks(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.public_jwk().unwrap()).collect::<Vec<_>>() }).to_string()
}

pub(crate) fn key(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid)
}

/// Clocks that can be put forward.
struct Ahead(SystemClock, Arc<AtomicU64>);

impl Clock for Ahead {
    fn now(&self) -> Now {
        let (now, by) = (self.0.now(), Duration::from_secs(self.1.load(Ordering::SeqCst)));
        Now { wall: now.wall.saturating_add(by), monotonic: now.monotonic + by }
    }
}

pub(crate) async fn ring(store: MemoryStore, ahead: Arc<AtomicU64>) -> Ring {
    let slots = [Slot::new("es256", Algorithm::Es256), Slot::rsa("rs256", Algorithm::Rs256, RsaBits::B2048)];
    let mut config = RingConfig::new(slots);
    config.timing.tick = Duration::from_millis(100);
    let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
    let builder = Ring::builder(ISSUER, config, Arc::new(store), keks).clock(Ahead(SystemClock::new(), ahead));
    let ring = builder.start().await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    ring
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|policy| policy).await
    }

    pub(crate) async fn with(change: impl FnOnce(String) -> String) -> Self {
        Self::made(change, |builder| builder).await
    }

    pub(crate) async fn made(
        change: impl FnOnce(String) -> String,
        make: impl FnOnce(ServiceBuilder) -> ServiceBuilder,
    ) -> Self {
        let key = key("c1");
        let policy = change(POLICY.replace("JWKS", &jwks(&[&key])));
        let (store, ring_ahead) = (MemoryStore::new(), Arc::new(AtomicU64::new(0)));
        let ring = ring(store.clone(), Arc::clone(&ring_ahead)).await;
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = {
            let ahead = Arc::clone(&ahead);
            move || system_time(ahead.load(Ordering::SeqCst))
        };
        let policy = Policy::parse(&policy, ring.config()).unwrap();
        let builder =
            TokenService::builder(ring.clone(), policy).clock(clock).secret_key(SecretKey::new(&[7; 32]).unwrap());
        let service = make(builder).build().unwrap();
        // Past the second that it was made in and the leeway, when assertions cannot be told from those that one before it has taken.
        ahead.store(7, Ordering::SeqCst);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = service.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, service, ring, store, key, ring_ahead, ahead }
    }

    pub(crate) fn now(&self) -> i64 {
        system_time(self.ahead.load(Ordering::SeqCst)).as_secs()
    }

    pub(crate) fn advance(&self, secs: i64) {
        self.ahead.fetch_add(secs, Ordering::SeqCst);
    }

    /// What a good assertion says.
    pub(crate) fn claims(&self) -> Value {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let now = self.now();
        let jti = SERIAL.fetch_add(1, Ordering::SeqCst).to_string();
        json!({ "iss": "web", "sub": "web", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": jti })
    }

    pub(crate) fn assertion(&self) -> String {
        self.assertion_of("web")
    }

    /// Of another client with the same key.
    pub(crate) fn assertion_of(&self, client: &str) -> String {
        self.assertion_with(&self.key, client)
    }

    /// Of another client with that key.
    pub(crate) fn assertion_with(&self, key: &SigningKey, client: &str) -> String {
        let mut claims = self.claims();
        claims["iss"] = json!(client);
        claims["sub"] = json!(client);
        key.sign_as("client-authentication+jwt", &claims).unwrap()
    }

    /// A request of that client's, signed with the same key, for this very body.
    pub(crate) fn signed(&self, client: &str, method: &str, path: &str, body: &str) -> String {
        self.signed_with(&self.key, client, method, path, body)
    }

    /// The same with that key.
    pub(crate) fn signed_with(&self, key: &SigningKey, client: &str, method: &str, path: &str, body: &str) -> String {
        let mut claims = self.claims();
        claims["iss"] = json!(client);
        claims["sub"] = json!(client);
        claims["htm"] = json!(method);
        claims["htu"] = json!(format!("{ISSUER}{path}"));
        claims["body_sha256"] = json!(BodyDigest::of(body.as_bytes()).to_string());
        key.sign_as(TYPE, &claims).unwrap()
    }

    pub(crate) async fn ask(&self, body: &Value) -> Answer {
        self.post("/v1/tokens", &bearer(&self.assertion()), body).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &str, body: &Value) -> Answer {
        self.post_text(path, headers, &body.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let headers = format!("{headers}Content-Type: application/json\r\nContent-Length: {length}\r\n");
        self.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n{body}").as_bytes())
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, "").await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes()).await
    }

    /// These octets, and all that comes back.
    pub(crate) async fn send(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        read(&mut stream).await
    }
}

/// Until the connection ends.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    Answer { status, headers: headers.collect(), body: answer[end + 4..].to_vec() }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

pub(crate) fn orders() -> Value {
    json!({ "profile": "access", "aud": ["orders"] })
}

fn system_time(ahead: i64) -> UnixTime {
    UnixTime::from(SystemTime::now()).saturating_add(Duration::from_secs(ahead.unsigned_abs()))
}
