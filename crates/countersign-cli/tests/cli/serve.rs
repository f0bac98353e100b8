//! The newcomer's way: one command, a token, a call that is refused, an end in order.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{GOOD, UNAVAILABLE, USAGE, command, run};

pub(crate) const ISSUER: &str = "http://127.0.0.1:8080";

pub(crate) struct Served {
    child: Child,
    address: String,
    pub(crate) directory: PathBuf,
}

impl Served {
    fn new(name: &str) -> Self {
        Self::begin(name, command(&["serve"]))
    }

    /// With a command that becomes the service.
    pub(crate) fn begin(name: &str, mut command: Command) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&directory);
        command.env("COUNTERSIGN_DIRECTORY", &directory).env("COUNTERSIGN_LISTEN", "127.0.0.1:0");
        let mut child = command.env("COUNTERSIGN_ISSUER", ISSUER).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| Some(line.unwrap().split_once("listening on http://")?.1.to_owned())).unwrap();
        // The log goes on; somebody has to read it.
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.split(',').next().unwrap().to_owned();
        Self { child, address, directory }
    }

    pub(crate) fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    pub(crate) fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        std::fs::remove_dir_all(&self.directory).unwrap();
        code
    }
}

const ASKED: &str = r#"{"profile":"access","aud":"example"}"#;

#[test]
fn a_newcomer_has_a_token_signed_with_what_one_command_has_made() {
    let served = Served::new("serve-newcomer");
    let begun = Instant::now();
    while served.get("/readyz").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    let key = served.directory.join("client.pem");
    let key = key.to_str().unwrap();
    let assertion = |jti: &str| {
        let jti = format!("jti={jti}");
        let ran = run(&[
            "token",
            "sign",
            "--key",
            key,
            "--alg",
            "ES256",
            "--typ",
            "client-authentication+jwt",
            "--issuer",
            "first",
            "--subject",
            "first",
            "--audience",
            ISSUER,
            "--claim",
            &jti,
        ]);
        assert_eq!(ran.code, GOOD, "{}", ran.err);
        ran.out.trim().to_owned()
    };
    let ask = |assertion: &str| {
        let body = ASKED;
        served.send(&format!(
            "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {assertion}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let first = assertion("a1");
    let (status, body) = ask(&first);
    assert_eq!(status, 200, "{body}");
    assert_eq!(ask(&first).0, 401, "an assertion is good for one request");
    let token = serde_json::from_str::<Value>(&body).unwrap()["token"].as_str().unwrap().to_owned();
    // Or the request itself is signed; a service that has just begun takes none for five seconds.
    let signed = || {
        let body = crate::file(&served.directory, "body.json", ASKED);
        let url = format!("{ISSUER}/v1/tokens");
        let always = ["request", "sign", "--key", key, "--alg", "ES256", "--client", "first", "--audience", ISSUER];
        run(&[&always[..], &["--method", "POST", "--url", &url, "--body", &body]].concat())
            .ends(GOOD)
            .out
            .trim()
            .to_owned()
    };
    while ask(&signed()).0 == 503 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    let first = signed();
    assert_eq!(ask(&first).0, 200);
    assert_eq!(ask(&first).0, 401, "a signed request is good for one request");
    let jwks = format!("http://{}/.well-known/jwks.json", served.address);
    let ran = run(&["token", "verify", &token, "--jwks", &jwks, "--issuer", ISSUER, "--audience", "example"]);
    assert_eq!(ran.code, GOOD, "{} {}", ran.out, ran.err);
    assert_eq!(served.end(), Some(GOOD));
}

#[test]
fn settings_that_make_no_sense_are_told_before_anything_is_made() {
    for (name, value, code) in [
        ("COUNTERSIGN_LISTN", "127.0.0.1:0", USAGE),
        ("COUNTERSIGN_LISTEN", "nowhere", USAGE),
        ("COUNTERSIGN_ISSUER", "http://issuer.example", USAGE),
        ("COUNTERSIGN_CONFIG", "missing.toml", UNAVAILABLE),
    ] {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("serve-no-sense");
        let mut command = command(&["serve"]);
        command.env("COUNTERSIGN_DIRECTORY", &directory).env(name, value);
        let ran = command.output().unwrap();
        assert_eq!(ran.status.code(), Some(code), "{name}={value}");
        assert!(!directory.exists());
    }
}

#[test]
fn a_client_secret_that_was_made_is_taken_by_a_service_with_the_same_key_and_no_other_is() {
    let place = crate::directory("serve-secret");
    // A file that ends in a line, as people make them.
    let key = crate::file(&place, "secret-key", "0123456789abcdef0123456789abcdef\n");
    let file = place.join("legacy.secret");
    let make = |more: &[&str]| {
        let mut command = command(&["--json", "policy", "secret", "--client", "legacy"]);
        command.args(more).env("COUNTERSIGN_SECRET_KEY_FILE", &key);
        crate::Ran::of(command.output().unwrap())
    };
    let shown = make(&[]).ends(GOOD).json();
    let written = make(&["--output", file.to_str().unwrap()]).ends(GOOD).json();
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!((mode & 0o777, &written["secret"]), (0o600, &Value::Null));
    let in_file = std::fs::read_to_string(&file).unwrap();
    let secrets = [shown["secret"].as_str().unwrap(), in_file.trim_end()];
    make(&["--output", file.to_str().unwrap()]).ends(UNAVAILABLE);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), in_file, "nothing is written over");

    let hashed = [&shown["hashed"], &written["hashed"]].map(|hashed| hashed.as_str().unwrap());
    let policy = format!(
        "version = 1\nallow_client_secret_basic = true\n[profiles.access]\nslots = ['es256']\nlifetime = 60\n\
         [clients.legacy]\nsecrets = {hashed:?}\n[clients.legacy.grants.all]\nprofiles = ['access']\n\
         subjects = {{ self = true }}\naudiences = {{ exact = ['example'] }}\n"
    );
    let mut serve = command(&["serve"]);
    serve.env("COUNTERSIGN_SECRET_KEY_FILE", &key);
    serve.env("COUNTERSIGN_POLICY_FILE", crate::file(&place, "policy.toml", policy));
    let served = Served::begin("serve-secret-data", serve);
    let begun = Instant::now();
    while served.get("/readyz").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    let ask = |client: &str, secret: &str| {
        let credentials = BASE64_STANDARD.encode(format!("{client}:{secret}"));
        let request = format!(
            "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{ASKED}",
            ASKED.len()
        );
        served.send(&request).0
    };
    assert_eq!(secrets.map(|secret| ask("legacy", secret)), [200, 200]);
    assert_eq!(ask("other", secrets[0]), 401);
    assert_eq!(hashed.map(|hashed| ask("legacy", hashed)), [401, 401], "what is in the policy is worth nothing");
    assert_eq!(served.end(), Some(GOOD));
}

#[test]
fn a_client_secret_is_said_once_and_not_made_without_a_key_or_for_what_is_no_name() {
    let place = crate::directory("secret-made");
    let make = |key: &str, client: &str, more: &[&str]| {
        let mut command = command(&["policy", "secret", "--client", client]);
        command.args(more).env("COUNTERSIGN_SECRET_KEY_FILE", key);
        crate::Ran::of(command.output().unwrap())
    };
    let key = crate::file(&place, "secret-key", [0xA7; 32]);
    let said = make(&key, "legacy", &[]).ends(GOOD).out;
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("secret, for the client: ") && lines[1] == "[clients.\"legacy\"]", "{said}");
    assert!(lines[2].starts_with("secrets = [\"") && lines.len() == 3, "{said}");
    let file = place.join("secret");
    let said = make(&key, "legacy", &["--output", file.to_str().unwrap()]).ends(GOOD);
    said.keeps_to_itself(&[std::fs::read_to_string(&file).unwrap().trim_end()]);

    for client in ["", "a b", "a\u{7}", "legacy:x"] {
        make(&key, client, &[]).ends(USAGE);
    }
    run(&["policy", "secret", "--client", "legacy"]).ends(USAGE);
    make(place.join("none").to_str().unwrap(), "legacy", &[]).ends(UNAVAILABLE);
    make(&crate::file(&place, "short", "0123456789abcdef\n"), "legacy", &[]).ends(UNAVAILABLE);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(make(&key, "legacy", &[]).ends(UNAVAILABLE).err.contains("chmod"));
}

/// As soon as it listens, and with a key announced or two: it is not ready by then.
#[test]
fn whoever_is_ended_before_it_is_ready_ends_at_once() {
    for announced in 0..=2 {
        let served = Served::new(&format!("serve-ended-{announced}"));
        let set = served.directory.join("ring/jwks.json");
        let begun = Instant::now();
        while std::fs::read_to_string(&set).map_or(0, |set| set.matches("\"kid\"").count()) < announced {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_ne!(served.get("/readyz").0, 200);
        let told = Instant::now();
        assert_eq!(served.end(), Some(GOOD));
        assert!(told.elapsed() < Duration::from_secs(4), "{announced}: {:?}", told.elapsed());
    }
}

#[test]
fn whoever_is_ended_before_it_listens_ends_at_once() {
    let directory = crate::directory("serve-ended-early");
    let (program, asked) = (directory.join("kek"), directory.join("asked"));
    std::fs::write(&program, format!("#!/bin/sh\ntouch '{}'\nexec sleep 20\n", asked.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = command(&["serve"]);
    command.env("COUNTERSIGN_DIRECTORY", directory.join("data")).env("COUNTERSIGN_LISTEN", "127.0.0.1:0");
    command.env("COUNTERSIGN_ISSUER", ISSUER).env("COUNTERSIGN_KEK", format!("command:{}", program.display()));
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while !asked.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    let told = Instant::now();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(GOOD));
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
}
