//! An issuer that says in its metadata where its keys are (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_token::{Fetch, FetchError, FetchRequest, json};
use tokio::time::Instant;
use url::Url;

use crate::address::{self, is_internal, is_loopback};
use crate::driver::shown;
use crate::jwks_url::JwksUrl;
use crate::load::{Landing, Load, Loading, Look};

/// The longest metadata document, bytes: the largest that large issuers publish have some 10 kB.
const MAX_METADATA_BYTES: usize = 128 * 1024;

/// The most members of a metadata document; those that are registered are some sixty.
const MAX_METADATA_MEMBERS: usize = 1024;

/// The longest `jwks_uri`, bytes.
const MAX_URI_BYTES: usize = 2048;

/// For how long metadata is used without another look at it. Where an issuer keeps its keys changes once in years.
const METADATA_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long keys are not looked for at the place that is known because the metadata is read again: half of what requests wait.
const METADATA_PATIENCE: Duration = Duration::from_secs(1);

/// The least time between two looks at metadata as long as a place is known. A missing key may be at a new place, so that
/// strangers with made-up key names can make us look this often.
const METADATA_SPACING: Duration = Duration::from_secs(60);

pub(crate) struct Discovery {
    issuer: Arc<str>,
    /// Where the metadata may be, in the order in which they are tried.
    documents: [String; 2],
    /// Which of them is tried first, while neither is known to be there.
    first: AtomicUsize,
    origin: url::Origin,
    /// Whether the issuer itself is on this machine or in a private network.
    is_internal: bool,
    same_origin: bool,
    allow_http: bool,
    allow_loopback_http: bool,
    fetch: Arc<dyn Fetch>,
    known: Mutex<Option<Known>>,
}

/// What the metadata said.
struct Known {
    keys: Arc<JwksUrl>,
    jwks_uri: Url,
    /// Which of the documents has it.
    document: usize,
    /// When it was last read, or when reading it was last tried.
    tried: Instant,
    /// Whether the keys were not to be had there.
    doubted: bool,
}

/// Why a document says nothing of where the keys are.
struct Fault {
    error: String,
    retry_after: Option<Duration>,
}

impl Discovery {
    /// `url` is the issuer's name, parsed.
    pub(crate) fn new(issuer: Arc<str>, url: &Url, fetch: Arc<dyn Fetch>) -> Self {
        let path = url.path().trim_end_matches('/');
        let at = |path: String| {
            let mut url = url.clone();
            url.set_path(&path);
            String::from(url)
        };
        let documents = [
            at(format!("{path}/.well-known/openid-configuration")),
            at(format!("/.well-known/oauth-authorization-server{path}")),
        ];
        let (origin, is_internal, known) = (url.origin(), is_internal(url), Mutex::new(None));
        let (same_origin, allow_http, allow_loopback_http) = (false, false, false);
        let first = AtomicUsize::new(0);
        Self {
            issuer,
            documents,
            first,
            origin,
            is_internal,
            same_origin,
            allow_http,
            allow_loopback_http,
            fetch,
            known,
        }
    }

    /// `jwks_uri` must have the issuer's own scheme, host and port.
    pub(crate) fn same_origin(mut self) -> Self {
        self.same_origin = true;
        self
    }

    /// Whether a `jwks_uri` may be plain `http`: anywhere, or on this machine.
    pub(crate) fn allow_http(mut self, anywhere: bool, loopback: bool) -> Self {
        (self.allow_http, self.allow_loopback_http) = (anywhere, loopback);
        self
    }

    async fn look(&self, look: Look) -> Landing {
        let deadline = Instant::now() + look.timeout;
        let keys = match self.place(&look).await {
            Ok(keys) => keys,
            Err((error, retry_after)) => return Landing::Failed { error, retry_after },
        };
        let timeout = deadline.saturating_duration_since(Instant::now());
        let landing = keys.load(Look { timeout, ..look }).await;
        if matches!(landing, Landing::Failed { .. })
            && let Some(known) = self.known().as_mut()
        {
            known.doubted = true;
        }
        landing
    }

    /// Where the keys are: as far as is known, unless it is time to ask again.
    async fn place(&self, look: &Look) -> Result<Arc<JwksUrl>, (String, Option<Duration>)> {
        let now = Instant::now();
        let (known, first) = match self.known().as_mut() {
            Some(known) => {
                let age = now.saturating_duration_since(known.tried);
                let may_have_moved = (look.revalidate || known.doubted) && age >= METADATA_SPACING;
                if age < METADATA_LIFETIME && !may_have_moved {
                    return Ok(Arc::clone(&known.keys));
                }
                known.tried = now;
                (Some(Arc::clone(&known.keys)), known.document)
            }
            None => (None, self.first.load(Ordering::Relaxed)),
        };
        // Where a place is known, requests wait for the keys from there meanwhile.
        let timeout = if known.is_some() { METADATA_PATIENCE.min(look.timeout / 2) } else { look.timeout };
        match tokio::time::timeout(timeout, self.discover(first, timeout, look.revalidate)).await {
            Ok(Ok((document, jwks_uri))) => Ok(self.learn(document, jwks_uri, now)),
            failed => {
                let (error, retry_after) =
                    failed.unwrap_or_else(|_| Err((TIMED_OUT.into(), None))).err().unwrap_or_default();
                match known {
                    Some(keys) => {
                        tracing::warn!(
                            issuer = %self.issuer,
                            error = %shown(&error),
                            "the metadata cannot be used; the keys are looked for where they were",
                        );
                        Ok(keys)
                    }
                    None => Err((error, retry_after)),
                }
            }
        }
    }

    /// Remembers the place. The same as before keeps what is known of it.
    fn learn(&self, document: usize, jwks_uri: Url, now: Instant) -> Arc<JwksUrl> {
        let mut known = self.known();
        let keys = match known.as_ref() {
            Some(known) if known.jwks_uri == jwks_uri => Arc::clone(&known.keys),
            _ => Arc::new(JwksUrl::new(jwks_uri.clone(), Arc::clone(&self.fetch))),
        };
        *known = Some(Known { keys: Arc::clone(&keys), jwks_uri, document, tried: now, doubted: false });
        keys
    }

    /// Reads the document that is known to be there, and the other one if that is of no use.
    async fn discover(
        &self,
        first: usize,
        timeout: Duration,
        revalidate: bool,
    ) -> Result<(usize, Url), (String, Option<Duration>)> {
        let (mut errors, mut retry_after) = (Vec::new(), None);
        for document in [first, 1 - first] {
            // If it hangs, the other one comes first the next time.
            self.first.store(1 - document, Ordering::Relaxed);
            match self.read(document, timeout, revalidate).await {
                Ok(jwks_uri) => return Ok((document, jwks_uri)),
                Err(fault) => {
                    errors.push(fault.error);
                    retry_after = retry_after.max(fault.retry_after);
                }
            }
        }
        Err((format!("metadata: {}", errors.join("; and ")), retry_after))
    }

    async fn read(&self, document: usize, timeout: Duration, revalidate: bool) -> Result<Url, Fault> {
        let fault = |error: String| Fault { error, retry_after: None };
        let mut request = FetchRequest::new(self.documents[document].clone(), MAX_METADATA_BYTES, timeout);
        request.revalidate = revalidate;
        let fetched = self.fetch.fetch(request).await.map_err(|error| fault(error.to_string()))?;
        match fetched.status {
            200 if fetched.body.len() > MAX_METADATA_BYTES => Err(fault(FetchError::TooLarge.to_string())),
            200 => self.jwks_uri(&fetched.body).map_err(|error| fault(error.into())),
            300..=399 => Err(fault(FetchError::Redirected.to_string())),
            status => Err(Fault { error: format!("the answer has status {status}"), retry_after: fetched.retry_after }),
        }
    }

    /// What the metadata says, if it is this issuer's.
    fn jwks_uri(&self, metadata: &[u8]) -> Result<Url, &'static str> {
        let (mut issuer, mut jwks_uri) = (None, None);
        json::members(metadata, MAX_METADATA_MEMBERS, |name, value| match &*name {
            "issuer" => issuer = value.string(),
            "jwks_uri" => jwks_uri = value.string(),
            _ => {}
        })
        .map_err(|_| "not one JSON object, each name once")?;
        // RFC 8414 §3.3, OpenID Connect Discovery 1.0 §4.3: identical, without any normalisation.
        if issuer.as_deref() != Some(&*self.issuer) {
            return Err("its `issuer` is another one");
        }
        let jwks_uri = jwks_uri.filter(|uri| uri.len() <= MAX_URI_BYTES).ok_or("it has no `jwks_uri`")?;
        let url = address::parse(&jwks_uri).map_err(|_| "its `jwks_uri` is not a URL that keys may be fetched from")?;
        let is_allowed = url.scheme() == "https" || self.allow_http || (self.allow_loopback_http && is_loopback(&url));
        if !is_allowed {
            return Err("its `jwks_uri` is plain http");
        }
        if is_internal(&url) && !self.is_internal {
            return Err("its `jwks_uri` leads into a private network, where the issuer is not");
        }
        if self.same_origin && url.origin() != self.origin {
            return Err("its `jwks_uri` is at another origin");
        }
        Ok(url)
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        // Nothing in the critical sections can leave it half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load for Discovery {
    fn load(&self, look: Look) -> Loading<'_> {
        Box::pin(self.look(look))
    }
}

const TIMED_OUT: &str = "metadata: timed out";

#[cfg(test)]
#[cfg(feature = "reqwest")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn discovery() -> Discovery {
        let issuer = "https://a.example/t";
        let fetch = Arc::new(crate::HttpFetch::new());
        Discovery::new(issuer.into(), &Url::parse(issuer).unwrap(), fetch)
    }

    /// As those do who issue credentials too (OpenID4VCI §12.2.4), under names of their own choice.
    #[test]
    fn metadata_may_have_objects_of_many_members() {
        let offered: serde_json::Map<_, _> =
            (0..17).map(|n| (format!("credential {n}"), serde_json::json!({}))).collect();
        let metadata = serde_json::json!({
            "issuer": "https://a.example/t", "jwks_uri": "https://a.example/k", "credential_configurations_supported": offered,
        });
        assert_eq!(
            discovery().jwks_uri(metadata.to_string().as_bytes()).map(|url| url.to_string()),
            Ok("https://a.example/k".into())
        );
    }

    proptest! {
        #[test]
        fn no_metadata_panics_or_leads_to_anything_but_https(garbage: Vec<u8>, uri in r"\PC{0,60}", scheme in "(https?|file|ftp|data):[/\\\\]{0,3}") {
            prop_assert!(discovery().jwks_uri(&garbage).is_err());
            for uri in [uri.clone(), format!("{scheme}{uri}")] {
                let metadata = serde_json::json!({ "issuer": "https://a.example/t", "jwks_uri": uri }).to_string();
                if let Ok(url) = discovery().jwks_uri(metadata.as_bytes()) {
                    prop_assert_eq!(url.scheme(), "https");
                    prop_assert!(url.has_host() && url.username().is_empty() && url.password().is_none());
                }
            }
        }

        #[test]
        fn metadata_of_an_issuer_with_any_other_name_is_not_used(issuer in r"\PC{0,40}") {
            let metadata = serde_json::json!({ "issuer": issuer, "jwks_uri": "https://a.example/k" }).to_string();
            prop_assert_eq!(discovery().jwks_uri(metadata.as_bytes()).is_ok(), issuer == "https://a.example/t");
        }
    }
}
