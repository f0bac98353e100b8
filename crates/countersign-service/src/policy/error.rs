use std::borrow::Cow;
use std::fmt;

use super::{MAX_CLIENTS, MAX_ENTRIES, MAX_GRANTS, MAX_POLICY_BYTES, MAX_TEXT_BYTES, POLICY_VERSION};

/// What is wrong with a document. Quotes names, and nothing else of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// Longer than [`MAX_POLICY_BYTES`].
    TooLong,
    /// No TOML, or not of this form: the line, counted from 1, and what the parser says.
    Syntax {
        /// 0 if it is not known.
        line: usize,
        /// Without the line itself.
        message: Box<str>,
    },
    /// Not [`POLICY_VERSION`].
    Version(i64),
    /// More than [`MAX_CLIENTS`], [`MAX_GRANTS`] or [`MAX_ENTRIES`].
    TooMany {
        /// Of what, where.
        place: Box<str>,
    },
    /// Something that makes no sense there.
    Invalid {
        /// Where.
        place: Box<str>,
        /// What.
        reason: Cow<'static, str>,
    },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the document has more than {MAX_POLICY_BYTES} bytes"),
            Self::Syntax { line: 0, message } => f.write_str(message),
            Self::Syntax { line, message } => write!(f, "line {line}: {message}"),
            Self::Version(version) => write!(f, "`version` is {version}; this program reads {POLICY_VERSION}"),
            Self::TooMany { place } => write!(
                f,
                "{place}: too many ({MAX_CLIENTS} clients, {MAX_GRANTS} profiles or grants, {MAX_ENTRIES} entries)"
            ),
            Self::Invalid { place, reason } => write!(f, "{place}: {reason}"),
        }
    }
}

impl std::error::Error for PolicyError {}

pub(super) const TEXT: &str = "not 1 to 1024 bytes without control characters";
const _: () = assert!(MAX_TEXT_BYTES == 1_024, "TEXT says so");
