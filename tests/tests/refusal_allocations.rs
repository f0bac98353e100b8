//! How often a refused request allocates: to the number for what is usual, and no more for what is long, deep or of many parts. A program of its
//! own, because it counts what goes through the global allocator (of the thread that measures).
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::AllocationInfo;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use countersign::token::{Answer, Ask, KeySource, Miss};
use countersign::{Algorithm, KeySet, Policy, Refusal, RequireJwtLayer, Verifier};
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

/// Keys that somebody could look for: a token that may be good as soon as its key is found is looked at more closely.
struct Sought(KeySet);

impl KeySource for Sought {
    type Snapshot<'a> = &'a KeySet;
    type Waiting = Ready<Answer>;

    fn snapshot(&self) -> Option<&KeySet> {
        Some(&self.0)
    }

    fn ask(&self, _: Miss<'_>) -> Ask<Self::Waiting> {
        Ask::Answered(Answer::NotYet { retry_after: Duration::from_secs(1) })
    }
}

fn keys() -> KeySet {
    KeySet::new([key(0).verifying_key()])
}

/// What refusing a request with this token allocates, the request itself not counted, and by which reason it is refused.
fn refused(token: &str) -> (&'static str, AllocationInfo) {
    refused_by(keys(), token)
}

fn refused_by(keys: impl KeySource, token: &str) -> (&'static str, AllocationInfo) {
    let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
    let mut service = RequireJwtLayer::new(Verifier::new(keys, policy).algorithms(Algorithm::Es256)).layer(Handler);
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

fn assert_little(name: &str, token: &str) {
    for (code, counted) in [refused(token), refused_by(Sought(keys()), token)] {
        assert!(counted.bytes_total <= MOST_OCTETS, "{name}: {code}, {} octets", counted.bytes_total);
    }
}

const STRANGER: &str = r#"{"alg":"ES256","kid":"nobody's"}"#;

#[test]
fn a_long_text_is_refused_with_no_more_memory_than_a_short_one() {
    for (name, token) in [
        ("a long token", forged(STRANGER, &format!(r#"{{"x":"{}"}}"#, "x".repeat(5_900)))),
        ("one that is too long", forged(STRANGER, &"x".repeat(40_000))),
        ("dots", ".".repeat(8_000)),
        ("no JSON", forged(STRANGER, &"x".repeat(5_900))),
        ("spaces", format!("{}x", " ".repeat(8_000))),
        ("commas", ",".repeat(8_000)),
        ("a long signature", format!("{}.{}.{}", B64.encode(STRANGER), B64.encode("{}"), "A".repeat(6_000))),
    ] {
        assert_little(name, &token);
    }
}

/// So many of them as fit into a token, between commas.
fn many(one: impl Fn(usize) -> String) -> String {
    let mut all = one(0);
    for at in 1.. {
        let next = one(at);
        if all.len() + next.len() > 5_500 {
            break;
        }
        all = format!("{all},{next}");
    }
    all
}

#[test]
fn a_payload_of_many_parts_is_refused_with_no_more_memory_than_a_short_one() {
    let members = many(|at| format!(r#""{at}":0"#));
    let good = format!(r#""iss":"{ISSUER}","aud":"{AUDIENCE}","exp":4000000000"#);
    let strings = many(|at| format!(r#""{at}""#));
    let escaped = "\\u0061".repeat(900);
    for (name, payload) in [
        ("members", format!("{{{members}}}")),
        ("members behind what is good", format!("{{{good},{members}}}")),
        ("members inside", format!(r#"{{{good},"x":{{{members}}}}}"#)),
        ("objects inside of each other", format!(r#"{{"x":{}{}}}"#, r#"{"x":"#.repeat(500), "}".repeat(500))),
        ("arrays inside of each other", format!(r#"{{"x":{}{}}}"#, "[".repeat(2_500), "]".repeat(2_500))),
        ("arrays that never end", format!(r#"{{"x":{}"#, "[".repeat(5_500))),
        ("audiences", format!(r#"{{"iss":"{ISSUER}","exp":4000000000,"aud":[{strings}]}}"#)),
        ("scopes", format!(r#"{{{good},"scp":[{strings}]}}"#)),
        ("a name with escapes", format!(r#"{{{good},"{escaped}":0}}"#)),
        ("a subject with escapes", format!(r#"{{{good},"sub":"{escaped}"}}"#)),
        ("an issuer with escapes", format!(r#"{{"exp":4000000000,"iss":"{escaped}"}}"#)),
        ("a type with escapes", format!(r#"{{{good},"typ":"{escaped}"}}"#)),
        ("a wrong issuer", format!(r#"{{"exp":4000000000,"iss":"{}"}}"#, "x".repeat(5_500))),
        ("a wrong audience", format!(r#"{{"iss":"{ISSUER}","exp":4000000000,"aud":"{}"}}"#, "x".repeat(5_400))),
    ] {
        assert_little(name, &forged(STRANGER, &payload));
    }
}

#[test]
fn a_header_that_is_long_or_of_many_parts_is_refused_with_no_more_memory_than_a_short_one() {
    let members = many(|at| format!(r#""{at}":0"#));
    let long = "x".repeat(4_000);
    for (name, header) in [
        ("certificates", format!(r#"{{"alg":"ES256","kid":"nobody's","x5c":["{long}"]}}"#)),
        ("members", format!(r#"{{"alg":"ES256",{}}}"#, &members[..4_001])),
        ("members inside", format!(r#"{{"alg":"ES256","jwk":{{{}}}}}"#, &members[..4_001])),
        ("a long kid", format!(r#"{{"alg":"ES256","kid":"{long}"}}"#)),
        ("a long typ", format!(r#"{{"alg":"ES256","typ":"{long}"}}"#)),
        ("a typ with escapes", format!(r#"{{"alg":"ES256","typ":"{}"}}"#, "\\u0061".repeat(600))),
        ("a name with escapes", format!(r#"{{"alg":"ES256","{}":0}}"#, "\\u0061".repeat(600))),
        ("brackets", format!(r#"{{"alg":"ES256","x":{}"#, "[".repeat(4_000))),
    ] {
        assert_little(name, &forged(&header, r#"{"exp":4000000000}"#));
    }
}
