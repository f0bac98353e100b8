//! Which versions are measured: those of the lock file.

use countersign_bench::Failure;

const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// The version of `name` that begins with `major`.
pub fn of(name: &str, major: &str) -> Result<&'static str, Failure> {
    let heading = format!("name = \"{name}\"");
    let mut lines = LOCK_FILE.lines();
    while lines.any(|line| line == heading) {
        let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
        if let Some(version) = version.filter(|version| major.is_empty() || version.split('.').next() == Some(major)) {
            return Ok(version);
        }
    }
    Err(format!("Cargo.lock has no {name} {major}").into())
}
