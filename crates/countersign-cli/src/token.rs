//! `countersign token`: `token/checks.rs` is what a token is held to and where the keys are, `token/verify.rs`, `token/explain.rs`,
//! `token/decode.rs` and `token/sign.rs` are the commands.

pub(crate) mod checks;
mod decode;
mod explain;
pub(crate) mod sign;
mod verify;

use clap::{Args, Subcommand};

use crate::exit::{self, Answer, Failure};
use crate::output::Screen;

#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whether a token is accepted, and what it says.
    ///
    /// The keys are those of --jwks or, without it, those of the one --issuer, found by its metadata (OpenID Connect Discovery, RFC 8414).
    /// The token is never repeated. Give it on standard input: arguments can be seen by everybody on the machine.
    #[command(after_help = exit::HELP)]
    Verify(verify::Verify),
    /// Why a token is accepted or refused, step by step, and what to do.
    ///
    /// It looks for the keys as `verify` does. The report has neither the token nor its signature nor its `sub`.
    #[command(after_help = exit::HELP)]
    Explain(explain::Explain),
    /// What a token says, without a look at its signature: nobody has vouched for any of it.
    #[command(after_help = exit::HELP)]
    Decode(decode::Decode),
    /// Signs a token, with a private key from a file or with the key of a ring that signs now.
    #[command(after_help = exit::HELP)]
    Sign(sign::Sign),
}

impl Token {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        match self.command {
            Command::Verify(command) => command.run(screen),
            Command::Explain(command) => command.run(screen),
            Command::Decode(command) => command.run(screen),
            Command::Sign(command) => command.run(screen),
        }
    }
}
