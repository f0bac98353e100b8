use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_claims::UnixTime;
use serde_json::{Map, Value};

use crate::hostile::{self, HostileToken};
use crate::keys::TestKey;

/// How long a token is good for unless it is told otherwise.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// A token in the making: good, until you make it bad.
///
/// It starts as an access token that a careful verifier accepts (RFC 9068 §2): header `alg`, `kid` and `typ: at+jwt`; claims
/// `sub: ada`, `client_id: app`, a `jti` of its own, `iat` now and `exp` in an hour. [`IdentityProvider::token`] adds `iss` and
/// `aud`. Every method changes one thing and leaves the rest; nothing is checked, so what comes out may be as wrong as you like,
/// but its signature is always right: for wrong ones see [`hostile`](Self::hostile).
///
/// ```
/// use countersign_testkit::{TestKey, Token};
/// use countersign_token::Algorithm;
///
/// let token = Token::new(&TestKey::nth(Algorithm::Es256, 0)).issuer("https://issuer.example").audience("orders");
/// let good = token.clone().scope("orders:read").claim("tenant", "t1").sign();
/// let without_exp = token.clone().without("exp").sign();
/// let of_another_type = token.typ("dpop+jwt").sign();
/// # assert!([good, without_exp, of_another_type].iter().all(|token| token.split('.').count() == 3));
/// ```
///
/// [`IdentityProvider::token`]: crate::IdentityProvider::token
#[derive(Clone, Debug)]
#[must_use = "a token is made by `sign`"]
pub struct Token {
    key: TestKey,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Token {
    /// A token of that key's, without issuer and audience.
    pub fn new(key: &TestKey) -> Self {
        // Unlike any other of this process, and of most others.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let token = Self { key: key.clone(), header: Map::new(), claims: Map::new() };
        token
            .signed_by(key)
            .typ("at+jwt")
            .subject("ada")
            .client_id("app")
            .claim("jti", format!("{}-{count}", std::process::id()))
            .issued_at(SystemTime::now().into(), DEFAULT_LIFETIME)
    }

    /// Signs with that key, and names it and its algorithm in the header.
    pub fn signed_by(mut self, key: &TestKey) -> Self {
        self.key = key.clone();
        let token = self.header("alg", key.algorithm().name());
        match key.kid() {
            Some(kid) => token.header("kid", kid),
            None => token.without_header("kid"),
        }
    }

    /// Sets `iss`.
    pub fn issuer(self, issuer: &str) -> Self {
        self.claim("iss", issuer)
    }

    /// Sets `aud` to this one audience; for several, `claim("aud", vec!["a", "b"])`.
    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    /// Sets `sub`.
    pub fn subject(self, subject: &str) -> Self {
        self.claim("sub", subject)
    }

    /// Sets `client_id`.
    pub fn client_id(self, client_id: &str) -> Self {
        self.claim("client_id", client_id)
    }

    /// Sets `scope`: scopes separated by spaces.
    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    /// Sets `iat` to that time, and `exp` to so much later.
    pub fn issued_at(self, iat: UnixTime, lifetime: Duration) -> Self {
        self.claim("iat", iat.as_secs()).claim("exp", iat.saturating_add(lifetime).as_secs())
    }

    /// Leaves `iat` as it is, and sets `exp` to that long after now, by the system's clock.
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.claim("exp", UnixTime::from(SystemTime::now()).saturating_add(lifetime).as_secs())
    }

    /// Makes it a token that expired that long ago, by the system's clock, after the [`DEFAULT_LIFETIME`].
    pub fn expired(self, ago: Duration) -> Self {
        let iat = UnixTime::from(SystemTime::now()).saturating_sub(ago).saturating_sub(DEFAULT_LIFETIME);
        self.issued_at(iat, DEFAULT_LIFETIME)
    }

    /// Sets any claim to any value.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a claim out.
    pub fn without(mut self, claim: &str) -> Self {
        self.claims.remove(claim);
        self
    }

    /// Sets `typ` in the header.
    pub fn typ(self, typ: &str) -> Self {
        self.header("typ", typ)
    }

    /// Sets any header member to any value: `alg` too, which does not change what it is signed with.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a header member out.
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// The claims as they are now.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The token, signed.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn sign(&self) -> String {
        self.sign_parts(self.header_text(), self.claims_text())
    }

    /// A token with exactly these octets for its header and its payload, signed: for JSON that no library would write.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn sign_parts(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        sign_input(&format!("{}.{}", base64url(header), base64url(payload)), &self.key)
    }

    /// What an attacker makes of this token: every attack of the catalogue that applies to its algorithm. A verifier that demands
    /// this token's `iss` and `aud`, and an `exp`, with a leeway of less than an hour, should refuse every one of them. Some the RFCs
    /// leave to it: a member twice, an `iat` in the future, a token that is bound to a key (`cnf`), JSON that is nested too deep.
    ///
    /// Over HTTP, send them by [`HostileToken::authorization`]: some are other tokens once they have been through a header.
    /// The catalogue grows with new versions; what is in it has a name to be reported by.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn hostile(&self) -> Vec<HostileToken> {
        hostile::catalogue(self)
    }

    /// These claims instead of all that it has.
    pub(crate) fn only_claims(self, claims: Map<String, Value>) -> Self {
        Self { claims, ..self }
    }

    pub(crate) fn key(&self) -> &TestKey {
        &self.key
    }

    pub(crate) fn header_text(&self) -> String {
        text(&self.header)
    }

    pub(crate) fn claims_text(&self) -> String {
        text(&self.claims)
    }
}

pub(crate) fn sign_input(input: &str, key: &TestKey) -> String {
    format!("{input}.{}", base64url(key.signature(input.as_bytes())))
}

pub(crate) fn base64url(octets: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(octets)
}

fn text(members: &Map<String, Value>) -> String {
    serde_json::to_string(members).expect("JSON can be written")
}
