//! The ring, for those who have rights over it and for those who have not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign::claims::signed_request::{BodyDigest, TYPE};
use countersign_issuer::state::KeyState;
use countersign_issuer::{Fault, Operation, StoreErrorKind};
use countersign_service::{ClientSecret, MAX_BODY_BYTES, SecretKey};
use http::Request;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::bench::{Answer, Bench, ISSUER, bearer, orders};

const CLIENTS: &str = r#"
[clients.ops]
jwks = 'JWKS'
admin = ["keys:read", "keys:rotate", "keys:revoke"]
[clients.reader]
jwks = 'JWKS'
admin = ["keys:read"]
[clients.rotator]
jwks = 'JWKS'
admin = ["keys:rotate"]
[clients.revoker]
jwks = 'JWKS'
admin = ["keys:revoke"]
[clients.former]
jwks = 'JWKS'
admin = ["keys:read", "keys:rotate", "keys:revoke"]
valid_until = 2026-01-01T00:00:00Z
"#;

async fn bench() -> Bench {
    bench_with(|policy| policy).await
}

async fn bench_with(change: impl FnOnce(String) -> String) -> Bench {
    Bench::with(|policy| change(with_operators(policy))).await
}

/// And clients with rights, which have the key of the first.
pub(crate) fn with_operators(policy: String) -> String {
    let jwks = policy.split('\'').nth(1).unwrap().to_owned();
    policy + &CLIENTS.replace("JWKS", &jwks)
}

impl Bench {
    async fn keys(&self) -> Value {
        let answer = self.list("ops").await;
        assert_eq!((answer.status, &*answer.headers["cache-control"]), (200, "no-store"), "{}", answer.json());
        answer.json()
    }

    async fn list(&self, client: &str) -> Answer {
        self.get_with("/v1/keys", &bearer(&self.signed(client, "GET", "/v1/keys", ""))).await
    }

    async fn order(&self, client: &str, path: &str, body: &Value) -> Answer {
        self.post(path, &bearer(&self.signed(client, "POST", path, &body.to_string())), body).await
    }

    /// Until each slot has a standby: nobody can lack it then.
    async fn with_standbys(&self) -> &Self {
        let is_confirmed = |key: &Value| key["state"] != "active" && key["confirmed_at"].is_i64();
        self.pass(0, |keys| keys["keys"].as_array().unwrap().iter().filter(|key| is_confirmed(key)).count() == 2).await;
        self.pass(700, |keys| keys["slots"].as_object().unwrap().values().all(|slot| slot["standby"].is_string())).await
    }

    async fn pass(&self, seconds: u64, is_reached: impl Fn(&Value) -> bool) -> &Self {
        self.ring_ahead.fetch_add(seconds, Ordering::SeqCst);
        for _ in 0..600 {
            if is_reached(&self.keys().await) {
                return self;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}", self.keys().await);
    }

    async fn published(&self) -> BTreeSet<String> {
        let document = self.get("/.well-known/jwks.json").await.json();
        document["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }
}

fn path_of(kid: &str) -> String {
    format!("/v1/keys/{kid}:revoke")
}

fn kid(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

#[tokio::test]
async fn every_key_is_listed_with_how_far_it_has_come_and_nothing_private_is() {
    let bench = bench().await;
    let listed = bench.with_standbys().await.keys().await;
    assert_eq!(listed["issuer"], ISSUER);
    let keys = listed["keys"].as_array().unwrap();
    let states: Vec<_> = keys.iter().map(|key| (&key["slot"], &key["state"], &key["alg"])).collect();
    let expected = [
        (&json!("es256"), &json!("active"), &json!("ES256")),
        (&json!("es256"), &json!("standby"), &json!("ES256")),
        (&json!("rs256"), &json!("active"), &json!("RS256")),
        (&json!("rs256"), &json!("standby"), &json!("RS256")),
    ];
    assert_eq!(states, expected);
    assert_eq!(
        (&listed["slots"]["es256"]["signs"], &listed["slots"]["es256"]["standby"]),
        (&keys[0]["kid"], &keys[1]["kid"])
    );
    for key in keys {
        // Rotated after a day, so much was configured.
        assert_eq!(key["next"]["at"], keys[0]["activated_at"].as_i64().unwrap() + 86_400);
        assert_eq!(key["private_part_at_hand"], true);
        assert!(bench.published().await.contains(&kid(&key["kid"])));
    }
    assert_eq!(listed["next_transition"], keys[0]["next"]["at"]);
    let text = listed.to_string();
    for private in ["\"d\"", "\"p\"", "\"n\"", "PRIVATE", "sealed"] {
        assert!(!text.contains(private), "{private}");
    }
}

#[tokio::test]
async fn each_right_is_needed_and_none_follows_from_another_or_from_a_grant() {
    let bench = bench().await;
    let signs = kid(&bench.keys().await["slots"]["es256"]["signs"]);
    let rotate = |mode: &str| json!({ "mode": mode, "reason": "test", "dry_run": true });
    let (standby, emergency, revoke) =
        (rotate("standby"), rotate("emergency"), json!({ "reason": "test", "dry_run": true }));
    for (client, rights) in [
        ("ops", [true; 4]),
        ("reader", [true, false, false, false]),
        ("rotator", [false, true, false, false]),
        ("revoker", [false, false, false, true]),
        ("web", [false; 4]),
        ("former", [false; 4]),
    ] {
        let answers = [
            bench.list(client).await,
            bench.order(client, "/v1/keys:rotate", &standby).await,
            bench.order(client, "/v1/keys:rotate", &emergency).await,
            bench.order(client, &path_of(&signs), &revoke).await,
        ];
        for (index, (answer, has_right)) in answers.iter().zip(rights).enumerate() {
            let code = if client == "former" { "client_not_valid" } else { "admin_right_missing" };
            match has_right {
                true => assert_eq!(answer.status, 200, "{client} {index}"),
                false => assert_eq!(answer.refusal(), (403, code.to_owned()), "{client} {index}"),
            }
        }
    }
    // And a right signs nothing.
    let body = json!({ "profile": "access", "aud": "orders" });
    assert_eq!(bench.order("ops", "/v1/tokens", &body).await.refusal(), (403, "profile_not_permitted".to_owned()));
    // Nobody is told which keys there are.
    assert_eq!(bench.order("web", &path_of("none"), &revoke).await.refusal().0, 403);
}

#[tokio::test]
async fn whoever_shows_nothing_wrong_or_used_credentials_is_401() {
    let bench = bench().await;
    let used = bench.signed("ops", "GET", "/v1/keys", "");
    assert_eq!(bench.get_with("/v1/keys", &bearer(&used)).await.status, 200);
    let own = bench.ask(&orders()).await.json()["token"].as_str().unwrap().to_owned();
    let nobody = bench.signed("nobody", "GET", "/v1/keys", "");
    for headers in [String::new(), bearer(&used), bearer(&nobody), bearer(&own), bearer(&bench.assertion_of("ops"))] {
        let body = json!({ "mode": "emergency", "reason": "test" });
        let answers = [
            bench.get_with("/v1/keys", &headers).await,
            bench.post("/v1/keys:rotate", &headers, &body).await,
            bench.post(&path_of("x"), &headers, &json!({ "reason": "test" })).await,
        ];
        for answer in answers {
            assert_eq!(answer.refusal(), (401, "invalid_client".to_owned()));
        }
    }
}

/// Whoever has seen an order, on its way or in a log, can give no other, and not that one again.
#[tokio::test]
async fn an_order_that_was_seen_orders_nothing_else() {
    let bench = bench().await;
    let signs = kid(&bench.keys().await["slots"]["es256"]["signs"]);
    let drill = json!({ "mode": "standby", "reason": "drill", "dry_run": true });
    let seen = bearer(&bench.signed("ops", "POST", "/v1/keys:rotate", &drill.to_string()));
    let emergency = json!({ "mode": "emergency", "reason": "mine" });
    let for_real = json!({ "mode": "standby", "reason": "drill", "dry_run": false });
    let refused = (401, "invalid_client".to_owned());
    for (path, body) in [
        ("/v1/keys:rotate".to_owned(), &emergency),
        ("/v1/keys:rotate".to_owned(), &for_real),
        ("/v1/keys:rotate?dry_run=false".to_owned(), &drill),
        (path_of(&signs), &json!({ "reason": "mine" })),
        (path_of(&signs), &drill),
        ("/v1/tokens".to_owned(), &orders()),
    ] {
        assert_eq!(bench.post(&path, &seen, body).await.refusal(), refused, "{path} {body}");
    }
    assert_eq!(bench.get_with("/v1/keys", &seen).await.refusal(), refused);
    assert_eq!(bench.post("/v1/keys:rotate", &seen, &drill).await.status, 200, "its client is not hindered");
    assert_eq!(bench.post("/v1/keys:rotate", &seen, &drill).await.refusal(), refused);
    assert_eq!(kid(&bench.keys().await["slots"]["es256"]["signs"]), signs);
}

#[tokio::test]
async fn a_client_secret_is_never_enough() {
    let secret = ClientSecret::generate("ops", &SecretKey::new(&[7; 32]).unwrap()).unwrap();
    let tag = secret.hashed();
    let bench = bench_with(|policy| {
        let policy = policy.replace("revision", "allow_client_secret_basic = true\nrevision");
        policy.replace("[clients.ops]", &format!("[clients.ops]\nsecrets = [\"{tag}\"]"))
    })
    .await;
    let basic = format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("ops:{}", secret.secret())));
    // It is the right one.
    assert_eq!(bench.post("/v1/tokens", &basic, &orders()).await.refusal().0, 403);
    let answers = [
        bench.get_with("/v1/keys", &basic).await,
        bench.post("/v1/keys:rotate", &basic, &json!({ "mode": "standby", "reason": "test" })).await,
        bench.post(&path_of("x"), &basic, &json!({ "reason": "test" })).await,
    ];
    for answer in answers {
        assert_eq!(answer.refusal(), (401, "invalid_client".to_owned()));
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_request_that_its_client_has_signed_will_do_once_and_for_nothing_else() {
    let bench = bench().await;
    let signed = |method: &str, path: &str, body: &str| {
        let mut claims = bench.claims();
        for (name, value) in [
            ("iss", "ops".to_owned()),
            ("sub", "ops".to_owned()),
            ("htm", method.to_owned()),
            ("htu", format!("{ISSUER}{path}")),
            ("body_sha256", BodyDigest::of(body.as_bytes()).to_string()),
        ] {
            claims[name] = json!(value);
        }
        bearer(&bench.key.sign_as(TYPE, &claims).unwrap())
    };
    let seen = signed("GET", "/v1/keys", "");
    assert_eq!(bench.get_with("/v1/keys", &seen).await.status, 200);
    assert_eq!(bench.get_with("/v1/keys", &seen).await.refusal().0, 401, "once");
    let dry = json!({ "mode": "standby", "reason": "drill", "dry_run": true });
    let emergency = json!({ "mode": "emergency", "reason": "drill" });
    let seen = signed("POST", "/v1/keys:rotate", &dry.to_string());
    let before = bench.keys().await;
    assert_eq!(bench.post("/v1/keys:rotate", &seen, &emergency).await.refusal().0, 401);
    assert_eq!(bench.post("/v1/keys:rotate", &seen, &dry).await.status, 200);
    assert_eq!(bench.post("/v1/keys:rotate", &seen, &dry).await.refusal().0, 401, "once");
    assert_eq!(bench.keys().await["slots"]["es256"]["signs"], before["slots"]["es256"]["signs"]);
}

#[tokio::test]
async fn a_rotation_has_the_standbys_sign_as_a_dry_run_has_foreseen_and_refuses_no_token() {
    let bench = bench().await;
    let before = bench.with_standbys().await.keys().await;
    let slot = &before["slots"]["es256"];
    let body = |dry_run: bool| json!({ "mode": "standby", "slots": ["es256"], "reason": "drill", "dry_run": dry_run });
    let foreseen = bench.order("ops", "/v1/keys:rotate", &body(true)).await.json();
    assert_eq!(bench.keys().await["seq"], before["seq"], "nothing was done");
    let mut done = bench.order("rotator", "/v1/keys:rotate", &body(false)).await.json();
    assert_eq!((&done["rotated"], &done["later"], &done["revoked"]), (&json!(["es256"]), &json!([]), &json!([])));
    assert_eq!(
        (&done["signs"]["es256"], &done["signs"]["rs256"]),
        (&slot["standby"], &before["slots"]["rs256"]["signs"])
    );
    assert_eq!((&done["exposure_seconds"], &done["halted"]), (&Value::Null, &json!([])));
    assert_eq!((&done["dry_run"], &foreseen["dry_run"]), (&json!(false), &json!(true)));
    done["dry_run"] = json!(true);
    assert_eq!(done, foreseen);
    assert!(bench.published().await.contains(&kid(&slot["signs"])), "its tokens are still good");
    // The next one waits for a standby.
    let foreseen = bench.order("ops", "/v1/keys:rotate", &body(true)).await.json();
    let done = bench.order("ops", "/v1/keys:rotate", &body(false)).await.json();
    assert_eq!((&foreseen["later"], &done["later"]), (&json!(["es256"]), &json!(["es256"])));
    assert_eq!(bench.keys().await["slots"]["es256"]["rotation_wanted"], true);
}

#[tokio::test]
async fn in_an_emergency_what_signs_is_revoked_and_the_answer_says_what_remains() {
    let bench = bench().await;
    let before = bench.with_standbys().await.keys().await;
    let (old, next) = (kid(&before["slots"]["es256"]["signs"]), kid(&before["slots"]["es256"]["standby"]));
    let body =
        |dry_run: bool| json!({ "mode": "emergency", "slots": ["es256"], "reason": "stolen", "dry_run": dry_run });
    let foreseen = bench.order("ops", "/v1/keys:rotate", &body(true)).await.json();
    assert_eq!(bench.keys().await["seq"], before["seq"], "nothing was done");
    let mut done = bench.order("ops", "/v1/keys:rotate", &body(false)).await.json();
    assert_eq!((&done["revoked"], &done["signs"]["es256"], &done["halted"]), (&json!([old]), &json!(next), &json!([])));
    assert_eq!(done["exposure_seconds"], json!({ "with_feed": 32, "without_feed": 640 }));
    done["dry_run"] = json!(true);
    assert_eq!(done, foreseen);
    let published = bench.published().await;
    assert!(!published.contains(&old) && published.contains(&next));
    assert_eq!(bench.ring.fate(&old), Some(KeyState::Revoked));
    assert_eq!(bench.ask(&orders()).await.json()["kid"], json!(next));
    // Without a standby the slot halts, which is told before and after.
    let foreseen = bench.order("ops", "/v1/keys:rotate", &body(true)).await.json();
    let done = bench.order("ops", "/v1/keys:rotate", &body(false)).await.json();
    for told in [foreseen, done] {
        assert_eq!((&told["halted"], &told["revoked"]), (&json!(["es256"]), &json!([next])));
        assert_eq!(told["signs"]["es256"], Value::Null);
    }
    assert_eq!(bench.ask(&orders()).await.refusal(), (503, "key_unavailable".to_owned()));
}

#[tokio::test]
async fn where_no_key_is_left_the_next_one_signs_at_once_if_that_is_ordered() {
    let bench = bench().await;
    let body = json!({ "mode": "emergency", "reason": "stolen", "sign_at_once": true });
    let done = bench.order("ops", "/v1/keys:rotate", &body).await.json();
    assert_eq!(done["revoked"].as_array().unwrap().len(), 2);
    // Not 640 s later: the clock is not put forward.
    bench.pass(0, |keys| keys["slots"]["es256"]["signs"].is_string()).await;
    assert_eq!(bench.ask(&orders()).await.status, 200);
}

#[tokio::test]
async fn one_key_is_revoked_by_its_name_whatever_it_is_and_again() {
    let bench = bench().await;
    let before = bench.with_standbys().await.keys().await;
    let standby = kid(&before["slots"]["es256"]["standby"]);
    for _ in 0..2 {
        let foreseen =
            bench.order("revoker", &path_of(&standby), &json!({ "reason": "copied", "dry_run": true })).await;
        let done = bench.order("revoker", &path_of(&standby), &json!({ "reason": "copied" })).await.json();
        assert_eq!((&done["revoked"], &foreseen.json()["revoked"]), (&json!([standby]), &json!([standby])));
        assert_eq!((&done["halted"], &done["signs"]["es256"]), (&json!([]), &before["slots"]["es256"]["signs"]));
    }
    assert_eq!(bench.ring.fate(&standby), Some(KeyState::Revoked));
    for dry_run in [false, true] {
        let body = json!({ "reason": "copied", "dry_run": dry_run });
        assert_eq!(bench.order("ops", &path_of("none"), &body).await.refusal(), (404, "unknown_key".to_owned()));
        assert_eq!(bench.order("ops", &path_of("%1b%2f"), &body).await.refusal(), (404, "unknown_key".to_owned()));
        let body = json!({ "mode": "emergency", "slots": ["es256", "none"], "reason": "x", "dry_run": dry_run });
        assert_eq!(bench.order("ops", "/v1/keys:rotate", &body).await.refusal(), (404, "unknown_slot".to_owned()));
        let body = json!({ "mode": "standby", "slots": ["none"], "reason": "x", "dry_run": dry_run });
        assert_eq!(bench.order("ops", "/v1/keys:rotate", &body).await.refusal(), (404, "unknown_slot".to_owned()));
    }
    assert_eq!(bench.order("ops", &path_of("%ff"), &json!({ "reason": "x" })).await.refusal().0, 400);
    for path in ["/v1/keys/none", "/v1/keys/none:rotate", "/v1/keys/:revok"] {
        assert_eq!(bench.order("ops", path, &json!({ "reason": "x" })).await.refusal(), (404, "not_found".to_owned()));
    }
    assert_eq!(bench.get(&path_of("none")).await.refusal().0, 405);
    assert_eq!(bench.get("/v1/keys:rotate").await.refusal().0, 405);
}

#[tokio::test]
async fn an_order_that_comes_again_under_its_key_is_carried_out_once() {
    let bench = bench().await;
    let next = kid(&bench.with_standbys().await.keys().await["slots"]["es256"]["standby"]);
    let body = json!({ "mode": "emergency", "slots": ["es256"], "reason": "stolen" });
    let ask = async |key: &str, client: &str, body: &Value| -> Answer {
        let signed = bench.signed(client, "POST", "/v1/keys:rotate", &body.to_string());
        bench.post("/v1/keys:rotate", &format!("{}Idempotency-Key: {key}\r\n", bearer(&signed)), body).await
    };
    let first = ask("k1", "ops", &body).await;
    assert_eq!(first.status, 200, "{}", first.json());
    assert_eq!(ask("k1", "ops", &body).await.body, first.body);
    assert_eq!(
        bench.keys().await["slots"]["es256"]["signs"],
        json!(next),
        "the key that has taken over was not revoked"
    );
    let other = json!({ "mode": "emergency", "slots": ["rs256"], "reason": "stolen" });
    assert_eq!(ask("k1", "ops", &other).await.refusal(), (422, "idempotency_key_reused".to_owned()));
    // What was foreseen is not what was done.
    let dry = json!({ "mode": "standby", "reason": "drill", "dry_run": true });
    assert_eq!(ask("k2", "ops", &dry).await.status, 200);
    let done = ask("k2", "ops", &json!({ "mode": "standby", "reason": "drill" })).await.json();
    assert_eq!(done["dry_run"], false);
}

#[tokio::test]
async fn an_order_goes_on_when_whoever_gave_it_has_gone() {
    let bench = bench().await;
    let signs = kid(&bench.keys().await["slots"]["es256"]["signs"]);
    let delay = Duration::from_millis(300);
    let slow = move |operation, _: Option<&str>| {
        (operation == Operation::SwapState).then_some(Fault::Delay { before: delay, after: delay })
    };
    bench.store.choose(slow);
    let body = json!({ "reason": "stolen" }).to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\n{}Idempotency-Key: k\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        path_of(&signs),
        bearer(&bench.signed("ops", "POST", &path_of(&signs), &body)),
        body.len()
    );
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    // Taken in, and not done yet: no write takes less than 300 ms.
    tokio::time::sleep(delay / 3).await;
    assert_ne!(bench.ring.fate(&signs), Some(KeyState::Revoked));
    drop(stream);
    while bench.ring.fate(&signs) != Some(KeyState::Revoked) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // And the answer was kept.
    let again = async || {
        let body = json!({ "reason": "stolen" });
        let signed = bench.signed("ops", "POST", &path_of(&signs), &body.to_string());
        bench.post(&path_of(&signs), &format!("{}Idempotency-Key: k\r\n", bearer(&signed)), &body).await
    };
    while again().await.status == 409 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(again().await.json()["revoked"], json!([signs]));
}

#[tokio::test]
async fn what_is_no_order_is_refused_and_changes_nothing() {
    let bench = bench_with(|policy| {
        policy.replace("[clients.ops]", "[clients.ops]\nrate = { per_second = 1000, burst = 1000 }")
    })
    .await;
    let before = bench.keys().await;
    let send = async |path: &str, body: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            bearer(&bench.signed("ops", "POST", path, body)),
            body.len()
        );
        bench.send((head + body).as_bytes()).await
    };
    let long = format!("{{\"mode\":\"standby\",\"reason\":\"{}\"}}", "x".repeat(257));
    for body in [
        "",
        "[]",
        "{}",
        "\u{feff}{\"mode\":\"standby\",\"reason\":\"x\"}",
        r#"{"mode":"standby"}"#,
        r#"{"reason":"x"}"#,
        r#"{"mode":"now","reason":"x"}"#,
        r#"{"mode":"emergency","reason":""}"#,
        r#"{"mode":"emergency","reason":"x\u0000"}"#,
        r#"{"mode":"emergency","reason":7}"#,
        r#"{"mode":"emergency","reason":"x","slots":[]}"#,
        r#"{"mode":"emergency","reason":"x","slots":"es256"}"#,
        r#"{"mode":"emergency","reason":"x","slots":["es256","es256"]}"#,
        r#"{"mode":"emergency","reason":"x","slots":[7]}"#,
        r#"{"mode":"emergency","reason":"x","dry_run":1}"#,
        r#"{"mode":"emergency","reason":"x","mode":"emergency"}"#,
        r#"{"mode":"emergency","reason":"x","kid":"y"}"#,
        r#"{"mode":"emergency","reason":"x","dryrun":true}"#,
        r#"{"mode":"standby","reason":"x","sign_at_once":true}"#,
        &long,
    ] {
        let answer = send("/v1/keys:rotate", body).await;
        assert_eq!(answer.refusal(), (400, "invalid_request".to_owned()), "{body}");
    }
    // Characters, as JSON Schema counts them; and what it takes for the default is none.
    let most =
        format!("{{\"mode\":\"standby\",\"reason\":\"{}\",\"sign_at_once\":false,\"dry_run\":true}}", "ß".repeat(256));
    assert_eq!(send("/v1/keys:rotate", &most).await.status, 200);
    let path = path_of(before["slots"]["es256"]["signs"].as_str().unwrap());
    for body in [
        "",
        "{}",
        r#"{"reason":"x","mode":"standby"}"#,
        r#"{"reason":"x","slots":["es256"]}"#,
        r#"{"reason":"x","reason":"x"}"#,
    ] {
        assert_eq!(send(&path, body).await.refusal(), (400, "invalid_request".to_owned()), "{body}");
    }
    let large = format!("{{\"mode\":\"standby\",\"reason\":\"x\"}}{}", " ".repeat(MAX_BODY_BYTES));
    assert_eq!(send("/v1/keys:rotate", &large).await.refusal(), (413, "content_too_large".to_owned()));
    let body = json!({ "mode": "standby", "reason": "x" });
    let signed = bench.signed("ops", "POST", "/v1/keys:rotate", &body.to_string());
    let answer = bench.post("/v1/keys:rotate", &(bearer(&signed) + "Content-Type: text/plain\r\n"), &body).await;
    assert_eq!(answer.refusal(), (415, "unsupported_media_type".to_owned()));
    let after = bench.keys().await;
    for slot in ["es256", "rs256"] {
        assert_eq!(after["slots"][slot]["signs"], before["slots"][slot]["signs"]);
        assert_eq!(after["slots"][slot]["rotation_wanted"], false);
    }
}

#[tokio::test]
async fn orders_are_counted_as_tokens_are() {
    let bench = bench_with(|policy| {
        policy.replace("[clients.reader]", "[clients.reader]\nrate = { per_second = 1, burst = 2 }")
    })
    .await;
    let ask = async || bench.list("reader").await;
    assert_eq!([ask().await.status, ask().await.status], [200; 2]);
    assert_eq!(ask().await.refusal(), (429, "rate_limited".to_owned()));
}

#[tokio::test]
async fn an_order_that_the_store_does_not_take_is_503_and_goes_on_when_it_does() {
    let bench = bench().await;
    let signs = kid(&bench.keys().await["slots"]["es256"]["signs"]);
    let is_out = Arc::new(AtomicBool::new(true));
    let out = Arc::clone(&is_out);
    bench.store.choose(move |_, _| out.load(Ordering::SeqCst).then_some(Fault::Refuse(StoreErrorKind::Unavailable)));
    let body = json!({ "reason": "stolen" }).to_string();
    let request = Request::post(path_of(&signs))
        .header("authorization", format!("Bearer {}", bench.signed("ops", "POST", &path_of(&signs), &body)))
        .header("content-type", "application/json")
        .header("idempotency-key", "k")
        .body(Body::from(body))
        .unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let response = bench.service.router().oneshot(request).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"2".parse().unwrap()));
    let body = axum::body::to_bytes(response.into_body(), MAX_BODY_BYTES).await.unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["error"], "order_pending");
    tokio::time::resume();
    let again = async || {
        let body = json!({ "reason": "stolen" });
        let signed = bench.signed("ops", "POST", &path_of(&signs), &body.to_string());
        bench.post(&path_of(&signs), &format!("{}Idempotency-Key: k\r\n", bearer(&signed)), &body).await
    };
    assert_eq!(again().await.refusal(), (409, "idempotency_key_in_use".to_owned()));
    assert_ne!(bench.ring.fate(&signs), Some(KeyState::Revoked));
    is_out.store(false, Ordering::SeqCst);
    while again().await.status == 409 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(again().await.json()["revoked"], json!([signs]));
    assert_eq!(bench.ring.fate(&signs), Some(KeyState::Revoked));
}

#[test]
fn the_exposure_reckons_with_what_our_verifiers_keep_a_set_for_at_least() {
    assert_eq!(countersign_issuer::KEPT_AT_LEAST, countersign::jwks::MIN_LIFETIME);
}

#[tokio::test]
async fn so_many_orders_are_on_their_way_and_one_more_is_told_to_come_again() {
    const MOST: usize = 16;
    let bench = bench().await;
    let is_out = Arc::new(AtomicBool::new(true));
    let out = Arc::clone(&is_out);
    bench.store.choose(move |_, _| out.load(Ordering::SeqCst).then_some(Fault::Refuse(StoreErrorKind::Unavailable)));
    let body = json!({ "mode": "standby", "slots": ["es256"], "reason": "drill" }).to_string();
    let mut answers = JoinSet::new();
    for _ in 0..=MOST {
        let request = Request::post("/v1/keys:rotate")
            .header("authorization", format!("Bearer {}", bench.signed("ops", "POST", "/v1/keys:rotate", &body)))
            .header("content-type", "application/json")
            .body(Body::from(body.clone()))
            .unwrap();
        answers.spawn(bench.service.router().oneshot(request));
    }
    // No other can be answered before the store is there again.
    let refused = answers.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"2".parse().unwrap()));
    let told = axum::body::to_bytes(refused.into_body(), MAX_BODY_BYTES).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&told).unwrap()["error"], "temporarily_unavailable");
    is_out.store(false, Ordering::SeqCst);
    let answers = answers.join_all().await;
    let statuses: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(statuses, [200; MOST]);
}
