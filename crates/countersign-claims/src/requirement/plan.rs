//! What a client would have to ask for: the cheapest way to satisfy a requirement.

use std::time::Duration;

use crate::requirement::denied::StepUp;
use crate::requirement::facts::{Facts, Renewal, Truth};
use crate::requirement::{Node, Requirement};
use crate::verified::Verified;

/// The scope that asks for a refresh token. It belongs to no operation, so no client is told to ask for it (MCP).
const OFFLINE_ACCESS: &str = "offline_access";

/// What is needed, in all, and what of it is lacking. A client that asks anew has to ask for all, or it loses what it has.
#[derive(Clone, Default)]
pub(crate) struct Plan<'r> {
    /// Something is lacking that no new token is known to bring.
    hopeless: bool,
    required: Vec<&'r str>,
    missing: Vec<&'r str>,
    lacks_authentication: bool,
    /// Any of these, in order of preference; `None`: whichever.
    acr: Option<Vec<&'r str>>,
    max_age: Option<Duration>,
}

impl<'r> Plan<'r> {
    pub(crate) fn of(node: &'r Node, facts: &Facts<'_>) -> Self {
        match node {
            Node::All(parts) => {
                parts.iter().fold(Self::default(), |plan, part| plan.together_with(Self::of(part.node(), facts)))
            }
            Node::Any(parts) => {
                // What is satisfied costs nothing, so it comes first.
                let plans = parts.iter().map(|part| Self::of(part.node(), facts));
                plans.min_by_key(Self::cost).unwrap_or_else(Self::hopeless)
            }
            leaf => Self::of_leaf(leaf, leaf.truth(facts) == Truth::Yes),
        }
    }

    /// The cheapest way from `verified` to `requirement`. If it does not lead there, because something else is denied that comes
    /// with what it asks for, it is hopeless.
    pub(crate) fn from(verified: &Verified, requirement: &'r Requirement) -> Self {
        let mut plan = Self::of(requirement.node(), &Facts::Token(verified));
        plan.hopeless = plan.hopeless || !plan.leads_to(requirement.node(), verified);
        plan
    }

    fn of_leaf(leaf: &'r Node, satisfied: bool) -> Self {
        let mut plan = Self::default();
        match leaf {
            Node::Scope(name) if **name == *OFFLINE_ACCESS => plan.hopeless = !satisfied,
            Node::Scope(name) => {
                plan.required.push(name);
                if !satisfied {
                    plan.missing.push(name);
                }
            }
            Node::Acr(values) => {
                plan.acr = Some(values.iter().map(|value| &**value).collect());
                plan.lacks_authentication = !satisfied;
                plan.hopeless = values.is_empty();
            }
            Node::AuthenticatedWithin(max_age) => {
                plan.max_age = Some(*max_age);
                plan.lacks_authentication = !satisfied;
            }
            _ => plan.hopeless = !satisfied,
        }
        plan
    }

    fn hopeless() -> Self {
        Self { hopeless: true, ..Self::default() }
    }

    fn together_with(mut self, other: Self) -> Self {
        for (all, more) in [(&mut self.required, other.required), (&mut self.missing, other.missing)] {
            for scope in more {
                if !all.contains(&scope) {
                    all.push(scope);
                }
            }
        }
        self.acr = match (self.acr, other.acr) {
            (Some(mut acr), Some(others)) => {
                acr.retain(|value| others.contains(value));
                Some(acr)
            }
            (acr, others) => acr.or(others),
        };
        self.max_age = self.max_age.into_iter().chain(other.max_age).min();
        self.lacks_authentication |= other.lacks_authentication;
        // No one authentication is of two contexts.
        self.hopeless |= other.hopeless || self.acr.as_ref().is_some_and(Vec::is_empty);
        self
    }

    /// For the client: what it cannot do last; then few scopes, because somebody may have to consent; then no log-in.
    fn cost(&self) -> (bool, usize, bool) {
        (self.hopeless, self.missing.len(), self.lacks_authentication)
    }

    /// Whether a token with what this asks for would do, be it alone or on top of what `verified` has.
    fn leads_to(&self, node: &Node, verified: &Verified) -> bool {
        let acr: Vec<Option<&str>> = match &self.acr {
            Some(values) => values.iter().copied().map(Some).collect(),
            None => vec![None],
        };
        [false, true].into_iter().all(|keeps_scopes| {
            acr.iter().all(|acr| {
                let authentication = self.lacks_authentication.then_some((*acr, self.max_age));
                let renewal = Renewal { scopes: &self.required, keeps_scopes, authentication };
                node.truth(&Facts::Renewed(verified, &renewal)) == Truth::Yes
            })
        })
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// Space-separated.
    pub(crate) fn required(&self) -> Box<str> {
        self.required.join(" ").into()
    }

    /// Space-separated.
    pub(crate) fn missing(&self) -> Box<str> {
        self.missing.join(" ").into()
    }

    /// All that is to be asked for of authentication, if any of it is lacking.
    pub(crate) fn step_up(&self) -> Option<StepUp> {
        self.lacks_authentication
            .then(|| StepUp::new(self.acr.as_ref().map(|values| values.join(" ").into()), self.max_age))
    }
}
