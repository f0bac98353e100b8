//! A service that runs, and what is asked of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take that takes no time on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ISSUER: &str = "http://127.0.0.1:8080";

/// Its settings, as variables of the environment.
pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

/// An empty directory of the test of that name.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// The command, in an environment in which nothing is said that is not said here.
pub(crate) fn countersign(arguments: &[&str], settings: Settings<'_>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("COUNTERSIGN_") || name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    // Whatever proxy there is, no server of a test is behind it.
    command.env("NO_PROXY", "127.0.0.1").args(arguments).stdin(Stdio::null());
    command.envs(settings.iter().copied());
    command
}

/// What a command that ends has said: its code, standard output, standard error.
pub(crate) fn ran(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What `countersign serve` says that does not start.
pub(crate) fn refused(settings: Settings<'_>) -> (i32, String) {
    let mut child = countersign(&["serve"], settings).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it has started");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code().unwrap(), said)
}

pub(crate) struct Service {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<Vec<String>>>,
    assertions: u32,
}

impl Service {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(settings: Settings<'_>) -> Self {
        let mut command = countersign(&["serve"], settings);
        if !settings.iter().any(|(name, _)| *name == "COUNTERSIGN_LISTEN") {
            command.env("COUNTERSIGN_LISTEN", "127.0.0.1:0");
        }
        Self::spawn(command)
    }

    /// The same of a command that has it somewhere inside.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut address = None;
        for line in &mut lines {
            address = line.split_once("listening on http://").map(|(_, rest)| rest.to_owned());
            log.lock().unwrap().push(line);
            if address.is_some() {
                break;
            }
        }
        let Some(address) = address else { panic!("it does not listen: {:#?}", log.lock().unwrap()) };
        let heard = Arc::clone(&log);
        std::thread::spawn(move || lines.for_each(|line| heard.lock().unwrap().push(line)));
        let address = address.split(',').next().unwrap_or_default().to_owned();
        Self { child, address, log, assertions: 0 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    pub(crate) fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    pub(crate) fn until_ready(self) -> Self {
        until("it is ready", || self.get("/readyz").0 == 200);
        self
    }

    /// What is answered to a client with that key who wants a token.
    pub(crate) fn asked_by(&mut self, key: &str) -> (u16, Value) {
        self.assertions += 1;
        // Each is good for one request, and all processes of a test have the same client.
        let jti = format!("jti={}-{}", self.address, self.assertions);
        let mut sign = vec!["token", "sign", "--key", key, "--alg", "ES256", "--typ", "client-authentication+jwt"];
        sign.extend(["--issuer", "first", "--subject", "first", "--audience", ISSUER, "--claim", &jti]);
        let (code, assertion, error) = ran(countersign(&sign, &[]));
        assert_eq!(code, 0, "{error}");
        let body = r#"{"profile":"access","aud":"example"}"#;
        let (status, body) = self.send(&format!(
            "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            assertion.trim(),
            body.len()
        ));
        (status, serde_json::from_str(&body).unwrap())
    }

    /// A token, and the name of the key that has signed it.
    pub(crate) fn token(&mut self, key: &str) -> (String, String) {
        let (status, body) = self.asked_by(key);
        assert_eq!(status, 200, "{body}");
        let token = body["token"].as_str().unwrap().to_owned();
        let (code, decoded, error) = ran(countersign(&["token", "decode", &token, "--json"], &[]));
        assert_eq!(code, 0, "{error}");
        let decoded: Value = serde_json::from_str(&decoded).unwrap();
        (token, decoded["header"]["kid"].as_str().unwrap().to_owned())
    }

    /// The names of the keys that it publishes.
    pub(crate) fn kids(&self) -> Vec<String> {
        let (status, body) = self.get("/.well-known/jwks.json");
        assert_eq!(status, 200, "{body}");
        kids(&body)
    }

    /// Whether it publishes the key of that token, and the token is good.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        let jwks = format!("http://{}/.well-known/jwks.json", self.address);
        let verify = ["token", "verify", token, "--jwks", &jwks, "--issuer", ISSUER, "--audience", "example"];
        ran(countersign(&verify, &[])).0 == 0
    }

    /// In order.
    pub(crate) fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.said());
    }

    /// At once.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The names of the keys in a JWK Set.
pub(crate) fn kids(jwks: &str) -> Vec<String> {
    let set: Value = serde_json::from_str(jwks).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
