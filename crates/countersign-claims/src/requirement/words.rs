//! Requirements in words, for the operator. The configuration's text only, escaped.

use std::fmt::{self, Write};

use crate::requirement::facts::{Facts, Truth};
use crate::requirement::rule::{Kind, Scalar, Test};
use crate::requirement::{Node, Requirement};

pub(crate) fn write(node: &Node, f: &mut impl Write) -> fmt::Result {
    match node {
        Node::Scope(name) => write!(f, "scope {name:?}"),
        Node::Claim(pointer, test) => {
            write!(f, "claim {pointer:?} ")?;
            match test {
                Test::Equals(Scalar(Kind::String(text))) => write!(f, "equals {text:?}"),
                Test::Equals(Scalar(Kind::Integer(number))) => write!(f, "equals {number}"),
                Test::Equals(Scalar(Kind::Boolean(boolean))) => write!(f, "equals {boolean}"),
                Test::ContainsAny(members) => one_of(f, "contains", "any of ", members),
                Test::ContainsAll(members) => one_of(f, "contains", "all of ", members),
                Test::Exists => f.write_str("exists"),
            }
        }
        Node::Client(ids) => one_of(f, "client_id", "in ", ids),
        Node::Subject(sub) => write!(f, "subject {sub:?}"),
        Node::Acr(values) => one_of(f, "acr", "in ", values),
        Node::AuthenticatedWithin(max_age) => write!(f, "authenticated within {max_age:?}"),
        Node::Predicate(name, _) => f.write_str(name),
        Node::All(parts) => list(f, "and", "anything", parts.iter().map(Requirement::node), write),
        Node::Any(parts) => list(f, "or", "what nothing satisfies", parts.iter().map(Requirement::node), write),
        Node::Not(inner) => {
            f.write_str("not ")?;
            write(inner.node(), f)
        }
    }
}

/// The rules that failed: of `and` those that did, of `or` all.
pub(crate) fn unmet(node: &Node, facts: &Facts<'_>) -> String {
    let mut text = Short(String::new());
    if write_unmet(node, facts, &mut text).is_err() {
        text.0.push('…');
    }
    text.0
}

/// How long the text of a denial may be, bytes: it is made of each, whether anybody reads it or not, and says enough by then.
const MAX_UNMET_BYTES: usize = 512;

/// As much as may be written of a text; the end is an error.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = MAX_UNMET_BYTES.saturating_sub(self.0.len()).min(text.len());
        let end = (0..=left).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

fn write_unmet(node: &Node, facts: &Facts<'_>, f: &mut Short) -> fmt::Result {
    let failed = |parts: &[Requirement]| -> Vec<(usize, Truth)> {
        let truths = parts.iter().map(|part| part.node().truth(facts)).enumerate();
        truths.filter(|(_, truth)| *truth != Truth::Yes).collect()
    };
    match node {
        Node::All(parts) => {
            let failed: Vec<&Node> = failed(parts).iter().map(|(at, _)| parts[*at].node()).collect();
            match failed[..] {
                [only] => write_unmet(only, facts, f),
                _ => list(f, "and", "anything", failed.into_iter(), |node, f| write_unmet(node, facts, f)),
            }
        }
        Node::Any(parts) if !parts.is_empty() => {
            list(f, "or", "", parts.iter().map(Requirement::node), |node, f| write_unmet(node, facts, f))
        }
        leaf => {
            write(leaf, f)?;
            // Told from a plain no, because it is the issuer's mistake, or the configuration's.
            if leaf.truth(facts) == Truth::CannotTell { f.write_str(" (a claim of the wrong type)") } else { Ok(()) }
        }
    }
}

fn one_of(f: &mut impl Write, what: &str, how: &str, texts: &[Box<str>]) -> fmt::Result {
    match texts {
        [only] => write!(f, "{what} {only:?}"),
        _ => write!(f, "{what} {how}{texts:?}"),
    }
}

fn list<'n, W: Write>(
    f: &mut W,
    word: &str,
    none: &str,
    nodes: impl Iterator<Item = &'n Node>,
    mut write: impl FnMut(&'n Node, &mut W) -> fmt::Result,
) -> fmt::Result {
    let mut first = true;
    for node in nodes {
        match std::mem::take(&mut first) {
            true => f.write_char('(')?,
            false => write!(f, " {word} ")?,
        }
        write(node, f)?;
    }
    if first { f.write_str(none) } else { f.write_char(')') }
}
