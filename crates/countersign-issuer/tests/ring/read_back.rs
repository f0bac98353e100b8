//! A published set that verifiers read somewhere else.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_issuer::state::KeyState;
use countersign_issuer::step::Alarm;
use countersign_issuer::{MemoryStore, ReadBack};
use countersign_token::{Fetch, FetchError, FetchRequest, Fetched};
use tokio::time::sleep;

use crate::support::{World, config, in_state, until};

const URL: &str = "https://issuer.example/jwks.json?key=secret";

/// Serves what is in the store, or what it has got stuck with.
struct Edge {
    store: MemoryStore,
    stuck: Mutex<Option<Served>>,
}

#[derive(Clone)]
enum Served {
    Body(Vec<u8>),
    Status(u16),
    Broken,
    Hangs,
}

impl Fetch for Edge {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        assert!(request.url == URL && request.revalidate && request.max_bytes == 64 * 1024);
        let served = self.stuck.lock().unwrap().clone();
        let served = served.or_else(|| self.store.jwks().map(Served::Body));
        Box::pin(async move {
            let mut fetched = Fetched::default();
            (fetched.status, fetched.body) = match served {
                Some(Served::Body(body)) => (200, body),
                Some(Served::Status(status)) => (status, Vec::new()),
                Some(Served::Broken) => return Err(FetchError::Broken("reset".into())),
                Some(Served::Hangs) => std::future::pending().await,
                None => (404, Vec::new()),
            };
            Ok(fetched)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_announced_when_it_was_read_where_verifiers_read_and_not_before() {
    let world = World::new();
    let edge = Arc::new(Edge { store: world.store.clone(), stuck: Mutex::new(None) });
    let from = ReadBack::from_url(Arc::clone(&edge) as Arc<dyn Fetch>, URL);
    let ring = world.builder(config()).read_back(from).start().await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    until(&ring, |status| status.slots["es256"].standby.is_some()).await;
    let old = world.jwks();
    *edge.stuck.lock().unwrap() = Some(Served::Body(old.clone()));
    ring.rotate(["es256"]).await.unwrap();
    for served in [
        Served::Body(old),
        Served::Status(503),
        Served::Status(403),
        Served::Status(404),
        Served::Status(304),
        Served::Broken,
        Served::Hangs,
        Served::Body(b"no set".to_vec()),
        Served::Body(vec![b' '; 1 << 20]),
    ] {
        *edge.stuck.lock().unwrap() = Some(served);
        sleep(Duration::from_secs(1_000)).await;
        let next = in_state(&ring.status(), KeyState::Announced);
        assert!(next.iter().all(|kid| ring.status().keys[kid].confirmed_at.is_none()) && next.len() == 1, "{next:?}");
        assert!(ring.status().slots["es256"].standby.is_none());
    }
    assert!(world.alarms().iter().any(|alarm| matches!(alarm, Alarm::ReadBackFailing(_))));
    assert!(!format!("{:?}", world.events.lock().unwrap()).contains("secret"), "the URL may be one");

    *edge.stuck.lock().unwrap() = None;
    until(&ring, |status| status.keys.values().all(|key| key.confirmed_at.is_some())).await;
    let confirmed_at = world.clock.wall();
    until(&ring, |status| status.slots["es256"].standby.is_some()).await;
    let waited = world.clock.wall().saturating_since(confirmed_at);
    assert!(waited >= Duration::from_secs(635), "C + P + ε, but for the pace of looking: {waited:?}");
}
