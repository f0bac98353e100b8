//! What people may see of a token that nobody has vouched for: a few members, short and escaped.

use countersign_claims::Found;
use countersign_token::json::{self, Raw};
use countersign_token::{MAX_HEADER_MEMBERS, TokenError, UnverifiedToken, look_at_unverified_header};

use crate::explain::Verdict;
use crate::refusal::Refusal;

/// The most members of `aud` that are shown.
const MAX_AUDIENCES: usize = 4;

/// Texts are ready to be shown; `iss` and `aud` are there once more as they are, to be compared.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    pub(crate) header: Vec<(&'static str, String)>,
    pub(crate) claims: Vec<(&'static str, String)>,
    pub(crate) iss: Option<String>,
}

impl Shown {
    /// Nothing of a text that is too long to be looked at.
    pub(crate) fn of(text: &str, token: Option<&UnverifiedToken<'_>>, verdict: &Verdict) -> Self {
        let mut shown = Self::default();
        if let Verdict::Refused(Refusal::Token(TokenError::TooLong { .. })) = verdict {
            return shown;
        }
        shown.header = look_at_unverified_header(text, header).unwrap_or_default();
        if let Some((claims, iss)) = token.and_then(|token| token.look_at_unverified_payload(claims)) {
            (shown.claims, shown.iss) = (claims, iss);
        }
        shown
    }
}

/// Without `iss`, which is there once already and escaped.
impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").field("header", &self.header).field("claims", &self.claims).finish_non_exhaustive()
    }
}

fn header(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let mut shown = Vec::new();
    let read = json::members(bytes, MAX_HEADER_MEMBERS, |name, value| {
        if let Some(name) = ["alg", "kid", "typ"].into_iter().find(|known| *known == name) {
            shown.push((name, string(value)));
        }
    });
    if read.is_ok() { shown } else { Vec::new() }
}

fn claims(payload: &[u8]) -> (Vec<(&'static str, String)>, Option<String>) {
    let (mut shown, mut iss) = (Vec::new(), None);
    let read = json::members(payload, usize::MAX, |name, value| match &*name {
        "iss" => {
            shown.push(("iss", string(value)));
            iss = value.string().map(String::from);
        }
        "aud" => shown.push(("aud", audiences(value))),
        "exp" => shown.push(("exp", number(value))),
        "nbf" => shown.push(("nbf", number(value))),
        "iat" => shown.push(("iat", number(value))),
        _ => {}
    });
    if read.is_ok() { (shown, iss) } else { Default::default() }
}

fn string(value: Raw<'_>) -> String {
    value.string().map_or_else(|| "(not a string)".into(), |text| Found::new(&text).to_string())
}

fn number(value: Raw<'_>) -> String {
    // Digits, signs, a dot and an `e`: nothing to escape.
    if value.is_number() { value.text().chars().take(24).collect() } else { "(not a number)".into() }
}

fn audiences(value: Raw<'_>) -> String {
    let Some(audiences) = value.strings() else { return string(value) };
    let shown: Vec<_> = audiences.iter().take(MAX_AUDIENCES).map(|aud| Found::new(aud).to_string()).collect();
    let more = audiences.len().saturating_sub(MAX_AUDIENCES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("[{}]{more}", shown.join(", "))
}
