//! What a list says in the log: once when it begins, and once when it ends.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{START, at, judged, list, replace, token};
use countersign_claims::revocation::{Revocations as _, Verdict};
use countersign_revocation::{ListOptions, RevocationList};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// What has been said, from `INFO` on.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(Level, String)>>>, Arc<Mutex<Option<RevocationList>>>);

impl Said {
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.0.lock().expect("nobody panics with it"))
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().expect("nobody panics with it").push((*event.metadata().level(), message.0));
        // Once, because what it hears then is an event too.
        let asked = self.1.lock().expect("nobody panics with it").take();
        if let Some(list) = asked {
            assert!(list.status().tokens <= 1);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_trouble_is_told_once_and_so_is_its_end() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(said.clone());
    let levels = || said.take().into_iter().map(|(level, _)| level).collect::<Vec<_>>();
    let (list, [feed]) = list(ListOptions::new().clock(|| START).capacity(2), ["feed"]);

    replace(&feed, [token("t")], at(0));
    list.check(&judged("u"));
    assert_eq!(said.take(), [], "all is well");

    tokio::time::advance(Duration::from_secs(31)).await;
    (0..3).for_each(|_| assert_eq!(list.check(&judged("u")), Verdict::Stale { age: Some(Duration::from_secs(31)) }));
    assert_eq!(levels(), [Level::WARN], "stale");
    // Whoever asks by another clock does not make it young for all others, nor old again.
    let mut later = judged("u");
    later.now = later.now.saturating_add(Duration::from_secs(3600));
    (0..3).for_each(|_| {
        list.check(&later);
        list.check(&judged("u"));
    });
    assert_eq!(said.take(), [], "and no more than that");
    feed.confirm(at(1));
    list.check(&judged("u"));
    assert_eq!(levels(), [Level::INFO], "and fresh again");

    (0..3).for_each(|_| feed.failed("no answer"));
    assert_eq!(levels(), [Level::WARN], "failed");
    feed.confirm(at(2));

    (0..3).for_each(|i| drop(feed.add(&[token("u"), token(format!("{i}"))], None)));
    assert_eq!(levels(), [Level::ERROR], "full");
    feed.add(&[token("u")], None).expect("one fits");
    assert_eq!(levels(), [Level::INFO], "and not any more");

    (0..3).for_each(|_| feed.overflowed());
    assert_eq!(levels(), [Level::ERROR], "overflowed");
    list.check(&judged("x"));
    assert_eq!(list.status().age, None);
    assert_eq!(levels(), [Level::WARN], "so it is stale");
}

#[test]
fn whoever_hears_of_trouble_may_ask_the_list() {
    let said = Said::default();
    let _guard = tracing::subscriber::set_default(said.clone());
    let (list, [feed]) = list(ListOptions::new().capacity(1), ["feed"]);
    let ask = || *said.1.lock().expect("nobody panics with it") = Some(list.clone());
    let is_asked = || said.1.lock().expect("nobody panics with it").is_none();
    ask();
    feed.failed("no answer");
    assert!(is_asked());
    ask();
    assert!(feed.add(&[token("a"), token("b")], None).is_err());
    assert!(is_asked());
    ask();
    feed.overflowed();
    assert!(is_asked());
}
