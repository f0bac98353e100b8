//! How scopes are read: from which claims, and which scope implies which.

use std::collections::{BTreeMap, BTreeSet};

use crate::pointer::ClaimPointer;

/// What a policy says of scopes; only there if it says anything.
#[derive(Clone, Default)]
pub(crate) struct ScopeRules {
    /// The claims that scopes stand in; none: `scope` and `scp`.
    pub(crate) claims: Vec<ClaimPointer>,
    /// For each scope those that imply it, directly or by way of others.
    implied_by: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
}

impl ScopeRules {
    /// Notes that `wide` implies `narrow`, and all that follows from it.
    pub(crate) fn imply(&mut self, wide: &str, narrow: &str) {
        let mut wider = self.implied_by.get(wide).cloned().unwrap_or_default();
        wider.insert(wide.into());
        let narrower: Vec<Box<str>> = self
            .implied_by
            .iter()
            .filter(|(_, implied_by)| implied_by.contains(narrow))
            .map(|(scope, _)| scope.clone())
            .chain([narrow.into()])
            .collect();
        for scope in narrower {
            self.implied_by.entry(scope).or_default().extend(wider.iter().cloned());
        }
    }
}

/// Whether those who were granted `granted` have `wanted`: case-sensitive, and a wide scope has the narrow one with it.
pub(crate) fn grants<'s>(rules: Option<&ScopeRules>, mut granted: impl Iterator<Item = &'s str>, wanted: &str) -> bool {
    match rules.and_then(|rules| rules.implied_by.get(wanted)) {
        None => granted.any(|scope| scope == wanted),
        Some(implied_by) => granted.any(|scope| scope == wanted || implied_by.contains(scope)),
    }
}

/// RFC 6749 §3.3: one or more printable ASCII characters without space, `"` and `\`. Such a text can stand in a challenge, and
/// in a list separated by spaces.
pub(crate) fn is_scope_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
