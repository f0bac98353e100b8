use std::fmt;
use std::sync::Arc;

use crate::error::ConfigError;

/// Which claim: the name of one, or a JSON Pointer (RFC 6901) into one. Parsed once, cheap to clone.
///
/// What begins with `/` is a pointer: `/realm_access/roles` is the member `roles` of the claim `realm_access`, `/groups/0` the
/// first element of an array; `~1` is a `/` and `~0` a `~` in a name. Everything else is the name of a claim, exactly as it
/// stands: `groups`, or `https://app.example/roles`.
///
/// ```
/// use countersign_claims::ClaimPointer;
///
/// assert_eq!(ClaimPointer::parse("/realm_access/roles")?.to_string(), "/realm_access/roles");
/// assert!(ClaimPointer::parse("").is_err() && ClaimPointer::parse("/a~2").is_err());
/// # Ok::<(), countersign_claims::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct ClaimPointer(Arc<Inner>);

struct Inner {
    text: Box<str>,
    steps: Box<[Step]>,
}

/// From a value to a member or an element of it.
pub(crate) struct Step {
    /// Without escapes.
    pub(crate) name: Box<str>,
    /// What the name means in an array.
    pub(crate) index: Option<usize>,
}

impl ClaimPointer {
    /// Reads a name or a pointer.
    ///
    /// # Errors
    /// [`ConfigError::NotAPointer`]: the text is empty, or has a `~` that is neither `~0` nor `~1` in a pointer.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let fault = || ConfigError::NotAPointer(text.into());
        let steps = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(Step::parse).collect::<Option<_>>().ok_or_else(fault)?,
            None if text.is_empty() => return Err(fault()),
            None => Box::new([Step { name: text.into(), index: None }]) as Box<[Step]>,
        };
        Ok(Self(Arc::new(Inner { text: text.into(), steps })))
    }

    /// The text that it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0.steps
    }
}

impl Step {
    fn parse(token: &str) -> Option<Self> {
        let mut name = String::with_capacity(token.len());
        let mut rest = token.chars();
        while let Some(character) = rest.next() {
            name.push(match character {
                '~' => match rest.next()? {
                    '0' => '~',
                    '1' => '/',
                    _ => return None,
                },
                plain => plain,
            });
        }
        // RFC 6901 §4: no leading zeros, no sign.
        let is_index = name == "0" || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
        let index = if is_index { name.parse().ok() } else { None };
        Some(Self { name: name.into(), index })
    }
}

impl PartialEq for ClaimPointer {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for ClaimPointer {}

impl fmt::Display for ClaimPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for ClaimPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.text.fmt(f)
    }
}
