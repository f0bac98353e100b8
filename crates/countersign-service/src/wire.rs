//! Requests and answers as JSON. Read strictly: one object in UTF-8, no member that is not known, none twice at any
//! depth.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::Algorithm;
use countersign::token::json::{Members, ObjectError, Raw};
use countersign_issuer::Minted;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::certificate::THUMBPRINT_BYTES;
use crate::policy::{Confirmation, Request};
use crate::problem::{Body, Problem};

/// Requests of one batch, at most: as many tokens as one call makes within a few milliseconds.
pub const MAX_BATCH: usize = 256;

/// Audiences, scopes and claims of one request, at most: many times what fits into a token of the usual length.
const MAX_MEMBERS: usize = 256;

/// A text that is no request. Says what is wrong with it, and nothing of what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedRequest(Box<str>);

impl fmt::Display for MalformedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MalformedRequest {}

impl Request {
    /// What the body of a `POST /v1/tokens` asks for.
    ///
    /// # Errors
    /// [`MalformedRequest`], for what would be answered with 400.
    ///
    /// ```
    /// use countersign_service::policy::Request;
    ///
    /// let request = Request::from_json(br#"{ "profile": "access", "aud": ["orders"] }"#)?;
    /// assert_eq!(request, Request::new("access").audience("orders"));
    /// assert!(Request::from_json(br#"{ "profile": "access", "iss": "https://issuer.example" }"#).is_err());
    /// # Ok::<(), countersign_service::MalformedRequest>(())
    /// ```
    pub fn from_json(body: &[u8]) -> Result<Self, MalformedRequest> {
        request(body).map_err(|problem| MalformedRequest(problem.detail().into()))
    }
}

/// One request.
pub(crate) fn request(text: &[u8]) -> Result<Request, Problem> {
    let text = utf8(text)?;
    read_request(text)
}

/// `{"requests": [ … ]}`. Those that are malformed are refused by themselves.
pub(crate) fn batch(text: &[u8]) -> Result<Vec<Result<Request, Problem>>, Problem> {
    let text = utf8(text)?;
    let mut members = Members::new();
    members.read(text).map_err(not_an_object)?;
    let mut requests = None;
    for (name, value) in members.iter() {
        match &*name.text() {
            "requests" => requests = value.elements(),
            _ => return Err(unknown_member()),
        }
    }
    let requests = requests.ok_or_else(|| Problem::invalid("`requests` must be an array"))?;
    let requests: Vec<_> = requests.take(MAX_BATCH + 1).collect();
    if requests.is_empty() || requests.len() > MAX_BATCH {
        return Err(Problem::invalid("`requests` must have 1 to 256 elements").most(MAX_BATCH as u64));
    }
    Ok(requests.into_iter().map(|one| read_request(one.plain_text().unwrap_or_default())).collect())
}

fn read_request(text: &str) -> Result<Request, Problem> {
    let mut members = Members::new();
    members.read(text).map_err(not_an_object)?;
    let mut profile = None;
    let (mut subject, mut lifetime, mut algorithm, mut bits) = (None, None, None, None);
    let (mut delay, mut confirmation) = (None, None);
    let (mut audiences, mut scopes, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in members.iter() {
        match &*name.text() {
            "profile" => profile = Some(self::text(value, "`profile` must be a string")?),
            "sub" => subject = Some(self::text(value, "`sub` must be a string without control characters")?),
            "aud" => audiences = self::audiences(value)?,
            "scope" => scopes = self::scopes(value)?,
            "ttl" => lifetime = Some(number(value, "`ttl` must be a whole number of seconds, 1 to 4294967295")?),
            "nbf_delay" => delay = Some(number(value, "`nbf_delay` must be whole seconds, 1 to 4294967295")?),
            "cnf" => confirmation = Some(self::confirmation(value)?),
            "key_bits" => bits = Some(number(value, "`key_bits` must be a whole number")?),
            "alg" => {
                let known = value.string().and_then(|name| Algorithm::from_name(&name));
                algorithm = Some(known.ok_or_else(|| Problem::invalid("`alg` is the name of no known algorithm"))?);
            }
            "claims" => claims = self::claims(value)?,
            _ => return Err(unknown_member()),
        }
    }
    let mut request = Request::new(profile.ok_or_else(|| Problem::invalid("`profile` is missing"))?);
    request = audiences.into_iter().fold(request, Request::audience);
    request = scopes.into_iter().fold(request, Request::scope);
    request = claims.into_iter().fold(request, |request, (name, json)| request.claim(name, json));
    if let Some(subject) = subject {
        request = request.subject(subject);
    }
    if let Some(seconds) = lifetime {
        request = request.lifetime(Duration::from_secs(seconds.into()));
    }
    if let Some(seconds) = delay {
        request = request.not_before(Duration::from_secs(seconds.into()));
    }
    if let Some(confirmation) = confirmation {
        request = request.confirmation(confirmation);
    }
    if let Some(algorithm) = algorithm {
        request = request.algorithm(algorithm);
    }
    if let Some(bits) = bits {
        request = request.rsa_bits(bits);
    }
    Ok(request)
}

pub(crate) fn utf8(text: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(text).map_err(|_| not_an_object(ObjectError::NotAnObject))
}

/// Not empty: an empty name is nobody's.
pub(crate) fn text(value: Raw<'_>, otherwise: &'static str) -> Result<Box<str>, Problem> {
    value.string().and_then(fit_text).ok_or_else(|| Problem::invalid(otherwise))
}

fn fit_text(text: Cow<'_, str>) -> Option<Box<str>> {
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.into())
}

fn audiences(value: Raw<'_>) -> Result<Vec<Box<str>>, Problem> {
    let texts = match value.elements() {
        None => value.string().and_then(fit_text).map(|one| vec![one]),
        Some(elements) => {
            elements.take(MAX_MEMBERS + 1).map(|one| one.string().and_then(fit_text)).collect::<Option<Vec<_>>>()
        }
    };
    let texts = texts.filter(|texts| texts.len() <= MAX_MEMBERS);
    texts.ok_or_else(|| Problem::invalid("`aud` must be a string, or an array of at most 256 strings"))
}

/// As RFC 6749 §3.3 writes them; an empty text is none.
fn scopes(value: Raw<'_>) -> Result<Vec<Box<str>>, Problem> {
    let fits = |byte: u8| matches!(byte, 0x20 | 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    let text = value.string().filter(|text| text.bytes().all(fits));
    let scopes = text.map(|text| match &*text {
        "" => Vec::new(),
        text => text.split(' ').map(Box::from).collect::<Vec<Box<str>>>(),
    });
    let is_fit = |scopes: &Vec<Box<str>>| scopes.len() <= MAX_MEMBERS && scopes.iter().all(|one| !one.is_empty());
    scopes.filter(is_fit).ok_or_else(|| Problem::invalid("`scope` must be names with one space between them"))
}

/// Name and JSON of each.
type Claims = Vec<(Box<str>, Box<str>)>;

fn claims(value: Raw<'_>) -> Result<Claims, Problem> {
    let mut members = Members::new();
    let read = value.plain_text().map(|text| members.read(text));
    if !matches!(read, Some(Ok(()))) || members.iter().count() > MAX_MEMBERS {
        return Err(Problem::invalid("`claims` must be an object of at most 256 members"));
    }
    Ok(members.iter().map(|(name, value)| (name.text().into(), value.text().into())).collect())
}

/// `{"x5t#S256": …}` or `{"jkt": …}`: the SHA-256 of a certificate or of a key, and nothing beside it.
fn confirmation(value: Raw<'_>) -> Result<Confirmation, Problem> {
    let mut members = Members::new();
    let read = value.plain_text().map(|text| members.read(text));
    let mut there = members.iter().filter(|_| matches!(read, Some(Ok(()))));
    let confirmation = match (there.next(), there.next()) {
        (Some((name, value)), None) => {
            let is_thumbprint = |text: &Cow<'_, str>| {
                BASE64_URL_SAFE_NO_PAD.decode(&**text).is_ok_and(|octets| octets.len() == THUMBPRINT_BYTES)
            };
            let thumbprint = value.string().filter(is_thumbprint).map(Box::from);
            match (&*name.text(), thumbprint) {
                ("x5t#S256", Some(thumbprint)) => Some(Confirmation::Certificate(thumbprint)),
                ("jkt", Some(thumbprint)) => Some(Confirmation::Key(thumbprint)),
                _ => None,
            }
        }
        _ => None,
    };
    confirmation
        .ok_or_else(|| Problem::invalid("`cnf` must be one of `x5t#S256` and `jkt` with a SHA-256 in base64url"))
}

/// `60.0` is a whole number, to JSON Schema as to languages that have no others.
fn number(value: Raw<'_>, otherwise: &'static str) -> Result<u32, Problem> {
    let text = value.is_number().then(|| value.plain_text()).flatten();
    let whole = text.map(|text| {
        let parts = text.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|digit| digit == b'0'));
        parts.map_or(text, |(whole, _)| whole)
    });
    let number = whole.and_then(|whole| whole.parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| Problem::invalid(otherwise))
}

pub(crate) fn not_an_object(error: ObjectError) -> Problem {
    Problem::invalid(match error {
        ObjectError::DuplicateMember => "the body has a member twice",
        _ => "the body is not one JSON object, or is nested too deeply",
    })
}

pub(crate) fn unknown_member() -> Problem {
    Problem::invalid("the body has a member that is not known")
}

/// A token that was signed.
#[derive(Serialize)]
pub(crate) struct Answer {
    token: String,
    token_type: &'static str,
    kid: String,
    alg: &'static str,
    jti: String,
    iat: i64,
    exp: i64,
    expires_in: i64,
}

impl Answer {
    /// What is bound to a key of the client's is shown with a proof of it (RFC 9449 §5); with a certificate the
    /// connection is the proof (RFC 8705 §3).
    pub(crate) fn new(minted: Minted, confirmation: Option<&Confirmation>) -> Self {
        let (iat, exp) = (minted.issued_at.as_secs(), minted.expires_at.as_secs());
        Self {
            token: minted.token,
            token_type: if matches!(confirmation, Some(Confirmation::Key(_))) { "DPoP" } else { "Bearer" },
            kid: minted.kid,
            alg: minted.algorithm.name(),
            jti: minted.jti,
            iat,
            exp,
            expires_in: exp - iat,
        }
    }

    pub(crate) fn expires_at(&self) -> i64 {
        self.exp
    }

    pub(crate) fn lifetime(&self) -> i64 {
        self.expires_in
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn jti(&self) -> &str {
        &self.jti
    }
}

/// The answers to a batch, in the order of its requests.
#[derive(Serialize)]
pub(crate) struct Answers<'a> {
    pub(crate) results: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Item<'a> {
    Token(&'a Answer),
    Problem(Body<'a>),
}

/// A JSON text that nobody may keep.
pub(crate) fn no_store(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    let mut response = (status, body.into()).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
