use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::Result;
use crate::program::Program;

/// The Node that runs the Node part.
pub(crate) struct NodeJs {
    directory: PathBuf,
    program: PathBuf,
    /// It is that of the lock file, and so knows every algorithm.
    pinned: bool,
}

impl NodeJs {
    /// That of the lock file, or the system's where there is no such for this machine.
    pub(crate) fn find(directory: &Path) -> Self {
        let program = directory.join("node_modules/.bin/node");
        let reason = match std::process::Command::new(&program).arg("--version").output() {
            Ok(output) if output.status.success() => {
                println!("Node of the lock file: {}", String::from_utf8_lossy(&output.stdout).trim());
                return Self { directory: directory.into(), program, pinned: true };
            }
            Ok(output) => output.status.to_string(),
            Err(error) => error.to_string(),
        };
        println!("the system's Node, and perhaps no ML-DSA: that of the lock file does not run here ({reason})");
        Self { directory: directory.into(), program: "node".into(), pinned: false }
    }

    /// Whether a run without this algorithm is whole. Node knows ML-DSA from version 24.7 on; everything else it has to
    /// know.
    pub(crate) fn may_lack(&self, algorithm: &str) -> bool {
        !self.pinned && algorithm.starts_with("ML-DSA-")
    }

    pub(crate) fn start(&self, script: &str) -> Result<Program> {
        let mut command = Command::new(&self.program);
        // It calls ML-DSA experimental, once for each.
        command.arg(script).current_dir(&self.directory).env("NODE_NO_WARNINGS", "1");
        Program::start(script, command)
    }
}
