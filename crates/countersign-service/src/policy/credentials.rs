//! By what clients are known, and how that is read.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::claims::{ClaimPointer, ClaimValue, Verified};
use countersign::{JwkSet, KeySet, Origin, Remote};

use super::document::{CertificateEntry, ClientEntry, RateEntry, ScalarEntry, WorkloadEntry, WorkloadIssuerEntry};
use super::read::{at_most, checked_text, invalid};
use super::{MAX_ENTRIES, PolicyError};
use crate::certificate::CertificateName;

/// How often a client may ask if its entry does not say: enough for a service of some size, and too little to keep a
/// core busy.
pub(super) const DEFAULT_RATE: Rate =
    Rate { per_second: NonZeroU32::new(100).unwrap(), burst: NonZeroU32::new(512).unwrap() };

/// Secrets, certificates and workloads of one client, at most: a few that follow each other.
pub(super) const MAX_CREDENTIALS: usize = 16;

/// Octets of an HMAC-SHA-256.
const TAG_BYTES: usize = 32;

/// By what a client is known, and how often it may ask.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// Of its assertions and requests. It is their issuer.
    pub(crate) keys: Option<KeysFrom>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) certificates: Vec<CertificateName>,
    pub(crate) secrets: Vec<SecretTag>,
    pub(crate) rate: Rate,
}

/// Tokens per second, and at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) per_second: NonZeroU32,
    pub(crate) burst: NonZeroU32,
}

/// What a secret becomes under the key of the service.
pub(crate) struct SecretTag(pub(crate) [u8; TAG_BYTES]);

/// Whoever reads it has nothing, but need not see it either.
impl std::fmt::Debug for SecretTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretTag")
    }
}

/// A workload that is a client: one whose token says all of this.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) issuer: Box<str>,
    claims: Vec<(ClaimPointer, Scalar)>,
}

#[derive(Debug)]
enum Scalar {
    Text(Box<str>),
    Integer(i64),
}

/// Where the public keys of a client are, or of an issuer of workload tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeysFrom {
    /// In the document: a JWK Set that can be read.
    Inline(Box<str>),
    /// At this URL.
    At(Box<str>),
    /// Where the issuer's metadata says.
    Discovered,
}

impl Workload {
    pub(crate) fn is(&self, verified: &Verified) -> bool {
        self.claims.iter().all(|(pointer, wanted)| verified.claim(pointer).is_some_and(|value| wanted.is(value)))
    }
}

impl Scalar {
    fn is(&self, value: ClaimValue<'_>) -> bool {
        match self {
            Self::Text(text) => value.string().is_some_and(|value| value == **text),
            Self::Integer(number) => value.integer() == Some((*number).into()),
        }
    }
}

impl KeysFrom {
    /// Those that are in the document, good for what `issuer` has signed.
    pub(crate) fn inline(document: &str, issuer: &str) -> Option<KeySet> {
        let keys = JwkSet::parse(document.as_bytes(), Origin::Remote).ok()?;
        Some(keys.into_key_set().bound_to_issuer(issuer))
    }
}

pub(super) fn read(entry: ClientEntry, place: &str) -> Result<Credentials, PolicyError> {
    let keys = keys_from(entry.jwks, entry.jwks_uri, place)?;
    at_most(MAX_CREDENTIALS, entry.workloads.len(), place)?;
    at_most(MAX_CREDENTIALS, entry.secrets.len(), place)?;
    let workloads = entry.workloads.into_iter().map(|entry| workload(entry, place)).collect::<Result<_, _>>()?;
    at_most(MAX_CREDENTIALS, entry.certificates.len(), place)?;
    let certificates =
        entry.certificates.into_iter().map(|entry| certificate(entry, place)).collect::<Result<_, _>>()?;
    let secrets = entry.secrets.iter().map(|text| secret(text, place)).collect::<Result<_, _>>()?;
    let rate = entry.rate.map_or(Ok(DEFAULT_RATE), |entry| rate(&entry, place))?;
    Ok(Credentials { keys, workloads, certificates, secrets, rate })
}

pub(super) fn workload_issuer(entry: WorkloadIssuerEntry, issuer: &str, place: &str) -> Result<KeysFrom, PolicyError> {
    match keys_from(entry.jwks, entry.jwks_uri, place)? {
        Some(keys) => Ok(keys),
        None => fetchable(Remote::discover(issuer), place).map(|()| KeysFrom::Discovered),
    }
}

fn keys_from(jwks: Option<String>, jwks_uri: Option<String>, place: &str) -> Result<Option<KeysFrom>, PolicyError> {
    match (jwks, jwks_uri) {
        (Some(_), Some(_)) => Err(invalid(place, "`jwks` or `jwks_uri`, not both")),
        (Some(document), None) => check_keys(&document, place).map(|()| Some(KeysFrom::Inline(document.into()))),
        (None, Some(url)) => {
            let url = checked_text(&url, place)?;
            fetchable(Remote::new(&url), place).map(|()| Some(KeysFrom::At(url)))
        }
        (None, None) => Ok(None),
    }
}

fn fetchable<E>(remote: Result<Remote, E>, place: &str) -> Result<(), PolicyError> {
    let checked = remote.ok().and_then(|remote| remote.check().ok());
    checked.ok_or_else(|| invalid(place, "no URL from which keys may be fetched"))
}

/// Unlike keys that are fetched, those in a document are its author's: none is skipped in silence.
fn check_keys(document: &str, place: &str) -> Result<(), PolicyError> {
    let keys = JwkSet::parse(document.as_bytes(), Origin::Remote);
    let keys = keys.map_err(|error| invalid(place, format!("`jwks`: {error}")))?;
    if let Some(skipped) = keys.skipped().first() {
        return Err(invalid(place, format!("`jwks`: key {} cannot be used: {}", skipped.index, skipped.reason)));
    }
    if keys.into_key_set().is_empty() { Err(invalid(place, "`jwks` has no key")) } else { Ok(()) }
}

fn workload(entry: WorkloadEntry, place: &str) -> Result<Workload, PolicyError> {
    at_most(MAX_ENTRIES, entry.claims.len(), place)?;
    // Otherwise everybody whom the issuer knows would be this client.
    if entry.claims.is_empty() {
        return Err(invalid(place, "one of `workloads` demands no claim"));
    }
    let read = |(name, value): (String, ScalarEntry)| {
        let pointer = ClaimPointer::parse(&name);
        let pointer =
            pointer.map_err(|_| invalid(place, "one of `workloads` has a claim that is no name or pointer"))?;
        let value = match value {
            ScalarEntry::Text(text) => Scalar::Text(checked_text(&text, place)?),
            ScalarEntry::Integer(number) => Scalar::Integer(number),
        };
        Ok((pointer, value))
    };
    let claims = entry.claims.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Workload { issuer: checked_text(&entry.issuer, place)?, claims })
}

fn certificate(entry: CertificateEntry, place: &str) -> Result<CertificateName, PolicyError> {
    let CertificateEntry { san_dns, san_uri, subject, sha256 } = entry;
    let wrong = |why: &'static str| invalid(place, why);
    match (san_dns, san_uri, subject, sha256) {
        (Some(name), None, None, None) => {
            // No wildcards: whoever has one for all of a domain is none of its clients.
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if !name.bytes().all(fits) {
                return Err(wrong("one of `certificates` has a `san_dns` that is no name of a host"));
            }
            Ok(CertificateName::Dns(checked_text(&name.to_ascii_lowercase(), place)?))
        }
        (None, Some(uri), None, None) => {
            if !uri.contains(':') || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("one of `certificates` has a `san_uri` that is no URI"));
            }
            Ok(CertificateName::Uri(checked_text(&uri, place)?))
        }
        (None, None, Some(subject), None) => {
            if !subject.contains('=') {
                return Err(wrong("one of `certificates` has a `subject` that is not like CN=web,O=Acme (RFC 4514)"));
            }
            Ok(CertificateName::Subject(checked_text(&subject, place)?))
        }
        (None, None, None, Some(text)) => {
            let thumbprint = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|octets| octets.try_into().ok());
            let thumbprint = thumbprint.map(CertificateName::Thumbprint);
            thumbprint.ok_or_else(|| wrong("one of `certificates` has a `sha256` that is no `x5t#S256`"))
        }
        _ => Err(wrong("one of `certificates` is not one of `san_dns`, `san_uri`, `subject` and `sha256`")),
    }
}

fn secret(text: &str, place: &str) -> Result<SecretTag, PolicyError> {
    let tag = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|octets| octets.try_into().ok());
    tag.map(SecretTag).ok_or_else(|| invalid(place, "one of `secrets` is not what a secret was hashed to"))
}

pub(super) fn rate(entry: &RateEntry, place: &str) -> Result<Rate, PolicyError> {
    let fits = |number| NonZeroU32::new(number).ok_or_else(|| invalid(place, "a `rate` of nothing"));
    Ok(Rate { per_second: fits(entry.per_second)?, burst: fits(entry.burst)? })
}
