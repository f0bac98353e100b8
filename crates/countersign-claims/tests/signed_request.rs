//! The profile of signed requests, rule by rule, and that a token for one request is one for no other.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign_claims::signed_request::{
    self, BodyDigest, LEEWAY, MAX_LIFETIME, NotOnce, NotThisRequest, RequestSigner, SignRequestError, SingleUse, TYPE,
};
use countersign_claims::{ConfigError, Policy, ReplayMemory, UnixTime, Verified};
use countersign_token::{Algorithm, HeaderScratch, SigningKey, UnverifiedToken, VerifyingKey};
use proptest::prelude::*;
use serde_json::{Value, json};

const CLIENT: &str = "billing";
const SERVICE: &str = "https://api.example";
const URL: &str = "https://api.example/v1/keys:rotate?slot=a&dry=1";
const BODY: &[u8] = b"{\"why\":\"leak\"}";
const NOW: i64 = 1_000;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(Algorithm::Es256).unwrap());
static KNOWN: LazyLock<Arc<VerifyingKey>> =
    LazyLock::new(|| Arc::new(KEY.verifying_key().unwrap().bound_to_issuer(CLIENT)));

fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn policy() -> Policy {
    Policy::new().audience(SERVICE).signed_request_profile()
}

/// The code of the refusal, or that there is none.
fn judge(policy: &Policy, typ: &str, claims: &Value, now: UnixTime) -> Result<Verified, String> {
    judge_by(policy, &KNOWN, &KEY.sign_as(typ, claims).unwrap(), now)
}

fn judge_by(policy: &Policy, key: &Arc<VerifyingKey>, token: &str, now: UnixTime) -> Result<Verified, String> {
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(token, 8192, &mut scratch).unwrap();
    policy.judge(token.verify(key).unwrap(), now).map_err(|error| error.code().to_owned())
}

fn claims() -> Value {
    json!({ "iss": CLIENT, "sub": CLIENT, "aud": SERVICE, "iat": NOW, "exp": NOW + 60, "jti": "a",
        "htm": "POST", "htu": URL, "body_sha256": BodyDigest::of(BODY).to_string() })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn signer() -> RequestSigner {
    // A key cannot be copied, so this is another one; what it signs is judged by its own.
    RequestSigner::new(SigningKey::generate(Algorithm::Es256).unwrap(), CLIENT, SERVICE).unwrap()
}

fn verified() -> Verified {
    judge(&policy(), TYPE, &claims(), at(NOW)).unwrap()
}

#[test]
fn the_profile_takes_signed_requests_and_nothing_else() {
    let good = "accepted";
    for (typ, claims, expected) in [
        (TYPE, claims(), good),
        ("application/Request+JWT", claims(), good),
        (TYPE, with("aud", json!([SERVICE])), good),
        (TYPE, with("nbf", json!(NOW)), good),
        ("JWT", claims(), "wrong_type"),
        ("at+jwt", claims(), "wrong_type"),
        ("client-authentication+jwt", claims(), "wrong_type"),
        ("dpop+jwt", claims(), "wrong_type"),
        ("request", claims(), "wrong_type"),
        ("request+jwt;x", claims(), "wrong_type"),
        (TYPE, with("aud", json!("https://api.example/")), "wrong_audience"),
        (TYPE, with("aud", json!("https://API.example")), "wrong_audience"),
        (TYPE, with("aud", json!([SERVICE, "https://other.example"])), "wrong_audience"),
        (TYPE, with("aud", json!(["https://other.example", SERVICE])), "wrong_audience"),
        (TYPE, with("aud", json!([SERVICE, SERVICE])), "wrong_audience"),
        (TYPE, with("sub", json!("other")), "wrong_subject"),
        (TYPE, with("iss", json!("other")), "wrong_subject"),
        (TYPE, with("exp", json!(NOW + 61)), "lives_too_long"),
        (TYPE, with("exp", json!(NOW as f64 + 60.5)), "lives_too_long"),
        (TYPE, with("exp", json!(NOW - 5)), "expired"),
        (TYPE, with("nbf", json!(NOW + 6)), "not_yet_valid"),
        (TYPE, with("cnf", json!({ "jkt": "x" })), "bound_to_key"),
        (TYPE, without("iss"), "claim_missing"),
        (TYPE, without("sub"), "claim_missing"),
        (TYPE, without("aud"), "claim_missing"),
        (TYPE, without("iat"), "claim_missing"),
        (TYPE, without("exp"), "claim_missing"),
        (TYPE, without("jti"), "claim_missing"),
        (TYPE, with("jti", json!(7)), "claim_malformed"),
    ] {
        let judged = judge(&policy(), typ, &claims, at(NOW));
        assert_eq!(judged.map_or_else(|code| code, |_| good.to_owned()), expected, "{typ} {claims}");
    }
    // Both at once, of one and the same other.
    let mut other = with("iss", json!("other"));
    other["sub"] = json!("other");
    assert_eq!(judge(&policy(), TYPE, &other, at(NOW)).unwrap_err(), "wrong_issuer", "the key is another client's");
}

#[test]
fn it_is_good_for_a_minute_and_five_seconds_on_either_side() {
    for (now, expected) in
        [(NOW - 6, "issued_in_the_future"), (NOW - 5, "accepted"), (NOW + 64, "accepted"), (NOW + 65, "expired")]
    {
        let judged = judge(&policy(), TYPE, &claims(), at(now));
        assert_eq!(judged.map_or_else(|code| code, |_| "accepted".to_owned()), expected, "{now}");
    }
    // A longer life that the user allows is none.
    let lax = policy().max_lifetime(Duration::from_secs(3_600));
    assert_eq!(judge(&lax, TYPE, &with("exp", json!(NOW + 61)), at(NOW)).unwrap_err(), "lives_too_long");
    assert_eq!(policy().leeway_in_force(), LEEWAY);
    for other in [
        policy().leeway(Duration::ZERO),
        Policy::new().leeway(Duration::ZERO).audience(SERVICE).signed_request_profile(),
    ] {
        assert_eq!(other.leeway_in_force(), Duration::ZERO);
    }
}

#[test]
fn a_key_that_is_nobodys_signs_no_requests() {
    let unbound = Arc::new(KEY.verifying_key().unwrap());
    let token = KEY.sign_as(TYPE, &claims()).unwrap();
    assert_eq!(judge_by(&policy(), &unbound, &token, at(NOW)).unwrap_err(), "key_of_no_issuer");
}

#[test]
fn no_other_policy_takes_signed_requests() {
    let claims = json!({ "iss": CLIENT, "sub": CLIENT, "aud": SERVICE, "iat": NOW, "exp": NOW + 60, "jti": "a", "client_id": "a" });
    for policy in [
        Policy::new(),
        Policy::new().audience(SERVICE).accept_type(TYPE),
        Policy::new().audience(SERVICE).client_authentication_profile(),
        Policy::new().issuer(CLIENT).audience(SERVICE).access_token_profile(),
    ] {
        assert_eq!(judge(&policy, TYPE, &claims, at(NOW)).unwrap_err(), "wrong_type", "{policy:?}");
    }
    assert!(matches!(Policy::new().accept_type(TYPE).check(), Err(ConfigError::ForeignType(_))));
}

#[test]
fn the_profile_needs_one_audience_and_goes_with_no_other() {
    assert_eq!(policy().check(), Ok(()));
    assert_eq!(Policy::new().signed_request_profile().check(), Err(ConfigError::ProfileNeeds("audience")));
    for policy in [
        policy().audience("https://other.example"),
        policy().client_authentication_profile(),
        Policy::new().audience(SERVICE).client_authentication_profile().signed_request_profile(),
        policy().access_token_profile(),
        policy().dangerous_allow_missing_exp(),
        policy().accept_type("JWT"),
    ] {
        assert!(policy.check().is_err(), "{policy:?}");
    }
}

#[test]
fn a_token_for_one_request_is_one_for_no_other() {
    use NotThisRequest::Other;
    let verified = verified();
    assert_eq!(signed_request::check_head(&verified, "POST", URL), Ok(()));
    assert_eq!(signed_request::check_body(&verified, &BodyDigest::of(BODY)), Ok(()));
    for method in ["GET", "post", "Post", "PUT", "POST ", "", "POSTS", "DELETE"] {
        assert_eq!(signed_request::check_head(&verified, method, URL), Err(Other("htm")), "{method}");
    }
    for url in [
        "",
        "https://api.example/v1/keys:rotate",
        "https://api.example/v1/keys:rotate?slot=a",
        "https://api.example/v1/keys:rotate?slot=a&dry=1&",
        "https://api.example/v1/keys:rotate?slot=a&dry=1#",
        "https://api.example/v1/keys:rotate?dry=1&slot=a",
        "https://api.example/v1/keys:rotate?slot=%61&dry=1",
        "https://api.example/v1/keys%3Arotate?slot=a&dry=1",
        "https://api.example/v1/keys:rotate/?slot=a&dry=1",
        "https://api.example/v1/Keys:rotate?slot=a&dry=1",
        "https://api.example//v1/keys:rotate?slot=a&dry=1",
        "https://api.example/./v1/keys:rotate?slot=a&dry=1",
        "https://api.example/v1/x/../keys:rotate?slot=a&dry=1",
        "https://api.example:443/v1/keys:rotate?slot=a&dry=1",
        "https://API.example/v1/keys:rotate?slot=a&dry=1",
        "http://api.example/v1/keys:rotate?slot=a&dry=1",
        "https://other.example/v1/keys:rotate?slot=a&dry=1",
        "/v1/keys:rotate?slot=a&dry=1",
    ] {
        assert_eq!(signed_request::check_head(&verified, "POST", url), Err(Other("htu")), "{url}");
    }
    for body in [&b""[..], b"{\"why\":\"leak\"", b"{\"why\":\"leak\"}\n", b"{\"why\":\"leaK\"}", b"[]"] {
        assert_eq!(signed_request::check_body(&verified, &BodyDigest::of(body)), Err(Other("body_sha256")));
    }
}

#[test]
fn what_it_does_not_say_is_not_taken_for_said() {
    for name in ["htm", "htu", "body_sha256"] {
        let verified = judge(&policy(), TYPE, &without(name), at(NOW)).unwrap();
        assert_eq!(signed_request::check_head(&verified, "POST", URL), Err(NotThisRequest::Missing(name)));
        for value in [json!(null), json!(7), json!(["POST"]), json!({}), json!(true)] {
            let verified = judge(&policy(), TYPE, &with(name, value), at(NOW)).unwrap();
            assert_eq!(signed_request::check_head(&verified, "POST", URL), Err(NotThisRequest::Malformed(name)));
        }
    }
    // The digest has one spelling.
    let digest = BodyDigest::of(BODY).to_string();
    for digest in [format!("{digest}="), digest.to_lowercase(), format!(" {digest}"), digest[..42].to_owned()] {
        let verified = judge(&policy(), TYPE, &with("body_sha256", json!(digest)), at(NOW)).unwrap();
        assert!(signed_request::check_body(&verified, &BodyDigest::of(BODY)).is_err(), "{digest}");
    }
}

#[test]
fn a_shared_secret_signs_no_requests() {
    let secret = SigningKey::from_secret(&[7; 32], Algorithm::Hs256).unwrap();
    let known = Arc::new(secret.verifying_key().unwrap().bound_to_issuer(CLIENT));
    let token = secret.sign_as(TYPE, &claims()).unwrap();
    let verified = judge_by(&policy(), &known, &token, at(NOW)).unwrap();
    assert_eq!(signed_request::check_head(&verified, "POST", URL), Err(NotThisRequest::SharedSecret));
    assert_eq!(RequestSigner::new(secret, CLIENT, SERVICE).unwrap_err(), SignRequestError::SharedSecret);
}

#[test]
fn it_is_used_up_once() {
    let once = SingleUse::new(ReplayMemory::default(), at(NOW - 100), LEEWAY);
    let verified = verified();
    assert_eq!(once.check(&verified), Ok(()));
    assert_eq!(once.check(&verified), Ok(()), "looking does not use it up");
    assert_eq!(once.use_up(&verified, at(NOW)), Ok(()));
    assert_eq!(once.check(&verified), Err(NotOnce::Used));
    for now in [NOW, NOW + 64, NOW + 65, NOW - 1] {
        assert_eq!(once.use_up(&verified, at(now)), Err(NotOnce::Used), "{now}");
    }
    // One whose time has passed while its body was on its way.
    let late = judge(&policy(), TYPE, &with("jti", json!("b")), at(NOW)).unwrap();
    assert_eq!(once.use_up(&late, at(NOW + 65)), Err(NotOnce::Used));
}

#[test]
fn a_memory_that_is_full_takes_no_more() {
    let once = SingleUse::new(ReplayMemory::new(1, 1), at(NOW - 100), LEEWAY);
    assert_eq!(once.use_up(&verified(), at(NOW)), Ok(()));
    let other = judge(&policy(), TYPE, &with("jti", json!("b")), at(NOW)).unwrap();
    assert_eq!(once.use_up(&other, at(NOW)), Err(NotOnce::Full));
    assert_eq!(once.use_up(&verified(), at(NOW)), Err(NotOnce::Used));
}

/// Whatever its client's clock says: what a process accepts at the very end is refused by one that begins at that moment.
#[test]
fn what_one_process_has_taken_the_next_one_does_not() {
    let mut taken = 0;
    for ahead in -70..=70 {
        let mut claims = with("iat", json!(NOW + ahead));
        claims["exp"] = json!(NOW + ahead + 60);
        let Ok(verified) = judge(&policy(), TYPE, &claims, at(NOW)) else { continue };
        let first = SingleUse::new(ReplayMemory::default(), at(NOW - 1_000), LEEWAY);
        assert_eq!(first.use_up(&verified, at(NOW)), Ok(()));
        let second = SingleUse::new(ReplayMemory::default(), at(NOW).saturating_add(Duration::from_nanos(1)), LEEWAY);
        for later in 0..200 {
            let Ok(again) = judge(&policy(), TYPE, &claims, at(NOW + later)) else { continue };
            assert!(matches!(second.use_up(&again, at(NOW + later)), Err(NotOnce::OlderThanThis { .. })));
            taken += 1;
        }
    }
    assert!(taken > 1_000, "{taken}");
    // And it takes what is made when the leeway is over.
    let second = SingleUse::new(ReplayMemory::default(), at(NOW), LEEWAY);
    let mut claims = with("iat", json!(NOW + 5));
    claims["exp"] = json!(NOW + 65);
    let verified = judge(&policy(), TYPE, &claims, at(NOW + 5)).unwrap();
    assert_eq!(second.use_up(&verified, at(NOW + 5)), Ok(()));
}

#[test]
fn what_the_signer_makes_is_taken() {
    let key = SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid("k");
    let known = Arc::new(key.verifying_key().unwrap().bound_to_issuer(CLIENT));
    let signer = RequestSigner::new(key, CLIENT, SERVICE).unwrap();
    let now = at(NOW).saturating_add(Duration::from_millis(700));
    let token = signer.sign("POST", URL, BODY, now).unwrap();
    let verified = judge_by(&policy(), &known, &token, now).unwrap();
    signed_request::check_head(&verified, "POST", URL).unwrap();
    signed_request::check_body(&verified, &BodyDigest::of(BODY)).unwrap();
    let lifetime = verified.expires_at().unwrap().saturating_since(verified.issued_at().unwrap());
    assert_eq!(lifetime, MAX_LIFETIME);
    assert_ne!(token, signer.sign("POST", URL, BODY, now).unwrap(), "`jti` comes once");
    let short = signer.lifetime(Duration::from_secs(10));
    let verified = judge_by(&policy(), &known, &short.sign("GET", URL, b"", now).unwrap(), now).unwrap();
    assert_eq!(verified.expires_at(), Some(at(NOW + 10)));
}

#[test]
fn the_signer_signs_nothing_that_could_be_meant_otherwise() {
    let now = at(NOW);
    for url in [
        "api.example/a",
        "https://api.example",
        "https://api.example?a",
        "https://api.example/a#b",
        "https://API.example/a",
        "https://api.example:443/a",
        "https://api.example/a/../b",
        "https://api.example//a",
        "https://me@api.example/a",
        "https://api.example/ü",
        "https://api.example/a b",
        "/a",
        "",
    ] {
        assert!(matches!(signer().sign("GET", url, b"", now), Err(SignRequestError::Url(_))), "{url}");
    }
    for method in ["", "GET ", "G\nT", "GÉT", "GET\0"] {
        assert_eq!(signer().sign(method, URL, b"", now), Err(SignRequestError::Method), "{method:?}");
    }
    for (client, audience) in [("", SERVICE), (CLIENT, "")] {
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
        assert!(matches!(RequestSigner::new(key, client, audience), Err(SignRequestError::Empty(_))));
    }
}

/// FIPS 180-4's own example, and that of nothing at all.
#[test]
fn the_digest_is_sha_256_in_base64url() {
    assert_eq!(BodyDigest::of(b"abc").to_string(), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    assert_eq!(BodyDigest::of(b"").to_string(), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    for body in [&b""[..], b"{}"] {
        assert!(include_str!("../../../REQUESTS.md").contains(&BodyDigest::of(body).to_string()), "the page says so");
    }
}

proptest! {
    /// Any change of one octet anywhere in method, URL or body.
    #[test]
    fn any_single_change_is_another_request(which in 0..3_usize, at in any::<prop::sample::Index>(), octet in 0x21..0x7f_u8, how in 0..3_u8) {
        let parts: [&[u8]; 3] = [b"POST", URL.as_bytes(), BODY];
        let mut changed = parts.map(<[u8]>::to_vec);
        let index = at.index(parts[which].len());
        match how {
            0 => changed[which][index] = octet,
            1 => changed[which].insert(index, octet),
            _ => { changed[which].remove(index); }
        }
        prop_assume!(changed[which] != parts[which]);
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let verified = verified();
        let head = signed_request::check_head(&verified, &text(&changed[0]), &text(&changed[1]));
        let body = signed_request::check_body(&verified, &BodyDigest::of(&changed[2]));
        prop_assert_eq!((head.is_err(), body.is_err()), (which < 2, which == 2));
    }
}
