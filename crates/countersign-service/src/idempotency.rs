//! Answers that were given under an `Idempotency-Key`, for those who did not receive them. One with a token whose key has been
//! revoked since is given to nobody: it is forgotten, and whoever asks again has it made anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use countersign::UnixTime;

/// For how long an answer is kept, at most; never beyond the first `exp` of the tokens in it. A client that has not asked
/// again by then has given up.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(300);

/// Answers that are kept at once, of all clients and of one, and their bytes.
///
/// A batch of the longest tokens is 1 MiB. Were only the bytes of all bounded, one client with a few dozen of them would have
/// the keys of all others refused.
pub(crate) const BOUNDS: Bounds =
    Bounds { answers: 16_384, answers_of_one: 2_048, bytes: 64 * 1024 * 1024, bytes_of_one: 8 * 1024 * 1024 };

/// The longest `Idempotency-Key`, characters.
pub(crate) const MAX_KEY: usize = 255;

#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) answers: usize,
    pub(crate) answers_of_one: usize,
    /// Is exceeded by no more than the answers that are being made at the time.
    pub(crate) bytes: usize,
    /// The same.
    pub(crate) bytes_of_one: usize,
}

pub(crate) struct Idempotency {
    inner: Mutex<Inner>,
    bounds: Bounds,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Name, Entry>,
    by_end: BTreeMap<End, Name>,
    of_client: HashMap<Box<str>, Kept>,
    bytes: usize,
    serial: u64,
}

/// Of one client.
#[derive(Clone, Copy, Default)]
struct Kept {
    answers: usize,
    bytes: usize,
}

struct Entry {
    client: Box<str>,
    request: Name,
    /// And when it is forgotten. `None` while it is being made.
    answer: Option<(Given, End)>,
}

type Name = [u8; 32];

/// When, and which of those that end then.
type End = (UnixTime, u64);

/// An answer, and which tokens are in it.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) body: Bytes,
    /// Of the keys that have signed them.
    pub(crate) kids: BTreeSet<Box<str>>,
    pub(crate) jtis: Vec<Box<str>>,
}

impl Given {
    /// Without tokens.
    pub(crate) fn new(body: Bytes) -> Self {
        Self { body, kids: BTreeSet::new(), jtis: Vec::new() }
    }

    pub(crate) fn with_token(mut self, kid: &str, jti: &str) -> Self {
        if !self.kids.contains(kid) {
            self.kids.insert(kid.into());
        }
        self.jtis.push(jti.into());
        self
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.kids.iter().chain(&self.jtis).map(|name| name.len()).sum::<usize>()
    }
}

/// What there is under a key.
pub(crate) enum Begun {
    /// Nothing: whoever has the ticket makes the answer.
    New(Ticket),
    /// The answer to the same request.
    Answered(Given),
    /// The same request is being answered.
    InProgress,
    /// Another request had this key.
    AnotherRequest,
    /// There is no room for one more.
    Full,
}

/// The right to say what the answer is. Dropped without one, the key is free again.
pub(crate) struct Ticket {
    store: Arc<Idempotency>,
    name: Name,
    is_done: bool,
}

impl Idempotency {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { inner: Mutex::default(), bounds }
    }

    /// `request` is all that the answer depends on; `is_published` says of a key whether what it has signed is still good.
    pub(crate) fn begin(
        self: &Arc<Self>,
        client: &str,
        key: &str,
        request: &[&[u8]],
        now: UnixTime,
        is_published: impl Fn(&str) -> bool,
    ) -> Begun {
        let name = hash(&[client.as_bytes(), key.as_bytes()]);
        let request = hash(request);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sweep(now);
        match inner.entries.get(&name) {
            None => {}
            Some(entry) if entry.request != request => return Begun::AnotherRequest,
            Some(Entry { answer: None, .. }) => return Begun::InProgress,
            Some(Entry { answer: Some((given, _)), .. }) if given.kids.iter().all(|kid| is_published(kid)) => {
                return Begun::Answered(given.clone());
            }
            Some(_) => inner.remove(&name),
        }
        let kept = inner.of_client.get(client).copied().unwrap_or_default();
        let Bounds { answers, answers_of_one, bytes, bytes_of_one } = self.bounds;
        let is_full = inner.entries.len() >= answers || inner.bytes >= bytes;
        if is_full || kept.answers >= answers_of_one || kept.bytes >= bytes_of_one {
            return Begun::Full;
        }
        inner.of_client.entry(client.into()).or_default().answers += 1;
        inner.entries.insert(name, Entry { client: client.into(), request, answer: None });
        Begun::New(Ticket { store: Arc::clone(self), name, is_done: false })
    }
}

impl Ticket {
    /// The answer, to be kept until then.
    pub(crate) fn answered(mut self, answer: Given, until: UnixTime) {
        let mut guard = self.store.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let Some(entry) = inner.entries.get_mut(&self.name) else { return };
        let bytes = answer.bytes();
        inner.serial += 1;
        let end = (until, inner.serial);
        entry.answer = Some((answer, end));
        if let Some(kept) = inner.of_client.get_mut(&entry.client) {
            kept.bytes += bytes;
        }
        inner.bytes += bytes;
        inner.by_end.insert(end, self.name);
        // What is there under this name from here on may be forgotten, and be another's.
        self.is_done = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut inner = self.store.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.entries.get(&self.name).is_some_and(|entry| entry.answer.is_none()) {
            inner.remove(&self.name);
        }
    }
}

impl Inner {
    fn sweep(&mut self, now: UnixTime) {
        while let Some(name) = self.by_end.first_key_value().filter(|(end, _)| end.0 <= now).map(|(_, name)| *name) {
            self.remove(&name);
        }
    }

    fn remove(&mut self, name: &Name) {
        let Some(entry) = self.entries.remove(name) else { return };
        let bytes = entry.answer.as_ref().map_or(0, |(answer, _)| answer.bytes());
        if let Some((_, end)) = entry.answer {
            self.by_end.remove(&end);
        }
        self.bytes -= bytes;
        if let Some(kept) = self.of_client.get_mut(&entry.client) {
            kept.answers -= 1;
            kept.bytes -= bytes;
            if kept.answers == 0 {
                self.of_client.remove(&entry.client);
            }
        }
    }
}

/// Of each part with its length in front.
fn hash(parts: &[&[u8]]) -> Name {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut name = [0; 32];
    name.copy_from_slice(context.finish().as_ref());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    fn store() -> Arc<Idempotency> {
        Arc::new(Idempotency::new(Bounds { answers: 3, answers_of_one: 2, bytes: 10, bytes_of_one: 10 }))
    }

    fn begin(store: &Arc<Idempotency>, client: &str, key: &str, request: &[&[u8]], now: i64) -> Begun {
        store.begin(client, key, request, at(now), |kid| kid == "good")
    }

    fn ticket(store: &Arc<Idempotency>, client: &str, key: &str) -> Ticket {
        match begin(store, client, key, &[b"body"], 0) {
            Begun::New(ticket) => ticket,
            _ => panic!("{client} {key} is not new"),
        }
    }

    fn given(body: &'static str) -> Given {
        Given::new(Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn the_same_request_has_the_same_answer_for_so_long_and_no_longer() {
        let store = store();
        let first = ticket(&store, "a", "k");
        assert!(matches!(begin(&store, "a", "k", &[b"body"], 0), Begun::InProgress));
        first.answered(given("answer"), at(100));
        assert!(matches!(begin(&store, "a", "k", &[b"body"], 99), Begun::Answered(given) if given.body == "answer"));
        assert!(matches!(begin(&store, "a", "k", &[b"other"], 99), Begun::AnotherRequest));
        assert!(matches!(begin(&store, "a", "k", &[b"bo", b"dy"], 99), Begun::AnotherRequest));
        drop(ticket(&store, "b", "k"));
        assert!(matches!(begin(&store, "a", "k", &[b"body"], 100), Begun::New(_)));
    }

    #[test]
    fn an_answer_with_a_token_of_a_key_that_is_not_published_any_more_is_forgotten_whole() {
        let bounds = Bounds { answers: 9, answers_of_one: 9, bytes: 1_000, bytes_of_one: 1_000 };
        let store = Arc::new(Idempotency::new(bounds));
        let good = given("good").with_token("good", "1").with_token("good", "2");
        ticket(&store, "a", "good").answered(good, at(100));
        assert!(matches!(begin(&store, "a", "good", &[b"body"], 1), Begun::Answered(given) if given.jtis.len() == 2));
        let mixed = given("mixed").with_token("good", "3").with_token("revoked", "4");
        ticket(&store, "a", "mixed").answered(mixed, at(50));
        // Another request does not have it forgotten.
        assert!(matches!(begin(&store, "a", "mixed", &[b"other"], 1), Begun::AnotherRequest));
        let anew = ticket(&store, "a", "mixed");
        assert_eq!(store.inner.lock().unwrap().bytes, 4 + 4 + 2, "but for the good one");
        anew.answered(given("anew").with_token("good", "5"), at(100));
        // It ends when it does, and not with the one that was forgotten.
        assert!(matches!(begin(&store, "a", "mixed", &[b"body"], 99), Begun::Answered(given) if given.body == "anew"));
        assert!(matches!(begin(&store, "a", "mixed", &[b"body"], 100), Begun::New(_)));
        let inner = store.inner.lock().unwrap();
        assert!(inner.entries.is_empty() && inner.by_end.is_empty() && inner.of_client.is_empty() && inner.bytes == 0);
    }

    #[test]
    fn a_ticket_that_is_dropped_frees_its_key() {
        let store = store();
        drop(ticket(&store, "a", "k"));
        drop(ticket(&store, "a", "k"));
        let inner = store.inner.lock().unwrap();
        assert!(inner.entries.is_empty() && inner.of_client.is_empty() && inner.by_end.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_never_goes_to_make_room() {
        let store = store();
        let held = [ticket(&store, "a", "1"), ticket(&store, "a", "2")];
        assert!(matches!(begin(&store, "a", "3", &[b"body"], 0), Begun::Full));
        let other = ticket(&store, "b", "1");
        assert!(matches!(begin(&store, "c", "1", &[b"body"], 0), Begun::Full));
        drop(held);
        other.answered(given("0123456789"), at(100));
        assert!(matches!(begin(&store, "c", "1", &[b"body"], 0), Begun::Full));
        assert!(matches!(begin(&store, "c", "1", &[b"body"], 100), Begun::New(_)));
        assert_eq!(store.inner.lock().unwrap().bytes, 0);
    }

    #[test]
    fn one_client_with_long_answers_does_not_take_the_others_room() {
        let bounds = Bounds { answers: 9, answers_of_one: 9, bytes: 10, bytes_of_one: 4 };
        let store = Arc::new(Idempotency::new(bounds));
        ticket(&store, "a", "1").answered(given("0123"), at(100));
        assert!(matches!(begin(&store, "a", "2", &[b"body"], 0), Begun::Full));
        ticket(&store, "b", "1").answered(given("012"), at(100));
        drop(ticket(&store, "b", "2"));
        assert!(matches!(begin(&store, "a", "2", &[b"body"], 100), Begun::New(_)));
        assert!(store.inner.lock().unwrap().of_client.is_empty());
    }
}
