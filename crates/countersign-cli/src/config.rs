//! `countersign config`: the settings of the service.

use std::fs::File;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_service::{Config, ConfigError, ENVIRONMENT_PREFIX, MAX_CONFIG_BYTES, WritableByOthers, check_writers};
use serde::Serialize;

use crate::exit::{self, Answer, Exit, Failure};
use crate::input;
use crate::output::shown;

#[derive(Args)]
pub(crate) struct Settings {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whether the settings make sense, those of the file and of the environment together. Makes nothing.
    #[command(after_help = exit::HELP)]
    Check(Source),
    /// All settings as they are in force, as a file that says the same.
    #[command(after_help = exit::HELP)]
    Show(Source),
}

/// Where settings are.
#[derive(Args)]
pub(crate) struct Source {
    /// Where the settings are (TOML); without it, what `COUNTERSIGN_CONFIG` names, or else there are defaults for all of them. Each can also be
    /// given as a variable of the environment: `COUNTERSIGN_LISTEN` is `listen`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Serialize)]
struct Checked {
    good: bool,
    warnings: Vec<String>,
}

impl Settings {
    pub(crate) fn run(self) -> Result<Answer, Failure> {
        let refused = |error: ConfigError| Failure::refused("config_invalid", error.to_string());
        match self.command {
            Command::Check(source) => {
                let config = source.read()?.map_err(refused)?;
                let warnings: Vec<_> = config.ring.warnings().iter().map(ToString::to_string).collect();
                let text = warnings.iter().map(|warning| format!("warning: {}\n", shown(warning))).collect::<String>();
                Ok(Answer::new(Exit::Good, text + "good\n", &Checked { good: true, warnings }))
            }
            Command::Show(source) => {
                let config = source.read()?.map_err(refused)?;
                // Texts in TOML have their control characters escaped, but not all that a terminal would obey.
                let text = config.to_toml().lines().map(|line| shown(line) + "\n").collect();
                Ok(Answer::new(Exit::Good, text, &config))
            }
        }
    }
}

impl Source {
    /// The settings; inside, what is wrong with them.
    pub(crate) fn read(&self) -> Result<Result<Config, ConfigError>, Failure> {
        let named = self.config.clone().or_else(|| std::env::var_os("COUNTERSIGN_CONFIG").map(PathBuf::from));
        let text = match named {
            Some(file) => {
                let exposed = |error: WritableByOthers| Failure::unavailable("config_exposed", error.to_string());
                let check = |opened: &File| check_writers(opened, &file).map_err(exposed);
                input::checked_text(&file, "the configuration", MAX_CONFIG_BYTES, check)?
            }
            None => String::new(),
        };
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else { continue };
            let value = value.into_string().map_err(|_| Failure::usage(format!("{name} is no text")))?;
            variables.push((name.to_owned(), value));
        }
        Ok(Config::read(&text, variables))
    }

    /// The same where they are needed for something else.
    pub(crate) fn needed(&self) -> Result<Config, Failure> {
        self.read()?.map_err(|error| Failure::usage(error.to_string()))
    }
}
