//! What countersign costs: `cargo run --release`.
//!
//! Contenders are interleaved in one process, so that a noisy machine disturbs all of them alike; what counts is the ratio
//! to the first row of the same run. Results go to standard output, and with `--write` into `README.md` beside this crate.

mod cached;
mod caches;
mod issuers;
mod look_up;
mod memory;
mod revocation;
mod swaps;
mod threads;
mod verification;

use clap::Parser;
use countersign_bench::{Failure, request, timing, unix_seconds, write};

use crate::timing::Effort;

#[derive(Parser)]
struct Options {
    /// A few rounds only: to see that it runs.
    #[arg(long)]
    quick: bool,
    /// Put the tables into README.md.
    #[arg(long)]
    write: bool,
    /// Only this section; may be repeated.
    #[arg(long, value_name = "SECTION", value_parser = SECTIONS.map(|section| section.name))]
    only: Vec<String>,
}

/// What is measured together. `README.md` has two comments for each, between which its tables go.
struct Section {
    name: &'static str,
    tables: fn(&Effort) -> Result<String, Failure>,
}

/// Memory first: it is what the process grows by, which what others left behind would hide.
const SECTIONS: [Section; 9] = [
    Section { name: "memory", tables: memory::tables },
    Section { name: "verification", tables: verification::tables },
    Section { name: "token-cache", tables: cached::tables },
    Section { name: "caches", tables: caches::tables },
    Section { name: "look-up", tables: look_up::tables },
    Section { name: "issuers", tables: issuers::tables },
    Section { name: "swaps", tables: swaps::tables },
    Section { name: "threads", tables: threads::tables },
    Section { name: "revocation", tables: revocation::tables },
];

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    for section in &SECTIONS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == section.name) {
            continue;
        }
        let tables = (section.tables)(&effort)?;
        println!("{tables}");
        if options.write {
            write(section.name, &tables)?;
        }
    }
    Ok(())
}
