//! What is written down of what was decided, and what becomes of decisions that cannot be.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use countersign_issuer::state::KeyState;
use countersign_issuer::{Fault, StoreErrorKind};
use countersign_service::audit::{Audit, AuditOptions, WhenFull, check};
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::admin::with_operators;
use crate::bench::{Answer, Bench, bearer, orders};

/// Gone with the test.
struct Log(PathBuf);

impl Log {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("countersign-audit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        Self(place)
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    async fn bench(&self, options: AuditOptions) -> Bench {
        let audit = Audit::open(self.file(), options).unwrap();
        Bench::made(with_operators, |builder| builder.audit(audit)).await
    }

    /// All lines, whose chain holds.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read(self.file()).unwrap();
        let report = check(&*text, None, None).unwrap();
        assert_eq!((report.faults.len(), report.torn), (0, 0));
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// The last of them.
    fn last(&self) -> Value {
        self.lines().pop().unwrap()
    }

    /// As if nothing could be written any more.
    fn fill(&self) {
        fs::rename(self.file(), self.0.join("full")).unwrap();
        fs::create_dir(self.file()).unwrap();
    }

    fn make_room(&self) {
        fs::remove_dir(self.file()).unwrap();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn order(bench: &Bench, client: &str, path: &str, body: &Value) -> Answer {
    bench.post(path, &bearer(&bench.signed(client, "POST", path, &body.to_string())), body).await
}

#[tokio::test]
async fn each_token_that_is_signed_or_denied_has_a_line_and_no_line_has_a_token_or_a_claim() {
    let log = Log::new("tokens");
    let bench = log.bench(AuditOptions::new()).await;
    let body =
        json!({ "profile": "access", "aud": "orders", "sub": "user:ada", "ttl": 60, "claims": { "tenant": "s3cret" } });
    let told = bench.ask(&body).await.json();
    let line = log.last();
    for (member, value) in [
        ("kind", json!("token")),
        ("client", json!("web")),
        ("method", json!("private_key_jwt")),
        ("policy", json!("first")),
        ("decision", json!("signed")),
        ("grant", json!("orders")),
        ("profile", json!("access")),
        ("sub", json!("user:ada")),
        ("aud", json!(["orders"])),
        ("ttl_asked", json!(60)),
        ("ttl", json!(60)),
        ("kid", told["kid"].clone()),
        ("jti", told["jti"].clone()),
    ] {
        assert_eq!(line[member], value, "{member}");
    }
    assert!(line["latency_us"].as_u64().unwrap() > 0 && line.get("reason").is_none());
    assert!(line["time"].as_str().unwrap().ends_with('Z'));

    let denied = json!({ "profile": "access", "aud": ["orders", "billing"], "sub": "user:\u{202e}", "ttl": 60 });
    assert_eq!(bench.ask(&denied).await.status, 403);
    let line = log.last();
    assert_eq!(
        (&line["decision"], &line["reason"], &line["grant"]),
        (&json!("denied"), &json!("invalid_target"), &json!("orders"))
    );
    assert_eq!((&line["aud"], line.get("kid"), line.get("ttl")), (&json!(["orders", "billing"]), None, None));

    let mut long = orders();
    long["claims"] = json!({ "tenant": "x".repeat(4_000) });
    assert_eq!(bench.ask(&long).await.status, 403);
    let line = log.last();
    assert_eq!((&line["decision"], &line["reason"]), (&json!("failed"), &json!("payload_too_large")));

    // Of a batch, each that could be decided.
    let before = log.lines().len();
    let requests = json!({ "requests": [orders(), 7, denied, orders()] });
    assert_eq!(bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &requests).await.status, 200);
    let decisions: Vec<_> = log.lines()[before..].iter().map(|line| line["decision"].clone()).collect();
    assert_eq!(decisions, [json!("signed"), json!("denied"), json!("signed")]);

    // What is no request has none, nor has a stranger.
    let before = log.lines().len();
    assert_eq!(bench.ask(&json!([])).await.status, 400);
    assert_eq!(bench.post("/v1/tokens", &bearer("a.b.c"), &orders()).await.status, 401);
    assert_eq!(log.lines().len(), before);

    let text = fs::read_to_string(log.file()).unwrap();
    let token = told["token"].as_str().unwrap();
    for secret in ["s3cret", token, token.rsplit('.').next().unwrap(), "xxxx", "eyJ"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(log.lines()[0]["kind"], "begin");
    bench.service.reload("version = 1\nrevision = \"second\"").unwrap();
    assert_eq!(bench.ask(&orders()).await.status, 401);
    while log.last()["kind"] != "policy" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(log.last()["policy"], "second");
}

#[tokio::test]
async fn an_answer_that_is_given_again_has_a_line_that_says_so_and_is_not_given_without_one() {
    let log = Log::new("again");
    let bench = log.bench(AuditOptions::new()).await;
    let ask = async |path: &str, body: &Value| {
        let headers = format!("{}Idempotency-Key: k{}\r\n", bearer(&bench.assertion()), path.len());
        bench.post(path, &headers, body).await
    };
    let batch = json!({ "requests": [orders(), { "profile": "rsa", "aud": "orders" }, orders(), 7] });
    for (path, body) in [("/v1/tokens", orders()), ("/v1/tokens:batch", batch)] {
        let first = ask(path, &body).await.json();
        let before = log.lines().len();
        assert_eq!(ask(path, &body).await.json(), first);
        let lines = log.lines();
        let [line] = &lines[before..] else { panic!("{lines:?}") };
        for (member, value) in [("kind", "repeat"), ("client", "web"), ("method", "private_key_jwt"), ("path", path)] {
            assert_eq!(line[member], value, "{member}");
        }
        assert_eq!(line["policy"], "first");
        let results = first["results"].as_array().cloned().unwrap_or_else(|| vec![first]);
        let of = |name: &str| results.iter().filter_map(|one| one.get(name).cloned()).collect::<Vec<_>>();
        assert_eq!(line["jti"], json!(of("jti")));
        let kids: std::collections::BTreeSet<_> = of("kid").iter().map(ToString::to_string).collect();
        assert_eq!(
            line["kid"].as_array().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(),
            Vec::from_iter(kids)
        );
        assert!(!line.to_string().contains(".eyJ"));
    }
    // Of an order too.
    let reason = json!({ "mode": "standby", "reason": "INC-7" });
    let order = async || {
        let signed = bench.signed("ops", "POST", "/v1/keys:rotate", &reason.to_string());
        bench.post("/v1/keys:rotate", &format!("{}Idempotency-Key: o\r\n", bearer(&signed)), &reason).await
    };
    let first = order().await;
    assert_eq!(first.status, 200);
    let before = log.lines().len();
    assert_eq!(order().await.body, first.body);
    let line = log.last();
    assert_eq!((&line["kind"], &line["path"], line.get("jti")), (&json!("repeat"), &json!("/v1/keys:rotate"), None));
    assert_eq!(log.lines().len(), before + 1);
    log.fill();
    assert_eq!(ask("/v1/tokens", &orders()).await.refusal(), (503, "audit_unavailable".to_owned()));
    log.make_room();
    assert_eq!(ask("/v1/tokens", &orders()).await.status, 200);
}

#[tokio::test]
async fn what_a_stranger_says_takes_no_more_than_its_place_in_a_line() {
    let log = Log::new("bounds");
    let bench = log.bench(AuditOptions::new()).await;
    let many: Vec<_> = (0..200).map(|index| format!("{index}{}", "ä".repeat(100))).collect();
    let body = json!({ "profile": "\"".repeat(5_000), "aud": many, "sub": "s".repeat(5_000) });
    assert_eq!(bench.ask(&body).await.status, 403);
    let line = log.last();
    assert_eq!((line["aud"].as_array().unwrap().len(), &line["aud_more"]), (16, &json!(184)));
    assert!(line.to_string().len() < 10_000);
}

#[tokio::test]
async fn an_order_is_written_down_before_it_is_carried_out_and_after() {
    let log = Log::new("orders");
    let bench = log.bench(AuditOptions::new()).await;
    let signs = bench.ask(&orders()).await.json()["kid"].as_str().unwrap().to_owned();
    let path = format!("/v1/keys/{signs}:revoke");
    let body = json!({ "reason": "INC-7: stolen" });
    assert_eq!(order(&bench, "reader", &path, &body).await.status, 403);
    let line = log.last();
    assert_eq!(
        (&line["kind"], &line["client"], &line["decision"], &line["reason"], &line["right"]),
        (&json!("order"), &json!("reader"), &json!("denied"), &json!("admin_right_missing"), &json!("keys:revoke"))
    );
    let before = log.lines().len();
    let answer = order(&bench, "ops", &path, &body).await.json();
    let lines = log.lines();
    let [taken, done] = &lines[before..] else { panic!("{lines:?}") };
    for line in [taken, done] {
        assert_eq!(
            (&line["client"], &line["method"], &line["policy"]),
            (&json!("ops"), &json!("signed_request"), &json!("first"))
        );
        let said = json!({ "what": "revoke", "kid": signs, "sign_at_once": false, "reason": "INC-7: stolen" });
        assert_eq!(line["order"], said);
    }
    assert_eq!((&taken["decision"], taken.get("outcome")), (&json!("taken"), None));
    assert_eq!((&done["decision"], &done["outcome"]), (&json!("done"), &answer));
    // What is not done is said too; what is only asked is nothing to write down.
    assert_eq!(order(&bench, "ops", "/v1/keys/none:revoke", &body).await.status, 404);
    let line = log.last();
    assert_eq!((&line["decision"], &line["reason"]), (&json!("failed"), &json!("unknown_key")));
    let before = log.lines().len();
    let dry = json!({ "mode": "standby", "reason": "drill", "dry_run": true });
    assert_eq!(order(&bench, "ops", "/v1/keys:rotate", &dry).await.status, 200);
    assert_eq!(log.lines().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_end_it_is_written_down_what_has_come_of_an_order_that_is_on_its_way() {
    let log = Log::new("end");
    let bench = log.bench(AuditOptions::new()).await;
    let is_out = Arc::new(AtomicBool::new(true));
    let out = Arc::clone(&is_out);
    bench.store.choose(move |_, _| out.load(Ordering::SeqCst).then_some(Fault::Refuse(StoreErrorKind::Unavailable)));
    let body = json!({ "mode": "standby", "slots": ["es256"], "reason": "drill" });
    let signed = bench.signed("ops", "POST", "/v1/keys:rotate", &body.to_string());
    let request = Request::post("/v1/keys:rotate")
        .header("authorization", format!("Bearer {signed}"))
        .header("content-type", "application/json");
    let answer = tokio::spawn(bench.service.router().oneshot(request.body(Body::from(body.to_string())).unwrap()));
    // Half a line may be there already.
    let is_taken = async {
        while !fs::read_to_string(log.file()).unwrap().contains("\"taken\"") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_taken).await.unwrap();
    // Whoever has asked has gone.
    answer.abort();
    is_out.store(false, Ordering::SeqCst);
    bench.service.end_within(Duration::from_secs(60)).await;
    assert_eq!(log.last()["decision"], "done");
    assert_eq!(order(&bench, "ops", "/v1/keys:rotate", &body).await.status, 503);
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done() {
    let log = Log::new("full");
    let bench = log.bench(AuditOptions::new()).await;
    let signs = bench.ask(&orders()).await.json()["kid"].as_str().unwrap().to_owned();
    log.fill();
    let unavailable = (503, "audit_unavailable".to_owned());
    let answer = bench.ask(&orders()).await;
    assert_eq!(answer.refusal(), unavailable);
    assert!(!String::from_utf8_lossy(&answer.body).contains(".eyJ"));
    let batch = json!({ "requests": [orders(), orders()] });
    assert_eq!(bench.post("/v1/tokens:batch", &bearer(&bench.assertion()), &batch).await.refusal(), unavailable);
    assert_eq!(bench.ask(&json!({ "profile": "none", "aud": "a" })).await.refusal(), unavailable);
    let headers = format!("{}Idempotency-Key: k\r\n", bearer(&bench.assertion()));
    assert_eq!(bench.post("/v1/tokens", &headers, &orders()).await.refusal(), unavailable);
    let path = format!("/v1/keys/{signs}:revoke");
    assert_eq!(order(&bench, "ops", &path, &json!({ "reason": "x" })).await.refusal(), unavailable);
    assert_eq!(bench.ring.fate(&signs), Some(KeyState::Active));
    assert_eq!(bench.get("/livez").await.status, 200);
    log.make_room();
    // Nothing was kept of what was refused.
    let headers = format!("{}Idempotency-Key: k\r\n", bearer(&bench.assertion()));
    assert_eq!(bench.post("/v1/tokens", &headers, &orders()).await.status, 200);
    assert_eq!(order(&bench, "ops", &path, &json!({ "reason": "x" })).await.status, 200);
    assert_eq!(bench.ring.fate(&signs), Some(KeyState::Revoked));
    // The new file goes on where the old one ended.
    let old = check(&*fs::read(log.0.join("full")).unwrap(), None, None).unwrap();
    let new = check(&*fs::read(log.file()).unwrap(), old.head, None).unwrap();
    assert_eq!((new.faults.len(), new.dropped), (0, 0));
}

#[tokio::test]
async fn where_that_is_wanted_tokens_are_signed_all_the_same_and_orders_are_not_carried_out() {
    let log = Log::new("drop");
    let bench = log.bench(AuditOptions::new().when_full(WhenFull::Drop)).await;
    let signs = bench.ask(&orders()).await.json()["kid"].as_str().unwrap().to_owned();
    while fs::read(log.file()).unwrap().is_empty() || log.last()["decision"] != "signed" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    log.fill();
    for _ in 0..3 {
        assert_eq!(bench.ask(&orders()).await.status, 200);
    }
    let path = format!("/v1/keys/{signs}:revoke");
    let refused = order(&bench, "ops", &path, &json!({ "reason": "x" })).await;
    assert_eq!(refused.refusal(), (503, "audit_unavailable".to_owned()));
    assert_eq!(bench.ring.fate(&signs), Some(KeyState::Active));
    log.make_room();
    assert_eq!(order(&bench, "ops", &path, &json!({ "reason": "x" })).await.status, 200);
    let first = log.lines().remove(0);
    assert_eq!((&first["dropped"], &first["decision"]), (&json!(3), &json!("taken")));
}

#[tokio::test]
async fn subjects_are_hashed_where_that_is_wanted() {
    let log = Log::new("hashed");
    let bench = log.bench(AuditOptions::new().hash_subjects(&[1; 32])).await;
    let body = json!({ "profile": "access", "aud": "orders", "sub": "user:ada-lovelace" });
    assert_eq!(bench.ask(&body).await.status, 200);
    assert!(log.last()["sub"].as_str().unwrap().starts_with("hmac:"));
    // Long enough to be in no `jti` and no hash by chance.
    assert!(!fs::read_to_string(log.file()).unwrap().contains("lovelace"));
}
