use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::json::{Members, ObjectError};
use countersign_token::{UnverifiedToken, VerifiedPayload, VerifyingKey};

use crate::error::{ClaimError, ConfigError, Found};
use crate::pointer::ClaimPointer;
use crate::registered::{Registered, Unread};
use crate::revocation::Level;
use crate::scopes::{ScopeRules, is_scope_token};
use crate::signed_request;
use crate::time::UnixTime;
use crate::typed;
use crate::value::{self, Place};
use crate::verified::{ClaimsType, ClaimsTypeError, Terms, Verified, Window};

/// The default tolerance for clocks that disagree: what machines kept by NTP never need, and few others exceed.
pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);

/// The largest leeway that can be set: beyond five minutes a clock is not skewed but wrong.
pub const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// The most claims that can be required by name: one bit of a word for each.
pub(crate) const MAX_REQUIRED_CLAIMS: usize = 64;

/// What a token has to say to be accepted.
///
/// By default: `exp` must be there, `exp`, `nbf` and `iat` must fit the time with [`DEFAULT_LEEWAY`], `typ` must be
/// absent, `JWT` or `at+jwt`, and a token bound to a key is refused. `iss` and `aud` are required and compared exactly
/// once at least one value is set; **as long as none is set, tokens that the same issuer made for other services pass**
/// ([`deny_unbound`](Self::deny_unbound) makes that a configuration error).
#[derive(Clone, Default)]
pub struct Policy {
    /// Shared with the refusals that name them.
    issuers: Arc<[Box<str>]>,
    audiences: Arc<[Box<str>]>,
    types: Vec<Box<str>>,
    required: Vec<Box<str>>,
    /// `None` is the default.
    leeway: Option<Duration>,
    max_age: Option<Duration>,
    max_lifetime: Option<Duration>,
    subject: Option<SubjectRule>,
    /// Shared with every token judged.
    scope_rules: Option<Arc<ScopeRules>>,
    /// Where the names stand that many tokens are revoked by; only there if it is elsewhere than by default.
    level_claims: Option<Arc<LevelClaims>>,
    access_token_profile: bool,
    /// The only kind of token that is taken, where a client speaks for itself.
    own: Option<OwnKind>,
    allow_missing_exp: bool,
    accept_unbound_cnf: bool,
    accept_id_tokens: bool,
    deny_unbound: bool,
    issuer_of_key: bool,
    /// The first setter that was given something impossible.
    fault: Option<ConfigError>,
}

const CLIENT_AUTHENTICATION_TYPE: &str = "client-authentication+jwt";

/// What a client signs for itself: no other token is taken beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnKind {
    ClientAuthentication,
    SignedRequest,
}

impl OwnKind {
    fn typ(self) -> &'static str {
        match self {
            Self::ClientAuthentication => CLIENT_AUTHENTICATION_TYPE,
            Self::SignedRequest => signed_request::TYPE,
        }
    }
}

/// Registered types of other kinds of token, which must never pass for access tokens (RFC 8725 §3.11): none of them can
/// be accepted beside these, whatever the configuration.
const FOREIGN_TYPES: [&str; 13] = [
    "dpop+jwt",
    "logout+jwt",
    "secevent+jwt",
    "statuslist+jwt",
    "token-introspection+jwt",
    "oauth-authz-req+jwt",
    CLIENT_AUTHENTICATION_TYPE,
    signed_request::TYPE,
    "entity-statement+jwt",
    "trust-mark+jwt",
    "kb+jwt",
    "dc+sd-jwt",
    "vc+sd-jwt",
];

/// The claims that were named in place of those that are read by default.
#[derive(Clone, Default)]
struct LevelClaims {
    tenant: Option<ClaimPointer>,
    client: Option<ClaimPointer>,
    session: Option<ClaimPointer>,
    family: Option<ClaimPointer>,
}

impl LevelClaims {
    fn read(&self, payload: &str, registered: &mut Registered) {
        if let Some(pointer) = &self.tenant {
            registered.tenant = registered.text_at(payload, pointer);
        }
        if let Some(pointer) = &self.client {
            registered.client = Some(registered.text_at(payload, pointer));
        }
        if let Some(pointer) = &self.session {
            registered.session = registered.text_at(payload, pointer);
        }
        if let Some(pointer) = &self.family {
            registered.family = registered.text_at(payload, pointer);
        }
    }
}

type SubjectRule = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Policy {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands `iss`, equal to `issuer` code point by code point (RFC 9068 §4). Called again, any of the values will
    /// do.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<Box<str>>) -> Self {
        let issuer = not_empty(&mut self.fault, "issuer", issuer.into());
        self.issuers = self.issuers.iter().cloned().chain([issuer]).collect();
        self
    }

    /// Demands that the key that verifies a token is [bound to an issuer](countersign_token::VerifyingKey::bound_to_issuer), for
    /// sources with the keys of several: `iss` then must be that one, and [`issuer`](Self::issuer) need not list them.
    ///
    /// A key that is bound vouches for its own issuer only, with this setting or without.
    #[must_use]
    pub fn issuer_of_key(mut self) -> Self {
        self.issuer_of_key = true;
        self
    }

    /// Demands `aud`, with one member equal to `audience` code point by code point. Called again, any of the values
    /// will do.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<Box<str>>) -> Self {
        let audience = not_empty(&mut self.fault, "audience", audience.into());
        self.audiences = self.audiences.iter().cloned().chain([audience]).collect();
        self
    }

    /// The tolerance in comparisons with the clock: at most [`MAX_LEEWAY`] (more is a configuration error, and counts
    /// as the maximum), by default [`DEFAULT_LEEWAY`].
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        if leeway > MAX_LEEWAY {
            self.fault.get_or_insert(ConfigError::LeewayTooLong(leeway));
        }
        self.leeway = Some(leeway.min(MAX_LEEWAY));
        self
    }

    /// Demands that a claim of this name is there, whatever its value.
    #[must_use]
    pub fn require_claim(mut self, name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        // Each name has one bit, so it stands here once.
        if self.required.contains(&name) {
            return self;
        }
        if self.required.len() == MAX_REQUIRED_CLAIMS {
            self.fault.get_or_insert(ConfigError::TooManyRequiredClaims);
        } else {
            self.required.push(not_empty(&mut self.fault, "claim name", name));
        }
        self
    }

    /// Demands `sub`, and that `rule` likes it.
    #[must_use]
    pub fn subject(mut self, rule: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.subject = Some(Arc::new(rule));
        self
    }

    /// Takes scopes from this claim, a name or a pointer ([`ClaimPointer`]), **instead of** from `scope` and `scp`. Called again,
    /// from all the claims named; `scope` and `scp` can be among them. Written as those: a string of names separated by
    /// spaces, or an array of names.
    ///
    /// What is no such text is a configuration error.
    #[must_use]
    pub fn scope_claim(mut self, claim: &str) -> Self {
        match ClaimPointer::parse(claim) {
            Ok(claim) => self.scope_rules_mut().claims.push(claim),
            Err(fault) => {
                self.fault.get_or_insert(fault);
            }
        }
        self
    }

    /// Whoever has the scope `wide` has those in `narrow` too, never the other way. Called again, it says more of the same or of
    /// another scope; what is implied implies in turn, and a circle makes its members equal.
    ///
    /// [`Verified::has_scope`] and every requirement go by it; [`Verified::scopes`] stays what was granted literally. A text that is
    /// no scope token (RFC 6749 §3.3) is a configuration error.
    ///
    /// ```
    /// use countersign_claims::Policy;
    ///
    /// let policy = Policy::new()
    ///     .audience("orders")
    ///     .scope_implies("orders:admin", ["orders:write"])
    ///     .scope_implies("orders:write", ["orders:read"]);
    /// assert_eq!(policy.check(), Ok(()));
    /// ```
    #[must_use]
    pub fn scope_implies(mut self, wide: &str, narrow: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        for narrow in narrow {
            match [wide, narrow.as_ref()].into_iter().find(|scope| !is_scope_token(scope)) {
                None => self.scope_rules_mut().imply(wide, narrow.as_ref()),
                Some(odd) => {
                    self.fault.get_or_insert(ConfigError::NotAScope(odd.into()));
                }
            }
        }
        self
    }

    /// Where the name stands that tokens of this level are revoked by: for [`Level::Tenant`] such as `org_id`, or `/org/id`
    /// ([`ClaimPointer`]). By default `tid`, `client_id` or else `azp`, `sid`, and `family`; see [`Level`].
    ///
    /// A string, or a number as it is written; of a token that has something else there, or nothing, it is not known which tenant, client,
    /// session or family it is of. Issuer and subject are always `iss` and `sub`: another claim for them is a configuration error, and so
    /// is what is no name or pointer.
    ///
    /// ```
    /// use countersign_claims::{Policy, revocation::Level};
    ///
    /// let policy = Policy::new().level_claim(Level::Tenant, "/org/id");
    /// assert_eq!(policy.check(), Ok(()));
    /// ```
    #[must_use]
    pub fn level_claim(mut self, level: Level, claim: &str) -> Self {
        match ClaimPointer::parse(claim) {
            Ok(pointer) => {
                let claims = Arc::make_mut(self.level_claims.get_or_insert_default());
                match level {
                    Level::Tenant => claims.tenant = Some(pointer),
                    Level::Client => claims.client = Some(pointer),
                    Level::Session => claims.session = Some(pointer),
                    Level::Family => claims.family = Some(pointer),
                    Level::Issuer | Level::Subject => {
                        let text = "issuer and subject are what `iss` and `sub` say, and no other claim";
                        self.fault.get_or_insert(ConfigError::Other(text.into()));
                    }
                }
            }
            Err(fault) => {
                self.fault.get_or_insert(fault);
            }
        }
        self
    }

    /// Demands `iat`, and refuses from `iat + max_age + leeway` on, as if that were `exp`.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Demands `iat` and `exp`, no further apart than this: a token that lives for a year is refused, however young it
    /// is.
    #[must_use]
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.max_lifetime = Some(max_lifetime);
        self
    }

    /// Accepts one more `typ`, besides absent, `JWT` and `at+jwt`. Compared as a media type: without regard to case and
    /// to a leading `application/` (RFC 7515 §4.1.9). The types of other kinds of token are a configuration error.
    #[must_use]
    pub fn accept_type(mut self, typ: impl Into<Box<str>>) -> Self {
        let typ = typ.into();
        let typ = not_empty(&mut self.fault, "type", without_application(&typ).into());
        if FOREIGN_TYPES.iter().any(|foreign| typ.eq_ignore_ascii_case(foreign)) {
            self.fault.get_or_insert(ConfigError::ForeignType(typ.clone()));
        }
        self.types.push(typ);
        self
    }

    /// The access-token profile of RFC 9068: `typ` must be `at+jwt`, and `iss`, `exp`, `aud`, `sub`, `client_id`, `iat`
    /// and `jti` must all be there. Needs an issuer and an audience.
    #[must_use]
    pub fn access_token_profile(mut self) -> Self {
        self.access_token_profile = true;
        self
    }

    /// Judges the tokens by which clients authenticate (RFC 7523 §3 as updated by RFC 10070) **instead of** access tokens:
    /// `typ` must be `client-authentication+jwt`, `iss` and `sub` be the same, the client; `aud` must be the audience that
    /// is set, and nothing beside it; `exp` and `jti` must be there. Needs an audience, the issuer identifier of the
    /// authorization server (RFC 8414 §2).
    ///
    /// Whose key it is, is the source's to say ([`issuer_of_key`](Self::issuer_of_key)); that a `jti` comes once, whoever
    /// accepts the token has to see to.
    #[must_use]
    pub fn client_authentication_profile(mut self) -> Self {
        self.set_own(OwnKind::ClientAuthentication);
        self
    }

    /// Judges the tokens that clients sign for single requests ([`signed_request`]) **instead of** access tokens: `typ` must be
    /// `request+jwt`, `iss` and `sub` be the same, the client, whose key it must be
    /// ([`issuer_of_key`](Self::issuer_of_key)); `aud` must be the audience that is set, and nothing beside it; `iat`, `exp`
    /// and `jti` must be there, and no more than [`signed_request::MAX_LIFETIME`] lie between the two. The leeway is
    /// [`signed_request::LEEWAY`], unless another is set. Needs one audience, the receiving service's identifier.
    ///
    /// That is all that can be said without the request: [`signed_request::check_head`] and
    /// [`check_body`](signed_request::check_body) compare with that, and
    /// [`SingleUse`](signed_request::SingleUse) sees to it that none comes twice.
    #[must_use]
    pub fn signed_request_profile(mut self) -> Self {
        self.set_own(OwnKind::SignedRequest);
        self.issuer_of_key = true;
        self.leeway.get_or_insert(signed_request::LEEWAY);
        self
    }

    /// Makes a missing issuer or audience a configuration error, so that tokens meant for others cannot pass unnoticed.
    #[must_use]
    pub fn deny_unbound(mut self) -> Self {
        self.deny_unbound = true;
        self
    }

    /// Accepts tokens without `exp`, which stay valid until their key is withdrawn. An `exp` that is there still
    /// counts.
    #[must_use]
    pub fn dangerous_allow_missing_exp(mut self) -> Self {
        self.allow_missing_exp = true;
        self
    }

    /// Accepts tokens that are bound to a key (`cnf`, RFC 7800) as if they were bearer tokens. Whoever steals one can
    /// use it: only for services behind something that has checked the proof of possession.
    #[must_use]
    pub fn accept_unbound_cnf(mut self) -> Self {
        self.accept_unbound_cnf = true;
        self
    }

    /// Accepts ID tokens (told by `at_hash`, `c_hash`, `token_use` or a claim `typ`), as some platforms send them to
    /// services. Set an audience of your own with it.
    #[must_use]
    pub fn accept_id_tokens(mut self) -> Self {
        self.accept_id_tokens = true;
        self
    }

    /// Whether no issuer is set: then tokens are told apart by their keys only.
    #[must_use]
    pub fn accepts_any_issuer(&self) -> bool {
        self.issuers.is_empty() && !self.issuer_of_key
    }

    /// The issuer, as a name that was configured and not one that a token chose: the only one that is set, if there is one; otherwise, of a
    /// token that was verified, the one that it is from, if that is set or its key is bound to it.
    #[must_use]
    pub fn configured_issuer<'a>(&'a self, verified: Option<&'a Verified>) -> Option<&'a str> {
        if let [issuer] = &*self.issuers {
            return Some(issuer);
        }
        let verified = verified?;
        let is_named = |iss: &&str| self.issuers.iter().any(|issuer| **issuer == **iss);
        verified.key().issuer().or_else(|| verified.issuer().filter(is_named))
    }

    /// The tolerance in comparisons with the clock that is in force.
    #[must_use]
    pub fn leeway_in_force(&self) -> Duration {
        self.leeway.unwrap_or(DEFAULT_LEEWAY)
    }

    /// Whether it judges what clients sign for single requests ([`signed_request_profile`](Self::signed_request_profile)).
    #[must_use]
    pub fn judges_signed_requests(&self) -> bool {
        self.own == Some(OwnKind::SignedRequest)
    }

    /// Whether no audience is set: then tokens that the issuer made for other services pass.
    #[must_use]
    pub fn accepts_any_audience(&self) -> bool {
        self.audiences.is_empty()
    }

    /// The rules across settings.
    ///
    /// # Errors
    /// The first [`ConfigError`], of a setter or of their combination.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        for (what, unset) in [("issuer", self.accepts_any_issuer()), ("audience", self.accepts_any_audience())] {
            if unset && self.deny_unbound {
                return Err(ConfigError::Unbound(what));
            }
            if unset && (self.access_token_profile || self.own.is_some() && what == "audience") {
                return Err(ConfigError::ProfileNeeds(what));
            }
        }
        if self.own.is_some() && (self.access_token_profile || self.allow_missing_exp || !self.types.is_empty()) {
            let text = "the profiles of client authentication and of signed requests go with no other profile and type, and need `exp`";
            return Err(ConfigError::Other(text.into()));
        }
        if self.judges_signed_requests() && self.audiences.len() != 1 {
            let text = "a request is signed for one service: set one audience, its identifier";
            return Err(ConfigError::Other(text.into()));
        }
        if self.allow_missing_exp && self.max_lifetime.is_some() {
            return Err(ConfigError::LifetimeWithoutExpiry);
        }
        Ok(())
    }

    /// Reads what a key has signed and decides whether it is good enough at the time `now`.
    ///
    /// # Errors
    /// The first [`ClaimError`], in the order given on the [crate's page](crate).
    pub fn judge(&self, payload: VerifiedPayload<'_>, now: UnixTime) -> Result<Verified, ClaimError> {
        let mut registered = Registered::default();
        let (window, terms) = self.check_all(&payload, &mut Members::new(), &mut registered, now)?;
        Ok(Verified::new(payload, registered, window, terms, now, None))
    }

    /// The same, and reads the claims of a token that is good enough into a `T` on the way, where
    /// [`Verified::claims`] finds it.
    ///
    /// # Errors
    /// That of [`judge`](Self::judge); inside of it, that the claims do not fit a `T`.
    pub fn judge_as<T: ClaimsType>(
        &self,
        payload: VerifiedPayload<'_>,
        now: UnixTime,
    ) -> Result<Result<Verified, ClaimsTypeError>, ClaimError> {
        let mut members = Members::new();
        let mut registered = Registered::default();
        let (window, terms) = self.check_all(&payload, &mut members, &mut registered, now)?;
        // A policy has read it, so it is text.
        let claims = typed::read::<T>(payload.text().unwrap_or_default(), &members);
        drop(members);
        Ok(claims
            .map(|claims| Verified::new(payload, registered, window, terms, now, Some(Arc::new(claims))))
            .map_err(|error| ClaimsTypeError::new(&error)))
    }

    fn check_all<'p>(
        &self,
        payload: &'p VerifiedPayload<'_>,
        members: &mut Members<'p>,
        registered: &mut Registered,
        now: UnixTime,
    ) -> Result<(Window, Terms), ClaimError> {
        let text = payload.text().ok_or(ClaimError::NotAnObject)?;
        members.read(text).map_err(unreadable)?;
        let present = registered.read(text, members, &self.required).map_err(in_any_memory)?;
        self.check_registered(text, registered, present, payload.header().typ(), now)?;
        if let Some(claims) = &self.level_claims {
            claims.read(text, registered);
        }
        self.check_issuer_of_key(registered, text, payload.key())?;
        self.check_subject(registered, text)?;
        self.check_binding_to_key(registered)?;
        let window = Window { from: self.accepted_from(registered), until: self.accepted_until(registered) };
        let terms = Terms {
            scope_rules: self.scope_rules.clone(),
            leeway: self.leeway_in_force(),
            issuer_is_certain: self.issuers.len() == 1 || payload.key().issuer().is_some(),
        };
        Ok((window, terms))
    }

    /// The instant from which on the time alone refuses it: what `check_exp` and `check_age` compare with, put together.
    fn accepted_until(&self, claims: &Registered) -> Option<UnixTime> {
        let too_old = self.max_age.zip(claims.iat).map(|(max_age, issued_at)| issued_at.saturating_add(max_age));
        let earlier = claims.exp.into_iter().chain(too_old).min();
        earlier.map(|earlier| earlier.saturating_add(self.leeway_in_force()))
    }

    /// The instant before which the time alone refuses it: what `check_nbf` and `check_iat` compare with, put together.
    fn accepted_from(&self, claims: &Registered) -> Option<UnixTime> {
        claims.nbf.max(claims.iat).map(|later| later.saturating_sub(self.leeway_in_force()))
    }

    /// Why this token would be refused even if a key had signed it, if that can be said. Nobody need look for the key of such
    /// a token.
    ///
    /// It reads claims that nobody has vouched for, and tells nothing of them but the reason. Rules of the user's own
    /// ([`subject`](Self::subject)) are not asked.
    #[must_use]
    pub fn fault_without_key(&self, token: &UnverifiedToken<'_>, now: UnixTime) -> Option<ClaimError> {
        let typ = token.header().typ();
        token.look_at_unverified_payload(|payload| {
            let Ok(text) = std::str::from_utf8(payload) else { return Some(ClaimError::NotAnObject) };
            let mut members = Members::new();
            let mut registered = Registered::in_place();
            // Of what is out of the ordinary nothing is said before a key has vouched for it: it would take memory.
            if let Err(error) = members.read_in_place(text) {
                return (error != ObjectError::TooManyMembers).then(|| unreadable(error));
            }
            let present = match registered.read(text, &members, &self.required) {
                Ok(present) => present,
                Err(Unread::Claim(error)) => return Some(error),
                Err(Unread::NotInPlace) => return None,
            };
            self.check_registered(text, &mut registered, present, typ, now).err()
        })?
    }

    /// All rules but those that are the user's own code, or need the key. `rules.rs` asks each in the same order.
    fn check_registered(
        &self,
        payload: &str,
        registered: &mut Registered,
        present: u64,
        typ: Option<&str>,
        now: UnixTime,
    ) -> Result<(), ClaimError> {
        // Which a token has is nobody's business before a key has vouched for it.
        if let Some(rules) = self.scope_rules.as_ref().filter(|_| !registered.in_place) {
            read_scopes(rules, payload, registered)?;
        }
        self.check_kind(registered, typ)?;
        self.check_exp(registered, now)?;
        self.check_nbf(registered, now)?;
        self.check_iat(registered, now)?;
        self.check_age(registered, now)?;
        self.check_lifetime(registered)?;
        self.check_iss(registered, payload)?;
        self.check_aud(registered, payload)?;
        self.check_required(present)?;
        self.check_profile(registered, payload)
    }

    fn set_own(&mut self, own: OwnKind) {
        if self.own.replace(own).is_some_and(|earlier| earlier != own) {
            let text =
                "client authentication and signed requests are two kinds of token, and one policy judges one of them";
            self.fault.get_or_insert(ConfigError::Other(text.into()));
        }
    }

    fn scope_rules_mut(&mut self) -> &mut ScopeRules {
        Arc::make_mut(self.scope_rules.get_or_insert_default())
    }

    /// Is this an access token at all? (RFC 8725 §3.11 and §3.12)
    pub(crate) fn check_kind(&self, claims: &Registered, typ: Option<&str>) -> Result<(), ClaimError> {
        let accepted = match typ.map(without_application) {
            typ if self.own.is_some() => {
                typ.zip(self.own).is_some_and(|(typ, own)| typ.eq_ignore_ascii_case(own.typ()))
            }
            None => !self.access_token_profile,
            Some(typ) if typ.eq_ignore_ascii_case("at+jwt") => true,
            Some(_) if self.access_token_profile => false,
            Some(typ) if FOREIGN_TYPES.iter().any(|foreign| typ.eq_ignore_ascii_case(foreign)) => false,
            Some(typ) => {
                typ.eq_ignore_ascii_case("JWT") || self.types.iter().any(|accepted| accepted.eq_ignore_ascii_case(typ))
            }
        };
        if !accepted {
            return Err(match typ {
                Some(typ) => ClaimError::WrongType(Found::new(typ)),
                None => ClaimError::Missing(Cow::Borrowed("typ")),
            });
        }
        if claims.id_token && !self.accept_id_tokens {
            return Err(ClaimError::IdToken);
        }
        if claims.security_event {
            return Err(ClaimError::SecurityEvent);
        }
        Ok(())
    }

    pub(crate) fn check_exp(&self, claims: &Registered, now: UnixTime) -> Result<(), ClaimError> {
        match claims.exp {
            Some(expired_at) if now >= expired_at.saturating_add(self.leeway_in_force()) => {
                Err(ClaimError::Expired { expired_at, now })
            }
            None if !self.allow_missing_exp || self.max_lifetime.is_some() => {
                Err(ClaimError::Missing(Cow::Borrowed("exp")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_nbf(&self, claims: &Registered, now: UnixTime) -> Result<(), ClaimError> {
        match claims.nbf {
            Some(not_before) if now < not_before.saturating_sub(self.leeway_in_force()) => {
                Err(ClaimError::NotYetValid { not_before, now })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_iat(&self, claims: &Registered, now: UnixTime) -> Result<(), ClaimError> {
        match claims.iat {
            Some(issued_at) if now < issued_at.saturating_sub(self.leeway_in_force()) => {
                Err(ClaimError::IssuedInTheFuture { issued_at, now })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_age(&self, claims: &Registered, now: UnixTime) -> Result<(), ClaimError> {
        let Some(max_age) = self.max_age else { return Ok(()) };
        let issued_at = claims.iat.ok_or(ClaimError::Missing(Cow::Borrowed("iat")))?;
        if now >= issued_at.saturating_add(max_age).saturating_add(self.leeway_in_force()) {
            return Err(ClaimError::TooOld { issued_at, now, max_age });
        }
        Ok(())
    }

    pub(crate) fn check_lifetime(&self, claims: &Registered) -> Result<(), ClaimError> {
        let Some(max_lifetime) = self.max_lifetime else { return Ok(()) };
        let issued_at = claims.iat.ok_or(ClaimError::Missing(Cow::Borrowed("iat")))?;
        match claims.exp {
            Some(expires_at) if expires_at > issued_at.saturating_add(max_lifetime) => {
                Err(ClaimError::LivesTooLong { issued_at, expires_at, max_lifetime })
            }
            _ => Ok(()),
        }
    }

    /// From whom? Compared as strings, without any normalisation (RFC 7519 §2, StringOrURI).
    pub(crate) fn check_iss(&self, claims: &Registered, payload: &str) -> Result<(), ClaimError> {
        if self.issuers.is_empty() {
            return Ok(());
        }
        let iss = claims.get(claims.iss.ok_or(ClaimError::Missing(Cow::Borrowed("iss")))?, payload);
        if !self.issuers.iter().any(|issuer| **issuer == *iss) {
            return Err(ClaimError::WrongIssuer { found: Found::new(iss), wanted: Arc::clone(&self.issuers) });
        }
        Ok(())
    }

    /// For whom? Compared as `iss` is.
    pub(crate) fn check_aud(&self, claims: &Registered, payload: &str) -> Result<(), ClaimError> {
        if self.audiences.is_empty() {
            return Ok(());
        }
        let first = *claims.aud.first().ok_or(ClaimError::Missing(Cow::Borrowed("aud")))?;
        let is_ours = |aud: &str| self.audiences.iter().any(|audience| **audience == *aud);
        if !claims.aud.iter().any(|aud| is_ours(claims.get(*aud, payload))) {
            return Err(ClaimError::WrongAudience {
                found: Found::new(claims.get(first, payload)),
                wanted: Arc::clone(&self.audiences),
            });
        }
        Ok(())
    }

    pub(crate) fn check_required(&self, present: u64) -> Result<(), ClaimError> {
        match (0..self.required.len()).find(|bit| present & (1 << bit) == 0) {
            Some(missing) => Err(ClaimError::Missing(Cow::Owned(self.required[missing].to_string()))),
            None => Ok(()),
        }
    }

    /// RFC 9068 §2.2; `exp` has been demanded already, unless that was lifted.
    pub(crate) fn check_profile(&self, claims: &Registered, payload: &str) -> Result<(), ClaimError> {
        if let Some(own) = self.own {
            self.check_client(claims, payload)?;
            return if own == OwnKind::SignedRequest { check_request_lifetime(claims) } else { Ok(()) };
        }
        if !self.access_token_profile {
            return Ok(());
        }
        for (claim, there) in [
            ("iss", claims.iss.is_some()),
            ("exp", claims.exp.is_some()),
            ("aud", !claims.aud.is_empty()),
            ("sub", claims.sub.is_some()),
            ("client_id", claims.client_id.is_some()),
            ("iat", claims.iat.is_some()),
            ("jti", claims.jti.is_some()),
        ] {
            if !there {
                return Err(ClaimError::Missing(Cow::Borrowed(claim)));
            }
        }
        Ok(())
    }

    /// RFC 7523 §3; which audience it has was asked before.
    fn check_client(&self, claims: &Registered, payload: &str) -> Result<(), ClaimError> {
        let missing = |claim| ClaimError::Missing(Cow::Borrowed(claim));
        let iss = claims.get(claims.iss.ok_or(missing("iss"))?, payload);
        let sub = claims.get(claims.sub.ok_or(missing("sub"))?, payload);
        claims.jti.ok_or(missing("jti"))?;
        if iss != sub {
            return Err(ClaimError::WrongSubject);
        }
        match claims.aud[..] {
            [_] => Ok(()),
            [first, second, ..] => {
                // Of the two, one that is not ours; that ours is there twice is no better.
                let first = claims.get(first, payload);
                let is_ours = self.audiences.iter().any(|audience| **audience == *first);
                let found = Found::new(if is_ours { claims.get(second, payload) } else { first });
                Err(ClaimError::WrongAudience { found, wanted: Arc::clone(&self.audiences) })
            }
            [] => Err(missing("aud")),
        }
    }

    /// RFC 8725 §3.8: the key must be one of the issuer that the token says it is from.
    pub(crate) fn check_issuer_of_key(
        &self,
        claims: &Registered,
        payload: &str,
        key: &VerifyingKey,
    ) -> Result<(), ClaimError> {
        let Some(issuer) = key.issuer() else {
            return if self.issuer_of_key { Err(ClaimError::KeyOfNoIssuer) } else { Ok(()) };
        };
        let iss = claims.get(claims.iss.ok_or(ClaimError::Missing(Cow::Borrowed("iss")))?, payload);
        if iss != issuer {
            return Err(ClaimError::WrongIssuer { found: Found::new(iss), wanted: Arc::new([issuer.into()]) });
        }
        Ok(())
    }

    /// The user's own code.
    pub(crate) fn check_subject(&self, claims: &Registered, payload: &str) -> Result<(), ClaimError> {
        let Some(rule) = &self.subject else { return Ok(()) };
        let sub = claims.sub.ok_or(ClaimError::Missing(Cow::Borrowed("sub")))?;
        if rule(claims.get(sub, payload)) { Ok(()) } else { Err(ClaimError::WrongSubject) }
    }

    pub(crate) fn check_binding_to_key(&self, claims: &Registered) -> Result<(), ClaimError> {
        if claims.bound_to_key && !self.accept_unbound_cnf { Err(ClaimError::BoundToKey) } else { Ok(()) }
    }

    /// The names of the claims that have to be there.
    pub(crate) fn required(&self) -> &[Box<str>] {
        &self.required
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .field("types", &self.types)
            .field("required", &self.required)
            .field("leeway", &self.leeway_in_force())
            .field("max_age", &self.max_age)
            .field("max_lifetime", &self.max_lifetime)
            .field("access_token_profile", &self.access_token_profile)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// Whatever [`Policy::max_lifetime`] says.
fn check_request_lifetime(claims: &Registered) -> Result<(), ClaimError> {
    let missing = |claim| ClaimError::Missing(Cow::Borrowed(claim));
    let issued_at = claims.iat.ok_or(missing("iat"))?;
    let expires_at = claims.exp.ok_or(missing("exp"))?;
    let max_lifetime = signed_request::MAX_LIFETIME;
    if expires_at > issued_at.saturating_add(max_lifetime) {
        return Err(ClaimError::LivesTooLong { issued_at, expires_at, max_lifetime });
    }
    Ok(())
}

/// What is said of a payload that could not be taken apart. It is found out first: a name that stands twice outweighs whatever is wrong with a value.
pub(crate) fn unreadable(error: ObjectError) -> ClaimError {
    match error {
        ObjectError::DuplicateMember => ClaimError::DuplicateMember,
        _ => ClaimError::NotAnObject,
    }
}

/// Where there is no bound to memory.
pub(crate) fn in_any_memory(unread: Unread) -> ClaimError {
    match unread {
        Unread::Claim(error) => error,
        Unread::NotInPlace => ClaimError::NotAnObject,
    }
}

/// The scopes from where the configuration says that they are.
fn read_scopes(rules: &ScopeRules, payload: &str, registered: &mut Registered) -> Result<(), ClaimError> {
    if !rules.claims.is_empty() {
        registered.scopes.clear();
    }
    for claim in &rules.claims {
        let read = match value::find(payload, claim) {
            Place::Value(value) => registered.add_scopes(payload, value),
            Place::Absent => Some(()),
            Place::Unreachable => None,
        };
        read.ok_or_else(|| ClaimError::MalformedScopes { claim: claim.as_str().into() })?;
    }
    Ok(())
}

/// RFC 7515 §4.1.9: `application/` is left out where nothing else has a slash.
fn without_application(typ: &str) -> &str {
    const PREFIX: &str = "application/";
    match typ.get(..PREFIX.len()) {
        Some(start) if start.eq_ignore_ascii_case(PREFIX) => &typ[PREFIX.len()..],
        _ => typ,
    }
}

/// Notes an empty text as the fault, unless there is one already.
fn not_empty(fault: &mut Option<ConfigError>, what: &'static str, text: Box<str>) -> Box<str> {
    if text.is_empty() {
        fault.get_or_insert(ConfigError::Empty(what));
    }
    text
}
