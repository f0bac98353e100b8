use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::pointer::ClaimPointer;
use crate::requirement::facts::{Facts, Truth};
use crate::requirement::plan::Plan;
use crate::requirement::rule::Test;
use crate::scopes::is_scope_token;
use crate::verified::Verified;

mod denied;
mod facts;
mod plan;
mod rule;
mod words;

pub use denied::{Denied, StepUp};
pub use rule::{ClaimRule, Scalar, claim};

/// What a token must say for an operation, beyond being good: a value, put together once out of the functions of this
/// crate and [`and`](Self::and), [`or`](Self::or) and [`not`](Self::not). Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use countersign_claims::{acr, authenticated_within, claim, scope};
///
/// let write = scope("orders:write").and(claim("/realm_access/roles").contains("clerk").or(scope("orders:admin")));
/// let refund = write.and(acr(["urn:example:mfa"])).and(authenticated_within(Duration::from_secs(300)));
/// assert_eq!(refund.scopes_to_ask_for(), "orders:write orders:admin");
/// ```
///
/// # Claims of the wrong type
///
/// A rule about a claim holds, does not hold, or **cannot be told**: if the claim is there and is not of the type that the rule
/// compares, is `null`, or is to be found inside something that is neither an object nor an array. What cannot be told
/// satisfies nothing, and neither does its negation: `claim("/blocked").equals(true).not()` passes a token without `/blocked`
/// or with `false`, and refuses one with `true`, but also one with `"true"`, `1` or `null`. In `and` and `or` the rest
/// decides, if it can.
///
/// # Users' code
///
/// A [`predicate`] may be called several times for one token, or not at all if the rest decides.
#[derive(Clone)]
pub struct Requirement(Arc<Inner>);

struct Inner {
    node: Node,
    /// How many there are, but for `and`, `or` and `not`.
    rules: usize,
    /// Space-separated.
    ask_for: Box<str>,
    step_up: Option<StepUp>,
}

pub(crate) enum Node {
    Scope(Box<str>),
    Claim(ClaimPointer, Test),
    Client(Box<[Box<str>]>),
    Subject(Box<str>),
    /// In order of preference.
    Acr(Box<[Box<str>]>),
    AuthenticatedWithin(Duration),
    Predicate(Box<str>, Predicate),
    All(Box<[Requirement]>),
    Any(Box<[Requirement]>),
    Not(Requirement),
}

type Predicate = Box<dyn Fn(&Verified) -> bool + Send + Sync>;

/// How many rules a requirement may have. A denial weighs each against each other, on the way of the request; who needs more decides by a
/// [`predicate`].
pub const MAX_RULES: usize = 128;

/// How many values an [`acr`] may have: a denial tries the requirement with each. Issuers that tell two or three apart are many.
pub const MAX_ACR_VALUES: usize = 8;

/// Demands one scope, or one that [implies](crate::Policy::scope_implies) it.
///
/// `offline_access` can be demanded, but is never named to a client: it is not about an operation (MCP, scopes).
///
/// # Panics
/// If `name` is not a scope token of RFC 6749 §3.3: one or more printable ASCII characters without space, `"` and `\`.
#[must_use]
#[track_caller]
pub fn scope(name: impl AsRef<str>) -> Requirement {
    Requirement::new(Node::Scope(checked(name.as_ref(), "a scope (RFC 6749 §3.3)")))
}

/// Demands all of these scopes.
///
/// # Panics
/// As [`scope`].
#[must_use]
#[track_caller]
pub fn scopes(names: impl IntoIterator<Item = impl AsRef<str>>) -> Requirement {
    // Not in a closure, which would hide the caller.
    let mut each = Vec::new();
    for name in names {
        each.push(scope(name));
    }
    all(each)
}

/// Demands any of these scopes; of the first ones a client is told first.
///
/// # Panics
/// As [`scope`].
#[must_use]
#[track_caller]
pub fn any_scope(names: impl IntoIterator<Item = impl AsRef<str>>) -> Requirement {
    let mut each = Vec::new();
    for name in names {
        each.push(scope(name));
    }
    any(each)
}

/// Demands this `client_id` (RFC 8693 §4.3).
#[must_use]
pub fn client_id(id: impl Into<Box<str>>) -> Requirement {
    client_id_in([id])
}

/// Demands one of these as `client_id` (RFC 8693 §4.3).
#[must_use]
pub fn client_id_in(ids: impl IntoIterator<Item = impl Into<Box<str>>>) -> Requirement {
    Requirement::new(Node::Client(ids.into_iter().map(Into::into).collect()))
}

/// Demands this `sub`.
#[must_use]
pub fn subject(sub: impl Into<Box<str>>) -> Requirement {
    Requirement::new(Node::Subject(sub.into()))
}

/// Demands an authentication of one of these contexts (`acr`), which a client is told in this order of preference: step-up
/// authentication (RFC 9470).
///
/// # Panics
/// If a value has other characters than a scope may have: it could not be told in a challenge. If there are more than
/// [`MAX_ACR_VALUES`].
#[must_use]
#[track_caller]
pub fn acr(values: impl IntoIterator<Item = impl AsRef<str>>) -> Requirement {
    let mut checked_values = Vec::new();
    for value in values {
        checked_values.push(checked(value.as_ref(), "an acr that can be told in a challenge (RFC 9470 §3)"));
    }
    assert!(checked_values.len() <= MAX_ACR_VALUES, "an `acr` has at most {MAX_ACR_VALUES} values");
    Requirement::new(Node::Acr(checked_values.into()))
}

/// Demands that the subject was authenticated (`auth_time`) no longer ago than this, at the time the token was judged and with
/// the policy's leeway: step-up authentication (RFC 9470). Without `auth_time`, or with one in the future, it is not satisfied.
/// A client is told whole seconds, rounded down.
#[must_use]
pub fn authenticated_within(max_age: Duration) -> Requirement {
    Requirement::new(Node::AuthenticatedWithin(max_age))
}

/// Demands what `rule` says; `name` tells the operator what that is. A client cannot mend it, and is not told.
///
/// ```
/// use countersign_claims::predicate;
///
/// let even = predicate("an even number of audiences", |token| token.audiences().count() % 2 == 0);
/// assert_eq!(even.to_string(), "an even number of audiences");
/// ```
#[must_use]
pub fn predicate(name: impl Into<Box<str>>, rule: impl Fn(&Verified) -> bool + Send + Sync + 'static) -> Requirement {
    Requirement::new(Node::Predicate(name.into(), Box::new(rule)))
}

/// Demands all of these. Of none: demands nothing.
///
/// # Panics
/// As [`and`](Requirement::and).
#[must_use]
#[track_caller]
pub fn all(requirements: impl IntoIterator<Item = Requirement>) -> Requirement {
    let mut parts = Vec::new();
    for requirement in requirements {
        match &requirement.0.node {
            Node::All(inner) => parts.extend(inner.iter().cloned()),
            _ => parts.push(requirement),
        }
    }
    one_or(parts, Node::All)
}

/// Demands one of these, whichever. Of none: refuses everybody.
///
/// # Panics
/// As [`and`](Requirement::and).
#[must_use]
#[track_caller]
pub fn any(requirements: impl IntoIterator<Item = Requirement>) -> Requirement {
    let mut parts = Vec::new();
    for requirement in requirements {
        match &requirement.0.node {
            Node::Any(inner) => parts.extend(inner.iter().cloned()),
            _ => parts.push(requirement),
        }
    }
    one_or(parts, Node::Any)
}

/// Alternatives of alternatives are made one list, so that a requirement put together in a loop is not as deep as it is long.
#[track_caller]
fn one_or(mut parts: Vec<Requirement>, node: fn(Box<[Requirement]>) -> Node) -> Requirement {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            Requirement::new(node(parts.into()))
        }
    }
}

impl Requirement {
    /// # Panics
    /// If it has more than [`MAX_RULES`].
    #[track_caller]
    fn new(node: Node) -> Self {
        let rules = match &node {
            Node::All(parts) | Node::Any(parts) => parts.iter().map(|part| part.0.rules).sum(),
            Node::Not(inner) => inner.0.rules,
            _ => 1,
        };
        assert!(rules <= MAX_RULES, "a requirement has at most {MAX_RULES} rules");
        let plan = Plan::of(&node, &Facts::Nothing);
        let (ask_for, step_up) = (plan.required(), plan.step_up());
        Self(Arc::new(Inner { node, rules, ask_for, step_up }))
    }

    /// Demands `other` as well.
    ///
    /// # Panics
    /// If there are more than [`MAX_RULES`] then.
    #[must_use]
    #[track_caller]
    pub fn and(self, other: Self) -> Self {
        all([self, other])
    }

    /// Is content with `other` instead.
    ///
    /// # Panics
    /// As [`and`](Self::and).
    #[must_use]
    #[track_caller]
    pub fn or(self, other: Self) -> Self {
        any([self, other])
    }

    /// Demands the contrary. What [cannot be told](Self#claims-of-the-wrong-type) satisfies neither.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "it is implemented; this spares users its import")]
    pub fn not(self) -> Self {
        match &self.0.node {
            Node::Not(inner) => inner.clone(),
            _ => Self::new(Node::Not(self)),
        }
    }

    /// Whether `verified` satisfies it. Nothing is allocated if it does.
    ///
    /// # Errors
    /// [`Denied`]: 403, or 401 if a new authentication would mend it. It says what a client should ask for.
    #[must_use = "nobody is refused unless the error is answered with: put a `?` after it"]
    pub fn check(&self, verified: &Verified) -> Result<(), Denied> {
        match self.0.node.truth(&Facts::Token(verified)) {
            Truth::Yes => Ok(()),
            Truth::No | Truth::CannotTell => Err(Denied::new(self, verified)),
        }
    }

    /// The scopes that a client without a token should ask for, space-separated: of alternatives those that are sure to be
    /// enough, and the fewest. Never `offline_access`. Empty if no scope helps.
    #[must_use]
    pub fn scopes_to_ask_for(&self) -> &str {
        &self.0.ask_for
    }

    /// The authentication that a client without a token should ask for, if any is demanded.
    #[must_use]
    pub fn step_up_to_ask_for(&self) -> Option<&StepUp> {
        self.0.step_up.as_ref()
    }

    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }
}

impl std::ops::Not for Requirement {
    type Output = Self;

    fn not(self) -> Self {
        Self::not(self)
    }
}

/// In words, as the operator configured it.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        words::write(self.node(), f)
    }
}

impl fmt::Debug for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requirement({self})")
    }
}

#[track_caller]
fn checked(text: &str, what: &str) -> Box<str> {
    assert!(is_scope_token(text), "{text:?} is not {what}");
    text.into()
}
