//! What `tracing` gets to see of requests, by a subscriber of the test's own.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use countersign::traces::request_span;
use countersign::{Algorithm, JwtAuth, KeySet, Refusal, scope};
use countersign_testkit::{TestKey, Token};
use countersign_tests::refusals::refusal_cases;
use http::{Request, Response};
use tower::{Layer, Service, service_fn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

/// The fields of each span and of each event, in the order in which they began.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    spans: Vec<(&'static Metadata<'static>, Fields)>,
    entered: Vec<Id>,
    events: Vec<(Level, Fields)>,
}

#[derive(Clone, Default, Debug, PartialEq)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }
}

impl Subscriber for Seen {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut state = self.0.lock().unwrap();
        state.spans.push((attributes.metadata(), fields));
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let index = usize::try_from(id.into_u64()).unwrap() - 1;
        values.record(&mut self.0.lock().unwrap().spans[index].1);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().events.push((*event.metadata().level(), fields));
    }

    fn enter(&self, id: &Id) {
        self.0.lock().unwrap().entered.push(id.clone());
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered.pop();
    }

    fn current_span(&self) -> Current {
        let state = self.0.lock().unwrap();
        state.entered.last().map_or_else(Current::none, |id| {
            Current::new(id.clone(), state.spans[usize::try_from(id.into_u64()).unwrap() - 1].0)
        })
    }
}

impl Seen {
    /// What is seen of a request with these headers, which is answered at once: the fields of its span, and its events.
    fn of<L>(layer: &L, authorization: &[http::HeaderValue]) -> (Fields, Vec<(Level, Fields)>)
    where
        L: Layer<Inner>,
        L::Service: Service<Request<()>, Response = Response<()>, Error = Infallible>,
    {
        let seen = Self::default();
        tracing::subscriber::with_default(seen.clone(), || {
            let mut request = Request::get("/orders?access_token=hunter2").body(()).unwrap();
            for value in authorization {
                request.headers_mut().append("authorization", value.clone());
            }
            let _entered = request_span(&request).entered();
            let mut cx = Context::from_waker(Waker::noop());
            let mut service = layer.layer(inner());
            assert!(service.poll_ready(&mut cx).is_ready());
            let mut answer = Box::pin(service.call(request));
            assert!(matches!(answer.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
        });
        let state = seen.0.lock().unwrap();
        (state.spans[0].1.clone(), state.events.clone())
    }
}

type Inner = tower::util::ServiceFn<fn(Request<()>) -> std::future::Ready<Result<Response<()>, Infallible>>>;

fn inner() -> Inner {
    service_fn(|_| std::future::ready(Ok(Response::new(()))))
}

const ISSUER: &str = "https://issuer.example";

fn key() -> TestKey {
    TestKey::nth(Algorithm::Es256, 0)
}

fn auth() -> JwtAuth {
    JwtAuth::with_keys(KeySet::new([key().verifying_key()])).issuer(ISSUER).audience("orders").traced()
}

fn good() -> Token {
    Token::new(&key()).issuer(ISSUER).audience("orders").scope("orders:read")
}

fn bearer(token: &Token) -> http::HeaderValue {
    format!("Bearer {}", token.sign()).parse().unwrap()
}

fn fields<const N: usize>(fields: [(&'static str, &str); N]) -> Fields {
    Fields(fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
}

#[test]
fn an_accepted_request_has_the_fields_of_its_key_and_no_event() {
    let (span, events) = Seen::of(&auth(), &[bearer(&good())]);
    let thumbprint = key().verifying_key().thumbprint().to_string();
    let expected = fields([
        ("method", "GET"),
        ("path", "/orders"),
        ("auth.outcome", "admitted"),
        ("auth.issuer", ISSUER),
        ("auth.algorithm", "ES256"),
        ("auth.key", &thumbprint),
    ]);
    assert_eq!(span, expected);
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn a_refused_request_has_its_reason_and_one_event_at_debug_level() {
    let (span, events) = Seen::of(&auth().require(scope("orders:write")), &[bearer(&good())]);
    let (outcome, reason) = (("auth.outcome", "refused"), ("auth.reason", "insufficient_scope"));
    assert_eq!(span, fields([("method", "GET"), ("path", "/orders"), outcome, reason, ("auth.issuer", ISSUER)]));
    let text = ("message", "a token was not accepted");
    assert_eq!(events, [(Level::DEBUG, fields([outcome, reason, ("auth.issuer", ISSUER), ("status", "403"), text]))]);
}

#[test]
fn only_a_want_of_keys_is_a_warning_and_not_for_each_request() {
    for case in refusal_cases() {
        let layer = case.layer.observe(countersign::Traces::new());
        let reason = case.reason.as_deref().unwrap();
        let authorization: Vec<_> = case.authorization.iter().map(|value| value.parse().unwrap()).collect();
        for is_first in [true, false] {
            let (span, events) = Seen::of(&layer, &authorization);
            assert_eq!(span.0["auth.reason"], reason, "{}", case.name);
            assert_eq!(events.len(), 1, "{}", case.name);
            let level = if case.status == 503 && is_first { Level::WARN } else { Level::DEBUG };
            assert_eq!((events[0].0, &*events[0].1.0["auth.reason"]), (level, reason), "{}", case.name);
        }
    }
}

#[test]
fn nothing_of_a_token_is_in_any_field() {
    let good = good().subject("a-subject").claim("jti", "a-jwt-id");
    let mut judged = 0;
    let mut values = vec![("a good one", bearer(&good))];
    values.extend(good.hostile().into_iter().filter_map(|hostile| Some((hostile.attack, hostile.authorization()?))));
    for (attack, authorization) in values {
        let (span, events) = Seen::of(&auth(), std::slice::from_ref(&authorization));
        for fields in events.iter().map(|(_, fields)| fields).chain([&span]) {
            for (name, value) in &fields.0 {
                let known = match *name {
                    "method" => value == "GET",
                    "path" => value == "/orders",
                    "auth.outcome" => ["admitted", "refused"].contains(&&**value),
                    "auth.reason" => Refusal::CODES.contains(&&**value),
                    "auth.issuer" => value == ISSUER,
                    "auth.algorithm" => value == "ES256",
                    "auth.key" => *value == key().verifying_key().thumbprint().to_string(),
                    "status" => ["400", "401"].contains(&&**value),
                    "message" => value == "a token was not accepted",
                    _ => false,
                };
                assert!(known, "{attack}: {name} is {value}");
            }
        }
        judged += 1;
    }
    assert!(judged > 50, "{judged}");
}

#[test]
fn a_span_without_the_fields_and_none_at_all_do_no_harm() {
    let seen = Seen::default();
    tracing::subscriber::with_default(seen.clone(), || {
        let _entered = tracing::info_span!("another").entered();
        let mut cx = Context::from_waker(Waker::noop());
        let mut service = auth().layer(inner());
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(Box::pin(service.call(Request::new(()))).as_mut().poll(&mut cx).is_ready());
    });
    assert_eq!(seen.0.lock().unwrap().spans[0].1, Fields::default());
}
