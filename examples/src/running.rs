//! Starting examples.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use countersign_testkit::IdentityProvider;

/// An example that a test has started. It ends with the test.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it has said on standard output up to now, but for its address.
    pub said: Vec<String>,
    address: SocketAddr,
}

/// Long enough for any machine, and an end for a test whose example hangs.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

impl Running {
    /// Starts an example that serves, on a free port and with these arguments, and waits until it listens.
    ///
    /// # Panics
    /// If it has not been built, or does not say `listening on …` in time: a URL, or the bare address if it does not speak HTTP.
    #[must_use]
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(example_binary(name))
            .args(["--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("it has been asked for"));
        let (lines, said) = mpsc::channel();
        // It reads on when nobody listens any more: an example that cannot print would stop.
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let mut running = Self { child, said: Vec::new(), address: ([127, 0, 0, 1], 0).into() };
        loop {
            let line = said.recv_timeout(STARTS_WITHIN).expect("it says where it listens");
            match line.strip_prefix("listening on ") {
                Some(address) => {
                    let address = address.trim_start_matches("http://");
                    running.address = address.parse().expect("an address");
                    return running;
                }
                None => running.said.push(line),
            }
        }
    }

    /// As [`start`](Self::start), trusting this issuer, for the audience `orders`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_trusting(name: &str, idp: &IdentityProvider) -> Self {
        Self::start(name, &["--jwks-url", &idp.jwks_url(), "--issuer", idp.issuer(), "--audience", "orders"])
    }

    /// The token that it has printed, if it has an issuer of its own.
    ///
    /// # Panics
    /// If it has printed none.
    #[must_use]
    pub fn token(&self) -> &str {
        self.said.iter().find(|line| line.starts_with("ey")).expect("an example without an issuer brings one")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where cargo has put the example of that name: next to the directory of the running test.
///
/// # Panics
/// If it has not been built, which `cargo test` does on its own.
#[must_use]
pub fn example_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile_dir = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let binary = profile_dir.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.exists(), "{} has not been built", binary.display());
    binary
}
