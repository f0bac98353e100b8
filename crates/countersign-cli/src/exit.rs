//! How a command ends.

use std::process::ExitCode;

use serde::Serialize;

use crate::output::to_json;

/// Below every `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  good: accepted, done, nothing to complain about
  1  refused: the token, the key set, the policy, the settings, or what was asked
  2  usage: arguments that do not fit, or contradict each other
  3  unavailable: keys, a file, the network or the ring could not be had; try again
  4  done, and something is alarming: the answer says what";

/// With which code the process ends. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Accepted, done, nothing to complain about.
    Good = 0,
    /// What was looked at, or asked for, is refused. Trying again changes nothing.
    Refused = 1,
    /// The command does not make sense.
    Usage = 2,
    /// Something that was needed could not be had. Nothing is known.
    Unavailable = 3,
    /// Done, and somebody has to look.
    Alarm = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a command has come to.
pub(crate) struct Answer {
    pub(crate) exit: Exit,
    /// For people: whole lines, with everything escaped that somebody else wrote.
    pub(crate) text: String,
    /// The same for machines, one JSON document; `None`: the text is for both.
    pub(crate) json: Option<String>,
}

impl Answer {
    pub(crate) fn new(exit: Exit, text: String, document: &impl Serialize) -> Self {
        Self { exit, text, json: Some(to_json(document)) }
    }

    /// Text that is what was asked for, such as a script.
    pub(crate) fn text(text: String) -> Self {
        Self { exit: Exit::Good, text, json: None }
    }
}

/// Why a command has come to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Stable, for machines.
    pub(crate) code: &'static str,
    /// For people, without token, secret or key.
    pub(crate) message: String,
}

impl Failure {
    /// It cannot be accepted, and never will be.
    pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, code, message: message.into() }
    }

    /// The command does not make sense, which is only found out when it is carried out.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: "usage", message: message.into() }
    }

    /// What was needed could not be had.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, code, message: message.into() }
    }
}
