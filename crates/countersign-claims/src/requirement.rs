use std::fmt;

use crate::verified::Verified;

/// Scopes that must all have been granted. Made by [`scope`].
///
/// ```
/// use countersign_claims::scope;
///
/// let both = scope("orders:read").and("orders:write");
/// assert_eq!(both.to_string(), "orders:read orders:write");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// Space-separated, as a challenge needs it.
    joined: Box<str>,
}

/// Demands one scope.
///
/// # Panics
/// If `name` is not a scope token of RFC 6749 §3.3: one or more printable ASCII characters without space, `"` and `\`.
#[must_use]
pub fn scope(name: &str) -> Scopes {
    Scopes { joined: checked(name).into() }
}

impl Scopes {
    /// Demands another one as well.
    ///
    /// # Panics
    /// As [`scope`].
    #[must_use]
    pub fn and(self, name: &str) -> Self {
        Self { joined: format!("{} {}", self.joined, checked(name)).into() }
    }

    /// Whether `verified` has them all.
    ///
    /// # Errors
    /// [`InsufficientScope`], which names them all: 403.
    pub fn check(&self, verified: &Verified) -> Result<(), InsufficientScope> {
        if self.joined.split(' ').all(|name| verified.has_scope(name)) {
            Ok(())
        } else {
            Err(InsufficientScope { required: self.joined.clone() })
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined)
    }
}

fn checked(name: &str) -> &str {
    let is_scope_token = !name.is_empty() && name.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    assert!(is_scope_token, "{name:?} is not a scope (RFC 6749 §3.3)");
    name
}

/// The caller is known and lacks a scope: 403 `insufficient_scope` (RFC 6750 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsufficientScope {
    required: Box<str>,
}

impl InsufficientScope {
    /// All scopes that the operation needs, space-separated; the configuration's own text.
    #[must_use]
    pub fn required(&self) -> &str {
        &self.required
    }
}

impl fmt::Display for InsufficientScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operation needs the scopes {:?}", self.required)
    }
}

impl std::error::Error for InsufficientScope {}
