use std::fmt;
use std::time::Duration;

use countersign::token::Algorithm;
use countersign_issuer::Mint;
use serde_json::value::RawValue;

use super::Confirmation;

/// What a client asks for.
///
/// ```
/// use countersign_service::policy::Request;
/// use std::time::Duration;
///
/// let request = Request::new("access").audience("orders").scope("orders:read").lifetime(Duration::from_secs(300));
/// assert_eq!(request, request.clone());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) profile: Box<str>,
    pub(super) subject: Option<Box<str>>,
    pub(super) audiences: Vec<Box<str>>,
    pub(super) scopes: Vec<Box<str>>,
    pub(super) lifetime: Option<Duration>,
    pub(super) delay: Option<Duration>,
    pub(super) confirmation: Option<Confirmation>,
    /// `x5t#S256` of the certificate that came with it, not in it.
    pub(super) certificate: Option<Box<str>>,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) rsa_bits: Option<u32>,
    /// The name and the JSON of each.
    pub(super) claims: Vec<(Box<str>, Box<str>)>,
}

impl Request {
    /// A token of this profile.
    #[must_use]
    pub fn new(profile: impl Into<Box<str>>) -> Self {
        Self {
            profile: profile.into(),
            subject: None,
            audiences: Vec::new(),
            scopes: Vec::new(),
            lifetime: None,
            delay: None,
            confirmation: None,
            certificate: None,
            algorithm: None,
            rsa_bits: None,
            claims: Vec::new(),
        }
    }

    /// `sub`. Without it, the client itself (RFC 9068 §2.2).
    #[must_use]
    pub fn subject(mut self, subject: impl Into<Box<str>>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// One more of `aud`.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<Box<str>>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// One more scope.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Box<str>>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// For how long, in whole seconds.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// `nbf`: that long after `iat`, in whole seconds.
    #[must_use]
    pub fn not_before(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// `cnf`: good for whoever proves to have this key, and for nobody else.
    #[must_use]
    pub fn confirmation(mut self, confirmation: Confirmation) -> Self {
        self.confirmation = Some(confirmation);
        self
    }

    /// `x5t#S256` of the certificate whose key the client has proved to have: what the connection says, and no request.
    #[must_use]
    pub fn shown_certificate(mut self, x5t_s256: impl Into<Box<str>>) -> Self {
        self.certificate = Some(x5t_s256.into());
        self
    }

    /// Signed with this algorithm and no other.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Signed with an RSA key of this size and no other.
    #[must_use]
    pub fn rsa_bits(mut self, bits: u32) -> Self {
        self.rsa_bits = Some(bits);
        self
    }

    pub(crate) fn named_profile(&self) -> &str {
        &self.profile
    }

    pub(crate) fn named_subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    pub(crate) fn named_audiences(&self) -> &[Box<str>] {
        &self.audiences
    }

    pub(crate) fn asked_lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// One more claim: its name, and its value as JSON.
    #[must_use]
    pub fn claim(mut self, name: impl Into<Box<str>>, json: impl Into<Box<str>>) -> Self {
        self.claims.push((name.into(), json.into()));
        self
    }
}

/// Names what it is, and no claims.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// That a request was allowed, and how it is to be signed. Made by [`decide`](super::decide) only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub(super) grant: Box<str>,
    pub(super) slot: Box<str>,
    pub(super) algorithm: Algorithm,
    pub(super) rsa_bits: Option<u32>,
    pub(super) typ: Option<Box<str>>,
    pub(super) lifetime: Duration,
    pub(super) confirmation: Option<Confirmation>,
    pub(super) is_clamped: bool,
    pub(super) max_token_bytes: usize,
}

impl Granted {
    /// The one grant.
    #[must_use]
    pub fn grant(&self) -> &str {
        &self.grant
    }

    /// The slot that signs.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The size of its keys, if they are RSA keys.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<u32> {
        self.rsa_bits
    }

    /// For how long the token is to live.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The key that the token is bound to.
    #[must_use]
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.confirmation.as_ref()
    }

    /// The longest that the token may be, bytes.
    #[must_use]
    pub fn max_token_bytes(&self) -> usize {
        self.max_token_bytes
    }

    /// What is to be signed for this client; `request` is the one that was granted.
    #[must_use]
    pub fn mint(&self, client: &str, request: &Request) -> Mint {
        let mut mint = Mint::new(self.lifetime).client_id(client).max_token_bytes(self.max_token_bytes);
        mint = mint.subject(request.subject.as_deref().unwrap_or(client));
        if self.is_clamped {
            mint = mint.or_shorter();
        }
        if let Some(confirmation) = &self.confirmation {
            mint = mint.confirmation(confirmation);
        }
        if let Some(delay) = request.delay {
            mint = mint.not_before(delay);
        }
        if let Some(typ) = &self.typ {
            mint = mint.typ(typ.clone());
        }
        for audience in &request.audiences {
            mint = mint.audience(audience);
        }
        for scope in &request.scopes {
            mint = mint.scope(scope);
        }
        if request.claims.is_empty() {
            return mint;
        }
        mint.claims(&Claims(&request.claims))
    }
}

/// Written as they were read, so that no number changes on the way.
struct Claims<'a>(&'a [(Box<str>, Box<str>)]);

impl serde::Serialize for Claims<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error as _, SerializeMap as _};
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, json) in self.0 {
            let value: &RawValue = serde_json::from_str(json).map_err(S::Error::custom)?;
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
