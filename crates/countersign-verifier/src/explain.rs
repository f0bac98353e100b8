//! Why a token is, or would be, refused, step by step, for people. Nothing here decides anything: the verdict comes out of the same
//! functions as that of `verify`.

use std::fmt;

use countersign_claims::{ClaimError, Found, Rule, UnixTime};
use countersign_token::{HeaderScratch, KeySet, KeySource, TokenError, UnverifiedToken, VerifyingKey};

use crate::environment;
use crate::hints;
use crate::refusal::Refusal;
use crate::shown::Shown;
use crate::verifier::{Room, Verifier, miss};

/// The most names of keys that are told.
const MAX_NAMES: usize = 8;

impl<K: KeySource> Verifier<K> {
    /// Says what becomes of `token` at the time `now`, step by step, and what else is wrong with it.
    ///
    /// The verdict is that of [`verify`](Self::verify), but that nobody is asked for a key that is not there: explaining waits for
    /// nothing, fetches nothing, and cannot be used to have anything fetched. It is for people and not for requests: it verifies the
    /// signature twice, and allocates.
    ///
    /// ```
    /// use countersign_claims::{Policy, UnixTime};
    /// use countersign_token::{Algorithm, KeySet, SigningKey};
    /// use countersign_verifier::Verifier;
    ///
    /// let issuer = SigningKey::generate(Algorithm::Es256)?.with_kid("k1");
    /// let verifier = Verifier::new(KeySet::new([issuer.verifying_key()?]), Policy::new().issuer("https://login.example"));
    ///
    /// let token = issuer.sign(&serde_json::json!({ "iss": "https://login.staging.example", "exp": 1000 }))?;
    /// let report = verifier.explain(&token, UnixTime::from_secs(2000));
    /// assert_eq!(report.refusal().map(|refusal| refusal.code()), Some("expired"));
    /// assert_eq!(report.steps().filter(|step| step.is_wrong()).map(|step| step.name()).collect::<Vec<_>>(), ["exp", "iss"]);
    /// assert!(report.to_string().contains("from another environment"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain(&self, token: &str, now: UnixTime) -> Report {
        let mut scratch = HeaderScratch::new();
        // Whole, although it may be refused for its algorithm: its claims are of interest all the same.
        let whole = UnverifiedToken::parse(token, self.max_token_bytes, &mut scratch).ok();
        let (keys, verdict) = match self.parse(token, &mut Room::default()) {
            Err(refusal) => (None, Verdict::Refused(refusal)),
            Ok(good) => {
                let keys = self.keys().snapshot_for(&good);
                let verdict = self.verdict(&good, keys.as_deref(), now);
                (keys, verdict)
            }
        };
        self.report(token, whole.as_ref(), keys.as_deref(), verdict, now)
    }

    /// As [`attempt`](Self::attempt), but for the question to the source.
    fn verdict(&self, token: &UnverifiedToken<'_>, keys: Option<&KeySet>, now: UnixTime) -> Verdict {
        match keys.and_then(|keys| self.try_keys(keys, token, now)) {
            Some(Ok(_)) => Verdict::Accepted,
            Some(Err(refusal)) => Verdict::Refused(refusal),
            None if self.keys().is_known_absent(miss(keys.map(KeySet::generation), token)) => {
                Verdict::Refused(Refusal::UnknownKey)
            }
            None => match self.is_worth_a_look(token, now) {
                Ok(()) => Verdict::KeyNotThere,
                Err(refusal) => Verdict::Refused(refusal),
            },
        }
    }

    fn report(
        &self,
        text: &str,
        token: Option<&UnverifiedToken<'_>>,
        keys: Option<&KeySet>,
        verdict: Verdict,
        now: UnixTime,
    ) -> Report {
        let key = token.and_then(|token| self.verified_by(token, keys?, &verdict, now));
        let rules = token.map(|token| self.policy().rules(token, key, now)).unwrap_or_default();
        let decides = verdict.decided_at(&rules);
        let shown = Shown::of(text, token, &verdict);
        let mut steps = Vec::new();
        let mut add = |check, result: Option<bool>, detail: String| {
            let outcome = match (decides, result) {
                (Some(at), _) if at == check => Outcome::Failed,
                (Some(at), Some(true)) if at < check => Outcome::WouldPass,
                (_, Some(false)) => Outcome::WouldFail,
                (Some(at), None) if at < check => Outcome::NotReached,
                _ => Outcome::Passed,
            };
            let detail = if outcome == Outcome::NotReached { String::new() } else { detail };
            steps.push(Step { check, outcome, detail });
        };
        let reason = match &verdict {
            Verdict::Refused(refusal) => refusal.to_string(),
            _ => String::new(),
        };
        let or_reason = |check, detail: String| if decides == Some(check) { reason.clone() } else { detail };
        add(Check::Shape, None, or_reason(Check::Shape, format!("{} bytes in three parts", text.len())));
        add(Check::Header, None, or_reason(Check::Header, String::new()));
        let allowed = list(self.algorithms.iter(), usize::MAX);
        add(
            Check::Algorithm,
            None,
            if decides == Some(Check::Algorithm) { format!("{reason}; allowed: {allowed}") } else { String::new() },
        );
        let unrequired = if self.kid_required { "" } else { "not required" };
        add(Check::Kid, None, or_reason(Check::Kid, unrequired.into()));
        let fits = token.is_none_or(|token| has_candidate(token, keys));
        let detail = token.map(|token| describe_keys(token, keys)).unwrap_or_default();
        add(Check::Key, if decides == Some(Check::Signature) && !fits { Some(false) } else { None }, detail);
        let by = key.map(|key| format!("that of key {}", name(key))).unwrap_or_default();
        add(Check::Signature, None, or_reason(Check::Signature, by));
        for rule in Rule::ALL {
            let result = rules.iter().find(|(asked, _)| *asked == rule).map(|(_, result)| result);
            let detail = match (rule, result) {
                (_, Some(Err(error))) => error.to_string(),
                (Rule::Issuer, _) if self.policy().accepts_any_issuer() => "none is configured: any will do".into(),
                (Rule::Audience, _) if self.policy().accepts_any_audience() => "none is configured: any will do".into(),
                _ => String::new(),
            };
            add(Check::Claims(rule), result.map(Result::is_ok), detail);
        }
        let untyped = if self.read_claims.is_none() { "none is set" } else { "" };
        add(Check::ClaimsType, None, or_reason(Check::ClaimsType, untyped.into()));
        let unasked = if self.revocation.is_none() { "not asked" } else { "" };
        add(Check::Revocation, None, or_reason(Check::Revocation, unasked.into()));

        let broken: Vec<_> = rules.iter().filter_map(|(_, result)| result.as_ref().err()).collect();
        let hints = hints::of(text, &verdict, &broken, &shown, self.policy().leeway_in_force());
        Report { verdict, steps, shown, is_signed: key.is_some(), hints }
    }

    /// The key that verified the token, if that went well: of several the one that the verdict is about.
    fn verified_by<'k>(
        &self,
        token: &UnverifiedToken<'_>,
        keys: &'k KeySet,
        verdict: &Verdict,
        now: UnixTime,
    ) -> Option<&'k VerifyingKey> {
        let wanted = match verdict {
            Verdict::Accepted => None,
            Verdict::Refused(refusal) if is_behind_the_claims(refusal) => None,
            Verdict::Refused(Refusal::Claim(error)) => Some(error),
            _ => return None,
        };
        let header = token.header();
        let verified = keys.candidates(header.kid(), header.algorithm()).find(|key| {
            let rules = || self.policy().rules(token, Some(key), now);
            let is_about = || rules().iter().find_map(|(_, result)| result.as_ref().err()) == wanted;
            token.verify(key).is_ok() && is_about()
        });
        verified.map(|key| &**key)
    }
}

/// What becomes of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is accepted.
    Accepted,
    /// It is refused.
    Refused(Refusal),
    /// Nothing is wrong with it so far, but its key is not there: the source of the keys would be asked for it, and what becomes of the
    /// token depends on the answer.
    KeyNotThere,
}

impl Verdict {
    /// The step that decides; none if all are passed.
    fn decided_at(&self, rules: &[(Rule, Result<(), ClaimError>)]) -> Option<Check> {
        Some(match self {
            Self::Accepted => return None,
            Self::KeyNotThere => Check::Key,
            Self::Refused(refusal) => match refusal {
                Refusal::Token(TokenError::TooLong { .. } | TokenError::NotThreeParts | TokenError::Encrypted) => {
                    Check::Shape
                }
                Refusal::Token(_) => Check::Header,
                Refusal::AlgorithmNotAllowed(_) => Check::Algorithm,
                Refusal::KidRequired => Check::Kid,
                Refusal::Signature(_) => Check::Signature,
                Refusal::Claim(_) => {
                    let broken = rules.iter().find(|(_, result)| result.is_err());
                    Check::Claims(broken.map_or(Rule::Payload, |(rule, _)| *rule))
                }
                Refusal::ClaimsType(_) => Check::ClaimsType,
                refusal if is_behind_the_claims(refusal) => Check::Revocation,
                _ => Check::Key,
            },
        })
    }
}

/// What is checked of a token, in the order in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Check {
    /// Its length, and that it has three parts.
    Shape,
    /// Its header.
    Header,
    /// That its algorithm is allowed.
    Algorithm,
    /// That it names its key, if that is required.
    Kid,
    /// That there is a key for it.
    Key,
    /// Its signature.
    Signature,
    /// One of the rules for its claims.
    Claims(Rule),
    /// That its claims fit the type that was asked for.
    ClaimsType,
    /// That it has not been revoked, as far as is known and anybody asks.
    Revocation,
}

/// Whether nothing was wrong with signature and claims.
fn is_behind_the_claims(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::ClaimsType(_) | Refusal::Revoked(_) | Refusal::Irrevocable(_) | Refusal::RevocationsStale { .. }
    )
}

/// One step of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    check: Check,
    outcome: Outcome,
    detail: String,
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Passed,
    /// This is the step that decides: why the token is refused, or what is missing.
    Failed,
    /// Behind that step, or unimportant because of it: it would end well.
    WouldPass,
    /// It would be refused for this too. If the signature was not verified, the claims are anybody's.
    WouldFail,
    /// It cannot be said.
    NotReached,
}

impl Step {
    /// What is checked.
    #[must_use]
    pub fn check(&self) -> Check {
        self.check
    }

    /// The same in a word or two.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.check {
            Check::Shape => "shape",
            Check::Header => "header",
            Check::Algorithm => "algorithm",
            Check::Kid => "kid",
            Check::Key => "key",
            Check::Signature => "signature",
            Check::Claims(rule) => match rule {
                Rule::Payload => "payload",
                Rule::Kind => "kind of token",
                Rule::Expiry => "exp",
                Rule::NotBefore => "nbf",
                Rule::IssuedAt => "iat",
                Rule::Age => "age",
                Rule::Lifetime => "lifetime",
                Rule::Issuer => "iss",
                Rule::Audience => "aud",
                Rule::RequiredClaims => "required claims",
                Rule::Profile => "profile",
                Rule::IssuerOfKey => "issuer of key",
                Rule::Subject => "sub",
                Rule::KeyBinding => "cnf",
                _ => "claims",
            },
            Check::ClaimsType => "type of claims",
            Check::Revocation => "revocation",
        }
    }

    /// How it ends.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether it ends, or would end, in a refusal.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        matches!(self.outcome, Outcome::Failed | Outcome::WouldFail)
    }

    /// More about it, in words; may be empty. Of the token it has only what [`Report`] has.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// What becomes of a token, step by step, for people: what [`Verifier::explain`] says. Its `Display` is a text of some thirty lines.
///
/// It has no token, no signature and no `sub`. Of the token it has `alg`, `kid`, `typ`, `iss`, `aud`, `exp`, `nbf` and `iat`, of each at most
/// 64 characters, everything escaped that could disturb a terminal or a log: still it is for operators, and not for the caller.
#[derive(Clone, Debug)]
pub struct Report {
    verdict: Verdict,
    steps: Vec<Step>,
    shown: Shown,
    is_signed: bool,
    hints: Vec<String>,
}

impl Report {
    /// What becomes of the token.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Why it is refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.verdict {
            Verdict::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// All steps, in their order: always the same ones.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    /// What to do, or where to look, in words.
    pub fn hints(&self) -> impl Iterator<Item = &str> {
        self.hints.iter().map(String::as_str)
    }

    /// Adds what somebody knows who knows more than a verifier.
    pub fn add_hint(&mut self, hint: impl Into<String>) {
        self.hints.push(hint.into());
    }

    /// Adds in what the token's `iss` differs from these, for whoever knows of issuers that no policy lists.
    pub fn compare_issuer_with(&mut self, issuers: &[Box<str>]) {
        if let Some(iss) = &self.shown.iss {
            self.hints.push(environment::hint(iss, issuers));
        }
    }

    /// Members of the header by name, as text that can be shown.
    pub fn header(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.shown.header.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// Some claims by name, as text that can be shown.
    pub fn claims(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.shown.claims.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// Whether a key has signed these claims. Otherwise they are what anybody may have written.
    #[must_use]
    pub fn claims_are_signed(&self) -> bool {
        self.is_signed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Accepted => f.write_str("accepted")?,
            Verdict::Refused(refusal) => write!(f, "refused: {}: {refusal}", refusal.code())?,
            Verdict::KeyNotThere => f.write_str("its key is not there: a request would ask for it and wait")?,
        }
        for step in &self.steps {
            let outcome = match step.outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "FAILED",
                Outcome::WouldPass => "would pass",
                Outcome::WouldFail => "WOULD FAIL",
                Outcome::NotReached => "not reached",
            };
            let line = format!("  {:<16}{outcome:<12}{}", step.name(), step.detail);
            write!(f, "\n{}", line.trim_end())?;
        }
        let of = if self.is_signed { "claims, signed" } else { "claims, UNVERIFIED" };
        for (what, members) in [("header", &self.shown.header), (of, &self.shown.claims)] {
            let members: Vec<_> = members.iter().map(|(name, text)| format!("{name} {text}")).collect();
            if !members.is_empty() {
                write!(f, "\n{what}: {}", members.join(", "))?;
            }
        }
        self.hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

fn has_candidate(token: &UnverifiedToken<'_>, keys: Option<&KeySet>) -> bool {
    let header = token.header();
    keys.is_some_and(|keys| keys.candidates(header.kid(), header.algorithm()).next().is_some())
}

/// How many keys there are for a token, and which there are otherwise.
fn describe_keys(token: &UnverifiedToken<'_>, keys: Option<&KeySet>) -> String {
    let Some(keys) = keys else { return "there are no keys for this token".into() };
    let (kid, algorithm) = (token.header().kid(), token.header().algorithm());
    let candidates: Vec<_> = keys.candidates(kid, algorithm).map(|key| name(key)).collect();
    if !candidates.is_empty() {
        return format!("{} of {} may have signed it: {}", candidates.len(), keys.len(), candidates.join(", "));
    }
    if kid.is_some() && keys.iter().any(|key| key.kid() == kid) {
        return format!("there is a key of that `kid`, but it cannot do {algorithm}");
    }
    let what = if kid.is_some() { "has that `kid`" } else { "can do its algorithm" };
    let names = list(keys.iter().map(|key| name(key)), MAX_NAMES);
    if keys.is_empty() { "there are no keys at all".into() } else { format!("none of {} {what}: {names}", keys.len()) }
}

/// A key as people know it. Names come from the issuer's document, so they are escaped too.
fn name(key: &VerifyingKey) -> String {
    let kid = key.kid().map_or_else(|| "without a name".into(), |kid| Found::new(kid).to_string());
    match key.issuer() {
        Some(issuer) => format!("{kid} of {}", Found::new(issuer)),
        None => kid,
    }
}

/// The first few, with commas.
fn list(items: impl Iterator<Item = impl fmt::Display>, most: usize) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    let more = if items.len() > most { format!(" and {} more", items.len() - most) } else { String::new() };
    items.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
}
