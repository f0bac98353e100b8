//! What is wrong with a text that people have written.

use std::fmt;

/// A text that is no [`Slot`](crate::Slot), or no [`KekSource`](crate::KekSource). Says how they look, and nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError(pub(crate) &'static str);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ParseError {}
