use countersign::{JwkSet, Origin, Verifier};
use countersign::{Policy as ClaimsPolicy, UnixTime};
use countersign_issuer::step::Compromised;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, ISSUER, bearer, orders};

async fn verified(bench: &Bench, token: &str) -> Value {
    let jwks = bench.get("/.well-known/jwks.json").await;
    let keys = JwkSet::parse(&jwks.body, Origin::Remote).unwrap().into_key_set();
    let policy = ClaimsPolicy::new().issuer(ISSUER).audience("orders").access_token_profile();
    let verified = Verifier::new(keys, policy).verify(token, UnixTime::from_secs(bench.now())).unwrap();
    serde_json::from_slice(verified.payload()).unwrap()
}

#[tokio::test]
async fn a_client_has_a_token_signed_that_the_published_keys_verify() {
    let bench = Bench::new().await;
    let body = json!({ "profile": "access", "aud": "orders", "sub": "user:ada", "scope": "orders:read", "ttl": 60,
        "claims": { "tenant": "acme" } });
    let answer = bench.ask(&body).await;
    let told = answer.json();
    assert_eq!((answer.status, &*answer.headers["cache-control"]), (200, "no-store"), "{told}");
    assert_eq!(
        (&told["token_type"], &told["alg"], &told["expires_in"]),
        (&json!("Bearer"), &json!("ES256"), &json!(60))
    );
    let claims = verified(&bench, told["token"].as_str().unwrap()).await;
    for (name, value) in [
        ("iss", json!(ISSUER)),
        ("sub", json!("user:ada")),
        ("aud", json!("orders")),
        ("client_id", json!("web")),
        ("scope", json!("orders:read")),
        ("tenant", json!("acme")),
        ("jti", told["jti"].clone()),
        ("exp", told["exp"].clone()),
        ("iat", told["iat"].clone()),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    let told = bench.ask(&json!({ "profile": "rsa", "aud": "orders" })).await.json();
    assert_eq!(told["alg"], "RS256", "{told}");
    assert_eq!(verified(&bench, told["token"].as_str().unwrap()).await["sub"], "web");
}

#[tokio::test]
async fn what_no_grant_allows_is_refused_with_the_code_of_the_rule() {
    let bench = Bench::new().await;
    for (member, value, code, max) in [
        ("profile", json!("other"), "profile_not_permitted", Value::Null),
        ("sub", json!("root"), "subject_not_permitted", Value::Null),
        ("aud", json!(["orders", "billing"]), "invalid_target", Value::Null),
        ("aud", json!([]), "audience_missing", Value::Null),
        ("scope", json!("orders:write"), "invalid_scope", Value::Null),
        ("ttl", json!(3_601), "ttl_exceeds_policy", json!(3_600)),
        ("alg", json!("RS256"), "alg_not_permitted", Value::Null),
        ("key_bits", json!(4_096), "key_size_not_permitted", Value::Null),
        ("claims", json!({ "iss": "https://evil.example" }), "claim_not_permitted", Value::Null),
        ("claims", json!({ "\u{1b}".repeat(9_000): 1 }), "claim_not_permitted", Value::Null),
    ] {
        let mut body = orders();
        body[member] = value;
        let answer = bench.ask(&body).await;
        assert_eq!(answer.refusal(), (403, code.to_owned()), "{body}");
        assert_eq!(answer.json().get("max").cloned().unwrap_or_default(), max, "{body}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("evil") && answer.body.len() < 500, "{body}");
    }
}

#[tokio::test]
async fn a_token_that_is_too_long_for_its_profile_is_refused_with_its_size() {
    let bench = Bench::new().await;
    let of = |length: usize| {
        let mut body = orders();
        body["claims"] = json!({ "tenant": "x".repeat(length) });
        body
    };
    let token = bench.ask(&of(2_700)).await.json()["token"].as_str().unwrap().len();
    assert!(token <= 4_096, "{token}");
    let refused = bench.ask(&of(3_000)).await;
    assert_eq!(refused.refusal(), (403, "payload_too_large".to_owned()));
    let told = refused.json();
    assert_eq!(told["max"], 4_096);
    assert_eq!(told["size"], token + 400);
}

#[tokio::test]
async fn of_a_batch_each_request_has_its_own_answer() {
    let bench = Bench::new().await;
    let mut requests = vec![orders(); 20];
    requests[3]["aud"] = json!("billing");
    requests[4] = json!({ "profile": "rsa", "aud": "orders" });
    requests[5] = json!(7);
    let answer = bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &json!({ "requests": requests })).await;
    let told = answer.json();
    assert_eq!((answer.status, &*answer.headers["cache-control"]), (200, "no-store"), "{told}");
    let results = told["results"].as_array().unwrap();
    assert_eq!(results.len(), 20);
    for (index, result) in results.iter().enumerate() {
        match index {
            3 => assert_eq!((&result["status"], &result["error"]), (&json!(403), &json!("invalid_target"))),
            5 => assert_eq!((&result["status"], &result["error"]), (&json!(400), &json!("invalid_request"))),
            _ => assert_eq!(verified(&bench, result["token"].as_str().unwrap()).await["aud"], "orders"),
        }
    }
    for body in [json!({ "requests": [] }), json!({ "requests": vec![orders(); 257] }), orders()] {
        let answer = bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &body).await;
        assert_eq!(answer.refusal(), (400, "invalid_request".to_owned()));
    }
}

#[tokio::test]
async fn a_request_that_comes_again_under_its_key_has_the_same_answer() {
    let bench = Bench::new().await;
    let ask = async |key: &str, body: &Value| -> Answer {
        let headers = format!("{}Idempotency-Key: {key}\r\n", bearer(&bench.assertion()));
        bench.post("/v1/tokens", &headers, body).await
    };
    let first = ask("k1", &orders()).await;
    assert_eq!(first.status, 200);
    assert_eq!(ask("k1", &orders()).await.body, first.body);
    assert_ne!(ask("k2", &orders()).await.body, first.body);
    let other = json!({ "profile": "access", "aud": "orders" });
    assert_eq!(ask("k1", &other).await.refusal(), (422, "idempotency_key_reused".to_owned()));
    // A refusal is no answer to keep.
    let denied = json!({ "profile": "access", "aud": "billing" });
    assert_eq!(ask("k3", &denied).await.refusal().0, 403);
    assert_eq!(ask("k3", &orders()).await.status, 200);
    assert_eq!(ask(&"k".repeat(255), &orders()).await.status, 200);
    for key in ["", "a b", &"k".repeat(256), "k\r\nIdempotency-Key: l"] {
        assert_eq!(ask(key, &orders()).await.refusal(), (400, "invalid_request".to_owned()), "{key}");
    }
    // For as long as it is kept, and not for longer.
    bench.advance(301);
    assert_ne!(ask("k1", &orders()).await.body, first.body);
}

#[tokio::test]
async fn no_token_of_a_key_that_was_revoked_since_is_an_answer_to_a_request_that_comes_again() {
    let bench = Bench::new().await;
    let ask = async |path: &str, body: &Value| -> Answer {
        let headers = format!("{}Idempotency-Key: k{}\r\n", bearer(&bench.assertion()), body.to_string().len());
        bench.post(path, &headers, body).await
    };
    let rsa = json!({ "profile": "rsa", "aud": "orders" });
    let batch = json!({ "requests": [rsa, orders()] });
    let first = ask("/v1/tokens", &orders()).await.json();
    let (other, both) = (ask("/v1/tokens", &rsa).await, ask("/v1/tokens:batch", &batch).await);
    let revoked = first["kid"].as_str().unwrap().to_owned();
    assert_eq!(both.json()["results"][1]["kid"], *revoked);
    bench.ring.compromise(Compromised::Key(revoked.clone()), true).await.unwrap();
    let again = ask("/v1/tokens", &orders()).await;
    if again.status != 200 {
        // There is no key to sign it anew, for the moment.
        assert_eq!(again.refusal(), (503, "key_unavailable".to_owned()));
        bench.ring.ready_within(std::time::Duration::from_secs(60)).await.unwrap();
    }
    let again = ask("/v1/tokens", &orders()).await;
    let told = again.json();
    assert_eq!(again.status, 200, "{told}");
    assert_ne!(told["kid"], *revoked);
    assert_eq!(verified(&bench, told["token"].as_str().unwrap()).await["jti"], told["jti"]);
    // What is made anew is kept as well.
    assert_eq!(ask("/v1/tokens", &orders()).await.body, again.body);
    let anew = ask("/v1/tokens:batch", &batch).await.json();
    assert_eq!(anew["results"][1]["kid"], told["kid"], "{anew}");
    // An answer without any of it stays.
    assert_eq!(ask("/v1/tokens", &rsa).await.body, other.body);
}

#[tokio::test]
async fn a_policy_is_replaced_without_a_restart_and_only_by_a_whole_one() {
    let bench = Bench::new().await;
    let text = crate::bench::POLICY.replace("JWKS", &crate::bench::jwks(&[&bench.key]));
    let billing = json!({ "profile": "access", "aud": "billing" });
    assert_eq!(bench.ask(&billing).await.refusal().0, 403);
    for broken in
        ["version = 2", &text.replace("lifetime = 300", "lifetime = 300000"), &text.replace("scopes", "scope")]
    {
        assert!(bench.service.reload(broken).is_err());
        assert_eq!(bench.service.policy_revision(), "first");
        assert_eq!(bench.ask(&orders()).await.status, 200);
    }
    bench.service.reload(&text.replace("\"orders\"", "\"billing\"").replace("\"first\"", "\"second\"")).unwrap();
    assert_eq!(bench.service.policy_revision(), "second");
    assert_eq!(bench.ask(&billing).await.status, 200);
    assert_eq!(bench.ask(&orders()).await.refusal(), (403, "invalid_target".to_owned()));
    bench.service.reload("version = 1").unwrap();
    assert_eq!(bench.ask(&billing).await.refusal(), (401, "invalid_client".to_owned()));
}

#[tokio::test]
async fn without_a_key_that_may_sign_the_answer_is_503_and_not_ready() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/readyz").await.status, 200);
    bench.ring.compromise(Compromised::All, false).await.unwrap();
    assert_eq!(bench.ask(&orders()).await.refusal(), (503, "key_unavailable".to_owned()));
    assert_eq!(bench.ask(&json!({ "profile": "rsa", "aud": "orders" })).await.refusal().0, 503);
    let body = json!({ "requests": [orders(), orders()] });
    let headers = format!("{}Idempotency-Key: k\r\n", bearer(&bench.assertion()));
    let answer = bench.post("/v1/tokens:batch", &headers, &body).await.json();
    assert_eq!(
        (&answer["results"][1]["status"], &answer["results"][1]["error"]),
        (&json!(503), &json!("key_unavailable"))
    );
    let ready = bench.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["slots"]["es256"]), (503, &json!("the slot has no active key")));
    assert_eq!(bench.get("/livez").await.status, 200);
}

#[tokio::test]
async fn the_metadata_says_what_is_true_and_a_verifier_finds_the_keys_by_it() {
    let bench = Bench::new().await;
    let oauth = bench.get("/.well-known/oauth-authorization-server").await;
    assert_eq!((oauth.status, &*oauth.headers["content-type"]), (200, "application/json"));
    let told = oauth.json();
    assert_eq!((&told["issuer"], &told["grant_types_supported"]), (&json!(ISSUER), &json!([])));
    let path = told["jwks_uri"].as_str().unwrap().strip_prefix(ISSUER).unwrap();
    let jwks = bench.get(path).await;
    assert_eq!((jwks.status, &*jwks.headers["content-type"]), (200, "application/jwk-set+json"));
    let openid = bench.get("/.well-known/openid-configuration").await.json();
    assert_eq!((&openid["issuer"], &openid["jwks_uri"]), (&json!(ISSUER), &told["jwks_uri"]));
    assert_eq!(openid["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));
    for claimed in ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "subject_types_supported"] {
        assert!(openid.get(claimed).is_none() && told.get(claimed).is_none(), "{claimed}");
    }
    assert_eq!(bench.get("/v1/nothing").await.refusal(), (404, "not_found".to_owned()));
    let wrong_method = bench.get("/v1/tokens").await;
    assert_eq!(wrong_method.refusal(), (405, "method_not_allowed".to_owned()));
    assert_eq!(wrong_method.headers["allow"], "POST");
}
