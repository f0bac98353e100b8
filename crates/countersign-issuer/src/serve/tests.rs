use super::*;
use crate::by_hand::{ClockByHand, RingByHand, state};
use crate::config::Slot;
use crate::state::KeyState;
use countersign_token::{Algorithm, JwkSet, Origin, SigningKey};
use http_body_util::BodyExt as _;

const SLOT: &str = "es256";
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn key(kid: &str) -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid))
}

fn config() -> RingConfig {
    RingConfig::new([Slot::new(SLOT, Algorithm::Es256)])
}

fn ring() -> (RingByHand, ClockByHand) {
    let clock = ClockByHand::new(NOW);
    (RingByHand::new("https://issuer.example", config(), clock.clone()), clock)
}

/// A ring that has been shown one key.
fn running() -> (RingByHand, ClockByHand) {
    let (ring, clock) = ring();
    ring.show_keys([(SLOT, KeyState::Active, &key("k1"))]).unwrap();
    (ring, clock)
}

fn send(ring: &RingByHand, method: &str, tags: &[&str]) -> Response<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri("/anything?at=all");
    for tag in tags {
        request = request.header(IF_NONE_MATCH, *tag);
    }
    ring.jwks().call(request.body(()).unwrap()).into_inner().unwrap()
}

fn body(response: Response<Full<Bytes>>) -> Bytes {
    let mut body = response.into_body();
    let mut frame = std::pin::pin!(body.frame());
    match frame.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(Some(frame)) => frame.unwrap().into_data().unwrap(),
        Poll::Ready(None) => Bytes::new(),
        Poll::Pending => panic!("it is all there"),
    }
}

fn header(response: &Response<Full<Bytes>>, name: http::HeaderName) -> Option<&str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn a_set_is_served_as_what_it_is() {
    let (ring, _) = running();
    let response = send(&ring, "GET", &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, CONTENT_TYPE), Some("application/jwk-set+json"));
    assert_eq!(header(&response, CACHE_CONTROL), Some("public, max-age=300"));
    assert_eq!(header(&response, ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"));
    let etag = header(&response, ETAG).unwrap();
    assert!(etag.len() == 66 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    let length = header(&response, CONTENT_LENGTH).unwrap().parse::<usize>().unwrap();
    let body = body(response);
    assert_eq!(body.len(), length);
    assert_eq!(JwkSet::parse(&body, Origin::Remote).unwrap().keys().len(), 1);
}

#[test]
fn head_says_all_that_get_says_but_the_body() {
    let (ring, _) = running();
    let (get, head) = (send(&ring, "GET", &[]), send(&ring, "HEAD", &[]));
    assert_eq!((get.status(), get.headers()), (head.status(), head.headers()));
    assert!(head.headers().contains_key(CONTENT_LENGTH));
    assert!(body(head).is_empty() && !body(get).is_empty());
}

#[test]
fn other_methods_are_told_which_there_are() {
    let (ring, _) = running();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "BREW"] {
        let response = send(&ring, method, &["*"]);
        assert_eq!((response.status().as_u16(), header(&response, ALLOW)), (405, Some("GET, HEAD")), "{method}");
        assert!(body(response).is_empty());
    }
}

#[test]
fn whoever_has_the_set_gets_none() {
    let (ring, _) = running();
    let etag = header(&send(&ring, "GET", &[]), ETAG).unwrap().to_owned();
    let weak = format!("W/{etag}");
    let (list, tight) = (format!("\"a,b\" , W/\"x\",,{weak}"), format!("\"\",{etag}"));
    for tags in [
        &[etag.as_str()][..],
        &[&weak],
        &["*"],
        &[" * "],
        &[&list],
        &[&tight],
        &["\"other\"", &etag],
        &["nonsense", &etag],
    ] {
        for method in ["GET", "HEAD"] {
            let response = send(&ring, method, tags);
            assert_eq!(response.status(), 304, "{tags:?}");
            assert_eq!(header(&response, ETAG), Some(etag.as_str()));
            assert_eq!(header(&response, CACHE_CONTROL), Some("public, max-age=300"));
            assert!(!response.headers().contains_key(CONTENT_LENGTH) && !response.headers().contains_key(CONTENT_TYPE));
            assert!(body(response).is_empty());
        }
    }
}

#[test]
fn whoever_has_another_set_or_talks_nonsense_gets_it() {
    let (ring, _) = running();
    let etag = header(&send(&ring, "GET", &[]), ETAG).unwrap().to_owned();
    let inner = etag.trim_matches('"');
    for tag in [
        "\"other\"",
        "",
        ",",
        "\"",
        "W/",
        "W/\"",
        inner,
        &etag[..65],
        &etag[1..],
        &format!("w/{etag}"),
        &format!("*, {etag}"),
        &format!("\"a\"{etag}"),
        &format!("\"x{inner}\""),
        &format!("\"a\" b, {etag}"),
        &etag.to_uppercase(),
        &"\"a\",".repeat(1_000),
    ] {
        assert_eq!(send(&ring, "GET", &[tag]).status(), 200, "{tag}");
    }
    let request = Request::builder().header(IF_NONE_MATCH, HeaderValue::from_bytes(b"\"\xff\"").unwrap()).body(());
    assert_eq!(ring.jwks().call(request.unwrap()).into_inner().unwrap().status(), 200);
}

#[test]
fn the_tag_is_another_when_the_set_is_and_the_old_one_is_no_reason_to_keep_it() {
    let (ring, _) = running();
    let before = send(&ring, "GET", &[]);
    let etag = header(&before, ETAG).unwrap().to_owned();
    let mut service = ring.jwks();
    ring.show_keys([(SLOT, KeyState::Active, &key("k2"))]).unwrap();
    let request = Request::builder().header(IF_NONE_MATCH, &etag).body(()).unwrap();
    let after = service.call(request).into_inner().unwrap();
    assert_eq!(after.status(), 200);
    assert_ne!(header(&after, ETAG), Some(etag.as_str()));
}

#[test]
fn the_body_is_made_once_for_a_state() {
    let (ring, _) = running();
    let (first, second) = (body(send(&ring, "GET", &[])), body(send(&ring, "GET", &[])));
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[test]
fn how_long_it_may_be_kept_is_computed_with_each_answer() {
    let (ring, clock) = ring();
    let mut shown = state(&config(), NOW, [(SLOT, KeyState::Active, &*key("k1"))]).unwrap();
    shown.keys.get_mut("k1").unwrap().remove_at = Some(NOW.saturating_add(Duration::from_secs(20)));
    ring.show(shown, []);
    assert_eq!(header(&send(&ring, "GET", &[]), CACHE_CONTROL), Some("public, max-age=20"));
    clock.advance(Duration::from_secs(7));
    assert_eq!(header(&send(&ring, "GET", &[]), CACHE_CONTROL), Some("public, max-age=13"));
}

#[test]
fn i1_a_state_that_was_read_long_ago_is_given_out_for_less_and_in_the_end_not_at_all() {
    let (ring, clock) = running();
    // A + P + ε are 340 s: a key that was announced right after the state was read signs B after that.
    for (age, expected) in
        [(0, Some(300)), (40, Some(300)), (41, Some(299)), (339, Some(1)), (340, None), (100_000, None)]
    {
        let (ring_of_age, clock_of_age) = running();
        clock_of_age.advance(Duration::from_secs(age));
        let response = send(&ring_of_age, "GET", &[]);
        let expected = expected.map(|seconds| format!("public, max-age={seconds}"));
        let is_served = response.status() == 200;
        assert_eq!(is_served.then(|| header(&response, CACHE_CONTROL).unwrap().to_owned()), expected, "{age}");
    }
    clock.advance(Duration::from_secs(400));
    assert_eq!(send(&ring, "GET", &["*"]).status(), 503);
    ring.show_keys([(SLOT, KeyState::Active, &key("k1"))]).unwrap();
    assert_eq!(send(&ring, "GET", &[]).status(), 200);
}

#[test]
fn i8_as_long_as_there_is_nothing_to_serve_nothing_is_served() {
    let (ring, _) = ring();
    let is_unavailable = |response: Response<Full<Bytes>>| {
        assert_eq!((response.status().as_u16(), header(&response, RETRY_AFTER)), (503, Some("10")));
        assert_eq!(header(&response, CACHE_CONTROL), Some("no-store"));
        assert!(!response.headers().contains_key(ETAG) && body(response).is_empty());
    };
    is_unavailable(send(&ring, "GET", &[]));
    is_unavailable(send(&ring, "HEAD", &["*"]));
    ring.show_keys([(SLOT, KeyState::Revoked, &key("k1"))]).unwrap();
    is_unavailable(send(&ring, "GET", &[]));
}
