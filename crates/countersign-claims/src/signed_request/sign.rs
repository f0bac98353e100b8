use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_token::{SignError, SigningKey};
use serde::Serialize;

use super::url::{self, BadUrl};
use super::{BodyDigest, MAX_LIFETIME, SHARED_SECRET, TYPE};
use crate::time::UnixTime;

/// The client's side: makes the token for each of its requests.
pub struct RequestSigner {
    key: SigningKey,
    client: Box<str>,
    audience: Box<str>,
    lifetime: Duration,
}

/// Why a request is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignRequestError {
    /// The key is a secret that the service has, too.
    SharedSecret,
    /// The client or the audience is empty.
    Empty(&'static str),
    /// The method is none (RFC 9110 §9.1).
    Method,
    /// The URL has to be written otherwise.
    Url(BadUrl),
    /// The key did not sign.
    Sign(SignError),
}

impl fmt::Display for SignRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedSecret => f.write_str(SHARED_SECRET),
            Self::Empty(what) => write!(f, "the {what} is empty"),
            Self::Method => f.write_str("that is no method"),
            Self::Url(error) => error.fmt(f),
            Self::Sign(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SignRequestError {}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    body_sha256: &'a str,
}

impl RequestSigner {
    /// Signs as `client`, for the service that calls itself `audience`.
    ///
    /// # Errors
    /// [`SignRequestError::SharedSecret`] and [`Empty`](SignRequestError::Empty).
    pub fn new(
        key: SigningKey,
        client: impl Into<Box<str>>,
        audience: impl Into<Box<str>>,
    ) -> Result<Self, SignRequestError> {
        let (client, audience) = (client.into(), audience.into());
        if key.algorithm().is_symmetric() {
            return Err(SignRequestError::SharedSecret);
        }
        for (what, text) in [("client", &client), ("audience", &audience)] {
            if text.is_empty() {
                return Err(SignRequestError::Empty(what));
            }
        }
        Ok(Self { key, client, audience, lifetime: MAX_LIFETIME })
    }

    /// How long each is good for, in whole seconds: [`MAX_LIFETIME`] unless it is said, and never more than that.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.min(MAX_LIFETIME);
        self
    }

    /// The token for one request at the time `now`: the URL as it will be sent, the body as a whole (empty if there is none).
    ///
    /// # Errors
    /// [`SignRequestError`].
    pub fn sign(&self, method: &str, url: &str, body: &[u8], now: UnixTime) -> Result<String, SignRequestError> {
        self.sign_digest(method, url, &BodyDigest::of(body), now)
    }

    /// The same for a body of which only the digest is there.
    ///
    /// # Errors
    /// [`SignRequestError`].
    pub fn sign_digest(
        &self,
        method: &str,
        url: &str,
        body: &BodyDigest,
        now: UnixTime,
    ) -> Result<String, SignRequestError> {
        let is_method = !method.is_empty()
            && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_method {
            return Err(SignRequestError::Method);
        }
        url::check(url).map_err(SignRequestError::Url)?;
        let mut name = [0; 16];
        aws_lc_rs::rand::fill(&mut name).map_err(|_| SignRequestError::Sign(SignError::Crypto))?;
        let claims = Claims {
            iss: &self.client,
            sub: &self.client,
            aud: &self.audience,
            iat: now.as_secs(),
            exp: UnixTime::from_secs(now.as_secs()).saturating_add(self.lifetime).as_secs(),
            jti: &BASE64_URL_SAFE_NO_PAD.encode(name),
            htm: method,
            htu: url,
            body_sha256: &body.to_string(),
        };
        self.key.sign_as(TYPE, &claims).map_err(SignRequestError::Sign)
    }
}

impl fmt::Debug for RequestSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSigner")
            .field("client", &self.client)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}
