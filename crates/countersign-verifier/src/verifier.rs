use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use countersign_claims::revocation::RevocationCheck;
use countersign_claims::{
    ClaimError, ClaimsType, ClaimsTypeError, Clock, ConfigError, Policy, Remembered, Stripes, UnixTime, Verified,
};
use countersign_token::{
    AlgorithmSet, Answer, Ask, DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, KeySet, KeySource, KnownHeader, Miss,
    SignatureError, TokenError, UnreadToken, UnverifiedToken, VerifiedPayload,
};

use crate::cache::{TokenCache, TokenCacheStatus};
use crate::refusal::Refusal;
use crate::usual::UsualHeaders;

/// Keys, a policy and a few limits: all that is needed to judge a token.
pub struct Verifier<K> {
    keys: K,
    policy: Policy,
    pub(crate) algorithms: AlgorithmSet,
    pub(crate) max_token_bytes: usize,
    pub(crate) kid_required: bool,
    /// Judges and reads the claims into the user's type, so that a token that does not fit is refused here.
    pub(crate) read_claims: Option<ReadClaims>,
    pub(crate) revocation: Option<Stripes<RevocationCheck>>,
    cache: Option<TokenCache>,
    usual_headers: UsualHeaders,
}

/// Room for what is read of a token's header, or for what is known of it.
#[derive(Default)]
pub(crate) struct Room {
    scratch: HeaderScratch,
    known: Option<Guard<Option<Arc<KnownHeader>>>>,
}

type ReadClaims = fn(&Policy, VerifiedPayload<'_>, UnixTime) -> Result<Result<Verified, ClaimsTypeError>, ClaimError>;

/// How far a judgement came without waiting.
#[derive(Debug)]
pub enum Attempt<W> {
    /// To its end.
    Done(Result<Verified, Refusal>),
    /// The key is not there: wait for the answer, then [`resume`](Verifier::resume).
    Wait(W),
}

impl<K: KeySource> Verifier<K> {
    /// A verifier that takes its keys from `keys` and demands what `policy` says; all asymmetric algorithms, tokens of at
    /// most [`DEFAULT_MAX_TOKEN_BYTES`]. Whoever uses it without a layer calls [`check`](Self::check) once it is configured.
    #[must_use]
    pub fn new(keys: K, policy: Policy) -> Self {
        Self {
            keys,
            policy,
            algorithms: AlgorithmSet::ASYMMETRIC,
            max_token_bytes: DEFAULT_MAX_TOKEN_BYTES,
            kid_required: false,
            read_claims: None,
            revocation: None,
            cache: Some(TokenCache::default()),
            usual_headers: UsualHeaders::new(),
        }
    }

    /// Allows these algorithms and no others. The key still decides the family.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl Into<AlgorithmSet>) -> Self {
        self.algorithms = algorithms.into();
        self.anew()
    }

    /// Refuses longer tokens before anything of them is decoded.
    #[must_use]
    pub fn max_token_bytes(mut self, bytes: usize) -> Self {
        self.max_token_bytes = bytes;
        self.anew()
    }

    /// Refuses tokens without `kid`, which would otherwise be tried against the first few keys that fit.
    #[must_use]
    pub fn require_kid(mut self) -> Self {
        self.kid_required = true;
        self.anew()
    }

    /// Reads the claims of each token into `T` at once, and refuses tokens that do not fit. Without it they are read when
    /// somebody asks for them ([`Verified::claims`]).
    #[must_use]
    pub fn with_claims<T: ClaimsType>(mut self) -> Self {
        self.read_claims = Some(Policy::judge_as::<T>);
        self.anew()
    }

    /// Remembers up to so many tokens, which together take up to so many bytes, claims included; by default [`DEFAULT_CACHED_TOKENS`] and
    /// [`DEFAULT_CACHED_BYTES`](crate::DEFAULT_CACHED_BYTES). Both must be more than 0.
    ///
    /// A token that comes again is compared, as a whole, instead of being verified again. Everything else is asked anew each time: its times, whether the
    /// key that verified it is still in force, whether it has been revoked, and what [`Policy::subject`] says. Not so its claims: a type given to
    /// [`with_claims`](Self::with_claims) is read once for a token, and shared by its requests, so it should depend on nothing but the claims. It is remembered when it is
    /// accepted for the second time, so that tokens that come once only take nobody's place; those that are used most stay. A token that was
    /// refused is never remembered, nor anything about it.
    ///
    /// Memory is taken as tokens come; besides, 8 bytes for each that may be remembered.
    ///
    /// [`DEFAULT_CACHED_TOKENS`]: crate::DEFAULT_CACHED_TOKENS
    #[must_use]
    pub fn token_cache(mut self, tokens: usize, bytes: usize) -> Self {
        self.cache = Some(TokenCache::new(tokens, bytes));
        self
    }

    /// Remembers no tokens: each is verified each time.
    #[must_use]
    pub fn without_token_cache(mut self) -> Self {
        self.cache = None;
        self
    }

    /// How the cache of tokens does; `None` if there is none.
    #[must_use]
    pub fn token_cache_status(&self) -> Option<TokenCacheStatus> {
        self.cache.as_ref().map(TokenCache::status)
    }

    /// Asks of each good token whether it has been revoked: [`Revocations`](countersign_claims::revocation::Revocations), such as a
    /// `RevocationList`, or a [`RevocationCheck`] that says more about it. Called again, it asks these as
    /// well.
    #[must_use]
    pub fn revocation(mut self, check: impl Into<RevocationCheck>) -> Self {
        let check = match self.revocation.take() {
            None => check.into(),
            Some(earlier) => RevocationCheck::clone(earlier.any()).and(check),
        };
        self.revocation = Some(Stripes::new(|| Arc::new(check.clone())));
        self
    }

    /// How it is checked whether a token has been revoked, if anybody asks.
    #[must_use]
    pub fn revocation_check(&self) -> Option<&Arc<RevocationCheck>> {
        self.revocation.as_ref().map(Stripes::any)
    }

    /// Where the keys come from.
    #[must_use]
    pub fn keys(&self) -> &K {
        &self.keys
    }

    /// What is demanded of claims.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The algorithms that are allowed.
    #[must_use]
    pub fn allowed_algorithms(&self) -> AlgorithmSet {
        self.algorithms
    }

    /// The rules across settings.
    ///
    /// # Errors
    /// The policy's [`ConfigError`]; [`ConfigError::NoAlgorithm`]; [`ConfigError::Empty`] if no token is short enough.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.policy.check()?;
        if self.max_token_bytes == 0 {
            return Err(ConfigError::Empty("token, the longest that is allowed: every one would be refused"));
        }
        if self.cache.as_ref().is_some_and(TokenCache::is_impossible) {
            return Err(ConfigError::Empty("cache of tokens: `without_token_cache()` is how to have none"));
        }
        if self.algorithms.is_empty() { Err(ConfigError::NoAlgorithm) } else { Ok(()) }
    }

    /// Whether a token of so many octets may be read at all: for whoever would have to look through all of a text before it is a token.
    ///
    /// # Errors
    /// The [`Refusal`] of every token of this length.
    pub fn check_length(&self, length: usize) -> Result<(), Refusal> {
        let limit = self.max_token_bytes;
        if length > limit { Err(TokenError::TooLong { length, limit }.into()) } else { Ok(()) }
    }

    /// Judges `token` at the time `now` without ever waiting: while its key is being looked for, the answer is
    /// [`Refusal::KeyNotCheckedYet`] (or [`Refusal::KeysUnavailable`] while there are no keys at all).
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<Verified, Refusal> {
        match self.attempt(token, now) {
            Attempt::Done(outcome) => outcome,
            // It was parsed a moment ago, and what for is only how the answer is worded.
            Attempt::Wait(_) => {
                let mut room = Room::default();
                let token = self.parse(token, &mut room)?;
                Err(self.not_waited_for(&token))
            }
        }
    }

    /// Judges `token`, and waits (bounded by the source) if its key has to be looked for.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn verify_or_wait(&self, token: &str, clock: &(impl Clock + ?Sized)) -> Result<Verified, Refusal> {
        match self.attempt(token, clock.now()) {
            Attempt::Done(outcome) => outcome,
            Attempt::Wait(waiting) => {
                let answer = waiting.await;
                self.resume(token, answer, clock.now())
            }
        }
    }

    /// Judges `token` as far as that goes without waiting. Synchronous, and waits for no lock.
    pub fn attempt(&self, token: &str, now: UnixTime) -> Attempt<K::Waiting> {
        match self.recognise(token.as_bytes(), now) {
            Some(outcome) => Attempt::Done(outcome),
            None => self.attempt_anew(token, now),
        }
    }

    /// The first half of [`attempt`](Self::attempt): judges a token that this verifier has accepted before, by its exact octets, which may be any.
    /// `None` if it was not accepted, or has been forgotten, or if its key may not be in force any more: [`attempt_anew`](Self::attempt_anew) then.
    pub fn recognise(&self, token: &[u8], now: UnixTime) -> Option<Result<Verified, Refusal>> {
        let cache = self.cache.as_ref()?;
        let accepted = cache.find(token)?;
        if !self.is_key_in_force(&accepted, token) {
            return None;
        }
        cache.count_hit();
        Some(self.judge_again(accepted, now))
    }

    /// The second half of [`attempt`](Self::attempt): judges `token` without asking whether it was accepted before.
    pub fn attempt_anew(&self, token: &str, now: UnixTime) -> Attempt<K::Waiting> {
        let mut room = Room::default();
        let token = match self.parse(token, &mut room) {
            Ok(token) => token,
            Err(refusal) => return Attempt::Done(Err(refusal)),
        };
        let generation = match self.look(&token, now) {
            Ok(outcome) => return Attempt::Done(outcome),
            Err(generation) => generation,
        };
        let miss = miss(generation, &token);
        if !self.keys.is_known_absent(miss)
            && let Err(refusal) = self.is_worth_a_look(&token, now)
        {
            return Attempt::Done(Err(refusal));
        }
        match self.keys.ask(miss) {
            Ask::Wait(waiting) => Attempt::Wait(waiting),
            Ask::Answered(answer) => Attempt::Done(self.conclude(&token, answer, now)),
        }
    }

    /// Judges `token` after its wait: looks once more if the answer is that the keys have changed, and never waits again.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn resume(&self, token: &str, answer: Answer, now: UnixTime) -> Result<Verified, Refusal> {
        let mut room = Room::default();
        let token = self.parse(token, &mut room)?;
        self.conclude(&token, answer, now)
    }

    /// Whether the key that has verified this token is in the set in force, and the first that would be tried again.
    fn is_key_in_force(&self, accepted: &Remembered, token: &[u8]) -> bool {
        let keys = self.keys.snapshot_for_issuer(|| accepted.issuer());
        keys.is_some_and(|keys| accepted.is_key_found_in(keys.stamp())) || self.is_key_found(accepted, token)
    }

    /// The same where the set is another one than it was, or where the source has to see the token. Only the first key that fits counts: of those behind
    /// it, it is not known whether the first is one that would verify the token too, and with another result.
    fn is_key_found(&self, accepted: &Remembered, token: &[u8]) -> bool {
        let mut room = Room::default();
        let Ok(token) = std::str::from_utf8(token) else { return false };
        let Ok(token) = self.parse(token, &mut room) else { return false };
        let Some(keys) = self.keys.snapshot_for(&token) else { return false };
        let header = token.header();
        let is_found = keys.candidates(header.kid(), header.algorithm()).next();
        let is_found = is_found.is_some_and(|key| Arc::ptr_eq(key, accepted.key()));
        if is_found {
            accepted.note_key_found_in(keys.stamp());
        }
        is_found
    }

    fn judge_again(&self, accepted: Remembered, now: UnixTime) -> Result<Verified, Refusal> {
        let verified = self.policy.judge_again(accepted, now)?;
        self.check_revocation(verified, now)
    }

    /// Everything that needs no key: nobody looks for the key of a token that has failed already.
    pub(crate) fn parse<'t>(&self, token: &'t str, room: &'t mut Room) -> Result<UnverifiedToken<'t>, Refusal> {
        let unread = UnreadToken::split(token, self.max_token_bytes)?;
        let known = room.known.insert(self.usual_headers.look(&unread));
        let unread = match known.as_deref() {
            Some(known) => unread.recognise(known),
            None => Err(unread),
        };
        let token = unread.or_else(|unread| unread.read(&mut room.scratch))?;
        let algorithm = token.header().algorithm();
        if !self.algorithms.contains(algorithm) {
            return Err(Refusal::AlgorithmNotAllowed(algorithm));
        }
        if self.kid_required && token.header().kid().is_none() {
            return Err(Refusal::KidRequired);
        }
        Ok(token)
    }

    /// Looks into the snapshot. `Err` is the generation in which there was no key to try.
    fn look(&self, token: &UnverifiedToken<'_>, now: UnixTime) -> Result<Result<Verified, Refusal>, Option<u64>> {
        let Some(keys) = self.keys.snapshot_for(token) else { return Err(None) };
        let generation = Some(keys.generation());
        let outcome = self.try_keys(&keys, token, now).ok_or(generation)?;
        if let Ok(verified) = &outcome {
            self.usual_headers.note(token);
            if let Some(cache) = &self.cache {
                cache.remember(token.text(), verified, keys.stamp());
            }
        }
        // What no key can have signed says nothing of ours.
        if let Err(Refusal::Signature(SignatureError::Mismatch)) = outcome {
            self.keys.signature_mismatch(miss(generation, token));
        }
        Ok(outcome)
    }

    /// Tries the keys of `keys` that may have signed the token. `None` if there are none.
    pub(crate) fn try_keys(
        &self,
        keys: &KeySet,
        token: &UnverifiedToken<'_>,
        now: UnixTime,
    ) -> Option<Result<Verified, Refusal>> {
        let header = token.header();
        let (mut failure, mut of_another) = (None, None);
        for key in keys.candidates(header.kid(), header.algorithm()) {
            match token.verify(key) {
                Ok(payload) => match self.judge(payload, now) {
                    // Two issuers may have one key between them, and each its own of it in a union.
                    Err(refusal @ Refusal::Claim(ClaimError::WrongIssuer { .. })) if key.issuer().is_some() => {
                        of_another = Some(refusal);
                    }
                    outcome => return Some(outcome),
                },
                Err(error) => failure = Some(error.into()),
            }
        }
        of_another.or(failure).map(Err)
    }

    /// Nobody goes looking for the key of a token that no key can save.
    pub(crate) fn is_worth_a_look(&self, token: &UnverifiedToken<'_>, now: UnixTime) -> Result<(), Refusal> {
        token.check_encoding()?;
        match self.policy.fault_without_key(token, now) {
            Some(fault) => Err(Refusal::KeyNotSought(Box::new(fault))),
            None => Ok(()),
        }
    }

    fn judge(&self, payload: VerifiedPayload<'_>, now: UnixTime) -> Result<Verified, Refusal> {
        let verified = match self.read_claims {
            Some(read_claims) => read_claims(&self.policy, payload, now)??,
            None => self.policy.judge(payload, now)?,
        };
        self.check_revocation(verified, now)
    }

    fn check_revocation(&self, verified: Verified, now: UnixTime) -> Result<Verified, Refusal> {
        let Some(revocation) = &self.revocation else { return Ok(verified) };
        revocation.any().check(&verified, now)?;
        let revocation = revocation.of(&verified);
        Ok(verified.with_revocation(revocation))
    }

    fn conclude(&self, token: &UnverifiedToken<'_>, answer: Answer, now: UnixTime) -> Result<Verified, Refusal> {
        match answer {
            // A source says `Changed` only of a set that has the key, or when it cannot know better.
            Answer::Changed => self.look(token, now).unwrap_or_else(|_| Err(self.not_waited_for(token))),
            Answer::Absent => Err(Refusal::UnknownKey),
            Answer::UnknownIssuer => Err(Refusal::UnknownIssuer),
            Answer::Unavailable { reason, retry_after } => Err(Refusal::KeysUnavailable { reason, retry_after }),
            Answer::NotYet { retry_after } => Err(Refusal::KeyNotCheckedYet { retry_after }),
            // An answer that this version does not know is not an acceptance.
            _ => Err(self.not_waited_for(token)),
        }
    }

    /// For a setting that changes what is accepted: nothing that was accepted before is remembered.
    fn anew(mut self) -> Self {
        self.cache = self.cache.as_ref().map(TokenCache::emptied);
        self
    }

    fn not_waited_for(&self, token: &UnverifiedToken<'_>) -> Refusal {
        if self.keys.snapshot_for(token).is_some() || self.keys.has_keys() {
            Refusal::KeyNotCheckedYet { retry_after: RETRY_AFTER }
        } else {
            Refusal::KeysUnavailable { reason: countersign_token::Unready::Starting, retry_after: RETRY_AFTER }
        }
    }
}

/// What is said where the source was not asked how long: its shortest distance between two looks.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) fn miss<'t>(generation: Option<u64>, token: &'t UnverifiedToken<'_>) -> Miss<'t> {
    let header = token.header();
    Miss { generation, kid: header.kid(), algorithm: header.algorithm(), token: Some(token) }
}

impl<K: fmt::Debug> fmt::Debug for Verifier<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &self.keys)
            .field("policy", &self.policy)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
