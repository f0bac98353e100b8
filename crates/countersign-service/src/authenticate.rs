//! Who is asking. Everything but secrets is a token that the project's own verifier judges: an assertion that the
//! client has signed (RFC 7523 as updated by RFC 10070), one that it has signed for this request, or a token of somebody
//! else's about the workload that it is. All come as bearer tokens. Certificates are TLS's (RFC 8705): here is only said
//! whose they are.

mod certificate;
mod keys;
mod secret;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign::claims::{Policy as ClaimsPolicy, Verified, signed_request};
use countersign::token::{DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, UnverifiedToken};
use countersign::verifier::{Fault, Refusal, Verifier};
use countersign::{Clock, Keys, UnixTime};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use self::certificate::Certificates;
pub(crate) use self::keys::ClientKeys;
pub use self::secret::{ClientSecret, MIN_SECRET_BYTES, SecretKey};
use crate::policy::{KeysFrom, Policy};
use crate::problem::Problem;
use crate::serve::Peer;
use crate::service::BuildError;
use crate::signed;

/// The longest life of an assertion: it is made for one request.
pub const MAX_ASSERTION_LIFETIME: Duration = Duration::from_secs(300);

/// How far the clock of whoever makes an assertion may be off. Shorter than for other tokens: clocks that NTP keeps never need
/// it, and for as long a process that has just begun takes no assertion, lest one before it has taken the same.
pub(crate) const ASSERTION_LEEWAY: Duration = signed_request::LEEWAY;

/// From now to the `exp` of an assertion, at most: the clock of its client may be ahead.
pub(crate) const ASSERTION_WINDOW: Duration = MAX_ASSERTION_LIFETIME.saturating_add(ASSERTION_LEEWAY);

/// Who was recognised, and what must not be seen again.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) client: Box<str>,
    pub(crate) method: &'static str,
    /// Of an assertion: its `jti`, until when it could be offered again, and when it was made if it says so.
    pub(crate) once: Option<Once>,
    /// Of a signed request: the token, which has to be compared with it.
    pub(crate) signed: Option<Verified>,
}

#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) jti: Box<str>,
    pub(crate) until: UnixTime,
    pub(crate) issued_at: Option<UnixTime>,
}

/// What follows from a policy for the recognition of clients.
pub(crate) struct Authenticator {
    assertions: Verifier<ClientKeys>,
    requests: Verifier<ClientKeys>,
    workloads: HashMap<Box<str>, Arc<Workloads>>,
    secrets: Option<SecretKey>,
    certificates: Certificates,
}

/// The verifier of an issuer of workload tokens; it outlives policies that say the same of it, and its keys with it.
struct Workloads {
    from: KeysFrom,
    verifier: Verifier<Keys>,
}

impl Authenticator {
    /// `before` is the one in force, whose keys are taken over.
    fn new(policy: &Policy, issuer: &str, secrets: Option<&SecretKey>, before: Option<&Self>) -> Self {
        let rules = ClaimsPolicy::new().audience(issuer).issuer_of_key().client_authentication_profile();
        let rules = rules.leeway(ASSERTION_LEEWAY);
        // Each comes once, so there is nothing to remember.
        let keys = ClientKeys::of(policy, before.map(Self::client_keys));
        let assertions = Verifier::new(keys.clone(), rules).without_token_cache();
        let requests = Verifier::new(keys, signed::policy(issuer)).without_token_cache();
        let workloads = policy.workload_issuers().map(|(name, from)| {
            let known = before.and_then(|before| before.workloads.get(name)).filter(|known| known.from == *from);
            let workloads = known.map_or_else(|| Arc::new(Workloads::new(name, from, issuer)), Arc::clone);
            (name.into(), workloads)
        });
        let secrets = secrets.filter(|_| policy.allows_basic()).cloned();
        Self { assertions, requests, workloads: workloads.collect(), secrets, certificates: Certificates::of(policy) }
    }

    /// The same, if a service can be under this policy.
    ///
    /// # Errors
    /// [`BuildError`].
    pub(crate) fn build(
        policy: &Policy,
        issuer: &str,
        secrets: Option<&SecretKey>,
        before: Option<&Self>,
    ) -> Result<Self, BuildError> {
        if policy.allows_basic() && secrets.is_none() {
            return Err(BuildError::NoSecretKey);
        }
        let built = Self::new(policy, issuer, secrets, before);
        built.check().map_err(BuildError::Workloads)?;
        Ok(built)
    }

    /// Whether what it was made of goes together: asked before it is put in force.
    fn check(&self) -> Result<(), Box<str>> {
        let text = |error: &dyn std::error::Error| error.to_string().into_boxed_str();
        self.assertions.check().map_err(|error| text(&error))?;
        self.requests.check().map_err(|error| text(&error))?;
        self.workloads.values().try_for_each(|workloads| {
            workloads.verifier.keys().check().map_err(|error| text(&error))?;
            workloads.verifier.check().map_err(|error| text(&error))
        })
    }

    /// Clients that are known by a certificate.
    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    pub(crate) fn client_keys(&self) -> &ClientKeys {
        self.requests.keys()
    }

    /// Who says so in these headers, or by the certificate of the connection; where there are both, neither is another's.
    ///
    /// # Errors
    /// 400 for what are no credentials, 401 for wrong ones and for none, 429 and 503 where they cannot be judged yet.
    pub(crate) async fn recognise(
        &self,
        policy: &Policy,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        clock: &dyn Clock,
    ) -> Result<Caller, Problem> {
        let certificate = peer.and_then(|peer| peer.certificate.as_deref());
        match certificate {
            Some(certificate) if !headers.contains_key(AUTHORIZATION) => {
                self.certificates.recognise(certificate, clock.now())
            }
            _ => {
                let caller = self.by_headers(policy, headers, clock).await?;
                if let Some(certificate) = certificate {
                    self.certificates.agree(certificate, &caller, clock.now())?;
                }
                Ok(caller)
            }
        }
    }

    async fn by_headers(&self, policy: &Policy, headers: &HeaderMap, clock: &dyn Clock) -> Result<Caller, Problem> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(NO_CREDENTIALS).map_err(challenged)?;
        if values.next().is_some() {
            return Err(Problem::malformed_credentials(SEVERAL));
        }
        let value = value.to_str().map_err(|_| MALFORMED).map_err(Problem::malformed_credentials)?;
        let (scheme, rest) = value.split_once(' ').ok_or(MALFORMED).map_err(Problem::malformed_credentials)?;
        let credentials = rest.trim_start_matches(' ');
        if scheme.eq_ignore_ascii_case("Bearer") {
            self.bearer(policy, credentials, clock).await
        } else if scheme.eq_ignore_ascii_case("Basic") && self.secrets.is_some() {
            self.basic(policy, credentials)
        } else {
            Err(challenged(NO_CREDENTIALS))
        }
    }

    async fn bearer(&self, policy: &Policy, token: &str, clock: &dyn Clock) -> Result<Caller, Problem> {
        // Whose verifier is asked follows from who it says it is from, and from what it says it is; that this is so the
        // verifier finds out.
        let (workloads, is_request) = {
            let mut scratch = HeaderScratch::new();
            let token = UnverifiedToken::parse(token, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).map_err(Refusal::from);
            let token = token.map_err(|refusal| refused(&refusal))?;
            let workloads = token.with_unverified_issuer(|issuer| issuer.find_in(&self.workloads).map(Arc::clone));
            (workloads.flatten(), token.header().typ().is_some_and(signed::is_type))
        };
        match workloads {
            Some(workloads) => workloads.recognise(policy, token, clock).await,
            None if is_request => self.request(token, clock).await,
            None => self.assertion(token, clock).await,
        }
    }

    /// Whose request it is, if it is the one that the token was made for.
    async fn request(&self, token: &str, clock: &dyn Clock) -> Result<Caller, Problem> {
        let verified = self.requests.verify_or_wait(token, clock).await.map_err(|refusal| refused(&refusal))?;
        let client = verified.subject().ok_or(REFUSED).map_err(challenged)?.into();
        Ok(Caller { client, method: signed::METHOD, once: None, signed: Some(verified) })
    }

    async fn assertion(&self, token: &str, clock: &dyn Clock) -> Result<Caller, Problem> {
        let verified = self.assertions.verify_or_wait(token, clock).await.map_err(|refusal| refused(&refusal))?;
        let now = clock.now();
        // The profile has demanded them.
        let (Some(client), Some(jti), Some(expires_at)) =
            (verified.subject(), verified.jwt_id(), verified.expires_at())
        else {
            return Err(challenged(REFUSED));
        };
        let issued_at = verified.issued_at();
        let latest =
            issued_at.map_or(now.saturating_add(ASSERTION_WINDOW), |at| at.saturating_add(MAX_ASSERTION_LIFETIME));
        if expires_at > latest || expires_at > now.saturating_add(ASSERTION_WINDOW) {
            return Err(challenged("the assertion lives for more than 300 seconds"));
        }
        let until = expires_at.saturating_add(ASSERTION_LEEWAY);
        let once = Once { jti: jti.into(), until, issued_at };
        Ok(Caller { client: client.into(), method: "private_key_jwt", once: Some(once), signed: None })
    }

    /// RFC 6749 §2.3.1. Neither names nor secrets have characters that would have to be escaped.
    fn basic(&self, policy: &Policy, credentials: &str) -> Result<Caller, Problem> {
        let wrong = || Problem::unknown_client(REFUSED, BASIC);
        let key = self.secrets.as_ref().ok_or_else(wrong)?;
        let text = BASE64_STANDARD.decode(credentials).ok().and_then(|octets| String::from_utf8(octets).ok());
        let text = text.ok_or(MALFORMED).map_err(Problem::malformed_credentials)?;
        let (client, secret) = text.split_once(':').ok_or(MALFORMED).map_err(Problem::malformed_credentials)?;
        let tags = policy.credentials_of(client).map(|credentials| &*credentials.secrets);
        if key.is_one_of(client, secret, tags.unwrap_or_default()) {
            Ok(Caller { client: client.into(), method: "client_secret_basic", once: None, signed: None })
        } else {
            Err(wrong())
        }
    }
}

impl Workloads {
    fn new(issuer: &str, from: &KeysFrom, audience: &str) -> Self {
        let keys = keys::published(issuer, from, |remote| remote);
        // JWT-SVIDs may call themselves so (SPIFFE JWT-SVID §2).
        let policy = ClaimsPolicy::new().issuer(issuer).audience(audience).issuer_of_key().accept_type("JOSE");
        Self { from: from.clone(), verifier: Verifier::new(keys, policy) }
    }

    async fn recognise(&self, policy: &Policy, token: &str, clock: &dyn Clock) -> Result<Caller, Problem> {
        let verified = self.verifier.verify_or_wait(token, clock).await.map_err(|refusal| refused(&refusal))?;
        client_of(policy, &verified)
    }
}

/// The one client that this workload is.
fn client_of(policy: &Policy, verified: &Verified) -> Result<Caller, Problem> {
    let is_one = |credentials: &crate::policy::Credentials| {
        let mut workloads = credentials.workloads.iter();
        workloads.any(|workload| verified.issuer() == Some(&*workload.issuer) && workload.is(verified))
    };
    let mut clients = policy.credentials().filter(|(_, credentials)| is_one(credentials)).map(|(client, _)| client);
    match (clients.next(), clients.next()) {
        (Some(client), None) => Ok(Caller { client: client.into(), method: "workload", once: None, signed: None }),
        (None, _) => Err(challenged("no client is this workload")),
        // Whose grants would count?
        (Some(_), Some(_)) => Err(challenged("more than one client is this workload")),
    }
}

pub(crate) const NO_CREDENTIALS: &str = "credentials are missing";
pub(crate) const SEVERAL: &str = "more than one `Authorization`";
pub(crate) const MALFORMED: &str = "`Authorization` is malformed";
pub(crate) const REFUSED: &str = "the credentials are not accepted";

const BASIC: &str = "Basic realm=\"countersign\"";

/// RFC 6750 §3.
pub(crate) fn challenged(detail: &'static str) -> Problem {
    if detail == NO_CREDENTIALS {
        Problem::nothing_shown(detail)
    } else {
        Problem::unknown_client(detail, "Bearer error=\"invalid_token\"")
    }
}

/// The reason goes to the log; the client hears no more of it than a stranger may.
fn refused(refusal: &Refusal) -> Problem {
    tracing::debug!(target: "countersign::service", reason = refusal.code(), "credentials refused");
    let after = refusal.retry_after().unwrap_or(crate::problem::RETRY_AFTER_DEFAULT);
    match refusal.fault() {
        Fault::Token => challenged(REFUSED),
        Fault::AskAgain => {
            let status = http::StatusCode::TOO_MANY_REQUESTS;
            Problem::new(status, "temporarily_unavailable", "the key is being looked for").retry_after(after)
        }
        Fault::Unavailable => {
            Problem::unavailable("temporarily_unavailable", "there are no keys to judge by").retry_after(after)
        }
    }
}
