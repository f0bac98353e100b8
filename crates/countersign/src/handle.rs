use std::fmt;

use countersign_jwks::KeysHandle;

/// A look at a running [`JwtAuth`](crate::JwtAuth): readiness, the state of its keys, refresh now, and what is questionable
/// about its configuration. Cheap to clone; keeps the keys' task alive.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) keys: KeysHandle,
    pub(crate) warnings: Vec<Warning>,
}

impl Handle {
    /// The keys: readiness for `/readyz`, their age and number, the last error, refresh now.
    #[must_use]
    pub fn keys(&self) -> &KeysHandle {
        &self.keys
    }

    /// Whether tokens can be judged: the value of `/readyz`. The first look starts fetching, if nothing else has.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.keys.is_ready()
    }

    /// What works, but should not stay as it is.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// A configuration that works and lets more through than its owner may think. Also logged once, at warn level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// No audience is set: tokens that the same issuer made for other services pass.
    AnyAudience,
    /// No issuer is set: any token that one of the keys has signed passes, whoever it says it is from.
    AnyIssuer,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnyAudience => "no audience is set: tokens meant for other services pass; call .audience(…)",
            Self::AnyIssuer => "no issuer is set: the `iss` of tokens is not looked at; call .issuer(…)",
        })
    }
}
