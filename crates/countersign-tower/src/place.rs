use std::fmt;

use countersign_claims::ConfigError;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};

use crate::extract::{bearer_token, is_token_text};
use crate::refusal::Refusal;

/// Where a request carries its token. By default only in the [bearer header](Self::bearer).
///
/// A layer with several places wants the token in one of them: two tokens in a request are 400 `invalid_request`, wherever they are
/// (RFC 6750 §2). A place that is not configured is not looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenPlace(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Bearer,
    Header(HeaderName),
    Cookie(Box<str>),
    Query(Box<str>),
    WebSocketProtocol(Box<str>),
    /// Cannot be: what is wrong with it.
    Wrong(&'static str),
}

impl TokenPlace {
    /// `Authorization: Bearer …` (RFC 6750 §2.1): see [`bearer_token`].
    #[must_use]
    pub fn bearer() -> Self {
        Self(Place::Bearer)
    }

    /// A header whose value is the token and nothing else, as some proxies send it. Whoever is not the proxy must not be able to reach
    /// the service, or to send this header through the proxy; its signature is checked all the same.
    ///
    /// `authorization` and `cookie` are a configuration error.
    #[must_use]
    pub fn header(name: &str) -> Self {
        Self(match HeaderName::try_from(name) {
            Ok(AUTHORIZATION | COOKIE | SEC_WEBSOCKET_PROTOCOL) => Place::Wrong("this header has a syntax of its own"),
            Ok(name) => Place::Header(name),
            Err(_) => Place::Wrong("this is not the name of a header"),
        })
    }

    /// A cookie (RFC 6265), whose name must begin with `__Host-`: a browser takes such a one only over TLS, from this very host, and for
    /// all its paths, so that no neighbouring domain can plant one.
    ///
    /// Browsers send cookies along with requests that other sites make them send. Set it with `SameSite=Strict` or `Lax`, and have
    /// requests that change something carry a proof of their own (a header that scripts must set, or a check of `Origin`).
    #[must_use]
    pub fn cookie(name: &str) -> Self {
        let rest = name.strip_prefix("__Host-").unwrap_or_default();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        Self(if rest.is_empty() || !rest.bytes().all(is_token) {
            Place::Wrong("the name of a cookie with a token is `__Host-` and more, without spaces and separators")
        } else {
            Place::Cookie(name.into())
        })
    }

    /// A parameter of the query, such as `access_token` (RFC 6750 §2.3). URLs are logged by servers and proxies, and kept by browsers:
    /// only where nothing else is possible.
    ///
    /// Answers to such requests get `Cache-Control: private`, unless they say that or `no-store` already.
    #[must_use]
    pub fn query(parameter: &str) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        Self(if parameter.is_empty() || !parameter.bytes().all(is_plain) {
            Place::Wrong("the name of a query parameter with a token has letters, digits, `-`, `.`, `_` and `~`")
        } else {
            Place::Query(parameter.into())
        })
    }

    /// An element of `Sec-WebSocket-Protocol` (RFC 6455 §11.3.4) that begins with `prefix`, such as `bearer.`, and goes on with the token:
    /// scripts in browsers cannot set other headers of a WebSocket.
    ///
    /// The client offers the protocol that it means beside it (`new WebSocket(url, ["chat", "bearer." + token])`), and the server selects
    /// that one; a server that selects the first, or echoes all, sends the token back. [`strip_token`](crate::RequireJwtLayer::strip_token)
    /// takes it out before the server sees it.
    #[must_use]
    pub fn websocket_protocol(prefix: &str) -> Self {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        Self(if prefix.is_empty() || !prefix.bytes().all(is_token) {
            Place::Wrong(
                "the prefix of a WebSocket protocol with a token is not empty and has no spaces and separators",
            )
        } else {
            Place::WebSocketProtocol(prefix.into())
        })
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.0 {
            Place::Wrong(what) => Err(ConfigError::Other(what.into())),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_bearer(&self) -> bool {
        self.0 == Place::Bearer
    }

    fn find<'r>(&self, uri: &'r Uri, headers: &'r HeaderMap) -> Result<Option<&'r str>, Refusal> {
        match &self.0 {
            Place::Bearer => match bearer_token(headers) {
                Ok(token) => Ok(Some(token)),
                Err(Refusal::NoCredentials) => Ok(None),
                Err(refusal) => Err(refusal),
            },
            Place::Header(name) => one(headers.get_all(name).iter().map(HeaderValue::as_bytes)),
            Place::Cookie(name) => one(cookies(headers).filter_map(|pair| value_of(pair, name.as_bytes()))),
            Place::Query(name) => {
                let pairs = uri.query().unwrap_or_default().split('&');
                one(pairs.filter_map(|pair| value_of(pair.as_bytes(), name.as_bytes())))
            }
            Place::WebSocketProtocol(prefix) => {
                one(protocols(headers).filter_map(|protocol| protocol.strip_prefix(prefix.as_bytes())))
            }
            Place::Wrong(_) => Ok(None),
        }
    }

    /// Takes out whatever is in this place, and nothing else.
    fn strip(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        match &self.0 {
            Place::Bearer => drop(headers.remove(AUTHORIZATION)),
            Place::Header(name) => drop(headers.remove(name)),
            Place::Cookie(name) => {
                let kept: Vec<_> = cookies(headers).filter(|pair| value_of(pair, name.as_bytes()).is_none()).collect();
                let kept = kept.join(&b"; "[..]);
                replace(headers, COOKIE, &kept);
            }
            Place::Query(name) => strip_query(uri, name),
            Place::WebSocketProtocol(prefix) => {
                let kept: Vec<_> =
                    protocols(headers).filter(|protocol| !protocol.starts_with(prefix.as_bytes())).collect();
                let kept = kept.join(&b", "[..]);
                replace(headers, SEC_WEBSOCKET_PROTOCOL, &kept);
            }
            Place::Wrong(_) => {}
        }
    }
}

impl fmt::Debug for TokenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Bearer => f.write_str("bearer"),
            Place::Header(name) => write!(f, "header({name})"),
            Place::Cookie(name) => write!(f, "cookie({name})"),
            Place::Query(name) => write!(f, "query({name})"),
            Place::WebSocketProtocol(prefix) => write!(f, "websocket_protocol({prefix})"),
            Place::Wrong(what) => write!(f, "wrong({what})"),
        }
    }
}

/// The places of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Places(Vec<TokenPlace>);

/// A token, and whether it was in the query.
#[derive(Clone, Copy)]
pub(crate) struct FoundToken<'r> {
    pub(crate) token: &'r str,
    pub(crate) in_query: bool,
}

impl Places {
    pub(crate) fn new(places: Vec<TokenPlace>) -> Self {
        Self(places)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Err(ConfigError::Empty("list of places where a token may be"));
        }
        for (index, place) in self.0.iter().enumerate() {
            place.check()?;
            if self.0[..index].contains(place) {
                return Err(ConfigError::Other(format!("the place {place:?} is there twice").into()));
            }
        }
        Ok(())
    }

    #[cfg(feature = "tower-http-0.7")]
    pub(crate) fn have_the_query(&self) -> bool {
        self.0.iter().any(|place| matches!(place.0, Place::Query(_)))
    }

    /// All places are looked at, so that a second token does not depend on their order.
    pub(crate) fn find<'r>(&self, uri: &'r Uri, headers: &'r HeaderMap) -> Result<FoundToken<'r>, Refusal> {
        let mut found = None;
        let mut malformed = None;
        for place in &self.0 {
            match place.find(uri, headers) {
                Ok(None) => {}
                Ok(Some(token)) if found.is_none() => {
                    found = Some(FoundToken { token, in_query: matches!(place.0, Place::Query(_)) });
                }
                Ok(Some(_)) => return Err(Refusal::ManyCredentials),
                Err(refusal @ Refusal::ManyCredentials) => return Err(refusal),
                Err(refusal) => malformed = Some(refusal),
            }
        }
        match malformed {
            Some(refusal) => Err(refusal),
            None => found.ok_or(Refusal::NoCredentials),
        }
    }

    pub(crate) fn strip(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        for place in &self.0 {
            place.strip(uri, headers);
        }
    }
}

/// The only one of `values`, as a token.
fn one<'r>(mut values: impl Iterator<Item = &'r [u8]>) -> Result<Option<&'r str>, Refusal> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::ManyCredentials);
    }
    std::str::from_utf8(value).ok().filter(|text| is_token_text(text)).map(Some).ok_or(Refusal::MalformedCredentials)
}

/// The pairs of all `Cookie` headers: HTTP/2 may split one into several (RFC 9113 §8.2.3).
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(COOKIE).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).map(<[u8]>::trim_ascii)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// What comes after `name=`.
fn value_of<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

/// One header with this value, or none if it is empty.
fn replace(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if !headers.contains_key(&name) {
        return;
    }
    match HeaderValue::from_bytes(value) {
        Ok(value) if !value.is_empty() => drop(headers.insert(name, value)),
        _ => drop(headers.remove(name)),
    }
}

fn strip_query(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let kept: Vec<_> = query.split('&').filter(|pair| value_of(pair.as_bytes(), name.as_bytes()).is_none()).collect();
    let kept = kept.join("&");
    if kept.len() == query.len() {
        return;
    }
    let target = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{kept}", uri.path()) };
    // Both halves have been parts of this URI.
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}
