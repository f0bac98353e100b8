//! Requests that a client has signed, in place of an assertion.

use countersign::SigningKey;
use countersign::claims::signed_request::{BodyDigest, RequestSigner, TYPE};
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, ISSUER, bearer, jwks, key, orders};

/// What a good token says, for this body to `POST /v1/tokens`.
fn claims(bench: &Bench, body: &Value) -> Value {
    let mut claims = bench.claims();
    claims["htm"] = json!("POST");
    claims["htu"] = json!(format!("{ISSUER}/v1/tokens"));
    claims["body_sha256"] = json!(BodyDigest::of(body.to_string().as_bytes()).to_string());
    claims
}

fn token(bench: &Bench, body: &Value) -> String {
    bench.key.sign_as(TYPE, &claims(bench, body)).unwrap()
}

async fn post(bench: &Bench, path: &str, token: &str, body: &Value) -> (u16, String) {
    said(&bench.post(path, &bearer(token), body).await)
}

fn said(answer: &Answer) -> (u16, String) {
    if answer.status == 200 { (200, String::new()) } else { answer.refusal() }
}

fn refused() -> (u16, String) {
    (401, "invalid_client".to_owned())
}

#[tokio::test]
async fn a_client_may_sign_the_request_in_place_of_an_assertion() {
    let bench = Bench::new().await;
    let signed = token(&bench, &orders());
    let answer = bench.post("/v1/tokens", &bearer(&signed), &orders()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["token"].is_string());
    assert_eq!(post(&bench, "/v1/tokens", &signed, &orders()).await, refused(), "once");
    let batch = json!({ "requests": [orders(), orders()] });
    let mut of_batch = claims(&bench, &batch);
    of_batch["htu"] = json!(format!("{ISSUER}/v1/tokens:batch"));
    let signed = bench.key.sign_as(TYPE, &of_batch).unwrap();
    assert_eq!(post(&bench, "/v1/tokens", &signed, &batch).await, refused());
    let answer = bench.post("/v1/tokens:batch", &bearer(&signed), &batch).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
}

#[tokio::test]
async fn whoever_sees_a_signed_request_can_have_nothing_else_for_it() {
    let bench = Bench::new().await;
    let signed = token(&bench, &orders());
    let mut other = orders();
    other["sub"] = json!("user:ada");
    assert_eq!(post(&bench, "/v1/tokens", &signed, &other).await, refused());
    assert_eq!(post(&bench, "/v1/tokens?a", &signed, &orders()).await, refused());
    assert_eq!(post(&bench, "/v1/tokens:batch", &signed, &json!({ "requests": [orders()] })).await, refused());
    let body = orders().to_string();
    let put = format!(
        "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body} ",
        bearer(&signed),
        body.len() + 1
    );
    assert_eq!(said(&bench.send(put.as_bytes()).await), refused(), "one octet more");
    let absolute = format!(
        "POST https://other.example/v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        bearer(&signed),
        body.len()
    );
    assert_eq!(said(&bench.send(absolute.as_bytes()).await), (400, "invalid_request".to_owned()));
    // None of that has used it up.
    assert_eq!(post(&bench, "/v1/tokens", &signed, &orders()).await.0, 200);
}

#[tokio::test]
async fn a_signed_request_that_is_not_as_it_must_be_is_401() {
    let bench = Bench::new().await;
    let now = bench.now();
    let with = |name: &str, value: Value| {
        let mut claims = claims(&bench, &orders());
        claims[name] = value;
        claims
    };
    for (typ, claims) in [
        ("JWT", claims(&bench, &orders())),
        ("at+jwt", claims(&bench, &orders())),
        (TYPE, with("aud", json!(format!("{ISSUER}/v1/tokens")))),
        (TYPE, with("aud", json!([ISSUER, "https://other.example"]))),
        (TYPE, with("sub", json!("other"))),
        (TYPE, with("exp", json!(now + 61))),
        (TYPE, with("exp", json!(now - 5))),
        (TYPE, with("iat", json!(now - 10))),
        (TYPE, with("iat", json!(null))),
        (TYPE, with("jti", json!(null))),
        (TYPE, with("htm", json!("post"))),
        (TYPE, with("htm", json!(null))),
        (TYPE, with("htu", json!(ISSUER))),
        (TYPE, with("htu", json!(format!("http://{}/v1/tokens", bench.address)))),
        (TYPE, with("body_sha256", json!(BodyDigest::of(b"").to_string()))),
        // An assertion lives longer, and says nothing of a request.
        (TYPE, bench.claims()),
    ] {
        let token = bench.key.sign_as(typ, &claims).unwrap();
        assert_eq!(post(&bench, "/v1/tokens", &token, &orders()).await, refused(), "{typ} {claims}");
    }
    let stranger = key("c1").sign_as(TYPE, &claims(&bench, &orders())).unwrap();
    assert_eq!(post(&bench, "/v1/tokens", &stranger, &orders()).await, refused());
    // Nor is an assertion a signed request, whatever more it says.
    let assertion = bench.key.sign_as("client-authentication+jwt", &claims(&bench, &orders())).unwrap();
    assert_eq!(
        post(&bench, "/v1/tokens", &assertion, &json!({ "profile": "access", "aud": ["orders"], "sub": "web" }))
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn what_a_process_before_this_one_may_have_taken_is_503_until_one_is_made_anew() {
    let bench = Bench::new().await;
    bench.advance(-5);
    let signed = token(&bench, &orders());
    let answer = bench.post("/v1/tokens", &bearer(&signed), &orders()).await;
    assert_eq!(said(&answer), (503, "temporarily_unavailable".to_owned()));
    let seconds: i64 = answer.headers["retry-after"].parse().unwrap();
    assert!((1..=5).contains(&seconds), "{seconds}");
    bench.advance(seconds);
    assert_eq!(post(&bench, "/v1/tokens", &signed, &orders()).await.0, 503, "whoever was first with it");
    assert_eq!(post(&bench, "/v1/tokens", &token(&bench, &orders()), &orders()).await.0, 200);
}

#[tokio::test]
async fn a_key_that_the_policy_has_lost_signs_no_more_requests() {
    let bench = Bench::new().await;
    let signer = |key: SigningKey| RequestSigner::new(key, "web", ISSUER).unwrap();
    let next = key("c2");
    let policy = crate::bench::POLICY.replace("JWKS", &jwks(&[&next]));
    let signed = token(&bench, &orders());
    bench.service.reload(&policy).unwrap();
    assert_eq!(post(&bench, "/v1/tokens", &signed, &orders()).await, refused());
    let now = countersign::UnixTime::from_secs(bench.now());
    let body = orders().to_string();
    let signed = signer(next).sign("POST", &format!("{ISSUER}/v1/tokens"), body.as_bytes(), now).unwrap();
    assert_eq!(post(&bench, "/v1/tokens", &signed, &orders()).await.0, 200);
}

#[tokio::test]
async fn wrong_bodies_do_not_use_a_clients_rate_up() {
    let bench = Bench::with(|policy| {
        policy.replace("[clients.web]\n", "[clients.web]\nrate = { per_second = 1, burst = 1 }\n")
    })
    .await;
    let signed = token(&bench, &orders());
    for _ in 0..5 {
        assert_eq!(post(&bench, "/v1/tokens", &signed, &json!({})).await, refused());
    }
    assert_eq!(post(&bench, "/v1/tokens", &signed, &orders()).await.0, 200);
}
