//! Claims (RFC 7519 §4.1, RFC 9068, RFC 8725 §3.11 and §3.12), against the one policy of the harness.

use super::Verdict;
use super::json::{self, Json, Members, NoJson};
use crate::harness::{AUDIENCE, ISSUER, NOW};

/// The default leeway, seconds.
const LEEWAY: f64 = 30.0;

/// The end of the year 9999.
const END_OF_TIME: f64 = 253_402_300_800.0;

/// Nearer than this to a boundary, how a number was rounded decides; seconds.
const TOO_CLOSE: f64 = 1e-3;

/// What accepted claims say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub sub: Option<String>,
    pub jti: Option<String>,
    pub client_id: Option<String>,
    pub aud: Vec<String>,
    pub scopes: Vec<String>,
}

/// Claims that a known key has signed under a header with this `typ`.
pub fn judge(payload: &[u8], typ: Option<&str>) -> Verdict<Claims> {
    let value = match json::parse(payload) {
        Ok(value) => value,
        Err(NoJson::Malformed) => return Verdict::Bad,
        Err(NoJson::TooDeep) => return Verdict::NoOpinion,
    };
    let Some(members) = value.sound_members() else { return Verdict::Bad };
    let (time, rest) = (judge_time(members), judge_rest(members, typ));
    match (time, rest) {
        (Verdict::Bad, _) | (_, None) => Verdict::Bad,
        (Verdict::NoOpinion, _) => Verdict::NoOpinion,
        (Verdict::Good(()), Some(claims)) => Verdict::Good(claims),
    }
}

/// `exp`, which must be there, `nbf` and `iat`.
fn judge_time(members: Members<'_, '_>) -> Verdict<()> {
    let (past, future) = (NOW as f64 - LEEWAY, NOW as f64 + LEEWAY);
    let mut is_close = false;
    // `Some(None)` is absent, `None` is malformed.
    let mut date = |name| match members.get(name) {
        None => Some(None),
        Some(Json::Number(text)) => {
            let seconds: f64 = text.parse().ok()?;
            // Whole seconds without an exponent leave nothing to round.
            is_close |= text.bytes().any(|octet| b".eE".contains(&octet))
                && [0.0, past, future, END_OF_TIME].iter().any(|bound| (seconds - bound).abs() < TOO_CLOSE);
            (0.0..END_OF_TIME).contains(&seconds).then_some(Some(seconds))
        }
        Some(_) => None,
    };
    let (exp, nbf, iat) = (date("exp"), date("nbf"), date("iat"));
    let has_begun = |date: Option<Option<f64>>| date.is_some_and(|date| date.is_none_or(|date| date <= future));
    match (is_close, exp) {
        (true, _) => Verdict::NoOpinion,
        (false, Some(Some(exp))) if exp > past && has_begun(nbf) && has_begun(iat) => Verdict::Good(()),
        _ => Verdict::Bad,
    }
}

/// Everything but the time.
fn judge_rest(members: Members<'_, '_>, typ: Option<&str>) -> Option<Claims> {
    if !typ.is_none_or(is_access_token) {
        return None;
    }
    // Of an ID token, a security event, or a token bound to a key.
    let is_foreign = ["at_hash", "c_hash", "events", "cnf"].iter().any(|name| members.get(name).is_some())
        || members.get("token_use").and_then(Json::text) == Some("id")
        || members.get("typ").and_then(Json::text) == Some("ID");
    if is_foreign {
        return None;
    }
    let text = |name| match members.get(name) {
        None => Some(None),
        Some(value) => value.text().map(|text| Some(text.to_owned())),
    };
    let aud = one_or_many(members.get("aud")?)?;
    if text("iss")?? != ISSUER || !aud.iter().any(|aud| aud == AUDIENCE) {
        return None;
    }
    let mut scopes = Vec::new();
    for (_, value) in members.iter().filter(|(name, _)| matches!(*name, "scope" | "scp")) {
        let names = one_or_many(value)?;
        if value.text().is_none() && names.iter().any(|name| name.contains(' ')) {
            return None;
        }
        // RFC 6749 §3.3 has none of these, and one must not make one name of two.
        if names.iter().any(|name| name.contains(|c: char| c.is_ascii_control())) {
            return None;
        }
        scopes
            .extend(names.iter().flat_map(|names| names.split(' ')).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    Some(Claims { sub: text("sub")?, jti: text("jti")?, client_id: text("client_id")?, aud, scopes })
}

fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn one_or_many(value: &Json<'_>) -> Option<Vec<String>> {
    match value {
        Json::String(text) => Some(vec![text.clone()?]),
        _ => Some(value.texts()?.into_iter().map(str::to_owned).collect()),
    }
}
