//! `countersign`: the command line.
//!
//! It wires: what it does is in the crates below it, each of which says what it guarantees. Here are only arguments, where octets come
//! from, what is said about the answer, and with which code the process ends.
//!
//! - `exit.rs`: the codes, and how a command ends. `output.rs`: what is shown, and what must not reach a terminal as it is.
//!   `usage.rs`: what is said of arguments that do not fit, without repeating them.
//! - `input.rs`: what is read, and how much of it. `runtime.rs`: where futures run.
//! - One module for each command: `token.rs`, `request.rs`, `jwks.rs`, `keys.rs` and `tick.rs` (with `ring.rs`: a ring), `serve.rs` with `config.rs`, `policy.rs` and `audit.rs`; `shell.rs` (completions, the man page).

#[cfg(unix)]
mod audit;
#[cfg(unix)]
mod config;
mod exit;
mod input;
mod jwks;
#[cfg(unix)]
mod keys;
mod output;
#[cfg(unix)]
mod policy;
mod request;
#[cfg(unix)]
mod ring;
mod runtime;
#[cfg(unix)]
mod serve;
mod shell;
#[cfg(unix)]
mod tick;
mod token;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{Answer, Failure};
use crate::output::{Colour, Screen};

/// Tokens signed, verified and explained, key sets checked, a key ring kept.
#[derive(Parser)]
#[command(name = "countersign", version, about, after_help = exit::HELP)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    /// One JSON document on standard output, in place of text for people.
    #[arg(long, global = true)]
    json: bool,

    /// Colour: on a terminal only, unless `NO_COLOR` is set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Colour,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tokens: verified, explained, decoded, signed.
    Token(Box<token::Token>),
    /// Requests: signed, one by one.
    Request(Box<request::Request>),
    /// Key sets: checked.
    Jwks(jwks::Jwks),
    /// The keys of a ring in a directory or in S3: listed, rotated, revoked, abandoned, imported, exported.
    #[cfg(unix)]
    Keys(Box<keys::Keys>),
    /// One step of a ring in a directory or in S3: does what is due, and ends. For cron, where no node of the ring runs.
    #[cfg(unix)]
    #[command(after_help = exit::HELP)]
    Tick(Box<tick::Tick>),
    /// The token service: keys published, tokens signed for those whom a policy allows them.
    #[cfg(unix)]
    Serve(serve::Serve),
    /// The settings of the token service: checked, shown.
    #[cfg(unix)]
    Config(config::Settings),
    /// Who may have which tokens signed: checked, explained; secrets of clients.
    #[cfg(unix)]
    Policy(policy::Rules),
    /// What the token service has decided: whether its log of that is whole.
    #[cfg(unix)]
    Audit(audit::Audit),
    /// Completions for a shell, on standard output.
    Completions(shell::Completions),
    /// The man page, on standard output; of all commands, below a directory, with `--directory`.
    Man(shell::Man),
}

impl Command {
    /// Does it. What has to be said while it is done goes to standard error.
    fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        match self {
            Self::Token(command) => command.run(screen),
            Self::Request(command) => command.run(screen),
            Self::Jwks(command) => command.run(screen),
            #[cfg(unix)]
            Self::Keys(command) => command.run(screen),
            #[cfg(unix)]
            Self::Tick(command) => command.run(screen),
            #[cfg(unix)]
            Self::Serve(command) => command.run(screen),
            #[cfg(unix)]
            Self::Config(command) => command.run(),
            #[cfg(unix)]
            Self::Policy(command) => command.run(screen),
            #[cfg(unix)]
            Self::Audit(command) => command.run(screen),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        }
    }
}

fn main() -> ExitCode {
    let Cli { json, color, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::say(error).into(),
    };
    let screen = Screen::new(json, color);
    let ended = command.run(&screen);
    screen.end(ended).into()
}
