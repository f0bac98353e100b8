//! What countersign costs: `cargo run --release`.
//!
//! Contenders are interleaved in one process, so that a noisy machine disturbs all of them alike; what counts is the ratio
//! to the first row of the same run. Results go to standard output, and with `--write` into `README.md` beside this crate.
//!
//! Other benchmarks of this workspace share the request that each makes, the clock, and the README that the tables go into.

mod cached;
mod caches;
pub mod counts;
mod issuers;
mod look_up;
pub mod machine;
mod memory;
mod minting;
mod observability;
mod program;
mod published;
pub mod request;
mod revocation;
mod ring;
mod sources;
mod swaps;
mod threads;
pub mod timing;
mod verification;

use std::time::SystemTime;

use clap::Parser;

use crate::timing::Effort;

/// Why there is no table.
pub type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Options {
    /// A few rounds only: to see that it runs.
    #[arg(long)]
    quick: bool,
    /// Put the tables into README.md.
    #[arg(long)]
    write: bool,
    /// Say how often is allocated, and nothing else: for the binary that counts.
    #[arg(long, hide = true)]
    counting: bool,
    /// Only this section; may be repeated.
    #[arg(long, value_name = "SECTION", value_parser = SECTIONS.map(|section| section.name))]
    only: Vec<String>,
}

/// What is measured together. `README.md` has two comments for each, between which its tables go.
struct Section {
    name: &'static str,
    /// Whether allocations are counted in it.
    counts: bool,
    tables: fn(&Effort) -> Result<String, Failure>,
}

/// Memory first: it is what the process grows by, which what others left behind would hide.
const SECTIONS: [Section; 12] = [
    Section { name: "memory", counts: true, tables: memory::tables },
    Section { name: "verification", counts: true, tables: verification::tables },
    Section { name: "token-cache", counts: true, tables: cached::tables },
    Section { name: "observability", counts: false, tables: observability::tables },
    Section { name: "caches", counts: false, tables: caches::tables },
    Section { name: "look-up", counts: false, tables: look_up::tables },
    Section { name: "issuers", counts: true, tables: issuers::tables },
    Section { name: "swaps", counts: false, tables: swaps::tables },
    Section { name: "threads", counts: false, tables: threads::tables },
    Section { name: "minting", counts: false, tables: minting::tables },
    Section { name: "ring", counts: false, tables: ring::tables },
    Section { name: "revocation", counts: true, tables: revocation::tables },
];

/// Measures what the command line says.
///
/// # Errors
/// That something could not be measured, or written.
pub fn run() -> Result<(), Failure> {
    let options = Options::parse();
    let effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    let effort = if options.counting { effort.counting() } else { effort };
    for section in &SECTIONS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == section.name) {
            continue;
        }
        if options.counting {
            if section.counts {
                (section.tables)(&effort)?;
            }
            continue;
        }
        if section.counts {
            let quick = options.quick.then_some("--quick");
            let arguments: Vec<&str> = ["--counting", "--only", section.name].into_iter().chain(quick).collect();
            counts::have_counted(env!("CARGO_PKG_NAME"), "countersign-bench-counting", &arguments)?;
        }
        let tables = (section.tables)(&effort)?;
        println!("{tables}");
        if options.write {
            write(section.name, &tables)?;
        }
    }
    Ok(())
}

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
