//! What operators are told of a token that is refused: one test per hint, and what must hold of every report.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::verifier::{Outcome, Step};
use countersign::{
    Algorithm, AlgorithmSet, Handle, Issuers, JwtAuth, KeySet, Policy, Remote, Report, SystemClock, UnixTime, Verdict,
    Verifier, acr, scope,
};
use countersign_testkit::{Answer, IdentityProvider, ManualClock, TestKey, Token};
use countersign_verifier::Refusal;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A layer in front of a real provider, which has its keys.
async fn ready(idp: &IdentityProvider) -> (JwtAuth, Handle) {
    let auth = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("api");
    let handle = auth.handle();
    handle.ready_within(Duration::from_secs(5)).await.unwrap();
    (auth, handle)
}

fn hints(report: &Report) -> String {
    report.hints().collect::<Vec<_>>().join("\n")
}

fn code(report: &Report) -> &'static str {
    match report.verdict() {
        Verdict::Accepted => "accepted",
        Verdict::Refused(refusal) => refusal.code(),
        _ => "key_not_there",
    }
}

#[track_caller]
fn assert_says(report: &Report, refusal: &str, hint: &str) {
    assert_eq!(code(report), refusal, "{report}");
    assert!(hints(report).contains(hint), "{report}");
    assert!(report.to_string().contains(hint), "the text has the hints: {report}");
}

// ---- One per hint ----

#[tokio::test]
async fn a_good_token_passes_every_step() {
    let idp = IdentityProvider::start();
    let (_, handle) = ready(&idp).await;
    let report = handle.explain(&idp.token("api").sign());
    assert_eq!(report.verdict(), &Verdict::Accepted, "{report}");
    assert!(report.claims_are_signed() && report.steps().all(|step| step.outcome() == Outcome::Passed), "{report}");
    assert_eq!(report.hints().count(), 0, "{report}");
    assert!(
        report.to_string().starts_with("accepted\n") && report.to_string().contains("claims, signed: "),
        "{report}"
    );
}

#[tokio::test]
async fn a_good_token_that_the_layer_does_not_let_in_is_told_so() {
    let idp = IdentityProvider::start();
    let (auth, _) = ready(&idp).await;
    let token = idp.token("api").scope("orders:read");
    for (required, expected) in [
        (scope("orders:read"), None),
        (
            scope("orders:write"),
            Some(r#"the layer still answers 403: the token does not satisfy scope "orders:write""#),
        ),
        (acr(["mfa"]), Some(r#"the layer still answers 401: the token does not satisfy acr "mfa""#)),
    ] {
        let report = auth.clone().require(required).handle().explain(&token.sign());
        assert_eq!(report.verdict(), &Verdict::Accepted, "{report}");
        match expected {
            Some(hint) => assert_says(&report, "accepted", hint),
            None => assert_eq!(report.hints().count(), 0, "{report}"),
        }
    }
}

#[tokio::test]
async fn a_token_that_was_cut_points_to_the_proxies() {
    let idp = IdentityProvider::start();
    let (_, handle) = ready(&idp).await;
    let token = idp.token("api").sign();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    for (cut, refusal) in [
        (token[..token.len() - 30].to_owned(), "signature_too_short"),
        (format!("{signed}."), "signature_too_short"),
        (format!("{signed}.{}", &signature[..signature.len() - 1]), "not_base64url"),
        (signed.to_owned(), "not_three_parts"),
        (format!("{header}.{}", &payload[..20]), "not_three_parts"),
        (header[..15].to_owned(), "not_three_parts"),
    ] {
        assert_says(&handle.explain(&cut), refusal, "the token was cut: look at the header buffers");
    }
    // Also of a key that is not there.
    let unknown = idp.token("api").signed_by(&TestKey::nth(Algorithm::Es256, 3).with_kid("other")).sign();
    let report = handle.explain(&unknown[..unknown.len() - 30]);
    assert_says(&report, "signature_too_short", "the token was cut");
    let key = report.steps().find(|step| step.name() == "key").unwrap();
    assert_eq!(key.outcome(), Outcome::WouldFail, "{report}");
}

/// A signature of 4096 bits that was cut is still longer than one of 2048.
#[test]
fn an_rsa_signature_of_odd_length_was_cut() {
    let key = TestKey::nth(Algorithm::Rs256, 0);
    let verifier = Verifier::new(KeySet::new([key.verifying_key()]), Policy::new());
    let token = Token::new(&key).sign();
    let (signed, _) = token.rsplit_once('.').unwrap();
    for (length, hint) in [(400, "the token was cut"), (512, "another key of the same name")] {
        let signature = BASE64_URL_SAFE_NO_PAD.encode(vec![7; length]);
        let report = verifier.explain(&format!("{signed}.{signature}"), UnixTime::from_secs(NOW));
        assert_says(&report, "bad_signature", hint);
    }
}

#[tokio::test]
async fn what_was_pasted_with_the_token_is_named() {
    let idp = IdentityProvider::start();
    let (_, handle) = ready(&idp).await;
    let token = idp.token("api").sign();
    let dots = token.replace('.', ".x.");
    for (text, hint) in [
        (format!("Bearer {token}"), "`Bearer ` is the scheme"),
        (format!("bearer {token}"), "`Bearer ` is the scheme"),
        (format!("\"{token}\""), "quotes around"),
        (format!("'{token}"), "quotes around"),
        (format!("{token}\n"), "white space around"),
        (format!(" {token}"), "white space around"),
        (format!("{token}=="), "base64 with `+`, `/` or `=`"),
        (String::new(), "there is nothing"),
        ("gho_16C7e42F292c6912E7710c838347Ae178B4a".to_owned(), "an opaque token"),
        (dots, "encrypted"),
    ] {
        let report = handle.explain(&text);
        assert!(report.refusal().is_some() && hints(&report).contains(hint), "{text}: {report}");
    }
    let report = handle.explain(&format!("{token}{}", "x".repeat(8192)));
    assert_says(&report, "token_too_long", "max_token_bytes");
}

#[tokio::test]
async fn by_how_much_a_time_is_missed_is_said() {
    let idp = IdentityProvider::start();
    let (_, handle) = ready(&idp).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let expired = handle.explain(&idp.token("api").expired(Duration::from_secs(7_205)).sign());
    assert_says(&expired, "expired", "expired 2 h ago, with 30 s of leeway");
    assert!(!hints(&expired).contains("the clock, not the token"), "{expired}");
    let early = handle.explain(&idp.token("api").claim("nbf", now + 605).sign());
    assert_says(&early, "not_yet_valid", "valid only in 10 min: a clock is wrong");
    let future = handle.explain(&idp.token("api").claim("iat", now + 605).sign());
    assert_says(&future, "issued_in_the_future", "issued 10 min from now");
    let milliseconds = handle.explain(&idp.token("api").claim("exp", now * 1000).sign());
    assert_says(&milliseconds, "claim_malformed", "milliseconds");
}

#[tokio::test]
async fn the_clock_and_not_the_token() {
    let idp = IdentityProvider::start();
    let behind = SystemTime::now() - Duration::from_secs(120);
    idp.set_header("date", &httpdate::fmt_http_date(behind));
    let (_, handle) = ready(&idp).await;
    let token = idp.token("api").expired(Duration::from_secs(60));
    assert_says(&handle.explain(&token.sign()), "expired", "the clock, not the token: the provider's clock is 1");
    let very_late = handle.explain(&idp.token("api").expired(Duration::from_secs(600)).sign());
    assert!(!hints(&very_late).contains("the clock, not the token"), "{very_late}");
    // Also where the key is not even looked for.
    let unknown = token.signed_by(&TestKey::nth(Algorithm::Es256, 3).with_kid("other"));
    assert_says(&handle.explain(&unknown.sign()), "key_not_sought", "the clock, not the token");
}

#[tokio::test]
async fn the_time_is_that_of_the_configured_clock() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let clock = ManualClock::stopped_now();
    let auth = JwtAuth::with_keys(KeySet::new([key.verifying_key()])).audience("api").clock(clock.clone());
    let (handle, token) = (auth.handle(), Token::new(&key).audience("api").sign());
    assert_eq!(code(&handle.explain(&token)), "accepted");
    clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(code(&handle.explain(&token)), "expired");
}

#[tokio::test]
async fn a_key_that_was_withdrawn_is_told_from_one_that_never_was() {
    let idp = IdentityProvider::start();
    let (auth, handle) = ready(&idp).await;
    let old = idp.key();
    let token = idp.token("api").sign();
    idp.replace_keys();
    handle.keys().refresh().await.unwrap();
    let report = handle.explain(&token);
    let hint = format!("key {:?} was withdrawn 0 s ago: the caller has to get a new token", old.kid().unwrap());
    assert_says(&report, "unknown_key", &hint);
    let made_up = idp.token("api").signed_by(&TestKey::nth(Algorithm::Es256, 3).with_kid("made up")).sign();
    let report = handle.explain(&made_up);
    assert_says(&report, "key_not_there", "the keys of \"http://127.0.0.1:");
    assert!(hints(&report).contains("are up to date, last seen 0 s ago"), "{report}");
    let current = format!("{:?}", idp.key().kid().unwrap());
    let step = report.steps().find(|step| step.name() == "key").unwrap();
    assert!(step.detail().contains(&current), "which keys there are instead: {report}");
    drop(auth);
}

#[tokio::test]
async fn keys_that_are_not_there_are_told_with_their_state() {
    let idp = IdentityProvider::start();
    idp.set_answer(Answer::status(500));
    let auth = JwtAuth::new(idp.jwks_url()).audience("api");
    let handle = auth.handle();
    let _ = handle.ready_within(Duration::from_millis(300)).await.unwrap_err();
    let report = handle.explain(&idp.token("api").sign());
    assert_says(&report, "key_not_there", "are not usable: the keys could not be fetched yet; the last fetch failed: ");
    assert!(report.steps().any(|step| step.detail() == "there are no keys for this token"), "{report}");

    let keys = KeySet::new([TestKey::nth(Algorithm::Es256, 4).verifying_key()]);
    let report = JwtAuth::with_keys(keys).audience("api").handle().explain(&idp.token("api").sign());
    assert_says(&report, "unknown_key", "configured here and do not change");
}

#[tokio::test]
async fn the_issuer_of_another_environment_is_recognised() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let keys = || KeySet::new([key.verifying_key()]);
    let auth = JwtAuth::with_keys(keys()).issuer("https://login.example/realms/prod").audience("api");
    let handle = auth.handle();
    for (iss, hint) in [
        (
            "https://login.staging.example/realms/prod",
            "from another environment: its `iss` \"https://login.staging.example",
        ),
        (
            "https://login.example/realms/test",
            "differs from the configured \"https://login.example/realms/prod\" in the path",
        ),
        ("https://login.example:8443/realms/prod", "in the port"),
        ("http://login.example/realms/prod", "differ in the scheme only"),
        ("https://login.example/realms/prod/", "differ in the slash at the end only"),
        (
            "https://accounts.elsewhere.org",
            "\"https://accounts.elsewhere.org\" is not an issuer that is configured here",
        ),
    ] {
        assert_says(&handle.explain(&Token::new(&key).issuer(iss).audience("api").sign()), "wrong_issuer", hint);
    }
    // With its own key, whose name is not known here, or is that of another key.
    let token = Token::new(&key).issuer("https://login.staging.example/realms/prod").audience("api");
    let report =
        handle.explain(&token.clone().signed_by(&TestKey::nth(Algorithm::Es256, 1).with_kid("staging")).sign());
    assert_says(&report, "unknown_key", "from another environment");
    let kid = key.kid().unwrap().to_owned();
    let report = handle.explain(&token.signed_by(&TestKey::nth(Algorithm::Es256, 1).with_kid(kid)).sign());
    assert_says(&report, "bad_signature", "from another environment");
    assert!(hints(&report).contains("another key of the same name has signed it"), "{report}");
    assert!(!report.claims_are_signed() && report.to_string().contains("claims, UNVERIFIED: "), "{report}");
}

#[tokio::test]
async fn of_many_issuers_the_nearest_is_named() {
    let idp = IdentityProvider::start();
    let issuers = Issuers::new().issuer_at("https://login.example", Remote::new(idp.jwks_url()).unwrap());
    let auth = JwtAuth::issuers(issuers.each(Remote::dangerous_allow_http)).audience("api");
    let handle = auth.handle();
    handle.ready_within(Duration::from_secs(5)).await.unwrap();
    let token = idp.token("api").issuer("https://login.example");
    assert_eq!(code(&handle.explain(&token.sign())), "accepted", "{}", handle.explain(&token.sign()));
    let report = handle.explain(&token.clone().issuer("https://login.staging.example").sign());
    assert_says(&report, "key_not_there", "differs from the configured \"https://login.example\" in the host");
    // A key that its own issuer has withdrawn.
    idp.replace_keys();
    handle.keys().refresh().await.unwrap();
    assert_says(&handle.explain(&token.sign()), "key_not_there", "was withdrawn 0 s ago");
}

#[tokio::test]
async fn whom_the_token_is_for_is_said() {
    let idp = IdentityProvider::start();
    let (_, handle) = ready(&idp).await;
    let several = idp.token("billing").claim("aud", json!(["a", "b", "c", "d", "e", "f"])).sign();
    for (token, hint) in [
        (idp.token("billing").sign(), "the token is for \"billing\", and this service is \"api\""),
        (several, "the token is for [\"a\", \"b\", \"c\", \"d\"] and 2 more, and this service is \"api\""),
    ] {
        assert_says(&handle.explain(&token), "wrong_audience", hint);
    }
    let report = handle.explain(&idp.token("api").without("aud").sign());
    assert_says(&report, "claim_missing", "the issuer has to put \"aud\" into the token");
}

#[tokio::test]
async fn other_kinds_of_token_are_named() {
    let idp = IdentityProvider::start();
    let (_, handle) = ready(&idp).await;
    let token = || idp.token("api");
    for (token, refusal, hint) in [
        (token().claim("at_hash", "x"), "id_token", "send the access token"),
        (token().claim("events", json!({})), "security_event", "logout token"),
        (token().claim("cnf", json!({ "jkt": "x" })), "bound_to_key", "DPoP or a client certificate"),
        (token().typ("dpop+jwt"), "wrong_type", "accept_type"),
    ] {
        assert_says(&handle.explain(&token.sign()), refusal, hint);
    }
}

#[tokio::test]
async fn algorithms_and_names_of_keys_that_are_not_allowed() {
    let idp = IdentityProvider::start();
    let (auth, handle) = ready(&idp).await;
    let hmac = idp.token("api").signed_by(&TestKey::nth(Algorithm::Hs256, 0)).sign();
    let report = handle.explain(&hmac);
    assert_says(
        &report,
        "alg_not_allowed",
        "HS256 needs a secret shared with the issuer and is never used with fetched keys",
    );
    assert!(report.claims().any(|(name, _)| name == "iss"), "{report}");
    let (_, rest) = hmac.split_once('.').unwrap();
    let none = format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k"}"#));
    let report = handle.explain(&none);
    assert_says(&report, "alg_none", "anybody can make such a one");
    assert_eq!(report.header().collect::<Vec<_>>(), [("alg", "\"none\""), ("kid", "\"k\"")]);
    let rs256 = auth.clone().algorithms(Algorithm::Rs256).handle().explain(&idp.token("api").sign());
    assert_says(&rs256, "alg_not_allowed", "allow ES256 with `algorithms`");
    let nameless = auth.require_kid().handle().explain(&idp.token("api").without_header("kid").sign());
    assert_says(&nameless, "kid_required", "name its key");
}

#[derive(serde::Deserialize)]
struct Needy {
    #[expect(dead_code, reason = "only that it is demanded counts")]
    tenant: String,
}

#[tokio::test]
async fn a_type_that_does_not_fit_and_rules_of_the_users_own() {
    let idp = IdentityProvider::start();
    let (auth, _) = ready(&idp).await;
    let report = auth.clone().with_claims::<Needy>().handle().explain(&idp.token("api").sign());
    assert_says(&report, "claims_type", "make the field an `Option`");
    let auth = auth.policy(|policy| policy.subject(|sub| sub == "bob"));
    let report = auth.handle().explain(&idp.token("api").sign());
    assert_eq!(code(&report), "wrong_subject", "{report}");
    let unsigned = idp.token("api").signed_by(&TestKey::nth(Algorithm::Es256, 3).with_kid("x")).sign();
    let sub = auth.handle().explain(&unsigned).steps().find(|step| step.name() == "sub").unwrap().outcome();
    assert_eq!(sub, Outcome::NotReached, "the user's code sees no claims that nobody has signed");
}

// ---- What must hold of every report ----

#[tokio::test]
async fn explaining_makes_nobody_fetch_anything() {
    let idp = IdentityProvider::start();
    let (auth, handle) = ready(&idp).await;
    let fetches = idp.fetches();
    for n in 0..50 {
        let unknown = idp.token("api").signed_by(&TestKey::nth(Algorithm::Es256, 3).with_kid(format!("k{n}")));
        assert_eq!(code(&handle.explain(&unknown.sign())), "key_not_there");
        // The same name, another key: a request with it has the source look whether the key was replaced.
        let kid = idp.key().kid().unwrap().to_owned();
        let mismatch = idp.token("api").signed_by(&TestKey::nth(Algorithm::Es256, 3).with_kid(kid));
        assert_eq!(code(&handle.explain(&mismatch.sign())), "bad_signature");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(idp.fetches(), fetches);
    // A request does, so there would have been something to see.
    let unknown = idp.token("api").signed_by(&TestKey::nth(Algorithm::Es256, 3).with_kid("k")).sign();
    let _ = auth.verifier().verify_or_wait(&unknown, &SystemClock).await.unwrap_err();
    assert!(idp.fetches() > fetches);
}

/// The verdict of `explain` as that of `verify` by static keys.
fn verdict(report: &Report) -> Result<(), Refusal> {
    match report.verdict() {
        Verdict::Accepted => Ok(()),
        Verdict::Refused(refusal) => Err(refusal.clone()),
        _ => Err(Refusal::UnknownKey),
    }
}

#[track_caller]
fn assert_agrees(verifier: &Verifier<KeySet>, token: &str, now: UnixTime) -> Report {
    let report = verifier.explain(token, now);
    assert_eq!(verdict(&report), verifier.verify(token, now).map(drop), "{token}\n{report}");
    let failed = report.steps().filter(|step| step.outcome() == Outcome::Failed).count();
    assert_eq!(failed, usize::from(report.verdict() != &Verdict::Accepted), "{report}");
    if let Some(refusal) = report.refusal() {
        let step = report.steps().find(|step| step.outcome() == Outcome::Failed).unwrap();
        let says_why = step.detail().starts_with(&refusal.to_string());
        assert!(says_why || matches!(refusal, Refusal::UnknownKey), "{refusal}: {report}");
    }
    assert_shows_no_token(&report, token);
    report
}

/// No piece of it that is long enough to be of use.
#[track_caller]
fn assert_shows_no_token(report: &Report, token: &str) {
    let texts = [report.to_string(), format!("{report:?}")];
    assert!(texts.iter().all(|text| text.len() < 32 * 1024), "{}", texts[0].len());
    for text in &texts {
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
    let is_of_a_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    for run in texts.iter().flat_map(|text| text.split(|c| !is_of_a_part(c))) {
        for piece in run.as_bytes().windows(20) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!token.contains(piece), "{piece}: {}", texts[0]);
        }
    }
}

const NOW: i64 = 1_800_000_000;

#[test]
fn of_every_attack_the_verdict_is_that_of_verify() {
    let now = UnixTime::from_secs(NOW);
    let mut seen = 0;
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::Ed25519, Algorithm::Hs256] {
        let key = TestKey::nth(algorithm, 0);
        let good = Token::new(&key).issuer("https://login.example").audience("api");
        let good = good.issued_at(now, Duration::from_secs(300));
        let policy = Policy::new().issuer("https://login.example").audience("api").access_token_profile();
        for allowed in [AlgorithmSet::ASYMMETRIC, Algorithm::ALL.into_iter().collect()] {
            let verifier = Verifier::new(KeySet::new([key.verifying_key()]), policy.clone()).algorithms(allowed);
            assert_agrees(&verifier, &good.sign(), now);
            for hostile in good.hostile() {
                let report = assert_agrees(&verifier, &hostile.token, now);
                assert_ne!(report.verdict(), &Verdict::Accepted, "{}", hostile.attack);
                seen += 1;
            }
        }
    }
    assert!(seen > 800, "{seen}");
}

#[test]
fn the_first_rule_that_is_broken_decides_and_the_others_are_told() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let policy = || {
        let policy = Policy::new().issuer("https://a").audience("api").require_claim("tenant").access_token_profile();
        let policy = policy.max_age(Duration::from_secs(100)).max_lifetime(Duration::from_secs(200));
        policy.subject(|sub| sub == "ada").issuer_of_key()
    };
    let of = |issuer: &str| Verifier::new(KeySet::new([key.verifying_key().bound_to_issuer(issuer)]), policy());
    let (another, verifier) = (of("https://b"), of("https://a"));
    let now = UnixTime::from_secs(NOW);
    let worst =
        Token::new(&key).typ("dpop+jwt").claim("exp", NOW - 100).claim("nbf", NOW + 100).claim("iat", NOW + 100);
    let worst =
        worst.issuer("https://c").audience("billing").subject("bob").without("client_id").claim("cnf", json!({}));
    // Each step mends what the one before was refused for.
    type Mend = fn(Token) -> Token;
    let steps: [(&str, Mend); 14] = [
        ("kind of token", |token| token),
        ("exp", |token| token.typ("at+jwt")),
        ("nbf", |token| token.claim("exp", NOW + 1_000)),
        ("iat", |token| token.without("nbf")),
        ("age", |token| token.claim("iat", NOW - 150)),
        ("lifetime", |token| token.claim("iat", NOW - 10)),
        ("iss", |token| token.claim("exp", NOW + 100)),
        ("aud", |token| token.issuer("https://a")),
        ("required claims", |token| token.audience("api")),
        ("profile", |token| token.claim("tenant", "t")),
        ("issuer of key", |token| token.client_id("c")),
        ("sub", |token| token),
        ("cnf", |token| token.subject("ada")),
        ("", |token| token.without("cnf")),
    ];
    let (mut token, mut wrong) = (worst, usize::MAX);
    for (name, mend) in steps {
        token = mend(token);
        // The key is not the token's to mend.
        let verifier = if ["sub", "cnf", ""].contains(&name) { &verifier } else { &another };
        let report = assert_agrees(verifier, &token.sign(), now);
        let failed = report.steps().find(|step| step.outcome() == Outcome::Failed).map(Step::name);
        assert_eq!(failed.unwrap_or_default(), name, "{report}");
        let now_wrong = report.steps().filter(|step| step.is_wrong()).count();
        assert!(now_wrong <= wrong, "{report}");
        wrong = now_wrong;
    }
    assert_eq!(wrong, 0);
}

#[test]
fn hostile_text_is_short_and_escaped_wherever_it_stands() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let evil = "\u{1b}[31m\u{202e}\u{0}\r\n\u{2066}\u{200b}\u{9b}hint: all is well\u{7}";
    let long = evil.repeat(100);
    let verifier = Verifier::new(KeySet::new([key.verifying_key()]), Policy::new().issuer("https://a").audience("b"));
    let now = UnixTime::from_secs(NOW);
    for text in [evil, long.as_str()] {
        let token = Token::new(&key).issued_at(now, Duration::from_secs(300));
        for token in [
            token.clone().issuer(text).audience(text).claim("exp", text).claim("iat", text),
            token.clone().issuer(text).audience(text),
            token.clone().issuer("https://a").audience(text),
            token.clone().issuer(text).claim("aud", json!([text, text, text, text, text])).typ(text),
            token.clone().header("kid", evil).header("typ", text),
            token.header("alg", text).header("kid", text),
        ] {
            let report = assert_agrees(&verifier, &token.sign(), now);
            let text = report.to_string();
            assert!(!text.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{1b}']), "{text}");
            assert!(text.len() < 16 * 1024, "{}", text.len());
            assert!(!text.contains("\nhint: all is well"), "{text}");
        }
    }
    for huge in ["x".repeat(4 << 20), ".".repeat(4 << 20), "\u{1b}".repeat(1 << 20), " ".repeat(1 << 20)] {
        let report = verifier.explain(&huge, now);
        assert_eq!(code(&report), "token_too_long");
        assert!(report.to_string().len() < 4096, "{report}");
    }
}

#[test]
fn who_it_is_about_is_not_shown() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let verifier = Verifier::new(KeySet::new([key.verifying_key()]), Policy::new().audience("api").subject(|_| false));
    let token = Token::new(&key).audience("api").subject("ada-lovelace").claim("email", "ada@example.com");
    let now = token.claims()["iat"].as_i64().unwrap();
    let report = verifier.explain(&token.sign(), UnixTime::from_secs(now));
    assert_eq!(code(&report), "wrong_subject");
    let text = format!("{report}{report:?}");
    assert!(!text.contains("lovelace") && !text.contains("ada@"), "{text}");
}

#[test]
fn of_two_issuers_with_one_key_the_right_one_is_told() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let bound = |issuer: &str| key.verifying_key().bound_to_issuer(issuer);
    let keys = KeySet::new([bound("https://a.example"), bound("https://b.example")]);
    let verifier = Verifier::new(keys, Policy::new().audience("api").issuer_of_key());
    let now = UnixTime::from_secs(NOW);
    let token = Token::new(&key).audience("api").issued_at(now, Duration::from_secs(300));
    for (issuer, accepted) in [("https://a.example", true), ("https://b.example", true), ("https://c.example", false)] {
        let report = assert_agrees(&verifier, &token.clone().issuer(issuer).sign(), now);
        assert_eq!(report.verdict() == &Verdict::Accepted, accepted, "{report}");
        let signature = report.steps().find(|step| step.name() == "signature").unwrap();
        assert!(!accepted || signature.detail().ends_with(&format!("of {issuer:?}")), "{report}");
    }
}

/// Settings of a policy, each on or off.
fn policy(bits: u16) -> Policy {
    type Set = fn(Policy) -> Policy;
    let settings: [Set; 11] = [
        |policy| policy.issuer("https://login.example"),
        |policy| policy.audience("api"),
        |policy| policy.issuer_of_key(),
        |policy| policy.require_claim("tenant").require_claim("iat"),
        |policy| policy.subject(|sub| sub == "ada"),
        |policy| policy.max_age(Duration::from_secs(100)),
        |policy| policy.max_lifetime(Duration::from_secs(200)),
        |policy| policy.access_token_profile(),
        |policy| policy.dangerous_allow_missing_exp(),
        |policy| policy.accept_unbound_cnf(),
        |policy| policy.accept_id_tokens(),
    ];
    let chosen = settings.into_iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    chosen.fold(Policy::new(), |policy, (_, set)| set(policy))
}

fn claim() -> impl Strategy<Value = (&'static str, Option<Value>)> {
    let time = (NOW - 400..NOW + 400).prop_map(Value::from);
    prop_oneof![
        (prop::sample::select(vec!["exp", "nbf", "iat"]), time.prop_map(Some)),
        prop::sample::select(vec![
            ("iss", json!("https://login.example")),
            ("iss", json!("https://login.staging.example")),
            ("iss", json!(["https://login.example"])),
            ("aud", json!("api")),
            ("aud", json!("billing")),
            ("aud", json!([])),
            ("sub", json!("bob")),
            ("tenant", json!(null)),
            ("cnf", json!({})),
            ("at_hash", json!("x")),
            ("events", json!({})),
            ("exp", json!("soon")),
        ])
        .prop_map(|(name, value)| (name, Some(value))),
        prop::sample::select(vec!["iss", "aud", "sub", "exp", "iat", "jti", "client_id"]).prop_map(|name| (name, None)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn whatever_is_wrong_the_verdict_is_that_of_verify(
        bits in any::<u16>(),
        changes in proptest::collection::vec(claim(), 0..8),
        signer in prop::sample::select(vec![0, 0, 0, 1, 2]),
        typ in prop::sample::select(vec![None, Some("JWT"), Some("at+jwt"), Some("dpop+jwt")]),
        bound in prop::sample::select(vec![None, Some("https://login.example"), Some("https://other.example")]),
        damage in proptest::option::weighted(0.2, (any::<prop::sample::Index>(), any::<char>())),
        now in NOW - 200..NOW + 500,
    ) {
        let key = TestKey::nth(Algorithm::Ed25519, 0);
        let now = UnixTime::from_secs(now);
        let mut token = Token::new(&key).issuer("https://login.example").audience("api")
            .issued_at(UnixTime::from_secs(NOW), Duration::from_secs(300));
        token = match signer {
            0 => token,
            1 => token.signed_by(&TestKey::nth(Algorithm::Ed25519, 1).with_kid(key.kid().unwrap().to_owned())),
            _ => token.signed_by(&TestKey::nth(Algorithm::Ed25519, 1).with_kid("unknown")),
        };
        for (name, value) in changes {
            token = match value {
                Some(value) => token.claim(name, value),
                None => token.without(name),
            };
        }
        token = match typ {
            Some(typ) => token.typ(typ),
            None => token.without_header("typ"),
        };
        let mut text = token.sign();
        if let Some((at, character)) = damage {
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            characters[at] = character;
            text = characters.into_iter().collect();
        }
        let mut verifying = key.verifying_key();
        if let Some(issuer) = bound {
            verifying = verifying.bound_to_issuer(issuer);
        }
        let verifier = Verifier::new(KeySet::new([verifying]), policy(bits));
        assert_agrees(&verifier, &text, now);
    }
}
