use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign_token::{Algorithm, VerifiedPayload, VerifyingKey};
use serde::de::DeserializeOwned;

use crate::pointer::ClaimPointer;
use crate::registered::{Registered, Text};
use crate::remembered::Remembered;
use crate::revocation::{RevocationCheck, RevocationError};
use crate::scopes::{self, ScopeRules};
use crate::time::UnixTime;
use crate::typed;
use crate::value::{self, ClaimValue, Place};

/// A token that was signed by a known key and whose claims satisfied the policy. Cheap to clone.
///
/// It is one type whatever the user's claims are; [`claims`](Self::claims) reads them into a type of the user's.
#[derive(Clone)]
pub struct Verified {
    inner: Arc<Inner>,
    judged_at: UnixTime,
    /// How it is checked whether this token has been revoked, if it is.
    revocation: Option<Arc<RevocationCheck>>,
    /// Whatever the layer wants to find again in a handler; nothing here looks into it.
    context: Option<Arc<dyn Any + Send + Sync>>,
}

/// In this order in memory: of a token that comes again, while many others do, no more than the beginning need be fetched.
#[repr(C)]
pub(crate) struct Inner {
    /// The stamp of the set that the key was last found in; 0 before that.
    pub(crate) key_found_in: AtomicU64,
    pub(crate) key: Arc<VerifyingKey>,
    pub(crate) window: Window,
    pub(crate) payload: String,
    pub(crate) registered: Registered,
    terms: Terms,
    algorithm: Algorithm,
    /// The user's type, once somebody has asked for it.
    pub(crate) typed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// When the time alone gives no reason to refuse a token, by the policy that has accepted it.
pub(crate) struct Window {
    /// `None`: since ever.
    pub(crate) from: Option<UnixTime>,
    /// The first instant at which it does. `None`: never.
    pub(crate) until: Option<UnixTime>,
}

impl Window {
    pub(crate) fn contains(&self, now: UnixTime) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// What the policy that has accepted a token says of it from then on.
pub(crate) struct Terms {
    /// If it has any.
    pub(crate) scope_rules: Option<Arc<ScopeRules>>,
    pub(crate) leeway: Duration,
    /// Whether nobody but the issuer of its key could have got this `iss` past the policy.
    pub(crate) issuer_is_certain: bool,
}

impl Verified {
    /// `typed` are its claims in a type of the user's, if they have been read already.
    pub(crate) fn new(
        payload: VerifiedPayload<'_>,
        registered: Registered,
        window: Window,
        terms: Terms,
        judged_at: UnixTime,
        typed: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Self {
        let key = Arc::clone(payload.key());
        let algorithm = payload.header().algorithm();
        // A policy has read it, so it is text.
        let payload = payload.into_text().unwrap_or_default();
        let inner = Inner {
            payload,
            registered,
            key,
            algorithm,
            window,
            terms,
            typed: typed.map_or_else(OnceLock::new, OnceLock::from),
            key_found_in: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner), judged_at, revocation: None, context: None }
    }

    /// A token that was accepted before, judged once more.
    pub(crate) fn again(inner: Arc<Inner>, judged_at: UnixTime) -> Self {
        Self { inner, judged_at, revocation: None, context: None }
    }

    /// Where it lies: a number that is another one for another token at the same time.
    pub(crate) fn place_in_memory(&self) -> usize {
        Arc::as_ptr(&self.inner) as usize
    }

    /// To be kept, and judged again before anybody gets to see it.
    #[doc(hidden)]
    #[must_use]
    pub fn remember(&self) -> Remembered {
        Remembered::new(Arc::clone(&self.inner))
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.text(self.inner.registered.iss)
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.text(self.inner.registered.sub)
    }

    /// `aud`, each member.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.inner.registered.aud.iter().map(|aud| self.text_of(*aud))
    }

    /// `jti`.
    #[must_use]
    pub fn jwt_id(&self) -> Option<&str> {
        self.text(self.inner.registered.jti)
    }

    /// `client_id` (RFC 8693 §4.3).
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.text(self.inner.registered.client_id)
    }

    /// The client that it was issued to: `client_id`, or else `azp` (OpenID Connect Core §2), or the claim that the policy
    /// [names](crate::Policy::level_claim).
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        let registered = &self.inner.registered;
        let client_id = || self.client_id().filter(|client_id| !client_id.is_empty());
        match &registered.client {
            Some(named) => self.text(*named),
            None => client_id().or_else(|| self.text(registered.azp)),
        }
    }

    /// The session that it belongs to: `sid` (OpenID Connect Front-Channel Logout §3), or the claim that the policy
    /// [names](crate::Policy::level_claim).
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.text(self.inner.registered.session)
    }

    /// The family of tokens that it belongs to, which one login has led to: `family`, or the claim that the policy
    /// [names](crate::Policy::level_claim).
    #[must_use]
    pub fn family(&self) -> Option<&str> {
        self.text(self.inner.registered.family)
    }

    /// The tenant that it is of: `tid`, or the claim that the policy [names](crate::Policy::level_claim).
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.text(self.inner.registered.tenant)
    }

    /// `exp`; always there, unless the policy allows it to be missing.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixTime> {
        self.inner.registered.exp
    }

    /// The first instant at which the policy that has accepted this token would refuse it for the time: `exp`, or `iat` and
    /// [`max_age`](crate::Policy::max_age) if that is earlier, plus the [leeway](crate::Policy::leeway). `None`: never.
    ///
    /// A connection that the token has opened must not outlive it.
    #[must_use]
    pub fn accepted_until(&self) -> Option<UnixTime> {
        self.inner.window.until
    }

    /// `nbf`.
    #[must_use]
    pub fn not_before(&self) -> Option<UnixTime> {
        self.inner.registered.nbf
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.inner.registered.iat
    }

    /// `acr`: how strongly the subject was authenticated. `None` if it is not a string.
    #[must_use]
    pub fn acr(&self) -> Option<Cow<'_, str>> {
        match self.member("acr") {
            Place::Value(acr) => acr.string(),
            _ => None,
        }
    }

    /// `auth_time`: when the subject was authenticated. `None` if it is not a NumericDate.
    #[must_use]
    pub fn auth_time(&self) -> Option<UnixTime> {
        match self.member("auth_time") {
            Place::Value(auth_time) => auth_time.date(),
            _ => None,
        }
    }

    /// One claim, wherever it stands; `None` if it is not there.
    ///
    /// The payload is walked each time, and no further than to the claim; nothing is allocated.
    ///
    /// ```
    /// # use countersign_claims::{ClaimPointer, Policy, UnixTime, Verified};
    /// # use countersign_token::{Algorithm, HeaderScratch, KeySet, SigningKey, UnverifiedToken};
    /// # let signer = SigningKey::generate(Algorithm::Es256)?;
    /// # let keys = KeySet::new([signer.verifying_key()?]);
    /// # let raw = signer.sign(&serde_json::json!({ "exp": 1000, "org": { "id": 7 } }))?;
    /// # let mut scratch = HeaderScratch::new();
    /// # let token = UnverifiedToken::parse(&raw, 8192, &mut scratch)?;
    /// # let payload = token.verify(keys.candidates(None, Algorithm::Es256).next().ok_or("no key")?)?;
    /// # let verified = Policy::new().judge(payload, UnixTime::from_secs(0))?;
    /// let org = ClaimPointer::parse("/org/id")?;
    /// assert_eq!(verified.claim(&org).and_then(|claim| claim.integer()), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn claim(&self, pointer: &ClaimPointer) -> Option<ClaimValue<'_>> {
        match self.place(pointer) {
            Place::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The time at which the policy was applied.
    #[must_use]
    pub fn judged_at(&self) -> UnixTime {
        self.judged_at
    }

    /// The scopes granted, literally: the space-separated names of `scope` (RFC 8693 §4.2), and those of `scp`, as string or
    /// array; or those of the claims that the policy names ([`Policy::scope_claim`](crate::Policy::scope_claim)).
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.inner
            .registered
            .scopes
            .iter()
            .flat_map(|scopes| self.text_of(*scopes).split(' '))
            .filter(|scope| !scope.is_empty())
    }

    /// Whether `scope` was granted, or one that [implies](crate::Policy::scope_implies) it; case-sensitive.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        scopes::grants(self.scope_rules(), self.scopes(), scope)
    }

    /// The key that verified the token: what is known, whatever the token's `kid` says.
    #[must_use]
    pub fn key(&self) -> &Arc<VerifyingKey> {
        &self.inner.key
    }

    /// The algorithm it was signed with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.inner.algorithm
    }

    /// The claims as they were signed: one JSON object in UTF-8.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.inner.payload.as_bytes()
    }

    /// All claims, read into `T`. The first type that is asked for is read once and shared by everybody who holds this
    /// token; a second type is read anew each time.
    ///
    /// # Errors
    /// [`ClaimsTypeError`] if they do not fit.
    ///
    /// ```
    /// # use countersign_claims::{Policy, UnixTime, Verified};
    /// # use countersign_token::{Algorithm, HeaderScratch, KeySet, SigningKey, UnverifiedToken};
    /// # let signer = SigningKey::generate(Algorithm::Es256)?;
    /// # let keys = KeySet::new([signer.verifying_key()?]);
    /// # let raw = signer.sign(&serde_json::json!({ "exp": 1000, "tenant": "t1" }))?;
    /// # let mut scratch = HeaderScratch::new();
    /// # let token = UnverifiedToken::parse(&raw, 8192, &mut scratch)?;
    /// # let payload = token.verify(keys.candidates(None, Algorithm::Es256).next().ok_or("no key")?)?;
    /// # let verified = Policy::new().judge(payload, UnixTime::from_secs(0))?;
    /// #[derive(serde::Deserialize)]
    /// struct MyClaims { tenant: String }
    ///
    /// let claims = verified.claims::<MyClaims>()?;
    /// assert_eq!(claims.tenant, "t1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claims<T: ClaimsType>(&self) -> Result<Arc<T>, ClaimsTypeError> {
        if let Some(typed) = self.inner.typed.get()
            && let Ok(claims) = Arc::clone(typed).downcast::<T>()
        {
            return Ok(claims);
        }
        let claims = typed::read_payload::<T>(&self.inner.payload).map_err(|error| ClaimsTypeError::new(&error))?;
        let claims = Arc::new(claims);
        // If somebody else was faster, theirs stays, and ours is as good.
        let _ = self.inner.typed.set(Arc::clone(&claims) as Arc<dyn Any + Send + Sync>);
        Ok(claims)
    }

    /// Whether it has been revoked by the time `now`, or cannot be told any more: what the verifier has asked when it accepted the token, asked
    /// again, for whatever outlives its request. Nothing is asked where [no check](Self::revocation) was set.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub fn check_revocation(&self, now: UnixTime) -> Result<(), RevocationError> {
        self.revocation.as_ref().map_or(Ok(()), |revocation| revocation.check(self, now))
    }

    /// How it is checked whether it has been revoked, if the verifier was told to.
    #[must_use]
    pub fn revocation(&self) -> Option<&Arc<RevocationCheck>> {
        self.revocation.as_ref()
    }

    /// Has [`check_revocation`](Self::check_revocation) ask this. For verifiers.
    #[must_use]
    pub fn with_revocation(mut self, revocation: Arc<RevocationCheck>) -> Self {
        self.revocation = Some(revocation);
        self
    }

    /// Keeps `context` with this token and its clones, in place of an earlier one.
    #[doc(hidden)]
    #[must_use]
    pub fn with_context(mut self, context: Arc<dyn Any + Send + Sync>) -> Self {
        self.context = Some(context);
        self
    }

    /// What was kept with this token.
    #[doc(hidden)]
    #[must_use]
    pub fn context(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.context.as_ref()
    }

    pub(crate) fn place(&self, pointer: &ClaimPointer) -> Place<'_> {
        value::find(&self.inner.payload, pointer)
    }

    pub(crate) fn member(&self, name: &str) -> Place<'_> {
        value::member(&self.inner.payload, name)
    }

    pub(crate) fn scope_rules(&self) -> Option<&ScopeRules> {
        self.inner.terms.scope_rules.as_deref()
    }

    pub(crate) fn leeway(&self) -> Duration {
        self.inner.terms.leeway
    }

    pub(crate) fn issuer_is_certain(&self) -> bool {
        self.inner.terms.issuer_is_certain
    }

    fn text(&self, text: Option<Text>) -> Option<&str> {
        text.map(|text| self.text_of(text))
    }

    fn text_of(&self, text: Text) -> &str {
        self.inner.registered.get(text, &self.inner.payload)
    }
}

/// Shows who and until when; not the whole payload, which may be anybody's business.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("issuer", &self.issuer())
            .field("subject", &self.subject())
            .field("expires_at", &self.expires_at())
            .field("key", &self.key().kid())
            .finish_non_exhaustive()
    }
}

/// A type that claims can be read into. Implemented for everything that fits; there is nothing to implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a token's claims",
    label = "not a type of claims",
    note = "it needs `#[derive(serde::Deserialize)]` with owned fields (`String`, not `&str`), and must be `Send + Sync + 'static`"
)]
pub trait ClaimsType: DeserializeOwned + Send + Sync + 'static {}

// Or the compiler would name serde's traits, and not what is said above.
#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + Sync + 'static> ClaimsType for T {}

/// The claims do not fit the user's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimsTypeError {
    /// Of the user's type, so not the token's text.
    missing_field: Option<Box<str>>,
    column: usize,
}

impl ClaimsTypeError {
    /// Keeps the place, and the name of a missing field; the rest of serde's message may quote the claims.
    pub(crate) fn new(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let missing_field = text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
        Self { missing_field: missing_field.map(|(name, _)| name.into()), column: error.column() }
    }
}

impl fmt::Display for ClaimsTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.missing_field {
            Some(field) => write!(f, "the claims lack `{field}`, which the type of claims needs"),
            None => write!(f, "the claims do not fit the type of claims at column {}", self.column),
        }
    }
}

impl std::error::Error for ClaimsTypeError {}
