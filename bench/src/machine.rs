//! What a table was measured on, to be written beside it.

use std::process::Command;

use crate::Failure;

/// Processor, cores, date and compiler, as one sentence.
pub fn sentence() -> Result<String, Failure> {
    let cores = std::thread::available_parallelism()?;
    let date = time::OffsetDateTime::now_utc().date();
    Ok(format!("Measured on {}, {cores} cores, on {date}, built with {}.", processor(), compiler()?))
}

/// Its name for itself, where Linux says so.
fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    model.map_or_else(|| format!("a processor of {}", std::env::consts::ARCH), |(_, name)| name.trim().to_owned())
}

/// The one that `cargo run` uses in this directory.
fn compiler() -> Result<String, Failure> {
    let told = Command::new("rustc").arg("--version").output()?;
    let told = String::from_utf8(told.stdout)?;
    Ok(told.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}
