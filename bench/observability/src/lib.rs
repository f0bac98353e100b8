//! What metrics and traces add to a request.
//!
//! A package of its own, because features are those of a whole build: in the one above, all other rows would be measured with what these two compile in.
//! That one runs this as its section `observability`, and takes its tables from standard output.

mod seen;
mod tables;

use clap::Parser;
use countersign_bench::counts::have_counted;
use countersign_bench::timing::Effort;
use countersign_bench::{Failure, counts};

const PACKAGE: &str = env!("CARGO_PKG_NAME");

#[derive(Parser)]
struct Options {
    /// A few rounds only: to see that it runs.
    #[arg(long)]
    quick: bool,
}

/// Measures, and says what.
///
/// # Errors
/// That something could not be measured, or was not seen by whoever should have.
pub fn run() -> Result<(), Failure> {
    let options = Options::parse();
    let effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    if counts::is_counting() {
        return tables::tables(&effort).map(drop);
    }
    have_counted(PACKAGE, &format!("{PACKAGE}-counting"), options.quick.then_some("--quick").as_slice())?;
    println!("{}", tables::tables(&effort)?);
    Ok(())
}
