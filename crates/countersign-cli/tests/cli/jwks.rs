//! `countersign jwks check`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use countersign::Algorithm;
use countersign_testkit::{Answer, IdentityProvider, TestKey};
use serde_json::{Value, json};

use crate::{GOOD, REFUSED, Ran, UNAVAILABLE, USAGE, command, directory, file, run, run_with_input};

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn key(kid: &str) -> Value {
    TestKey::nth(Algorithm::Es256, 0).with_kid(kid).public_jwk()
}

fn codes(document: &Value) -> Vec<&str> {
    document["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[test]
fn a_good_set_is_good_wherever_it_is() {
    let idp = IdentityProvider::start();
    idp.set_header("cache-control", "public, max-age=300");
    idp.send_etags();
    idp.rotate();
    let url = idp.jwks_url();
    let document = run(&["jwks", "check", &url, "--json", "--strict"]).ends(GOOD).json();
    assert_eq!((&document["good"], &document["findings"]), (&json!(true), &json!([])));
    assert_eq!(document["cache"]["cache_control"], "public, max-age=300");
    assert!(document["cache"]["etag"].is_string());
    let first = &document["keys"][0];
    assert_eq!(
        (&first["kty"], &first["crv"], &first["alg"], &first["use"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"), &json!("sig"))
    );
    assert_eq!((&first["taken"], &first["algorithms"]), (&json!(true), &json!(["ES256"])));
    let ran = run(&["jwks", "check", &url]).ends(GOOD);
    assert!(ran.out.starts_with("2 keys: 2 taken, 0 skipped; ") && ran.out.contains("ETag: "), "{}", ran.out);

    let text = set(&[key("a")]);
    let path = file(&directory("jwks-good"), "jwks.json", &text);
    assert_eq!(run(&["jwks", "check", &path, "--json"]).ends(GOOD).json()["cache"], Value::Null);
    run_with_input(&["jwks", "check", "-", "--strict"], text.as_bytes()).ends(GOOD);
}

#[test]
fn each_skipped_key_has_its_reason() {
    let mut encryption = key("enc");
    encryption["use"] = "enc".into();
    let rsa = TestKey::nth(Algorithm::Rs256, 0).with_kid("rsa").public_jwk();
    let text = set(&[key("a"), encryption, json!({ "kty": "PGP" }), rsa]);
    let ran = run_with_input(&["jwks", "check", "-"], text.as_bytes()).ends(GOOD);
    for line in [
        "4 keys: 2 taken, 2 skipped; ",
        "  taken     0  \"a\"  EC P-256, ES256, use sig\n",
        "  skipped   1  \"enc\"  EC P-256, ES256, use enc: `use` is not `sig`\n",
        "  skipped   2  (no kid)  PGP, no alg, no use: unknown `kty`\n",
        "  taken     3  \"rsa\"  RSA 2048, RS256, use sig\n",
    ] {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }
    let document = run_with_input(&["jwks", "check", "-", "--json"], text.as_bytes()).ends(GOOD).json();
    assert_eq!(document["keys"][1]["skipped_because"], "`use` is not `sig`");
}

#[test]
fn dangers_are_refused_and_the_secret_is_not_shown() {
    let secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0";
    let mut private = key("a");
    private["d"] = secret.into();
    let weak = json!({ "kty": "RSA", "kid": "w", "e": "AQAB", "n": "_".repeat(168) });
    for (keys, code) in [
        (vec![], "no_usable_key"),
        (vec![private, key("b")], "private_key"),
        (vec![json!({ "kty": "oct", "k": secret }), key("b")], "shared_secret"),
        (vec![weak, key("b")], "weak_rsa"),
        (vec![key("a"), key("a")], "duplicate_kid"),
    ] {
        let text = set(&keys);
        let document = run_with_input(&["jwks", "check", "-", "--json"], text.as_bytes());
        let document = document.ends(REFUSED).keeps_to_itself(&[secret]).json();
        assert_eq!((&document["good"], codes(&document)), (&json!(false), vec![code]));
        let ran = run_with_input(&["jwks", "check", "-"], text.as_bytes()).ends(REFUSED).keeps_to_itself(&[secret]);
        assert!(ran.out.contains("danger: ") && ran.out.contains(&format!("({code})")), "{}", ran.out);
    }
}

#[test]
fn warnings_are_told_and_refused_only_by_who_is_strict() {
    let idp = IdentityProvider::start();
    let url = idp.jwks_url();
    let mut unnamed = key("");
    unnamed.as_object_mut().unwrap().remove("kid");
    let padded = set(&[key("a")]) + &" ".repeat(60_000);
    let cached = |body: String, cache_control: &str| Answer::body(body).with_header("cache-control", cache_control);
    for (answer, code) in [
        (Answer::body(set(&[key("a")])), "no_lifetime"),
        (cached(set(&[key("a")]), "no-store"), "short_lifetime"),
        (cached(set(&[key("a")]), "max-age=86400"), "long_lifetime"),
        (cached(set(&[unnamed]), "max-age=300"), "no_kid"),
        (cached(padded, "max-age=300"), "large"),
    ] {
        idp.set_answer(answer);
        let document = run(&["jwks", "check", &url, "--json"]).ends(GOOD).json();
        assert_eq!((&document["good"], codes(&document)), (&json!(true), vec![code]));
        assert!(run(&["jwks", "check", &url]).ends(GOOD).out.contains(&format!("({code})")));
        run(&["jwks", "check", &url, "--strict"]).ends(REFUSED);
    }
}

#[test]
fn what_cannot_be_fetched_or_read_is_unavailable_and_what_no_verifier_takes_is_refused() {
    let idp = IdentityProvider::start();
    let url = idp.jwks_url();
    let error = |answer: Answer, code: i32| {
        idp.set_answer(answer);
        run(&["jwks", "check", &url, "--json"]).ends(code).json()["error"].as_str().unwrap().to_owned()
    };
    for answer in [Answer::status(500), Answer::status(204), Answer::Redirect, Answer::Reset, Answer::Truncated] {
        assert_eq!(error(answer, UNAVAILABLE), "cannot_fetch");
    }
    for (answer, code) in [(Answer::body("<html>"), "not_a_key_set"), (Answer::Endless(1 << 30), "too_large")] {
        assert_eq!(error(answer, REFUSED), code);
    }
    idp.stop();
    run(&["jwks", "check", &url]).ends(UNAVAILABLE);
    run(&["jwks", "check", "/nowhere/jwks.json"]).ends(UNAVAILABLE);
    let huge = vec![b' '; 1 << 20];
    assert_eq!(run_with_input(&["jwks", "check", "-", "--json"], &huge).ends(REFUSED).json()["error"], "too_large");
    for url in ["ftp://issuer.example/", "https://user:pass@issuer.example/", "https://"] {
        run(&["jwks", "check", url]).ends(USAGE).keeps_to_itself(&["pass@"]);
    }
}

/// A proxy that gives everybody this answer, once.
fn proxy(body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET http://issuer.example/jwks.json "));
        let head = format!("HTTP/1.1 200 OK\r\ncache-control: max-age=300\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
    });
    format!("http://{address}")
}

#[test]
fn a_set_over_plain_http_is_a_danger() {
    let mut command = command(&["jwks", "check", "http://issuer.example/jwks.json", "--json"]);
    let ran = Ran::of(command.env("http_proxy", proxy(set(&[key("a")]))).output().unwrap()).ends(REFUSED);
    assert_eq!(codes(&ran.json()), ["plain_http"]);
}

#[test]
fn no_text_of_a_set_or_of_its_headers_disturbs_a_terminal() {
    let hostile = "\x1b[2J\u{9b}31m\u{202e}\r\n\u{0}";
    let text = set(&[
        json!({ "kid": hostile, "kty": hostile, "alg": hostile, "use": hostile, "crv": hostile }),
        json!({ "kid": hostile, "kty": "EC", "crv": "P-256", hostile: hostile }),
        key(hostile),
    ]);
    let idp = IdentityProvider::start();
    idp.set_answer(
        Answer::body(text).with_header("cache-control", "max-age=300, x=\u{9b}2J").with_header("etag", "\"\u{202e}\""),
    );
    let url = idp.jwks_url();
    run(&["jwks", "check", &url]).ends(GOOD);
    assert_eq!(run(&["jwks", "check", &url, "--json"]).ends(GOOD).json()["keys"][2]["kid"], hostile);
}
