use std::fmt;

use super::{RingState, Violation};
use crate::store::MAX_STATE_BYTES;

/// The version of the document's own form.
pub const SCHEMA: u32 = 1;

/// Why a document is not the state of a ring. It is never taken for a ring that does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// More than [`MAX_STATE_BYTES`].
    TooLong(usize),
    /// Not such a document. The text has names of members, no values.
    Syntax(String),
    /// A later version of this crate has written it.
    Schema(u32),
    /// It contradicts itself.
    Violation(Violation),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "the state has {bytes} bytes, {MAX_STATE_BYTES} is the most"),
            Self::Syntax(text) => write!(f, "the state cannot be read: {text}"),
            Self::Schema(schema) => write!(f, "the state has schema {schema}; this version knows {SCHEMA}"),
            Self::Violation(violation) => write!(f, "the state contradicts itself: {violation}"),
        }
    }
}

impl std::error::Error for StateError {}

impl RingState {
    /// The document. The same state has the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and maps with strings as keys: there is nothing that could not be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The state that a document has.
    ///
    /// # Errors
    /// [`StateError`] if it is none, a newer one, or one that contradicts itself.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        #[derive(serde::Deserialize)]
        struct Form {
            schema: u32,
        }
        if bytes.len() > MAX_STATE_BYTES {
            return Err(StateError::TooLong(bytes.len()));
        }
        let syntax = |error: serde_json::Error| StateError::Syntax(error.to_string());
        // Before the rest, which a newer form may have otherwise.
        let form: Form = serde_json::from_slice(bytes).map_err(syntax)?;
        if form.schema != SCHEMA {
            return Err(StateError::Schema(form.schema));
        }
        let state: Self = serde_json::from_slice(bytes).map_err(syntax)?;
        state.check().map_err(StateError::Violation)?;
        Ok(state)
    }
}
