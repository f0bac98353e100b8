//! What authentication costs a service over HTTP on loopback: `bench/http/run`, or `cargo run --release -p
//! countersign-bench-http -- run` without the proxies.
//!
//! One program with several parts: those that serve are processes of their own on one core, so that the kernel says what each
//! has used; `run` starts them, and is the clients and the identity provider on the other core.

mod app;
mod central;
mod children;
mod contender;
mod cores;
mod events;
mod issue;
mod load;
mod measured;
mod method;
mod percentiles;
mod plots;
mod process;
mod proxies;
mod readme;
mod run;
mod signing;
mod steady;
mod table;
mod tokens;
mod validator;

use std::process::ExitCode;

use clap::Parser;

/// Why there is no table.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
enum Part {
    /// The service without authentication.
    Plain,
    /// The service with `JwtAuth`.
    Countersign(app::Trusted),
    /// The service that asks a central validator about each token.
    Central(app::Asks),
    /// The central validator.
    Validator(validator::Options),
    /// The token service.
    Tokens(issue::Issued),
    /// What it signs with, by itself.
    Mint(issue::Minted),
    /// Measures all of them.
    Run(run::Options),
}

fn main() -> ExitCode {
    let done = match Part::parse() {
        Part::Plain => app::plain(),
        Part::Countersign(trusted) => app::countersign(&trusted),
        Part::Central(asks) => app::central(&asks),
        Part::Validator(options) => validator::serve(&options),
        Part::Tokens(issued) => issue::serve_tokens(&issued),
        Part::Mint(minted) => issue::mint(&minted),
        Part::Run(options) => run::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
