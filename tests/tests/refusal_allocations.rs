//! How often a refused request allocates: to the number for what is usual, and no more for long ones that have no structure. What has
//! many members, or a header longer than its room on the stack, still takes memory with its size, and is not held here. A program of its own,
//! because it counts what goes through the global allocator (of the thread that measures).
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::AllocationInfo;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use countersign::{Algorithm, JwtAuth, KeySet, Refusal};
use countersign_testkit::{TestKey, Token};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "orders";

/// A map of headers with two or three fields is two, the challenge's text one, and the refusal in the extensions three: the map of
/// extensions, its table, and a box for the value.
const OF_A_REFUSAL: u64 = 6;

#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

fn key(number: usize) -> TestKey {
    TestKey::nth(Algorithm::Es256, number)
}

fn good() -> String {
    Token::new(&key(0)).issuer(ISSUER).audience(AUDIENCE).sign()
}

/// What refusing a request with this token allocates, the request itself not counted, and by which reason it is refused.
fn refused(token: &str) -> (&'static str, AllocationInfo) {
    let auth = JwtAuth::with_keys(KeySet::new([key(0).verifying_key()])).algorithms(Algorithm::Es256);
    let mut service = auth.issuer(ISSUER).audience(AUDIENCE).layer(Handler);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let mut code = "";
    let mut serve = || {
        let mut request = Request::new(());
        *request.headers_mut() = headers.clone();
        let mut served = None;
        let counted = allocation_counter::measure(|| {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(service.poll_ready(&mut cx).is_ready());
            if let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut cx) {
                code = response.extensions().get::<Refusal>().unwrap().code();
                served = Some(());
            }
        });
        assert!(served.is_some(), "it was not answered at once");
        counted
    };
    serve();
    let counted = serve();
    (code, counted)
}

#[test]
fn a_refusal_makes_so_many_allocations() {
    let good = good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for (expected, token) in [
        ("unknown_key", Token::new(&key(1)).issuer(ISSUER).audience(AUDIENCE).sign()),
        ("bad_signature", format!("{signed}.{}", B64.encode([1; 64]))),
        ("token_too_long", format!("{good}{}", "A".repeat(16 * 1024))),
        ("not_three_parts", signed.to_owned()),
        ("not_base64url", format!("{signed}.{}!", &signature[1..])),
        ("header_not_an_object", format!("{}.e30.AA", B64.encode("[]"))),
        ("malformed_credentials", format!("{good} {good}")),
    ] {
        let (code, counted) = refused(&token);
        assert_eq!((code, counted.count_total), (expected, OF_A_REFUSAL), "{code}");
    }
}

/// A token of one's own making, as large as may be.
fn forged(header: &str, payload: &str) -> String {
    format!("{}.{}.{}", B64.encode(header), B64.encode(payload), B64.encode([1; 64]))
}

/// Octets that a refusal may allocate altogether; an ordinary one takes two thirds of it.
const MOST_OCTETS: u64 = 1024;

#[test]
fn a_long_text_without_structure_is_refused_with_no_more_memory_than_a_short_one() {
    let header = r#"{"alg":"ES256","kid":"nobody's"}"#;
    for (name, token) in [
        ("a long token", forged(header, &format!(r#"{{"x":"{}"}}"#, "x".repeat(5_900)))),
        ("one that is too long", forged(header, &"x".repeat(40_000))),
        ("dots", ".".repeat(8_000)),
        ("no JSON", forged(header, &"x".repeat(5_900))),
        ("spaces", format!("{}x", " ".repeat(8_000))),
        ("commas", ",".repeat(8_000)),
    ] {
        let (code, counted) = refused(&token);
        assert!(counted.bytes_total <= MOST_OCTETS, "{name}: {code}, {} octets", counted.bytes_total);
    }
}
