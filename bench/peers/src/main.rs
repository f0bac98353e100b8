//! What other Rust middleware, and the bare libraries, cost for the same request: `cargo run --release -p
//! countersign-bench-peers`.
//!
//! Contenders are interleaved in one process; what counts is the ratio to the first row of the same run. Results go to
//! standard output, and with `--write` into `README.md` and `plots/` of the benchmarks' directory.

mod back_end;
mod bare;
mod call;
mod contenders;
mod extractors;
mod issuer;
mod libraries;
mod measure;
mod middleware;
mod ours;
mod provider;
mod report;
mod versions;

use clap::Parser;
use countersign::Algorithm;
use countersign_bench::timing::Effort;
use countersign_bench::{Failure, write};

#[derive(Parser)]
struct Options {
    /// A few rounds and tokens only: to see that it runs.
    #[arg(long)]
    quick: bool,
    /// Put the tables into README.md and the plots into plots/.
    #[arg(long)]
    write: bool,
}

/// What most issuers sign with first; plots show it alone.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256];

/// As many as the working set of the tables; more than any processor's caches hold.
const TOKENS: usize = 10_000;

const QUICK_TOKENS: usize = 500;

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let (effort, tokens) = if options.quick { (Effort::QUICK, QUICK_TOKENS) } else { (Effort::FULL, TOKENS) };
    back_end::install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();

    let entrants = contenders::all()?;
    let mut columns = Vec::new();
    for algorithm in ALGORITHMS {
        eprintln!("{algorithm} …");
        columns.push(measure::column(algorithm, &entrants, tokens, &effort, &runtime)?);
    }
    let tables = report::tables(&entrants, &columns)?;
    println!("{tables}");
    let plots = report::plots(&entrants, &columns)?;
    if options.write {
        write("peers", &tables)?;
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../plots");
        std::fs::create_dir_all(&directory)?;
        for plot in plots {
            std::fs::write(directory.join(plot.file), plot.svg)?;
        }
    }
    Ok(())
}
