//! `countersign request`.

use std::sync::Arc;

use countersign::claims::signed_request::{self, BodyDigest, TYPE};
use countersign::token::{DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, UnverifiedToken};
use countersign::{Algorithm, Policy, SigningKey, UnixTime, Verified, VerifyingKey};

use crate::{GOOD, REFUSED, Ran, USAGE, directory, file, run, run_with_input};

const URL: &str = "https://issuer.example/v1/keys:rotate?dry=1";

/// A key in a file, and what it verifies with.
fn key(name: &str) -> (String, Arc<VerifyingKey>) {
    let (key, private) = SigningKey::generate_exportable(Algorithm::Es256).unwrap();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_bytes()));
    let path = file(&directory(name), "client.pem", pem);
    (path, Arc::new(key.verifying_key().unwrap().bound_to_issuer("ops")))
}

fn arguments<'a>(key: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let always =
        ["request", "sign", "--key", key, "--alg", "ES256", "--client", "ops", "--audience", "https://issuer.example"];
    [&always, more].concat()
}

fn judge(key: &Arc<VerifyingKey>, token: &str, now: i64) -> Verified {
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(token, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).unwrap();
    assert_eq!(token.header().typ(), Some(TYPE));
    let policy = Policy::new().audience("https://issuer.example").signed_request_profile();
    policy.judge(token.verify(key).unwrap(), UnixTime::from_secs(now)).unwrap()
}

#[test]
fn a_request_is_signed_with_its_method_its_url_and_its_body() {
    let (path, key) = key("request");
    let body = file(&directory("request-body"), "body.json", "{\"slot\":\"a\"}\n");
    let always = ["--method", "POST", "--url", URL, "--now", "1000"];
    let check = |ran: Ran, octets: &[u8]| {
        let token = ran.ends(GOOD).out.trim_end().to_owned();
        let verified = judge(&key, &token, 1_000);
        signed_request::check_head(&verified, "POST", URL).unwrap();
        signed_request::check_body(&verified, &BodyDigest::of(octets)).unwrap();
        assert_eq!(verified.expires_at(), Some(UnixTime::from_secs(1_060)));
    };
    check(run(&arguments(&path, &always)), b"");
    let with_body = [&always[..], &["--body", &body]].concat();
    check(run(&arguments(&path, &with_body)), b"{\"slot\":\"a\"}\n");
    let from_input = [&always[..], &["--body", "-"]].concat();
    check(run_with_input(&arguments(&path, &from_input), b" \0x"), b" \0x");

    let short = [&always[..], &["--lifetime", "10", "--json"]].concat();
    let document = run(&arguments(&path, &short)).ends(GOOD).json();
    assert_eq!(document["exp"], 1_010);
    assert_eq!(document["body_sha256"], BodyDigest::of(b"").to_string());
    judge(&key, document["token"].as_str().unwrap(), 1_000);
}

#[test]
fn what_could_be_meant_otherwise_is_not_signed() {
    let (path, _) = key("request-usage");
    for more in [
        &["--method", "POST", "--url", "https://issuer.example"][..],
        &["--method", "POST", "--url", "https://issuer.example/a#b"],
        &["--method", "POST", "--url", "https://ISSUER.example/a"],
        &["--method", "POST", "--url", "https://issuer.example/a/../b"],
        &["--method", "POST", "--url", "/v1/keys"],
        &["--method", "PO ST", "--url", URL],
        &["--method", "POST", "--url", URL, "--lifetime", "61"],
        &["--method", "POST", "--url", URL, "--lifetime", "0"],
        &["--method", "POST"],
        &["--url", URL],
    ] {
        let ran = run(&arguments(&path, more)).ends(USAGE);
        assert_eq!(ran.out, "", "{more:?}");
    }
    let both = [
        "request",
        "sign",
        "--key",
        "-",
        "--client",
        "ops",
        "--audience",
        "a",
        "--method",
        "GET",
        "--url",
        URL,
        "--body",
        "-",
    ];
    run_with_input(&both, b"").ends(USAGE);
}

#[test]
fn a_secret_signs_no_requests() {
    let secret = r#"{"kty":"oct","alg":"HS256","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
    let path = file(&directory("request-secret"), "secret.jwk", secret);
    let arguments =
        ["request", "sign", "--key", &path, "--client", "ops", "--audience", "a", "--method", "GET", "--url", URL];
    run(&arguments).ends(REFUSED);
}
