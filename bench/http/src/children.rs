//! Processes that end with this one, however it ends.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cores::Cores;
use crate::{Failure, process};

/// A process on the server's processor.
pub struct Server {
    pub role: &'static str,
    child: Child,
}

impl Server {
    /// The kernel kills it when the thread that has started it ends: to be called on the main thread only.
    pub fn start(role: &'static str, cores: Cores, program: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", &cores.server.to_string()]).args(program);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Ok(Self { role, child: child.map_err(|error| format!("setpriv (of util-linux): {error}"))? })
    }

    /// The first line that it prints.
    pub fn first_line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        let output = self.child.stdout.take().ok_or("its first line has been read")?;
        BufReader::new(output).read_line(&mut line)?;
        Ok(line)
    }

    /// As its first line has it.
    pub fn address(&mut self) -> Result<SocketAddr, Failure> {
        let line = self.first_line()?;
        Ok(line.trim().parse().map_err(|_| format!("{} says no address, but: {line}", self.role))?)
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub fn cpu_time(&self) -> Result<Duration, Failure> {
        process::cpu_time(self.child.id())
    }

    pub fn peak_kilobytes(&self) -> Result<u64, Failure> {
        process::peak_kilobytes(self.child.id())
    }
}

/// Nothing is lost with any of them.
impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
