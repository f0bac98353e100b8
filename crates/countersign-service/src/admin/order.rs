use countersign::token::json::{Members, Raw};
use serde_json::{Value, json};

use crate::audit;
use crate::problem::Problem;
use crate::wire::{not_an_object, text, unknown_member, utf8};

/// The longest `reason`, characters: a sentence, or the name of an incident.
const MAX_REASON: usize = 256;

/// Slots of one order, at most: more than a ring has.
const MAX_SLOTS: usize = 64;

/// What an operator wants.
pub(super) struct Order {
    pub(super) what: What,
    /// Why; for whoever reads the log.
    pub(super) reason: Box<str>,
    /// Say what would be done, and do nothing.
    pub(super) is_dry_run: bool,
}

pub(super) enum What {
    /// For keys that are merely old: the standbys sign. In all slots if there is none.
    Rotate { slots: Vec<String> },
    /// For keys that somebody else may have: those that sign are revoked. In all slots if there is none.
    Emergency { slots: Vec<String>, sign_at_once: bool },
    /// The same of one key, whatever it is.
    Revoke { kid: String, sign_at_once: bool },
}

impl Order {
    /// What is written down of it.
    pub(super) fn for_audit(&self) -> Value {
        let cut_all = |slots: &[String]| slots.iter().map(|slot| audit::cut(slot)).collect::<Vec<_>>();
        let mut said = match &self.what {
            What::Rotate { slots } => json!({ "slots": cut_all(slots) }),
            What::Emergency { slots, sign_at_once } => json!({ "slots": cut_all(slots), "sign_at_once": sign_at_once }),
            What::Revoke { kid, sign_at_once } => json!({ "kid": audit::cut(kid), "sign_at_once": sign_at_once }),
        };
        said["what"] = self.what.name().into();
        said["reason"] = (*self.reason).into();
        said
    }
}

impl What {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Rotate { .. } => "rotate",
            Self::Emergency { .. } => "emergency",
            Self::Revoke { .. } => "revoke",
        }
    }
}

/// `{"mode": "standby" | "emergency", "reason": …, "slots": […]?, "sign_at_once": …?, "dry_run": …?}`
pub(super) fn rotation(body: &[u8]) -> Result<Order, Problem> {
    let Body { mode, slots, sign_at_once, reason, is_dry_run } = read(body, |_| true)?;
    let slots = slots.unwrap_or_default();
    let what = match (mode.as_deref(), sign_at_once) {
        (Some("standby"), false) => What::Rotate { slots },
        (Some("emergency"), sign_at_once) => What::Emergency { slots, sign_at_once },
        (Some("standby"), true) => return Err(Problem::invalid("`sign_at_once` goes with `emergency`")),
        _ => return Err(Problem::invalid("`mode` must be `standby` or `emergency`")),
    };
    Ok(Order { what, reason, is_dry_run })
}

/// `{"reason": …, "sign_at_once": …?, "dry_run": …?}`
pub(super) fn revocation(body: &[u8], kid: &str) -> Result<Order, Problem> {
    let Body { sign_at_once, reason, is_dry_run, .. } = read(body, |name| !matches!(name, "mode" | "slots"))?;
    let what = What::Revoke { kid: kid.to_owned(), sign_at_once };
    Ok(Order { what, reason, is_dry_run })
}

struct Body {
    mode: Option<Box<str>>,
    slots: Option<Vec<String>>,
    sign_at_once: bool,
    reason: Box<str>,
    is_dry_run: bool,
}

fn read(body: &[u8], is_known: fn(&str) -> bool) -> Result<Body, Problem> {
    let mut members = Members::new();
    members.read(utf8(body)?).map_err(not_an_object)?;
    let (mut mode, mut slots, mut sign_at_once, mut reason, mut is_dry_run) = (None, None, false, None, false);
    for (name, value) in members.iter() {
        match &*name.text() {
            name if !is_known(name) => return Err(unknown_member()),
            "mode" => mode = Some(text(value, "`mode` must be a string")?),
            "slots" => slots = Some(self::slots(value)?),
            "sign_at_once" => sign_at_once = boolean(value, "`sign_at_once` must be true or false")?,
            "dry_run" => is_dry_run = boolean(value, "`dry_run` must be true or false")?,
            "reason" => {
                let said = text(value, REASON)?;
                reason = Some(said).filter(|said| said.chars().count() <= MAX_REASON);
            }
            _ => return Err(unknown_member()),
        }
    }
    let reason = reason.ok_or_else(|| Problem::invalid(REASON))?;
    Ok(Body { mode, slots, sign_at_once, reason, is_dry_run })
}

const REASON: &str = "`reason` must be a string of 1 to 256 characters without control characters";

/// An empty list would be all of them, which nobody means who writes one.
fn slots(value: Raw<'_>) -> Result<Vec<String>, Problem> {
    let wrong = || Problem::invalid("`slots` must be an array of 1 to 64 names, none of them twice");
    let elements = value.elements().ok_or_else(wrong)?.take(MAX_SLOTS + 1);
    let names = elements.map(|one| Some(one.string()?.into_owned())).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    let is_new = |(index, name): (usize, &String)| !names[..index].contains(name);
    let is_fit = (1..=MAX_SLOTS).contains(&names.len()) && names.iter().enumerate().all(is_new);
    if is_fit { Ok(names) } else { Err(wrong()) }
}

fn boolean(value: Raw<'_>, otherwise: &'static str) -> Result<bool, Problem> {
    value.boolean().ok_or_else(|| Problem::invalid(otherwise))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_a_reason_of_so_many_characters_and_so_many_slots() {
        let ordered = |reason: usize, slots: usize| {
            let slots: Vec<_> = (0..slots).map(|slot| format!("s{slot}")).collect();
            let body = json!({ "mode": "standby", "reason": "ß".repeat(reason), "slots": slots });
            rotation(body.to_string().as_bytes()).map(|order| match order.what {
                What::Rotate { slots } => (order.reason.chars().count(), slots.len()),
                _ => (0, 0),
            })
        };
        assert_eq!(ordered(MAX_REASON, MAX_SLOTS).unwrap(), (MAX_REASON, MAX_SLOTS));
        for (reason, slots, told) in [(MAX_REASON + 1, 1, MAX_REASON), (1, MAX_SLOTS + 1, MAX_SLOTS)] {
            let problem = ordered(reason, slots).unwrap_err();
            assert_eq!(problem.code(), "invalid_request");
            assert!(problem.detail().contains(&format!("1 to {told} ")), "{}", problem.detail());
        }
    }
}
