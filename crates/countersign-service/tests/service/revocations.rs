//! Keys that are revoked, as verifiers elsewhere hear of it.

use std::time::Duration;

use countersign::{JwkSet, Origin, Policy, RevocationList, SnapshotFile, UnixTime, Verifier};
use countersign_service::{Config, Server};
use serde_json::json;

use crate::bench::ISSUER;
use crate::served::Served;

/// Verifiers look once a second, and the ring says that it takes 32 s at most.
const PATIENCE: Duration = Duration::from_secs(32);

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_follows_the_file_refuses_tokens_of_a_revoked_key_although_it_still_has_the_key() {
    let settings = "listen = '127.0.0.1:0'\nrevocations_file = 'DIRECTORY/revoked.jsonl'";
    let served = Served::new("revocations", settings).await;
    served.ready().await;
    let policy = std::fs::read_to_string(served.policy_file()).unwrap();
    let admin = policy.replace("[clients.first]\n", "[clients.first]\nadmin = [\"keys:rotate\", \"keys:revoke\"]\n");
    std::fs::write(served.policy_file(), admin).unwrap();
    let list = RevocationList::new().follow(SnapshotFile::new(served.directory.join("revoked.jsonl")));
    assert!(list.ready_within(Duration::from_secs(10)).await);

    for order in ["revoke", "emergency"] {
        let told = loop {
            let answer = served.post("/v1/tokens", &json!({ "profile": "access", "aud": "example" })).await;
            if answer.status == 200 {
                break answer.json();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let (token, kid) = (told["token"].as_str().unwrap(), told["kid"].as_str().unwrap());
        // As they were fetched before: nobody looks again.
        let keys = JwkSet::parse(&served.get("/.well-known/jwks.json").await.body, Origin::Remote).unwrap();
        let claims = Policy::new().issuer(ISSUER).audience("example");
        let verifier = Verifier::new(keys.into_key_set(), claims).revocation(list.clone());
        let verdict = || verifier.verify(token, UnixTime::from(std::time::SystemTime::now())).map(drop);
        assert_eq!(verdict(), Ok(()));
        let path = if order == "revoke" { format!("/v1/keys/{kid}:revoke") } else { "/v1/keys:rotate".to_owned() };
        let mut body = json!({ "reason": "stolen", "sign_at_once": true });
        if order == "emergency" {
            body["mode"] = json!("emergency");
        }
        let answer = loop {
            let answer = served.post(&path, &body).await;
            // Until the policy was read again.
            if answer.status != 403 {
                break answer.json();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(answer["revoked"], json!([kid]), "{answer}");
        let ordered = std::time::Instant::now();
        while verdict().is_ok() {
            assert!(ordered.elapsed() < PATIENCE, "{order}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(verdict().unwrap_err().code(), "revoked_key");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_or_is_no_such_file_is_told_at_the_start() {
    let directory = std::env::temp_dir().join(format!("countersign-no-revocations-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    let broken = directory.join("broken");
    std::fs::write(&broken, "version = 1\n").unwrap();
    for file in [directory.join("nowhere/revoked"), broken.clone()] {
        let settings = format!(
            "listen = '127.0.0.1:0'\nissuer = 'http://127.0.0.1:8080'\nrevocations_file = '{}'",
            file.display()
        );
        let data = directory.join("data");
        let config = Config::read(&settings, [("COUNTERSIGN_DIRECTORY", data.to_str().unwrap())]).unwrap();
        let error = Server::start(config).await.unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&broken).unwrap(), "version = 1\n", "and it is not written over");
    let _ = std::fs::remove_dir_all(&directory);
}
