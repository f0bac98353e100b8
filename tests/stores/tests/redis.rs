//! Warm starts from a Redis that a fleet shares.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use countersign_jwks::{
    KeyCache, KeyEvent, KeyState, Keys, MAX_MAX_STALE, MAX_SNAPSHOT_BYTES, REDIS_PREFIX, RedisCache, Remote,
};
use countersign_testkit::{IdentityProvider, TestKey};
use countersign_tests_stores::{
    PATIENCE, Server, finds, free_port, has, jwks, redis, redis_over_tls, redis_says, until,
};
use countersign_token::{Algorithm, SigningKey};
use serde_json::json;
use tokio::time::timeout;

const PASSWORD: &str = "hunter2";
const SECRET: [u8; 32] = [7; 32];
const DAY: u64 = 24 * 60 * 60;

struct Redis {
    server: Option<Server>,
    port: u16,
}

impl Redis {
    fn new() -> Self {
        let mut redis = Self { server: None, port: free_port() };
        redis.start();
        redis
    }

    /// Starts it, empty.
    fn start(&mut self) {
        self.server = Some(redis(self.port, &self.socket(), PASSWORD));
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn socket(&self) -> PathBuf {
        std::env::temp_dir().join(format!("countersign-redis-{}.sock", self.port))
    }

    fn cache(&self) -> RedisCache {
        RedisCache::new(format!("redis://:{PASSWORD}@127.0.0.1:{}/3", self.port)).unwrap()
    }

    fn says(&self, command: &str) -> String {
        redis_says(self.port, &[&format!("AUTH {PASSWORD}"), "SELECT 3", command, "QUIT"])
    }
}

/// The keys of `provider`, good for a second.
fn remote(provider: &IdentityProvider, cache: &RedisCache) -> Remote {
    Remote::new(provider.jwks_url()).unwrap().default_lifetime(Duration::from_secs(1)).cache(cache.clone())
}

/// What the keys of `provider` are called in a cache.
fn name(provider: &IdentityProvider) -> String {
    Remote::new(provider.jwks_url()).unwrap().cache_name()
}

/// Waits until the cache has the snapshot of a set with this key.
async fn stored(cache: &RedisCache, provider: &IdentityProvider, key: &TestKey) -> Vec<u8> {
    let load = async || cache.load(&name(provider)).await.ok().flatten().unwrap_or_default();
    until("the keys are stored", async || String::from_utf8_lossy(&load().await).contains(key.kid().unwrap())).await;
    load().await
}

/// A snapshot as somebody writes it who has read our source code.
fn forged(source: &str, keys: &[TestKey], age: u64, secret: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (format, confirmed, jwks) = ("countersign keys 1", now - age, String::from_utf8(jwks(keys)).unwrap());
    let mut sealed = Vec::new();
    for part in [format, source, &confirmed.to_string(), "", &jwks] {
        sealed.extend_from_slice(&(part.len() as u64).to_be_bytes());
        sealed.extend_from_slice(part.as_bytes());
    }
    let seal = SigningKey::from_secret(secret, Algorithm::Hs256).unwrap().signature(&sealed).unwrap();
    let seal: String = seal.iter().map(|octet| format!("{octet:02x}")).collect();
    json!({
        "format": format,
        "source": source,
        "confirmed": confirmed,
        "generated": null,
        "jwks": jwks,
        "seal": seal,
    })
    .to_string()
    .into_bytes()
}

/// What seals where there is no secret.
const NO_SECRET: &[u8] = b"countersign: against accidents, not against attackers";

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_while_the_provider_is_down_serves_with_the_keys_of_the_last_one() {
    let (redis, provider) = (Redis::new(), IdentityProvider::start());
    let cache = redis.cache();
    let first = Keys::remote(remote(&provider, &cache));
    let mut events = first.handle().events();
    first.handle().ready_within(PATIENCE).await.unwrap();
    let snapshot = stored(&cache, &provider, &provider.key()).await;
    provider.stop();
    timeout(PATIENCE, async { while events.next().await != Some(KeyEvent::Stale) {} }).await.unwrap();
    drop(first);

    let begun = Instant::now();
    let second = Keys::remote(remote(&provider, &cache));
    let mut events = second.handle().events();
    assert!(finds(&second, &provider.key()).await, "the first request");
    assert!(begun.elapsed() < Duration::from_secs(2), "{begun:?}");
    until("older than they are good for", async || second.handle().status().state == KeyState::Stale).await;
    assert!(finds(&second, &provider.key()).await);
    timeout(PATIENCE, async { while !matches!(events.next().await, Some(KeyEvent::Restored { keys: 1, .. })) {} })
        .await
        .unwrap();

    provider.resume();
    provider.replace_keys();
    until("the provider's keys replace them", async || finds(&second, &provider.key()).await).await;
    assert_ne!(stored(&cache, &provider, &provider.key()).await, snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_tampered_with_forged_or_somebody_elses_is_refused() {
    let (redis, provider) = (Redis::new(), IdentityProvider::start());
    provider.stop();
    let (cache, source, mine) = (redis.cache(), name(&provider), TestKey::nth(Algorithm::Es256, 1));
    let sealed_source = Remote::new(provider.jwks_url()).unwrap().cache_secret(SECRET).cache_name();
    let whole = forged(&source, std::slice::from_ref(&mine), 60, NO_SECRET);
    let tampered = String::from_utf8(whole.clone()).unwrap().replace("ES256", "ES384").into_bytes();
    assert_ne!(tampered, whole);
    let sealed = Some(SECRET);
    let cases = [
        ("whole", whole.clone(), None, true),
        ("with the secret", forged(&sealed_source, std::slice::from_ref(&mine), 60, &SECRET), sealed, true),
        ("too old", forged(&source, std::slice::from_ref(&mine), DAY + 1, NO_SECRET), None, false),
        ("tampered with", tampered, None, false),
        ("cut off", whole[..whole.len() - 1].to_vec(), None, false),
        ("without the secret", forged(&sealed_source, std::slice::from_ref(&mine), 60, NO_SECRET), sealed, false),
        ("with another", forged(&sealed_source, std::slice::from_ref(&mine), 60, &[8; 32]), sealed, false),
        ("of another source", forged("https://other", std::slice::from_ref(&mine), 60, NO_SECRET), None, false),
    ];
    for (what, snapshot, secret, believed) in cases {
        cache.store(if secret.is_some() { &sealed_source } else { &source }, snapshot).await.unwrap();
        let remote = remote(&provider, &cache);
        let keys = Keys::remote(if let Some(secret) = secret { remote.cache_secret(secret) } else { remote });
        // Longer than the cache may take.
        let ready = keys.handle().ready_within(Duration::from_millis(2500)).await;
        assert_eq!((ready.is_ok(), has(&keys, &mine)), (believed, believed), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_down_costs_the_warm_start_and_nothing_else() {
    let (mut redis, provider) = (Redis::new(), IdentityProvider::start());
    redis.stop();
    let cache = redis.cache();
    assert_eq!(cache.load("x").await.unwrap_err().to_string(), "Connection refused (os error 111)");
    let keys = Keys::remote(remote(&provider, &cache));
    let begun = Instant::now();
    assert!(finds(&keys, &provider.key()).await);
    assert!(begun.elapsed() < Duration::from_secs(2), "{begun:?}");

    // It comes, and is found with the next set that is written.
    redis.start();
    provider.replace_keys();
    until("the new key is found", async || finds(&keys, &provider.key()).await).await;
    stored(&cache, &provider, &provider.key()).await;

    // It dies while in use, and comes back.
    redis.stop();
    provider.replace_keys();
    until("the new key is found", async || finds(&keys, &provider.key()).await).await;
    redis.start();
    provider.replace_keys();
    until("the new key is found", async || finds(&keys, &provider.key()).await).await;
    stored(&cache, &provider, &provider.key()).await;
    assert_eq!(keys.handle().status().fetches_failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_share_a_redis_each_under_its_name_and_entries_expire() {
    let (redis, one, other) = (Redis::new(), IdentityProvider::start(), IdentityProvider::start());
    let cache = redis.cache();
    for provider in [&one, &other] {
        let keys = Keys::remote(remote(provider, &cache));
        keys.handle().ready_within(PATIENCE).await.unwrap();
        stored(&cache, provider, &provider.key()).await;
        provider.stop();
    }
    let shared: Arc<dyn KeyCache> = Arc::new(cache);
    let restart = |provider: &IdentityProvider| {
        Keys::remote(Remote::new(provider.jwks_url()).unwrap().shared_cache(Arc::clone(&shared)))
    };
    let (mine, theirs) = (restart(&one), restart(&other));
    assert!(finds(&mine, &one.key()).await && !has(&mine, &other.key()));
    assert!(finds(&theirs, &other.key()).await && !has(&theirs, &one.key()));

    let expiry = redis.says(&format!("TTL {REDIS_PREFIX}{}", name(&one)));
    let seconds: u64 = expiry.lines().find_map(|line| line.strip_prefix(':')).unwrap().parse().unwrap();
    assert!(seconds <= MAX_MAX_STALE.as_secs() && seconds > MAX_MAX_STALE.as_secs() - 60, "{expiry}");

    // The same through the socket.
    let local = format!("redis+unix://{}?db=3&pass={PASSWORD}", redis.socket().display());
    let local = RedisCache::new(local).unwrap();
    assert!(local.load(&name(&one)).await.unwrap().is_some());
    assert_eq!(local.load("nobody").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_value_that_is_too_long_no_more_is_read_than_could_be_of_use() {
    let (redis, provider) = (Redis::new(), IdentityProvider::start());
    let (cache, source) = (redis.cache(), name(&provider));
    let set = redis.says(&format!("SETRANGE {REDIS_PREFIX}{source} 100000000 x"));
    assert!(set.contains(":100000001"), "{set}");
    assert_eq!(cache.load(&source).await.unwrap().unwrap().len(), MAX_SNAPSHOT_BYTES + 1);
    // And nobody minds.
    let keys = Keys::remote(remote(&provider, &cache));
    assert!(finds(&keys, &provider.key()).await);
    stored(&cache, &provider, &provider.key()).await;
    // The longest that is of use goes there and back.
    let longest = vec![b' '; MAX_SNAPSHOT_BYTES];
    cache.store("longest", longest.clone()).await.unwrap();
    assert_eq!(cache.load("longest").await, Ok(Some(longest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_without_end_is_hung_up_on() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        // To the two that set the library's name, and half a gigabyte to the one that reads.
        stream.write_all(b"+OK\r\n+OK\r\n$536870912\r\n").unwrap();
        let chunk = [b'x'; 65536];
        while stream.write_all(&chunk).is_ok() && counter.fetch_add(chunk.len(), Ordering::Relaxed) < 1 << 29 {}
    });
    let cache = RedisCache::new(format!("redis://127.0.0.1:{port}")).unwrap();
    assert_eq!(cache.load("x").await.unwrap_err().to_string(), "the answer is too large");
    server.join().unwrap();
    // What the two sockets hold comes on top.
    assert!(sent.load(Ordering::Relaxed) < MAX_SNAPSHOT_BYTES + (16 << 20), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_appears_in_errors_nor_in_debug() {
    let redis = Redis::new();
    for (url, error) in [
        (format!("redis://:wrong-{PASSWORD}@127.0.0.1:{}", redis.port), "authentication failed"),
        (format!("redis://127.0.0.1:{}", redis.port), "Redis says NOAUTH"),
        (format!("redis://:{PASSWORD}@127.0.0.1:{}/99", redis.port), "Redis says ERR"),
        (format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port()), "Connection refused (os error 111)"),
    ] {
        let cache = RedisCache::new(&url).unwrap();
        assert_eq!(cache.load("x").await.unwrap_err().to_string(), error, "{url}");
        assert!(!format!("{cache:?}").contains(PASSWORD));
    }
    for (url, error) in [
        (format!("rediss://:{PASSWORD}@127.0.0.1/#insecure"), "not the URL of a Redis"),
        (format!("REDISS://:{PASSWORD}@127.0.0.1/#insecure"), "not the URL of a Redis"),
        (format!("rediss:{PASSWORD}"), "not the URL of a Redis"),
        (format!("http://:{PASSWORD}@127.0.0.1"), "not the URL of a Redis"),
        (format!("redis://:{PASSWORD}@127.0.0.1/{PASSWORD}"), "not the URL of a Redis"),
        (format!(":{PASSWORD}@127.0.0.1"), "not the URL of a Redis"),
    ] {
        assert_eq!(RedisCache::new(&url).unwrap_err().to_string(), error, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_server_must_show_a_certificate_for_its_name_of_an_authority_that_is_trusted() {
    // One server, with a certificate for one name, of an authority of its own.
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let port = free_port();
    let directory = std::env::temp_dir().join(format!("countersign-redis-tls-{port}"));
    fs::create_dir_all(&directory).unwrap();
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    fs::write(&certificate, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let _server = redis_over_tls(port, &certificate, &key);
    fs::remove_dir_all(&directory).unwrap();

    let at = |host: &str| RedisCache::new(format!("rediss://{host}:{port}")).unwrap();
    let good = at("localhost").trusting(certified.cert.pem()).unwrap();
    for (what, cache) in [
        ("whom the system trusts", at("localhost")),
        ("another authority", at("localhost").trusting(stranger.cert.pem()).unwrap()),
        ("another name", at("127.0.0.1").trusting(certified.cert.pem()).unwrap()),
    ] {
        let error = cache.load("x").await.unwrap_err().to_string();
        assert!(error.starts_with("invalid peer certificate"), "{what}: {error}");
    }
    let plain = RedisCache::new(format!("redis://localhost:{port}")).unwrap();
    assert!(plain.load("x").await.is_err(), "there is nothing but TLS at that port");
    for pem in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(at("localhost").trusting(pem).is_err(), "{pem}");
    }

    let longest = vec![b' '; MAX_SNAPSHOT_BYTES];
    good.store("x", longest.clone()).await.unwrap();
    assert_eq!(good.load("x").await, Ok(Some(longest)));
    let provider = IdentityProvider::start();
    let keys = Keys::remote(remote(&provider, &good));
    assert!(finds(&keys, &provider.key()).await);
    stored(&good, &provider, &provider.key()).await;
}
