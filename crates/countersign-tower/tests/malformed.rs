//! Whatever a request carries behind `Bearer`: what is malformed is 400 and is never let in, and what is not is judged as if nothing had been there to
//! hurry for.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::sync::LazyLock;

use common::{Issuer, ScriptedKeys, layer};
use countersign_token::{Answer, KeySet, KeySource};
use countersign_tower::{Refusal, RequireJwtLayer, bearer_token};
use futures_util_less::now_or_never;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

mod futures_util_less {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    pub(crate) fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

/// The code of the refusal, "inside", or "waits".
fn outcome<K: KeySource>(layer: &RequireJwtLayer<K>, value: &HeaderValue) -> String {
    let inside = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("inside"))));
    let request = Request::builder().header(AUTHORIZATION, value).body(()).unwrap();
    match now_or_never(layer.layer(inside).oneshot(request)) {
        None => "waits".into(),
        Some(response) => {
            let response = response.unwrap();
            response
                .extensions()
                .get::<Refusal>()
                .map_or_else(|| response.body().clone(), |refusal| refusal.code().into())
        }
    }
}

fn expected<K: KeySource>(layer: &RequireJwtLayer<K>, value: &HeaderValue) -> Option<String> {
    let mut headers = http::HeaderMap::new();
    headers.insert(AUTHORIZATION, value.clone());
    match bearer_token(&headers) {
        Err(refusal) => Some(refusal.code().into()),
        Ok(token) => {
            // The other way in: two spaces, which the short way does not take.
            let slow = HeaderValue::from_str(&format!("Bearer  {token}")).unwrap();
            Some(outcome(layer, &slow))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn what_is_malformed_is_never_let_in_and_never_waits(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b" ,\t.=\"aA-_~+/\x80\xc3\xa9\xffe".to_vec()), 0..4), 0..4),
        twice in any::<bool>(), foreign in any::<bool>(),
    ) {
        let other;
        let token = if foreign { other = Issuer::new(); other.token("a") } else { ISSUER.token("a") };
        let mut value = format!("Bearer {token}").into_bytes();
        for (at, octet, how) in edits {
            let at = at.index(value.len());
            match how {
                0 => value[at] = octet,
                1 => value.insert(at, octet),
                2 => value.push(octet),
                _ => drop(value.remove(at)),
            }
        }
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let with_keys = ISSUER.layer();
        let without = layer(KeySet::default());
        let waiting = ScriptedKeys::default();
        waiting.publish(KeySet::default());
        let waiting = layer(waiting);
        let absent = ScriptedKeys::answering(Answer::Absent);
        absent.publish(KeySet::default());
        let absent = layer(absent);
        let unavailable = layer(ScriptedKeys::answering(Answer::NotYet { retry_after: std::time::Duration::from_secs(1) }));
        if twice {
            outcome(&with_keys, &value);
            outcome(&with_keys, &value);
        }
        prop_assert_eq!(Some(outcome(&with_keys, &value)), expected(&with_keys, &value), "{:?}", value);
        prop_assert_eq!(Some(outcome(&without, &value)), expected(&without, &value), "{:?}", value);
        prop_assert_eq!(Some(outcome(&waiting, &value)), expected(&waiting, &value), "{:?}", value);
        prop_assert_eq!(Some(outcome(&absent, &value)), expected(&absent, &value), "{:?}", value);
        prop_assert_eq!(Some(outcome(&unavailable, &value)), expected(&unavailable, &value), "{:?}", value);
    }
}
