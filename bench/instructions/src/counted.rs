//! What is counted. Everything but the calls of `measured` is preparation, of which nothing is collected.

use std::borrow::Cow;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign::revocation::{Entry, Feed, Intake, Judged, Revocations, Revoked, Revokes, Verdict};
use countersign::{
    Algorithm, KeySet, Keys, Policy, RequireJwt, RequireJwtLayer, RevocationList, SigningKey, UnixTime, Verifier,
};
use countersign_bench::request::{self, AUDIENCE, Handler, ISSUER, claims, headers};
use http::{HeaderMap, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_layer::Layer;
use tower_service::Service;

use crate::Failure;
use crate::provenance::features;

/// How many calls are counted together: what varies with the secret of a hash map varies less in their mean.
const CALLS: usize = 64;

/// How many calls come before: whatever is done once is done by then, and a token that is to be known is.
const BEFORE: usize = 8;

/// How many tokens are in turn where they are many: more than a header cache or a processor's own caches like, and few enough to
/// be signed below valgrind.
const TOKENS: usize = 1_000;

const SIZES: [(&str, usize); 2] = [("1", 1), ("10,000", 10_000)];

const REVOKED: [(&str, usize); 2] = [("1", 1), ("1,000,000", 1_000_000)];

const KID: &str = "3f0c6a52-2026-11";

/// All rows, each with how many calls it was and its name on a line of standard output.
pub fn all() -> Result<(), Failure> {
    println!("{}", features());
    let token = SigningKey::generate(Algorithm::Hs256)?.sign_as("at+jwt", &claims(now()?))?;
    let with_token = headers(&token)?;
    row("the handler without the layer", || call(&mut Handler::new(), &with_token));
    for algorithm in [Algorithm::Es256, Algorithm::Hs256] {
        accepted(algorithm)?;
    }
    refusals()?;
    for (size, keys) in SIZES {
        look_up(size, keys)?;
    }
    for (size, entries) in REVOKED {
        revocation(size, entries)?;
    }
    Ok(())
}

/// Warms up, counts, and says what was counted.
fn row(name: &str, mut once: impl FnMut()) {
    for _ in 0..BEFORE {
        once();
    }
    counted(name, CALLS, &mut once);
}

fn counted(name: &str, calls: usize, once: &mut dyn FnMut()) {
    measured(calls, once);
    println!("{calls} {name}");
}

/// What callgrind knows by its name: collection is on within it, and when it returns, a part is written.
#[inline(never)]
fn measured(calls: usize, once: &mut dyn FnMut()) {
    for _ in 0..black_box(calls) {
        black_box(&mut *once)();
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the work")]
struct MyClaims {
    sub: String,
    azp: String,
    roles: Vec<String>,
}

fn service(signer: &SigningKey, algorithm: Algorithm) -> Result<RequireJwt<Handler, Keys>, Failure> {
    let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
    let keys = Keys::fixed(KeySet::new([signer.verifying_key()?]));
    let verifier = Verifier::new(keys, policy).algorithms(algorithm).with_claims::<MyClaims>();
    Ok(RequireJwtLayer::new(verifier).layer(Handler::new()))
}

/// Whole calls of the layer, typed claims read, with good tokens.
fn accepted(algorithm: Algorithm) -> Result<(), Failure> {
    let signer = SigningKey::generate(algorithm)?.with_kid(KID);
    let mut service = service(&signer, algorithm)?;
    let many = (0..TOKENS).map(|number| good(&signer, number)).collect::<Result<Vec<_>, _>>()?;
    let before = (0..BEFORE).map(|number| good(&signer, TOKENS + number)).collect::<Result<Vec<_>, _>>()?;
    before.iter().for_each(|headers| call(&mut service, headers));

    // Each for the first time; with these counted, each for the second; and so on, in turn.
    for sight in ["first sight", "second sight"] {
        let mut turn = many.iter();
        counted(&format!("{algorithm}, {sight}"), many.len(), &mut || {
            call(&mut service, turn.next().expect("as many as calls"));
        });
    }
    many.iter().for_each(|headers| call(&mut service, headers));
    let mut turn = many.iter();
    counted(&format!("{algorithm}, seen before, 1,000 tokens in turn"), many.len(), &mut || {
        call(&mut service, turn.next().expect("as many as calls"));
    });
    row(&format!("{algorithm}, seen before, the same token again"), || call(&mut service, &many[0]));
    Ok(())
}

fn good(signer: &SigningKey, number: usize) -> Result<HeaderMap, Failure> {
    let mut claims = claims(now()?);
    claims["jti"] = json!(format!("{number:08x}-52c7-4f7e-8f27-6a1f8a1c9e55"));
    let headers = headers(&signer.sign_as("at+jwt", &claims)?)?;
    // A field's value allocates when it is cloned for the first time, and `call` clones them.
    drop(headers.clone());
    Ok(headers)
}

fn refusals() -> Result<(), Failure> {
    let signer = SigningKey::generate(Algorithm::Hs256)?.with_kid(KID);
    let mut service = service(&signer, Algorithm::Hs256)?;
    let claims = claims(now()?);
    let good = signer.sign_as("at+jwt", &claims)?;
    let (signed, signature) = good.rsplit_once('.').ok_or("three parts")?;
    let unknown = SigningKey::generate(Algorithm::Hs256)?.with_kid("91d2b7e4-2026-12").sign_as("at+jwt", &claims)?;
    let long = signer.sign_as("at+jwt", &with(&claims, "groups", json!("g".repeat(12 * 1024))))?;
    let expired = signer.sign_as("at+jwt", &with(&claims, "exp", json!(now()? - 3600)))?;
    let turned: String = signature.chars().rev().collect();
    for (name, token) in [
        ("unknown kid", unknown),
        ("oversized", long),
        ("malformed: two parts", signed.to_string()),
        (
            "malformed: a header that is no JSON",
            format!("{}.{}", "AAAA".repeat(20), &signed[signed.find('.').unwrap_or(0) + 1..]),
        ),
        ("malformed: the signature is no base64url", format!("{signed}.{}!", &signature[1..])),
        ("HS256, bad signature", format!("{signed}.{}", strict(&turned))),
        ("HS256, expired", expired),
    ] {
        let headers = headers(&token)?;
        row(&format!("refused: {name}"), || refused(&mut service, &headers));
    }
    Ok(())
}

/// The last character of 43 has two unused bits, which must be zero.
fn strict(signature: &str) -> String {
    format!("{}A", &signature[..signature.len() - 1])
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

/// One request that is served, from making it to its answer.
fn call<S>(service: &mut S, headers: &HeaderMap)
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    assert!(answer(service, headers).is_success());
}

/// One that is refused.
fn refused<S>(service: &mut S, headers: &HeaderMap)
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    assert_eq!(answer(service, headers), StatusCode::UNAUTHORIZED);
}

fn answer<S>(service: &mut S, headers: &HeaderMap) -> StatusCode
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    request::call(service, request)
}

fn look_up(size: &str, count: usize) -> Result<(), Failure> {
    let name = |number: usize| format!("3f0c6a52-{number:08}");
    let keys = (0..count)
        .map(|number| Ok(SigningKey::generate(Algorithm::Hs256)?.with_kid(name(number)).verifying_key()?))
        .collect::<Result<Vec<_>, Failure>>()?;
    let keys = KeySet::new(keys);
    // From all over the set.
    let names: Vec<_> = (0..CALLS).map(|at| name(at * 151 % count)).collect();
    let mut turn = names.iter().cycle();
    row(&format!("key look-up, {size}: there"), || {
        assert!(keys.candidates(black_box(turn.next().map(String::as_str)), Algorithm::Hs256).next().is_some());
    });
    let names: Vec<_> = (0..CALLS).map(|at| name(count + at)).collect();
    let mut turn = names.iter().cycle();
    row(&format!("key look-up, {size}: not there"), || {
        assert!(keys.candidates(black_box(turn.next().map(String::as_str)), Algorithm::Hs256).next().is_none());
    });
    Ok(())
}

fn revocation(size: &str, count: usize) -> Result<(), Failure> {
    let now = UnixTime::from_secs(i64::try_from(now()?)?);
    let until = now.saturating_add(Duration::from_secs(3600));
    let name = |number: usize| format!("{number:08x}-52c7-4f7e-8f27-6a1f8a1c9e55");
    let hand = Hand::default();
    let list = RevocationList::new().follow(hand.clone());
    let intake = hand.0.get().ok_or("it was started")?;
    let mut snapshot = intake.snapshot();
    for number in 0..count {
        let revokes = Revokes::Token { jwt_id: name(number).into() };
        snapshot.push(&Entry { issuer: ISSUER.into(), revokes, until: Some(until) })?;
    }
    intake.replace(snapshot, now)?;
    intake.confirm_always();

    let check = |jwt_id: &str| {
        let mut token = Judged::at(now);
        token.issuer = Some(ISSUER);
        token.kid = Some(KID);
        token.jwt_id = Some(black_box(jwt_id));
        token.subject = Some("5f2c8f0e-7f4e-4c53-9d3a-0d6f1b7b8a11");
        token.client = Some("web-frontend");
        token.issued_at = Some(now);
        token.expires_at = Some(until);
        list.check(&token)
    };
    let hits: Vec<_> = (0..CALLS).map(|at| name(at * 15_485_863 % count)).collect();
    let mut turn = hits.iter().cycle();
    row(&format!("revocation, {size}: revoked"), || {
        assert_eq!(check(turn.next().expect("for ever")), Verdict::Revoked(Revoked::Token));
    });
    let misses: Vec<_> = (0..CALLS).map(|at| name(count + at)).collect();
    let mut turn = misses.iter().cycle();
    row(&format!("revocation, {size}: not revoked"), || {
        assert_eq!(check(turn.next().expect("for ever")), Verdict::Fresh);
    });
    Ok(())
}

/// A feed whose intake is in our hand.
#[derive(Clone, Default)]
struct Hand(Arc<OnceLock<Intake>>);

impl Feed for Hand {
    fn name(&self) -> Cow<'static, str> {
        "instructions".into()
    }

    fn start(self, intake: Intake) {
        let _ = self.0.set(intake);
    }
}

fn now() -> Result<u64, Failure> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
}
