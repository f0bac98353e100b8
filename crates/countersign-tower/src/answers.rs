//! How refusals are worded, and who hears of them: what a layer shares with the handlers behind it.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use countersign_claims::{Clock, ConfigError, Denied, UnixTime, Verified};
use http::uri::Scheme;
use http::{HeaderMap, Method, Response, Uri};

use crate::SystemClock;
use crate::challenge::{DEFAULT_REALM, Wording, is_quotable};
use crate::observe::{Count, Judged, Observer, Outcome};
use crate::refusal::Refusal;
use crate::{grpc, response};

#[derive(Clone)]
pub(crate) struct Answers {
    pub(crate) realm: Option<Box<str>>,
    pub(crate) resource_metadata: Option<Box<str>>,
    /// Whether gRPC callers are answered as gRPC does it.
    pub(crate) grpc: bool,
    /// What a caller without a token should ask its issuer for.
    pub(crate) scope: Box<str>,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    /// The layer's, if it is not the system's.
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { realm: None, resource_metadata: None, grpc: true, scope: "".into(), observers: Vec::new(), clock: None }
    }
}

impl Answers {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if let Some(realm) = &self.realm {
            if realm.is_empty() {
                return Err(ConfigError::Empty("realm"));
            }
            if !realm.bytes().all(is_quotable) {
                return Err(ConfigError::Other("a realm is printable ASCII without `\"` and `\\`".into()));
            }
        }
        match &self.resource_metadata {
            Some(url) if !is_absolute_http(url) => Err(ConfigError::Other(
                format!("resource metadata is at an absolute http or https URL, in printable ASCII, not {url:?}")
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether handlers behind the layer would answer otherwise than without knowing of it.
    pub(crate) fn matter_to_handlers(&self) -> bool {
        self.realm.is_some()
            || self.resource_metadata.is_some()
            || !self.grpc
            || !self.scope.is_empty()
            || !self.observers.is_empty()
            || self.clock.is_some()
    }

    /// The time by the clock of the layer that this token was let in by.
    pub(crate) fn now(verified: &Verified) -> UnixTime {
        let answers = Self::of(verified);
        let clock = answers.as_deref().and_then(|answers| answers.clock.as_deref());
        clock.map_or_else(|| SystemClock.now(), Clock::now)
    }

    /// Those of the layer that has let this request through.
    pub(crate) fn of(verified: &Verified) -> Option<Arc<Self>> {
        Arc::clone(verified.context()?).downcast().ok()
    }

    /// A copy, with a reference count of its own.
    pub(crate) fn as_context(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(self.clone())
    }

    /// The protocol that a request is answered in; `None` is plain HTTP.
    pub(crate) fn kind(&self, method: &Method, headers: &HeaderMap) -> Option<grpc::Kind> {
        if self.grpc { grpc::Kind::of(method, headers) } else { None }
    }

    /// The same, where there need not be a layer.
    pub(crate) fn kind_or_default(answers: Option<&Self>, method: &Method, headers: &HeaderMap) -> Option<grpc::Kind> {
        answers.map_or_else(|| grpc::Kind::of(method, headers), |answers| answers.kind(method, headers))
    }

    /// A refusal, but for its body.
    pub(crate) fn refuse(&self, refusal: Refusal, method: &Method, headers: &HeaderMap) -> Response<()> {
        let wording = Wording { realm: Some(self.realm.as_deref().unwrap_or(DEFAULT_REALM)), ..self.wording() };
        response::refusal(refusal, self.kind(method, headers), &wording)
    }

    /// The refusal of a handler that need not have seen the request; the observers hear of it. `scope` is what the handler itself needs,
    /// for callers who have no token yet: the operation needs that and what the layer needs (MCP: all at once).
    pub(crate) fn refuse_in_handler(
        answers: Option<&Self>,
        refusal: Refusal,
        kind: Option<grpc::Kind>,
        scope: &str,
    ) -> Response<()> {
        let all = union(answers.map_or("", |answers| &answers.scope), scope);
        let scope = Some(&*all).filter(|scope| !scope.is_empty());
        let Some(answers) = answers else {
            return response::refusal(refusal, kind, &Wording { scope, ..Wording::default() });
        };
        answers.report_handler(&refusal);
        response::refusal(refusal, kind, &Wording { scope, ..answers.wording() })
    }

    /// What a handler behind the layer denies: its client must not lose, by asking for what the handler needs, what the layer needs.
    pub(crate) fn denied(denied: Denied, verified: &Verified) -> Denied {
        match Self::of(verified) {
            Some(answers) => denied.keeping(answers.scope.split(' ').filter(|scope| verified.has_scope(scope))),
            None => denied,
        }
    }

    pub(crate) fn report(&self, judged: &Judged<'_>) {
        for observer in &self.observers {
            observer.judged(judged);
        }
    }

    pub(crate) fn report_handler(&self, refusal: &Refusal) {
        let outcome = Outcome::Refused(refusal);
        self.report(&Judged { outcome, issuer: None, took: None, waited: None, by_handler: true });
    }

    pub(crate) fn wording(&self) -> Wording<'_> {
        Wording {
            realm: self.realm.as_deref(),
            resource_metadata: self.resource_metadata.as_deref(),
            scope: Some(&*self.scope).filter(|scope| !scope.is_empty()),
        }
    }
}

/// Space-separated names, each once.
fn union<'a>(one: &'a str, other: &'a str) -> Cow<'a, str> {
    if one.is_empty() {
        return other.into();
    }
    let mut all = Cow::Borrowed(one);
    for scope in other.split(' ').filter(|scope| !scope.is_empty()) {
        if !all.split(' ').any(|known| known == scope) {
            let all = all.to_mut();
            all.push(' ');
            all.push_str(scope);
        }
    }
    all
}

/// With a host, and with nothing that may not stand between the quotes of a challenge.
fn is_absolute_http(url: &str) -> bool {
    let is_http = |scheme: &Scheme| *scheme == Scheme::HTTPS || *scheme == Scheme::HTTP;
    url.bytes().all(is_quotable)
        && url
            .parse()
            .is_ok_and(|url: Uri| url.scheme().is_some_and(is_http) && url.host().is_some_and(|host| !host.is_empty()))
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("realm", &self.realm)
            .field("resource_metadata", &self.resource_metadata)
            .field("grpc", &self.grpc)
            .field("observers", &Count(self.observers.len()))
            .finish_non_exhaustive()
    }
}
