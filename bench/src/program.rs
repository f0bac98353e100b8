//! Other programs of this workspace, which this one runs: with another allocator, or other features.

use std::process::{Command, Stdio};

use crate::Failure;

/// What a program says on standard output. Cargo builds it first, if it must.
///
/// # Errors
/// That it cannot be built, or fails.
pub fn said_by(package: &str, program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    command.args(["run", "--release", "--quiet", "--package", package, "--bin", program, "--"]).args(arguments);
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{program} has failed: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
