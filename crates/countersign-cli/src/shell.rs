//! What shells and `man` want of a command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::Cli;
use crate::exit::{Answer, Failure};

#[derive(Args)]
pub(crate) struct Completions {
    /// For which shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "countersign", &mut script);
        Ok(Answer::text(String::from_utf8_lossy(&script).into_owned()))
    }
}

#[derive(Args)]
pub(crate) struct Man {
    /// Write a page for each command into this directory, which must be there.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let failed = |error: std::io::Error| {
            Failure::unavailable("cannot_write", format!("cannot write the man page: {}", error.kind()))
        };
        if let Some(directory) = &self.directory {
            clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
            return Ok(Answer::text(String::new()));
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
        Ok(Answer::text(String::from_utf8_lossy(&page).into_owned()))
    }
}
