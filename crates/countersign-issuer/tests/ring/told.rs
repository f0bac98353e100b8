//! What a node says in the log and in numbers.

use std::time::Duration;

#[cfg(feature = "metrics")]
use countersign_issuer::step::Alarm;
use countersign_issuer::{AdoptKey, Fault, Operation, Ring, StoreErrorKind};
use tokio::time::sleep;

use crate::support::{World, config, token};

const PEM: &str = include_str!("../keys/p256.sec1.pem");

/// A life with some trouble in it.
async fn life(world: &World) -> Ring {
    let ring = world.start(config()).await;
    let ends = world.clock.wall().saturating_add(Duration::from_secs(3_600));
    ring.adopt([AdoptKey::signing("es256", PEM, ends).kid("adopted\nkey")]).await.unwrap();
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    token(&ring, "es256");
    world
        .store
        .choose(|operation, _| (operation == Operation::PutPrivate).then_some(Fault::Refuse(StoreErrorKind::Denied)));
    sleep(Duration::from_secs(600)).await;
    world.store.behave();
    sleep(Duration::from_secs(600)).await;
    ring
}

#[cfg(feature = "tracing")]
mod log {
    use std::fmt::Write as _;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<(Level, String)>>>);

    impl Subscriber for Said {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("countersign_issuer")
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push((*event.metadata().level(), text.0));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            write!(self.0, "{}={value:?} ", field.name()).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_has_what_happens_and_what_is_wrong_and_nothing_that_is_secret() {
        let said = Said::default();
        // As long as there is one subscriber only, what other tests say first, on threads without one, is said to nobody
        // ever after (tracing-core caches that by the thread's own).
        let _other = tracing::Dispatch::new(Said::default());
        let _subscribed = tracing::subscriber::set_default(said.clone());
        let world = World::new();
        let ring = life(&world).await;
        let said = said.0.lock().unwrap();
        let has = |level: Level, part: &str| said.iter().any(|(it, text)| *it == level && text.contains(part));
        assert!(has(Level::INFO, "a version of the ring was written"), "{said:#?}");
        assert!(has(Level::INFO, "the key set was published"));
        assert!(has(Level::WARN, "work=\"store_private\""));
        assert!(has(Level::WARN, "PrivateStoreFailed"));
        assert!(has(Level::INFO, "the alarm is over"));
        // The private number of the key that was adopted, as it is in PEM and as bytes are shown.
        let secret = PEM.lines().nth(1).unwrap();
        let kids = ring.status().keys;
        assert!(kids.contains_key("adopted\nkey"));
        for (_, text) in said.iter() {
            assert!(!text.contains(&secret[..20]) && !text.contains('\n') && !text.contains("[48, "), "{text}");
        }
    }
}

#[cfg(feature = "metrics")]
mod numbers {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Seen {
        fn of(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = format!("{}{{{}}}", key.name(), labels.join(","));
            Arc::clone(self.0.lock().unwrap().entry(name).or_default())
        }

        fn has(&self, name: &str) -> bool {
            self.0.lock().unwrap().contains_key(name)
        }

        fn count(&self, name: &str) -> u64 {
            self.0.lock().unwrap().get(name).map_or(0, |value| value.load(Ordering::SeqCst))
        }

        fn value(&self, name: &str) -> f64 {
            f64::from_bits(self.count(name))
        }
    }

    impl Recorder for Seen {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.of(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.of(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_recorder_has_how_the_ring_is_and_what_has_happened() {
        let seen = Seen::default();
        let _recorded = metrics::set_default_local_recorder(&seen);
        let world = World::new();
        let ring = life(&world).await;
        let slot = "{issuer=https://issuer.example,slot=es256}";
        let name = |name: &str| format!("countersign_ring_{name}{slot}");
        assert!(seen.value(&name("signs")).to_bits() == 1.0_f64.to_bits());
        let age = seen.value(&name("key_age_seconds"));
        assert!((1_190.0..1_260.0).contains(&age), "{age}");
        let due = seen.value(&name("rotation_due_seconds"));
        assert!((age + due - 7_200.0).abs() < 0.01, "{due}");
        let label =
            |name: &str, label: &str| format!("countersign_ring_{name}{{issuer=https://issuer.example{label}}}");
        assert_eq!(seen.count(&label("moves_total", ",phase=active")), 1);
        assert_eq!(seen.count(&label("alarms_total", ",alarm=private_store_failed")), 1);
        assert!(seen.count(&label("failures_total", ",work=store_private")) > 1);
        assert!(seen.count(&label("publications_total", "")) >= 2);
        let bytes = seen.value(&label("jwks_bytes", ""));
        assert!((bytes - world.jwks().len() as f64).abs() < 0.5, "{bytes}");
        let limit = seen.value(&name("key_limit_seconds"));
        assert!((age + limit - 30.0 * 86_400.0).abs() < 0.01, "{limit}");
        for alarm in Alarm::CODES {
            // Over by now, or never there; and counted from 0 on, whether there was one or not.
            assert!(seen.value(&label("alarms", &format!(",alarm={alarm}"))).abs() < 0.5, "{alarm}");
            assert!(seen.has(&label("alarms_total", &format!(",alarm={alarm}"))), "{alarm}");
        }
        drop(ring);
    }

    #[tokio::test(start_paused = true)]
    async fn the_recorder_has_what_is_alarming_and_that_a_write_was_in_doubt_or_too_late() {
        let seen = Seen::default();
        let _recorded = metrics::set_default_local_recorder(&seen);
        let world = World::new();
        let ring = world.settled(config()).await;
        let label =
            |name: &str, label: &str| format!("countersign_ring_{name}{{issuer=https://issuer.example{label}}}");
        assert_eq!((seen.count(&label("doubts_total", "")), seen.count(&label("lost_races_total", ""))), (0, 0));
        world.store.plan(Operation::SwapState, Fault::Deny(StoreErrorKind::Unknown));
        ring.rotate(["es256"]).await.unwrap();
        assert_eq!(seen.count(&label("doubts_total", "")), 1);

        let other = world.settled(config()).await;
        let (one, two) = tokio::join!(ring.rotate(["es256"]), other.rotate(["es256"]));
        assert!(one.is_ok() && two.is_ok());
        assert!(seen.count(&label("lost_races_total", "")) >= 1);

        let kid = token(&ring, "es256").kid;
        world.store.tamper_with_private(&kid, None);
        drop((ring, other));
        let ring = world.start(config()).await;
        let missing = label("alarms", ",alarm=private_missing");
        for _ in 0..60 {
            if seen.value(&missing) > 0.5 {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert!((seen.value(&missing) - 1.0).abs() < 0.5);
        drop(ring);
    }
}
