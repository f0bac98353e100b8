use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use countersign_issuer::step::Compromised;
use countersign_service::MAX_BODY_BYTES;
use http::Request;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use crate::bench::{Bench, bearer, orders, read};

#[tokio::test]
async fn a_body_of_so_many_bytes_is_read_and_one_more_is_413() {
    let bench = Bench::new().await;
    let head = |headers: &str| {
        let headers = format!("{}Content-Type: application/json\r\n{headers}", bearer(&bench.assertion()));
        format!("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
    };
    let body = |length: usize| format!("{}{}", orders(), " ".repeat(length - orders().to_string().len()));
    let whole = head(&format!("Content-Length: {MAX_BODY_BYTES}\r\n")) + &body(MAX_BODY_BYTES);
    assert_eq!(bench.send(whole.as_bytes()).await.status, 200);
    // Announced: refused before any of it has come.
    let announced = head(&format!("Content-Length: {}\r\n", MAX_BODY_BYTES + 1));
    let answer = bench.send(announced.as_bytes()).await;
    assert_eq!(answer.refusal(), (413, "content_too_large".to_owned()));
    assert_eq!(answer.json()["max"], MAX_BODY_BYTES);
    // Not announced.
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 0x4000, " ".repeat(0x4000));
    stream.write_all((head("Transfer-Encoding: chunked\r\n") + &chunk.repeat(5)).as_bytes()).await.unwrap();
    assert_eq!(read(&mut stream).await.refusal().0, 413);
}

#[tokio::test]
async fn what_is_not_json_is_415_or_400() {
    let bench = Bench::new().await;
    let send = async |headers: &str, body: &str| {
        let headers = format!("{}{headers}Content-Length: {}\r\n", bearer(&bench.assertion()), body.len());
        let request = format!("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n{body}");
        bench.send(request.as_bytes()).await
    };
    let good = orders().to_string();
    for headers in ["Content-Type: application/json\r\n", "Content-Type: Application/JSON ; charset=utf-8\r\n"] {
        assert_eq!(send(headers, &good).await.status, 200, "{headers}");
    }
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/json\r\nContent-Type: application/json\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ] {
        assert_eq!(send(headers, &good).await.refusal(), (415, "unsupported_media_type".to_owned()), "{headers}");
    }
    for body in ["", "{", "[]", "{\"profile\":\"access\",\"profile\":\"access\"}", "{\"profile\":\"access\",\"x\":1}"] {
        let answer = send("Content-Type: application/json\r\n", body).await;
        assert_eq!(answer.refusal(), (400, "invalid_request".to_owned()), "{body}");
    }
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again_and_others_are_not() {
    let bench = Bench::with(|policy| {
        policy.replace("[clients.web]\n", "[clients.web]\nrate = { per_second = 1, burst = 3 }\n")
    })
    .await;
    let batch = |count: usize| json!({ "requests": vec![orders(); count] });
    let answer = bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &batch(4)).await;
    assert_eq!(answer.refusal(), (400, "invalid_request".to_owned()), "it never will");
    assert_eq!(bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &batch(2)).await.status, 200);
    let assertion = bench.assertion();
    let answer = bench.post("/v1/tokens", &bearer(&assertion), &orders()).await;
    assert_eq!(answer.refusal(), (429, "rate_limited".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
    // A policy that says the same of it does not begin anew; one that says otherwise does. The assertion was not used up.
    let text = crate::bench::POLICY.replace("JWKS", &crate::bench::jwks(&[&bench.key]));
    let with_rate = |burst: u32| {
        text.replace("[clients.web]\n", &format!("[clients.web]\nrate = {{ per_second = 1, burst = {burst} }}\n"))
    };
    bench.service.reload(&with_rate(3)).unwrap();
    assert_eq!(bench.post("/v1/tokens", &bearer(&assertion), &orders()).await.refusal().0, 429);
    bench.service.reload(&with_rate(4)).unwrap();
    assert_eq!(bench.post("/v1/tokens", &bearer(&assertion), &orders()).await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let bench = Bench::new().await;
    let request = Request::post("/v1/tokens")
        .header("authorization", format!("Bearer {}", bench.assertion()))
        .header("content-type", "application/json")
        .body(Body::from_stream(tokio_stream::pending::<Result<Bytes, std::io::Error>>()))
        .unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let response = bench.service.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(response.headers()["connection"], "close");
    let time = countersign_service::BODY_TIME;
    assert!((time..time + Duration::from_secs(1)).contains(&begun.elapsed()));
}

const SLOW: &str = "[clients.web.grants.slow]\nprofiles = [\"access\"]\nsubjects = { self = true }\n\
                    audiences = { exact = [\"slow\"] }\nrate = { per_second = 1, burst = 2 }\n";

#[tokio::test]
async fn a_grant_has_a_rate_of_its_own() {
    let bench = Bench::with(|policy| policy + SLOW).await;
    let slow = json!({ "profile": "access", "aud": "slow" });
    let batch = json!({ "requests": [slow, orders(), slow, slow, slow, orders()] });
    let answer = bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &batch).await.json();
    let codes: Vec<_> = answer["results"].as_array().unwrap().iter().map(|one| one["error"].as_str()).collect();
    assert_eq!(codes, [None, None, None, Some("rate_limited"), Some("rate_limited"), None]);
    assert_eq!(bench.ask(&orders()).await.status, 200);
}

#[tokio::test]
async fn what_no_key_can_sign_does_not_use_the_rate_of_its_grant_up() {
    let bench = Bench::with(|policy| policy + SLOW).await;
    bench.ring.compromise(Compromised::All, false).await.unwrap();
    let slow = json!({ "profile": "access", "aud": "slow" });
    for _ in 0..3 {
        assert_eq!(bench.ask(&slow).await.refusal(), (503, "key_unavailable".to_owned()));
    }
    let batch = json!({ "requests": vec![slow.clone(); 10] });
    // Nor is that an answer to keep.
    let named = || format!("{}Idempotency-Key: k\r\n", bearer(&bench.assertion()));
    let answer = bench.post("/v1/tokens:batch", &named(), &batch).await.json();
    assert!(answer["results"].as_array().unwrap().iter().all(|one| one["error"] == "key_unavailable"), "{answer}");
    // Until nobody can lack the next key any more.
    for _ in 0..200 {
        if bench.ring.ready_within(Duration::from_millis(50)).await.is_ok() {
            break;
        }
        bench.ring_ahead.fetch_add(20, Ordering::SeqCst);
    }
    let answer = bench.post("/v1/tokens:batch", &named(), &batch).await.json();
    let codes: Vec<_> = answer["results"].as_array().unwrap().iter().map(|one| one["error"].as_str()).collect();
    assert_eq!((&codes[..2], codes[9]), (&[None, None][..], Some("rate_limited")), "{answer}");
}
