//! Instructions of the hot path, counted by callgrind, beside those that are stored: `bench/instructions/run`.
//!
//! The same program is run twice: as what is counted, below valgrind (`counted`), and as who reads what came out. A clock on a
//! shared machine tells a regression of a few per cent from noise only with patience; a count of instructions is the same each time.

mod baseline;
mod callgrind;
mod counted;
mod provenance;

use std::process::ExitCode;

use clap::Parser;

use crate::baseline::Baseline;

#[derive(Parser)]
struct Options {
    /// Store what is counted now, here and in the table of `bench/README.md`.
    #[arg(long)]
    renew: bool,
    /// Do what is counted, and nothing else.
    #[arg(long, hide = true)]
    counted: bool,
    /// The stored counts to compare with.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt"))]
    baseline: String,
}

/// Why nothing could be counted or compared.
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    let options = Options::parse();
    if options.counted {
        counted::all()?;
        return Ok(ExitCode::SUCCESS);
    }
    let (features, rows) = callgrind::count()?;
    let mut provenance = provenance::here()?;
    provenance.push(("processor below valgrind".into(), features));
    let now = Baseline { provenance, rows };
    if options.renew {
        std::fs::write(&options.baseline, now.to_string())?;
        write_table(&now)?;
        print!("{now}");
        return Ok(ExitCode::SUCCESS);
    }
    let stored: Baseline = std::fs::read_to_string(&options.baseline)?.parse()?;
    let comparison = now.beside(&stored);
    print!("{comparison}");
    Ok(if comparison.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts the counts between their two comments.
fn write_table(now: &Baseline) -> Result<(), Failure> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(path)?;
    let (start, end) = ("<!-- instructions -->\n", "<!-- end of instructions -->\n");
    let (head, rest) = text.split_once(start).ok_or("README.md has no such section")?;
    let (_, tail) = rest.split_once(end).ok_or("README.md has a section without an end")?;
    std::fs::write(path, format!("{head}{start}\n{}\n{end}{tail}", now.table()))?;
    Ok(())
}
