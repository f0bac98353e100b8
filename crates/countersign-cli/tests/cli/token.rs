//! `countersign token`.

use std::fs;
use std::process::Stdio;

use countersign::Algorithm;
use countersign_testkit::{Answer, IdentityProvider, TestKey, Token};
use serde_json::{Value, json};

use crate::{GOOD, REFUSED, Ran, UNAVAILABLE, USAGE, command, directory, file, run, run_with_input};

/// What stands before the options of a provider's tokens.
fn judge<'a>(what: &'a str, token: &'a str, checks: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["token", what, token], checks, more].concat()
}

/// Both halves of a token that can be read; who has these and the signature has the token.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().unwrap()
}

#[test]
fn a_good_token_is_accepted_and_says_what_it_says() {
    let idp = IdentityProvider::start();
    let token = idp.token("orders").claim("big", json!(12_345_678_901_234_567_890_u64)).sign();
    let url = idp.jwks_url();
    let set = json!({ "keys": idp.published().iter().map(TestKey::public_jwk).collect::<Vec<_>>() });
    let path = file(&directory("verify"), "jwks.json", set.to_string());
    for jwks in [&*url, &*path] {
        let checks = ["--jwks", jwks, "--issuer", idp.issuer(), "--audience", "orders"];
        let ran = run(&judge("verify", &token, &checks, &[])).ends(GOOD).keeps_to_itself(&[signature(&token)]);
        assert!(ran.out.starts_with("accepted: signed by key ") && ran.out.contains("\n  \"iss\": \""), "{}", ran.out);
        assert_eq!(ran.err, "");

        for input in [format!("{token}\n"), format!(" \t{token}\r\n\n"), token.clone()] {
            for arguments in
                [judge("verify", "-", &checks, &["--json"]), [&["token", "verify", "--json"], &checks[..]].concat()]
            {
                let document = run_with_input(&arguments, input.as_bytes()).ends(GOOD).json();
                assert_eq!(document["accepted"], true);
                assert_eq!(document["alg"], "ES256");
                assert_eq!(document["kid"], *idp.key().kid().unwrap());
                assert_eq!(document["claims"]["big"], json!(12_345_678_901_234_567_890_u64));
                assert_eq!(document["warnings"], json!([]));
            }
        }
    }
    // Without --jwks the issuer is asked where its keys are.
    run(&["token", "verify", &token, "--issuer", idp.issuer(), "--audience", "orders"]).ends(GOOD);
}

#[test]
fn a_refused_token_gives_its_stable_reason() {
    let idp = IdentityProvider::start();
    let url = idp.jwks_url();
    let checks = ["--jwks", &url, "--issuer", idp.issuer(), "--audience", "orders"];
    let good = idp.token("orders");
    let stranger = TestKey::nth(Algorithm::Es256, 7);
    for (token, more, reason) in [
        (idp.token("billing").sign(), vec![], "wrong_audience"),
        (good.clone().issuer("https://evil.example").sign(), vec![], "wrong_issuer"),
        (good.clone().expired(std::time::Duration::from_secs(600)).sign(), vec![], "expired"),
        (good.clone().typ("other+jwt").sign(), vec![], "wrong_type"),
        (good.clone().signed_by(&stranger).sign(), vec![], "unknown_key"),
        (good.sign(), vec!["--alg", "RS256", "--alg", "PS512"], "alg_not_allowed"),
        (good.sign(), vec!["--now", "1"], "issued_in_the_future"),
        ("e30.e30.".into(), vec![], "alg_missing"),
        ("nonsense".into(), vec![], "not_three_parts"),
        (String::new(), vec![], "not_three_parts"),
    ] {
        let ran = run(&judge("verify", &token, &checks, &more)).ends(REFUSED).keeps_to_itself(&[&token]);
        assert!(ran.out.starts_with(&format!("refused: {reason}: ")), "{reason}: {}", ran.out);
        let document = run(&judge("verify", &token, &checks, &[&more[..], &["--json"]].concat())).ends(REFUSED).json();
        assert_eq!((&document["accepted"], &document["reason"]), (&json!(false), &json!(reason)));
        assert!(document["message"].is_string());
    }
    // The same tokens under options that let them in.
    let typed = good.clone().typ("other+jwt").sign();
    run(&judge("verify", &typed, &checks, &["--typ", "other+jwt"])).ends(GOOD);
    run(&judge("verify", &good.sign(), &checks, &["--alg", "RS256", "--alg", "ES256"])).ends(GOOD);
    run(&judge("verify", &idp.token("billing").sign(), &checks, &["--audience", "billing"])).ends(GOOD);
    let late = good.expired(std::time::Duration::from_secs(60)).sign();
    run(&judge("verify", &late, &checks, &[])).ends(REFUSED);
    run(&judge("verify", &late, &checks, &["--leeway", "120"])).ends(GOOD);
}

#[test]
fn what_lets_too_much_through_is_said() {
    let idp = IdentityProvider::start();
    let (token, url) = (idp.token("orders").sign(), idp.jwks_url());
    let ran = run(&["token", "verify", &token, "--jwks", &url]).ends(GOOD);
    assert!(ran.err.contains("warning: no --audience") && ran.err.contains("warning: no --issuer"), "{}", ran.err);
    let document = run(&["token", "verify", &token, "--jwks", &url, "--json"]).ends(GOOD).json();
    assert_eq!(document["warnings"].as_array().unwrap().len(), 2);
}

#[test]
fn keys_that_cannot_be_had_say_nothing_of_the_token() {
    let idp = IdentityProvider::start();
    let (token, url) = (idp.token("orders").sign(), idp.jwks_url());
    let place = directory("unavailable");
    let garbage = file(&place, "garbage.json", "<html>");
    let nowhere = place.join("nowhere").to_str().unwrap().to_owned();
    let fails = |jwks: &str| {
        for what in ["verify", "explain"] {
            let ran = run(&["token", what, &token, "--jwks", jwks, "--audience", "a", "--issuer", "i"]);
            let ran = ran.ends(UNAVAILABLE).keeps_to_itself(&[&token]);
            assert!(ran.err.starts_with("error: no keys: ") && ran.out.is_empty(), "{}", ran.err);
        }
        let document = run(&["token", "verify", &token, "--jwks", jwks, "--json"]).ends(UNAVAILABLE).json();
        assert_eq!(document["error"], "keys_unavailable");
    };
    fails(&garbage);
    fails(&nowhere);
    for answer in [
        Answer::status(500),
        Answer::status(404),
        Answer::body("<html>"),
        Answer::Redirect,
        Answer::Reset,
        Answer::Truncated,
        Answer::Endless(1 << 30),
        Answer::body("{\"keys\":[]}\x1b[2J"),
    ] {
        idp.set_answer(answer);
        fails(&url);
    }
    idp.stop();
    fails(&url);
}

#[test]
fn a_source_that_is_slow_once_is_asked_again() {
    let idp = IdentityProvider::start();
    idp.answer_once(Answer::Stall);
    let (token, url) = (idp.token("orders").sign(), idp.jwks_url());
    run(&["token", "verify", &token, "--jwks", &url, "--issuer", idp.issuer(), "--audience", "orders"]).ends(GOOD);
    assert_eq!(idp.fetches(), 2);
}

#[cfg(unix)]
#[test]
fn a_key_set_that_others_may_write_to_is_not_used() {
    let idp = IdentityProvider::start();
    let set = json!({ "keys": idp.published().iter().map(TestKey::public_jwk).collect::<Vec<_>>() });
    let path = file(&directory("writable"), "jwks.json", set.to_string());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    run(&["token", "verify", &idp.token("orders").sign(), "--jwks", &path]).ends(UNAVAILABLE);
}

#[test]
fn options_that_contradict_each_other_are_a_usage_error() {
    for (arguments, word) in [
        (&["--issuer", "a", "--issuer", "b"][..], "--jwks"),
        (&[], "--jwks"),
        (&["--jwks", "http://issuer.example/jwks.json"], "plain http"),
        (&["--jwks", "https://user:pass@issuer.example/"], "password"),
        (&["--jwks", "ftp://issuer.example/"], "https"),
        (&["--issuer", "not a url"], "--issuer"),
        (&["--jwks", "a", "--leeway", "301"], "leeway"),
        (&["--jwks", "a", "--typ", "logout+jwt"], "logout+jwt"),
        (&["--jwks", "a", "--audience", ""], "audience"),
        (&["--jwks", "https://issuer.example/", "--alg", "HS256"], "HMAC"),
    ] {
        for what in ["verify", "explain"] {
            let ran = run(&[&["token", what, "a.b.c"], arguments].concat()).ends(USAGE);
            assert!(ran.err.contains(word) && !ran.err.contains("pass@"), "{}", ran.err);
            let document = run(&[&["token", what, "a.b.c", "--json"], arguments].concat()).ends(USAGE).json();
            assert_eq!(document["error"], "usage");
        }
    }
}

#[test]
fn every_hostile_token_is_refused_and_repeated_nowhere() {
    let idp = IdentityProvider::start();
    let set = json!({ "keys": idp.published().iter().map(TestKey::public_jwk).collect::<Vec<_>>() });
    let path = file(&directory("hostile"), "jwks.json", set.to_string());
    let checks = ["--jwks", &path, "--issuer", idp.issuer(), "--audience", "orders", "--json"];
    let good = idp.token("orders");
    run_with_input(&judge("verify", "-", &checks, &[]), good.sign().as_bytes()).ends(GOOD);
    for hostile in good.hostile() {
        // White space around a token is no part of it here.
        if hostile.token.trim_ascii() != hostile.token {
            continue;
        }
        let input = hostile.token.as_bytes();
        for what in ["verify", "explain"] {
            let ran = run_with_input(&judge(what, "-", &checks, &[]), input);
            let ran = ran.ends(REFUSED).keeps_to_itself(&[hostile.token.trim_ascii()]);
            assert_eq!(ran.json()["accepted"], false, "{}", hostile.attack);
        }
        let ran = run_with_input(&["token", "decode"], input).keeps_to_itself(&[hostile.token.trim_ascii()]);
        assert!(matches!(ran.code, GOOD | REFUSED), "{}: {}", hostile.attack, ran.code);
    }
}

/// What a terminal would do something with.
const TERMINAL: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{7f}\u{202e}\u{2066}\u{200b}\r\n\t\u{0}";

#[test]
fn no_control_character_of_a_token_or_of_a_key_reaches_the_terminal() {
    let idp = IdentityProvider::start();
    let named = idp.key().with_kid(TERMINAL);
    idp.publish([named.clone()]);
    idp.sign_with(&named);
    let token =
        idp.token("orders").subject(TERMINAL).claim(TERMINAL, json!({ TERMINAL: [TERMINAL] })).header("x", TERMINAL);
    let url = idp.jwks_url();
    let checks = ["--jwks", &*url, "--issuer", idp.issuer(), "--audience", "orders"];
    let refused = token.clone().typ(TERMINAL).audience(TERMINAL).issuer(TERMINAL);
    // What `Ran` accepts is what is looked at.
    for (token, code) in [(token, GOOD), (refused, REFUSED)] {
        let token = token.sign();
        for more in [&[][..], &["--json"]] {
            run(&judge("verify", &token, &checks, more)).ends(code);
            run(&judge("explain", &token, &checks, more)).ends(code);
            let ran = run(&[&["token", "decode", &token], more].concat()).ends(GOOD);
            if !more.is_empty() {
                assert_eq!(ran.json()["payload"]["sub"], TERMINAL, "and JSON means the same");
            }
        }
    }
    // Not in the text of an argument either.
    run(&["token", "verify", TERMINAL.trim_end_matches('\0'), "--jwks", &url]).ends(REFUSED);
}

#[test]
fn white_space_in_a_payload_disturbs_nothing() {
    let key = TestKey::nth(Algorithm::Es256, 0);
    let token = Token::new(&key).sign_parts(r#"{"alg":"ES256"}"#, "{\r\"a\":\t[1,\n2]\r\n}");
    let ran = run(&["token", "decode", &token]).ends(GOOD);
    assert!(ran.out.ends_with("payload\n  \"a\": [1, 2]\n"), "{}", ran.out);
    assert_eq!(run(&["token", "decode", &token, "--json"]).ends(GOOD).json()["payload"], json!({ "a": [1, 2] }));
}

#[test]
fn decoding_verifies_nothing_and_says_so() {
    let idp = IdentityProvider::start();
    let token = idp.token("orders").sign();
    let ran = run(&["token", "decode", &token]).ends(GOOD).keeps_to_itself(&[signature(&token)]);
    assert!(ran.out.starts_with("NOT VERIFIED") && ran.out.contains("  \"alg\": \"ES256\"\n"), "{}", ran.out);
    // `{"alg":"none"}` and `{"sub":"ada","sub":"eve"}`
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJzdWIiOiJldmUifQ.";
    let ran = run(&["token", "decode", none]).ends(GOOD);
    assert!(ran.out.contains("\"alg\": \"none\"") && ran.out.contains(r#"{"sub":"ada","sub":"eve"}"#), "{}", ran.out);
    assert_eq!(run(&["token", "decode", none, "--json"]).ends(GOOD).json()["verified"], false);
    for (token, code) in [
        ("a.b", "not_three_parts"),
        ("a.b.c.d.e", "encrypted"),
        ("!.e30.", "not_base64url"),
        ("e30.!.", "not_base64url"),
        ("W10.e30.", "header_not_an_object"),
        ("e30.W10.", "payload_not_an_object"),
    ] {
        assert_eq!(run(&["token", "decode", token, "--json"]).ends(REFUSED).json()["error"], code);
        run(&["token", "decode", token]).ends(REFUSED);
    }
}

#[test]
fn an_endless_input_is_read_to_a_bound() {
    let huge = vec![b'a'; 4 << 20];
    for arguments in [&["token", "decode", "--json"][..], &["token", "verify", "--json", "--jwks", "nowhere"]] {
        assert_eq!(run_with_input(arguments, &huge).ends(REFUSED).json()["error"], "token_too_long");
    }
    let claims = run_with_input(&["token", "sign", "--key", "-", "--alg", "ES256"], &huge).ends(USAGE);
    assert!(claims.err.contains("65536"), "{}", claims.err);
    // What is no text is no token.
    assert_eq!(
        run_with_input(&["token", "decode", "--json"], b"\xff.\xff.\xff").ends(REFUSED).json()["error"],
        "not_base64url"
    );
}

#[test]
fn an_explanation_tells_why_and_neither_token_nor_sub() {
    let idp = IdentityProvider::start();
    let url = idp.jwks_url();
    let checks = ["--jwks", &url, "--issuer", idp.issuer(), "--audience", "orders"];
    let token = idp.token("billing").subject("ada-lovelace").sign();
    let ran = run(&judge("explain", &token, &checks, &[])).ends(REFUSED);
    let ran = ran.keeps_to_itself(&[&token, signature(&token), "ada-lovelace"]);
    assert!(ran.out.starts_with("refused: wrong_audience: ") && ran.out.contains("FAILED"), "{}", ran.out);
    assert!(ran.out.contains("hint: "), "{}", ran.out);
    let document = run(&judge("explain", &token, &checks, &["--json"])).ends(REFUSED).json();
    let steps = document["steps"].as_array().unwrap();
    let failed: Vec<_> = steps.iter().filter(|step| step["outcome"] == "failed").map(|step| &step["step"]).collect();
    assert_eq!(failed, [&json!("aud")]);
    assert_eq!(document["claims_are_signed"], true);

    let good = idp.token("orders").sign();
    assert!(run(&judge("explain", &good, &checks, &[])).ends(GOOD).out.starts_with("accepted\n"));
    let stranger = idp.token("orders").signed_by(&TestKey::nth(Algorithm::Es256, 3)).sign();
    let document = run(&judge("explain", &stranger, &checks, &["--json"])).ends(REFUSED).json();
    assert_eq!(document["reason"], "unknown_key");
}

/// Signs, and says what verifies it.
fn signed(key: &str, more: &[&str]) -> Value {
    run(&[&["token", "sign", "--json", "--key", key], more].concat()).ends(GOOD).json()
}

#[test]
fn a_token_that_is_signed_here_is_verified_here() {
    let place = directory("sign");
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::Ed25519] {
        let key = TestKey::nth(algorithm, 0).with_kid("k1");
        let pem = file(&place, "key.pem", key.private_pem());
        let jwks = file(&place, "jwks.json", json!({ "keys": [key.public_jwk()] }).to_string());
        let options = [
            "--alg",
            algorithm.name(),
            "--kid",
            "k1",
            "--issuer",
            "https://login.example",
            "--audience",
            "orders",
            "--subject",
            "ada",
            "--scope",
            "orders:read orders:write",
            "--claim",
            "tenant=acme",
            "--claim",
            "level=3",
            "--claim",
            "groups=[\"a\", \"b\"]",
        ];
        let ran = run(&[&["token", "sign", "--key", &pem], &options[..]].concat()).ends(GOOD);
        assert_eq!(ran.err, "");
        let token = ran.out.trim_end();
        let checks = ["--jwks", &jwks, "--issuer", "https://login.example", "--audience", "orders"];
        let claims = &run(&judge("verify", token, &checks, &["--json"])).ends(GOOD).json()["claims"];
        assert_eq!(
            (&claims["sub"], &claims["scope"], &claims["tenant"], &claims["level"], &claims["groups"]),
            (&json!("ada"), &json!("orders:read orders:write"), &json!("acme"), &json!(3), &json!(["a", "b"]))
        );
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    }
}

#[test]
fn a_jwk_signs_too_and_says_itself_with_what() {
    let place = directory("sign-jwk");
    let jwk = json!({ "kty": "oct", "kid": "s1", "alg": "HS256", "k": "c2l4dGVlbiBvY3RldHMsIGFuZCBhcyBtYW55IG1vcmU" });
    let key = file(&place, "key.jwk", jwk.to_string());
    let jwks = file(&place, "jwks.json", json!({ "keys": [jwk] }).to_string());
    let claims = file(&place, "claims.json", r#"{"aud":["a","b"],"amount":1.10}"#);
    let token =
        signed(&key, &["--claims", &claims, "--lifetime", "60", "--now", "1000", "--typ", "JWT"])["token"].clone();
    let token = token.as_str().unwrap();
    let checks = ["--jwks", &jwks, "--alg", "HS256", "--now", "1010", "--audience", "b"];
    let ran = run(&judge("verify", token, &checks, &["--json"])).ends(GOOD);
    assert!(ran.out.contains(r#""amount":1.10"#), "as it was written: {}", ran.out);
    assert_eq!(ran.json()["claims"]["exp"], 1060);
    run(&judge("verify", token, &checks[..6], &[])).ends(GOOD);
    run(&judge("verify", token, &["--jwks", &jwks, "--alg", "HS256"], &[])).ends(REFUSED);
    // The key on standard input, where it is in no file.
    let ran = run_with_input(&["token", "sign", "--key", "-", "--claim", "a=b"], jwk.to_string().as_bytes());
    ran.ends(GOOD).keeps_to_itself(&["c2l4dGVlbiBvY3RldHMsIGFuZCBhcyBtYW55IG1vcmU"]);
}

#[test]
fn what_cannot_be_signed_is_refused_without_a_word_of_the_key() {
    let place = directory("unsigned");
    let key = TestKey::nth(Algorithm::Es256, 0);
    let pem = file(&place, "key.pem", key.private_pem());
    let public = file(&place, "public.pem", key.public_pem());
    let jwk = file(&place, "public.jwk", key.public_jwk().to_string());
    let claims = file(&place, "claims.json", r#"{"iss":"a"}"#);
    let array = file(&place, "array.json", "[1]");
    let secret = key.private_pem().lines().nth(1).unwrap().to_owned();
    let nowhere = place.join("nowhere").to_str().unwrap().to_owned();
    for (arguments, code, word) in [
        (&["--key", &pem][..], USAGE, "--alg"),
        (&["--key", &pem, "--alg", "RS256"], REFUSED, "cannot be used"),
        (&["--key", &public, "--alg", "ES256"], REFUSED, "cannot be used"),
        (&["--key", &jwk], REFUSED, "`d` is missing"),
        (&["--key", &nowhere, "--alg", "ES256"], UNAVAILABLE, "cannot read"),
        (&["--key", &pem, "--alg", "ES256", "--claims", &nowhere], UNAVAILABLE, "cannot read"),
        (&["--key", &pem, "--alg", "ES256", "--claims", &array], USAGE, "not one JSON object"),
        (&["--key", &pem, "--alg", "ES256", "--claims", &claims, "--issuer", "b"], USAGE, "`iss` is there twice"),
        (&["--key", &pem, "--alg", "ES256", "--claim", "exp=1"], USAGE, "`exp` is there twice"),
        (&["--key", &pem, "--alg", "ES256", "--lifetime", "0"], USAGE, "--lifetime"),
        (&["--key", &pem, "--alg", "ES256", "--claim", "=1"], USAGE, "NAME=VALUE"),
    ] {
        let ran = run(&[&["token", "sign"], arguments].concat()).ends(code).keeps_to_itself(&[&secret]);
        assert!(ran.err.contains(word) && ran.out.is_empty(), "{}", ran.err);
    }
    #[cfg(unix)]
    {
        fs::set_permissions(&pem, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let ran = run(&["token", "sign", "--key", &pem, "--alg", "ES256"]).ends(UNAVAILABLE);
        assert!(ran.err.contains("0644"), "{}", ran.err);
    }
}

#[cfg(unix)]
#[test]
fn whoever_waits_for_a_token_that_does_not_come_can_end_it() {
    // Standard input that stays open: nothing is decided, and nothing is busy.
    let mut child = command(&["token", "decode"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, REFUSED);
}
