//! What there is to know about the issuer, as far as it is true: nobody logs in here, and no ID token is issued.

use std::collections::BTreeSet;

use axum::response::{IntoResponse as _, Response};
use countersign_issuer::RingConfig;
use http::HeaderValue;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;

/// The documents, written once.
#[derive(Clone)]
pub(crate) struct Metadata {
    pub(crate) oauth: Vec<u8>,
    /// The same where tokens are bound to certificates (RFC 8705 §3.3).
    pub(crate) oauth_bound: Vec<u8>,
    pub(crate) openid: Vec<u8>,
    /// The path of the issuer, which is in that of its documents: empty, or `/…` without a slash at its end.
    pub(crate) path: Box<str>,
}

/// The issuer identifier of an authorization server is an `https` URL without query and fragment (RFC 8414 §2); `http` is
/// for machines that talk to themselves.
pub(crate) fn path_of(issuer: &str) -> Option<(&str, &str)> {
    let scheme = ["https://", "http://"].into_iter().find(|scheme| issuer.starts_with(scheme))?;
    let rest = issuer.get(scheme.len()..)?;
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}*".contains(&byte);
    let end = rest.find('/').unwrap_or(rest.len());
    let is_fit = end > 0 && rest.bytes().all(fits) && !rest.get(..end)?.contains('@');
    let (origin, path) = issuer.split_at(scheme.len() + end);
    is_fit.then_some((origin, path.strip_suffix('/').unwrap_or(path)))
}

impl Metadata {
    /// `None` if the issuer is no such URL.
    pub(crate) fn new(issuer: &str, config: &RingConfig) -> Option<Self> {
        let (origin, path) = path_of(issuer)?;
        let jwks_uri = format!("{origin}/.well-known/jwks.json");
        // Empty lists are said: what is left out has a default that would not be true (RFC 8414 §2).
        let oauth = json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": [],
            "grant_types_supported": [],
        });
        let mut oauth_bound = oauth.clone();
        oauth_bound["tls_client_certificate_bound_access_tokens"] = true.into();
        let algorithms: BTreeSet<_> = config.slots.iter().map(|slot| slot.algorithm.name()).collect();
        // What libraries that discover an issuer want before they verify any token of its.
        let openid = json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "id_token_signing_alg_values_supported": algorithms,
        });
        Some(Self {
            oauth: oauth.to_string().into(),
            oauth_bound: oauth_bound.to_string().into(),
            openid: openid.to_string().into(),
            path: path.into(),
        })
    }
}

/// A public document that seldom changes.
pub(crate) fn answer(document: Vec<u8>) -> Response {
    let mut response = document.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
