//! The span of a fetch, seen by a subscriber of the test's own, which only its thread has.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use crate::issuers;
use crate::support::{Script, Sites, Turn, look_up};
use countersign_jwks::{Issuers, Keys, Remote, Tenants};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Metadata, Subscriber};

const SEC: Duration = Duration::from_secs(1);

/// What was seen of each span, in the order in which they began; clones see the same.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Span>>>);

#[derive(Clone, Default, Debug)]
struct Span {
    name: String,
    target: String,
    fields: Fields,
    /// The texts of the events in it.
    events: Vec<String>,
    entered: usize,
    is_root: bool,
    is_closed: bool,
}

#[derive(Clone, Default, Debug)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Seen {
    fn with<T>(&self, id: &Id, change: impl FnOnce(&mut Span) -> T) -> T {
        let index = usize::try_from(id.into_u64()).unwrap() - 1;
        change(&mut self.0.lock().unwrap()[index])
    }

    /// The last fetch: its source, what it was for, and what it came to.
    fn last(&self) -> [String; 3] {
        let spans = self.0.lock().unwrap();
        ["source", "trigger", "outcome"].map(|name| spans.last().unwrap().fields.0[name].clone())
    }
}

impl Subscriber for Seen {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let (name, target) = (metadata.name().into(), metadata.target().into());
        let mut span = Span { name, target, is_root: attributes.is_root(), ..Span::default() };
        attributes.record(&mut span.fields);
        let mut spans = self.0.lock().unwrap();
        spans.push(span);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        self.with(id, |span| values.record(&mut span.fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = fields.0.remove("message").unwrap_or_default();
        // Of one thread, so whichever is entered is the current one.
        if let Some(span) = self.0.lock().unwrap().iter_mut().rev().find(|span| span.entered > 0) {
            span.events.push(text);
        }
    }

    fn enter(&self, id: &Id) {
        self.with(id, |span| span.entered += 1);
    }

    fn exit(&self, id: &Id) {
        self.with(id, |span| span.entered -= 1);
    }

    fn try_close(&self, id: Id) -> bool {
        self.with(&id, |span| span.is_closed = true);
        true
    }
}

/// A subscriber of this thread.
///
/// While there is but one in the process, a span that another thread meets for the first time is asked of that thread's own, which has none, and is
/// then off for all. So there are more.
fn subscribed() -> (Seen, DefaultGuard) {
    static OTHERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [(); 2].map(|()| Dispatch::new(Seen::default())));
    LazyLock::force(&OTHERS);
    let seen = Seen::default();
    (seen.clone(), tracing::subscriber::set_default(seen))
}

fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

#[tokio::test(start_paused = true)]
async fn each_fetch_has_a_span_that_says_why_it_was_and_what_it_came_to() {
    let (seen, _subscribed) = subscribed();
    let script = Script::taking(SEC / 4, [keys([0])]);
    let remote = Remote::new("https://issuer.test/keys?code=hunter2").unwrap().fetch(script.clone());
    let source = Keys::remote(remote);
    let handle = source.handle();
    handle.ready().await.unwrap();
    let fetched = |trigger: &str, outcome: &str| ["https://issuer.test/keys", trigger, outcome].map(String::from);
    assert_eq!(seen.last(), fetched("start", "changed"));
    handle.refresh().await.unwrap();
    assert_eq!(seen.last(), fetched("manual", "unchanged"));
    sleep(10 * SEC).await;
    assert!(look_up(&source, "nope").await.is_some());
    assert_eq!(seen.last(), fetched("request", "unchanged"));
    sleep(270 * SEC).await;
    assert_eq!(seen.last(), fetched("scheduled", "unchanged"));
    script.set(keys([]));
    handle.refresh().await.unwrap_err();
    assert_eq!(seen.last(), fetched("manual", "refused"));
    sleep(10 * SEC).await;
    script.set(Turn::Body(500, Vec::new()));
    handle.refresh().await.unwrap_err();
    assert_eq!(seen.last(), fetched("manual", "failed"));

    let spans = seen.0.lock().unwrap().clone();
    assert_eq!(spans.len(), script.fetches(), "one each, and nothing else");
    for span in &spans {
        let names: Vec<_> = span.fields.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["duration_ms", "outcome", "source", "trigger"]);
        assert_eq!(
            (&*span.name, &*span.target, &*span.fields.0["duration_ms"]),
            ("countersign.fetch", "countersign", "250")
        );
        assert!(span.is_root && span.is_closed && span.entered == 0, "{span:?}");
    }
    assert_eq!(spans[0].events, ["fetching the keys", "keys published"]);
    assert_eq!(spans[spans.len() - 1].events, ["fetching the keys", "could not fetch the keys"]);
    assert!(!format!("{spans:?}").contains("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_span_names_no_tenant_and_ends_with_its_source() {
    let (seen, _subscribed) = subscribed();
    let sites = Sites::default();
    let tenants = Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys");
    let source = Keys::issuers(issuers::with_sites(Issuers::new(), &sites).tenants(tenants.admit_if(|_| true)));
    assert!(issuers::look_up(&source, "https://login.example/made-up", "k0").await.is_some());
    // It was looked for again at once.
    assert_eq!(seen.last(), ["https://login.example/{tenant}", "scheduled", "failed"]);
    sites.set("https://login.example/made-up-too/keys", Turn::Hang);
    let ask = issuers::look(&source, "https://login.example/made-up-too", "k0");
    sleep(SEC / 2).await;
    drop((ask, source));
    sleep(SEC).await;
    let spans = seen.0.lock().unwrap().clone();
    assert!(spans.len() >= 2 && spans.iter().all(|span| span.is_closed), "{spans:?}");
    assert!(spans.iter().all(|span| !span.fields.0["source"].contains("made-up")));
}
