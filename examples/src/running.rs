//! Starting examples.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use countersign_testkit::IdentityProvider;

/// An example that a test has started. It ends with the test.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it has said on standard output up to now, but for its address.
    pub said: Vec<String>,
    /// The lines that nobody has read yet.
    lines: mpsc::Receiver<String>,
    address: SocketAddr,
}

/// Long enough for any machine, and an end for a test whose example hangs.
const PATIENCE: Duration = Duration::from_secs(30);

impl Running {
    /// Starts an example that serves, on a free port and with these arguments, and waits until it listens.
    ///
    /// # Panics
    /// If it has not been built, or does not say `listening on …` in time: a URL, or the bare address if it does not speak HTTP.
    #[must_use]
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_with(name, arguments, &[])
    }

    /// As [`start`](Self::start), with these variables in its environment beside those of the test.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(example_binary(name))
            .args(["--port", "0"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("it has been asked for"));
        let (said, lines) = mpsc::channel();
        // It reads on when nobody listens any more: an example that cannot print would stop.
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(said.send(line))));
        let mut running = Self { child, said: Vec::new(), lines, address: ([127, 0, 0, 1], 0).into() };
        let address = running.hear("listening on ");
        running.address = address.trim_start_matches("http://").parse().expect("an address");
        running
    }

    /// As [`start`](Self::start), trusting this issuer, for the audience `orders`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_trusting(name: &str, idp: &IdentityProvider) -> Self {
        Self::start(name, &["--jwks-url", &idp.jwks_url(), "--issuer", idp.issuer(), "--audience", "orders"])
    }

    /// Waits until it says a line that begins like this, and returns the rest of it. The lines before it are [`said`](Self::said).
    ///
    /// Stops the thread meanwhile, and with it whatever runs on its runtime.
    ///
    /// # Panics
    /// If it says no such line in time.
    pub fn hear(&mut self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.map_err(|_| format!("no line {beginning:?} but {:?}", self.said)).expect("such a line");
            match line.strip_prefix(beginning) {
                Some(rest) => return rest.to_owned(),
                None => self.said.push(line),
            }
        }
    }

    /// Asks it to end, with SIGTERM, and returns at once.
    ///
    /// # Panics
    /// Where there are no signals.
    pub fn terminate(&self) {
        send_signal("TERM", self.child.id());
    }

    /// Sends SIGHUP, and returns at once.
    ///
    /// # Panics
    /// Where there are no signals.
    pub fn hang_up(&self) {
        send_signal("HUP", self.child.id());
    }

    /// Ends it at once, as a machine that loses its power does.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Stops it as it is, with SIGSTOP: a node that is frozen.
    ///
    /// # Panics
    /// Where there are no signals.
    pub fn freeze(&self) {
        send_signal("STOP", self.child.id());
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// Where there are no signals.
    pub fn thaw(&self) {
        send_signal("CONT", self.child.id());
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The token that it has printed, if it has an issuer of its own.
    ///
    /// # Panics
    /// If it has printed none.
    #[must_use]
    pub fn token(&self) -> &str {
        self.tokens().next().expect("an example without an issuer brings one")
    }

    /// All that it has printed, in their order.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.said.iter().map(String::as_str).filter(|line| line.starts_with("ey"))
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

/// Where cargo has put the example of that name: next to the directory of the running test; one that is the program of a package
/// of its own, beside that.
///
/// # Panics
/// If it has not been built, which `cargo test` does on its own.
#[must_use]
pub fn example_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile_dir = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let places = [profile_dir.join("examples").join(&file), profile_dir.join(&file)];
    let found = places.into_iter().find(|place| place.exists());
    found.ok_or_else(|| format!("{file} has not been built")).expect("an example")
}

/// Sends a signal to a process that a test has started: `"TERM"`, `"STOP"`, `"CONT"`. By the shell, because a system call would
/// take `unsafe`.
///
/// # Panics
/// If it cannot be sent: there is no such process, or there are no signals here.
pub fn send_signal(signal: &str, process: u32) {
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &process.to_string()]).status();
    assert!(sent.expect("there is a shell").success(), "SIG{signal}");
}
