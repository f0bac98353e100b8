//! Processes that serve, and what they say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crate::PATIENCE;

/// A server process, and what it has said.
pub struct Server {
    process: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    news: Condvar,
}

impl Server {
    /// Starts it, and waits until it says `ready`.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    #[must_use]
    fn start(mut command: Command, ready: &str) -> Self {
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = process.unwrap_or_else(|error| {
            panic!(
                "{} does not start: {error}. redis-server is a package of the system's; moto_server and s3rver \
                 are installed by tests/stores/run, or set MOTO_SERVER and S3RVER to those that you have",
                command.get_program().display()
            )
        });
        let log = Arc::new(Log::default());
        for output in [
            Box::new(process.stdout.take().expect("piped")) as Box<dyn Read + Send>,
            Box::new(process.stderr.take().expect("piped")),
        ] {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                    log.news.notify_all();
                }
            });
        }
        let server = Self { process, log };
        server.wait_for(ready, 1);
        server
    }

    /// Has it do nothing more, and keep all it has: whoever asks waits.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Has it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal}");
    }

    /// How many lines of its log have `text`.
    #[must_use]
    pub fn said(&self, text: &str) -> usize {
        count(&self.log.lines.lock().unwrap_or_else(PoisonError::into_inner), text)
    }

    /// Blocks until so many lines of its log have `text`.
    ///
    /// # Panics
    /// If they do not come.
    pub fn wait_for(&self, text: &str, times: usize) {
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, timeout) = self
            .log
            .news
            .wait_timeout_while(lines, PATIENCE, |lines| count(lines, text) < times)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{text:?} is not {times} times in: {lines:#?}");
    }
}

fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// S3 of moto.
///
/// # Panics
/// As [`redis`].
#[must_use]
pub fn s3(port: u16) -> Server {
    let program = std::env::var_os("MOTO_SERVER")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server"), PathBuf::from);
    let mut command = Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).env("PYTHONUNBUFFERED", "1").env("NO_COLOR", "1");
    Server::start(command, "Running on")
}

/// What moto knows S3 by: where the signature says that it is from is where it looks. It does not check it.
pub const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x";

/// Makes a bucket in moto.
///
/// # Panics
/// If it cannot be made.
pub async fn make_bucket(port: u16, bucket: &str) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.put(format!("http://127.0.0.1:{port}/{bucket}")).header("Authorization", SIGNED);
    let answer = request.send().await.expect("a server that answers");
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// S3 of s3rver, which ignores the conditions of writes, with one bucket, in a directory that it makes.
///
/// # Panics
/// As [`redis`].
#[must_use]
pub fn s3_without_conditions(port: u16, directory: &Path, bucket: &str) -> Server {
    let program = std::env::var_os("S3RVER")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/.bin/s3rver"), PathBuf::from);
    std::fs::create_dir_all(directory).expect("a directory");
    let mut command = Command::new(program);
    command.arg("-d").arg(directory).args(["-a", "127.0.0.1", "-p", &port.to_string(), "--configure-bucket", bucket]);
    Server::start(command, "listening on")
}

/// A Redis with a password, on a port and a socket, that keeps nothing on disk.
///
/// # Panics
/// If it is not installed, or does not start.
#[must_use]
pub fn redis(port: u16, socket: &Path, password: &str) -> Server {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.arg("--unixsocket").arg(socket).args(["--requirepass", password]);
    Server::start(command, "Ready to accept connections")
}

/// A Redis behind TLS, without a password, with this certificate and key (paths of PEM files).
///
/// # Panics
/// As [`redis`].
#[must_use]
pub fn redis_over_tls(port: u16, certificate: &Path, key: &Path) -> Server {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--bind", "127.0.0.1", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
    command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key).args(["--save", ""]);
    Server::start(command, "Ready to accept connections")
}

/// A port that was free a moment ago.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// What a Redis answers to commands, each a line, as a whole; the last one must be `QUIT`.
///
/// # Panics
/// If it does not answer.
#[must_use]
pub fn redis_says(port: u16, commands: &[&str]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a Redis");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all((commands.join("\r\n") + "\r\n").as_bytes()).expect("a Redis that reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a Redis that answers");
    answer
}
