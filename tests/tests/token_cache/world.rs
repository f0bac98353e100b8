//! Two services over the same keys, revocations and clock, one with a cache; and everything that can be told of an answer.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use countersign::handler::Authenticated;
use countersign::revocation::{Feed, Intake};
use countersign::{KeySet, Refusal, Verified};
use countersign_token::{Answer, Ask, KeySource, Miss, UnverifiedToken};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use serde::Deserialize;
use serde_json::Value;
use tower::Service;

/// Of tokens, and of keys that are bound to one.
pub(crate) const ISSUERS: [&str; 2] = ["https://a.example", "https://b.example"];

/// A set of keys that a test swaps, and what it does between.
#[derive(Default)]
pub(crate) struct Source {
    /// The keys for all; or of each issuer, if they are kept apart.
    sets: Mutex<[Option<Arc<KeySet>>; 2]>,
    apart: bool,
    /// Whether it can tell the keys by the issuer alone.
    knows_issuers: bool,
    /// Called at each look at a snapshot, with the set that will be handed out already taken.
    pub(crate) hook: Mutex<Option<Hook>>,
}

type Hook = Box<dyn FnMut(&Source) + Send>;

impl Source {
    pub(crate) fn new(apart: bool, knows_issuers: bool) -> Arc<Self> {
        Arc::new(Self { apart, knows_issuers, ..Self::default() })
    }

    pub(crate) fn set(&self, issuer: usize, keys: Option<Arc<KeySet>>) {
        lock(&self.sets)[if self.apart { issuer } else { 0 }] = keys;
    }

    pub(crate) fn get(&self, issuer: usize) -> Option<Arc<KeySet>> {
        lock(&self.sets)[if self.apart { issuer } else { 0 }].clone()
    }

    fn look(&self, issuer: Option<usize>) -> Option<Arc<KeySet>> {
        let taken = self.get(issuer?);
        // Taken out, so that it may look itself.
        let hook = lock(&self.hook).take();
        if let Some(mut hook) = hook {
            hook(self);
            lock(&self.hook).get_or_insert(hook);
        }
        taken
    }
}

impl KeySource for Source {
    type Snapshot<'a> = Arc<KeySet>;
    type Waiting = Ready<Answer>;

    fn snapshot(&self) -> Option<Arc<KeySet>> {
        self.look(Some(0))
    }

    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Arc<KeySet>> {
        if self.apart {
            token.with_unverified_issuer(|issuer| self.look(ISSUERS.iter().position(|known| issuer.is(known))))?
        } else {
            self.snapshot()
        }
    }

    fn snapshot_for_issuer<'i>(&self, issuer: impl FnOnce() -> Option<&'i str>) -> Option<Arc<KeySet>> {
        match (self.knows_issuers, self.apart) {
            (false, _) => None,
            (true, false) => self.snapshot(),
            (true, true) => issuer().and_then(|issuer| self.look(ISSUERS.iter().position(|known| issuer == *known))),
        }
    }

    fn has_keys(&self) -> bool {
        lock(&self.sets).iter().any(Option::is_some)
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting> {
        Ask::Answered(if miss.generation.is_some() {
            Answer::Absent
        } else {
            Answer::NotYet { retry_after: Duration::from_secs(1) }
        })
    }
}

/// A feed whose intake is in the test's hand.
#[derive(Clone, Default)]
pub(crate) struct Hand(Arc<OnceLock<Intake>>);

impl Hand {
    pub(crate) fn intake(&self) -> &Intake {
        self.0.get().expect("a list follows it")
    }
}

impl Feed for Hand {
    fn name(&self) -> Cow<'static, str> {
        "hand".into()
    }

    fn start(self, intake: Intake) {
        let _ = self.0.set(intake);
    }
}

/// What a handler wants of a token; not every good one has it.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "read by `Debug`")]
pub(crate) struct Typed {
    sub: String,
    n: u8,
}

/// Says all that it can find out about its caller.
#[derive(Clone)]
pub(crate) struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        ready(Ok(Response::new(match Authenticated::from_extensions(request.extensions()) {
            Ok(caller) => seen(&caller),
            Err(error) => format!("nobody: {error:?}"),
        })))
    }
}

fn seen(caller: &Authenticated) -> String {
    let token: &Verified = caller;
    let key = token.key();
    let identity = [
        token.issuer(),
        token.subject(),
        token.jwt_id(),
        token.client(),
        token.client_id(),
        token.session(),
        token.tenant(),
    ];
    format!(
        "{identity:?} {:?} {:?}\n{:?} {:?} {:?} {:?} judged {:?}\nkey {:p} {:?} {:?} {:?} {:?}\n{:?} {:?}\n{:?} {:?} {:?}\n{:?}",
        token.audiences().collect::<Vec<_>>(),
        token.scopes().collect::<Vec<_>>(),
        token.expires_at(),
        token.not_before(),
        token.issued_at(),
        token.accepted_until(),
        token.judged_at(),
        Arc::as_ptr(key),
        key.kid(),
        key.thumbprint(),
        key.issuer(),
        token.algorithm(),
        token.claims::<Typed>(),
        token.claims::<Value>(),
        token.check_revocation(token.judged_at()),
        token.check_revocation(token.judged_at().saturating_add(Duration::from_secs(40))),
        caller.require_fresh(Duration::from_secs(15)).err().map(|error| format!("{error:?}")),
        String::from_utf8_lossy(token.payload()),
    )
}

/// Everything about an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
    pub(crate) refusal: Option<String>,
    pub(crate) headers: Vec<(String, HeaderValue)>,
    pub(crate) body: String,
}

pub(crate) fn ask<S>(service: &mut S, headers: &HeaderMap) -> Told
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    assert!(service.poll_ready(&mut context).is_ready());
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut context) else {
        unreachable!("it never waits")
    };
    let refusal = response.extensions().get::<Refusal>();
    let (code, said) = (refusal.map(Refusal::code), refusal.map(|refusal| format!("{refusal:?}")));
    let (parts, body) = response.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    Told { status: parts.status.as_u16(), code, refusal: said, headers, body }
}

pub(crate) fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(
        header::AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {token}")).expect("no control characters"),
    )])
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
