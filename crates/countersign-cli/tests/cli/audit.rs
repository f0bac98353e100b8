//! `countersign audit check`, and a service on a disk that is full.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::serve::{ISSUER, Served};
use crate::{GOOD, REFUSED, UNAVAILABLE, USAGE, command, directory, run};

/// A service whose files may have so many blocks of 512 or 1,024 octets, and that writes down what it decides.
fn served(name: &str, blocks: &str) -> (Served, PathBuf) {
    let binary = command(&[]);
    let mut shell = Command::new("sh");
    // As on a full disk, but for the name of the error: whoever ignores the signal gets EFBIG.
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" serve")]).arg(binary.get_program());
    shell.stdin(Stdio::null());
    let log = directory(&format!("{name}-log")).join("audit.jsonl");
    shell.env("COUNTERSIGN_AUDIT_FILE", &log);
    let served = Served::begin(name, shell);
    let begun = Instant::now();
    while served.get("/readyz").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    (served, log)
}

/// So many tokens in one request.
fn ask(served: &Served, jti: &str, tokens: usize) -> (u16, Value) {
    let key = served.directory.join("client.pem");
    let jti = format!("jti={jti}");
    let arguments = ["token", "sign", "--key", key.to_str().unwrap(), "--alg", "ES256"];
    let whose = ["--typ", "client-authentication+jwt", "--issuer", "first", "--subject", "first", "--audience", ISSUER];
    let assertion = run(&[&arguments[..], &whose, &["--claim", &jti]].concat()).ends(GOOD).out;
    let request = r#"{"profile":"access","aud":"example"}"#;
    let body = format!("{{\"requests\":[{}]}}", vec![request; tokens].join(","));
    let (status, body) = served.send(&format!(
        "POST /v1/tokens:batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        assertion.trim(),
        body.len()
    ));
    (status, serde_json::from_str(&body).unwrap())
}

fn check(files: &[&Path], more: &[&str]) -> crate::Ran {
    let files = files.iter().map(|file| file.to_str().unwrap());
    run(&["--json", "audit", "check"].into_iter().chain(files).chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn on_a_full_disk_nothing_is_signed_and_when_there_is_room_again_the_log_is_whole() {
    let (served, log) = served("audit-full", "128");
    assert_eq!(ask(&served, "a1", 2).0, 200);
    let first = check(&[&log], &[]).ends(GOOD).json();
    assert_eq!((&first["good"], &first["lines"], &first["first"]), (&true.into(), &3.into(), &1.into()));

    // Lines of some 500 octets each: more than there is room for.
    let mut refused = 0;
    for jti in ["b1", "b2", "b3"] {
        let (status, body) = ask(&served, jti, 256);
        if status == 503 {
            assert_eq!(body["error"], "audit_unavailable", "{body}");
            assert!(!body.to_string().contains(".eyJ"));
            refused += 1;
        }
    }
    assert!(refused > 0, "{}", log.metadata().unwrap().len());
    assert_eq!(ask(&served, "c1", 1).0, 503, "and it stays so");

    // As log rotation does.
    let old = log.with_file_name("audit.1");
    std::fs::rename(&log, &old).unwrap();
    assert_eq!(ask(&served, "d1", 1).0, 200);
    let both = check(&[&old, &log], &["--known", first["hash"].as_str().unwrap()]).ends(GOOD).json();
    assert_eq!((&both["good"], &both["known"]), (&true.into(), &true.into()));
    assert!(both["lines"].as_u64().unwrap() > 50, "{both}");
    let ran = run(&["audit", "check", old.to_str().unwrap(), log.to_str().unwrap()]).ends(GOOD).out;
    assert!(ran.starts_with("good: ") && ran.contains(both["hash"].as_str().unwrap()), "{ran}");

    // Somebody takes a line out, and somebody changes one.
    let text = std::fs::read_to_string(&old).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let without = log.with_file_name("without");
    std::fs::write(&without, [&lines[..2].concat(), &*lines[3..].concat()].concat()).unwrap();
    let broken = check(&[&without], &[]).ends(REFUSED).json();
    assert_eq!((&broken["good"], &broken["faults"][0]["line"]), (&false.into(), &3.into()));
    std::fs::write(&without, text.replacen("\"decision\":\"signed\"", "\"decision\":\"denied\"", 1)).unwrap();
    let ran = run(&["audit", "check", without.to_str().unwrap()]).ends(REFUSED).out;
    assert!(ran.contains("broken: ") && ran.contains("line 3: it does not follow from the line before"), "{ran}");
    // What is missing at the end is known by what was kept elsewhere.
    std::fs::write(&without, lines[..2].concat()).unwrap();
    check(&[&without], &[]).ends(GOOD);
    check(&[&without], &["--known", both["hash"].as_str().unwrap()]).ends(REFUSED);
    assert_eq!(served.end(), Some(GOOD));
}

#[test]
fn what_is_no_audit_log_is_refused_or_unavailable() {
    let place = directory("audit-none");
    let file = place.join("other");
    std::fs::write(&file, "version = 1\n\x1b[2J\n").unwrap();
    check(&[&file], &[]).ends(REFUSED);
    run(&["audit", "check", file.to_str().unwrap()]).ends(REFUSED);
    check(&[&place.join("none")], &[]).ends(UNAVAILABLE);
    check(&[&file], &["--known", "abc"]).ends(USAGE);
    run(&["audit", "check"]).ends(USAGE);
}
