use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign::UnixTime;
use countersign::token::Algorithm;

use super::claim::ClaimRule;
use super::confirmation::Binding;
use super::{Denial, Rate, Request};

/// What a request has to fit into as a whole.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) name: Box<str>,
    pub(super) window: Window,
    pub(super) profiles: BTreeSet<Box<str>>,
    pub(super) allows_self: bool,
    pub(super) subjects: Names,
    pub(super) audiences: Names,
    pub(super) scopes: BTreeSet<Box<str>>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) max_delay: Duration,
    pub(super) binding: Binding,
    /// How often it may be used, besides how often its client may ask.
    pub(super) rate: Option<Rate>,
    /// `None`: those of the profile.
    pub(super) algorithms: Option<Vec<Algorithm>>,
    /// `None`: those of the profile. Says nothing of keys that are no RSA keys.
    pub(super) rsa_bits: Option<Vec<u32>>,
    pub(super) claims: BTreeMap<Box<str>, ClaimRule>,
}

/// From when until when; either end may be open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    pub(super) from: Option<UnixTime>,
    /// The first instant that is not in it.
    pub(super) until: Option<UnixTime>,
}

impl Window {
    pub(super) fn contains(self, now: UnixTime) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// Names to be had exactly, and beginnings of names with at least one character behind them.
#[derive(Debug)]
pub(super) struct Names {
    exact: BTreeSet<Box<str>>,
    /// In order, and none that begins with another: that one says it all. So of a name only the last that is not behind it can be
    /// the beginning, and hundreds of them cost no more than a few.
    prefixes: Vec<Box<str>>,
}

impl Names {
    pub(super) fn new(exact: BTreeSet<Box<str>>, all: BTreeSet<Box<str>>) -> Self {
        let mut prefixes: Vec<Box<str>> = Vec::new();
        for prefix in all {
            // Whatever begins with one comes right behind it.
            if !prefixes.last().is_some_and(|last| prefix.starts_with(&**last)) {
                prefixes.push(prefix);
            }
        }
        Self { exact, prefixes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    fn contains(&self, name: &str) -> bool {
        let not_behind = self.prefixes.partition_point(|prefix| **prefix <= *name);
        let nearest = not_behind.checked_sub(1).and_then(|index| self.prefixes.get(index));
        let is_begun = nearest.is_some_and(|prefix| name.len() > prefix.len() && name.starts_with(&**prefix));
        is_begun || self.exact.contains(name)
    }
}

impl Grant {
    pub(super) fn check_window(&self, now: UnixTime) -> Result<(), Denial> {
        if self.window.contains(now) { Ok(()) } else { Err(Denial::GrantNotValid) }
    }

    pub(super) fn check_subject(&self, client: &str, request: &Request) -> Result<(), Denial> {
        let subject = request.subject.as_deref().unwrap_or(client);
        let is_allowed = self.allows_self && subject == client || self.subjects.contains(subject);
        if is_allowed { Ok(()) } else { Err(Denial::Subject) }
    }

    pub(super) fn check_audiences(&self, request: &Request) -> Result<(), Denial> {
        if request.audiences.is_empty() {
            return Err(Denial::NoAudience);
        }
        let are_allowed = request.audiences.iter().all(|audience| self.audiences.contains(audience));
        if are_allowed { Ok(()) } else { Err(Denial::Audience) }
    }

    pub(super) fn check_scopes(&self, request: &Request) -> Result<(), Denial> {
        let are_allowed = request.scopes.iter().all(|scope| self.scopes.contains(scope));
        if are_allowed { Ok(()) } else { Err(Denial::Scope) }
    }

    pub(super) fn check_delay(&self, request: &Request) -> Result<(), Denial> {
        let most = self.max_delay;
        if request.delay.is_none_or(|delay| delay <= most) { Ok(()) } else { Err(Denial::Delay { most }) }
    }

    /// One question after the other, so that which claim comes first changes nothing.
    pub(super) fn check_claims(&self, request: &Request) -> Result<(), Denial> {
        let unknown = request.claims.iter().find(|(name, _)| !self.claims.contains_key(name));
        if let Some((name, _)) = unknown {
            return Err(Denial::Claim(name.clone()));
        }
        let asked = |ask: fn(&ClaimRule, &str, &str) -> Result<(), Denial>| {
            request.claims.iter().try_for_each(|(name, json)| match self.claims.get(name) {
                Some(rule) => ask(rule, name, json),
                None => Ok(()),
            })
        };
        // What is too long for a grant is not read for it.
        asked(ClaimRule::check_size)?;
        asked(ClaimRule::check_type)?;
        asked(ClaimRule::check_value)?;
        let mut required = self.claims.iter().filter(|(_, rule)| rule.is_required);
        match required.find(|(name, _)| !request.claims.iter().any(|(there, _)| there == *name)) {
            Some((name, _)) => Err(Denial::ClaimMissing(name.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<Box<str>> {
        texts.iter().map(|text| (*text).into()).collect()
    }

    #[test]
    fn a_name_that_begins_with_any_of_the_prefixes_is_found_and_no_other() {
        let all = ["a/", "a/b/", "a:", "ab:", "a/b/c:", "b:", "ä:", "a!", "~"];
        let names = Names::new(set(&["a/", "exact"]), set(&all[1..]));
        let with_all = Names::new(set(&[]), set(&all));
        let parts = ["", "a", "b", "c", "ä", "/", ":", "!", "~", "é"];
        for one in parts {
            for two in parts {
                for three in parts {
                    for four in parts {
                        let name = [one, two, three, four, one].concat();
                        let begins = |prefix: &&&str| name.len() > prefix.len() && name.starts_with(**prefix);
                        assert_eq!(with_all.contains(&name), all.iter().any(|it| begins(&it)), "{name}");
                        let is_exact = ["a/", "exact"].contains(&&*name);
                        assert_eq!(names.contains(&name), is_exact || all[1..].iter().any(|it| begins(&it)), "{name}");
                    }
                }
            }
        }
        assert!(names.contains("exact") && names.contains("a/") && !with_all.contains("a/"));
        assert!(Names::new(set(&[]), set(&[])).is_empty() && !names.is_empty());
    }
}
