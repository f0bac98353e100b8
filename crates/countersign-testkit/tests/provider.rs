//! The provider does what it is told, seen by clients that know nothing of it: bare sockets and `reqwest`.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign_testkit::{Answer, IdentityProvider, MAX_RECORDED_REQUESTS, TestKey};
use countersign_token::Algorithm;
use serde_json::Value;

/// What comes back until the connection ends, for one request on a connection of its own.
fn raw(idp: &IdentityProvider, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(idp.address())?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn get(idp: &IdentityProvider) -> std::io::Result<String> {
    raw(idp, "GET /jwks.json HTTP/1.1\r\nhost: idp\r\nconnection: close\r\n\r\n")
}

/// The `kid`s in an answer with keys.
fn kids(answer: &str) -> Vec<String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    body["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn names(keys: &[TestKey]) -> Vec<&str> {
    keys.iter().map(|key| key.kid().unwrap()).collect()
}

#[test]
fn it_publishes_what_it_signs_with() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
        let idp = IdentityProvider::with_algorithm(algorithm);
        assert_eq!(kids(&get(&idp).unwrap()), [idp.key().kid().unwrap()], "{algorithm}");
        assert_eq!(idp.fetches(), 1);
    }
}

#[test]
fn rotation_announcement_and_withdrawal() {
    let idp = IdentityProvider::start();
    let first = idp.key();

    let announced = idp.announce();
    assert!(idp.key().kid() == first.kid(), "an announced key does not sign yet");
    assert_eq!(kids(&get(&idp).unwrap()), names(&[first.clone(), announced.clone()]));
    let second = idp.rotate();
    assert_eq!(second.kid(), announced.kid(), "the announced key is the next one");

    let third = idp.rotate();
    assert_eq!(kids(&get(&idp).unwrap()), names(&[first.clone(), second.clone(), third.clone()]));
    assert_eq!(idp.key().kid(), third.kid());

    idp.withdraw(&first);
    assert_eq!(kids(&get(&idp).unwrap()), names(&[second.clone(), third.clone()]));

    // What was announced and withdrawn is not used, and what was used is not used again.
    let announced = idp.announce();
    idp.withdraw(&announced);
    let used = idp.rotate();
    assert!(![&first, &second, &third, &announced].iter().any(|key| key.kid() == used.kid()));
    idp.withdraw(&used);
    let next = idp.rotate();
    assert!(![&first, &second, &third, &announced, &used].iter().any(|key| key.kid() == next.kid()));

    let emergency = idp.replace_keys();
    assert_eq!(kids(&get(&idp).unwrap()), names(std::slice::from_ref(&emergency)));
    assert_eq!(idp.key().kid(), emergency.kid());

    idp.sign_with(&first);
    assert_eq!((idp.key().kid(), names(&idp.published())), (first.kid(), names(&[emergency])));
}

/// A service that never looks again must not pass a test in which the issuer is replaced.
#[test]
fn a_provider_that_succeeds_another_has_nothing_of_it() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let first = IdentityProvider::with_algorithm(algorithm);
        let (address, key, rotated) = (first.address(), first.key(), first.rotate());
        drop(first);
        let second = IdentityProvider::start_at(address, algorithm);
        for key in [key, rotated] {
            let same_name = |other: &TestKey| other.kid() == key.kid();
            assert!(!same_name(&second.key()) && !same_name(&second.rotate()), "{algorithm}");
        }
    }
}

#[test]
fn nobody_gets_the_address_of_a_provider_that_is_down() {
    let idp = IdentityProvider::start();
    idp.stop();
    assert!(std::net::TcpListener::bind(idp.address()).is_err());
    idp.resume();
    assert_eq!(kids(&get(&idp).unwrap()), names(&[idp.key()]));
}

#[test]
fn providers_of_one_process_share_no_key() {
    let (one, other) = (IdentityProvider::start(), IdentityProvider::start());
    let different = |a: &TestKey, b: &TestKey| a.public_jwk() != b.public_jwk() && a.kid() != b.kid();
    assert!(different(&one.key(), &other.key()));
    assert!(different(&one.rotate(), &other.rotate()));
    assert!(different(&one.key(), &TestKey::nth(Algorithm::Es256, 0)), "those are the test's own");
}

#[test]
fn the_metadata_lead_to_the_keys() {
    let idp = IdentityProvider::start();
    for path in ["openid-configuration", "oauth-authorization-server"] {
        let request = format!("GET /.well-known/{path} HTTP/1.0\r\n\r\n");
        let answer = raw(&idp, &request).unwrap();
        let metadata: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!((&metadata["issuer"], &metadata["jwks_uri"]), (&idp.issuer().into(), &idp.jwks_url().into()));
    }
    assert_eq!(idp.fetches(), 0, "only the keys count");
    assert!(raw(&idp, "GET /else HTTP/1.0\r\n\r\n").unwrap().starts_with("HTTP/1.1 404"));
    assert!(raw(&idp, "POST /jwks.json HTTP/1.0\r\n\r\n").unwrap().starts_with("HTTP/1.1 405"));
    assert_eq!(raw(&idp, "this is not HTTP\r\n\r\n").unwrap(), "");
}

#[test]
fn answers_that_are_whole() {
    let idp = IdentityProvider::start();
    idp.answer_once(Answer::status(500));
    idp.answer_once(Answer::body("<html>").with_header("age", "7"));
    idp.answer_once(Answer::Redirect);
    assert!(get(&idp).unwrap().starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
    let garbage = get(&idp).unwrap();
    assert!(garbage.contains("\r\nage: 7\r\n") && garbage.ends_with("\r\n\r\n<html>"), "{garbage}");
    let redirect = get(&idp).unwrap();
    assert!(redirect.starts_with("HTTP/1.1 302"), "{redirect}");
    assert_eq!(kids(&get(&idp).unwrap()), names(&[idp.key()]), "back to normal");
    assert_eq!(idp.fetches(), 4);

    let location = redirect.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    let followed = raw(&idp, &format!("GET {location} HTTP/1.0\r\n\r\n")).unwrap();
    assert_eq!(kids(&followed), names(&[idp.key()]));
    assert_eq!(idp.requests().last().unwrap().path, location);
    assert_eq!(idp.fetches(), 4, "whoever follows is seen, and not counted");

    idp.set_answer(Answer::status(503));
    for _ in 0..2 {
        assert!(get(&idp).unwrap().starts_with("HTTP/1.1 503"));
    }
}

#[test]
fn answers_that_are_not() {
    let idp = IdentityProvider::start();
    idp.answer_once(Answer::Reset);
    assert_eq!(get(&idp).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    idp.answer_once(Answer::Truncated);
    let answer = get(&idp).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let promised: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    assert!(!body.is_empty() && body.len() < promised, "{} of {promised}", body.len());

    idp.answer_once(Answer::Endless(100_000));
    let answer = get(&idp).unwrap();
    assert!(answer.len() > 100_000 && answer.contains("\r\n\r\n{\"keys\":[  "), "{}", answer.len());

    idp.answer_once(Answer::Late(Duration::from_millis(50)));
    let asked = Instant::now();
    assert_eq!(kids(&get(&idp).unwrap()), names(&[idp.key()]));
    assert!(asked.elapsed() >= Duration::from_millis(50));

    idp.answer_once(Answer::Drip(Duration::from_micros(100)));
    assert_eq!(kids(&get(&idp).unwrap()), names(&[idp.key()]), "all of it, in the end");
}

#[test]
fn a_stalled_request_ends_with_the_provider() {
    let idp = IdentityProvider::start();
    idp.set_answer(Answer::Stall);
    let mut stream = TcpStream::connect(idp.address()).unwrap();
    stream.write_all(b"GET /jwks.json HTTP/1.1\r\nhost: idp\r\n\r\n").unwrap();
    while idp.fetches() == 0 {
        std::thread::yield_now();
    }
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let silence = stream.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(silence, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{silence}");
    stream.set_read_timeout(None).unwrap();
    drop(idp);
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn it_goes_down_and_comes_up_again() {
    let idp = IdentityProvider::start();
    idp.stop();
    assert_eq!(get(&idp).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    idp.stop();
    idp.resume();
    idp.resume();
    assert_eq!(kids(&get(&idp).unwrap()), names(&[idp.key()]));
    let address = idp.address();
    drop(idp);
    let again = IdentityProvider::start_at(address, Algorithm::Ed25519);
    assert_eq!(again.address(), address);
}

#[tokio::test]
async fn a_real_client_keeps_its_connection_and_revalidates() {
    let idp = IdentityProvider::start();
    idp.send_etags();
    idp.set_header("cache-control", "max-age=60");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = || client.get(idp.jwks_url());
    let first = get().send().await.unwrap();
    assert_eq!((first.status().as_u16(), &first.headers()["cache-control"]), (200, &"max-age=60".parse().unwrap()));
    assert_eq!(first.headers()["content-type"], "application/jwk-set+json");
    assert!(first.headers().contains_key("date"));
    let etag = first.headers()["etag"].clone();
    assert_eq!(first.json_keys().await, 1);
    let second = get().header("if-none-match", &etag).send().await.unwrap();
    assert_eq!((second.status().as_u16(), second.bytes().await.unwrap().len()), (304, 0));
    idp.rotate();
    let third = get().header("if-none-match", &etag).send().await.unwrap();
    assert_eq!(third.status(), 200, "other keys");
    assert_eq!(third.json_keys().await, 2);

    idp.wait_for_fetches(3).await;
    let requests = idp.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.is_sorted_by_key(|request| request.at));
    assert_eq!(requests[1].headers["if-none-match"], etag);
}

trait JsonKeys {
    async fn json_keys(self) -> usize;
}

impl JsonKeys for reqwest::Response {
    async fn json_keys(self) -> usize {
        let body: Value = serde_json::from_slice(&self.bytes().await.unwrap()).unwrap();
        body["keys"].as_array().unwrap().len()
    }
}

#[test]
fn the_memory_of_requests_is_bounded() {
    let idp = IdentityProvider::start();
    let mut stream = TcpStream::connect(idp.address()).unwrap();
    let floods = MAX_RECORDED_REQUESTS + 5;
    for n in 0..floods {
        write!(stream, "GET /jwks.json?{n} HTTP/1.1\r\n\r\nGET /n{n} HTTP/1.1\r\n\r\n").unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(idp.requests().len(), MAX_RECORDED_REQUESTS);
    assert_eq!(idp.requests().last().unwrap().path, format!("/n{}", floods - 1));
}

#[test]
#[should_panic(expected = "not a loopback address")]
fn it_serves_nobody_but_this_machine() {
    let _ = IdentityProvider::start_at(([0, 0, 0, 0], 0).into(), Algorithm::Es256);
}

#[test]
fn it_goes_down_while_processes_are_started() {
    let idp = IdentityProvider::start();
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            let this = std::env::current_exe().unwrap();
            for _ in 0..100 {
                // Between fork and exec it has a copy of every socket.
                let mut process = Command::new(&this);
                assert!(process.arg("--list").stdout(Stdio::null()).status().unwrap().success());
            }
        });
        while !starter.is_finished() {
            idp.stop();
            idp.resume();
        }
    });
    assert!(get(&idp).is_ok());
}
