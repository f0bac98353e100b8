//! What the benchmarks share: the request that each makes, the clock, and the README that the tables go into.

pub mod machine;
pub mod request;
pub mod timing;

use std::time::SystemTime;

/// Why there is no table.
pub type Failure = Box<dyn std::error::Error>;

/// Puts a section's tables between its two comments.
pub fn write(section: &str, tables: &str) -> Result<(), Failure> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path)?;
    let (start, end) = (format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->\n"));
    let (head, rest) = text.split_once(&start).ok_or("README.md has no such section")?;
    let (_, tail) = rest.split_once(&end).ok_or("README.md has a section without an end")?;
    std::fs::write(path, format!("{head}{start}\n{}\n\n{end}{tail}", tables.trim_end()))?;
    Ok(())
}

/// The time, as tokens have it.
pub fn unix_seconds() -> Result<u64, Failure> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}
