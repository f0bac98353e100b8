use std::fmt;

use countersign_claims::ConfigError;
use http::header::{
    AUTHORIZATION, COOKIE, Entry, HeaderName, HeaderValue, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};

use crate::extract::{bearer_token, is_of_another_scheme, is_tchar, is_token_text};
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
    /// Headers with a syntax of their own, such as `authorization` and `cookie`, are a configuration error.
    #[must_use]
    pub fn header(name: &str) -> Self {
        Self(match HeaderName::try_from(name) {
            Ok(AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE | SEC_WEBSOCKET_PROTOCOL) => {
                Place::Wrong("this header has a syntax of its own")
            }
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
        Self(if rest.is_empty() || !rest.bytes().all(is_tchar) {
            Place::Wrong("the name of a cookie with a token is `__Host-` and more, without spaces and separators")
        } else {
            Place::Cookie(name.into())
        })
    }

    /// A parameter of the query, such as `access_token` (RFC 6750 §2.3). URLs are logged by servers and proxies, and kept by browsers:
    /// only where nothing else is possible.
    ///
    /// The name counts in every spelling that a server reads alike (`access%5Ftoken`), so that nobody smuggles a second token past this
    /// layer; a token needs no escapes, and one with escapes is malformed.
    ///
    /// Answers to callers with such a token get `Cache-Control: private` in place of `public` and `s-maxage`, unless they say that or
    /// `no-store` already.
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
        Self(if prefix.is_empty() || !prefix.bytes().all(is_tchar) {
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
                one(pairs.filter_map(|pair| parameter(pair, name)).map(str::as_bytes))
            }
            Place::WebSocketProtocol(prefix) => {
                one(protocols(headers).filter_map(|protocol| protocol.strip_prefix(prefix.as_bytes())))
            }
            Place::Wrong(_) => Ok(None),
        }
    }

    /// Takes out whatever is in this place, and nothing else.
    pub(crate) fn strip(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        match &self.0 {
            Place::Bearer => strip_bearer(headers),
            Place::Header(name) => drop(headers.remove(name)),
            Place::Cookie(name) => {
                strip_elements(headers, &COOKIE, (b';', b"; "), |pair| value_of(pair, name.as_bytes()).is_some());
            }
            Place::Query(name) => strip_query(uri, name),
            Place::WebSocketProtocol(prefix) => {
                let is_token = |protocol: &[u8]| protocol.starts_with(prefix.as_bytes());
                strip_elements(headers, &SEC_WEBSOCKET_PROTOCOL, (b',', b", "), is_token);
            }
            Place::Wrong(_) => {}
        }
    }
}

impl TokenPlace {
    /// Whether the same text would be found in both.
    fn overlaps(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::WebSocketProtocol(one), Place::WebSocketProtocol(other)) => {
                one.starts_with(&**other) || other.starts_with(&**one)
            }
            (one, other) => one == other,
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
            if let Some(earlier) = self.0[..index].iter().find(|earlier| earlier.overlaps(place)) {
                let text = format!("a token in the place {place:?} would be one in {earlier:?} too");
                return Err(ConfigError::Other(text.into()));
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
        for place in &self.0 {
            let here = match place.find(uri, headers) {
                Ok(None) => continue,
                Ok(Some(token)) => Ok(FoundToken { token, in_query: matches!(place.0, Place::Query(_)) }),
                Err(refusal) => Err(refusal),
            };
            // Something that is no token is one of two all the same.
            if found.replace(here).is_some() {
                return Err(Refusal::ManyCredentials);
            }
        }
        found.unwrap_or(Err(Refusal::NoCredentials))
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

/// What comes after `name=`, whatever of the name is escaped. A bare name has an empty value, as forms have it.
fn parameter<'q>(pair: &'q str, name: &str) -> Option<&'q str> {
    let (written, value) = pair.split_once('=').unwrap_or((pair, ""));
    unescaped(written.as_bytes()).eq(name.bytes()).then_some(value)
}

/// Each `%XX` as its octet; what is no escape stays.
fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut rest = text;
    std::iter::from_fn(move || {
        let (byte, after) = match *rest {
            [b'%', high, low, ref after @ ..] => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            [byte, ref after @ ..] => (byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

/// Credentials of other schemes are not for this layer, and stay.
fn strip_bearer(headers: &mut HeaderMap) {
    retain(headers, &AUTHORIZATION, |value| if is_of_another_scheme(value) { Some(value.clone()) } else { None });
}

/// Takes elements out of a list. The values of the header in which there is none stay octet by octet.
fn strip_elements(
    headers: &mut HeaderMap,
    name: &HeaderName,
    (separator, joint): (u8, &[u8]),
    is_token: impl Fn(&[u8]) -> bool,
) {
    retain(headers, name, |value| {
        let elements = || value.as_bytes().split(|byte| *byte == separator).map(<[u8]>::trim_ascii);
        if !elements().any(&is_token) {
            return Some(value.clone());
        }
        let kept: Vec<_> = elements().filter(|element| !is_token(element)).collect();
        let mut kept = HeaderValue::from_bytes(&kept.join(joint)).ok().filter(|value| !value.is_empty())?;
        kept.set_sensitive(value.is_sensitive());
        Some(kept)
    });
}

/// Has `keep` say what becomes of each value of a header.
fn retain(headers: &mut HeaderMap, name: &HeaderName, keep: impl Fn(&HeaderValue) -> Option<HeaderValue>) {
    let Entry::Occupied(sent) = headers.entry(name) else { return };
    let mut kept = sent.iter().filter_map(keep).collect::<Vec<_>>().into_iter();
    // Taken out only if nothing is left: the others keep their place among the headers.
    match kept.next() {
        None => drop(sent.remove_entry_mult()),
        Some(first) => {
            let mut left = sent;
            left.insert(first);
            kept.for_each(|value| left.append(value));
        }
    }
}

fn strip_query(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let is_token = |pair: &&str| parameter(pair, name).is_some();
    if !query.split('&').any(|pair| is_token(&pair)) {
        return;
    }
    let kept: Vec<_> = query.split('&').filter(|pair| !is_token(pair)).collect();
    let kept = kept.join("&");
    let target = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{kept}", uri.path()) };
    // Both halves have been parts of this URI.
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}
