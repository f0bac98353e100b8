use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use countersign_claims::ConfigError;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_TYPE, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode, Uri};
use serde_json::{Map, Value};
use tower_service::Service;

use crate::body::EmptyBody;

/// Where the metadata of a resource without a path is (RFC 9728 §3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata of a protected resource (RFC 9728): who issues tokens for it, and which scopes there are. Clients that know nothing but
/// the resource's URL, such as those of the Model Context Protocol, find it through a challenge
/// ([`resource_metadata`](crate::RequireJwtLayer::resource_metadata)) or at its [well-known path](Self::path).
///
/// ```
/// use countersign_tower::ResourceMetadata;
///
/// let metadata = ResourceMetadata::new("https://api.example/mcp")?
///     .authorization_server("https://login.example")
///     .scopes(["tools:read", "tools:call"]);
/// assert_eq!(metadata.path(), "/.well-known/oauth-protected-resource/mcp");
/// assert_eq!(metadata.url(), "https://api.example/.well-known/oauth-protected-resource/mcp");
/// # Ok::<(), countersign_claims::ConfigError>(())
/// ```
///
/// It is served outside of the layer that demands tokens: by [`service`](Self::service), or, with the feature `axum`, as a response:
/// `Router::route(metadata.path(), get(metadata))`.
#[derive(Clone, Debug)]
pub struct ResourceMetadata {
    path: String,
    url: String,
    members: Map<String, Value>,
}

impl ResourceMetadata {
    /// The metadata of the resource with this identifier: an `https` URL without a fragment (RFC 9728 §1.2), which is the `aud` of tokens
    /// for it. Plain `http` is for loopback.
    ///
    /// # Errors
    /// [`ConfigError`] if it is not such a URL.
    pub fn new(resource: &str) -> Result<Self, ConfigError> {
        let wrong =
            || ConfigError::Other(format!("a resource is an https URL without a fragment, not {resource:?}").into());
        let uri = resource.parse::<Uri>().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let is_loopback = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let scheme = uri.scheme().filter(|scheme| **scheme == Scheme::HTTPS || **scheme == Scheme::HTTP && is_loopback);
        let scheme = scheme.ok_or_else(wrong)?;
        // `Uri` drops a fragment silently.
        if resource.contains('#') {
            return Err(wrong());
        }
        // RFC 9728 §3.1: inserted between host and path; a `/` that is the whole path goes.
        let rest = uri.path_and_query().map_or("", |rest| rest.as_str());
        let rest = rest.strip_prefix('/').filter(|rest| rest.is_empty() || rest.starts_with('?')).unwrap_or(rest);
        let path = format!("{WELL_KNOWN}{rest}");
        let url = format!("{scheme}://{authority}{path}");
        let mut members = Map::new();
        members.insert("resource".into(), resource.into());
        members.insert("bearer_methods_supported".into(), Value::from(vec!["header"]));
        Ok(Self { path: path.split('?').next().unwrap_or_default().to_owned(), url, members })
    }

    /// An issuer whose tokens are accepted. Called again, one more.
    #[must_use]
    pub fn authorization_server(mut self, issuer: &str) -> Self {
        let list = self.members.entry("authorization_servers").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(issuer.into());
        }
        self
    }

    /// The scopes that there are, in place of those before. `offline_access` is no scope of a resource and is left out.
    #[must_use]
    pub fn scopes<'s>(self, scopes: impl IntoIterator<Item = &'s str>) -> Self {
        let scopes: Vec<_> = scopes.into_iter().filter(|scope| *scope != "offline_access").collect();
        self.member("scopes_supported", scopes)
    }

    /// A name for people.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.member("resource_name", name)
    }

    /// Any other member, in place of one of that name. An empty list takes it out (RFC 9728 §3.2); `resource` stays as it is.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if name == "resource" {
            return self;
        }
        match value {
            Value::Array(list) if list.is_empty() => drop(self.members.remove(name)),
            value => drop(self.members.insert(name.into(), value)),
        }
        self
    }

    /// The path to serve it at: the well-known one, with that of the resource after it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its URL, for [challenges](crate::RequireJwtLayer::resource_metadata).
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::Object(self.members.clone()).to_string()
    }

    /// A service that answers `GET` and `HEAD` with the document, to scripts of all origins, because it is public.
    #[must_use]
    pub fn service<ResBody>(&self) -> ResourceMetadataService<ResBody> {
        ResourceMetadataService { json: self.to_json().into(), body: PhantomData }
    }

    /// 200 with the document.
    pub(crate) fn response<ResBody: From<String>>(json: String) -> Response<ResBody> {
        let mut response = Response::new(json.into());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }
}

/// Serves a [`ResourceMetadata`]. Made by [`ResourceMetadata::service`].
pub struct ResourceMetadataService<ResBody> {
    json: Arc<str>,
    body: PhantomData<fn() -> ResBody>,
}

// By hand, because a body need not be `Clone`.
impl<ResBody> Clone for ResourceMetadataService<ResBody> {
    fn clone(&self) -> Self {
        Self { json: Arc::clone(&self.json), body: PhantomData }
    }
}

impl<ResBody> fmt::Debug for ResourceMetadataService<ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResourceMetadataService").field(&self.json).finish()
    }
}

impl<ReqBody, ResBody> Service<Request<ReqBody>> for ResourceMetadataService<ResBody>
where
    ResBody: EmptyBody + From<String>,
{
    type Response = Response<ResBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<ResBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let response = if matches!(*request.method(), Method::GET | Method::HEAD) {
            ResourceMetadata::response(self.json.as_ref().into())
        } else {
            let mut response = Response::new(ResBody::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        };
        ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_39_the_well_known_path_stands_between_host_and_path() {
        for (resource, path, url) in [
            (
                "https://a.example",
                "/.well-known/oauth-protected-resource",
                "https://a.example/.well-known/oauth-protected-resource",
            ),
            (
                "https://a.example/",
                "/.well-known/oauth-protected-resource",
                "https://a.example/.well-known/oauth-protected-resource",
            ),
            (
                "https://a.example:8443/b/c/",
                "/.well-known/oauth-protected-resource/b/c/",
                "https://a.example:8443/.well-known/oauth-protected-resource/b/c/",
            ),
            (
                "https://a.example/b?c=d",
                "/.well-known/oauth-protected-resource/b",
                "https://a.example/.well-known/oauth-protected-resource/b?c=d",
            ),
            (
                "http://127.0.0.1:3000/mcp",
                "/.well-known/oauth-protected-resource/mcp",
                "http://127.0.0.1:3000/.well-known/oauth-protected-resource/mcp",
            ),
        ] {
            let metadata = ResourceMetadata::new(resource).unwrap();
            assert_eq!((metadata.path(), metadata.url()), (path, url));
        }
    }

    #[test]
    fn a_resource_is_an_https_url_without_a_fragment() {
        for resource in [
            "",
            "a",
            "/a",
            "a.example",
            "http://a.example/",
            "ftp://a.example",
            "https://a.example/#b",
            "https://u:p@a.example/",
        ] {
            assert!(ResourceMetadata::new(resource).is_err(), "{resource:?}");
        }
    }

    #[test]
    fn statement_39_the_resource_is_identical_and_empty_lists_are_left_out() {
        let metadata = ResourceMetadata::new("https://a.example/B")
            .unwrap()
            .authorization_server("https://login.example")
            .scopes(["offline_access"])
            .member("bearer_methods_supported", Vec::<String>::new())
            .member("resource", "https://other.example");
        let json: Value = serde_json::from_str(&metadata.to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "resource": "https://a.example/B", "authorization_servers": ["https://login.example"] })
        );
    }
}
