//! Keys that somebody else has.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_claims::revocation::{Entry, Published, Publishing, RevocationSink, Revokes, SinkError};
use countersign_issuer::state::KeyState;
use countersign_issuer::step::{Alarm, Compromised, NotSigning, Refusal};
use countersign_issuer::{OrderError, RingEvent};
use tokio::time::sleep;

use crate::support::{ISSUER, World, config, fetched, token, two_slots, verifies};

/// Keeps what it is told, and says no for a while.
#[derive(Default)]
struct Sink {
    entries: Mutex<Vec<Entry>>,
    failures: Mutex<u32>,
}

impl RevocationSink for Sink {
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Box::pin(ready(Err(SinkError::Unavailable("not now".into()))));
        }
        self.entries.lock().unwrap().extend(entries.iter().cloned());
        Box::pin(ready(Ok(Published::within(Duration::from_secs(2)))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_compromised_key_is_gone_at_once_told_to_the_sink_and_the_exposure_is_reported() {
    let world = World::new();
    let sink = Arc::new(Sink { failures: Mutex::new(2), ..Sink::default() });
    let events = Arc::clone(&world.events);
    let ring = world.builder(config()).revocations(sink.clone()).start().await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    crate::support::until(&ring, |status| status.slots["es256"].standby.is_some()).await;
    let stolen = token(&ring, "es256");
    let thumbprint = *fetched(&world.jwks()).iter().find(|key| key.kid() == Some(&stolen.kid)).unwrap().thumbprint();

    let revoked = ring.compromise(Compromised::Key(stolen.kid.clone()), false).await.unwrap();
    assert_eq!(revoked.kids, [&*stolen.kid]);
    assert_eq!(revoked.halted, Vec::<String>::new());
    // min(V, C + P) + ε, and C + P + ε.
    assert_eq!(revoked.exposure.with_feed, Duration::from_secs(2 + 30));
    assert_eq!(revoked.exposure.without_feed, Duration::from_secs(600 + 10 + 30));
    let said = format!(
        "revoked: [{:?}]; their tokens may still be accepted for 32 s where a feed is followed, and for 640 s where the keys are fetched",
        stolen.kid
    );
    assert_eq!(revoked.to_string(), said);
    let next = token(&ring, "es256");
    assert_ne!(next.kid, stolen.kid);

    sleep(Duration::from_secs(1)).await;
    let keys = fetched(&world.jwks());
    assert!(!verifies(&stolen, &keys) && verifies(&next, &keys));
    // The sink has refused it twice.
    sleep(Duration::from_secs(120)).await;
    let entry = |revokes| Entry { issuer: ISSUER.into(), revokes, until: None };
    let expected =
        [entry(Revokes::Key { kid: stolen.kid.as_str().into() }), entry(Revokes::KeyMaterial { thumbprint })];
    assert_eq!(sink.entries.lock().unwrap()[..2], expected);
    let events = events.lock().unwrap();
    assert!(events.contains(&RingEvent::Alarm(Alarm::RevocationFailing(stolen.kid.clone()))));
    let pushed = RingEvent::RevocationPushed { kid: stolen.kid.clone(), within: Duration::from_secs(2) };
    assert!(events.contains(&pushed));
    assert!(world.store.private(&stolen.kid).is_none());
}

#[tokio::test(start_paused = true)]
async fn if_all_keys_are_compromised_the_ring_halts_until_nobody_can_lack_the_next_one() {
    let world = World::new();
    let ring = world.settled(two_slots()).await;
    let stolen = token(&ring, "es256");
    let revoked = ring.compromise(Compromised::All, false).await.unwrap();
    assert_eq!((revoked.kids.len(), revoked.halted.len()), (4, 2));
    assert!(revoked.to_string().ends_with(r#"; no key signs for now in: ["ed25519", "es256"]"#), "{revoked}");
    assert_eq!(ring.signer("es256").map(|_| ()), Err(NotSigning::Halted));
    let terms = world.state().terms;
    sleep(terms.announcement()).await;
    assert_eq!(ring.signer("es256").map(|_| ()), Err(NotSigning::Halted), "the caches do not have it yet");
    ring.ready_within(Duration::from_secs(120)).await.unwrap();
    let keys = fetched(&world.jwks());
    assert!(verifies(&token(&ring, "es256"), &keys) && !verifies(&stolen, &keys));
    assert!(world.state().tombstones.values().all(|tombstone| tombstone.state == KeyState::Revoked));
}

#[tokio::test(start_paused = true)]
async fn if_it_is_ordered_the_next_key_signs_as_soon_as_it_was_read_back() {
    let world = World::new();
    let ring = world.settled(config()).await;
    ring.compromise(Compromised::All, true).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    assert!(verifies(&token(&ring, "es256"), &fetched(&world.jwks())));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_knows_cannot_be_compromised() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let refused = ring.compromise(Compromised::Key("none".into()), false).await;
    assert_eq!(refused, Err(OrderError::Refused(Refusal::NoSuchKey("none".into()))));
}
