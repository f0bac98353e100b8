//! From the document to the policy: everything that can be wrong with it is found here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign::UnixTime;
use countersign::token::{Algorithm, RsaBits};
use countersign_issuer::{MAX_TYPE_BYTES, RingConfig, Slot};
use toml::value::{Datetime, Offset};

use super::admin::AdminRight;
use super::claim::{ClaimRule, MAX_INTEGER};
use super::credentials::{self, KeysFrom, Workload};
use super::document::{ClaimEntry, ClientEntry, Document, GrantEntry, NamesEntry, OnExceed, ProfileEntry, ScalarEntry};
use super::error::TEXT;
use super::grant::{Grant, Names, Window};
use super::{
    ClaimKind, Client, DEFAULT_MAX_CLAIM_BYTES, DEFAULT_MAX_TOKEN_BYTES, MAX_CLAIM_BYTES, MAX_CLIENT_URLS, MAX_CLIENTS,
    MAX_ENTRIES, MAX_GRANTS, MAX_POLICY_BYTES, MAX_TEXT_BYTES, MAX_TOKEN_BYTES, POLICY_VERSION, Policy, PolicyError,
    Profile, SlotFacts,
};

/// The claims that no grant can allow: the issuer or a member of the request of its own says them, or some verifiers
/// take them for these (`azp`, `scp`), or for the mark of another kind of token.
const RESERVED: [&str; 19] = [
    "iss",
    "iat",
    "nbf",
    "exp",
    "jti",
    "kid",
    "alg",
    "typ",
    "sub",
    "aud",
    "scope",
    "scp",
    "client_id",
    "azp",
    "cnf",
    "at_hash",
    "c_hash",
    "events",
    "token_use",
];

/// The longest name of a profile, a client or a grant, bytes: a label in metrics and logs.
const MAX_NAME_BYTES: usize = 128;

pub(super) fn read(text: &str, ring: &RingConfig) -> Result<Policy, PolicyError> {
    if text.len() > MAX_POLICY_BYTES {
        return Err(PolicyError::TooLong);
    }
    let document: Document = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    if document.version != POLICY_VERSION {
        return Err(PolicyError::Version(document.version));
    }
    if document.revision.len() > MAX_NAME_BYTES {
        return Err(invalid("revision", "more than 128 bytes"));
    }
    at_most(MAX_GRANTS, document.profiles.len(), "profiles")?;
    at_most(MAX_CLIENTS, document.clients.len(), "clients")?;
    let mut profiles = BTreeMap::new();
    for (name, entry) in document.profiles {
        let place = format!("profiles.{}", shown(&name));
        profiles.insert(checked_name(&name, &place)?, profile(entry, &place, ring)?);
    }
    at_most(MAX_GRANTS, document.workload_issuers.len(), "workload_issuers")?;
    let mut workload_issuers = BTreeMap::new();
    for (issuer, entry) in document.workload_issuers {
        let place = format!("workload_issuers.{}", shown(&issuer));
        if document.clients.contains_key(&issuer) {
            return Err(invalid(&place, "a client has the same name"));
        }
        workload_issuers.insert(checked_text(&issuer, &place)?, credentials::workload_issuer(entry, &issuer, &place)?);
    }
    let mut clients = BTreeMap::new();
    let mut certificates = BTreeMap::new();
    for (name, entry) in document.clients {
        let place = format!("clients.{}", shown(&name));
        let name = checked_name(&name, &place)?;
        let client = client(entry, &place, &profiles)?;
        let is_known = |workload: &Workload| workload_issuers.contains_key(&workload.issuer);
        if !client.credentials.workloads.iter().all(is_known) {
            return Err(invalid(&place, "the issuer of one of `workloads` is not in `workload_issuers`"));
        }
        if !client.credentials.secrets.is_empty() && !document.allow_client_secret_basic {
            return Err(invalid(&place, "`secrets` goes with `allow_client_secret_basic = true`"));
        }
        for certificate in &client.credentials.certificates {
            if certificates.insert(certificate.clone(), name.clone()).is_some_and(|other| other != name) {
                return Err(invalid(&place, "another client has one of its `certificates`"));
            }
        }
        clients.insert(name, client);
    }
    let are_fetched = |client: &&Client| matches!(client.credentials.keys, Some(KeysFrom::At(_)));
    at_most(MAX_CLIENT_URLS, clients.values().filter(are_fetched).count(), "clients with `jwks_uri`")?;
    Ok(Policy {
        revision: document.revision.into(),
        allows_basic: document.allow_client_secret_basic,
        workload_issuers,
        profiles,
        clients,
    })
}

fn profile(entry: ProfileEntry, place: &str, ring: &RingConfig) -> Result<Profile, PolicyError> {
    at_most(MAX_ENTRIES, entry.slots.len(), place)?;
    if entry.slots.is_empty() {
        return Err(invalid(place, "`slots` is empty"));
    }
    let mut slots = Vec::new();
    let mut longest = Duration::MAX;
    for name in &entry.slots {
        let slot = ring.slots.iter().find(|slot| slot.name == *name);
        let slot = slot.ok_or_else(|| invalid(place, "one of `slots` is no slot of the ring"))?;
        longest = longest.min(ring.max_lifetime(slot));
        slots.push(SlotFacts::of(slot));
    }
    let max_lifetime = match entry.max_lifetime {
        None => longest,
        Some(seconds) => lifetime(seconds, place)?,
    };
    let lifetime = lifetime(entry.lifetime, place)?;
    if max_lifetime > longest {
        return Err(invalid(place, "`max_lifetime` is longer than one of its slots allows"));
    }
    if lifetime > max_lifetime {
        return Err(invalid(place, "`lifetime` is longer than `max_lifetime`, or than one of its slots allows"));
    }
    let is_type = |typ: &String| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte);
        !typ.is_empty() && typ.len() <= MAX_TYPE_BYTES && typ.bytes().all(fits)
    };
    if entry.typ.as_ref().is_some_and(|typ| !is_type(typ)) {
        return Err(invalid(place, "`typ` is no media type"));
    }
    let max_token_bytes = entry.max_token_bytes.map_or(DEFAULT_MAX_TOKEN_BYTES, |bytes| bytes as usize);
    if !(1..=MAX_TOKEN_BYTES).contains(&max_token_bytes) {
        return Err(invalid(place, "`max_token_bytes` is not 1 to 65536"));
    }
    let is_clamped = matches!(entry.on_exceed, OnExceed::Clamp);
    Ok(Profile { slots, typ: entry.typ.map(Into::into), lifetime, max_lifetime, is_clamped, max_token_bytes })
}

fn client(mut entry: ClientEntry, place: &str, profiles: &BTreeMap<Box<str>, Profile>) -> Result<Client, PolicyError> {
    at_most(MAX_GRANTS, entry.grants.len(), place)?;
    let window = window(entry.valid_from, entry.valid_until, place)?;
    let mut grants = Vec::new();
    let granted = std::mem::take(&mut entry.grants);
    let admin = admin_rights(&entry.admin, place)?;
    let credentials = credentials::read(entry, place)?;
    // They are taken in requests that the client has signed, and nothing else could verify those: it would never have them.
    if !admin.is_empty() && credentials.keys.is_none() {
        return Err(invalid(
            place,
            "`admin` goes with `jwks` or `jwks_uri`: these rights are taken in signed requests only",
        ));
    }
    for (name, entry) in granted {
        let place = format!("{place}.grants.{}", shown(&name));
        let name = checked_name(&name, &place)?;
        grants.push(grant(name, entry, &place, profiles)?);
    }
    Ok(Client { window, credentials, admin, grants })
}

/// Each once, so that a list says what it seems to say.
fn admin_rights(names: &[String], place: &str) -> Result<BTreeSet<AdminRight>, PolicyError> {
    let mut rights = BTreeSet::new();
    for name in names {
        let right = AdminRight::from_name(name).ok_or_else(|| invalid(place, "one of `admin` is no right"))?;
        if !rights.insert(right) {
            return Err(invalid(place, "one of `admin` stands twice"));
        }
    }
    Ok(rights)
}

fn grant(
    name: Box<str>,
    entry: GrantEntry,
    place: &str,
    profiles: &BTreeMap<Box<str>, Profile>,
) -> Result<Grant, PolicyError> {
    let allowed = texts(&entry.profiles, place)?;
    if allowed.is_empty() {
        return Err(invalid(place, "`profiles` is empty"));
    }
    if !allowed.iter().all(|name| profiles.contains_key(name)) {
        return Err(invalid(place, "one of `profiles` is not in the document"));
    }
    let subjects = names(&NamesEntry { exact: entry.subjects.exact, prefixes: entry.subjects.prefixes }, place)?;
    let allows_self = entry.subjects.itself;
    if !allows_self && subjects.is_empty() {
        return Err(invalid(place, "`subjects` allows none"));
    }
    let audiences = names(&entry.audiences, place)?;
    if audiences.is_empty() {
        return Err(invalid(place, "`audiences` allows none"));
    }
    let scopes = texts(&entry.scopes, place)?;
    let is_scope = |scope: &str| scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E));
    if !scopes.iter().all(|scope| is_scope(scope)) {
        return Err(invalid(place, "one of `scopes` is no scope (RFC 6749 section 3.3)"));
    }
    let of_profiles = || allowed.iter().filter_map(|name| profiles.get(name)).flat_map(|profile| &profile.slots);
    let algorithms = entry.algorithms.map(|names| algorithms(&names, place)).transpose()?;
    if algorithms.as_ref().is_some_and(|allowed| !allowed.iter().all(|one| of_profiles().any(|s| s.algorithm == *one)))
    {
        return Err(invalid(place, "one of `algorithms` is that of none of its profiles' slots"));
    }
    let sizes = |sizes: &Vec<u32>| sizes.iter().all(|bits| of_profiles().any(|slot| slot.rsa_bits == Some(*bits)));
    if entry.rsa_bits.as_ref().is_some_and(|bits| bits.is_empty() || bits.len() > MAX_ENTRIES || !sizes(bits)) {
        return Err(invalid(place, "one of `rsa_bits` is the size of none of its profiles' slots, or it is empty"));
    }
    at_most(MAX_ENTRIES, entry.claims.len(), place)?;
    let mut claims = BTreeMap::new();
    for (name, entry) in entry.claims {
        let place = format!("{place}.claims.{}", shown(&name));
        if RESERVED.contains(&&*name) {
            return Err(invalid(&place, "no client may choose this claim"));
        }
        claims.insert(checked_text(&name, &place)?, claim(entry, &place)?);
    }
    Ok(Grant {
        name,
        rate: entry.rate.map(|rate| credentials::rate(&rate, place)).transpose()?,
        window: window(entry.valid_from, entry.valid_until, place)?,
        profiles: allowed,
        allows_self,
        subjects,
        audiences,
        scopes,
        max_lifetime: entry.max_lifetime.map(|seconds| lifetime(seconds, place)).transpose()?,
        max_delay: Duration::from_secs(entry.max_nbf_delay.into()),
        binding: entry.binding,
        algorithms,
        rsa_bits: entry.rsa_bits,
        claims,
    })
}

fn claim(entry: ClaimEntry, place: &str) -> Result<ClaimRule, PolicyError> {
    let max_bytes = entry.max_bytes.map_or(DEFAULT_MAX_CLAIM_BYTES, |bytes| bytes as usize);
    if !(1..=MAX_CLAIM_BYTES).contains(&max_bytes) {
        return Err(invalid(place, "`max_bytes` is not 1 to 16384"));
    }
    let values = entry.values.map(|values| {
        at_most(MAX_ENTRIES, values.len(), place)?;
        if values.is_empty() {
            return Err(invalid(place, "`values` allows none"));
        }
        values.into_iter().map(|value| self::value(entry.kind, value, place)).collect()
    });
    Ok(ClaimRule { kind: entry.kind, values: values.transpose()?, max_bytes, is_required: entry.required })
}

fn value(kind: ClaimKind, value: ScalarEntry, place: &str) -> Result<Box<str>, PolicyError> {
    match (kind, value) {
        (ClaimKind::String | ClaimKind::Strings, ScalarEntry::Text(text)) if text.len() <= MAX_TEXT_BYTES => {
            Ok(text.into())
        }
        (ClaimKind::Integer, ScalarEntry::Integer(number)) if (-MAX_INTEGER..=MAX_INTEGER).contains(&number) => {
            Ok(number.to_string().into())
        }
        (ClaimKind::String | ClaimKind::Strings | ClaimKind::Integer, _) => {
            Err(invalid(place, "one of `values` is not of its `type`"))
        }
        _ => Err(invalid(place, "`values` goes with strings and integers")),
    }
}

fn names(entry: &NamesEntry, place: &str) -> Result<Names, PolicyError> {
    let prefixes = texts(&entry.prefixes, place)?;
    // `https://api.example` would be the beginning of `https://api.example.evil` too.
    if !prefixes.iter().all(|prefix| prefix.ends_with(|last: char| last.is_ascii_punctuation())) {
        return Err(invalid(
            place,
            "one of `prefixes` does not end where a part of the name does, in `/`, `:` or such",
        ));
    }
    Ok(Names::new(texts(&entry.exact, place)?, prefixes))
}

fn texts(texts: &[String], place: &str) -> Result<BTreeSet<Box<str>>, PolicyError> {
    at_most(MAX_ENTRIES, texts.len(), place)?;
    texts.iter().map(|text| checked_text(text, place)).collect()
}

pub(super) fn checked_text(text: &str, place: &str) -> Result<Box<str>, PolicyError> {
    let is_fit = (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if is_fit { Ok(text.into()) } else { Err(invalid(place, TEXT)) }
}

/// Names go into answers, logs and, of clients, into a header: letters that nobody has to escape anywhere (RFC 3986
/// §2.3).
pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(fits)
}

fn checked_name(name: &str, place: &str) -> Result<Box<str>, PolicyError> {
    if is_name(name) {
        Ok(name.into())
    } else {
        Err(invalid(place, "a name is 1 to 128 letters, digits, `-`, `.`, `_` or `~`"))
    }
}

fn algorithms(names: &[String], place: &str) -> Result<Vec<Algorithm>, PolicyError> {
    at_most(MAX_ENTRIES, names.len(), place)?;
    if names.is_empty() {
        return Err(invalid(place, "`algorithms` allows none"));
    }
    let read =
        |name: &String| Algorithm::from_name(name).ok_or_else(|| invalid(place, "one of `algorithms` is not known"));
    names.iter().map(read).collect()
}

fn lifetime(seconds: u32, place: &str) -> Result<Duration, PolicyError> {
    if seconds == 0 {
        return Err(invalid(place, "a lifetime of 0 seconds"));
    }
    Ok(Duration::from_secs(seconds.into()))
}

fn window(from: Option<Datetime>, until: Option<Datetime>, place: &str) -> Result<Window, PolicyError> {
    let read = |time: Datetime| {
        unix_time(&time)
            .ok_or_else(|| invalid(place, "a time needs a date, a time and an offset: 2026-12-31T23:59:59Z"))
    };
    let window = Window { from: from.map(read).transpose()?, until: until.map(read).transpose()? };
    if window.from.zip(window.until).is_some_and(|(from, until)| from >= until) {
        return Err(invalid(place, "`valid_until` is not after `valid_from`"));
    }
    Ok(window)
}

/// A leap second counts as the second before it.
fn unix_time(time: &Datetime) -> Option<UnixTime> {
    let (date, clock, offset) = (time.date?, time.time?, time.offset?);
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    // Days since the epoch of a proleptic Gregorian calendar whose years begin in March.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + i64::from(date.day)
        - 719_469;
    let seconds =
        i64::from(clock.hour) * 3_600 + i64::from(clock.minute) * 60 + i64::from(clock.second.unwrap_or(0).min(59));
    Some(UnixTime::from_secs(days * 86_400 + seconds - minutes * 60))
}

impl SlotFacts {
    fn of(slot: &Slot) -> Self {
        let rsa_bits = slot.rsa_bits.map(|bits| match bits {
            RsaBits::B2048 => 2_048,
            RsaBits::B3072 => 3_072,
            _ => 4_096,
        });
        Self { name: slot.name.as_str().into(), algorithm: slot.algorithm, rsa_bits }
    }
}

/// Without the excerpt that the parser shows: there may be a secret in it.
fn syntax(text: &str, error: &toml::de::Error) -> PolicyError {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map_or(0, |before| before.matches('\n').count() + 1);
    let mut message = error.message();
    // Nor the value that the reader did not like.
    if message.starts_with("invalid ") || message.starts_with("unknown variant") {
        message = message.find("expected").and_then(|at| message.get(at..)).unwrap_or("a value is not what it must be");
    }
    PolicyError::Syntax { line, message: message.chars().take(MAX_NAME_BYTES * 2).collect::<String>().into() }
}

pub(super) fn at_most(most: usize, there: usize, place: &str) -> Result<(), PolicyError> {
    if there <= most { Ok(()) } else { Err(PolicyError::TooMany { place: place.into() }) }
}

pub(super) fn invalid(place: &str, reason: impl Into<Cow<'static, str>>) -> PolicyError {
    PolicyError::Invalid { place: place.into(), reason: reason.into() }
}

/// A name that was not checked yet.
fn shown(name: &str) -> String {
    name.escape_debug().take(MAX_NAME_BYTES).collect()
}
