//! What callers get, and how fast, while the provider does something with its keys; what a fleet of verifiers asks of one
//! provider while strangers flood all of them; and what callers of an issuer of our own get while one fleet of its takes over
//! from another. Over real sockets; prints Markdown tables, and fails if a rule is broken.
//!
//! `tests/load.sh` runs it, as it should be run: optimised. `--quick` is for CI: everything at once, and shorter.

#![expect(clippy::print_stdout, reason = "the output is what this program is for")]

mod changes;
mod fleet;
#[cfg(unix)]
mod switch;

use std::process::ExitCode;
use std::time::Duration;

use countersign_tests::Result;

use crate::changes::{CHANGES, Spell};

#[tokio::main]
async fn main() -> ExitCode {
    let is_quick = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--quick") => true,
        Some(_) => {
            println!("usage: load [--quick]");
            return ExitCode::FAILURE;
        }
    };
    let mut broken = Broken::default();
    if let Err(error) = run(is_quick, &mut broken).await {
        broken.expect("the run itself", false, || error.to_string());
    }
    if broken.0.is_empty() {
        println!("\nload: every rule was kept");
        return ExitCode::SUCCESS;
    }
    for rule in &broken.0 {
        println!("load: BROKEN: {rule}");
    }
    ExitCode::FAILURE
}

async fn run(is_quick: bool, broken: &mut Broken) -> Result<()> {
    println!("{}", changes::HEAD);
    if is_quick {
        let spell = Spell { before: Duration::from_secs(2), after: Duration::from_secs(5) };
        let [one, two, three, four] = CHANGES.map(|change| changes::run(change, spell));
        let outcomes = tokio::try_join!(one, two, three, four)?;
        for outcome in [outcomes.0, outcomes.1, outcomes.2, outcomes.3] {
            outcome.report(broken);
        }
    } else {
        let spell = Spell { before: Duration::from_secs(10), after: Duration::from_secs(10) };
        for change in CHANGES {
            changes::run(change, spell).await?.report(broken);
        }
    }
    println!();
    fleet::run(Duration::from_secs(if is_quick { 8 } else { 30 }), broken).await?;
    #[cfg(unix)]
    {
        println!();
        switch::run(broken).await?;
    }
    Ok(())
}

/// The rules that were not kept.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    fn expect(&mut self, rule: &str, kept: bool, details: impl FnOnce() -> String) {
        if !kept {
            self.0.push(format!("{rule}: {}", details()));
        }
    }
}
