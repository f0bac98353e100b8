//! Whether a requirement is satisfied, by a token or by one that there might be.

use std::time::Duration;

use crate::requirement::Node;
use crate::scopes;
use crate::time::UnixTime;
use crate::value::Place;
use crate::verified::Verified;

/// Kleene's three values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    Yes,
    No,
    CannotTell,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// What is known of the caller.
pub(crate) enum Facts<'f> {
    /// There is no token, so no scope and no authentication; what another token would say nobody knows.
    Nothing,
    Token(&'f Verified),
    /// A token like this one, but got anew.
    Renewed(&'f Verified, &'f Renewal<'f>),
}

/// What a client would have asked for.
pub(crate) struct Renewal<'f> {
    pub(crate) scopes: &'f [&'f str],
    /// The scopes of the old token come on top.
    pub(crate) keeps_scopes: bool,
    /// It was authenticated anew, with this `acr`, if one was asked for, and less than so long ago, if that was.
    pub(crate) authentication: Option<(Option<&'f str>, Option<Duration>)>,
}

impl Node {
    /// In the order of the configuration, and no further than is needed. Allocates nothing.
    pub(crate) fn truth(&self, facts: &Facts<'_>) -> Truth {
        match self {
            Self::Scope(name) => facts.has_scope(name).into(),
            Self::Acr(values) => facts.acr_in(values),
            Self::AuthenticatedWithin(max_age) => facts.authenticated_within(*max_age),
            Self::Claim(pointer, test) => facts.of_token(|token| test.holds(token.place(pointer))),
            Self::Client(ids) => facts
                .of_token(|token| token.client_id().is_some_and(|found| ids.iter().any(|id| **id == *found)).into()),
            Self::Subject(sub) => facts.of_token(|token| (token.subject() == Some(sub)).into()),
            Self::Predicate(_, rule) => facts.of_token(|token| rule(token).into()),
            Self::All(parts) => fold(parts.iter().map(|part| part.node().truth(facts)), Truth::No, Truth::Yes),
            Self::Any(parts) => fold(parts.iter().map(|part| part.node().truth(facts)), Truth::Yes, Truth::No),
            Self::Not(inner) => match inner.node().truth(facts) {
                Truth::Yes => Truth::No,
                Truth::No => Truth::Yes,
                Truth::CannotTell => Truth::CannotTell,
            },
        }
    }
}

/// `decisive`, if any of them is that; `otherwise`, if all can be told.
fn fold(mut truths: impl Iterator<Item = Truth>, decisive: Truth, otherwise: Truth) -> Truth {
    let folded = truths.try_fold(otherwise, |so_far, truth| match truth {
        Truth::CannotTell => Ok(Truth::CannotTell),
        truth if truth == decisive => Err(decisive),
        _ => Ok(so_far),
    });
    folded.unwrap_or_else(|decided| decided)
}

impl Facts<'_> {
    fn of_token(&self, ask: impl FnOnce(&Verified) -> Truth) -> Truth {
        match self {
            Self::Nothing => Truth::CannotTell,
            Self::Token(token) | Self::Renewed(token, _) => ask(token),
        }
    }

    fn has_scope(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Token(token) => token.has_scope(name),
            Self::Renewed(token, renewal) => {
                let asked_for = renewal.scopes.iter().copied();
                scopes::grants(token.scope_rules(), asked_for, name) || (renewal.keeps_scopes && token.has_scope(name))
            }
        }
    }

    fn acr_in(&self, values: &[Box<str>]) -> Truth {
        match self {
            Self::Nothing => Truth::No,
            Self::Renewed(_, Renewal { authentication: Some((Some(acr), _)), .. }) => {
                values.iter().any(|value| **value == **acr).into()
            }
            // What nobody asked for may be otherwise next time.
            Self::Renewed(_, Renewal { authentication: Some(_), .. }) => Truth::CannotTell,
            Self::Token(token) | Self::Renewed(token, _) => match token.member("acr") {
                Place::Absent => Truth::No,
                Place::Unreachable => Truth::CannotTell,
                Place::Value(found) => {
                    let one = values.iter().try_fold(false, |one, value| Some(found.is_string(value)? || one));
                    // An empty list says nothing of the claim's type, and refuses everybody.
                    one.map_or(Truth::CannotTell, Truth::from)
                }
            },
        }
    }

    fn authenticated_within(&self, max_age: Duration) -> Truth {
        match self {
            Self::Nothing => Truth::No,
            Self::Renewed(_, Renewal { authentication: Some((_, asked_for)), .. }) => match asked_for {
                Some(asked_for) if *asked_for <= max_age => Truth::Yes,
                _ => Truth::CannotTell,
            },
            Self::Token(token) | Self::Renewed(token, _) => match token.member("auth_time") {
                Place::Absent => Truth::No,
                Place::Unreachable => Truth::CannotTell,
                Place::Value(found) => match found.date() {
                    Some(auth_time) => is_recent(auth_time, max_age, token),
                    None => Truth::CannotTell,
                },
            },
        }
    }
}

/// As `iat` is judged: refused from `auth_time + max_age + leeway` on. An authentication in the future is none that can be told.
fn is_recent(auth_time: UnixTime, max_age: Duration, token: &Verified) -> Truth {
    let (now, leeway) = (token.judged_at(), token.leeway());
    if now < auth_time.saturating_sub(leeway) {
        return Truth::CannotTell;
    }
    (now < auth_time.saturating_add(max_age).saturating_add(leeway)).into()
}
