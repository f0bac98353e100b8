//! One line: what it says, and how that is written.

use std::borrow::Cow;

use countersign_claims::revocation::{Entry, Level, Revokes, SinkError};
use countersign_claims::{MAX_NUMERIC_DATE, UnixTime};
use countersign_token::Thumbprint;
use countersign_token::json::{self, ObjectError, Raw};

use crate::fits::{MAX_NAME_BYTES, fits};

const VERSION: u64 = 1;

const HEADER: [&str; 3] = ["countersign_revocations", "as_of", "entries"];

const TRAILER: &str = "end";

/// In the order of the variables in [`parse`].
const MEMBERS: [&str; 12] =
    ["iss", "jti", "kid", "jkt", "sub", "client_id", "sid", "tid", "family", "iat_until", "exp", TRAILER];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) as_of: UnixTime,
    pub(super) entries: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Entry(Entry),
    End(u64),
}

type Fault = &'static str;

pub(super) fn parse_header(line: &[u8]) -> Result<Header, Fault> {
    const WHAT: Fault = "not the header of a snapshot of revocations, version 1";
    let [Some(version), Some(as_of), Some(entries)] = fields(line, &HEADER).map_err(|_| WHAT)? else {
        return Err(WHAT);
    };
    if number(version) != Ok(VERSION) {
        return Err(WHAT);
    }
    Ok(Header { as_of: time(as_of)?, entries: number(entries)? })
}

/// Any line but the first.
pub(super) fn parse(line: &[u8]) -> Result<Line, Fault> {
    const MIXED: Fault = "not one of the sets of members that a line may have";
    let [iss, jti, kid, jkt, sub, client_id, sid, tid, family, iat_until, exp, end] = fields(line, &MEMBERS)?;
    let names = [
        (Level::Subject, sub),
        (Level::Client, client_id),
        (Level::Session, sid),
        (Level::Tenant, tid),
        (Level::Family, family),
    ];
    let mut levels = names.into_iter().filter_map(|(level, name)| name.map(|name| (level, name)));
    let level = levels.next();
    if levels.next().is_some() {
        return Err(MIXED);
    }
    let revokes = match (iss, jti, kid, jkt, level, iat_until, end) {
        (None, None, None, None, None, None, Some(end)) if exp.is_none() => return Ok(Line::End(number(end)?)),
        (Some(_), Some(jti), None, None, None, None, None) => Revokes::Token { jwt_id: name(jti)? },
        (Some(_), None, Some(kid), None, None, None, None) => Revokes::Key { kid: name(kid)? },
        (None, None, None, Some(jkt), None, None, None) => {
            let thumbprint = Thumbprint::parse(&text(jkt)?).ok_or("`jkt` is not a thumbprint")?;
            Revokes::KeyMaterial { thumbprint }
        }
        (Some(_), None, None, None, level, Some(iat_until), None) => {
            let issued_until = time(iat_until)?;
            match level {
                Some((level, which)) => Revokes::CutOff { level, name: name(which)?, issued_until },
                None => Revokes::CutOff { level: Level::Issuer, name: "".into(), issued_until },
            }
        }
        _ => return Err(MIXED),
    };
    let issuer = iss.map_or(Ok(Cow::Borrowed("")), text)?;
    if issuer.len() > MAX_NAME_BYTES {
        return Err(TOO_LONG);
    }
    Ok(Line::Entry(Entry { issuer: issuer.into(), revokes, until: exp.map(time).transpose()? }))
}

pub(super) fn header(header: Header) -> String {
    let [version, as_of, entries] = HEADER;
    let Header { as_of: time, entries: number } = header;
    format!("{{\"{version}\":{VERSION},\"{as_of}\":{},\"{entries}\":{number}}}\n", whole(time))
}

pub(super) fn trailer(entries: u64) -> String {
    format!("{{\"{TRAILER}\":{entries}}}\n")
}

/// What an entry is about, as the beginning of its line: the same for all entries that are about the same, and for no other.
///
/// # Errors
/// [`SinkError::Unfit`] if a name is empty or too long.
pub(super) fn head(entry: &Entry) -> Result<Box<str>, SinkError> {
    fits(entry)?;
    let (member, name) = match &entry.revokes {
        Revokes::Token { jwt_id } => ("jti", &**jwt_id),
        Revokes::Key { kid } => ("kid", &**kid),
        Revokes::KeyMaterial { thumbprint } => return Ok(format!("{{\"jkt\":\"{thumbprint}\"").into()),
        Revokes::CutOff { level, name, .. } => match level {
            Level::Issuer => ("", &**name),
            Level::Tenant => ("tid", &**name),
            Level::Client => ("client_id", &**name),
            Level::Subject => ("sub", &**name),
            Level::Session => ("sid", &**name),
            Level::Family => ("family", &**name),
        },
        _ => return Err(SinkError::Unfit("what is revoked, which is of a kind that a snapshot file does not know,")),
    };
    let mut head = format!("{{\"iss\":{}", quoted(&entry.issuer)?);
    if !member.is_empty() {
        head.extend([",\"", member, "\":", &quoted(name)?]);
    }
    Ok(head.into())
}

/// The rest of a line behind its [`head`]: `iat_until` and `exp`.
pub(super) fn tail(issued_until: Option<i64>, exp: Option<i64>) -> String {
    let member = |name, value: Option<i64>| value.map(|value| format!(",\"{name}\":{value}")).unwrap_or_default();
    format!("{}{}}}\n", member("iat_until", issued_until), member("exp", exp))
}

/// A time as a file can say it: whole seconds, rounded down.
pub(super) fn whole(time: UnixTime) -> i64 {
    time.as_secs().clamp(0, MAX_NUMERIC_DATE)
}

/// The time until which something is remembered, rounded up. What no file can say is for good.
pub(super) fn whole_until(until: UnixTime) -> Option<i64> {
    let floor = until.as_secs();
    let ceiling = if until > UnixTime::from_secs(floor) { floor.saturating_add(1) } else { floor };
    (ceiling <= MAX_NUMERIC_DATE).then_some(ceiling.max(0))
}

fn quoted(text: &str) -> Result<String, SinkError> {
    serde_json::to_string(text).map_err(|error| SinkError::Unavailable(error.to_string().into()))
}

/// The members of an object that has no others than these.
fn fields<'a, const N: usize>(line: &'a [u8], names: &[&str; N]) -> Result<[Option<Raw<'a>>; N], Fault> {
    let mut found = [None; N];
    let mut is_unknown = false;
    json::members(line, N, |name, value| match names.iter().zip(&mut found).find(|(known, _)| **known == name) {
        Some((_, place)) => *place = Some(value),
        None => is_unknown = true,
    })
    .map_err(|error| match error {
        ObjectError::DuplicateMember => "a member stands twice",
        ObjectError::TooManyMembers => UNKNOWN,
        _ => "not one JSON object",
    })?;
    if is_unknown { Err(UNKNOWN) } else { Ok(found) }
}

const UNKNOWN: Fault = "a member that is not known";

const TOO_LONG: Fault = "a name is too long";

fn text(value: Raw<'_>) -> Result<Cow<'_, str>, Fault> {
    value.string().ok_or("a string is expected")
}

fn name(value: Raw<'_>) -> Result<Box<str>, Fault> {
    let name = text(value)?;
    match name.len() {
        0 => Err("a name is empty"),
        1..=MAX_NAME_BYTES => Ok(name.into()),
        _ => Err(TOO_LONG),
    }
}

/// From its text, whatever `serde_json` makes of numbers.
fn number(value: Raw<'_>) -> Result<u64, Fault> {
    let text = value.text();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a whole number is expected");
    }
    text.parse().map_err(|_| "a number is too large")
}

fn time(value: Raw<'_>) -> Result<UnixTime, Fault> {
    let secs = i64::try_from(number(value)?).ok().filter(|secs| *secs <= MAX_NUMERIC_DATE);
    secs.map(UnixTime::from_secs).ok_or("a time is too late")
}
