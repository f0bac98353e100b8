use std::fmt;
use std::time::Duration;

use crate::requirement::Requirement;
use crate::requirement::facts::Facts;
use crate::requirement::plan::Plan;
use crate::requirement::words;
use crate::verified::Verified;

/// A good token that does not satisfy a [`Requirement`]. The caller is known; what it may be told is here.
///
/// It has the configuration's own text only, nothing of the token's. Of alternatives it names the one that is cheapest for the
/// client: rather one that a client can do than one it cannot, then the fewest missing scopes, then no new log-in, then the
/// first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    required_scopes: Box<str>,
    missing_scopes: Box<str>,
    step_up: Option<StepUp>,
    is_mendable: bool,
    unmet: Box<str>,
}

impl Denied {
    pub(crate) fn new(requirement: &Requirement, verified: &Verified) -> Self {
        let plan = Plan::from(verified, requirement);
        let missing_scopes = plan.missing();
        Self(Box::new(Inner {
            required_scopes: if missing_scopes.is_empty() { "".into() } else { plan.required() },
            missing_scopes,
            step_up: if plan.is_hopeless() { None } else { plan.step_up() },
            is_mendable: !plan.is_hopeless(),
            unmet: words::unmet(requirement.node(), &Facts::Token(verified)).into(),
        }))
    }

    /// All scopes that the operation needs, space-separated, those that the token has included: a client that asks anew for just
    /// these loses none. Empty if no scope is missing, because then asking for scopes does not help. Never `offline_access`.
    #[must_use]
    pub fn required_scopes(&self) -> &str {
        &self.0.required_scopes
    }

    /// Names these scopes besides, if any scope is missing: what the token has and another requirement of the same operation needs, so
    /// that a client that asks anew for all that are [named](Self::required_scopes) loses none.
    #[must_use]
    pub fn keeping<'s>(mut self, scopes: impl IntoIterator<Item = &'s str>) -> Self {
        if self.0.missing_scopes.is_empty() {
            return self;
        }
        let mut required = String::from(&*self.0.required_scopes);
        for scope in scopes {
            if !required.split(' ').any(|known| known == scope) {
                required.push(' ');
                required.push_str(scope);
            }
        }
        self.0.required_scopes = required.into();
        self
    }

    /// Those of them that the token lacks, space-separated.
    #[must_use]
    pub fn missing_scopes(&self) -> &str {
        &self.0.missing_scopes
    }

    /// The authentication to ask for, if [`is_step_up`](Self::is_step_up).
    #[must_use]
    pub fn step_up(&self) -> Option<&StepUp> {
        self.0.step_up.as_ref()
    }

    /// Whether the authentication is lacking, and nothing that a client cannot ask for: 401
    /// `insufficient_user_authentication` (RFC 9470 §3), with the scopes beside it if some are missing too. Otherwise it is 403
    /// `insufficient_scope` (RFC 6750 §3.1).
    #[must_use]
    pub fn is_step_up(&self) -> bool {
        self.0.step_up.is_some()
    }

    /// Whether a token got anew, with the scopes and the authentication named here, would satisfy the requirement, as far as
    /// can be told: its other claims are taken to stay as they are.
    #[must_use]
    pub fn is_mendable(&self) -> bool {
        self.0.is_mendable
    }

    /// A short stable name for metrics and logs: `insufficient_user_authentication`, `insufficient_scope`, or `forbidden`
    /// where neither scopes nor an authentication are named (which is 403 `insufficient_scope` all the same).
    #[must_use]
    pub fn code(&self) -> &'static str {
        if self.is_step_up() {
            "insufficient_user_authentication"
        } else if self.0.missing_scopes.is_empty() {
            "forbidden"
        } else {
            "insufficient_scope"
        }
    }
}

/// For the operator: which rules failed, in the configuration's words.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token does not satisfy {}", self.0.unmet)
    }
}

impl std::error::Error for Denied {}

/// The authentication that an operation needs (RFC 9470 §3): all of it, whichever part of it is lacking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    acr_values: Option<Box<str>>,
    max_age: Option<Duration>,
}

impl StepUp {
    pub(crate) fn new(acr_values: Option<Box<str>>, max_age: Option<Duration>) -> Self {
        Self { acr_values, max_age }
    }

    /// The authentication contexts of which one is needed, space-separated, in order of preference; `None` if it does not
    /// matter. Printable ASCII without `"` and `\`.
    #[must_use]
    pub fn acr_values(&self) -> Option<&str> {
        self.acr_values.as_deref()
    }

    /// How long ago the authentication may be, at most; `None` if it does not matter.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }
}
