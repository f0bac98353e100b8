//! The binary as it is shipped, over real sockets, pipes and files.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

mod jwks;
#[cfg(unix)]
mod keys;
#[cfg(unix)]
mod policy;
#[cfg(unix)]
mod readme;
mod request;
#[cfg(unix)]
mod serve;
mod shell;
mod token;
mod usage;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const GOOD: i32 = 0;
const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 3;
#[cfg(unix)]
const ALARM: i32 = 4;

/// What the binary has come to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// The binary with these arguments, nothing on standard input, and nothing of this machine's settings.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("TERM");
    command
}

fn run(arguments: &[&str]) -> Ran {
    Ran::of(command(arguments).output().unwrap())
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may not read all of it.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ran = Ran::of(child.wait_with_output().unwrap());
    writing.join().unwrap();
    ran
}

impl Ran {
    /// Whatever was said, no terminal is disturbed by it, and nothing has panicked.
    #[track_caller]
    fn of(output: Output) -> Self {
        let text = |octets| String::from_utf8(octets).unwrap();
        let ran = Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
        for said in [&ran.out, &ran.err] {
            let disturbs = |char: char| char != '\n' && char.escape_debug().len() > 2;
            assert!(!said.contains(disturbs), "{said:?}");
            assert!(!said.contains("panicked"), "{said}");
        }
        ran
    }

    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// The one document on standard output, and nothing beside it.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.err, "");
        serde_json::from_str(&self.out).unwrap()
    }

    /// Neither output has any of these.
    #[track_caller]
    fn keeps_to_itself(self, secrets: &[&str]) -> Self {
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            assert!(!self.out.contains(secret) && !self.err.contains(secret), "{}\n{}", self.out, self.err);
        }
        self
    }
}

/// An empty directory of the test of that name.
fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// A file in it that nobody else may read.
fn file(directory: &Path, name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    fs::write(&path, contents).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}
