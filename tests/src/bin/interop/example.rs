use std::path::PathBuf;

use tokio::process::Command;

use crate::Result;
use crate::program::Program;

/// Runs what its arguments say until its standard input ends, and then kills it. A process that does not read its input
/// would outlive us otherwise, if we are killed.
const LEASH: &str = r#""$0" "$@" </dev/null & exec >/dev/null; cat; kill -9 $!; wait"#;

/// One of the repository's examples, as a user would run it.
pub(crate) struct Example {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// As long as this is there, so is the process.
    _process: Program,
}

impl Example {
    /// Starts an example on a free port, for that issuer and audience, and waits until it listens.
    pub(crate) async fn start(name: &str, jwks_url: &str, issuer: &str, audience: &str) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", LEASH]).arg(binary(name)?);
        command.args(["--port", "0", "--jwks-url", jwks_url, "--issuer", issuer, "--audience", audience]);
        let mut process = Program::start(name, command)?;
        loop {
            if let Some(url) = process.text().await?.strip_prefix("listening on ") {
                return Ok(Self { url: url.to_owned(), _process: process });
            }
        }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

/// Where cargo puts examples: next to this program.
fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().ok_or("a program without a directory")?.join("examples");
    let binary = directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if binary.exists() { Ok(binary) } else { Err(format!("{} has not been built", binary.display()).into()) }
}
