//! Several issuers behind one layer, and issuers that are discovered: over real sockets, into a handler.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use countersign::token::JwkSet;
use countersign::{
    Algorithm, ConfigError, Issuers, JwtAuth, KeyState, Keys, Origin, Policy, Refusal, Remote, Tenants, Verified,
    Warning,
};
use countersign_testkit::{Answer, IdentityProvider, TestKey, Token};
use http::{Request, StatusCode};
use tower::ServiceExt as _;

/// Says whose token it was.
async fn whose(Extension(token): Extension<Verified>) -> String {
    token.issuer().unwrap_or_default().to_owned()
}

fn app(auth: JwtAuth) -> Router {
    Router::new().route("/", get(whose)).layer(auth)
}

/// The status, and the reason of a refusal.
async fn call(app: &Router, token: &str) -> (StatusCode, Option<&'static str>) {
    let request = Request::get("/").header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    (response.status(), response.extensions().get::<Refusal>().map(Refusal::code))
}

const OK: (StatusCode, Option<&'static str>) = (StatusCode::OK, None);
const REFUSED: StatusCode = StatusCode::UNAUTHORIZED;

fn issuers(of: &[&IdentityProvider]) -> Issuers {
    of.iter().fold(Issuers::new(), |issuers, idp| issuers.issuer(idp.issuer()))
}

#[tokio::test]
async fn statement_46_the_key_must_be_that_issuers() {
    let (a, b) = (IdentityProvider::start(), IdentityProvider::start());
    let app = app(JwtAuth::issuers(issuers(&[&a, &b])).audience("api").deny_unbound());
    assert_eq!(call(&app, &a.token("api").sign()).await, OK);
    assert_eq!(call(&app, &b.token("api").sign()).await, OK);
    // Each issuer's key under the other's name, with the name of either's key.
    for (signer, victim) in [(&a, &b), (&b, &a)] {
        let forged = signer.token("api").issuer(victim.issuer());
        assert_eq!(call(&app, &forged.sign()).await.0, REFUSED);
        let kid = victim.key().kid().unwrap().to_owned();
        let renamed = forged.signed_by(&signer.key().with_kid(kid)).sign();
        assert_eq!(call(&app, &renamed).await, (REFUSED, Some("bad_signature")));
        let nameless = signer.token("api").issuer(victim.issuer()).signed_by(&signer.key().without_kid()).sign();
        assert_eq!(call(&app, &nameless).await, (REFUSED, Some("bad_signature")));
    }
    let stranger = a.token("api").issuer("https://evil.example").sign();
    assert_eq!(call(&app, &stranger).await, (REFUSED, Some("unknown_issuer")));
    assert_eq!(call(&app, &a.token("api").without("iss").sign()).await, (REFUSED, Some("unknown_issuer")));
    assert_eq!(call(&app, &a.token("other").sign()).await, (REFUSED, Some("wrong_audience")));
}

/// Without a router too: in a union, or in a static set, a key that is bound vouches for its own issuer only.
#[tokio::test]
async fn statement_46_a_bound_key_vouches_for_no_other_issuer_wherever_it_stands() {
    let key = |n| TestKey::nth(Algorithm::Es256, n);
    let bound = |n, issuer: &str| key(n).verifying_key().bound_to_issuer(issuer);
    let fixed = countersign::KeySet::new([bound(1, "https://a"), bound(2, "https://b")]);
    let remote = IdentityProvider::start();
    let published = Remote::new(remote.jwks_url()).unwrap().bound_to_issuer(remote.issuer());
    let union = Keys::union([Keys::fixed(fixed), Keys::remote(published)]).unwrap();
    let auth = JwtAuth::from_keys(union).audience("api");
    auth.handle().ready_within(Duration::from_secs(5)).await.unwrap();
    // The keys say whose they are, and the policy need not.
    let demanding = app(auth.clone().policy(Policy::issuer_of_key).deny_unbound());
    for app in [&app(auth), &demanding] {
        for (signer, issuer, expected) in [
            (1, "https://a", OK),
            (2, "https://b", OK),
            (1, "https://b", (REFUSED, Some("wrong_issuer"))),
            (2, "https://a", (REFUSED, Some("wrong_issuer"))),
            (1, "https://a/", (REFUSED, Some("wrong_issuer"))),
        ] {
            let token = Token::new(&key(signer)).audience("api").issuer(issuer);
            assert_eq!(call(app, &token.sign()).await, expected, "{signer} {issuer}");
        }
        assert_eq!(call(app, &remote.token("api").sign()).await, OK);
        assert_eq!(call(app, &remote.token("api").issuer("https://a").sign()).await, (REFUSED, Some("wrong_issuer")));
        assert_eq!(call(app, &remote.token("api").without("iss").sign()).await, (REFUSED, Some("claim_missing")));
    }
    // And a key that is bound to nobody is none for a policy that demands it.
    let unbound = countersign::KeySet::new([key(3).verifying_key()]);
    let demanding = app(JwtAuth::with_keys(unbound).audience("api").policy(Policy::issuer_of_key));
    let token = Token::new(&key(3)).audience("api").sign();
    assert_eq!(call(&demanding, &token).await, (REFUSED, Some("key_of_no_issuer")));
}

#[tokio::test]
async fn each_issuer_rotates_and_fails_for_itself() {
    let (a, b) = (IdentityProvider::start(), IdentityProvider::start());
    let auth = JwtAuth::issuers(issuers(&[&a, &b])).audience("api");
    let handle = auth.handle();
    let app = app(auth);
    assert_eq!(call(&app, &a.token("api").sign()).await, OK);
    assert_eq!(call(&app, &b.token("api").sign()).await, OK);
    let fetches = b.fetches();
    a.rotate();
    assert_eq!(call(&app, &a.token("api").sign()).await, OK);
    assert_eq!(b.fetches(), fetches, "nobody has asked the other one");
    a.set_answer(Answer::status(500));
    a.rotate();
    // It cannot be looked for, and that is no outage.
    assert_eq!(call(&app, &a.token("api").sign()).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(call(&app, &b.token("api").sign()).await, OK);
    assert!(handle.is_ready());
    assert_eq!(handle.keys().parts().len(), 2);
}

#[tokio::test]
async fn tenants_of_one_issuer_do_not_answer_for_each_other() {
    let (a, b) = (IdentityProvider::start(), IdentityProvider::start());
    // Two tenants whose keys are at different places of one host: ports of loopback stand in for them.
    let port = |idp: &IdentityProvider| idp.address().port().to_string();
    let tenants = Tenants::of("http://127.0.0.1:{tenant}").allow([port(&a)]);
    let app = app(JwtAuth::issuers(Issuers::new().tenants(tenants)).audience("api"));
    assert_eq!(call(&app, &a.token("api").sign()).await, OK);
    assert_eq!(call(&app, &b.token("api").sign()).await, (REFUSED, Some("unknown_issuer")));
    assert_eq!(b.requests().len(), 0, "nobody asks a tenant that is not admitted");
    let forged = b.token("api").issuer(a.issuer()).sign();
    assert_eq!(call(&app, &forged).await.0, REFUSED);
}

#[tokio::test]
async fn discover_finds_the_keys_and_demands_the_issuer() {
    let idp = IdentityProvider::start();
    let auth = JwtAuth::discover(idp.issuer()).audience("api").deny_unbound();
    assert!(auth.handle().warnings().is_empty());
    let app = app(auth);
    assert_eq!(call(&app, &idp.token("api").sign()).await, OK);
    assert_eq!(
        call(&app, &idp.token("api").issuer("https://other.example").sign()).await,
        (REFUSED, Some("wrong_issuer"))
    );
    idp.rotate();
    assert_eq!(call(&app, &idp.token("api").sign()).await, OK);
    let paths: Vec<_> = idp.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/.well-known/openid-configuration", "/jwks.json", "/jwks.json"]);
    // The name is compared octet by octet, whatever else points to the same place.
    let alias = idp.issuer().replace("127.0.0.1", "localhost");
    let auth = JwtAuth::discover(&alias);
    let error = auth.handle().ready_within(Duration::from_millis(500)).await.unwrap_err();
    assert!(error.to_string().contains("`issuer` is another one"), "{error}");
}

#[test]
fn what_contradicts_itself_is_found_before_any_request() {
    let day = Duration::from_secs(86_400);
    let one = || Issuers::new().issuer("https://a.example");
    let plain = || Keys::remote(Remote::new("http://a.example/keys").unwrap());
    let discovered = || Keys::remote(Remote::discover("https://a.example").unwrap());
    for (auth, text) in [
        (JwtAuth::issuers(Issuers::new()), "no issuer"),
        (JwtAuth::issuers(one().issuer("https://a.example")), "listed twice"),
        (JwtAuth::issuers(one()).max_stale(2 * day), "Issuers::each()"),
        (JwtAuth::issuers(one()).algorithms(Algorithm::Hs256), "HMAC"),
        (JwtAuth::issuers(one()).deny_unbound(), "audience"),
        (JwtAuth::discover("http://a.example"), "http"),
        (JwtAuth::from_keys(Keys::fixed(countersign::KeySet::default())), "none of the configured keys"),
        (JwtAuth::from_keys(plain()), "plain http"),
        (JwtAuth::from_keys(Keys::union([discovered(), plain()]).unwrap()), "plain http"),
        (JwtAuth::from_keys(Keys::local(countersign::Local::jwks(""))), "path is empty"),
        (JwtAuth::from_keys(discovered()).max_stale(2 * day), "set it where these keys are made"),
    ] {
        let error: ConfigError = auth.check().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let auth = JwtAuth::issuers(one()).audience("api").deny_unbound().access_token_profile();
    assert_eq!(auth.check(), Ok(()));
    assert_eq!(JwtAuth::issuers(one()).handle().warnings(), [Warning::AnyAudience]);
    // Where each key is bound to its issuer, none need be named.
    for bound in [
        JwtAuth::from_remote(Remote::discover("https://a.example").unwrap()),
        JwtAuth::from_keys(Keys::union([discovered(), discovered()]).unwrap()),
    ] {
        let auth = bound.audience("api").deny_unbound();
        assert_eq!(auth.check(), Ok(()));
        assert!(auth.handle().warnings().is_empty());
    }
    let unbound = Keys::remote(Remote::new("https://a.example/keys").unwrap());
    let mixed = JwtAuth::from_keys(Keys::union([discovered(), unbound]).unwrap()).audience("api");
    assert_eq!(mixed.handle().warnings(), [Warning::AnyIssuer]);
    assert!(JwtAuth::try_discover("https://a.example/?x=1").is_err());
    assert!(std::panic::catch_unwind(|| JwtAuth::discover("nonsense")).is_err());
}

/// A provider whose clock is off: the refusal is explained by the clock.
#[tokio::test]
async fn a_clock_that_is_off_is_named_in_the_explanation() {
    let idp = IdentityProvider::start();
    let behind = std::time::SystemTime::now() - Duration::from_secs(120);
    idp.set_header("date", &httpdate::fmt_http_date(behind));
    let auth = JwtAuth::discover(idp.issuer()).audience("api");
    let handle = auth.handle();
    handle.ready_within(Duration::from_secs(5)).await.unwrap();
    assert_eq!(handle.keys().status().state, KeyState::Ready);
    let app = app(auth);
    let request =
        |token: String| Request::get("/").header("authorization", format!("Bearer {token}")).body(Body::empty());
    let refusal = async |token: Token| {
        let response = app.clone().oneshot(request(token.sign()).unwrap()).await.unwrap();
        response.extensions().get::<Refusal>().unwrap().clone()
    };
    // By the provider's clock it has a minute left.
    let late = refusal(idp.token("api").expired(Duration::from_secs(60))).await;
    let explanation = handle.explain_refusal(&late);
    assert!(explanation.clock_offset().is_some_and(|offset| (-122..=-118).contains(&offset)), "{explanation}");
    assert!(explanation.to_string().contains("the clock, not the token"), "{explanation}");
    let very_late = refusal(idp.token("api").expired(Duration::from_secs(600))).await;
    assert_eq!(handle.explain_refusal(&very_late).clock_offset(), None);
}

/// A published set is bound as a whole, unusable keys and all.
#[test]
fn binding_a_set_keeps_what_is_in_it() {
    let keys = [TestKey::nth(Algorithm::Es256, 1), TestKey::nth(Algorithm::Ed25519, 1)];
    let jwks: Vec<_> = keys.iter().map(TestKey::public_jwk).collect();
    let document = serde_json::json!({ "keys": jwks }).to_string();
    let set = JwkSet::parse(document.as_bytes(), Origin::Remote).unwrap().into_key_set().with_generation(7);
    let bound = JwkSet::parse(document.as_bytes(), Origin::Remote).unwrap().into_key_set().with_generation(7);
    let bound = bound.bound_to_issuer("https://a");
    assert_eq!((bound.len(), bound.generation()), (2, 7));
    assert!(!set.has_same_keys_as(&bound), "the same material for another issuer is another key");
    for key in bound.iter() {
        assert_eq!(key.issuer(), Some("https://a"));
        assert!(set.iter().any(|other| other.thumbprint() == key.thumbprint() && other.issuer().is_none()));
    }
}
